--- The colours of classes and curves.
-- Relies on blame.lua and util.lua.
-- Spec: spec/plot/scatter_spec.lua.

local blame = require "perigee.blame"
local util = require "perigee.util"

local M = {}

-- Ten hues that stay apart in print, on screens and for most colour-blind eyes: neighbours differ
-- in lightness too.
local CYCLE = {
  "#2469b3", "#f2841a", "#2f9e44", "#d6293e", "#8450ba",
  "#8c5a3c", "#e86fb0", "#6b7280", "#b5a612", "#14b1c8",
}

--- Red, green, blue in 0..1 of "#rrggbb" or of a list of three numbers; nil for anything else.
function M.parse(color)
  if type(color) == "string" then
    local r, g, b = color:match "^#(%x%x)(%x%x)(%x%x)$"
    if not r then return nil end
    return {tonumber(r, 16) / 255, tonumber(g, 16) / 255, tonumber(b, 16) / 255}
  elseif type(color) == "table" and #color == 3 then
    for _, part in ipairs(color) do
      if type(part) ~= "number" or not (part >= 0 and part <= 1) then return nil end
    end
    return {color[1], color[2], color[3]}
  end
  return nil
end

-- Hue in turns, saturation, lightness -> rgb.
local function hsl(hue, saturation, lightness)
  local reach = saturation * math.min(lightness, 1 - lightness)
  local function part(n)
    local k = (n + hue * 12) % 12
    return lightness - reach * math.max(-1, math.min(k - 3, 9 - k, 1))
  end
  return {part(0), part(8), part(4)}
end

--- n colours as {r, g, b}: the cycle of ten, and past it hues a golden section apart.
-- @param n how many
-- @param given list of colours that replaces the cycle and repeats, or nil
-- @param fn public function to blame for a colour that is none
function M.list(n, given, fn)
  local list = {}
  for k = 1, n do
    if given then
      local color = given[(k - 1) % #given + 1]
      list[k] = M.parse(color)
      if not list[k] then
        blame.raise("%s: option 'colors': expected '#rrggbb' or {r, g, b} in 0..1, got %s", fn,
          util.show(color))
      end
    elseif k <= #CYCLE then
      list[k] = M.parse(CYCLE[k])
    else
      list[k] = hsl((k * 0.61803398875) % 1, 0.55 + 0.2 * (k % 2), 0.38 + 0.12 * (k % 3))
    end
  end
  return list
end

return M
