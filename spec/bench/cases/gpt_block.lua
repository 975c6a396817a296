--- One training step of a causal transformer block (width 256, 4 heads, 128 tokens, batch 16).
return {
  setup = function(pg)
    local nn = pg.nn
    pg.manual_seed(1)
    local net = nn.TransformerEncoderLayer(256, 4, 1024, 0, "gelu",
      {batch_first = true, norm_first = true})
    local opt = pg.optim.SGD(net:parameters(), {lr = 0.01})
    local x = pg.randn(16, 128, 256)
    return function()
      local _ <close> = pg.scope()
      opt:zero_grad()
      net(x, {is_causal = true}):square():mean():backward()
      opt:step()
    end
  end,
}
