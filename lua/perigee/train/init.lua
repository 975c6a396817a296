--- The training loop: `compile`, `fit`, `evaluate`, `predict`, methods of every module.
-- Relies on nn, optim, data, metrics. nn.Module takes its methods from M.methods.
-- Spec: spec/train/fit_spec.lua.
--
-- An nn.Model binds its inputs to batch fields by name. Any other module (a Sequential, a class of
-- one's own) gets the fields that `compile {inputs = "field"}` names; without that the field
-- "image", "input" or "x", or the only field that is no target. It has one output, "output",
-- unless its forward returns a table by name.
--
-- Logs are named as Keras does: one output: loss, accuracy, val_loss, val_accuracy; several:
-- loss, logits_loss, logits_accuracy, ...

local core = require "perigee.core"
local blame = require "perigee.blame"
local metrics = require "perigee.metrics"
local mode = require "perigee.nn.mode"
local util = require "perigee.util"
local Capture = require "perigee.train.capture"
local loss = require "perigee.train.loss"
local progress = require "perigee.train.progress"
local source = require "perigee.train.source"

local M = {methods = {}}

local function near(name, names)
  local word = util.suggest(name, names)
  return word and (", did you mean '%s'?"):format(word) or ""
end

-- How a module is seen ----------------------------------------------------------------------------

--- Names of a module's outputs; nil where only a call can tell.
local function output_names(module)
  return module.output_names and module:output_names() or nil
end

local USUAL = {"image", "input", "x"}

--- The input fields of such a batch.
local function find_fields(state, fn, batch)
  local targets = {}
  for _, field in pairs(state and state.targets or {}) do targets[field] = true end
  targets.label = true
  local names, left = source.fields(batch), {}
  for _, name in ipairs(names) do
    if not targets[name] then left[#left + 1] = name end
  end
  if #left == 1 then return left end
  for _, usual in ipairs(USUAL) do
    for _, name in ipairs(names) do
      if name == usual then return {name} end
    end
  end
  blame.raise("%s: argument 'inputs' of compile: expected the batch field that is the input, got "
    .. "nothing, and several may be: %s", fn, #names > 0 and table.concat(names, ", ") or "none")
end

--- Does the batch have these fields, as tensors, and no other ones?
local function has_just(batch, set, count)
  local n = 0
  for name, value in next, batch do
    if not set[name] or not core.is_tensor(value) then return false end
    n = n + 1
  end
  return n == count
end

--- The batch fields that fill the inputs of a module that is no graph, as find_fields has them;
-- kept for batches like the last one.
local function plain_fields(module, fn, batch)
  local state = rawget(module, "_compiled")
  if state and state.inputs then return state.inputs end
  local known = state and state.known
  if known and has_just(batch, known.set, known.count) then return known.fields end
  local fields, set, count = find_fields(state, fn, batch), {}, 0
  for name in pairs(batch) do
    set[name] = true
    count = count + 1
  end
  if state then state.known = {fields = fields, set = set, count = count} end
  return fields
end

--- Runs a module on a batch. names: outputs wanted, nil for all. @return a table by output name
local function run(module, fn, batch, names)
  if getmetatable(module).compute then
    local feed = {}
    names = names or module:output_names()
    for _, input in ipairs(module:needed_inputs(names)) do
      local value = batch[input]
      if value == nil then source.missing(fn, ("input '%s'"):format(input), input, batch) end
      feed[input] = value
    end
    return module:compute(names, feed)
  end
  local fields = plain_fields(module, fn, batch)
  for i, field in ipairs(fields) do
    if batch[field] == nil then source.missing(fn, ("input %d"):format(i), field, batch) end
  end
  local result
  if #fields == 1 then
    result = module(batch[fields[1]])
  else
    local values = {}
    for i, field in ipairs(fields) do values[i] = batch[field] end
    result = module(table.unpack(values, 1, #fields))
  end
  if type(result) == "table" and getmetatable(result) == nil then
    for _, name in ipairs(names or {}) do
      if result[name] == nil then
        blame.raise("%s: argument 'outputs': expected names of what the module returns, got '%s'%s",
          fn, name, near(name, util.sorted_keys(result)))
      end
    end
    return result
  end
  if names and (#names ~= 1 or names[1] ~= "output") then
    blame.raise("%s: argument 'outputs': expected 'output', the name of a module's one result, got "
      .. "'%s'", fn, table.concat(names, "', '"))
  end
  return {output = result}
end

-- compile -----------------------------------------------------------------------------------------

--- A table by output name from a table, or from one value where there is one output.
local function by_output(what, given, names, is_list)
  if given == nil then return {} end
  local keyed = type(given) == "table" and getmetatable(given) == nil
    and not (is_list and #given > 0)
  if not keyed then
    if #names > 1 then
      blame.raise("compile: argument '%s': expected a table by output name, as the model has "
        .. "several (%s), got %s", what, table.concat(names, ", "), util.show(given))
    end
    return {[names[1]] = given}
  end
  for key in pairs(given) do
    local known = false
    for _, name in ipairs(names) do known = known or name == key end
    if not known then
      blame.raise("compile: argument '%s': expected names of outputs (%s), got %s%s", what,
        table.concat(names, ", "), util.show(key), near(key, names))
    end
  end
  return given
end

--- Output names of a module for compile: the module's, or the keys that the options use.
local function names_for_compile(module, opt)
  local names = output_names(module)
  if names then return names end
  if type(opt.loss) == "table" and getmetatable(opt.loss) == nil then
    names = util.sorted_keys(opt.loss)
    if #names > 0 then return names end
  end
  return {"output"}
end

local function bind_optimizer(module, given)
  if given == nil then return nil end
  local optim = require "perigee.optim"
  if type(given) == "string" then
    local class = optim[given]
    if type(class) ~= "table" and type(class) ~= "function" then
      blame.raise("compile: argument 'optimizer': expected the name of an optimizer, got '%s'%s",
        given, near(given, util.sorted_keys(optim)))
    end
    given = class {}
  end
  if type(given) ~= "table" or not given.step then
    blame.raise("compile: argument 'optimizer': expected an optimizer such as "
      .. "optim.SGD {lr = 0.01}, got %s", util.show(given))
  end
  local params = module:parameters()
  if #params == 0 then
    blame.raise("compile: argument 'optimizer': expected nothing for a model without parameters, "
      .. "got %s", util.type_name(given))
  end
  if not given:is_bound() then return given:bind(params) end
  local own = {}
  for _, p in ipairs(params) do own[p] = true end
  for _, group in ipairs(given.param_groups) do
    for _, p in ipairs(group.params) do
      if own[p] then return given end
    end
  end
  blame.raise("compile: argument 'optimizer': expected one that moves this model's parameters, got "
    .. "another model's")
end

--- Says how a module is trained.
-- `model:compile {optimizer = optim.Adam {lr = 1e-3}, loss = "mse", metrics = "mae"}`
-- @param opt optimizer; loss: a name ("cross_entropy", "mse", "zero" ...), a function of
-- (output, target), or a table of those by output; loss_weights by output; metrics: names or
-- functions, alone, in a list, or by output; targets: the batch field ("label") of an output's
-- target, or a table by output; inputs: batch fields for a module that is no graph; clip_norm:
-- largest norm of the gradients (not with optim.LBFGS); scheduler: a learning-rate scheduler, or a
-- function that makes one from the optimizer; precision: "bfloat16" runs the model and its losses
-- under pg.autocast, in fit, evaluate and predict, while parameters, their gradients and the
-- optimizer stay float32 ("float32": never so; default: as the caller's autocast says)
-- @return the module
function M.methods:compile(opt)
  opt = util.options("compile", opt, {"optimizer", "loss", "loss_weights", "metrics", "targets",
    "inputs", "clip_norm", "scheduler", "precision"})
  util.expect("compile", "clip_norm", opt.clip_norm, "number|nil")
  local names = names_for_compile(self, opt)
  if opt.precision ~= nil then
    util.choice("compile", "precision", opt.precision, {"float32", "bfloat16"})
  end
  local state = {names = names, losses = {}, metrics = {}, targets = {}, clip_norm = opt.clip_norm,
    precision = opt.precision}
  local targets = by_output("targets", opt.targets, names)
  for _, name in ipairs(names) do
    local field = targets[name]
    if field ~= nil and type(field) ~= "string" then
      blame.raise("compile: argument 'targets': expected the name of a batch field for output "
        .. "'%s', got %s", name, util.type_name(field))
    end
    state.targets[name] = field or "label"
  end
  local losses = by_output("loss", opt.loss, names)
  local weights = by_output("loss_weights", opt.loss_weights, names)
  for _, name in ipairs(names) do
    local weight = weights[name]
    if losses[name] ~= nil then
      local fn, reads = loss.find(losses[name])
      if not fn then
        blame.raise("compile: argument 'loss': %s for output '%s'", reads, name)
      end
      if weight ~= nil and type(weight) ~= "number" then
        blame.raise("compile: argument 'loss_weights': expected a number for output '%s', got %s",
          name, util.show(weight))
      end
      state.losses[#state.losses + 1] = {
        output = name, fn = fn, reads = reads, weight = weight or 1,
        log = #names > 1 and name .. "_loss" or nil,
      }
    elseif weight ~= nil then
      blame.raise("compile: argument 'loss_weights': expected names of outputs with a loss, got "
        .. "'%s'", name)
    end
  end
  local wanted = by_output("metrics", opt.metrics, names, true)
  for _, name in ipairs(names) do
    local list = wanted[name]
    if list ~= nil and (type(list) ~= "table" or getmetatable(list) ~= nil) then list = {list} end
    for i, given in ipairs(list or {}) do
      local label, fn = metrics.find(given, i)
      if not label then
        blame.raise("compile: argument 'metrics': %s for output '%s'", fn, name)
      end
      state.metrics[#state.metrics + 1] = {
        output = name, fn = fn, log = #names > 1 and name .. "_" .. label or label,
      }
    end
  end
  if opt.inputs ~= nil then
    if self.compute then
      blame.raise("compile: argument 'inputs': expected nothing for a graph, whose inputs bind to "
        .. "batch fields by their names, got %s", util.show(opt.inputs))
    end
    state.inputs = type(opt.inputs) == "string" and {opt.inputs} or opt.inputs
  end
  state.optimizer = bind_optimizer(self, opt.optimizer)
  if opt.clip_norm and state.optimizer and state.optimizer.needs_closure then
    blame.raise("compile: argument 'clip_norm': expected nothing with optim.%s, whose steps need "
      .. "the gradients of the loss as they are, got %s",
      util.type_name(state.optimizer), util.show(opt.clip_norm))
  end
  local scheduler = opt.scheduler
  if type(scheduler) == "function" then scheduler = scheduler(state.optimizer) end
  state.scheduler = scheduler
  state.options = opt
  rawset(self, "_compiled", state)
  rawset(self, "optimizer", state.optimizer)
  return self
end

local function compiled(module, fn)
  local state = rawget(module, "_compiled")
  if not state then
    blame.raise("%s: argument 'self': expected a compiled model, got one that is not compiled; "
      .. "call model:compile first", fn)
  end
  return state
end

-- Losses and metrics of a batch -------------------------------------------------------------------

local Tally = util.class "Tally"   -- weighted means by name, in order of appearance

function Tally:init() self.names, self.sums, self.counts = {}, {}, {} end

function Tally:add(name, value, n)
  local sums, counts = self.sums, self.counts
  local sum = sums[name]
  if sum == nil then
    self.names[#self.names + 1] = name
    sum, counts[name] = 0, 0
  end
  sums[name] = sum + value * n
  counts[name] = counts[name] + n
end

function Tally:means()
  local means = {}
  for _, name in ipairs(self.names) do
    means[name] = self.counts[name] > 0 and self.sums[name] / self.counts[name] or 0
  end
  return means, self.names
end

local function target_of(state, fn, batch, output)
  local field = state.targets[output]
  local target = batch[field]
  if target == nil then
    source.missing(fn, ("the target of output '%s'"):format(output), field, batch)
  end
  return target
end

--- The weighted loss of a batch as a tensor; parts gets {log, tensor} for each loss that is logged.
local function batch_loss(state, fn, batch, outputs, parts)
  local total
  for _, part in ipairs(state.losses) do
    local output = outputs[part.output]
    if output ~= nil then
      local target = part.reads and target_of(state, fn, batch, part.output) or nil
      local value = part.fn(output, target, batch)
      if not core.is_tensor(value) then
        blame.raise("%s: argument 'loss' of compile: expected a function that gives a tensor, got "
          .. "%s for output '%s'", fn, util.type_name(value), part.output)
      end
      if value:numel() ~= 1 then value = value:mean() end
      if part.log then parts[#parts + 1] = {part.log, value} end
      if part.weight ~= 1 then value = value * part.weight end
      total = total and total + value or value
    end
  end
  return total
end

--- To be closed: the precision that compile was given, if any.
local function in_precision(state)
  return state and state.precision and core.autocast(state.precision) or nil
end

--- The outputs of a batch and its loss.
local function forward(module, fn, state, batch, names, parts)
  local _ <close> = in_precision(state)
  local outputs = run(module, fn, batch, names)
  return outputs, batch_loss(state, fn, batch, outputs, parts)
end

--- The parts of a loss as {log, number}.
local function read_parts(parts)
  for i = 1, #parts do parts[i][2] = parts[i][2]:item() end
end

local function batch_metrics(state, fn, batch, outputs, tally, n)
  for _, metric in ipairs(state.metrics) do
    local output = outputs[metric.output]
    if output ~= nil then
      local value = metric.fn(output:detach(), target_of(state, fn, batch, metric.output), batch)
      if core.is_tensor(value) then value = value:item() end
      tally:add(metric.log, value, n)
    end
  end
end

local function not_finite(value) return value ~= value or math.abs(value) == math.huge end

-- evaluate ----------------------------------------------------------------------------------------

local function evaluate(module, fn, state, loader, names, steps)
  local tally = Tally()
  local _ <close> = mode.inference(module)
  local step, fetch, fresh = 0, source.reader(loader)
  while true do
    local batch = not fresh and fetch()
    local _ <close> = core.scope()
    if fresh then batch = fetch() end
    if not batch then break end
    local n, parts = source.size(batch), {}
    local outputs, value = forward(module, fn, state, batch, names, parts)
    if value then tally:add("loss", value:item(), n) end
    read_parts(parts)
    for _, part in ipairs(parts) do tally:add(part[1], part[2], n) end
    batch_metrics(state, fn, batch, outputs, tally, n)
    step = step + 1
    if step == steps then break end
  end
  return tally:means()
end

local function names_wanted(module, fn, given)
  if given == nil then return nil end
  if type(given) == "string" then given = {given} end
  if type(given) ~= "table" or #given == 0 then
    blame.raise("%s: argument 'outputs': expected a name or a list of names, got %s", fn,
      util.show(given))
  end
  local known = output_names(module)
  if known then
    for _, name in ipairs(given) do
      local found = false
      for _, other in ipairs(known) do found = found or other == name end
      if not found and fn == "evaluate" then
        blame.raise("evaluate: argument 'outputs': expected names of outputs (%s), got %s%s",
          table.concat(known, ", "), util.show(name), near(name, known))
      end
    end
  end
  return given
end

--- Losses and metrics over a dataset, without training.
-- @param data a dataset, a DataLoader, or a table of tensors by field
-- @param opt batch_size (32), outputs (all that have a loss or metric), steps
-- @return a table by name: loss, accuracy, ...
function M.methods:evaluate(data, opt)
  opt = util.options("evaluate", opt, {batch_size = 32, "outputs", "steps"})
  local state = compiled(self, "evaluate")
  local names = names_wanted(self, "evaluate", opt.outputs)
  local loader = source.loader("evaluate", data, {batch_size = opt.batch_size})
  local means = evaluate(self, "evaluate", state, loader, names, opt.steps)
  return means
end

-- predict -----------------------------------------------------------------------------------------

--- The outputs of a batch; what compile's precision made bfloat16 is float32.
local function predicted(module, batch, names)
  local state = rawget(module, "_compiled")
  local _ <close> = in_precision(state)
  local outputs = run(module, "predict", batch, names)
  if state and state.precision == "bfloat16" then
    for name, value in pairs(outputs) do
      if value.dtype == "bfloat16" then outputs[name] = value:float() end
    end
  end
  return outputs
end

--- Outputs for every row of the data, in order, in evaluation mode and without gradients.
-- Inputs that are marked training_only are not asked for.
-- @param data a dataset, a DataLoader, a table of tensors by input name, or one input's tensor
-- @param opt outputs: a name or a list of names of outputs or layers (default: all outputs that
-- need no training_only input); batch_size (32)
-- @return a tensor, or a table by name where several outputs were asked for
function M.methods:predict(data, opt)
  opt = util.options("predict", opt, {batch_size = 32, "outputs"})
  local names = names_wanted(self, "predict", opt.outputs)
  local single = type(opt.outputs) == "string"
  if self.compute and not names then
    names = self:inference_outputs()
    if #names == 0 then
      blame.raise("predict: argument 'outputs': expected names of layers, as every output needs an "
        .. "input that is marked training_only, got nothing")
    end
  end
  if core.is_tensor(data) then
    local field = self.compute and self:needed_inputs(names)[1] or "input"
    data = {[field] = data}
  end
  local loader = source.loader("predict", data, {batch_size = opt.batch_size})
  local _ <close> = mode.inference(self)
  local lists, order = {}, {}
  local fetch, fresh = source.reader(loader)
  while true do
    local batch = not fresh and fetch()
    local scope <close> = core.scope()
    if fresh then batch = fetch() end
    if not batch then break end
    local outputs = predicted(self, batch, names)
    for name, value in pairs(outputs) do
      if not lists[name] then
        lists[name] = {}
        order[#order + 1] = name
      end
      table.insert(lists[name], scope:keep(value:detach()))
    end
  end
  if #order == 0 then blame.raise("predict: argument 'data': expected samples, got none") end
  local result = {}
  for _, name in ipairs(order) do
    local list = lists[name]
    result[name] = #list == 1 and list[1] or core.ops.cat(list, 1)
    if #list > 1 then
      for _, piece in ipairs(list) do piece:release() end
    end
  end
  if single or #order == 1 and type(opt.outputs) ~= "table" then return result[order[1]] end
  return result
end

-- fit ---------------------------------------------------------------------------------------------

local History = {__name = "History"}

--- history.loss is short for history.history.loss.
function History.__index(self, key) return rawget(self, "history")[key] end

function History.__tostring(self)
  local words = {}
  for _, name in ipairs(util.sorted_keys(self.history)) do
    local list = self.history[name]
    words[#words + 1] = name .. " " .. progress.number(list[#list])
  end
  return ("History of %d epochs: %s"):format(#self.epoch, table.concat(words, "  "))
end

--- Calls a method of every callback that has it.
local function tell(list, event, ...)
  for i = 1, #list do
    local fn = list[i][event]
    if fn then fn(list[i], ...) end
  end
end

local function check_callbacks(given)
  if given == nil then return {} end
  if type(given) ~= "table" then
    blame.raise("fit: argument 'callbacks': expected a list, got %s", util.show(given))
  end
  if getmetatable(given) ~= nil then given = {given} end
  local list = {}
  for i, callback in ipairs(given) do
    if type(callback) ~= "table" then
      blame.raise("fit: argument 'callbacks': expected objects with methods such as on_epoch_end, "
        .. "got %s as number %d", util.type_name(callback), i)
    end
    list[i] = callback
  end
  return list
end

--- The rate after an epoch: plateau schedulers want to see what they watch.
local function step_scheduler(scheduler, logs)
  if scheduler == nil then return end
  if scheduler.monitor or util.type_name(scheduler) == "ReduceLROnPlateau" then
    local name = scheduler.monitor or logs.val_loss and "val_loss" or "loss"
    scheduler:step(logs[name])
  else
    scheduler:step()
  end
end

--- Forward and backward on a batch: the parameters' gradients are then those of its loss.
-- @param parts takes what each loss adds up to
-- @return the loss as a number, the outputs
local function gradients(module, state, batch, at, parts)
  local capture = at and at.capture
  local outputs, value
  if capture then
    outputs, value = capture:forward(batch, parts)
  else
    outputs, value = forward(module, "fit", state, batch, nil, parts)
  end
  if not value then blame.raise("fit: argument 'loss' of compile: expected one, got nothing") end
  local number = value:item()
  read_parts(parts)
  if at and not_finite(number) then
    local words = {}
    for i, part in ipairs(parts) do words[i] = ("%s %g"):format(part[1], part[2]) end
    blame.raise("fit: the loss is %s at epoch %d, step %d%s; nothing was changed by this step; "
      .. "a smaller lr%s may help", progress.number(number), at.epoch, at.step,
      #words > 0 and " (" .. table.concat(words, ", ") .. ")" or "",
      state.optimizer.needs_closure and "" or " or compile {clip_norm = 1}")
  end
  if capture then
    capture.backward(value)
  else
    state.optimizer:zero_grad()
    value:backward()
  end
  if state.clip_norm then core.clip_grad_norm(module:parameters(), state.clip_norm, 2.0) end
  return number, outputs
end

--- One step on a batch; an optimizer that evaluates the loss several times a step is given a
-- closure, and what is logged is its first evaluation. @return the step's logs
local function train_step(module, state, batch, at)
  local parts, n = {}, source.size(batch)
  local optimizer, number, outputs = state.optimizer, nil, nil
  if optimizer.needs_closure then
    optimizer:step(function()
      if not number then
        number, outputs = gradients(module, state, batch, at, parts)
        return number
      end
      local _ <close> = core.scope()
      return (gradients(module, state, batch, nil, {}))
    end)
  else
    number, outputs = gradients(module, state, batch, at, parts)
    optimizer:step()
  end
  local logs = {loss = number, size = n}
  at.tally:add("loss", number, n)
  for _, part in ipairs(parts) do
    at.tally:add(part[1], part[2], n)
    logs[part[1]] = part[2]
  end
  batch_metrics(state, "fit", batch, outputs, at.tally, n)
  return logs
end

--- What repeats the steps of an epoch; nil where an optimizer evaluates the loss several times a
-- step. One for each epoch, so that what callbacks change between epochs counts.
local function new_capture(module, state)
  local optimizer = state.optimizer
  if optimizer.needs_closure then return nil end
  return Capture(
    function(batch, parts) return forward(module, "fit", state, batch, nil, parts) end,
    function(value)
      optimizer:zero_grad()
      value:backward()
    end)
end

local FIT = {"validation_data", "steps_per_epoch", "validation_steps", "callbacks", "scheduler",
  "seed", "resume", batch_size = 32, epochs = 1, shuffle = true, verbose = true,
  initial_epoch = 1, scheduler_every = "epoch", capture = false}

--- Trains the module.
-- @param data a dataset, a DataLoader (which then decides batch size and order), or a table of
-- tensors by field
-- @param opt batch_size (32), epochs (1), shuffle (true), seed, validation_data, validation_steps,
-- steps_per_epoch (all batches), callbacks, verbose (true; 2: a line an epoch; false: silent),
-- initial_epoch (1), scheduler (as in compile), scheduler_every ("epoch" or "batch"), resume (the
-- path of a checkpoint), capture (false)
-- `capture = true`, for small models: the first steps of an epoch are noted, and later ones with
-- batches of the same shapes repeat their forward and backward passes without Lua, as pg.compile
-- does, to the same bits; metrics, callbacks, clipping, schedulers and the optimizer run as ever.
-- What modules and losses do besides, such as printing or counting, is not repeated, and numbers
-- that they take from Lua variables stay for an epoch what they were at its start. Steps run the
-- plain way where that cannot be: a short last batch, other fields, hooks of modules, a forward or
-- loss that looks at values or at tables in the batch, after a change of mode, with optim.LBFGS.
-- @return history: `history.history.loss` is a list with one value an epoch, `history.epoch` the
-- epochs; history.loss is short for the former
function M.methods:fit(data, opt)
  opt = util.options("fit", opt, FIT)
  for _, name in ipairs {"batch_size", "epochs", "initial_epoch"} do
    opt[name] = util.expect("fit", name, opt[name], "integer")
    if opt[name] < 1 then
      util.fail("fit", "argument '%s': expected at least 1, got %d", name, opt[name])
    end
  end
  opt.steps_per_epoch = util.expect("fit", "steps_per_epoch", opt.steps_per_epoch, "integer|nil")
  util.choice("fit", "scheduler_every", opt.scheduler_every, {"epoch", "batch"})
  local state = compiled(self, "fit")
  if not state.optimizer then
    blame.raise("fit: argument 'optimizer' of compile: expected an optimizer, got nothing")
  end
  if #state.losses == 0 then
    blame.raise("fit: argument 'loss' of compile: expected a loss, got nothing")
  end
  local scheduler = opt.scheduler or state.scheduler
  if type(scheduler) == "function" then scheduler = scheduler(state.optimizer) end
  local loader = source.loader("fit", data,
    {batch_size = opt.batch_size, shuffle = opt.shuffle, seed = opt.seed})
  local validation = opt.validation_data ~= nil
    and source.loader("fit: validation_data", opt.validation_data, {batch_size = opt.batch_size})
  local callbacks = check_callbacks(opt.callbacks)
  local total = opt.steps_per_epoch or #loader
  local first = opt.initial_epoch
  local history = setmetatable({history = {}, epoch = {}}, History)
  rawset(self, "history", history)
  rawset(self, "stop_training", false)
  local info = {model = self, optimizer = state.optimizer, scheduler = scheduler, loader = loader,
    history = history, epochs = opt.epochs, steps = total, options = opt}
  if opt.resume then
    first = require("perigee.train.checkpoint").resume(opt.resume, info)
  end
  local _ <close> = mode.keep(self)
  local view <close> = progress.new {verbose = opt.verbose, epochs = opt.epochs,
    unit = M.unit(self, loader)}
  info.progress = view
  for _, callback in ipairs(callbacks) do
    callback.model, callback.info = self, info
  end
  tell(callbacks, "on_train_begin", {})
  for epoch = first, opt.epochs do
    self:train()
    loader.epoch = epoch - 1   -- so that the order of an epoch does not depend on a resume
    info.epoch = epoch
    tell(callbacks, "on_epoch_begin", epoch, {})
    view:epoch_begin(epoch, total)
    local at = {epoch = epoch, step = 0, tally = Tally(),
      capture = opt.capture and new_capture(self, state) or nil}
    local function means() return at.tally:means() end
    repeat
      local before, fetch, fresh = at.step, source.reader(loader)
      while at.step ~= total and not self.stop_training do
        local batch = not fresh and fetch()
        local _ <close> = core.scope()
        if fresh then batch = fetch() end
        if not batch then break end
        at.step = at.step + 1
        if callbacks[1] then tell(callbacks, "on_batch_begin", at.step, {}) end
        local batch_logs = train_step(self, state, batch, at)
        if opt.scheduler_every == "batch" then step_scheduler(scheduler, batch_logs) end
        view:update(batch_logs.size, means)
        tell(callbacks, "on_batch_end", at.step, batch_logs)
      end
      if at.step == before then blame.raise("fit: argument 'data': expected batches, got none") end
    until at.step >= total or self.stop_training
    local logs, names = means()
    names = table.move(names, 1, #names, 1, {})
    if validation then
      local results, order = evaluate(self, "fit: validation_data", state, validation, nil,
        opt.validation_steps)
      for _, name in ipairs(order) do
        logs["val_" .. name] = results[name]
        names[#names + 1] = "val_" .. name
      end
    end
    for _, name in ipairs(names) do
      local list = history.history[name] or {}
      history.history[name] = list
      list[#list + 1] = logs[name]
    end
    history.epoch[#history.epoch + 1] = epoch
    if opt.scheduler_every == "epoch" then step_scheduler(scheduler, logs) end
    for _, module in self:named_modules() do
      if module.on_epoch_end then module:on_epoch_end {epoch = epoch, logs = logs, model = self} end
    end
    view:epoch_end(logs, names)
    info.logs, info.log_names = logs, names
    tell(callbacks, "on_epoch_end", epoch, logs)
    if self.stop_training then break end
  end
  tell(callbacks, "on_train_end", info.logs or {})
  return history
end

--- Prints the layers, their output shapes and parameters.
-- @param opt input_shape (for a Sequential), print
function M.methods:summary(opt) return require("perigee.nn.summary").summary(self, opt) end

--- What a sample is called in "images/s".
function M.unit(module)
  if module.inputs then
    for _, input in ipairs(module:inputs()) do
      if #input.shape == 4 then return "images" end
    end
  end
  return "samples"
end

return M
