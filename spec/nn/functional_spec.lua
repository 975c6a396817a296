-- nn.functional: which ops it has, and what it says of others.
-- Relies on busted and spec/helper.lua.
-- Sources: lua/perigee/nn/functional.lua.

local H = require "spec.helper"
local core = require "perigee.core"
local pg = require "perigee"
local F = pg.nn.functional

local function f64(list) return pg.tensor(list, {dtype = "float64"}) end

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

  it("takes softmaxes without a dim as PyTorch does", function()
    for nd, dim in pairs {[0] = 1, [1] = 1, [2] = 2, [3] = 1, [4] = 2} do
      local x = H.randn(table.unpack({2, 3, 2, 4}, 1, nd))
      for _, name in ipairs {"softmax", "log_softmax", "softmin"} do
        H.same(F[name](x), core.ops[name](x, dim), 0)
        H.same(F[name](x, nil, "float64"), core.ops[name](x, dim, "float64"), 0)
        H.same(F[name](x, {dtype = "float64"}), core.ops[name](x, dim, "float64"), 0)
        H.same(F[name](x, {dim = 1}), core.ops[name](x, 1), 0)
      end
    end
    H.raises(function() F.softmax() end, "'input'")
    H.raises(function() F.softmax(pg.ones(2), {dmi = 1}) end, "unknown option 'dmi'")
  end)

  -- Of PyTorch, for the a, b and w below: mean, its gradient by a, sum, no reduction.
  local weighted = {
    {"mse_loss", {}, 5.058333333, {{0.1333333333, -1.066666667, 0.4}, {0, -1.4, -1.066666667}},
      37.9375, {{0.25, 8, 4.5}, {0, 9.1875, 16}}},
    {"l1_loss", {}, 2.033333333,
      {{0.1333333333, -0.2666666667, 0.06666666667}, {0, -0.4, -0.1333333333}},
      15.25, {{0.5, 4, 1.5}, {0, 5.25, 4}}},
    {"huber_loss", {}, 1.9375,
      {{0.08333333333, -0.3333333333, 0.08333333333}, {0, -0.5, -0.1666666667}},
      11.625, {{0.125, 3, 1.25}, {0, 3.75, 3.5}}},
    {"huber_loss", {delta = 0.5}, 1.114583333,
      {{0.08333333333, -0.1666666667, 0.04166666667}, {0, -0.25, -0.08333333333}},
      6.6875, {{0.125, 1.75, 0.6875}, {0, 2.25, 1.875}}},
  }
  it("weighs the elements of losses", function()
    local a = f64 {{0.5, -1, 2}, {3, 0.25, -2}}
    local b, w = f64 {{0, 1, -1}, {2, 2, 2}}, f64 {{1, 2, 0.5}, {0, 3, 1}}
    a.requires_grad = true
    for _, case in ipairs(weighted) do
      local name, options, mean, grad, sum, none = table.unpack(case, 1, 6)
      local function loss(reduction)
        return F[name](a, b, {weight = w, reduction = reduction, delta = options.delta})
      end
      a.grad = nil
      local value = loss(nil)
      value:backward()
      H.same(value:detach(), mean, 1e-9)
      H.same(a.grad, grad, 1e-9)
      H.same(loss "sum":detach(), sum, 1e-9)
      H.same(loss "none":detach(), none, 1e-9)
      H.same(F[name](a, b, "sum", {weight = w, delta = options.delta}):detach(), sum, 1e-9)
      H.same(F[name](a, b, options):detach(), core.ops[name](a, b, options):detach(), 0)
      H.raises(function() F[name](a, b, {weight = f64 {1, 2, 3}}) end,
        name .. ": argument 'weight': expected %[2 x 3%] as the input, got %[3%]")
      H.raises(function() F[name](a, b, {weight = w, reduction = "summ"}) end, "did you mean 'sum'")
    end
  end)

  it("shares heads of key and value in attention", function()
    local function wave(fn, factor, ...)
      local n = 1
      for _, size in ipairs {...} do n = n * size end
      return core.ops[fn](pg.arange(1, n, {dtype = "float64"}) * factor):reshape(...)
    end
    local q, k = wave("sin", 1, 1, 4, 2, 3), wave("cos", 1, 1, 2, 3, 3)
    local v = wave("sin", 2, 1, 2, 3, 2)
    k.requires_grad = true
    local y = F.scaled_dot_product_attention(q, k, v, {enable_gqa = true})
    H.same(y:detach():reshape(8, 2), {{-0.01719654226, -0.1576025469},
      {0.09765393582, -0.1326633436}, {-0.05627002267, 0.01139736101},
      {0.1455049826, -0.2813642002}, {0.1144049862, -0.0612992421},
      {-0.01819119978, -0.04998873789}, {0.2342494373, -0.1998802252},
      {-0.1437584538, 0.1202140223}}, 1e-9)
    y:pow(2):sum():backward()
    H.same(k.grad:reshape(6, 3), {{-0.1098567306, -0.1846131987, -0.08963714324},
      {0.06939864766, 0.1335488222, 0.07491482548}, {0.04045808296, 0.05106437648, 0.01472231776},
      {0.03607632043, 0.18486551, 0.1636902022}, {-0.04164030394, -0.2500709227, -0.2285874884},
      {0.005563983509, 0.06520541278, 0.06489728625}}, 1e-9)
    H.same(F.scaled_dot_product_attention(q, k, v, nil, 0, true, nil, true):detach(),
      F.scaled_dot_product_attention(q, k:repeat_interleave(2, -3), v:repeat_interleave(2, -3),
        {is_causal = true}):detach(), 1e-12)
    H.raises(function() F.scaled_dot_product_attention(q, k, H.t64.randn(1, 3, 3, 2),
      {enable_gqa = true}) end,
      "'value': expected heads %(dim %-3%) that divide those of query %[1 x 4 x 2 x 3%]")
  end)

  -- Of PyTorch: mode, padding_idx, y, gradient of the table.
  local bags = {
    {"sum", nil, {{15, 20}, {0, 0.5}, {9, 12.5}},
      {{3, 4}, {4, 5}, {2.333333333, 3.333333333}, {0, 0}}},
    {"sum", 2, {{15, 20}, {0, 0}, {9, 12}}, {{3, 4}, {0, 0}, {2.333333333, 3.333333333}, {0, 0}}},
    {"mean", nil, {{5, 6.666666667}, {0, 0.5}, {3, 4.166666667}},
      {{1, 1.333333333}, {2.333333333, 3}, {0.7777777778, 1.111111111}, {0, 0}}},
    {"mean", -3, {{5, 6.666666667}, {0, 0}, {4.5, 6}},
      {{1.416666667, 1.833333333}, {0, 0}, {1.055555556, 1.444444444}, {0, 0}}},
  }
  it("divides gradients of bags by how often a row is named", function()
    local index = pg.tensor({1, 3, 3, 2, 3, 1, 2}, {dtype = "int64"})
    local offsets = pg.tensor({1, 4, 5}, {dtype = "int64"})
    for _, case in ipairs(bags) do
      local w = f64 {{3, 4}, {0, 0.5}, {6, 8}, {9, 9}}
      w.requires_grad = true
      local y = F.embedding_bag(index, w, offsets, {mode = case[1], padding_idx = case[2],
        scale_grad_by_freq = true})
      H.same(y:detach(), case[3], 1e-9)
      local total = (y * f64 {{1, 2}, {3, 4}, {5, 6}}):sum()
      total:backward()
      H.same(w.grad, case[4], 1e-9)
    end
    H.raises(function()
      F.embedding_bag(index, pg.ones(4, 2), offsets, {mode = "max", scale_grad_by_freq = true})
    end, "'scale_grad_by_freq': expected false for mode 'max', got true")
  end)
  it("bounds the rows that bags use", function()
    local index = pg.tensor({{1, 3}, {2, 1}}, {dtype = "int64"})
    local w = f64 {{3, 4}, {0, 0.5}, {6, 8}, {9, 9}}
    H.same(F.embedding_bag(index, w, {max_norm = 1, mode = "sum"}), {{1.2, 1.6}, {0.6, 1.3}}, 1e-6)
    H.same(w, {{0.6, 0.8}, {0, 0.5}, {0.6, 0.8}, {9, 9}}, 1e-6)
    w = f64 {{3, 4}, {0, 0.5}, {6, 8}, {9, 9}}
    H.same(F.embedding_bag(index, w, nil, 1, 1, {mode = "max"}),
      {{0.4285714255, 0.5714285673}, {0.4285714224, 0.5714285633}}, 1e-6)
    H.same(F.embedding_bag(index, w), core.ops.embedding_bag(index, w), 0)
    H.raises(function() F.embedding_bag(index, w, {max_nrom = 1}) end, "did you mean 'max_norm'")
  end)
end)
