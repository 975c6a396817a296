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
  it("embeds with PyTorch's further options", function()
    local index = pg.tensor({{1, 3, 3}, {2, 3, 1}}, {dtype = "int64"})
    local weight = pg.tensor {{3, 4}, {0, 0.5}, {6, 8}, {9, 9}}
    local table_ = weight:clone()
    table_.requires_grad = true
    local y = F.embedding(index, table_, {scale_grad_by_freq = true, padding_idx = 2})
    H.same(y:detach(), F.embedding(index, weight))
    y:sum():backward()
    H.same(table_.grad, {{1, 1}, {0, 0}, {1, 1}, {0, 0}})
    H.same(F.embedding(index, weight, nil, 1)[{1, 2}], {0.6, 0.8}, 1e-6)
    H.same(weight, {{0.6, 0.8}, {0, 0.5}, {0.6, 0.8}, {9, 9}}, 1e-6)
    H.raises(function() F.embedding(index, weight, {max_norn = 1, max_norm = 1}) end,
      "embedding: unknown option 'max_norn', did you mean 'max_norm'")
  end)
end)
