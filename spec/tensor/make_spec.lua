--- Tensors from bytes and after a model. Relies on spec/helper.lua.
-- Source: lua/perigee/tensor/make.lua.

local H = require "spec.helper"
local core = require "perigee.core"
local pg = require "perigee"

H.op("frombuffer", {
  args = function() return {"abcd", "uint8"} end, empty = function() return {"", "float32"} end,
  wrong_shape = {
    {function() return {"abc", "float32"} end, "'buffer': .*got 3"},
    {function() return {"abcd", "uint8", 5} end, "'count': expected at most 4 of uint8, got 5"},
    {function() return {"abcd", "uint8", -1, 5} end, "'offset': expected 0..4, got 5"}},
  wrong_dtype = {function() return {"abcd", "int3"} end, "expected a dtype"},
})

describe("tensors from bytes", function()
  it("come in every dtype", function()
    for _, dtype in ipairs {"float32", "float64", "bfloat16", "int64", "uint8", "bool"} do
      local x = core.tensor({1, 0, 1}, {dtype = dtype})
      H.identical(pg.frombuffer(x:bytes(), dtype), x)
      assert.equal(#x:bytes() // 3, x:element_size())
    end
    H.same(pg.frombuffer("..ab....", "uint8", 2, 2), H.make({97, 98}, "uint8", {2}))
    assert.is_true(pg.frombuffer("abcd", "float32", {requires_grad = true}).requires_grad)
  end)
end)

describe("normal", function()
  it("takes tensors for mean and std", function()
    core.manual_seed(2)
    local mean = core.tensor {{0}, {100}}
    local x = pg.normal(mean:expand(2, 4000), core.tensor(2))
    assert.same({2, 4000}, x.shape)
    assert.is_true((x:mean(2) - core.tensor {0, 100}):abs():max():item() < 0.15)
    assert.is_true((x:std(2) - 2):abs():max():item() < 0.1)
    assert.same({3}, pg.normal(0, core.tensor {1, 2, 3}).shape)
    assert.same({2}, pg.normal(0, 1, {2}).shape)
  end)
end)

describe("tensors after a model", function()
  local x = core.tensor({1, 2}, {dtype = "float64"})
  it("have its dtype unless another is named", function()
    H.same(x:new_zeros(2, 1), H.make({0, 0}, "float64", {2, 1}))
    H.same(x:new_ones({1, 2}), H.make({1, 1}, "float64", {1, 2}))
    H.same(x:new_full({2}, 3), H.make({3, 3}, "float64", {2}))
    assert.equal("int64", x:new_ones(2, {dtype = "int64"}).dtype)
    assert.is_true(x:new_zeros(2, {requires_grad = true}).requires_grad)
    assert.same({2, 0}, x:new_empty(2, 0).shape)
    H.same(x:new_tensor {{5}}, H.make({5}, "float64", {1, 1}))
  end)
  it("are cast by name", function()
    for name, dtype in pairs {float = "float32", double = "float64", long = "int64", int = "int64",
                              byte = "uint8", bool = "bool", bfloat16 = "bfloat16"} do
      assert.equal(dtype, x[name](x).dtype)
    end
    assert.same({1, 2}, x:tolist())
    assert.equal(2, x:nelement())
  end)
end)
