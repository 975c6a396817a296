-- Metrics by hand: values, shapes of targets, errors.
-- Relies on tensors only.
-- Sources: lua/perigee/metrics.lua.

local pg = require "perigee"
local metrics = pg.metrics

local scores = pg.tensor {{0.1, 0.7, 0.2}, {0.5, 0.3, 0.2}, {0.2, 0.3, 0.5}, {0.4, 0.35, 0.25}}
local labels = pg.tensor({2, 3, 3, 2}, {dtype = "int64"})

describe("metrics.accuracy", function()
  it("counts labels that have the highest score", function()
    assert.equal(0.5, metrics.accuracy(scores, labels))
    assert.equal(0.5, metrics.accuracy(scores, labels:view(4, 1)))
  end)
  it("reads one-hot rows", function()
    local rows = pg.tensor {{0, 1, 0}, {0, 0, 1}, {0, 0, 1}, {0, 1, 0}}
    assert.equal(0.5, metrics.accuracy(scores, rows))
  end)
  it("reads the sign of a single score", function()
    local logit = pg.tensor {-1, 2, 3, -4}
    local target = pg.tensor {0, 1, 0, 0}
    assert.equal(0.75, metrics.accuracy(logit, target))
    assert.equal(0.75, metrics.accuracy(logit:view(4, 1), target))
    assert.equal(0.5, metrics.binary_accuracy(pg.tensor {0.4, 0.6, 0.2, 0.9},
      pg.tensor {1, 1, 0, 0}))
  end)
end)

describe("other metrics", function()
  it("top_k counts labels among the k highest scores", function()
    assert.equal(0.75, metrics.top_k(2)(scores, labels))
    assert.equal(1, metrics.top_k(3)(scores, labels))
    assert.equal(1, metrics.top_k(9)(scores, labels))
    assert.equal(0.5, metrics.top_k(1)(scores, labels))
  end)
  it("mse and mae are means over all elements", function()
    local a, b = pg.tensor {{1, 2}, {3, 4}}, pg.tensor {{1, 0}, {0, 4}}
    assert.equal(13 / 4, metrics.mse(a, b))
    assert.equal(5 / 4, metrics.mae(a, b))
    assert.equal(1, metrics.mae(pg.tensor {{1}, {2}}, pg.tensor {2, 3}))
  end)
  it("nearest_center asks the layer", function()
    local layer = pg.nn.CenterLoss(2, 2)
    layer:set_centers(pg.tensor {{0, 0}, {4, 4}})
    local metric = metrics.nearest_center(layer)
    local features = pg.tensor {{1, 0}, {3, 4}, {0, 1}, {5, 5}}
    assert.equal(0.75, metric(features, pg.tensor({1, 2, 2, 2}, {dtype = "int64"})))
    assert.equal("nearest_center", metric.name)
  end)
  it("refuse what is no tensor", function()
    assert.error_matches(function() metrics.accuracy(1, 2) end,
      "metrics.accuracy: expected tensors (output, target), got integer and integer", 1, true)
    assert.error_matches(function() metrics.top_k("x") end, "argument 'k'")
    assert.error_matches(function() metrics.nearest_center {} end, "nearest")
  end)
end)
