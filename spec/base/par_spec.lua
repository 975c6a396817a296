-- pg_par_for: the same bits from one thread and from two, for every size around a chunk's edge.
-- Relies on perigee.core. Sources: core/base/par.c.

local core = require "perigee.core"

describe("parallel loops", function()
  it("give the same bytes with one thread and with two", function()
    local n = core.num_threads()
    for _, size in ipairs {1, 32767, 32768, 32769, 100000, 262147} do
      core.manual_seed(size)
      local x = core.ops.randn({size})
      local got = {}
      for threads = 1, 2 do
        core.num_threads(threads)
        got[threads] = x:exp():bytes() .. x:sum():bytes() .. x:norm():bytes()
      end
      assert.is_true(got[1] == got[2], "size " .. size)
    end
    core.num_threads(n)
  end)
end)
