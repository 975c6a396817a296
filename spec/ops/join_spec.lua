--- Joining and repeating: PyTorch's values and gradients, layouts, messages.
-- Relies on spec/helper.lua. Source: core/ops/join.c.

local H = require "spec.helper"
local core = require "perigee.core"
local ops = core.ops

H.fixtures("join")

local function on(shape, ...)
  local rest = {...}
  return function(t) return {t.randn(shape), table.unpack(rest)} end
end
local function list(shapes, ...)
  local rest = {...}
  return function(t)
    local tensors = {}
    for i, shape in ipairs(shapes) do tensors[i] = t.randn(shape) end
    return {tensors, table.unpack(rest)}
  end
end

H.op("cat", {
  args = list({{2, 3}, {2, 1}, {2, 2}}, 2), more = {list {{2, 3}, {1, 3}}, list({{2, 3}}, -1)},
  large = list({{200, 300}, {200, 31}}, 2), empty = {list({{0, 3}, {0, 2}}, 2), {0, 5}},
  wrong_shape = {{list {{2, 3}, {2, 4}},
    "'tensors': expected tensors like the first %[2 x 3%] but in dim 1, got %[2 x 4%] as tensor 2"},
    {list {{2}, {}},
      "'tensors': .*got %[%] as tensor 2; use stack for scalars"}, {list {}, "at least one tensor"},
    {list({{2, 3}, {2, 3}}, 3), "%.%.%-1, got 3"}},
  wrong_dtype = {function(t) return {{t.randn(2), 3}} end, "tensor at 2, got 3"},
})
H.op("stack", {
  args = list({{2, 3}, {2, 3}}, 2), more = {list {{2, 3}, {2, 3}}, list({{}, {}}, -1)},
  empty = {list {{0, 3}, {0, 3}}, {2, 0, 3}},
  wrong_shape = {{list {{2, 3}, {3, 2}}, "'tensors': .*got %[3 x 2%] as tensor 2"},
    {list {}, "at least one tensor"}},
})
H.op("tile", {
  args = on({2, 3}, 2, 2), more = {on({2, 3}, {3, 1, 2}), on({2, 3}, 2)},
  large = on({20, 30}, 20, 3),
  empty = {on({0, 3}, 2, 2), {0, 6}},
  wrong_shape = {on({2, 3}, -1, 2), "'dims': .*got %[%-1 x 2%]"},
})
H.op("repeat_each", {
  args = on({2, 3}, 2, 2), more = {on({2, 3}, 3), on({2, 3}, 2, 1)}, empty = on({0, 3}, 2),
  wrong_shape = {{on({2, 3}, -1), "'repeats': .*got %-1"},
    {on({2, 3}, 2, 3), "%.%.%-1, got 3"}},
})
H.op("flip", {
  args = on({2, 3, 2}, 1, -1), more = {on({4}, 1)}, large = on({300, 200}, 1, 2),
  empty = on({0, 3}, 1),
  wrong_shape = {{on({2, 3}, 3), "'dims': .*got 3"}, {on({2, 3}, 1, 1), "'dims': .*got %[1 x 1%]"}},
})
H.op("roll", {
  args = on({3, 4}, {1, -1}, {1, 2}), more = {on({3, 4}, 5), on({3, 4}, 2, 2)},
  large = on({300, 200}, {17, 3}, {1, 2}), empty = on({0, 3}, 1, 1),
  wrong_shape = {{on({3, 4}, {1, 2}, 1), "'shifts': .*got %[1 x 2%]"},
    {on({3, 4}, 1, 3), "%.%.%-1, got 3"}},
})
H.op("pad", {
  args = on({2, 3}, {1, 2, 0, 1}, "constant", 1.5),
  more = {on({2, 4}, {2, 1}, "reflect"), on({2, 4}, {3, 1, 1, 0}, "replicate"),
    on({2, 4}, {2, 3}, "circular"), on({4, 5}, {-1, 1, 2, -1})},
  large = on({30, 40, 50}, {3, 2, 1, 4}, "reflect"), empty = {on({0, 3}, {1, 1}), {0, 5}},
  wrong_shape = {{on({2, 3}, {3, 0}, "reflect"), "'pad': .*got 3, 0"},
    {on({2, 3}, {1}), "pairs for at most 2 dims of %[2 x 3%], got 1 numbers"},
    {on({2, 3}, {-2, -2}), "'pad': .*got %-2, %-2"}},
  wrong_dtype = {on({2, 3}, {1, 1}, "mirror"), "one of constant|reflect|replicate|circular"},
})
H.op("pad_backward", {
  args = on({2, 7}, {2, 4}, {2, 1}, "reflect"),
  more = {on({3, 8}, {2, 4}, {3, 1, 1, 0}, "replicate")},
  large = on({30, 45, 55}, {30, 40, 50}, {3, 2, 1, 4}, "circular"),
  empty = on({0, 5}, {0, 3}, {1, 1}, "circular"),
  wrong_dtype = {function(t) return {t.int(1, 5, {2, 5}), {2, 3}, {1, 1}} end, "got int64"},
})

describe("short pieces", function()
  local DTYPES = {"float32", "bfloat16", "float64", "uint8", "int64", "bool"}
  local function make(k, n, width, dtype)
    local values = {}
    for i = 1, n * width do
      values[i] = dtype == "bool" and (i * i + k) % 3 % 2 or (i * 7 + k * 13) % 127
    end
    return H.make(values, "float32", {n, width}):to(dtype), values
  end
  local function numbers(x) return H.values(x:to "float32") end

  it("lie in order whatever their widths and number", function()
    for _, dtype in ipairs(DTYPES) do
      for _, n in ipairs {2, 3, 17, 64, 131} do
        for _, widths in ipairs {{1, 1}, {1, 1, 1}, {1, 1, 1, 1}, {1, 1, 1, 1, 1}, {2, 2}, {1, 2},
          {3, 0, 5}, {8, 1}, {1, 1, 1, 1, 1, 1}, {1, 1, 1, 1, 1, 1, 1, 1, 1}, {70, 9}, {0, 2}} do
          local parts, lists, expected = {}, {}, {}
          for k, width in ipairs(widths) do parts[k], lists[k] = make(k, n, width, dtype) end
          for i = 0, n - 1 do
            for k, width in ipairs(widths) do
              for j = 1, width do expected[#expected + 1] = lists[k][i * width + j] end
            end
          end
          assert.same(expected, numbers(ops.cat(parts, 2)))
        end
      end
    end
  end)

  it("are stacked along any dim, strided and mixed ones too", function()
    for _, dtype in ipairs(DTYPES) do
      for count = 1, 9 do
        local parts = {}
        for k = 1, count do parts[k] = make(k, 33, 5, dtype) end
        for dim = 1, 3 do
          local y = ops.stack(parts, dim)
          for k = 1, count do assert.same(numbers(parts[k]), numbers(y:select(dim, k))) end
        end
        parts[1] = parts[1]:t():contiguous():t()
        local y = ops.stack(parts, 3)
        for k = 1, count do assert.same(numbers(parts[k]), numbers(y:select(3, k))) end
      end
    end
    local mixed = ops.stack({make(1, 20, 3, "uint8"), (make(2, 20, 3, "float32"))}, -1)
    assert.equal("float32", mixed.dtype)
    assert.same(numbers((make(1, 20, 3, "uint8"))), numbers(mixed:select(3, 1)))
  end)

  it("make results larger than the caches", function()
    local x, y = H.randn(1600, 1700), H.randn(1600, 1700)
    local z = ops.stack({x, y}, 3)
    assert.is_true(z:select(3, 1):equal(x) and z:select(3, 2):equal(y))
    x, y = x:view(-1, 17), y:view(-1, 17)
    z = ops.cat({x, y}, 2)
    assert.is_true(z:narrow(2, 1, 17):equal(x) and z:narrow(2, 18, 17):equal(y))
  end)

  it("give every stacked tensor its gradient", function()
    for count = 2, 5 do
      local parts = {}
      for k = 1, count do parts[k] = H.leaf(H.randn(40, 11), true) end
      local g = H.randn(40, 11, count)
      core.backward(ops.stack(parts, 3), g)
      for k = 1, count do H.same(parts[k].grad, g:select(3, k), 0) end
    end
  end)
end)

describe("cat", function()
  it("keeps images in channels-last memory", function()
    local a, b = H.randn(2, 3, 4, 5), H.randn(2, 2, 4, 5)
    local y = ops.cat({H.layouts.channels_last(a), H.layouts.channels_last(b)}, 2)
    assert.equal(1, y:stride()[2])
    H.same(y, ops.cat({a, b}, 2))
  end)

  it("joins a thousand tensors and finds the gradient of each", function()
    local parts = {}
    for i = 1, 1000 do parts[i] = H.leaf(H.make({i}, "float32", {1}), true) end
    local y = ops.cat(parts)
    core.backward((y * y):sum())
    for i = 1, 1000, 111 do assert.equal(2.0 * i, parts[i].grad:item()) end
  end)
end)
