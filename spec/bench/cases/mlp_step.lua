--- One training step of a 784-512-512-10 perceptron with Adam, batch 128, float32.
return {
  setup = function(pg)
    local nn = pg.nn
    pg.manual_seed(1)
    local net = nn.Sequential {nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(),
      nn.Linear(512, 10)}
    local opt = pg.optim.Adam(net:parameters(), {lr = 1e-3})
    local x, y = pg.rand(128, 784), pg.randint(1, 10, {128})
    return function()
      local _ <close> = pg.scope()
      opt:zero_grad()
      nn.functional.cross_entropy(net(x), y):backward()
      opt:step()
    end
  end,
}
