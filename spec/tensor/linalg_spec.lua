--- Norms, ranks, powers, least squares: PyTorch's values and gradients, messages.
-- Relies on spec/helper.lua. Source: lua/perigee/tensor/linalg.lua, lua/perigee/linalg.lua.

local H = require "spec.helper"
local core = require "perigee.core"
local ops = core.ops
local pg = require "perigee"

H.fixtures("tensor_linalg")

local function on(shape, ...)
  local rest = {...}
  return function(t) return {t.randn(shape), table.unpack(rest)} end
end
local function solid(t, n)
  return (t.randn(n, n) + 3 * ops.eye(n, {dtype = t.dtype})):detach()
end
local function square(...)
  local rest = {...}
  return function(t) return {solid(t, 3), table.unpack(rest)} end
end
local flat = {on {3}, "expected a matrix or a batch of matrices, got %[3%]"}
local inexact = {function(t) return {t.int(1, 9, {2, 2})} end, "expected .*float.*, got int64"}
local none = on {0, 0}

H.op("linalg.vector_norm", {
  args = on {2, 3}, more = {on({2, 3}, 3, 2), on({2, 3}, 1, {1, 2}, true)},
  empty = on {0}, wrong_shape = {on({3}, 2, 2), "%.%.%-1, got 2"}, wrong_dtype = inexact})
H.op("linalg.matrix_norm", {
  args = on {3, 2}, more = {on({3, 2}, "nuc"), on({2, 3, 2}, 2, {3, 1}), on({3, 2}, 1)},
  empty = on {0, 2}, threads = false, wrong_dtype = inexact,
  wrong_shape = {flat, {on({2, 2}, "fra"), "'ord': expected 'fro', .- got 'fra'"},
    {on({2, 2}, 3), "'ord': expected 'fro', .- got 3"},
    {on({2, 2}, 1, 1), "'dim': expected two dims, got 1"},
    {on({2, 2}, 1, {1, -2}), "two different dims, got 1 twice"}},
})
H.op("linalg.norm", {
  args = on {3, 2}, more = {on({3, 2}, "nuc"), on({3, 2}, 3, 1), on({4}, 3)}, empty = on {0},
  threads = false, wrong_dtype = inexact,
  wrong_shape = {
    {on({2, 2, 2}, 2), "'dim': expected one or two dims for ord 2 and input %[2 x 2 x 2%]"},
    {on({2}, "fro"), "'ord': expected a number for vectors, got 'fro'"}},
})
H.op("linalg.cond", {
  args = square(), more = {square(1), square(-2)}, empty = false, threads = false,
  wrong_shape = {flat, {on({2, 3}, 1), "expected square matrices, got %[2 x 3%]"}}})
H.op("linalg.matrix_rank", {args = on {3, 2}, more = {square {hermitian = true}}, empty = none,
  threads = false, wrong_shape = flat, wrong_dtype = inexact})
H.op("linalg.lstsq", {
  args = function(t) return {t.randn(4, 2), t.randn(4, 2)} end,
  more = {function(t) return {t.randn(2, 3), t.randn(2)} end}, empty = false, threads = false,
  meta = false,
  wrong_shape = {{function(t) return {t.randn(4, 2), t.randn(3)} end,
    "'B': expected as many rows as A %[4 x 2%], got %[3%]"}},
})
for _, name in ipairs {"linalg.matrix_power", "matrix_power"} do
  H.op(name, {args = square(3), more = {square(-2)}, empty = on({0, 0}, 2),
    threads = false, wrong_shape = {on({2, 3}, 2), "expected square matrices, got %[2 x 3%]"}})
end
for _, name in ipairs {"inverse", "det", "slogdet"} do
  H.op(name, {args = square(), empty = none, threads = false,
    wrong_shape = {on {2, 3}, name .. ": linalg.*expected square matrices"}})
end
H.op("logdet", {args = function(t) return {solid(t, 2):abs() + ops.eye(2, {dtype = t.dtype})} end,
  empty = none, threads = false, wrong_shape = {on {2, 3}, "expected square matrices"}})
H.op("pinverse", {args = on {3, 2}, empty = on {0, 2}, threads = false, wrong_shape = flat})
H.op("cholesky", {args = square(), fn = function(x)
  return ops.cholesky(ops.matmul(x, ops.mT(x)))
end, empty = none, threads = false})
H.op("cholesky_solve", {
  args = function(t) return {t.randn(3, 2), solid(t, 3)} end,
  more = {function(t) return {t.randn(3, 2), solid(t, 3), true} end},
  empty = function(t) return {t.randn(0, 2), t.randn(0, 0)} end, threads = false,
  wrong_shape = {function(t) return {t.randn(3, 2), t.randn(2, 3)} end, "square matrices"},
})
H.op("cholesky_inverse", {args = square(), more = {square(true)}, empty = none, threads = false,
  wrong_shape = {on {2, 3}, "expected square matrices, got %[2 x 3%]"}})

describe("pg.linalg", function()
  it("has PyTorch's names", function()
    for name in ([[inv solve det slogdet cholesky qr svd svdvals eigh eigvalsh lstsq pinv norm
        vector_norm matrix_norm matrix_rank matrix_power multi_dot solve_triangular cross cond]])
        :gmatch "%S+" do
      assert.is_function(pg.linalg[name], name)
    end
    H.raises(function() return pg.linalg.slove end, "did you mean 'solve'")
  end)
end)

describe("norm", function()
  it("takes words", function()
    local x = H.t64.randn(3, 4)
    H.same(x:norm("fro"), x:norm())
    H.same(pg.norm(x, {p = "fro", dim = 2}), x:norm(2, 2))
    H.same(x:norm("nuc"), pg.linalg.matrix_norm(x, "nuc"))
    assert.same({1, 1}, x:norm("nuc", {2, 1}, true).shape)
    H.raises(function() return x:norm("fra") end,
      "norm: argument 'p': expected a number, got 'fra'")
  end)
end)

describe("older names", function()
  local a = pg.tensor({{3, 0}, {0, 1e-3}}, {dtype = "float64"})
  it("of tolerances: rcond of pinv, tol of matrix_rank", function()
    H.same(pg.linalg.pinv(a, {rcond = 1e-2}), {{1 / 3, 0}, {0, 0}}, 1e-12)
    H.same(pg.linalg.pinv(a, {rcond = 1e-4}), {{1 / 3, 0}, {0, 1000}}, 1e-9)
    assert.equal(1, pg.linalg.matrix_rank(a, {tol = 1e-2}):item())
    assert.equal(2, pg.linalg.matrix_rank(a, {tol = 1e-4}):item())
    assert.equal(2, pg.linalg.matrix_rank(a):item())
    H.raises(function() pg.linalg.pinv(a, {rcond = 1, rtol = 1}) end, "'rcond': expected it once")
    H.raises(function() pg.linalg.pinv(a, {rcnd = 1}) end, "unknown option 'rcnd'")
    H.raises(function() pg.linalg.matrix_rank(a, {tol = 1, atol = 1}) end, "beside atol and rtol")
  end)
end)
