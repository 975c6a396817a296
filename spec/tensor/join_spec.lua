--- Joining and common shapes: PyTorch's values and gradients, messages.
-- Relies on spec/helper.lua. Source: lua/perigee/tensor/join.lua.

local H = require "spec.helper"

H.fixtures("tensor_join")

local function list(shapes, ...)
  local rest = {...}
  return function(t)
    local tensors = {}
    for i, shape in ipairs(shapes) do tensors[i] = t.randn(shape) end
    return {tensors, table.unpack(rest)}
  end
end
local none = {list {}, "expected at least one tensor, got none"}
local mixed = {function(t) return {{t.randn(2), 3}} end, "expected a tensor at 2, got 3"}

for _, name in ipairs {"atleast_1d", "atleast_2d", "atleast_3d"} do
  H.op(name, {args = list {{}, {2}}, more = {list {{2, 3}}}, empty = list {{0}},
    wrong_shape = none, wrong_dtype = mixed})
end
for _, name in ipairs {"hstack", "vstack", "dstack", "column_stack"} do
  H.op(name, {args = list {{2, 3}, {2, 3}}, more = {list {{3}, {3}}}, empty = list {{2, 0}, {2, 0}},
    wrong_shape = {none, {list {{2, 3}, {3, 4}}, name .. ": cat: .*as tensor 2"}},
    wrong_dtype = mixed})
end
H.op("broadcast_tensors", {
  args = list {{3, 1}, {2}, {}}, empty = list {{3, 0}, {1}},
  wrong_shape = {none, {list {{3}, {2}}, "broadcasts with %[3%], got %[2%]"}}, wrong_dtype = mixed,
})
H.op("meshgrid", {
  args = list {{2}, {3}}, more = {list({{2}, {3}, {2}}, "xy")}, empty = list {{2}, {0}},
  wrong_shape = {none, {list {{2, 2}}, "expected at most 1 dims, got %[2 x 2%] at 1"}},
  wrong_dtype = mixed,
})
H.op("cartesian_prod", {args = list {{2}, {3}}, empty = list {{2}, {0}},
  wrong_shape = {none, {list {{2, 2}}, "expected at most 1 dims"}}, wrong_dtype = mixed})
H.op("combinations", {
  args = function(t) return {t.randn(4), 2} end,
  more = {function(t) return {t.randn(3), 2, true} end},
  empty = {function(t) return {t.randn(0)} end, {0, 2}},
  wrong_shape = {{function(t) return {t.randn(2, 2)} end, "expected 1 dim, got %[2 x 2%]"},
    {function(t) return {t.randn(2), -1} end, "'r': expected at least 0, got %-1"}},
})
H.op("block_diag", {args = list {{2, 3}, {2}, {}}, empty = list {{0, 2}},
  wrong_shape = {none, {list {{2, 2, 2}}, "expected at most 2 dims, got %[2 x 2 x 2%] at 1"}},
  wrong_dtype = mixed})
