--- One training step of a causal transformer block (width 256, 4 heads, 128 tokens, batch 16).
local training = require "spec.bench.training"

return training {
  bf16 = true,
  threads = true,
  growth = {{axis = "batch", values = {2, 4, 8, 16, 32}}},
  build = function(pg, option)
    local nn = pg.nn
    pg.manual_seed(1)
    local net = nn.TransformerEncoderLayer(256, 4, 1024, 0, "gelu",
      {batch_first = true, norm_first = true})
    local x = pg.randn(option.batch or 16, 128, 256)
    return pg.optim.SGD(net:parameters(), {lr = 0.01}),
      function() return net(x, {is_causal = true}):square():mean() end
  end,
}
