-- autocast: which ops it lowers and widens, gradients, scopes, the kept copies of weights; and the
-- choice among ways to convolve.
-- Relies on perigee. Sources: core/autograd/apply.c, core/autograd/backward.c, core/base/choice.c,
-- lua/binding/scope.c.

local H = require "spec.helper"
local core = require "perigee.core"
local pg = require "perigee"
local F = pg.nn.functional

local function leaf(...)
  local t = pg.randn(...)
  t.requires_grad = true
  return t
end

-- Largest difference as a part of the largest element.
local function gap(a, b)
  a, b = a:detach():float(), b:detach():float()
  return (a - b):abs():max():item() / b:abs():max():item()
end

describe("autocast", function()
  before_each(function() pg.manual_seed(4) end)

  it("lasts until its scope closes, and nests", function()
    assert.is_false(pg.is_autocast_enabled())
    do
      local _ <close> = pg.autocast "bfloat16"
      assert.is_true(pg.is_autocast_enabled())
      do
        local _ <close> = pg.autocast "float32"
        assert.is_false(pg.is_autocast_enabled())
        assert.equal("float32", pg.randn(2, 3):matmul(pg.randn(3, 2)).dtype)
      end
      assert.is_true(pg.is_autocast_enabled())
    end
    assert.is_false(pg.is_autocast_enabled())
    assert.is_false(pcall(function()
      local _ <close> = pg.autocast "bfloat16"
      error "out"
    end))
    assert.is_false(pg.is_autocast_enabled())
  end)

  it("runs a function and returns its results", function()
    local dtype, more = pg.autocast("bfloat16", function(a, b)
      return a:matmul(b).dtype, pg.is_autocast_enabled()
    end, pg.randn(2, 3), pg.randn(3, 2))
    assert.equal("bfloat16", dtype)
    assert.is_true(more)
    assert.is_false(pg.is_autocast_enabled())
    H.raises(function() pg.autocast("bfloat16", error, "inside") end, "inside")
    assert.is_false(pg.is_autocast_enabled())
    H.raises(function() pg.autocast "float16" end,
      "expected 'bfloat16' or 'float32', got 'float16'")
  end)

  it("lowers products, and widens losses, softmax and sums", function()
    local _ <close> = pg.autocast "bfloat16"
    local x, image = pg.randn(4, 6), pg.randn(2, 3, 5, 5)
    local function gives(dtype, y) assert.equal(dtype, y.dtype) end
    gives("bfloat16", x:matmul(x:t()))
    gives("bfloat16", F.linear(x, pg.randn(2, 6), pg.randn(2)))
    gives("bfloat16", pg.bmm(pg.randn(2, 3, 4), pg.randn(2, 4, 3)))
    gives("bfloat16", pg.addmm(pg.randn(3), x:t(), pg.randn(4, 3)))
    gives("bfloat16", F.conv2d(image, pg.randn(4, 3, 3, 3)))
    gives("bfloat16", F.conv_transpose2d(image, pg.randn(3, 4, 3, 3)))
    gives("bfloat16", pg.einsum("ij,kj->ik", x, x))
    gives("float64", x:double():matmul(x:double():t()))
    gives("float32", x + x)
    gives("float32", F.relu(x))
    local half = x:to "bfloat16"
    gives("bfloat16", half + half)
    gives("float32", half + x)
    gives("bfloat16", F.gelu(half))
    gives("bfloat16", F.layer_norm(half, {6}, pg.ones(6), pg.zeros(6)))
    gives("float32", half:softmax(2))
    gives("float32", half:sum())
    gives("float32", F.mse_loss(half, x))
    gives("float32", F.cross_entropy(half, pg.tensor({1, 2, 3, 6}, {dtype = "int64"})))
    gives("float32", pg.cdist(half, half))
    gives("int64", x:to "int64":matmul(x:to "int64":t()))
  end)

  it("leaves weights and their gradients in float32, without rounding", function()
    local x, w, b = pg.randn(64, 30), leaf(20, 30), leaf(20)
    local function loss() return F.linear(x, w, b):float():square():mean() end
    loss():backward()
    local full, full_bias = w.grad, b.grad
    w.grad, b.grad = nil, nil
    pg.autocast("bfloat16", loss):backward()
    assert.equal("float32", w.dtype)
    assert.equal("float32", w.grad.dtype)
    assert.is_true(gap(w.grad, full) < 0.02)
    assert.is_true(gap(b.grad, full_bias) < 0.02)
    assert.is_true(gap(w.grad:to "bfloat16", w.grad) > 1e-4) -- it has more bits than bfloat16
    local image, kernel = pg.randn(4, 8, 6, 6), leaf(16, 8, 3, 3)
    pg.autocast("bfloat16", F.conv2d, image, kernel):float():square():mean():backward()
    assert.equal("float32", kernel.grad.dtype)
    assert.is_true(gap(kernel.grad:to "bfloat16", kernel.grad) > 1e-4)
  end)

  it("sees a weight that changed between two products", function()
    local x, w = pg.ones(2, 3), leaf(4, 3)
    local _ <close> = pg.autocast "bfloat16"
    local before = F.linear(x, w):float()
    assert.equal(0, gap(F.linear(x, w), before))
    pg.no_grad(function() w:mul_(2) end)
    assert.equal(0, gap(F.linear(x, w), before * 2))
  end)

  it("gives the same gradient inside its scope and after it", function()
    local x, w = pg.randn(5, 8), leaf(8, 8)
    local y = pg.autocast("bfloat16", function() return x:matmul(w):softmax(2):square():sum() end)
    y:backward(nil, {retain_graph = true})
    local after = w.grad
    w.grad = nil
    pg.autocast("bfloat16", function() y:backward() end)
    assert.equal(after:bytes(), w.grad:bytes())
  end)

  it("keeps no copy of a weight that has its gradient", function()
    local x, w = core.ops.randn {4, 64}, core.ops.randn {512, 64}
    w.requires_grad = true
    local function live()
      collectgarbage()
      collectgarbage()
      return core.memory().live
    end
    local function step()
      local _ <close> = core.scope()
      local _ <close> = core.autocast "bfloat16"
      core.backward(core.ops.linear(x, w):sum())
      w.grad = nil
    end
    step()
    local before = live()
    do
      local _ <close> = core.scope()
      local _ <close> = core.autocast "bfloat16"
      core.ops.linear(x, w)
    end
    assert.is_true(live() >= before + 2 * 512 * 64)
    step()
    assert.equal(before, live())
  end)

  it("works without gradients and for shapes only", function()
    local w = leaf(4, 3)
    local _ <close> = pg.autocast "bfloat16"
    local y = pg.no_grad(function() return F.linear(pg.randn(2, 3), w) end)
    assert.equal("bfloat16", y.dtype)
    assert.is_false(y.requires_grad)
    local only = F.linear(core.meta("float32", {2, 3}), core.meta("float32", {4, 3}))
    assert.equal("bfloat16", only.dtype)
    assert.equal("bfloat16", pg.cumsum(only, 1).dtype)
    assert.equal("float32", pg.sum(only, 1).dtype)
  end)

  it("has second gradients", function()
    local x, w = leaf(6, 5), leaf(5, 4)
    local function second(body)
      x.grad, w.grad = nil, nil
      local y = body()
      local g = pg.grad(y, {x}, {create_graph = true})[1]
      g:square():sum():backward()
      return w.grad, x.grad
    end
    local function body() return x:matmul(w):float():pow(3):sum() end
    local fw, fx = second(body)
    local hw, hx = second(function() return pg.autocast("bfloat16", body) end)
    assert.equal("float32", hw.dtype)
    assert.is_true(gap(hw, fw) < 0.05)
    assert.is_true(gap(hx, fx) < 0.05)
  end)

  it("gives back all memory, also where an allocation fails", function()
    local x, w = pg.randn(3, 2, 6, 6), leaf(4, 2, 3, 3)
    local function step()
      pg.autocast("bfloat16", function()
        return F.layer_norm(F.gelu(F.conv2d(x, w)), {4, 4}):softmax(2):square():sum()
      end):backward()
      w.grad = nil
      pg.no_grad(function() w:mul_(1) end)
    end
    local function live()
      collectgarbage() collectgarbage()
      return core.memory().live
    end
    for _ = 1, 3 do step() end
    local before, n, ok = live(), 0
    repeat
      n = n + 1
      core.fail_after(n)
      local message
      ok, message = pcall(step)
      core.fail_after(-1)
      w.grad = nil
      if not ok then assert.is_truthy(tostring(message):find "out of memory", message) end
    until ok or n > 2000
    assert.is_true(ok)
    step()
    assert.equal(before, live())
  end)
end)

describe("ops without loops for bfloat16", function()
  it("change a tensor in place in float32, rounded once", function()
    local x = pg.randn(4, 6):to "bfloat16"
    local y = x:clone()
    assert.is_true(rawequal(y, y:cumsum_(2)))
    assert.equal(x:cumsum(2):bytes(), y:bytes())
    local w = leaf(4, 6)
    local z = w:to "bfloat16"
    z:mul_(2):cumsum_(2)
    z:sum():backward()
    assert.same({12, 10, 8, 6, 4, 2}, w.grad[1]:totable())
  end)
end)
