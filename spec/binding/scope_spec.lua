-- Scopes: what they free, what outlives them. Relies on spec/helper.lua.
-- Sources: lua/binding/scope.c.

local H = require "spec.helper"
local core = require "perigee.core"

describe("a scope", function()
  it("frees what ops made inside it, at once", function()
    local x = core.tensor {1, 2, 3}
    local before = core.memory().live
    local y
    do
      local _ <close> = core.scope()
      y = x * 2
      assert.is_true(core.memory().live > before)
    end
    assert.equal(before, core.memory().live)
    H.raises(function() return y:sum() end,
      "'input': expected a tensor, got one that was released when its scope closed")
    H.raises(function() return y.shape end, "released")
    assert.equal("[released tensor]", tostring(y))
  end)

  it("hands on what is kept", function()
    local y
    do
      local outer <close> = core.scope()
      do
        local inner <close> = core.scope()
        y = inner:keep(core.tensor({1}) + 1)
      end
      H.same(y, {2})
      outer:keep(y)
    end
    H.same(y, {2})
  end)

  it("leaves parameters and their gradients alone", function()
    local w = core.keep(core.tensor({3}, {requires_grad = true}))
    local grad
    do
      local _ <close> = core.scope()
      local loss = (w * w):sum()
      loss:backward()
      grad = w.grad
    end
    H.same(w, {3})
    H.same(grad, {6})
    H.same(w.grad, {6})
  end)

  it("closes on errors and on break", function()
    local before = core.memory().live
    pcall(function()
      local _ <close> = core.scope()
      local y = core.ops.zeros({1000}) -- luacheck: ignore
      error "out"
    end)
    for _ = 1, 2 do -- luacheck: ignore 512
      local _ <close> = core.scope()
      local y = core.ops.zeros({1000}) -- luacheck: ignore
      break
    end
    assert.equal(before, core.memory().live)
  end)

  it("lets a tensor be released early", function()
    local _ <close> = core.scope()
    local y = core.ops.zeros({10})
    y:release()
    y:release()
    H.raises(function() return y + 1 end, "'input': expected a tensor, got one that was released")
  end)

  it("does not keep what the script has lost when backward runs", function()
    if collectgarbage "generational" ~= "generational" then collectgarbage "incremental" return end
    local x = core.ops.full({1000000}, 0.5)
    x.requires_grad = true
    collectgarbage()
    local before = core.memory().live
    local function chain(y)
      for _ = 1, 8 do y = y:sin() end
      return y:sum()
    end
    local _ <close> = core.scope()
    local loss = chain(x)
    assert.is_true(core.memory().live - before >= 7 * 4000000)
    loss:backward()
    assert.is_true(core.memory().live - before < 2 * 4000000)
  end)
end)
