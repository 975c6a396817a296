--- Symbolic tensors: `nn.Input`, and the nodes that modules and ops record when they meet them.
-- Relies on perigee.core for shape-only tensors, and on nn.Module for what ops become.
-- Spec: spec/nn/graph_spec.lua.
--
-- A symbolic tensor stands for what a graph will compute. Calling a module with one makes a node:
-- the module, its arguments (a template in which symbolic tensors stand for values), and the
-- symbolic tensors it yields. Shapes come from running the module at once on shape-only tensors,
-- for two batch sizes: sizes that differ between the two depend on the batch and read as -1.

local core = require "perigee.core"
local blame = require "perigee.blame"
local mode = require "perigee.nn.mode"
local util = require "perigee.util"

local M = {}

local BATCH = {2, 3}      -- the batch sizes that shapes are inferred with
local FREE = {64, 96}     -- .. and the sizes that stand for a free dim (-1) of an input

local Symbol = {__name = "symbolic tensor"}
local serial = 0

local function is_symbolic(value)
  return type(value) == "table" and getmetatable(value) == Symbol
end
M.is_symbolic = is_symbolic

--- Calls visit(container, key, value) for every leaf of a nest of plain tables; no recursion.
local function walk(root, visit)
  local todo, seen = {root}, {[root] = true}
  while #todo > 0 do
    local at = table.remove(todo)
    for _, key in ipairs(util.sorted_keys(at)) do
      local value = at[key]
      if type(value) == "table" and getmetatable(value) == nil then
        if not seen[value] then
          seen[value] = true
          todo[#todo + 1] = value
        end
      else
        visit(at, key, value)
      end
    end
  end
end

--- A copy of a nest of plain tables with every leaf replaced by change(leaf); no recursion.
local function map(root, change)
  local copies = {[root] = {}}
  local todo = {root}
  while #todo > 0 do
    local at = table.remove(todo)
    local copy = copies[at]
    for key, value in pairs(at) do
      if type(value) == "table" and getmetatable(value) == nil then
        if not copies[value] then
          copies[value] = {}
          todo[#todo + 1] = value
        end
        copy[key] = copies[value]
      else
        copy[key] = change(value)
      end
    end
  end
  return copies[root]
end
M.map = map

local function holds_symbol(value)
  if type(value) ~= "table" then return false end
  local meta = getmetatable(value)
  if meta == Symbol then return true end
  if meta ~= nil then return false end
  local found = false
  walk(value, function(_, _, leaf) found = found or is_symbolic(leaf) end)
  return found
end

--- Whether any argument is a symbolic tensor, or a table (a list for `cat`) that holds one.
function M.any_symbolic(...)
  for i = 1, select("#", ...) do
    local value = select(i, ...)
    if type(value) == "table" and holds_symbol(value) then return true end
  end
  return false
end

--- The shapes for the two batch sizes as one: sizes that differ are -1.
local function merge_shapes(one, two)
  local shape = {}
  if #one ~= #two then
    blame.raise("a layer's result: expected as many dims for every batch size, got %d and %d", #one,
      #two)
  end
  for i = 1, #one do shape[i] = one[i] == two[i] and one[i] or -1 end
  return shape
end

local function new_symbol(node, path, dtype, sizes)
  local symbol = {_node = node, _path = path, _dtype = dtype, _sizes = sizes,
    _shape = merge_shapes(sizes[1], sizes[2])}
  return setmetatable(symbol, Symbol)
end

local function new_node(fields)
  serial = serial + 1
  fields.serial = serial
  return fields
end

--- "[? x 32 x 7 x 7]": a shape in which -1 reads as "?".
function M.shape_text(shape)
  local words = {}
  for i, size in ipairs(shape) do words[i] = size == -1 and "?" or tostring(size) end
  return "[" .. table.concat(words, " x ") .. "]"
end

local DTYPES = {"float32", "float64", "bfloat16", "int64", "uint8", "bool"}

--- An input of a graph: a symbolic tensor that a batch field or an argument fills.
-- `nn.Input({1, 28, 28}, {name = "image"})` stands for [batch x 1 x 28 x 28];
-- `nn.Input({}, {name = "label", dtype = "int64", training_only = true})` for labels.
-- @param shape sizes without the batch; -1 where a size may vary
-- @param opt name ("input", then "input_2" ...), dtype ("float32"), training_only (false):
-- `predict` does not ask for it, and leaves out what depends on it
-- @return a symbolic tensor
function M.Input(shape, opt)
  if type(shape) == "number" then shape = {shape} end
  util.expect("nn.Input", "shape", shape, "table")
  opt = util.options("nn.Input", opt, {"name", dtype = "float32", training_only = false})
  util.expect("nn.Input", "name", opt.name, "string|nil")
  util.choice("nn.Input", "dtype", opt.dtype, DTYPES)
  util.expect("nn.Input", "training_only", opt.training_only, "boolean")
  local sizes = {{BATCH[1]}, {BATCH[2]}}
  for i = 1, #shape do
    local size = math.tointeger(shape[i])
    if not size or (size < 1 and size ~= -1) then
      util.fail("nn.Input", "argument 'shape': expected positive integers, or -1 for any size, "
        .. "got %s as size %d", util.show(shape[i]), i)
    end
    for k = 1, 2 do sizes[k][i + 1] = size == -1 and FREE[k] or size end
  end
  for key in pairs(shape) do
    if math.type(key) ~= "integer" then
      util.fail("nn.Input", "argument 'shape': expected a list of sizes, got the key %s; options "
        .. "come in a second table", util.show(key))
    end
  end
  local node = new_node {
    kind = "input", name = opt.name, dtype = opt.dtype, training_only = opt.training_only,
    args = {n = 0}, sources = {},
  }
  local symbol = new_symbol(node, {1}, opt.dtype, sizes)
  node.shape = symbol._shape
  node.outputs = {symbol}
  return symbol
end

--- What a module yields for one of the two batch sizes, packed.
local function dry_run(module, args, k)
  local filled = map(args, function(leaf)
    if is_symbolic(leaf) then return core.meta(leaf._dtype, leaf._sizes[k]) end
    return leaf
  end)
  return table.pack(module(table.unpack(filled, 1, args.n)))
end

--- Replaces every shape-only tensor of `results` by a symbolic tensor of node, and lists those.
local function symbolize(node, results, twin)
  node.outputs = {}
  local todo = {{results, twin, {}}}
  while #todo > 0 do
    local at, other, path = table.unpack(table.remove(todo))
    for _, key in ipairs(util.sorted_keys(at)) do
      local value = at[key]
      local here = table.move(path, 1, #path, 1, {})
      here[#here + 1] = key
      if core.is_tensor(value) then
        local symbol = new_symbol(node, here, value.dtype,
          {value.shape, other[key].shape})
        node.outputs[#node.outputs + 1] = symbol
        at[key] = symbol
      elseif type(value) == "table" and getmetatable(value) == nil then
        todo[#todo + 1] = {value, other[key], here}
      end
    end
  end
  if #node.outputs == 0 then
    blame.raise("%s: expected results that are tensors, to be part of a graph, got none",
      node.label)
  end
end

--- A node for a call of module; also the results, arranged as the module's are.
local function record(module, ...)
  local args = map(table.pack(...), function(leaf)
    if core.is_tensor(leaf) then return M.constant(leaf) end
    return leaf
  end)
  local label = module.auto_name and module:auto_name() or util.type_name(module)
  local node = new_node {kind = "module", module = module, args = args, label = label,
    sources = {}}
  local seen, flat = {}, true
  walk(args, function(container, _, leaf)
    if is_symbolic(leaf) then
      if container ~= args then flat = false end
      if not seen[leaf] then
        seen[leaf] = true
        node.sources[#node.sources + 1] = leaf
      end
    end
  end)
  node.flat = flat
  return blame.call("", function()
    local results, twin
    do
      local _ <close> = mode.inference(module)
      results = dry_run(module, args, 1)
      twin = dry_run(module, args, 2)
    end
    symbolize(node, results, twin)
    return node, results
  end)
end

--- Records a call of module with symbolic tensors among its arguments.
-- Wrong shapes are errors here, on the line that builds the graph. Tensors that are not symbolic
-- become constants of the graph (parameters stay parameters).
-- @return symbolic tensors, arranged as the module's results are
function M.apply(module, ...)
  local _, results = record(module, ...)
  return table.unpack(results, 1, results.n)
end

--- As apply, also without symbolic arguments.
-- @return the node's symbolic tensors as a list, in an order that depends on the module only
function M.call(module, ...)
  return (record(module, ...)).outputs
end

--- A tensor as part of a graph.
function M.constant(tensor)
  return M.call(require("perigee.nn.op").Constant(tensor))[1]
end

--- Records a tensor op: op("cat", {a, b}, 2) is what pg.cat({a, b}, 2) means for symbolic tensors.
-- The binding calls it too, through the metafield __op, when an op meets a symbolic tensor.
-- @param name an op of core.ops, or "getitem" for x[key]
function M.op(name, ...)
  if name:sub(-1) == "_" then
    blame.raise("%s: argument 'input': expected a tensor that may change in place, got a symbolic "
      .. "one; use %s", name, name:sub(1, -2))
  end
  local inputs, places = {n = 0}, {}
  local template = map(table.pack(...), function(leaf)
    if is_symbolic(leaf) or core.is_tensor(leaf) then
      if not places[leaf] then
        inputs.n = inputs.n + 1
        inputs[inputs.n] = leaf
        places[leaf] = inputs.n
      end
      return M.place(places[leaf])
    end
    return leaf
  end)
  local module = require("perigee.nn.op").Op(name, template)
  return M.apply(module, table.unpack(inputs, 1, inputs.n))
end

local Place = {__name = "place"}

--- The mark in an op's argument template that the k-th tensor goes to.
function M.place(k) return setmetatable({k = k}, Place) end

--- k of a mark, or nil.
function M.place_of(value)
  return type(value) == "table" and getmetatable(value) == Place and value.k or nil
end

-- Fields and methods of symbolic tensors ----------------------------------------------------------

local fields = {
  shape = function(self) return table.move(self._shape, 1, #self._shape, 1, {}) end,
  dtype = function(self) return self._dtype end,
  name = function(self) return self._node.name end,
}

local methods = {
  dim = function(self) return #self._shape end,
  size = function(self, dim)
    if dim == nil then return self.shape end
    local n = #self._shape
    local at = math.tointeger(dim)
    if at and at < 0 then at = n + 1 + at end
    if not at or at < 1 or at > n then
      blame.raise("size: argument 'dim': expected 1..%d or -%d..-1, got %s", n, n, util.show(dim))
    end
    return self._shape[at]
  end,
}

Symbol.__op = M.op

local operators = {
  __add = "add", __sub = "sub", __mul = "mul", __div = "div", __mod = "remainder", __pow = "pow",
  __idiv = "floor_divide", __band = "bitwise_and", __bor = "bitwise_or", __bxor = "bitwise_xor",
}
for event, name in pairs(operators) do
  Symbol[event] = function(a, b) return M.op(name, a, b) end
end
function Symbol.__unm(a) return M.op("neg", a) end
function Symbol.__bnot(a) return M.op("bitwise_not", a) end
function Symbol.__len(a) return a._shape[1] or 0 end
function Symbol.__tostring(a)
  return ("symbolic tensor %s %s%s"):format(M.shape_text(a._shape), a._dtype,
    a._node.name and " '" .. a._node.name .. "'" or a._node.label and " of " .. a._node.label or "")
end

function Symbol.__index(self, key)
  if type(key) ~= "string" then return M.op("getitem", self, key) end
  local field = fields[key]
  if field then return field(self) end
  if methods[key] then return methods[key] end
  if core.Tensor[key] == nil then
    if key:sub(1, 1) == "_" then return nil end
    local names = util.sorted_keys(core.Tensor)
    local near = util.suggest(key, names)
    blame.raise("indexing: argument 'key': expected a field or method of symbolic tensors, got "
      .. "'%s'%s", key, near and (", did you mean '%s'?"):format(near) or "")
  end
  if core.ops[key] then
    return function(...) return M.op(key, ...) end
  end
  local method = core.Tensor[key]
  return function(...)
    return blame.call(("'%s' on a symbolic tensor, which holds no values: "):format(key), method,
      ...)
  end
end

function Symbol.__newindex(_, key)
  blame.raise("assignment: argument 'self': expected a tensor with values, got a symbolic one (at "
    .. "%s)", util.show(key))
end

return M
