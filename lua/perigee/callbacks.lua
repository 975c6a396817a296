--- Callbacks for `fit`: objects whose methods are called while it trains.
-- Relies on train/ for checkpoints. Spec: spec/train/callbacks_spec.lua.
--
-- Any table with some of these methods is a callback; epochs and steps count from 1:
--   on_train_begin(logs)   on_epoch_begin(epoch, logs)   on_batch_begin(step, logs)
--   on_train_end(logs)     on_epoch_end(epoch, logs)     on_batch_end(step, logs)
-- Logs of a batch hold that batch's losses and its size; logs of an epoch hold the epoch's means.
-- `fit` sets self.model and self.info (optimizer, loader, history, epochs, steps, progress).
-- `self.model.stop_training = true` ends the training after the running step or epoch.

local util = require "perigee.util"

local M = {}

--- A base for callbacks of one's own: `local Mine = pg.callbacks.Callback:extend "Mine"`.
local Callback = util.class "Callback"
M.Callback = Callback

--- The watched value of an epoch; an unknown name is an error that lists the names there are.
local function watched(who, monitor, logs)
  local value = logs[monitor]
  if value ~= nil then return value end
  local names = util.sorted_keys(logs)
  local near = util.suggest(monitor, names)
  error(("%s: argument 'monitor': expected one of the logs %s, got '%s'%s"):format(who,
    table.concat(names, ", "), monitor, near and (", did you mean '%s'?"):format(near) or ""), 0)
end

--- Whether `value` is better than `best` by at least `delta`. mode "auto": what ends in accuracy,
-- or a top_k, should grow; everything else should shrink.
local function better(mode, monitor, value, best, delta)
  if mode == "auto" then
    local grows = monitor:find "accuracy$" or monitor:find "acc$" or monitor:find "top_%d+$"
      or monitor:find "nearest_center$"
    mode = grows and "max" or "min"
  end
  if value ~= value then return false end
  if best == nil then return true end
  if mode == "max" then return value - delta > best end
  return value + delta < best
end

local MODES = {"auto", "min", "max"}

--- Writes the model and the state of the training after every epoch.
-- `ModelCheckpoint {path = "run.ckpt"}`; `fit {resume = "run.ckpt"}` goes on from there, and
-- `nn.load("run.ckpt")` reads the model. "{epoch}" and names of logs in the path are filled in:
-- "run-{epoch}-{val_loss}.ckpt".
-- @param opt path, save_best_only (false), monitor ("val_loss"), mode ("auto", "min", "max")
local ModelCheckpoint = util.class("ModelCheckpoint", Callback)
M.ModelCheckpoint = ModelCheckpoint

function ModelCheckpoint:init(opt)
  opt = util.options("ModelCheckpoint", opt, {"path", save_best_only = false,
    monitor = "val_loss", mode = "auto"})
  self.path = util.expect("ModelCheckpoint", "path", opt.path, "string")
  self.save_best_only = opt.save_best_only
  self.monitor = opt.monitor
  self.mode = util.choice("ModelCheckpoint", "mode", opt.mode, MODES)
end

function ModelCheckpoint:on_epoch_end(epoch, logs)
  if self.save_best_only then
    local value = watched("ModelCheckpoint", self.monitor, logs)
    if not better(self.mode, self.monitor, value, self.best, 0) then return end
    self.best = value
  end
  local path = self.path:gsub("{([%w_]+)}", function(name)
    if name == "epoch" then return tostring(epoch) end
    return ("%.4f"):format(watched("ModelCheckpoint", name, logs))
  end)
  local ok, message = require("perigee.train.checkpoint").save(path, self.info)
  if not ok then error("ModelCheckpoint: " .. message, 0) end
end

--- Ends the training when the monitored value has not become better for `patience` epochs.
-- @param opt monitor ("val_loss"), patience (0), min_delta (0), mode ("auto", "min", "max"),
-- baseline, restore_best_weights (false)
local EarlyStopping = util.class("EarlyStopping", Callback)
M.EarlyStopping = EarlyStopping

function EarlyStopping:init(opt)
  opt = util.options("EarlyStopping", opt, {monitor = "val_loss", patience = 0, min_delta = 0,
    mode = "auto", "baseline", restore_best_weights = false})
  self.monitor = util.expect("EarlyStopping", "monitor", opt.monitor, "string")
  self.patience = util.expect("EarlyStopping", "patience", opt.patience, "integer")
  self.min_delta = math.abs(util.expect("EarlyStopping", "min_delta", opt.min_delta, "number"))
  self.mode = util.choice("EarlyStopping", "mode", opt.mode, MODES)
  self.baseline = util.expect("EarlyStopping", "baseline", opt.baseline, "number|nil")
  self.restore_best_weights = opt.restore_best_weights
end

function EarlyStopping:on_train_begin()
  self.best, self.waited, self.weights, self.stopped_epoch = self.baseline, 0, nil, nil
end

function EarlyStopping:on_epoch_end(epoch, logs)
  local value = watched("EarlyStopping", self.monitor, logs)
  if better(self.mode, self.monitor, value, self.best, self.min_delta) then
    self.best, self.best_epoch, self.waited = value, epoch, 0
    if self.restore_best_weights then
      self.weights = {}
      for name, tensor in pairs(self.model:state_dict()) do
        self.weights[name] = tensor:detach():clone()
      end
    end
    return
  end
  self.waited = self.waited + 1
  if self.waited >= math.max(1, self.patience) then
    self.stopped_epoch = epoch
    self.model.stop_training = true
  end
end

function EarlyStopping:on_train_end()
  if self.weights then self.model:load_state_dict(self.weights) end
end

--- Sets the learning rate before every epoch: `LearningRateScheduler(function(epoch, lr) ... end)`.
-- @param schedule function of (epoch, lr) that gives the new rate
local LearningRateScheduler = util.class("LearningRateScheduler", Callback)
M.LearningRateScheduler = LearningRateScheduler

function LearningRateScheduler:init(schedule)
  self.schedule = util.expect("LearningRateScheduler", "schedule", schedule, "callable")
end

function LearningRateScheduler:on_epoch_begin(epoch)
  for _, group in ipairs(self.info.optimizer.param_groups) do
    local rate = self.schedule(epoch, group.lr)
    if type(rate) ~= "number" then
      error("LearningRateScheduler: argument 'schedule': expected a function that gives a number, "
        .. "got " .. util.type_name(rate), 0)
    end
    group.lr = rate
  end
end

--- Writes the logs of every epoch as a line of a CSV file.
-- @param opt path, separator (","), append (false)
local CSVLogger = util.class("CSVLogger", Callback)
M.CSVLogger = CSVLogger

function CSVLogger:init(opt)
  if type(opt) == "string" then opt = {path = opt} end
  opt = util.options("CSVLogger", opt, {"path", separator = ",", append = false})
  self.path = util.expect("CSVLogger", "path", opt.path, "string")
  self.separator = opt.separator
  self.append = opt.append
end

function CSVLogger:on_train_begin()
  local has_rows = false
  if self.append then
    local file = io.open(self.path, "r")
    if file then
      local header = file:read "l"
      has_rows = header ~= nil
      if has_rows then
        self.names = {}
        local cell = "(.-)" .. self.separator:gsub("%p", "%%%0")
        for name in (header .. self.separator):gmatch(cell) do
          if name ~= "epoch" then self.names[#self.names + 1] = name end
        end
      end
      file:close()
    end
  end
  if not has_rows then self.names = nil end
  local file, message = io.open(self.path, has_rows and "a" or "w")
  if not file then error("CSVLogger: " .. message, 0) end
  self.file = file
end

function CSVLogger:on_epoch_end(epoch, logs)
  if not self.names then
    self.names = util.sorted_keys(logs)
    self.file:write("epoch", self.separator, table.concat(self.names, self.separator), "\n")
  end
  local row = {tostring(epoch)}
  for _, name in ipairs(self.names) do
    row[#row + 1] = logs[name] ~= nil and ("%.9g"):format(logs[name]) or ""
  end
  self.file:write(table.concat(row, self.separator), "\n")
  self.file:flush()
end

function CSVLogger:on_train_end()
  self.file:close()
end

local EVENTS = {"on_train_begin", "on_train_end", "on_epoch_begin", "on_epoch_end",
  "on_batch_begin", "on_batch_end"}

--- A callback from functions: `LambdaCallback {on_epoch_end = function(epoch, logs) ... end}`.
-- @param opt functions by event; they get what the methods get, without self
local LambdaCallback = util.class("LambdaCallback", Callback)
M.LambdaCallback = LambdaCallback

function LambdaCallback:init(opt)
  opt = util.options("LambdaCallback", opt, EVENTS)
  for name, fn in pairs(opt) do
    util.expect("LambdaCallback", name, fn, "callable")
    self[name] = function(_, ...) return fn(...) end
  end
end

return M
