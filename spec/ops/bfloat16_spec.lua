-- bfloat16 tensors and autocast against PyTorch (spec/fixtures/bfloat16.py): values and gradients
-- within one unit of bfloat16 in the last place at the scale of the largest element.
-- Relies on perigee. Sources: core/autograd/apply.c, core/ops/loops.h.

local pg = require "perigee"
local F = pg.nn.functional

local FUNCTIONS = {
  add = pg.add, sub = pg.sub, mul = pg.mul, div = pg.div, exp = pg.exp, log = pg.log,
  sqrt = pg.sqrt, tanh = pg.tanh, sigmoid = pg.sigmoid, relu = F.relu, gelu = F.gelu,
  silu = F.silu, leaky_relu = F.leaky_relu, prelu = F.prelu, linear = F.linear,
  matmul = pg.matmul, bmm = pg.bmm, cross_entropy = F.cross_entropy,
  scale = function(x) return x * 0.1 end,
  ["from one"] = function(x) return 1 - x end,
  softmax = function(x) return x:softmax(2) end,
  log_softmax = function(x) return x:log_softmax(2) end,
  sum = function(x) return x:sum(2) end,
  mean = function(x) return x:mean(1) end,
  cumsum = function(x) return x:cumsum(2) end,
  layer_norm = function(x, w, b) return F.layer_norm(x, {16}, w, b) end,
  batch_norm = function(x, w, b) return F.batch_norm(x, nil, nil, w, b, true) end,
  max_pool2d = function(x) return F.max_pool2d(x, 2) end,
  ["max_pool2d over"] = function(x) return F.max_pool2d(x, 3, 2, 1) end,
  avg_pool2d = function(x) return F.avg_pool2d(x, 2) end,
  conv2d = function(x, w, b) return F.conv2d(x, w, b, {padding = 1}) end,
  cat = function(a, b) return pg.cat({a, b}, 2) end,
}

local AUTOCAST = {
  lenet = function(x, w1, b1, a, w2, b2, w3, b3, label)
    local h = F.max_pool2d(F.prelu(F.conv2d(x, w1, b1, {padding = 2}), a), 2)
    h = F.linear(h:flatten(2), w2, b2):tanh()
    return F.cross_entropy(F.linear(h, w3, b3), label)
  end,
  attention = function(x, ...)
    local parts = {}
    for i, w in ipairs {...} do
      parts[i] = F.linear(x, w):view(2, 5, 2, 4):transpose(2, 3)
    end
    return F.scaled_dot_product_attention(table.unpack(parts)):float():square():mean()
  end,
}

local fixture = assert(pg.load "spec/fixtures/bfloat16.safetensors")

local function near(actual, expected, what, tol)
  assert.equal(expected.dtype, actual.dtype, what)
  assert.same(expected.shape, actual.shape, what)
  local a, e = actual:detach():double(), expected:double()
  local gap, scale = (a - e):abs():max():item(), e:abs():max():item()
  assert.is_true(gap <= scale * tol, ("%s: off by %g at scale %g"):format(what, gap, scale))
end

local function check(name, fn, tol, layout)
  local leaves = {}
  while fixture[("%s/%d"):format(name, #leaves + 1)] do
    local x = fixture[("%s/%d"):format(name, #leaves + 1)]:clone()
    if layout and x:dim() == 4 then x = layout(x) end
    if x.dtype ~= "int64" then x.requires_grad = true end
    leaves[#leaves + 1] = x
  end
  assert.is_true(#leaves > 0, name)
  local y = fn(table.unpack(leaves))
  y:backward(fixture[name .. "/g"])
  near(y, fixture[name .. "/y"], name, tol)
  for i, x in ipairs(leaves) do
    local grad = fixture[("%s/d%d"):format(name, i)]
    if grad then near(x.grad, grad, ("%s, gradient %d"):format(name, i), tol) end
  end
end

describe("bfloat16 as PyTorch has it", function()
  for name, fn in pairs(FUNCTIONS) do
    it(name, function() check(name, fn, 1 / 128) end)
    it(name .. " of images that lie channels last", function()
      check(name, fn, 1 / 128, function(x)
        return x:permute(1, 3, 4, 2):contiguous():permute(1, 4, 2, 3)
      end)
    end)
  end
end)

describe("autocast as PyTorch has it", function()
  for name, fn in pairs(AUTOCAST) do
    it(name, function()
      check("autocast " .. name, function(...)
        local _ <close> = pg.autocast "bfloat16"
        return fn(...)
      end, 1 / 50)
    end)
  end
end)
