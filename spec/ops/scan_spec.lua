--- cumsum, cumprod, cummax, cummin, logcumsumexp: PyTorch's values and gradients, layouts,
-- messages.
-- Relies on spec/helper.lua. Source: core/ops/scan.c.

local H = require "spec.helper"

H.fixtures("scan")

local function x(dim)
  return function(t) return {t.away(0, 2, 3, 4), dim} end
end

for _, name in ipairs {"cumsum", "cumprod", "cumsum_reverse"} do
  H.op(name, {
    args = x(2), more = {x(1), x(-1)},
    large = function(t) return {t.uniform(0.9, 1.1, 90, 500), 1} end,
    empty = {function(t) return {t.randn(0, 3), 1} end, {0, 3}},
    wrong_shape = {x(4), "dim 4 is out of range"},
    wrong_dtype = {function(t) return {t.randn(2):to("bfloat16"), 1} end, "got bfloat16"},
  })
end

local function distinct(dim)
  return function(t) return {t.distinct(2, 3, 4), dim} end
end
for _, name in ipairs {"cummax", "cummin"} do
  H.op(name, {
    args = distinct(2), more = {distinct(1), distinct(-1)},
    large = function(t) return {t.randn(90, 500), 1} end,
    empty = {function(t) return {t.randn(0, 3), 1} end, {0, 3}},
    wrong_shape = {distinct(4), "dim 4 is out of range"},
    wrong_dtype = {function(t) return {t.randn(2):to("bfloat16"), 1} end, "got bfloat16"},
  })
end
H.op("logcumsumexp", {
  args = x(2), more = {x(1), x(-1)}, large = function(t) return {t.randn(90, 500), 1} end,
  empty = {function(t) return {t.randn(0, 3), 1} end, {0, 3}},
  wrong_shape = {x(4), "dim 4 is out of range"},
  wrong_dtype = {function(t) return {t.int(1, 3, {2}), 1} end, "got int64"},
})
