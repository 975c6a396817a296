--- Functions of nn.functional that are compositions of ops: bilinear, gumbel_softmax.
-- Relies on tensor/define. Spec: spec/tensor/functional_spec.lua.

local define = require "perigee.tensor.define"
local core = require "perigee.core"

local ops = core.ops
local fail, whole_dim, shape_text = define.fail, define.dim, define.shape_text
define = define.define

define {
  "bilinear",
  "input1: tensor; input2: tensor; weight: tensor; bias: tensor?",
  "y[.., o] = sum_ij input1[.., i] weight[o, i, j] input2[.., j] + bias[o].",
  function(a, b, w, bias)
    if w:dim() ~= 3 then
      fail("argument 'weight': expected 3 dims, got %s", shape_text(w))
    end
    local out, n, m = w:size(1), w:size(2), w:size(3)
    local lead = table.move(a.shape, 1, a:dim() - 1, 1, {})
    local other = table.move(b.shape, 1, b:dim() - 1, 1, {})
    local fits = a:dim() > 0 and b:dim() > 0 and a:size(-1) == n and b:size(-1) == m
      and table.concat(lead, " ") == table.concat(other, " ")
    if not fits then
      fail("argument 'input1': expected last sizes %d and %d to follow weight %s, got %s and %s", n,
        m, shape_text(w), shape_text(a), shape_text(b))
    end
    local rows = 1
    for _, size in ipairs(lead) do rows = rows * size end
    -- [rows x out x m], then the sum over m with input2
    local x = ops.matmul(ops.reshape(a, rows, n),
      ops.reshape(ops.permute(w, 2, 1, 3), n, out * m))
    local y = ops.matmul(ops.reshape(x, rows, out, m), ops.reshape(b, rows, m, 1))
    lead[#lead + 1] = out
    y = ops.reshape(y, lead)
    return bias and ops.add(y, bias) or y
  end,
  room = "nn",
}

define {
  "gumbel_softmax",
  "logits: tensor; tau: number = 1; hard: boolean = false; eps: number = 1e-10; dim: dim = -1",
  "softmax((logits + gumbel noise) / tau) along dim (Jang et al. 2017); hard: one-hot, with the "
    .. "gradient of the soft sample.",
  function(logits, tau, hard, _, dim)
    if tau <= 0 then fail("argument 'tau': expected above 0, got %g", tau) end
    dim = whole_dim(dim, logits:dim())
    local noise = ops.neg(ops.log(ops.exponential_(ops.detach(ops.empty_like(logits)))))
    local soft = ops.softmax(ops.div(ops.add(logits, noise), tau), dim)
    if not hard then return soft end
    local _, index = ops.max(soft, dim, true)
    local one = ops.scatter(ops.zeros_like(soft), dim, index, 1)
    return ops.add(ops.sub(one, ops.detach(soft)), soft)
  end,
  room = "nn",
}
