--- Blocked products at every class of shape: operands of small whole numbers, whose products
-- float32 holds exactly, against the integer product; layouts, biases, sums onto a matrix, special
-- values, threads. Relies on spec/helper.lua. Sources: core/kernels/pack.c, core/kernels/tiles.h,
-- core/ops/product.h.

local H = require "spec.helper"
local core = require "perigee.core"
local ops = core.ops

-- What the plan tells apart: m, n, k. Each way has edges that are no whole tile, panel or depth.
local SHAPES = {
  tiny = {{1, 1, 1}, {16, 16, 4}, {16, 3, 16}, {3, 16, 16}, {2, 33, 5}, {15, 17, 129}},
  one_row = {{1, 700, 33}, {1, 40, 900}, {1, 3000, 100}, {1, 5, 8}},
  one_column = {{700, 1, 33}, {40, 1, 900}, {3000, 1, 100}},
  few_rows = {{2, 300, 70}, {3, 65, 600}, {4, 1000, 100}, {5, 1000, 100}},
  few_columns = {{300, 10, 128}, {1000, 3, 70}, {513, 31, 257}},
  short = {{300, 200, 1}, {130, 515, 16}, {97, 67, 5}},
  long = {{10, 20, 3000}, {30, 33, 1025}, {64, 64, 513}},
  square = {{64, 64, 64}, {127, 129, 130}, {256, 256, 256}, {300, 310, 320}},
  wide = {{20, 1500, 300}, {60, 1100, 260}},
  tall = {{1500, 20, 300}, {1100, 60, 260}},
}

local function whole(m, n) return ops.randint(-4, 4, {m, n}) end

-- x as it is, or as a view whose columns or rows are cut out of a larger or transposed matrix.
local LAYOUTS = {
  rows = function(x) return x end,
  columns = function(x) return x:t():contiguous():t() end,
  padded = function(x) return ops.cat({x, x}, 2):narrow(2, 1, x.shape[2]) end,
  padded_columns = function(x)
    return ops.cat({x:t(), x:t()}, 2):narrow(2, 1, x.shape[1]):t()
  end,
}

-- One test for each class and dtype; fn(a, b, y, dtype, text) gets whole numbers and their product.
local made = {}
local function each_class(name, fn)
  for class, list in pairs(SHAPES) do
    for _, dtype in ipairs {"float32", "float64"} do
      it(("%s: %s, %s"):format(name, class, dtype), function()
        for _, s in ipairs(list) do
          local text = ("%d x %d x %d"):format(s[1], s[2], s[3])
          if not made[text] then
            local a, b = whole(s[1], s[3]), whole(s[3], s[2])
            made[text] = {a, b, a:matmul(b)}
          end
          local a, b, y = table.unpack(made[text])
          fn(a, b, y, dtype, text)
        end
      end)
    end
  end
end

describe("a blocked product", function()
  each_class("is exact in every layout", function(a, b, y, dtype, text)
    local want = y:to(dtype)
    for left, a_of in pairs(LAYOUTS) do
      local x = a_of(a:to(dtype))
      for right, b_of in pairs(LAYOUTS) do
        assert.is_true(x:matmul(b_of(b:to(dtype))):equal(want), text .. left .. right)
      end
    end
  end)

  each_class("adds a bias to every row", function(a, b, y, dtype, text)
    local bias = whole(1, b.shape[2])
    local got = ops.linear(a:to(dtype), b:t():contiguous():to(dtype), bias:view(-1):to(dtype))
    assert.is_true(got:equal(y:add(bias):to(dtype)), text)
  end)

  each_class("adds to a matrix, scaled or not", function(a, b, y, dtype, text)
    local c = whole(y.shape[1], y.shape[2])
    for _, f in ipairs {{1, 1}, {2, 1}, {1, 3}, {0, 1}} do
      local got = c:to(dtype):addmm(a:to(dtype), b:to(dtype), f[1], f[2])
      assert.is_true(got:equal(c:mul(f[1]):add(y:mul(f[2])):to(dtype)), text)
    end
  end)

  each_class("has the same bits with 1 and 2 threads", function(a, b, y, dtype, text)
    local threads = core.num_threads()
    local x = H.randn(a.shape[1], a.shape[2]):to(dtype)
    local z = H.randn(b.shape[1], b.shape[2]):to(dtype)
    for _, right in ipairs {z, z:t():contiguous():t()} do
      for _, left in ipairs {x, x:t():contiguous():t()} do
        core.num_threads(1)
        local alone = left:matmul(right)
        core.num_threads(2)
        local shared = left:matmul(right)
        core.num_threads(threads)
        assert.same(y.shape, shared.shape)
        assert.is_true(alone:equal(shared), text)
      end
    end
  end)

  for _, dtype in ipairs {"float32", "float64"} do
    it("takes batches of every kind of product: " .. dtype, function()
      for _, s in ipairs {{40, 9, 7, 5}, {3, 130, 140, 120}, {64, 33, 65, 70}, {2, 1, 300, 20}} do
        local a, b = ops.randint(-4, 4, {s[1], s[2], s[4]}), ops.randint(-4, 4, {s[1], s[4], s[3]})
        local x, y = a:to(dtype), b:to(dtype)
        local want = a:matmul(b):to(dtype)
        assert.is_true(x:bmm(y):equal(want))
        assert.is_true(x:bmm(y:transpose(2, 3):contiguous():transpose(2, 3)):equal(want))
        assert.is_true(x:matmul(y:narrow(1, 1, 1)):equal(a:matmul(b:narrow(1, 1, 1)):to(dtype)))
      end
    end)
  end

  it("gives the sum over nothing as zero, and a bias as it is", function()
    local a, b, bias = ops.zeros {3, 0}, ops.zeros {0, 40}, H.randn(40)
    assert.is_true(a:matmul(b):equal(ops.zeros {3, 40}))
    assert.is_true(ops.linear(a, b:t(), bias):equal(bias:expand(3, 40)))
    local c = H.randn(3, 40)
    assert.is_true(c:addmm(a, b):equal(c))
  end)

  it("passes on infinities and what is not a number, to their row or column only", function()
    for _, s in ipairs {{16, 20, 8}, {1, 700, 33}, {3, 65, 600}, {100, 130, 300}} do
      local m, n, k = s[1], s[2], s[3]
      for _, flip in ipairs {false, true} do
        local a, b = ops.ones {m, k}, ops.ones {k, n}
        a[{m, k}] = math.huge
        b[{1, n}] = 0 / 0
        if flip then a, b = a:t():contiguous():t(), b:t():contiguous():t() end
        local y = a:matmul(b)
        assert.equal(math.huge, y[{m, 1}]:item())
        assert.is_true(y[{1, n}]:item() ~= y[{1, n}]:item())
        if m > 1 then assert.equal(k, y[{1, 1}]:item()) end
      end
    end
  end)
end)
