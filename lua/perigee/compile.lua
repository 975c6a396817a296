--- `pg.compile`: a function whose work on tensors is recorded and then done again without Lua.
-- Relies on perigee.core. Spec: spec/binding/tape_spec.lua.

local core = require "perigee.core"
local util = require "perigee.util"

local M = {}

local compiled_of = setmetatable({}, {__mode = "k"})

local Recording = {__close = function(self) core.tape_abandon(self.compiled) end}

local function finish(compiled, ...)
  core.tape_end(compiled, ...)
  return ...
end

--- Runs the function where no tape applies, and records it.
local function long_way(compiled, fn, ...)
  if not core.tape_begin(compiled, fn, ...) then return fn(...) end
  local _ <close> = setmetatable({compiled = compiled}, Recording)
  return finish(compiled, fn(...))
end

--- A function that does what `fn` does, without Lua once it has seen it twice: for steps of small
-- models, where Lua takes a good part of the time, and for chains of elementwise ops on large
-- tensors, which are then run block by block, with what lies between them in the caches only.
-- `local step = pg.compile(function(x, y) opt:zero_grad() local loss = criterion(net(x), y)
-- loss:backward() opt:step() return loss end)`, then `step(x, y)` as before.
-- The first calls run fn and note its ops, layers, backward passes and optimizer steps; when two
-- calls did the same, later ones with tensors of the same shapes and dtypes and the same other
-- arguments repeat that, with the same results to the last bit. Random numbers are drawn anew and
-- learning rates are those of the optimizer. fn itself runs again whenever something differs:
-- shapes, arguments, its upvalues, training mode, parameters, hooks; and always where it looks at
-- the values of tensors (item, comparisons, indexing, .grad). What fn does beside, such as counting
-- in a table or printing, is not repeated: leave it outside.
-- @param fn a function of tensors, numbers, strings and booleans that returns tensors and the like
-- @return a function
function M.compile(fn)
  util.expect("pg.compile", "fn", fn, "function")
  local run, compiled = core.compile(fn, long_way)
  compiled_of[run] = compiled
  return run
end

--- How a compiled function fares.
-- @param run what pg.compile returned
-- @return {replays = calls without Lua, tapes = kinds of calls it can repeat, actions = length of
-- the tape used last, fused = elementwise loops that the last replay ran block by block}
function M.compile_info(run)
  local compiled = compiled_of[run]
  if not compiled then util.fail("pg.compile_info", "expected what pg.compile returned") end
  local replays, tapes, actions, fused = core.tape_info(compiled)
  return {replays = replays, tapes = tapes, actions = actions, fused = fused}
end

return M
