-- Functions in Lua, hooks, gradient checks, checkpointing, anomaly mode. Relies on spec/helper.lua.
-- Sources: core/autograd/function.c, lua/binding/autograd.c, lua/perigee/autograd.lua.

local H = require "spec.helper"
local core = require "perigee.core"
local pg = require "perigee"

local function leaf(v, dtype) return pg.tensor(v, {requires_grad = true, dtype = dtype}) end

describe("pg.Function", function()
  local Square = pg.Function {
    name = "square",
    forward = function(ctx, x, k)
      ctx:save_for_backward(x)
      ctx.k = k
      return x * x * k
    end,
    backward = function(ctx, g) return 2 * ctx.k * ctx.saved_tensors[1] * g end,
  }
  it("stands in the graph like an op", function()
    local x = leaf {1, 2, 3}
    local y = Square(x * 2, 3)
    H.same(y, {12, 48, 108})
    y:sum():backward()
    H.same(x.grad, {24, 48, 72})
  end)
  it("records nothing where nothing wants a gradient", function()
    assert.is_false(Square(pg.ones(2), 1).requires_grad)
    pg.no_grad(function() assert.is_false(Square(leaf {1}, 1).requires_grad) end)
  end)
  it("can be differentiated again", function()
    local x = leaf({1.5, -2}, "float64")
    assert.is_true(pg.gradcheck(function(t) return Square(t, 2) end, {x}))
    assert.is_true(pg.gradgradcheck(function(t) return Square(t * t, 2) end, {x}))
  end)
  it("takes several tensors and returns several", function()
    local Both = pg.Function {
      forward = function(ctx, a, b)
        ctx:save_for_backward(a, b)
        return a + b, a * b
      end,
      backward = function(ctx, gs, gp)
        local a, b = table.unpack(ctx.saved_tensors)
        return gs + gp * b, gs + gp * a
      end,
    }
    local a, b = leaf {2}, leaf {5}
    local _, p = Both(a, b)
    p:sum():backward()
    H.same(a.grad, {5})
    H.same(b.grad, {2})
  end)
  it("passes errors and wrong gradients on", function()
    local Bad = pg.Function {
      forward = function(_, x) return x * 1 end,
      backward = function() error "inside" end,
    }
    H.raises(function() Bad(leaf {1}):sum():backward() end, "inside")
    local Wrong = pg.Function {
      forward = function(_, x) return x * 1 end,
      backward = function() return pg.ones(7) end,
    }
    H.raises(function() Wrong(leaf {1}):sum():backward() end, "expected %[1%], got %[7%]")
    H.raises(function() pg.Function {forward = print} end, "backward")
    H.raises(function() pg.Function {forwrd = print} end, "did you mean 'forward'")
  end)
  it("frees what it holds", function()
    local x = leaf {1, 2, 3}
    local function step() Square(x, 1):sum():backward() end
    step()
    collectgarbage() collectgarbage()
    local live = core.memory().live
    for _ = 1, 20 do step() end
    collectgarbage() collectgarbage()
    assert.equal(live, core.memory().live)
  end)
end)

describe("hooks", function()
  it("see the whole gradient and may replace it", function()
    local x = leaf {1, 2}
    local seen
    x:register_hook(function(g) seen = g:clone() return g * 10 end)
    ;(x * 3 + x * 4):sum():backward()
    H.same(seen, {7, 7})
    H.same(x.grad, {70, 70})
  end)
  it("work on results, can be removed, and report errors", function()
    local x = leaf {1, 2}
    local h = x * 2
    local handle = h:register_hook(function(g) return g * 0 end)
    handle.remove()
    h:retain_grad()
    h:sum():backward()
    H.same(x.grad, {2, 2})
    H.same(h.grad, {1, 1})
    local y = leaf {1}
    y:register_hook(function() error "in hook" end)
    H.raises(function() (y * 1):sum():backward() end, "in hook")
    H.raises(function() pg.ones(1):register_hook(print) end, "requires grad")
    local z = leaf {1}
    z:register_hook(function() return pg.ones(2) end)
    H.raises(function() (z * 1):sum():backward() end,
      "a hook's result: expected the gradient's shape %[1%], got %[2%]")
  end)
end)

describe("gradcheck", function()
  it("finds a wrong gradient", function()
    local Wrong = pg.Function {
      forward = function(_, x) return x * x end,
      backward = function(_, g) return g end,
    }
    local x = leaf({1, 2}, "float64")
    H.raises(function() pg.gradcheck(Wrong, {x}) end, "backward says")
    assert.is_false(pg.gradcheck(Wrong, {x}, {raise_exception = false}))
    assert.is_true(pg.gradcheck(function(t) return t:exp() end, {x}))
    H.same(x, {1, 2})
  end)
  it("asks for float64 that requires grad", function()
    H.raises(function() pg.gradcheck(function(t) return t * 2 end, {leaf {1}}) end, "float64")
    H.raises(function() pg.gradcheck(function(t) return t end, {pg.ones(1)}) end, "requires grad")
  end)
end)

describe("checkpoint", function()
  it("gives the same gradients, with dropout too", function()
    local x, w = leaf {{1, 2, 3}}, leaf {{1, 2}, {3, 4}, {5, 6}}
    local function f(t) return pg.nn.functional.dropout(t:matmul(w):tanh() * 3, 0.5) end
    pg.manual_seed(5)
    f(x):sum():backward()
    local gx, gw = x.grad, w.grad
    x.grad, w.grad = nil, nil
    pg.manual_seed(5)
    local y = pg.checkpoint(f, x)
    pg.rand(100)
    y:sum():backward()
    H.identical(x.grad, gx)
    H.identical(w.grad, gw)
  end)
end)

describe("anomaly mode", function()
  it("names the op that makes the first NaN", function()
    local _ <close> = pg.detect_anomaly()
    H.raises(function() return pg.tensor({-1}):log() end, "log: made a NaN")
    local layer = pg.nn.Linear(1, 1)
    pg.no_grad(function() layer.weight:fill_(math.huge) end)
    H.raises(function() return layer(pg.zeros(1, 1)) end, "in layer Linear")
  end)
  it("names the op whose backward does", function()
    local x = leaf {0}
    local y = x:sqrt()
    local _ <close> = pg.detect_anomaly()
    H.raises(function() (y * 0):sum():backward() end, "sqrt: backward made a NaN")
  end)
  it("ends with its block", function()
    assert.is_true(pg.tensor({-1}):log():isnan():item())
  end)
end)
