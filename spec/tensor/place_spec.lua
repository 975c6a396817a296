-- put and index_reduce: PyTorch's values and gradients, messages.
-- Relies on spec/helper.lua. Source: lua/perigee/tensor/place.lua.

local H = require "spec.helper"
local pg = require "perigee"

H.fixtures "tensor_place"

local function i64(list) return pg.tensor(list, {dtype = "int64"}) end

H.op("put", {
  args = function(t) return {t.randn(2, 3), i64 {5, 1}, t.randn(2)} end,
  more = {function(t) return {t.randn(2, 3), i64 {5, 1, 5}, t.randn(3), true} end},
  empty = function(t) return {t.randn(2, 3), i64 {}, t.randn(0)} end,
  wrong_shape = {
    {function(t) return {t.randn(3), i64 {1}, t.randn(2)} end, "'source': expected 1 elements"},
    {function(t) return {t.randn(3), i64 {4}, t.randn(1)} end, "4"},
  },
  wrong_dtype = {function(t) return {t.randn(3), t.randn(1), t.randn(1)} end,
    "'index': expected int64, got float32"},
})
H.op("index_reduce", {
  args = function(t)
    return {t.distinct(3, 4), 1, i64 {2, 2, 1}, t.distinct(3, 4) + 0.03, "amax"}
  end,
  more = {
    function(t) return {t.positive(3, 4), 2, i64 {2, 2}, t.positive(3, 2), "prod", false} end,
    function(t) return {t.randn(3, 4), -1, i64 {2, 2}, t.randn(3, 2), "mean"} end,
  },
  empty = function(t) return {t.randn(3, 4), 1, i64 {}, t.randn(0, 4), "mean"} end,
  wrong_shape = {
    {function(t) return {t.randn(3, 4), 1, i64 {1}, t.randn(2, 4), "mean"} end,
      "'source': expected %[3 x 4%] with 1 along dim 1, got %[2 x 4%]"},
    {function(t) return {t.randn(3, 4), 3, i64 {1}, t.randn(1, 4), "mean"} end, "'dim': .*got 3"},
    {function(t) return {t.randn(3, 4), 1, i64 {{1}}, t.randn(1, 4), "mean"} end,
      "'index': expected a vector"},
  },
  wrong_dtype = {function(t) return {t.randn(3), 1, t.randn(1), t.randn(1), "mean"} end, "int64"},
})

describe("put", function()
  it("counts from the end, and works in place", function()
    H.same(pg.zeros(4):put(i64 {-1, 1}, pg.tensor {7, 5}), {5, 0, 0, 7})
    local x = pg.zeros(2, 2)
    assert.is_true(rawequal(x, x:put_(i64 {3}, pg.tensor {7})))
    H.same(x, {{0, 0}, {7, 0}})
    H.same(pg.ones(3):index_reduce_(1, i64 {2, 2}, pg.tensor {4, 3}, "prod"), {1, 12, 1})
  end)
end)
