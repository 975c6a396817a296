--- What every plot shares: title, labels, ticks at round numbers, grid, legend, and the map from
-- data to points on the page.
-- Relies on perigee.cairo's canvas, which the caller passes in.
-- Spec: spec/plot/axes_spec.lua.

local M = {}

local INK = {0.13, 0.14, 0.16}
local SOFT = {0.36, 0.38, 0.42}
local GRID = {0.90, 0.91, 0.925}
local FRAME = {0.62, 0.64, 0.67}
local FONT = {title = 15, label = 12.5, tick = 11, legend = 11.5}

--- A round step that cuts a range into at most `most` parts: 1, 2, 2.5 or 5 times a power of ten.
-- @param range length of the range
-- @param most how many parts there may be
-- @param whole only whole numbers
function M.step(range, most, whole)
  local rough = range / math.max(most, 1)
  local power = 10.0 ^ math.floor(math.log(rough, 10))
  for _, factor in ipairs {1, 2, 2.5, 5, 10} do
    local candidate = factor * power
    local fits = not whole or (candidate >= 1 and candidate == math.floor(candidate))
    if fits and candidate >= rough * (1 - 1e-9) then return candidate end
  end
  return whole and math.max(1, math.ceil(rough)) or 10 * power
end

--- The multiples of step between lo and hi.
-- @return list of numbers, how many decimals they need
function M.ticks(lo, hi, step)
  local decimals = 0
  while decimals < 12 and math.abs(step * 10 ^ decimals - math.floor(step * 10 ^ decimals + 0.5))
      > 1e-6 * step * 10 ^ decimals do
    decimals = decimals + 1
  end
  local list = {}
  for k = math.ceil(lo / step - 1e-9), math.floor(hi / step + 1e-9) do
    list[#list + 1] = k * step
  end
  return list, decimals
end

--- A number as text with a true minus sign.
function M.format(value, decimals)
  local text
  local size = math.abs(value)
  if size >= 1e6 or (size > 0 and size < 1e-4) then
    text = ("%g"):format(value):gsub("e%+?(-?)0*", "e%1")
  else
    text = ("%." .. decimals .. "f"):format(value)
    if tonumber(text) == 0 then text = text:gsub("^-", "") end
  end
  return (text:gsub("-", "\u{2212}"))
end

-- Ticks of a logarithmic axis whose data are powers of ten: list of {place, text}.
local function log_ticks(lo, hi, most)
  local list = {}
  local step = math.max(1, math.ceil((hi - lo) / most))
  local factors = 3 * (hi - lo) <= most + 1 and {1, 2, 5} or {1}
  for power = math.floor(lo), math.ceil(hi), step do
    for _, factor in ipairs(factors) do
      local at = power + math.log(factor, 10)
      if at >= lo - 1e-9 and at <= hi + 1e-9 then
        local value = factor * 10.0 ^ power
        local decimals = math.max(0, -power)
        list[#list + 1] = {at, M.format(value, decimals)}
      end
    end
  end
  return list
end

-- Ticks as a list of {place, text}; opt: whole, log, step (a step to use instead of a fitting one).
local function tick_list(lo, hi, most, opt)
  local list = {}
  if opt.log then
    list = log_ticks(lo, hi, most)
    if #list >= 2 then return list end
    list = {}
    for k, v in ipairs((M.ticks(lo, hi, M.step(hi - lo, most)))) do
      list[k] = {v, ("%.3g"):format(10.0 ^ v)}
    end
    return list
  end
  local values, decimals = M.ticks(lo, hi, opt.step or M.step(hi - lo, most, opt.whole))
  for k, v in ipairs(values) do list[k] = {v, M.format(v, decimals)} end
  return list
end

--- Widens a range that is empty or of one number, and leaves some air around it.
-- @param lo, hi least and greatest value; nil where there is none
-- @param share air on each side, as a share of the range (0.05)
function M.range(lo, hi, share)
  if not lo then return 0, 1 end
  if lo == hi then
    local reach = lo == 0 and 1 or math.abs(lo) * 0.1
    return lo - reach, hi + reach
  end
  local air = (hi - lo) * (share or 0.05)
  return lo - air, hi + air
end

-- Draws text with its left (0), middle (0.5) or right (1) at x, baseline at y.
local function put(canvas, x, y, text, align, color)
  local _, _, _, _, advance = canvas:extents(text)
  canvas:text(x - advance * align, y, text):fill(color[1], color[2], color[3])
end
M.put = put

--- Draws text with a halo that keeps it readable over data; middle at x, baseline at y.
function M.put_over(canvas, x, y, text, color, halo)
  local _, _, _, _, advance = canvas:extents(text)
  canvas:text(x - advance / 2, y, text)
  canvas:stroke(halo or 3, 1, 1, 1, 0.92)
  canvas:text(x - advance / 2, y, text):fill(color[1], color[2], color[3])
end

local function widest(canvas, texts)
  local most = 0
  for _, text in ipairs(texts) do
    local _, _, _, _, advance = canvas:extents(text)
    most = math.max(most, advance)
  end
  return most
end

local ROW = 19 -- points a legend's row takes
local MARK = 22 -- and its mark

-- Size of a legend: {width, height, columns, rows, column width}.
local function legend_size(canvas, entries, room)
  canvas:font(FONT.legend)
  local names = {}
  for k, entry in ipairs(entries) do names[k] = entry.name end
  local rows = math.max(1, math.min(#entries, math.floor(room / ROW)))
  local columns = math.ceil(#entries / rows)
  rows = math.ceil(#entries / columns)
  local each = MARK + widest(canvas, names) + 12
  return {width = columns * each, height = rows * ROW, rows = rows, each = each}
end

local function draw_legend(canvas, entries, size, x, y)
  canvas:font(FONT.legend)
  for k, entry in ipairs(entries) do
    local column, row = (k - 1) // size.rows, (k - 1) % size.rows
    local left, middle = x + column * size.each, y + row * ROW + ROW / 2
    local c = entry.color
    if entry.kind == "line" then
      canvas:move(left, middle):line(left + 16, middle):stroke(2.4, c[1], c[2], c[3], 1, entry.dash)
    else
      canvas:circle(left + 8, middle, 4.8):fill(c[1], c[2], c[3])
    end
    put(canvas, left + MARK, middle + 4, entry.name, 0, INK)
  end
end

-- The corner of the box (0 or 1 each way) where a legend hides least.
local function emptiest(spec, box, size)
  local best, least
  for _, corner in ipairs {{1, 0}, {0, 0}, {1, 1}, {0, 1}} do
    local x = corner[1] == 0 and box.x + 12 or box.x + box.width - size.width - 12
    local y = corner[2] == 0 and box.y + 12 or box.y + box.height - size.height - 12
    local covered = spec.covered and spec.covered(x, y, x + size.width, y + size.height) or 0
    if not least or covered < least then best, least = {x, y}, covered end
  end
  return best[1], best[2]
end

--- Draws axes and, inside them, what spec.paint draws.
-- @param canvas a canvas of perigee.cairo, with a size of spec.width x spec.height points
-- @param spec table: width, height, title, xlabel, ylabel; xlim and ylim ({lo, hi}); equal (one
--   unit is as long on both axes: the shorter range grows); whole (whole numbers on the x axis);
--   ylog (y data are powers of ten); legend (list of {name, color, kind = "disc" | "line"}),
--   legend_inside, covered(x0, y0, x1, y1) (how much a legend there would hide);
--   prepare(map) (called before the legend is placed); paint(canvas, map, box)
-- The map has sx, ox, sy, oy: a point x, y of the data lies at x sx + ox, y sy + oy.
function M.draw(canvas, spec)
  local width, height = spec.width, spec.height
  canvas:rect(0, 0, width, height):fill(1, 1, 1)

  local top = spec.title and 44 or 18
  local bottom = 30 + (spec.xlabel and 22 or 4)
  local right, legend = 20, nil
  local entries = spec.legend or {}
  if #entries > 0 then
    legend = legend_size(canvas, entries, height - top - bottom - (spec.legend_inside and 24 or 0))
    if not spec.legend_inside then right = legend.width + 22 end
  end

  local left, box, xlim, ylim, xticks, yticks = 60, nil, nil, nil, nil, nil
  for _ = 1, 2 do -- labels of the y axis decide the left margin, which decides the ranges
    box = {x = left, y = top, width = width - left - right, height = height - top - bottom}
    xlim, ylim = {spec.xlim[1], spec.xlim[2]}, {spec.ylim[1], spec.ylim[2]}
    if spec.equal then
      local unit = math.max((xlim[2] - xlim[1]) / box.width, (ylim[2] - ylim[1]) / box.height)
      local grow_x = (unit * box.width - (xlim[2] - xlim[1])) / 2
      local grow_y = (unit * box.height - (ylim[2] - ylim[1])) / 2
      xlim = {xlim[1] - grow_x, xlim[2] + grow_x}
      ylim = {ylim[1] - grow_y, ylim[2] + grow_y}
    end
    local across, down = math.max(2, box.width // 64), math.max(2, box.height // 50)
    local step = spec.equal
      and math.max(M.step(xlim[2] - xlim[1], across), M.step(ylim[2] - ylim[1], down)) or nil
    xticks = tick_list(xlim[1], xlim[2], across, {whole = spec.whole, step = step})
    yticks = tick_list(ylim[1], ylim[2], down, {log = spec.ylog, step = step})
    canvas:font(FONT.tick)
    local texts = {}
    for k, tick in ipairs(yticks) do texts[k] = tick[2] end
    left = math.ceil(widest(canvas, texts)) + 14 + (spec.ylabel and 28 or 10)
  end
  local sx, sy = box.width / (xlim[2] - xlim[1]), -box.height / (ylim[2] - ylim[1])
  local map = {sx = sx, ox = box.x - xlim[1] * sx, sy = sy, oy = box.y - ylim[2] * sy}

  canvas:font(FONT.tick)
  local base = box.y + box.height
  for _, tick in ipairs(xticks) do
    local x = tick[1] * map.sx + map.ox
    canvas:move(x, box.y):line(x, base):stroke(0.8, GRID[1], GRID[2], GRID[3])
    canvas:move(x, base):line(x, base + 4):stroke(0.9, FRAME[1], FRAME[2], FRAME[3])
    put(canvas, x, base + 17, tick[2], 0.5, SOFT)
  end
  for _, tick in ipairs(yticks) do
    local y = tick[1] * map.sy + map.oy
    canvas:move(box.x, y):line(box.x + box.width, y):stroke(0.8, GRID[1], GRID[2], GRID[3])
    canvas:move(box.x - 4, y):line(box.x, y):stroke(0.9, FRAME[1], FRAME[2], FRAME[3])
    put(canvas, box.x - 8, y + 4, tick[2], 1, SOFT)
  end

  if spec.prepare then spec.prepare(map) end
  canvas:save()
  canvas:rect(box.x, box.y, box.width, box.height):clip()
  spec.paint(canvas, map, box)
  canvas:restore()

  canvas:rect(box.x, box.y, box.width, box.height):stroke(0.9, FRAME[1], FRAME[2], FRAME[3])
  if spec.title then
    canvas:font(FONT.title, true)
    put(canvas, box.x + box.width / 2, 28, spec.title, 0.5, INK)
  end
  canvas:font(FONT.label)
  if spec.xlabel then
    put(canvas, box.x + box.width / 2, height - 12, spec.xlabel, 0.5, INK)
  end
  if spec.ylabel then
    canvas:save()
    canvas:translate(20, box.y + box.height / 2):rotate(-math.pi / 2)
    put(canvas, 0, 0, spec.ylabel, 0.5, INK)
    canvas:restore()
  end
  if legend and spec.legend_inside then
    local x, y = emptiest(spec, box, legend)
    canvas:rect(x - 7, y - 5, legend.width + 6, legend.height + 10, 4)
    canvas:fill(1, 1, 1, 0.88, true):stroke(0.8, GRID[1], GRID[2], GRID[3])
    draw_legend(canvas, entries, legend, x, y)
  elseif legend then
    draw_legend(canvas, entries, legend, box.x + box.width + 16, box.y + 2)
  end
end

return M
