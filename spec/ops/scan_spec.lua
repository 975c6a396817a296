--- cumsum, cumprod, cummax, cummin, logcumsumexp: PyTorch's values and gradients, layouts,
-- messages.
-- Relies on spec/helper.lua. Source: core/ops/scan.c.

local H = require "spec.helper"
local core = require "perigee.core"

H.fixtures("scan")

local function x(dim)
  return function(t) return {t.away(0, 2, 3, 4), dim} end
end

for _, name in ipairs {"cumsum", "cumprod", "cumsum_reverse"} do
  H.op(name, {
    args = x(2), more = {x(1), x(-1)},
    large = function(t) return {t.uniform(0.9, 1.1, 90, 500), 1} end,
    empty = {function(t) return {t.randn(0, 3), 1} end, {0, 3}},
    wrong_shape = {x(4), "%.%.%-1, got 4"},
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
    wrong_shape = {distinct(4), "%.%.%-1, got 4"},
  })
end
H.op("logcumsumexp", {
  args = x(2), more = {x(1), x(-1)}, large = function(t) return {t.randn(90, 500), 1} end,
  empty = {function(t) return {t.randn(0, 3), 1} end, {0, 3}},
  wrong_shape = {x(4), "%.%.%-1, got 4"},
  wrong_dtype = {function(t) return {t.int(1, 3, {2}), 1} end, "got int64"},
})

it("cumprod has the same gradients for the second ones, with zeros and without", function()
  for _, some in ipairs {H.make({0, 1, -2, 0, 3, 0, 0.5, 2}, "float64", {2, 4}),
      H.make({0}, "float64", {})} do
    for dim = 1, math.max(some:dim(), 1) do
      local fn = function(t) return t:cumprod(dim) end
      local grads = {}
      for i = 1, 2 do
        local leaf = some:clone()
        leaf.requires_grad = true
        local y = fn(leaf)
        grads[i] = core.grad((y * H.cotangent(y, 1)):sum(), {leaf}, {create_graph = i == 2})[1]
      end
      H.same(grads[2]:detach(), grads[1])
      H.gradgradcheck(fn, some)
    end
  end
end)
