--- ./dev bench --memory: the most memory that a process has held after STEPS steps of a training
-- case, ours and the peer's, each in a process of its own; and how much of it came on top of what
-- the libraries held when they were loaded.
-- Relies on /proc/self/status, spec/bench/measure.lua and spec/bench/peer.py.

local core = require "perigee.core"
local measure = require "spec.bench.measure"
local text = require "spec.bench.text"

local M = {title = "memory high-water mark of the process (in brackets: beyond that of loading it)"}

local STEPS = 6
local ROW = "%-26s %21s %21s  %-27s %7s %9s %13s"

--- A figure of this process in bytes, as the system counts: VmHWM (at most), VmRSS (now).
local function held(what)
  local file = assert(io.open "/proc/self/status")
  local kib = file:read "a":match(what .. ":%s*(%d+)")
  file:close()
  return kib * 1024
end

--- In a process of its own: runs a case and prints the bytes the process held at most, before the
-- case, and our tensors at most.
function M.alone(name, precision)
  local before = held "VmRSS"
  local parts = measure.parts(measure.load(name), {precision = precision})
  for _ = 1, STEPS do parts[1].step() end
  print(("%d %d %d"):format(held "VmHWM", before, core.memory().peak))
end

local function output_of(command)
  local pipe = assert(io.popen(command))
  local output = pipe:read "a"
  local ok = pipe:close()
  if not ok then error("this failed: " .. command, 0) end
  return output
end

--- @return {most=, before=, tensors=} in bytes
local function ours(name, precision)
  local chunk = ('require("spec.bench.memory").alone(%q, %s)'):format(name,
    precision and ("%q"):format(precision) or "nil")
  local most, before, tensors = output_of(("lua5.4 -e '%s'"):format(chunk))
    :match "(%d+) (%d+) (%d+)"
  return {most = tonumber(most), before = tonumber(before), tensors = tonumber(tensors)}
end

--- {variant = {most=, before=}} of the peer, without what it would have to compile.
local function theirs(name, precision, threads)
  local python = os.getenv "PERIGEE_PEER_PYTHON"
  if not python or python == "" then return {} end
  local command = ("'%s' spec/bench/peer.py %s %d memory %s %d %s"):format(python, measure.folder,
    threads, name, STEPS, precision or "float32")
  local found = {}
  for _, variant in ipairs(core.io.json_decode(output_of(command))) do
    found[variant] = core.io.json_decode(output_of(("%s '%s'"):format(command, variant)))
  end
  return found
end

local function both(r)
  if not r then return "-" end
  return ("%s (%s)"):format(text.megabytes(r.most), text.megabytes(r.most - r.before))
end

--- Measures the training cases among those named.
-- @return list of {case=, ours=, peers=, best=, ratio=}, in bytes
function M.run(names)
  print(ROW:format("case", "ours", "peer", "its variant", "ratio", "(beyond)", "our tensors"))
  local all = {}
  for _, name in ipairs(names) do
    local case = measure.load(name)
    for _, row in ipairs(case.training and measure.rows(name, case) or {}) do
      local precision = row.option.precision
      local r = {case = row.label, ours = ours(name, precision),
        peers = theirs(name, precision, core.num_threads())}
      for variant, bytes in pairs(r.peers) do
        if not r.best or bytes.most < r.peers[r.best].most then r.best = variant end
      end
      local best = r.best and r.peers[r.best]
      if best then
        r.ratio = r.ours.most / best.most
        r.ratio_beyond = (r.ours.most - r.ours.before) / (best.most - best.before)
      end
      print(ROW:format(r.case, both(r.ours), both(best), r.best or "-",
        best and ("%.3f"):format(r.ratio) or "-",
        best and ("(%.3f)"):format(r.ratio_beyond) or "-", text.megabytes(r.ours.tensors)))
      all[#all + 1] = r
    end
  end
  return all
end

return M
