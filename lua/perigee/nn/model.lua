--- `nn.Model`: a named graph with several inputs and outputs, built from symbolic tensors.
-- Relies on nn.Module, nn/graph.lua and nn/layer.lua; the training loop comes from train/.
-- Spec: spec/nn/model_spec.lua.
--
-- What a call returns: the tensor itself where the model has one output, else a table by output
-- name. Outputs are named after the layer that makes them; `nn.Model(inputs, {score = h})` gives
-- a name of one's own. A layer with several results names them "lstm.1", "lstm.2.1", ...

local core = require "perigee.core"
local Module = require("perigee.nn").Module
local blame = require "perigee.blame"
local graph = require "perigee.nn.graph"
local run_chain = require("perigee.nn.layer").run_chain
local util = require "perigee.util"

local Model = Module:extend "Model"

local function near(name, names)
  local word = util.suggest(name, names)
  return word and (", did you mean '%s'?"):format(word) or ""
end

--- What the name of an unnamed module starts with.
local function base_name(module)
  if module.auto_name then return module:auto_name() end
  return util.type_name(module):lower()
end

-- Building --------------------------------------------------------------------------------------

--- A list of symbols from what the script gave: one, a list, or (outputs) a table by name.
local function as_list(what, given)
  local list, labels = {}, {}
  if graph.is_symbolic(given) then given = {given} end
  if type(given) ~= "table" or getmetatable(given) ~= nil then
    blame.raise("nn.Model: argument '%s': expected a symbolic tensor or a list of them, got %s",
      what, util.type_name(given))
  end
  for _, key in ipairs(util.sorted_keys(given)) do
    if not graph.is_symbolic(given[key]) then
      blame.raise("nn.Model: argument '%s': expected symbolic tensors, as nn.Input makes them, "
        .. "got %s at %s", what, util.type_name(given[key]), util.show(key))
    end
    list[#list + 1] = given[key]
    labels[#list] = type(key) == "string" and key or nil
  end
  if #list == 0 then
    blame.raise("nn.Model: argument '%s': expected at least one symbolic tensor, got none", what)
  end
  return list, labels
end

--- Every node that the symbols depend on, as a set.
local function reach(symbols)
  local seen, todo = {}, {}
  local function push(symbol)
    if not seen[symbol._node] then
      seen[symbol._node] = true
      todo[#todo + 1] = symbol._node
    end
  end
  for _, symbol in ipairs(symbols) do push(symbol) end
  while #todo > 0 do
    for _, source in ipairs(table.remove(todo).sources) do push(source) end
  end
  return seen
end

--- The nodes of a set in the order they were made, which puts each after its sources; a node
-- that somebody has tied to a later one closes a cycle.
local function sort_nodes(set)
  local order, before = {}, {}
  for node in pairs(set) do order[#order + 1] = node end
  table.sort(order, function(a, b) return a.serial < b.serial end)
  for _, node in ipairs(order) do
    for _, source in ipairs(node.sources) do
      if not before[source._node] then
        blame.raise("nn.Model: the graph has a cycle: %s depends on %s, which was made after it",
          node.label or "input", source._node.label or "input")
      end
    end
    before[node] = true
  end
  return order
end

--- Names every layer and node: given names first, then the class in lower case with _2, _3 ...
local function name_nodes(g)
  local owner = {}
  local function take(name, thing)
    if owner[name] and owner[name] ~= thing then
      blame.raise("nn.Model: argument 'name': expected names that are unique, got '%s' for two "
        .. "parts of the graph", name)
    end
    owner[name] = thing
    return name
  end
  local function unique(base, thing)
    local name, k = base, 1
    while owner[name] do
      k = k + 1
      name = base .. "_" .. k
    end
    return take(name, thing)
  end
  for _, node in ipairs(g.order) do
    local name = node.name
    if node.kind == "module" then name = node.module.name end
    if name ~= nil then
      if type(name) ~= "string" or name == "" or name:find(".", 1, true) then
        blame.raise("nn.Model: argument 'name': expected a non-empty string without '.', got %s",
          util.show(name))
      end
      take(name, node.module or node)
    end
  end
  local layer_name = {}
  for _, node in ipairs(g.order) do
    local module = node.module
    if not module then
      g.node_name[node] = node.name or unique("input", node)
    elseif not layer_name[module] then
      layer_name[module] = module.name or unique(base_name(module), module)
      g.node_name[node] = layer_name[module]
      g.layers[#g.layers + 1] = {name = layer_name[module], module = module}
    end
  end
  for _, node in ipairs(g.order) do
    if not g.node_name[node] then
      g.node_name[node] = unique(layer_name[node.module], node)
    end
  end
  for _, node in ipairs(g.order) do
    local name = g.node_name[node]
    g.symbols[name] = node.outputs[1]
    if #node.outputs == 1 and #node.outputs[1]._path == 1 then
      g.name_of[node.outputs[1]] = name
    else
      for _, symbol in ipairs(node.outputs) do
        local full = name .. "." .. table.concat(symbol._path, ".")
        g.name_of[symbol] = full
        g.symbols[full] = symbol
      end
    end
  end
end

--- Checks inputs against what the outputs reach.
local function check_inputs(g, reached)
  local listed, by_name = {}, {}
  for i, symbol in ipairs(g.inputs) do
    local node = symbol._node
    if node.kind ~= "input" then
      blame.raise("nn.Model: argument 'inputs': expected what nn.Input made, got a result of %s as "
        .. "input %d", node.label, i)
    elseif listed[node] then
      blame.raise("nn.Model: argument 'inputs': expected each input once, got '%s' twice",
        node.name or "input")
    elseif not reached[node] then
      blame.raise("nn.Model: argument 'inputs': expected inputs that the outputs depend on, got "
        .. "'%s', which is unused", node.name or "input")
    end
    listed[node] = true
    if node.name and by_name[node.name] then
      blame.raise("nn.Model: argument 'inputs': expected names that are unique, got '%s' twice",
        node.name)
    end
    if node.name then by_name[node.name] = true end
  end
  for node in pairs(reached) do
    if node.kind == "input" and not listed[node] then
      blame.raise("nn.Model: argument 'inputs': expected all inputs that the outputs depend on, "
        .. "got them without '%s'", node.name or "input")
    end
  end
end

--- A model from symbolic tensors.
-- @param inputs what nn.Input gave, or a list of those; every one must be used
-- @param outputs a symbolic tensor, a list, or a table that names them
-- @param opt name
function Model:init(inputs, outputs, opt)
  opt = util.options("nn.Model", opt, {"name"})
  if opt.name then self.name = opt.name end
  local g = {node_name = {}, name_of = {}, symbols = {}, layers = {}, plans = {}}
  local labels
  g.inputs = as_list("inputs", inputs)
  g.outputs, labels = as_list("outputs", outputs)
  local reached = reach(g.outputs)
  check_inputs(g, reached)
  g.order = sort_nodes(reached)
  name_nodes(g)
  g.input_names, g.output_names, g.aliases = {}, {}, {}
  for i, symbol in ipairs(g.inputs) do g.input_names[i] = g.name_of[symbol] end
  local seen = {}
  for i, symbol in ipairs(g.outputs) do
    local name = labels[i] or g.name_of[symbol]
    if seen[name] then
      blame.raise("nn.Model: argument 'outputs': expected each output once, got '%s' twice", name)
    end
    if labels[i] and g.symbols[name] and g.symbols[name] ~= symbol then
      blame.raise("nn.Model: argument 'outputs': expected names that are unique, got '%s', the "
        .. "name of another part of the graph", name)
    end
    seen[name] = true
    g.output_names[i] = name
    g.aliases[name] = labels[i] and true or nil
    g.symbols[name] = symbol
  end
  rawset(self, "_graph", g)
  for _, layer in ipairs(g.layers) do self:add_module(layer.name, layer.module) end
end

-- Running ---------------------------------------------------------------------------------------

--- Names of the inputs, in order.
function Model:input_names() return {table.unpack(self._graph.input_names)} end

--- Names of the outputs, in order.
function Model:output_names() return {table.unpack(self._graph.output_names)} end

--- The inputs as a list of {name=, shape=, dtype=, training_only=}; shape has -1 for the batch.
function Model:inputs()
  local list = {}
  for i, symbol in ipairs(self._graph.inputs) do
    list[i] = {name = self._graph.input_names[i], shape = symbol.shape, dtype = symbol.dtype,
      training_only = symbol._node.training_only}
  end
  return list
end

--- Steps that follow each other in a straight line, layers of one input and one output that nobody
-- else reads, become one step that runs as a Sequential does.
local function join_steps(steps, wanted)
  local readers, joined = {}, {}
  for _, symbol in ipairs(wanted) do readers[symbol] = 1 end
  for _, step in ipairs(steps) do
    for _, source in ipairs(step.node.sources) do
      readers[source] = (readers[source] or 0) + 1
    end
  end
  for _, step in ipairs(steps) do
    local before = joined[#joined]
    local link = step.straight and step.n == 1 and step.simple and rawget(step.module, "_handle")
    if link and before and before.chain and before.simple == step.args[1]
      and readers[before.simple] == 1 then
      local order = before.chain.order
      order[#order + 1] = #order + 1
      before.chain.modules[#order] = step.module
      before.simple = step.simple
    else
      if link then step.chain = {modules = {step.module}, order = {1}} end
      joined[#joined + 1] = step
    end
  end
  return joined
end

--- How to compute the outputs of these names: nodes in order, inputs needed. Kept for next time.
function Model:_plan(names)
  local g = self._graph
  local key = table.concat(names, "\0")
  local plan = g.plans[key]
  if plan then return plan end
  local wanted = {}
  for i, name in ipairs(names) do
    wanted[i] = g.symbols[name]
    if not wanted[i] then
      blame.raise("Model: argument 'outputs': expected names of outputs (%s) or layers, got '%s'%s",
        table.concat(g.output_names, ", "), tostring(name), near(name, util.sorted_keys(g.symbols)))
    end
  end
  local reached = reach(wanted)
  plan = {names = names, wanted = wanted, steps = {}, inputs = {}}
  for _, node in ipairs(g.order) do
    if reached[node] and node.module then
      local straight = node.flat
      for i = 1, node.args.n do straight = straight and graph.is_symbolic(node.args[i]) end
      plan.steps[#plan.steps + 1] = {
        node = node, module = node.module, args = node.args, n = node.args.n, straight = straight,
        simple = #node.outputs == 1 and #node.outputs[1]._path == 1 and node.outputs[1],
      }
    end
  end
  plan.steps = join_steps(plan.steps, wanted)
  for i, symbol in ipairs(g.inputs) do
    if reached[symbol._node] then
      plan.inputs[#plan.inputs + 1] = {
        name = g.input_names[i], symbol = symbol, shape = symbol._shape,
        training_only = symbol._node.training_only,
      }
    end
  end
  g.plans[key] = plan
  return plan
end

--- The outputs that can be computed without the inputs that only training has.
function Model:inference_outputs()
  local names = {}
  for _, name in ipairs(self._graph.output_names) do
    local free = true
    for _, input in ipairs(self:_plan({name}).inputs) do free = free and not input.training_only end
    if free then names[#names + 1] = name end
  end
  return names
end

--- Names of the inputs that these outputs need.
function Model:needed_inputs(names)
  local list = {}
  for i, input in ipairs(self:_plan(names).inputs) do list[i] = input.name end
  return list
end

local function check_value(input, value)
  local name, shape = input.name, input.shape
  if not core.is_tensor(value) then
    blame.raise("Model: argument '%s': expected a tensor %s, got %s", name, graph.shape_text(shape),
      util.type_name(value))
  end
  local fits = value:dim() == #shape
  for i = 1, fits and #shape or 0 do
    fits = fits and (shape[i] == -1 or value:size(i) == shape[i])
  end
  if not fits then
    blame.raise("Model: argument '%s': expected %s, got %s", name, graph.shape_text(shape),
      graph.shape_text(value.shape))
  end
end

--- Results of a step by the paths of its symbols.
local function spread(values, outputs, ...)
  local results = {...}
  for _, symbol in ipairs(outputs) do
    local at = results
    for _, key in ipairs(symbol._path) do at = at[key] end
    values[symbol] = at
  end
end

--- Computes the named outputs (of the model or of any layer) from a table of inputs by name.
-- Only what they need runs. @return a table by name
function Model:compute(names, feed)
  local plan = self:_plan(names)
  local values = {}
  for _, input in ipairs(plan.inputs) do
    local value = feed[input.name]
    if value == nil then
      blame.raise("Model: argument '%s': expected a tensor, got nothing%s", input.name,
        input.training_only and " (it is marked training_only, but the outputs asked for need it)"
        or "")
    end
    check_value(input, value)
    values[input.symbol] = value
  end
  for _, step in ipairs(plan.steps) do
    local args, module, out = step.args, step.module, step.simple
    if step.chain then
      values[out] = (run_chain(step.chain.modules, step.chain.order, values[args[1]]))
    elseif step.straight and step.n == 1 and out then
      values[out] = (module(values[args[1]]))
    elseif step.straight and step.n == 2 and out then
      values[out] = (module(values[args[1]], values[args[2]]))
    else
      local filled = graph.map(args, function(leaf)
        if graph.is_symbolic(leaf) then return values[leaf] end
        return leaf
      end)
      spread(values, step.node.outputs, module(table.unpack(filled, 1, args.n)))
    end
  end
  local result = {}
  for i, name in ipairs(names) do result[name] = values[plan.wanted[i]] end
  return result
end

--- The call's arguments as a table by input name.
function Model:_feed(first, ...)
  local names = self._graph.input_names
  if type(first) == "table" and getmetatable(first) == nil and select("#", ...) == 0 then
    for key in pairs(first) do
      local known = false
      for _, name in ipairs(names) do known = known or name == key end
      if not known then
        blame.raise("Model: argument 'inputs': expected names of inputs (%s), got %s%s",
          table.concat(names, ", "), util.show(key), near(key, names))
      end
    end
    return first
  end
  local feed, n = {}, 1 + select("#", ...)
  if n > #names then
    blame.raise("Model: argument 'inputs': expected at most %d tensors (%s), got %d", #names,
      table.concat(names, ", "), n)
  end
  feed[names[1]] = first
  for i = 2, n do feed[names[i]] = (select(i - 1, ...)) end
  return feed
end

--- `model {image = x, label = y}` or `model(x, y)`: the output tensor, or a table by output name
-- where there are several. In evaluation mode, outputs that need a missing training_only input are
-- left out.
function Model:forward(...)
  local g = self._graph
  local feed = self:_feed(...)
  local names = g.output_names
  if not self.training then
    for i, symbol in ipairs(g.inputs) do
      if symbol._node.training_only and feed[g.input_names[i]] == nil then
        names = self:inference_outputs()
        break
      end
    end
  end
  local result = self:compute(names, feed)
  if #g.output_names == 1 then return result[g.output_names[1]] end
  return result
end

-- Looking in ------------------------------------------------------------------------------------

--- The layer of this name; "block.conv1" for a layer inside another.
function Model:get(name)
  util.expect("Model:get", "name", name, "string")
  local at, path = self, ""
  for word in name:gmatch "[^%.]+" do
    local children, names = {}, {}
    for child_name, child in at:named_children() do
      children[child_name] = child
      names[#names + 1] = child_name
    end
    if not children[word] then
      blame.raise("Model:get: argument 'name': expected a layer (%s), got '%s'%s",
        table.concat(names, ", "), path .. word, near(word, names))
    end
    at, path = children[word], path .. word .. "."
  end
  return at
end

--- Stops training the named layers (all of them without a name).
function Model:freeze(...)
  for _, module in ipairs(self:_layers_named("Model:freeze", ...)) do
    for _, p in module:named_parameters() do p.requires_grad = false end
  end
  return self
end

--- Trains the named layers again (all of them without a name).
function Model:unfreeze(...)
  for _, module in ipairs(self:_layers_named("Model:unfreeze", ...)) do
    for _, p in module:named_parameters() do p.requires_grad = true end
  end
  return self
end

function Model:_layers_named(what, ...)
  local list = {}
  for i = 1, select("#", ...) do
    local name = select(i, ...)
    util.expect(what, "name", name, "string")
    list[i] = self:get(name)
  end
  return #list > 0 and list or {self}
end

return Model
