-- Callbacks: order of calls, early stopping, schedules, CSV logs, checkpoints by path.
-- Relies on fit.
-- Sources: lua/perigee/callbacks.lua.

local H = require "spec.helper"
local pg = require "perigee"
local nn, optim, callbacks = pg.nn, pg.optim, pg.callbacks

local function set(n)
  pg.manual_seed(2)
  return {x = pg.randn(n, 3), label = pg.randint(1, 2, {n})}
end

local function model()
  pg.manual_seed(1)
  local x = nn.Input({3}, {name = "x"})
  local m = nn.Model(x, nn.Linear(3, 2, {name = "score"})(x))
  return m:compile {optimizer = optim.SGD {lr = 0.1}, loss = "cross_entropy", metrics = "accuracy"}
end

--- Fits for some epochs with these callbacks; returns the history.
local function fit(list, epochs, m)
  return (m or model()):fit(set(20), {epochs = epochs or 2, batch_size = 10, verbose = false,
    callbacks = list, validation_data = set(10), seed = 1})
end

--- Puts these values into the logs of epochs 1, 2, ... before other callbacks see them.
local function pretend(name, values)
  return {on_epoch_end = function(_, epoch, logs) logs[name] = values[epoch] end}
end

describe("a callback", function()
  it("is told of everything in order, and knows model and run", function()
    local events = {}
    local spy = setmetatable({}, {__index = function(_, name)
      if type(name) ~= "string" or not name:find "^on_" then return nil end
      return function(self, at)
        events[#events + 1] = name .. (type(at) == "number" and at or "")
        assert.is_table(self.model)
        assert.equal(2, self.info.steps)
      end
    end})
    fit({spy}, 1)
    assert.same({"on_train_begin", "on_epoch_begin1", "on_batch_begin1", "on_batch_end1",
      "on_batch_begin2", "on_batch_end2", "on_epoch_end1", "on_train_end"}, events)
  end)
  it("sees a batch's losses and an epoch's means", function()
    local batches, means = {}, nil
    local lambda = callbacks.LambdaCallback {
      on_batch_end = function(_, logs) batches[#batches + 1] = logs.loss end,
      on_epoch_end = function(_, logs) means = logs end,
    }
    fit({lambda}, 1)
    assert.equal(2, #batches)
    assert.is_true(math.abs(means.loss - (batches[1] + batches[2]) / 2) < 1e-12)
    assert.is_number(means.val_accuracy)
  end)
  it("can stop the training", function()
    local stopper = {on_batch_end = function(self) self.model.stop_training = true end}
    assert.equal(1, #fit({stopper}, 5).history.loss)
  end)
  it("is refused where it is misspelt", function()
    assert.error_matches(function() callbacks.LambdaCallback {on_epochend = print} end,
      "did you mean 'on_epoch_end'")
    assert.error_matches(function() callbacks.EarlyStopping {patiense = 1} end,
      "did you mean 'patience'")
    assert.error_matches(function() callbacks.ModelCheckpoint {} end, "argument 'path'")
    assert.error_matches(function() callbacks.EarlyStopping {mode = "maximum"} end, "'max'")
  end)
end)

describe("EarlyStopping", function()
  it("waits for patience epochs without progress", function()
    local stop = callbacks.EarlyStopping {monitor = "val_loss", patience = 2}
    local history = fit({pretend("val_loss", {3, 2, 2.5, 2.1, 1}), stop}, 5)
    assert.equal(4, #history.history.loss)
    assert.equal(4, stop.stopped_epoch)
    assert.equal(2, stop.best)
  end)
  it("knows that accuracy should grow", function()
    local stop = callbacks.EarlyStopping {monitor = "val_accuracy", patience = 1}
    local history = fit({pretend("val_accuracy", {.5, .6, .7, .6, .9}), stop}, 5)
    assert.equal(4, #history.history.loss)
  end)
  it("brings the best weights back", function()
    local m = model()
    local kept = {}
    local watch = {on_epoch_end = function(_, epoch)
      kept[epoch] = m:get("score").weight:totable()
    end}
    local stop = callbacks.EarlyStopping {patience = 2, restore_best_weights = true}
    fit({pretend("val_loss", {3, 1, 2, 2}), watch, stop}, 4, m)
    assert.same(kept[2], m:get("score").weight:totable())
  end)
  it("lists the logs there are", function()
    local stop = callbacks.EarlyStopping {monitor = "val_acuracy"}
    assert.error_matches(function() fit({stop}, 1) end,
      "expected one of the logs accuracy, loss, val_accuracy, val_loss, got 'val_acuracy', "
      .. "did you mean 'val_accuracy'?", 1, true)
  end)
end)

describe("LearningRateScheduler", function()
  it("sets the rate before each epoch", function()
    local rates = {}
    local m = model()
    local halve = callbacks.LearningRateScheduler(function(epoch, lr)
      return epoch == 1 and lr or lr / 2
    end)
    local watch = {on_epoch_end = function()
      rates[#rates + 1] = m.optimizer.param_groups[1].lr
    end}
    fit({halve, watch}, 3, m)
    assert.same({0.1, 0.05, 0.025}, rates)
  end)
  it("refuses a rate that is none", function()
    assert.error_matches(function()
      fit({callbacks.LearningRateScheduler(function() end)}, 1)
    end, "expected a function that gives a number, got nil")
  end)
end)

describe("CSVLogger", function()
  it("writes a line an epoch, and goes on in a file that is there", function()
    H.in_folder(function(folder)
      local path = folder .. "/log.csv"
      fit({callbacks.CSVLogger {path = path}}, 2)
      fit({callbacks.CSVLogger {path = path, append = true}}, 1)
      local lines = {}
      for line in io.lines(path) do lines[#lines + 1] = line end
      assert.equal("epoch,accuracy,loss,val_accuracy,val_loss", lines[1])
      assert.equal(4, #lines)
      assert.matches("^2,[%d.]+,[%d.]+,[%d.]+,[%d.]+$", lines[3])
      assert.matches("^1,", lines[4])
    end)
  end)
end)

describe("ModelCheckpoint", function()
  it("fills the path and keeps the best only where asked", function()
    H.in_folder(function(folder)
      fit({callbacks.ModelCheckpoint {path = folder .. "/m-{epoch}.ckpt"}}, 2)
      assert.is_truthy(io.open(folder .. "/m-1.ckpt"))
      assert.is_truthy(io.open(folder .. "/m-2.ckpt"))
      local best = callbacks.ModelCheckpoint {path = folder .. "/b-{epoch}.ckpt",
        save_best_only = true}
      fit({pretend("val_loss", {3, 4, 1}), best}, 3)
      assert.is_truthy(io.open(folder .. "/b-1.ckpt"))
      assert.is_nil(io.open(folder .. "/b-2.ckpt"))
      assert.is_truthy(io.open(folder .. "/b-3.ckpt"))
      local again = nn.load(folder .. "/b-3.ckpt")
      assert.same({4, 2}, again:predict(pg.rand(4, 3)).shape)
    end)
  end)
  it("says what went wrong with the file", function()
    local nowhere = callbacks.ModelCheckpoint {path = "/nonexistent-folder/x.ckpt"}
    assert.error_matches(function() fit({nowhere}, 1) end, "ModelCheckpoint: .*nonexistent%-folder")
  end)
end)
