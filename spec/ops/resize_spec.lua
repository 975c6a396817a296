--- interpolate: PyTorch's values and gradients, memory order, messages.
-- Relies on spec/helper.lua. Sources: core/ops/resize.c.

local H = require "spec.helper"
local core = require "perigee.core"
local F = require("perigee").nn.functional

H.fixtures("resize")

local function image(...)
  local rest = {...}
  return function(t) return {t.randn(2, 3, 4, 5), table.unpack(rest)} end
end

H.op("interpolate", {
  args = image({7, 3}, nil, "bilinear"),
  more = {image {scale_factor = 1.6, mode = "bicubic"}, image {size = 9},
    image {size = {3, 8}, mode = "bilinear", align_corners = true}, image {size = {4, 5}},
    image {size = {2, 3}, mode = "area"}, image {size = 2, mode = "bilinear", antialias = true},
    image {size = {2, 7}, mode = "bicubic", antialias = true}},
  large = function(t) return {t.randn(2, 8, 40, 40), {scale_factor = 2, mode = "bilinear"}} end,
  empty = {function(t) return {t.randn(0, 3, 4, 5), {8, 7}} end, {0, 3, 8, 7}},
  wrong_shape = {{function(t) return {t.randn(3, 4), 5} end,
      "'input': expected 3 to 5 dims, got %[3 x 4%]"},
    {function(t) return {t.randn(2, 3, 4), 5, {mode = "bilinear"}} end, "expected 4 dims"},
    {image(), "expected either size or scale_factor, got neither"},
    {image(3, 2), "expected either size or scale_factor, got both"},
    {image {3, 4, 5}, "size"},
    {image {size = 3, align_corners = true}, "'align_corners': .*got true"},
    {image {size = 3, antialias = true}, "'antialias': .*got true"},
    {image {scale_factor = 0.1}, "'scale_factor': .*got 0%.1"},
    {image {size = 3, mode = "cubic"}, "bicubic"}},
  wrong_dtype = {function(t) return {t.int(1, 5, {1, 1, 2, 2}), 3} end,
    "'input': expected float32"},
})

it("interpolate keeps images channels-last, and its input apart from its result", function()
  local x = H.randn(2, 3, 4, 5):permute(1, 3, 4, 2):contiguous():permute(1, 4, 2, 3)
  assert.same({3 * 8 * 10, 1, 30, 3}, core.ops.interpolate(x, {scale_factor = 2}):stride())
  local same = core.ops.interpolate(x, {4, 5})
  same:zero_()
  assert.is_true(x:abs():sum():item() > 0)
end)

it("interpolate takes a factor for each dim", function()
  local x = H.randn(1, 1, 4, 5)
  assert.same({1, 1, 8, 7}, F.interpolate(x, {scale_factor = {2, 1.5}}).shape)
  assert.same({1, 1, 8, 7}, F.interpolate(x, nil, {2, 1.5}).shape)
  H.raises(function() F.interpolate(x, {scale_factor = {2}}) end, "expected one number or 2")
end)
