--- `nn.utils`: gradients clipped, parameters as one vector, weight and spectral norm.
-- Relies on perigee.core, nn/reparametrize.lua.
-- Spec: spec/nn/utils_spec.lua.

local core = require "perigee.core"
local blame = require "perigee.blame"
local reparametrize = require "perigee.nn.reparametrize"
local util = require "perigee.util"

local M = {
  weight_norm = reparametrize.weight_norm,
  remove_weight_norm = reparametrize.remove_weight_norm,
  spectral_norm = reparametrize.spectral_norm,
  remove_spectral_norm = reparametrize.remove_spectral_norm,
  parametrizations = reparametrize.parametrizations,
  parametrize = reparametrize.parametrize,
}

local function list_of(fn, params)
  if core.is_tensor(params) then return {params} end
  return util.expect(fn, "parameters", params, "table")
end

--- Scales all gradients so that their joint norm is at most max_norm.
-- @param params a list of parameters, or one
-- @param max_norm the largest norm
-- @param norm_type 2, another number, or math.huge; or {norm_type = ..}
-- @return the norm before
function M.clip_grad_norm_(params, max_norm, norm_type)
  util.expect("clip_grad_norm_", "max_norm", max_norm, "number")
  if type(norm_type) == "table" then
    norm_type = util.options("clip_grad_norm_", norm_type, {norm_type = 2}).norm_type
  end
  return blame.call("", core.clip_grad_norm, list_of("clip_grad_norm_", params), max_norm,
    norm_type or 2)
end

--- The joint norm of tensors: the norm of their norms.
-- @param tensors a list of tensors, or one
-- @param norm_type 2, another number, or math.huge
-- @return a 0-dim tensor
function M.get_total_norm(tensors, norm_type)
  norm_type = util.expect("get_total_norm", "norm_type", norm_type or 2, "number")
  local norms = {}
  for i, t in ipairs(list_of("get_total_norm", tensors)) do
    norms[i] = blame.named("get_total_norm", core.ops.norm, t, norm_type)
  end
  if #norms == 0 then return core.tensor(0.0) end
  return core.ops.norm(core.ops.stack(norms), norm_type)
end

--- Clamps every element of all gradients to +-clip_value.
function M.clip_grad_value_(params, clip_value)
  util.expect("clip_grad_value_", "clip_value", clip_value, "number")
  local _ <close> = core.no_grad()
  for _, p in ipairs(list_of("clip_grad_value_", params)) do
    if p.grad then p.grad:clamp_(-clip_value, clip_value) end
  end
end

--- All parameters as one vector.
function M.parameters_to_vector(params)
  local flat = {}
  for i, p in ipairs(list_of("parameters_to_vector", params)) do
    flat[i] = util.expect("parameters_to_vector", "parameters", p, "tensor"):reshape(-1)
  end
  return blame.named("parameters_to_vector", core.ops.cat, flat, 1)
end

--- Copies a vector into the parameters, in order.
function M.vector_to_parameters(vector, params)
  local at, total = 1, 0
  params = list_of("vector_to_parameters", params)
  util.expect("vector_to_parameters", "vector", vector, "tensor")
  for _, p in ipairs(params) do
    total = total + util.expect("vector_to_parameters", "parameters", p, "tensor"):numel()
  end
  if total ~= vector:numel() then
    util.fail("vector_to_parameters",
      "argument 'vector': expected %d elements as the parameters have, got %d", total,
      vector:numel())
  end
  local _ <close> = core.no_grad()
  for _, p in ipairs(params) do
    local n = p:numel()
    p:detach():copy_(vector:narrow(1, at, n):reshape(p.shape))
    at = at + n
  end
end

return M
