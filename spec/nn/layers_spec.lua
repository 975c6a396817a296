-- Layers written in C: outputs, gradients and state against PyTorch in training and evaluation,
-- what they print, first values, arguments, errors.
-- Relies on spec/fixtures/training/*layers.safetensors (spec/fixtures/training.py).
-- Sources: core/nn/layer.c, core/nn/layers/*.c, lua/binding/layer.c, lua/perigee/nn/layer.lua.

local core = require "perigee.core"
local H = require "spec.helper"
local pg = require "perigee"
local nn = pg.nn

local function part(data, prefix)
  local found = {}
  for name, t in pairs(data) do
    if name:sub(1, #prefix) == prefix then found[name:sub(#prefix + 1)] = t end
  end
  return found
end

local function build(case)
  local args = {table.unpack(case.args)}
  if next(case.options) then args[#args + 1] = case.options end
  return nn[case.class](table.unpack(args))
end

--- One set of tests for each case of a file.
local function compare(file)
  local path = ("spec/fixtures/training/%s.safetensors"):format(file)
  local data, notes = core.io.load(path, "safetensors")
  for i, case in ipairs(core.io.json_decode(notes.cases)) do
    for dtype, tolerance in pairs {float64 = 1e-10, float32 = 2e-4} do
      it(("%s in %s agrees with PyTorch"):format(case.show, dtype), function()
        local layer = build(case):to(dtype)
        layer:load_state_dict(part(data, i .. ".before."))
        for _, mode in ipairs {"train", "eval"} do
          layer:train(mode == "train")
          layer:zero_grad()
          local at = ("%d.%s."):format(i, mode)
          local x = data[at .. "x"]:to(dtype):clone()
          x.requires_grad = true
          local y = layer(x)
          H.same(y:detach(), data[at .. "y"]:to(dtype), tolerance)
          y:backward(pg.linspace(-1, 1, y:numel(), {dtype = dtype}):view(y.shape))
          H.same(x.grad, data[at .. "grad"]:to(dtype), tolerance)
          for name, p in layer:named_parameters() do
            H.same(p.grad, data[at .. "grad." .. name]:to(dtype), tolerance)
          end
        end
        for name, t in pairs(layer:state_dict()) do
          H.same(t, data[i .. ".after." .. name]:to(t.dtype), tolerance)
        end
      end)
    end
    it(case.show .. " prints and is made again from its arguments", function()
      local layer = build(case)
      assert.equal(case.show, tostring(layer))
      local args = layer:config()
      assert.equal(case.show, tostring(nn[case.class](table.unpack(args, 1, args.n))))
    end)
  end
end

describe("layers", function()
  compare "layers"
  compare "more_layers"
  compare "volume_layers"

  it("print as PyTorch's where they draw or round otherwise", function()
    for _, pair in ipairs {
      {nn.RReLU(), "RReLU(lower=0.125, upper=0.3333333333333333)"},
      {nn.Hardsigmoid(), "Hardsigmoid()"}, {nn.Dropout3d(0.2), "Dropout3d(p=0.2, inplace=False)"},
      {nn.FeatureAlphaDropout(), "FeatureAlphaDropout(p=0.5, inplace=False)"},
      {nn.MaxUnpool2d(2), "MaxUnpool2d(kernel_size=(2, 2), stride=(2, 2), padding=(0, 0))"},
    } do
      assert.equal(pair[2], tostring(pair[1]))
    end
  end)

  it("give and take the places of maxima", function()
    local pool, unpool = nn.MaxPool2d(2, {return_indices = true}), nn.MaxUnpool2d(2)
    local x = H.make({1, 5, 2, 3, 4, 0, 9, 8}, "float32", {1, 1, 2, 4})
    local y, at = pool(x)
    H.same(y, {{{{5, 9}}}})
    H.same(at, {{{{2, 7}}}})
    H.same(unpool(y, at), {{{{0, 5, 0, 0}, {0, 0, 9, 0}}}})
    assert.same({1, 1, 3, 5}, unpool(y, at, {3, 5}).shape)
    local _, places = nn.AdaptiveMaxPool1d(1, true)(x[1][1])
    H.same(places, {{2}, {3}})
    assert.equal(1, select("#", nn.MaxPool2d(2)(x)))
    local volumes = H.t.distinct(2, 3, 4, 4, 4)
    local z, where = nn.MaxPool3d(2, {return_indices = true})(volumes)
    local back = nn.MaxUnpool3d(2)(z, where)
    H.same(nn.MaxPool3d(2)(back:abs()), z:abs())
    assert.same({2, 3, 1, 1, 1}, (select(2, nn.AdaptiveMaxPool3d(1, true)(volumes))).shape)
  end)

  it("turn convolutions round to the size that is asked for", function()
    local layer, x = nn.ConvTranspose2d(1, 2, 3, {stride = 2, padding = 1}), H.randn(1, 1, 3, 4)
    assert.same({1, 2, 5, 7}, layer(x).shape)
    assert.same({1, 2, 6, 7}, layer(x, {6, 7}).shape)
    assert.same({1, 2, 6, 8}, layer(x, {1, 2, 6, 8}).shape)
    H.same(layer(x, {5, 7}), layer(x))
    H.raises(function() layer(x, {7, 7}) end,
      "'output_size': expected 5 to 6 in spatial dim 1, got 7")
    H.raises(function() layer(x, {7}) end, "'output_size': expected 2 sizes or 4, got 1")
  end)

  it("draw in training only", function()
    local x = H.t.full(-1, 4, 50)
    local layer = nn.RReLU()
    local y = layer(x)
    assert.is_true(y:min():item() < -0.3 and y:max():item() > -0.2)
    H.same(layer:eval()(x), H.t.full(-11 / 48, 4, 50), 1e-6)
    local drop = nn.FeatureAlphaDropout()
    assert.is_false(drop(x):eq(x):all():item() == true)
    H.same(drop:eval()(x), x)
  end)

  it("have ops behind them", function()
    local names = {}
    for _, info in ipairs(core.op_info()) do
      for _, name in ipairs(info.names) do names[name] = true end
    end
    for _, info in ipairs(core.layers()) do
      assert.is_true(info.op == nil or names[info.op] ~= nil, info.name .. " needs " ..
        tostring(info.op))
      assert.is_true(#info.doc > 0, info.name)
    end
  end)

  it("start with PyTorch's distributions", function()
    pg.manual_seed(3)
    local lin = nn.Linear(400, 300)
    assert.is_true(lin.weight:abs():max():item() <= 0.05)
    assert.near(0.05 / math.sqrt(3), lin.weight:detach():std():item(), 1e-3)
    assert.is_true(lin.bias:abs():max():item() <= 0.05)
    local conv = nn.Conv2d(4, 50, 5)
    assert.is_true(conv.weight:abs():max():item() <= 0.1)
    assert.near(0.1 / math.sqrt(3), conv.weight:detach():std():item(), 2e-3)
    local emb = nn.Embedding(200, 50, {padding_idx = 3})
    assert.near(1, emb.weight:detach():std():item(), 0.03)
    H.same(emb.weight:detach()[3], pg.zeros(50))
    assert.equal(0.25, nn.PReLU().weight:item())
    local norm = nn.BatchNorm2d(3)
    H.same(norm.weight:detach(), pg.ones(3))
    H.same(norm.running_var, pg.ones(3))
    assert.equal(0, norm.num_batches_tracked:item())
  end)

  it("bound the rows of an Embedding that are used, and share their gradient", function()
    local emb = nn.Embedding(4, 2, {max_norm = 1, norm_type = 1})
    emb.weight = nn.Parameter(pg.tensor {{3, -1}, {0.25, 0.5}, {6, 2}, {8, 8}})
    H.same(emb(pg.tensor({3, 1, 3}, {dtype = "int64"})):detach(),
      pg.tensor {{0.75, 0.25}, {0.75, -0.25}, {0.75, 0.25}}, 1e-6)
    emb(pg.tensor({2, 2}, {dtype = "int64"}))
    H.same(emb.weight:detach(), pg.tensor {{0.75, -0.25}, {0.25, 0.5}, {0.75, 0.25}, {8, 8}}, 1e-6)
    local shared = nn.Embedding(3, 2, {scale_grad_by_freq = true})
    shared(pg.tensor({{1, 1}, {2, 1}}, {dtype = "int64"})):sum():backward()
    H.same(shared.weight.grad, pg.tensor {{1, 1}, {1, 1}, {0, 0}}, 1e-6)
  end)

  it("take rows of an Embedding by 1-based indices", function()
    local emb = nn.Embedding(5, 3, {padding_idx = 2})
    local x = pg.tensor({{1, 2}, {5, 1}}, {dtype = "int64"})
    local y = emb(x)
    assert.same({2, 2, 3}, y.shape)
    H.same(y:detach()[{2, 1}], emb.weight:detach()[5])
    y:sum():backward()
    H.same(emb.weight.grad, pg.tensor {{2, 2, 2}, {0, 0, 0}, {0, 0, 0}, {0, 0, 0}, {1, 1, 1}})
    H.raises(function() emb(pg.tensor({6}, {dtype = "int64"})) end, "6")
  end)

  it("drop in training only", function()
    pg.manual_seed(1)
    local drop, x = nn.Dropout(0.25), pg.ones(100, 100)
    local y = drop(x)
    assert.near(0.25, y:eq(0):to("float32"):mean():item(), 0.02)
    assert.near(4 / 3, y:max():item(), 1e-6)
    drop:eval()
    H.same(drop(x), x)
    assert.is_false(drop.training)
  end)

  it("flatten and unflatten", function()
    local x = pg.zeros(2, 3, 4)
    assert.same({2, 12}, nn.Flatten()(x).shape)
    assert.same({24}, nn.Flatten(1)(x).shape)
    assert.same({2, 3, 2, 2}, nn.Unflatten(3, {2, 2})(x).shape)
  end)

  it("softmax over the dim that PyTorch would choose", function()
    local x = pg.tensor {{1, 2}, {3, 5}}
    H.same(nn.Softmax()(x), x:softmax(2))
    H.same(nn.LogSoftmax(1)(x), x:log_softmax(1))
  end)

  it("have arguments and parameters as fields", function()
    local lin = nn.Linear(3, 2, {name = "fc"})
    assert.equal("fc", lin.name)
    assert.equal(3, lin.in_features)
    assert.is_nil(lin.nonsense)
    assert.is_nil(nn.Linear(3, 2, {bias = false}).bias)
    local w = nn.Parameter(pg.ones(2, 3))
    lin.weight = w
    assert.is_true(rawequal(lin.weight, w))
    H.same(lin(pg.ones(1, 3)):detach(), (lin.bias:detach() + 3):view(1, 2))
    local drop = nn.Dropout(0.5)
    drop.p = 0
    H.same(drop(pg.ones(5)), pg.ones(5))
    H.raises(function() drop.p = 2 end, "'p': expected 0 to 1, got 2")
    assert.equal(0, drop.p)
  end)

  it("refuse what cannot be", function()
    H.raises(function() nn.Linear(3) end, "out_features")
    H.raises(function() nn.Linear(3, -1) end, "'out_features': expected at least 0, got %-1")
    H.raises(function() nn.Linear(3, 2, {biass = false}) end, "did you mean 'bias'")
    H.raises(function() nn.Conv2d(3, 4, 3, {groups = 2}) end, "'groups': .*got 2")
    H.raises(function() nn.Conv2d(3, 4, {3, 3, 3}) end, "expected one integer or 2, got 3")
    H.raises(function() nn.Conv2d(1, 1, 3, {padding = "same", stride = 2}) end, "'stride': .*got 2")
    H.raises(function() nn.Conv2d(1, 1, 3, {padding = "sane"}) end, "padding")
    H.raises(function() nn.ConvTranspose2d(2, 2, 3, {output_padding = 1}) end,
      "'output_padding': expected less than stride 1 or dilation 1, got 1")
    H.raises(function() nn.ConvTranspose2d(3, 2, 3, {groups = 2}) end, "'groups': .*got 2")
    H.raises(function() nn.ZeroPad2d {1, 2} end, "'padding': expected one integer or 4, got 2")
    H.raises(function() nn.ReflectionPad1d(1)(pg.ones(3)) end,
      "ReflectionPad1d: argument 'input': expected 2 or 3 dims, got %[3%]")
    H.raises(function() nn.PixelShuffle(0) end, "'upscale_factor': expected at least 1, got 0")
    H.raises(function() nn.Upsample {scale_factor = {2, "x"}} end, "scale_factor")
    H.raises(function() nn.GroupNorm(2, 3) end, "'num_groups': .*got 2")
    H.raises(function() nn.Dropout(1.5) end, "'p'")
    H.raises(function() nn.Embedding(3, 2, {padding_idx = 4}) end, "1 to 3, got 4")
    H.raises(function() nn.Linear(3, 2)(pg.ones(2, 4)) end, "%[2 x 4%]")
    H.raises(function() nn.BatchNorm2d(3)(pg.ones(2, 3)) end,
      "BatchNorm2d: argument 'input': expected 4 dims, got %[2 x 3%]")
    H.raises(function() nn.Linear(3, 2)() end, "'input': expected 1 tensor, got 0")
    H.raises(function() nn.Linear(3, 2)(7) end, "expected a tensor")
    H.raises(function() return nn.Conv2D end, "did you mean 'Conv2d'")
  end)

  it("blame the script's line and name the layer", function()
    local net = nn.Sequential {nn.Linear(3, 4), nn.Linear(5, 2, {name = "last"})}
    local ok, message = pcall(function() return (net(pg.ones(2, 3))) end)
    assert.is_false(ok)
    assert.matches("^%S*layers_spec%.lua:%d+: linear: .*%(in layer Linear 'last'%)$", message)
  end)

  it("leave nothing behind when an allocation fails", function()
    for _, make in ipairs {
      function() return nn.Conv2d(2, 3, 3) end, function() return nn.BatchNorm2d(4) end,
      function() return nn.CenterLoss(4, 2, {preset = "caffe_face"}) end,
    } do
      make()
      collectgarbage()
      collectgarbage()
      local live = core.memory().live
      local failed, n = true, 1
      while failed do
        core.fail_after(n)
        local ok, message = pcall(make)
        core.fail_after(-1)
        failed = not ok
        if failed then assert.matches("out of memory", message, 1, true) end
        message = nil   -- luacheck: ignore (the layer, where it was made)
        collectgarbage()
        collectgarbage()
        assert.equal(live, core.memory().live)
        n = n + 1
      end
      assert.is_true(n > 2)
    end
  end)
end)

describe("calls of layers in C", function()
  it("see a forward that replaces the layer's own, on an object or on the class", function()
    local x = pg.ones(1, 2)
    local layer = nn.ReLU()
    layer(x)
    layer.forward = function(_, t) return t + 1 end
    H.same(layer(x), {{2, 2}})
    local class = nn.Softsign
    local other = class()
    other(x)
    class.forward = function(_, t) return t * 3 end
    H.same(other(x), {{3, 3}})
    class.forward = nil
    H.same(other(x), {{0.5, 0.5}})
    local Twice = nn.ReLU:extend "Twice"
    function Twice:forward(t) return nn.ReLU.forward(self, t) * 2 end
    H.same(Twice()(x), {{2, 2}})
  end)

  it("run hooks that came after the first call", function()
    local x, seen = pg.ones(1, 2), 0
    local layer = nn.ReLU()
    layer(x)
    local handle = layer:register_forward_hook(function() seen = seen + 1 end)
    layer(x)
    handle:remove()
    layer(x)
    assert.equal(1, seen)
  end)

  it("may yield in a hook", function()
    local layer = nn.ReLU()
    layer:register_forward_hook(function(_, _, y)
      coroutine.yield "inside"
      return y + 1
    end)
    local run = coroutine.wrap(function() return layer(pg.ones(2)) end)
    assert.equal("inside", run())
    H.same(run(), {2, 2})
  end)

  it("blame the line of the script, and name the layer", function()
    local layer = nn.Linear(3, 2, {name = "head"})
    H.raises(function() layer(pg.ones(1, 4)) end, "_spec.lua:%d+: linear: .*in layer Linear 'head'")
    H.raises(function() layer() end, "'input': expected 1 tensor, got 0")
    H.raises(function() layer(1) end, "'input': expected a tensor, got number")
    local gone = pg.ones(1, 3)
    gone:release()
    H.raises(function() layer(gone) end, "_spec.lua:%d+: Linear: argument 'input': .*released")
  end)
end)
