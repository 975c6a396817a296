--- Products, distances and einsum: PyTorch's values and gradients, messages.
-- Relies on spec/helper.lua. Source: lua/perigee/tensor/product.lua.

local H = require "spec.helper"
local core = require "perigee.core"
local ops = core.ops

H.fixtures("tensor_product")

local function pair(a, b, ...)
  local rest = {...}
  return function(t) return {t.randn(a), t.randn(b), table.unpack(rest)} end
end
local function triple(a, b, c, ...)
  local rest = {...}
  return function(t) return {t.randn(a), t.randn(b), t.randn(c), table.unpack(rest)} end
end
local function sum(equation, ...)
  local shapes = {...}
  return function(t)
    local list = {}
    for i, shape in ipairs(shapes) do list[i] = t.randn(shape) end
    return {equation, list}
  end
end

H.op("inner", {args = pair({2, 3}, {4, 3}), empty = {pair({2, 0}, {3, 0}), {2, 3}}, threads = false,
  wrong_shape = {pair({2, 3}, {4}), "'other': .*got %[4%]"}})
H.op("vdot", {args = pair({3}, {3}), empty = pair({0}, {0}), threads = false,
  wrong_shape = {pair({3}, {4}), "vdot: dot: argument 'other': .*got %[4%]"}})
H.op("trace", {args = function(t) return {t.randn(2, 3)} end,
  empty = function(t) return {t.randn(0, 2)} end,
  wrong_shape = {function(t) return {t.randn(3)} end, "expected 2 dims, got %[3%]"}})
H.op("cross", {args = pair({2, 3}, {2, 3}, 2), more = {pair({3, 2}, {3, 2})},
  empty = pair({0, 3}, {0, 3}),
  wrong_shape = {{pair({2, 4}, {2, 4}),
    "'input': .*got %[2 x 4%] and %[2 x 4%]"}, {pair({3}, {1, 3}), "'other': .*got %[1 x 3%]"},
    {pair({2, 3}, {2, 3}, 1), "'dim': .*got dim 1 of %[2 x 3%] and %[2 x 3%]"}}})
H.op("linalg.cross", {args = pair({2, 3}, {1, 3}), empty = pair({0, 3}, {0, 3}),
  wrong_shape = {pair({2, 4}, {2, 4}), "'dim': .*got dim 2 of %[2 x 4%] and %[2 x 4%]"}})
H.op("kron", {args = pair({2, 3}, {2, 2}), more = {pair({}, {2})}, empty = pair({0}, {2}),
  wrong_shape = {pair({1, 1, 1, 1, 2}, {2}), "at most 4 dims"}})
H.op("tensordot", {
  args = pair({2, 3, 2}, {3, 2, 2}), more = {pair({2, 3}, {3, 2}, {{1}, {2}}), pair({2}, {3}, 0)},
  empty = pair({2, 0}, {0, 3}, 1), threads = false,
  wrong_shape = {
    {pair({2, 3}, {2, 3}, 1), "'dims': .*got dim 2 of %[2 x 3%] and dim 1 of %[2 x 3%]"},
    {pair({2}, {2}, 2), "'dims': expected 0..1, got 2"},
    {pair({2}, {2}, {{1}, {}}), "'dims': expected as many dims of b as of a, 1, got 0"},
    {pair({2}, {2}, "x"), "expected an integer or two lists of dims, got string"}}})
H.op("addmv", {args = triple({2}, {2, 3}, {3}), more = {triple({2}, {2, 3}, {3}, 0.5, 2)},
  empty = triple({2}, {2, 0}, {0}), threads = false,
  wrong_shape = {triple({2}, {2, 3}, {2}), "addmv: mv: argument 'vec': .*got %[2%]"}})
H.op("addr", {args = triple({2, 3}, {2}, {3}), empty = triple({2, 0}, {2}, {0}), threads = false,
  wrong_shape = {triple({2, 3}, {2}, {2, 2}), "addr: outer"}})
H.op("addbmm", {args = triple({2, 2}, {2, 2, 3}, {2, 3, 2}),
  empty = triple({2, 2}, {0, 2, 3}, {0, 3, 2}), threads = false,
  wrong_shape = {triple({2, 2}, {2, 2, 3}, {2, 2, 2}), "addbmm: bmm"}})
for _, name in ipairs {"chain_matmul", "linalg.multi_dot"} do
  local function list(...)
    local make = sum("", ...)
    return function(t) return {make(t)[2]} end
  end
  H.op(name, {
    args = list({2, 3}, {3, 4}, {4, 2}), more = {list({3}, {3, 2}, {2})},
    empty = list({2, 0}, {0, 3}), threads = false,
    wrong_shape = {{list {2, 3}, "expected at least two tensors, got 1"},
      {list({2, 3}, {2, 3}), "'tensors': .*got %[2 x 3%] as tensor 2"},
      {list({2, 3}, {3, 2, 2}), "expected 2 dims at 2, got %[3 x 2 x 2%]"}},
  })
end
H.op("dist", {args = pair({2, 3}, {3}, 3), more = {pair({4}, {4})}, empty = pair({0}, {0}),
  wrong_shape = {pair({2}, {3}), "dist: sub"}})
H.op("cdist", {
  args = pair({2, 3}, {4, 3}), empty = {pair({0, 3}, {2, 3}), {0, 2}}, threads = false,
  more = {pair({2, 3}, {4, 3}, 3), pair({2, 2, 3}, {4, 3}, 1), pair({27, 2}, {2, 2})},
  wrong_shape = {{pair({3}, {2, 3}), "'x2': .*got %[2 x 3%]"},
    {pair({2, 3}, {2, 3}, -1), "'p': expected at least 0, got %-1"}}})
H.op("renorm", {
  args = function(t) return {t.randn(3, 4), 2, 1, 1} end,
  empty = function(t) return {t.randn(0, 4), 2, 1, 1} end,
  wrong_shape = {function(t) return {t.randn(3), 2, 1, 1} end, "expected at least 2 dims"}})
H.op("einsum", {
  args = sum("bij,bjk->bik", {2, 3, 2}, {2, 2, 3}), empty = sum("ij,jk", {2, 0}, {0, 3}),
  more = {sum("iij,jk->ki", {2, 2, 3}, {3, 2}), sum("...i,i->...", {2, 1, 3}, {3}),
    sum("i,j,k->kj", {2}, {2}, {2}), sum("ij->", {2, 3})},
  threads = false,
  wrong_shape = {
    {sum("ij,jk", {2, 3}, {2, 3}), "'operands': expected size 3 for label 'j', got 2 in operand 2"},
    {sum("ij", {2, 3}, {2, 3}), "'operands': expected 1 for the equation 'ij', got 2"},
    {sum("ij", {2}), "'operands': expected 2 dims, as its term has labels, got %[2%] as operand 1"},
    {sum("ii", {2, 3}), "'operands': expected one size for label 'i' in one operand, got 2 and 3"},
    {sum("ij->ijj", {2, 3}), "'equation': expected labels of the result once, got 'j' twice"},
    {sum("ij->ik", {2, 3}), "'equation': expected labels of operands in the result, got 'k'"},
    {sum("i1", {2, 3}), "expected letters, '...', ',' and '%->', got '1'"}},
  wrong_dtype = {function() return {3} end, "'equation': expected a string, got 3"},
})

describe("cdist", function()
  it("has no gradient where rows coincide", function()
    local x = H.leaf(H.t64.randn(30, 3), true)
    ops.cdist(x, x:detach()):sum():backward()
    assert.is_true(ops.all(ops.isfinite(x.grad)):item())
  end)
end)
