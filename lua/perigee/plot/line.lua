--- plot.line: curves over steps or epochs, such as the history of a fit.
-- Relies on perigee.core, plot/axes.lua, plot/figure.lua, plot/colors.lua.
-- Spec: spec/plot/line_spec.lua.

local core = require "perigee.core"
local util = require "perigee.util"
local blame = require "perigee.blame"
local axes = require "perigee.plot.axes"
local colors = require "perigee.plot.colors"
local Figure = require "perigee.plot.figure"

local FN = "plot.line"

local function refuse(fmt, ...) blame.raise(FN .. ": " .. fmt, ...) end

-- A list of numbers or a 1-d tensor as an array of floats.
local function numbers(what, list)
  if core.is_tensor(list) then
    if #list.shape ~= 1 then
      refuse("%s: expected one dimension, got [%s]", what, table.concat(list.shape, " x "))
    end
    list = list:detach():to("float64"):totable()
  elseif type(list) ~= "table" then
    refuse("%s: expected a list of numbers or a tensor, got %s", what, util.type_name(list))
  end
  local values = {}
  for k, v in ipairs(list) do
    if core.is_tensor(v) and v:numel() == 1 then v = v:item() end
    if type(v) ~= "number" then refuse("%s: number %d is a %s", what, k, util.type_name(v)) end
    values[k] = v + 0.0
  end
  return values
end

-- What the caller gave -> list of {name, values}, and x values where a history has them.
local function series_of(given, order)
  if type(given) == "table" and type(rawget(given, "history")) == "table" then
    local list, epoch = series_of(given.history, order), rawget(given, "epoch")
    return list, type(epoch) == "table" and #epoch > 0 and epoch or nil
  end
  if core.is_tensor(given) then
    return {{name = "", values = numbers("argument 'series'", given)}}
  end
  if type(given) ~= "table" then
    refuse("argument 'series': expected a table of lists, a history, a list or a tensor, got %s",
      util.type_name(given))
  end
  if type(given[1]) == "number" then
    return {{name = "", values = numbers("argument 'series'", given)}}
  end
  local list, names = {}, order
  if not names then
    names = {}
    for _, key in ipairs(util.sorted_keys(given)) do
      if type(given[key]) == "table" or core.is_tensor(given[key]) then names[#names + 1] = key end
    end
  end
  for k, name in ipairs(names) do
    if given[name] == nil then
      local near = util.suggest(name, util.sorted_keys(given))
      refuse("option 'order': there is no series %s%s", util.show(name),
        near and (", did you mean '%s'?"):format(near) or "")
    end
    local text = tostring(name)
    list[k] = {name = text, values = numbers(("series '%s'"):format(text), given[name])}
  end
  if #list == 0 then refuse "argument 'series': there is no list of numbers in it" end
  return list
end

-- A running mean with weight w on the past, started without bias.
local function smoothed(values, w)
  local result, mean, weight = {}, 0.0, 0.0
  for k, v in ipairs(values) do
    if v == v and math.abs(v) < math.huge then
      mean = w * mean + (1 - w) * v
      weight = w * weight + (1 - w)
    end
    result[k] = weight > 0 and mean / weight or v
  end
  return result
end

local function pack(x, y, log)
  local parts = {}
  for k = 1, #y do
    local v = y[k]
    if log then v = v > 0 and math.log(v, 10) or 0 / 0 end
    parts[k] = string.pack("=dd", x[k] or k, v)
  end
  return table.concat(parts)
end

--- Curves: one for each list of numbers.
-- @param series table name -> list or 1-d tensor, the history that `fit` returns, or one list
-- @param opt table: x (their common x values; default 1, 2, ..), order (list of names: which
--   curves, in which order), title, xlabel, ylabel, width (720) and height (440) in points, log (a
--   logarithmic y axis), smooth (0..1: a running mean with this weight on the past, over the
--   faint original), colors, legend (true), ylim ({lo, hi})
-- @return a figure: `:save("x.png" | "x.svg" | "x.pdf")`
local function line(series, opt)
  opt = util.options(FN, opt, {"x", "order", "title", "xlabel", "ylabel", "smooth", "colors",
    "ylim", width = 720, height = 440, log = false, legend = true})
  local list, epochs = series_of(series, opt.order)
  local x = opt.x ~= nil and numbers("option 'x'", opt.x) or epochs and numbers("epochs", epochs)
    or {}
  for _, name in ipairs {"width", "height"} do
    local value = opt[name]
    if not (type(value) == "number" and value > 0 and value < 20000) then
      refuse("option '%s': expected a positive number, got %s", name, util.show(value))
    end
  end
  local smooth = opt.smooth or 0
  if not (type(smooth) == "number" and smooth >= 0 and smooth < 1) then
    refuse("option 'smooth': expected 0 up to but not 1, got %s", util.show(smooth))
  end
  local palette = colors.list(#list, opt.colors, FN)
  local whole, longest, legend = true, 0, {}
  for _, v in ipairs(x) do whole = whole and v == math.floor(v) end
  for k, item in ipairs(list) do
    if opt.x ~= nil and #item.values ~= #x then
      refuse("option 'x': series '%s' has %d values, x has %d", item.name, #item.values, #x)
    end
    longest = math.max(longest, #item.values)
    item.bytes = pack(x, item.values, opt.log)
    item.over = smooth > 0 and pack(x, smoothed(item.values, smooth), opt.log)
    if item.name ~= "" then
      legend[#legend + 1] = {name = item.name, color = palette[k], kind = "line"}
    end
  end
  if not opt.legend or #legend == 0 then legend = {} end

  return Figure(opt.width, opt.height, function(canvas, cairo)
    local all = {}
    for k, item in ipairs(list) do all[k] = item.bytes end
    all = table.concat(all)
    local x0, x1, y0, y1 = cairo.bounds(all)
    local ylim = {axes.range(y0, y1, 0.07)}
    if opt.ylim then
      ylim = opt.log and {math.log(opt.ylim[1], 10), math.log(opt.ylim[2], 10)}
        or {opt.ylim[1], opt.ylim[2]}
    end
    local map
    axes.draw(canvas, {
      width = opt.width, height = opt.height, title = opt.title, xlabel = opt.xlabel,
      ylabel = opt.ylabel, xlim = {axes.range(x0, x1, longest > 30 and 0.01 or 0.03)}, ylim = ylim,
      whole = whole, ylog = opt.log, legend = legend, legend_inside = true,
      prepare = function(m) map = m end,
      covered = function(left, top, right, bottom)
        local hidden = 0
        for _, item in ipairs(list) do
          local count = #item.bytes // 16
          local px, py
          for k = 1, count, math.max(1, count // 400) do
            local vx, vy = string.unpack("=dd", item.bytes, 16 * k - 15)
            local qx, qy = vx * map.sx + map.ox, vy * map.sy + map.oy
            if qy == qy then
              for part = 0, px and 9 or 0 do -- what lies between two points counts too
                local ax = qx + ((px or qx) - qx) * part / 10
                local ay = qy + ((py or qy) - qy) * part / 10
                if ax >= left - 8 and ax <= right + 8 and ay >= top - 8 and ay <= bottom + 8 then
                  hidden = hidden + 1
                end
              end
              px, py = qx, qy
            end
          end
        end
        return hidden
      end,
      paint = function(_, m)
        for k, item in ipairs(list) do
          local c = palette[k]
          canvas:polyline(item.bytes, m.sx, m.ox, m.sy, m.oy)
          if item.over then
            canvas:stroke(1, c[1], c[2], c[3], 0.3)
            canvas:polyline(item.over, m.sx, m.ox, m.sy, m.oy)
          end
          canvas:stroke(2, c[1], c[2], c[3], 1)
          if #item.values <= 30 then
            canvas:points(item.bytes, m.sx, m.ox, m.sy, m.oy, 4.4, 1, 1, 1, 1)
            canvas:points(item.bytes, m.sx, m.ox, m.sy, m.oy, 3.1, c[1], c[2], c[3], 1)
          end
        end
      end,
    })
  end)
end

return line
