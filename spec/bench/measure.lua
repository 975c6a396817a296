--- Timing of steps and of cases: ours and the peer's variants take turns, round by round.
-- Relies on spec/bench/peer.lua for the other side; peer.py times in the same way.

local core = require "perigee.core"
local pg = require "perigee"

local M = {folder = "spec/bench/cases"}

--- Names of all cases.
function M.names()
  local pipe = assert(io.popen("ls " .. M.folder))
  local names = {}
  for file in pipe:lines() do names[#names + 1] = file:match "^(.+)%.lua$" end
  pipe:close()
  return names
end

--- The table that a case file returns.
function M.load(name)
  local chunk, problem = loadfile(("%s/%s.lua"):format(M.folder, name))
  if not chunk then error(problem, 0) end
  return chunk()
end

--- Whether this Perigee has mixed precision.
function M.has_autocast()
  local ok, autocast = pcall(function() return pg.autocast end)
  return ok and autocast ~= nil
end

function M.median(list)
  local sorted = table.move(list, 1, #list, 1, {})
  table.sort(sorted)
  local n = #sorted
  return n % 2 == 1 and sorted[n // 2 + 1] or (sorted[n // 2] + sorted[n // 2 + 1]) / 2
end

--- How many calls of step take about `seconds`, at least one. Warms the step up.
local function calibrate(step, seconds)
  local start = core.clock()
  local calls = 0
  repeat
    step()
    calls = calls + 1
  until calls >= 3 and core.clock() - start > seconds / 4
  start = core.clock()
  for _ = 1, calls do step() end
  local one = (core.clock() - start) / calls
  return math.max(1, math.min(math.ceil(seconds / math.max(one, 1e-9)), 1000000))
end

--- A step, or a list of parts, as a list of parts.
local function as_parts(case, made)
  if type(made) == "table" then return made end
  return {{name = "", step = made, flop = case.flop, bytes = case.bytes}}
end

--- Times a case.
-- @param name of the case
-- @param option table: what the case's setup gets (precision, sizes), may be empty
-- @param run table: remote (peer or nil), rounds, seconds (a timing takes about so long), quick
-- @return list of {name=, ours=, peers={variant = seconds}, best=, ratio=, flop=, bytes=}, one for
-- each part; for a case of one step its only part has the name ""
function M.case(name, option, run)
  local case = M.load(name)
  local parts = as_parts(case, case.setup(pg, option))
  local seconds = run.seconds or case.seconds or (#parts > 1 and 0.02 or 0.1)
  local variants = {}
  if run.remote then variants = run.remote:prepare(name, option, run.quick) end
  local results = {}
  for _, part in ipairs(parts) do
    local count = calibrate(part.step, part.seconds or seconds)
    local ours, theirs, mine = {}, {}, {}
    for _, variant in ipairs(variants) do
      if variant.parts[part.name] then
        mine[#mine + 1] = variant.name
        theirs[variant.name] = {}
      end
    end
    for _ = 1, run.rounds do
      part.step()
      local start = core.clock()
      for _ = 1, count do part.step() end
      ours[#ours + 1] = (core.clock() - start) / count
      for _, variant in ipairs(mine) do
        table.insert(theirs[variant],
          run.remote:time(name, variant, part.name, part.seconds or seconds))
      end
    end
    local result = {name = part.name, ours = M.median(ours), peers = {}, flop = part.flop,
      bytes = part.bytes}
    for _, variant in ipairs(mine) do
      local t = M.median(theirs[variant])
      result.peers[variant] = t
      if not result.best or t < result.peers[result.best] then result.best = variant end
    end
    if result.best then result.ratio = result.ours / result.peers[result.best] end
    results[#results + 1] = result
  end
  if run.remote then run.remote:forget(name) end
  return results
end

return M
