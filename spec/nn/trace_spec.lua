-- Thirty training steps of a small CNN with center loss from given weights: PyTorch's losses.
-- Relies on spec/fixtures/training/trace.safetensors (see spec/fixtures/training.py).
-- Sources: all floors together.

local core = require "perigee.core"
local H = require "spec.helper"
local pg = require "perigee"
local nn, optim, F = pg.nn, pg.optim, pg.nn.functional

local data = core.io.load("spec/fixtures/training/trace.safetensors", "safetensors")

--- The state that begins with prefix, under names that count from 1.
local function state(prefix)
  local dict = {}
  for name, t in pairs(data) do
    local k, rest = name:match("^" .. prefix .. "%.(%d+)%.(.+)$")
    if k then dict[("%d.%s"):format(k + 1, rest)] = t end
  end
  return dict
end

describe("a training trace", function()
  it("follows PyTorch for thirty steps", function()
    local net = nn.Sequential {nn.Conv2d(1, 6, 3, {padding = 1}), nn.PReLU(), nn.MaxPool2d(2),
      nn.Conv2d(6, 8, 3, {padding = 1}), nn.BatchNorm2d(8), nn.PReLU(), nn.MaxPool2d(2),
      nn.Flatten(), nn.Linear(72, 2)}
    local head = nn.Sequential {nn.PReLU(), nn.Linear(2, 4)}
    local center = nn.CenterLoss(4, 2, {alpha = 0.5})
    net:load_state_dict(state "net")
    head:load_state_dict(state "head")
    center:set_centers(data.centers)
    local params = net:parameters()
    for _, p in ipairs(head:parameters()) do params[#params + 1] = p end
    local opt = optim.SGD(params, {lr = 0.05, momentum = 0.9, weight_decay = 5e-4})
    local images = (data.images:to("float32") - 128) / 60
    local labels = data.labels:to("int64")
    local losses = {}
    for step = 1, 30 do
      local _ <close> = pg.scope()
      local from, to = (step - 1) * 16 + 1, step * 16
      local x, y = images[{{from, to}}], labels[{{from, to}}]
      local feature = net(x)
      local pull = center(feature, y):mean()
      local cross = F.cross_entropy(head(feature), y)
      opt:zero_grad()
      local loss = cross + 0.1 * pull
      loss:backward()
      opt:step()
      losses[step] = {cross:item(), pull:item()}
    end
    H.same(pg.tensor(losses), data.losses, 1e-3)
    H.same(center:centers(), data["centers.after"], 1e-3)
  end)
end)
