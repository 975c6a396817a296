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

it("run along every one of many lines, of any length and layout", function()
  for _, shape in ipairs {{1, 5}, {3, 7}, {4, 1}, {6, 130}, {203, 3}, {450, 10}, {70, 64},
    {9, 1024}} do
    for _, dtype in ipairs {"float32", "float64", "int64"} do
      core.manual_seed(shape[1])
      local wide = core.ops.randint(-3, 3, {shape[1], shape[2] + 2}):to(dtype)
      for _, t in ipairs {wide, wide:narrow(2, 2, shape[2]), core.ops.flip(wide, {2}),
        core.ops.transpose(core.ops.transpose(wide, 1, 2):contiguous(), 1, 2)} do
        local sums, values = H.values(core.ops.cumsum(t, 2)), H.values(t)
        local n = t.shape[2]
        for i, v in ipairs(values) do
          local before = (i - 1) % n == 0 and 0 or sums[i - 1]
          assert(sums[i] == before + v)
        end
      end
    end
  end
end)

it("a NaN or an infinity stays in its own line", function()
  local t = core.ops.ones({11, 6})
  t[3][2], t[8][5] = 0 / 0, math.huge
  local sums = core.ops.cumsum(t, 2)
  for r = 1, 11 do
    for i = 1, 6 do
      local v = sums[r][i]:item()
      if r == 3 and i > 1 then assert(v ~= v)
      elseif r == 8 and i > 4 then assert(v == math.huge)
      else assert(v == i) end
    end
  end
end)
