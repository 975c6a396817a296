--- Pooling: PyTorch's values and gradients, ties and NaN, both memory orders, messages.
-- Relies on spec/helper.lua. Source: core/ops/pool.c.

local H = require "spec.helper"
local core = require "perigee.core"
local ops = core.ops

H.fixtures("pool")

local function distinct(shape, ...)
  local rest = table.pack(...)
  return function(t)
    local list = {t.distinct(shape), n = 1 + rest.n}
    table.move(rest, 1, rest.n, 2, list)
    return list
  end
end

local no_pixels = "'input': expected images with pixels, got %[2 x 3 x 0 x 4%]"
local got_ints = "'input': expected .*, got int64"
local whole = {function(t) return {t.int(1, 5, {2, 3, 4, 4}), 2} end, got_ints}
local flat = {function(t) return {t.int(1, 5, {2, 3, 4}), 2} end, got_ints}

H.op("max_pool2d", {
  args = distinct({2, 2, 5, 6}, 2),
  more = {distinct({2, 3, 5, 5}, 3, 2, 1), distinct({1, 2, 6, 5}, {2, 3}, 1, 0, {2, 1}),
    distinct({3, 5, 5}, 2, 2, 0, 1, true)},
  large = distinct({5, 70, 9, 9}, 3, 2, 1),
  empty = {distinct({0, 3, 4, 4}, 2), {0, 3, 2, 2}},
  wrong_shape = {{distinct({4, 4}, 2), "'input': expected 3 or 4 dims, got %[4 x 4%]"},
    {distinct({2, 3, 0, 4}, 2), no_pixels},
    {distinct({2, 3, 4, 4}, 5), "'kernel_size': .*got 5"},
    {distinct({2, 3, 4, 4}, 2, 0), "'stride': expected at least 1, got 0"},
    {distinct({2, 3, 4, 4}, {2, 2, 2}), "'kernel_size': expected one integer or 2, got 3"},
    {distinct({2, 3, 4, 4}, 3, 1, 2), "'padding': expected at most half of the kernel of 3, got 2"},
    {distinct({2, 3, 4, 4}, 1 << 40), "'kernel_size': expected at most"},
    {distinct({2, 3, 4, 4}, 1 << 20, 1, 1 << 19), "'kernel_size': .*got 1048576"}},
  wrong_dtype = whole,
})
H.op("max_pool1d", {
  args = distinct({2, 2, 7}, 2), more = {distinct({2, 3, 9}, 3, 2, 1, 2, true)},
  empty = {distinct({0, 3, 4}, 2), {0, 3, 2}},
  wrong_shape = {distinct({2, 3, 4}, {2, 2}), "'kernel_size': expected one integer or 1, got 2"},
  wrong_dtype = flat,
})
H.op("avg_pool2d", {
  args = distinct({2, 2, 5, 6}, 2),
  more = {distinct({2, 3, 5, 5}, 3, 2, 1), distinct({2, 3, 5, 5}, 3, 2, 1, true, false),
    distinct({3, 5, 5}, {2, 3}, {1, 2}, 0, false, true, 4)},
  large = distinct({5, 70, 9, 9}, 3, 2, 1),
  empty = {distinct({0, 3, 4, 4}, 2), {0, 3, 2, 2}},
  wrong_shape = {{distinct({2, 3, 0, 4}, 2), no_pixels},
    {distinct({2, 3, 4, 4}, 3, 1, 2), "'padding': expected at most half of the kernel of 3, got 2"},
    {distinct({2, 3, 4, 4}, 2, 2, 0, false, true, 0), "'divisor_override': .*got 0"}},
  wrong_dtype = whole,
})
H.op("avg_pool1d", {
  args = distinct({2, 2, 7}, 3, 2, 1), more = {distinct({2, 3, 8}, 3, 2, 1, true, false)},
  empty = {distinct({0, 3, 4}, 2), {0, 3, 2}},
  wrong_shape = {distinct({2, 3, 4}, 5), "a kernel that fits .*, got 5"}, wrong_dtype = flat,
})
H.op("lp_pool2d", {
  args = function(t) return {t.positive(2, 2, 4, 5), 3, 2} end,
  more = {function(t) return {t.positive(2, 5, 5), 2, {2, 3}, 2, true} end},
  empty = {function(t) return {t.randn(0, 3, 4, 4), 2, 2} end, {0, 3, 2, 2}},
  wrong_shape = {{distinct({2, 3, 4, 4}, 2, 5), "a kernel that fits .*, got 5"},
    {distinct({2, 3, 4, 4}, 0, 2), "'norm_type': expected a number but 0, got 0"}},
  wrong_dtype = {function(t) return {t.int(1, 5, {2, 3, 4, 4}), 2, 2} end, got_ints},
})
H.op("lp_pool1d", {
  args = function(t) return {t.positive(2, 2, 5), 3, 2} end,
  empty = {function(t) return {t.randn(0, 3, 4), 2, 2} end, {0, 3, 2}},
  wrong_shape = {distinct({4}, 2, 2), "'input': expected 2 or 3 dims, got %[4%]"},
  wrong_dtype = {function(t) return {t.int(1, 5, {2, 3, 4}), 2, 2} end, got_ints},
})
for _, kind in ipairs {"avg", "max"} do
  H.op("adaptive_" .. kind .. "_pool2d", {
    args = distinct({2, 2, 5, 6}, {3, 4}),
    more = {distinct({3, 5, 4}, 1), distinct({2, 1, 2, 2}, 3)},
    large = distinct({5, 70, 9, 9}, 4),
    empty = {distinct({0, 3, 4, 4}, 2), {0, 3, 2, 2}},
    wrong_shape = {{distinct({2, 3, 0, 4}, 2), no_pixels},
      {distinct({2, 3, 4, 4}, {2, 0}), "'output_size': expected at least 1, got 0"}},
    wrong_dtype = whole,
  })
  H.op("adaptive_" .. kind .. "_pool1d", {
    args = distinct({2, 2, 7}, 3), empty = {distinct({0, 3, 4}, 2), {0, 3, 2}},
    wrong_shape = {distinct({4}, 2), "'input': expected 2 or 3 dims, got %[4%]"},
    wrong_dtype = flat,
  })
end

local function channels_last(t)
  return t:permute {1, 3, 4, 2}:contiguous():permute {1, 4, 2, 3}
end

describe("pooling", function()
  it("keeps the memory order of its input, forward and backward", function()
    for _, name in ipairs {"max_pool2d", "avg_pool2d"} do
      local x = H.randn(2, 3, 4, 6)
      assert.same({18, 6, 3, 1}, ops[name](x, 2):stride())
      local last = channels_last(x)
      last.requires_grad = true
      local y = ops[name](last, 2)
      assert.same({18, 1, 9, 3}, y:stride())
      core.backward(y, channels_last(H.randn(2, 3, 2, 3)))
      assert.same({72, 1, 18, 3}, last.grad:stride())
    end
  end)

  it("computes the same in both memory orders, whatever the sizes", function()
    local function check(name, c, size, k, stride)
      local results, grads = {}, {}
      local x = H.t.distinct(1, c, size[1], size[2])
      for n, layout in ipairs {function(t) return t end, channels_last} do
        local leaf = layout(x:detach())
        leaf.requires_grad = true
        results[n] = ops[name](leaf, k, stride, k // 2)
        core.backward(results[n], H.cotangent(results[n], 1))
        grads[n] = leaf.grad
      end
      H.same(results[2], results[1], 1e-6)
      H.same(grads[2], grads[1], 1e-6)
    end
    for _, name in ipairs {"max_pool2d", "avg_pool2d"} do
      for _, c in ipairs {2, 64, 65} do
        for _, size in ipairs {{4, 4}, {7, 5}, {3, 70}} do
          for k = 1, 3 do check(name, c, size, k, k == 1 and 2 or k) end
          check(name, c, size, 3, 1)
        end
      end
      check(name, 3, {1, 1}, 1, 1)
    end
  end)

  it("sends the gradient to the first of equal values", function()
    for _, layout in ipairs {function(t) return t end, channels_last} do
      local x = layout(ops.zeros(1, 2, 2, 2))
      x.requires_grad = true
      core.backward(ops.max_pool2d(x, 2):sum())
      H.same(x.grad, {{{{1, 0}, {0, 0}}, {{1, 0}, {0, 0}}}})
    end
  end)

  it("passes NaN on, wherever it stands in the window", function()
    for at = 1, 4 do
      local values = {1, 2, 3, 4}
      values[at] = 0 / 0
      local y = ops.max_pool1d(core.tensor {{values}}, 4):item()
      assert.is_true(y ~= y)
    end
  end)

  it("gives -inf and no gradient where a window has only padding", function()
    local x = H.randn(1, 1, 4)
    x.requires_grad = true
    local y = ops.max_pool1d(x, 2, 1, 1, 5)
    H.same(y, {{{-math.huge}}})
    core.backward(y:sum())
    H.same(x.grad, {{{0, 0, 0, 0}}})
  end)

  it("takes kernels with more than 256 taps", function()
    local x = H.t64.distinct(1, 2, 20, 20)
    x.requires_grad = true
    local y = ops.max_pool2d(x, 17, 3)
    H.same(y, ops.max_pool2d(channels_last(x:detach()), 17, 3))
    H.gradcheck(function(t) return ops.avg_pool2d(t, 17, 3) end, H.t64.randn(1, 1, 18, 18))
    core.backward(y:sum())
    H.same(x.grad:sum(), y:numel())
  end)
end)

it("2 x 2 windows give the same in rows and in lanes of channels", function()
  core.manual_seed(6)
  for _, size in ipairs {{2, 2}, {8, 8}, {28, 14}, {4, 80}, {2, 512}, {2, 514}} do
    local h, w = table.unpack(size)
    local x = ops.randint(0, 3, {3, 5, h, w}):to "float32" -- many equal ones
    x[{1, 1, 1, 2}] = 0 / 0
    local last = x:permute(1, 3, 4, 2):contiguous():permute(1, 4, 2, 3)
    for _, pool in ipairs {
      function(t) return ops.max_pool2d(t, 2) end,
      function(t) return ops.avg_pool2d(t, 2) end,
      function(t) return ops.adaptive_avg_pool2d(t, 1) end,
      function(t) return ops.adaptive_max_pool2d(t, {h // 2, w // 2}) end,
    } do
      local grads, values = {}, {}
      for i, source in ipairs {x, last} do
        local t = source:detach()
        t.requires_grad = true
        values[i] = pool(t)
        values[i]:backward(ops.randn(values[i].shape):mul(0):add(1.5))
        grads[i] = t.grad:contiguous()
      end
      H.same(values[1], values[2]:contiguous(), 1e-6)
      H.same(grads[1], grads[2], 1e-6)
    end
    local _, one = ops.max_pool2d(x, 2, {return_indices = true})
    local _, two = ops.max_pool2d(last, 2, {return_indices = true})
    H.same(one, two:contiguous())
  end
end)
