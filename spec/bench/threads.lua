--- ./dev bench --threads: each case with one thread and with all of them, by turns.
-- Relies on spec/bench/measure.lua.

local core = require "perigee.core"
local measure = require "spec.bench.measure"
local text = require "spec.bench.text"

local M = {title = "speed-up by threads"}

local ROW = "%-36s %11s %11s %9s %11s"

--- Measures the cases named that have threads = true, or a function that picks parts by name.
-- @return list of {case=, part=, one=, all=, speedup=, peer_speedup=}
function M.run(names, run)
  local most = core.num_threads()
  print(ROW:format("case", "1 thread", most .. " threads", "speed-up", "the peer's"))
  local options = {remote = run.remote, rounds = run.rounds, seconds = run.seconds, quick = true}
  local list = {}
  for _, name in ipairs(names) do
    local threads = measure.load(name).threads
    if threads then
      local logs, first = 0, #list + 1
      local wanted = type(threads) == "function" and threads or nil
      for _, r in ipairs(measure.by_threads(name, {}, options, {1, most}, wanted)) do
        local one, all = r[1], r[2]
        local row = {case = name, part = one.name, one = one.ours, all = all.ours,
          speedup = one.ours / all.ours}
        if one.best then row.peer_speedup = one.peers[one.best] / all.peers[all.best] end
        print(ROW:format((name .. " " .. row.part), text.seconds(row.one), text.seconds(row.all),
          ("%.2f"):format(row.speedup),
          row.peer_speedup and ("%.2f"):format(row.peer_speedup) or "-"))
        list[#list + 1] = row
        logs = logs + math.log(row.speedup)
      end
      local n = #list - first + 1
      if n > 1 then
        print(("  %d speed-ups: geometric mean %.2f"):format(n, math.exp(logs / n)))
      end
    end
  end
  return list
end

return M
