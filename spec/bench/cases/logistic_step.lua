--- One full-batch step of logistic regression on data of the size of iris: 150 x 4, 3 classes, SGD.
local training = require "spec.bench.training"

return training {
  build = function(pg)
    local nn = pg.nn
    pg.manual_seed(1)
    local net = nn.Linear(4, 3)
    local x, y = pg.rand(150, 4), pg.randint(1, 3, {150})
    return pg.optim.SGD(net:parameters(), {lr = 0.1}),
      function() return nn.functional.cross_entropy(net(x), y) end
  end,
}
