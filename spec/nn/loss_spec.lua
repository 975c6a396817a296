-- Losses as layers: each is its function with the layer's arguments; weights are buffers.
-- Relies on busted and spec/helper.lua.
-- Sources: core/nn/layers/loss.c, lua/perigee/nn/weighted_loss.lua.

local H = require "spec.helper"
local pg = require "perigee"
local nn, F = pg.nn, pg.nn.functional

local x, y = H.randn(4, 3), H.rand(4, 3)
local labels = H.make({1, 3, 2, 2}, "int64", {4})
local signs = H.make({1, -1, 1, -1}, "float32", {4})
local weight = pg.tensor {1, 2, 0.5}

-- class, constructor's arguments, inputs, function, its further arguments
local CASES = {
  {"MSELoss", {}, {x, y}, "mse_loss"},
  {"MSELoss", {"sum"}, {x, y}, "mse_loss", {"sum"}},
  {"L1Loss", {{reduction = "none"}}, {x, y}, "l1_loss", {"none"}},
  {"SmoothL1Loss", {"mean", 0.5}, {x, y}, "smooth_l1_loss", {"mean", 0.5}},
  {"HuberLoss", {{delta = 0.3}}, {x, y}, "huber_loss", {"mean", 0.3}},
  {"KLDivLoss", {"batchmean"}, {x, y}, "kl_div", {"batchmean"}},
  {"CrossEntropyLoss", {}, {x, labels}, "cross_entropy"},
  {"CrossEntropyLoss", {weight, {label_smoothing = 0.1, reduction = "none"}}, {x, labels},
    "cross_entropy", {weight, {label_smoothing = 0.1, reduction = "none"}}},
  {"CrossEntropyLoss", {{weight = weight, ignore_index = 2}}, {x, labels}, "cross_entropy",
    {weight, 2}},
  {"CrossEntropyLoss", {nil, 3, "sum", n = 3}, {x, labels}, "cross_entropy", {{ignore_index = 3,
    reduction = "sum"}}},
  {"NLLLoss", {{1, 2, 0.5}}, {x, labels}, "nll_loss", {weight}},
  {"BCELoss", {weight, "sum"}, {y, y}, "binary_cross_entropy", {weight, "sum"}},
  {"BCEWithLogitsLoss", {}, {x, y}, "binary_cross_entropy_with_logits"},
  {"BCEWithLogitsLoss", {{pos_weight = weight}}, {x, y}, "binary_cross_entropy_with_logits",
    {{pos_weight = weight}}},
  {"BCEWithLogitsLoss", {weight, "sum", weight}, {x, y}, "binary_cross_entropy_with_logits",
    {weight, "sum", weight}},
  {"PoissonNLLLoss", {{full = true}}, {x, y}, "poisson_nll_loss", {true, true}},
  {"GaussianNLLLoss", {true}, {x, y, y + 1}, "gaussian_nll_loss", {true}},
  {"CosineEmbeddingLoss", {0.2}, {x, y, signs}, "cosine_embedding_loss", {0.2}},
  {"HingeEmbeddingLoss", {0.5}, {x, y}, "hinge_embedding_loss", {0.5}},
  {"MarginRankingLoss", {0.5}, {x[{{}, 1}], y[{{}, 1}], signs}, "margin_ranking_loss", {0.5}},
  {"MultiMarginLoss", {2, 0.5, weight}, {x, labels}, "multi_margin_loss", {2, 0.5, weight}},
  {"MultiMarginLoss", {{weight = weight}}, {x, labels}, "multi_margin_loss", {1, 1, weight}},
  {"MultiLabelMarginLoss", {}, {x, H.make({1, 2, 0, 3, 0, 0, 0, 0, 0, 1, 2, 3}, "int64", {4, 3})},
    "multilabel_margin_loss"},
  {"MultiLabelSoftMarginLoss", {weight}, {x, y}, "multilabel_soft_margin_loss", {weight}},
  {"SoftMarginLoss", {"sum"}, {x, y}, "soft_margin_loss", {"sum"}},
  {"TripletMarginLoss", {2, {swap = true}}, {x, y, x + 1}, "triplet_margin_loss",
    {2, {swap = true}}},
  {"CTCLoss", {2, {reduction = "sum"}}, {H.randn(5, 2, 3), H.make({1, 3, 3, 1}, "int64", {2, 2}),
    H.make({5, 4}, "int64", {2}), H.make({2, 1}, "int64", {2})}, "ctc_loss", {2, "sum"}},
  {"CosineSimilarity", {1}, {x, y}, "cosine_similarity", {1}},
  {"PairwiseDistance", {1, {keepdim = true}}, {x, y}, "pairwise_distance", {1, {keepdim = true}}},
}

local function call(fn, list) return fn(table.unpack(list, 1, list.n or #list)) end

describe("losses as layers", function()
  for i, case in ipairs(CASES) do
    local class, args, inputs, name, rest = table.unpack(case)
    it(("%s (%d) is %s"):format(class, i, name), function()
      local layer = call(nn[class], args)
      local given = table.move(inputs, 1, #inputs, 1, {})
      for _, v in ipairs(rest or {}) do given[#given + 1] = v end
      local expected = call(F[name], given)
      H.same(call(layer, inputs), expected)
      assert.equal(class .. "()", tostring(layer))
      local again = layer:config()
      H.same(call(call(nn[class], again), inputs), expected)
    end)
  end

  it("keep weights as buffers that are saved and cast", function()
    local loss = nn.CrossEntropyLoss(weight)
    assert.equal(1, #loss:buffers())
    assert.same({}, loss:parameters())
    H.same(loss:state_dict().weight, weight)
    assert.is_nil(next(nn.CrossEntropyLoss():state_dict()))
    loss:double()
    assert.equal("float64", loss(x:double(), labels).dtype)
  end)

  it("measure triplets by any distance", function()
    local a, b, c = H.randn(4, 3), H.randn(4, 3), H.randn(4, 3)
    H.same(F.triplet_margin_with_distance_loss(a, b, c), F.triplet_margin_loss(a, b, c))
    H.same(nn.TripletMarginWithDistanceLoss {swap = true, reduction = "none"}(a, b, c),
      F.triplet_margin_loss(a, b, c, {swap = true, reduction = "none"}))
    local l1 = function(p, q) return (p - q):abs():sum(2) end
    H.same(nn.TripletMarginWithDistanceLoss {distance_function = l1, margin = 2}(a, b, c),
      F.triplet_margin_loss(a, b, c, 2, 1, 0), 1e-5)
    H.raises(function() nn.TripletMarginWithDistanceLoss {margins = 2} end, "did you mean 'margin'")
  end)

  it("CTCLoss takes lists", function()
    local log_probs = F.log_softmax(H.randn(5, 2, 3), -1)
    H.same(nn.CTCLoss()(log_probs, {{2, 3}, {3, 3}}, {5, 4}, {2, 1}),
      F.ctc_loss(log_probs, {{2, 3}, {3, 3}}, {5, 4}, {2, 1}))
  end)

  it("refuse what cannot be", function()
    H.raises(function() nn.CrossEntropyLoss("sum") end,
      "nn.CrossEntropyLoss: argument 'weight': expected a tensor, got string")
    H.raises(function() nn.MSELoss {reduction = "average"} end, "reduction")
    H.raises(function() nn.MSELoss {weight = weight} end, "weight")
    H.raises(function() nn.MSELoss()(x, H.randn(2, 3)) end, "%[2 x 3%]")
    H.raises(function() nn.TripletMarginLoss()(x, y) end, "'input': expected 3 tensors, got 2")
  end)
end)
