--- `nn.MultiheadAttention`. Relies on nn.Module and the op scaled_dot_product_attention.
-- Spec: spec/nn/attention_spec.lua.

local arguments = require "perigee.optim.arguments"
local blame = require "perigee.blame"
local constructor = require "perigee.nn.constructor"
local core = require "perigee.core"
local initial = require "perigee.nn.initial"
local layer = require "perigee.nn.layer"
local module = require "perigee.nn.module"
local util = require "perigee.util"

local ops = core.ops

local M = {}

local MultiheadAttention = module.Module:extend "MultiheadAttention"
M.MultiheadAttention = MultiheadAttention

local function shape_text(t) return "[" .. table.concat(t.shape, " x ") .. "]" end

local PARAMS = {
  {"embed_dim", "integer"}, {"num_heads", "integer"}, {"dropout", "number", 0},
  {"bias", "boolean", true}, {"add_bias_kv", "boolean", false}, {"add_zero_attn", "boolean", false},
  {"kdim", "integer|nil"}, {"vdim", "integer|nil"}, {"batch_first", "boolean", false},
}

--- A parameter of this shape, filled by Glorot's uniform rule.
local function glorot(...) return module.Parameter(initial.xavier_uniform_(ops.zeros(...))) end

--- Attention of num_heads heads. Parameters as in PyTorch: in_proj_weight [3 embed_dim x embed_dim]
-- (where kdim or vdim differ q_proj_weight, k_proj_weight, v_proj_weight), in_proj_bias, out_proj;
-- with add_bias_kv bias_k and bias_v, one more key and its value. add_zero_attn adds one of zeros.
function MultiheadAttention:init(...)
  constructor.read(self, PARAMS, ...)
  constructor.at_least(self, 1, "embed_dim", "num_heads")
  constructor.probability(self, "dropout")
  local e = self.embed_dim
  if e % self.num_heads ~= 0 then
    util.fail("nn.MultiheadAttention",
      "argument 'num_heads': expected a divisor of embed_dim %d, got %d", e,
      self.num_heads)
  end
  self.kdim, self.vdim = self.kdim or e, self.vdim or e
  if self.kdim == e and self.vdim == e then
    self.in_proj_weight = glorot(3 * e, e)
  else
    self.q_proj_weight = glorot(e, e)
    self.k_proj_weight = glorot(e, self.kdim)
    self.v_proj_weight = glorot(e, self.vdim)
  end
  if self.bias then self.in_proj_bias = module.Parameter(ops.zeros(3 * e)) end
  self.out_proj = layer.class "Linear"(e, e, {bias = self.bias})
  if self.bias then ops.zero_(self.out_proj.bias:detach()) end
  if self.add_bias_kv then
    self.bias_k = module.Parameter(initial.xavier_normal_(ops.zeros(1, 1, e)))
    self.bias_v = module.Parameter(initial.xavier_normal_(ops.zeros(1, 1, e)))
  end
end

local FORWARD = {
  {"query"}, {"key"}, {"value"}, {"key_padding_mask", nil, optional = true}, {"need_weights", true},
  {"attn_mask", nil, optional = true}, {"average_attn_weights", true}, {"is_causal", false},
}

local function fail(fmt, ...) util.fail("MultiheadAttention", fmt, ...) end

local function check(name, t, dims, width)
  if not core.is_tensor(t) then
    fail("argument '%s': expected a tensor, got %s", name, util.type_name(t))
  elseif dims and t:dim() ~= dims or t:dim() ~= 2 and t:dim() ~= 3 then
    fail("argument '%s': expected %s, got %s", name,
      dims and dims .. " dims as query has" or "2 or 3 dims", shape_text(t))
  elseif t:size(t:dim()) ~= width then
    fail("argument '%s': expected a width of %d, got %s", name, width, shape_text(t))
  end
end

--- A mask as float: -inf where a bool one is true.
local function added(mask, dtype)
  if mask.dtype ~= "bool" then return mask end
  return ops.masked_fill(ops.zeros(mask.shape, {dtype = dtype}), mask, -math.huge)
end

--- key_padding_mask and attn_mask as one that the op takes: bool (true: may be seen) or added.
local function merged(padding, mask, dtype)
  if padding and mask then
    if padding.dtype == "bool" and mask.dtype == "bool" then
      mask = ops.logical_or(padding, mask)
    else
      return added(padding, dtype) + added(mask, dtype)
    end
  end
  mask = mask or padding
  if mask and mask.dtype == "bool" then return ops.logical_not(mask) end
  return mask
end

local function want_mask(name, mask, shapes)
  if not core.is_tensor(mask) then
    fail("argument '%s': expected a tensor, got %s", name, util.type_name(mask))
  end
  local words = {}
  for i, shape in ipairs(shapes) do
    words[i] = "[" .. table.concat(shape, " x ") .. "]"
    if words[i] == shape_text(mask) then return end
  end
  fail("argument '%s': expected %s, got %s", name, table.concat(words, " or "), shape_text(mask))
end

--- Query, key or value (k = 1, 2, 3) through its part of the projection, split into heads:
-- n x heads x length x width.
local function project(self, k, x, weight)
  local e, heads = self.embed_dim, self.num_heads
  local bias = self.in_proj_bias
  if not weight then weight = self.in_proj_weight:narrow(1, (k - 1) * e + 1, e) end
  local y = ops.linear(x, weight, bias and bias:narrow(1, (k - 1) * e + 1, e))
  local n, l = y:size(1), y:size(2)
  y = y:view(n, l, heads, e // heads)
  if self.batch_first then return y:transpose(2, 3) end
  return y:permute(2, 3, 1, 4)
end

--- One more key or value behind those of x [n x heads x length x width]: row [1 x 1 x embed_dim].
local function with_row(self, x, row)
  local n, heads, width = x:size(1), self.num_heads, self.embed_dim // self.num_heads
  return ops.cat({x, row:view(1, heads, 1, width):expand(n, heads, 1, width)}, 3)
end

--- A mask with another column, of what may be seen.
local function with_column(mask)
  if not mask then return nil end
  local shape = mask.shape
  shape[#shape] = 1
  return ops.cat({mask, ops.zeros(shape, {dtype = mask.dtype})}, mask:dim())
end

--- Attention of query to key and value.
-- @param query length x n x embed_dim; n x length x embed_dim for batch_first; length x embed_dim
-- @param key, value the same with kdim, vdim
-- @param ... by position or by name: key_padding_mask (n x keys; bool: true is not seen; or added),
-- need_weights (true), attn_mask (length x keys or n * heads x length x keys; bool: true is not
-- seen; or added), average_attn_weights (true), is_causal (false)
-- @return the result, like query; and the weights n x length x keys, the mean of all heads
-- (n x heads x length x keys where they are not averaged), nil without need_weights
function MultiheadAttention:forward(...)
  local args = blame.call("", arguments.read, "MultiheadAttention", FORWARD, ...)
  local query, key, value = args.query, args.key, args.value
  check("query", query, nil, self.embed_dim)
  local dims = query:dim()
  check("key", key, dims, self.kdim)
  check("value", value, dims, self.vdim)
  local batch = self.batch_first and 1 or 2
  if dims == 2 then
    query, key, value = query:unsqueeze(batch), key:unsqueeze(batch), value:unsqueeze(batch)
  end
  local heads, e, n = self.num_heads, self.embed_dim, query:size(batch)
  local l, s = query:size(3 - batch), key:size(3 - batch)
  if key:size(batch) ~= n or value:size(batch) ~= n or value:size(3 - batch) ~= s then
    fail("argument 'key': expected the batch of query %s and the length of value %s, got %s",
      shape_text(query), shape_text(value), shape_text(key))
  end
  local mask, padding = args.attn_mask, args.key_padding_mask
  if mask then
    want_mask("attn_mask", mask, {{l, s}, {n * heads, l, s}})
    if mask:dim() == 3 then mask = mask:view(n, heads, l, s) end
  end
  if padding then
    want_mask("key_padding_mask", padding, dims == 2 and {{s}} or {{n, s}})
    padding = padding:view(n, 1, 1, s)
  end
  local causal = args.is_causal
  if causal and (padding or args.need_weights) then
    mask = mask or ops.triu(ops.ones({l, s}, {dtype = "bool"}), 1)
    causal = false
  elseif causal then
    mask = nil
  end
  local q = project(self, 1, query, self.q_proj_weight)
  local k = project(self, 2, key, self.k_proj_weight)
  local v = project(self, 3, value, self.v_proj_weight)
  local zeros = self.add_zero_attn and ops.zeros({1, 1, e}, {dtype = query.dtype}) or nil
  for _, rows in ipairs {{self.bias_k, self.bias_v}, {zeros, zeros}} do
    if rows[1] then
      k, v = with_row(self, k, rows[1]), with_row(self, v, rows[2])
      mask, padding = with_column(mask), with_column(padding)
    end
  end
  mask = merged(padding, mask, query.dtype)
  local p = self.training and self.dropout or 0
  local y, weights
  if args.need_weights then
    local scores = (q / math.sqrt(e // heads)):matmul(k:transpose(3, 4))
    if mask then
      scores = mask.dtype == "bool" and scores:masked_fill(ops.logical_not(mask), -math.huge)
        or scores + mask
    end
    weights = scores:softmax(-1)
    if p > 0 then weights = ops.dropout(weights, p, true) end
    y = weights:matmul(v)
    if args.average_attn_weights then weights = weights:mean(2) end
    if dims == 2 then weights = weights:squeeze(1) end
  else
    y = ops.scaled_dot_product_attention(q, k, v, mask, p, causal)
  end
  y = self.batch_first and y:transpose(2, 3):reshape(n, l, e)
    or y:permute(3, 1, 2, 4):reshape(l, n, e)
  y = self.out_proj(y)
  if dims == 2 then y = y:squeeze(batch) end
  return y, weights
end

return M
