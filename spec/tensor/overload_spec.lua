-- max and min of two tensors, index_put with a list: values, gradients, messages.
-- Relies on spec/helper.lua. Source: lua/perigee/tensor/overload.lua.

local H = require "spec.helper"
local pg = require "perigee"

local function i64(list) return pg.tensor(list, {dtype = "int64"}) end

describe("max and min", function()
  it("of two tensors are elementwise", function()
    local x, y = pg.tensor {{1, 5}, {4, 2}}, pg.tensor {3, 3}
    H.same(x:max(y), pg.tensor {{3, 5}, {4, 3}})
    H.same(pg.min(x, y), pg.tensor {{1, 3}, {3, 2}})
    x.requires_grad = true
    x:max(y):sum():backward()
    H.same(x.grad, pg.tensor {{0, 1}, {1, 0}})
  end)

  it("of one are as before", function()
    local values, indices = pg.tensor {{1, 5}, {4, 2}} :max(2)
    H.same(values, pg.tensor {5, 4})
    H.same(indices, i64 {2, 1})
    assert.equal(1, pg.min(pg.tensor {3, 1}):item())
    H.raises(function() pg.tensor {3, 1} :max(2) end,
      "^spec/tensor/overload_spec.lua:%d+: max: argument 'dim': .*got 2")
  end)
end)

describe("index_put", function()
  it("takes a list of indices, one a dim", function()
    local x = pg.zeros(2, 3)
    H.same(x:index_put({i64 {1, 2}, i64 {3, 1}}, pg.tensor {5, 6}),
      pg.tensor {{0, 0, 5}, {6, 0, 0}})
    H.same(x, pg.zeros(2, 3))
    H.same(pg.index_put(x, {pg.tensor {true, false}}, 4), pg.tensor {{4, 4, 4}, {0, 0, 0}})
    x:index_put_({i64 {2}}, 7)
    H.same(x, pg.tensor {{0, 0, 0}, {7, 7, 7}})
  end)

  it("adds with accumulate, by position or by name", function()
    local x, v = pg.ones(3), pg.tensor {1, 2, 3}
    v.requires_grad = true
    local y = x:index_put({i64 {1, 3, 1}}, v, true)
    H.same(y:detach(), pg.tensor {5, 1, 3})
    H.same(x:index_put({i64 {1, 3, 1}}, v, {accumulate = true}):detach(), y:detach())
    y:dot(pg.tensor {1, 2, 3}):backward()
    H.same(v.grad, pg.tensor {1, 3, 1})
  end)

  it("says what is wrong", function()
    local x = pg.zeros(3)
    H.raises(function() x:index_put({}, 1) end, "index_put: argument 'indices': expected a list")
    H.raises(function() x:index_put({i64 {4}}, 1) end, "got 4 at position 1")
    H.raises(function() x:index_put({i64 {1}}, 1, {acumulate = true}) end,
      "did you mean 'accumulate'")
    H.raises(function() x:index_put_({i64 {1}}, 1, 3) end,
      "index_put_: argument 'accumulate': expected .*boolean, got .*3")
  end)
end)

describe("polygamma", function()
  it("takes its order first as a function, last as a method", function()
    local x = pg.tensor {1, 2}
    H.same(pg.polygamma(1, x), x:polygamma(1))
    H.raises(function() pg.polygamma(-1, x) end, "'n': expected at least 0, got %-1")
  end)
end)

describe("randint", function()
  it("counts from 1 where only the upper end is given", function()
    local x = pg.randint(3, {50, 2})
    assert.same({50, 2}, x.shape)
    assert.equal("int64", x.dtype)
    assert.equal(1, x:min():item())
    assert.equal(3, x:max():item())
    assert.equal("float32", pg.randint(3, {2}, {dtype = "float32"}).dtype)
    assert.equal(4, pg.randint(4, 4, {2}):min():item())
    local y = pg.randint_like(pg.zeros(50), 2)
    assert.equal(1, y:min():item())
    assert.equal(2, y:max():item())
    assert.equal(7, pg.randint_like(pg.zeros(5), 7, 7):max():item())
    H.raises(function() pg.randint(5) end, "randint: argument 'high': .*got nothing")
  end)
end)

describe("to", function()
  it("takes a dtype, another tensor or the device", function()
    local x = pg.tensor {1, 2}
    assert.equal("int64", x:to(i64 {1}).dtype)
    assert.equal("float64", x:to("float64").dtype)
    assert.is_true(rawequal(x, x:to "cpu"))
    H.raises(function() x:to "float33" end, "to: argument 'dtype': expected a dtype")
  end)
end)

describe("var and its kin", function()
  it("take unbiased in the place of dim", function()
    local x = pg.tensor {{1, 2}, {3, 6}}
    H.same(x:var(false), 3.5)
    H.same(pg.std(x, true), math.sqrt(14 / 3))
    H.same((pg.var_mean(x, false)), x:var {unbiased = false})
    H.same(x:var(1), {2, 8})
  end)
end)

describe("searchsorted", function()
  it("takes a side and a sorter", function()
    local x, v = pg.tensor {5, 1, 3}, pg.tensor {3, 4}
    local sorter = x:argsort()
    H.same(pg.searchsorted(x, v, {sorter = sorter}), {2, 3})
    H.same(pg.searchsorted(x, v, {sorter = sorter, side = "right"}), {3, 3})
    H.same(pg.searchsorted(x:sort(), v, true), {3, 3})
    H.same(pg.bucketize(v, pg.tensor {1, 3}, {right = true, out_int32 = true}), {3, 3})
    H.raises(function() pg.searchsorted(x, v, {side = "top"}) end, "left")
  end)
end)

describe("where and nonzero", function()
  it("list the places of what is true", function()
    local x = pg.tensor {{0, 1}, {2, 0}}
    for _, list in ipairs {pg.where(x:ne(0)), x:nonzero {as_tuple = true}, pg.nonzero(x, true)} do
      H.same(list[1], i64 {1, 2})
      H.same(list[2], i64 {2, 1})
    end
    H.same(pg.nonzero(x), i64 {{1, 2}, {2, 1}})
    H.same(pg.where(x:ne(0), x, 7), {{7, 1}, {2, 7}})
  end)
end)

describe("bernoulli", function()
  it("takes a probability for all elements", function()
    H.same(pg.bernoulli(pg.zeros(3), 1), {1, 1, 1})
    H.same(pg.zeros(3):bernoulli {p = 0}, {0, 0, 0})
    H.same(pg.bernoulli(pg.ones(3)), {1, 1, 1})
    H.raises(function() pg.bernoulli(pg.zeros(3), 2) end, "bernoulli")
  end)
end)

describe("scatter", function()
  local index = i64 {1, 3}
  it("takes a value by position or by name, and a reduction", function()
    local x = pg.tensor {2, 3, 4}
    H.same(x:scatter(1, index, 7), {7, 3, 7})
    H.same(pg.scatter(x, 1, index, {value = 7}), {7, 3, 7})
    H.same(x:scatter(1, index, pg.tensor {5, 6}, {reduce = "add"}), {7, 3, 10})
    H.same(x:scatter(1, index, 3, {reduce = "multiply"}), {6, 3, 12})
    H.same(x:scatter(1, index, {src = pg.tensor {5, 6}, reduce = "multiply"}), {10, 3, 24})
    assert.is_true(rawequal(x, x:scatter_(1, index, 1, {reduce = "add"})))
    H.same(x, {3, 3, 5})
    H.same(x:scatter {dim = 1, index = index, src = pg.tensor {0, 0}}, {0, 3, 0})
    H.raises(function() x:scatter(1, index, 1, {reduce = "mul"}) end, "multiply")
  end)
end)
