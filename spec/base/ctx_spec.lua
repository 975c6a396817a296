-- Context services: seeds, threads, level, clock. Relies on perigee.core.
-- Sources: core/base/ctx.c, core/base/isa.c, lua/binding/core.c.

local core = require "perigee.core"

describe("the context", function()
  it("repeats a stream from a seed", function()
    core.manual_seed(42)
    local a = core.ops.randn({100}):bytes()
    core.manual_seed(42)
    assert.equal(a, core.ops.randn({100}):bytes())
    core.manual_seed(43)
    assert.not_equal(a, core.ops.randn({100}):bytes())
  end)

  it("saves and restores the stream's place", function()
    core.manual_seed(1)
    core.ops.rand({7})
    local state = core.rng_state()
    local a = core.ops.rand({9}):bytes()
    core.set_rng_state(state)
    assert.equal(a, core.ops.rand({9}):bytes())
    assert.has_error(function() core.set_rng_state({1}) end)
  end)

  it("names a level that PERIGEE_ISA can lower", function()
    assert.is_truthy(({base = true, v3 = true, v4 = true})[core.isa()])
    local lua = arg and arg[-1] or "lua5.4"
    local chunk = 'io.write(require "perigee.core".isa())'
    local pipe = io.popen(("PERIGEE_ISA=base %s -e '%s' 2>&1"):format(lua, chunk))
    local level = pipe:read "a"
    pipe:close()
    assert.is_truthy(level == "base" or level == core.isa(), level)
  end)

  it("has a clock that only goes forward", function()
    local a = core.clock()
    assert.is_true(core.clock() >= a)
  end)

  it("sets the number of threads", function()
    local n = core.num_threads()
    assert.equal(1, core.num_threads(1))
    assert.equal(n, core.num_threads(n))
  end)
end)
