-- The harness itself: each check must be able to fail.
-- Relies on spec/helper.lua. Sources: spec/helper.lua, spec/helper/*.lua.

local H = require "spec.helper"
local core = require "perigee.core"

-- Whether a check that ought to fail does, with a message that matches.
local function fails(pattern, fn)
  local ok, err = pcall(fn)
  assert.is_false(ok, "the check passed")
  local message = type(err) == "table" and err.message or tostring(err)
  assert.is_truthy(message:find(pattern), message)
end

describe("H.same", function()
  it("takes tensors, numbers and tables", function()
    H.same(H.make({1, 2, 3, 4}, "float32", {2, 2}), {{1, 2}, {3, 4}})
    H.same(H.make({1.5}, "float64", {}), 1.5)
    H.same(H.make({0 / 0, 1 / 0}, "float32", {2}), {0 / 0, 1 / 0})
    H.same(H.make({}, "float32", {0, 3}), H.make({}, "float32", {0, 3}))
    H.same(H.make({1, 0}, "bool", {2}), {true, false})
  end)
  it("sees values, shapes, dtypes, infinities and the sign of zero", function()
    local x = H.make({1, 2}, "float64", {2})
    fails("element {2}", function() H.same(x, {1, 2.1}) end)
    fails("element {2}", function() H.same(x, {1, 2 + 1e-8}) end)
    fails("shape", function() H.same(x, {{1, 2}}) end)
    fails("dtype", function() H.same(x, H.make({1, 2}, "float32", {2})) end)
    fails("element {1}", function() H.same(H.make({1e30}, "float32", {1}), {1 / 0}) end)
    fails("element {1}", function() H.same(H.make({0 / 0}, "float32", {1}), {0}) end)
    fails("element", function() H.same(H.make({0.0}, "float64", {1}), {-0.0}, {signs = true}) end)
    fails("expected a tensor", function() H.same(nil, {1}) end)
  end)
end)

describe("H.raises", function()
  it("wants an error that matches", function()
    assert.equal("boom", H.raises(function() error("boom", 0) end, "bo+m"))
    fails("got none", function() H.raises(function() end, "x") end)
    fails("got: boom", function() H.raises(function() error("boom", 0) end, "bang") end)
  end)
end)

describe("values", function()
  it("survive the way to bytes and back", function()
    local list = {}
    for i = 1, 300 do list[i] = i % 7 end
    for _, dtype in ipairs {"float32", "float64", "int64", "uint8"} do
      assert.same(list, H.values(H.make(list, dtype, {3, 100})))
    end
  end)
  it("are the same for the same seed, and float32 numbers in both dtypes", function()
    local a, b = H.generator("float32", 5), H.generator("float64", 5)
    assert.same(H.values(a.randn(4, 5)), H.values(b.randn(4, 5)))
    assert.same({4, 5}, a.rand({4, 5}).shape)
  end)
  it("lie in strided views as they do in the original", function()
    for _, shape in ipairs {{2, 3}, {2, 3, 4, 5}, {4}, {}} do
      local x = H.randn(shape)
      for _, view in pairs(H.layouts) do H.same(view(H.leaf(x)), x) end
    end
    assert.is_not.same(H.randn(2, 3):stride(), H.layouts.stepped(H.randn(2, 3)):stride())
    assert.is_not.same(H.randn(2, 3):stride(), H.layouts.transposed(H.randn(2, 3)):stride())
  end)
end)

describe("H.gradcheck", function()
  it("passes what is right", function()
    H.gradcheck(function(x) return x:exp() end, H.t64.randn(3))
    H.gradcheck(function(x, y) return x:matmul(y), x:exp() end, H.t64.randn(2, 3),
      H.t64.randn(3, 2))
    H.gradgradcheck(function(x) return x:exp() end, H.t64.randn(3))
  end)
  it("catches a gradient that is too small, absent or twice as large", function()
    fails("gradient of input 1", function()
      H.gradcheck(function(x) return x + x:detach() end, H.t64.randn(3))
    end)
    fails("no output", function()
      H.gradcheck(function(x) return x:detach() end, H.t64.randn(3))
    end)
    fails("gradient of input 2", function()
      H.gradcheck(function(x, y) return x + y:detach() end, H.t64.randn(3), H.t64.randn(3))
    end)
    fails("gradient of input 1", function()
      H.gradcheck(function(x) return x:detach():exp() * 2 + x:exp() end, H.t64.randn(3))
    end)
  end)
end)

describe("core.fail_after", function()
  it("makes one allocation fail", function()
    local x = H.randn(3)
    core.fail_after(1)
    local ok, message = pcall(core.ops.exp, x)
    core.fail_after(-1)
    assert.is_false(ok)
    assert.matches("out of memory", message)
    assert.is_true((pcall(core.ops.exp, x)))
  end)
end)
