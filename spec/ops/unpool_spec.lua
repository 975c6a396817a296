--- max_unpool, and the indices of max_pool that it takes: PyTorch's values and gradients, messages.
-- Relies on spec/helper.lua. Sources: core/ops/unpool.c, core/ops/pool.c.

local H = require "spec.helper"
local core = require "perigee.core"
local ops = core.ops

H.fixtures("unpool")

local function places(...) return H.make({1, 4, 12, 9}, "int64", {...}) end

H.op("max_unpool2d", {
  args = function(t) return {t.randn(1, 1, 2, 2), places(1, 1, 2, 2), 2} end,
  more = {function(t) return {t.randn(1, 2, 2), places(1, 2, 2), 2, nil, 0, {5, 4}} end},
  empty = {function(t) return {t.randn(0, 1, 2, 2), t.int(1, 2, {0, 1, 2, 2}), 2} end,
    {0, 1, 4, 4}},
  wrong_shape = {{function(t) return {t.randn(1, 1, 2, 2), places(1, 2, 2), 2} end,
      "'indices': expected the shape of input %[1 x 1 x 2 x 2%], got %[1 x 2 x 2%]"},
    {function(t) return {t.randn(1, 1, 2, 2), places(1, 1, 2, 2), 2, nil, 0, {9, 4}} end,
      "'output_size': expected 3 to 5, got 9"},
    {function(t) return {t.randn(1, 1, 2, 2), H.make({1, 2, 3, 17}, "int64", {1, 1, 2, 2}), 2} end,
      "'indices': expected 1%.%.16, got 17 at element 4"}},
  wrong_dtype = {function(t) return {t.randn(1, 1, 2, 2), t.randn(1, 1, 2, 2), 2} end,
    "'indices': expected int"},
})
H.op("max_unpool1d", {
  args = function(t) return {t.randn(1, 4), H.make({1, 3, 6, 7}, "int64", {1, 4}), 2} end,
  empty = {function(t) return {t.randn(0, 1, 2), t.int(1, 2, {0, 1, 2}), 2} end, {0, 1, 4}},
  wrong_shape = {function(t) return {t.randn(4), t.int(1, 4, {4}), 2} end,
    "'input': expected 2 or 3 dims, got %[4%]"},
  wrong_dtype = {function(t) return {t.int(1, 4, {1, 4}), t.int(1, 4, {1, 4}), 2} end,
    "'input': expected float32"},
})
H.op("max_unpool3d", {
  args = function(t)
    return {t.randn(1, 1, 1, 2, 2), H.make({1, 12, 30, 64}, "int64", {1, 1, 1, 2, 2}), {4, 2, 2}}
  end,
  empty = {function(t) return {t.randn(0, 1, 2, 2, 2), t.int(1, 2, {0, 1, 2, 2, 2}), 2} end,
    {0, 1, 4, 4, 4}},
  wrong_shape = {function(t) return {t.randn(4), t.int(1, 4, {4}), 2} end,
    "'input': expected 4 or 5 dims, got %[4%]"},
  wrong_dtype = {function(t) return {t.int(1, 4, {1, 1, 2, 2}), t.int(1, 4, {1, 1, 2, 2}), 2} end,
    "'input': expected float32"},
})

describe("return_indices", function()
  it("gives places from 1 that max_unpool takes", function()
    local x = H.make({1, 5, 2, 3, 4, 0, 9, 8}, "float32", {1, 1, 2, 4})
    local y, at = ops.max_pool2d(x, 2, {return_indices = true})
    H.same(at, {{{{2, 7}}}})
    H.same(ops.max_unpool2d(y, at, 2), {{{{0, 5, 0, 0}, {0, 0, 9, 0}}}})
    assert.equal(1, select("#", ops.max_pool2d(x, 2)))
  end)
  it("is there without data", function()
    local y, at = ops.max_pool2d(core.meta("float32", {2, 3, 6, 4}), 2, {return_indices = true})
    assert.same({2, 3, 3, 2}, y.shape)
    assert.same({2, 3, 3, 2}, at.shape)
    assert.equal("int64", at.dtype)
  end)
  it("leaves the gradient as it is", function()
    H.gradcheck(function(x) return (ops.max_pool2d(x, 2, {return_indices = true})) end,
      H.t64.distinct(1, 2, 4, 4))
    H.gradcheck(function(x) return (ops.adaptive_max_pool1d(x, 2, true)) end,
      H.t64.distinct(1, 2, 5))
  end)
end)
