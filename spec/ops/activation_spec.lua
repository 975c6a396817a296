-- Activation functions, prelu and glu. Source: core/ops/activation.c.
-- Relies on spec/helper.lua and PyTorch's values in spec/fixtures/activation.safetensors.

local core = require "perigee.core"
local H = require "spec.helper"
local ops = core.ops

H.fixtures "activation"

local WRONG = "expected float32, float64 or bfloat16, got int64"

-- draw(t, shape..) gives numbers away from the function's kinks; further arguments follow it.
local function op(name, draw, arguments, more)
  local function args(...)
    local shape = {...}
    return function(t) return {draw(t, shape), table.unpack(arguments or {})} end
  end
  local spec = {
    args = args(3, 5), more = {args(2, 3, 4, 5)}, empty = {args(0, 3), {0, 3}},
    large = function(t)
      return {draw(t, {1, 200}):expand {200, 200}:contiguous(), table.unpack(arguments or {})}
    end,
    wrong_dtype = {function(t) return {t.int(1, 5, 3), table.unpack(arguments or {})} end, WRONG},
  }
  for key, value in pairs(more or {}) do spec[key] = value end
  H.op(name, spec)
end

-- The wrong dtype of a function that takes integers too.
local function whole(more, ...)
  local arguments = {...}
  more = more or {}
  more.wrong_dtype = {
    function(t) return {t.bool(3), table.unpack(arguments)} end,
    "expected float32, float64, bfloat16, int64 or uint8, got bool",
  }
  return more
end

local function away(...)
  local kinks = {...}
  return function(t, shape)
    return H.map(t.randn(shape), function(v)
      v = 2 * v
      for _, kink in ipairs(kinks) do
        if math.abs(v - kink) < 0.05 then v = kink + 0.1 end
      end
      return v
    end)
  end
end
local smooth = away()

op("relu", away(0), nil, whole())
op("relu6", away(0, 6), nil, whole())
op("leaky_relu", away(0), {0.1})
op("elu", away(0), {1.5})
op("selu", away(0))
op("celu", away(0), {1.5})
op("gelu", smooth)
op("silu", smooth)
op("mish", smooth)
op("softplus", smooth, {2, 30})
op("softsign", away(0))
op("hardtanh", away(-1, 1.5), {-1, 1.5}, whole({
  wrong_shape = {
    {function(t) return {t.randn(3), 2, 1} end, "'min_val': expected at most max_val 1, got 2"},
    {function(t) return {t.byte(3), -1, 1} end, "'min_val': expected at least 0 for uint8"},
  },
}, -1, 1.5))
op("hardsigmoid", away(-3, 3))
op("hardswish", away(-3, 3))
op("logsigmoid", smooth)
op("tanhshrink", smooth)
op("softshrink", away(-0.5, 0.5), {0.5}, {
  wrong_shape = {function(t) return {t.randn(3), -1} end, "'lambd'.*got %-1"},
})
op("hardshrink", away(-0.5, 0.5), {0.5})
op("threshold", away(0.1), {0.1, 20}, whole(nil, 0.1, 20))

H.op("gelu", {
  args = function(t) return {t.randn(3, 5), "tanh"} end,
  empty = {function(t) return {t.randn(0, 3), "tanh"} end, {0, 3}},
  wrong_dtype = {function(t) return {t.int(1, 5, 3), "tanh"} end, WRONG},
  wrong_shape = {function(t) return {t.randn(3), "tan"} end, "'approximate'"},
})

H.op("glu", {
  args = function(t) return {t.randn(3, 6)} end,
  more = {
    function(t) return {t.randn(4, 5), 1} end,
    function(t) return {t.randn(2, 4, 5), -2} end,
  },
  large = function(t) return {t.randn(20, 800)} end,
  empty = {function(t) return {t.randn(0, 6)} end, {0, 3}},
  wrong_shape = {
    {function(t) return {t.randn(3, 5)} end, "'input': .*got %[3 x 5%]"},
    {function(t) return {t.randn(3, 4), 3} end, "3"},
  },
  wrong_dtype = {function(t) return {t.int(1, 5, 4)} end, WRONG},
})

H.op("prelu", {
  args = function(t) return {t.away(0, 2, 3, 4), t.randn(3)} end,
  more = {
    function(t) return {t.away(0, 3, 5), t.randn(1)} end,
    function(t) return {t.away(0, 3, 5), t.randn(5)} end,
    function(t) return {t.away(0, 2, 3, 5, 7), t.randn(3)} end,
    function(t) return {t.away(0, 7), t.randn(1)} end,
  },
  large = function(t) return {t.randn(8, 6, 40, 41), t.randn(6)} end,
  empty = {function(t) return {t.randn(0, 3), t.randn(3)} end, {0, 3}},
  wrong_shape = {
    {function(t) return {t.randn(2, 3), t.randn(2)} end, "1 or 3 numbers.*%[2 x 3%], got %[2%]"},
    {function(t) return {t.randn(2, 3), t.randn(3, 1)} end, "%[3 x 1%]"},
  },
  wrong_dtype = {
    {function(t) return {t.int(1, 5, 3), t.randn(1)} end, WRONG},
    {function(t) return {t.randn(3), t.randn(1):to "float64"} end, "'weight'.*got float64"},
  },
})

describe("prelu", function()
  local function both(x, w, g)
    x, w = H.leaf(x), H.leaf(w)
    x.requires_grad, w.requires_grad = true, true
    local y = ops.prelu(x, w)
    core.backward(y, g)
    return y, x.grad, w.grad
  end

  it("gives images in channels-last memory the same results, in that memory", function()
    local t = H.generator("float32", 9)
    local x, w, g = t.randn(5, 37, 9, 11), t.randn(37), t.randn(5, 37, 9, 11)
    local y, gx, gw = both(x, w, g)
    local last = H.layouts.channels_last(x)
    last.requires_grad, w.requires_grad = true, true
    local again = ops.prelu(last, w)
    assert.same(last:stride(), again:stride())
    core.backward(again, H.layouts.channels_last(g))
    assert.same(last:stride(), last.grad:stride())
    H.identical(again, y)
    H.identical(last.grad, gx)
    H.same(w.grad, gw, 1e-4)
  end)

  it("sums its weight's gradient over every other dim", function()
    local t = H.generator("float64", 4)
    for _, shape in ipairs {{3, 2, 15}, {3, 2, 16}, {2, 2, 100}, {600, 2}, {2, 700}} do
      local x, w, g = t.randn(shape), t.randn(shape[2]), t.randn(shape)
      local _, _, gw = both(x, w, g)
      local dims = {}
      for d = 1, #shape do dims[#dims + 1] = d ~= 2 and d or nil end
      H.same(gw, ops.where(x:gt(0), 0, x * g):sum(dims), 1e-12)
    end
  end)
end)

describe("activations", function()
  it("keep the layout of images", function()
    local x = H.layouts.channels_last(H.generator("float32", 2).randn(2, 3, 4, 5))
    for _, name in ipairs {"relu", "gelu", "silu", "elu", "hardswish"} do
      assert.same(x:stride(), ops[name](x):stride())
    end
  end)

  it("gelu of float32 is as near as its normal distribution", function()
    local list = {}
    for i = -4000, 4000 do list[#list + 1] = i * 0.00201 end
    for _, v in ipairs {1e-30, 1e-5, 5.53, 5.5399, 5.541, 6.0499, 6.051, 12, 100, 1e30} do
      list[#list + 1] = v
      list[#list + 1] = -v
    end
    local x = core.tensor(list)
    local wide = x:to "float64"
    x.requires_grad, wide.requires_grad = true, true
    local y, exact = ops.gelu(x), ops.gelu(wide)
    y:sum():backward()
    exact:sum():backward()
    local size = wide:detach():abs()
    local off = (y:detach():to "float64" - exact:detach()):abs()
    assert.is_true((off - 3e-7 * size):max():item() <= 0)
    assert.is_true((x.grad:to "float64" - wide.grad):abs():max():item() <= 4e-7)
  end)

  it("gelu keeps signed zeros, huge numbers and NaN", function()
    for _, dtype in ipairs {"float32", "float64"} do
      local huge = dtype == "float32" and 3e38 or 1e300
      local x = core.tensor({0, -0.0, huge, -huge, 7, -7, math.huge, -math.huge, 0 / 0},
        {dtype = dtype, requires_grad = true})
      local y = ops.gelu(x)
      y:sum():backward()
      local seven = dtype == "float32" and -0.0 or H.values(y)[6] -- at most 1e-11
      assert.is_true(math.abs(seven) < 1e-11)
      H.same(y, {0, -0.0, H.values(x)[3], -0.0, 7, seven, math.huge, 0 / 0, 0 / 0},
        {tol = 1e-10, signs = true})
      H.same(x.grad, {0.5, 0.5, 1, 0, 1, 0, 0 / 0, 0 / 0, 0 / 0}, 1e-9)
    end
  end)

  it("work in place inside a graph", function()
    local x = H.generator("float64", 2).randn(3, 4)
    H.gradcheck(function(v) return ops.relu_(v * 2) end, x)
    H.gradcheck(function(v) return ops.gelu(v * 2) end, x)
    H.gradcheck(function(v) return ops.leaky_relu_(v * 2, 0.3) end, x)
  end)
end)
