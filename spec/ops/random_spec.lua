--- Random fills and dropout: moments, ranges, the same bits for a seed whatever the threads and the
-- layout, edges, messages.
-- Relies on spec/helper.lua. Sources: core/ops/random.c, core/ops/draw.h, core/base/rng.h.

local H = require "spec.helper"
local core = require "perigee.core"
local ops = core.ops

local N = 40000

local function near(actual, expected, tolerance)
  assert(math.abs(actual - expected) <= tolerance,
    ("expected %g +- %g, got %g"):format(expected, tolerance, actual))
end

local function filled(name, dtype, ...)
  local x = ops.empty({N}, dtype)
  ops[name](x, ...)
  return x
end

local integer = {function(t) return {t.int(1, 3, {3})} end, "expected float32.*got int64"}
for name, op in pairs {
  uniform_ = {good = {-2, 4}, bad = {1, 0}, message = "'to': expected at least from 1, got 0"},
  normal_ = {good = {3, 0.5}, bad = {0, -1}, message = "'std': expected 0 or more, got %-1"},
  bernoulli_ = {good = {0.3}, bad = {1.5}, message = "'p': expected 0 to 1, got 1.5", any = true},
  exponential_ = {good = {2}, bad = {0}, message = "'lambd': expected more than 0, got 0"},
  random_ = {good = {1, 6}, bad = {3, 1}, message = "'to': .*got 1", any = true},
} do
  H.op(name, {
    args = function(t) return {t.zeros(3, 4), table.unpack(op.good)} end,
    large = function(t) return {t.zeros(300, 200), table.unpack(op.good)} end,
    empty = {function(t) return {t.zeros(0, 3), table.unpack(op.good)} end, {0, 3}},
    wrong_shape = {function(t) return {t.zeros(3), table.unpack(op.bad)} end, op.message},
    wrong_dtype = not op.any and integer or nil,
  })
end

describe("random fills", function()
  local fills = { -- name, arguments, mean, standard deviation
    {"uniform_", {}, 0.5, 12 ^ -0.5}, {"uniform_", {-2, 4}, 1, 3 ^ 0.5}, {"normal_", {}, 0, 1},
    {"normal_", {3, 0.5}, 3, 0.5}, {"bernoulli_", {0.3}, 0.3, 0.21 ^ 0.5},
    {"exponential_", {2}, 0.5, 0.5}, {"random_", {1, 6}, 3.5, (35 / 12) ^ 0.5},
  }
  for _, fill in ipairs(fills) do
    local name, args, mean, std = table.unpack(fill)
    for _, dtype in ipairs {"float32", "float64"} do
      it(("%s(%s) has its moments in %s"):format(name, table.concat(args, ", "), dtype), function()
        core.manual_seed(5)
        local x = filled(name, dtype, table.unpack(args))
        near(x:mean():item(), mean, 5 * std / N ^ 0.5)
        near(x:std():item(), std, 0.03 * std)
        assert(x:isfinite():all():item())
        -- neighbours are not related
        local a, b = ops.narrow(x, 1, 1, N - 1) - mean, ops.narrow(x, 1, 2, N - 1) - mean
        near((a * b):mean():item(), 0, 6 * std ^ 2 / N ^ 0.5)
      end)

      it(("%s(%s) in %s depends on seed and element only"):format(name, table.concat(args, ", "),
        dtype), function()
        local function draw(threads)
          local before = core.num_threads()
          core.num_threads(threads)
          core.manual_seed(9)
          local x = filled(name, dtype, table.unpack(args))
          local y = filled(name, dtype, table.unpack(args))
          core.num_threads(before)
          return x, y
        end
        local x, y = draw(1)
        local again = draw(2)
        assert(x:bytes() == again:bytes())
        assert(x:bytes() ~= y:bytes())
        core.manual_seed(9)
        local turned = ops.empty({5, N // 5}, dtype):t()
        ops[name](turned, table.unpack(args))
        assert(turned:contiguous():bytes() == x:bytes(), "layout")
      end)
    end
  end

  it("stay in their range", function()
    local x = filled("uniform_", "float32", 2, 3)
    assert(x:min():item() >= 2 and x:max():item() <= 3)
    x = filled("random_", "int64", 1, 3)
    assert(x:min():item() == 1 and x:max():item() == 3)
    x = filled("bernoulli_", "bool", 1)
    assert(x:all():item())
    assert(not filled("bernoulli_", "bool", 0):any():item())
    assert(filled("bernoulli_", "uint8", 1):sum():item() == N)
    assert(filled("normal_", "float32", 7, 0):eq(7):all():item())
  end)

  it("fill empty and 0-dim tensors", function()
    H.same(ops.uniform_(ops.empty({0})).shape[1], 0)
    assert(ops.normal_(ops.empty({})):isfinite():item())
  end)

  it("refuse to overwrite what carries a gradient", function()
    local w = ops.ones({2})
    w.requires_grad = true
    H.raises(function() ops.uniform_(w * 2) end,
      "'input': .*got the result of an op; detach%(%) it or use pg%.no_grad%(%)")
  end)
end)

for _, name in ipairs {"dropout", "alpha_dropout"} do
  H.op(name, {
    args = function(t) return {t.away(0, 3, 4), 0.4} end,
    more = {function(t) return {t.away(0, 3, 4), 0.4, false} end,
      function(t) return {t.away(0, 3, 4), 0} end},
    large = function(t) return {t.randn(300, 200), 0.5} end,
    empty = {function(t) return {t.randn(0, 3)} end, {0, 3}},
    wrong_shape = {{function(t) return {t.randn(3), 1.5} end, "'p': expected 0 to 1, got 1.5"},
      {function(t) return {t.randn(3), 0 / 0} end, "'p'"}},
    wrong_dtype = {function(t) return {t.int(1, 5, {3})} end, "got int64"},
  })
end
for name, shape in pairs {dropout1d = {4, 3, 5}, dropout2d = {4, 3, 2, 2},
  dropout3d = {4, 3, 2, 1, 2}, feature_dropout = {4, 3, 2}} do
  H.op(name, {
    args = function(t) return {t.away(0, shape), 0.4} end,
    more = {function(t) return {t.away(0, shape), 0.4, false} end},
    large = function(t) return {t.randn(90, 50, table.unpack(shape, 3)), 0.5} end,
    empty = function(t) return {t.randn(0, table.unpack(shape, 2))} end,
    wrong_shape = {
      {function(t) return {t.randn(3), 0.5} end, "expected channels of n x c.*got %[3%]"},
      {function(t) return {t.randn(shape), 2} end, "'p': expected 0 to 1, got 2"}},
    wrong_dtype = {function(t) return {t.int(1, 5, shape)} end, "got int64"},
  })
end

describe("dropout", function()
  it("keeps 1 - p of the elements, divided by 1 - p, and sends gradients through them", function()
    core.manual_seed(2)
    local x = ops.ones({N})
    x.requires_grad = true
    local y = ops.dropout(x, 0.25)
    near(y:ne(0):to("float32"):mean():item(), 0.75, 0.012)
    H.same(y:max():item(), 4 / 3, 1e-6)
    y:sum():backward()
    H.same(x.grad, y)
  end)

  it("is the identity in evaluation and zero for p = 1", function()
    local x = H.randn(5, 4)
    H.same(ops.dropout(x, 0.5, false), x)
    H.same(ops.dropout(x, 0), x)
    H.same(ops.dropout(x, 1), ops.zeros({5, 4}))
    H.same(ops.dropout2d(H.randn(2, 3, 4, 4), 1), ops.zeros({2, 3, 4, 4}))
  end)

  it("2d drops whole channels", function()
    core.manual_seed(2)
    local y = ops.dropout2d(ops.ones({50, 40, 3, 3}), 0.5)
    local sums = y:sum({3, 4})
    assert(sums:eq(0):logical_or(sums:eq(18)):all():item())
    near(y:mean():item(), 1, 0.15)
  end)

  it("alpha keeps the moments of SELU's outputs", function()
    core.manual_seed(2)
    local x = ops.randn({N})
    local y = ops.alpha_dropout(x, 0.2)
    near(y:mean():item(), 0, 0.03)
    near(y:std():item(), 1, 0.03)
  end)
end)
