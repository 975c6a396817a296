-- Script B of API.md, a training loop written by hand, runs as written on a small data set.
-- Relies on spec/acceptance/run.lua.
-- Sources: lua/perigee/data/, lua/perigee/nn/, lua/perigee/optim/.

-- luacheck: no max line length (the script stands as it is in API.md)
local run = require "spec.acceptance.run"

local SCRIPT = [==[
local pg = require "perigee"
local nn, optim, data = pg.nn, pg.optim, pg.data
local train, test = data.fashion_mnist()               -- image: N x 1 x 28 x 28 uint8, label: N int64, 1..10
local net = nn.Sequential {nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10)}
local opt = optim.Adam(net:parameters(), {lr = 1e-3})
for epoch = 1, 2 do
  for batch in data.DataLoader(train, {batch_size = 128, shuffle = true, seed = epoch}) do
    local scope <close> = pg.scope()
    local loss = nn.functional.cross_entropy(net(batch.image), batch.label)   -- image: float32 in 0..1
    opt:zero_grad()
    loss:backward()
    opt:step()
  end
end
]==]

local CHECK = [==[
local _ <close> = pg.no_grad()
local all = test:batch(pg.arange(1, #test))
local right = net(all.image):argmax(2):eq(all.label):sum():item()
print(("right: %d of %d"):format(right, #test))
]==]

it("script B: a training loop by hand", function()
  run.script(SCRIPT .. CHECK, {train = 2560, test = 100}, function(_, output)
    local right = tonumber(output:match "right: (%d+) of 100")
    assert.is_true(right > 90, output)
  end)
end)
