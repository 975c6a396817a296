--- rrelu and feature_alpha_dropout: definitions, statistics, gradients, messages.
-- Relies on spec/helper.lua. Sources: core/ops/rrelu.c.

local H = require "spec.helper"
local core = require "perigee.core"
local ops = core.ops

H.op("rrelu", {
  args = function(t) return {t.away(0, 3, 4), 0.1, 0.4, true} end,
  more = {function(t) return {t.away(0, 3, 4)} end},
  empty = {function(t) return {t.randn(0, 4), {training = true}} end, {0, 4}},
  wrong_shape = {function(t) return {t.randn(3), 0.5, 0.1} end,
    "'lower': expected at most upper 0%.1, and that finite, got 0%.5"},
  wrong_dtype = {function(t) return {t.int(1, 5, {3})} end, "'input': expected float32"},
})
H.op("feature_alpha_dropout", {
  args = function(t) return {t.randn(3, 4, 2), 0.4, true} end,
  more = {function(t) return {t.randn(3, 4)} end},
  empty = {function(t) return {t.randn(0, 4), 0.5, true} end, {0, 4}},
  wrong_shape = {{function(t) return {t.randn(3), 0.5} end, "expected n x c %(x ..%), got %[3%]"},
    {function(t) return {t.randn(3, 4), 1.5} end, "'p': expected 0 to 1, got 1.5"}},
  wrong_dtype = {function(t) return {t.int(1, 5, {3, 4})} end, "'input': expected float32"},
})

it("rrelu draws slopes in its range, and takes their mean outside of training", function()
  local x = H.t.full(-1, 1000)
  local y = ops.rrelu(x, 0.2, 0.6, true)
  assert.is_true(y:max():item() <= -0.2 and y:min():item() >= -0.6)
  assert.near(-0.4, y:mean():item(), 0.02)
  H.same(ops.rrelu(H.make({-1, 2}, "float64", {2}), 0.2, 0.6), {-0.4, 2})
end)

it("feature_alpha_dropout keeps mean and variance, and drops whole channels", function()
  local y = ops.feature_alpha_dropout(H.randn(200, 100, 3), 0.3, true)
  assert.near(0, y:mean():item(), 0.02)
  assert.near(1, y:std():item(), 0.02)
  local z = ops.feature_alpha_dropout(H.t.ones(1, 50, 4), 0.5, true)
  H.same(z:std(3), H.t.zeros(1, 50))
  local x = H.randn(2, 3)
  H.same(ops.feature_alpha_dropout(x, 0.5), x)
end)
