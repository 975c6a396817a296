--- Ordering: PyTorch's values, places and gradients, stability, a sorted reference.
-- Relies on spec/helper.lua. Source: core/ops/sort.c.

local H = require "spec.helper"
local core = require "perigee.core"
local ops = core.ops

H.fixtures("sort")

local function distinct(shape, ...)
  local rest = {...}
  return function(t) return {t.distinct(shape), table.unpack(rest)} end
end

H.op("sort", {
  args = distinct({3, 4}, 1, true), more = {distinct {2, 3, 2}, distinct({70}, -1, true)},
  large = distinct({30, 70}), empty = {distinct {2, 0}, {2, 0}},
  wrong_shape = {distinct({3, 4}, 3), "expected 1%.%.2 or %-2%.%.%-1, got 3"},
})
H.op("argsort", {args = distinct({3, 4}, 1), empty = distinct {2, 0},
  wrong_shape = {distinct({3, 4}, 3), "%.%.%-1, got 3"}})
H.op("topk", {
  args = distinct({3, 5}, 2), more = {distinct({3, 5}, 2, 1, false)}, large = distinct({60, 90}, 7),
  empty = {distinct({0, 5}, 2), {0, 2}},
  wrong_shape = {distinct({3, 5}, 6), "'k': expected 0..5 for dim 2 of %[3 x 5%], got 6"},
})
H.op("kthvalue", {
  args = distinct({3, 5}, 2), more = {distinct({3, 5}, 2, 1, true)}, large = distinct({60, 90}, 70),
  empty = {distinct({0, 5}, 2), {0}},
  wrong_shape = {distinct({3, 5}, 0), "'k': expected 1..5 for dim 2 of %[3 x 5%], got 0"},
})
H.op("mode", {
  args = distinct({3, 5}, 2), more = {distinct({3, 5}, 1, true)},
  large = function(t) return {t.int(1, 9, {60, 90})} end, empty = {distinct({0, 5}, 2), {0}},
  wrong_shape = {{distinct({0, 5}, 1), "'input': .*got %[0 x 5%]"},
    {distinct({3}, 2), "%.%.%-1, got 2"}},
})
H.op("searchsorted", {
  args = function(t) return {t.tensor {1, 2, 4}, t.randn(3, 2)} end,
  more = {function(t) return {t.tensor {1, 2, 4}, 3} end},
  empty = function(t) return {t.tensor {1, 2, 4}, t.randn(0, 2)} end,
  wrong_shape = {function(t) return {t.randn(2, 3), t.randn(3, 3)} end,
    "'values': expected rows like those of sorted_sequence %[2 x 3%], got %[3 x 3%]"},
})
H.op("bucketize", {
  args = function(t) return {t.randn(3, 2), t.tensor {-1, 0, 1}} end,
  empty = function(t) return {t.randn(0), t.tensor {1, 2}} end,
  wrong_shape = {function(t) return {t.randn(2), t.randn(2, 2)} end,
    "'boundaries': expected 1 dims"},
})
H.op("unique_flat", {
  args = function(t) return {t.tensor {{3, 1}, {2, 3}}} end, meta = false,
  empty = {function(t) return {t.randn(0)} end, {0}},
})

describe("sort", function()
  it("is stable at every length", function()
    for _, n in ipairs {1, 2, 47, 48, 49, 200, 1000} do
      local x = H.int(-3, 3, n)
      for _, down in ipairs {false, true} do
        local values, places = ops.sort(x, 1, down)
        local v, p = H.values(x), H.values(places)
        local expected = {}
        for i = 1, n do expected[i] = i end
        table.sort(expected, function(a, b)
          if v[a] ~= v[b] then return (v[a] < v[b]) ~= down end
          return a < b
        end)
        assert.same(expected, p)
        H.same(values, x:index_select(1, places))
      end
    end
  end)

  it("puts numbers of every size in order", function()
    local inf = math.huge
    local x = H.make({3, -inf, 1e300, -1e-300, 0, inf, -2, 5e-324}, "float64", {8})
    H.same(x:sort(), H.make({-inf, -2, -1e-300, 0, 5e-324, 3, 1e300, inf}, "float64", {8}))
    local big = H.make({math.maxinteger, math.mininteger, 0, -1}, "int64", {4})
    H.same(big:sort(), H.make({math.mininteger, -1, 0, math.maxinteger}, "int64", {4}))
  end)
end)
