-- fit {capture = true}: the same bits as without, whether steps are repeated or not.
-- Relies on spec/helper.lua. Sources: lua/perigee/train/capture.lua, lua/perigee/train/init.lua.

local core = require "perigee.core"
local pg = require "perigee"
local H = require "spec.helper"
local nn, optim = pg.nn, pg.optim
local F = nn.functional

local N, BATCH, EPOCHS = 85, 8, 3   -- ten batches of 8 and one of 5
local STEPS = EPOCHS * 11

local function points(n)
  pg.manual_seed(7)
  return {x = pg.randn(n or N, 4), label = pg.randint(1, 3, {n or N})}
end

local function images()
  pg.manual_seed(7)
  return {x = pg.randn(N, 1, 8, 8), label = pg.randint(1, 3, {N})}
end

local function mlp() return nn.Sequential {nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3)} end

local function entropy(output, target) return F.cross_entropy(output, target) end

-- A loss, and how often training called it: less than once a step where steps are repeated.
local function counted(fn)
  local calls = {0}
  return function(...)
    if core.is_grad_enabled() then calls[1] = calls[1] + 1 end
    return (fn or entropy)(...)
  end, calls
end

local function bytes_of(value)
  if core.is_tensor(value) then return value:bytes() end
  if type(value) ~= "table" then return value end
  local result = {}
  for key, item in pairs(value) do result[key] = bytes_of(item) end
  return result
end

-- Fits from the same start plainly and captured, and compares weights, history, the optimizer's
-- state and the random numbers that come next. make(loss, log) -> a compiled model and options of
-- fit; log is a list that is to be the same, too. @return calls of the loss, plainly and captured
local function fits_the_same(set, make, loss_of)
  local states, calls = {}, {}
  for pass = 1, 2 do
    local data = set()
    local loss, count = counted(loss_of)
    local log = {}
    pg.manual_seed(3)
    local model, opt = make(loss, log)
    opt = opt or {}
    opt.batch_size, opt.epochs, opt.verbose = BATCH, opt.epochs or EPOCHS, false
    opt.capture = pass == 2
    local history = model:fit(data, opt)
    states[pass] = {weights = bytes_of(model:state_dict()), history = history.history, log = log,
      optimizer = bytes_of(model.optimizer:state_dict()), random = core.rng_state()}
    calls[pass] = count[1]
  end
  assert.same(states[1].history, states[2].history)
  assert.same(states[1].log, states[2].log)
  assert.is_true(next(states[1].weights) ~= nil)
  for key in pairs(states[1]) do assert.same(states[1][key], states[2][key], key) end
  return calls[1], calls[2]
end

-- The same, where steps are to be repeated: all but a few at the start of each epoch.
local function repeats(set, make, loss_of)
  local plain, captured = fits_the_same(set, make, loss_of)
  assert.equal(STEPS, plain)
  assert.is_true(captured <= 4 * EPOCHS, captured .. " calls of the loss")
end

local function trained(opt)
  return function(loss)
    local options = {optimizer = optim.Adam {lr = 0.01}, loss = loss}
    for key, value in pairs(opt or {}) do
      options[key] = key == "optimizer" and optim.SGD(value) or value
    end
    return mlp():compile(options), {}
  end
end

describe("fit {capture = true}", function()
  it("trains a perceptron to the same bits", function()
    repeats(points, trained {metrics = {"accuracy"}})
    repeats(points, trained {optimizer = {lr = 0.1, momentum = 0.9}})
  end)

  it("draws random numbers as before and keeps statistics", function()
    repeats(images, function(loss)
      local net = nn.Sequential {nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(),
        nn.MaxPool2d(2), nn.Dropout(0.3), nn.Flatten(), nn.Linear(36, 3)}
      return net:compile {optimizer = optim.Adam {lr = 0.01}, loss = loss, metrics = "accuracy"},
        {validation_data = images()}
    end)
  end)

  it("trains a graph with a center loss to the same bits", function()
    repeats(points, function(loss)
      local x = nn.Input({4}, {name = "x"})
      local label = nn.Input({}, {name = "label", dtype = "int64", training_only = true})
      local feature = nn.Linear(4, 2, {name = "feature"})(x)
      local score = nn.Linear(2, 3, {name = "score"})(feature)
      local model = nn.Model({x, label}, {score, nn.CenterLoss(3, 2)(feature, label)})
      return model:compile {optimizer = optim.SGD {lr = 0.1},
        loss = {score = loss, centerloss = "zero"}, loss_weights = {centerloss = 0.3},
        metrics = {score = "accuracy"}}
    end)
  end)

  it("logs the parts of the loss of a graph with two outputs", function()
    repeats(points, function(loss)
      local x = nn.Input({4}, {name = "x"})
      local h = nn.Tanh()(nn.Linear(4, 8)(x))
      local model = nn.Model(x, {class = nn.Linear(8, 3)(h), copy = nn.Linear(8, 4)(h)})
      return model:compile {optimizer = optim.Adam {lr = 0.01},
        loss = {class = loss, copy = "mse"}, targets = {copy = "x"},
        metrics = {class = "accuracy", copy = "mae"}}
    end)
  end)

  it("trains modules whose forward returns a table", function()
    repeats(points, function(loss)
      local Two = nn.Module:extend "Two"
      function Two:init() self.a, self.b = nn.Linear(4, 3), nn.Linear(4, 4) end
      function Two:forward(x) return {a = self.a(x), b = self.b(x), kind = 1} end
      return Two():compile {optimizer = optim.SGD {lr = 0.1}, loss = {a = loss, b = "mse"},
        targets = {b = "x"}, inputs = "x"}
    end)
  end)

  it("computes in bfloat16 and clips gradients", function()
    repeats(points, trained {precision = "bfloat16", metrics = "accuracy"})
    repeats(points, trained {clip_norm = 0.05})
  end)

  it("lets callbacks change the rate and freeze layers in mid-training, and tells them all",
    function()
      repeats(points, function(loss, log)
        local model = mlp():compile {optimizer = optim.SGD {lr = 0.1}, loss = loss}
        return model, {validation_data = points(20), callbacks = {
          pg.callbacks.LambdaCallback {on_batch_end = function(step, logs)
            log[#log + 1] = {step, logs.loss, logs.size}
            if step == 5 then model.optimizer.param_groups[1].lr = 0.02 end
            if #log == 18 then
              for _, p in ipairs(model[1]:parameters()) do p.requires_grad = false end
            end
          end}}}
      end)
    end)

  it("sees modes that change in mid-epoch", function()
    local plain, captured = fits_the_same(points, function(loss)
      local net = nn.Sequential {nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5),
        nn.Linear(8, 3)}
      return net:compile {optimizer = optim.SGD {lr = 0.1}, loss = loss}, {callbacks = {
        pg.callbacks.LambdaCallback {on_batch_end = function(step)
          if step == 4 then net[2]:eval() end
          if step == 7 then net:evaluate(points(9)) end
        end}}}
    end)
    assert.is_true(captured < plain)
  end)

  it("goes on with schedulers, by batch and by epoch, and stops early", function()
    repeats(points, function(loss)
      return mlp():compile {optimizer = optim.SGD {lr = 0.1}, loss = loss,
        scheduler = function(o) return optim.lr_scheduler.StepLR(o, {step_size = 4}) end},
        {scheduler_every = "batch"}
    end)
    local plain, captured = fits_the_same(points, function(loss)
      return mlp():compile {optimizer = optim.SGD {lr = 1e-6}, loss = loss},
        {epochs = 9, validation_data = points(20), scheduler = function(o)
          return optim.lr_scheduler.ReduceLROnPlateau(o, {patience = 0})
        end, callbacks = {pg.callbacks.EarlyStopping {monitor = "val_loss", patience = 1,
          min_delta = 1}}}
    end)
    assert.is_true(plain < 9 * 11 and captured < plain)
  end)

  it("resumes to the same bits", function()
    H.in_folder(function(folder)
      local path = folder .. "/run.ckpt"
      trained()(entropy):fit(points(), {batch_size = BATCH, seed = 1, verbose = false,
        callbacks = {pg.callbacks.ModelCheckpoint {path = path}}})
      local plain, captured = fits_the_same(points, function(loss)
        return trained()(loss), {seed = 1, resume = path}
      end)
      assert.is_true(plain == 2 * 11 and captured < plain)
    end)
  end)

  it("sees in an epoch what changed before it, in Lua's variables too", function()
    local weight
    repeats(points, function(loss)
      weight = 1
      return mlp():compile {optimizer = optim.SGD {lr = 0.1}, loss = loss}, {callbacks = {
        pg.callbacks.LambdaCallback {on_epoch_end = function() weight = weight / 2 end}}}
    end, function(output, target) return F.cross_entropy(output, target) * weight end)
  end)

  it("falls back where the model branches on data or has hooks", function()
    local plain, captured = fits_the_same(points, trained(), function(output, target)
      local value = F.cross_entropy(output, target)
      return value:item() > 1 and value * 2 or value
    end)
    assert.same({STEPS, STEPS}, {plain, captured})
    plain, captured = fits_the_same(points, function(loss, log)
      local model = trained()(loss)
      model[1]:register_forward_hook(function(_, _, y) log[#log + 1] = y:mean():item() end)
      return model
    end)
    assert.same({STEPS, STEPS}, {plain, captured})
    fits_the_same(points, function(loss, log)
      local model = trained()(loss)
      model[3].bias:register_hook(function(g)
        log[#log + 1] = g:sum():item()
        return g * 0.5
      end)
      return model
    end)
    fits_the_same(points, function(loss, log)
      local Shown = nn.Module:extend "Shown"
      function Shown:init() self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 3) end
      function Shown:forward(x)
        local h = self.a(x)
        h:register_hook(function(g)
          log[#log + 1] = 1
          return g * 2
        end)
        return self.b(h)
      end
      return Shown():compile {optimizer = optim.SGD {lr = 0.1}, loss = loss}
    end)
    fits_the_same(points, function(loss, log)
      local model = trained()(loss)
      return model, {callbacks = {pg.callbacks.LambdaCallback {on_batch_end = function(step)
        if step == 6 and #log == 0 then
          model[3].weight:register_hook(function(g)
            log[#log + 1] = 1
            return g * 0.5
          end)
        end
      end}}}
    end)
  end)

  it("falls back with LBFGS and with fields that are no tensors or that come and go", function()
    fits_the_same(points, function(loss)
      return mlp():compile {optimizer = optim.LBFGS {lr = 0.1, max_iter = 3}, loss = loss}
    end)
    local Named = pg.data.Dataset:extend "Named"
    function Named:batch(index)
      local first = index:min():item()
      return {x = self.set.x:index_select(1, index),
        label = self.set.label:index_select(1, index), weight = self.weight(first)}
    end
    Named.__len = function() return N end
    local function named(weight)
      return function() return setmetatable({set = points(), weight = weight}, Named) end
    end
    local function weighed(output, target, batch)
      local w = batch.weight
      if type(w) == "table" then w = w[1] end
      return F.cross_entropy(output, target) * (w or 1)
    end
    local function make(loss)
      return mlp():compile {optimizer = optim.SGD {lr = 0.1}, loss = loss, inputs = "x"}
    end
    fits_the_same(named(function(first) return first end), make, weighed)
    fits_the_same(named(function(first) return {first} end), make, weighed)
    fits_the_same(named(function(first) return first % 3 == 0 and pg.tensor(first) or nil end),
      make, weighed)
    repeats(named(function() return 2 end), make, weighed)
  end)

  it("raises what fit raises", function()
    for _, capture in ipairs {false, true} do
      local set = points()
      set.label[50] = 9
      local model = trained()(entropy)
      H.raises(function()
        model:fit(set, {batch_size = BATCH, shuffle = false, verbose = false, capture = capture})
      end, "got label 9 in row 2")
      set.label[50], set.x[60] = 1, 1e300
      H.raises(function()
        model:fit(set, {batch_size = BATCH, shuffle = false, verbose = false, capture = capture})
      end, "fit: the loss is %-?%w+ at epoch 1, step 8; nothing was changed by this step")
    end
  end)
end)
