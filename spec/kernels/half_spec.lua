--- Products of bfloat16 at every class of shape: operands of small whole numbers, whose sums
-- float32 holds exactly, against the integer product rounded once; layouts, biases, sums onto a
-- matrix, gradients in float32, special values, threads. Deterministic, so that our own kernels do
-- them where there are such, and once more in the way that was the fastest.
-- Relies on spec/helper.lua. Sources: core/kernels/half.c, core/ops/half.h, core/ops/matmul.c.

local H = require "spec.helper"
local pg = require "perigee"
local core = require "perigee.core"
local ops = core.ops

-- m, n, k: edges that are no whole tile, panel, pair or depth.
local SHAPES = {
  tiny = {{1, 1, 1}, {16, 16, 4}, {16, 3, 16}, {3, 16, 16}, {2, 33, 5}, {15, 17, 129}},
  one_row = {{1, 700, 33}, {1, 40, 900}, {1, 5, 8}},
  few_rows = {{2, 301, 70}, {3, 66, 600}, {4, 1000, 101}, {5, 1000, 100}},
  one_column = {{700, 1, 33}, {40, 1, 900}},
  few_columns = {{300, 10, 128}, {1000, 3, 70}, {71, 31, 257}},
  short = {{300, 200, 1}, {130, 515, 16}, {97, 67, 5}},
  long = {{10, 20, 3000}, {30, 33, 1025}, {64, 64, 2049}, {29, 47, 1024}},
  square = {{64, 64, 64}, {127, 129, 130}, {256, 256, 256}},
  wide = {{20, 1500, 300}, {60, 1100, 261}},
  tall = {{1500, 20, 300}, {1100, 60, 260}},
}

local function whole(m, n) return ops.randint(-4, 4, {m, n}) end
local function half(x) return x:to "bfloat16" end

-- x as it is, or as a view whose columns or rows are cut out of a larger or transposed matrix.
local LAYOUTS = {
  rows = function(x) return x end,
  columns = function(x) return x:t():contiguous():t() end,
  padded = function(x) return ops.cat({x, x}, 2):narrow(2, x.shape[2] + 1, x.shape[2]) end,
  padded_columns = function(x)
    return ops.cat({x:t(), x:t()}, 2):narrow(2, x.shape[1] + 1, x.shape[1]):t()
  end,
}

local made = {}
local function each_class(name, fn)
  for class, list in pairs(SHAPES) do
    it(("%s: %s"):format(name, class), function()
      for _, s in ipairs(list) do
        local text = ("%d x %d x %d"):format(s[1], s[2], s[3])
        if not made[text] then
          local a, b = whole(s[1], s[3]), whole(s[3], s[2])
          made[text] = {a, b, a:matmul(b)}
        end
        local a, b, y = table.unpack(made[text])
        fn(a, b, y, text)
      end
    end)
  end
end

-- Infinities and what is not a number in every form, also beside an odd end and in padding.
local function check_special()
  for _, s in ipairs {{16, 20, 8}, {1, 70, 33}, {3, 65, 601}, {100, 130, 1027}} do
    local m, n, k = s[1], s[2], s[3]
    for _, left in pairs(LAYOUTS) do
      for _, right in pairs(LAYOUTS) do
        local a, b = ops.ones {m, k}, ops.ones {k, n}
        a[{m, k}] = math.huge
        b[{1, n}] = 0 / 0
        local y = left(half(a)):matmul(right(half(b))):float()
        assert.equal(math.huge, y[{m, 1}]:item())
        assert.is_true(y[{1, n}]:item() ~= y[{1, n}]:item())
        if m > 1 then assert.equal(half(ops.full({1}, k)):item(), y[{1, 1}]:item()) end
      end
    end
  end
end

describe("a product of bfloat16", function()
  setup(function() pg.deterministic(true) end)
  teardown(function() pg.deterministic(false) end)

  each_class("is exact in every layout, and rounded once", function(a, b, y, text)
    local want = half(y)
    for left, a_of in pairs(LAYOUTS) do
      local x = a_of(half(a))
      for right, b_of in pairs(LAYOUTS) do
        assert.is_true(x:matmul(b_of(half(b))):equal(want), text .. left .. right)
      end
    end
  end)

  each_class("adds a bias to every row, and a matrix", function(a, b, y, text)
    local bias, c = whole(1, b.shape[2]), whole(y.shape[1], y.shape[2])
    local got = ops.linear(half(a), half(b:t():contiguous()), half(bias:view(-1)))
    assert.is_true(got:equal(half(y:add(bias))), text)
    assert.is_true(half(c):addmm(half(a), half(b)):equal(half(c:add(y))), text)
  end)

  each_class("gives a weight a gradient in float32, and adds to it", function(a, b, y, text)
    local x, g = a:t():contiguous(), b -- the gradient of w in x w is x^T g
    local w = ops.zeros {x.shape[2], g.shape[2]}
    w.requires_grad = true
    for i = 1, 2 do
      pg.autocast("bfloat16", function() return x:float():matmul(w) end):backward(half(g))
      assert.equal("float32", w.grad.dtype)
      assert.is_true(w.grad:equal(y:mul(i):float()), text)
    end
    local v = ops.zeros {g.shape[2], x.shape[2]}
    v.requires_grad = true
    for i = 1, 2 do
      pg.autocast("bfloat16", function() return ops.linear(x:float(), v) end):backward(half(g))
      assert.is_true(v.grad:equal(y:mul(i):t():float()), text)
    end
  end)

  each_class("has the same bits with 1 and 2 threads", function(a, b, y, text)
    local threads = core.num_threads()
    local x, z = half(H.randn(a.shape[1], a.shape[2])), half(H.randn(b.shape[1], b.shape[2]))
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

  it("is within a rounding of the product in float64", function()
    for _, s in ipairs {{70, 90, 50}, {128, 100, 784}, {33, 65, 2500}} do
      local a, b = half(H.randn(s[1], s[3])), half(H.randn(s[3], s[2]))
      local want = a:double():matmul(b:double())
      local size = a:double():abs():matmul(b:double():abs())
      local gap = (a:matmul(b):double() - want):abs()
      assert.is_true((gap - want:abs() / 256 - size * 1e-6):max():item() <= 0)
    end
  end)

  it("takes batches of every kind", function()
    for _, s in ipairs {{40, 9, 7, 5}, {3, 130, 140, 121}, {64, 33, 65, 70}, {2, 1, 300, 20}} do
      local a, b = ops.randint(-4, 4, {s[1], s[2], s[4]}), ops.randint(-4, 4, {s[1], s[4], s[3]})
      local x, y = half(a), half(b)
      local want = half(a:matmul(b))
      assert.is_true(x:bmm(y):equal(want))
      assert.is_true(x:bmm(y:transpose(2, 3):contiguous():transpose(2, 3)):equal(want))
      assert.is_true(x:matmul(y:narrow(1, 1, 1)):equal(half(a:matmul(b:narrow(1, 1, 1)))))
      assert.is_true(x:narrow(1, 1, 1):matmul(y):equal(half(a:narrow(1, 1, 1):matmul(b))))
    end
  end)

  it("gives the sum over nothing as zero, and a bias as it is", function()
    local a, b, bias = half(ops.zeros {3, 0}), half(ops.zeros {0, 40}), half(H.randn(40))
    assert.is_true(a:matmul(b):equal(half(ops.zeros {3, 40})))
    assert.is_true(ops.linear(a, b:t(), bias):equal(bias:expand(3, 40)))
    local c = half(H.randn(3, 40))
    assert.is_true(c:addmm(a, b):equal(c))
    assert.same({0, 40}, half(ops.zeros {0, 5}):matmul(half(ops.zeros {5, 40})).shape)
  end)

  it("passes on infinities and what is not a number, to their row or column only", check_special)

  it("sums the gradient of a bias in float32", function()
    local x, w, b = half(H.randn(700, 5)), half(H.randn(70, 5)), ops.zeros {70}
    local g = ops.randint(-4, 4, {700, 70})
    b.requires_grad = true
    pg.autocast("bfloat16", function() return ops.linear(x, w, b) end):backward(half(g))
    assert.is_true(b.grad:equal(g:sum(1):float()))
  end)
end)

describe("a product of bfloat16 in the fastest way", function()
  it("is exact", function()
    for _, s in ipairs {{16, 16, 4}, {33, 65, 129}, {128, 96, 256}, {1, 40, 900}} do
      local a, b = whole(s[1], s[3]), whole(s[3], s[2])
      local want = half(a:matmul(b))
      for _ = 1, 2 do
        assert.is_true(half(a):matmul(half(b)):equal(want))
        assert.is_true(half(a):matmul(half(b:t():contiguous()):t()):equal(want))
      end
    end
  end)
  it("passes on infinities and what is not a number", check_special)
end)
