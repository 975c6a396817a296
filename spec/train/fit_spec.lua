-- compile, fit, evaluate, predict: results, names of logs, binding of fields, errors.
-- Relies on nn, optim, data.
-- Sources: lua/perigee/train/init.lua, lua/perigee/train/loss.lua, lua/perigee/train/source.lua.

local H = require "spec.helper"
local pg = require "perigee"
local nn, optim, data = pg.nn, pg.optim, pg.data

--- n points in three clusters, labels 1..3.
local function clusters(n)
  pg.manual_seed(3)
  local label = pg.randint(1, 3, {n})
  local x = pg.randn(n, 2) * 0.3
  local centers = pg.tensor {{2, 0}, {-2, 0}, {0, 2}}
  return {x = x + centers:index_select(1, label), label = label}
end

local function classifier()
  pg.manual_seed(1)
  local x = nn.Input({2}, {name = "x"})
  local h = nn.Tanh()(nn.Linear(2, 8, {name = "hidden"})(x))
  return nn.Model(x, nn.Linear(8, 3, {name = "score"})(h))
end

local function two_headed()
  pg.manual_seed(1)
  local x = nn.Input({2}, {name = "x"})
  local label = nn.Input({}, {name = "label", dtype = "int64", training_only = true})
  local feature = nn.Linear(2, 2, {name = "feature"})(x)
  local score = nn.Linear(2, 3, {name = "score"})(feature)
  return nn.Model({x, label}, {score, nn.CenterLoss(3, 2)(feature, label)})
end

local function compiled(opt)
  opt = opt or {}
  opt.optimizer = opt.optimizer or optim.SGD {lr = 0.2}
  opt.loss = opt.loss or "cross_entropy"
  return classifier():compile(opt)
end

local QUIET = {verbose = false}
local function quiet(opt)
  opt.verbose = false
  return opt
end

describe("fit", function()
  it("learns, and gives a history like Keras's", function()
    local model = compiled {metrics = "accuracy"}
    local set = clusters(300)
    local history = model:fit(set, quiet {epochs = 5, batch_size = 30, seed = 1,
      validation_data = clusters(60)})
    assert.equal(5, #history.history.loss)
    assert.same({1, 2, 3, 4, 5}, history.epoch)
    assert.is_true(history.history.loss[5] < 0.5 * history.history.loss[1])
    assert.is_true(history.history.accuracy[5] > 0.95)
    assert.is_true(history.history.val_accuracy[5] > 0.95)
    assert.equal(5, #history.history.val_loss)
    assert.equal(history.history.loss, history.loss)
    assert.equal(history, model.history)
  end)
  it("takes a dataset, a loader and a table of tensors, with the same result", function()
    local losses = {}
    local set = clusters(90)
    for i, source in ipairs {set, data.TensorDataset(set),
        data.DataLoader(data.TensorDataset(set), {batch_size = 30, shuffle = true, seed = 4})} do
      local history = compiled():fit(source, quiet {epochs = 2, batch_size = 30, seed = 4})
      losses[i] = history.history.loss
    end
    assert.same(losses[1], losses[2])
    assert.same(losses[1], losses[3])
  end)
  it("shuffles by seed and epoch, unless told not to", function()
    local set = clusters(90)
    local function losses(opt)
      return compiled():fit(set, quiet(opt)).history.loss
    end
    local a = losses {epochs = 2, seed = 1}
    assert.same(a, losses {epochs = 2, seed = 1})
    assert.not_same(a, losses {epochs = 2, seed = 2})
    pg.manual_seed(1)
    local plain = losses {epochs = 2, shuffle = false}
    pg.manual_seed(2)
    assert.same(plain, losses {epochs = 2, shuffle = false})
  end)
  it("equals the same steps done by hand", function()
    local set = clusters(60)
    local model = compiled()
    model:fit(set, quiet {epochs = 2, batch_size = 20, shuffle = false})
    local twin = classifier()
    local opt = optim.SGD(twin:parameters(), {lr = 0.2})
    for _ = 1, 2 do
      for batch in data.DataLoader(data.TensorDataset(set), {batch_size = 20}) do
        local loss = nn.functional.cross_entropy(twin(batch.x), batch.label)
        opt:zero_grad()
        loss:backward()
        opt:step()
      end
    end
    assert.same(twin:get("hidden").weight:totable(), model:get("hidden").weight:totable())
  end)
  it("names logs by output where there are several, and weighs losses", function()
    local model = two_headed()
    model:compile {
      optimizer = optim.SGD {lr = 0.1},
      loss = {score = "cross_entropy", centerloss = "zero"},
      loss_weights = {centerloss = 0.5},
      metrics = {score = {"accuracy", pg.metrics.top_k(2)}},
    }
    local history = model:fit(clusters(60), quiet {epochs = 1, batch_size = 60}).history
    assert.is_true(math.abs(history.loss[1] - history.score_loss[1]
      - 0.5 * history.centerloss_loss[1]) < 1e-5)
    assert.is_number(history.score_accuracy[1])
    assert.is_number(history.score_top_2[1])
  end)
  it("stops after steps_per_epoch, going round again where the data ends", function()
    local steps = {}
    local counter = pg.callbacks.LambdaCallback {on_batch_end = function(step)
      steps[#steps + 1] = step
    end}
    compiled():fit(clusters(40), quiet {epochs = 2, batch_size = 20, steps_per_epoch = 3,
      callbacks = {counter}})
    assert.same({1, 2, 3, 1, 2, 3}, steps)
  end)
  it("reads other targets, and trains a Sequential on its input field", function()
    pg.manual_seed(2)
    local net = nn.Sequential {nn.Linear(2, 2), nn.Linear(2, 2)}
    net:compile {optimizer = optim.SGD {lr = 0.1}, loss = "mse", targets = "x", inputs = "x",
      metrics = "mae"}
    local history = net:fit(clusters(100), quiet {epochs = 30, batch_size = 20}).history
    assert.is_true(history.loss[30] < 0.3 * history.loss[1])
    assert.is_true(history.mae[30] < history.mae[1])
    assert.same({100, 2}, net:predict(clusters(100)).shape)
  end)
  it("binds the only field that is no target", function()
    local net = nn.Sequential {nn.Linear(2, 3)}
    net:compile {optimizer = optim.SGD {lr = 0.1}, loss = "cross_entropy"}
    net:fit(clusters(20), QUIET)
    net:compile {optimizer = optim.SGD {lr = 0.1}, loss = "cross_entropy"}
    local set = clusters(20)
    set.extra = set.x
    set.other, set.x = set.x, nil
    assert.error_matches(function() net:fit(set, quiet {}) end,
      "argument 'inputs' of compile: expected the batch field that is the input, got nothing, and "
      .. "several may be: extra, label, other", 1, true)
  end)
  it("compares scores of one column with plain targets element by element", function()
    local net = nn.Sequential {nn.Linear(2, 1)}
    net:compile {optimizer = optim.SGD {lr = 0.1}, loss = "mse", targets = "y", inputs = "x"}
    local x = pg.randn(50, 2)
    local history = net:fit({x = x, y = x:sum(2)}, quiet {epochs = 30, batch_size = 10}).history
    assert.is_true(history.loss[30] < 1e-2)
  end)
  it("stops with the epoch and step when the loss is not finite, before it changes anything",
    function()
      local model = compiled {loss = function(output) return output:mean() / 0 end}
      local before = model:get("hidden").weight:totable()
      assert.error_matches(function() model:fit(clusters(20), quiet {epochs = 1}) end,
        "the loss is %-?[in][nan]f? at epoch 1, step 1")
      assert.same(before, model:get("hidden").weight:totable())
    end)
  -- Losses of torch.optim.LBFGS, an epoch each: the mean over its batches of what step returned.
  local LBFGS = {
    {{lr = 0.5, max_iter = 5}, 20,
      {0.6106143511, 0.1438475522, 0.09847450294, 0.05264084159, 0.03712640938, 0.03215684576}},
    {{line_search_fn = "strong_wolfe", max_iter = 4}, 20,
      {0.6106143511, 0.139734791, 0.09916514007, 0.0460551464, 0.04121640043, 0.0324257764}},
    {{lr = 0.1, max_iter = 3}, 10,
      {0.6494114989, 0.5608748835, 0.4351283983, 0.2625580664, 0.1946062804, 0.1720476835}},
  }

  --- A small regression, and a net with the weights that those losses began with.
  local function regression()
    local rows = {}
    for i = 0, 19 do rows[i + 1] = {i / 10 - 1, i * 7 % 10 / 10 - 0.5} end
    local x = pg.tensor(rows, {dtype = "float64"})
    local first, second = x:narrow(2, 1, 1), x:narrow(2, 2, 1)
    local model = nn.Sequential {nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)}:double()
    local function given(list) return pg.tensor(list, {dtype = "float64"}) end
    model:load_state_dict {
      ["1.weight"] = given {{0.5, -0.3}, {0.2, 0.8}, {-0.6, 0.1}},
      ["1.bias"] = given {0.1, -0.2, 0.3},
      ["3.weight"] = given {{0.7, -0.4, 0.5}},
      ["3.bias"] = given {0.05},
    }
    return model, {x = x, label = (3 * first):sin() + second:pow(2)}
  end

  for _, case in ipairs(LBFGS) do
    it(("follows PyTorch with LBFGS, %d a batch, %s"):format(case[2],
      case[1].line_search_fn or "no line search"), function()
      local model, set = regression()
      model:compile {optimizer = optim.LBFGS(case[1]), loss = "mse", metrics = "mse"}
      local history = model:fit(set, quiet {epochs = 6, batch_size = case[2], shuffle = false})
      for i, loss in ipairs(case[3]) do
        assert.near(loss, history.loss[i], 1e-8 * loss)
        assert.near(loss, history.history.mse[i], 1e-8 * loss)
      end
    end)
  end
  it("goes on with LBFGS from a checkpoint", function()
    H.in_folder(function(folder)
      local path = folder .. "/run.ckpt"
      local function run(epochs, opt)
        local model, set = regression()
        model:compile {optimizer = optim.LBFGS {max_iter = 3, lr = 0.3}, loss = "mse"}
        opt.epochs, opt.shuffle = epochs, false
        model:fit(set, quiet(opt))
        return model
      end
      local whole = run(4, {})
      run(2, {callbacks = {pg.callbacks.ModelCheckpoint {path = path}}})
      local again = run(4, {resume = path})
      for name, p in pairs(whole:state_dict()) do
        assert.equal(p:bytes(), again:state_dict()[name]:bytes(), name)
      end
    end)
  end)
  it("refuses clip_norm with LBFGS, and a loss that is not finite", function()
    H.raises(function() compiled {optimizer = "LBFGS", clip_norm = 1} end,
      "compile: argument 'clip_norm': expected nothing with optim.LBFGS, .*, got 1")
    local model = compiled {optimizer = "LBFGS", loss = function(y) return y:mean() / 0 end}
    local before = model:get("hidden").weight:totable()
    H.raises(function() model:fit(clusters(20), quiet {}) end,
      "at epoch 1, step 1; nothing was changed by this step; a smaller lr may help")
    assert.same(before, model:get("hidden").weight:totable())
  end)
  it("clips the norm of the gradients", function()
    local model = compiled {clip_norm = 1e-3, optimizer = optim.SGD {lr = 1}}
    local before = model:get("score").weight:clone()
    model:fit(clusters(30), quiet {batch_size = 30})
    local moved = (model:get("score").weight - before):pow(2):sum():item() ^ 0.5
    assert.is_true(moved < 1.01e-3)
  end)
  it("steps a scheduler every epoch", function()
    local rates = {}
    local watch = {on_epoch_begin = function(self)
      rates[#rates + 1] = self.model.optimizer.param_groups[1].lr
    end}
    local function halve(opt)
      return optim.lr_scheduler.StepLR(opt, {step_size = 1, gamma = 0.5})
    end
    compiled {optimizer = optim.SGD {lr = 0.4}}:fit(clusters(20), quiet {
      epochs = 3, callbacks = {watch}, scheduler = halve,
    })
    assert.same({0.4, 0.2, 0.1}, rates)
  end)
  it("puts the training mode back as it was", function()
    local model = compiled()
    model:fit(clusters(20), quiet {validation_data = clusters(20)})
    assert.is_true(model.training)
    model:eval()
    model:fit(clusters(20), QUIET)
    assert.is_false(model.training)
  end)
  it("calls layers' on_epoch_end", function()
    local seen = {}
    local Watcher = nn.Module:extend "FitSpecWatcher"
    function Watcher.forward(_, x) return x end
    function Watcher.on_epoch_end(_, info) seen[#seen + 1] = {info.epoch, info.logs.loss ~= nil} end
    local net = nn.Sequential {nn.Linear(2, 3), Watcher()}
    net:compile {optimizer = optim.SGD {lr = 0.1}, loss = "cross_entropy"}
    net:fit(clusters(20), quiet {epochs = 2})
    assert.same({{1, true}, {2, true}}, seen)
  end)
  it("frees what a step made without the collector's help", function()
    local live = {}
    local watch = {on_epoch_end = function(_, epoch) live[epoch] = pg.memory().live end}
    local set = clusters(64)
    collectgarbage "stop"
    compiled({metrics = "accuracy"}):fit(set, quiet {epochs = 20, batch_size = 8,
      validation_data = set, callbacks = {watch}})
    collectgarbage "restart"
    assert.equal(live[2], live[20])
  end)
end)

describe("evaluate and predict", function()
  it("give means over samples, the last short batch included", function()
    local model = compiled {metrics = "accuracy"}
    local set = clusters(50)
    local a = model:evaluate(set, {batch_size = 50})
    local b = model:evaluate(set, {batch_size = 7})
    assert.is_true(math.abs(a.loss - b.loss) < 1e-5)
    assert.is_true(math.abs(a.accuracy - b.accuracy) < 1e-9)
  end)
  it("predict in order, in evaluation mode, without labels", function()
    local model = two_headed()
    local set = clusters(50)
    local all = model:predict({x = set.x})
    assert.same({50, 3}, all.shape)
    assert.is_false(all.requires_grad)
    H.same(model:predict(set.x, {batch_size = 7}), all, 1e-5)
    assert.same({50, 2}, model:predict(set, {outputs = "feature"}).shape)
    local both = model:predict(data.TensorDataset(set), {outputs = {"feature", "score"}})
    assert.same({50, 2}, both.feature.shape)
    assert.same({50, 3}, both.score.shape)
    assert.is_true(model.training)
    model:eval()
    H.same(model({x = set.x}).score, all, 1e-5)
  end)
  it("evaluate only the outputs asked for, which need no training_only input", function()
    local model = two_headed()
    model:compile {loss = {score = "cross_entropy", centerloss = "zero"}, targets = {score = "y"}}
    local set = clusters(20)
    local result = model:evaluate({x = set.x, y = set.label}, {outputs = "score"})
    assert.is_number(result.score_loss)
    assert.is_nil(result.centerloss_loss)
    assert.error_matches(function() model:evaluate({x = set.x, y = set.label}) end,
      "argument 'data': expected the batch field 'label' for input 'label', got x, y", 1, true)
  end)
  it("do not move what only training moves", function()
    local model = two_headed()
    model:compile {loss = {score = "cross_entropy", centerloss = "zero"}}
    local before = model:get("centerloss"):centers():totable()
    model:evaluate(clusters(20))
    assert.same(before, model:get("centerloss"):centers():totable())
  end)
end)

describe("misuse", function()
  local function fails(pattern, fn)
    local ok, message = pcall(fn)
    assert.is_false(ok)
    assert.matches(pattern, message, 1, true)
    assert.matches("fit_spec.lua:%d+: ", message)
  end
  it("of compile is an error with a suggestion", function()
    local model = classifier()
    fails("unknown option 'optimiser', did you mean 'optimizer'?",
      function() local _ = model:compile {optimiser = 1} end)
    fails("got 'cros_entropy', did you mean 'cross_entropy'?",
      function() local _ = model:compile {loss = "cros_entropy"} end)
    fails("expected names of outputs (score), got 'scor', did you mean 'score'?",
      function() local _ = model:compile {loss = {scor = "mse"}} end)
    fails("got 'acuracy', did you mean 'accuracy'?",
      function() local _ = model:compile {metrics = "acuracy"} end)
    fails("'loss_weights': expected names of outputs with a loss, got 'score'",
      function() local _ = model:compile {loss_weights = {score = 2}} end)
    fails("expected an optimizer such as optim.SGD {lr = 0.01}, got 5",
      function() local _ = model:compile {optimizer = 5, loss = "mse"} end)
    fails("as the model has several (score, centerloss), got 'mse'",
      function() local _ = two_headed():compile {loss = "mse"} end)
  end)
  it("of fit names the fields there are", function()
    local set = clusters(10)
    fails("argument 'data': expected the batch field 'x' for input 'x', got features, label",
      function() compiled():fit({features = set.x, label = set.label}, quiet {}) end)
    fails("expected the batch field 'label' for the target of output 'score', got labels, x; "
      .. "did you mean 'labels'?",
      function() compiled():fit({x = set.x, labels = set.label}, quiet {}) end)
    fails("unknown option 'epoch', did you mean 'epochs'?",
      function() compiled():fit(set, quiet {epoch = 3}) end)
    fails("'epochs': expected at least 1, got 0",
      function() compiled():fit(set, quiet {epochs = 0}) end)
    fails("expected a dataset, a DataLoader or a table of tensors by field name, got 'train'",
      function() compiled():fit("train", quiet {}) end)
    fails("expected a compiled model, got one that is not compiled",
      function() classifier():fit(set, quiet {}) end)
    fails("'optimizer' of compile: expected an optimizer, got nothing",
      function() classifier():compile({loss = "cross_entropy"}):fit(set, quiet {}) end)
    fails("'callbacks': expected objects with methods such as on_epoch_end, got integer",
      function() compiled():fit(set, quiet {callbacks = {5}}) end)
  end)
  it("of predict names outputs and suggests", function()
    fails("did you mean 'hidden'?",
      function() local _ = classifier():predict(clusters(5), {outputs = "hiden"}) end)
    fails("unknown option 'output', did you mean 'outputs'?",
      function() local _ = classifier():predict(clusters(5), {output = "hidden"}) end)
  end)
end)

describe("compile {precision = 'bfloat16'}", function()
  local function trained(precision, epochs, more)
    local model = compiled {precision = precision, metrics = "accuracy"}
    local opt = {epochs = epochs or 6, batch_size = 16, seed = 2, verbose = false}
    for key, value in pairs(more or {}) do opt[key] = value end
    return model, model:fit(clusters(120), opt)
  end

  it("learns as float32 does, with float32 parameters and gradients", function()
    local half, history = trained "bfloat16"
    local full, expected = trained()
    for name, p in pairs(half:state_dict()) do assert.equal("float32", p.dtype, name) end
    for _, p in ipairs(half:parameters()) do assert.equal("float32", p.grad.dtype) end
    assert.is_true(math.abs(history.loss[6] - expected.loss[6]) < 0.02 * expected.loss[1])
    assert.is_true(math.abs(history.accuracy[6] - expected.accuracy[6]) < 0.02)
    assert.not_equal(full:parameters()[1]:bytes(), half:parameters()[1]:bytes())
    assert.is_false(pg.is_autocast_enabled())
  end)

  it("predicts and evaluates in it, and gives float32", function()
    local half, points = trained "bfloat16", clusters(40)
    local y = half:predict {x = points.x}
    assert.equal("float32", y.dtype)
    assert.same(y:totable(), y:to "bfloat16":float():totable())
    assert.is_true(half:evaluate(points).accuracy > 0.9)
  end)

  it("goes on from a checkpoint to the same bits", function()
    H.in_folder(function(folder)
      pg.deterministic(true) -- no ways chosen by the clock
      local path = folder .. "/run.ckpt"
      local whole = trained("bfloat16", 4)
      trained("bfloat16", 2, {callbacks = {pg.callbacks.ModelCheckpoint {path = path}}})
      local again = trained("bfloat16", 4, {resume = path})
      pg.deterministic(false)
      for name, p in pairs(whole:state_dict()) do
        assert.equal(p:bytes(), again:state_dict()[name]:bytes(), name)
      end
    end)
  end)

  it("refuses other words", function()
    H.raises(function() compiled {precision = "half"} end, "'precision'.*float32.*bfloat16.*half")
  end)
end)
