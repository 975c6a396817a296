--- Pictures of experiments: `plot.scatter(features, {...}):save("features.png")`.
-- Relies on plot/scatter.lua, plot/line.lua and plot/images.lua.
-- Spec: spec/plot/scatter_spec.lua, spec/plot/line_spec.lua, spec/plot/images_spec.lua.

local M = {
  scatter = require "perigee.plot.scatter",
  line = require "perigee.plot.line",
  images = require "perigee.plot.images",
}

return M
