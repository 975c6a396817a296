--- plot.scatter: points of the plane, coloured by class, with the centers of the classes: the
-- figure of Wen et al., "A Discriminative Feature Learning Approach for Deep Face Recognition",
-- ECCV 2016.
-- Relies on perigee.core, plot/axes.lua, plot/figure.lua, plot/colors.lua.
-- Spec: spec/plot/scatter_spec.lua.

local core = require "perigee.core"
local util = require "perigee.util"
local blame = require "perigee.blame"
local axes = require "perigee.plot.axes"
local colors = require "perigee.plot.colors"
local Figure = require "perigee.plot.figure"

local FN = "plot.scatter"

local function refuse(fmt, ...) blame.raise(FN .. ": " .. fmt, ...) end

-- Bytes of an n x 2 tensor as float64 pairs, and n.
local function pairs_of(name, t)
  if not core.is_tensor(t) then
    refuse("argument '%s': expected a tensor of n x 2, got %s", name, util.type_name(t))
  end
  local shape = t.shape
  if #shape ~= 2 or shape[2] ~= 2 then
    refuse("argument '%s': expected n x 2, got [%s]", name, table.concat(shape, " x "))
  end
  return t:detach():to("float64"):contiguous():bytes(), shape[1]
end

local function classes_of(label, n)
  if not core.is_tensor(label) then
    refuse("option 'label': expected a tensor of class numbers, got %s", util.type_name(label))
  end
  if label:numel() ~= n then
    refuse("option 'label': expected %d class numbers, one a point, got [%s]", n,
      table.concat(label.shape, " x "))
  end
  if label.dtype:find "float" then
    refuse("option 'label': expected whole numbers, got %s", label.dtype)
  end
  if n == 0 then return "", 0 end
  local whole = label:detach():to("int64"):contiguous()
  local least, most = whole:amin():item(), whole:amax():item()
  if least < 1 then refuse("option 'label': classes count from 1, got %d", least) end
  return whole:bytes(), most
end

-- A black disc with a white edge; a short name stands in it, a long one beside it.
local function draw_center(canvas, x, y, name)
  local short = utf8.len(name) <= 2
  local radius = short and 8.5 or 4.5
  canvas:circle(x, y, radius + 1.8):fill(1, 1, 1)
  canvas:circle(x, y, radius):fill(0.08, 0.08, 0.09)
  if short then
    canvas:font(10.5, true)
    axes.put(canvas, x, y + 3.8, name, 0.5, {1, 1, 1})
  end
end

--- A scatter plot of n points.
-- @param points tensor n x 2
-- @param opt table: label (n class numbers from 1), classes (their names), centers (C x 2, marked
--   with the class's name), title, xlabel, ylabel, width (760) and height (600) in points, size
--   (radius of a point in points), alpha (its opacity), colors (list of "#rrggbb" or {r, g, b}),
--   legend (true), equal (one unit as long on both axes; by default where the ranges allow it)
-- @return a figure: `:save("x.png" | "x.svg" | "x.pdf")`
local function scatter(points, opt)
  opt = util.options(FN, opt, {"label", "classes", "centers", "title", "xlabel", "ylabel", "size",
    "alpha", "colors", "equal", width = 760, height = 600, legend = true})
  local xy, n = pairs_of("points", points)
  local labels, most = nil, 1
  if opt.label ~= nil then labels, most = classes_of(opt.label, n) end
  local centers, n_centers = "", 0
  if opt.centers ~= nil then centers, n_centers = pairs_of("centers", opt.centers) end
  for _, name in ipairs {"title", "xlabel", "ylabel"} do
    if opt[name] ~= nil and type(opt[name]) ~= "string" then
      refuse("option '%s': expected a string, got %s", name, util.type_name(opt[name]))
    end
  end
  for _, name in ipairs {"width", "height", "size", "alpha"} do
    local value = opt[name]
    if value ~= nil and not (type(value) == "number" and value > 0 and value < 20000) then
      refuse("option '%s': expected a positive number, got %s", name, util.show(value))
    end
  end
  for _, name in ipairs {"classes", "colors"} do
    if opt[name] ~= nil and (type(opt[name]) ~= "table" or #opt[name] == 0) then
      refuse("option '%s': expected a list, got %s", name, util.show(opt[name]))
    end
  end
  local classes = math.max(labels and math.max(most, opt.classes and #opt.classes or 0) or 1,
    n_centers)
  local palette = colors.list(math.min(classes, 4096), opt.colors, FN)
  local function name_of(k)
    return opt.classes and opt.classes[k] ~= nil and tostring(opt.classes[k]) or tostring(k)
  end

  local size = opt.size or math.max(1.1, math.min(3.4, 60 / math.sqrt(math.max(n, 1))))
  local alpha = opt.alpha or (n > 20000 and 0.35 or n > 2000 and 0.55 or 0.8)
  local legend = {}
  if opt.legend and labels and classes <= 60 then
    for k = 1, classes do legend[k] = {name = name_of(k), color = palette[k], kind = "disc"} end
  end

  return Figure(opt.width, opt.height, function(canvas, cairo)
    local x0, x1, y0, y1 = cairo.bounds(xy .. centers)
    local equal = opt.equal
    if equal == nil and x0 then
      local long, short = math.max(x1 - x0, y1 - y0), math.min(x1 - x0, y1 - y0)
      equal = short > long / 4
    end
    axes.draw(canvas, {
      width = opt.width, height = opt.height, title = opt.title, xlabel = opt.xlabel,
      ylabel = opt.ylabel, xlim = {axes.range(x0, x1)}, ylim = {axes.range(y0, y1)},
      equal = equal and true or false, legend = legend,
      paint = function(_, map)
        for k = 1, labels and classes or 1 do
          local c = palette[(k - 1) % #palette + 1]
          canvas:points(xy, map.sx, map.ox, map.sy, map.oy, size, c[1], c[2], c[3], alpha,
            labels, labels and k or nil)
        end
        local long = {}
        for k = 1, n_centers do
          local x, y = string.unpack("=dd", centers, 16 * k - 15)
          if x == x and y == y and math.abs(x) < math.huge and math.abs(y) < math.huge then
            x, y = x * map.sx + map.ox, y * map.sy + map.oy
            draw_center(canvas, x, y, name_of(k))
            if utf8.len(name_of(k)) > 2 then long[#long + 1] = {x, y, name_of(k)} end
          end
        end
        canvas:font(11, true)
        for _, item in ipairs(long) do
          axes.put_over(canvas, item[1], item[2] - 10, item[3], {0.08, 0.08, 0.09})
        end
      end,
    })
  end)
end

return scatter
