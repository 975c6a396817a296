-- The two engines of a convolution against each other: oneDNN and im2col with BLAS, each in a
-- process of its own (PERIGEE_CONV), in float32, and float64 as the judge of both.
-- Relies on spec/helper.lua.
-- Sources: core/kernels/onednn.c, core/kernels/im2col.c, core/ops/conv.c.

local H = require "spec.helper"
local core = require "perigee.core"

-- n, in channels, height, width, out channels, kernel height, width, then the arguments of conv2d.
local SHAPES = {
  {1, 1, 28, 28, 32, 5, 5, 1, 2, 1, 1}, -- the six of LeNets++
  {1, 32, 28, 28, 32, 5, 5, 1, 2, 1, 1},
  {1, 32, 14, 14, 64, 5, 5, 1, 2, 1, 1},
  {1, 64, 14, 14, 64, 5, 5, 1, 2, 1, 1},
  {1, 64, 7, 7, 128, 5, 5, 1, 2, 1, 1},
  {1, 128, 7, 7, 128, 5, 5, 1, 2, 1, 1},
  {2, 3, 9, 11, 4, 3, 3, 1, 0, 1, 1},
  {2, 3, 10, 9, 5, 4, 2, 1, "same", 1, 1}, -- more padding on one side
  {1, 17, 8, 9, 19, 2, 4, 1, "same", {2, 1}, 1},
  {2, 5, 12, 13, 7, 3, 2, {2, 3}, {1, 0}, 1, 1},
  {2, 6, 12, 12, 6, 3, 3, 1, {2, 3}, {2, 3}, 1},
  {2, 8, 9, 9, 12, 3, 3, 1, 1, 1, 4},
  {2, 16, 9, 9, 16, 3, 3, 2, 1, 1, 16}, -- depthwise
  {2, 4, 7, 7, 8, 3, 3, 1, 1, 1, 4},
  {4, 24, 6, 5, 40, 1, 1, 1, 0, 1, 1},
  {1, 3, 5, 6, 2, 5, 6, 1, 0, 1, 1}, -- one output pixel
  {2, 2, 5, 5, 3, 3, 3, 3, 4, 1, 1}, -- windows that see padding only
}

-- Writes the raw elements of every result of every shape into a file: y, its gradients, y without
-- a bias.
local SCRIPT = [[
local core = require "perigee.core"
local shapes = %s
local out = assert(io.open(arg[1], "wb"))
for k, s in ipairs(shapes) do
  core.manual_seed(k)
  local n, ic, h, w, oc, kh, kw, stride, padding, dilation, groups = table.unpack(s)
  local function leaf(...)
    local t = core.ops.randn {...}
    t.requires_grad = true
    return t
  end
  local x, weight, bias = leaf(n, ic, h, w), leaf(oc, ic // groups, kh, kw), leaf(oc)
  local y = core.ops.conv2d(x, weight, bias, stride, padding, dilation, groups)
  local stride4 = y:stride()
  assert(y.shape[2] == 1 or stride4[2] == 1, "channels are not last in memory")
  core.backward(y, core.ops.randn(y.shape))
  local plain = core.ops.conv2d(x:detach(), weight:detach(), nil, stride, padding, dilation, groups)
  for _, t in ipairs {y:detach(), x.grad, weight.grad, bias.grad, plain} do
    out:write(string.pack("<s8", t:bytes()))
  end
end
assert(out:close())
]]

local function literal(value)
  if type(value) == "table" then
    local parts = {}
    for i, item in ipairs(value) do parts[i] = literal(item) end
    return "{" .. table.concat(parts, ", ") .. "}"
  end
  return type(value) == "string" and ("%q"):format(value) or tostring(value)
end

--- Runs a Lua script with these settings and one argument. @return whether it ended well, output
local function run(folder, settings, script, argument)
  local path = folder .. "/script.lua"
  local file = assert(io.open(path, "w"))
  file:write(script)
  assert(file:close())
  local pipe = assert(io.popen(("%s lua5.4 '%s' '%s' 2>&1"):format(settings, path, argument)))
  local output = pipe:read "a"
  return pipe:close() == true, output
end

--- Every result of an engine by shape, as lists of numbers.
local function results(engine)
  local all = {}
  H.in_folder(function(folder)
    local path = folder .. "/results"
    local ok, output = run(folder, "PERIGEE_CONV=" .. engine, SCRIPT:format(literal(SHAPES)), path)
    assert(ok, output)
    local file = assert(io.open(path, "rb"))
    local data, at = file:read "a", 1
    file:close()
    for k = 1, #SHAPES do
      all[k] = {}
      for j = 1, 5 do
        local bytes
        bytes, at = string.unpack("<s8", data, at)
        all[k][j] = H.unpack(bytes, "float32")
      end
    end
  end)
  return all
end

--- What the float64 path says; computed once.
local judged = {}
local function judge(k)
  if judged[k] then return judged[k] end
  local n, ic, h, w, oc, kh, kw, stride, padding, dilation, groups = table.unpack(SHAPES[k])
  core.manual_seed(k)
  local function leaf(...)
    local t = core.ops.randn {...}:to "float64":detach()
    t.requires_grad = true
    return t
  end
  local x, weight, bias = leaf(n, ic, h, w), leaf(oc, ic // groups, kh, kw), leaf(oc)
  local y = core.ops.conv2d(x, weight, bias, stride, padding, dilation, groups)
  core.backward(y, core.ops.randn(y.shape):to "float64")
  local plain = core.ops.conv2d(x:detach(), weight:detach(), nil, stride, padding, dilation, groups)
  local list = {}
  for j, t in ipairs {y, x.grad, weight.grad, bias.grad, plain} do list[j] = H.values(t) end
  judged[k] = list
  return list
end

local SMALL = "{{1, 1, 3, 3, 1, 3, 3, 1, 0, 1, 1}}"
local WHAT = {"output", "gradient of the input", "gradient of the weight", "gradient of the bias",
  "output without bias"}

local function missing(output) return output:find "oneDNN cannot be loaded" ~= nil end

local has_onednn = H.in_folder(function(folder)
  local ok, output = run(folder, "PERIGEE_CONV=onednn", SCRIPT:format(SMALL),
    folder .. "/results")
  assert(ok or missing(output), output)
  return ok
end)

describe("a convolution", function()
  for _, engine in ipairs(has_onednn and {"blas", "onednn"} or {"blas"}) do
    it(("through %s is what float64 says, channels last"):format(engine), function()
      local found = results(engine)
      for k, shape in ipairs(SHAPES) do
        for j, expected in ipairs(judge(k)) do
          local most = 0
          for _, v in ipairs(expected) do most = math.max(most, math.abs(v)) end
          assert.equal(#expected, #found[k][j])
          for i, v in ipairs(expected) do
            local actual = found[k][j][i]
            local near = math.abs(actual - v) <= 1e-5 * most
            if not near then -- NaN is not near either
              error(("%s of %s, element %d: expected %.9g, got %.9g"):format(WHAT[j],
                literal(shape), i, v, actual))
            end
          end
        end
      end
    end)
  end

  it("says so where oneDNN is asked for and cannot be loaded", function()
    H.in_folder(function(folder)
      for _, version in ipairs {2, 3} do
        assert(io.open(("%s/libdnnl.so.%d"):format(folder, version), "w")):close()
      end
      local script = SCRIPT:format(SMALL)
      local here = ("LD_LIBRARY_PATH='%s'"):format(folder)
      local ok, output = run(folder, here .. " PERIGEE_CONV=onednn", script, folder .. "/results")
      assert.is_false(ok)
      assert.is_truthy(output:find "conv2d: PERIGEE_CONV=onednn, but oneDNN cannot be loaded",
        output)
      ok, output = run(folder, here, script, folder .. "/results")
      assert(ok, output)
    end)
  end)

  it("refuses an engine that there is not", function()
    H.in_folder(function(folder)
      local ok, output = run(folder, "PERIGEE_CONV=mkl", SCRIPT:format(SMALL),
        folder .. "/results")
      assert.is_false(ok)
      local message = "PERIGEE_CONV: expected onednn, blas or winograd, got 'mkl'"
      assert.is_truthy(output:find(message, 1, true),
        output)
    end)
  end)
end)
