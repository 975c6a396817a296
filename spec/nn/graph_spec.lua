-- Symbolic tensors: inferred shapes, ops and modules as nodes, errors on the line that builds.
-- Relies on layers and ops of the core.
-- Sources: lua/perigee/nn/graph.lua, lua/perigee/nn/op.lua, lua/perigee/nn/mode.lua,
-- lua/perigee/blame.lua.

local pg = require "perigee"
local nn = pg.nn

local function image() return nn.Input({1, 8, 8}, {name = "image"}) end

--- Runs a model of one input and one output on x.
local function value(input, output, x) return nn.Model(input, output)(x) end

describe("nn.Input", function()
  it("has a shape with -1 for the batch, a dtype, a name", function()
    local x = image()
    assert.same({-1, 1, 8, 8}, x.shape)
    assert.equal("float32", x.dtype)
    assert.equal("image", x.name)
    assert.equal(4, x:dim())
    assert.equal(8, x:size(-1))
    assert.equal(-1, x:size(1))
    local y = nn.Input({}, {name = "label", dtype = "int64", training_only = true})
    assert.same({-1}, y.shape)
    assert.equal("int64", y.dtype)
    assert.matches("symbolic tensor %[%? x 1 x 8 x 8%] float32 'image'", tostring(x))
  end)
  it("refuses wrong sizes, dtypes and options, with suggestions", function()
    assert.error_matches(function() nn.Input {0} end,
      "expected positive integers, .* got 0 as size 1")
    assert.error_matches(function() nn.Input {2.5} end, "got 2.5 as size 1")
    assert.error_matches(function() nn.Input("x") end, "argument 'shape'")
    assert.error_matches(function() nn.Input({2}, {nmae = "x"}) end,
      "unknown option 'nmae', did you mean 'name'?", 1, true)
    assert.error_matches(function() nn.Input({2}, {dtype = "float31"}) end,
      "did you mean 'float32'?", 1, true)
    assert.error_matches(function() nn.Input({2, name = "x"}) end, "options come in a second table")
  end)
  it("takes free sizes", function()
    local x = nn.Input {3, -1, -1}
    local h = nn.Conv2d(3, 4, 3, {padding = 1})(x)
    assert.same({-1, 4, -1, -1}, h.shape)
  end)
end)

describe("a graph", function()
  it("infers shapes where it is built", function()
    local h = nn.Conv2d(1, 4, 3, {padding = 1})(image())
    assert.same({-1, 4, 8, 8}, h.shape)
    h = nn.MaxPool2d(2)(h)
    assert.same({-1, 4, 4, 4}, h.shape)
    h = nn.Flatten()(h)
    assert.same({-1, 64}, h.shape)
    assert.same({-1, 10}, nn.Linear(64, 10)(h).shape)
  end)
  it("raises for a wrong shape on the script's line, naming both sides", function()
    local x = image()
    local line
    local ok, message = pcall(function()
      line = debug.getinfo(1, "l").currentline + 1
      local _ = nn.Linear(63, 10)(nn.Flatten()(x))
    end)
    assert.is_false(ok)
    assert.matches("graph_spec.lua:" .. line .. ":", message, 1, true)
    assert.matches("63", message, 1, true)
    assert.matches("64", message, 1, true)
  end)
  it("runs in evaluation mode while it infers, and puts the mode back", function()
    local layer = nn.BatchNorm1d(4)
    layer(nn.Input {4})
    assert.is_true(layer.training)
    assert.equal(0, layer.running_mean:abs():sum():item())
    layer:eval()
    layer(nn.Input {4})
    assert.is_false(layer.training)
  end)
  it("does not touch the random stream", function()
    pg.manual_seed(5)
    local before = pg.rand(3):totable()
    pg.manual_seed(5)
    nn.Dropout(0.5)(nn.Input {4})
    assert.same(before, pg.rand(3):totable())
  end)
  it("is built of operators and tensor methods too", function()
    local x = nn.Input {3}
    local t = pg.tensor {{1, 2, 3}, {4, 5, 6}}
    assert.same((t * 2 + 1):totable(), value(x, x * 2 + 1, t):totable())
    assert.same((1 - t / 2):totable(), value(x, 1 - x / 2, t):totable())
    assert.same((-t ^ 2):totable(), value(x, -x ^ 2, t):totable())
    assert.same((t * t):sum(2):totable(), value(x, (x * x):sum(2), t):totable())
    assert.same(t:sum(2, {keepdim = true}):totable(),
      value(x, x:sum(2, {keepdim = true}), t):totable())
    assert.same(t[{{}, 2}]:totable(), value(x, x[{{}, 2}], t):totable())
    assert.same({-1, 3, 1}, x:unsqueeze(3).shape)
  end)
  it("is built of functions that meet a symbolic tensor", function()
    local x = nn.Input {3}
    local t = pg.tensor {{-1, 2, 3}, {4, -5, 6}}
    assert.same(t:clamp(0, 4):totable(), value(x, pg.clamp(x, 0, 4), t):totable())
    assert.same(nn.functional.softmax(t, 2):totable(),
      value(x, nn.functional.softmax(x, 2), t):totable())
    assert.same(pg.cat({t, t * 2}, 2):totable(), value(x, pg.cat({x, x * 2}, 2), t):totable())
    assert.same({-1, 6}, pg.cat({x, x}, 2).shape)
  end)
  it("takes tensors in as constants, and parameters as parameters", function()
    local x = nn.Input {3}
    local c = pg.tensor {1, 2, 3}
    local w = pg.tensor({2, 2, 2}, {requires_grad = true})
    local model = nn.Model(x, {out = c + x * w})
    assert.same({{3, 4, 5}}, model(pg.ones(1, 3)):totable())
    local names = {}
    for name in model:named_parameters() do names[#names + 1] = name end
    assert.equal(1, #names)
    model(pg.ones(1, 3)):sum():backward()
    assert.is_truthy(model:parameters()[1].grad)
  end)
  it("knows what depends on the batch", function()
    local x = nn.Input {4}
    assert.same({-1}, x:view(-1).shape)
    assert.same({-1, 2, 2}, x:view(x.shape[1], 2, 2).shape)
    assert.same({4, -1}, x:t().shape)
  end)
  it("refuses what needs values, what works in place, and unknown methods", function()
    local x = nn.Input {4}
    assert.error_matches(function() return x:item() end, "holds no values")
    assert.error_matches(function() return x:add_(1) end, "add_: .* got a symbolic one")
    assert.error_matches(function() return x:flaten(2) end,
      "field or method of symbolic tensors, got 'flaten', did you mean 'flatten'?", 1, true)
    assert.error_matches(function() x.grad = 1 end, "got a symbolic one")
    local _, message = pcall(function() local _ = pg.matmul(x, "y") end)
    assert.matches("graph_spec.lua:%d+: matmul: .*expected a tensor, got 'y'", message)
  end)
  it("handles modules with several results, also in tables", function()
    local Two = nn.Module:extend "GraphSpecTwo"
    function Two.forward(_, x) return x + 1, {x * 2, {x * 3}} end
    local x = nn.Input {2}
    local a, rest = Two()(x)
    local model = nn.Model(x, {a, rest[1], rest[2][1]})
    local out = model(pg.ones(1, 2))
    assert.same({{2, 2}}, out["graphspectwo.1"]:totable())
    assert.same({{2, 2}}, out["graphspectwo.2.1"]:totable())
    assert.same({{3, 3}}, out["graphspectwo.2.2.1"]:totable())
  end)
  it("builds long chains without recursion", function()
    local x = nn.Input {2}
    local h = x
    for _ = 1, 2000 do h = h + 1 end
    assert.same({{2001, 2001}}, value(x, h, pg.ones(1, 2)):totable())
  end)
end)
