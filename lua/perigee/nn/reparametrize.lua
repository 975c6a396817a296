--- Weight norm and spectral norm: a parameter that is computed from others before every forward.
-- `nn.utils.weight_norm` keeps those as weight_g and weight_v, `nn.utils.parametrizations` as
-- parametrizations.weight.original0 and .original1, as PyTorch's functions of these names do; a
-- state in either form loads into either. Relies on nn/module.lua, nn/module_list.lua and
-- perigee.core. Spec: spec/nn/utils_spec.lua.

local core = require "perigee.core"
local module = require "perigee.nn.module"
local module_list = require "perigee.nn.module_list"
local util = require "perigee.util"

local ops = core.ops
local M = {}

--- What each module's parameter is computed by: module -> name -> entry. An entry holds kind, form,
-- name, dim, rounds, least, its number among the module's, and at: role of a part -> {module, its
-- name there}.
local computed = setmetatable({}, {__mode = "k"})

--- Paths of the parts below the module, by kind, form and role.
local PATHS = {
  weight_norm = {
    hooks = {g = "%s_g", v = "%s_v"},
    parametrizations = {g = "parametrizations.%s.original0", v = "parametrizations.%s.original1"},
  },
  spectral_norm = {
    hooks = {original = "%s_orig", u = "%s_u", v = "%s_v"},
    parametrizations = {original = "parametrizations.%s.original", u = "parametrizations.%s.0._u",
      v = "parametrizations.%s.0._v"},
  },
}

local ParametrizationList = module.Module:extend "ParametrizationList"
local STEPS = {
  weight_norm = module.Module:extend "_WeightNorm",
  spectral_norm = module.Module:extend "_SpectralNorm",
}

local function in_c(self, name)
  local slots = rawget(self, "_slots")
  return slots and slots[name] and slots[name].kind == "param"
end

local function check(fn, self, name, dim)
  if not module.is_module(self) then
    util.fail(fn, "argument 'module': expected a module, got %s", util.type_name(self))
  end
  util.expect(fn, "name", name, "string")
  if (computed[self] or {})[name] then
    util.fail(fn, "argument 'name': expected a parameter of %s that is not computed from others, "
      .. "got '%s'", self.class_name, name)
  end
  local p = self[name]
  if not module.is_parameter(p) then
    util.fail(fn, "argument 'name': expected a parameter of %s, got %s", self.class_name,
      util.show(name))
  end
  local n = p:dim()
  if dim == nil then return p end
  if not util.expect(fn, "dim", dim, "integer") or dim == 0 or dim > n or dim < -n then
    util.fail(fn, "argument 'dim': expected 1..%d or -%d..-1, got %s", n, n, util.show(dim))
  end
  return p, dim > 0 and dim or n + 1 + dim
end

-- Parts -------------------------------------------------------------------------------------------

--- The modules that hold the parts in the form "parametrizations".
local function add_holders(self, entry)
  if not self.parametrizations then
    self:add_module("parametrizations", module_list.ModuleDict())
  end
  local list = ParametrizationList()
  list:add_module("0", STEPS[entry.kind]())
  self.parametrizations:add_module(entry.name, list)
  rawset(self, "_title", "Parametrized" .. self.class_name)
end

local function remove_holders(self, entry)
  local holders = self.parametrizations
  holders[entry.name] = nil
  if next(holders:children()) == nil then
    self.parametrizations = nil
    rawset(self, "_title", nil)
  end
end

--- Where a path leads: the module that holds the part, and the part's name there.
local function resolve(self, path)
  local at, key = self, path
  for step, rest in path:gmatch "([^.]+)%.(.*)" do
    at, key = at[step], rest
    while key:find(".", 1, true) do
      step, key = key:match "([^.]+)%.(.*)"
      at = rawget(at, "_modules")[step]
    end
  end
  return at, key
end

--- Registers a part: parameters under the roles g, v (weight norm), original; buffers else.
local function add_part(self, entry, role, tensor)
  local holder, key = resolve(self, PATHS[entry.kind][entry.form][role]:format(entry.name))
  if entry.kind == "weight_norm" or role == "original" then
    holder:register_parameter(key, module.Parameter(tensor))
  else
    holder:register_buffer(key, tensor)
  end
  entry.at[role] = {holder, key}
end

local function part(entry, role)
  local at = entry.at[role]
  return at[1][at[2]]
end

-- Values ------------------------------------------------------------------------------------------

local function norm_except(v, dim)
  if dim == nil then return ops.norm(v) end
  local others = {}
  for d = 1, v:dim() do
    if d ~= dim then others[#others + 1] = d end
  end
  if #others == 0 then return ops.abs(v) end
  return ops.norm(v, 2, others, true)
end

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

--- Follows the first singular vectors of the matrix: u and v change in place.
local function iterate(entry, matrix, u, v, rounds)
  local _ <close> = core.no_grad()
  local function to_u() u:copy_(ops.normalize(matrix:matmul(v), 2, 1, entry.least)) end
  local function to_v() v:copy_(ops.normalize(matrix:t():matmul(u), 2, 1, entry.least)) end
  for _ = 1, rounds do
    if entry.form == "hooks" then
      to_v()
      to_u()
    else
      to_u()
      to_v()
    end
  end
end

local VALUE = {}

function VALUE.weight_norm(entry)
  local v = part(entry, "v")
  return v * (part(entry, "g") / norm_except(v, entry.dim))
end

--- still: without a step of the power iteration, which training makes.
function VALUE.spectral_norm(entry, self, still)
  local w = part(entry, "original")
  local rows, u, v = as_matrix(w, entry.dim), part(entry, "u"), part(entry, "v")
  if self.training and not still then iterate(entry, rows:detach(), u, v, entry.rounds) end
  return w / ops.dot(u:clone(), rows:matmul(v:clone()))
end

--- Puts the value where the parameter was.
local function refresh(self, entry, still)
  local name, tensor = entry.name, VALUE[entry.kind](entry, self, still)
  core.keep(tensor)
  if in_c(self, name) then core.layer_set(rawget(self, "_handle"), name, tensor, true) end
  rawset(self, name, tensor)
end

-- Installing and removing -------------------------------------------------------------------------

--- A state whose parts have this module's names, whichever form they came in.
local function adapt(self, dict, path)
  local prefix, changed = path == "" and "" or path .. ".", nil
  for name, entry in pairs(computed[self]) do
    local own = PATHS[entry.kind][entry.form]
    local other = PATHS[entry.kind][entry.form == "hooks" and "parametrizations" or "hooks"]
    for role, pattern in pairs(own) do
      local key, from = prefix .. pattern:format(name), prefix .. other[role]:format(name)
      if dict[key] == nil and dict[from] ~= nil then
        changed = changed or {}
        changed[key], changed[from] = dict[from], false
      end
    end
  end
  if not changed then return dict end
  local copy = {}
  for key, value in pairs(dict) do copy[key] = value end
  for key, value in pairs(changed) do copy[key] = value or nil end
  return copy
end

--- Takes the parameter away and computes it from parts (role -> tensor) before every forward.
local function install(self, entry, parts)
  local name = entry.name
  entry.at = {}
  if entry.form == "parametrizations" then add_holders(self, entry) end
  for _, role in ipairs(util.sorted_keys(parts)) do add_part(self, entry, role, parts[role]) end
  if in_c(self, name) then
    rawget(self, "_cache")[name] = nil
  else
    self[name] = nil
  end
  entry.hook = self:register_forward_pre_hook(function() refresh(self, entry) end)
  computed[self] = computed[self] or {}
  entry.number = 1
  for _, other in pairs(computed[self]) do
    entry.number = math.max(entry.number, other.number + 1)
  end
  computed[self][name] = entry
  rawset(self, "_adapt", adapt)
  rawset(self, "_refresh", M.refresh)
  refresh(self, entry, true)
  return self
end

local function uninstall(fn, self, name, kind)
  if not module.is_module(self) then
    util.fail(fn, "argument 'module': expected a module, got %s", util.type_name(self))
  end
  local entry = (computed[self] or {})[name]
  if not entry or kind and entry.kind ~= kind then
    util.fail(fn, "argument 'name': expected a parameter of %s with %s, got %s", self.class_name,
      kind or "a parametrization", util.show(name))
  end
  local value
  do
    local _ <close> = core.no_grad()
    value = module.Parameter(VALUE[entry.kind](entry, self, true):detach():clone())
  end
  entry.hook.remove()
  computed[self][name] = nil
  if next(computed[self]) == nil then
    computed[self] = nil
    rawset(self, "_adapt", nil)
    rawset(self, "_refresh", nil)
  end
  for _, at in pairs(entry.at) do at[1][at[2]] = nil end
  if entry.form == "parametrizations" then remove_holders(self, entry) end
  rawset(self, name, nil)
  if in_c(self, name) then
    self:replace_tensor("param", name, value)
  else
    self[name] = value
  end
  return self
end

--- Computes a module's parameters again, after its parts were loaded.
function M.refresh(self)
  for _, entry in pairs(computed[self] or {}) do refresh(self, entry, true) end
end

-- Functions ---------------------------------------------------------------------------------------

--- Arguments by name from positions and a table of options in the place of any of them.
local function read(fn, names, ...)
  local given, found = table.pack(...), {}
  for i, name in ipairs(names) do
    if type(given[i]) == "table" then
      for key, value in pairs(util.options(fn, given[i], names)) do found[key] = value end
    elseif given[i] ~= nil then
      found[name] = given[i]
    end
  end
  return found
end

local function weight_norm(form, self, ...)
  local fn = "weight_norm"
  local given = read(fn, {"name", "dim"}, ...)
  local name, along = given.name or "weight", given.dim
  if along == nil then along = 1 end
  if along == false or along == -1 then along = nil end
  local p, dim = check(fn, self, name, along)
  local v = p:detach():clone()
  local entry = {kind = fn, form = form, name = name, dim = dim}
  return install(self, entry, {g = norm_except(v, dim), v = v})
end

local function spectral_norm(form, self, ...)
  local fn = "spectral_norm"
  local given = read(fn, {"name", "n_power_iterations", "eps", "dim"}, ...)
  local name = given.name or "weight"
  local rounds = util.expect(fn, "n_power_iterations", given.n_power_iterations or 1, "integer")
  if rounds < 1 then
    util.fail(fn, "argument 'n_power_iterations': expected at least 1, got %d", rounds)
  end
  local least = util.expect(fn, "eps", given.eps or 1e-12, "number")
  local transposed = module.is_module(self) and self.class_name:find "^ConvTranspose"
  local p, dim = check(fn, self, name, given.dim or (transposed and 2 or 1))
  local entry = {kind = fn, form = form, name = name, dim = dim, rounds = rounds, least = least}
  local w = as_matrix(p:detach(), dim)
  local function unit(n) return ops.normalize(ops.randn({n}, {dtype = p.dtype}), 2, 1, least) end
  local u, v = unit(w:size(1)), unit(w:size(2))
  if form == "parametrizations" then iterate(entry, w, u, v, 15) end
  return install(self, entry, {original = p:detach():clone(), u = u, v = v})
end

--- Splits a parameter into its length and direction: weight = g v / |v| (Salimans and Kingma 2016).
-- The module then has parameters `weight_g` and `weight_v` instead.
-- @param self a module
-- @param name of the parameter, "weight"
-- @param dim along which each slice has its own length, 1; -1 or false: one length for all
-- @return the module
function M.weight_norm(self, ...) return weight_norm("hooks", self, ...) end

--- Makes the parameter whole again. @return the module
function M.remove_weight_norm(self, name)
  return uninstall("remove_weight_norm", self, name or "weight", "weight_norm")
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
function M.spectral_norm(self, ...) return spectral_norm("hooks", self, ...) end

--- Makes the parameter whole again, divided by its singular value as it stands. @return the module
function M.remove_spectral_norm(self, name)
  return uninstall("remove_spectral_norm", self, name or "weight", "spectral_norm")
end

--- `nn.utils.parametrizations`: the same, with the parts below `parametrizations`.
M.parametrizations = {
  weight_norm = function(self, ...) return weight_norm("parametrizations", self, ...) end,
  spectral_norm = function(self, ...) return spectral_norm("parametrizations", self, ...) end,
}

--- `nn.utils.parametrize`.
M.parametrize = {
  --- Makes a parameter whole again, with the value that it has. @return the module
  remove_parametrizations = function(self, name)
    return uninstall("remove_parametrizations", self, name or "weight")
  end,
  --- Whether a parameter (without a name: any one) of the module is computed from others.
  is_parametrized = function(self, name)
    local own = computed[self]
    return own ~= nil and (name == nil or own[name] ~= nil)
  end,
}

-- Files -------------------------------------------------------------------------------------------

--- What is computed in this module and all below, as plain data; nil where nothing is.
function M.notes(root)
  local list = {}
  for path, self in root:named_modules() do
    local own = {}
    for _, entry in pairs(computed[self] or {}) do own[#own + 1] = entry end
    table.sort(own, function(a, b) return a.number < b.number end)
    for _, e in ipairs(own) do
      list[#list + 1] = {path = path, name = e.name, kind = e.kind, form = e.form,
        dim = e.dim or -1, rounds = e.rounds, least = e.least}
    end
  end
  return #list > 0 and list or nil
end

--- Brings this module and all below to what notes say. Raises for notes that do not fit.
function M.restore(root, notes)
  local by_path, wanted = {}, {}
  for path, self in root:named_modules() do by_path[path] = self end
  for _, note in ipairs(notes or {}) do
    local self = type(note) == "table" and by_path[note.path]
    if not self or not PATHS[note.kind] or not PATHS[note.kind][note.form] then
      error("what is said of a norm is malformed", 0)
    end
    wanted[self] = wanted[self] or {}
    wanted[self][note.name] = note
  end
  for _, self in pairs(by_path) do
    for _, name in ipairs(util.sorted_keys(computed[self] or {})) do
      local note, entry = (wanted[self] or {})[name], computed[self][name]
      if not note or note.kind ~= entry.kind or note.form ~= entry.form then
        uninstall("remove_parametrizations", self, name)
      end
    end
  end
  for _, note in ipairs(notes or {}) do
    local self = by_path[note.path]
    if not (computed[self] or {})[note.name] then
      local from = note.form == "hooks" and M or M.parametrizations
      from[note.kind](self, {name = note.name, dim = note.dim, n_power_iterations = note.rounds,
        eps = note.least})
    end
  end
end

return M
