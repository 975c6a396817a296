-- Learning-rate schedulers: fifteen rates and momenta of two groups against PyTorch, and state.
-- Relies on spec/fixtures/training/schedulers.safetensors (see spec/fixtures/training.py).
-- Sources: lua/perigee/optim/lr_scheduler.lua, lua/perigee/optim/arguments.lua.

local core = require "perigee.core"
local H = require "spec.helper"
local pg = require "perigee"
local optim = pg.optim
local S = optim.lr_scheduler

local data, notes = core.io.load("spec/fixtures/training/schedulers.safetensors", "safetensors")
local cases = core.io.json_decode(notes.cases)
local metrics = data.metrics:totable()

local function optimizer()
  return optim.SGD({{params = {pg.zeros(2, {requires_grad = true})}},
    {params = {pg.zeros(3, {requires_grad = true})}, lr = 0.02}}, {lr = 0.1, momentum = 0.9})
end

local special = {
  LambdaLR = function(opt) return S.LambdaLR(opt, function(t) return 0.95 ^ t end) end,
  MultiplicativeLR = function(opt)
    return S.MultiplicativeLR(opt, function(t) return 1 - 0.01 * t end)
  end,
  SequentialLR = function(opt)
    local parts = {S.LinearLR(opt, 0.1, {total_iters = 4}), S.ExponentialLR(opt, 0.9),
      S.CosineAnnealingLR(opt, 5)}
    return S.SequentialLR(opt, parts, {4, 9})
  end,
  ChainedScheduler = function(opt)
    return S.ChainedScheduler {S.ConstantLR(opt, 0.5, 3), S.ExponentialLR(opt, 0.9)}
  end,
}

local function make(case, opt)
  if special[case.class] then return special[case.class](opt) end
  return S[case.class](opt, case.options)
end

local function advance(case, scheduler, t)
  if case.class == "ReduceLROnPlateau" then
    scheduler:step(metrics[t])
  else
    scheduler:step()
  end
end

local function values(opt)
  local one, two = opt.param_groups[1], opt.param_groups[2]
  return {one.lr, one.momentum, two.lr, two.momentum}
end

describe("lr_scheduler", function()
  for i, case in ipairs(cases) do
    local words = {}
    for key in pairs(case.options) do words[#words + 1] = key end
    table.sort(words)
    local label = ("%s {%s}"):format(case.class, table.concat(words, ", "))
    it(label .. " gives PyTorch's rates", function()
      local opt = optimizer()
      local scheduler = make(case, opt)
      local rates = {}
      for t = 1, 15 do
        rates[t] = values(opt)
        if t < 15 then advance(case, scheduler, t) end
      end
      H.same(pg.tensor(rates, {dtype = "float64"}), data[tostring(i)], 1e-12)
    end)
    it(label .. " goes on from its state_dict", function()
      local opt, other = optimizer(), optimizer()
      local scheduler, again = make(case, opt), make(case, other)
      for t = 1, 6 do advance(case, scheduler, t) end
      again:load_state_dict(scheduler:state_dict())
      other:load_state_dict(opt:state_dict())
      for t = 7, 12 do
        advance(case, scheduler, t)
        advance(case, again, t)
        assert.same(values(opt), values(other))
      end
    end)
  end

  it("refuses wrong arguments", function()
    local opt = optimizer()
    H.raises(function() S.StepLR(opt) end, "'step_size': expected an integer, got nothing")
    H.raises(function() S.StepLR(opt, 3, {gama = 1}) end, "did you mean 'gamma'")
    H.raises(function() S.StepLR(opt, 0) end, "'step_size': expected at least 1, got 0")
    H.raises(function() S.StepLR({}, 3) end, "expected an optimizer")
    H.raises(function() S.OneCycleLR(opt, 0.1) end, "total_steps")
    H.raises(function() S.SequentialLR(opt, {S.StepLR(opt, 3)}, {3}) end, "expected 0 milestones")
    H.raises(function() S.LambdaLR(opt, {print}) end, "list of 2 functions")
  end)
end)
