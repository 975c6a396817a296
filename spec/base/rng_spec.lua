-- Counter-based random numbers: known answers, independence of threads. Relies on perigee.core.
-- Sources: core/base/rng.c, core/base/par.c.

local core = require "perigee.core"

describe("the random stream", function()
  it("is Philox 4x32-10: the first words for counter 0 and key 0", function()
    -- Random123's known answers: 6627e8d5 e169c58d bc57ac4c 9b00dbd8; uniforms keep 24 bits
    core.manual_seed(0)
    local u = core.ops.rand({4}):totable()
    for i, word in ipairs {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8} do
      assert.equal((word >> 8) / 2 ^ 24, u[i])
    end
  end)

  it("does not depend on the number of threads", function()
    local n = core.num_threads()
    local function draw(threads)
      core.num_threads(threads)
      core.manual_seed(5)
      return core.ops.randn({100003}):bytes()
    end
    local one, two = draw(1), draw(2)
    core.num_threads(n)
    assert.is_true(one == two)
  end)

  it("has the moments of its distributions", function()
    core.manual_seed(11)
    local u = core.ops.rand({200000})
    assert.near(0.5, u:mean():item(), 3e-3)
    assert.near(1 / 12, u:var():item(), 1e-3)
    local g = core.ops.randn({200000})
    assert.near(0, g:mean():item(), 1e-2)
    assert.near(1, g:var():item(), 1e-2)
  end)
end)
