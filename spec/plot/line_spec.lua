-- plot.line: lists, tensors, histories, options, errors.
-- Relies on spec/helper.lua. Sources: lua/perigee/plot/line.lua.

local H = require "spec.helper"
local plot = require "perigee.plot"

local with_cairo = pcall(require, "perigee.cairo") and it or pending

describe("plot.line", function()
  with_cairo("takes a list, a tensor, a table of either, and a history", function()
    local loss, val = {3, 2, 1.5}, {2.5, 2.2, 2}
    local one = plot.line(loss):bytes "png"
    assert.equal(one, plot.line(H.make(loss, "float64", {3})):bytes "png")
    local two = plot.line({loss = loss, val_loss = val}):bytes "png"
    assert.not_equal(one, two)
    assert.equal(two, plot.line({loss = H.make(loss, "float32", {3}), val_loss = val}):bytes "png")
    assert.equal(two, plot.line({history = {loss = loss, val_loss = val}, epoch = {1, 2, 3}})
      :bytes "png")
    assert.equal(plot.line({loss = loss}):bytes "png",
      plot.line({loss = loss, val_loss = val}, {order = {"loss"}}):bytes "png")
  end)
  with_cairo("draws gaps, constants, single values, nothing, logarithms, means", function()
    local nan, inf = 0 / 0, 1 / 0
    for _, list in ipairs {{}, {1}, {2, 2, 2}, {1, nan, 3}, {inf, 1}} do
      assert.is_string(plot.line({a = list}):bytes "svg")
      assert.is_string(plot.line({a = list}, {log = true}):bytes "png")
    end
    local long = {}
    for i = 1, 5000 do long[i] = math.exp(-i / 500) + 0.01 * H.t:number() end
    assert.is_string(plot.line(long, {log = true, smooth = 0.9, ylim = {0.01, 2}}):bytes "png")
    assert.is_string(plot.line({a = {0, -1, 5}}, {log = true}):bytes "png")
    assert.is_string(plot.line({a = {1, 2}}, {x = {0.5, 1000}}):bytes "pdf")
  end)
  it("names function, option, expected and given in every refusal", function()
    local cases = {
      {{3}, "plot.line: argument 'series': expected a table of lists.*got integer"},
      {{{a = {1, "x"}}}, "series 'a': number 2 is a string"},
      {{{a = H.randn(2, 2)}}, "series 'a': expected one dimension, got %[2 x 2%]"},
      {{{}}, "there is no list of numbers in it"},
      {{{a = {1}}, {order = {"aa"}}}, "there is no series 'aa'"},
      {{{a = {1}}, {tittle = "x"}}, "unknown option 'tittle', did you mean 'title'%?"},
      {{{a = {1, 2}}, {x = {1}}}, "series 'a' has 2 values, x has 1"},
      {{{a = {1}}, {smooth = 1}}, "option 'smooth'"},
      {{{a = {1}}, {width = "x"}}, "option 'width': expected a positive number, got 'x'"},
    }
    for _, case in ipairs(cases) do
      H.raises(plot.line, case[2], table.unpack(case[1], 1, 2))
    end
  end)
end)
