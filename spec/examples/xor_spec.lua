-- examples/xor learns the four cases and draws its loss.
-- Relies on spec/helper/example.lua. Sources: examples/xor/main.lua.

local H = require "spec.helper"
local example = require "spec.helper.example"

describe("the example xor", function()
  it("learns all four cases", function()
    H.in_folder(function(folder)
      local out = example.run("xor", {out = folder})
      assert.is_true(example.falls(out, "loss") < 0.01)
      assert.matches("4 of 4 right", out)
      example.files(folder, {"loss.png"})
    end)
  end)
  it("takes steps and units from the command line", function()
    local out = example.run("xor", {steps = 20, hidden = 2})
    assert.matches("step   20 ", out)
    assert.matches("out_features=2", out)
  end)
end)
