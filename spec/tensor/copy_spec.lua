-- Copies and casts: all pairs of dtypes, broadcasting, overlapping memory.
-- Relies on spec/helper.lua.
-- Sources: core/tensor/copy.c, core/kernels/kern.c.

local H = require "spec.helper"
local core = require "perigee.core"
local ops = core.ops

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
