-- The allocator: exact accounting, reuse, injected failures. Relies on perigee.core.
-- Sources: core/base/mem.c, core/base/heap.c, core/base/ctx.c.

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
    assert.matches("fewer elements than fill all memory", message)
    ok, message = pcall(core.ops.zeros, {1 << 44})
    assert.is_false(ok)
    assert.matches("out of memory", message)
  end)

  it("gives the cache back", function()
    core.ops.zeros({100000}):release()
    core.trim()
    assert.equal(0, core.memory().cached)
  end)

  it("serves large sizes from what other sizes have left", function()
    settle()
    core.trim()
    local function take(count, n)
      local list = {}
      for i = 1, count do list[i] = core.ops.zeros({n}) end
      for _, t in ipairs(list) do t:release() end
    end
    take(10, 1000000)
    if core.memory().cached == 0 then return end   -- a build that keeps nothing
    local system = core.memory().system
    take(1, 9900000)
    take(3, 3000000)
    take(7, 1400000)
    assert.equal(system, core.memory().system)
  end)

  it("keeps large blocks apart while they come and go", function()
    core.manual_seed(3)
    local before = settle()
    local kept = {}
    for i = 1, 150 do
      local slot = core.ops.randint(1, 12, {1}):item()
      local old = kept[slot]
      if old then
        assert.equal(old.value, old.t:min():item())
        assert.equal(old.value, old.t:max():item())
        old.t:release()
        kept[slot] = nil
      else
        local n = core.ops.randint(1, 900000, {1}):item()
        kept[slot] = {t = core.ops.full({n}, i), value = i}
      end
      if i % 50 == 0 then core.trim() end
    end
    for _, one in pairs(kept) do one.t:release() end
    assert.equal(before, settle())
  end)
end)
