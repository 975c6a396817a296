--- Questions with a plain answer: allclose, equal, dtypes.
-- Relies on tensor/define. Spec: spec/tensor/compare_spec.lua.

local define = require "perigee.tensor.define"
local core = require "perigee.core"

local ops = core.ops
define = define.define

local function is_float(dtype) return dtype:find "float" ~= nil end

define {
  "allclose",
  "input: tensor; other: tensor; rtol: number = 1e-05; atol: number = 1e-08; "
    .. "equal_nan: boolean = false",
  "Whether |input - other| <= atol + rtol |other| everywhere: true or false.",
  function(a, b, rtol, atol, equal_nan)
    return ops.all(ops.isclose(a, b, rtol, atol, equal_nan)):item()
  end,
  nodiff = true,
}

define {
  "equal",
  "input: tensor; other: tensor",
  "Whether shapes and all elements are equal: true or false.",
  function(a, b)
    local p, q = a.shape, b.shape
    if #p ~= #q then return false end
    for i = 1, #p do
      if p[i] ~= q[i] then return false end
    end
    return ops.all(ops.eq(a, b)):item()
  end,
  nodiff = true,
}

define {
  "is_floating_point",
  "input: tensor",
  "Whether the dtype is a floating one: true or false.",
  function(x) return is_float(x.dtype) end,
  nodiff = true,
}

define {
  "numel|nelement",
  "input: tensor",
  "Number of elements.",
  function(x) return x:numel() end,
  nodiff = true, method = false,
}
core.Tensor.nelement = core.Tensor.numel

local RANK = {bool = 1, uint8 = 2, int64 = 3, bfloat16 = 4, float32 = 5, float64 = 6}

local function larger(a, b) return RANK[a] >= RANK[b] and a or b end

--- What an operand asks for: its dtype and its weight (3: a tensor with dims, 2: a scalar tensor,
-- 1: a number).
local function wish(x)
  if core.is_tensor(x) then return x.dtype, x:dim() > 0 and 3 or 2 end
  return math.type(x) == "integer" and "int64" or "float32", 1
end

define {
  "result_type",
  "tensor1: operand; tensor2: operand",
  "Name of the dtype that an operation on the two yields.",
  function(a, b)
    local first, strong = wish(a)
    local second, weak = wish(b)
    if strong < weak then first, strong, second, weak = second, weak, first, strong end
    if strong == weak then return larger(first, second) end
    -- The lighter one counts only where it is of a higher kind.
    if is_float(first) or (first ~= "bool" and not is_float(second)) then return first end
    return larger(first, second)
  end,
  nodiff = true, method = false,
}

define {
  "promote_types",
  "type1: dtype; type2: dtype",
  "Name of the smallest dtype that holds both.",
  larger,
  nodiff = true,
}

define {
  "can_cast",
  "from: dtype; to: dtype",
  "Whether values of a dtype may be written to another one in place: true or false.",
  function(from, to)
    local rank = {bool = 0, uint8 = 1, int64 = 1}
    return (rank[from] or 2) <= (rank[to] or 2)
  end,
  nodiff = true,
}
