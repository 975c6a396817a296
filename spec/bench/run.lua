--- The benchmarks: Perigee and its peer take turns, with the same number of threads, in one run.
-- A case is spec/bench/cases/NAME.lua, and NAME.py for the peer. It returns a table:
--   setup(pg, option) -> step, or a list of parts {name=, step=, flop=, bytes=, seconds=}
--   flop, bytes        of one step (both optional)
--   seconds            that one timing takes, about (0.1; for parts 0.02)
--   bf16 = true        it has a second row with option.precision = "bfloat16"
--   remark()           a line under the row
-- Its peer has variants(**option) -> {variant: function that makes a step or {part: step}}.
-- Figures are medians over the rounds, ratios are ours / the peer's best variant of that case.

local core = require "perigee.core"
local measure = require "spec.bench.measure"
local peer = require "spec.bench.peer"

local HELP = [[
./dev bench [option ...] [case ...]     times the cases named, or all of them

  --rounds N      medians over N rounds (7)
  --quick         leaves out what the peer has to compile first (torch.compile)
  --seconds S     one timing takes about S seconds
  --json FILE     writes everything that was measured to FILE
  --list          names the cases
  --help          this

PERIGEE_PEER_PYTHON names a Python that has torch; without it only our own times are printed.
PERIGEE_NUM_THREADS sets the threads of both.]]

local function parse(words)
  local option = {rounds = 7, names = {}}
  local i = 1
  local function value()
    i = i + 1
    return words[i] or error(words[i - 1] .. " needs a value", 0)
  end
  while words[i] do
    local word = words[i]
    if word == "--rounds" then
      option.rounds = math.tointeger(tonumber(value())) or error("--rounds needs a whole number", 0)
    elseif word == "--seconds" then
      option.seconds = tonumber(value()) or error("--seconds needs a number", 0)
    elseif word == "--json" then
      option.json = value()
    elseif word == "--quick" or word == "--list" or word == "--help" then
      option[word:sub(3)] = true
    elseif word:sub(1, 1) == "-" then
      error(("unknown option %s; --help tells all"):format(word), 0)
    else
      option.names[#option.names + 1] = word
    end
    i = i + 1
  end
  return option
end

local function seconds_text(s)
  if s < 1e-6 then return ("%.1f ns"):format(s * 1e9) end
  if s < 1e-3 then return ("%.2f us"):format(s * 1e6) end
  return ("%.2f ms"):format(s * 1e3)
end

local function rate_text(r)
  if r.flop then return ("%.1f GF/s"):format(r.flop / r.ours / 1e9) end
  if r.bytes then return ("%.1f GB/s"):format(r.bytes / r.ours / 1e9) end
  return "-"
end

local ROW = "%-30s %11s %11s %-18s %7s %11s"

local function print_row(label, r)
  print(ROW:format(label, seconds_text(r.ours), r.best and seconds_text(r.peers[r.best]) or "-",
    r.best or "-", r.ratio and ("%.3f"):format(r.ratio) or "-", rate_text(r)))
end

--- One row and the peer's other variants; or a row a part, their geometric mean and the worst.
local function print_results(label, results)
  if #results == 1 and results[1].name == "" then
    local r = results[1]
    print_row(label, r)
    local others = {}
    for variant in pairs(r.peers) do others[#others + 1] = variant ~= r.best and variant or nil end
    table.sort(others)
    for _, variant in ipairs(others) do
      print(ROW:format("", "", seconds_text(r.peers[variant]), variant, "", ""))
    end
    return
  end
  print(label)
  local logs, n, worst = 0, 0, nil
  for _, r in ipairs(results) do
    print_row("  " .. r.name, r)
    if r.ratio then
      logs, n = logs + math.log(r.ratio), n + 1
      if not worst or r.ratio > worst.ratio then worst = r end
    end
  end
  if n == 0 then return end
  print(("  geometric mean of %d ratios %.3f, worst %.3f (%s)"):format(n, math.exp(logs / n),
    worst.ratio, worst.name))
end

local function time_cases(names, run)
  print(ROW:format("case", "ours", "peer", "its variant", "ratio", "rate"))
  local all = {}
  for _, name in ipairs(names) do
    local case = measure.load(name)
    local rows = {{label = name, option = {}}}
    if case.bf16 and measure.has_autocast() then
      rows[2] = {label = name .. " bf16", option = {precision = "bfloat16"}}
    end
    for _, row in ipairs(rows) do
      local results = measure.case(name, row.option, run)
      print_results(row.label, results)
      all[#all + 1] = {case = row.label, parts = results}
      collectgarbage()
    end
    if case.remark then print("  " .. case.remark()) end
  end
  return all
end

local option = parse(arg)
if option.help then
  print(HELP)
  return
end
if option.list then
  print(table.concat(measure.names(), "\n"))
  return
end
local names = #option.names > 0 and option.names or measure.names()
local remote, why = peer.start(os.getenv "PERIGEE_PEER_PYTHON", measure.folder, core.num_threads())
print(("processor: %s, level %s, %d threads"):format(core.processor(), core.isa(),
  core.num_threads()))
print("peer: " .. (remote and remote.version or why))
local report = {processor = core.processor(), level = core.isa(), threads = core.num_threads(),
  peer = remote and remote.version or "none", date = os.date "!%Y-%m-%dT%H:%M:%SZ"}
report.results = time_cases(names, {remote = remote, rounds = option.rounds, quick = option.quick,
  seconds = option.seconds})
if remote then remote:stop() end
if option.json then
  local file = assert(io.open(option.json, "w"))
  file:write(core.io.json_encode(report), "\n")
  file:close()
end
