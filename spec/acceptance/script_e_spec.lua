-- Script E of API.md, layers of one's own, runs as written; then everywhere it says it works.
-- Relies on spec/acceptance/run.lua.
-- Sources: lua/perigee/nn/module.lua, lua/perigee/nn/graph.lua.

-- luacheck: no max line length (the script stands as it is in API.md)
local run = require "spec.acceptance.run"

local BEFORE = [==[
local pg = require "perigee"
local nn = pg.nn
]==]

local SCRIPT = [==[
local Residual = nn.Module:extend "Residual"
function Residual:init(width)
  self.conv1 = nn.Conv2d(width, width, 3, {padding = 1})   -- modules and nn.Parameter fields are registered by name
  self.conv2 = nn.Conv2d(width, width, 3, {padding = 1})
end
function Residual:forward(x)
  return x + self.conv2(nn.functional.relu(self.conv1(x)))
end
local block = Residual(16)          -- works eagerly, inside nn.Sequential, and on nn.Input graphs
]==]

local CHECK = [==[
local x = pg.rand(2, 16, 8, 8)
local y = block(x)                                   -- eagerly
assert(y.shape[2] == 16 and y.shape[4] == 8)
assert(nn.Sequential({block, nn.Flatten()})(x).shape[2] == 1024)
local input = nn.Input {16, 8, 8}                    -- on a graph
local model = nn.Model(input, nn.Conv2d(16, 3, 1)(block(input)))
assert(model(x).shape[2] == 3)
assert(model:get("residual.conv1") == block.conv1)
local names = {}
for name in model:named_parameters() do names[#names + 1] = name end
assert(#names == 6 and names[1] == "residual.conv1.weight", table.concat(names, " "))
assert(model:save("block.perigee"))
assert(nn.load("block.perigee")(x):bytes() == model(x):bytes())
]==]

it("script E: own layers in Lua", function()
  run.script(BEFORE .. SCRIPT .. CHECK, {train = 10, test = 10}, function() end)
end)
