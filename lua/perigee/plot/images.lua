--- plot.images: a grid of small pictures, such as digits and what a model makes of them.
-- Relies on perigee.core, plot/axes.lua, plot/figure.lua.
-- Spec: spec/plot/images_spec.lua.

local core = require "perigee.core"
local util = require "perigee.util"
local blame = require "perigee.blame"
local axes = require "perigee.plot.axes"
local Figure = require "perigee.plot.figure"

local FN = "plot.images"
local INK = {0.13, 0.14, 0.16}

local function refuse(fmt, ...) blame.raise(FN .. ": " .. fmt, ...) end

-- n x 3 x height x width uint8, from what the caller gave.
local function pictures_of(t)
  if not core.is_tensor(t) then
    refuse("argument 'images': expected a tensor, got %s", util.type_name(t))
  end
  local shape = t.shape
  if #shape == 3 then
    t = t:unsqueeze(2)
  elseif #shape ~= 4 or (shape[2] ~= 1 and shape[2] ~= 3) then
    refuse("argument 'images': expected n x height x width or n x 1 or 3 x height x width, "
      .. "got [%s]", table.concat(shape, " x "))
  end
  t = t:detach()
  if t.dtype == "bool" then t = t:to("float32") end
  if t.dtype:find "float" then
    t = (t:nan_to_num(0):clamp(0, 1) * 255):round():to("uint8")
  elseif t.dtype ~= "uint8" then
    refuse("argument 'images': expected uint8, or floats in 0..1, got %s", t.dtype)
  end
  return t:size(2) == 1 and t:expand(-1, 3, -1, -1) or t
end

--- A grid of pictures, row by row.
-- @param images n x height x width, or n x channels x height x width with 1 channel (grey) or 3
--   (red, green, blue): uint8, or floats in 0..1, which are cut there
-- @param opt table: columns (the square root of n), zoom (points a pixel; a size that fills about
--   700 points), gap (points between pictures, 4), title, rows (a name for each row, at its left),
--   labels (a text for each picture, below it)
-- @return a figure: `:save("x.png" | "x.svg" | "x.pdf")`
local function images(given, opt)
  opt = util.options(FN, opt, {"columns", "zoom", "title", "rows", "labels", gap = 4})
  local t = pictures_of(given)
  local n, height, width = t:size(1), t:size(3), t:size(4)
  if n == 0 or height == 0 or width == 0 then
    refuse("argument 'images': there is nothing to show in [%s]", table.concat(given.shape, " x "))
  end
  local columns = util.expect(FN, "columns", opt.columns or math.ceil(math.sqrt(n)), "integer")
  if columns < 1 then refuse("option 'columns': expected 1 or more, got %d", columns) end
  columns = math.min(columns, n)
  local rows = (n + columns - 1) // columns
  local zoom = opt.zoom or math.max(1, math.min(4, 700 // (columns * width)))
  for name, value in pairs {zoom = zoom, gap = opt.gap} do
    if type(value) ~= "number" or not (value >= 0 and value < 1000) or name == "zoom" and value == 0
    then
      refuse("option '%s': expected a positive number, got %s", name, util.show(value))
    end
  end
  for name, count in pairs {rows = rows, labels = n} do
    local list = opt[name]
    if list ~= nil and (type(list) ~= "table" or #list ~= count) then
      refuse("option '%s': expected a list of %d texts, got %s", name, count,
        type(list) == "table" and #list or util.type_name(list))
    end
  end

  local tall, wide = height * zoom, width * zoom
  local below = opt.labels and 17 or 0
  local left, top = 14, opt.title and 44 or 14
  for _, name in ipairs(opt.rows or {}) do
    left = math.max(left, 30 + 7 * utf8.len(tostring(name)))
  end
  local whole_width = left + columns * (wide + opt.gap) - opt.gap + 14
  local whole_height = top + rows * (tall + below + opt.gap) - opt.gap + 14
  local rgb = t:permute(1, 3, 4, 2):contiguous():bytes()
  local size = 3 * height * width
  return Figure(whole_width, whole_height, function(canvas)
    canvas:rect(0, 0, whole_width, whole_height):fill(1, 1, 1)
    if opt.title then
      canvas:font(15, true)
      axes.put(canvas, whole_width / 2, 28, opt.title, 0.5, INK)
    end
    canvas:font(11.5)
    for k = 0, n - 1 do
      local x = left + k % columns * (wide + opt.gap)
      local y = top + k // columns * (tall + below + opt.gap)
      canvas:image(rgb:sub(k * size + 1, (k + 1) * size), width, height, x, y, wide, tall)
      if opt.labels then
        axes.put(canvas, x + wide / 2, y + tall + 12, tostring(opt.labels[k + 1]), 0.5, INK)
      end
    end
    for k, name in ipairs(opt.rows or {}) do
      local y = top + (k - 1) * (tall + below + opt.gap) + tall / 2 + 4
      axes.put(canvas, left - 10, y, tostring(name), 1, INK)
    end
  end)
end

return images
