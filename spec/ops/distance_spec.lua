--- Distances, angles and their losses: PyTorch's values and gradients, messages.
-- Relies on spec/helper.lua. Sources: core/ops/distance.c.

local H = require "spec.helper"
local V = require "spec.helper.values"

H.fixtures("distance")

local function pair(...)
  local rest = table.pack(...)
  return function(t) return {t.randn(3, 4), t.randn(3, 4), table.unpack(rest, 1, rest.n)} end
end
local function signs(t, ...)
  return V.map(t.randn(...), function(v) return v > 0 and 1 or -1 end)
end

H.op("cosine_similarity", {
  args = pair(), more = {pair(1), function(t) return {t.randn(2, 3, 4), t.randn(3, 4), -1} end},
  empty = {function(t) return {t.randn(0, 4), t.randn(0, 4)} end, {0}},
  wrong_shape = {{function(t) return {t.randn(3, 4), t.randn(3, 3)} end,
    "broadcasts with .*%[3 x 4%], got %[3 x 3%]"}, {pair(3), "dim"}},
  wrong_dtype = {function(t) return {t.int(1, 5, {3}), t.int(1, 5, {3})} end,
    "'x1': expected float32 or float64, got int64"},
})
H.op("pairwise_distance", {
  args = pair(), more = {pair(1), pair(3, 1e-6, true)},
  empty = {function(t) return {t.randn(0, 4), t.randn(0, 4)} end, {0}},
  wrong_shape = {{function(t) return {t.randn(3, 4), t.randn(3, 3)} end, "broadcast"},
    {function(t) return {t.randn(), t.randn()} end, "'x1': expected vectors, got %[%]"}},
  wrong_dtype = {function(t) return {t.randn(3), t.int(1, 5, {3})} end, "'x2': expected float32"},
})
H.op("normalize", {
  args = function(t) return {t.randn(3, 4)} end,
  more = {function(t) return {t.away(0, 3, 4), 1, 1} end,
    function(t) return {t.randn(3, 4), 3} end},
  empty = {function(t) return {t.randn(0, 4)} end, {0, 4}},
  wrong_shape = {function(t) return {t.randn(3, 4), 2, 3} end, "dim"},
  wrong_dtype = {function(t) return {t.int(1, 5, {3, 4})} end, "'input': expected float32"},
})
H.op("cosine_embedding_loss", {
  args = function(t) return {t.randn(5, 3), t.randn(5, 3), signs(t, 5)} end, fixed = {3},
  more = {function(t) return {t.randn(5, 3), t.randn(5, 3), signs(t, 5), 0.3, "none"} end,
    function(t) return {t.randn(3), t.randn(3), signs(t), 0.3} end},
  empty = {function(t) return {t.randn(0, 3), t.randn(0, 3), t.randn(0), {reduction = "none"}} end,
    {0}},
  wrong_shape = {{function(t) return {t.randn(5, 3), t.randn(4, 3), t.randn(5)} end,
      "'input2': expected the shape of input1 %[5 x 3%], got %[4 x 3%]"},
    {function(t) return {t.randn(5, 3), t.randn(5, 3), t.randn(4)} end,
      "'target': expected %[5%] to follow input1 %[5 x 3%], got %[4%]"}},
  wrong_dtype = {function(t) return {t.int(1, 3, {2, 3}), t.randn(2, 3), t.randn(2)} end,
    "'input1': expected float32"},
})
H.op("triplet_margin_loss", {
  args = function(t) return {t.randn(5, 3), t.randn(5, 3), t.randn(5, 3), 1.5} end,
  more = {function(t) return {t.randn(5, 3), t.randn(5, 3), t.randn(5, 3), 2, 3, 1e-6, true, "none"}
    end},
  empty = {function(t) return {t.randn(0, 3), t.randn(0, 3), t.randn(0, 3), {reduction = "none"}}
    end, {0}},
  wrong_shape = {{function(t) return {t.randn(5, 3), t.randn(5, 2), t.randn(5, 3)} end,
      "broadcast"},
    {function(t) return {t.randn(5, 3), t.randn(3), t.randn(5, 3)} end,
      "'positive': expected as many dims as anchor %[5 x 3%], got %[3%]"},
    {function(t) return {t.randn(5, 3), t.randn(5, 3), t.randn(5, 3), 0} end,
      "'margin': expected more than 0, got 0"}},
  wrong_dtype = {function(t) return {t.int(1, 3, {2, 3}), t.randn(2, 3), t.randn(2, 3)} end,
    "'anchor': expected float32"},
})
