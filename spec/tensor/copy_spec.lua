-- Copies and casts: all pairs of dtypes, broadcasting, overlapping memory. Relies on spec/helper.lua.
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
    H.same(core.tensor({1 + 1 / 256, 1 + 3 / 256}):to("bfloat16"):to("float32"), {1, 1 + 2 / 128}, 0)
    H.same(core.tensor({-1.7, 1.7}):to("int64"), {-1, 1})
    H.same(core.tensor({0 / 0, 0.5}):to("bool"), {true, true})
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
    H.raises(function() x:add_(1) end, "add_?: cannot work in place on an expanded tensor")
  end)
end)
