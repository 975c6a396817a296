-- Copies and casts: all pairs of dtypes, broadcasting, overlapping memory.
-- Relies on spec/helper.lua.
-- Sources: core/tensor/copy.c, core/kernels/kern.c.

local H = require "spec.helper"
local core = require "perigee.core"
local ops = core.ops

--- The elements as numbers, of any dtype.
local function numbers(x) return H.values(x.dtype == "bfloat16" and x:to "float32" or x) end
--- A tensor of small numbers, of any dtype.
local function make(values, dtype, shape)
  return H.make(values, dtype == "bfloat16" and "float32" or dtype, shape):to(dtype)
end

local DTYPES = {"float32", "float64", "bfloat16", "int64", "uint8", "bool"}

describe("casts", function()
  for _, from in ipairs(DTYPES) do
    for _, to in ipairs(DTYPES) do
      it(("from %s to %s"):format(from, to), function()
        local values = (from == "bool" or to == "bool") and {0, 1, 1, 0} or {0, 1, 2, 100}
        local x = core.tensor(values, {dtype = from})
        H.same(x:to(to):to("float64"), values)
        H.same(x[{ {1, -1, 2} }]:to(to):to("float64"), {values[1], values[3]})
      end)
    end
  end

  it("round bfloat16 to nearest even and truncate to integers", function()
    local x = core.tensor({1 + 1 / 256, 1 + 3 / 256})
    H.same(x:to("bfloat16"):to("float32"), {1, 1 + 2 / 128}, 0)
    H.same(core.tensor({-1.7, 1.7}):to("int64"), {-1, 1})
    H.same(core.tensor({0 / 0, 0.5}):to("bool"), {true, true})
  end)
end)

describe("copies between layouts", function()
  it("keep every element, tile borders included", function()
    for _, dtype in ipairs {"float32", "float64", "uint8", "int64"} do
      for _, shape in ipairs {{33, 47}, {64, 32}, {5, 300}, {2, 700}, {3, 40, 35}, {40, 3, 35}} do
        local n = 1
        for _, size in ipairs(shape) do n = n * size end
        local values = {}
        for i = 1, n do values[i] = i * 7 % 251 end
        local x = H.make(values, dtype, shape)
        local y, turned = x:transpose(1, -1), {}
        local last = shape[#shape]
        for i = 1, n do -- y[k, j, i] = x[i, j, k]
          local k, rest = (i - 1) // (n // last), (i - 1) % (n // last)
          local j, row = rest // shape[1], rest % shape[1]
          turned[i] = values[row * (n // shape[1]) + j * last + k + 1]
        end
        assert.same(turned, H.values(y:contiguous()))
        assert.same(values, H.values(y:contiguous():transpose(1, -1)))
      end
    end
    local image = H.randn(2, 9, 11, 13)
    local last = image:permute {1, 3, 4, 2}:contiguous():permute {1, 4, 2, 3}
    H.same(last, image, 0)
    H.same(last:contiguous(), image, 0)
    H.same(last:slice(4, 2, -1, 2):contiguous(), image:slice(4, 2, -1, 2), 0)
  end)

  it("copy rows of any length", function()
    for _, dtype in ipairs {"float32", "bfloat16", "float64", "uint8"} do
      for width = 1, 140 do
        local shape = {2, 5, 3, width}
        local n, values, swapped = 30 * width, {}, {}
        for i = 1, n do values[i] = i * 7 % 251 end
        if dtype == "bfloat16" then -- seven bits
          for i = 1, n do values[i] = values[i] % 128 end
        end
        for i = 0, n - 1 do -- swapped[a, c, b, :] = values[a, b, c, :]
          local k, row = i % width, i // width
          local c, b, a = row % 3, row // 3 % 5, row // 15
          swapped[((a * 3 + c) * 5 + b) * width + k + 1] = values[i + 1]
        end
        local x = make(values, dtype, shape)
        local y = x:permute {1, 3, 2, 4}
        assert.same(swapped, numbers(y:contiguous()))
        assert.same(values, numbers(y:contiguous():permute({1, 3, 2, 4}):contiguous()))
        local wide = ops.zeros({2, 5, 3, width + 2}, {dtype = dtype})
        wide:narrow(4, 2, width):copy_(x)
        assert.same(values, numbers(wide:narrow(4, 2, width)))
        local edges = ops.cat({wide:narrow(4, 1, 1), wide:narrow(4, width + 2, 1)}, 4)
        assert.equal(0, edges:to("float32"):abs():sum():item())
      end
    end
  end)

  it("copy long rows with both threads", function()
    local x = H.randn(7, 90, 5, 100)
    local y = x:permute {3, 1, 2, 4}
    for i = 1, 5 do H.same(y:contiguous()[i], x:select(3, i), 0) end
    assert.is_true(y:contiguous():equal(y))
  end)

  it("take every second, third, .. element", function()
    for _, dtype in ipairs {"float32", "bfloat16", "float64", "uint8", "int64", "bool"} do
      for _, n in ipairs {1, 2, 15, 16, 17, 63, 64, 65, 200} do
        for step = 2, 5 do
          local values, expected = {}, {}
          for i = 1, n * step do values[i] = dtype == "bool" and i * i % 3 % 2 or i * 7 % 127 end
          local x = make(values, dtype, {n, step})
          for k = 1, step do
            for i = 1, n do expected[i] = values[(i - 1) * step + k] end
            assert.same(expected, numbers(x:select(2, k):contiguous()))
          end
        end
      end
    end
  end)
end)

describe("in place", function()
  it("a tensor can be combined with an overlapping view of itself", function()
    local x = core.tensor {{1, 2}, {3, 4}}
    x:add_(x:t())
    H.same(x, {{2, 5}, {5, 8}})
    local y = core.tensor {1, 2, 3, 4}
    y[{ {2, 4} }] = y[{ {1, 3} }]:clone()
    H.same(y, {1, 1, 2, 3})
  end)
  it("an expanded tensor is refused", function()
    local x = ops.expand(core.tensor({1}), {3})
    H.raises(function() x:add_(1) end, "'input': .*got an expanded one; clone%(%) it")
  end)
end)
