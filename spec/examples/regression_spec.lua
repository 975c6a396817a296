-- examples/regression explains a noisy plane, held out rows included.
-- Relies on spec/helper/example.lua. Sources: examples/regression/main.lua.

local H = require "spec.helper"
local example = require "spec.helper.example"
local files = require "spec.helper.files"

describe("the example regression", function()
  it("predicts rows that it has not seen", function()
    local rows = {}
    for i = 1, 200 do
      local a, b = H.t:number(), H.t:number()
      rows[i] = ("%.4f,%.4f,%.4f\n"):format(a, b, 3 * a - b + 0.1 * H.t:number())
    end
    H.in_folder(function(folder)
      files.write(folder .. "/plane.csv", table.concat(rows))
      local out = example.run("regression", {data = folder .. "/plane.csv", epochs = 60,
        hidden = 16, dropout = 0.05, lr = 0.01, out = folder})
      example.falls(out, "loss")
      assert.is_true(example.numbers(out, "R2")[2] > 0.8)
      example.files(folder, {"loss.png", "predicted.png"})
      out = example.run("regression", {data = folder .. "/plane.csv", epochs = 60, hidden = 0})
      assert.is_true(example.numbers(out, "R2")[2] > 0.8)
    end)
  end)
  if H.data_dir() then
    it("explains .30 of the variance of winequality-red", function()
      assert.is_true(example.numbers(example.run("regression", {}), "R2")[2] >= 0.30)
    end)
  end
end)
