--- ./dev bench --threads: each case with one thread and with all of them.
-- Relies on spec/bench/measure.lua.

local core = require "perigee.core"
local measure = require "spec.bench.measure"
local text = require "spec.bench.text"

local M = {title = "speed-up by threads"}

local ROW = "%-36s %11s %11s %9s %11s"

--- Measures the cases named whose threads = true.
-- @return list of {case=, part=, one=, all=, speedup=, peer_speedup=}
function M.run(names, run)
  local most = core.num_threads()
  print(ROW:format("case", "1 thread", most .. " threads", "speed-up", "the peer's"))
  local list = {}
  local function with(threads, name)
    core.num_threads(threads)
    if run.remote then run.remote:threads(threads) end
    local options = {remote = run.remote, rounds = run.rounds, seconds = run.seconds, quick = true}
    return measure.case(name, {}, options)
  end
  for _, name in ipairs(names) do
    if measure.load(name).threads then
      local one = with(1, name)
      local all = with(most, name)
      for k, a in ipairs(one) do
        local b = all[k]
        local r = {case = name, part = a.name, one = a.ours, all = b.ours,
          speedup = a.ours / b.ours}
        if a.best and b.best then r.peer_speedup = a.peers[a.best] / b.peers[b.best] end
        print(ROW:format((name .. " " .. a.name), text.seconds(r.one), text.seconds(r.all),
          ("%.2f"):format(r.speedup), r.peer_speedup and ("%.2f"):format(r.peer_speedup) or "-"))
        list[#list + 1] = r
      end
    end
  end
  return list
end

return M
