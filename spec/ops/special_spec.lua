-- Special functions. Source: core/ops/special.c.
-- Relies on spec/helper.lua and PyTorch's values in spec/fixtures/special.safetensors.

local core = require "perigee.core"
local H = require "spec.helper"
local ops = core.ops

H.fixtures "special"


-- draw(t, shape..) gives numbers inside the function's domain.
local function op(name, draw, ...)
  local rest = {...}
  H.op(name, {
    args = function(t) return {draw(t, 3, 5), table.unpack(rest)} end,
    large = function(t)
      return {draw(t, 1, 100):expand {40, 100}:contiguous(), table.unpack(rest)}
    end,
    empty = {function(t) return {t.rand(0, 3), table.unpack(rest)} end, {0, 3}},
    wrong_shape = name == "polygamma"
      and {function(t) return {t.randn(3), -1} end, "'n': expected at least 0, got %-1"} or nil,
  })
end
op("lgamma", function(t, ...) return t.positive(...) end)
op("digamma", function(t, ...) return t.positive(...) end)
op("polygamma", function(t, ...) return t.positive(...) end, 2)
op("i0", function(t, ...) return t.away(0, ...) end)
op("i1", function(t, ...) return t.away(0, ...) end)
op("erfinv", function(t, ...) return t.uniform(-0.9, 0.9, ...) end)
op("sinc", function(t, ...) return t.away(0, ...) end)

local MISFIT = "%[3 x 5%].*%[4%]"
for _, name in ipairs {"logaddexp2", "heaviside", "nextafter"} do
  H.op(name, {
    args = function(t) return {t.randn(3, 5), t.randn(5)} end,
    empty = {function(t) return {t.randn(0, 3), t.randn(3)} end, {0, 3}},
    wrong_shape = {function(t) return {t.randn(3, 5), t.randn(4)} end, MISFIT},
  })
end
for _, name in ipairs {"gcd", "lcm"} do
  H.op(name, {
    args = function(t) return {t.int(-40, 40, 3, 5), t.int(1, 40, 5)} end,
    empty = {function(t) return {t.int(1, 5, 0, 3), t.int(1, 5, 3)} end, {0, 3}},
    wrong_shape = {function(t) return {t.int(1, 5, 3, 5), t.int(1, 5, 4)} end, MISFIT},
    wrong_dtype = {
      {function(t) return {t.randn(3), t.int(1, 5, 3)} end, "'input'.*got float32"},
      {function(t) return {t.int(1, 5, 3), 0.5} end, "expected integers, got 0.5"},
    },
  })
end

describe("special functions", function()
  it("are infinite no sooner than they must", function()
    local x = core.tensor({713, math.huge, -math.huge}, {dtype = "float64"})
    H.same(ops.i0(x), {6.7051282636709974e+307, math.huge, math.huge}, 1e-12)
    H.same(ops.i1(x), {6.7004245591864032e+307, math.huge, -math.huge}, 1e-12)
  end)
  it("invert each other", function()
    local y = H.generator("float64", 3).uniform(-0.999, 0.999, 200)
    H.same(ops.erf(ops.erfinv(y)), y, 1e-14)
  end)

  it("obey the recurrences of the gamma function", function()
    local x = H.generator("float64", 4).uniform(-5, 20, 200)
    H.same(ops.digamma(x + 1), ops.digamma(x) + 1 / x, 1e-9)
    H.same(ops.lgamma(x + 1), ops.lgamma(x) + x:abs():log(), 1e-11)
  end)
end)
