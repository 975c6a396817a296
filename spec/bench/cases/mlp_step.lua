--- One training step of a 784-512-512-10 perceptron with Adam, batch 128.
local training = require "spec.bench.training"

return training {
  bf16 = true,
  threads = true,
  growth = {
    {axis = "batch", values = {16, 32, 64, 128, 256, 512}},
    {axis = "width", values = {64, 128, 256, 512, 1024, 2048}},
  },
  build = function(pg, option)
    local nn, n, width = pg.nn, option.batch or 128, option.width or 512
    pg.manual_seed(1)
    local net = nn.Sequential {nn.Linear(784, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(),
      nn.Linear(width, 10)}
    local x, y = pg.rand(n, 784), pg.randint(1, 10, {n})
    return pg.optim.Adam(net:parameters(), {lr = 1e-3}),
      function() return nn.functional.cross_entropy(net(x), y) end
  end,
}
