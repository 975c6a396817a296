-- nn.functional: which ops it has, and what it says of others.
-- Relies on busted and spec/helper.lua.
-- Sources: lua/perigee/nn/functional.lua.

local H = require "spec.helper"
local pg = require "perigee"
local F = pg.nn.functional

describe("nn.functional", function()
  it("has what PyTorch has there", function()
    for _, name in ipairs {"relu", "relu_", "softmax", "log_softmax", "cross_entropy", "mse_loss",
      "conv2d", "linear", "dropout", "batch_norm", "layer_norm", "max_pool2d", "avg_pool2d", "pad",
      "embedding", "gelu", "prelu", "sigmoid", "tanh"} do
      assert.is_function(F[name], name)
    end
    H.same(F.relu(pg.tensor {-1, 2}), {0, 2})
  end)
  it("suggests the nearest name", function()
    H.raises(function() return F.crossentropy end, "did you mean 'cross_entropy'")
  end)
end)
