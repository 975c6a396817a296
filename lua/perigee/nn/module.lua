--- `nn.Module`: the base of every layer and model: named parameters, buffers and children, modes,
-- state, printing. Relies on perigee.core and util; the graph and training are loaded at first use.
-- Spec: spec/nn/module_spec.lua.
--
-- A field that holds a module, an nn.Parameter or a registered buffer is kept in `_modules`,
-- `_parameters` or `_buffers` and listed in `_order`; all other fields are plain.

local core = require "perigee.core"
local blame = require "perigee.blame"
local util = require "perigee.util"

local M = {}

local is_parameter = setmetatable({}, {__mode = "k"})
local classes = {}   -- classes made by extend, by name

local Module = {__name = "Module"}
M.Module = Module

-- Classes ---------------------------------------------------------------------------------------

local function construct(class, ...)
  local self = setmetatable({_modules = {}, _parameters = {}, _buffers = {}, _order = {},
    _training = true, _hooked = false, _given = table.pack(...)}, class)
  local init = class.init
  if init then init(self, ...) end
  return self
end

local Class = {__name = "module class", __call = construct}
setmetatable(Module, {__name = "module class", __call = construct})

--- A class that inherits from this one: `local Residual = nn.Module:extend "Residual"`.
-- Its `init` gets the constructor's arguments, its `forward` the inputs of a call.
-- @param name class name, as tostring and saved models show it
-- @return the class
function Module:extend(name)
  if type(name) ~= "string" or not name:find "^[%a_][%w_]*$" then
    util.fail("nn.Module:extend", "expected a class name, got %s", util.show(name))
  end
  local class = {}
  for key, value in pairs(self) do
    if type(key) == "string" and key:sub(1, 2) == "__" then class[key] = value end
  end
  class.__name = name
  class.class_name = name
  class._base = self
  if class.__call == M.call_layer then class.__call = Module.__call end
  classes[name] = class
  return setmetatable(class, {__index = self, __name = Class.__name, __call = Class.__call})
end

--- The class made by nn.Module:extend under this name, or nil.
function M.class(name) return classes[name] end

--- Names of the classes made by nn.Module:extend.
function M.class_names() return util.sorted_keys(classes) end

--- Whether the module's class is this one or inherits from it.
function Module:is(class)
  local at = getmetatable(self)
  while at do
    if at == class then return true end
    at = rawget(at, "_base")
  end
  return false
end

--- Whether a value is a module.
function M.is_module(value)
  if type(value) ~= "table" then return false end
  local class = getmetatable(value)
  return type(class) == "table" and rawget(value, "_modules") ~= nil
    and type(class.named_parameters) == "function"
end
local is_module = M.is_module

--- A tensor as a parameter: it requires grad, modules register it when it is assigned to a field,
-- and scopes do not free it. Shares memory with the tensor.
-- @param data tensor, or a table of numbers
-- @param requires_grad true by default
-- @return a leaf tensor
function M.Parameter(data, requires_grad)
  if type(data) == "table" and getmetatable(data) == nil then data = core.tensor(data) end
  if not core.is_tensor(data) then
    util.fail("nn.Parameter", "expected a tensor, got %s", util.type_name(data))
  end
  local p = data:detach()
  if p.dtype ~= "float32" and p.dtype ~= "float64" and p.dtype ~= "bfloat16" then
    util.fail("nn.Parameter", "expected a floating tensor, got %s", p.dtype)
  end
  core.keep(p)
  p.requires_grad = requires_grad ~= false
  is_parameter[p] = true
  return p
end

-- Fields ----------------------------------------------------------------------------------------

Module.class_name = "Module"

local function index(self, key)
  local value = getmetatable(self)[key]
  if value ~= nil then return value end
  value = rawget(self, "_modules")[key]
  if value ~= nil then return value end
  value = rawget(self, "_parameters")[key]
  if value ~= nil then return value end
  value = rawget(self, "_buffers")[key]
  if value ~= nil then return value end
  if key == "training" then return rawget(self, "_training") end
  if key == "name" then return rawget(self, "_name") end
  return nil
end
Module.__index = index

local KINDS = {"_modules", "_parameters", "_buffers"}

--- Takes a name out of what is registered. @return whether it was
local function remove(self, key)
  core.touch()
  local found = false
  for _, kind in ipairs(KINDS) do
    found = found or rawget(self, kind)[key] ~= nil
    rawget(self, kind)[key] = nil
  end
  if found then
    local order = rawget(self, "_order")
    for i, name in ipairs(order) do
      if name == key then
        table.remove(order, i)
        break
      end
    end
  end
  return found
end

local function register(self, what, kind, key, value)
  if type(key) ~= "string" or key == "" or key:find(".", 1, true) then
    util.fail(what, "expected a non-empty name without '.', got %s", util.show(key))
  end
  if rawget(self, kind)[key] == nil then
    remove(self, key)
    local order = rawget(self, "_order")
    order[#order + 1] = key
    rawset(self, key, nil)
  end
  rawget(self, kind)[key] = value
  core.touch()
end

--- Registers a child module.
-- @return the module itself
function Module:add_module(name, child)
  if not is_module(child) then
    util.fail("add_module", "argument 'child': expected a module, got %s as '%s'",
      util.type_name(child), tostring(name))
  end
  if rawequal(child, self) then
    util.fail("add_module", "argument 'child': expected another module, got the module itself as "
      .. "'%s'", tostring(name))
  end
  register(self, "add_module", "_modules", name, child)
  return self
end

--- Registers a tensor that trains; anything but an nn.Parameter becomes one.
function Module:register_parameter(name, tensor)
  if not is_parameter[tensor] then tensor = M.Parameter(tensor) end
  register(self, "register_parameter", "_parameters", name, tensor)
  return self
end

--- Registers a tensor that is saved and cast with the module, but gets no gradient.
function Module:register_buffer(name, tensor)
  if not core.is_tensor(tensor) then
    util.fail("register_buffer", "'%s': expected a tensor, got %s", tostring(name),
      util.type_name(tensor))
  end
  core.keep(tensor)
  register(self, "register_buffer", "_buffers", name, tensor)
  return self
end

--- Calls of this module go the long way from now on.
local function set_hooked(self)
  core.touch()
  rawset(self, "_hooked", true)
  local handle = rawget(self, "_handle")
  if handle then core.layer_hooked(handle) end
end

function Module:__newindex(key, value)
  if key == "training" then
    self:set_training(value)
  elseif key == "name" then
    util.expect("name", "name", value, "string|nil")
    rawset(self, "_name", value)
  elseif is_module(value) then
    self:add_module(key, value)
  elseif core.is_tensor(value) and is_parameter[value] then
    register(self, "register_parameter", "_parameters", key, value)
  elseif rawget(self, "_parameters")[key] ~= nil and value ~= nil then
    error(("%s.%s is a parameter: expected an nn.Parameter or nil, got %s; to change its values "
      .. "use %s:copy_(..) under pg.no_grad()"):format(self.class_name, key,
      util.type_name(value), key), 2)
  elseif rawget(self, "_buffers")[key] ~= nil and value ~= nil then
    self:register_buffer(key, value)
  else
    remove(self, key)
    rawset(self, key, value)
    if key == "forward" then set_hooked(self) end
  end
end

--- Own parameters or buffers in order: a list of {name, tensor}. Layers in C override it.
function Module:own_tensors(kind)
  local list, from = {}, rawget(self, kind == "buffer" and "_buffers" or "_parameters")
  for _, name in ipairs(rawget(self, "_order")) do
    if from[name] ~= nil then list[#list + 1] = {name, from[name]} end
  end
  return list
end

-- Calling ---------------------------------------------------------------------------------------

local function any_table(first, second, ...)
  if type(first) == "table" or type(second) == "table" then return true end
  if select("#", ...) == 0 then return false end
  return any_table(...)
end

local graph   -- perigee.nn.graph, once a table was among the inputs

local function call_hooked(self, ...)
  local inputs = table.pack(...)
  if next(rawget(self, "_pre_hooks") or {}) or next(rawget(self, "_hooks") or {}) then
    core.spoil()
  end
  for _, hook in ipairs(rawget(self, "_pre_hooks") or {}) do
    local changed = table.pack(hook.fn(self, table.unpack(inputs, 1, inputs.n)))
    if changed.n > 0 and changed[1] ~= nil then inputs = changed end
  end
  local results = table.pack(self:forward(table.unpack(inputs, 1, inputs.n)))
  for _, hook in ipairs(rawget(self, "_hooks") or {}) do
    local changed = table.pack(hook.fn(self, inputs, table.unpack(results, 1, results.n)))
    if changed.n > 0 and changed[1] ~= nil then results = changed end
  end
  return table.unpack(results, 1, results.n)
end

local observer   -- what the profiler wants called at the start of every module's run, or nil

--- observe(fn): fn(module) is called before a module runs; what it returns is closed afterwards.
-- observe(nil) ends that.
function M.observe(fn)
  observer = fn
  core.observe(fn ~= nil)
end

--- What the observer, who must be there, makes of a module that starts to run.
function M.observed(module) return observer(module) end

local function call_observed(self, ...)
  local _ <close> = observer(self)
  if rawget(self, "_hooked") then return call_hooked(self, ...) end
  return self:forward(...)
end

local function call_any(self, ...)
  if any_table(...) then
    graph = graph or require "perigee.nn.graph"
    if graph.any_symbolic(...) then return graph.apply(self, ...) end
  end
  if observer then return call_observed(self, ...) end
  if rawget(self, "_hooked") then return call_hooked(self, ...) end
  return self:forward(...)
end

local getmetatable, select, type = getmetatable, select, type

--- Runs forward; with symbolic tensors it records a node of a graph instead.
function Module:__call(x, ...)
  if self._hooked or observer or type(x) == "table" or select("#", ...) > 0 then
    return call_any(self, x, ...)
  end
  return getmetatable(self).forward(self, x)
end

function Module:forward()
  error(self.class_name .. ": expected a class with a method forward, got none", 2)
end

local function add_hook(self, list, fn, what)
  util.expect(what, "hook", fn, "callable")
  set_hooked(self)
  local hooks = rawget(self, list) or {}
  rawset(self, list, hooks)
  local hook = {fn = fn}
  hooks[#hooks + 1] = hook
  return {remove = function()
    for i, other in ipairs(hooks) do
      if other == hook then
        core.touch()
        table.remove(hooks, i)
        return
      end
    end
  end}
end

--- Calls fn(module, inputs, outputs ..) after every forward; what it returns replaces the outputs.
-- `inputs` is packed. @return a handle with `remove()`
function Module:register_forward_hook(fn)
  return (add_hook(self, "_hooks", fn, "register_forward_hook"))
end

--- Calls fn(module, inputs ..) before every forward; what it returns replaces the inputs.
-- @return a handle with `remove()`
function Module:register_forward_pre_hook(fn)
  return (add_hook(self, "_pre_hooks", fn, "register_forward_pre_hook"))
end

-- Walking ---------------------------------------------------------------------------------------

local DEPTH = 500

--- Modules from root down, each after its parent, as a list of {path, module}. once: a module that
-- is there twice is listed under its first path.
local function walk(root, once, prefix)
  local list, seen = {}, {}
  local todo = {{prefix or "", root, 1}}
  while #todo > 0 do
    local path, module, depth = table.unpack(table.remove(todo))
    if not (once and seen[module]) then
      if depth > DEPTH then
        blame.raise("%s: expected a module that is no part of itself, got one", root.class_name)
      end
      seen[module] = true
      list[#list + 1] = {path, module}
      local children, order = rawget(module, "_modules"), rawget(module, "_order")
      for i = #order, 1, -1 do
        local child = children[order[i]]
        if child then
          local below = path == "" and order[i] or path .. "." .. order[i]
          todo[#todo + 1] = {below, child, depth + 1}
        end
      end
    end
  end
  return list
end

--- Iterates over a list of {name, value} as `for name, value in`.
local function each(list)
  local i = 0
  return function()
    i = i + 1
    local item = list[i]
    if item then return item[1], item[2] end
  end
end

local function seconds(list)
  local values = {}
  for i, item in ipairs(list) do values[i] = item[2] end
  return values
end

--- Own tensors of one kind of every module: {path, tensor, module, name}. once: shared ones once.
local function tensors(root, kind, once, prefix)
  local list, seen = {}, {}
  for _, item in ipairs(walk(root, once, prefix)) do
    local path, module = item[1], item[2]
    for _, own in ipairs(module:own_tensors(kind)) do
      local name, tensor = own[1], own[2]
      if not (once and seen[tensor]) then
        seen[tensor] = true
        list[#list + 1] = {path == "" and name or path .. "." .. name, tensor, module, name}
      end
    end
  end
  return list
end

--- `for name, p in net:named_parameters()`: "conv1.weight" and so on, a shared tensor once.
function Module:named_parameters(prefix) return each(tensors(self, "param", true, prefix)) end

--- Parameters as a list, for an optimizer.
function Module:parameters() return seconds(tensors(self, "param", true)) end

--- `for name, t in net:named_buffers()`.
function Module:named_buffers(prefix) return each(tensors(self, "buffer", true, prefix)) end

--- Buffers as a list.
function Module:buffers() return seconds(tensors(self, "buffer", true)) end

--- `for path, module in net:named_modules()`: this module (path "") and all below it.
function Module:named_modules(prefix) return each(walk(self, true, prefix)) end

--- This module and all below it, as a list.
function Module:modules() return seconds(walk(self, true)) end

local function children(self)
  local list = {}
  for _, name in ipairs(rawget(self, "_order")) do
    local child = rawget(self, "_modules")[name]
    if child then list[#list + 1] = {name, child} end
  end
  return list
end

--- `for name, module in net:named_children()`.
function Module:named_children() return each(children(self)) end

--- Direct children as a list.
function Module:children() return seconds(children(self)) end

--- Calls fn on every module, children before their parents. @return the module
function Module:apply(fn)
  util.expect("apply", "fn", fn, "callable")
  local list = walk(self, true)
  for i = #list, 1, -1 do fn(list[i][2]) end
  return self
end

-- Modes -----------------------------------------------------------------------------------------

--- Sets the mode of this module only.
function Module:set_training(mode)
  util.expect("set_training", "mode", mode, "boolean")
  if rawget(self, "_training") == mode then return end
  rawset(self, "_training", mode)
  core.touch()
end

--- Training mode (or evaluation mode, for false) for this module and all below it.
-- @return the module
function Module:train(mode)
  if mode == nil then mode = true end
  util.expect("train", "mode", mode, "boolean")
  for _, item in ipairs(walk(self, true)) do item[2]:set_training(mode) end
  return self
end

--- Evaluation mode. @return the module
function Module:eval() return self:train(false) end

--- Forgets all gradients (set_to_none false: fills them with zeros).
function Module:zero_grad(set_to_none)
  for _, p in ipairs(self:parameters()) do
    if set_to_none == false and p.grad then
      p.grad:zero_()
    else
      p.grad = nil
    end
  end
end

--- Whether the parameters train. @return the module
function Module:requires_grad_(on)
  for _, p in ipairs(self:parameters()) do p.requires_grad = on ~= false end
  return self
end

--- Stops training the parameters. @return the module
function Module:freeze() return self:requires_grad_(false) end

--- Trains the parameters again. @return the module
function Module:unfreeze() return self:requires_grad_(true) end

--- Puts another tensor where an own parameter or buffer is. Layers in C override it.
function Module:replace_tensor(kind, name, tensor)
  if kind == "param" then
    register(self, "replace_tensor", "_parameters", name, tensor)
  else
    self:register_buffer(name, tensor)
  end
end

local FLOATING = {float32 = true, float64 = true, bfloat16 = true}
local DTYPES = {float = "float32", double = "float64"}

--- Casts parameters and floating buffers. They become other tensors: make optimizers afterwards.
-- @param dtype "float32", "float64", "bfloat16", or {dtype = ..}
-- @return the module
function Module:to(dtype)
  if type(dtype) == "table" then dtype = util.options("to", dtype, {"dtype"}).dtype end
  dtype = DTYPES[dtype] or dtype
  util.choice("to", "dtype", dtype, {"float32", "float64", "bfloat16"})
  local _ <close> = core.no_grad()
  local made = {}
  for _, kind in ipairs {"param", "buffer"} do
    for _, item in ipairs(tensors(self, kind)) do
      local _, old, module, name = table.unpack(item)
      if FLOATING[old.dtype] and old.dtype ~= dtype then
        local new = made[old] or old:detach():to(dtype)
        if kind == "param" and not made[old] then new = M.Parameter(new, old.requires_grad) end
        made[old] = new
        module:replace_tensor(kind, name, new)
      end
    end
  end
  return self
end

function Module:float() return self:to "float32" end
function Module:double() return self:to "float64" end
function Module:bfloat16() return self:to "bfloat16" end

-- State -----------------------------------------------------------------------------------------

--- Every parameter and buffer by path ("conv1.weight"), sharing memory with the module.
-- @return table: path -> tensor without gradient
function Module:state_dict(prefix)
  local dict = {}
  for _, kind in ipairs {"param", "buffer"} do
    for _, item in ipairs(tensors(self, kind, false, prefix)) do
      dict[item[1]] = item[2]:detach()
    end
  end
  return dict
end

local function list_text(what, list)
  table.sort(list)
  local shown = table.concat(list, ", ", 1, math.min(#list, 12))
  if #list > 12 then shown = shown .. (" and %d more"):format(#list - 12) end
  return #list > 0 and ("\n  %s: %s"):format(what, shown) or ""
end

local function shape_text(t) return "[" .. table.concat(t.shape, " x ") .. "]" end

--- A state in which the members of a container that counts from 1 have its names, where the state
-- counts from 0, as PyTorch's do. Containers say so by `_numbered`.
local function counted_from_one(self, dict, path)
  local order, prefix = rawget(self, "_order"), path == "" and "" or path .. "."
  local own, found, from_zero = {}, {}, false
  for _, name in ipairs(order) do
    local child = rawget(self, "_modules")[name]
    own[name] = not child or next(child:state_dict()) ~= nil or nil
  end
  for key in pairs(dict) do
    if type(key) == "string" and key:sub(1, #prefix) == prefix then
      local number, rest = key:match("^(%d+)(.*)$", #prefix + 1)
      local name = number and order[number + 1]
      if not name or rest ~= "" and rest:sub(1, 1) ~= "." then return dict end
      found[name] = true
      from_zero = from_zero or number == "0" and not own["0"]
    end
  end
  for name in pairs(own) do
    if not found[name] and not from_zero then return dict end
  end
  if next(found) == nil or own["0"] then return dict end
  local copy = {}
  for key, value in pairs(dict) do
    local number, rest
    if type(key) == "string" and key:sub(1, #prefix) == prefix then
      number, rest = key:match("^(%d+)(.*)$", #prefix + 1)
    end
    copy[number and prefix .. order[number + 1] .. rest or key] = value
  end
  return copy
end

--- Copies values by path into the parameters and buffers. On an error nothing is changed.
-- @param dict what state_dict gave, or pg.load of a file; one of PyTorch's, too, whose Sequential
-- counts from 0
-- @param opt strict (true): missing and unexpected paths are errors
-- @return {missing_keys = {..}, unexpected_keys = {..}}
function Module:load_state_dict(dict, opt)
  util.expect("load_state_dict", "state", dict, "table")
  opt = util.options("load_state_dict", opt, {strict = true})
  local places = walk(self)
  for _, item in ipairs(places) do -- other names that a module takes for its tensors
    local adapt = rawget(item[2], "_adapt")
    if item[2]._numbered then dict = counted_from_one(item[2], dict, item[1]) end
    if adapt then dict = adapt(item[2], dict, item[1]) end
  end
  local missing, unexpected, wrong, known, jobs = {}, {}, {}, {}, {}
  for _, kind in ipairs {"param", "buffer"} do
    for _, item in ipairs(tensors(self, kind)) do
      local path, own, module, name = table.unpack(item)
      local given = dict[path]
      known[path] = true
      if given == nil then
        missing[#missing + 1] = path
      elseif not core.is_tensor(given) then
        wrong[#wrong + 1] = ("%s (expected a tensor, got %s)"):format(path, util.type_name(given))
      elseif shape_text(given) ~= shape_text(own) then
        wrong[#wrong + 1] = ("%s (expected %s, got %s)"):format(path, shape_text(own),
          shape_text(given))
      else
        jobs[#jobs + 1] = {own, given, module, name}
      end
    end
  end
  for path in pairs(dict) do
    if not known[path] then unexpected[#unexpected + 1] = tostring(path) end
  end
  if #wrong > 0 or (opt.strict and #missing + #unexpected > 0) then
    local text = list_text("wrong shape", wrong)
    if opt.strict then
      text = list_text("missing", missing) .. list_text("unexpected", unexpected) .. text
    end
    error("load_state_dict: argument 'state': expected what fits " .. self.class_name .. ", got"
      .. text, 2)
  end
  local _ <close> = core.no_grad()
  for _, job in ipairs(jobs) do
    local own, given, module, name = table.unpack(job)
    own:detach():copy_(given:detach())
    if module.loaded then module:loaded(name) end
  end
  core.enable_grad(function()
    for _, item in ipairs(places) do
      local refresh = rawget(item[2], "_refresh")
      if refresh then refresh(item[2]) end
    end
  end)
  return {missing_keys = missing, unexpected_keys = unexpected}
end

--- The arguments the module was made with, packed; nil, message where they are not kept.
function Module:config()
  return self._given
end

-- Printing --------------------------------------------------------------------------------------

--- What stands in the brackets when the module is printed; "" by default.
Module.extra_repr = function() return "" end

local function indent(text) return (text:gsub("\n", "\n  ")) end

function Module:__tostring()
  local extra, lines = self:extra_repr(), {}
  for name, child in self:named_children() do
    lines[#lines + 1] = ("(%s): %s"):format(name, indent(tostring(child)))
  end
  local title = rawget(self, "_title") or self.class_name
  if #lines == 0 then return ("%s(%s)"):format(title, extra) end
  if extra ~= "" then table.insert(lines, 1, extra) end
  return ("%s(\n  %s\n)"):format(title, table.concat(lines, "\n  "))
end

-- Training and files, loaded at first use -------------------------------------------------------

for _, name in ipairs {"compile", "fit", "evaluate", "predict", "summary"} do
  Module[name] = function(self, ...)
    return require("perigee.train").methods[name](self, ...)
  end
end

--- Writes the module with its structure; nn.load reads it.
-- @return true; or nil, message
function Module:save(path) return require("perigee.nn.file").save(self, path) end

--- Whether a tensor is an nn.Parameter.
function M.is_parameter(value) return is_parameter[value] == true end

--- Marks a tensor that belongs to a layer as a parameter, so that other modules can share it.
function M.mark_parameter(tensor)
  is_parameter[tensor] = true
  return tensor
end

return M
