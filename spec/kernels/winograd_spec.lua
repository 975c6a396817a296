-- Convolutions by Winograd's algorithm: against float64, against direct sums, and whatever the
-- number of threads; bfloat16 in a process that has no other way (PERIGEE_CONV).
-- Relies on spec/helper.lua.
-- Sources: core/kernels/winograd.c, core/ops/conv.c.

local core = require "perigee.core"
local pg = require "perigee"
require "spec.helper"

-- n, in channels, height, width, out channels, kernel, padding.
local SHAPES = {
  {8, 32, 14, 14, 32, 5, 2},
  {40, 16, 7, 7, 48, 5, 2}, -- tiles that stand over
  {4, 32, 13, 11, 16, 5, 0},
  {4, 16, 12, 17, 32, 5, {3, 4}}, -- as far as padding goes
  {4, 16, 13, 14, 32, 5, "same"},
  {2, 16, 24, 18, 32, 3, 1},
  {16, 48, 9, 11, 16, 3, 0},
  {36, 16, 4, 4, 16, 3, 1}, -- one tile an image
  {12, 16, 8, 8, 32, 3, {0, 2}},
  {4, 512, 12, 12, 16, 3, 1}, -- rows of a page
  {33, 16, 8, 8, 16, 3, 1}, -- a block that is not full
}

local function results(shape, dtype)
  core.manual_seed(1)
  local n, ic, h, w, oc, k, padding = table.unpack(shape)
  local function leaf(...)
    local t = core.ops.randn {...}:to(dtype):detach()
    t.requires_grad = true
    return t
  end
  local x, weight, bias = leaf(n, ic, h, w), leaf(oc, ic, k, k), leaf(oc)
  local y = core.ops.conv2d(x, weight, bias, 1, padding)
  core.backward(y, core.ops.randn(y.shape):to(dtype))
  local plain = core.ops.conv2d(x:detach(), weight:detach(), nil, 1, padding)
  return {y = y:detach(), plain = plain, x = x.grad, weight = weight.grad, bias = bias.grad}
end

local function direct(shape, dtype)
  local before = pg.deterministic(true)
  local found = results(shape, dtype)
  pg.deterministic(before)
  return found
end

local function difference(a, b)
  a, b = a:to "float64", b:to "float64"
  return (a - b):abs():max():item() / b:abs():max():item()
end

describe("Winograd's algorithm", function()
  for _, shape in ipairs(SHAPES) do
    local name = ("%d x %d x %d x %d to %d, kernel %d"):format(table.unpack(shape))

    it("makes of " .. name .. " what float64 says", function()
      local expected = results(shape, "float64")
      for what, t in pairs(results(shape, "float32")) do
        local d = difference(t, expected[what])
        assert.is_true(d <= 3e-5, ("%s is off by %g"):format(what, d))
      end
    end)

    it("is left to deterministic(false): " .. name, function()
      local found, plain = results(shape, "float32"), direct(shape, "float32")
      for what, t in pairs(found) do
        local same = t:bytes() == plain[what]:bytes()
        if what ~= "bias" then assert.is_false(same, what .. " was not made by it") end
      end
    end)

    it("gives the same bits for every number of threads: " .. name, function()
      local before = core.num_threads()
      local expected = results(shape, "float32")
      for _, threads in ipairs {1, 3} do
        core.num_threads(threads)
        for what, t in pairs(results(shape, "float32")) do
          assert.equal(expected[what]:bytes(), t:bytes(), what)
        end
      end
      core.num_threads(before)
    end)
  end

  it("leaves no memory behind when none is to be had", function()
    local x, weight = core.ops.randn {8, 32, 14, 14}, core.ops.randn {32, 32, 5, 5}
    local function step()
      local w = weight:detach()
      w.requires_grad = true
      core.backward(core.ops.conv2d(x, w, nil, 1, 2):sum())
    end
    local function live()
      collectgarbage()
      collectgarbage()
      return core.memory().live
    end
    step()
    local before = live()
    for n = 1, 8 do
      core.fail_after(n)
      pcall(step)
      core.fail_after(-1)
    end
    assert.equal(before, live())
  end)
end)

-- One for each size of tile that bfloat16 may use, and where tiles stand over.
local HALF_SHAPES = {
  {4, 64, 14, 14, 32, 5, 2},
  {2, 16, 16, 16, 32, 5, 2},
  {40, 16, 7, 9, 48, 5, 2},
  {64, 16, 6, 18, 32, 5, 0},
  {8, 16, 8, 8, 32, 5, 0},
  {40, 16, 8, 8, 32, 3, 1},
  {4, 32, 14, 14, 16, 3, 1},
  {8, 16, 12, 11, 32, 3, 1},
  {36, 16, 4, 4, 16, 3, 1},
}

-- Prints, for each shape and result: its dtype, how far it is from float64 (rms over rms), whether
-- three threads and one give the same bits, and whether direct sums do.
local HALF_SCRIPT = [[
local core = require "perigee.core"
local pg = require "perigee"
local function results(shape, dtype)
  core.manual_seed(1)
  local n, ic, h, w, oc, k, padding = table.unpack(shape)
  local wide = dtype == "bfloat16" and "float32" or dtype
  local function given(...) return core.ops.randn {...}:to "bfloat16" end
  local function leaf(t, as)
    t = t:to(as):detach()
    t.requires_grad = true
    return t
  end
  local x, weight = leaf(given(n, ic, h, w), dtype), leaf(given(oc, ic, k, k), wide)
  local bias = leaf(given(oc), wide)
  local _ <close> = dtype == "bfloat16" and pg.autocast "bfloat16" or nil
  local y = core.ops.conv2d(x, weight, bias, 1, padding)
  core.backward(y, given(table.unpack(y.shape)):to(dtype))
  return {y = y:detach(), x = x.grad, weight = weight.grad, bias = bias.grad}
end
local function rms(t) return (t * t):mean():sqrt():item() end
for line in io.lines(arg[1]) do
  local shape = load("return " .. line)()
  local exact = results(shape, "float64")
  core.num_threads(1)
  local one = results(shape, "bfloat16")
  core.num_threads(3)
  local three = results(shape, "bfloat16")
  local before = pg.deterministic(true)
  local direct = results(shape, "bfloat16")
  pg.deterministic(before)
  for what, t in pairs(three) do
    print(what, t.dtype, rms(t:to "float64" - exact[what]) / rms(exact[what]),
      t:bytes() == one[what]:bytes(), t:bytes() == direct[what]:bytes())
  end
end
-- a NaN spoils its tile only
local x = core.ops.ones {8, 16, 14, 14}:to "bfloat16"
x[{1, 1, 1, 1}] = 0 / 0
local y = core.ops.conv2d(x, core.ops.ones {16, 16, 3, 3}:to "bfloat16", nil, 1, 1):to "float32"
print("nan", y[{1, 1, 1, 1}]:item(), y[{1, 1, 14, 14}]:item(), y[{8, 16, 2, 2}]:item())
]]

-- Output of the script with these shapes.
local function half_lines()
  local lua, script, list = arg and arg[-1] or "lua5.4", os.tmpname(), os.tmpname()
  local file = assert(io.open(script, "w"))
  file:write(HALF_SCRIPT)
  file:close()
  file = assert(io.open(list, "w"))
  for _, shape in ipairs(HALF_SHAPES) do file:write("{", table.concat(shape, ", "), "}\n") end
  file:close()
  local pipe = assert(io.popen(("PERIGEE_CONV=winograd %s %s %s 2>&1"):format(lua, script, list)))
  local lines = {}
  for line in pipe:lines() do lines[#lines + 1] = line end
  pipe:close()
  os.remove(script)
  os.remove(list)
  return lines
end

describe("Winograd's algorithm in bfloat16", function()
  local lines
  setup(function() lines = half_lines() end)

  it("rounds images once and leaves sums in float32", function()
    assert.equal(4 * #HALF_SHAPES + 1, #lines, table.concat(lines, "\n"))
    local most = {y = 1.8e-3, x = 1.8e-3, weight = 2e-4, bias = 1e-6}
    for i = 1, #lines - 1 do
      local what, dtype, off = lines[i]:match "^(%S+)\t(%S+)\t(%S+)"
      assert.equal((what == "y" or what == "x") and "bfloat16" or "float32", dtype)
      assert.is_true(tonumber(off) <= most[what], lines[i])
    end
  end)

  it("gives the same bits for every number of threads", function()
    for i = 1, #lines - 1 do assert.is_truthy(lines[i]:find "\ttrue\t%l+$", lines[i]) end
  end)

  it("is left to deterministic(false)", function()
    for i = 1, #lines - 1 do
      if lines[i]:find "^weight" then assert.is_truthy(lines[i]:find "\tfalse$", lines[i]) end
    end
  end)

  it("keeps NaN to its tile", function()
    local here, there, other = lines[#lines]:match "^nan\t(%S+)\t(%S+)\t(%S+)$"
    assert.is_truthy(here and here:find "nan", lines[#lines])
    assert.same({"64.0", "144.0"}, {there, other})
  end)
end)
