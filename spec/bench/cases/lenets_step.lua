--- One training step of LeNets++ (six 5x5 convolutions, PReLU), batch 128, float32.
return {
  flop = 62e9,
  setup = function(pg)
    local nn = pg.nn
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
    local opt = pg.optim.SGD(net:parameters(), {lr = 0.01, momentum = 0.9, weight_decay = 5e-4})
    local x, y = pg.rand(128, 1, 28, 28), pg.randint(1, 10, {128})
    return function()
      local _ <close> = pg.scope()
      opt:zero_grad()
      nn.functional.cross_entropy(net(x), y):backward()
      opt:step()
    end
  end,
}
