--- Perigee: tensors, gradients and training for Lua 5.4.
-- `local pg = require "perigee"` gives every tensor function; nn, optim, data and the other rooms
-- load at first use.

local core = require "perigee.core"
local autograd = require "perigee.autograd"
local tensor = require "perigee.tensor"
local util = require "perigee.util"

local M = {
  _VERSION = "Perigee " .. core.version(),
  is_tensor = core.is_tensor,
  tensor = core.tensor,
  from_bytes = core.from_bytes,
  no_grad = core.no_grad,
  enable_grad = core.enable_grad,
  is_grad_enabled = core.is_grad_enabled,
  autocast = core.autocast,
  is_autocast_enabled = core.is_autocast_enabled,
  scope = core.scope,
  grad = core.grad,
  manual_seed = core.manual_seed,
  clock = core.clock,
  memory = core.memory,
}

--- Threads used by C; sets them when given.
-- @param n number of threads from now on, optional
-- @return number of threads
M.get_num_threads = function() return core.num_threads() end
M.set_num_threads = function(n) core.num_threads(n) end

--- Chooses only algorithms that compute a formula as it is written, even where a faster one is at
-- hand whose results differ in the last digits (convolution by Winograd's algorithm). Off at first.
-- Runs with the same seed give the same bits either way, with any number of threads.
-- @param on true or false; without it nothing changes
-- @return whether it was on before the call
function M.deterministic(...) return core.deterministic(...) end

for _, info in ipairs(core.op_info()) do
  if not (info.hidden or info.linalg or info.init) then
    for _, name in ipairs(info.names) do
      if not info.inplace_only then M[name] = core.ops[name] end
      if info.inplace then M[name .. "_"] = core.ops[name .. "_"] end
    end
  end
end
for name, f in pairs(tensor.functions) do M[name] = f end
for name, f in pairs(autograd.functions) do M[name] = f end

local ROOMS = {
  nn = "perigee.nn",
  optim = "perigee.optim",
  data = "perigee.data",
  callbacks = "perigee.callbacks",
  metrics = "perigee.metrics",
  plot = "perigee.plot",
  io = "perigee.io",
  cli = "perigee.cli",
  linalg = "perigee.linalg",
  profiler = "perigee.profiler",
}

local FROM = {
  save = "perigee.io", load = "perigee.io",
  compile = "perigee.compile", compile_info = "perigee.compile",
}

setmetatable(M, {
  __index = function(self, name)
    local value
    if ROOMS[name] then
      value = require(ROOMS[name])
    elseif FROM[name] then
      value = require(FROM[name])[name]
    else
      if type(name) ~= "string" or name:sub(1, 1) == "_" then return nil end
      local names = util.sorted_keys(self)
      for room in pairs(ROOMS) do names[#names + 1] = room end
      local near = util.suggest(name, names)
      error(("pg: argument 'name': expected the name of a function, got '%s'%s"):format(name,
        near and (", did you mean '%s'?"):format(near) or ""), 2)
    end
    rawset(self, name, value)
    return value
  end,
  __name = "perigee",
})

return M
