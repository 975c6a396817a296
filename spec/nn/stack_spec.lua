-- Networks as people write them, with weights saved by PyTorch: residual blocks, Sequential in
-- Sequential, tied weights, lists and dicts; states that count from 0.
-- Relies on spec/helper/modules.lua and spec/fixtures/modules/stack.safetensors.
-- Sources: lua/perigee/nn/module.lua, lua/perigee/nn/sequential.lua.

local H = require "spec.helper"
local pg = require "perigee"
local nn = pg.nn
local F = nn.functional

local Residual = nn.Module:extend "Residual"
function Residual:init(inside, outside, stride)
  local plain = {bias = false}
  self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, plain)
  self.bn1 = nn.BatchNorm2d(outside)
  self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, plain)
  self.bn2 = nn.BatchNorm2d(outside)
  self.downsample = nn.Sequential {nn.Conv2d(inside, outside, 1, stride, plain),
    nn.BatchNorm2d(outside)}
end
function Residual:forward(x)
  local y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
  return F.relu(y + self.downsample(x))
end

local Tied = nn.Module:extend "Tied"
function Tied:init()
  self.parts = nn.ModuleDict {embed = nn.Embedding(5, 3), last = nn.Linear(3, 5)}
  self.parts.last.weight = self.parts.embed.weight
  self.scales = nn.ParameterList {pg.ones(3), pg.tensor(1.0)}
end
function Tied:forward(x)
  return self.parts.last(self.parts.embed(x) * self.scales[1]) * self.scales[2]
end

describe("networks of PyTorch", function()
  require("spec.helper.modules").modules "stack"
end)

describe("a state that counts from 0", function()
  local function linear() return nn.Linear(2, 2) end
  local function numbered(net, shift)
    local dict = {}
    for key, t in pairs(net:state_dict()) do
      dict[key:gsub("%d+", function(n) return ("%d"):format(n + shift) end)] = t
    end
    return dict
  end
  it("loads into containers that count from 1, at every depth", function()
    for _, make in ipairs {
      function() return nn.Sequential {linear(), nn.Sequential {nn.ReLU(), linear()}} end,
      function() return nn.ModuleList {nn.ReLU(), linear(), nn.ModuleList {linear()}} end,
      function() return nn.ParameterList {pg.randn(2), pg.randn(3)} end,
    } do
      local net, other = make(), make()
      other:load_state_dict(numbered(net, -1))
      for key, t in pairs(net:state_dict()) do H.identical(other:state_dict()[key], t) end
    end
  end)
  it("counts named children by their place", function()
    local net = nn.Sequential {nn.Linear(2, 2, {name = "first"}), nn.ReLU(), linear()}
    local state = net:state_dict()
    local other = nn.Sequential {linear(), nn.ReLU(), linear()}
    net:load_state_dict {["0.weight"] = other[1].weight, ["0.bias"] = other[1].bias,
      ["2.weight"] = other[3].weight, ["2.bias"] = other[3].bias}
    H.same(state["first.weight"], other[1].weight:detach())
    H.same(state["3.bias"], other[3].bias:detach())
  end)
  it("is not what a state from 1 is taken for", function()
    local net, other = nn.Sequential {linear(), linear()}, nn.Sequential {linear(), linear()}
    other:load_state_dict(net:state_dict())
    H.identical(other[2].weight:detach(), net[2].weight:detach())
    local before = other[1].weight:detach():clone()
    local rest = other:load_state_dict({["2.weight"] = net[1].weight}, {strict = false})
    assert.same({}, rest.unexpected_keys)
    H.same(other[2].weight:detach(), net[1].weight:detach())
    H.same(other[1].weight:detach(), before)
    H.raises(function() other:load_state_dict(numbered(net, 1)) end, {"missing", "unexpected: 3"})
  end)
end)
