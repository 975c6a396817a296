--- One training step of a 4-16-3 perceptron, batch 16: what a step costs beside arithmetic.
local training = require "spec.bench.training"

return training {
  build = function(pg)
    local nn = pg.nn
    pg.manual_seed(1)
    local net = nn.Sequential {nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3)}
    local x, y = pg.rand(16, 4), pg.randint(1, 3, {16})
    return pg.optim.SGD(net:parameters(), {lr = 0.01}),
      function() return nn.functional.cross_entropy(net(x), y) end
  end,
}
