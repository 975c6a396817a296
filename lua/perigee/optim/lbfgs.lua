--- `optim.LBFGS`: limited-memory BFGS (Nocedal, Wright, Numerical Optimization, algorithm 7.5) with
-- an optional line search under the strong Wolfe conditions (algorithms 3.5 and 3.6).
-- Relies on perigee.optim and core. Spec: spec/optim/lbfgs_spec.lua.

local core = require "perigee.core"
local optim = require "perigee.optim"
local arguments = require "perigee.optim.arguments"
local blame = require "perigee.blame"
local util = require "perigee.util"

local OPTIONS = {{"lr", 1}, {"max_iter", 20}, {"max_eval", optional = true},
  {"tolerance_grad", 1e-7}, {"tolerance_change", 1e-9}, {"history_size", 100},
  {"line_search_fn", optional = true}}
local INTEGER = {max_iter = true, max_eval = true, history_size = true}
local SUFFICIENT, CURVATURE = 1e-4, 0.9 -- c1 and c2 of the Wolfe conditions
local MOST_TRIALS = 25

local LBFGS = util.class("LBFGS", optim.Optimizer)
LBFGS.needs_closure = true -- tells fit to hand step a function that evaluates the loss anew

local function check(options)
  for _, option in ipairs(OPTIONS) do
    local name = option[1]
    local value = options[name]
    if name == "line_search_fn" then
      if value ~= nil and value ~= "strong_wolfe" then
        blame.raise("optim.LBFGS: argument 'line_search_fn': expected \"strong_wolfe\" or nil, "
          .. "got %s", util.show(value))
      end
    elseif value ~= nil and (type(value) ~= "number" or value < 0
        or (INTEGER[name] and not math.tointeger(value))) then
      blame.raise("optim.LBFGS: argument '%s': expected %s of at least 0, got %s", name,
        INTEGER[name] and "an integer" or "a number", util.show(value))
    end
  end
  if options.max_eval == nil then options.max_eval = options.max_iter * 5 // 4 end
  return options
end

local function fresh_state()
  return {step = 0, func_evals = 0, changes = {}, moves = {}, inverse = {}}
end

--- @param params one list of parameters or one group (optional: bind gives it later)
-- @param ... lr (1), max_iter (20) iterations and max_eval (5/4 of them) evaluations a step,
-- tolerance_grad (1e-7), tolerance_change (1e-9), history_size (100), line_search_fn (nil or
-- "strong_wolfe")
function LBFGS:init(...)
  local first = ...
  local bound = core.is_tensor(first) or not arguments.is_options(first)
  if select("#", ...) == 0 then bound = false end
  local options
  if bound then
    options = arguments.read("optim.LBFGS", OPTIONS, select(2, ...))
  else
    options = arguments.read("optim.LBFGS", OPTIONS, first)
  end
  self.defaults = check(options)
  self.param_groups = {{params = {}}}
  for name, value in pairs(options) do self.param_groups[1][name] = value end
  self._state = fresh_state()
  if bound then self:bind(first) end
end

function LBFGS:is_bound() return #self.param_groups[1].params > 0 end

--- Gives the optimizer its parameters: a list of them, or one group {params = .., lr = ..}.
function LBFGS:bind(params)
  if self:is_bound() then
    blame.raise("optim.LBFGS:bind: expected an optimizer without parameters, got one that has them")
  end
  if core.is_tensor(params) then params = {params} end
  util.expect("optim.LBFGS", "params", params, "table")
  local group = {}
  if type(params[1]) == "table" and not core.is_tensor(params[1]) then
    if #params > 1 then
      blame.raise("optim.LBFGS: argument 'params': expected one group of parameters, got %d",
        #params)
    end
    group = params[1]
    params = util.expect("optim.LBFGS", "params", group.params, "table")
  end
  if #params == 0 then
    blame.raise("optim.LBFGS: argument 'params': expected at least one parameter, got none")
  end
  local options = {}
  for name, value in pairs(group) do
    if name ~= "params" then options[name] = value end
  end
  for name, value in pairs(self.defaults) do
    if options[name] == nil then options[name] = value end
  end
  options = check(arguments.read("optim.LBFGS", OPTIONS, options))
  local list = {}
  for i, p in ipairs(params) do
    if not core.is_tensor(p) then
      blame.raise("optim.LBFGS: argument 'params': expected tensors, got %s as parameter %d",
        util.type_name(p), i)
    end
    if not (p.is_leaf and p.requires_grad) then
      blame.raise("optim.LBFGS: argument 'params': expected leaves that require grad, got another "
        .. "tensor as parameter %d", i)
    end
    if p.dtype ~= params[1].dtype then
      blame.raise("optim.LBFGS: argument 'params': expected %s as the first one, got %s as "
        .. "parameter %d", params[1].dtype, p.dtype, i)
    end
    list[i] = p
  end
  local own = self.param_groups[1]
  for name, value in pairs(options) do own[name] = value end
  own.params = list
  return self
end

function LBFGS.add_param_group()
  blame.raise("optim.LBFGS:add_param_group: expected one group of parameters only, got another")
end

local function check_bound(self, what)
  if not self:is_bound() then
    blame.raise("optim.LBFGS:%s: expected an optimizer with parameters, got none yet; give them "
      .. "first or call bind(params)", what)
  end
end

--- Forgets the gradients; with false (or {set_to_none = false}) fills them with zeros.
function LBFGS:zero_grad(set_to_none)
  check_bound(self, "zero_grad")
  if type(set_to_none) == "table" then
    set_to_none = util.options("zero_grad", set_to_none, {set_to_none = true}).set_to_none
  end
  for _, p in ipairs(self.param_groups[1].params) do
    if set_to_none ~= false then
      p.grad = nil
    elseif p.grad then
      p.grad:zero_()
    end
  end
end

--- All gradients in one vector; zeros where there is none.
local function gather(params)
  local pieces = {}
  for i, p in ipairs(params) do
    pieces[i] = p.grad and p.grad:detach():reshape(-1)
      or core.ops.zeros({p:numel()}, {dtype = p.dtype})
  end
  return core.ops.cat(pieces, 1):clone()
end

--- params += t * direction
local function move(params, t, direction)
  local at = 1
  for _, p in ipairs(params) do
    local n = p:numel()
    p:detach():add_(direction:narrow(1, at, n):reshape(p.shape), {alpha = t})
    at = at + n
  end
end

local function put_back(params, saved)
  for i, p in ipairs(params) do p:detach():copy_(saved[i]) end
end

local function dot(a, b) return a:dot(b):item() end
local function largest(a) return a:abs():max():item() end

--- Where the cubic through two points with slopes has its minimum, within low..high.
local function cubic_minimum(a, b, low, high)
  if not low then low, high = math.min(a.t, b.t), math.max(a.t, b.t) end
  local d1 = a.slope + b.slope - 3 * (a.loss - b.loss) / (a.t - b.t)
  local square = d1 * d1 - a.slope * b.slope
  if square < 0 or square ~= square then return (low + high) / 2 end
  local d2 = math.sqrt(square)
  if a.t > b.t then a, b = b, a end
  local t = b.t - (b.t - a.t) * ((b.slope + d2 - d1) / (b.slope - a.slope + 2 * d2))
  return math.min(math.max(t, low), high)
end

--- A point along the direction that fulfils the strong Wolfe conditions, or the best one seen.
-- @param try function(t) -> {t =, loss =, grad =, slope =}
-- @param start the point at t = 0
-- @param t first length to try
-- @param size largest absolute element of the direction
-- @param tolerance smallest change worth a trial
-- @return the point
local function strong_wolfe(try, start, t, size, tolerance)
  local function too_high(p) return p.loss > start.loss + SUFFICIENT * p.t * start.slope end
  local function flat(p) return math.abs(p.slope) <= -CURVATURE * start.slope end
  local before, here, trials = start, try(t), 0
  local low, high
  while trials < MOST_TRIALS do
    if too_high(here) or (trials > 1 and here.loss >= before.loss) then
      low, high = before, here
      break
    end
    if flat(here) then return here end
    if here.slope >= 0 then
      low, high = before, here
      break
    end
    local nearest = here.t + 0.01 * (here.t - before.t)
    local next_t = cubic_minimum(before, here, nearest, here.t * 10)
    before, here = here, try(next_t)
    trials = trials + 1
  end
  if not low then low, high = start, here end
  -- The first of the pair stays first in the interpolation, whichever is lower.
  local pair = {low, high}
  local best = pair[1].loss <= pair[2].loss and 1 or 2
  local stuck = false
  while trials < MOST_TRIALS do
    local from, to = math.min(pair[1].t, pair[2].t), math.max(pair[1].t, pair[2].t)
    if (to - from) * size < tolerance then break end
    local at = cubic_minimum(pair[1], pair[2])
    local margin = 0.1 * (to - from)
    if math.min(to - at, at - from) < margin then -- hardly any progress: once is forgiven
      if stuck or at >= to or at <= from then
        at = math.abs(at - to) < math.abs(at - from) and to - margin or from + margin
        stuck = false
      else
        stuck = true
      end
    else
      stuck = false
    end
    local new = try(at)
    trials = trials + 1
    local worst = 3 - best
    if too_high(new) or new.loss >= pair[best].loss then
      pair[worst] = new
      best = pair[1].loss <= pair[2].loss and 1 or 2
    else
      local done = flat(new)
      if not done and new.slope * (pair[worst].t - pair[best].t) >= 0 then
        pair[worst] = pair[best]
      end
      pair[best] = new
      if done then break end
    end
  end
  return pair[best]
end

--- -H g, H being the inverse Hessian that the remembered (move, change) pairs stand for.
local function direction_of(state, grad)
  local d, share = -grad, {}
  for i = #state.moves, 1, -1 do
    share[i] = dot(state.moves[i], d) * state.inverse[i]
    d:add_(state.changes[i], {alpha = -share[i]})
  end
  d:mul_(state.scale)
  for i, move_i in ipairs(state.moves) do
    d:add_(move_i, {alpha = share[i] - dot(state.changes[i], d) * state.inverse[i]})
  end
  return d
end

local function remember(state, grad, history_size)
  local change, moved = grad - state.grad, state.direction * state.t
  local product = dot(change, moved)
  if product <= 1e-10 then return end
  while #state.moves >= math.max(history_size, 1) do
    table.remove(state.changes, 1)
    table.remove(state.moves, 1)
    table.remove(state.inverse, 1)
  end
  local n = #state.moves + 1
  state.changes[n], state.moves[n] = core.keep(change), core.keep(moved)
  state.inverse[n] = 1 / product
  state.scale = product / dot(change, change)
end

--- Up to max_iter iterations.
-- @param closure computes the loss anew and its gradients, and returns the loss
-- @return the first loss
function LBFGS:step(closure)
  check_bound(self, "step")
  if type(closure) ~= "function" then
    blame.raise("optim.LBFGS:step: argument 'closure': expected a function, got %s",
      closure == nil and "nothing" or util.show(closure))
  end
  local group, state = self.param_groups[1], self._state
  local params = group.params
  local evaluations = 0
  local function evaluate()
    local result
    do
      local _ <close> = core.enable_grad()
      result = closure()
    end
    evaluations = evaluations + 1
    state.func_evals = state.func_evals + 1
    local loss = core.is_tensor(result) and result:detach():item() or result
    if type(loss) ~= "number" then
      blame.raise("optim.LBFGS:step: argument 'closure': expected it to return the loss, got %s",
        util.type_name(result))
    end
    return loss, gather(params), result
  end

  local _ <close> = core.no_grad()
  local loss, grad, first = evaluate()
  local scope <close> = core.scope()
  if largest(grad) <= group.tolerance_grad then return first end
  for iteration = 1, group.max_iter do
    state.step = state.step + 1
    local direction
    if state.step == 1 then
      direction, state.scale = -grad, 1
    else
      remember(state, grad, group.history_size)
      direction = direction_of(state, grad)
    end
    state.grad, state.direction = core.keep(grad:clone()), core.keep(direction)
    local before = loss
    state.t = group.lr
    if state.step == 1 then state.t = math.min(1, 1 / grad:abs():sum():item()) * group.lr end
    local slope = dot(grad, direction)
    if slope > -group.tolerance_change then break end
    if group.line_search_fn then
      local saved = {}
      for i, p in ipairs(params) do saved[i] = p:detach():clone() end
      local function try(t)
        move(params, t, direction)
        local l, g = evaluate()
        put_back(params, saved)
        return {t = t, loss = l, grad = g, slope = dot(g, direction)}
      end
      local start = {t = 0, loss = loss, grad = grad, slope = slope}
      local found = strong_wolfe(try, start, state.t, largest(direction), group.tolerance_change)
      state.t, loss, grad = found.t, found.loss, found.grad
      move(params, state.t, direction)
    else
      move(params, state.t, direction)
      if iteration < group.max_iter then loss, grad = evaluate() end
    end
    if evaluations >= group.max_eval or largest(grad) <= group.tolerance_grad
        or largest(direction) * math.abs(state.t) <= group.tolerance_change
        or math.abs(loss - before) < group.tolerance_change then
      break
    end
  end
  return first
end

--- State and options as plain data. state[1] has step, func_evals, t, scale and, stacked,
-- old_dirs (changes of the gradient) and old_stps (moves), newest last.
function LBFGS:state_dict()
  check_bound(self, "state_dict")
  local group, own = {params = {}}, self._state
  for _, option in ipairs(OPTIONS) do group[option[1]] = self.param_groups[1][option[1]] end
  group.initial_lr = self.param_groups[1].initial_lr
  for i in ipairs(self.param_groups[1].params) do group.params[i] = i end
  local dict = {state = {}, param_groups = {group}}
  if own.step > 0 then
    local saved = {step = own.step, func_evals = own.func_evals, t = own.t, scale = own.scale,
      d = own.direction, prev_flat_grad = own.grad}
    if #own.moves > 0 then
      saved.old_dirs, saved.old_stps = core.ops.stack(own.changes, 1), core.ops.stack(own.moves, 1)
    end
    dict.state[1] = saved
  end
  return dict
end

--- Takes over what state_dict gave. On an error nothing is changed.
function LBFGS:load_state_dict(dict)
  check_bound(self, "load_state_dict")
  util.expect("optim.LBFGS", "state", dict, "table")
  local groups = util.expect("optim.LBFGS", "param_groups", dict.param_groups, "table")
  local params = self.param_groups[1].params
  if #groups ~= 1 or #groups[1].params ~= #params then
    blame.raise("optim.LBFGS: load_state_dict: expected 1 group of %d parameters, got %d of %d",
      #params, #groups, groups[1] and #groups[1].params or 0)
  end
  local n = 0
  for _, p in ipairs(params) do n = n + p:numel() end
  local saved = dict.state and dict.state[1]
  for _, name in ipairs {"d", "prev_flat_grad", "old_dirs", "old_stps"} do
    local t = saved and saved[name]
    if t ~= nil and (not core.is_tensor(t) or t:size(-1) ~= n) then
      blame.raise("optim.LBFGS: load_state_dict: state '%s': expected rows of %d elements, got %s",
        name, n, util.type_name(t))
    end
  end
  local options = {}
  for _, option in ipairs(OPTIONS) do options[option[1]] = groups[1][option[1]] end
  check(options)
  for name, value in pairs(options) do self.param_groups[1][name] = value end
  self.param_groups[1].initial_lr = groups[1].initial_lr
  local state = fresh_state()
  if saved then
    state.step, state.func_evals = math.tointeger(saved.step), math.tointeger(saved.func_evals)
    state.t, state.scale = saved.t, saved.scale
    state.direction = core.keep(saved.d:clone())
    state.grad = core.keep(saved.prev_flat_grad:clone())
    for i = 1, saved.old_dirs and saved.old_dirs:size(1) or 0 do
      state.changes[i] = core.keep(saved.old_dirs:select(1, i):clone())
      state.moves[i] = core.keep(saved.old_stps:select(1, i):clone())
      state.inverse[i] = 1 / dot(state.changes[i], state.moves[i])
    end
  end
  self._state = state
end

function LBFGS:__tostring()
  local lines = {"LBFGS ("}
  for _, option in ipairs(OPTIONS) do
    lines[#lines + 1] = ("    %s: %s"):format(option[1],
      tostring(self.param_groups[1][option[1]]))
  end
  return table.concat(lines, "\n") .. "\n)"
end

return LBFGS
