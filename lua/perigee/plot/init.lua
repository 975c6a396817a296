--- Pictures of experiments: `plot.scatter(features, {...}):save("features.png")`.
-- Relies on plot/scatter.lua and plot/line.lua.
-- Spec: spec/plot/scatter_spec.lua, spec/plot/line_spec.lua.

local M = {
  scatter = require "perigee.plot.scatter",
  line = require "perigee.plot.line",
}

return M
