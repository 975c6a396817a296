--- Transformers (Vaswani et al. 2017): TransformerEncoderLayer, TransformerEncoder,
-- TransformerDecoderLayer, TransformerDecoder, Transformer. Relies on nn.Module and
-- nn.MultiheadAttention. Spec: spec/nn/transformer_spec.lua.
--
-- The layers of a stack have PyTorch's names, which count from 0 ("layers.0.linear1.weight"), so
-- that weights saved there load by name; `encoder.layers[1]` is the first of them.

local MultiheadAttention = require("perigee.nn.attention").MultiheadAttention
local ModuleList = require("perigee.nn.module_list").ModuleList
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

local function read(what, list, ...) return blame.call("", arguments.read, what, list, ...) end

-- Layers ------------------------------------------------------------------------------------------

local LAYER = {
  {"d_model", "integer"}, {"nhead", "integer"}, {"dim_feedforward", "integer", 2048},
  {"dropout", "number", 0.1}, {"activation", "string|callable", "relu"},
  {"layer_norm_eps", "number", 1e-5}, {"batch_first", "boolean", false},
  {"norm_first", "boolean", false}, {"bias", "boolean", true},
}

--- The parts of an encoder or decoder layer, registered in PyTorch's order.
local function build_layer(self, attentions)
  local Linear, Dropout, LayerNorm = layer.class "Linear", layer.class "Dropout",
    layer.class "LayerNorm"
  local what = "nn." .. self.class_name
  constructor.at_least(self, 1, "d_model", "nhead", "dim_feedforward")
  local p, d = constructor.probability(self, "dropout"), self.d_model
  if type(self.activation) == "string" then
    util.choice(what, "activation", self.activation, {"relu", "gelu"})
  end
  if d % self.nhead ~= 0 then
    util.fail(what, "argument 'nhead': expected a divisor of d_model %d, got %d", d, self.nhead)
  end
  rawset(self, "_activate", ops[self.activation] or self.activation)
  for _, name in ipairs(attentions) do
    self[name] = MultiheadAttention(d, self.nhead, {dropout = p, bias = self.bias,
      batch_first = self.batch_first})
  end
  self.linear1 = Linear(d, self.dim_feedforward, {bias = self.bias})
  -- PyTorch has a module of this name too; the number is the argument.
  rawset(self, "dropout", nil)
  self.dropout = Dropout(p)
  self.linear2 = Linear(self.dim_feedforward, d, {bias = self.bias})
  local n = #attentions + 1
  for k = 1, n do
    self["norm" .. k] = LayerNorm(d, {eps = self.layer_norm_eps, bias = self.bias})
  end
  for k = 1, n do self["dropout" .. k] = Dropout(p) end
end

local function feed_forward(self, x, drop)
  return drop(self.linear2(self.dropout(self._activate(self.linear1(x)))))
end

local EncoderLayer = module.Module:extend "TransformerEncoderLayer"
M.TransformerEncoderLayer = EncoderLayer

--- Self-attention, then a perceptron, each with a residual path and layer norm.
function EncoderLayer:init(...)
  constructor.read(self, LAYER, ...)
  build_layer(self, {"self_attn"})
end

local SRC = {{"src"}, {"src_mask", nil, optional = true},
  {"src_key_padding_mask", nil, optional = true}, {"is_causal", false}}

--- @param src length x n x d_model; n x length x d_model for batch_first; or length x d_model
-- @param ... src_mask, src_key_padding_mask, is_causal: as MultiheadAttention takes them
-- @return a tensor like src
function EncoderLayer:forward(...)
  local args = read("TransformerEncoderLayer", SRC, ...)
  local options = {attn_mask = args.src_mask, key_padding_mask = args.src_key_padding_mask,
    is_causal = args.is_causal, need_weights = false}
  local function attend(x) return self.dropout1((self.self_attn(x, x, x, options))) end
  local x = args.src
  if self.norm_first then
    x = x + attend(self.norm1(x))
    return x + feed_forward(self, self.norm2(x), self.dropout2)
  end
  x = self.norm1(x + attend(x))
  return self.norm2(x + feed_forward(self, x, self.dropout2))
end

local DecoderLayer = module.Module:extend "TransformerDecoderLayer"
M.TransformerDecoderLayer = DecoderLayer

--- Self-attention, attention to the encoder's result (memory), then a perceptron.
function DecoderLayer:init(...)
  constructor.read(self, LAYER, ...)
  build_layer(self, {"self_attn", "multihead_attn"})
end

local TGT = {{"tgt"}, {"memory"}, {"tgt_mask", nil, optional = true},
  {"memory_mask", nil, optional = true}, {"tgt_key_padding_mask", nil, optional = true},
  {"memory_key_padding_mask", nil, optional = true}, {"tgt_is_causal", false},
  {"memory_is_causal", false}}

--- @param tgt length x n x d_model; n x length x d_model for batch_first; or length x d_model
-- @param memory the encoder's result
-- @param ... tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask, tgt_is_causal,
-- memory_is_causal: as MultiheadAttention takes them
-- @return a tensor like tgt
function DecoderLayer:forward(...)
  local args = read("TransformerDecoderLayer", TGT, ...)
  local own = {attn_mask = args.tgt_mask, key_padding_mask = args.tgt_key_padding_mask,
    is_causal = args.tgt_is_causal, need_weights = false}
  local other = {attn_mask = args.memory_mask, key_padding_mask = args.memory_key_padding_mask,
    is_causal = args.memory_is_causal, need_weights = false}
  local memory = args.memory
  local function attend(x) return self.dropout1((self.self_attn(x, x, x, own))) end
  local function look(x) return self.dropout2((self.multihead_attn(x, memory, memory, other))) end
  local x = args.tgt
  if self.norm_first then
    x = x + attend(self.norm1(x))
    x = x + look(self.norm2(x))
    return x + feed_forward(self, self.norm3(x), self.dropout3)
  end
  x = self.norm1(x + attend(x))
  x = self.norm2(x + look(x))
  return self.norm3(x + feed_forward(self, x, self.dropout3))
end

-- Stacks ------------------------------------------------------------------------------------------

--- A module of the same arguments and the same values.
local function copy_of(original)
  local args = original:config()
  local state = core.rng_state()
  local copy = getmetatable(original)(table.unpack(args, 1, args.n))
  core.set_rng_state(state)
  local _, first = next(original:parameters())
  if first then copy:to(first.dtype) end
  copy:load_state_dict(original:state_dict())
  return copy:train(original.training)
end

local function build_stack(self, what, params, ...)
  local values = constructor.read(self, params, ...)
  constructor.at_least(self, 1, "num_layers")
  if not module.is_module(values[what]) then
    util.fail("nn." .. self.class_name, "argument '%s': expected a module, got %s", what,
      util.type_name(values[what]))
  end
  rawset(self, "_given", nil)
  local layers = ModuleList()
  for k = 1, self.num_layers do layers:add_module(tostring(k - 1), copy_of(values[what])) end
  self.layers = layers
  self.norm = values.norm
end

local Encoder = module.Module:extend "TransformerEncoder"
M.TransformerEncoder = Encoder

--- num_layers copies of encoder_layer one after the other, then norm.
function Encoder:init(...)
  build_stack(self, "encoder_layer", {{"encoder_layer", "callable"}, {"num_layers", "integer"},
    {"norm", "callable|nil"}, {"enable_nested_tensor", "boolean", true},
    {"mask_check", "boolean", true}}, ...)
end

function Encoder:config()
  return {{encoder_layer = self.layers[1], num_layers = self.num_layers, norm = self.norm}, n = 1}
end

local STACK = {{"src"}, {"mask", nil, optional = true},
  {"src_key_padding_mask", nil, optional = true}, {"is_causal", false}}

--- @param ... src, mask, src_key_padding_mask, is_causal: as TransformerEncoderLayer takes them
-- @return a tensor like src
function Encoder:forward(...)
  local args = read("TransformerEncoder", STACK, ...)
  local x = args.src
  for _, each in ipairs(self.layers) do
    x = each(x, args.mask, args.src_key_padding_mask, args.is_causal)
  end
  return self.norm and self.norm(x) or x
end

local Decoder = module.Module:extend "TransformerDecoder"
M.TransformerDecoder = Decoder

--- num_layers copies of decoder_layer one after the other, then norm.
function Decoder:init(...)
  build_stack(self, "decoder_layer", {{"decoder_layer", "callable"}, {"num_layers", "integer"},
    {"norm", "callable|nil"}}, ...)
end

function Decoder:config()
  return {{decoder_layer = self.layers[1], num_layers = self.num_layers, norm = self.norm}, n = 1}
end

--- @param ... tgt, memory and the masks of TransformerDecoderLayer
-- @return a tensor like tgt
function Decoder:forward(...)
  local args = read("TransformerDecoder", TGT, ...)
  local x = args.tgt
  for _, each in ipairs(self.layers) do
    x = each(x, args.memory, args.tgt_mask, args.memory_mask, args.tgt_key_padding_mask,
      args.memory_key_padding_mask, args.tgt_is_causal, args.memory_is_causal)
  end
  return self.norm and self.norm(x) or x
end

-- The whole ---------------------------------------------------------------------------------------

local Transformer = module.Module:extend "Transformer"
M.Transformer = Transformer

local WHOLE = {
  {"d_model", "integer", 512}, {"nhead", "integer", 8}, {"num_encoder_layers", "integer", 6},
  {"num_decoder_layers", "integer", 6}, {"dim_feedforward", "integer", 2048},
  {"dropout", "number", 0.1}, {"activation", "string|callable", "relu"},
  {"custom_encoder", "callable|nil"}, {"custom_decoder", "callable|nil"},
  {"layer_norm_eps", "number", 1e-5}, {"batch_first", "boolean", false},
  {"norm_first", "boolean", false}, {"bias", "boolean", true},
}

--- Encoder and decoder; matrices start by Glorot's uniform rule.
function Transformer:init(...)
  local values = constructor.read(self, WHOLE, ...)
  local shared = {}
  for _, p in ipairs(LAYER) do shared[p[1]] = values[p[1]] end
  local LayerNorm = layer.class "LayerNorm"
  local function norm()
    return LayerNorm(self.d_model, {eps = self.layer_norm_eps, bias = self.bias})
  end
  self.encoder = values.custom_encoder
    or Encoder(EncoderLayer(shared), self.num_encoder_layers, norm())
  self.decoder = values.custom_decoder
    or Decoder(DecoderLayer(shared), self.num_decoder_layers, norm())
  for _, p in ipairs(self:parameters()) do
    if p:dim() > 1 then initial.xavier_uniform_(p:detach()) end
  end
end

local BOTH = {{"src"}, {"tgt"}, {"src_mask", nil, optional = true},
  {"tgt_mask", nil, optional = true}, {"memory_mask", nil, optional = true},
  {"src_key_padding_mask", nil, optional = true}, {"tgt_key_padding_mask", nil, optional = true},
  {"memory_key_padding_mask", nil, optional = true}, {"src_is_causal", false},
  {"tgt_is_causal", false}, {"memory_is_causal", false}}

--- @param ... src, tgt, then masks as the encoder and the decoder take them
-- @return a tensor like tgt
function Transformer:forward(...)
  local args = read("Transformer", BOTH, ...)
  local memory = self.encoder(args.src, {mask = args.src_mask,
    src_key_padding_mask = args.src_key_padding_mask, is_causal = args.src_is_causal})
  return self.decoder(args.tgt, memory, {tgt_mask = args.tgt_mask, memory_mask = args.memory_mask,
    tgt_key_padding_mask = args.tgt_key_padding_mask,
    memory_key_padding_mask = args.memory_key_padding_mask, tgt_is_causal = args.tgt_is_causal,
    memory_is_causal = args.memory_is_causal})
end

--- An additive mask n x n: -inf above the diagonal, 0 elsewhere.
-- `nn.Transformer.generate_square_subsequent_mask(n)`
function Transformer.generate_square_subsequent_mask(n, more)
  n = util.expect("generate_square_subsequent_mask", "sz", module.is_module(n) and more or n,
    "integer")
  return ops.triu(ops.full({n, n}, -math.huge), 1)
end

return M
