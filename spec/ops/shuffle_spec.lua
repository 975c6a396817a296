--- pixel_shuffle, pixel_unshuffle, channel_shuffle: PyTorch's values and gradients, messages.
-- Relies on spec/helper.lua. Sources: core/ops/shuffle.c.

local H = require "spec.helper"
local core = require "perigee.core"

H.fixtures("shuffle")

H.op("pixel_shuffle", {
  args = function(t) return {t.randn(2, 8, 3, 2), 2} end,
  empty = {function(t) return {t.randn(0, 4, 3, 2), 2} end, {0, 1, 6, 4}},
  wrong_shape = {{function(t) return {t.randn(6, 3, 2), 2} end,
      "'input': expected a multiple of 4 in dim 1, got %[6 x 3 x 2%]"},
    {function(t) return {t.randn(6, 3), 2} end, "expected 3 dims or more, got %[6 x 3%]"},
    {function(t) return {t.randn(4, 3, 2), 0} end, "'upscale_factor': expected at least 1, got 0"}},
  wrong_dtype = {function(t) return {t.randn(4, 3, 2), "two"} end, "upscale_factor"},
})
H.op("pixel_unshuffle", {
  args = function(t) return {t.randn(2, 2, 6, 4), 2} end,
  empty = {function(t) return {t.randn(0, 1, 2, 2), 2} end, {0, 4, 1, 1}},
  wrong_shape = {function(t) return {t.randn(4, 3, 2), 2} end, "expected a multiple of 2 in dim 2"},
  wrong_dtype = {function(t) return {t.randn(4, 2, 2), "two"} end, "downscale_factor"},
})
H.op("channel_shuffle", {
  args = function(t) return {t.randn(2, 6, 3), 3} end,
  empty = {function(t) return {t.randn(0, 4, 2), 2} end, {0, 4, 2}},
  wrong_shape = {function(t) return {t.randn(1, 3, 2), 2} end, "expected a multiple of 2 in dim 2"},
  wrong_dtype = {function(t) return {t.randn(4, 2, 2), "two"} end, "groups"},
})

it("pixel_unshuffle undoes pixel_shuffle", function()
  local x = H.randn(2, 8, 3, 2)
  H.identical(core.ops.pixel_unshuffle(core.ops.pixel_shuffle(x, 2), 2), x)
end)
