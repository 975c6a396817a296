--- embedding_bag: PyTorch's values and gradients, empty bags, padding, messages.
-- Relies on spec/helper.lua. Sources: core/ops/embedding_bag.c.

local H = require "spec.helper"
local core = require "perigee.core"
local ops = core.ops

H.fixtures "embedding_bag"

local function offsets(...) return core.tensor({...}, {dtype = "int64"}) end

H.op("embedding_bag", {
  args = function(t) return {t.int(1, 5, {2, 3}), t.randn(5, 4), {mode = "mean"}} end,
  more = {
    function(t)
      return {t.int(1, 5, {6}), t.randn(5, 2), offsets(1, 3, 3), {mode = "sum",
        per_sample_weights = t.randn(6)}}
    end,
    function(t)
      return {t.int(1, 5, {6}), t.randn(5, 2), offsets(1, 3, 3, 7), {mode = "max",
        include_last_offset = true}}
    end,
    function(t) return {t.int(1, 3, {2, 4}), t.randn(3, 2), {mode = "mean", padding_idx = 2}} end,
  },
  large = function(t) return {t.int(1, 50, {900, 9}), t.randn(50, 40)} end,
  empty = {function(t) return {t.int(1, 5, {0, 3}), t.randn(5, 4)} end, {0, 4}},
  wrong_shape = {
    {function(t) return {t.int(1, 5, {6}), t.randn(5, 4)} end,
      "'offsets': expected a tensor for input %[6%]"},
    {function(t) return {t.int(1, 5, {2, 3}), t.randn(5, 4), offsets(1, 2)} end,
      "'offsets': expected nothing for input %[2 x 3%], got %[2%]"},
    {function(t) return {t.int(1, 5, {1, 2, 3}), t.randn(5, 4)} end, "expected 1 or 2 dims"},
    {function(t) return {t.int(1, 5, {2, 3}), t.randn(5, 4), {padding_idx = 6}} end,
      "'padding_idx': expected 1%.%.5 or %-5%.%.%-1, got 6"},
    {function(t)
      return {t.int(1, 5, {2, 3}), t.randn(5, 4), {mode = "sum", per_sample_weights = t.randn(3)}}
    end, "'per_sample_weights': expected %[2 x 3%], got %[3%]"},
    {function(t)
      return {t.int(1, 5, {2, 3}), t.randn(5, 4), {per_sample_weights = t.randn(2, 3)}}
    end, "'per_sample_weights': expected nothing but with mode 'sum', got %[2 x 3%]"},
    {function(t) return {t.int(1, 5, {2, 3}), t.randn(5, 4), {max_norm = 1}} end,
      "'max_norm' is not supported"},
  },
  wrong_dtype = {function(t) return {t.randn(2, 3), t.randn(5, 4)} end, "got float32"},
})

it("embedding_bag gives zeros for empty bags", function()
  local y = ops.embedding_bag(offsets(2), ops.ones {3, 2}, offsets(1, 2, 2), {mode = "max"})
  H.same(y, {{1, 1}, {0, 0}, {0, 0}})
end)

it("embedding_bag refuses indices and offsets out of range", function()
  local w = ops.ones {3, 2}
  H.raises(function() ops.embedding_bag(offsets(1, 4), w, offsets(1)) end,
    {"embedding_bag", "expected 1%.%.3.*, got 4 at position 2"})
  H.raises(function() ops.embedding_bag(offsets(1, 0), w, offsets(1)) end, "got 0 at position 2")
  H.raises(function() ops.embedding_bag(offsets(1, 2), w, offsets(2)) end,
    "'offsets': expected 1%.%.1, got 2 at position 1")
  H.raises(function() ops.embedding_bag(offsets(1, 2), w, offsets(1, 4)) end, "expected 1..3")
  H.raises(function() ops.embedding_bag(offsets(1, 2), w, offsets(1, 3, 2)) end, "expected 3..3")
end)
