--- The benchmarks: Perigee and its peer take turns, with the same number of threads, in one run.
-- A case is spec/bench/cases/NAME.lua, and NAME.py for the peer. It returns a table:
--   setup(pg, option) -> step, or a list of parts {name=, step=, flop=, bytes=, items=, seconds=}
--                        (what one step does, for the rate; how long one timing takes)
--   seconds              that one timing takes, about (0.1; of a part 0.02)
--   bf16 = true          it has a second row, with option.precision = "bfloat16"
--   threads = true       --threads runs it; or a function of a part's name: those parts
--   growth               sizes for --growth (growth.lua)
--   every_variant = true the peer's variants beside the best are always shown
--   remark()             a line under the rows
-- training.lua makes a case of a model, a loss and an optimizer. The peer's file has
-- variants(**option) -> {variant: function that makes a step or {part: step}} (peer.py).
-- Figures are medians over the rounds, ratios are ours / the peer's best variant of that part. GF/s
-- count the products of the definition: a fast algorithm may pass the processor's peak.

local core = require "perigee.core"
local measure = require "spec.bench.measure"
local peer = require "spec.bench.peer"
local text = require "spec.bench.text"

local HELP = [[
./dev bench [option ...] [case ...]     times the cases named, or all of them

  --memory        instead: the memory high-water mark of each training case
  --threads       instead: cases with one thread and with all of them
  --growth        instead: time against batch, width, classes
  --all           times, memory, threads and growth
  --every         shows every variant of the peer, not only the best
  --rounds N      medians over N rounds (7)
  --seconds S     one timing takes about S seconds (0.1; of a part of a case 0.02)
  --quick         leaves out what the peer has to compile first (torch.compile)
  --json FILE     writes everything that was measured to FILE
  --svg FOLDER    writes growth curves as pictures to FOLDER
  --list          names the cases
  --help          this

PERIGEE_PEER_PYTHON names a Python that has torch; without it only our own figures are printed.
PERIGEE_NUM_THREADS sets the threads of both (default: all cores).]]

local FLAGS = {memory = true, threads = true, growth = true, all = true, every = true,
  quick = true, list = true, help = true}
local VALUES = {rounds = "a whole number", seconds = "a number", json = "a file", svg = "a folder"}

local function parse(words)
  local option, names, i = {rounds = 7}, {}, 1
  while words[i] do
    local name = words[i]:match "^%-%-(.+)$"
    if not name and words[i]:sub(1, 1) ~= "-" then
      names[#names + 1] = words[i]
    elseif FLAGS[name] then
      option[name] = true
    elseif VALUES[name] then
      i = i + 1
      local value = words[i]
      if name == "seconds" then value = tonumber(value) end
      if name == "rounds" then value = math.tointeger(tonumber(value)) end
      option[name] = value or error(("--%s: expected %s, got %s"):format(name, VALUES[name],
        words[i] or "nothing"), 0)
    else
      error(("unknown option %s; --help tells all"):format(words[i]), 0)
    end
    i = i + 1
  end
  return option, names
end

--- What the machine allows: {threads = {fma=, bf16=, copy=}}, in GF/s and GB/s; empty tables where
-- the program that measures it was not built.
local function measured_peaks(threads)
  local peaks = {[1] = {}, [threads] = {}}
  local program = io.open "build/bench_peaks"
  if not program then return peaks end
  program:close()
  local pipe = assert(io.popen(("build/bench_peaks %d"):format(threads)))
  for line in pipe:lines() do
    local name, n, figure = line:match "^(%w+) (%d+) ([%d.]+)$"
    peaks[tonumber(n)][name] = tonumber(figure)
  end
  pipe:close()
  return peaks
end

local function print_peaks(n, p)
  if not p.fma then return end
  print(("peaks, %d thread%s: float32 FMA %.0f GF/s%s, copy %.1f GB/s"):format(n,
    n == 1 and "" or "s", p.fma, p.bf16 and (", bfloat16 %.0f GF/s"):format(p.bf16) or "", p.copy))
end

local function time_cases(names, run)
  print(text.header())
  local all = {}
  for _, name in ipairs(names) do
    local case = measure.load(name)
    for _, row in ipairs(measure.rows(name, case)) do
      local results = measure.case(name, row.option, run)
      print(text.case(row.label, results, run.peaks, row.option.precision,
        run.every or case.every_variant))
      all[#all + 1] = {case = row.label, parts = results}
    end
    if case.remark then
      local remark = case.remark()
      all[#all].remark = remark
      print("  " .. remark)
    end
  end
  return all
end

local function commit()
  local pipe = assert(io.popen "git describe --always --dirty 2>/dev/null")
  local word = pipe:read "l"
  pipe:close()
  return word or "unknown"
end

local function main(words)
  local run, names = parse(words)
  if run.help or run.list then
    print(run.help and HELP or table.concat(measure.names(), "\n"))
    return
  end
  for _, name in ipairs(names) do measure.load(name) end
  if #names == 0 then names = measure.names() end
  local threads = core.num_threads()
  local why
  run.remote, why = peer.start(os.getenv "PERIGEE_PEER_PYTHON", measure.folder, threads)
  local report = {processor = core.processor(), level = core.isa(), num_threads = threads,
    peer = run.remote and run.remote.version or "none", date = os.date "!%Y-%m-%dT%H:%M:%SZ",
    commit = commit()}
  print(("%s, commit %s"):format(report.date, report.commit))
  print(("processor: %s, level %s, %d threads"):format(report.processor, report.level, threads))
  print("peer: " .. (run.remote and run.remote.version or why))
  local peaks = measured_peaks(threads)
  print_peaks(1, peaks[1])
  if threads > 1 then print_peaks(threads, peaks[threads]) end
  report.peaks, run.peaks = {one = peaks[1], all = peaks[threads]}, peaks[threads]
  if run.all or not (run.memory or run.threads or run.growth) then
    report.results = time_cases(names, run)
  end
  for _, mode in ipairs {"memory", "threads", "growth"} do
    if run.all or run[mode] then
      local measured = require("spec.bench." .. mode)
      print("\n" .. measured.title)
      report[mode] = measured.run(names, run)
    end
  end
  if run.remote then run.remote:stop() end
  if run.json then
    local file = assert(io.open(run.json, "w"))
    file:write(core.io.json_encode(report), "\n")
    file:close()
  end
end

local ok, problem = xpcall(main, function(e)
  return type(e) == "string" and not e:find "^[%w_./]+:%d+:" and e or debug.traceback(e)
end, arg)
if not ok then
  io.stderr:write("bench: ", problem, "\n")
  os.exit(1)
end
