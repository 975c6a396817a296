--- Losses with margins: PyTorch's values and gradients, labels that count from 1, messages.
-- Relies on spec/helper.lua. Sources: core/ops/margin_loss.c, core/ops/composed.h.

local H = require "spec.helper"
local core = require "perigee.core"
local V = require "spec.helper.values"

H.fixtures("margin_loss")

-- 1 and -1 in the generator's dtype.
local function signs(t, ...)
  return V.map(t.randn(...), function(v) return v > 0 and 1 or -1 end)
end

local function pair(...)
  local rest = table.pack(...)
  return function(t) return {t.randn(3, 4), signs(t, 3, 4), table.unpack(rest, 1, rest.n)} end
end

local function int_pair(t) return {t.int(1, 5, {3}), t.int(1, 5, {3})} end

H.op("hinge_embedding_loss", {
  args = pair(), more = {pair(0.5, "none"), pair(1, "sum")}, fixed = {2},
  empty = {function(t) return {t.randn(0, 3), t.randn(0, 3)} end, {}},
  wrong_shape = {function(t) return {t.randn(3, 4), t.randn(3, 3)} end,
    "broadcasts with .*%[3 x 4%], got %[3 x 3%]"},
  wrong_dtype = {int_pair, "'input': expected float32 or float64, got int64"},
})
H.op("soft_margin_loss", {
  args = pair(), more = {pair("none"), pair("sum")},
  empty = {function(t) return {t.randn(0, 3), t.randn(0, 3)} end, {}},
  wrong_shape = {{function(t) return {t.randn(3, 4), t.randn(3, 3)} end, "broadcast"},
    {pair("average"), "reduction"}},
  wrong_dtype = {int_pair, "'input': expected float32 or float64, got int64"},
})
H.op("margin_ranking_loss", {
  args = function(t) return {t.randn(3, 4), t.randn(3, 4), signs(t, 3, 4), 0.5} end, fixed = {3},
  more = {function(t) return {t.randn(3, 4), t.randn(4), signs(t, 3, 4), 0.1, "none"} end},
  empty = {function(t) return {t.randn(0), t.randn(0), t.randn(0)} end, {}},
  wrong_shape = {function(t) return {t.randn(3), t.randn(4), t.randn(3)} end, "broadcast"},
  wrong_dtype = {function(t) return {t.randn(3), t.int(1, 5, {3}), t.randn(3)} end,
    "'input2': expected float32 or float64, got int64"},
})
H.op("multi_margin_loss", {
  args = function(t) return {t.randn(5, 4), t.int(1, 4, {5})} end,
  more = {function(t) return {t.randn(5, 4), t.int(1, 4, {5}), 2, 0.7, t.positive(4), "none"} end,
    function(t) return {t.randn(4), t.int(1, 4, {}), 1, 1, t.positive(4)} end},
  fixed = {5},
  empty = {function(t) return {t.randn(0, 4), t.int(1, 4, {0}), {reduction = "none"}} end, {0}},
  wrong_shape = {{function(t) return {t.randn(5, 4), t.int(1, 4, {4})} end,
      "'target': expected labels %[5%] to follow input %[5 x 4%], got %[4%]"},
    {function(t) return {t.randn(5, 4), t.int(1, 4, {5}), 3} end, "'p': expected 1 or 2, got 3"},
    {function(t) return {t.randn(5, 4), t.int(1, 4, {5}), 1, 1, t.randn(3)} end,
      "'weight': expected %[4%], one a class, got %[3%]"},
    {function(t) return {t.randn(2, 4), H.make({1, 5}, "int64", {2})} end,
      "'target': expected 1%.%.4, got label 5 at element 2"}},
  wrong_dtype = {function(t) return {t.randn(5, 4), t.randn(5)} end, "'target': expected int"},
})
local function lists(t, ...) return {t.randn(3, 4), H.make({1, 3, 0, 2, 0, 0, 0, 0, 4, 4, 1, 2},
  "int64", {3, 4}), ...} end
H.op("multilabel_margin_loss", {
  args = lists, more = {function(t) return lists(t, "none") end},
  empty = {function(t) return {t.randn(0, 4), t.int(0, 4, {0, 4}), "none"} end, {0}},
  wrong_shape = {{function(t) return {t.randn(3, 4), t.int(0, 4, {3, 3})} end,
      "'target': expected labels of the shape of input %[3 x 4%], got %[3 x 3%]"},
    {function(t) return {t.randn(2), H.make({1, 3}, "int64", {2})} end,
      "'target': expected 0%.%.2, got label 3 at element 2"}},
  wrong_dtype = {function(t) return {t.randn(5, 4), t.randn(5, 4)} end, "'target': expected int"},
})
H.op("multilabel_soft_margin_loss", {
  args = function(t) return {t.randn(3, 4), t.rand(3, 4)} end,
  more = {function(t) return {t.randn(3, 4), t.rand(3, 4), t.positive(4), "none"} end},
  fixed = {3},
  empty = {function(t) return {t.randn(0, 4), t.randn(0, 4), {reduction = "none"}} end, {0}},
  wrong_shape = {function(t) return {t.randn(3, 4), t.randn(4)} end, "expected the shape of"},
  wrong_dtype = {int_pair, "'input': expected float32 or float64, got int64"},
})

it("soft_margin_loss stays finite far out", function()
  H.same(core.ops.soft_margin_loss(H.make({-1000, 1000}, "float32", {2}),
    H.make({1, 1}, "float32", {2}), "none"), {1000, 0})
end)
