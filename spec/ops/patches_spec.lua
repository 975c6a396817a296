--- im2col (nn.functional.unfold) and fold: PyTorch's values and gradients, messages.
-- Relies on spec/helper.lua. Sources: core/ops/patches.c.

local H = require "spec.helper"
local F = require("perigee").nn.functional

H.fixtures("patches")

H.op("im2col", {
  args = function(t) return {t.randn(2, 3, 4, 5), {2, 3}, 1, 1, {2, 1}} end,
  more = {function(t) return {t.randn(3, 5, 4), 2, 2} end},
  large = function(t) return {t.randn(2, 8, 40, 40), 3, 1, 1} end,
  empty = {function(t) return {t.randn(0, 3, 4, 5), 2} end, {0, 12, 12}},
  wrong_shape = {{function(t) return {t.randn(3, 4), 2} end,
      "'input': expected 3 or 4 dims, got %[3 x 4%]"},
    {function(t) return {t.randn(1, 3, 4), 5} end,
      "'kernel_size': expected a kernel that fits into 3 x 4 pixels with their padding, got 5"},
    {function(t) return {t.randn(1, 3, 4), {1, 2, 3}} end, "kernel_size"}},
  wrong_dtype = {function(t) return {t.int(1, 5, {1, 2, 2}), 1} end, "'input': expected float32"},
})
H.op("fold", {
  args = function(t) return {t.randn(2, 12, 6), {3, 4}, 2} end,
  more = {function(t) return {t.randn(12, 4), {4, 5}, {2, 3}, 1, 1, {3, 3}} end},
  large = function(t) return {t.randn(2, 72, 1600), {40, 40}, 3, 1, 1} end,
  empty = {function(t) return {t.randn(0, 12, 6), {3, 4}, 2} end, {0, 3, 3, 4}},
  wrong_shape = {{function(t) return {t.randn(3), {3, 4}, 2} end,
      "expected 2 or 3 dims, got %[3%]"},
    {function(t) return {t.randn(10, 6), {3, 4}, 2} end, "expected a multiple of 4 in dim 1"},
    {function(t) return {t.randn(12, 5), {3, 4}, 2} end,
      "expected 2 x 3 = 6 columns for this output_size, got %[12 x 5%]"}},
  wrong_dtype = {function(t) return {t.int(1, 5, {4, 1}), 2, 2} end, "'input': expected float32"},
})

it("unfold in nn.functional is im2col, and fold counts how often a pixel was taken", function()
  local x = H.t.ones(1, 1, 3, 3)
  H.same(F.fold(F.unfold(x, 2), 3, 2), {{{{1, 2, 1}, {2, 4, 2}, {1, 2, 1}}}})
end)
