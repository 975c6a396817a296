--- `pg.optim`: optimizers over the rules that are written in C, and `lr_scheduler`.
-- Relies on perigee.core. Spec: spec/optim/optim_spec.lua.
--
-- `optim.Adam(net:parameters(), {lr = 1e-3})` is ready to step; `optim.Adam {lr = 1e-3}` waits
-- until `bind(params)` (or compile and fit) says what it moves. A group's options are its fields:
-- `opt.param_groups[1].lr = 0.01`.

local core = require "perigee.core"
local blame = require "perigee.blame"
local arguments = require "perigee.optim.arguments"
local util = require "perigee.util"

local M = {}

-- Hyperparameters -------------------------------------------------------------------------------
-- A rule's parameters "betas.1", "betas.2" are one option `betas`, a list.

--- Options of a rule in order: {name, default}, defaults of lists being lists.
local function options_of(info)
  local list, at = {}, {}
  for _, p in ipairs(info.params) do
    local name, place = p.name:match "^(.-)%.(%d+)$"
    if not name then
      list[#list + 1] = {p.name, p.default, kind = p.kind}
      at[p.name] = list[#list]
    else
      if not at[name] then
        at[name] = {name, {}, kind = "list"}
        list[#list + 1] = at[name]
      end
      at[name][2][math.tointeger(tonumber(place))] = p.default
    end
  end
  return list, at
end

--- Options by name as the rule's flat parameters; raises for wrong kinds.
local function flatten(class, options)
  local flat = {}
  for name, value in pairs(options) do
    local known = class._option[name]
    if known.kind == "list" then
      local n = #known[2]
      if type(value) ~= "table" or #value ~= n then
        blame.raise("optim.%s: argument '%s': expected a list of %d numbers, got %s", class.__name,
          name, n, util.show(value))
      end
      for i = 1, n do flat[name .. "." .. i] = value[i] end
    else
      flat[name] = value
    end
  end
  for name, value in pairs(flat) do
    local kind = class._kinds[name]
    if type(value) ~= kind then
      blame.raise("optim.%s: argument '%s': expected %s, got %s", class.__name,
        name:gsub("%.%d$", ""), kind == "number" and "a number" or "true or false",
        util.show(value))
    end
  end
  return flat
end

--- The other way.
local function gather(class, flat)
  local options = {}
  for _, option in ipairs(class._options) do
    local name = option[1]
    if option.kind == "list" then
      options[name] = {}
      for i = 1, #option[2] do options[name][i] = flat[name .. "." .. i] end
    else
      options[name] = flat[name]
    end
  end
  return options
end

local function copy(options)
  local result = {}
  for name, value in pairs(options) do
    result[name] = type(value) == "table" and table.move(value, 1, #value, 1, {}) or value
  end
  return result
end

local function check_names(class, options, extra)
  for key in pairs(options) do
    if not class._option[key] and not (extra and extra[key]) then
      local names = {}
      for _, option in ipairs(class._options) do names[#names + 1] = option[1] end
      local near = util.suggest(key, names)
      blame.raise("optim.%s: unknown option %s%s; options are %s", class.__name, util.show(key),
        near and (", did you mean '%s'?"):format(near) or "", table.concat(names, ", "))
    end
  end
end

-- Groups ----------------------------------------------------------------------------------------

local Group = {__name = "param_group"}

--- Options of a group by name.
local function group_options(group)
  local optimizer, at = rawget(group, "_optimizer"), rawget(group, "_at")
  if not optimizer._handle then return copy(optimizer.defaults) end
  return gather(getmetatable(optimizer), core.optim_hyper(optimizer._handle, at))
end

function Group:__index(key)
  if getmetatable(rawget(self, "_optimizer"))._option[key] then return group_options(self)[key] end
  return nil
end

function Group:__newindex(key, value)
  local optimizer = rawget(self, "_optimizer")
  local class = getmetatable(optimizer)
  if not class._option[key] then
    rawset(self, key, value)
  elseif optimizer._handle then
    blame.call("", core.optim_set_hyper, optimizer._handle, rawget(self, "_at"),
      flatten(class, {[key] = value}))
  else
    flatten(class, {[key] = value})
    optimizer.defaults[key] = value
  end
end

function Group:__pairs()
  local all = group_options(self)
  for key, value in next, self do
    if type(key) ~= "string" or key:sub(1, 1) ~= "_" then all[key] = value end
  end
  return next, all, nil
end

-- Optimizers ------------------------------------------------------------------------------------

local Optimizer = util.class "Optimizer"
M.Optimizer = Optimizer

local function is_group(value)
  return type(value) == "table" and getmetatable(value) == nil and value.params ~= nil
end

--- Params as a list of groups {params = list, options ..}.
local function groups_of(class, params)
  if core.is_tensor(params) then params = {params} end
  util.expect("optim." .. class.__name, "params", params, "table")
  if #params == 0 then
    blame.raise("optim.%s: argument 'params': expected at least one parameter, got none",
      class.__name)
  end
  if is_group(params[1]) then return params end
  return {{params = params}}
end

function Optimizer:init(...)
  local class = getmetatable(self)
  local first = ...
  local bound = core.is_tensor(first)
    or (type(first) == "table" and getmetatable(first) == nil and #first > 0)
  if type(first) == "table" and getmetatable(first) == nil and #first == 0
      and select("#", ...) > 1 then
    bound = true
  end
  local options
  if bound then
    options = arguments.read("optim." .. class.__name, class._options, select(2, ...))
  elseif select("#", ...) > 1 or (first ~= nil and type(first) ~= "table") then
    blame.raise("optim.%s: expected a list of parameters or a table of options, got %s",
      class.__name, util.type_name(first))
  else
    check_names(class, first or {})
    options = arguments.read("optim." .. class.__name, class._options, first)
  end
  flatten(class, options)
  self.defaults = copy(options)
  self.param_groups = {setmetatable({_optimizer = self, _at = 1, params = {}}, Group)}
  if bound then self:bind(first) end
end

--- Whether the optimizer knows its parameters.
function Optimizer:is_bound() return self._handle ~= nil end

local function check_bound(self, what)
  if not self._handle then
    blame.raise("optim.%s:%s: expected an optimizer with parameters, got none yet; give them first "
      .. "or call bind(params)", getmetatable(self).__name, what)
  end
end

local function add_group(self, group)
  local class = getmetatable(self)
  local options = copy(self.defaults)
  check_names(class, group, {params = true, initial_lr = true})
  for key, value in pairs(group) do
    if class._option[key] then options[key] = value end
  end
  local params = group.params
  if core.is_tensor(params) then params = {params} end
  util.expect("optim." .. class.__name, "params", params, "table")
  blame.call("", core.optim_add_group, self._handle, params, flatten(class, options))
  local at = core.optim_groups(self._handle)
  local made = self.param_groups[at]
  if not made then
    made = setmetatable({_optimizer = self, _at = at}, Group)
    self.param_groups[at] = made
  end
  rawset(made, "params", table.move(params, 1, #params, 1, {}))
  if group.initial_lr then rawset(made, "initial_lr", group.initial_lr) end
end

--- Gives an optimizer made without parameters what it moves.
-- @param params a list of parameters, or of groups {params = .., lr = ..}
-- @return the optimizer
function Optimizer:bind(params)
  local class = getmetatable(self)
  if self._handle then
    blame.raise("optim.%s:bind: expected an optimizer without parameters, got one that has them",
      class.__name)
  end
  local groups = groups_of(class, params)
  local handle = core.optim_new(class.__name)
  rawset(self, "_handle", handle)
  local ok, message = pcall(function()
    for _, group in ipairs(groups) do
      if not is_group(group) then
        blame.raise("optim.%s: argument 'params': expected groups {params = ..}, got %s among them",
          class.__name, util.type_name(group))
      end
      add_group(self, group)
    end
  end)
  if not ok then
    rawset(self, "_handle", nil)
    error(message, 0)
  end
  return self
end

--- Adds parameters with options of their own: {params = list, lr = 0.1}.
function Optimizer:add_param_group(group)
  check_bound(self, "add_param_group")
  if not is_group(group) then
    blame.raise("optim.%s:add_param_group: argument 'group': expected {params = .., ..}, got %s",
      getmetatable(self).__name, util.type_name(group))
  end
  add_group(self, group)
  return self
end

--- Moves every parameter that has a gradient.
-- @param closure optional: computes the loss anew and its gradients
-- @return what closure returned
function Optimizer:step(closure)
  check_bound(self, "step")
  local result
  if closure then
    local _ <close> = core.enable_grad()
    result = closure()
  end
  core.optim_step(self._handle)
  return result
end

--- Forgets the gradients; with false (or {set_to_none = false}) fills them with zeros.
function Optimizer:zero_grad(set_to_none)
  check_bound(self, "zero_grad")
  if type(set_to_none) == "table" then
    set_to_none = util.options("zero_grad", set_to_none, {set_to_none = true}).set_to_none
  end
  core.optim_zero_grad(self._handle, set_to_none ~= false)
end

--- State and options as plain data: {state = {[i] = {step =, exp_avg = ..}}, param_groups =
-- {{lr = .., params = {1, 2}}}}; i counts parameters over all groups.
function Optimizer:state_dict()
  check_bound(self, "state_dict")
  local dict, at = {state = {}, param_groups = {}}, 0
  for k, group in ipairs(self.param_groups) do
    local saved = group_options(group)
    saved.initial_lr = rawget(group, "initial_lr")
    saved.params = {}
    for i in ipairs(group.params) do
      at = at + 1
      saved.params[i] = at
      local state = core.optim_state(self._handle, at)
      if state.step > 0 then dict.state[at] = state end
    end
    dict.param_groups[k] = saved
  end
  return dict
end

--- Takes over what state_dict gave. On an error nothing is changed.
function Optimizer:load_state_dict(dict)
  check_bound(self, "load_state_dict")
  local class, label = getmetatable(self), "optim." .. getmetatable(self).__name
  util.expect(label, "state", dict, "table")
  local groups = util.expect(label, "param_groups", dict.param_groups, "table")
  local state = util.expect(label, "state", dict.state or {}, "table")
  if #groups ~= #self.param_groups then
    blame.raise("%s:load_state_dict: argument 'param_groups': expected %d groups, got %d", label,
      #self.param_groups, #groups)
  end
  local flat, params = {}, {}
  for k, group in ipairs(self.param_groups) do
    local given = groups[k]
    util.expect(label .. ":load_state_dict", "param_groups", given, "table")
    util.expect(label .. ":load_state_dict", "params", given.params, "table")
    if #given.params ~= #group.params then
      blame.raise("%s:load_state_dict: argument 'param_groups': expected %d parameters in group "
        .. "%d, got %d", label, #group.params, k, #given.params)
    end
    local options = {}
    for _, option in ipairs(class._options) do options[option[1]] = given[option[1]] end
    flat[k] = flatten(class, options)
    for i, index in ipairs(given.params) do
      params[#params + 1] = {tensor = group.params[i], state = state[index]}
    end
  end
  for i, param in ipairs(params) do
    for _, name in ipairs(class._info.state) do
      local t = param.state and param.state[name]
      if t ~= nil and (not core.is_tensor(t)
          or table.concat(t.shape, "x") ~= table.concat(param.tensor.shape, "x")) then
        blame.raise("%s:load_state_dict: argument 'state': expected '%s' of parameter %d to be "
          .. "[%s], got %s", label, name, i, table.concat(param.tensor.shape, " x "),
          core.is_tensor(t) and "[" .. table.concat(t.shape, " x ") .. "]" or util.type_name(t))
      end
    end
  end
  for k, group in ipairs(self.param_groups) do
    core.optim_set_hyper(self._handle, k, flat[k])
    rawset(group, "initial_lr", groups[k].initial_lr)
  end
  for i, param in ipairs(params) do
    core.optim_set_state(self._handle, i, param.state or {step = 0})
  end
end

function Optimizer:__tostring()
  local lines = {getmetatable(self).__name .. " ("}
  for k, group in ipairs(self.param_groups) do
    lines[#lines + 1] = "Parameter Group " .. k
    local options = group_options(group)
    for _, name in ipairs(util.sorted_keys(options)) do
      local value = options[name]
      if type(value) == "table" then value = "(" .. table.concat(value, ", ") .. ")" end
      lines[#lines + 1] = ("    %s: %s"):format(name, tostring(value))
    end
  end
  return table.concat(lines, "\n") .. "\n)"
end

for _, info in ipairs(core.rules()) do
  local class = util.class(info.name, Optimizer)
  class._info = info
  class._options, class._option = options_of(info)
  class._kinds = {}
  for _, p in ipairs(info.params) do
    class._kinds[p.name] = p.kind == "boolean" and "boolean" or "number"
  end
  M[info.name] = class
end

-- What loads at first use.
local ROOMS = {lr_scheduler = "perigee.optim.lr_scheduler", LBFGS = "perigee.optim.lbfgs"}

return setmetatable(M, {
  __name = "optim",
  __index = function(self, key)
    if ROOMS[key] then
      local room = require(ROOMS[key])
      rawset(self, key, room)
      return room
    end
    if type(key) ~= "string" or key:sub(1, 2) == "__" then return nil end
    local names = util.sorted_keys(self)
    for name in pairs(ROOMS) do names[#names + 1] = name end
    local near = util.suggest(key, names)
    error(("optim: argument 'name': expected the name of an optimizer, got %s%s"):format(
      util.show(key), near and (", did you mean '%s'?"):format(near) or ""), 2)
  end,
})
