--- Softmax, log_softmax, softmin: PyTorch's values and gradients, layouts, messages.
-- Relies on spec/helper.lua. Sources: core/ops/softmax.c, core/ops/layout.h.

local H = require "spec.helper"
local core = require "perigee.core"
local ops = core.ops

H.fixtures("softmax")

local function x(dim)
  return function(t) return {t.randn(2, 3, 4), dim} end
end

for _, name in ipairs {"softmax", "log_softmax", "softmin"} do
  H.op(name, {
    args = x(2), more = {x(1), x(-1), function(t) return {t.randn(3, 200), 2} end},
    large = function(t) return {t.randn(90, 500), 1} end,
    empty = {function(t) return {t.randn(0, 3), 1} end, {0, 3}},
    wrong_shape = {x(4), "%.%.%-1, got 4"},
    wrong_dtype = {function(t) return {t.int(1, 5, {2, 3}), 1} end,
      "expected float32 or float64, got int64"},
  })
end

it("softmax rows add up to 1, whatever their length", function()
  for _, n in ipairs {1, 2, 63, 64, 127, 128, 129, 1000} do
    local t = ops.randn({3, n})
    H.same(ops.softmax(t, 2):sum(2), ops.ones({3}), 1e-6)
    H.same(ops.softmax(t, 1):sum(1), ops.ones({n}), 1e-6)
  end
end)
