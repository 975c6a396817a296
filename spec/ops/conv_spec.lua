--- Convolution: PyTorch's values and gradients, second gradients, memory order, messages.
-- Relies on spec/helper.lua. Source: core/ops/conv.c.

local H = require "spec.helper"
local core = require "perigee.core"
local ops = core.ops

H.fixtures("conv")
H.fixtures("conv_transpose")

-- Arguments x, weight, bias of these shapes, and what follows them.
local function given(x, w, bias, ...)
  local rest = table.pack(...)
  return function(t)
    local list = {t.randn(x), t.randn(w), bias and t.randn(w[1]) or nil, n = 3}
    table.move(rest, 1, rest.n, 4, list)
    list.n = 3 + rest.n
    return list
  end
end

H.op("conv2d", {
  args = given({1, 2, 3, 4}, {3, 2, 3, 2}, true, 1, 1),
  more = {given({2, 4, 5, 4}, {4, 1, 3, 2}, true, {2, 1}, {1, 0}, 1, 4),
    given({1, 2, 7, 6}, {2, 2, 3, 2}, false, 1, {2, 1}, {2, 3}),
    given({2, 2, 5, 5}, {3, 2, 2, 4}, true, 1, "same"),
    given({2, 5, 4}, {4, 2, 3, 3}, true)},
  large = given({4, 4, 9, 9}, {8, 4, 3, 3}, true, 1, 1),
  empty = {given({0, 2, 5, 4}, {4, 2, 3, 3}, true, 1, 1), {0, 4, 5, 4}},
  wrong_shape = {
    {given({2, 3, 5, 5}, {4, 2, 3, 3}, true),
      "'input': .*got %[2 x 3 x 5 x 5%]"},
    {given({5, 5}, {4, 2, 3, 3}, true), "'input': expected 3 or 4 dims, got %[5 x 5%]"},
    {given({2, 2, 5, 5}, {4, 2, 3}, true), "'weight': expected 4 dims, got %[4 x 2 x 3%]"},
    {given({2, 2, 2, 5}, {4, 2, 3, 3}, true), "'weight': .*got %[4 x 2 x 3 x 3%]"},
    {given({2, 3, 5, 5}, {4, 1, 3, 3}, true, 1, 0, 1, 3), "'groups': .*got 3"},
    {given({2, 2, 5, 5}, {4, 2, 3, 3}, true, 0), "'stride': expected at least 1, got 0"},
    {given({2, 2, 5, 5}, {4, 2, 3, 3}, true, {1, 1, 1}),
      "'stride': expected one integer or 2, got 3"},
    {given({2, 2, 5, 5}, {4, 2, 3, 3}, true, 1, -1), "'padding': expected at least 0, got %-1"},
    {given({2, 2, 5, 5}, {4, 2, 3, 3}, true, 1, {1, 2, 3, 4}),
      "'padding': expected one integer or 2, got 4"},
    {given({2, 2, 5, 5}, {4, 2, 3, 3}, true, 2, "same"), "'stride': .*got 2"},
    {given({2, 2, 5, 5}, {4, 2, 3, 3}, true, 1, 1 << 40), "'padding': expected at most"},
    {function(t) return {t.randn(2, 2, 5, 5), t.randn(4, 2, 3, 3), t.randn(3)} end,
      "'bias': expected %[4%], got %[3%]"}},
  wrong_dtype = {
    {function(t) return {t.int(1, 5, {2, 2, 5, 5}), t.randn(4, 2, 3, 3)} end,
      "'input': expected .*, got int64"},
    {function(t) return {t.randn(2, 2, 5, 5), t.int(1, 5, {4, 2, 3, 3})} end,
      "expected float32"}},
  threads = false,
})
H.op("conv1d", {
  args = given({2, 2, 6}, {4, 2, 3}, true, 1, 1),
  more = {given({2, 4, 7}, {4, 2, 3}, true, 2, 2, 2, 2),
    given({2, 7}, {3, 2, 4}, false, 1, "same")},
  empty = {given({2, 2, 6}, {0, 2, 3}, false), {2, 0, 4}},
  wrong_shape = {
    {given({2, 3, 6}, {4, 2, 3}, true), "'input': .*got %[2 x 3 x 6%]"},
    {given({2, 2, 5, 5}, {4, 2, 3}, true), "'input': expected 2 or 3 dims"},
    {given({2, 2, 6}, {4, 2, 3}, true, {1, 2}), "'stride': expected one integer or 1, got 2"}},
  wrong_dtype = {function(t) return {t.randn(2, 2, 5), t.bool(4, 2, 3)} end, "expected float32"},
  threads = false,
})
H.op("conv3d", {
  args = given({1, 2, 3, 2, 3}, {2, 2, 2, 2, 2}, true),
  more = {given({1, 2, 3, 4, 3}, {2, 1, 3, 2, 1}, true, {1, 2, 1}, {1, 0, 1}, {1, 2, 1}, 2)},
  empty = {given({0, 2, 3, 3, 3}, {4, 2, 2, 2, 2}, true), {0, 4, 2, 2, 2}},
  wrong_shape = {given({2, 5, 5}, {4, 2, 3, 3, 3}, true), "'input': expected 4 or 5 dims"},
  wrong_dtype = {function(t) return {t.randn(2, 2, 3, 3, 3), t.bool(4, 2, 3, 3, 3)} end,
    "expected float32"},
  threads = false,
})

-- The same with the weight's first sizes the other way round.
local function turned(x, w, channels, ...)
  local rest = table.pack(...)
  return function(t)
    local list = {t.randn(x), t.randn(w), channels and t.randn(channels) or nil}
    table.move(rest, 1, rest.n, 4, list)
    list.n = 3 + rest.n
    return list
  end
end

H.op("conv_transpose2d", {
  args = turned({1, 2, 3, 2}, {2, 3, 3, 2}, 3, 2, 1, 1),
  more = {turned({2, 4, 3, 3}, {4, 2, 2, 3}, 4, {2, 1}, 0, 0, 2), turned({2, 2, 3}, {2, 2, 2, 2}),
    turned({1, 2, 3, 3}, {2, 2, 2, 2}, 2, 1, 1, {1, 0}, 1, 2)},
  empty = {turned({0, 2, 3, 2}, {2, 3, 3, 2}, 3), {0, 3, 5, 3}},
  wrong_shape = {
    {turned({2, 3, 5, 5}, {4, 2, 3, 3}, 2), "'input': .*got %[2 x 3 x 5 x 5%]"},
    {turned({2, 4, 5, 5}, {4, 2, 3, 3}, 4), "'bias': expected %[2%], got %[4%]"},
    {turned({2, 4, 5, 5}, {4, 2, 3, 3}, 2, 2, 0, 2),
      "'output_padding': expected less than stride 2 or dilation 1, got 2"},
    {turned({2, 4, 5, 5}, {4, 2, 3, 3}, 2, 1, 0, 0, 3), "'groups': .*got 3"},
    {turned({2, 4, 1, 5}, {4, 2, 3, 3}, 2, 1, 2), "'padding': .*got 2"},
    {turned({2, 4, 0, 5}, {4, 2, 3, 3}, 2), "'input': .*got %[2 x 4 x 0 x 5%]"}},
  wrong_dtype = {function(t) return {t.int(1, 5, {2, 2, 3, 3}), t.randn(2, 2, 3, 3)} end,
    "'input': expected .*, got int64"},
  threads = false,
})
H.op("conv_transpose1d", {
  args = turned({2, 2, 4}, {2, 3, 3}, 3, 2, 1, 1),
  empty = {turned({0, 2, 3}, {2, 3, 2}), {0, 3, 4}},
  wrong_shape = {turned({2, 2, 4, 4}, {2, 3, 3}, 3), "'input': expected 2 or 3 dims"},
  wrong_dtype = {function(t) return {t.randn(2, 2, 3), t.bool(2, 2, 3)} end, "expected float32"},
  threads = false,
})
H.op("conv_transpose3d", {
  args = turned({1, 2, 2, 2, 2}, {2, 2, 2, 1, 2}, 2, {2, 1, 1}),
  empty = {turned({0, 2, 2, 2, 2}, {2, 2, 2, 1, 2}), {0, 2, 3, 2, 3}},
  wrong_shape = {turned({2, 2, 4}, {2, 3, 3, 3, 3}, 3), "'input': expected 4 or 5 dims"},
  wrong_dtype = {function(t) return {t.randn(1, 2, 2, 2, 2), t.bool(2, 2, 2, 1, 2)} end,
    "expected float32"},
  threads = false,
})

-- y by the definition: a window of products for each output.
local function naive(x, w, bias, stride, pad, dilation, groups)
  local X, W, B = H.values(x), H.values(w), bias and H.values(bias)
  local n, ic, ih, iw = table.unpack(x.shape)
  local oc, per, kh, kw = table.unpack(w.shape)
  local oh = (ih + 2 * pad - dilation * (kh - 1) - 1) // stride + 1
  local ow = (iw + 2 * pad - dilation * (kw - 1) - 1) // stride + 1
  local out = {}
  for b = 0, n - 1 do for o = 0, oc - 1 do for y = 0, oh - 1 do for z = 0, ow - 1 do
    local sum = B and B[o + 1] or 0
    local first = o // (oc // groups) * per
    for i = 0, per - 1 do for ky = 0, kh - 1 do for kx = 0, kw - 1 do
      local iy, ix = y * stride - pad + ky * dilation, z * stride - pad + kx * dilation
      if iy >= 0 and iy < ih and ix >= 0 and ix < iw then
        sum = sum + X[((b * ic + first + i) * ih + iy) * iw + ix + 1]
          * W[((o * per + i) * kh + ky) * kw + kx + 1]
      end
    end end end
    out[#out + 1] = sum
  end end end end
  return H.make(out, x.dtype, {n, oc, oh, ow})
end

describe("conv2d", function()
  it("matches its definition", function()
    for _, t in ipairs {H.t, H.t64} do
      for _, s in ipairs {{1, 0, 1, 1}, {2, 1, 1, 1}, {1, 2, 2, 1}, {1, 1, 1, 2}, {3, 2, 1, 4}} do
        local stride, pad, dilation, groups = table.unpack(s)
        local x, w, b = t.randn(2, 4, 7, 6), t.randn(8, 4 // groups, 3, 3), t.randn(8)
        H.same(ops.conv2d(x, w, b, stride, pad, dilation, groups),
          naive(x, w, b, stride, pad, dilation, groups))
      end
    end
  end)

  it("matches its definition where kernels reach beyond the image, with gradients", function()
    local t, count = H.t64, 0
    for at = 0, 3 ^ 2 * 4 * 4 * 3 * 3 - 1 do
      local ih, iw = at % 3 + 1, at // 3 % 3 + 1
      local k, pad = at // 9 % 4 + 1, at // 36 % 4
      local stride, dilation = at // 144 % 3 + 1, at // 432 + 1
      local groups = at % 5 == 0 and 2 or 1
      local span = math.min(ih, iw) + 2 * pad - dilation * (k - 1) - 1
      if k > 1 and span >= 0 and at % 3 == at // 100 % 3 then
        count = count + 1
        local x, w, b = t.randn(2, 2, ih, iw), t.randn(4, 2 // groups, k, k), t.randn(4)
        x.requires_grad, w.requires_grad, b.requires_grad = true, true, true
        local y = ops.conv2d(x, w, b, stride, pad, dilation, groups)
        H.same(y, naive(x, w, b, stride, pad, dilation, groups))
        local g = ops.randn_like(y)
        core.backward(y, g)
        -- y is linear in x and in w: a gradient times anything is g times what y makes of that
        local dx, dw = ops.randn_like(x), ops.randn_like(w)
        local ydx = naive(dx, w, nil, stride, pad, dilation, groups)
        local ydw = naive(x, dw, nil, stride, pad, dilation, groups)
        H.same((x.grad * dx):sum(), (g * ydx):sum())
        H.same((w.grad * dw):sum(), (g * ydw):sum())
        H.same(b.grad, g:sum {1, 3, 4})
        local xf, wf = x:detach():to "float32", w:detach():to "float32"
        H.same(ops.conv2d(xf, wf, nil, stride, pad, dilation, groups),
          naive(xf, wf, nil, stride, pad, dilation, groups))
      end
    end
    assert.is_true(count > 100)
  end)

  it("gives images with channels next to one another in memory", function()
    for _, t in ipairs {H.t, H.t64} do
      local y = ops.conv2d(t.randn(2, 3, 6, 5), t.randn(4, 3, 3, 3))
      assert.same({48, 1, 12, 4}, y:stride())
      local x = t.randn(2, 3, 6, 5)
      x.requires_grad = true
      core.backward(ops.conv2d(x, t.randn(4, 3, 3, 3)):sum())
      assert.same({90, 1, 15, 3}, x.grad:stride())
    end
  end)

  it("gives a weight gradient that is contiguous, as the weight is", function()
    local w = H.randn(4, 3, 3, 3)
    w.requires_grad = true
    core.backward(ops.conv2d(H.randn(2, 3, 6, 5), w):sum())
    assert.same(w:stride(), w.grad:stride())
  end)

  it("gives only the gradients that are asked for", function()
    local shapes = {{2, 3, 6, 5}, {4, 3, 3, 3}, {4}}
    for mask = 1, 7 do
      local leaf = {}
      for k, shape in ipairs(shapes) do
        leaf[k] = H.randn(shape)
        leaf[k].requires_grad = mask >> (k - 1) & 1 == 1
      end
      core.backward(ops.conv2d(leaf[1], leaf[2], leaf[3]):sum())
      for k in ipairs(shapes) do
        assert.equal(mask >> (k - 1) & 1 == 1, leaf[k].grad ~= nil)
      end
    end
  end)

  it("is the bias where there are no input channels", function()
    local y = ops.conv2d(H.randn(2, 0, 3, 3), H.randn(2, 0, 3, 3), core.tensor {3, 4}, 1, 1)
    assert.same({2, 2, 3, 3}, y.shape)
    H.same(y:sum(), 2 * 9 * 7)
  end)

  it("computes in bfloat16 with sums in float32", function()
    local function narrow(t) return t:to "bfloat16" end
    local shapes = {{2, 8, 6, 6}, {4, 8, 3, 3}, {4}}
    for _, case in ipairs {{"conv2d", {2, 4, 6, 6}}, {"conv_transpose2d", {2, 8, 6, 6}}} do
      local name, found = case[1], {}
      for n, dtype in ipairs {"float32", "bfloat16"} do
        H.reseed()
        local leaf = {}
        for k, shape in ipairs(shapes) do
          if k == 2 and name ~= "conv2d" then shape = {8, 4, 3, 3} end
          leaf[k] = narrow(H.randn(shape)):to(dtype)
          leaf[k].requires_grad = true
        end
        local y = core.ops[name](leaf[1], leaf[2], leaf[3], 1, 1)
        assert.equal(dtype, y.dtype)
        core.backward(y, narrow(H.cotangent(y:to "float32", 1)):to(dtype))
        found[n] = {y:detach(), leaf[1].grad, leaf[2].grad, leaf[3].grad}
      end
      for k, exact in ipairs(found[1]) do
        assert.equal("bfloat16", found[2][k].dtype)
        H.same(found[2][k]:to "float32", exact, 0.03)
      end
    end
  end)

  it("takes many shapes one after another", function()
    for n = 1, 12 do
      local x, w = H.randn(n, 2, 5, 5), H.randn(3, 2, 3, 3)
      H.same(ops.conv2d(x, w, nil, 1, 1), naive(x, w, nil, 1, 1, 1, 1))
    end
  end)
end)
