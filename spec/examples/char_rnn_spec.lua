-- examples/char_rnn learns a text that repeats itself, shows samples, leaves a model.
-- Relies on spec/helper/example.lua. Sources: examples/char_rnn/main.lua.

local H = require "spec.helper"
local example = require "spec.helper.example"
local files = require "spec.helper.files"

describe("the example char_rnn", function()
  it("learns a text that repeats itself", function()
    H.in_folder(function(folder)
      local text = folder .. "/text"
      files.write(text, ("the cat sat on the mat.\n"):rep(200))
      local out = example.run("char_rnn", {text = text, hidden = 32, batch = 8, length = 24,
        steps = 80, every = 20, sample = 40, lr = 0.02, out = folder})
      assert.matches("4800 characters, 12 different ones", out, 1, true)
      assert.is_true(example.falls(out, "validation") < 0.5)
      assert.matches("\n| ", out, 1, true)
      example.files(folder, {"char_rnn.perigee"})
    end)
  end)
  it("stacks layers, and says where it looked for a text", function()
    H.in_folder(function(folder)
      local text = folder .. "/text"
      files.write(text, ("abcd"):rep(100))
      local out = example.run("char_rnn", {text = text, hidden = 8, layers = 2, batch = 2,
        length = 500, steps = 2, sample = 3, temperature = 0.5})
      assert.matches("LSTM(64, 8, num_layers=2)", out, 1, true)
    end)
    H.raises(function() example.run("char_rnn", {text = "/nowhere/text"}) end,
      "there is no /nowhere/text; give %-%-text FILE")
  end)
end)
