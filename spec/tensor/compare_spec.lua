--- Questions with a plain answer. Relies on spec/helper.lua.
-- Source: lua/perigee/tensor/compare.lua.

local H = require "spec.helper"
local core = require "perigee.core"
local pg = require "perigee"

local function pair(a, b) return function(t) return {t.randn(a), t.randn(b)} end end

H.op("allclose", {args = pair({2, 3}, {3}), empty = pair({0}, {0}), meta = false,
  wrong_shape = {pair({2}, {3}), "allclose: isclose"}})
H.op("equal", {args = pair({2, 3}, {2, 3}), more = {pair({2}, {3})}, empty = pair({0}, {0}),
  meta = false})
H.op("is_floating_point", {args = pair({2}), empty = pair({0}), fn = function(x)
  return core.ops.is_floating_point(x)
end})
H.op("numel", {args = function(t) return {t.randn(2, 3)} end,
  empty = function(t) return {t.randn(0)} end})
H.op("result_type", {args = pair({2}, {3}), empty = pair({0}, {1})})
H.op("promote_types", {args = function() return {"uint8", "float32"} end, empty = false,
  wrong_dtype = {function() return {"uint8", "half"} end, "'type2': expected a dtype"}})
H.op("can_cast", {args = function() return {"uint8", "float32"} end, empty = false,
  wrong_dtype = {function() return {3, "bool"} end, "'from': expected a dtype .- got 3"}})

describe("comparing", function()
  it("answers with true or false", function()
    local x, nan = core.tensor {1, 2}, 0 / 0
    assert.is_true(pg.equal(x, core.tensor {1, 2}))
    assert.is_false(x:equal(core.tensor {1, 3}))
    assert.is_false(x:equal(core.tensor {{1, 2}}))
    assert.is_false(pg.equal(core.tensor {nan}, core.tensor {nan}))
    assert.is_true(pg.equal(core.ops.zeros(0), core.ops.zeros(0)))
    assert.is_true(x:allclose(x + 1e-6))
    assert.is_false(x:allclose(x + 1e-3))
    assert.is_true(x:allclose(x + 1e-3, {atol = 0.01}))
    assert.is_false(pg.allclose(core.tensor {nan}, core.tensor {nan}))
    assert.is_true(pg.allclose(core.tensor {nan}, core.tensor {nan}, {equal_nan = true}))
  end)
  it("knows dtypes", function()
    local x = core.tensor {1}
    assert.is_true(pg.is_floating_point(x))
    assert.is_false(x:long():is_floating_point())
    assert.equal(6, pg.numel(core.ops.zeros(2, 3)))
    assert.equal("float32", pg.result_type(x, 1))
    assert.equal("float32", pg.result_type(x:long(), 1.5))
    assert.equal("int64", pg.result_type(1, 2))
    local kinds = {"bool", "uint8", "int64", "float32", "float64"}
    for _, one in ipairs(kinds) do
      for _, two in ipairs(kinds) do
        local a = core.ops.ones({1}, {dtype = one})
        for _, shape in ipairs {{1}, {}} do
          local b = core.ops.ones(shape, {dtype = two})
          assert.equal((a + b).dtype, pg.result_type(a, b))
          assert.equal((b + a).dtype, pg.result_type(b, a))
        end
      end
    end
    for _, case in ipairs {{"uint8", "int64", "int64"}, {"bool", "uint8", "uint8"},
        {"int64", "float32", "float32"}, {"float32", "float64", "float64"},
        {"bfloat16", "float32", "float32"}, {"bool", "bool", "bool"}} do
      assert.equal(case[3], pg.promote_types(case[1], case[2]))
      assert.equal(case[3], pg.promote_types(case[2], case[1]))
    end
    assert.is_true(pg.can_cast("int64", "uint8"))
    assert.is_true(pg.can_cast("float64", "float32"))
    assert.is_false(pg.can_cast("float32", "int64"))
    assert.is_false(pg.can_cast("uint8", "bool"))
  end)
end)
