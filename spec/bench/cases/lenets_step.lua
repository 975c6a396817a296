--- One training step of LeNets++ (six 5x5 convolutions, PReLU), batch 128.
local training = require "spec.bench.training"

return training {
  bf16 = true,
  threads = true,
  growth = {{axis = "batch", values = {8, 16, 32, 64, 128, 256}}},
  build = function(pg, option)
    local nn, n = pg.nn, option.batch or 128
    pg.manual_seed(1)
    local layers, channels = {}, 1
    for _, width in ipairs {32, 64, 128} do
      for _ = 1, 2 do
        layers[#layers + 1] = nn.Conv2d(channels, width, 5, {padding = 2})
        layers[#layers + 1] = nn.PReLU()
        channels = width
      end
      layers[#layers + 1] = nn.MaxPool2d(2)
    end
    for _, layer in ipairs {nn.Flatten(), nn.Linear(1152, 2), nn.PReLU(), nn.Linear(2, 10)} do
      layers[#layers + 1] = layer
    end
    local net = nn.Sequential(layers)
    local x, y = pg.rand(n, 1, 28, 28), pg.randint(1, 10, {n})
    return pg.optim.SGD(net:parameters(), {lr = 0.01, momentum = 0.9, weight_decay = 5e-4}),
      function() return nn.functional.cross_entropy(net(x), y) end
  end,
}
