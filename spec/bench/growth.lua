--- ./dev bench --growth: time against the sizes that a case declares,
-- growth = {{axis = "batch", values = {16, 32}}, ..}, given to its setup as option.batch.
-- Relies on spec/bench/measure.lua and perigee.plot.

local pg = require "perigee"
local measure = require "spec.bench.measure"
local text = require "spec.bench.text"

local M = {title = "growth"}

local ROW = "%-26s %9s %11s %11s %7s"

--- The exponent p of time = a size^p, by least squares over the logarithms of the upper half, where
-- what a step costs beside arithmetic weighs least.
local function exponent(sizes, times)
  local n, sx, sy, sxx, sxy = 0, 0, 0, 0, 0
  for k = #sizes // 2 + 1, #sizes do
    local x, y = math.log(sizes[k]), math.log(times[k])
    n, sx, sy, sxx, sxy = n + 1, sx + x, sy + y, sxx + x * x, sxy + x * y
  end
  return (n * sxy - sx * sy) / (n * sxx - sx * sx)
end

local function curve(name, axis, values, run)
  local c = {case = name, axis = axis, values = values, ours = {}, peer = {}}
  for k, value in ipairs(values) do
    local r = measure.case(name, {[axis] = value}, run)[1]
    c.ours[k], c.peer[k] = r.ours, r.best and r.peers[r.best]
    print(ROW:format(k == 1 and name .. ", " .. axis or "", ("%d"):format(value),
      text.seconds(r.ours), r.best and text.seconds(r.peers[r.best]) or "-",
      r.ratio and ("%.3f"):format(r.ratio) or "-"))
  end
  c.exponent = exponent(values, c.ours)
  local words = ("  time grows like %s^%.2f"):format(axis, c.exponent)
  if #c.peer == #values then
    c.peer_exponent = exponent(values, c.peer)
    words = ("%s, the peer's like %s^%.2f"):format(words, axis, c.peer_exponent)
  end
  print(words)
  return c
end

local function draw(c, folder)
  local x, series = {}, {Perigee = {}, peer = #c.peer == #c.values and {} or nil}
  for k, value in ipairs(c.values) do
    x[k] = math.log(value, 10)
    series.Perigee[k] = c.ours[k] * 1e3
    if series.peer then series.peer[k] = c.peer[k] * 1e3 end
  end
  local path = ("%s/%s_%s.svg"):format(folder, c.case, c.axis)
  pg.plot.line(series, {x = x, log = true, title = c.case, xlabel = "log10 of " .. c.axis,
    ylabel = "ms a step"}):save(path)
  print("  " .. path)
end

--- Measures the growth curves of the cases named.
-- @param run table: remote, rounds, seconds, svg (folder for pictures, or nil)
-- @return list of {case=, axis=, values=, ours=, peer=, exponent=, peer_exponent=}
function M.run(names, run)
  print(ROW:format("case", "size", "ours", "peer", "ratio"))
  local options = {remote = run.remote, rounds = run.rounds, seconds = run.seconds, quick = true}
  local all = {}
  for _, name in ipairs(names) do
    for _, g in ipairs(measure.load(name).growth or {}) do
      local c = curve(name, g.axis, g.values, options)
      if run.svg then draw(c, run.svg) end
      all[#all + 1] = c
    end
  end
  return all
end

return M
