--- Pooling of volumes: PyTorch's values, gradients and places, messages.
-- Relies on spec/helper.lua. Source: core/ops/pool3d.c.

local H = require "spec.helper"
local core = require "perigee.core"
local ops = core.ops

H.fixtures "pool3d"

local function distinct(shape, ...)
  local rest = table.pack(...)
  return function(t)
    local list = {t.distinct(shape), n = 1 + rest.n}
    table.move(rest, 1, rest.n, 2, list)
    return list
  end
end

local no_voxels = "'input': expected volumes with voxels, got %[2 x 3 x 0 x 4 x 4%]"
local whole = {function(t) return {t.int(1, 5, {2, 3, 4, 4, 4}), 2} end,
  "'input': expected .*, got int64"}
local flat = {distinct({4, 4, 4}, 2), "'input': expected 4 or 5 dims, got %[4 x 4 x 4%]"}

for _, name in ipairs {"max_pool3d", "avg_pool3d"} do
  H.op(name, {
    args = distinct({1, 2, 3, 4, 5}, 2),
    more = {distinct({2, 3, 3, 4}, 3, 2, 1), distinct({1, 1, 4, 3, 5}, {2, 3, 1}, 1)},
    large = distinct({3, 40, 5, 6, 6}, 3, 2, 1),
    empty = {distinct({0, 3, 4, 4, 4}, 2), {0, 3, 2, 2, 2}},
    wrong_shape = {flat, {distinct({2, 3, 0, 4, 4}, 2), no_voxels},
      {distinct({2, 3, 4, 4, 4}, 5), "fits into input %[2 x 3 x 4 x 4 x 4%], got 5"},
      {distinct({2, 3, 4, 4, 4}, {2, 2}), "'kernel_size': expected one integer or 3, got 2"},
      {distinct({2, 3, 4, 4, 4}, 3, 1, 2),
      "'padding': expected at most half of the kernel of 3, got 2"},
      {distinct({2, 3, 4, 4, 4}, 1 << 40), "'kernel_size': expected at most"}},
    wrong_dtype = whole,
  })
end
H.op("lp_pool3d", {
  args = function(t) return {t.positive(2, 2, 3, 4), 3, 2} end,
  empty = {function(t) return {t.randn(0, 3, 4, 4, 4), 2, 2} end, {0, 3, 2, 2, 2}},
  wrong_shape = {{distinct({2, 4, 4, 4}, 0, 2), "'norm_type': expected a number but 0, got 0"},
    {distinct({2, 4, 4, 4}, 2, 5), "fits into input .*, got 5"}},
  wrong_dtype = {function(t) return {t.int(1, 5, {3, 4, 4, 4}), 2, 2} end, "got int64"},
})
for _, kind in ipairs {"avg", "max"} do
  H.op("adaptive_" .. kind .. "_pool3d", {
    args = distinct({2, 3, 4, 5}, {2, 3, 2}), more = {distinct({1, 2, 2, 2, 2}, 3)},
    large = distinct({3, 40, 5, 6, 6}, 4),
    empty = {distinct({0, 3, 4, 4, 4}, 2), {0, 3, 2, 2, 2}},
    wrong_shape = {flat, {distinct({2, 3, 0, 4, 4}, 2), no_voxels},
      {distinct({2, 3, 4, 4}, {2, 0, 2}), "'output_size': expected at least 1, got 0"}},
    wrong_dtype = whole,
  })
end

it("max_unpool3d puts maxima back where max_pool3d found them", function()
  local x = H.t64.distinct(2, 3, 4, 4, 6)
  local y, places = ops.max_pool3d(x, 2, {return_indices = true})
  local back = ops.max_unpool3d(y, places, 2)
  assert.same(x.shape, back.shape)
  H.same(back, ops.where(back:ne(0), x, 0))
  H.same(ops.max_pool3d(back:abs(), 2), y:abs())
  H.raises(function() ops.max_unpool3d(y, places + 1000, 2) end, {"max_unpool3d", "1..96"})
end)
