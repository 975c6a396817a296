-- The iterator against plain loops: every combination of permuted, broadcast and stepped operands.
-- Relies on spec/helper.lua. Sources: core/tensor/iter.c.

local H = require "spec.helper"
local core = require "perigee.core"
local ops = core.ops

describe("the iterator", function()
  it("agrees with contiguous copies for permuted and stepped operands", function()
    core.manual_seed(3)
    local base = ops.randn({4, 6, 5, 3})
    local views = {
      base:permute(1, 2, 3, 4), base:permute(4, 3, 2, 1):permute(4, 3, 2, 1),
      ops.randn({3, 5, 6, 4}):permute(4, 3, 2, 1), ops.randn({8, 6, 5, 3})[{ {1, -1, 2} }],
      ops.randn({4, 1, 5, 1}), ops.randn({3}), ops.randn({6, 1, 1}),
      ops.randn({4, 5, 3, 6}):permute(1, 4, 2, 3), core.tensor(2.5),
    }
    for _, a in ipairs(views) do
      for _, b in ipairs(views) do
        local want = a:contiguous() * b:contiguous() - a:contiguous()
        H.same((a * b - a):contiguous(), want, 1e-6)
      end
    end
  end)

  it("splits long walks over threads without a change of bits", function()
    local n = core.num_threads()
    core.manual_seed(4)
    local x, y = ops.randn({7, 300, 50}):permute(3, 1, 2), ops.randn({300})
    core.num_threads(1)
    local one = (x * y):contiguous():bytes()
    core.num_threads(2)
    local two = (x * y):contiguous():bytes()
    core.num_threads(n)
    assert.is_true(one == two)
  end)

  it("gives the same bits for short runs beside rows, columns and slices", function()
    core.manual_seed(6)
    local rows = 301
    local function spread(t, dim, n)
      return t:size(dim) == n and t or t:index_select(dim, ops.ones({n}, {dtype = "int64"}))
    end
    for _, dtype in ipairs {"float32", "float64", "int64", "uint8", "bool"} do
      for _, w in ipairs {2, 3, 4, 7, 8, 9, 16, 17, 31, 33, 64, 65, 128, 129} do
        local function make(...) return (ops.rand({...}) * 5):to(dtype) end
        local x = make(rows, w)
        local others = {
          make(1, w), make(rows, 1), make(1, 1), make(rows, w + 3)[{ {}, {2, w + 1} }],
          make(rows, 2 * w)[{ {}, {1, -1, 2} }], make(2 * rows, w)[{ {1, -1, 2} }],
          make(w, rows):permute(2, 1),
        }
        for k, y in ipairs(others) do
          local same = spread(spread(y:contiguous(), 1, rows), 2, w)
          for _, call in ipairs {ops.add, ops.mul, ops.gt, ops.maximum} do
            assert.is_true(call(x, same):bytes() == call(x, y):contiguous():bytes(),
              ("%s, width %d, operand %d"):format(dtype, w, k))
          end
          assert.is_true(x:clone():mul_(y):bytes() == x:clone():mul_(same):bytes())
        end
      end
    end
  end)

  it("splits short runs over threads without a change of bits", function()
    local threads = core.num_threads()
    core.manual_seed(7)
    local x, row, column = ops.randn({3, 40000, 3}), ops.randn({3, 1, 3}), ops.randn({40000, 1})
    local function run() return x * row + column end
    core.num_threads(1)
    local one = run()
    core.num_threads(2)
    local two = run()
    core.num_threads(threads)
    assert.is_true(one:bytes() == two:bytes())
    for i = 1, 40000, 7919 do
      for k = 1, 3 do
        local want = x[k][i] * row[k][1] + column[i]
        assert.is_true(want:bytes() == one[k][i]:contiguous():bytes())
      end
    end
  end)

  it("gives the same where results are too large for the caches", function()
    core.manual_seed(5)
    local rows, n = 2050, 2051
    local x, y, row = ops.randn({rows, n}), ops.randn({rows, n}), ops.randn({n})
    local cases = {
      function(a, b) return a * b end,
      function(a) return a + row end,
      function(a, b) return a:gt(b) end,
      function(a, b) return a:clone():mul_(b) end,
      function(a, b) return ops.where(a:gt(b), a, b) end,
    }
    for _, call in ipairs(cases) do
      local whole = call(x, y)
      for _, range in ipairs {{1, 3}, {1024, 1027}, {rows - 2, rows}} do
        local part = call(x[{range}], y[{range}])
        assert.is_true(whole[{range}]:contiguous():bytes() == part:contiguous():bytes())
      end
    end
  end)
end)
