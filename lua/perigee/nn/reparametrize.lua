--- `nn.utils.weight_norm` and `nn.utils.spectral_norm`: a parameter that is computed from others
-- before every forward. Relies on nn/module.lua and perigee.core. Spec: spec/nn/utils_spec.lua.

local core = require "perigee.core"
local module = require "perigee.nn.module"
local util = require "perigee.util"

local ops = core.ops
local M = {}

--- What each module's parameter is computed by: module -> name -> {hook, parts, compute}.
local computed = setmetatable({}, {__mode = "k"})

local function in_c(self, name)
  local slots = rawget(self, "_slots")
  return slots and slots[name] and slots[name].kind == "param"
end

--- Puts a computed tensor where the parameter was.
local function put(self, name, tensor)
  core.keep(tensor)
  if in_c(self, name) then core.layer_set(rawget(self, "_handle"), name, tensor, true) end
  rawset(self, name, tensor)
end

local function check(fn, self, name, dim)
  if not module.is_module(self) then
    util.fail(fn, "argument 'module': expected a module, got %s", util.type_name(self))
  end
  util.expect(fn, "name", name, "string")
  if (computed[self] or {})[name] then
    util.fail(fn, "%s.%s is computed from others already", self.class_name, name)
  end
  local p = self[name]
  if not module.is_parameter(p) then
    util.fail(fn, "argument 'name': %s has no parameter %s", self.class_name, util.show(name))
  end
  local n = p:dim()
  if dim == nil then return p end
  if not util.expect(fn, "dim", dim, "integer") or dim == 0 or dim > n or dim < -n then
    util.fail(fn, "argument 'dim': expected 1..%d or -%d..-1, got %s", n, n, util.show(dim))
  end
  return p, dim > 0 and dim or n + 1 + dim
end

--- Takes the parameter away and computes it by compute(self) before every forward.
-- parts: names of what it is computed from.
local function install(self, name, parts, compute)
  if in_c(self, name) then
    rawget(self, "_cache")[name] = nil
  else
    self[name] = nil
  end
  local hook = self:register_forward_pre_hook(function() put(self, name, compute(self)) end)
  computed[self] = computed[self] or {}
  computed[self][name] = {hook = hook, parts = parts, compute = compute}
  rawset(self, "config", function()
    return nil, ("'%s' is computed from others; save its state_dict, or remove the norm first")
      :format(name)
  end)
  put(self, name, compute(self))
end

local function uninstall(fn, self, name, parts)
  if not module.is_module(self) then
    util.fail(fn, "argument 'module': expected a module, got %s", util.type_name(self))
  end
  local entry = (computed[self] or {})[name]
  if not entry or entry.parts ~= parts then
    util.fail(fn, "%s.%s has no %s", self.class_name, name, (fn:gsub("^remove_", "")))
  end
  local value
  do
    local _ <close> = core.no_grad()
    value = module.Parameter(entry.compute(self, true):detach():clone())
  end
  entry.hook.remove()
  computed[self][name] = nil
  if next(computed[self]) == nil then rawset(self, "config", nil) end
  for _, part in ipairs(parts) do self[name .. part] = nil end
  rawset(self, name, nil)
  if in_c(self, name) then
    self:replace_tensor("param", name, value)
  else
    self[name] = value
  end
  return self
end

-- Weight norm -------------------------------------------------------------------------------------

local WEIGHT_PARTS = {"_g", "_v"}

local function norm_except(v, dim)
  if dim == nil then return ops.norm(v) end
  local others = {}
  for d = 1, v:dim() do
    if d ~= dim then others[#others + 1] = d end
  end
  if #others == 0 then return ops.abs(v) end
  return ops.norm(v, 2, others, true)
end

--- Splits a parameter into its length and direction: weight = g v / |v| (Salimans and Kingma 2016).
-- The module then has parameters `weight_g` and `weight_v` instead.
-- @param self a module
-- @param name of the parameter, "weight"
-- @param dim along which each slice has its own length, 1; -1 or false: one length for all
-- @return the module
function M.weight_norm(self, name, dim)
  local fn = "weight_norm"
  if type(name) == "table" then
    local opt = util.options(fn, name, {"name", "dim"})
    name, dim = opt.name, opt.dim
  end
  name = name or "weight"
  if dim == nil then dim = 1 end
  if dim == false or dim == -1 then dim = nil end
  local p
  p, dim = check(fn, self, name, dim)
  local g, v
  do
    local _ <close> = core.no_grad()
    v = module.Parameter(p:detach():clone())
    g = module.Parameter(norm_except(p, dim):detach():clone())
  end
  self:register_parameter(name .. "_g", g)
  self:register_parameter(name .. "_v", v)
  install(self, name, WEIGHT_PARTS, function(layer)
    local direction = layer[name .. "_v"]
    return direction * (layer[name .. "_g"] / norm_except(direction, dim))
  end)
  return self
end

--- Makes the parameter whole again. @return the module
function M.remove_weight_norm(self, name)
  return uninstall("remove_weight_norm", self, name or "weight", WEIGHT_PARTS)
end

-- Spectral norm -----------------------------------------------------------------------------------

local SPECTRAL_PARTS = {"_orig", "_u", "_v"}

--- w as a matrix whose rows run along dim.
local function as_matrix(w, dim)
  if dim ~= 1 then
    local order = {dim}
    for d = 1, w:dim() do
      if d ~= dim then order[#order + 1] = d end
    end
    w = w:permute(order)
  end
  return w:reshape(w:size(1), -1)
end

--- Divides a parameter by its largest singular value, which power iteration follows in training
-- (Miyato et al. 2018). The module then has the parameter `weight_orig` and buffers `weight_u`,
-- `weight_v` instead.
-- @param self a module
-- @param name of the parameter, "weight"
-- @param n_power_iterations a forward, 1
-- @param eps least length of a vector, 1e-12
-- @param dim that makes the rows, 1 (2 for transposed convolutions)
-- @return the module
function M.spectral_norm(self, name, n_power_iterations, eps, dim)
  local fn = "spectral_norm"
  local opt = {name = name, n_power_iterations = n_power_iterations, eps = eps, dim = dim}
  for _, given in ipairs {name or false, n_power_iterations or false, eps or false} do
    if type(given) == "table" then
      for key in pairs(opt) do
        if opt[key] == given then opt[key] = nil end
      end
      for key, value in pairs(util.options(fn, given, {"name", "n_power_iterations", "eps", "dim"}))
      do
        opt[key] = value
      end
    end
  end
  name = opt.name or "weight"
  local rounds = util.expect(fn, "n_power_iterations", opt.n_power_iterations or 1, "integer")
  if rounds < 1 then
    util.fail(fn, "argument 'n_power_iterations': expected at least 1, got %d", rounds)
  end
  local least = util.expect(fn, "eps", opt.eps or 1e-12, "number")
  local transposed = module.is_module(self) and self.class_name:find "^ConvTranspose"
  local p
  p, dim = check(fn, self, name, opt.dim or (transposed and 2 or 1))
  do
    local _ <close> = core.no_grad()
    local w = as_matrix(p:detach(), dim)
    local function unit(n)
      local t = ops.randn({n}, {dtype = p.dtype})
      return ops.normalize(t, 2, 1, least)
    end
    self:register_parameter(name .. "_orig", module.Parameter(p:detach():clone()))
    self:register_buffer(name .. "_u", unit(w:size(1)))
    self:register_buffer(name .. "_v", unit(w:size(2)))
  end
  local ready = false
  install(self, name, SPECTRAL_PARTS, function(layer, still)
    local w = layer[name .. "_orig"]
    local rows = as_matrix(w, dim)
    local u, v = layer[name .. "_u"], layer[name .. "_v"]
    if layer.training and ready and not still then
      local _ <close> = core.no_grad()
      local matrix = rows:detach()
      for _ = 1, rounds do
        v:copy_(ops.normalize(matrix:t():matmul(u), 2, 1, least))
        u:copy_(ops.normalize(matrix:matmul(v), 2, 1, least))
      end
    end
    ready = true
    return w / ops.dot(u:clone(), rows:matmul(v:clone()))
  end)
  return self
end

--- Makes the parameter whole again, divided by its singular value as it stands. @return the module
function M.remove_spectral_norm(self, name)
  return uninstall("remove_spectral_norm", self, name or "weight", SPECTRAL_PARTS)
end

return M
