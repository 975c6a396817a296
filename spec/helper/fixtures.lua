--- H.fixtures: values and gradients that PyTorch computed, from spec/fixtures/<family>.safetensors.
-- The file is read here, not by Perigee's own reader, which is under test itself.
-- Relies on spec/helper/values.lua, check.lua, perigee.core and dkjson (which busted brings).
-- Spec: spec/helper_spec.lua; the files come from spec/fixtures/generate.py.

local busted = require "busted"
local core = require "perigee.core"
require "perigee.tensor" -- puts its functions into core.ops
local json = require "dkjson"
local V = require "spec.helper.values"
local C = require "spec.helper.check"

local M = {}

local DTYPE = {F32 = "float32", F64 = "float64", I64 = "int64", U8 = "uint8", BOOL = "bool"}
local NUMBER = {inf = math.huge, ["-inf"] = -math.huge, nan = 0 / 0}
local HERE = debug.getinfo(1, "S").source:match "^@(.*)helper/fixtures%.lua$"

-- Reads a fixture file: entries by key ({dtype, shape, bytes}) and the list of cases.
local function read(path)
  local file = assert(io.open(path, "rb"))
  local data = file:read "a"
  file:close()
  local length = string.unpack("<I8", data)
  local header = assert(json.decode(data:sub(9, 8 + length)))
  local entries = {}
  for key, entry in pairs(header) do
    if key ~= "__metadata__" then
      local first, past = table.unpack(entry.data_offsets)
      entries[key] = {
        dtype = assert(DTYPE[entry.dtype]), shape = table.move(entry.shape, 1, #entry.shape, 1, {}),
        bytes = data:sub(9 + length + first, 8 + length + past),
      }
    end
  end
  return entries, assert(json.decode(header.__metadata__.cases))
end

-- A stored tensor; float ones in the dtype under test.
local function tensor(entry, dtype)
  if entry.dtype:find "float" and entry.dtype ~= dtype then
    local values = V.unpack(entry.bytes, entry.dtype)
    return V.make(values, dtype, entry.shape)
  end
  return core.from_bytes(entry.bytes, entry.dtype, entry.shape)
end

-- Runs one case in one dtype.
local function run(entries, case, dtype)
  local leaves = {}
  local function build(node)
    if node.tensor then
      local t = tensor(entries[node.tensor], node.keep and entries[node.tensor].dtype or dtype)
      if node.layout then t = V.layouts[node.layout](t) end
      if node.grad then
        t.requires_grad = true
        leaves[#leaves + 1] = {node.tensor, t}
      end
      return t
    elseif node.list then
      local list = {}
      for i, item in ipairs(node.list) do list[i] = build(item) end
      return list
    end
    return node.number and NUMBER[node.number] or node.value
  end
  local args = {n = #case.args}
  for i, node in ipairs(case.args) do args[i] = build(node) end
  if case.kwargs then
    local options = {}
    for key, node in pairs(case.kwargs) do options[key] = build(node) end
    args.n = args.n + 1
    args[args.n] = options
  end
  local fn = core.ops[case.op]
  if not fn then busted.fail(("core.ops has no '%s'"):format(case.op), 2) end
  if case.op:find "_$" and V.is_float(args[1]) then args[1] = args[1]:clone() end
  core.manual_seed(1)
  local results = V.results(fn(table.unpack(args, 1, args.n)))

  local tol = case.tol[dtype]
  local function check(what, actual, key, wanted, signs)
    local stored = entries[key .. "@" .. dtype] or entries[key]
    local expected = tensor(stored, wanted or dtype)
    if not core.is_tensor(actual) then
      if stored.dtype == "bool" then expected = V.values(expected)[1] == 1 end
      if #stored.shape == 0 and stored.dtype ~= "bool" then expected = V.values(expected)[1] end
    end
    local different = C.compare(actual, expected, {tol = tol, signs = signs})
    if different then busted.fail(("%s: %s: %s"):format(dtype, what, different), 3) end
  end
  if results.n < #case.outputs then
    busted.fail(("expected %d results, got %d"):format(#case.outputs, results.n), 2)
  end
  for j, output in ipairs(case.outputs) do
    check("output " .. j, results[j], output.key, output.dtype and output.dtype[dtype], case.signs)
  end
  local pending = {}
  for j, output in ipairs(case.outputs) do
    if output.cotangent then pending[#pending + 1] = {j, output.cotangent} end
  end
  for n, item in ipairs(pending) do
    local j, key = table.unpack(item)
    if not results[j].requires_grad then
      busted.fail(("%s: output %d carries no gradient"):format(dtype, j), 2)
    end
    core.backward(results[j], tensor(entries[key], results[j].dtype), {retain_graph = n < #pending})
  end
  for k, item in ipairs(leaves) do
    local key, leaf = table.unpack(item)
    local stored = entries[key .. ".grad@" .. dtype] or entries[key .. ".grad"]
    if not stored then
      if leaf.grad then
        for _, v in ipairs(V.values(leaf.grad)) do
          if v ~= 0 then busted.fail(("%s: gradient %d: expected none"):format(dtype, k), 2) end
        end
      end
    elseif not leaf.grad then
      for _, v in ipairs(V.unpack(stored.bytes, stored.dtype)) do
        if v ~= 0 then busted.fail(("%s: gradient %d: got none"):format(dtype, k), 2) end
      end
    else
      check("gradient " .. k, leaf.grad, key .. ".grad", leaf.dtype)
    end
  end
end

--- Declares one test for each case of spec/fixtures/<family>.safetensors: outputs and gradients in
-- float32 (2e-4) and float64 (1e-10) against PyTorch's.
-- @param family name of the file
-- @param only a Lua pattern: just the cases of ops that match it (default: all)
function M.fixtures(family, only)
  local entries, cases = read(HERE .. "fixtures/" .. family .. ".safetensors")
  busted.describe("PyTorch agrees on", function()
    for _, case in ipairs(cases) do
      if not only or case.op:find(only) then
        busted.it(case.name, function()
          for _, dtype in ipairs(case.dtypes) do run(entries, case, dtype) end
        end)
      end
    end
  end)
end

return M
