--- Views, copies and casts: PyTorch's values and gradients, sharing of memory, messages.
-- Relies on spec/helper.lua. Source: core/ops/shape.c.

local H = require "spec.helper"
local core = require "perigee.core"
local ops = core.ops

H.fixtures("shape")

-- args functions: a tensor of this shape and further arguments.
local function on(shape, ...)
  local rest = {...}
  return function(t) return {t.randn(shape), table.unpack(rest)} end
end

H.op("view", {
  args = on({2, 6}, 3, -1), more = {on({2, 6}, {2, 2, 3})}, empty = {on({0, 4}, 2, -1), {2, 0}},
  wrong_shape = {{on({2, 3}, 4, -1), "'shape': .*got %[4 x %-1%]"},
    {on({2, 3}, 7), "'shape': .*got %[7%]"}, {on({2, 3}, -1, -1), "expected sizes for the"},
    {on({2, 3}, -2, -3), "expected sizes for the"}, {on({0, 3}, 0, -1), "expected sizes for the"}},
  wrong_dtype = {on({2, 3}, 1.5), "integers?, got 1.5"},
})
H.op("view_as", {
  args = function(t) return {t.randn(2, 6), t.zeros(3, 4)} end, fixed = {2},
  empty = function(t) return {t.randn(0, 6), t.zeros(3, 0)} end,
  wrong_shape = {function(t) return {t.randn(2, 6), t.zeros(5)} end, "'other': .*got %[5%]"},
})
H.op("flatten", {
  args = on({2, 3, 4}, 2), more = {on({2, 3, 4}), on({2, 3, 4}, 1, 2)}, empty = on {2, 0, 3},
  wrong_shape = {{on({2, 3}, 3), "'start_dim': expected 1%.%.2 or %-2%.%.%-1, got 3"},
    {on({2, 3}, 2, 1), "'end_dim': expected a dim that does not come before start_dim 2, got 1"}},
})
H.op("unflatten", {
  args = on({2, 6}, 2, {3, -1}), empty = on({0, 6}, 2, {3, 2}),
  wrong_shape = {on({2, 6}, 2, {4, -1}), "'sizes': .*got %[4 x %-1%]"},
})
H.op("permute", {
  args = on({2, 3, 4}, 3, 1, 2), more = {on({2, 3, 4}, {-1, -2, 1})}, empty = on({2, 0}, 2, 1),
  wrong_shape = {{on({2, 3}, 1), "'dims': expected all 2 dims of input %[2 x 3%], got 1"},
    {on({2, 3}, 1, 1), "expected each dim once"}, {on({2, 3}, 1, 3), "%.%.%-1, got 3"}},
})
H.op("transpose", {
  args = on({2, 3, 4}, 1, -1), empty = on({2, 0}, 1, 2),
  wrong_shape = {on({2, 3}, 1, 3), "'dim1': expected 1%.%.2 or %-2%.%.%-1, got 3"},
})
H.op("t", {args = on {2, 3}, more = {on {3}}, empty = on {0, 3},
  wrong_shape = {on {2, 3, 4}, "'input': .*got %[2 x 3 x 4%]"}})
H.op("movedim", {
  args = on({2, 3, 4}, 1, 3), more = {on({2, 3, 4}, {1, 2}, {3, 1})}, empty = on({2, 0}, 1, 2),
  wrong_shape = {{on({2, 3}, {1, 2}, {1}), "'destination': .*got 1"},
    {on({2, 3}, {1, 1}, {1, 2}), "expected each dim once"}},
})
H.op("squeeze", {
  args = on {2, 1, 3, 1}, more = {on({2, 1, 3, 1}, 2), on({2, 1, 3, 1}, {2, -1}), on({2, 1}, 1)},
  empty = on {0, 1}, wrong_shape = {on({2, 1}, 3), "%.%.%-1, got 3"},
})
H.op("unsqueeze", {
  args = on({2, 3}, 2), more = {on({2, 3}, -1), on({2, 3}, 1)}, empty = on({0}, 1),
  wrong_shape = {{on({2, 3}, 4), "expected 1%.%.3 or %-3%.%.%-1, got 4"},
    {on({1, 1, 1, 1, 1, 1, 1, 1}, 1), "'input': .*got %[1 x 1 x 1 x 1 x 1 x 1 x 1 x 1%]"}},
})
H.op("expand", {
  args = on({3, 1}, 2, 3, 2), more = {on({3, 1}, -1, 4)}, empty = on({1, 3}, 0, 3),
  wrong_shape = {on({2, 3}, 4, 3), "'size': .*got %[4 x 3%]"},
})
H.op("expand_as", {
  args = function(t) return {t.randn(3, 1), t.zeros(2, 3, 2)} end, fixed = {2},
  empty = function(t) return {t.randn(1), t.zeros(0)} end,
  wrong_shape = {function(t) return {t.randn(3), t.zeros(2)} end, "'other': .*got %[2%]"},
})
H.op("select", {
  args = on({3, 4}, 2, -1), more = {on({3, 4}, 1, 2)}, empty = on({3, 0}, 1, 1),
  wrong_shape = {{on({3, 4}, 1, 4),
    "'index': expected 1%.%.3 or %-3%.%.%-1 for dim 1 of %[3 x 4%], got 4"},
    {on({3, 4}, 1, 0), "'index': .*got 0"}, {on({}, 1, 1), "at least one dim"}},
})
H.op("slice", {
  args = on({5, 3}, 1, 2, -1, 2), more = {on({5, 3}, 2, -2), on({5, 3}, 1, 4, 3)},
  empty = on({0, 3}, 1),
  wrong_shape = {{on({5, 3}, 1, 2, 6), "'last': .*got 6"},
    {on({5, 3}, 1, 0, 2),
      "'first': .*got 0"}, {on({5, 3}, 1, 1, 2, 0), "'step': expected at least 1"}},
})
H.op("narrow", {
  args = on({5, 3}, 1, 2, 3), more = {on({5, 3}, 2, -2, 2)}, empty = on({5, 3}, 1, 6, 0),
  wrong_shape = {on({5, 3}, 1, 4, 3), "'length': .*got 3"},
})
H.op("unfold", {
  args = on({2, 5}, 2, 3, 1), more = {on({6, 2}, 1, 2, 3)}, empty = on({0, 5}, 2, 2, 2),
  wrong_shape = {{on({2, 5}, 2, 6, 1), "'size': expected 0..5 for dim 2 of %[2 x 5%], got 6"},
    {on({2, 5}, 2, 2, 0), "'step': expected at least 1, got 0"}},
})
H.op("diagonal", {
  args = on {3, 4}, more = {on({2, 3, 4}, -1, 3, 1), on({3, 4}, 2)}, empty = on {0, 3},
  wrong_shape = {{on {3}, "'dim2': expected 1%.%.1 or %-1%.%.%-1, got 2"},
    {on({3, 4}, 0, 1, 1), "'dim2': expected another dim than dim1 1, got 1"}},
})
-- Strides and offsets count stored elements, which another layout numbers otherwise.
local function same_places(name)
  return function(x, ...) return ops[name](x:contiguous(), ...) end
end
H.op("as_strided", {
  args = on({12}, {3, 2}, {4, 1}, 1), more = {on({12}, {3, 4}, {2, 1})},
  fn = same_places "as_strided", empty = on({12}, {0, 2}, {4, 1}),
  wrong_shape = {{on({12}, {3, 5}, {4, 1}), "'size': .*got %[3 x 5%]"},
    {on({12}, {3}, {4, 1}), "as many strides as sizes"}, {on({12}, {3}, {-1}), "'stride'"},
    {on({12}, {2}, {1}, -1), "from offset %-1"}},
})
H.op("as_strided_scatter", {
  args = function(t) return {t.randn(3, 4), t.randn(2, 2), {2, 2}, {5, 1}, 1} end,
  more = {function(t) return {t.randn(3, 4), t.randn(2), {2, 2}, {4, 2}} end},
  fn = same_places "as_strided_scatter",
  empty = function(t) return {t.randn(3, 4), t.randn(0, 2), {0, 2}, {5, 1}} end,
  wrong_shape = {function(t) return {t.randn(3, 4), t.randn(3), {2, 2}, {5, 1}} end,
    "'src': expected a shape that broadcasts to size %[2 x 2%], got %[3%]"},
})
H.op("contiguous", {args = on {2, 3}, empty = on {0, 3}})
H.op("clone", {args = on {2, 3}, empty = on {0, 3}})
H.op("detach", {args = on {2, 3}, empty = on {0, 3}})
H.op("to", {args = on({2, 3}, "float64"), empty = on({0}, "float64"),
  wrong_dtype = {on({2}, "float16"), "a dtype such as \"float32\", got 'float16'"}})
H.op("type_as", {
  args = function(t) return {t.randn(2, 3), t.int(1, 2, {2}):to "float64"} end, fixed = {2},
  empty = function(t) return {t.randn(0), t.randn(2)} end,
})

describe("views", function()
  it("share memory where they can, and copy where they must", function()
    local x = ops.zeros(2, 3)
    x:view(3, 2)[{3, 1}] = 5
    x:t():select(1, 1):fill_(7)
    H.same(x, H.make({7, 0, 0, 7, 5, 0}, "float32", {2, 3}))
    local y = x:t():view(6)
    y:fill_(9)
    H.same(x, H.make({7, 0, 0, 7, 5, 0}, "float32", {2, 3}))
  end)

  it("read images in channels-last memory in logical order", function()
    local x = H.randn(2, 3, 4, 5)
    local image = H.layouts.channels_last(x)
    H.same(image:flatten(2), x:view(2, -1))
    H.same(image:view(6, 20), x:view(6, 20))
  end)

  it("find a gradient through views of views", function()
    H.gradcheck(function(x)
      return x:transpose(1, 2):slice(1, 2, 4, 2):select(2, 2):unsqueeze(1):expand(3, 2)
    end, H.t64.randn(3, 4))
  end)

  it("give as_strided of a view the gradient of its own elements", function()
    H.gradcheck(function(x) return x:t():as_strided({2, 2}, {1, 4}, 1) end, H.t64.randn(3, 4))
  end)
end)

H.op("copy_", {
  args = function(t) return {t.randn(2, 3), t.randn(3)} end,
  more = {function(t) return {t.randn(2, 3), 1.5} end},
  empty = function(t) return {t.randn(0, 3), t.randn(3)} end,
  fn = function(x, src) return (x * 2):copy_(src) + x end,
})

describe("copy_", function()
  it("broadcasts and casts", function()
    local x = ops.zeros(2, 3)
    assert.equal(x, x:copy_(core.tensor({1, 2, 3}, {dtype = "int64"})))
    H.same(x, H.make({1, 2, 3, 1, 2, 3}, "float32", {2, 3}))
    x:copy_(4)
    H.same(x, ops.full({2, 3}, 4.0))
  end)

  it("refuses what does not fit", function()
    H.raises(function() ops.zeros(2, 3):copy_(ops.zeros(2)) end, {"copy_", "%[2%]"})
    H.raises(function() ops.zeros(3):copy_(ops.zeros(2, 3)) end, "'src': .*got %[2 x 3%]")
  end)
end)

H.op("scatter_view", {
  args = on({2, 3}, {3, 4}, {5, 1}, 1), more = {on({3, 4}, {9}, {2, 1}, 1)},
  large = on({40, 50}, {60}, {1, 0}, 3), empty = {on({0, 3}, {3, 4}, {4, 1}, 0), {3, 4}},
})

it("unfold counts every window in its gradient", function()
  local w = H.leaf(H.randn(64), true)
  core.backward(w:unfold(1, 20, 1):sum())
  local counts = {}
  for i = 1, 64 do counts[i] = math.min(i, 20, 65 - i) end
  H.same(w.grad, H.make(counts, "float32", {64}))
end)
