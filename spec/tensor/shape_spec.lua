--- Turning and diagonals: PyTorch's values and gradients, messages.
-- Relies on spec/helper.lua. Source: lua/perigee/tensor/shape.lua.

local H = require "spec.helper"

H.fixtures("tensor_shape")

local function on(shape, ...)
  local rest = {...}
  return function(t) return {t.randn(shape), table.unpack(rest)} end
end
local function i64(values, shape) return H.make(values, "int64", shape or {#values}) end

H.op("rot90", {
  args = on({2, 3}), more = {on({2, 3}, 2), on({2, 3, 2}, -1, {3, 1})}, empty = on({0, 2}),
  wrong_shape = {{on({3}), "expected at least 2 dims, got %[3%]"},
    {on({2, 3}, 1, {1, 1}), "expected two different dims, got 1 twice"},
    {on({2, 3}, 1, {1, 3}), "'dims': expected 1%.%.2 or %-2%.%.%-1, got 3"},
    {on({2, 3}, 1, {1}), "expected two dims, got 1"}},
})
H.op("fliplr", {args = on {2, 3}, empty = on {2, 0},
  wrong_shape = {on {3}, "expected at least 2 dims"}})
H.op("flipud", {args = on {2, 3}, empty = on {0},
  wrong_shape = {on {}, "expected at least 1 dims"}})
for _, name in ipairs {"mT", "adjoint"} do
  H.op(name, {args = on {2, 3}, empty = on {2, 0},
    wrong_shape = {on {3}, "expected at least 2 dims"}})
end
H.op("diag_embed", {
  args = on({2, 3}), more = {on({2, 3}, 1), on({2, 3}, -2, 1, 3)}, empty = on {2, 0},
  wrong_shape = {{on {}, "expected at least 1 dim"}, {on({2, 3}, 0, 1, 1), "'dim2': .*got 1"},
    {on({2, 3}, 0, 1, 4), "'dim2': expected 1%.%.3 or %-3%.%.%-1, got 4"}},
})
H.op("diag", {args = on({3}, 1), more = {on({3, 4}, -1)}, empty = on {0},
  wrong_shape = {on {2, 2, 2}, "expected a vector or a matrix, got %[2 x 2 x 2%]"}})
H.op("diagflat", {args = on({2, 2}, 1), empty = on {0}})
H.op("repeat_interleave", {
  args = function(t) return {t.randn(2, 3), i64 {2, 0, 1}, 2} end, meta = false,
  more = {on({2, 3}, 2), on({2, 3}, 2, 1), on({3}, {1, 2, 3})}, empty = {on({0, 3}, 2, 1), {0, 3}},
  wrong_shape = {{function(t) return {t.randn(2, 3), i64 {2, 1}, 2} end,
    "'repeats': expected 3 numbers for dim 2 of %[2 x 3%], got 2"},
    {function(t) return {t.randn(2), i64 {2, -1}, 1} end, "expected numbers from 0, got %-1"},
    {on({2}, -1), "repeat"}},
  wrong_dtype = {{on({2}, 1.5), "expected an integer or a vector of them, got number"},
    {function(t) return {t.randn(2), t.randn(2)} end, "got float32 %[2%]"}},
})
H.op("take_along_dim", {
  args = function(t) return {t.randn(3, 4), i64({1, 4, 2}, {3, 1}), 2} end,
  more = {function(t) return {t.randn(3, 4), i64 {12, 1}} end},
  empty = function(t) return {t.randn(3, 4), i64({}, {3, 0}), 2} end,
  wrong_shape = {{function(t) return {t.randn(3, 4), i64 {1}, 1} end,
    "expected as many dims as input %[3 x 4%], got %[1%]"},
    {function(t) return {t.randn(3, 4), i64({1, 1}, {2, 1}), 2} end,
      "'indices': expected sizes that broadcast with input %[3 x 4%] but in dim 2, got %[2 x 1%]"}},
})
H.op("select_scatter", {
  args = function(t) return {t.randn(3, 4), t.randn(3), 2, 3} end,
  empty = function(t) return {t.randn(0, 4), t.randn(0), 2, 3} end, meta = false,
  wrong_shape = {function(t) return {t.randn(3, 4), t.randn(4), 2, 3} end,
    "'src': expected %[3%], got %[4%]"},
})
H.op("slice_scatter", {
  args = function(t) return {t.randn(5, 2), t.randn(2, 2), 1, 2, 4, 2} end,
  empty = function(t) return {t.randn(4, 0), t.randn(2, 0), 1, 1, 2} end, meta = false,
  wrong_shape = {function(t) return {t.randn(3, 4), t.randn(4), 1, 1, 2} end,
    "'src': expected %[2 x 4%], got %[4%]"},
})
for _, name in ipairs {"tril_indices", "triu_indices"} do
  H.op(name, {args = function() return {3, 4, 1} end, empty = function() return {0, 2} end,
    wrong_shape = {function() return {2, -1} end, "'col': expected at least 0, got %-1"}})
end
H.op("vander", {args = on({3}), more = {on({3}, 2, true)}, empty = on({3}, 0),
  wrong_shape = {{on {2, 2}, "expected 1 dim, got %[2 x 2%]"},
    {on({2}, -1), "at least 0, got %-1"}, {on({2}, 2 ^ 53), "memory"}}})
