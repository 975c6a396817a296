--- `nn.functional`: ops without state, under PyTorch's names. Every op of core that is a method or
-- marked for nn is here. Relies on core.ops. Spec: spec/nn/functional_spec.lua.

local arguments = require "perigee.optim.arguments"
local blame = require "perigee.blame"
local core = require "perigee.core"
local lists = require "perigee.nn.lists"
local util = require "perigee.util"

--- Functions that are more than an op of their name.
local own = {}

--- Images N x C x (D x H x) W brought to another size; scale_factor may be a list, one a dim.
function own.interpolate(...)
  local args = lists.scale_factors("interpolate", 3, ...)
  return core.ops.interpolate(table.unpack(args, 1, args.n))
end

--- The op of that name, its errors blamed on the script's line.
local function op(name, ...) return blame.call("", core.ops[name], ...) end

--- The rows of weight with a p-norm above max_norm, among those that index names, are scaled down
-- to it in place.
local function renorm_rows(index, weight, max_norm, p)
  local _ <close> = core.no_grad()
  local at = (core.ops.unique_flat(index))
  local rows = core.ops.index_select(core.ops.detach(weight), 1, at)
  rows = core.ops.renorm(rows, p, 1, max_norm)
  core.ops.index_copy_(core.ops.detach(weight), 1, at, rows)
end

--- Rows of a table by 1-based index. max_norm (in place) and norm_type bound the rows that are
-- used, scale_grad_by_freq divides a row's gradient by how often index names it.
function own.embedding(index, weight, ...)
  local given = table.pack(...)
  local last = given[given.n]
  local options = type(last) == "table" and last or {}
  if given.n - (last == options and 1 or 0) < 2 and not (options.max_norm
      or options.scale_grad_by_freq or options.sparse ~= nil or options.norm_type) then
    return core.ops.embedding(index, weight, ...)
  end
  local opt = util.options("embedding", options, {"padding_idx", "max_norm", norm_type = 2,
    scale_grad_by_freq = false, sparse = false})
  for i, name in ipairs {"padding_idx", "max_norm", "norm_type", "scale_grad_by_freq", "sparse"} do
    if i <= given.n and given[i] ~= options and given[i] ~= nil then opt[name] = given[i] end
  end
  if opt.sparse then util.fail("embedding", "argument 'sparse': sparse gradients do not exist") end
  util.expect("embedding", "input", index, "tensor")
  util.expect("embedding", "weight", weight, "tensor")
  if opt.max_norm then renorm_rows(index, weight, opt.max_norm, opt.norm_type) end
  local y = core.ops.embedding(index, weight, opt.padding_idx)
  if not opt.scale_grad_by_freq then return y end
  local _, place, count = core.ops.unique_flat(index)
  local often = core.ops.reshape(core.ops.index_select(count, 1, core.ops.reshape(place, -1)),
    table.unpack(index.shape))
  local fixed = core.ops.detach(y)
  local gap = core.ops.div(core.ops.sub(y, fixed), core.ops.unsqueeze(often, -1))
  return core.ops.add(fixed, gap)
end

local BAG = {{"input"}, {"weight"}, {"offsets", optional = true}, {"max_norm", optional = true},
  {"norm_type", 2}, {"scale_grad_by_freq", false}, {"mode", "mean"}, {"sparse", false},
  {"per_sample_weights", optional = true}, {"include_last_offset", false},
  {"padding_idx", optional = true}}

--- Sums, means or maxima of a table's rows, bag by bag; further options as those of embedding.
function own.embedding_bag(...)
  local given = blame.call("", arguments.read, "embedding_bag", BAG, ...)
  local index, weight, padding = given.input, given.weight, given.padding_idx
  local mere = core.is_tensor(index) and not core.has_data(index)
  if given.max_norm and not mere then
    util.expect("embedding_bag", "input", index, "tensor")
    util.expect("embedding_bag", "weight", weight, "tensor")
    util.expect("embedding_bag", "max_norm", given.max_norm, "number")
    renorm_rows(index, weight, given.max_norm, given.norm_type)
  end
  if given.scale_grad_by_freq and given.mode == "max" then
    util.fail("embedding_bag", "argument 'scale_grad_by_freq': expected false for mode 'max', got "
      .. "true")
  end
  if given.scale_grad_by_freq and not mere then
    local rows, place, count = core.ops.unique_flat(index)
    local used = core.ops.index_select(weight, 1, rows)
    local fixed = core.ops.detach(used)
    weight = core.ops.add(fixed,
      core.ops.div(core.ops.sub(used, fixed), core.ops.unsqueeze(count, -1)))
    index = core.ops.reshape(place, index.shape)
    if padding then -- its number among the rows that are used, if it is one of them
      padding = padding < 0 and padding + given.weight:size(1) + 1 or padding
      local at = core.ops.nonzero(core.ops.eq(rows, padding))
      padding = at:numel() > 0 and at:item() or nil
    end
  end
  return op("embedding_bag", index, weight, {offsets = given.offsets, mode = given.mode,
    sparse = given.sparse, per_sample_weights = given.per_sample_weights,
    include_last_offset = given.include_last_offset, padding_idx = padding})
end

--- Patches of images as columns: im2col under PyTorch's name (x:unfold cuts windows along a dim).
function own.unfold(...) return core.ops.im2col(...) end

--- ctc_loss whose labels and lengths may be lists.
function own.ctc_loss(log_probs, targets, input_lengths, target_lengths, ...)
  return core.ops.ctc_loss(log_probs, lists.integers(targets), lists.integers(input_lengths),
    lists.integers(target_lengths), ...)
end

-- Of the softmaxes without a dim: the first where there are 0, 1 or 3 dims, else the second.
for _, name in ipairs {"softmax", "log_softmax", "softmin"} do
  own[name] = function(x, dim, ...)
    local options = type(dim) == "table" and dim.dim == nil
    if dim ~= nil and not options or type(x) ~= "table" and not core.is_tensor(x) then
      return op(name, x, dim, ...)
    end
    local nd = #x.shape
    local implied = (nd == 0 or nd == 1 or nd == 3) and 1 or 2
    if options then return op(name, x, implied, dim) end
    return op(name, x, implied, ...)
  end
end

-- Of the losses with a weight for every element: the mean of mse_loss and l1_loss is over the sum
-- of the weights, that of huber_loss over their number.
for name, over_weights in pairs {mse_loss = true, l1_loss = true, huber_loss = false} do
  own[name] = function(...)
    local n = select("#", ...)
    local options = n > 0 and select(n, ...)
    if type(options) ~= "table" or getmetatable(options) ~= nil or options.weight == nil then
      return op(name, ...)
    end
    local given, plain = table.pack(...), {}
    local weight, reduction = options.weight, options.reduction
    for key, value in pairs(options) do
      if key ~= "weight" and key ~= "reduction" then plain[key] = value end
    end
    if n > 3 then reduction, given[3] = given[3], "none" else plain.reduction = "none" end
    given[n] = plain
    util.expect(name, "weight", weight, "tensor")
    util.choice(name, "reduction", reduction or "mean", {"none", "mean", "sum"})
    local each = op(name, table.unpack(given, 1, n))
    local shape, wanted = table.concat(weight.shape, " x "), table.concat(given[1].shape, " x ")
    if shape ~= wanted then
      util.fail(name, "argument 'weight': expected [%s] as the input, got [%s]", wanted, shape)
    end
    each = core.ops.mul(each, weight)
    if reduction == "none" then return each end
    if reduction == "sum" then return core.ops.sum(each) end
    if not over_weights then return core.ops.mean(each) end
    return core.ops.div(core.ops.sum(each), core.ops.sum(weight))
  end
end

local ATTENTION = {{"query"}, {"key"}, {"value"}, {"attn_mask", optional = true},
  {"dropout_p", 0}, {"is_causal", false}, {"scale", optional = true}, {"enable_gqa", false}}

--- Attention; with enable_gqa every head of key and of value (the third dim from the end) serves
-- as many heads of query as there are for one of it.
function own.scaled_dot_product_attention(...)
  local n = select("#", ...)
  local options = n > 0 and select(n, ...)
  local named = arguments.is_options(options)
  if n < 8 and not (named and options.enable_gqa ~= nil) then
    return op("scaled_dot_product_attention", ...)
  end
  local given = blame.call("", arguments.read, "scaled_dot_product_attention", ATTENTION, ...)
  local query = given.query
  for _, name in ipairs(given.enable_gqa and {"key", "value"} or {}) do
    local x = given[name]
    local whole, part = query.shape, x.shape
    local heads, own_heads = whole[#whole - 2], part[#part - 2]
    if not (heads and own_heads) or own_heads == 0 or heads % own_heads ~= 0 then
      util.fail("scaled_dot_product_attention", "argument '%s': expected heads (dim -3) that "
        .. "divide those of query [%s], got [%s]", name, table.concat(whole, " x "),
        table.concat(part, " x "))
    end
    given[name] = core.ops.repeat_interleave(x, heads // own_heads, -3)
  end
  return op("scaled_dot_product_attention", query, given.key, given.value, {
    attn_mask = given.attn_mask, dropout_p = given.dropout_p, is_causal = given.is_causal,
    scale = given.scale})
end

--- The old name of interpolate.
own.upsample = own.interpolate

--- The triplet margin loss for any distance.
function own.triplet_margin_with_distance_loss(...)
  return require("perigee.nn.triplet").triplet_margin_with_distance_loss(...)
end

local known

local function names()
  if known then return known end
  known = {}
  for name in pairs(own) do known[name] = true end
  for _, info in ipairs(core.op_info()) do
    if (info.nn or info.method) and not info.hidden and not info.inplace_only then
      for _, name in ipairs(info.names) do
        known[name] = true
        if info.inplace then known[name .. "_"] = true end
      end
    end
  end
  return known
end

return setmetatable({}, {
  __name = "nn.functional",
  __index = function(self, key)
    if type(key) == "string" and key:sub(1, 2) == "__" then return nil end
    if not names()[key] then
      local near = util.suggest(key, util.sorted_keys(names()))
      error(("nn.functional: argument 'name': expected the name of a function, got %s%s"):format(
        util.show(key), near and (", did you mean '%s'?"):format(near) or ""), 2)
    end
    local fn = own[key] or core.ops[key]
    rawset(self, key, fn)
    return fn
  end,
})
