-- Chains of elementwise work that compiled functions put off: the same bits as one op at a time.
-- Relies on spec/helper.lua. Sources: core/tensor/chain.c, core/ops/loops.h.

local core = require "perigee.core"
local pg = require "perigee"
local H = require "spec.helper"
local F = pg.nn.functional

-- A stream of numbers that does not touch Perigee's.
local function dice(seed)
  local state = seed * 2654435761 % 4294967296
  return function(n)
    state = (state * 1664525 + 1013904223) % 4294967296
    return state // 65536 % n + 1
  end
end

local function bits(t) return t:detach():contiguous():bytes() end

-- Runs fn plainly and compiled on inputs of their own, made by make(k), k = 1 .. 5, and compares
-- what it returns, the inputs afterwards and their gradients. @return the compiled function
local function agrees(fn, make)
  local run = pg.compile(fn)
  for k = 1, 5 do
    local seen = {}
    for pass, call in ipairs {fn, run} do
      pg.manual_seed(k)
      local input = make(k)
      local out = table.pack(call(table.unpack(input)))
      local list = {}
      for _, t in ipairs(out) do list[#list + 1] = bits(t) end
      for _, t in ipairs(input) do
        list[#list + 1] = bits(t)
        if t.grad then list[#list + 1] = bits(t.grad) end
      end
      seen[pass] = list
    end
    assert.equal(#seen[1], #seen[2])
    for i = 1, #seen[1] do assert.is_true(seen[1][i] == seen[2][i], "call " .. k .. ", " .. i) end
  end
  assert.equal(3, pg.compile_info(run).replays)
  return run
end

local SPECIAL = {0.0, -0.0, 1 / 0, -1 / 0, 0 / 0, 1e-40, -1e-40, 3e38, 1e6, -1e6}

-- Normal numbers with special ones among them.
local function wild(shape, dtype)
  local x = pg.randn(shape):to(dtype)
  local flat = x:view(-1)
  for i, v in ipairs(SPECIAL) do flat[i * 97] = v end
  return x
end

local UNARY = {"neg", "abs", "exp", "log", "sqrt", "tanh", "sigmoid", "sin", "cos", "square",
  "reciprocal", "floor", "sign", "erf", "relu"}
local BINARY = {"add", "sub", "mul", "div", "maximum", "minimum", "pow", "fmax"}
local INPLACE = {"mul_", "add_", "sub_", "neg_", "sigmoid_", "abs_"}

-- A program of n random ops over its arguments x, y, row, column, turned.
local function program(seed, n)
  local roll = dice(seed)
  local steps = {}
  for i = 1, n do
    steps[i] = {roll(12), roll(1000), roll(1000), roll(1000), roll(40) / 8 - 2}
  end
  return function(x, y, row, column, turned)
    local list = {x, y, x * y, x + 1}
    local function pick(k) return list[(k - 1) % #list + 1] end
    for _, step in ipairs(steps) do
      local kind, a, b, c, v = table.unpack(step)
      local u, w = pick(a), pick(b)
      local made
      if kind <= 3 then
        made = core.ops[UNARY[c % #UNARY + 1]](u)
      elseif kind <= 6 then
        made = core.ops[BINARY[c % #BINARY + 1]](u, w)
      elseif kind == 7 then
        made = c % 2 == 0 and u * v or v - u
      elseif kind == 8 then
        made = c % 3 == 0 and u + row or c % 3 == 1 and u * column or u - turned
      elseif kind == 9 then
        made = pg.where(u:gt(w), w, u + v)
      elseif kind == 10 then
        made = c % 2 == 0 and u:clamp(-1, v + 2) or u:clamp(nil, v)
      elseif kind == 11 then
        local name = INPLACE[c % #INPLACE + 1]
        local target = list[3 + a % (#list - 2)] -- not the arguments
        if name == "neg_" or name == "sigmoid_" or name == "abs_" then
          target[name](target)
        else
          target[name](target, c % 2 == 0 and w or v)
        end
      else
        made = u:double():mul(v):float()
      end
      if made then list[#list + 1] = made end
      if kind == 1 and #list > 4 then table.remove(list, 3) end -- so that nobody holds it
    end
    return list[#list], list[#list - 1], list[3]
  end
end

describe("a chain", function()
  local SHAPES = {{96, 101}, {8192}, {3, 64, 65}, {2, 3, 41, 43}}

  it("has the bits of its ops one by one, over random programs", function()
    local fused = 0
    for seed = 1, 24 do
      local shape = SHAPES[seed % #SHAPES + 1]
      local dtype = seed % 5 == 0 and "float64" or "float32"
      local last = shape[#shape]
      local reversed = {}
      for i = 1, #shape do reversed[i] = shape[#shape + 1 - i] end
      local order = {}
      for i = 1, #shape do order[i] = #shape + 1 - i end
      local column = table.move(shape, 1, #shape, 1, {})
      column[#column] = 1
      local run = agrees(program(seed, 5 + seed % 36), function()
        return {wild(shape, dtype), wild(shape, dtype), pg.randn(last):to(dtype),
          pg.randn(column):to(dtype), pg.randn(reversed):to(dtype):permute(table.unpack(order))}
      end)
      fused = fused + pg.compile_info(run).fused
    end
    assert.is_true(fused > 200)
  end)

  it("runs backward too, and adds gradients where they meet", function()
    local function three()
      local list = {pg.randn(90, 100), pg.randn(90, 100), pg.rand(100)}
      for _, t in ipairs(list) do t.requires_grad = true end
      return list
    end
    local run = agrees(function(x, y, row)
      local s = row + 0.5
      local d = x - y
      local swish = x * x:sigmoid()
      local gelu = 0.5 * y * (1 + ((y + 0.044715 * y ^ 3) * 0.7978845608):tanh())
      local nll = d * d / (2 * s * s) + s:log()
      local loss = (nll + swish * gelu + F.silu(x) * d:clamp(-1, 1)):mean()
      loss:backward()
      return loss
    end, three)
    assert.is_true(pg.compile_info(run).fused > 30)
    agrees(function(x, y, row)
      local z = (x * y):tanh() * row
      local loss = z:sum()
      loss:backward(nil, {create_graph = true})
      loss:backward()
      return loss, z
    end, three)
  end)

  it("serves backward outside of compiled functions, and hooks in it", function()
    local function gradients(mode)
      pg.manual_seed(4)
      local x, y, row = wild({90, 100}, "float32"), pg.randn(90, 100), pg.rand(100)
      for _, t in ipairs {x, y, row} do t.requires_grad = true end
      local seen = {}
      local z = (x * y:sigmoid()):tanh() * row
      z:register_hook(function(g)
        seen[1] = bits(g * 2)
        return g * 0.5 + 1
      end)
      local loss = (z * z + x:sin() * y):sum() + pg.where(x:gt(0), x * y, y / row):sum()
      local function back() loss:backward() end
      if mode == "alone" then pg.profiler(back) else back() end -- a profile knows no chains
      for _, t in ipairs {x, y, row} do seen[#seen + 1] = bits(t.grad) end
      return seen
    end
    local one, other = gradients "alone", gradients "chained"
    for i = 1, 4 do assert.is_true(one[i] == other[i], "tensor " .. i) end
  end)

  it("changes tensors in place as an optimizer by hand does", function()
    local run = agrees(function(p, g, m, v)
      local _ <close> = pg.no_grad()
      m:mul_(0.9):add_(g * 0.1)
      v:mul_(0.999):add_(g * g * 0.001)
      p:sub_(m / 0.9 * 0.01 / ((v / 0.99):sqrt() + 1e-8))
      p:addcmul_(m, v, 0.5)
    end, function()
      return {pg.randn(95, 99), pg.randn(95, 99), pg.rand(95, 99), pg.rand(95, 99)}
    end)
    assert.equal(15, pg.compile_info(run).fused)
  end)

  it("minds views that overlap, and whoever reads in between", function()
    agrees(function(x)
      local y = x * 2
      local top, bottom = y:narrow(1, 1, 100), y:narrow(1, 2, 100)
      local z = top + bottom     -- the same memory from two places
      top:mul_(3)                -- .. is then changed
      local w = bottom + 1
      y:zero_()
      local total = w:sum()      -- no elementwise op
      return z * total, y + w:mean(), top, F.glu(x:narrow(1, 1, 100), 1), (x + 1):t():contiguous()
    end, function() return {pg.randn(101, 102)} end)
    agrees(function(x)
      local first = x:narrow(1, 1, 1):reshape({})
      local y = x * first        -- one value
      x:add_(1)                  -- .. that changes afterwards
      return y, y * x:narrow(1, 1, 1), x:cumsum(1) - y
    end, function() return {pg.randn(9000)} end)
    agrees(function(x) -- more than one chain holds, and none of them dies
      local list = {x}
      for k = 2, 80 do list[k] = list[k - 1] * 0.75 + list[(k * 7) % (k - 1) + 1] end
      local sum = list[1]
      for k = 2, 80 do sum = sum + list[k] end
      return sum
    end, function() return {pg.randn(9001)} end)
  end)

  it("keeps the memory order of images, and other dtypes", function()
    agrees(function(x, bias)
      local y = x + bias
      local z = y * y:sigmoid()
      return z, z:gt(0), pg.where(z:gt(0.5), z, y):double(), (z * 10):to("int64") % 3
    end, function() return {pg.randn(2, 20, 21, 16):permute(1, 4, 2, 3), pg.randn(16, 1, 1)} end)
    agrees(function(x)
      local half = x:to("bfloat16")
      local y = half * half:tanh() + 1
      return y, y:float() * x, y:clamp(-1, 1.5)
    end, function() return {pg.randn(100, 100)} end)
    agrees(function(n, b)
      local m = n * 3 - 7
      return m:bitwise_and(12), m:gt(2):logical_or(b), m // 5
    end, function() return {pg.randint(-50, 50, {9000}), pg.randint(0, 1, {9000}):bool()} end)
  end)

  it("does the work before an error, and is whole afterwards", function()
    local function fn(x, labels)
      x:mul_(2):add_(1)
      return F.nll_loss(x * 2, labels) + (x * x):sum()
    end
    agrees(fn, function() return {pg.randn(200, 50), pg.randint(1, 50, {200})} end)
    local run = pg.compile(fn)
    local good, bad = pg.randint(1, 50, {200}), pg.randint(60, 70, {200})
    local x = pg.randn(200, 50)
    for _ = 1, 3 do run(x, good) end
    local before = x:clone()
    H.raises(function() run(x, bad) end, "nll_loss")
    assert.equal(1, pg.compile_info(run).replays)
    assert.is_true(bits(before:mul(2):add(1)) == bits(x))
    assert.is_true(bits(run(x:clone(), good)) == bits(fn(x:clone(), good)))
  end)

  it("gives its memory back where allocations fail, and takes less than the ops alone", function()
    local function fn(x)
      local y = x
      for _ = 1, 6 do y = (y * 0.5 + x):tanh() end
      return y
    end
    local x = pg.randn(40000)
    local want = bits(fn(x))
    local run = pg.compile(fn)
    for _ = 1, 3 do run(x) end
    collectgarbage()
    collectgarbage()
    local before = core.memory().live
    for n = 1, 60 do
      core.fail_after(n)
      local ok, y = pcall(run, x)
      core.fail_after(0)
      if ok then assert.is_true(bits(y) == want) end
    end
    collectgarbage()
    collectgarbage()
    assert.equal(before, core.memory().live)
    core.trim()
    run(x):release()
    assert.is_true(core.memory().peak - before < 4 * 160000)
  end)

  it("has the same bits with one thread", function()
    local fn = program(7, 40)
    local function make()
      pg.manual_seed(1)
      return wild({300, 301}, "float32"), wild({300, 301}, "float32"), pg.randn(301),
        pg.randn(300, 1), pg.randn(301, 300):t()
    end
    local n, seen = core.num_threads(), {}
    for k, threads in ipairs {1, 2} do
      core.num_threads(threads)
      local run = pg.compile(fn)
      for _ = 1, 3 do seen[k] = bits((run(make()))) end
      assert.equal(1, pg.compile_info(run).replays)
    end
    core.num_threads(n)
    assert.is_true(seen[1] == seen[2])
  end)

  it("sees other shapes, and small ones without a chain", function()
    local run = pg.compile(function(x) return x * x:sigmoid() end)
    for _, n in ipairs {9000, 9000, 9000, 100, 100, 100, 9000, 20000, 20000, 20000} do
      local x = pg.randn(n)
      assert.is_true(bits(run(x)) == bits(x * x:sigmoid()))
    end
    assert.equal(3, pg.compile_info(run).tapes)
  end)
end)
