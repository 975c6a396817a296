--- Indexing: PyTorch's values and gradients, checks before anything is written, messages.
-- Relies on spec/helper.lua. Source: core/ops/index.c.

local H = require "spec.helper"
local core = require "perigee.core"
local ops = core.ops

H.fixtures("index")

local function i64(values, shape) return H.make(values, "int64", shape or {#values}) end
local function mask(values, shape) return H.make(values, "bool", shape or {#values}) end

-- Indices out of range are found when the op runs: shapes alone do not show them.
H.op("index_select", {
  args = function(t) return {t.randn(2, 4, 3), 2, i64 {4, 1, 1, 3, 2}} end,
  more = {function(t) return {t.randn(4, 2), 1, i64 {4, 1, 1}} end},
  large = function(t) return {t.randn(50, 900), 1, t.int(1, 50, {400})} end,
  empty = {function(t) return {t.randn(2, 0, 3), 2, i64 {}} end, {2, 0, 3}},
  wrong_shape = {{function(t) return {t.randn(3, 4), 1, t.int(1, 3, {2, 2})} end,
    "'index': expected one dim, got %[2 x 2%]"},
    {function(t) return {t.randn(3, 4), 1, i64 {1, 4}} end,
      "expected 1%.%.3.*, got 4 at position 2"},
    {function(t) return {t.randn(3, 4), 2, i64 {0}} end, "got 0 at position 1"}},
  wrong_dtype = {function(t) return {t.randn(3, 4), 1, t.randn(2)} end,
    "'index': expected int64, got float32"},
})
H.op("index_add", {
  args = function(t) return {t.randn(2, 4, 3), 2, i64 {4, 1, 1}, t.randn(2, 3, 3), -0.5} end,
  more = {function(t) return {t.randn(4), 1, i64 {4, 1, 1}, t.randn(3)} end},
  large = function(t) return {t.randn(20, 300), 1, t.int(1, 20, {400}), t.randn(400, 300)} end,
  empty = function(t) return {t.randn(4, 3), 1, i64 {}, t.randn(0, 3)} end,
  wrong_shape = {{function(t) return {t.randn(4, 3), 1, i64 {1, 2}, t.randn(3, 3)} end,
    "'source': .*got %[3 x 3%]"},
    {function(t) return {t.randn(4), 1, i64 {5}, t.randn(1)} end, "got 5 at position 1"}},
  wrong_dtype = {function(t) return {t.randn(4), 1, i64 {1}, t.int(1, 2, {1})} end,
    "expected float32 as 'input', got int64"},
})
H.op("index_copy", {
  args = function(t) return {t.randn(4, 3), 1, i64 {4, 1}, t.randn(2, 3)} end,
  empty = function(t) return {t.randn(4, 3), 1, i64 {}, t.randn(0, 3)} end,
  wrong_shape = {function(t) return {t.randn(4, 3), 2, i64 {1}, t.randn(4)} end,
    "'source': expected %[4 x 1%] to follow input %[4 x 3%] and 1 indices into dim 2, got %[4%]"},
  wrong_dtype = {function(t) return {t.randn(4), 1, i64 {1}, t.int(1, 2, {1})} end, "int64"},
})
H.op("index_fill", {
  args = function(t) return {t.randn(4, 3), 2, i64 {3, 1}, 2.5} end,
  empty = function(t) return {t.randn(4, 0), 1, i64 {2}, 1} end,
  wrong_shape = {function(t) return {t.randn(4, 3), 2, i64 {4}, 1} end, "got 4 at position 1"},
  wrong_dtype = {function(t) return {t.randn(4), 1, t.randn(1), 1} end, "expected int64"},
})
H.op("gather", {
  args = function(t) return {t.randn(3, 4), 2, i64({4, 1, 2, 2, 3, 3}, {3, 2})} end,
  more = {function(t) return {t.randn(3, 4), 1, t.int(1, 3, {5, 2})} end,
    function(t) return {t.randn(5), 1, i64 {5, 5}} end},
  large = function(t) return {t.randn(300, 200), 1, t.int(1, 300, {280, 190})} end,
  empty = {function(t) return {t.randn(3, 4), 2, t.int(1, 4, {3, 0})} end, {3, 0}},
  wrong_shape = {{function(t) return {t.randn(3, 4), 2, t.int(1, 3, {4, 2})} end,
    "'index': expected at most the sizes of input %[3 x 4%] but in dim 2, got %[4 x 2%]"},
    {function(t) return {t.randn(3, 4), 2, i64({1, 5}, {1, 2})} end,
      "expected 1%.%.4.*, got 5 at position 2"}},
  wrong_dtype = {function(t) return {t.randn(3), 1, t.randn(3)} end, "expected int64"},
})
H.op("scatter", {
  args = function(t) return {t.randn(3, 4), 2, i64({4, 1, 2, 3, 3, 1}, {3, 2}), t.randn(3, 2)} end,
  more = {function(t) return {t.randn(3, 4), 1, i64({3, 1, 2, 3}, {1, 4}), t.randn(2, 4)} end,
    function(t) return {t.randn(3, 4), 1, t.int(1, 3, {5, 2}), -3} end},
  large = function(t) return {t.randn(300, 200), 1, t.int(1, 300, {280, 190}), t.randn(280, 190)}
  end,
  smooth = true,
  empty = function(t) return {t.randn(3, 4), 2, t.int(1, 4, {3, 0}), t.randn(3, 0)} end,
  wrong_shape = {{function(t) return {t.randn(3, 4), 2, t.int(1, 3, {3, 2}), t.randn(3, 1)} end,
    "'src': expected at least the sizes of index %[3 x 2%], got %[3 x 1%]"},
    {function(t) return {t.randn(3), 1, i64 {0}, t.randn(1)} end, "got 0 at position 1"}},
  wrong_dtype = {function(t) return {t.randn(3), 1, i64 {1}, t.int(1, 2, {1})} end, "int64"},
})
H.op("scatter_add", {
  args = function(t) return {t.randn(3, 4), 2, t.int(1, 4, {3, 6}), t.randn(3, 6)} end,
  more = {function(t) return {t.randn(3, 4), 1, t.int(1, 3, {5, 2}), t.randn(6, 2)} end},
  large = function(t) return {t.randn(30, 200), 1, t.int(1, 30, {280, 190}), t.randn(280, 190)}
  end,
  empty = function(t) return {t.randn(3, 4), 2, t.int(1, 4, {3, 0}), t.randn(3, 0)} end,
  wrong_shape = {function(t) return {t.randn(3, 4), 2, t.int(1, 3, {3, 2}), t.randn(3, 1)} end,
    "'src': expected at least the sizes of index %[3 x 2%], got %[3 x 1%]"},
  wrong_dtype = {function(t) return {t.bool(3), 1, i64 {1}, t.bool(1)} end, "got bool"},
})
H.op("take", {
  args = function(t) return {t.randn(3, 4), i64({1, 12, 5, 5, -1, 2}, {2, 3})} end,
  empty = function(t) return {t.randn(3, 4), i64({}, {0, 2})} end,
  wrong_shape = {function(t) return {t.randn(3, 4), i64 {13}} end,
    "expected 1%.%.12.*, got 13 at position 1"},
  wrong_dtype = {function(t) return {t.randn(3), t.randn(1)} end, "expected int64"},
})
H.op("index", {
  args = function(t) return {t.randn(4, 3, 2), i64({4, -4}, {2, 1}), i64 {1, 3, 3}} end,
  more = {function(t) return {n = 3, t.randn(4, 3), nil, i64 {3, 3}} end,
    function(t) return {n = 4, t.randn(4, 3, 2), i64 {3, 3}, nil, i64 {1, 2}} end},
  large = function(t) return {t.randn(50, 900), t.int(1, 50, {400})} end,
  empty = {function(t) return {t.randn(4, 3), i64 {}} end, {0, 3}},
  wrong_shape = {{function(t) return {t.randn(4), i64 {1}, i64 {1}} end,
    "'i2': expected no more indices than input %[4%] has dims, got %[1%]"},
    {function(t) return {t.randn(4, 3), i64 {1, 2}, i64 {1, 2, 3}} end, "broadcast"},
    {function(t) return {t.randn(4, 3), i64 {5}} end, "got 5 at position 1"},
    {function(t) return {t.randn(4, 3), mask {1, 0, 1}} end,
      "'i1': expected a mask %[4%] for dims 1%.%.1 of input %[4 x 3%], got %[3%]"}},
  wrong_dtype = {function(t) return {t.randn(4), t.randn(2)} end, "'i1': expected int64 or bool"},
})
H.op("index_put", {
  args = function(t) return {t.randn(4, 3, 2), t.randn(2, 2), i64 {4, 1}, i64 {2, 3}} end,
  more = {function(t) return {t.randn(4, 3), t.randn(3), i64 {4, 4}, {accumulate = true}} end,
    function(t) return {n = 4, t.randn(4, 3), t.randn(2), nil, i64 {3, 1}} end},
  large = function(t)
    return {t.randn(50, 900), t.randn(400, 900), t.int(1, 50, {400}), {accumulate = true}}
  end,
  empty = function(t) return {t.randn(4, 3), t.randn(0, 3), i64 {}} end,
  wrong_shape = {{function(t) return {t.randn(4, 3), t.randn(2, 2), i64 {1, 2}} end,
    "'values': expected a shape that broadcasts to the indexed part %[2 x 3%], got %[2 x 2%]"},
    {function(t) return {t.randn(4, 3), t.randn(3), i64 {1, -5}} end, "got %-5 at position 2"}},
  wrong_dtype = {function(t) return {t.randn(4), t.int(1, 2, {1}), i64 {1}} end, "'values'"},
})
H.op("masked_select", {
  args = function(t) return {t.randn(2, 3), mask({1, 0, 1, 1, 0, 0}, {2, 3})} end, meta = false,
  more = {function(t) return {t.randn(2, 1), mask {1, 0, 1}} end},
  empty = {function(t) return {t.randn(0, 3), mask {1, 0, 1}} end, {0}},
  wrong_shape = {function(t) return {t.randn(2, 3), mask {1, 0}} end, "broadcast"},
  wrong_dtype = {function(t) return {t.randn(2), i64 {1, 0}} end, "'mask': expected bool"},
})
H.op("masked_scatter", {
  args = function(t) return {t.randn(2, 3), mask({1, 0, 1, 1, 0, 0}, {2, 3}), t.randn(2, 2)} end,
  more = {function(t) return {t.randn(2, 3), mask {1, 0, 1}, t.randn(5)} end},
  empty = function(t) return {t.randn(0, 3), mask {1, 0, 1}, t.randn(0)} end,
  wrong_shape = {{function(t) return {t.randn(2, 3), mask {1, 0, 1}, t.randn(3)} end,
    "'source': expected at least 4 elements, as the mask asks for, got %[3%]"},
    {function(t) return {t.randn(3), mask({1, 1, 1}, {1, 3}), t.randn(3)} end,
      "'mask': expected a shape that broadcasts to input %[3%], got %[1 x 3%]"}},
  wrong_dtype = {function(t) return {t.randn(2), mask {1, 0}, i64 {1}} end, "got int64"},
})
H.op("nonzero", {
  args = function(t) return {t.tensor {{0, 1, 0}, {2, 0, 3}}} end, meta = false,
  empty = {function(t) return {t.randn(0, 3)} end, {0, 2}},
})
H.op("embedding", {
  args = function(t) return {i64({3, 1, 3, 2}, {2, 2}), t.randn(3, 2)} end,
  more = {function(t) return {i64 {3, 1, 3, 2}, t.randn(3, 2), 3} end,
    function(t) return {i64 {3, 1}, t.randn(3, 2), -1} end},
  large = function(t) return {t.int(1, 20, {600}), t.randn(20, 300)} end,
  empty = {function(t) return {i64({}, {2, 0}), t.randn(3, 2)} end, {2, 0, 2}},
  wrong_shape = {{function(t) return {i64 {1, 4, 2}, t.randn(3, 2)} end,
    "expected 1%.%.3.*, got 4 at position 2"},
    {function(t) return {i64 {1}, t.randn(3)} end, "'weight': expected 2 dims, got %[3%]"},
    {function(t) return {i64 {1}, t.randn(3, 2), 4} end, "'padding_idx': .*got 4"}},
  wrong_dtype = {function(t) return {t.randn(2), t.randn(3, 2)} end, "expected int64, got float32"},
  -- padding_idx stops the gradient on purpose
  fn = function(index, weight, pad)
    local y = ops.embedding(index, weight, pad)
    return pad and y * index:ne(pad % 4):unsqueeze(-1) or y
  end,
})
H.op("one_hot", {
  args = function() return {i64({3, 1, 2}, {3, 1}), 4} end,
  empty = {function() return {i64({}, {0, 2}), 3} end, {0, 2, 3}},
  wrong_shape = {{function() return {i64 {1, 5}, 4} end, "got 5 at position 2"},
    {function() return {i64 {1}, 0} end, "'num_classes': expected at least 1, or %-1, got 0"}},
  wrong_dtype = {function(t) return {t.randn(2), 3} end, "expected int64"},
})
for _, name in ipairs {"tril", "triu"} do
  H.op(name, {
    args = function(t) return {t.randn(3, 4), 1} end,
    more = {function(t) return {t.randn(2, 4, 3), -1} end},
    large = function(t) return {t.randn(300, 200), 5} end,
    empty = function(t) return {t.randn(0, 3)} end,
    wrong_shape = {function(t) return {t.randn(3)} end, "at least 2 dims, got %[3%]"},
  })
end

describe("gather", function()
  local function naive(x, shape, dim, index) -- lists in row-major order
    local from, to, y = {}, {}, {}
    local a, b = 1, 1
    for d = #shape.index, 1, -1 do
      from[d], to[d] = a, b
      a, b = a * shape.x[d], b * shape.index[d]
    end
    for i = 0, #index - 1 do
      local at = 1
      for d = 1, #shape.index do
        local k = i // to[d] % shape.index[d]
        at = at + (d == dim and index[i + 1] - 1 or k) * from[d]
      end
      y[i + 1] = x[at]
    end
    return y
  end
  local SHAPES = {{{40, 10}, {40, 1}}, {{40, 10}, {40, 3}}, {{300, 10}, {299, 4}},
    {{9, 70}, {9, 70}}, {{3, 2000}, {2, 1900}}, {{4, 5, 6}, {4, 5, 1}}, {{4, 5, 6}, {4, 1, 6}},
    {{4, 5, 6}, {1, 5, 6}}, {{4, 5, 6}, {3, 2, 9}}, {{4, 5, 6}, {1, 1, 1}},
    {{2, 3, 4, 5}, {2, 2, 4, 1}}, {{7}, {1}}, {{7}, {3000}}}

  it("takes each element along any dim, in every dtype and layout", function()
    for _, pair in ipairs(SHAPES) do
      local shape = {x = pair[1], index = pair[2]}
      for dim = 1, #shape.x do
        local fits, n, m = true, 1, 1
        for d = 1, #shape.x do
          fits = fits and (d == dim or shape.index[d] <= shape.x[d])
          n, m = n * shape.x[d], m * shape.index[d]
        end
        if fits then
          local values, at = {}, {}
          for i = 1, n do values[i] = i * 31 % 127 end
          for i = 1, m do at[i] = i * i * 7 % shape.x[dim] + 1 end
          local index = i64(at, shape.index)
          local expected = naive(values, shape, dim, at)
          for _, dtype in ipairs {"float32", "bfloat16", "float64", "uint8", "int64"} do
            local x = H.make(values, "float32", shape.x):to(dtype)
            local y = x:gather(dim, index)
            assert.same(shape.index, y.shape)
            assert.same(expected, H.values(y:to "float32"))
            local turned = x:transpose(1, -1):contiguous():transpose(1, -1)
            local strided = index:transpose(1, -1):contiguous():transpose(1, -1)
            assert.same(expected, H.values(turned:gather(dim, strided):to "float32"))
          end
          local zeros = ops.zeros(shape.x)
          local ones = zeros:scatter(dim, index, 1)
          local counts = zeros:scatter_add(dim, index, ops.ones(shape.index))
          assert.same(H.values(ones), H.values(counts:clamp(0, 1)))
          assert.equal(m, counts:sum():item())
        end
      end
    end
  end)

  it("refuses an index out of range wherever it stands", function()
    for _, shape in ipairs {{3, 40000}, {90000, 1}, {30000, 4}} do
      local n = shape[1] * shape[2]
      local x = H.randn(shape[1], 5)
      for _, at in ipairs {1, n // 2, n} do
        for _, wrong in ipairs {0, 6, -1, math.mininteger, math.maxinteger} do
          local index = ops.ones({n}, {dtype = "int64"})
          index[at] = wrong
          local number = tostring(wrong):gsub("%-", "%%-")
          H.raises(function() x:gather(2, index:view(shape)) end,
            {"gather", ("expected 1..5, got %s at position %d"):format(number, at)})
        end
      end
    end
  end)
end)

describe("index", function()
  it("cannot tell shapes from masks without data", function()
    H.raises(function() ops.index(core.meta("float32", {3}), core.meta("bool", {3})) end,
      "depends on the data")
    H.raises(function() ops.nonzero(core.meta("float32", {3})) end, "depends on the data")
  end)

  it("changes nothing when an index is wrong", function()
    local x = H.randn(4, 3)
    local before = x:bytes()
    H.raises(function() x:index_put_(H.randn(2, 3), i64 {1, 9}) end, "got 9 at position 2")
    H.raises(function() x:index_add_(1, i64 {1, 9}, H.randn(2, 3)) end, "got 9 at position 2")
    H.raises(function() x:scatter_(1, i64({1, 9}, {1, 2}), 1) end, "got 9 at position 2")
    H.raises(function() x:index_fill_(1, i64 {1, 0}, 1) end, "got 0 at position 2")
    assert.equal(before, x:bytes())
  end)

  it("lets the last of equal indices win", function()
    local x = ops.zeros(3)
    x:index_put_(H.make({1, 2, 3}, "float32", {3}), i64 {2, 2, 2})
    H.same(x, H.make({0, 3, 0}, "float32", {3}))
  end)
end)
