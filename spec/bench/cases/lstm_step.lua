--- One training step of an LSTM 128 -> 256 over 64 steps of a batch of 32.
local training = require "spec.bench.training"

return training {
  bf16 = true,
  threads = true,
  build = function(pg)
    pg.manual_seed(1)
    local net = pg.nn.LSTM(128, 256)
    local x = pg.randn(64, 32, 128)
    return pg.optim.SGD(net:parameters(), {lr = 0.01}), function()
      local y = net(x)
      return y:square():mean()
    end
  end,
}
