-- examples/mnist_cnn learns a small set of its own kind.
-- Relies on spec/helper/example.lua, spec/helper/digits.lua. Sources: examples/mnist_cnn/main.lua.

local H = require "spec.helper"
local digits = require "spec.helper.digits"
local example = require "spec.helper.example"

describe("the example mnist_cnn", function()
  it("tells ten classes apart", function()
    H.in_folder(function(folder)
      digits.mnist(folder, 300, 100)
      local out = example.run("mnist_cnn",
        {root = folder, epochs = 3, batch = 30, shift = 1, out = folder})
      example.falls(out, "loss")
      assert.is_true(example.numbers(out, "accuracy")[2] > 0.5)
      assert.matches("test accuracy %d+%.%d+ %% %(%d+ of 100 wrong%)", out)
      example.files(folder, {"model.perigee", "curves.png"})
    end)
  end)
end)
