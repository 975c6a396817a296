--- Models as files: safetensors whose metadata holds the modules and the graph as JSON.
-- Relies on nn.Module, nn/graph.lua and core.io. Spec: spec/nn/file_spec.lua.
--
-- Data only, no code. A module is its class by name and its constructor's arguments; classes made
-- with nn.Module:extend must exist under that name when the file is read, and their arguments must
-- be plain data (numbers, strings, booleans, tables of those) or modules. Note "perigee" holds
--   {format = "perigee.model", version = 1, root = i, training = {..},
--    modules = {{class=, name=, args=, eval=, frozen=}, ..}, inner = {eval = .., frozen = ..},
--    norms = {{path=, name=, kind=, form=, dim=}, ..}}
-- in which a module comes after those it refers to; inner lists paths of modules that others made
-- for themselves, and of their parameters; norms what nn/reparametrize.lua computes. Values:
-- numbers, strings, booleans as they are, {null=1}, {l = list, m = table by key}, {module = i}; in
-- a graph also {sym = {node, output}} and {place = k}.

local core = require "perigee.core"
local blame = require "perigee.blame"
local graph = require "perigee.nn.graph"
local reparametrize = require "perigee.nn.reparametrize"
local util = require "perigee.util"
require "perigee.nn.op"   -- registers the classes Op and Constant

local M = {}

local NOTE, FORMAT, VERSION = "perigee", "perigee.model", 1
local DEPTH = 60
-- What a file's modules may take beside twice its tensors: a few words in a hostile file cannot ask
-- for all memory there is.
local ROOM = 16 << 20
local BYTES = {float32 = 4, float64 = 8, bfloat16 = 2, int64 = 8, uint8 = 1, bool = 1}

local function is_plain(value) return type(value) == "table" and getmetatable(value) == nil end

-- Values ------------------------------------------------------------------------------------------

--- A value as JSON can hold it. leaf(v) encodes what is no plain data, or gives nil.
local function encode(what, root, leaf)
  local out = {}
  local todo = {{root, out, 1, 1}}
  while #todo > 0 do
    local value, to, key, depth = table.unpack(table.remove(todo))
    local kind = type(value)
    if value == nil then
      to[key] = {null = 1}
    elseif kind == "boolean" or kind == "string" then
      to[key] = value
    elseif kind == "number" then
      local finite = value == value and math.abs(value) ~= math.huge
      to[key] = finite and value or {number = ("%f"):format(value):gsub("^-nan", "nan")}
    elseif is_plain(value) then
      if depth > DEPTH then blame.raise("%s: nested too deeply to be saved", what) end
      local n = #value
      if depth == 1 then n = math.max(n, math.tointeger(value.n) or 0) end   -- packed arguments
      local node = {}
      to[key] = node
      if n > 0 then
        node.l = {}
        for i = 1, n do todo[#todo + 1] = {value[i], node.l, i, depth + 1} end
        for i = 1, n do node.l[i] = 0 end
      end
      for k, v in pairs(value) do
        if type(k) == "string" then
          node.m = node.m or {}
          todo[#todo + 1] = {v, node.m, k, depth + 1}
        elseif math.type(k) ~= "integer" or k < 1 or k > n then
          blame.raise("%s: a table with the key %s cannot be saved", what, util.show(k))
        end
      end
    else
      local coded = leaf(value)
      if coded == nil then
        blame.raise("%s: a %s cannot be saved; only plain data and modules can", what,
          util.type_name(value))
      end
      to[key] = coded
    end
  end
  return out[1]
end

--- The value that JSON stands for. leaf(name, v) decodes {name = v}.
local function decode(root, leaf)
  local out = {}
  local todo = {{root, out, 1}}
  while #todo > 0 do
    local coded, to, key = table.unpack(table.remove(todo))
    if type(coded) ~= "table" then
      if type(coded) == "userdata" then error("a value is null", 0) end
      to[key] = coded
    elseif coded.null then
      to[key] = nil
    elseif coded.number then
      local number = ({inf = math.huge, ["-inf"] = -math.huge, nan = 0 / 0})[coded.number]
      if not number then error("a value is malformed", 0) end
      to[key] = number
    elseif is_plain(coded) and (coded.l or coded.m or next(coded) == nil) then
      local value = {}
      to[key] = value
      if type(coded.l or {}) ~= "table" or not is_plain(coded.m or {}) then
        error("a value is malformed", 0)
      end
      for i, v in ipairs(coded.l or {}) do todo[#todo + 1] = {v, value, i} end
      for k, v in pairs(coded.m or {}) do
        if type(k) ~= "string" then error("a value is malformed", 0) end
        todo[#todo + 1] = {v, value, k}
      end
    else
      local name, v = next(coded)
      to[key] = leaf(name, v)
    end
  end
  return out[1]
end

-- Writing -----------------------------------------------------------------------------------------

local function is_module(value)
  return type(value) == "table" and getmetatable(value) ~= nil
    and type(value.named_parameters) == "function"
end

--- Places {what, ..} of every module that a value refers to, in order.
local function modules_in(value, list)
  local todo = {value}
  while #todo > 0 do
    local at = table.remove(todo)
    if is_plain(at) then
      for _, key in ipairs(util.sorted_keys(at)) do todo[#todo + 1] = at[key] end
    elseif is_module(at) then
      list[#list + 1] = at
    end
  end
  return list
end

--- Nodes of a graph as data; ids: module -> its number in the file.
local function encode_graph(model, ids)
  local g, number = model._graph, {}
  local function leaf(value)
    if graph.is_symbolic(value) then
      for k, output in ipairs(value._node.outputs) do
        if output == value then return {sym = {number[value._node], k}} end
      end
    end
  end
  local nodes = {}
  for i, node in ipairs(g.order) do
    number[node] = i
    if node.module then
      nodes[i] = {module = ids[node.module],
        args = encode("the arguments of " .. g.node_name[node], node.args, leaf)}
    else
      nodes[i] = {input = g.node_name[node], dtype = node.dtype, training_only = node.training_only,
        shape = encode("shape", {table.unpack(node.shape, 2)}, leaf)}
    end
  end
  local function refs(symbols)
    local list = {}
    for i, symbol in ipairs(symbols) do list[i] = leaf(symbol).sym end
    return list
  end
  local labels = {}
  for i, name in ipairs(g.output_names) do labels[i] = g.aliases[name] and name or "" end
  return {nodes = nodes, inputs = refs(g.inputs), outputs = refs(g.outputs), labels = labels}
end

--- What makes this module again: its constructor's arguments, packed.
local function config(module)
  if rawget(module, "_graph") then
    local list = {}
    for i, layer in ipairs(module._graph.layers) do list[i] = layer.module end
    return list
  end
  local class = util.type_name(module)
  if class == "Op" then return {module.op, module.template, n = 2} end
  if class == "Constant" then
    local value = module.value
    return {value.shape, value.dtype, value.requires_grad, n = 3}
  end
  local args, message = module:config()
  if not args then blame.raise("save: %s: %s", class, message or "its arguments were not kept") end
  return args
end

--- Every module that `root` is made of, each after those its arguments refer to.
local function order_modules(root)
  local order, state, configs = {}, {}, {}
  local todo = {root}
  while #todo > 0 do
    local module = todo[#todo]
    if state[module] == "done" then
      todo[#todo] = nil
    elseif state[module] == "open" then
      state[module] = "done"
      order[#order + 1] = module
      todo[#todo] = nil
    else
      state[module] = "open"
      configs[module] = config(module)
      for _, child in ipairs(modules_in(configs[module], {})) do
        if state[child] == "open" then
          blame.raise("save: %s is part of itself", util.type_name(child))
        elseif not state[child] then
          todo[#todo + 1] = child
        end
      end
    end
  end
  return order, configs
end

--- Names of a module's own parameters that do not train.
local function frozen_names(module)
  local names
  for name, p in module:named_parameters() do
    if not p.requires_grad and not name:find(".", 1, true) then
      names = names or {}
      names[#names + 1] = name
    end
  end
  return names
end

--- Paths of what is in evaluation mode or frozen in modules that the file does not describe.
local function inner_flags(root, described)
  local eval, frozen = {}, {}
  for path, module in root:named_modules() do
    if not described[module] then
      if not module.training then eval[#eval + 1] = path end
      for _, name in ipairs(frozen_names(module) or {}) do
        frozen[#frozen + 1] = path .. "." .. name
      end
    end
  end
  if #eval + #frozen == 0 then return nil end
  return {eval = eval, frozen = frozen}
end

--- The training options that are plain data, for the file; nil without compile.
local function training_of(module)
  local state = rawget(module, "_compiled")
  if not state then return nil end
  local plain = {}
  for _, key in ipairs {"loss", "loss_weights", "metrics", "targets", "inputs", "clip_norm"} do
    local ok, coded = pcall(encode, key, state.options[key], function() return nil end)
    if ok and state.options[key] ~= nil then plain[key] = coded end
  end
  local optimizer = state.optimizer
  if optimizer then
    local hyper = {}
    local group = optimizer.param_groups[1]
    for name in pairs(optimizer.defaults) do hyper[name] = group[name] end
    plain.optimizer = {class = util.type_name(optimizer), hyper = encode("optimizer", hyper)}
  end
  return plain
end

--- A module as metadata: the table of notes that goes into a safetensors file.
function M.describe(root)
  local order, configs = order_modules(root)
  local ids, modules = {}, {}
  for i, module in ipairs(order) do ids[module] = i end
  local function leaf(value)
    if ids[value] then return {module = ids[value]} end
    local k = graph.place_of(value)
    return k and {place = k} or nil
  end
  for i, module in ipairs(order) do
    local class = util.type_name(module)
    local entry = {class = class, name = module.name, frozen = frozen_names(module),
      eval = not module.training or nil}
    if rawget(module, "_graph") then
      entry.graph = encode_graph(module, ids)
    else
      entry.args = encode("save: the arguments of " .. class, configs[module], leaf)
    end
    modules[i] = entry
  end
  return {format = FORMAT, version = VERSION, root = ids[root], modules = modules,
    inner = inner_flags(root, ids), norms = reparametrize.notes(root),
    training = training_of(root)}
end

--- Writes a model: safetensors with the graph as metadata. No code is stored.
-- @param path any name; what is there is replaced only when everything is written
-- @return true; or nil, message
function M.save(module, path)
  util.expect("save", "path", path, "string")
  local text = core.io.json_encode(M.describe(module))
  return core.io.save(path, module:state_dict(), {[NOTE] = text}, "safetensors")
end

-- Reading -----------------------------------------------------------------------------------------

local function refuse(fmt, ...) error(select("#", ...) > 0 and fmt:format(...) or fmt, 0) end

local function check_list(value, what)
  if type(value) ~= "table" then refuse("%s is missing", what) end
  return value
end

--- The class that a file names.
local function find_class(name)
  if type(name) ~= "string" then refuse("a module has no class") end
  local nn = require "perigee.nn"
  local class = nn.class(name)
  if class then return class end
  local near = util.suggest(name, nn.class_names())
  return refuse("there is no class '%s'%s; a class of one's own must be made with "
    .. "nn.Module:extend \"%s\" before the file is read", name,
    near and (", did you mean '%s'?"):format(near) or "", name)
end

local function build_graph(entry, modules)
  local data = check_list(entry.graph, "a graph")
  local built = {}   -- node number -> list of symbols
  local function symbol(ref)
    local at = type(ref) == "table" and built[ref[1]]
    local found = at and at[ref[2]]
    if not found then refuse("the graph refers to what is not there, or has a cycle") end
    return found
  end
  for i, node in ipairs(check_list(data.nodes, "a graph's list of nodes")) do
    if type(node) ~= "table" then refuse("node %d is malformed", i) end
    if node.input ~= nil then
      local shape = decode(node.shape, function() refuse("an input's shape is malformed") end)
      built[i] = {graph.Input(shape, {name = node.input, dtype = node.dtype,
        training_only = node.training_only or false})}
    else
      local module = modules[node.module]
      if not module then refuse("node %d: there is no module %s", i, tostring(node.module)) end
      local args = decode(node.args, function(name, value)
        if name == "sym" then return symbol(value) end
        refuse("node %d: an argument is malformed", i)
      end)
      if not is_plain(args) then refuse("node %d has no arguments", i) end
      local n = math.tointeger(args.n) or #args
      if n < 0 or n > 200 then refuse("node %d has too many arguments", i) end
      built[i] = graph.call(module, table.unpack(args, 1, n))
    end
  end
  local inputs, outputs = {}, {}
  for i, ref in ipairs(check_list(data.inputs, "a graph's list of inputs")) do
    inputs[i] = symbol(ref)
  end
  local labels = check_list(data.labels, "a graph's list of labels")
  for i, ref in ipairs(check_list(data.outputs, "a graph's list of outputs")) do
    local label = labels[i]
    outputs[label ~= "" and label or i] = symbol(ref)
  end
  return require("perigee.nn.model")(inputs, outputs)
end

local function build_module(entry, modules)
  if entry.graph ~= nil then return build_graph(entry, modules) end
  local class = find_class(entry.class)
  local args = decode(entry.args, function(name, value)
    if name == "module" then
      return modules[value] or refuse("there is no module %s", tostring(value))
    elseif name == "place" and math.type(value) == "integer" then
      return graph.place(value)
    end
    refuse("the arguments of %s are malformed", entry.class)
  end)
  if not is_plain(args) then refuse("%s has no arguments", entry.class) end
  local n = math.tointeger(args.n) or #args
  args.n = nil
  if n < 0 or n > 200 then refuse("%s has too many arguments", entry.class) end
  if next(args) ~= nil and #args == 0 and n == 0 then return class(args) end
  return class(table.unpack(args, 1, n))
end

--- The module that a description stands for, with the weights it was made with.
function M.build(description)
  if not is_plain(description) or description.format ~= FORMAT then
    refuse("the metadata describes no model")
  elseif description.version ~= VERSION then
    refuse("its version is %s, and this Perigee reads version %d", tostring(description.version),
      VERSION)
  end
  local modules = {}
  for i, entry in ipairs(check_list(description.modules, "the list of modules")) do
    if not is_plain(entry) then refuse("module %d is malformed", i) end
    local module = build_module(entry, modules)
    if not is_module(module) then refuse("module %d ('%s') is none", i, tostring(entry.class)) end
    if entry.name ~= nil then
      if type(entry.name) ~= "string" then refuse("a module's name is malformed") end
      module.name = entry.name
    end
    modules[i] = module
  end
  local root = modules[description.root] or refuse("the list of modules lacks its root")
  if description.norms ~= nil and not is_plain(description.norms) then
    refuse("the list of norms is malformed")
  end
  reparametrize.restore(root, description.norms)
  return root, modules
end

--- Marks what was frozen or in evaluation mode when it was saved.
local function restore_flags(description, root, modules)
  for i, entry in ipairs(description.modules) do
    local module = modules[i]
    if type(entry.frozen) == "table" then
      local wanted = {}
      for _, name in ipairs(entry.frozen) do wanted[name] = true end
      for name, p in module:named_parameters() do
        if wanted[name] then p.requires_grad = false end
      end
    end
    if entry.eval then module:set_training(false) end
  end
  local inner = description.inner
  if not is_plain(inner) then return end
  local function set(list)
    local names = {}
    for _, path in ipairs(is_plain(list) and list or {}) do names[path] = true end
    return names
  end
  local eval, frozen = set(inner.eval), set(inner.frozen)
  for path, module in root:named_modules() do
    if eval[path] then module:set_training(false) end
  end
  for path, p in root:named_parameters() do
    if frozen[path] then p.requires_grad = false end
  end
end

local function restore_training(root, training)
  if not is_plain(training) then return end
  local opt = {}
  for _, key in ipairs {"loss", "loss_weights", "metrics", "targets", "inputs", "clip_norm"} do
    if training[key] ~= nil then
      opt[key] = decode(training[key], function() refuse("the training options are malformed") end)
    end
  end
  local spec = training.optimizer
  if is_plain(spec) then
    local optim = require "perigee.optim"
    local class = type(spec.class) == "string" and rawget(optim, spec.class)
    if class then
      opt.optimizer = class(decode(spec.hyper, function()
        refuse("the optimizer's options are malformed")
      end))
    end
  end
  root:compile(opt)
end

--- Reads what M.save or a checkpoint wrote.
-- @return module, tensors that are no part of it (by name), notes; or nil, message
function M.read(path)
  local tensors, notes = core.io.load(path, "safetensors")
  if not tensors then return nil, notes end
  if notes[NOTE] == nil then
    return nil, ("%s: holds tensors, but no model (no metadata '%s'); pg.load reads it"):format(
      path, NOTE)
  end
  local description, message = core.io.json_decode(notes[NOTE])
  if not description then return nil, ("%s: %s"):format(path, message) end
  local bytes = 0
  for _, tensor in pairs(tensors) do bytes = bytes + tensor:numel() * BYTES[tensor.dtype] end
  local rng = core.rng_state()
  local limit = core.memory_limit(core.memory().live + 2 * bytes + ROOM)
  local ok, root, rest = pcall(function()
    local module, modules = M.build(description)
    local own, others = {}, {}
    local known = module:state_dict()
    for name, tensor in pairs(tensors) do
      if known[name] ~= nil or name:sub(1, 1) ~= "@" then
        own[name] = tensor
      else
        others[name] = tensor
      end
    end
    module:load_state_dict(own)
    restore_flags(description, module, modules)
    restore_training(module, description.training)
    return module, others
  end)
  core.memory_limit(limit)
  core.set_rng_state(rng)
  if not ok then return nil, ("%s: %s"):format(path, blame.strip(tostring(root))) end
  return root, rest, notes
end

--- Reads a model that `model:save` wrote; nothing in the file is run as code.
-- @return the model; or nil, message
function M.load(path)
  util.expect("nn.load", "path", path, "string")
  local module, rest = M.read(path)
  if not module then return nil, rest end
  return module
end

return M
