--- ./dev bench [case ...] [--rounds 7] [--json FILE]: times Perigee and its peer alternately.
-- Each case is spec/bench/cases/NAME.lua, and NAME.py for the peer, which runs in the Python that
-- PERIGEE_PEER_PYTHON names (with torch); without it only our own times are printed.
-- Both sides use the same number of threads; figures are medians over the rounds, ratios are
-- ours / the peer's best variant of that case.

local core = require "perigee.core"
local peer = require "spec.bench.peer"
local pg = require "perigee"

local HERE = "spec/bench/cases"
local option = {rounds = 7, names = {}}
do
  local i = 1
  while arg[i] do
    if arg[i] == "--rounds" then
      option.rounds = assert(math.tointeger(tonumber(arg[i + 1])), "--rounds needs a number")
      i = i + 1
    elseif arg[i] == "--json" then
      option.json = assert(arg[i + 1], "--json needs a file")
      i = i + 1
    else
      option.names[#option.names + 1] = arg[i]
    end
    i = i + 1
  end
end

local function case_names()
  local pipe = assert(io.popen("ls " .. HERE))
  local names = {}
  for file in pipe:lines() do names[#names + 1] = file:match "^(.+)%.lua$" end
  pipe:close()
  return names
end

local function median(list)
  local sorted = table.move(list, 1, #list, 1, {})
  table.sort(sorted)
  local n = #sorted
  return n % 2 == 1 and sorted[n // 2 + 1] or (sorted[n // 2] + sorted[n // 2 + 1]) / 2
end

--- Seconds of one call of step: `count` calls are timed together.
local function time(step, count)
  local start = core.clock()
  for _ = 1, count do step() end
  return (core.clock() - start) / count
end

local function seconds_text(s)
  if s < 1e-3 then return ("%.2f us"):format(s * 1e6) end
  return ("%.2f ms"):format(s * 1e3)
end

--- Times one case. @return {name=, ours=, peers={variant = seconds}, best=, ratio=}
local function run(name, remote)
  local case = assert(loadfile(("%s/%s.lua"):format(HERE, name)))()
  local step = case.setup(pg)
  local variants = remote and remote:prepare(name) or {}
  time(step, case.warm or 3)
  local ours, theirs = {}, {}
  for _, variant in ipairs(variants) do theirs[variant] = {} end
  for _ = 1, option.rounds do
    ours[#ours + 1] = time(step, case.count)
    for _, variant in ipairs(variants) do
      table.insert(theirs[variant], remote:time(name, variant, case.count))
    end
  end
  local result = {name = name, ours = median(ours), peers = {}}
  for _, variant in ipairs(variants) do
    local t = median(theirs[variant])
    result.peers[variant] = t
    if not result.best or t < result.peers[result.best] then result.best = variant end
  end
  if result.best then result.ratio = result.ours / result.peers[result.best] end
  result.flop = case.flop
  result.remark = case.remark and case.remark()
  return result
end

local names = #option.names > 0 and option.names or case_names()
local remote, why = peer.start(os.getenv "PERIGEE_PEER_PYTHON", HERE, core.num_threads())
print(("processor: %s, level %s, %d threads"):format(core.processor(), core.isa(),
  core.num_threads()))
print("peer: " .. (remote and remote.version or why))
local ROW = "%-24s %12s %12s %-14s %7s %9s"
print(ROW:format("case", "ours", "peer", "its variant", "ratio", "GF/s"))
local results = {}
for _, name in ipairs(names) do
  local r = run(name, remote)
  results[#results + 1] = r
  print(ROW:format(name, seconds_text(r.ours), r.best and seconds_text(r.peers[r.best]) or "-",
    r.best or "-", r.ratio and ("%.3f"):format(r.ratio) or "-",
    r.flop and ("%.0f"):format(r.flop / r.ours / 1e9) or "-"))
  if r.remark then print("  " .. r.remark) end
  for variant, t in pairs(r.peers) do
    if variant ~= r.best then print(ROW:format("", "", seconds_text(t), variant, "", "")) end
  end
  collectgarbage()
end
if remote then remote:stop() end
if option.json then
  local file = assert(io.open(option.json, "w"))
  file:write(core.io.json_encode({processor = core.processor(), threads = core.num_threads(),
    peer = remote and remote.version or "none", results = results}), "\n")
  file:close()
end
