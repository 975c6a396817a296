--- Creation: PyTorch's sequences, ranges that include both ends, random streams.
-- Relies on spec/helper.lua. Source: core/ops/create.c.

local H = require "spec.helper"
local core = require "perigee.core"
local ops = core.ops

H.fixtures("create")

local function call(...)
  local args = {...}
  return function() return args end
end
local function like(...)
  local rest = {...}
  return function(t) return {t.randn(2, 3), table.unpack(rest)} end
end
local function nothing_like(...)
  local rest = {...}
  return function(t) return {t.randn(0, 3), table.unpack(rest)} end
end

for _, name in ipairs {"zeros", "ones", "rand", "randn"} do
  H.op(name, {
    args = call(2, 3), large = call(300, 200), empty = {call(0, 3), {0, 3}},
    wrong_shape = {{call(2, -1), "'size': expected sizes of at least 0, got %[2 x %-1%]"},
      {call(1e9 // 1 | 0, 1e9 // 1 | 0, 1e9 // 1 | 0),
        "'size': .*got %[1000000000 x 1000000000 x 1000000000%]"},
      {call(1, 1, 1, 1, 1, 1, 1, 1, 1),
        "'size': .*got %[1 x 1 x 1 x 1 x 1 x 1 x 1 x 1 x 1%]"}, {call(), "argument 'size'"}},
    wrong_dtype = {call({2}, "float16"), "a dtype such as"},
  })
end
for _, name in ipairs {"zeros_like", "ones_like", "rand_like", "randn_like"} do
  H.op(name, {args = like(), empty = {nothing_like(), {0, 3}},
    wrong_dtype = {call(3), "'input': expected a tensor, got 3"}})
end
H.op("full", {args = call({2, 3}, 1.5), empty = call({0}, 1),
  wrong_dtype = {call({2}, "a"), "'fill_value': expected a number, got 'a'"}})
H.op("full_like", {args = like(1.5), empty = nothing_like(1)})
-- What lies in fresh memory is anybody's guess: only its shape and dtype count.
H.op("empty", {args = call(2, 3), empty = call(0), wrong_shape = {call(-1), "'size': .*got %-1"},
  fn = function(...) return ops.empty(...):zero_() end})
H.op("empty_like", {args = like(), empty = nothing_like(),
  fn = function(...) return ops.empty_like(...):zero_() end})
H.op("fill_", {args = like(2.5), empty = nothing_like(1),
  fn = function(x, v) return (x * 2):fill_(v) + x end})
H.op("zero_", {args = like(), empty = nothing_like(),
  fn = function(x) return (x * 2):zero_() + x end})
H.op("eye", {args = call(3, 4), empty = {call(0, 3), {0, 3}}, wrong_shape = {call(-1), "got %-1"}})
H.op("arange", {args = call(1, 9, 2), empty = {call(0), {0}},
  wrong_shape = {{call(5, 1), "'step': expected a step that leads from 5 to 1, got 1"},
    {call(1, 5, 0), "'step': expected a finite number but 0, got 0"}}})
H.op("linspace", {args = call(0, 1, 5), empty = {call(0, 1, 0), {0}},
  wrong_shape = {call(0, 1, -1), "'steps': expected at least 0, got %-1"}})
H.op("logspace", {args = call(0, 1, 5), empty = {call(0, 1, 0), {0}},
  wrong_shape = {call(0, 1, -1), "'steps'"}})
H.op("normal", {args = call(2, 0.5, {3, 4}), empty = call(0, 1, {0}),
  wrong_shape = {call(0, -1, {2}), "'std': expected at least 0, got %-1"},
  wrong_dtype = {call(0, 1, {2}, "int64"), "a floating dtype, got int64"}})
H.op("randint", {
  args = call(1, 6, {3, 4}), large = call(1, 10, {300, 200}), empty = call(1, 2, {0}),
  wrong_shape = {call(3, 2, {2}), "'high': expected at least low 3 %(both are included%), got 2"},
})
H.op("randint_like", {args = like(1, 6), empty = nothing_like(1, 6),
  wrong_shape = {like(3, 2), "'high': expected at least low 3 %(both are included%), got 2"}})
H.op("randperm", {args = call(10), empty = {call(0), {0}}, wrong_shape = {call(-1), "got %-1"}})
H.op("bernoulli", {
  args = function(t) return {t.rand(3, 4)} end, empty = function(t) return {t.rand(0)} end,
  wrong_shape = {function(t) return {t.tensor {0.5, 1.5}} end, "'input': .*got 1%.5 at element 2"},
  wrong_dtype = {function(t) return {t.int(0, 1, {2})} end, "got int64"},
})
H.op("multinomial", {
  args = function(t) return {t.rand(3, 5), 4} end,
  more = {function(t) return {t.rand(5), 9, true} end},
  empty = {function(t) return {t.rand(0, 5), 2} end, {0, 2}},
  wrong_shape = {{function(t) return {t.rand(5), 6} end, "'num_samples': .*got 6"},
    {function(t) return {t.tensor {1, 0, 0}, 2} end, "'input': .*got 1"},
    {function(t) return {t.tensor {1, -1}, 1} end, "'input': .*got %-1 at element 2"}},
  wrong_dtype = {function(t) return {t.int(1, 2, {3}), 1} end, "got int64"},
})

describe("creation", function()
  it("takes dtype and requires_grad by name", function()
    local x = ops.zeros(2, 3, {dtype = "float64", requires_grad = true})
    assert.equal("float64", x.dtype)
    assert.is_true(x.requires_grad)
    assert.equal("int64", ops.full({2}, 3).dtype)
    assert.equal("float32", ops.full({2}, 3.0).dtype)
    assert.equal("bool", ops.full({2}, 1, "bool").dtype)
    assert.same({2, 3}, ops.empty(2, 3).shape)
    assert.same({2, 3}, ops.empty_like(x).shape)
    assert.same({}, ops.ones({}).shape)
  end)

  it("counts from 1 and includes both ends", function()
    H.same(ops.arange(4), H.make({1, 2, 3, 4}, "int64", {4}))
    H.same(ops.arange(0, 0.3, 0.1), H.make({0, 0.1, 0.2, 0.3}, "float32", {4}))
    H.same(ops.arange(1, 4, {dtype = "float64"}), H.make({1, 2, 3, 4}, "float64", {4}))
    assert.equal(0, ops.arange(0):numel())
    local v = H.values(ops.randint(1, 3, {300}))
    local seen = {}
    for _, x in ipairs(v) do seen[x] = true end
    assert.same({true, true, true}, seen)
  end)

  it("draws a permutation", function()
    local v = H.values(ops.randperm(1000))
    local moved = 0
    for i, x in ipairs(v) do moved = moved + (x ~= i and 1 or 0) end
    table.sort(v)
    for i, x in ipairs(v) do assert.equal(i, x) end
    assert.is_true(moved > 900)
  end)

  it("repeats from a seed, and goes on without one", function()
    core.manual_seed(5)
    local a, b = ops.randn(7), ops.randn(7)
    core.manual_seed(5)
    H.same(ops.randn(7), a)
    H.same(ops.randn(7), b)
    assert.not_equal(a:bytes(), b:bytes())
  end)

  it("has the moments of its distributions", function()
    for _, dtype in ipairs {"float32", "float64"} do
      local n = 200000
      local x = ops.randn(n, {dtype = dtype})
      assert.is_true(math.abs(x:mean():item()) < 0.01)
      assert.is_true(math.abs((x * x):mean():item() - 1) < 0.02)
      assert.is_true(math.abs((x ^ 4):mean():item() - 3) < 0.15)
      assert.is_true(math.abs((x ^ 3):mean():item()) < 0.06)
      local u = ops.rand(n, {dtype = dtype})
      assert.is_true(u:min():item() >= 0 and u:max():item() < 1)
      assert.is_true(math.abs(u:mean():item() - 0.5) < 0.005)
      assert.is_true(math.abs((u * u):mean():item() - 1 / 3) < 0.005)
      local neighbours = (u:slice(1, 1, -2) * u:slice(1, 2, -1)):mean():item()
      assert.is_true(math.abs(neighbours - 0.25) < 0.005)
    end
    local coins = ops.bernoulli(ops.full({100000}, 0.3))
    assert.is_true(math.abs(coins:mean():item() - 0.3) < 0.01)
    local drawn = ops.multinomial(H.make({1, 0, 3}, "float32", {3}), 4000, true)
    assert.equal(0, drawn:eq(2):sum():item())
    assert.is_true(math.abs(drawn:eq(3):sum():item() / 4000 - 0.75) < 0.03)
  end)
end)

describe("fill_ and zero_", function()
  it("overwrite any layout", function()
    local x = ops.zeros(3, 4)
    x:t():slice(1, 1, -1, 2):fill_(2)
    H.same(x:sum(1), H.make({6, 0, 6, 0}, "float32", {4}))
    x:zero_()
    H.same(x, ops.zeros(3, 4))
  end)
end)
