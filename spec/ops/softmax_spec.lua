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

it("rows give the same bits wherever they stand, and log_softmax is the logarithm", function()
  for _, n in ipairs {1, 3, 10, 16, 17, 100, 128, 511, 512, 700} do
    for _, dtype in ipairs {"float32", "float64"} do
      local wide = ops.randn({37, n + 1}):to(dtype)
      for _, t in ipairs {wide:narrow(2, 2, n), wide:narrow(2, 1, n):contiguous()} do
        local near = dtype == "float32" and 1e-5 or 1e-13
        local soft, logs = ops.softmax(t, 2), ops.log_softmax(t, 2)
        H.same(ops.softmin(ops.neg(t), 2), soft, near)
        H.same(ops.exp(logs), soft, near)
        for _, r in ipairs {1, 16, 33, 37} do
          assert.same(H.values(ops.softmax(t:narrow(1, r, 1), 2)), H.values(soft:narrow(1, r, 1)))
          assert.same(H.values(ops.log_softmax(t:narrow(1, r, 1), 2)),
            H.values(logs:narrow(1, r, 1)))
        end
      end
    end
  end
end)

it("a NaN fills its row only, and -inf has no share", function()
  for _, n in ipairs {5, 16, 40, 130} do
    for _, name in ipairs {"softmax", "log_softmax"} do
      local t = ops.zeros({20, n})
      t[3][n], t[18][1] = 0 / 0, -math.huge
      local y = ops[name](t, 2)
      for r = 1, 20 do
        local first, last = y[r][1]:item(), y[r][n]:item()
        local share = 1 / (r == 18 and n - 1 or n)
        if name == "log_softmax" then share = math.log(share) end
        if r == 3 then
          assert(first ~= first and last ~= last)
        else
          H.same(last, share, 1e-6)
          if r == 18 then assert(first == (name == "softmax" and 0 or -math.huge)) end
        end
      end
    end
  end
end)
