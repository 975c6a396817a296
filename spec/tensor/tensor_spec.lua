-- Tensors: making, layouts, broadcasting, copies, text. Relies on spec/helper.lua.
-- Sources: core/tensor/*.c.

local H = require "spec.helper"
local core = require "perigee.core"
local ops = core.ops

describe("a tensor", function()
  it("has every dtype and converts between them", function()
    for _, dtype in ipairs {"float32", "float64", "bfloat16", "int64", "uint8"} do
      local t = core.tensor({1, 2, 3}, {dtype = dtype})
      assert.equal(dtype, t.dtype)
      H.same(t:to("float64"), {1, 2, 3})
    end
    H.same(core.tensor({0, 2, 0}):to("bool"), {false, true, false})
  end)

  it("keeps 64-bit integers exactly", function()
    local big = (1 << 60) + 1
    assert.equal(big, core.tensor({big}, {dtype = "int64"})[1]:item())
  end)

  it("has at most eight dims", function()
    H.raises(function() ops.zeros({1, 1, 1, 1, 1, 1, 1, 1, 1}) end, "at most 8 dims")
    assert.equal(8, ops.zeros({1, 2, 1, 2, 1, 2, 1, 2}):dim())
  end)

  it("broadcasts like PyTorch", function()
    local a, b = ops.zeros({3, 1, 5}), ops.ones({4, 1})
    assert.same({3, 4, 5}, (a + b).shape)
    H.raises(function() return ops.zeros({2, 3}) + ops.zeros({4}) end,
      "add: argument 'other': expected a shape that broadcasts with input %[2 x 3%], got %[4%]")
  end)

  it("walks any dense layout in one order, and keeps the layout", function()
    local x = ops.arange(1, 24):view(2, 3, 4):to("float32")
    local p = x:permute(2, 3, 1)
    local y = p * 2 + p:contiguous()
    H.same(y, p * 3)
    assert.same(p:stride(), (p * 2):stride())
  end)

  it("reads negative, zero and stepped strides", function()
    local x = ops.arange(1, 12):view(3, 4)
    H.same(x:t():contiguous(), {{1, 5, 9}, {2, 6, 10}, {3, 7, 11}, {4, 8, 12}})
    H.same(x[{ {1, -1, 2}, {2, 4, 2} }], {{2, 4}, {10, 12}})
    H.same(ops.expand(core.tensor({7}), {2, 3}), {{7, 7, 7}, {7, 7, 7}})
  end)

  it("can be empty and can be a scalar", function()
    local e = ops.zeros({0, 3})
    assert.same({0, 3}, (e + 1).shape)
    assert.equal(0, e:numel())
    assert.same({}, core.tensor(3).shape)
    assert.equal(4, (core.tensor(3) + 1):item())
  end)
end)

describe("a tensor's text", function()
  local function text(t) return tostring(t) end
  it("shows values, shape and dtype", function()
    assert.equal("{{1., 2., 3.},\n {4., 5., 6.}}\n[float32 tensor 2 x 3]",
      text(core.tensor {{1, 2, 3}, {4, 5, 6}}))
    assert.equal("3\n[int64 scalar]", text(core.tensor(3, {dtype = "int64"})))
    assert.equal("{}\n[float32 tensor 0 x 2]", text(ops.zeros({0, 2})))
    assert.matches("true, false", text(core.tensor {true, false}))
  end)
  it("aligns columns and shows what is not finite", function()
    assert.equal("{   1.5000, -200.2500}\n[float32 tensor 2]", text(core.tensor {1.5, -200.25}))
    assert.matches("nan", text(core.tensor {0 / 0}))
    assert.matches("%-inf", text(core.tensor {-math.huge, 1}))
  end)
  it("shortens large tensors", function()
    local s = text(ops.zeros({100, 100}))
    assert.matches("%.%.%.", s)
    assert.is_true(#s < 1000)
  end)
  it("says that it wants a gradient, and that it has no data", function()
    assert.matches("requires_grad", text(core.tensor({1}, {requires_grad = true})))
    assert.matches("shape only", text(core.meta("float32", {2, 3})))
  end)
end)
