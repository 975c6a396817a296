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
  it("has what is more than an op of its name", function()
    local x = H.randn(1, 2, 4, 4)
    H.same(F.unfold(x, 2), F.im2col(x, 2))
    assert.same({1, 2, 8, 6}, F.upsample(x, {scale_factor = {2, 1.5}}).shape)
    H.raises(function() F.interpolate(x, {scale_factor = {}}) end, "1 to 3 of them, got 0")
  end)
  it("records compositions in graphs, shapes and all", function()
    local nn = pg.nn
    local image = nn.Input({2, 4, 4}, {name = "image"})
    local up = F.interpolate(nn.Conv2d(2, 4, 3, {padding = 1})(image), {scale_factor = 2})
    assert.same({-1, 4, 8, 8}, up.shape)
    local out = F.normalize(nn.Flatten()(F.pixel_shuffle(up, 2)))
    local net = nn.Model({image}, {out})
    local x = H.randn(3, 2, 4, 4)
    assert.same({3, 256}, net(x).shape)
    H.same(net(x):norm(2, 2), pg.ones(3), 1e-5)
  end)
end)
