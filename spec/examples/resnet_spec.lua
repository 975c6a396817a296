-- examples/resnet learns to tell colours apart from folders of PNG files.
-- Relies on spec/helper/example.lua, spec/helper/digits.lua. Sources: examples/resnet/main.lua.

local H = require "spec.helper"
local digits = require "spec.helper.digits"
local example = require "spec.helper.example"

describe("the example resnet", function()
  it("tells classes of pictures apart", function()
    H.in_folder(function(folder)
      digits.colours(folder, 12, 8)
      local out = example.run("resnet", {data = folder, size = 8, width = 4, blocks = 1, epochs = 4,
        batch = 6, lr = 0.05, out = folder})
      example.falls(out, "loss")
      assert.is_true(example.numbers(out, "test accuracy")[1] > 50)
      example.files(folder, {"guesses.png", "curves.png", "model.safetensors"})
    end)
  end)
end)
