--- Arithmetic that is a short composition: ldexp, float_power, mvlgamma, rsub, fill.
-- Relies on tensor/define. Spec: spec/tensor/arithmetic_spec.lua.

local define = require "perigee.tensor.define"
local core = require "perigee.core"

local ops = core.ops
local fail = define.fail
define = define.define

define {
  "ldexp",
  "input: tensor; other: operand",
  "input * 2^other.",
  function(x, other) return ops.mul(x, ops.pow(2.0, other)) end,
}

--- A tensor as float64, a number as it is.
local function double(x) return core.is_tensor(x) and ops.to(x, "float64") or x end

define {
  "float_power",
  "input: operand; exponent: operand",
  "input to the power of exponent, computed in float64.",
  function(x, exponent)
    if not core.is_tensor(x) and not core.is_tensor(exponent) then
      fail("argument 'input': expected a tensor here or in 'exponent', got two numbers")
    end
    return ops.pow(double(x), double(exponent))
  end,
  method = true,
}

define {
  "mvlgamma",
  "input: tensor; p: integer",
  "The multivariate log gamma function of dimension p: p (p - 1) / 4 log pi + sum over i = 1..p of "
    .. "lgamma(input + (1 - i) / 2).",
  function(x, p)
    if p < 1 then fail("argument 'p': expected at least 1, got %d", p) end
    local sum = ops.lgamma(x)
    for i = 2, p do sum = ops.add(sum, ops.lgamma(ops.add(x, (1 - i) / 2))) end
    return ops.add(sum, p * (p - 1) / 4 * math.log(math.pi))
  end,
}

define {
  "rsub",
  "input: tensor; other: operand; alpha: number = 1",
  "other - alpha * input.",
  function(x, other, alpha) return ops.sub(other, x, alpha) end,
}

define {
  "fill",
  "input: tensor; value: operand",
  "A tensor like input that holds value, a number or a scalar tensor, everywhere.",
  function(x, value)
    return ops.masked_fill(x, ops.ones({}, {dtype = "bool"}), value)
  end,
}
