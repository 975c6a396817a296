-- Tensors as Lua values: construction, fields, indexing, assignment. Relies on spec/helper.lua.
-- Sources: lua/binding/tensor.c, lua/perigee/tensor.lua, core/ops/slice.c.

local H = require "spec.helper"
local core = require "perigee.core"
local pg = require "perigee"

describe("pg.tensor", function()
  it("takes nested tables, numbers, booleans and tensors", function()
    assert.same({2, 1, 3}, pg.tensor({{{1, 2, 3}}, {{4, 5, 6}}}).shape)
    assert.equal("float32", pg.tensor({1}).dtype)
    assert.equal("bool", pg.tensor({{true, false}}).dtype)
    assert.equal(3, pg.tensor(3):item())
    local a = pg.tensor {1, 2}
    local b = pg.tensor(a)
    b[1] = 9
    H.same(a, {1, 2})
    assert.same({0}, pg.tensor({}).shape)
  end)
  it("refuses ragged and foreign tables", function()
    H.raises(function() pg.tensor {{1, 2}, {3}} end, "ragged")
    H.raises(function() pg.tensor {{1, 2}, 3} end, "ragged")
    H.raises(function() pg.tensor {1, "x"} end, "expected numbers, got string")
    H.raises(function() pg.tensor({1}, {dtyp = "float64"}) end, "did you mean 'dtype'")
    H.raises(function() pg.tensor("x") end, "expected a number")
    H.raises(function() pg.tensor({1}, {dtype = "float12"}) end, "'dtype': .*got 'float12'")
  end)
  it("goes to tables and bytes and back", function()
    local x = pg.tensor {{1, 2}, {3, 4}}
    assert.same({{1, 2}, {3, 4}}, x:totable())
    assert.same({{1, 3}, {2, 4}}, x:t():totable())
    H.identical(core.from_bytes(x:bytes(), "float32", {2, 2}), x)
    H.raises(function() core.from_bytes("abc", "float32", {1}) end, "'bytes': .*got 3")
    assert.same({}, pg.zeros(0):totable())
  end)
end)

describe("fields", function()
  local x = pg.tensor {{1, 2, 3}, {4, 5, 6}}
  it("are there, and unknown ones suggest", function()
    assert.same({2, 3}, x.shape)
    assert.is_nil(x.grad)
    assert.is_false(x.requires_grad)
    assert.is_true(x.is_leaf)
    assert.same({3, 1}, x:stride())
    assert.equal(3, x:size(2))
    assert.equal(3, x:size(-1))
    H.raises(function() return x:size(3) end, "'dim': .*%-1, got 3")
    H.raises(function() return x.shap end, "did you mean 'shape'")
    H.raises(function() x.dtype = "float64" end, "'index': .*got 'dtype'")
  end)
  it("requires_grad is for floating leaves", function()
    local i = pg.tensor({1}, {dtype = "int64"})
    H.raises(function() i.requires_grad = true end, "floating")
    local w = pg.tensor {1}
    w.requires_grad = true
    H.raises(function() (w * 1).requires_grad = false end,
      "'requires_grad': expected true for the result of an op, got false; use detach%(%)")
  end)
end)

describe("indexing", function()
  local x = pg.arange(1, 24):view(2, 3, 4)
  it("reads rows, elements, ranges, steps", function()
    H.same(x[1][2], {5, 6, 7, 8})
    H.same(x[{2, 3, 4}], 24)
    H.same(x[-1][{ {}, 1 }], {13, 17, 21})
    H.same(x[{ 1, {2, 3}, {1, -1, 3} }], {{5, 8}, {9, 12}})
    H.same(x[{ {2} }], x[{ {2, 2} }])
    H.same(x[{ {}, {}, -1 }], {{4, 8, 12}, {16, 20, 24}})
    assert.same({1, 0, 4}, x[{ {1, 1}, {1, 0} }].shape)
  end)
  it("refuses what is out of range", function()
    H.raises(function() return x[3] end, "indexing: argument 'index': .*got 3")
    H.raises(function() return x[0] end, "indexing: argument 'index': .*got 0")
    H.raises(function() return x[{1, 4}] end, "dim 2")
    H.raises(function() return x[{1, 1, 1, 1}] end, "'index': .*got 4")
    H.raises(function() return x[1.5] end, "expected an integer, got 1.5")
    H.raises(function() return x[{ {3, 1} }] end, "'index': .*in dim 1, got 3")
    H.raises(function() return x[{ {2, 1, 0} }] end, "'index': .*got 0")
    H.raises(function() return x[true] end, "'index': .*got a boolean")
    H.raises(function() return pg.tensor(1)[1] end, "'self': expected a tensor with dims, got %[%]")
  end)
  it("assigns numbers and tensors that broadcast", function()
    local y = pg.zeros(2, 3)
    y[1] = 5
    y[{ {}, 3 }] = pg.tensor {7, 8}
    y[{2, 1}] = -1
    H.same(y, {{5, 5, 7}, {-1, 0, 8}})
    H.raises(function() y[1] = pg.zeros(4) end, "'source': .*got %[4%]")
    H.raises(function() y[1] = "x" end, "expected a tensor or a number")
  end)
  it("shares memory with its tensor", function()
    local y = pg.zeros(2, 2)
    local row = y[2]
    row:add_(3)
    H.same(y, {{0, 0}, {3, 3}})
  end)
  it("takes masks and index tensors, for reading and assignment", function()
    local y = pg.tensor {10, 20, 30, 40}
    H.same(y[y:gt(15)], {20, 30, 40})
    H.same(y[pg.tensor({4, 1, 1}, {dtype = "int64"})], {40, 10, 10})
    y[y:gt(25)] = 0
    H.same(y, {10, 20, 0, 0})
    y[pg.tensor({1, 2}, {dtype = "int64"})] = pg.tensor {5, 6}
    H.same(y, {5, 6, 0, 0})
    local m = pg.arange(1, 6):view(2, 3)
    H.same(m[pg.tensor({2, 1, 2}, {dtype = "int64"})], {{4, 5, 6}, {1, 2, 3}, {4, 5, 6}})
    H.same(m[{ {}, pg.tensor({3, 1}, {dtype = "int64"}) }], {{3, 1}, {6, 4}})
    H.same(m[m:gt(2)], {3, 4, 5, 6})
    H.same(m[pg.tensor {false, true}], {{4, 5, 6}})
    m[m:lt(3)] = -1
    H.same(m, {{-1, -1, 3}, {4, 5, 6}})
  end)
  it("carries gradients", function()
    local args = {pg.tensor({{1, 2, 3}, {4, 5, 6}}, {dtype = "float64"})}
    H.gradcheck(function(t) return t[{ {}, {1, -1, 2} }] * t[2][1] end, args[1])
  end)
end)

describe("pieces", function()
  local x = pg.arange(1, 10):view(2, 5)
  it("split by length or by a list of lengths", function()
    H.same(x:split({2, 3}, 2)[2], {{3, 4, 5}, {8, 9, 10}})
    assert.equal(3, #x:split(2, 2))
    H.raises(function() x:split({2, 2}, 2) end, "'split_size': .*got 4")
  end)
  it("chunk and unbind", function()
    assert.equal(3, #x:chunk(3, 2))
    H.same(x:unbind(2)[5], {5, 10})
  end)
end)

describe("the field", function()
  it("T turns all dims round, with its gradient", function()
    local x = pg.arange(1, 6):view(2, 3):to "float32"
    H.same(x.T, {{1, 4}, {2, 5}, {3, 6}})
    assert.same({4, 3, 2}, pg.zeros(2, 3, 4).T.shape)
    x.requires_grad = true
    x.T[{ {}, 1 }]:sum():backward()
    H.same(x.grad, {{1, 1, 1}, {0, 0, 0}})
  end)
  it("ndim counts dims", function() assert.equal(3, pg.zeros(2, 3, 4).ndim) end)
end)
