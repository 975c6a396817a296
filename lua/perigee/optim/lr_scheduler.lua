--- `pg.optim.lr_scheduler`: learning rates over time, with PyTorch's names, arguments and values.
-- Relies on optimizers' param_groups only. Spec: spec/optim/lr_scheduler_spec.lua.
--
-- Making a scheduler sets the rates of step 0; each `step()` those of the next one. Rates follow
-- from the rates before (so that schedulers can be chained), as PyTorch computes them.

local arguments = require "perigee.optim.arguments"
local blame = require "perigee.blame"
local util = require "perigee.util"

local M = {}

local read, pi, cos = arguments.read, math.pi, math.cos

local Scheduler = util.class "LRScheduler"
M.LRScheduler = Scheduler

local function check_optimizer(name, optimizer)
  if type(optimizer) ~= "table" or not optimizer.param_groups then
    blame.raise("lr_scheduler.%s: argument 'optimizer': expected an optimizer, got %s", name,
      util.type_name(optimizer))
  end
end

--- Common beginning: remembers the base rates and makes step 0.
local function start(self, optimizer, last_epoch)
  check_optimizer(getmetatable(self).__name, optimizer)
  self.optimizer = optimizer
  self.base_lrs = {}
  last_epoch = last_epoch or -1
  for i, group in ipairs(optimizer.param_groups) do
    if last_epoch == -1 and rawget(group, "initial_lr") == nil then
      rawset(group, "initial_lr", group.lr)
    elseif rawget(group, "initial_lr") == nil then
      blame.raise("lr_scheduler.%s: argument 'last_epoch': expected -1 where group %d has no "
        .. "initial_lr to resume from, got %d", getmetatable(self).__name, i, last_epoch)
    end
    self.base_lrs[i] = rawget(group, "initial_lr")
  end
  self.last_epoch = last_epoch
  self:initial_step()
end

function Scheduler:initial_step()
  self.step_count = 0
  self:step()
end

local function set_rates(self, rates)
  self.last_lr = {}
  for i, group in ipairs(self.optimizer.param_groups) do
    group.lr = rates[i]
    self.last_lr[i] = rates[i]
  end
end

--- Goes to the next step, or to step `epoch`.
function Scheduler:step(epoch)
  self.step_count = self.step_count + 1
  if epoch == nil then
    self.last_epoch = self.last_epoch + 1
    set_rates(self, self:get_lr())
  else
    self.last_epoch = util.expect("step", "epoch", epoch, "number")
    set_rates(self, self.closed_form and self:closed_form() or self:get_lr())
  end
end

--- Rates that the last step set, by group.
function Scheduler:get_last_lr() return table.move(self.last_lr, 1, #self.last_lr, 1, {}) end

--- Everything that changes, as plain data.
function Scheduler:state_dict()
  local dict = {}
  for key, value in pairs(self) do
    local kind = type(value)
    if kind == "number" or kind == "string" or kind == "boolean" then
      dict[key] = value
    elseif kind == "table" and getmetatable(value) == nil then
      local plain = true
      for _, v in pairs(value) do plain = plain and type(v) == "number" end
      if plain then dict[key] = table.move(value, 1, #value, 1, {}) end
    end
  end
  return dict
end

function Scheduler:load_state_dict(dict)
  util.expect("load_state_dict", "state", dict, "table")
  for key, value in pairs(dict) do self[key] = value end
end

--- Rates from fn(group rate now, base rate, group number).
local function map(self, fn)
  local rates = {}
  for i, group in ipairs(self.optimizer.param_groups) do
    rates[i] = fn(group.lr, self.base_lrs[i], i)
  end
  return rates
end

local function keep(lr) return lr end

--- How many of the sorted numbers are <= x.
local function count_upto(list, x)
  local n = 0
  for _, v in ipairs(list) do
    if v <= x then n = n + 1 end
  end
  return n
end

--- A new class. params: its arguments after the optimizer.
local function define(name, params)
  local class = util.class(name, Scheduler)
  M[name] = class
  function class:init(optimizer, ...)
    check_optimizer(name, optimizer)
    local values = read("lr_scheduler." .. name, params, ...)
    for key, value in pairs(values) do self[key] = value end
    if self.prepare then self:prepare(optimizer) end
    start(self, optimizer, values.last_epoch)
  end
  return class
end

local LAST = {"last_epoch", -1, want = "integer"}

-- Rates times a factor ---------------------------------------------------------------------------

--- Times gamma every step_size steps.
local StepLR = define("StepLR", {{"step_size", want = "integer", least = 1},
  {"gamma", 0.1, want = "number"}, LAST})
function StepLR:get_lr()
  if self.last_epoch == 0 or self.last_epoch % self.step_size ~= 0 then return map(self, keep) end
  return map(self, function(lr) return lr * self.gamma end)
end
function StepLR:closed_form()
  return map(self, function(_, base)
    return base * self.gamma ^ (self.last_epoch // self.step_size)
  end)
end

--- Times gamma at each milestone.
local MultiStepLR = define("MultiStepLR", {{"milestones", want = "table"},
  {"gamma", 0.1, want = "number"}, LAST})
function MultiStepLR:prepare()
  for _, at in ipairs(self.milestones) do
    util.expect("lr_scheduler.MultiStepLR", "milestones", at, "number")
  end
  self.milestones = table.move(self.milestones, 1, #self.milestones, 1, {})
  table.sort(self.milestones)
end
function MultiStepLR:get_lr()
  local n = 0
  for _, at in ipairs(self.milestones) do n = n + (at == self.last_epoch and 1 or 0) end
  if n == 0 then return map(self, keep) end
  return map(self, function(lr) return lr * self.gamma ^ n end)
end
function MultiStepLR:closed_form()
  local n = count_upto(self.milestones, self.last_epoch)
  return map(self, function(_, base) return base * self.gamma ^ n end)
end

--- Times factor until step total_iters.
local ConstantLR = define("ConstantLR", {{"factor", 1 / 3, want = "number"},
  {"total_iters", 5, want = "number"}, LAST})
function ConstantLR:get_lr()
  if self.last_epoch == 0 then return map(self, function(lr) return lr * self.factor end) end
  if self.last_epoch ~= self.total_iters then return map(self, keep) end
  return map(self, function(lr) return lr * (1 / self.factor) end)
end
function ConstantLR:closed_form()
  local done = self.last_epoch >= self.total_iters and 1 or 0
  return map(self, function(_, base) return base * (self.factor + done * (1 - self.factor)) end)
end

--- A factor that goes from start_factor to end_factor in total_iters steps.
local LinearLR = define("LinearLR", {{"start_factor", 1 / 3, want = "number"},
  {"end_factor", 1, want = "number"}, {"total_iters", 5, want = "number"}, LAST})
function LinearLR:get_lr()
  local from, span, n, t = self.start_factor, self.end_factor - self.start_factor,
    self.total_iters, self.last_epoch
  if t == 0 then return map(self, function(lr) return lr * from end) end
  if t > n then return map(self, keep) end
  return map(self, function(lr) return lr * (1 + span / (n * from + (t - 1) * span)) end)
end
function LinearLR:closed_form()
  local n = math.min(self.total_iters, self.last_epoch)
  return map(self, function(_, base)
    return base * (self.start_factor
      + (self.end_factor - self.start_factor) * n / self.total_iters)
  end)
end

--- Times gamma every step.
local ExponentialLR = define("ExponentialLR", {{"gamma", want = "number"}, LAST})
function ExponentialLR:get_lr()
  if self.last_epoch == 0 then return map(self, keep) end
  return map(self, function(lr) return lr * self.gamma end)
end
function ExponentialLR:closed_form()
  return map(self, function(_, base) return base * self.gamma ^ self.last_epoch end)
end

--- base (1 - t / total_iters)^power.
local PolynomialLR = define("PolynomialLR", {{"total_iters", 5, want = "number"},
  {"power", 1, want = "number"}, LAST})
function PolynomialLR:get_lr()
  local t, n = self.last_epoch, self.total_iters
  if t == 0 or t > n then return map(self, keep) end
  local factor = ((1 - t / n) / (1 - (t - 1) / n)) ^ self.power
  return map(self, function(lr) return lr * factor end)
end
function PolynomialLR:closed_form()
  local left = 1 - math.min(self.total_iters, self.last_epoch) / self.total_iters
  return map(self, function(_, base) return base * left ^ self.power end)
end

--- eta_min + (base - eta_min) (1 + cos(pi t / T_max)) / 2.
local CosineAnnealingLR = define("CosineAnnealingLR", {{"T_max", want = "number"},
  {"eta_min", 0, want = "number"}, LAST})
function CosineAnnealingLR:get_lr()
  local t, n, low = self.last_epoch, self.T_max, self.eta_min
  if t == 0 then return map(self, keep) end
  if self.step_count == 1 then return self:closed_form() end
  if (t - 1 - n) % (2 * n) == 0 then
    return map(self, function(lr, base) return lr + (base - low) * (1 - cos(pi / n)) / 2 end)
  end
  return map(self, function(lr)
    return (1 + cos(pi * t / n)) / (1 + cos(pi * (t - 1) / n)) * (lr - low) + low
  end)
end
function CosineAnnealingLR:closed_form()
  local low = self.eta_min
  return map(self, function(_, base)
    return low + (base - low) * (1 + cos(pi * self.last_epoch / self.T_max)) / 2
  end)
end

--- base fn(t); fn is a function, or a list of one for each group.
local LambdaLR = define("LambdaLR", {{"lr_lambda", want = "function|table"}, LAST})
local function prepare_lambda(self, optimizer)
  local name = getmetatable(self).__name
  local given = self.lr_lambda
  if type(given) == "function" then
    self.lr_lambda = {}
    for i in ipairs(optimizer.param_groups) do self.lr_lambda[i] = given end
  elseif type(given) ~= "table" or #given ~= #optimizer.param_groups then
    blame.raise("%s: argument 'lr_lambda': expected a function or a list of %d functions, got %s",
      name, #optimizer.param_groups, util.type_name(given))
  end
end
LambdaLR.prepare = prepare_lambda
function LambdaLR:get_lr()
  return map(self, function(_, base, i) return base * self.lr_lambda[i](self.last_epoch) end)
end

--- The rate before times fn(t).
local MultiplicativeLR = define("MultiplicativeLR",
  {{"lr_lambda", want = "function|table"}, LAST})
MultiplicativeLR.prepare = prepare_lambda
function MultiplicativeLR:get_lr()
  if self.last_epoch == 0 then return map(self, keep) end
  return map(self, function(lr, _, i) return lr * self.lr_lambda[i](self.last_epoch) end)
end

-- Cycles ----------------------------------------------------------------------------------------

--- A cosine that starts again after T_0 steps, then T_0 T_mult, ..; step(epoch) takes fractions.
local WarmRestarts = define("CosineAnnealingWarmRestarts", {
  {"T_0", want = "integer", least = 1}, {"T_mult", 1, want = "integer", least = 1},
  {"eta_min", 0, want = "number"}, LAST})
function WarmRestarts:prepare()
  self.T_i = self.T_0
  self.T_cur = self.last_epoch
end
function WarmRestarts:get_lr()
  local low = self.eta_min
  return map(self, function(_, base)
    return low + (base - low) * (1 + cos(pi * self.T_cur / self.T_i)) / 2
  end)
end
function WarmRestarts:step(epoch)
  self.step_count = self.step_count + 1
  if epoch == nil and self.last_epoch < 0 then epoch = 0 end
  if epoch == nil then
    epoch = self.last_epoch + 1
    self.T_cur = self.T_cur + 1
    if self.T_cur >= self.T_i then
      self.T_cur = self.T_cur - self.T_i
      self.T_i = self.T_i * self.T_mult
    end
  elseif util.expect("step", "epoch", epoch, "number") < 0 then
    blame.raise("CosineAnnealingWarmRestarts:step: argument 'epoch': expected at least 0, got %g",
      epoch)
  elseif epoch < self.T_0 then
    self.T_i, self.T_cur = self.T_0, epoch
  elseif self.T_mult == 1 then
    self.T_i, self.T_cur = self.T_0, epoch % self.T_0
  else
    local mult = self.T_mult
    local n = math.floor(math.log(epoch / self.T_0 * (mult - 1) + 1, mult))
    self.T_cur = epoch - self.T_0 * (mult ^ n - 1) / (mult - 1)
    self.T_i = self.T_0 * mult ^ n
  end
  self.last_epoch = math.floor(epoch)
  set_rates(self, self:get_lr())
end

--- A value for each group: a number for all of them, or a list.
local function each_group(name, key, value, optimizer)
  local list = {}
  for i in ipairs(optimizer.param_groups) do
    list[i] = type(value) == "table" and value[i] or value
    if type(list[i]) ~= "number" then
      blame.raise("%s: argument '%s': expected a number or a list of %d, got %s", name, key,
        #optimizer.param_groups, util.show(value))
    end
  end
  return list
end

--- Sets momentum, or the first of betas, of group i.
local function set_momentum(optimizer, i, value)
  local group = optimizer.param_groups[i]
  local betas = group.betas
  if betas then
    group.betas = {value, betas[2]}
  else
    group.momentum = value
  end
end

local function check_momentum(name, optimizer)
  local group = optimizer.param_groups[1]
  if group.betas == nil and group.momentum == nil then
    blame.raise("%s: argument 'cycle_momentum': expected false for optim.%s, which has no "
      .. "momentum, got true", name, util.type_name(optimizer))
  end
end

local function anneal_cos(from, to, part) return to + (from - to) / 2 * (1 + cos(pi * part)) end
local function anneal_linear(from, to, part) return (to - from) * part + from end

--- One cycle (Smith and Topin 2017): up to max_lr in pct_start of total_steps, then down to
-- max_lr / div_factor / final_div_factor; momentum the other way.
local OneCycleLR = define("OneCycleLR", {{"max_lr", want = "number|table"},
  {"total_steps", optional = true, want = "integer", least = 1},
  {"epochs", optional = true, want = "integer", least = 1},
  {"steps_per_epoch", optional = true, want = "integer", least = 1},
  {"pct_start", 0.3, want = "number"}, {"anneal_strategy", "cos"},
  {"cycle_momentum", true, want = "boolean"}, {"base_momentum", 0.85, want = "number"},
  {"max_momentum", 0.95, want = "number"}, {"div_factor", 25, want = "number"},
  {"final_div_factor", 1e4, want = "number"}, {"three_phase", false, want = "boolean"}, LAST})
function OneCycleLR:prepare(optimizer)
  util.choice("OneCycleLR", "anneal_strategy", self.anneal_strategy, {"cos", "linear"})
  if self.total_steps == nil then
    if not (self.epochs and self.steps_per_epoch) then
      blame.raise("OneCycleLR: argument 'total_steps': expected an integer, or epochs and "
        .. "steps_per_epoch instead, got nothing")
    end
    self.total_steps = self.epochs * self.steps_per_epoch
  end
  local top = each_group("OneCycleLR", "max_lr", self.max_lr, optimizer)
  self.tops, self.firsts, self.lows = top, {}, {}
  if self.cycle_momentum then check_momentum("OneCycleLR", optimizer) end
  for i, group in ipairs(optimizer.param_groups) do
    self.firsts[i] = top[i] / self.div_factor
    self.lows[i] = self.firsts[i] / self.final_div_factor
    if self.last_epoch == -1 then
      rawset(group, "initial_lr", self.firsts[i])
      if self.cycle_momentum then set_momentum(optimizer, i, self.max_momentum) end
    end
  end
end
function OneCycleLR:phases(i)
  local n, up = self.total_steps, self.pct_start * self.total_steps
  local first, top, low = self.firsts[i], self.tops[i], self.lows[i]
  local calm, fast = self.base_momentum, self.max_momentum
  if self.three_phase then
    return {{up - 1, first, top, fast, calm}, {2 * up - 2, top, first, calm, fast},
      {n - 1, first, low, fast, fast}}
  end
  return {{up - 1, first, top, fast, calm}, {n - 1, top, low, calm, fast}}
end
function OneCycleLR:get_lr()
  local t = self.last_epoch
  if t > self.total_steps then
    blame.raise("OneCycleLR:step: expected at most total_steps %d, got step %d", self.total_steps,
      t)
  end
  local anneal = self.anneal_strategy == "cos" and anneal_cos or anneal_linear
  return map(self, function(_, _, i)
    local phases, from = self:phases(i), 0
    for k, phase in ipairs(phases) do
      local to = phase[1]
      if t <= to or k == #phases then
        local part = (t - from) / (to - from)
        if self.cycle_momentum then
          set_momentum(self.optimizer, i, anneal(phase[4], phase[5], part))
        end
        return anneal(phase[2], phase[3], part)
      end
      from = to
    end
  end)
end

--- Up from base_lr to max_lr in step_size_up steps and down again (Smith 2017).
local CyclicLR = define("CyclicLR", {{"base_lr", want = "number|table"},
  {"max_lr", want = "number|table"}, {"step_size_up", 2000, want = "number"},
  {"step_size_down", optional = true, want = "number"}, {"mode", "triangular"},
  {"gamma", 1, want = "number"}, {"scale_fn", optional = true, want = "callable"},
  {"scale_mode", "cycle"}, {"cycle_momentum", true, want = "boolean"},
  {"base_momentum", 0.8, want = "number"}, {"max_momentum", 0.9, want = "number"}, LAST})
function CyclicLR:prepare(optimizer)
  util.choice("CyclicLR", "mode", self.mode, {"triangular", "triangular2", "exp_range"})
  util.choice("CyclicLR", "scale_mode", self.scale_mode, {"cycle", "iterations"})
  self.lows = each_group("CyclicLR", "base_lr", self.base_lr, optimizer)
  self.tops = each_group("CyclicLR", "max_lr", self.max_lr, optimizer)
  self.step_size_down = self.step_size_down or self.step_size_up
  if not self.scale_fn and self.mode == "exp_range" then self.scale_mode = "iterations" end
  if self.cycle_momentum then check_momentum("CyclicLR", optimizer) end
  for i, group in ipairs(optimizer.param_groups) do
    if self.last_epoch == -1 then
      group.lr = self.lows[i]
      rawset(group, "initial_lr", nil)
      if self.cycle_momentum then set_momentum(optimizer, i, self.max_momentum) end
    end
  end
end
function CyclicLR:scale(x)
  if self.scale_fn then return self.scale_fn(x) end
  if self.mode == "triangular" then return 1 end
  if self.mode == "triangular2" then return 1 / 2 ^ (x - 1) end
  return self.gamma ^ x
end
function CyclicLR:get_lr()
  local total = self.step_size_up + self.step_size_down
  local ratio = self.step_size_up / total
  local cycle = math.floor(1 + self.last_epoch / total)
  local x = 1 + self.last_epoch / total - cycle
  local height = x <= ratio and x / ratio or (x - 1) / (ratio - 1)
  local scale = self:scale(self.scale_mode == "cycle" and cycle or self.last_epoch)
  return map(self, function(_, _, i)
    if self.cycle_momentum then
      set_momentum(self.optimizer, i,
        self.max_momentum - (self.max_momentum - self.base_momentum) * height * scale)
    end
    return self.lows[i] + (self.tops[i] - self.lows[i]) * height * scale
  end)
end

-- By a measured value -----------------------------------------------------------------------------

--- Times factor when the value given to step() has not become better for `patience` steps.
local Plateau = util.class("ReduceLROnPlateau", Scheduler)
M.ReduceLROnPlateau = Plateau
function Plateau:init(optimizer, ...)
  check_optimizer("ReduceLROnPlateau", optimizer)
  local values = read("lr_scheduler.ReduceLROnPlateau", {{"mode", "min"},
    {"factor", 0.1, want = "number"}, {"patience", 10, want = "number"},
    {"threshold", 1e-4, want = "number"}, {"threshold_mode", "rel"},
    {"cooldown", 0, want = "number"}, {"min_lr", 0, want = "number|table"},
    {"eps", 1e-8, want = "number"}}, ...)
  for key, value in pairs(values) do self[key] = value end
  util.choice("ReduceLROnPlateau", "mode", self.mode, {"min", "max"})
  util.choice("ReduceLROnPlateau", "threshold_mode", self.threshold_mode, {"rel", "abs"})
  if self.factor >= 1 then
    blame.raise("ReduceLROnPlateau: argument 'factor': expected less than 1, got %g", self.factor)
  end
  self.min_lrs = each_group("ReduceLROnPlateau", "min_lr", self.min_lr, optimizer)
  self.optimizer = optimizer
  self.best = self.mode == "min" and math.huge or -math.huge
  self.cooldown_counter, self.num_bad_epochs, self.last_epoch = 0, 0, 0
  self.last_lr = {}
  for i, group in ipairs(optimizer.param_groups) do self.last_lr[i] = group.lr end
end
function Plateau:is_better(value)
  local sign = self.mode == "min" and -1 or 1
  if self.threshold_mode == "rel" then
    local factor = 1 + sign * self.threshold
    if sign < 0 then return value < self.best * factor end
    return value > self.best * factor
  end
  if sign < 0 then return value < self.best - self.threshold end
  return value > self.best + self.threshold
end
function Plateau:step(value)
  if type(value) == "userdata" then value = value:item() end
  util.expect("ReduceLROnPlateau:step", "metrics", value, "number")
  self.last_epoch = self.last_epoch + 1
  if self:is_better(value) then
    self.best, self.num_bad_epochs = value, 0
  else
    self.num_bad_epochs = self.num_bad_epochs + 1
  end
  if self.cooldown_counter > 0 then
    self.cooldown_counter = self.cooldown_counter - 1
    self.num_bad_epochs = 0
  end
  if self.num_bad_epochs > self.patience then
    for i, group in ipairs(self.optimizer.param_groups) do
      local old = group.lr
      local new = math.max(old * self.factor, self.min_lrs[i])
      if old - new > self.eps then group.lr = new end
    end
    self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0
  end
  for i, group in ipairs(self.optimizer.param_groups) do self.last_lr[i] = group.lr end
end

-- Several schedulers ------------------------------------------------------------------------------

--- State dicts of the schedulers inside beside one's own.
local function nested_state(self)
  local dict = Scheduler.state_dict(self)
  dict.schedulers = {}
  for i, scheduler in ipairs(self._schedulers) do dict.schedulers[i] = scheduler:state_dict() end
  return dict
end

local function load_nested(self, dict)
  util.expect("load_state_dict", "state", dict, "table")
  for key, value in pairs(dict) do
    if key ~= "schedulers" then self[key] = value end
  end
  for i, state in ipairs(dict.schedulers or {}) do self._schedulers[i]:load_state_dict(state) end
end

--- Takes "_schedulers" after checking them.
local function take_schedulers(self, name, optimizer, schedulers)
  if type(schedulers) ~= "table" or #schedulers == 0 then
    blame.raise("%s: argument 'schedulers': expected a list of schedulers, got %s", name,
      util.type_name(schedulers))
  end
  for i, scheduler in ipairs(schedulers) do
    if type(scheduler) ~= "table" or scheduler.optimizer ~= optimizer then
      blame.raise("%s: argument 'schedulers': expected schedulers of this optimizer, got another's "
        .. "as number %d", name, i)
    end
  end
  self._schedulers = schedulers
  self.optimizer = optimizer
end

--- One scheduler after the other: the next one starts at each milestone.
local SequentialLR = util.class("SequentialLR", Scheduler)
M.SequentialLR = SequentialLR
function SequentialLR:init(optimizer, ...)
  check_optimizer("SequentialLR", optimizer)
  local values = read("lr_scheduler.SequentialLR", {{"schedulers"}, {"milestones"}, LAST}, ...)
  take_schedulers(self, "SequentialLR", optimizer, values.schedulers)
  if type(values.milestones) ~= "table" or #values.milestones ~= #values.schedulers - 1 then
    blame.raise("SequentialLR: expected %d milestones for %d schedulers, got %s",
      #values.schedulers - 1, #values.schedulers,
      type(values.milestones) == "table" and #values.milestones or util.show(values.milestones))
  end
  self.milestones = values.milestones
  self.last_epoch = values.last_epoch + 1
  for _, group in ipairs(optimizer.param_groups) do group.lr = rawget(group, "initial_lr") end
  for _, scheduler in ipairs(self._schedulers) do   -- undo the step that each made when it was made
    scheduler.last_epoch = scheduler.last_epoch - 1
  end
  self._schedulers[1]:initial_step()
  self.last_lr = self._schedulers[1]:get_last_lr()
end
function SequentialLR:step()
  self.last_epoch = self.last_epoch + 1
  local n = count_upto(self.milestones, self.last_epoch)
  local scheduler = self._schedulers[n + 1]
  if n > 0 and self.milestones[n] == self.last_epoch then
    scheduler:step(0)
  else
    scheduler:step()
  end
  self.last_lr = scheduler:get_last_lr()
end
SequentialLR.state_dict = nested_state
SequentialLR.load_state_dict = load_nested

--- Several schedulers at once: each multiplies on.
local ChainedScheduler = util.class("ChainedScheduler", Scheduler)
M.ChainedScheduler = ChainedScheduler
function ChainedScheduler:init(schedulers)
  local first = type(schedulers) == "table" and schedulers[1]
  take_schedulers(self, "ChainedScheduler", type(first) == "table" and first.optimizer, schedulers)
  self.last_lr = schedulers[#schedulers]:get_last_lr()
end
function ChainedScheduler:step()
  for _, scheduler in ipairs(self._schedulers) do scheduler:step() end
  self.last_lr = self._schedulers[#self._schedulers]:get_last_lr()
end
ChainedScheduler.state_dict = nested_state
ChainedScheduler.load_state_dict = load_nested

return M
