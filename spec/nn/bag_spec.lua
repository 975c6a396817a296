-- EmbeddingBag, Bilinear: PyTorch's values and gradients with its weights, first values, errors.
-- Relies on spec/helper/modules.lua and spec/fixtures/modules/bag.safetensors.
-- Sources: lua/perigee/nn/bag.lua.

local H = require "spec.helper"
local pg = require "perigee"
local nn = pg.nn

describe("EmbeddingBag and Bilinear", function()
  require("spec.helper.modules").modules "bag"

  it("start with PyTorch's distributions", function()
    pg.manual_seed(3)
    local bag = nn.EmbeddingBag(200, 50, {padding_idx = 3})
    assert.near(1, bag.weight:detach():std():item(), 0.03)
    H.same(bag.weight:detach()[3], pg.zeros(50))
    assert.equal("EmbeddingBag(200, 50, mode='mean', padding_idx=3)", tostring(bag))
    local bilinear = nn.Bilinear(16, 20, 30)
    assert.is_true(bilinear.weight:abs():max():item() <= 0.25)
    assert.near(0.25 / math.sqrt(3), bilinear.weight:detach():std():item(), 5e-3)
  end)

  it("take a table that is there", function()
    local bag = nn.EmbeddingBag(2, 2, {_weight = pg.tensor {{1, 2}, {3, 5}}, mode = "sum"})
    local x = pg.tensor({{1, 2}, {2, 2}}, {dtype = "int64"})
    H.same(bag(x):detach(), {{4, 7}, {6, 10}})
    H.same(bag(x, {per_sample_weights = pg.tensor {{1, 0}, {0, 2}}}):detach(), {{1, 2}, {6, 10}})
  end)

  it("bound the rows in use, and share a row's gradient among its uses", function()
    local x = pg.tensor({{1, 1}, {1, 2}}, {dtype = "int64"})
    local bag = nn.EmbeddingBag(3, 2, {_weight = pg.tensor {{3, 4}, {0, 1}, {6, 8}}, mode = "sum",
      max_norm = 1, scale_grad_by_freq = true})
    H.same(bag(x):detach(), {{1.2, 1.6}, {0.6, 1.8}}, 1e-6)
    H.same(bag.weight:detach(), {{0.6, 0.8}, {0, 1}, {6, 8}}, 1e-6)
    bag(x):sum():backward()
    H.same(bag.weight.grad, {{1, 1}, {1, 1}, {0, 0}}, 1e-6)
    local input = nn.Input({4}, {name = "x", dtype = "int64"})
    local y = nn.EmbeddingBag(5, 3, {max_norm = 1, scale_grad_by_freq = true})(input)
    assert.same({-1, 3}, y.shape)
    local net = nn.Model(input, y)
    assert.same({2, 3}, net(pg.tensor({{1, 2, 3, 4}, {5, 5, 5, 5}}, {dtype = "int64"})).shape)
  end)

  it("are part of graphs", function()
    local x = nn.Input({4}, {name = "x", dtype = "int64"})
    assert.same({-1, 3}, nn.EmbeddingBag(5, 3)(x).shape)
  end)

  it("refuse what cannot be", function()
    H.raises(function() nn.EmbeddingBag(5) end, "'embedding_dim': expected an integer, got nothing")
    H.raises(function() nn.EmbeddingBag(5, 3, {mode = "summ"}) end, "did you mean 'sum'")
    H.raises(function() nn.EmbeddingBag(5, 3, {padding_idx = 7}) end, "expected 1 to 5, got 7")
    H.raises(function() nn.EmbeddingBag(5, 3, {mode = "max", scale_grad_by_freq = true}) end,
      "'scale_grad_by_freq': expected false for mode 'max', got true")
    H.raises(function() nn.EmbeddingBag(5, 3)(pg.ones({4}, {dtype = "int64"})) end,
      "'offsets': expected a tensor")
    H.raises(function() nn.Bilinear(2, 3, 0) end, "'out_features': expected at least 1, got 0")
    H.raises(function() nn.Bilinear(2, 3, 4)(H.randn(5, 2), H.randn(5, 2)) end,
      "'input1': .*got %[5 x 2%] and %[5 x 2%]")
  end)
end)
