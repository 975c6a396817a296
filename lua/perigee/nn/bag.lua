--- `nn.EmbeddingBag` and `nn.Bilinear`. Relies on nn.Module, nn.functional and the composition
-- bilinear. Spec: spec/nn/bag_spec.lua.

local arguments = require "perigee.optim.arguments"
local blame = require "perigee.blame"
local constructor = require "perigee.nn.constructor"
local core = require "perigee.core"
local functional = require "perigee.nn.functional"
local module = require "perigee.nn.module"
local util = require "perigee.util"

local ops = core.ops

local M = {}

local EmbeddingBag = module.Module:extend "EmbeddingBag"
M.EmbeddingBag = EmbeddingBag

local BAG = {
  {"num_embeddings", "integer"}, {"embedding_dim", "integer"}, {"max_norm", "number|nil"},
  {"norm_type", "number", 2}, {"scale_grad_by_freq", "boolean", false}, {"mode", "string", "mean"},
  {"sparse", "boolean", false}, {"_weight", "Tensor|tensor|nil"},
  {"include_last_offset", "boolean", false}, {"padding_idx", "integer|nil"},
}

--- Sums, means or maxima of the rows of a table; weight [num_embeddings x embedding_dim] starts
-- N(0, 1), the row padding_idx at zero. max_norm bounds the norm_type-norm of the rows that are
-- used, in place; scale_grad_by_freq divides a row's gradient by how often the batch names it.
function EmbeddingBag:init(...)
  local values = constructor.read(self, BAG, ...)
  constructor.at_least(self, 1, "num_embeddings", "embedding_dim")
  util.choice("nn.EmbeddingBag", "mode", self.mode, {"sum", "mean", "max"})
  if self.scale_grad_by_freq and self.mode == "max" then
    util.fail("nn.EmbeddingBag", "argument 'scale_grad_by_freq': expected false for mode 'max', "
      .. "got true")
  end
  local n, p = self.num_embeddings, self.padding_idx
  if p and (p == 0 or p > n or p < -n) then
    util.fail("nn.EmbeddingBag", "argument 'padding_idx': expected 1 to %d, got %d", n, p)
  end
  local given = values._weight
  values._weight = nil
  rawset(self, "_weight", nil)
  if given then
    self.weight = module.Parameter(given)
  else
    local weight = ops.normal_(ops.zeros(n, self.embedding_dim))
    if p then weight[p] = 0 end
    self.weight = module.Parameter(weight)
  end
end

local FORWARD = {{"input"}, {"offsets", nil, optional = true},
  {"per_sample_weights", nil, optional = true}}

--- @param ... by position or by name: input, indices from 1: bags x n, or n with offsets, the
-- places from 1 where bags begin; per_sample_weights, a factor for each index, for mode "sum"
-- @return bags x embedding_dim
function EmbeddingBag:forward(...)
  local args = blame.call("", arguments.read, "EmbeddingBag", FORWARD, ...)
  return functional.embedding_bag(args.input, self.weight, {offsets = args.offsets,
    mode = self.mode, per_sample_weights = args.per_sample_weights,
    padding_idx = self.padding_idx, include_last_offset = self.include_last_offset,
    max_norm = self.max_norm, norm_type = self.norm_type,
    scale_grad_by_freq = self.scale_grad_by_freq})
end

function EmbeddingBag:extra_repr()
  return ("%d, %d, mode='%s'"):format(self.num_embeddings, self.embedding_dim, self.mode)
    .. (self.padding_idx and (", padding_idx=%d"):format(self.padding_idx) or "")
end

local Bilinear = module.Module:extend "Bilinear"
M.Bilinear = Bilinear

--- y = x1^T W x2 + b; weight [out_features x in1_features x in2_features] and bias start uniform in
-- +-1/sqrt(in1_features).
function Bilinear:init(...)
  constructor.read(self, {{"in1_features", "integer"}, {"in2_features", "integer"},
    {"out_features", "integer"}, {"bias", "boolean", true}}, ...)
  constructor.at_least(self, 1, "in1_features", "in2_features", "out_features")
  local bound, with_bias = 1 / math.sqrt(self.in1_features), self.bias
  local function make(...) return module.Parameter(ops.uniform_(ops.zeros(...), -bound, bound)) end
  self.weight = make(self.out_features, self.in1_features, self.in2_features)
  rawset(self, "bias", nil)
  if with_bias then self.bias = make(self.out_features) end
end

--- @param input1 .. x in1_features
-- @param input2 .. x in2_features
-- @return .. x out_features
function Bilinear:forward(input1, input2)
  return ops.bilinear(input1, input2, self.weight, self.bias)
end

function Bilinear:extra_repr()
  return ("in1_features=%d, in2_features=%d, out_features=%d, bias=%s"):format(self.in1_features,
    self.in2_features, self.out_features, constructor.python(self.bias ~= nil))
end

return M
