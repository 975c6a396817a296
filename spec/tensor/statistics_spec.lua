--- Statistics: PyTorch's values and gradients, messages.
-- Relies on spec/helper.lua. Source: lua/perigee/tensor/statistics.lua.

local H = require "spec.helper"
local core = require "perigee.core"
local ops = core.ops

H.fixtures("tensor_statistics")

local function on(shape, ...)
  local rest = {...}
  return function(t) return {t.randn(shape), table.unpack(rest)} end
end
local function distinct(shape, ...)
  local rest = {...}
  return function(t) return {t.distinct(shape), table.unpack(rest)} end
end
local function i64(values, shape) return H.make(values, "int64", shape or {#values}) end
local function ints(t, ...) return t.int(1, 5, {...}) end

H.op("nansum", {args = on({2, 3}, 2), empty = on({0, 3}, 1),
  wrong_shape = {on({2}, 2), "%.%.%-1, got 2"}})
H.op("nanmean", {args = on({2, 3}, 2), more = {on {2, 3}}, empty = on({2, 0}, 1),
  wrong_shape = {on({2}, 2), "%.%.%-1, got 2"},
  wrong_dtype = {function(t) return {ints(t, 3)} end, "expected a floating dtype, got int64"}})
H.op("aminmax", {args = distinct({2, 3}, 2), more = {distinct {2, 3}}, empty = on({0, 3}, 2),
  wrong_shape = {on({2}, 2), "%.%.%-1, got 2"}})
for _, name in ipairs {"quantile", "nanquantile"} do
  H.op(name, {
    args = distinct({2, 5}, 0.3, 2), more = {distinct({2, 5}, 0.3), distinct({2, 5}, 1, 1, true)},
    empty = false,
    wrong_shape = {{on({2, 0}, 0.5), "expected some elements, got %[2 x 0%]"},
      {on({2}, 0.5, 2), "%.%.%-1, got 2"}, {on({2}, 1.5), "'q': expected values in 0..1"}},
    wrong_dtype = {{function(t) return {ints(t, 3), 0.5} end, "'input': expected a floating dtype"},
      {function(t) return {t.randn(3), H.make({0.5}, "float64", {1})} end,
        "'q': expected float32 as input, got float64"}},
  })
end
H.op("nanmedian", {args = distinct({2, 5}, 2), more = {distinct {4}, distinct({2, 4}, 1, true)},
  empty = on({0, 3}, 2), wrong_shape = {on({2}, 2), "%.%.%-1, got 2"}})
H.op("msort", {args = distinct {4, 2}, empty = on {0, 2}})
H.op("bincount", {
  args = function(t) return {i64 {3, 1, 3}, t.randn(3)} end,
  empty = {function() return {i64 {}} end, {0}},
  more = {function(t) return {i64 {3, 1, 3}, t.randn(3), 5} end},
  meta = false,
  wrong_shape = {{function() return {i64({1}, {1, 1})} end, "expected a vector of integers"},
    {function(t) return {i64 {1, 2}, t.randn(3)} end,
      "'weights': expected %[2%] as input, got %[3%]"},
    {function() return {i64 {1, 0}} end, "expected values from 1, got 0"}},
  wrong_dtype = {on {3}, "expected a vector of integers, got float32 %[3%]"},
})
H.op("histc", {
  args = on({9}, 4), empty = {on({0}, 3), {3}}, meta = false,
  wrong_shape = {{on({9}, 0), "'bins': expected at least 1, got 0"},
    {on({9}, 3, 2, 1), "expected finite min < max, got 2 and 1"}},
  wrong_dtype = {function(t) return {ints(t, 3)} end, "expected a floating dtype"},
})
H.op("unique", {
  args = function(t) return {ints(t, 3, 2), true, true, true} end,
  more = {function(t) return {ints(t, 4, 2), {dim = 1, return_counts = true}} end},
  empty = {on {0}, {0}}, meta = false,
  wrong_shape = {{on({2, 0}, {dim = 1}), "expected slices with elements, got %[2 x 0%]"},
    {on({2}, {dim = 2}), "%.%.%-1, got 2"}},
})
H.op("unique_consecutive", {
  args = function(t) return {ints(t, 3, 2), true, true} end,
  more = {function(t) return {ints(t, 4, 2), {dim = 2}} end},
  empty = {on {0}, {0}}, meta = false, wrong_shape = {on({2}, {dim = 2}), "%.%.%-1, got 2"},
})
H.op("isin", {
  args = function(t) return {ints(t, 3, 2), ints(t, 2)} end, empty = on({0}, 1),
  more = {function(t) return {3, ints(t, 2)} end},
  wrong_dtype = {function() return {1, 2} end, "expected a tensor here or in 'test_elements'"},
})
H.op("diff", {
  args = on({2, 4}, 2), empty = on {2, 0},
  more = {function(t) return {t.randn(2, 3), 1, 1, t.randn(1, 3), t.randn(1, 3)} end},
  wrong_shape = {{on {}, "expected at least 1 dim"}, {on({2}, -1), "at least 0, got %-1"},
    {on({2}, 1, 2), "%.%.%-1, got 2"}},
})
for _, name in ipairs {"trapezoid", "cumulative_trapezoid"} do
  H.op(name, {
    args = function(t) return {t.randn(2, 4), t.randn(4)} end,
    more = {on({4, 2}, {dx = 2, dim = 1})},
    empty = on {2, 0},
    wrong_shape = {function(t) return {t.randn(2, 4), t.randn(3)} end,
      "'x': expected 4 points along dim 2, got %[3%]"},
  })
end
H.op("cov", {
  args = on {3, 5}, empty = false,
  more = {on {5}, function(t) return {t.randn(2, 4), 1, ints(t, 4), t.positive(4)} end},
  wrong_shape = {{on {2, 2, 2}, "expected at most 2 dims, got %[2 x 2 x 2%]"},
    {function(t) return {t.randn(2, 4), 1, ints(t, 3)} end,
      "'fweights': expected %[4%], got %[3%]"}},
})
H.op("corrcoef", {args = on {3, 5}, empty = false, rtol = 1e-5, smooth = false,
  wrong_shape = {on {2, 2, 2}, "at most 2 dims"}})
it("corrcoef has second gradients off the diagonal, which is cut at 1", function()
  H.gradgradcheck(function(x) return ops.corrcoef(x):triu(1) end, H.t64.randn(3, 5))
end)

describe("unique", function()
  it("gives places and counts where they are asked for", function()
    local x = i64({5, 2, 5, 9, 2, 5}, {2, 3})
    local values, inverse, counts = ops.unique(x, {return_inverse = true, return_counts = true})
    H.same(values, i64 {2, 5, 9})
    H.same(inverse, i64({2, 1, 2, 3, 1, 2}, {2, 3}))
    H.same(counts, i64 {2, 3, 1})
    H.same(select(2, ops.unique(x, {return_counts = true})), i64 {2, 3, 1})
    assert.equal(1, select("#", ops.unique(x)))
    H.raises(function() ops.unique(core.meta("float32", {3})) end, "depends on the data")
  end)
end)
