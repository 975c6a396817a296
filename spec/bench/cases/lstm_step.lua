--- One training step of an LSTM 128 -> 256 over 64 steps of a batch of 32, float32.
return {
  setup = function(pg)
    pg.manual_seed(1)
    local net = pg.nn.LSTM(128, 256)
    local opt = pg.optim.SGD(net:parameters(), {lr = 0.01})
    local x = pg.randn(64, 32, 128)
    return function()
      local _ <close> = pg.scope()
      opt:zero_grad()
      local y = net(x)
      y:square():mean():backward()
      opt:step()
    end
  end,
}
