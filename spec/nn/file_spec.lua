-- Models as files: the same outputs bit for bit, hostile files, classes of one's own.
-- Relies on nn and core.io.
-- Sources: lua/perigee/nn/file.lua.

local H = require "spec.helper"
local pg = require "perigee"
local core = require "perigee.core"
local nn, optim = pg.nn, pg.optim

local function digits()
  pg.manual_seed(1)
  local image = nn.Input({1, 8, 8}, {name = "image"})
  local label = nn.Input({}, {name = "label", dtype = "int64", training_only = true})
  local h = nn.PReLU()(nn.Conv2d(1, 4, 3, {padding = 1, bias = false})(image))
  h = nn.BatchNorm2d(4)(h)
  h = nn.Sequential {nn.MaxPool2d(2), nn.Flatten()}(h)
  h = pg.cat({h, h * 2 + 1}, 2)
  local feature = nn.Linear(128, 2, {name = "feature"})(h)
  return nn.Model({image, label}, {
    score = nn.Linear(2, 3, {name = "logits"})(feature),
    center = nn.CenterLoss(3, 2, {alpha = 0.25, name = "centers"})(feature, label),
  })
end

local function round_trip(model)
  return H.in_folder(function(folder)
    local path = folder .. "/model.perigee"
    assert(model:save(path))
    return assert(nn.load(path))
  end)
end

--- The notes of a model's file, changed by edit(description), written beside its tensors.
local function tampered(model, edit)
  return H.in_folder(function(folder)
    local path = folder .. "/model.perigee"
    assert(model:save(path))
    local tensors, notes = core.io.load(path, "safetensors")
    local description = core.io.json_decode(notes.perigee)
    local text = edit(description, tensors) or core.io.json_encode(description)
    assert(core.io.save(path, tensors, {perigee = text}, "safetensors"))
    local result, message = nn.load(path)
    assert.is_nil(result)
    assert.is_string(message)
    return message
  end)
end

describe("save and load", function()
  it("give the same outputs bit for bit", function()
    local model = digits()
    local x, label = pg.rand(5, 1, 8, 8), pg.tensor({1, 2, 3, 1, 2}, {dtype = "int64"})
    model {image = x, label = label}
    local again = round_trip(model)
    model:eval()
    again:eval()
    local a, b = model {image = x, label = label}, again {image = x, label = label}
    assert.equal(a.score:bytes(), b.score:bytes())
    assert.equal(a.center:bytes(), b.center:bytes())
    assert.equal(model:get("centers"):centers():bytes(), again:get("centers"):centers():bytes())
    assert.equal(0.25, again:get("centers").alpha)
    assert.same(model:input_names(), again:input_names())
    assert.same(model:output_names(), again:output_names())
    local names = {}
    for name in model:named_parameters() do names[#names + 1] = name end
    local i = 0
    for name in again:named_parameters() do
      i = i + 1
      assert.equal(names[i], name)
    end
    assert.equal(#names, i)
  end)
  it("keep modes and frozen parameters, and leave the random stream alone", function()
    local model = digits()
    model:freeze("feature")
    model:eval()
    pg.manual_seed(4)
    local before = pg.rand(2):totable()
    pg.manual_seed(4)
    local again = round_trip(model)
    assert.same(before, pg.rand(2):totable())
    assert.is_false(again.training)
    assert.is_false(again:get("feature").weight.requires_grad)
    assert.is_true(again:get("logits").weight.requires_grad)
  end)
  it("keep a shared module shared", function()
    local shared = nn.Linear(2, 2)
    local a = nn.Input {2}
    local again = round_trip(nn.Model(a, shared(shared(a))))
    assert.equal(2, #again:parameters())
  end)
  it("work for a Sequential and its nested modules", function()
    local net = nn.Sequential {nn.Linear(3, 4), nn.Sequential {nn.Tanh(), nn.Linear(4, 2)}}
    local again = round_trip(net)
    local x = pg.rand(2, 3)
    assert.equal(net(x):bytes(), again(x):bytes())
  end)
  it("keep constants of a graph", function()
    local x = nn.Input {2}
    local model = nn.Model(x, pg.tensor {3, 4} + x * pg.tensor({5, 6}, {requires_grad = true}))
    local again = round_trip(model)
    assert.same({{8, 10}}, again(pg.ones(1, 2)):totable())
    assert.equal(1, #again:parameters())
  end)
  it("bring the training options back, so that fit can go on", function()
    local model = digits()
    model:compile {optimizer = optim.SGD {lr = 0.25, momentum = 0.5},
      loss = {score = "cross_entropy", center = "zero"}, loss_weights = {center = 0.5}}
    local again = round_trip(model)
    assert.equal(0.25, again.optimizer.param_groups[1].lr)
    assert.equal(0.5, again.optimizer.param_groups[1].momentum)
    local set = {image = pg.rand(6, 1, 8, 8), label = pg.randint(1, 3, {6})}
    assert.equal(1, #again:fit(set, {verbose = false}).history.center_loss)
  end)
  it("know classes made with extend, by name", function()
    local Scale = nn.Module:extend "FileSpecScale"
    function Scale:init(width, opt)
      self.linear = nn.Linear(width, width)
      self.factor = opt.factor
    end
    function Scale:forward(x) return self.linear(x) * self.factor end
    local x = nn.Input {3}
    local model = nn.Model(x, Scale(3, {factor = 2.5})(x))
    local again = round_trip(model)
    local t = pg.rand(2, 3)
    assert.equal(model(t):bytes(), again(t):bytes())
  end)
  it("refuse arguments that are no data", function()
    local Odd = nn.Module:extend "FileSpecOdd"
    function Odd:init(fn) self.fn = fn end
    function Odd:forward(x) return self.fn(x) end
    assert.error_matches(function()
      nn.Sequential {Odd(print)}:save("/tmp/never.perigee")
    end, "FileSpecOdd.*function")
  end)
  it("say where a file cannot be written or read", function()
    local ok, message = digits():save("/nonexistent-folder/m.perigee")
    assert.is_nil(ok)
    assert.matches("nonexistent%-folder", message)
    ok, message = nn.load("/nonexistent-folder/m.perigee")
    assert.is_nil(ok)
    assert.matches("nonexistent%-folder", message)
  end)
end)

describe("a hostile file", function()
  it("without a model, or with broken JSON", function()
    H.in_folder(function(folder)
      local path = folder .. "/w.safetensors"
      core.io.save(path, {a = pg.ones(2)})
      local model, message = nn.load(path)
      assert.is_nil(model)
      assert.matches("holds tensors, but no model", message)
    end)
    assert.matches("JSON", tampered(digits(), function() return "{\"format\": " end))
    assert.matches("describes no model", tampered(digits(), function() return "[]" end))
    assert.matches("describes no model", tampered(digits(), function() return "3" end))
    assert.matches("version", tampered(digits(), function(d) d.version = 99 end))
  end)
  it("with an unknown class", function()
    assert.matches("there is no class 'Conv2dd', did you mean 'Conv2d'?",
      tampered(digits(), function(d)
        for _, entry in ipairs(d.modules) do
          if entry.class == "Conv2d" then entry.class = "Conv2dd" end
        end
      end), 1, true)
  end)
  it("with missing, further or misshapen tensors", function()
    assert.matches("feature.weight", tampered(digits(), function(_, tensors)
      tensors["feature.weight"] = nil
    end), 1, true)
    assert.matches("surplus", tampered(digits(), function(_, tensors)
      tensors.surplus = pg.ones(1)
    end), 1, true)
    local message = tampered(digits(), function(_, tensors)
      tensors["feature.weight"] = pg.ones(3, 3)
    end)
    assert.matches("feature.weight", message, 1, true)
    assert.matches("3 x 3", message, 1, true)
  end)
  it("with a graph that does not hold together", function()
    local edits = {
      function(d) d.modules[#d.modules].graph.nodes[3].args.l[1].sym = {99, 1} end,
      function(d) d.modules[#d.modules].graph.nodes[3].args.l[1].sym = {4, 1} end,
      function(d) d.modules[#d.modules].graph.nodes[4].module = 77 end,
      function(d) d.modules[#d.modules].graph.outputs = nil end,
      function(d) d.modules[#d.modules].graph.inputs[1] = "x" end,
      function(d) d.modules[#d.modules].graph.nodes = 5 end,
      function(d) d.modules[#d.modules].graph.nodes[1].shape = {l = {1, 12, 8}} end,
      function(d) d.modules[#d.modules].graph.nodes[1].dtype = "int63" end,
      function(d) d.modules = nil end,
      function(d) d.modules[1] = "x" end,
      function(d) d.modules[1].args = "x" end,
      function(d) d.modules[1].args = {l = {{l = {{null = 1}}}}} end,
      function(d) d.root = 0 end,
      function(d) d.modules[1].name = 5 end,
      function(d) d.modules[1].args = {m = {n = 1e9}} end,
      function(d) d.modules[2].graph = d.modules[#d.modules].graph end,
    }
    for i, edit in ipairs(edits) do
      local message = tampered(digits(), edit)
      assert.is_true(#message > 10, ("edit %d: %s"):format(i, message))
    end
  end)
  it("that asks for more memory than its tensors account for", function()
    local message = tampered(nn.Sequential {nn.Linear(3, 2)}, function(d)
      for _, entry in ipairs(d.modules) do
        if entry.class == "Linear" then
          entry.args.l[1].m.in_features, entry.args.l[1].m.out_features = 100000, 100000
        end
      end
    end)
    assert.matches("out of memory", message)
    assert.equal(0, core.memory_limit(0))
  end)
  it("cut short at any byte", function()
    H.in_folder(function(folder)
      local path = folder .. "/m.perigee"
      local x = nn.Input {2}
      nn.Model(x, nn.Linear(2, 2)(x)):save(path)
      local file = assert(io.open(path, "rb"))
      local all = file:read "a"
      file:close()
      for n = 0, #all - 1, 7 do
        file = assert(io.open(path, "wb"))
        file:write(all:sub(1, n))
        file:close()
        local model, message = nn.load(path)
        assert.is_nil(model)
        assert.is_string(message)
      end
    end)
  end)
end)
