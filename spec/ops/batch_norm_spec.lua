--- batch_norm: PyTorch's values and gradients, running statistics, layouts, messages.
-- Relies on spec/helper.lua. Sources: core/ops/batch_norm.c, core/ops/norm.h.

local H = require "spec.helper"
local core = require "perigee.core"
local ops = core.ops

H.fixtures("norm", "^batch")

local function train(...)
  local shape = {...}
  return function(t)
    return {t.randn(shape), nil, nil, t.positive(shape[2]), t.randn(shape[2]), true, n = 6}
  end
end
local function eval(...)
  local shape = {...}
  return function(t)
    local c = shape[2]
    return {t.randn(shape), t.randn(c), t.positive(c), t.positive(c), t.randn(c)}
  end
end

H.op("batch_norm", {
  args = train(4, 3, 2),
  more = {eval(4, 3, 2), train(5, 2), eval(5, 2), train(2, 3, 2, 2), eval(2, 3, 2, 2),
    function(t) return {t.randn(4, 2), nil, nil, nil, nil, true, n = 6} end},
  fixed = {2, 3}, large = train(700, 50), empty = {eval(0, 3, 2), {0, 3, 2}},
  wrong_shape = {{function(t) return {t.randn(3)} end, "expected n x c or n x c x .., got %[3%]"},
    {function(t) return {t.randn(2, 3)} end, "'running_mean': .*got nothing"},
    {function(t) return {t.randn(2, 3), t.randn(3), nil, nil, nil, true, n = 6} end,
      "beside running_mean, got nothing"},
    {train(1, 3), "expected more than one value per channel in training, got %[1 x 3%]"},
    {function(t) return {t.randn(2, 3), t.randn(2), t.positive(2)} end,
      "'running_mean': expected %[3%], one a channel of %[2 x 3%], got %[2%]"}},
  wrong_dtype = {function(t) return {t.int(1, 5, {2, 3}), t.randn(3), t.randn(3)} end, "got int64"},
})

describe("batch_norm", function()
  it("moves the running statistics, the variance unbiased", function()
    for _, shape in ipairs {{6, 3}, {4, 3, 5}, {2, 3, 4, 2}} do
      local x = H.randn(shape) * 3 + 10
      for _, t in ipairs {x, #shape == 4 and H.layouts.channels_last(x) or x} do
        local mean, var = ops.full({3}, 2.0), ops.full({3}, 5.0)
        ops.batch_norm(t, mean, var, nil, nil, true, 0.3)
        local dims = {1, 3, 4}
        while #dims > #shape - 1 do dims[#dims] = nil end
        local v, m = ops.var_mean(x, dims)
        H.same(mean, m * 0.3 + 2 * 0.7, 1e-4)
        H.same(var, v * 0.3 + 5 * 0.7, 1e-4)
      end
    end
  end)

  it("keeps channels-last images as they lie", function()
    local x = H.layouts.channels_last(H.randn(2, 3, 4, 5))
    local y = ops.batch_norm(x, nil, nil, nil, nil, true)
    assert.same(x:stride(), y:stride())
  end)

  it("does not touch the running statistics when it refuses", function()
    local mean, var = ops.zeros({3}), ops.ones({3})
    H.raises(function() ops.batch_norm(H.randn(1, 3), mean, var, nil, nil, true) end,
      "more than one")
    H.same(mean, ops.zeros({3}))
    H.same(var, ops.ones({3}))
  end)

  it("uses the batch's statistics of float32 far from zero", function()
    local x = H.randn(1000, 2) + 1e4
    local y = ops.batch_norm(x, nil, nil, nil, nil, true)
    assert(y:mean(1):abs():max():item() < 2e-3)
    assert((y:std(1) - 1):abs():max():item() < 2e-3)
  end)
end)
