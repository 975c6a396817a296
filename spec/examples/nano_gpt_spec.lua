-- examples/nano_gpt learns a text that repeats itself, shows samples, leaves a model.
-- Relies on spec/helper/example.lua. Sources: examples/nano_gpt/main.lua.

local H = require "spec.helper"
local example = require "spec.helper.example"
local files = require "spec.helper.files"

describe("the example nano_gpt", function()
  it("learns a text that repeats itself", function()
    H.in_folder(function(folder)
      local text = folder .. "/text"
      files.write(text, ("the cat sat on the mat.\n"):rep(200))
      local out = example.run("nano_gpt", {text = text, width = 32, heads = 2, layers = 2,
        context = 24, batch = 8, steps = 120, every = 40, sample = 40, lr = 0.005, out = folder})
      assert.matches("in 2 blocks", out, 1, true)
      assert.is_true(example.falls(out, "validation") < 0.5)
      assert.matches("\n| ", out, 1, true)
      example.files(folder, {"nano_gpt.perigee"})
    end)
  end)
end)
