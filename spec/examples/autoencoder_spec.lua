-- examples/autoencoder learns a small set of its own kind and draws it.
-- Relies on spec/helper/example.lua, spec/helper/digits.lua.
-- Sources: examples/autoencoder/main.lua.

local H = require "spec.helper"
local digits = require "spec.helper.digits"
local example = require "spec.helper.example"

describe("the example autoencoder", function()
  it("loses less and less of an image", function()
    H.in_folder(function(folder)
      digits.mnist(folder, 200, 40)
      local out = example.run("autoencoder",
        {root = folder, epochs = 4, batch = 20, code = 8, out = folder})
      example.falls(out, "loss")
      example.falls(out, "val_loss")
      example.files(folder, {"reconstructions.png", "curves.png", "model.perigee"})
    end)
  end)
end)
