-- The ops behind nn.CenterLoss that scripts can call: center_loss and nearest_center.
-- The layer's own spec, spec/nn/center_loss_spec.lua, holds the update rules.
-- Sources: core/ops/center_loss.c.

local H = require "spec.helper"
local pg = require "perigee"
local F = pg.nn.functional

H.op("center_loss", {
  args = function(t)
    return {t.randn(5, 3), t.int(1, 4, {5}), t.randn(4, 3)}
  end,
  fixed = {3},
  smooth = false,   -- second gradients to the features alone: spec/nn/center_loss_spec.lua
  empty = function(t) return {t.randn(0, 3), t.int(1, 4, {0}), t.randn(4, 3)} end,
  wrong_shape = {function(t) return {t.randn(5, 3), t.int(1, 4, {5}), t.randn(4, 2)} end,
    "%[4 x 2%]"},
  wrong_dtype = {function(t) return {t.int(1, 4, {5, 3}), t.int(1, 4, {5}), t.randn(4, 3)} end,
    "float"},
})

H.op("nearest_center", {
  args = function(t) return {t.randn(11, 3), t.randn(4, 3)} end,
  empty = function(t) return {t.randn(0, 3), t.randn(4, 3)} end,
  wrong_shape = {function(t) return {t.randn(5, 3), t.randn(4, 2)} end, "%[4 x 2%]"},
  wrong_dtype = {function(t) return {t.int(1, 4, {5, 3}), t.randn(4, 3)} end, "float"},
  nograd = true,
})

describe("center_loss", function()
  it("is half the squared distance to the label's center", function()
    local x, c = pg.tensor {{1, 2}, {3, 4}}, pg.tensor {{0, 0}, {3, 3}}
    local y = pg.tensor({1, 2}, {dtype = "int64"})
    H.same(F.center_loss(x, y, c), {{2.5}, {0.5}})
    H.same(F.center_loss(x, y, c, 1), {{5}, {1}})
    H.raises(function() F.center_loss(x, pg.tensor({1, 3}, {dtype = "int64"}), c) end,
      "'labels': expected 1%.%.2, got label 3 in row 2")
  end)
end)

describe("nearest_center", function()
  it("agrees with all distances", function()
    local x, c = pg.randn(30, 19), pg.randn(12, 19)
    local labels, distances = F.nearest_center(x, c)
    local all = (x:unsqueeze(2) - c:unsqueeze(1)):pow(2):sum(3):sqrt()
    local least, at = all:min(2)
    H.same(distances, least)
    H.same(labels, at)
  end)
  it("has no answer for what is not a number", function()
    local labels = F.nearest_center(pg.tensor {{0 / 0, 1}, {0, 0}}, pg.tensor {{1, 1}})
    assert.same({0, 1}, labels:totable())
    H.raises(function() F.nearest_center(pg.ones(1, 2), pg.ones(1, 2), {reject = -1}) end, "reject")
  end)
end)
