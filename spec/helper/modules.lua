--- Tests from spec/fixtures/modules/<family>.safetensors: whole modules with PyTorch's own weights,
-- loaded by name: outputs, gradients of inputs and parameters, what is printed, the way to a file
-- and back. Relies on spec/helper.lua and perigee. The files come from spec/fixtures/modules.py.
-- Spec: the specs that call it.

local assert = require "luassert"
local busted = require "busted"
local core = require "perigee.core"
local H = require "spec.helper"
local pg = require "perigee"
local nn = pg.nn

local M = {}

local function is_plain(value) return type(value) == "table" and getmetatable(value) == nil end

-- A module from its note: class, positional arguments, options.
local function build(note)
  local function value(node)
    if node.module then return build(node.module) end
    return node.value
  end
  local args = {}
  for i, node in ipairs(note.args) do args[i] = value(node) end
  local options = {}
  for key, node in pairs(note.options) do options[key] = value(node) end
  if next(options) then args[#args + 1] = options end
  local module = (nn.class(note.class) or nn[note.class])(table.unpack(args))
  for _, norm in ipairs(note.norms or {}) do
    local name = norm.names[1]
    local given = next(norm.options) and norm.options or nil
    nn.utils.parametrizations[norm.kind](module, name or given, name and given)
  end
  return module
end

-- Tensors of a nest of results, in order.
local function flat(results, list)
  list = list or {}
  for i = 1, results.n or #results do
    local item = results[i]
    if core.is_tensor(item) then
      list[#list + 1] = item
    elseif is_plain(item) then
      flat(item, list)
    end
  end
  return list
end

--- The outputs of a module for a case's inputs as a list; and the inputs that want a gradient.
local function run(model, case, data, dtype)
  local leaves = {}
  local function node(at)
    if at.tensor then
      local t = data[at.tensor]
      t = t.dtype == "float32" and t:to(dtype):clone() or t
      if at.grad then
        t.requires_grad = true
        leaves[at.tensor] = t
      end
      return t
    elseif at.list then
      local list = {}
      for i, item in ipairs(at.list) do list[i] = node(item) end
      return list
    end
    return at.value
  end
  local args = {n = #case.inputs}
  for i, at in ipairs(case.inputs) do args[i] = node(at) end
  if next(case.options) then
    args.n = args.n + 1
    args[args.n] = {}
    for key, at in pairs(case.options) do args[args.n][key] = node(at) end
  end
  return flat(table.pack(model(table.unpack(args, 1, args.n)))), leaves
end

--- Tensors whose names begin with prefix, by the rest of their names.
local function part(data, prefix)
  local found = {}
  for key, t in pairs(data) do
    if key:sub(1, #prefix) == prefix then found[key:sub(#prefix + 1)] = t end
  end
  return found
end

--- Declares the tests of a family.
-- @param family name of the file
-- @param only a Lua pattern for class names (default: all)
function M.modules(family, only)
  local data, notes = core.io.load("spec/fixtures/modules/" .. family .. ".safetensors",
    "safetensors")
  local cases = core.io.json_decode(notes.cases)
  for i, case in ipairs(cases) do
    local class = case.module.class
    local name = ("%s, case %d"):format(case.show:match "^[^\n]*", i)
    if not only or class:find(only) then
      busted.it(name .. " agrees with PyTorch", function()
        for dtype, tol in pairs {float64 = case.tol, float32 = 2e-4} do
          local model = build(case.module):to(dtype):train(case.mode == "train")
          model:load_state_dict(part(data, i .. ".w."))
          local outputs, leaves = run(model, case, data, dtype)
          assert.equal(#case.outputs, #outputs)
          local total
          for j, y in ipairs(outputs) do
            H.same(y, data[("%d.y%d"):format(i, j)]:to(dtype), tol)
            local term = (y * data[("%d.g%d"):format(i, j)]:to(dtype)):sum()
            total = total and total + term or term
          end
          total:backward()
          for key, leaf in pairs(leaves) do
            H.same(leaf.grad, data[key .. ".grad"]:to(dtype), tol)
          end
          local twin = build(case.module):to(dtype) -- holds the gradients, by its own names
          local rest = twin:load_state_dict(part(data, i .. ".grad."), {strict = false})
          assert.same({}, rest.unexpected_keys)
          local none = {}
          for _, key in ipairs(rest.missing_keys) do none[key] = true end
          local expected = twin:state_dict()
          for key, p in model:named_parameters() do
            if not none[key] then H.same(p.grad, expected[key], tol) end
          end
        end
      end)
      busted.it(name .. " prints as in PyTorch", function()
        local from_zero = tostring(build(case.module)):gsub("%((%d+)%):", function(n)
          return case.from_one and ("(%d):"):format(n - 1) or nil
        end)
        assert.equal(case.show, from_zero)
      end)
      busted.it(name .. " comes back from a file", function()
        local model = build(case.module):eval()
        local path = os.tmpname()
        assert(model:save(path))
        local again = assert(nn.load(path))
        os.remove(path)
        assert.equal(tostring(model), tostring(again))
        local ours, theirs = run(model, case, data, "float32"), run(again, case, data, "float32")
        for j, y in ipairs(ours) do H.identical(theirs[j]:detach(), y:detach()) end
      end)
    end
  end
end

return M
