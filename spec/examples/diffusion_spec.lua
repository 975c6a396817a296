-- examples/diffusion learns a little and draws what it can.
-- Relies on spec/helper/example.lua, spec/helper/digits.lua. Sources: examples/diffusion/main.lua.

local H = require "spec.helper"
local digits = require "spec.helper.digits"
local example = require "spec.helper.example"

describe("the example diffusion", function()
  it("learns to tell noise from image, and draws", function()
    H.in_folder(function(folder)
      digits.mnist(folder, 96, 10)
      local out = example.run("diffusion", {root = folder, epochs = 3, batch = 16, width = 8,
        steps = 4, samples = 2, out = folder})
      example.falls(out, "loss")
      assert.matches("20 digits drawn", out)
      example.files(folder, {"samples.png", "loss.png", "model.safetensors"})
      assert(os.remove(folder .. "/samples.png"))
      out = example.run("diffusion", {root = folder, load = folder .. "/model.safetensors",
        width = 8, steps = 2, samples = 1, guidance = 1, out = folder})
      assert.matches("10 digits drawn", out)
      example.files(folder, {"samples.png"})
    end)
  end)
end)
