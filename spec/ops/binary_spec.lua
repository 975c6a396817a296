-- Elementwise functions of two and three tensors. Sources: core/ops/binary.c, core/ops/loops.h.
-- Relies on spec/helper.lua and PyTorch's values in spec/fixtures/binary.safetensors.

local core = require "perigee.core"
local H = require "spec.helper"
local ops = core.ops

for _, family in ipairs {"binary", "power", "compare"} do H.fixtures(family) end

local MISFIT = "%[3 x 5%].*%[4%]"

local function wide(x) return x:expand {200, 200}:contiguous() end

-- first(t, shape..), second(t, shape..) give the operands; options follow them.
local function op(name, first, second, option, more)
  local function args(a, b)
    return function(t) return {first(t, a), second(t, b), option} end
  end
  local spec = {
    args = args({3, 5}, {3, 5}),
    more = {
      args({3, 1}, {4, 1, 5}), args({2, 3, 4, 5}, {3, 1, 1}), args({}, {3}), args({3, 5}, {}),
    },
    large = function(t)
      return {wide(first(t, {1, 200})), wide(second(t, {200, 1})), option}
    end,
    empty = {args({0, 3}, {3}), {0, 3}},
    wrong_shape = {args({3, 5}, {4}), MISFIT},
  }
  for key, value in pairs(more or {}) do spec[key] = value end
  H.op(name, spec)
end

local function normal(t, shape) return t.randn(shape) end
local function nonzero(t, shape) return t.away(0, shape) end
local function positive(t, shape) return t.positive(shape) end
-- nowhere near each other
local function shifted(by)
  return function(t, shape)
    return H.map(t.int(-4, 4, shape), function(v) return v + by end, t.dtype)
  end
end
local low, high = shifted(0.3), shifted(0.7)
local function far(t, shape) -- beyond 16, so that quotients with low stay inside one step
  return H.map(high(t, shape), function(v) return v < 0 and v - 20 or v + 20 end)
end
local function whole(t, shape) return t.int(-9, 9, shape) end
local function count(t, shape) return t.int(0, 7, shape) end

op("add", normal, normal)
op("add", normal, normal, {alpha = -0.5})
op("sub", normal, normal)
op("sub", normal, normal, {alpha = 2})
op("mul", normal, normal)
op("div", normal, nonzero)
op("div", low, positive, {rounding_mode = "floor"}, {smooth = false, rtol = 1, atol = 1e9})
op("div", low, positive, {rounding_mode = "trunc"}, {smooth = false, rtol = 1, atol = 1e9})
op("pow", positive, normal)
op("remainder", low, far)
op("fmod", low, far)
op("floor_divide", low, positive)
for name in ("maximum minimum fmax fmin"):gmatch "%S+" do op(name, low, high) end
op("atan2", nonzero, nonzero)
op("hypot", nonzero, nonzero)
op("copysign", nonzero, nonzero)
op("logaddexp", normal, normal)
op("xlogy", positive, positive)
for name in ("eq ne lt le gt ge isclose logical_and logical_or logical_xor"):gmatch "%S+" do
  op(name, normal, normal)
end
for name in ("bitwise_and bitwise_or bitwise_xor"):gmatch "%S+" do
  op(name, whole, whole, nil, {
    wrong_dtype = {
      {function(t) return {t.randn(3), t.int(1, 5, 3)} end, "'input'.*got float32"},
      {function(t) return {t.int(1, 5, 3), 0.5} end, "'other': expected an integer, got 0.5"},
    },
  })
end
for name in ("bitwise_left_shift bitwise_right_shift"):gmatch "%S+" do
  op(name, whole, count, nil, {
    wrong_dtype = {function(t) return {t.bool(3), t.int(1, 5, 3)} end, "'input'.*got bool"},
  })
end

local function three(name, draw, last, option)
  H.op(name, {
    args = function(t) return {draw(t, {3, 5}), draw(t, {3, 5}), last(t, {3, 5}), option} end,
    more = {
      function(t) return {draw(t, {3, 5}), draw(t, {3, 1}), last(t, {5}), option} end,
      function(t) return {draw(t, {5}), draw(t, {2, 3, 4, 5}), last(t, {3, 1, 1}), option} end,
    },
    large = function(t)
      return {wide(draw(t, {1, 200})), wide(draw(t, {200, 1})), wide(last(t, {1, 200})), option}
    end,
    empty = {function(t) return {draw(t, {0, 3}), draw(t, {3}), last(t, {3}), option} end, {0, 3}},
    wrong_shape = {
      function(t) return {draw(t, {3, 5}), draw(t, {4}), last(t, {5}), option} end, MISFIT,
    },
  })
end
three("lerp", normal, function(t, shape) return t.uniform(0.1, 0.4, shape) end)
three("addcmul", normal, normal, {value = -0.5})
three("addcdiv", normal, nonzero, {value = -0.5})

H.op("where", {
  args = function(t) return {t.bool(3, 5), t.randn(3, 5), t.randn(5)} end,
  more = {
    function(t) return {t.bool(3, 1), t.randn(5), 2} end,
    function(t) return {t.bool(2, 3, 4, 5), 1, t.randn(3, 1, 1)} end,
    function(t) return {t.randn(3, 5), t.bool(3, 5), t.randn(5)} end,
  },
  large = function(t) return {wide(t.bool(1, 200)), wide(t.randn(1, 200)), t.randn(200)} end,
  empty = {function(t) return {t.bool(0, 3), t.randn(3), t.randn(3)} end, {0, 3}},
  wrong_shape = {function(t) return {t.bool(3, 5), t.randn(4), t.randn(5)} end, MISFIT},
  wrong_dtype = {
    function(t) return {t.randn(3), t.randn(3), t.randn(3)} end,
    "'condition': expected uint8 or bool, got float32",
  },
})
H.op("masked_fill", {
  args = function(t) return {t.randn(3, 5), t.bool(5), 2} end,
  more = {
    function(t) return {t.randn(2, 3, 4, 5), t.bool(4, 5), t.randn {}} end,
    function(t) return {t.randn(5), t.bool(3, 1), -1} end,
  },
  large = function(t) return {wide(t.randn(1, 200)), wide(t.bool(1, 200)), 0} end,
  empty = {function(t) return {t.randn(0, 3), t.bool(3), 0} end, {0, 3}},
  wrong_shape = {
    {function(t) return {t.randn(3, 5), t.bool(4), 0} end, MISFIT},
    {function(t) return {t.randn(3), t.bool(3), t.randn(2)} end, "'value'.*got %[2%]"},
  },
  wrong_dtype = {
    {function(t) return {t.randn(3), t.randn(3), 0} end, "'mask': expected uint8 or bool"},
    {function(t) return {t.int(1, 5, 3), t.bool(3), 0.5} end, "'value'.*int64, got a fraction"},
  },
})

describe("arithmetic", function()
  local function tensor(rows, dtype) return core.tensor(rows, {dtype = dtype}) end
  local function dtype_of(a, b) return ops.add(a, b).dtype end

  it("promotes as PyTorch does: category, then dims, numbers last", function()
    local f32, f64 = tensor({1}, "float32"), tensor({1}, "float64")
    local i64, u8, bool = tensor({1}, "int64"), tensor({1}, "uint8"), tensor({1}, "bool")
    local zero64, zero_int = tensor(1, "float64"), tensor(1, "int64")
    assert.equal("float64", dtype_of(f32, f64))
    assert.equal("float32", dtype_of(f32, zero64))
    assert.equal("float64", dtype_of(i64, zero64))
    assert.equal("float32", dtype_of(i64, f32))
    assert.equal("int64", dtype_of(i64, u8))
    assert.equal("uint8", dtype_of(u8, bool))
    assert.equal("uint8", dtype_of(u8, zero_int))
    assert.equal("int64", dtype_of(bool, 2))
    assert.equal("float32", dtype_of(i64, 0.5))
    assert.equal("uint8", dtype_of(u8, 2))
    assert.equal("float64", dtype_of(f64, 2))
    assert.equal("float32", (i64 / i64).dtype)
  end)

  it("serves Lua's operators with tensors and numbers on either side", function()
    local x = tensor {{1, -2}, {3, 4}}
    H.same(2 - x, {{1, 4}, {-1, -2}})
    H.same(1 / x, {{1, -0.5}, {1 / 3, 0.25}})
    H.same(2 ^ x, {{2, 0.25}, {8, 16}})
    H.same(x % 3, {{1, 1}, {0, 1}})
    H.same(-x * 2 + x, {{-1, 2}, {-3, -4}})
    H.same((x:gt(0) & x:lt(4)) | x:eq(-2), {{true, true}, {true, false}})
    H.same(~x:gt(0), {{false, true}, {false, false}})
  end)

  it("takes columns, rows and numbers alike", function()
    for _, dtype in ipairs {"float32", "float64", "int64"} do
      for _, n in ipairs {1, 7, 16, 100, 700} do
        local t = H.generator("float32", n)
        local x, column = (t.randn(33, n) * 9):to(dtype), (t.randn(33, 1) * 9 + 40):to(dtype)
        local spread = column:expand({33, n}):contiguous()
        for _, name in ipairs {"add", "sub", "mul", "div", "maximum", "minimum"} do
          local fn = ops[name]
          H.identical(fn(x, spread), fn(x, column))
          H.identical(fn(spread, x), fn(column, x))
          H.identical(fn(x:t(), spread:t()), fn(x:t(), column:t()))
          H.identical(fn(x, spread[1][1]:expand({33, n}):contiguous()), fn(x, spread[1][1]))
        end
        H.identical(ops.add(x, spread, 3), ops.add(x, column, 3))
        local y = x:clone()
        y:add_(column)
        H.identical(x + spread, y)
        y:copy_(x)
        y:sub_(y:narrow(2, 1, 1):clone())
        H.identical(x - x:narrow(2, 1, 1), y)
      end
    end
  end)

  it("gives remainders the divisor's sign, and refuses a zero among integers", function()
    local x = tensor({-7, 7, -7, 7}, "int64")
    H.same(x % tensor({3, 3, -3, -3}, "int64"), {2, 1, -1, -2})
    H.same(ops.fmod(x, tensor({3, 3, -3, -3}, "int64")), {-1, 1, -1, 1})
    for _, name in ipairs {"remainder", "fmod", "floor_divide", "remainder_"} do
      H.raises(function() ops[name](x, tensor({1, 0, 1, 1}, "int64")) end,
        {name:gsub("_$", ""), "zero"})
    end
    H.raises(function() ops.div(x, 0, {rounding_mode = "floor"}) end, {"div", "zero"})
    H.same(x, {-7, 7, -7, 7})
  end)

  it("does not overflow into undefined behaviour at the ends of int64", function()
    local least = tensor({math.mininteger}, "int64")
    H.same(least - 1, {math.maxinteger})
    H.same(least:abs(), {math.mininteger})
    H.same(ops.floor_divide(least, -1), {math.mininteger})
    H.same(ops.remainder(least, -1), {0})
  end)

  it("keeps the tensor's dtype in place, and refuses what does not fit", function()
    local x = tensor({1, 2}, "float32")
    local y = x
    x:add_(tensor({0.5, 0.25}, "float64"))
    H.same(y, {1.5, 2.25})
    assert.equal("float32", x.dtype)
    local n = tensor({5, 7}, "int64")
    H.same(n:mul_(3), {15, 21})
    H.raises(function() n:add_(0.5) end, {"add", "float32", "int64"})
    H.raises(function() n:div_(2) end, {"div", "float32", "int64"})
    H.raises(function() x:add_(tensor {{1, 2}, {3, 4}}) end, {"add", "%[2 x 2%]", "%[2%]"})
    H.raises(function() tensor({1}, "uint8"):add(300) end, {"add", "'other'", "300"})
    H.raises(function() tensor({1}, "int64"):add(1, {alpha = 0.5}) end, {"alpha", "0.5"})
    H.raises(function() tensor({2}, "int64"):pow(-1) end, {"pow", "%-1"})
    H.raises(function() tensor({true}, "bool"):sub(tensor({true}, "bool")) end, {"sub", "got bool"})
  end)

  it("compares bytes with numbers outside of their range", function()
    local x = tensor({0, 255}, "uint8")
    H.same(x:gt(-1), {true, true})
    H.same(x:lt(300), {true, true})
    H.same(x:eq(256), {false, false})
  end)

  it("gives C's remainders, to the bit, whatever stands beside", function()
    core.manual_seed(8)
    local n = 300
    for _, dtype in ipairs {"float32", "float64"} do
      local a = ops.randn({n}, {dtype = dtype})
      local scale = (ops.randn({n}, {dtype = dtype}) * 12):round()
      local b = ops.randn({n}, {dtype = dtype})
      local lists = {
        {a * ops.exp2(scale), b}, {(b * 8):round() * b, b}, {a * 1000, (b * 4):ceil() + 0.5},
        {(a * 20):round(), tensor(2, dtype)}, {(a * 20):round(), tensor(-3, dtype)},
      }
      for k, list in ipairs(lists) do
        local x, y = list[1], list[2]
        for _, name in ipairs {"fmod", "remainder", "floor_divide"} do
          local all = ops[name](x, y)
          for i = 1, n do -- an infinity in the block: the C library is asked
            local p = y:dim() == 0 and y or y[{ {i, i} }]:expand {2}
            local one = ops[name](ops.cat({x[{ {i, i} }], tensor({1 / 0}, dtype)}, 1), p)[1]
            assert(one:bytes() == all[i]:contiguous():bytes(),
              ("%s %s of list %d: %s, %s: %s, %s"):format(dtype, name, k, x[i], p, all[i], one))
          end
        end
      end
    end
  end)

  it("works on a tensor with itself", function()
    local x = tensor {1, 2, 3}
    x:mul_(x)
    H.same(x, {1, 4, 9})
    H.gradcheck(function(v) return v * v + v / v - v:pow(v) end, H.generator("float64").positive(4))
  end)

  it("keeps images in channels-last memory", function()
    local x = H.layouts.channels_last(H.generator("float32", 2).randn(2, 3, 4, 5))
    assert.same(x:stride(), (x + 1):stride())
    assert.same(x:stride(), (2 * x):stride())
    assert.same(x:stride(), (x * core.ops.ones {3, 1, 1}):stride())
    assert.same(x:stride(), x:gt(0):stride())
  end)
end)
