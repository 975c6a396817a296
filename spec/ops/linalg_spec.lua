--- Systems of equations and determinants: PyTorch's values and gradients, which matrix was wrong.
-- Relies on spec/helper.lua. Source: core/ops/linalg.c, core/ops/matrices.h.

local H = require "spec.helper"
local core = require "perigee.core"
local ops = core.ops
local pg = require "perigee"

H.fixtures("linalg")

-- Matrices far from singular ones.
local function solid(t, ...)
  local shape = {...}
  return (t.randn(shape) + 3 * ops.eye(shape[#shape], {dtype = t.dtype})):detach()
end
local function square(...)
  local shape = {...}
  return function(t) return {solid(t, table.unpack(shape))} end
end
local function numbers(t) return {t.int(1, 9, {2, 2})} end
local flat = {function(t) return {t.randn(3)} end,
  "expected a matrix or a batch of matrices, got %[3%]"}
local oblong = {function(t) return {t.randn(2, 3)} end, "expected square matrices, got %[2 x 3%]"}
local function with_more(pair, shape)
  return {function(t)
    local args = pair[1](t)
    args[2], args[3] = t.randn(shape), true
    return args
  end, pair[2]}
end
local inexact = {numbers, "expected float32 or float64, got int64"}

for _, name in ipairs {"linalg.inv", "linalg.det", "linalg.slogdet"} do
  H.op(name, {
    args = square(3, 3), more = {square(2, 2, 2)}, large = square(40, 9, 9),
    empty = square(2, 0, 0),
    wrong_shape = {flat, oblong}, wrong_dtype = inexact, threads = false,
  })
end
H.op("linalg.cholesky", {
  args = function(t) return {solid(t, 3, 3)} end,
  more = {function(t) return {solid(t, 2, 2, 2), true} end},
  fn = function(x, upper)
    local turned = ops.mT(x)
    return ops["linalg.cholesky"](ops.matmul(x, turned), upper)
  end,
  empty = square(0, 0), threads = false,
})
H.op("linalg.solve", {
  args = function(t) return {solid(t, 3, 3), t.randn(3, 2)} end,
  more = {function(t) return {solid(t, 2, 3, 3), t.randn(2, 3)} end,
    function(t) return {solid(t, 2, 2), t.randn(2, 3, 2), false} end,
    function(t) return {solid(t, 3, 3), t.randn(3)} end},
  empty = function(t) return {t.randn(0, 0), t.randn(0, 2)} end, threads = false,
  wrong_shape = {with_more(flat, {3}), with_more(oblong, {2}),
    {function(t) return {t.randn(3, 3), t.randn(2, 3)} end,
      "'B': expected %[3 x %*%] to follow A %[3 x 3%], got %[2 x 3%]"},
    {function(t) return {t.randn(3, 3), t.randn(3), false} end, "'left': expected true"}},
  wrong_dtype = {with_more(inexact, {2}),
    {function(t) return {t.randn(2, 2), t.int(1, 2, {2})} end, "int64"}},
})
H.op("linalg.solve_triangular", {
  args = function(t) return {solid(t, 3, 3), t.randn(3, 2), true} end,
  more = {function(t) return {solid(t, 2, 3, 3), t.randn(2, 3), false, false} end,
    function(t)
      return {solid(t, 3, 3), t.randn(2, 3, 1), {upper = false, unitriangular = true}}
    end},
  empty = function(t) return {t.randn(0, 0), t.randn(0, 2), true} end, threads = false,
  wrong_shape = {with_more(flat, {3, 1}), with_more(oblong, {2, 1}),
    {function(t) return {t.randn(3, 3), t.randn(2, 3), true} end, "'B': .*got %[2 x 3%]"},
    {function(t) return {t.randn(3, 3), t.randn(3, 2)} end, "'upper': .*got nothing"}},
  wrong_dtype = with_more(inexact, {2, 2}),
})

describe("a matrix that has no solution", function()
  local x = ops.eye(2):expand(3, 2, 2):clone()
  x[2] = 0
  it("is named", function()
    H.raises(function() pg.linalg.inv(x) end, "linalg.inv: the matrix 2 of the batch is singular")
    H.raises(function() pg.linalg.inv(x[2]) end, "linalg.inv: the matrix is singular")
    H.raises(function() pg.linalg.solve(x, ops.ones(3, 2)) end,
      "linalg.solve: the matrix 2 of the batch is singular")
    x[3] = -1
    x[2] = ops.eye(2)
    H.raises(function() pg.linalg.cholesky(x) end,
      "matrix 3 of the batch is not positive definite: its leading minor of order 1 is not")
  end)
end)

describe("det", function()
  it("has the cofactors as its gradient where it is zero", function()
    local fn = ops["linalg.det"]
    H.gradcheck(fn, H.make({1, 2, 3, 2, 4, 6, 1, 0, 1}, "float64", {3, 3}))
    H.gradcheck(fn, H.make({1, 2, 3, 4}, "float64", {2, 2}))
    local zero = H.leaf(ops.zeros(3, 3), true)
    fn(zero):backward()
    H.same(zero.grad, ops.zeros(3, 3))
    local one = H.leaf(ops.zeros(1, 1), true)
    fn(one):backward()
    H.same(one.grad, {{1}})
  end)
  it("is one where there is nothing", function()
    H.same(ops["linalg.det"](ops.zeros(2, 0, 0)), {1, 1})
  end)
end)

-- The second gradient of fn at x, from fixed weights.
local function second(fn, x)
  local leaf = x:clone()
  leaf.requires_grad = true
  local y = fn(leaf)
  local first = core.grad((y * H.cotangent(y, 1)):sum(), {leaf}, {create_graph = true})[1]
  return core.grad((first * H.cotangent(first, 2)):sum(), {leaf})[1]
end

it("linalg.det has second gradients where it is zero", function()
  local function by_hand(x)
    local total
    for k = 1, 3 do
      local i, j = k % 3 + 1, (k + 1) % 3 + 1
      local term = x[{{}, 1, k}] * (x[{{}, 2, i}] * x[{{}, 3, j}] - x[{{}, 2, j}] * x[{{}, 3, i}])
      total = total and total + term or term
    end
    return total
  end
  local x = H.make({1, 2, 3, 2, 4, 6, 1, 0, 1, 1, 2, 3, 2, 4, 6, -1, -2, -3,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 1, 0, 1, 2, 1, 0, 1, 1}, "float64", {4, 3, 3})
  assert.equal(0, ops["linalg.det"](x)[1]:item())
  H.same(second(ops["linalg.det"], x), second(by_hand, x), 1e-12)
  local leaf = x:clone()
  leaf.requires_grad = true
  local first = core.grad(ops["linalg.det"](leaf):sum(), {leaf}, {create_graph = true})[1]
  local move = core.grad((first * first):sum(), {leaf}, {create_graph = true})[1]
  H.raises(function() core.grad(move:sum(), {leaf}) end, "no third derivative")
end)
