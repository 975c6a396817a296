-- Convolutions by Winograd's algorithm: against float64, against direct sums, and whatever the
-- number of threads.
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
