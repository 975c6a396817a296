--- Decompositions: PyTorch's values and gradients, what they are made to give back, messages.
-- Relies on spec/helper.lua. Source: core/ops/spectral.c, core/ops/matrices.h.

local H = require "spec.helper"
local core = require "perigee.core"
local ops = core.ops
local qr, svd, eigh = ops["linalg.qr"], ops["linalg.svd"], ops["linalg.eigh"]

H.fixtures("spectral")

local function on(shape, ...)
  local rest = {...}
  return function(t) return {t.randn(shape), table.unpack(rest)} end
end
local flat = {on {3}, "expected a matrix or a batch of matrices, got %[3%]"}
local inexact = {function(t) return {t.int(1, 9, {2, 2})} end, "expected float32 or float64"}

-- Signs of vectors are free: their magnitudes are not.
local function magnitudes(fn)
  return function(...)
    local results = table.pack(fn(...))
    for i = 1, results.n do results[i] = ops.abs(results[i]) end
    return table.unpack(results, 1, results.n)
  end
end
local function symmetric(fn)
  return function(x, ...) return fn((x + ops.mT(x)) * 0.5, ...) end
end

H.op("linalg.qr", {
  bfloat16 = false, -- the rounded factors are not those of a near matrix
  args = on {3, 3}, more = {on {4, 2}, on {2, 4}, on {2, 3, 2}, on({2, 3}, "complete")},
  atol = 1e-7, large = on {40, 8, 8}, empty = on {0, 3}, threads = false,
  wrong_shape = {flat, {on({2, 2}, "full"), "'mode': expected one of reduced|complete|r"}},
  wrong_dtype = inexact,
})
H.op("linalg.svd", {
  args = on({3, 3}, false), more = {on({4, 2}, false), on({2, 4}, false), on({2, 3, 2}, false)},
  fn = magnitudes(svd), empty = on {0, 3}, threads = false,
})
H.op("linalg.svdvals", {args = on {3, 2}, more = {on {2, 2, 3}}, empty = on {0, 3}, threads = false,
  wrong_shape = flat, wrong_dtype = inexact})
H.op("linalg.eigh", {
  args = on {3, 3}, more = {on {2, 3, 3}, on({3, 3}, "U")}, fn = symmetric(magnitudes(eigh)),
  empty = on {0, 0}, threads = false,
})
H.op("linalg.eigvalsh", {
  args = on {3, 3}, more = {on({2, 3, 3}, "U")}, fn = symmetric(ops["linalg.eigvalsh"]),
  empty = on {2, 0, 0}, threads = false,
})
H.op("linalg.pinv", {args = on {3, 2}, more = {on {2, 2, 3}, on {2, 2}}, empty = on {0, 3},
  threads = false, wrong_shape = flat, wrong_dtype = inexact})

describe("a decomposition", function()
  local function near(actual, expected)
    H.same(actual, expected, actual.dtype == "float64" and 1e-12 or 1e-5)
  end
  local function eye_like(x) return ops.eye(x:size(-1), {dtype = x.dtype}):expand(x.shape) end
  local function orthonormal(q)
    local p = ops.matmul(ops.mT(q), q)
    near(p, eye_like(p))
  end

  it("gives its matrix back", function()
    for _, t in ipairs {H.t, H.t64} do
      for _, shape in ipairs {{5, 3}, {3, 5}, {2, 4, 4}, {70, 70}} do
        local x = t.randn(shape)
        local tol = shape[1] == 70 and t.dtype == "float32" and 1e-4 or nil
        for _, mode in ipairs {"reduced", "complete"} do
          local q, r = qr(x, mode)
          H.same(ops.matmul(q, r), x, tol)
          H.same(ops.tril(r, -1), ops.zeros_like(r), 0)
        end
        local u, s, vt = svd(x, false)
        H.same(ops.matmul(u * s:unsqueeze(-2), vt), x, tol)
      end
      orthonormal(qr(t.randn(5, 3), "complete"))
      local u, s, vt = svd(t.randn(5, 3))
      assert.same({5, 5}, u.shape)
      assert.same({3}, s.shape)
      orthonormal(u)
      orthonormal(vt)
      local a = t.randn(2, 4, 4)
      a = a + ops.mT(a)
      local l, v = eigh(a)
      near(ops.matmul(v * l:unsqueeze(-2), ops.mT(v)), a)
      orthonormal(v)
      near(ops["linalg.eigvalsh"](a), l)
    end
  end)

  it("reads the triangle that it is told to", function()
    local a = core.tensor({{2, 1}, {9, 3}}, {dtype = "float64"})
    near((eigh(a, "U")), eigh(core.tensor({{2, 1}, {1, 3}}, {dtype = "float64"})))
    near((eigh(a)), eigh(core.tensor({{2, 9}, {9, 3}}, {dtype = "float64"})))
  end)

  it("passes gradients of the joint parts of full matrices", function()
    H.gradcheck(function(x)
      local u, s, vt = svd(x)
      return ops.abs(u:narrow(-1, 1, 2)), s, ops.abs(vt)
    end, H.t64.randn(4, 2))
  end)

  it("refuses what LAPACK has no answer for", function()
    local x = core.tensor {{0 / 0, 1}, {1, 2}}
    for _, name in ipairs {"svd", "svdvals", "eigh", "eigvalsh", "pinv"} do
      H.raises(function() ops["linalg." .. name](x) end,
        "linalg." .. name .. ": argument 'A': expected finite elements, got NaN or infinity")
    end
    H.raises(function() svd(core.tensor {1}) end, "matrix or a batch of matrices, got %[1%]")
    H.raises(function() eigh(core.tensor {{1, 2}}) end, "square matrices, got %[1 x 2%]")
    H.raises(function() eigh(x, "X") end, "'UPLO': expected one of L|U, got 'X'")
    local tall = H.leaf(H.randn(3, 2), true)
    H.raises(function() qr(tall, "complete"):sum():backward() end, "no gradient in mode 'complete'")
    H.raises(function() select(2, qr(tall, "r")):sum():backward() end, "no gradient in mode 'r'")
  end)
end)
