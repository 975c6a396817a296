--- oneDNN against im2col and BLAS where conv_spec.lua does not look: 1-d, 3-d and transposed
-- convolutions, and bfloat16. The same script in two processes, chosen by PERIGEE_CONV.
-- Relies on perigee.core. Sources: core/kernels/onednn.c, core/kernels/im2col.c.

local core = require "perigee.core"

local lua = arg and arg[-1] or "lua5.4"

-- {input, weight, bias, stride, padding, dilation, groups}, as core.ops takes them
local CASES = {
  {"conv2d", "{4, 32, 14, 14}", "{64, 32, 5, 5}", "1, 2"},
  {"conv2d", "{2, 17, 11, 10}", "{19, 17, 3, 2}", "{2, 1}, {1, 0}"},
  {"conv2d", "{2, 32, 10, 10}", "{32, 1, 3, 3}", "1, 1, 1, 32"},
  {"conv1d", "{3, 16, 50}", "{32, 16, 5}", "1, 2"},
  {"conv3d", "{2, 8, 5, 6, 7}", "{16, 8, 3, 3, 3}", "{1, 2, 1}, 1"},
  {"conv3d", "{2, 8, 4, 4, 4}", "{8, 2, 2, 1, 3}", "1, {1, 0, 1}, 1, 4"},
  {"conv_transpose2d", "{2, 16, 7, 7}", "{16, 8, 3, 3}", "2, 1, 1"},
  {"conv_transpose2d", "{2, 8, 6, 6}", "{8, 4, 3, 3}", "1, 0, {1, 0}, 2, 2"},
  {"conv_transpose3d", "{1, 8, 3, 4, 3}", "{8, 6, 2, 2, 3}", "{2, 1, 1}, {0, 1, 1}, {1, 0, 0}"},
}

-- Writes output and gradients of every case to standard output, each as a string with its length.
local SCRIPT = [[
local core = require "perigee.core"
local cases, dtype = ...
core.manual_seed(5)
for _, case in ipairs(load("return " .. cases)()) do
  local name, x, w, rest = table.unpack(case)
  local function leaf(shape)
    local t = core.ops.randn(shape):to(dtype)
    t.requires_grad = true
    return t
  end
  x, w = leaf(x), leaf(w)
  local channels = core.ops[name](x, w, nil, table.unpack(rest)).shape[2]
  local bias = leaf {channels}
  local y = core.ops[name](x, w, bias, table.unpack(rest))
  core.backward(y, core.ops.randn(y.shape):to(dtype))
  for _, t in ipairs {y:detach(), x.grad, w.grad, bias.grad} do
    io.write(string.pack("s8", t:to("float32"):bytes()))
  end
end
]]

local function quoted(text) return "'" .. text:gsub("'", [['\'']]) .. "'" end

-- Output of the script in a process of its own, or nil and what it complained about.
local function run(engine, dtype)
  local list = {}
  for i, c in ipairs(CASES) do
    list[i] = ("{%q, %s, %s, {%s}}"):format(c[1], c[2], c[3], (c[4]:gsub("'", '"')))
  end
  local script = os.tmpname()
  local file = assert(io.open(script, "w"))
  file:write(SCRIPT)
  file:close()
  local pipe = assert(io.popen(("PERIGEE_CONV=%s %s %s %s %s 2>%s.err"):format(engine, lua, script,
    quoted("{" .. table.concat(list, ", ") .. "}"), dtype, script)))
  local data = pipe:read "a"
  local ok = pipe:close()
  local err = assert(io.open(script .. ".err"))
  local message = err:read "a"
  err:close()
  os.remove(script)
  os.remove(script .. ".err")
  if not ok then return nil, message end
  return data
end

local WHAT = {"output", "gradient of the input", "gradient of the weight", "gradient of the bias"}

-- Fails unless every tensor of both runs is near, relative to its largest element.
local function agree(one, two, tol)
  assert.equal(#one, #two)
  local at, number = 1, 0
  while at <= #one do
    local a, b, past
    a = string.unpack("s8", one, at)
    b, past = string.unpack("s8", two, at)
    local n = #a // 4
    local x, y = core.from_bytes(a, "float32", {n}), core.from_bytes(b, "float32", {n})
    local scale = math.max(y:abs():max():item(), 1e-3)
    local apart = (x - y):abs():max():item() / scale
    local case = CASES[number // 4 + 1]
    if apart ~= apart or apart > tol then
      error(("%s of %s %s %s: %g apart"):format(WHAT[number % 4 + 1], case[1], case[2], case[3],
        apart))
    end
    at, number = past, number + 1
  end
  assert.equal(4 * #CASES, number)
end

describe("the engines of convolution", function()
  local blas, onednn, complaint
  setup(function()
    blas = assert(run("blas", "float32"))
    onednn, complaint = run("onednn", "float32")
  end)

  it("agree in float32 where oneDNN is there, else it is missed by name", function()
    if not onednn then
      assert.is_truthy(complaint:find "PERIGEE_CONV=onednn, but oneDNN cannot be loaded")
      return
    end
    agree(onednn, blas, 1e-5)
  end)

  it("agree with float64", function()
    local exact = assert(run("blas", "float64"))
    agree(blas, exact, 1e-5)
    if onednn then agree(onednn, exact, 1e-5) end
  end)

  it("agree in bfloat16", function()
    local narrow = assert(run("blas", "bfloat16"))
    agree(narrow, blas, 0.03)
    if onednn then agree(assert(run("onednn", "bfloat16")), narrow, 0.03) end
  end)
end)
