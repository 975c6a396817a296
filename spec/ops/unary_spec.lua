-- Elementwise functions of one tensor. Sources: core/ops/unary.c, core/kernels/vmath.h.
-- Relies on spec/helper.lua and PyTorch's values in spec/fixtures/unary.safetensors.

local core = require "perigee.core"
local H = require "spec.helper"
local ops = core.ops

H.fixtures "unary"

-- draw(t, shape..) gives numbers inside the function's domain and away from its kinks.
local function op(name, draw, more)
  local spec = {
    args = function(t) return {draw(t, 3, 5)} end,
    more = {function(t) return {draw(t, 2, 3, 4, 5)} end},
    large = function(t) return {draw(t, 1, 200):expand {200, 200}:contiguous()} end,
    empty = {function(t) return {t.rand(0, 3)} end, {0, 3}},
  }
  for key, value in pairs(more or {}) do spec[key] = value end
  H.op(name, spec)
end

local function normal(t, ...) return t.randn(...) end
local function above_zero(t, ...) return t.positive(...) end
local function inside_one(t, ...) return t.uniform(-0.9, 0.9, ...) end
local function fraction(t, ...) return t.uniform(0.1, 0.9, ...) end
local function nonzero(t, ...) return t.away(0, ...) end
-- between two integers
local function between(t, ...) return ops.add(t.int(-4, 4, ...), t.uniform(0.2, 0.4, ...)) end


for name in ("exp exp2 expm1 tan tanh sigmoid deg2rad rad2deg"):gmatch "%S+" do
  op(name, normal)
end
for name in ("sin cos atan sinh cosh asinh erf erfc"):gmatch "%S+" do op(name, normal) end
for name in ("sqrt rsqrt"):gmatch "%S+" do op(name, above_zero) end
for name in ("log log1p log2 log10"):gmatch "%S+" do op(name, above_zero) end
for name in ("asin acos atanh"):gmatch "%S+" do op(name, inside_one) end
op("acosh", function(t, ...) return t.uniform(1.2, 4, ...) end)
op("logit", fraction)
op("reciprocal", nonzero)
op("neg", normal)
op("positive", normal)
op("abs", nonzero)
op("square", normal)
op("sign", nonzero, {smooth = false})
op("frac", between)
for name in ("floor ceil trunc"):gmatch "%S+" do op(name, between, {smooth = false}) end
op("round", between, {smooth = false, more = {
  function(t) return {between(t, 3, 5), 1} end,
}, rtol = 1, atol = 1e9}) -- a step in each interval: only its presence is checked
op("nan_to_num", normal)

for name in ("isnan isinf isfinite isposinf isneginf signbit logical_not"):gmatch "%S+" do
  op(name, normal)
end
H.op("bitwise_not", {
  args = function(t) return {t.int(-9, 9, 3, 5)} end,
  more = {function(t) return {t.bool(7)} end, function(t) return {t.byte(7)} end},
  empty = {function(t) return {t.bool(0, 3)} end, {0, 3}},
  wrong_dtype = {function(t) return {t.randn(3)} end, "expected int64, uint8 or bool, got float32"},
})

H.op("clamp", {
  args = function(t) return {t.distinct(3, 5), -0.57, 0.51} end,
  more = {
    function(t) return {t.distinct(3, 5), -0.57} end,
    function(t) return {t.distinct(3, 5), {max = 0.51}} end,
    function(t) return {t.distinct(2, 3, 4, 5), t.full(-0.57, 3, 1, 1), t.full(0.51, 5)} end,
  },
  large = function(t) return {t.randn(1, 200):expand {200, 200}:contiguous(), -1, 1} end,
  empty = {function(t) return {t.randn(0, 3), 0, 1} end, {0, 3}},
  wrong_shape = {
    {function(t) return {t.randn(3, 5), t.randn(4)} end, "%[3 x 5%].*%[4%]"},
    {function(t) return {t.randn(3, 5)} end, "'min': .*got nothing"},
  },
})
for _, name in ipairs {"clamp_min", "clamp_max"} do
  H.op(name, {
    args = function(t) return {t.distinct(3, 5), 0.07} end,
    more = {function(t) return {t.distinct(3, 5), t.full(0.07, 5)} end},
    empty = {function(t) return {t.randn(0, 3), 0} end, {0, 3}},
    wrong_shape = {function(t) return {t.randn(3, 5), t.randn(4)} end, "%[3 x 5%].*%[4%]"},
    })
end

describe("functions of one tensor", function()
  local NAMES = "exp expm1 log log1p log2 log10 sqrt rsqrt reciprocal sin cos tan asin acos atan "
    .. "sinh cosh tanh asinh acosh atanh erf erfc sigmoid abs neg square sign floor ceil round "
    .. "trunc frac"

  it("give in place what they give anew", function()
    for name in NAMES:gmatch "%S+" do
      local x = H.generator("float32", 5).uniform(0.1, 0.9, 3, 5)
      local y = x:clone()
      assert.is_true(rawequal(y, ops[name .. "_"](y)))
      H.identical(y, ops[name](x))
    end
  end)

  it("take scalars and long rows that are no multiple of a vector", function()
    for _, n in ipairs {1, 7, 511, 513, 1031} do
      local x = H.generator("float32", n).randn(n)
      local one = x[n]:exp()
      assert.equal(0, one:dim())
      H.same(x:exp()[n], one, 1e-6)
    end
  end)

  it("agree with the C library to 1e-6 relative on the whole range", function()
    local libm = {exp = math.exp, log = math.log, sin = math.sin, cos = math.cos, sqrt = math.sqrt,
      tan = math.tan, asin = math.asin, acos = math.acos, atan = math.atan}
    for name, fn in pairs(libm) do
      for _, dtype in ipairs {"float32", "float64"} do
        local x = H.generator(dtype, 3).uniform(name:find "a[sc]" and -1 or -80, 1, 1000)
        if name == "log" or name == "sqrt" then x = x:abs() end
        local tol = dtype == "float64" and 1e-14 or 1e-6
        local expected = H.values(x:to "float64")
        for i, v in ipairs(H.values(ops[name](x):to "float64")) do
          local e = fn(expected[i])
          local near = math.abs(v - e) <= tol * math.abs(e) + (dtype == "float64" and 1e-15 or 1e-7)
          assert.is_true(near, ("%s(%.17g): %.17g, not %.17g"):format(name, expected[i], v, e))
        end
      end
    end
  end)

  it("erf agrees with its series to some units in the last place", function()
    local function erf(x) -- 2 / sqrt(pi) exp(-x^2) sum x^(2n+1) 2^n / (1 3 5 ..): no cancellation
      local term, sum, n = x, x, 0
      while math.abs(term) > 1e-18 * math.abs(sum) do
        n = n + 1
        term = term * 2 * x * x / (2 * n + 1)
        sum = sum + term
      end
      return 2 / math.sqrt(math.pi) * math.exp(-x * x) * sum
    end
    local x = {1e-300, 1e-20, 1e-5, 0.99999999999999989, 1, 5.9, 5.93, 6, 6.1}
    for i = 1, 2000 do x[#x + 1] = i * 0.00301 end
    for _, dtype in ipairs {"float32", "float64"} do
      local tol = dtype == "float64" and 1e-15 or 1.5e-7
      for sign = -1, 1, 2 do
        local rounded = (core.tensor(x, {dtype = dtype}) * sign):to "float64"
        local y = H.values(rounded:to(dtype):erf():to "float64")
        for i, v in ipairs(H.values(rounded)) do
          local e = erf(v)
          local near = tol * (1 + v * v) -- so far the series goes
          assert.is_true(math.abs(y[i] - e) <= near * math.abs(e),
            ("erf(%.17g) of %s: %.17g, not %.17g"):format(v, dtype, y[i], e))
        end
      end
      H.same(core.tensor({1e300, math.huge, -1e300, -math.huge, 0 / 0, 0, -0.0},
        {dtype = dtype}):erf(), {1, 1, -1, -1, 0 / 0, 0, -0.0}, {tol = 0, signs = true})
    end
  end)

  it("clamp keeps NaN, signed zeros and crossed bounds, long or short", function()
    local inf, nan = math.huge, 0 / 0
    for _, dtype in ipairs {"float32", "float64"} do
      for _, n in ipairs {1, 5, 40, 600} do
        local list, low, both, crossed = {}, {}, {}, {}
        local cases = {nan, -0.0, 0.0, inf, -inf, 0.25, -3, 7}
        for i = 1, n do
          local v = cases[i % #cases + 1]
          list[i] = v
          low[i] = v < -0.5 and -0.5 or v
          both[i] = low[i] > 2 and 2 or low[i]
          crossed[i] = v ~= v and v or -1
        end
        local x = core.tensor(list, {dtype = dtype})
        local exact = {tol = 0, signs = true}
        H.same(x:clamp_min(-0.5), low, exact)
        H.same(x:clamp(-0.5, 2), both, exact)
        H.same(x:clamp(5, -1), crossed, exact)
        H.same(-((-x):clamp_max(0.5)), low, exact)
        local bounds = ops.full({n}, -0.5, {dtype = dtype})
        H.same(x:clamp(bounds, 2), both, exact)
        assert.is_true(x:clamp(nan, 2):isnan():all():item() ~= false)
        assert.is_true(x:clamp(0, nan):isnan():all():item() ~= false)
      end
    end
  end)

  it("promote integers and bools to float32", function()
    for name in ("exp log sqrt sin sigmoid erf"):gmatch "%S+" do
      for _, dtype in ipairs {"int64", "uint8", "bool"} do
        assert.equal("float32", ops[name](ops.ones({3}, {dtype = dtype})).dtype)
      end
    end
    H.raises(function() ops.ones({3}, {dtype = "int64"}):exp_() end, "exp")
  end)

  it("refuse bool where PyTorch does", function()
    for name in ("neg abs floor"):gmatch "%S+" do
      H.raises(function() ops[name](ops.ones({3}, {dtype = "bool"})) end, {name, "got bool"})
    end
    local square = ops.square(ops.ones({3}, {dtype = "bool"}))
    assert.equal("int64", square.dtype)
    H.same(square, {1, 1, 1})
  end)

  it("refuses eps out of range", function()
    H.raises(function() ops.logit(ops.ones {3}, 0.7) end, {"logit", "eps", "0.7"})
  end)
end)
