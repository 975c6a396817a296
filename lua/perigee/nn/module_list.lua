--- Containers that only hold: `nn.ModuleList`, `nn.ModuleDict`, `nn.ParameterList`,
-- `nn.ParameterDict`.
-- Relies on nn/module.lua. Spec: spec/nn/module_list_spec.lua.

local module = require "perigee.nn.module"
local util = require "perigee.util"

local M = {}

--- Makes `list[i]`, `#list` and `ipairs(list)` work over what is registered, counting from 1.
local function index_by_position(class, kind)
  class._numbered = true
  local index = class.__index
  class.__index = function(self, key)
    if math.type(key) == "integer" then
      local order = rawget(self, "_order")
      local name = order[key < 0 and #order + 1 + key or key]
      return name and rawget(self, kind)[name]
    end
    return index(self, key)
  end
  class.__len = function(self) return #rawget(self, "_order") end
end

local ModuleList = module.Module:extend "ModuleList"
M.ModuleList = ModuleList
index_by_position(ModuleList, "_modules")

--- `nn.ModuleList {a, b}`: modules "1", "2" .. that a module of one's own calls as it likes.
function ModuleList:init(list)
  for _, child in ipairs(util.expect("nn.ModuleList", "modules", list or {}, "table")) do
    self:append(child)
  end
  rawset(self, "_given", nil)
end

--- Adds a module at the end. @return the list
function ModuleList:append(child) return self:add_module(tostring(#self + 1), child) end

--- Neighbours that print alike are printed once: "(1-3): 3 x Linear(..)".
function ModuleList:__tostring()
  local runs = {}
  for name, child in self:named_children() do
    local text, last = tostring(child), runs[#runs]
    if last and last.text == text then
      last.to, last.count = name, last.count + 1
    else
      runs[#runs + 1] = {text = text, from = name, to = name, count = 1}
    end
  end
  if #runs == 0 then return self.class_name .. "()" end
  local lines = {}
  for i, run in ipairs(runs) do
    local text = run.text:gsub("\n", "\n  ")
    lines[i] = run.count == 1 and ("(%s): %s"):format(run.from, text)
      or ("(%s-%s): %d x %s"):format(run.from, run.to, run.count, text)
  end
  return ("%s(\n  %s\n)"):format(self.class_name, table.concat(lines, "\n  "))
end

function ModuleList:config() return {self:children(), n = 1} end

local ModuleDict = module.Module:extend "ModuleDict"
M.ModuleDict = ModuleDict

--- `nn.ModuleDict {left = a, right = b}`: modules by name, in the order of their names.
function ModuleDict:init(dict)
  dict = util.expect("nn.ModuleDict", "modules", dict or {}, "table")
  for _, name in ipairs(util.sorted_keys(dict)) do self:add_module(name, dict[name]) end
  rawset(self, "_given", nil)
end

function ModuleDict:config()
  local dict = {}
  for name, child in self:named_children() do dict[name] = child end
  return {dict, n = 1}
end

local ParameterList = module.Module:extend "ParameterList"
M.ParameterList = ParameterList
index_by_position(ParameterList, "_parameters")

--- `nn.ParameterList {p, q}`: parameters "1", "2" ..; tensors become parameters.
function ParameterList:init(list)
  for _, p in ipairs(util.expect("nn.ParameterList", "parameters", list or {}, "table")) do
    self:append(p)
  end
  rawset(self, "_given", nil)
end

--- Adds a parameter at the end. @return the list
function ParameterList:append(p) return self:register_parameter(tostring(#self + 1), p) end

local ParameterDict = module.Module:extend "ParameterDict"
M.ParameterDict = ParameterDict

--- `nn.ParameterDict {left = p, right = q}`: parameters by name, in the order of their names;
-- tensors become parameters.
function ParameterDict:init(dict)
  dict = util.expect("nn.ParameterDict", "parameters", dict or {}, "table")
  for _, name in ipairs(util.sorted_keys(dict)) do self:register_parameter(name, dict[name]) end
  rawset(self, "_given", nil)
end

local function shape_text(t) return table.concat(t.shape, "x") end

local function show_parameters(self)
  local lines = {}
  for i, own in ipairs(self:own_tensors "param") do
    lines[i] = ("    (%s): Parameter containing: [%s of size %s]"):format(own[1], own[2].dtype,
      shape_text(own[2]))
  end
  if #lines == 0 then return self.class_name .. "()" end
  return ("%s(\n%s\n)"):format(self.class_name, table.concat(lines, "\n"))
end
ParameterList.__tostring = show_parameters
ParameterDict.__tostring = show_parameters

ParameterDict.config = function()
  return nil, "a ParameterDict cannot be saved by its arguments"
end

ParameterList.config = function()
  return nil, "a ParameterList cannot be saved by its arguments"
end

return M
