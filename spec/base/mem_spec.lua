-- The allocator: exact accounting, reuse, injected failures. Relies on perigee.core.
-- Sources: core/base/mem.c, core/base/ctx.c.

local core = require "perigee.core"

local function settle()
  collectgarbage()
  collectgarbage()
  return core.memory().live
end

describe("the allocator", function()
  it("counts what is live to the byte", function()
    local before = settle()
    local t = core.ops.zeros({1000})
    local with = core.memory().live
    t:release()
    assert.equal(before, core.memory().live)
    assert.is_true(with >= before + 4000 and with < before + 4000 + 1024)
  end)

  it("raises the peak and keeps it", function()
    core.trim()
    local t = core.ops.zeros({100000})
    t:release()
    assert.is_true(core.memory().peak >= core.memory().live + 400000)
  end)

  it("serves the same sizes again without asking the system", function()
    local function once()
      local t = core.ops.zeros({3, 777})
      t:release()
    end
    once()
    local system = core.memory().system
    for _ = 1, 100 do once() end
    if core.memory().cached > 0 then assert.equal(system, core.memory().system) end
  end)

  it("fails the allocation it is told to, once", function()
    local before = settle()
    core.fail_after(1)
    local ok, message = pcall(core.ops.zeros, {10})
    core.fail_after(-1)
    assert.is_false(ok)
    assert.matches("out of memory", message)
    assert.equal(before, settle())
    assert.equal(10, core.ops.zeros({10}):numel())
  end)

  it("refuses what cannot exist with a clear error", function()
    local ok, message = pcall(core.ops.zeros, {1 << 40, 1 << 40})
    assert.is_false(ok)
    assert.matches("too many elements", message)
    ok, message = pcall(core.ops.zeros, {1 << 44})
    assert.is_false(ok)
    assert.matches("out of memory", message)
  end)

  it("gives the cache back", function()
    core.ops.zeros({100000}):release()
    core.trim()
    assert.equal(0, core.memory().cached)
  end)
end)
