-- nn.Model: names, checks of the graph, running by hand, pruning, lookup, freezing, summary.
-- Relies on layers and ops of the core.
-- Sources: lua/perigee/nn/model.lua, lua/perigee/nn/summary.lua.

local pg = require "perigee"
local nn = pg.nn

--- features [b x 4] and labels -> scores [b x 3] and a penalty that needs the labels.
local function small()
  local x = nn.Input({4}, {name = "x"})
  local label = nn.Input({}, {name = "label", dtype = "int64", training_only = true})
  local h = nn.Tanh()(nn.Linear(4, 5)(x))
  local feature = nn.Linear(5, 2, {name = "feature"})(h)
  local score = nn.Linear(2, 3, {name = "score"})(feature)
  local center = nn.CenterLoss(3, 2)(feature, label)
  return nn.Model({x, label}, {score, center}), feature
end

local function names_of(iterator)
  local names = {}
  for name in iterator do names[#names + 1] = name end
  return names
end

describe("names", function()
  it("are the class in lower case, then _2, _3", function()
    local x = nn.Input {4}
    local h = x
    for _ = 1, 3 do h = nn.Linear(4, 4)(h) end
    local model = nn.Model(x, h)
    assert.same({"linear", "linear_2", "linear_3"}, names_of(model:named_children()))
    assert.same({"linear_3"}, model:output_names())
    assert.same({"input"}, model:input_names())
    assert.same({"linear.weight", "linear.bias", "linear_2.weight"},
      {table.unpack(names_of(model:named_parameters()), 1, 3)})
  end)
  it("step around names that were given", function()
    local x = nn.Input {4}
    local h = nn.Linear(4, 4)(nn.Linear(4, 4, {name = "linear"})(x))
    assert.same({"linear", "linear_2"}, names_of(nn.Model(x, h):named_children()))
  end)
  it("must be unique where they are given", function()
    local x = nn.Input {4}
    local h = nn.Linear(4, 4, {name = "a"})(nn.Linear(4, 4, {name = "a"})(x))
    assert.error_matches(function() nn.Model(x, h) end, "got 'a' for two parts")
    local y = nn.Input({4}, {name = "b"})
    h = nn.Linear(4, 4, {name = "b"})(y)
    assert.error_matches(function() nn.Model(y, h) end, "got 'b' for two parts")
  end)
  it("of outputs can be chosen", function()
    local x = nn.Input {4}
    local model = nn.Model(x, {small = nn.Linear(4, 1)(x), large = nn.Linear(4, 9)(x)})
    local out = model(pg.ones(2, 4))
    assert.same({2, 1}, out.small.shape)
    assert.same({2, 9}, out.large.shape)
  end)
end)

describe("nn.Model refuses", function()
  it("an unused input", function()
    local x, y = nn.Input({2}, {name = "x"}), nn.Input({2}, {name = "y"})
    assert.error_matches(function() nn.Model({x, y}, x * 2) end, "got 'y', which is unused")
  end)
  it("outputs that reach another input", function()
    local x, y = nn.Input({2}, {name = "x"}), nn.Input({2}, {name = "y"})
    assert.error_matches(function() nn.Model(x, x + y) end,
      "expected all inputs that the outputs depend on, got them without 'y'")
  end)
  it("a cycle", function()
    local x = nn.Input({2}, {name = "x"})
    local a = nn.Tanh()(x)
    local b = nn.Sigmoid()(a)
    local node = rawget(a, "_node")
    node.sources[2] = b
    assert.error_matches(function() nn.Model(x, b) end, "cycle: Tanh depends on Sigmoid")
  end)
  it("what is no symbolic tensor, no input, or listed twice", function()
    local x = nn.Input({2}, {name = "x"})
    assert.error_matches(function() nn.Model(x, {x * 2, 5}) end,
      "expected symbolic tensors, .* got integer at 2")
    assert.error_matches(function() nn.Model(x * 2, x * 3) end,
      "expected what nn.Input made, got a result of mul as input 1")
    assert.error_matches(function() nn.Model({x, x}, x * 3) end, "got 'x' twice")
    assert.error_matches(function() nn.Model(x, {}) end, "at least one")
    local twin = nn.Input({2}, {name = "x"})
    assert.error_matches(function() nn.Model({x, twin}, x + twin) end,
      "names that are unique, got 'x' twice")
    assert.error_matches(function() nn.Model(x, x * 2, {nam = "m"}) end, "did you mean 'name'")
  end)
end)

describe("a call", function()
  it("takes inputs by name or in order and gives outputs by name", function()
    local model = small()
    local x, label = pg.rand(6, 4), pg.tensor({1, 2, 3, 1, 2, 3}, {dtype = "int64"})
    model:eval()
    local out = model {x = x, label = label}
    assert.same({6, 3}, out.score.shape)
    assert.same({6, 1}, out.centerloss.shape)
    local again = model(x, label)
    assert.same(out.score:totable(), again.score:totable())
  end)
  it("gives the tensor itself where there is one output", function()
    local x = nn.Input {2}
    local model = nn.Model(x, x * 2)
    assert.same({{2, 2}}, model(pg.ones(1, 2)):totable())
    assert.same({{2, 2}}, model({input = pg.ones(1, 2)}):totable())
  end)
  it("leaves out what needs a training_only input, in evaluation mode", function()
    local model = small()
    assert.error_matches(function() model {x = pg.rand(2, 4)} end,
      "argument 'label': expected a tensor, got nothing")
    model:eval()
    local out = model {x = pg.rand(2, 4)}
    assert.same({2, 3}, out.score.shape)
    assert.is_nil(out.centerloss)
  end)
  it("refuses wrong names, shapes and counts", function()
    local model = small()
    assert.error_matches(function() model {y = pg.rand(2, 4)} end,
      "expected names of inputs .*, got 'y'")
    assert.error_matches(function() model {lable = pg.rand(2, 4)} end, "did you mean 'label'")
    assert.error_matches(function() model(pg.rand(2, 5), pg.ones(2)) end,
      "argument 'x': expected [? x 4], got [2 x 5]", 1, true)
    assert.error_matches(function() model("x", pg.ones(2)) end,
      "argument 'x': expected a tensor [? x 4], got string", 1, true)
    assert.error_matches(function() model(pg.rand(2, 4), pg.ones(2), 3) end,
      "expected at most 2 tensors (x, label), got 3", 1, true)
  end)
  it("runs a shared module with the same weights", function()
    local shared = nn.Linear(2, 2)
    local a, b = nn.Input({2}, {name = "a"}), nn.Input({2}, {name = "b"})
    local model = nn.Model({a, b}, {shared(a), shared(b)})
    assert.same({"linear"}, names_of(model:named_children()))
    assert.equal(2, #model:parameters())
    local out = model(pg.ones(1, 2), pg.zeros(1, 2))
    assert.same(shared(pg.ones(1, 2)):totable(), out.linear:totable())
    assert.same(shared(pg.zeros(1, 2)):totable(), out.linear_2:totable())
  end)
  it("takes models and Sequentials as layers", function()
    local x = nn.Input {2}
    local inner = nn.Model(x, nn.Linear(2, 3)(x))
    local y = nn.Input {2}
    local block = nn.Sequential {nn.Linear(3, 3), nn.Tanh()}
    local model = nn.Model(y, block(inner(y)))
    assert.same({4, 3}, model(pg.rand(4, 2)).shape)
    assert.equal(4, #model:parameters())
    assert.equal(inner, model:get "model")
    assert.equal(block, model:get "sequential")
  end)
  it("computes any layer by name, and only what it needs", function()
    local model = small()
    model:eval()
    local out = model:compute({"feature"}, {x = pg.rand(2, 4)})
    assert.same({2, 2}, out.feature.shape)
    assert.error_matches(function() model:compute({"featur"}, {}) end, "did you mean 'feature'")
    assert.same({"score"}, model:inference_outputs())
    assert.same({"x"}, model:needed_inputs {"feature"})
  end)
end)

describe("model:get", function()
  it("finds a layer, also inside another", function()
    local x = nn.Input {2}
    local inner = nn.Linear(2, 3)
    local block = nn.Sequential {inner, nn.Tanh()}
    local model = nn.Model(x, block(x))
    assert.equal(inner, model:get "sequential.1")
  end)
  it("suggests the nearest name", function()
    local model = small()
    assert.error_matches(function() model:get "centreloss" end,
      "got 'centreloss', did you mean 'centerloss'?", 1, true)
  end)
end)

describe("model:freeze", function()
  it("stops the named layers, or all", function()
    local model = small()
    model:freeze("feature")
    assert.is_false(model:get("feature").weight.requires_grad)
    assert.is_true(model:get("score").weight.requires_grad)
    model:freeze()
    for _, p in model:named_parameters() do assert.is_false(p.requires_grad) end
    model:unfreeze()
    for _, p in model:named_parameters() do assert.is_true(p.requires_grad) end
    assert.error_matches(function() model:freeze("featur") end, "did you mean 'feature'")
  end)
end)

describe("model:summary", function()
  local function lines_of(model, opt)
    local lines = {}
    opt = opt or {}
    opt.print = function(line) lines[#lines + 1] = line end
    model:summary(opt)
    return table.concat(lines, "\n")
  end
  it("lists layers, shapes, parameters, connections and totals", function()
    local text = lines_of((small()))
    assert.matches("x %(Input%) +%[%? x 4%] +0 +0\n", text)
    assert.matches("label %(Input, training only%) +%[%?%]", text)
    assert.matches("linear %(Linear%) +%[%? x 5%] +25 +20  x\n", text)
    assert.matches("centerloss %(CenterLoss%) +%[%? x 1%] +0 +0  feature, label", text)
    assert.matches("Total params: 46 %(", text)
    assert.matches("Trainable params: 46\n", text)
    assert.matches("MACs of one sample: 36\n", text)
    assert.matches("Values in buffers: ", text)
  end)
  it("counts frozen and shared parameters", function()
    local shared = nn.Linear(2, 2)
    local a = nn.Input {2}
    local model = nn.Model(a, shared(shared(a)))
    local text = lines_of(model)
    assert.matches("linear_2 %(Linear%) +%[%? x 2%] +shared +4  linear\n", text)
    assert.matches("Trainable params: 6\n", text)
    model:freeze()
    assert.matches("Non%-trainable params: 6\n", lines_of(model))
  end)
  it("works for a Sequential, with shapes where the input's is known", function()
    local net = nn.Sequential {nn.Flatten(), nn.Linear(784, 1024), nn.Tanh()}
    local text = lines_of(net)
    assert.matches("2 %(Linear%) +803,840\n", text)
    text = lines_of(net, {input_shape = {1, 28, 28}})
    assert.matches("1 %(Flatten%) +%[%? x 784%] +0 +0\n", text)
    assert.matches("2 %(Linear%) +%[%? x 1024%] +803,840 +802,816\n", text)
    assert.error_matches(function() net:summary {inputshape = {1}} end,
      "did you mean 'input_shape'")
  end)
end)
