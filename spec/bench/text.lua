--- The benchmarks' figures as text.

local M = {}

local ROW = "%-26s %11s %11s  %-27s %7s %11s %6s"

function M.seconds(s)
  if s < 1e-6 then return ("%.1f ns"):format(s * 1e9) end
  if s < 1e-3 then return ("%.2f us"):format(s * 1e6) end
  if s < 10 then return ("%.2f ms"):format(s * 1e3) end
  return ("%.2f s"):format(s)
end

function M.megabytes(n) return ("%.1f MB"):format(n / 1e6) end

--- What a result says of the machine's use: a rate and, where a peak is known, the share of it.
local function rate(r, peaks, precision)
  local value, unit, peak
  if r.flop then
    value, unit = r.flop / r.ours / 1e9, "GF/s"
    peak = peaks[precision == "bfloat16" and "bf16" or "fma"]
  elseif r.bytes then
    value, unit, peak = r.bytes / r.ours / 1e9, "GB/s", peaks.copy
  elseif r.items then
    return ("%.0f k/s"):format(r.items / r.ours / 1e3), ""
  else
    return "", ""
  end
  return ("%.1f %s"):format(value, unit), peak and ("%.0f %%"):format(100 * value / peak) or ""
end

local function ratio(r) return r and ("%.3f"):format(r) or "-" end

function M.header()
  return ROW:format("case", "ours", "peer", "its variant", "ratio", "rate", "peak")
end

--- A row of a result; below it the peer's other variants, where they are wanted.
local function row(label, r, peaks, precision, every)
  local best = r.best
  local lines = {ROW:format(label, M.seconds(r.ours), best and M.seconds(r.peers[best]) or "-",
    best or "-", ratio(r.ratio), rate(r, peaks, precision))}
  local others = {}
  for variant in pairs(r.peers) do others[#others + 1] = variant ~= best and variant or nil end
  table.sort(others, function(a, b) return r.peers[a] < r.peers[b] end)
  for _, variant in ipairs(every and others or {}) do
    local t = r.peers[variant]
    lines[#lines + 1] = ROW:format("", "", M.seconds(t), variant, ratio(r.ours / t), "", "")
  end
  return table.concat(lines, "\n")
end

--- The results of a case as lines: of a case of many parts also their geometric mean and the worst.
-- @param label first word of the row
-- @param results what measure.case gives
-- @param peaks table: fma, bf16, copy of as many threads
-- @param precision "bfloat16" or nil
-- @param every the peer's variants beside the best are shown too
function M.case(label, results, peaks, precision, every)
  if #results == 1 and results[1].name == "" then
    return row(label, results[1], peaks, precision, every)
  end
  local lines, logs, n, worst = {label}, 0, 0, nil
  for _, r in ipairs(results) do
    lines[#lines + 1] = row("  " .. r.name, r, peaks, precision, every)
    if r.ratio then
      logs, n = logs + math.log(r.ratio), n + 1
      if not worst or r.ratio > worst.ratio then worst = r end
    end
  end
  if n > 1 then
    lines[#lines + 1] = ("  %d ratios: geometric mean %.3f, worst %.3f (%s)"):format(n,
      math.exp(logs / n), worst.ratio, worst.name)
  end
  return table.concat(lines, "\n")
end

return M
