--- Initialisers: moments, bounds, exact patterns, the same bits for a seed, messages.
-- Relies on spec/helper.lua. Sources: core/ops/init.c, core/ops/draw.h.

local H = require "spec.helper"
local core = require "perigee.core"
local ops = core.ops

local function near(actual, expected, tolerance)
  assert(math.abs(actual - expected) <= tolerance,
    ("expected %g +- %g, got %g"):format(expected, tolerance, actual))
end

local function weight(...)
  local w = ops.zeros({...})
  w.requires_grad = true -- an initialiser may write into a parameter
  return w
end

local function call(shape, ...)
  local rest = table.pack(...)
  return function(t) return {t.zeros(shape), table.unpack(rest, 1, rest.n)} end
end
local fans = {call {3}, "at least 2 dims, got %[3%]"}
for name, op in pairs {
  constant_ = {good = call({3, 4}, 0.3)},
  zeros_ = {good = call {3, 4}},
  ones_ = {good = call {3, 4}},
  eye_ = {good = call {3, 4}, bad = {{call {3}, "expected 2 dims, got %[3%]"}}},
  dirac_ = {good = call({4, 2, 3}, 2), bad = {{call {3, 2}, "3 to 5 dims, got %[3 x 2%]"},
    {call({3, 2, 1}, 2), "'groups': .*got 2"}}},
  xavier_uniform_ = {good = call({3, 4}, 2), bad = {fans}},
  xavier_normal_ = {good = call({3, 4}, 2), bad = {fans}},
  kaiming_uniform_ = {good = call({3, 4}, 0, "fan_out", "relu"),
    bad = {fans, {call({3, 2}, 0, "fan"), "mode"}}},
  kaiming_normal_ = {good = call({3, 4}, 0, "fan_in", "tanh"),
    bad = {fans, {call({3, 2}, 0, "fan_in", "rely"), "nonlinearity"}}},
  trunc_normal_ = {good = call {3, 4}, bad = {
    {call({3}, 0, 0), "'std': expected more than 0, got 0"},
    {call({3}, 0, 1, 2, 1), "'a': expected less than b 1, got 2"}}},
  orthogonal_ = {good = call({3, 4}, 2), bad = {fans}},
} do
  -- the good arguments with other sizes
  local function sized(change)
    return function(t)
      local args = op.good(t)
      return {t.zeros(change(args[1].shape)), table.unpack(args, 2)}
    end
  end
  H.op(name, {
    args = op.good, wrong_shape = op.bad,
    large = sized(function(shape) return {shape[1] * 50, shape[2] * 100, shape[3]} end),
    empty = sized(function(shape) return {0, table.unpack(shape, 2)} end),
    wrong_dtype = {function(t)
      local args = op.good(t)
      return {t.int(1, 3, args[1].shape), table.unpack(args, 2)}
    end, "expected float32.*got int64"},
  })
end

describe("initialisers", function()
  local fan_in, fan_out = 20 * 9, 50 * 9
  local random = { -- name, arguments, deviation, bound
    {"xavier_uniform_", {}, (2 / (fan_in + fan_out)) ^ 0.5},
    {"xavier_uniform_", {3}, 3 * (2 / (fan_in + fan_out)) ^ 0.5},
    {"xavier_normal_", {}, (2 / (fan_in + fan_out)) ^ 0.5},
    {"kaiming_uniform_", {}, (2 / fan_in) ^ 0.5},
    {"kaiming_uniform_", {5 ^ 0.5}, (1 / 3 / fan_in) ^ 0.5},
    {"kaiming_normal_", {0, "fan_out", "relu"}, (2 / fan_out) ^ 0.5},
    {"kaiming_normal_", {0, "fan_in", "tanh"}, 5 / 3 / fan_in ^ 0.5},
    {"kaiming_normal_", {0, "fan_in", "linear"}, 1 / fan_in ^ 0.5},
    {"kaiming_normal_", {0, "fan_in", "selu"}, 0.75 / fan_in ^ 0.5},
  }
  for _, case in ipairs(random) do
    local name, args, std = table.unpack(case)
    it(("%s(%s) has its deviation"):format(name, table.concat(args, ", ")), function()
      core.manual_seed(4)
      local w = weight(50, 20, 3, 3)
      assert(rawequal(ops[name](w, table.unpack(args)), w))
      assert(w.is_leaf and w.requires_grad)
      local v = w:detach()
      near(v:mean():item(), 0, 5 * std / 9000 ^ 0.5)
      near(v:std():item(), std, 0.04 * std)
      if name:find "uniform" then
        near(v:abs():max():item(), 3 ^ 0.5 * std, 0.01 * std)
      end
      core.manual_seed(4)
      assert(ops[name](weight(50, 20, 3, 3), table.unpack(args)):detach():bytes() == v:bytes())
    end)
  end

  it("fill with constants and patterns", function()
    H.same(ops.constant_(weight(2, 3), 0.3):detach(), ops.full({2, 3}, 0.3))
    H.same(ops.ones_(weight(2)):detach(), ops.ones({2}))
    H.same(ops.zeros_(ops.ones_(weight(2))):detach(), ops.zeros({2}))
    H.same(ops.eye_(weight(2, 3)):detach(), H.make({1, 0, 0, 0, 1, 0}, "float32", {2, 3}))
    H.same(ops.dirac_(weight(3, 2, 3)):detach(),
      H.make({0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0}, "float32", {3, 2, 3}))
    H.same(ops.dirac_(weight(2, 1, 1), 2):detach(), ops.ones({2, 1, 1}))
  end)

  it("trunc_normal_ stays within its bounds", function()
    core.manual_seed(4)
    local v = ops.trunc_normal_(weight(9000)):detach()
    assert(v:abs():max():item() <= 2)
    near(v:std():item(), 0.8796, 0.02) -- of the normal distribution cut at 2 deviations
    v = ops.trunc_normal_(weight(9000), 1, 2, 0, 5):detach()
    assert(v:min():item() >= 0 and v:max():item() <= 5)
  end)

  it("orthogonal_ makes rows or columns orthonormal", function()
    for _, shape in ipairs {{4, 4}, {3, 7}, {7, 3}, {5, 2, 3}} do
      local w = ops.orthogonal_(weight(table.unpack(shape)), 2):detach():flatten(2)
      local n = math.min(w.shape[1], w.shape[2])
      local product = w.shape[1] > w.shape[2] and w:t():matmul(w) or w:matmul(w:t())
      assert((product - ops.eye(n) * 4):abs():max():item() < 1e-5)
    end
  end)
end)
