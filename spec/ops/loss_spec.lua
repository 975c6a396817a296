--- Losses over pairs: PyTorch's values and gradients, layouts, messages.
-- Relies on spec/helper.lua. Sources: core/ops/loss.c, core/ops/layout.h.

local H = require "spec.helper"

H.fixtures("loss")

local function pair(...)
  local rest = table.pack(...)
  return function(t) return {t.distinct(3, 4), t.randn(3, 4), table.unpack(rest, 1, rest.n)} end
end

local function spec(extra)
  local s = {
    args = pair(), more = {pair("none"), pair("sum")},
    large = function(t) return {t.randn(200, 200), t.randn(200, 200)} end,
    empty = {function(t) return {t.randn(0, 3), t.randn(0, 3)} end, {}},
    wrong_shape = {{function(t) return {t.randn(3, 1), t.randn(3)} end,
      "'target': expected the shape of input %[3 x 1%], got %[3%]"},
      {pair("average"), "reduction"}, table.unpack(extra.wrong or {})},
    wrong_dtype = {function(t) return {t.int(1, 5, {3}), t.int(1, 5, {3})} end,
      "'input': expected float32 or float64, got int64"},
  }
  for k, v in pairs(extra) do if k ~= "wrong" then s[k] = v end end
  return s
end

H.op("mse_loss", spec {})
H.op("l1_loss", spec {})
H.op("smooth_l1_loss", spec {
  more = {pair("none", 0.3), pair("sum", 0)},
  wrong = {{pair("mean", -1), "'beta': expected 0 or more, got %-1"}},
})
H.op("huber_loss", spec {
  more = {pair("none", 0.3), pair("sum", 2)},
  wrong = {{pair("mean", 0), "'delta': expected more than 0, got 0"}},
})
local function chances(...)
  local rest = table.pack(...)
  return function(t)
    return {t.uniform(0.1, 0.9, 3, 4), t.rand(3, 4), table.unpack(rest, 1, rest.n)}
  end
end
H.op("binary_cross_entropy", spec {
  args = chances(), more = {chances(nil, "none"), chances(nil, "sum"),
    function(t) return {t.uniform(0.1, 0.9, 3, 4), t.rand(3, 4), t.positive(4)} end},
  fixed = {3},
  large = function(t) return {t.uniform(0.1, 0.9, 200, 200), t.rand(200, 200)} end,
  wrong_shape = {{function(t) return {t.rand(3, 1), t.rand(3)} end, "expected the shape of"},
    {function(t) return {t.rand(3, 2), t.rand(3, 2), t.rand(3)} end,
      "'weight': expected a shape that broadcasts to input %[3 x 2%], got %[3%]"},
    {function() return {H.make({0.5, 1.5}, "float32", {2}), H.make({0, 1}, "float32", {2})} end,
      "'input': .*got 1 others of 2"}},
})
H.op("binary_cross_entropy_with_logits", spec {
  args = chances(), more = {chances(nil, "none"), chances(nil, "sum"),
    function(t) return {t.randn(3, 4), t.rand(3, 4), t.positive(3, 1), "mean", t.positive(4)} end},
  fixed = {3, 5},
  wrong_shape = {{function(t) return {t.rand(3, 1), t.rand(3)} end, "expected the shape of"},
    {function(t) return {t.rand(2), t.rand(2), t.rand(3, 2)} end,
      "'weight': expected a shape that broadcasts to input %[2%], got %[3 x 2%]"}},
})
H.op("kl_div", spec {
  args = function(t) return {t.randn(3, 4), t.positive(3, 4)} end,
  more = {function(t) return {t.randn(3, 4), t.positive(3, 4), "batchmean"} end,
    function(t) return {t.randn(3, 4), t.positive(3, 4), "none"} end,
    function(t) return {t.randn(3, 4), t.randn(3, 4), "sum", true} end},
  large = function(t) return {t.randn(200, 200), t.positive(200, 200)} end,
})

it("a number is a target too", function()
  local t = H.randn(3, 4)
  H.same(require "perigee.core".ops.mse_loss(t, 0):item(), (t * t):mean():item(), 1e-6)
end)
