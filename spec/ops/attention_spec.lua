--- scaled_dot_product_attention: PyTorch's values and gradients, blocks, masks, dropout, layouts,
-- messages. Relies on spec/helper.lua. Sources: core/ops/attention.c, core/kernels/pack.c,
-- core/kernels/half.c.

local H = require "spec.helper"
local core = require "perigee.core"
local ops = core.ops

local attention = ops.scaled_dot_product_attention

H.fixtures "attention"

H.op("scaled_dot_product_attention", {
  args = function(t) return {t.randn(2, 3, 4), t.randn(2, 5, 4), t.randn(2, 5, 3)} end,
  more = {
    function(t) return {t.randn(3, 4), t.randn(5, 4), t.randn(5, 2), t.bool(3, 5)} end,
    function(t)
      return {t.randn(2, 2, 3, 4), t.randn(2, 2, 5, 4), t.randn(2, 2, 5, 2), t.randn(2, 1, 3, 5)}
    end,
    function(t) return {t.randn(2, 4, 3), t.randn(2, 4, 3), t.randn(2, 4, 3), nil, 0, true} end,
    function(t)
      return {t.randn(2, 1, 4, 3), t.randn(3, 2, 3), t.randn(2, 2), nil, 0, true, 0.7}
    end,
    function(t) return {t.randn(2, 4, 3), t.randn(2, 6, 3), t.randn(2, 6, 3), nil, 0.4} end,
  },
  large = function(t) return {t.randn(5, 70, 9), t.randn(5, 81, 9), t.randn(5, 81, 20)} end,
  empty = {function(t) return {t.randn(2, 0, 4), t.randn(2, 5, 4), t.randn(2, 5, 3)} end,
    {2, 0, 3}},
  wrong_shape = {
    {function(t) return {t.randn(3, 4), t.randn(5, 3), t.randn(5, 3)} end,
      "'key': expected %[%* x 4%] to follow query %[3 x 4%], got %[5 x 3%]"},
    {function(t) return {t.randn(3, 4), t.randn(5, 4), t.randn(4, 3)} end,
      "'value': expected %[5 x %*%] to follow key %[5 x 4%], got %[4 x 3%]"},
    {function(t) return {t.randn(4), t.randn(5, 4), t.randn(5, 3)} end,
      "'query': expected at least 2 dims, got %[4%]"},
    {function(t) return {t.randn(3, 4), t.randn(5, 4), t.randn(5, 3), t.bool(5, 3)} end,
      "'attn_mask': expected one that broadcasts to %[3 x 5%], got %[5 x 3%]"},
    {function(t) return {t.randn(3, 4), t.randn(5, 4), t.randn(5, 3), t.bool(3, 5), 0, true} end,
      "'attn_mask': expected nothing where is_causal is true, got %[3 x 5%]"},
    {function(t) return {t.randn(3, 4), t.randn(5, 4), t.randn(5, 3), nil, 1} end,
      "'dropout_p': expected 0 to below 1, got 1"},
  },
  wrong_dtype = {
    {function(t) return {t.int(1, 5, {3, 4}), t.randn(5, 4), t.randn(5, 3)} end, "got int64"},
    {function(t) return {t.randn(3, 4), t.randn(5, 4), t.randn(5, 3), t.int(0, 1, {3, 5})} end,
      "expected bool or float32, got int64"},
  },
})

local function composed(q, k, v, mask)
  local x = q:matmul(k:transpose(-2, -1)) / math.sqrt(q:size(-1))
  if mask then x = x:masked_fill(mask:logical_not(), -math.huge) end
  return x:softmax(-1):matmul(v)
end

it("scaled_dot_product_attention agrees with its definition over many blocks", function()
  for _, sizes in ipairs {{65, 130, 17, 33}, {200, 40, 8, 16}, {1, 300, 20, 5}} do
    local l, s, e, ev = table.unpack(sizes)
    local q, k, v = H.randn(2, 3, l, e), H.randn(2, 3, s, e), H.randn(2, 3, s, ev)
    H.same(attention(q, k, v), composed(q, k, v), 1e-5)
    q, k, v = q:to "float64", k:to "float64", v:to "float64"
    local seen = ops.tril(ops.ones({l, s}, {dtype = "bool"}))
    H.same(attention(q, k, v, nil, 0, true), composed(q, k, v, seen))
    H.same(attention(q, k, v, seen), composed(q, k, v, seen))
    local grads = {}
    for i = 1, 2 do
      local leaves = {}
      for j, t in ipairs {q, k, v} do
        leaves[j] = t:clone()
        leaves[j].requires_grad = true
      end
      local a, b, c = table.unpack(leaves)
      local y = i == 1 and attention(a, b, c, nil, 0, true) or composed(a, b, c, seen)
      core.backward((y * ops.sin(y:detach())):sum())
      grads[i] = leaves
    end
    for j = 1, 3 do H.same(grads[1][j].grad, grads[2][j].grad) end
  end
end)

it("scaled_dot_product_attention gives zeros where nothing may be seen", function()
  local q = H.randn(3, 4)
  q.requires_grad = true
  local mask = core.tensor {{true, false, false}, {false, false, false}, {true, true, true}}
  local y = attention(q, q, q, mask)
  H.same(y:detach()[1], q:detach()[1], 1e-6)
  H.same(y:detach()[2], ops.zeros {4})
  y:sum():backward()
  assert.is_true(ops.isfinite(q.grad):all():item())
end)

it("scaled_dot_product_attention has second gradients where a query may see nothing", function()
  local bool = core.tensor {{true, false, false}, {false, false, false}, {true, true, true}}
  local added = ops.zeros({3, 3}, {dtype = "float64"})
  added[2] = -math.huge
  for _, mask in ipairs {bool, added} do
    H.gradgradcheck(function(q, k, v) return attention(q, k, v, mask) end,
      H.t64.randn(3, 2), H.t64.randn(3, 2), H.t64.randn(3, 2))
  end
end)

it("scaled_dot_product_attention passes NaN on, within a row only", function()
  local q, k = H.randn(3, 4), H.randn(5, 4)
  q[{2, 1}] = 0 / 0
  local y = attention(q, k, k)
  assert.is_true(ops.isnan(y[2]):all():item())
  assert.is_true(ops.isfinite(y[1]):all():item() and ops.isfinite(y[3]):all():item())
end)

it("scaled_dot_product_attention drops weights with probability dropout_p", function()
  core.manual_seed(5)
  local q, v = ops.zeros {200, 4}, ops.eye(300)
  local w = attention(q, ops.zeros {300, 4}, v, nil, 0.25)
  assert.near(0.25, w:eq(0):to("float32"):mean():item(), 0.01)
  assert.near(1 / 300 / 0.75, w:max():item(), 1e-6)
  assert.near(1, w:sum(2):mean():item(), 0.01)
  core.manual_seed(5)
  H.identical(attention(q, ops.zeros {300, 4}, v, nil, 0.25), w)
end)

it("scaled_dot_product_attention keeps the order of memory of its query", function()
  local q = H.randn(7, 2, 3, 4):permute(2, 3, 1, 4)
  local y = attention(q, q, q)
  assert.same(q:stride(), y:stride())
  H.same(y, attention(q:contiguous(), q:contiguous(), q:contiguous()), 1e-6)
end)

-- Output and gradients in this dtype at values that bfloat16 holds.
local function trace(args, dtype)
  core.manual_seed(7)
  local leaves, given = {}, {}
  for i = 1, 7 do
    given[i] = args[i]
    if core.is_tensor(args[i]) and args[i].dtype ~= "bool" then
      given[i] = args[i]:to(dtype)
      given[i].requires_grad = true
      leaves[#leaves + 1] = given[i]
    end
  end
  local y = attention(table.unpack(given, 1, 7))
  local g = ops.cos(ops.arange(1, y:numel()):to "float32"):view(y.shape):to "bfloat16":to(dtype)
  core.backward(y, g)
  local all = {y:detach()}
  for _, t in ipairs(leaves) do all[#all + 1] = t.grad end
  return all
end

local function half(...) return H.randn(...):to "bfloat16" end
local BFLOAT16 = {
  plain = {half(2, 65, 17), half(2, 130, 17), half(2, 130, 33)},
  one = {half(1, 1), half(1, 1), half(1, 1)},
  odd = {half(2, 3, 71, 15), half(2, 3, 45, 15), half(2, 3, 45, 7)},
  heads = {half(2, 70, 4, 32):transpose(2, 3), half(2, 70, 4, 32):transpose(2, 3),
    half(2, 70, 4, 32):transpose(2, 3), nil, 0, true},
  causal = {half(3, 131, 16), half(3, 131, 16), half(3, 131, 16), nil, 0, true, 0.3},
  ["bool mask"] = {half(2, 2, 9, 8), half(2, 2, 20, 8), half(2, 2, 20, 5),
    H.randn(2, 1, 9, 20):gt(0)},
  ["added mask"] = {half(2, 2, 9, 8), half(2, 2, 21, 8), half(2, 2, 21, 5), half(2, 2, 9, 21)},
  dropout = {half(2, 66, 8), half(2, 35, 8), half(2, 35, 10), nil, 0.3},
  spread = {half(2, 1, 14, 6), half(3, 23, 6), half(23, 6)},
}
for name, args in pairs(BFLOAT16) do
  it("scaled_dot_product_attention in bfloat16 is near that of float64: " .. name, function()
    local got, want = trace(args, "bfloat16"), trace(args, "float64")
    for i, t in ipairs(got) do
      assert.equal("bfloat16", t.dtype)
      local size = want[i]:abs():max():item()
      local gap = (t:to "float64" - want[i]):abs():max():item()
      assert.is_true(gap <= 0.015 * size + 1e-9, ("%d off by %g at %g"):format(i, gap, size))
    end
  end)
end

it("scaled_dot_product_attention in bfloat16 has the same bits with 1 and 2 threads", function()
  local threads = core.num_threads()
  for _, args in pairs(BFLOAT16) do
    core.num_threads(1)
    local alone = trace(args, "bfloat16")
    core.num_threads(2)
    local shared = trace(args, "bfloat16")
    core.num_threads(threads)
    for i, t in ipairs(alone) do assert.equal(t:bytes(), shared[i]:bytes()) end
  end
end)

it("scaled_dot_product_attention in bfloat16 gives zeros for queries that see nothing", function()
  local mask = ops.ones({3, 5}, {dtype = "bool"})
  mask[2] = false
  local all = trace({half(3, 4), half(5, 4), half(5, 2), mask}, "bfloat16")
  assert.same({0, 0}, all[1][2]:totable())
  assert.same({0, 0, 0, 0}, all[2][2]:totable())
  for _, t in ipairs(all) do assert.is_true(ops.isfinite(t):all():item()) end
end)

it("scaled_dot_product_attention in bfloat16 passes NaN on, within a row only", function()
  local q, k = half(3, 4), half(5, 4)
  q[{2, 1}] = 0 / 0
  local y = attention(q, k, k):to "float32"
  assert.is_true(ops.isnan(y[2]):all():item())
  assert.is_true(ops.isfinite(y[1]):all():item() and ops.isfinite(y[3]):all():item())
end)

it("scaled_dot_product_attention in bfloat16 has second gradients", function()
  for _, args in pairs(BFLOAT16) do
    local results = {}
    for i, dtype in ipairs {"bfloat16", "float64"} do
      core.manual_seed(7)
      local given = {table.unpack(args, 1, 7)}
      for j = 1, 3 do
        given[j] = args[j]:to(dtype)
        given[j].requires_grad = true
      end
      if given[4] and given[4].dtype ~= "bool" then given[4] = given[4]:to(dtype) end
      local y = attention(table.unpack(given, 1, 7))
      local g = core.grad({y:square():sum()}, {given[1]}, {create_graph = true})[1]
      g:square():sum():backward()
      results[i] = given[3].grad:to "float64"
    end
    local size = results[2]:abs():max():item()
    assert.is_true((results[1] - results[2]):abs():max():item() <= 0.1 * size + 1e-9)
  end
end)
