--- A picture that can be saved as PNG, SVG or PDF; what is on it is drawn when it is saved.
-- Relies on perigee.cairo (optional in a build) and util.
-- Spec: spec/plot/scatter_spec.lua.

local util = require "perigee.util"

local FORMATS = {png = true, svg = true, pdf = true}

local Figure = util.class "Figure"

--- A figure of a size in points, drawn by draw(canvas, cairo).
function Figure:init(width, height, draw)
  self.width, self.height = width, height
  self._draw = draw
end

--- The picture as a string of the file's bytes.
-- @param format "png", "svg" or "pdf"
-- @param scale pixels a point, for PNG (2)
-- @return the bytes, or nil and a message where this build has no cairo
function Figure:bytes(format, scale)
  util.choice("figure:bytes", "format", format, {"png", "svg", "pdf"})
  local there, cairo = pcall(require, "perigee.cairo")
  if not there then return nil, "pictures need cairo, which this build of Perigee is without" end
  local canvas <close> = cairo.new(format, self.width, self.height, scale or 2)
  self._draw(canvas, cairo)
  return canvas:finish()
end

--- Writes the picture; the ending of the name says how: .png, .svg or .pdf.
-- @param path name of the file
-- @param opt table: scale (2), pixels a point in a PNG
-- @return the path, or nil and a message where the file cannot be written
function Figure:save(path, opt)
  util.expect("figure:save", "path", path, "string")
  opt = util.options("figure:save", opt, {scale = 2})
  util.expect("figure:save", "scale", opt.scale, "number")
  local format = (path:match "%.(%w+)$" or ""):lower()
  if not FORMATS[format] then
    error(("figure:save: argument 'path': expected a name ending in .png, .svg or .pdf, got %s")
      :format(util.show(path)), 2)
  end
  local bytes, message = self:bytes(format, opt.scale)
  if not bytes then return nil, path .. ": " .. message end
  local file
  file, message = io.open(path, "wb")
  if not file then return nil, message end
  local ok
  ok, message = file:write(bytes)
  local closed, late = file:close()
  if not ok or not closed then
    os.remove(path)
    return nil, path .. ": " .. tostring(message or late)
  end
  return path
end

return Figure
