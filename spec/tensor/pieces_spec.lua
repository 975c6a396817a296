--- Cutting into lists: PyTorch's values and gradients, messages.
-- Relies on spec/helper.lua. Source: lua/perigee/tensor/pieces.lua.

local H = require "spec.helper"
local core = require "perigee.core"
local ops = core.ops

H.fixtures("tensor_pieces")

local function on(shape, ...)
  local rest = {...}
  return function(t) return {t.randn(shape), table.unpack(rest)} end
end

H.op("split", {
  args = on({2, 7}, {2, 5}, 2), more = {on({7, 2}, 3)}, empty = on({0, 3}, 2),
  wrong_shape = {{on({2, 3}, {1, 1}, 2), "'split_size': .*got 2"},
    {on({2}, 0), "'split_size': expected a positive integer, got 0"},
    {on({2}, {-1, 3}), "expected sizes from 0, got %-1 at 1"},
    {on({}, 1), "'input': expected at least 1 dim, got %[%]"}, {on({2}, 1, 2), "%.%.%-1, got 2"}},
})
H.op("chunk", {args = on({7, 2}, 3), empty = on({0, 3}, 2),
  wrong_shape = {on({2}, 0), "'chunks': expected a positive integer, got 0"}})
H.op("unbind", {args = on({3, 2}, 2), empty = on({3, 0}, 1),
  wrong_shape = {on({3}, 2), "expected 1%.%.1 or %-1%.%.%-1, got 2"}})
H.op("tensor_split", {args = on({7, 2}, 3), more = {on({7}, {2, 5})}, empty = on({0, 2}, 2),
  wrong_shape = {on({2}, 0), "expected a positive integer"}})
H.op("hsplit", {args = on({2, 4}, 2), empty = on({2, 0}, 2),
  wrong_shape = {on({}, 2), "expected at least 1 dims"}})
H.op("vsplit", {args = on({4, 2}, 2), empty = on({0, 2}, 2),
  wrong_shape = {on({4}, 2), "expected at least 2 dims, got %[4%]"}})
H.op("dsplit", {args = on({1, 2, 4}, {3}), empty = on({1, 2, 0}, 2),
  wrong_shape = {on({4, 2}, 2), "expected at least 3 dims, got %[4 x 2%]"}})

describe("split", function()
  it("gives views", function()
    local x = core.tensor {1, 2, 3, 4, 5}
    local parts = ops.split(x, {2, 3})
    parts[2]:fill_(0)
    H.same(x, {1, 2, 0, 0, 0})
  end)
  it("lets tensor_split end pieces at indices", function()
    local parts = ops.tensor_split(core.tensor {1, 2, 3, 4, 5}, {2, -2})
    H.same(parts[1], {1, 2})
    H.same(parts[2], {3, 4})
    H.same(parts[3], {5})
  end)
end)
