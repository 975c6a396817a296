--- Matrix products: PyTorch's values and gradients, naive references, layouts, messages.
-- Relies on spec/helper.lua. Sources: core/ops/matmul.c, core/kernels/blas.c.

local H = require "spec.helper"
local core = require "perigee.core"
local ops = core.ops

H.fixtures("matmul")

local function pair(a, b)
  return function(t) return {t.randn(a), t.randn(b)} end
end

H.op("matmul", {
  args = pair({2, 3, 4}, {4, 2}),
  more = {pair({3}, {3}), pair({2, 3}, {3}), pair({3}, {2, 3, 2}), pair({2, 1, 3, 2}, {3, 2, 2}),
    pair({2, 3}, {2, 3, 2})},
  large = pair({40, 9, 7}, {40, 7, 5}),
  empty = {pair({2, 0, 3}, {3, 4}), {2, 0, 4}},
  wrong_shape = {{pair({32, 10}, {12, 5}), "'other': .*got %[12 x 5%]"},
    {pair({2, 3, 4}, {3, 4, 5}), "'other': .*got %[3 x 4 x 5%]"},
    {function(t) return {t.randn(3), t.tensor(2)} end, "'other': .*got %[%]"}},
  wrong_dtype = {{function(t) return {t.randn(2, 3), t.int(1, 5, {3, 2})} end,
    "'other': expected float32 as 'input', got int64"},
    {function(t) return {t.bool(2, 3), t.bool(3, 2)} end, "'input': expected .*, got bool"}},
})
H.op("mm", {
  args = pair({3, 4}, {4, 2}), large = pair({20, 13}, {13, 11}), empty = pair({0, 4}, {4, 2}),
  wrong_shape = {pair({3, 4}, {4}), "'mat2': expected 2 dims, got %[4%]"},
  wrong_dtype = {function(t) return {t.int(1, 5, {3, 4}), t.randn(4, 2)} end, "expected int64"},
})
H.op("bmm", {
  args = pair({2, 3, 4}, {2, 4, 2}), large = pair({60, 5, 7}, {60, 7, 3}),
  empty = pair({0, 3, 4}, {0, 4, 2}),
  wrong_shape = {pair({2, 3, 4}, {3, 4, 2}), "'mat2': .*got %[3 x 4 x 2%]"},
  wrong_dtype = {function(t) return {t.int(1, 5, {2, 3, 4}), t.randn(2, 4, 2)} end, "int64"},
})
H.op("mv", {
  args = pair({3, 4}, {4}), empty = pair({0, 4}, {4}),
  wrong_shape = {pair({3, 4}, {3}), "'vec': expected %[4%] to follow input %[3 x 4%], got %[3%]"},
  wrong_dtype = {function(t) return {t.randn(3, 4), t.int(1, 5, {4})} end, "float32"},
})
H.op("dot", {
  args = pair({5}, {5}), empty = {pair({0}, {0}), {}},
  wrong_shape = {pair({5}, {4}), "'other': expected %[5%] to follow input %[5%], got %[4%]"},
  wrong_dtype = {function(t) return {t.randn(4), t.int(1, 5, {4})} end, "float32"},
})
H.op("outer", {
  args = pair({3}, {4}), empty = pair({0}, {4}),
  wrong_shape = {pair({3, 1}, {4}), "'input': expected 1 dims"},
  wrong_dtype = {function(t) return {t.bool(4), t.bool(4)} end, "'input': expected .*, got bool"},
})
H.op("addmm", {
  args = function(t) return {t.randn(3, 2), t.randn(3, 4), t.randn(4, 2), 0.5, -2} end,
  more = {function(t) return {t.randn(2), t.randn(3, 4), t.randn(4, 2)} end},
  empty = function(t) return {t.randn(2), t.randn(0, 4), t.randn(4, 2)} end,
  wrong_shape = {{function(t) return {t.randn(3), t.randn(3, 4), t.randn(4, 2)} end,
    "'input': expected a shape that broadcasts to the product %[3 x 2%], got %[3%]"},
    {function(t) return {t.randn(4, 3, 2), t.randn(3, 4), t.randn(4, 2)} end,
      "'input': expected a shape that broadcasts to the product %[3 x 2%], got %[4 x 3 x 2%]"}},
  wrong_dtype = {function(t) return {t.int(1, 5, {2}), t.randn(3, 4), t.randn(4, 2)} end,
    "expected int64"},
})
H.op("baddbmm", {
  args = function(t) return {t.randn(2, 3, 2), t.randn(2, 3, 4), t.randn(2, 4, 2), 0.5, -2} end,
  more = {function(t) return {t.randn(1, 2), t.randn(2, 3, 4), t.randn(2, 4, 2)} end},
  empty = function(t) return {t.randn(2), t.randn(0, 3, 4), t.randn(0, 4, 2)} end,
  wrong_shape = {function(t) return {t.randn(3), t.randn(2, 3, 4), t.randn(2, 3, 2)} end,
    "'batch2': expected %[%* x 4 x %*%] to follow batch1 %[2 x 3 x 4%], got %[2 x 3 x 2%]"},
  wrong_dtype = {function(t) return {t.int(1, 5, {2}), t.randn(2, 3, 4), t.randn(2, 4, 2)} end,
    "expected int64"},
})
H.op("linear", {
  args = function(t) return {t.randn(5, 3), t.randn(4, 3), t.randn(4)} end,
  more = {function(t) return {t.randn(2, 2, 3), t.randn(4, 3), t.randn(4)} end,
    function(t) return {t.randn(5, 3), t.randn(4, 3)} end,
    function(t) return {t.randn(3), t.randn(4, 3), t.randn(4)} end},
  large = function(t) return {t.randn(300, 3), t.randn(130, 3), t.randn(130)} end,
  empty = function(t) return {t.randn(0, 3), t.randn(4, 3), t.randn(4)} end,
  wrong_shape = {{function(t) return {t.randn(5, 2), t.randn(4, 3)} end,
    "'input': expected %[%* x 3%] to follow weight %[4 x 3%], got %[5 x 2%]"},
    {function(t) return {t.randn(5, 3), t.randn(4, 3), t.randn(3)} end,
      "'bias': expected %[4%] to follow weight %[4 x 3%], got %[3%]"}},
  wrong_dtype = {function(t) return {t.int(1, 5, {5, 3}), t.randn(4, 3)} end, "got int64"},
})

-- c[i][j] by the definition, in doubles.
local function naive(a, b)
  local m, k, n = a.shape[1], a.shape[2], b.shape[2]
  local x, y, z = H.values(a), H.values(b), {}
  for i = 1, m do
    for j = 1, n do
      local sum = 0
      for p = 1, k do sum = sum + x[(i - 1) * k + p] * y[(p - 1) * n + j] end
      z[(i - 1) * n + j] = sum
    end
  end
  return H.make(z, a.dtype, {m, n})
end

describe("matmul", function()
  it("matches its definition at every size around a vector's width", function()
    for _, size in ipairs {{1, 1, 1}, {1, 9, 4}, {9, 1, 4}, {16, 4, 16}, {17, 5, 3}, {33, 31, 2}} do
      local a, b = H.randn(size[1], size[3]), H.randn(size[3], size[2])
      H.same(a:matmul(b), naive(a, b), 1e-4)
      H.same(a:t():contiguous():t():matmul(b:t():contiguous():t()), naive(a, b), 1e-4)
    end
  end)

  it("takes expanded operands", function()
    local a, b = H.randn(1, 3), H.randn(3, 1)
    H.same(a:expand(4, 3):matmul(b:expand(3, 2)),
      naive(a:expand(4, 3):contiguous(), b:expand(3, 2):contiguous()), 1e-5)
  end)

  it("does not read what beta = 0 leaves out", function()
    local nan = ops.full({2, 2}, 0 / 0)
    local a = H.randn(2, 2)
    H.same(nan:addmm(a, a, 0, 1), naive(a, a), 1e-5)
  end)

  it("computes in bfloat16 with float32 sums", function()
    local a, b = H.randn(4, 64), H.randn(64, 3)
    local y = a:to "bfloat16":matmul(b:to "bfloat16")
    assert.equal("bfloat16", y.dtype)
    H.same(y:to "float32", a:matmul(b), 0.2)
  end)
end)
