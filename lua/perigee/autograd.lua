--- Gradients beyond backward: functions with a backward in Lua, hooks, gradient checks,
-- checkpointing, anomaly mode.
-- Relies on perigee.core, util. Spec: spec/autograd/function_spec.lua.

local core = require "perigee.core"
local util = require "perigee.util"

local Tensor = core.Tensor
local M = {functions = {}}

-- Functions ---------------------------------------------------------------------------------------

local Function = {__name = "Function"}
Function.__index = Function

--- What forward and backward share.
local Context = {}
Context.__index = Context

--- Keeps tensors for backward, which finds them in `ctx.saved_tensors`.
function Context:save_for_backward(...)
  self.saved_tensors = {...}
end

local function zeros_like(t) return core.ops.zeros(t.shape, {dtype = t.dtype}) end

--- Runs forward without recording and puts the function into the graph.
-- @param ... what forward takes; gradients flow to the tensors among it
-- @return what forward returns: one to three tensors
function Function:apply(...)
  local args = table.pack(...)
  local inputs, places = {}, {}
  for i = 1, args.n do
    if core.is_tensor(args[i]) then
      inputs[#inputs + 1] = args[i]
      places[#places + 1] = i
    end
  end
  local ctx = setmetatable({saved_tensors = {}, needs_input_grad = {}}, Context)
  for i = 1, args.n do
    ctx.needs_input_grad[i] = core.is_tensor(args[i]) and args[i].requires_grad
  end
  local outputs = table.pack(core.no_grad(self.forward, ctx, table.unpack(args, 1, args.n)))
  for j = 1, outputs.n do
    if not core.is_tensor(outputs[j]) then
      util.fail(self.name, "forward: expected tensors, got %s as result %d",
        util.show(outputs[j]), j)
    end
  end
  local shapes = {}
  for j = 1, outputs.n do shapes[j] = {shape = outputs[j].shape, dtype = outputs[j].dtype} end
  return core.function_record(inputs, outputs, function(...)
    local grads = {...}
    for j = 1, #shapes do grads[j] = grads[j] or zeros_like(shapes[j]) end
    local given = table.pack(self.backward(ctx, table.unpack(grads, 1, #shapes)))
    local result = {}
    for k, i in ipairs(places) do result[k] = given[i] or false end
    return table.unpack(result, 1, #places)
  end)
end

Function.__call = Function.apply
function Function:__tostring() return "Function " .. self.name end

--- A differentiable function of one's own.
-- `local Square = pg.Function {name = "square", forward = function(ctx, x) ctx:save_for_backward(x)
-- return x * x end, backward = function(ctx, g) return 2 * ctx.saved_tensors[1] * g end}`,
-- then `Square(x)`. Backward gets a gradient for each result and returns one for each argument of
-- forward (nil where there is none); made of ops, it can be differentiated again.
-- @param spec name, forward(ctx, ...), backward(ctx, ...)
-- @return a callable
function M.functions.Function(spec)
  spec = util.options("Function", spec, {"forward", "backward", name = "Function"})
  util.expect("Function", "forward", spec.forward, "function")
  util.expect("Function", "backward", spec.backward, "function")
  local own = {name = spec.name, forward = spec.forward, backward = spec.backward}
  return setmetatable(own, Function)
end

-- Hooks -------------------------------------------------------------------------------------------

--- Calls f with the gradient of this tensor when that is complete; what f returns replaces it.
-- @param f function(gradient) -> tensor or nothing
-- @return handle with `remove`
function Tensor.register_hook(self, f)
  util.expect("register_hook", "hook", f, "callable")
  local on = true
  core.hook(self, function(grad)
    if on then return f(grad) end
  end)
  return {remove = function() on = false end}
end

--- Keeps the gradient of a result in its `grad` field, as leaves have it.
function Tensor.retain_grad(self)
  util.expect("retain_grad", "self", self, "tensor")
  if self.is_leaf then return self end
  local weak = setmetatable({self}, {__mode = "v"})
  core.hook(self, function(grad)
    local t = weak[1]
    if t then t.grad = t.grad and t.grad + grad or grad end
  end)
  return self
end

-- Checks ------------------------------------------------------------------------------------------

local CHECK = {eps = 1e-6, atol = 1e-5, rtol = 1e-3, raise_exception = true}

local function float_inputs(fn, inputs)
  if core.is_tensor(inputs) then inputs = {inputs} end
  local checked = {}
  for i, t in ipairs(inputs) do
    if core.is_tensor(t) and t.requires_grad then
      if t.dtype ~= "float64" then
        util.fail(fn, "argument 'inputs': expected float64, as differences need the digits, got "
          .. "%s as input %d", t.dtype, i)
      end
      checked[#checked + 1] = t
    end
  end
  if #checked == 0 then
    util.fail(fn, "argument 'inputs': expected one that requires grad, got none")
  end
  return inputs, checked
end

--- The outputs of f as one number: their elements times fixed weights. The weights make every
-- element count by itself.
local function projected(f, inputs)
  local total
  for j, y in ipairs({f(table.unpack(inputs))}) do
    if core.is_tensor(y) and (y.dtype == "float64" or y.dtype == "float32") then
      local w = (core.ops.arange(1, y:numel()):to(y.dtype) * (0.7 + j)):sin() + 1.5
      local term = (y * w:view(y.shape)):sum()
      total = total and total + term or term
    end
  end
  return total
end

--- Compares the gradients of f with central differences.
-- @param f function of tensors that returns tensors
-- @param inputs list of tensors; those that require grad (float64) are checked
-- @param opt eps (1e-6), atol (1e-5), rtol (1e-3), raise_exception (true)
-- @return true, or false where raise_exception is false
function M.functions.gradcheck(f, inputs, opt)
  opt = util.options("gradcheck", opt, CHECK)
  local list, checked = float_inputs("gradcheck", inputs)
  local value = projected(f, list)
  if not value or not value.requires_grad then
    util.fail("gradcheck",
      "argument 'f': expected outputs that depend on the inputs, got others")
  end
  local grads = core.grad(value, checked, {allow_unused = true})
  for k, t in ipairs(checked) do
    local flat = t:detach():view(-1)
    local analytic = grads[k] and grads[k]:contiguous():view(-1)
    for i = 1, t:numel() do
      local _ <close> = core.no_grad()
      local x = flat[i]:item()
      flat[i] = x + opt.eps
      local above = projected(f, list):item()
      flat[i] = x - opt.eps
      local below = projected(f, list):item()
      flat[i] = x
      local numeric = (above - below) / (2 * opt.eps)
      local mine = analytic and analytic[i]:item() or 0
      local near = math.abs(mine - numeric) <= opt.atol + opt.rtol * math.abs(numeric)
      if not near then -- NaN is not near either
        if not opt.raise_exception then return false end
        util.fail("gradcheck", "input %d, element %d: backward says %.10g, differences say %.10g",
          k, i, mine, numeric)
      end
    end
  end
  return true
end

--- Compares the gradients of the gradients of f with central differences.
-- @param f, inputs, opt as for gradcheck
function M.functions.gradgradcheck(f, inputs, opt)
  local list, checked = float_inputs("gradgradcheck", inputs)
  return M.functions.gradcheck(function(...)
    local _ <close> = core.enable_grad()
    local leaves, at = {}, 0
    local given = {...}
    for i, t in ipairs(given) do
      if core.is_tensor(list[i]) and list[i].requires_grad then
        at = at + 1
        leaves[at] = t.requires_grad and t or t:detach():requires_grad_()
        given[i] = leaves[at]
      end
    end
    local grads = core.grad(projected(f, given), leaves, {create_graph = true, allow_unused = true})
    local results = {}
    for k = 1, #checked do
      if grads[k] then results[#results + 1] = grads[k] end
    end
    return table.unpack(results)
  end, list, opt)
end

-- Checkpointing -----------------------------------------------------------------------------------

--- Runs f without keeping what its backward needs; backward runs f again (Chen et al., "Training
-- deep nets with sublinear memory cost", 2016). Random draws repeat. At least one argument must
-- require grad, even where only parameters inside f do.
-- @param f function or module
-- @param ... its arguments
-- @return what f returns
function M.functions.checkpoint(f, ...)
  local state
  local run = M.functions.Function {
    name = "checkpoint",
    forward = function(ctx, ...)
      state = core.rng_state()
      ctx.args = table.pack(...)
      return f(...)
    end,
    backward = function(ctx, ...)
      local args, leaves = {n = ctx.args.n}, {}
      for i = 1, args.n do
        local v = ctx.args[i]
        if core.is_tensor(v) then
          local wants = v.requires_grad
          v = v:detach()
          if wants then leaves[i] = v:requires_grad_() end
        end
        args[i] = v
      end
      local now = core.rng_state()
      core.set_rng_state(state)
      local outputs
      do
        local _ <close> = core.enable_grad()
        outputs = {f(table.unpack(args, 1, args.n))}
      end
      core.set_rng_state(now)
      local total
      do
        local _ <close> = core.enable_grad()
        for j, g in ipairs {...} do
          if outputs[j].requires_grad then
            local term = (outputs[j] * g):sum()
            total = total and total + term or term
          end
        end
      end
      if total then core.backward(total) end
      local grads = {}
      for i = 1, args.n do grads[i] = leaves[i] and leaves[i].grad or nil end
      return table.unpack(grads, 1, args.n)
    end,
  }
  return run(...)
end

-- Anomaly mode ------------------------------------------------------------------------------------

--- Turns the watch for NaN on or off: the first op, or the first backward, that makes a NaN from
-- values without any raises an error that names it and its layer. Slow.
function M.functions.set_detect_anomaly(on) core.anomaly(on) end

--- The same until the end of a block: `local _ <close> = pg.detect_anomaly()`.
function M.functions.detect_anomaly()
  local before = core.anomaly(true)
  return setmetatable({}, {__close = function() core.anomaly(before) end})
end

return M
