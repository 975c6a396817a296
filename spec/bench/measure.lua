--- Timing of cases: ours and the peer's variants take turns, round by round.
-- Relies on spec/bench/peer.lua for the other side; peer.py times in the same way.

local core = require "perigee.core"
local pg = require "perigee"

local M = {folder = "spec/bench/cases"}

--- A variant of the peer that is slow is timed no more once it has taken so many seconds in
-- LEAST_ROUNDS rounds or more.
local PATIENCE, LEAST_ROUNDS = 8, 3

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
  local chunk = loadfile(("%s/%s.lua"):format(M.folder, name))
  if not chunk then
    error(("there is no case %s; the cases are %s"):format(name, table.concat(M.names(), ", ")), 0)
  end
  return chunk()
end

--- Whether this Perigee has mixed precision.
function M.has_autocast()
  local ok, autocast = pcall(function() return pg.autocast end)
  return ok and autocast ~= nil
end

--- The rows of a case: {label=, option=}, in float32 and, where both can, in bfloat16.
function M.rows(name, case)
  local rows = {{label = name, option = {}}}
  if case.bf16 and M.has_autocast() then
    rows[2] = {label = name .. " bf16", option = {precision = "bfloat16"}}
  end
  return rows
end

--- The parts of a case: what its setup made, as a list.
function M.parts(case, option)
  local made = case.setup(pg, option)
  return type(made) == "table" and made or {{name = "", step = made}}
end

local function median(list)
  local sorted = table.move(list, 1, #list, 1, {})
  table.sort(sorted)
  local n = #sorted
  return n % 2 == 1 and sorted[n // 2 + 1] or (sorted[n // 2] + sorted[n // 2 + 1]) / 2
end

local function clock(step, calls)
  local start = core.clock()
  for _ = 1, calls do step() end
  return core.clock() - start
end

--- How many calls of step take about `seconds`, at least one. The first call, which may have to
-- make its inputs, does not count.
local function calibrate(step, seconds)
  local calls, spent = 0, 0
  step()
  repeat
    spent = spent + clock(step, 1)
    calls = calls + 1
  until spent > seconds or calls >= 3 and spent > seconds / 4
  if spent > seconds then return 1 end
  local one = clock(step, calls) / calls
  return math.max(1, math.min(math.ceil(seconds / math.max(one, 1e-9)), 1000000))
end

--- Sets the number of threads of both sides.
local function use_threads(n, remote)
  core.num_threads(n)
  if remote then remote:threads(n) end
end

--- What one part takes with each count of threads in `counts`, by turns.
-- @return list of results, as M.case describes them; one for each count
local function time_part(case_name, part, variants, run, seconds, counts)
  local sides = {}
  for k, n in ipairs(counts) do
    if #counts > 1 then use_threads(n, run.remote) end
    sides[k] = {calls = calibrate(part.step, seconds), ours = {}, theirs = {}}
    for _, variant in ipairs(variants) do
      if variant.parts[part.name] then sides[k].theirs[variant.name] = {} end
    end
  end
  for _ = 1, run.rounds do
    for k, n in ipairs(counts) do
      local side = sides[k]
      if #counts > 1 then use_threads(n, run.remote) end
      part.step()
      side.ours[#side.ours + 1] = clock(part.step, side.calls) / side.calls
      for _, variant in ipairs(variants) do
        local times = side.theirs[variant.name]
        if times and (#times < LEAST_ROUNDS or #times * times[1] < PATIENCE) then
          times[#times + 1] = run.remote:time(case_name, variant.name, part.name, seconds)
        end
      end
    end
  end
  for k, side in ipairs(sides) do
    local result = {name = part.name, ours = median(side.ours), peers = {}, flop = part.flop,
      bytes = part.bytes, items = part.items}
    for variant, times in pairs(side.theirs) do
      local t = median(times)
      result.peers[variant] = t
      if not result.best or t < result.peers[result.best] then result.best = variant end
    end
    if result.best then result.ratio = result.ours / result.peers[result.best] end
    sides[k] = result
  end
  return sides
end

--- Times the parts of a case with each count of threads in `counts`.
-- @param wanted function of a part's name that tells whether to time it; nil: all
-- @return list of lists of results: for each part, for each count
function M.by_threads(name, option, run, counts, wanted)
  local case = M.load(name)
  local parts = M.parts(case, option)
  local variants = run.remote and run.remote:prepare(name, option, run.quick) or {}
  local results, before = {}, core.num_threads()
  for _, part in ipairs(parts) do
    if not wanted or wanted(part.name) then
      local seconds = run.seconds or part.seconds or case.seconds or (#parts > 1 and 0.02 or 0.1)
      results[#results + 1] = time_part(name, part, variants, run, seconds, counts)
    end
  end
  if #counts > 1 then use_threads(before, run.remote) end
  if run.remote then run.remote:forget(name) end
  collectgarbage()
  return results
end

--- Times a case.
-- @param name of the case
-- @param option table that the case's setup gets (precision, sizes); may be empty
-- @param run table: remote (peer or nil), rounds, seconds (one timing takes about so long; the
-- case's own otherwise), quick
-- @return list of {name=, ours=, peers={variant = seconds}, best=, ratio=, flop=, bytes=, items=},
-- one for each part
function M.case(name, option, run)
  local results = M.by_threads(name, option, run, {core.num_threads()})
  for k, by_count in ipairs(results) do results[k] = by_count[1] end
  return results
end

return M
