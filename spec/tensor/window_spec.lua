-- Windows against PyTorch's numbers. Relies on spec/helper.lua.
-- Source: lua/perigee/tensor/window.lua.

local H = require "spec.helper"
local pg = require "perigee"

-- Six elements: periodic, and not.
local SIX = {
  hann = {{0, 0.25, 0.75, 1, 0.75, 0.25},
    {0, 0.3454915028, 0.9045084972, 0.9045084972, 0.3454915028, 0}},
  hamming = {{0.08, 0.31, 0.77, 1, 0.77, 0.31},
    {0.08, 0.3978521826, 0.9121478174, 0.9121478174, 0.3978521826, 0.08}},
  blackman = {{0, 0.13, 0.63, 1, 0.63, 0.13},
    {0, 0.2007701433, 0.8492298567, 0.8492298567, 0.2007701433, 0}},
  bartlett = {{0, 0.3333333333, 0.6666666667, 1, 0.6666666667, 0.3333333333},
    {0, 0.4, 0.8, 0.8, 0.4, 0}},
  kaiser = {{5.277344132e-05, 0.05475936413, 0.5188447217, 1, 0.5188447217, 0.05475936413},
    {5.277344132e-05, 0.1017196877, 0.7929398341, 0.7929398341, 0.1017196877, 5.277344132e-05}},
}

describe("windows", function()
  for name, expected in pairs(SIX) do
    local window = pg[name .. "_window"]
    H.op(name .. "_window", {args = function() return {6, false} end,
      empty = function() return {0} end,
      wrong_shape = {function() return {-1} end, "expected at least 0, got %-1"}})
    it(name .. " is PyTorch's", function()
      H.same(window(6, {dtype = "float64"}), expected[1], 1e-9)
      H.same(window(6, false, {dtype = "float64"}), expected[2], 1e-9)
      H.same(window(6), expected[1], 1e-6)
      assert.equal("float32", window(6).dtype)
      for _, periodic in ipairs {true, false} do
        H.same(window(1, periodic), {1})
        assert.same({0}, window(0, periodic).shape)
      end
      assert.is_true(window(4, {requires_grad = true}).requires_grad)
      H.raises(function() window(-1) end,
        name .. "_window: argument 'window_length': expected at least 0, got %-1")
      H.raises(function() window(3, {dtype = "int64"}) end, "expected a floating dtype, got int64")
    end)
  end
  it("take their coefficients", function()
    H.same(pg.hamming_window(5, true, 0.6, 0.4, {dtype = "float64"}),
      {0.2, 0.4763932023, 0.9236067977, 0.9236067977, 0.4763932023}, 1e-9)
    H.same(pg.kaiser_window(5, true, 3, {dtype = "float64"}),
      {0.2048847564, 0.6247462076, 0.9522218569, 0.9522218569, 0.6247462076}, 1e-9)
  end)
end)
