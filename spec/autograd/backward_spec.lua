-- The engine: accumulation, long chains, freeing, errors, second derivatives, pg.grad.
-- Relies on spec/helper.lua. Sources: core/autograd/backward.c, core/autograd/apply.c.

local H = require "spec.helper"
local core = require "perigee.core"

local function leaf(v) return core.tensor(v, {requires_grad = true}) end

describe("backward", function()
  it("adds the gradients of several uses", function()
    local x = leaf {2, 3}
    local y = (x * x + x):sum()
    y:backward()
    H.same(x.grad, {5, 7})
    ;(x * 2):sum():backward()
    H.same(x.grad, {7, 9})
  end)

  it("sums over broadcast dims", function()
    local a, b = leaf {{1, 2, 3}, {4, 5, 6}}, leaf {{1}, {2}}
    ;(a * b):sum():backward()
    H.same(b.grad, {{6}, {15}})
    H.same(a.grad, {{1, 1, 1}, {2, 2, 2}})
  end)

  --- backward twice through f(leaves) gives twice the gradients, and the sum of two uses.
  local function adds(f, ...)
    local leaves, once = {...}, {}
    f(...):sum():backward()
    for i, t in ipairs(leaves) do
      once[i] = t.grad:clone()
      do
        local grad = t.grad
        f(...):sum():backward()
        H.same(t.grad, once[i] * 2, 1e-12)
        H.same(grad, once[i] * 2, 1e-12)
      end
      collectgarbage()
      for _, other in ipairs(leaves) do other.grad = nil end
      f(...):sum():backward()
      f(...):sum():backward()
      H.same(t.grad, once[i] * 2, 1e-12)
      for _, other in ipairs(leaves) do other.grad = nil end
      ;(f(...) + f(...)):sum():backward()
      H.same(t.grad, once[i] * 2, 1e-12)
      for _, other in ipairs(leaves) do other.grad = nil end
      f(...):sum():backward()
    end
  end
  local function double(...)
    local t = core.ops.randn({...}, {dtype = "float64"})
    t.requires_grad = true
    return t
  end

  it("adds to the gradient that is there where an op can", function()
    local ops = core.ops
    adds(function(x, w, b) return ops.linear(x, w, b) ^ 2 end, double(5, 3), double(4, 3),
      double(4))
    adds(function(x, w) return ops.linear(x, w) ^ 2 end, double(2, 5, 70), double(130, 70))
    adds(function(a, b) return ops.matmul(a, b) ^ 2 end, double(6, 3), double(3, 4))
    adds(function(a, b) return ops.matmul(a, b) ^ 2 end, double(2, 6, 3), double(3, 4))
    adds(function(a, b) return ops.matmul(a, b) ^ 2 end, double(2, 6, 3), double(2, 3, 4))
    adds(function(a, b) return ops.matmul(a, b) ^ 2 end, double(3), double(3, 4))
    adds(function(a, b) return ops.matmul(a:t(), b) ^ 2 end, double(3, 6), double(3, 4))
    adds(function(a) return ops.matmul(a, a) ^ 2 end, double(4, 4))
    adds(function(c, a, b) return ops.addmm(c, a, b, 1, 2) ^ 2 end, double(6, 4), double(6, 3),
      double(3, 4))
    local index = core.tensor({{1, 3}, {3, 2}}, {dtype = "int64"})
    adds(function(w) return ops.embedding(index, w) ^ 2 end, double(5, 4))
    adds(function(w) return ops.embedding(index, w, 3) ^ 2 end, double(5, 4))
  end)

  it("adds to a gradient that is also what backward starts from", function()
    local w = core.tensor({{1, 2}, {3, 4}}, {requires_grad = true})
    local x = core.tensor {{1, 1}, {0, 1}}
    w.grad = core.tensor {{1, 0}, {0, 1}}
    collectgarbage()
    core.ops.matmul(x, w):backward(w.grad)
    H.same(w.grad, {{2, 0}, {1, 2}})
  end)

  it("adds to no gradient that a hook has yet to see, and none that the script holds a view of",
    function()
      local w = double(4, 3)
      local seen = {}
      core.hook(w, function(g) seen[#seen + 1] = g:clone() end)
      local x = double(2, 3)
      ;(core.ops.linear(x, w) + core.ops.linear(x, w)):sum():backward()
      assert.are.equal(1, #seen)
      H.same(seen[1], w.grad, 1e-12)
      local row = w.grad[1]
      local kept = row:clone()
      core.ops.linear(x, w):sum():backward()
      H.same(w.grad, seen[1] * 1.5, 1e-12)
      H.same(row, kept)
    end)

  it("takes a gradient for a root of several elements, and asks for one", function()
    local x = leaf {1, 2}
    H.raises(function() (x * 2):backward() end, "more than one element")
    ;(x * 2):backward(core.tensor {1, 10})
    H.same(x.grad, {2, 20})
    H.raises(function() (x * 2):backward(core.tensor {1}) end, "expected the shape of")
  end)

  it("walks and frees a chain of 100,000 steps", function()
    local x = leaf {1}
    local y = x
    for _ = 1, 100000 do y = y + 0 end
    y:sum():backward()
    H.same(x.grad, {1})
    local z = x
    for _ = 1, 100000 do z = z + 0 end
    z = nil -- luacheck: ignore
    collectgarbage()
    collectgarbage()
  end)

  it("frees the graph as it goes", function()
    local x = leaf {1, 2, 3}
    local function step()
      local loss = (x:exp() * x):sum()
      loss:backward()
      loss:release()
    end
    step()
    collectgarbage() collectgarbage()
    local live = core.memory().live
    for _ = 1, 10 do step() end
    collectgarbage() collectgarbage()
    assert.equal(live, core.memory().live)
  end)

  it("refuses a second run, unless the graph was retained", function()
    local x = leaf {1, 2}
    local y = (x * x):sum()
    y:backward({retain_graph = true})
    y:backward()
    H.same(x.grad, {4, 8})
    H.raises(function() y:backward() end, "retain_graph")
  end)

  it("sees that a saved tensor was changed in place", function()
    local x = leaf {1, 2}
    local h = x * 1
    local y = (h * h):sum()
    h:add_(1)
    H.raises(function() y:backward() end, "changed in place")
    assert.is_nil(x.grad)
  end)

  it("says when nothing wants a gradient", function()
    H.raises(function() core.tensor({1}):sum():backward() end, "requires grad")
  end)

  it("does not record under no_grad, and restores the mode", function()
    local x = leaf {1}
    do
      local _ <close> = core.no_grad()
      assert.is_false((x * 2).requires_grad)
    end
    assert.is_true((x * 2).requires_grad)
    pcall(core.no_grad, function() error "inside" end)
    assert.is_true(core.is_grad_enabled())
  end)

  it("stops at detach", function()
    local x = leaf {3}
    ;(x:detach() * x):sum():backward()
    H.same(x.grad, {3})
  end)

  it("knows unknown options", function()
    local x = leaf {1}
    H.raises(function() x:sum():backward({retain_grph = true}) end, "did you mean 'retain_graph'")
  end)
end)

describe("changes in place", function()
  it("are part of the graph for results, and refused for leaves", function()
    local x = leaf {1, 2}
    H.raises(function() x:add_(1) end, "leaf")
    local y = x * 1
    y:mul_(3)
    y:sum():backward()
    H.same(x.grad, {3, 3})
  end)
  it("carry gradients through assignment to an index", function()
    local x, v = leaf {1, 2, 3}, leaf {10}
    local y = x * 2
    y[{ {2, 2} }] = v
    ;(y * core.tensor {1, 5, 7}):sum():backward()
    H.same(x.grad, {2, 0, 14})
    H.same(v.grad, {5})
  end)
  it("of a view are refused where gradients would be lost", function()
    local x = leaf {1, 2}
    local y = x * 1
    H.raises(function() y[{ {1, 1} }]:add_(1) end, "view")
  end)
end)

describe("grad", function()
  it("gives gradients without touching .grad", function()
    local x, y = leaf {2, 3}, leaf {5, 7}
    local g = core.grad((x * y):sum(), {x, y})
    H.same(g[1], {5, 7})
    H.same(g[2], {2, 3})
    assert.is_nil(x.grad)
  end)
  it("reaches results that are not leaves, and says false where nothing flows", function()
    local x, z = leaf {2}, leaf {1}
    local h = x * 3
    H.raises(function() core.grad((h * h):sum(), {h, z}) end,
      "'inputs': .*got another as input 2; give {allow_unused = true} to get false for it")
    h = x * 3
    local g = core.grad((h * h):sum(), {h, x, z}, {allow_unused = true})
    H.same(g[1], {12})
    H.same(g[2], {36})
    assert.is_false(g[3])
  end)
  it("differentiates twice with create_graph", function()
    local x = leaf {2, 3}
    local g = core.grad((x * x * x):sum(), {x}, {create_graph = true})[1]
    H.same(g, {12, 27})
    H.same(core.grad(g:sum(), {x})[1], {12, 18})
  end)
  it("runs nothing older than its inputs where none of them is a leaf", function()
    local x = leaf {2, 3}
    local old = x * x
    local ran = 0
    core.hook(old, function() ran = ran + 1 end)
    local a, b = old * 1, old * 2
    local g = core.grad((a * b):sum(), {a, b})
    H.same(g[1], {8, 18})
    H.same(g[2], {4, 9})
    assert.equal(0, ran)
    local c = old * 1
    core.grad((c + old):sum(), {c, x})
    assert.equal(1, ran)
  end)
end)
