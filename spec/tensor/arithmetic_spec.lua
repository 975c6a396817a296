-- Short compositions: PyTorch's values and gradients, messages.
-- Relies on spec/helper.lua. Source: lua/perigee/tensor/arithmetic.lua.

local H = require "spec.helper"
local pg = require "perigee"

H.fixtures "tensor_arithmetic"

local MISFIT = "%[3%].*%[4%]"

H.op("ldexp", {
  bfloat16 = false, -- the power of two is float32, and so is the product
  args = function(t) return {t.randn(3, 4), t.int(-3, 3, 4)} end,
  empty = function(t) return {t.randn(0, 4), 2} end,
  wrong_shape = {function(t) return {t.randn(3), t.int(1, 3, 4)} end, MISFIT},
})
H.op("float_power", {
  args = function(t) return {t.positive(3, 4), t.randn(4)} end,
  empty = function(t) return {t.randn(0, 4), 2} end,
  wrong_shape = {{function(t) return {t.randn(3), t.randn(4)} end, MISFIT},
    {function() return {2, 3} end, "'input': expected a tensor"}},
})
H.op("mvlgamma", {
  args = function(t) return {t.positive(3, 4) + 1, 2} end,
  empty = function(t) return {t.randn(0, 4), 2} end,
  wrong_shape = {function(t) return {t.randn(3), 0} end, "'p': expected at least 1, got 0"},
})
H.op("rsub", {
  args = function(t) return {t.randn(3, 4), t.randn(4), 0.5} end,
  empty = function(t) return {t.randn(0, 4), 2} end,
  wrong_shape = {function(t) return {t.randn(4), t.randn(3)} end, MISFIT},
})
H.op("fill", {
  args = function(t) return {t.randn(3, 4), t.randn {}} end,
  more = {function(t) return {t.randn(3, 4), 2} end},
  empty = function(t) return {t.randn(0, 4), 2} end,
  wrong_shape = {function(t) return {t.randn(3), t.randn(2)} end, "'value'.*got %[2%]"},
})

describe("shifts", function()
  it("are Lua's operators", function()
    local x = pg.tensor({1, -6}, {dtype = "int64"})
    H.same(x << 2, {4, -24})
    H.same(x >> 1, {0, -3})
    H.same(1 << pg.tensor({3}, {dtype = "int64"}), {8})
  end)
end)
