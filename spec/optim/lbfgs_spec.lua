-- optim.LBFGS: twelve steps against PyTorch with and without line search, its state saved and taken
-- up, scopes, and its errors. Relies on spec/fixtures/training/lbfgs.safetensors.
-- Source: lua/perigee/optim/lbfgs.lua.

local core = require "perigee.core"
local H = require "spec.helper"
local pg = require "perigee"
local optim = pg.optim

local data, notes = core.io.load("spec/fixtures/training/lbfgs.safetensors", "safetensors")
local cases = core.io.json_decode(notes.cases)

local function params()
  local list = {}
  for k = 1, 2 do
    list[k] = data["start." .. k]:clone()
    list[k].requires_grad = true
  end
  return list
end

local function closure_of(opt, list)
  return function()
    opt:zero_grad()
    local w, b = table.unpack(list)
    local fit = ((data.x:matmul(w) + b):tanh() - data.y):pow(2):mean()
    local loss = fit + (1 - w):pow(2):sum() * (1 + b:pow(2):sum()) * 0.1
    loss:backward()
    return loss
  end
end

local function flat(list)
  return pg.cat({list[1]:detach():reshape(-1), list[2]:detach():reshape(-1)}, 1)
end

describe("optim.LBFGS", function()
  for i, case in ipairs(cases) do
    local words = {}
    for key in pairs(case.options) do words[#words + 1] = key end
    table.sort(words)
    local label = table.concat(words, ", ")
    it("agrees with PyTorch over 12 steps: " .. label, function()
      local list = params()
      local opt = optim.LBFGS(list, case.options)
      local closure = closure_of(opt, list)
      for t = 1, 12 do
        local scope <close> = pg.scope()
        local loss = opt:step(closure)
        local got = pg.cat({flat(list), loss:detach():reshape(1)}, 1)
        H.same(got, data[tostring(i)][t], 1e-9)
      end
    end)
    it("goes on from its state_dict bit for bit: " .. label, function()
      local one = params()
      local a = optim.LBFGS(one, case.options)
      for _ = 1, 4 do a:step(closure_of(a, one)) end
      local two = params()
      for k = 1, 2 do two[k]:detach():copy_(one[k]:detach()) end
      local b = optim.LBFGS(two)
      b:load_state_dict(a:state_dict())
      for _ = 1, 4 do
        a:step(closure_of(a, one))
        b:step(closure_of(b, two))
      end
      H.same(flat(two), flat(one), 0)
    end)
  end

  it("takes options by position, a table alone, and parameters later", function()
    local list = params()
    local opt = optim.LBFGS(list, 0.5, 4, nil, 1e-6)
    assert.same({0.5, 4, 5, 1e-6}, {opt.param_groups[1].lr, opt.param_groups[1].max_iter,
      opt.param_groups[1].max_eval, opt.param_groups[1].tolerance_grad})
    local late = optim.LBFGS {lr = 0.1}
    assert.is_false(late:is_bound())
    late:bind(list)
    assert.equal(0.1, late.param_groups[1].lr)
    optim.lr_scheduler.StepLR(late, 1, {gamma = 0.5}):step()
    assert.equal(0.05, late.param_groups[1].lr)
  end)

  it("leaves parameters without a gradient where they are", function()
    local list = params()
    local idle = pg.ones(3, {dtype = "float64", requires_grad = true})
    local opt = optim.LBFGS({list[1], list[2], idle}, {max_iter = 3})
    opt:step(closure_of(opt, list))
    H.same(idle:detach(), pg.ones(3, {dtype = "float64"}), 0)
  end)

  it("says what is wrong", function()
    local list = params()
    H.raises(function() optim.LBFGS(list, {line_search_fn = "armijo"}) end,
      "LBFGS: argument 'line_search_fn': expected \"strong_wolfe\" or nil, got .*armijo")
    H.raises(function() optim.LBFGS(list, {max_iter = 1.5}) end,
      "LBFGS: argument 'max_iter': expected an integer of at least 0, got 1.5")
    H.raises(function() optim.LBFGS(list, {histroy_size = 3}) end, "did you mean 'history_size'")
    H.raises(function() optim.LBFGS(list):step() end,
      "LBFGS:step: argument 'closure': expected a function, got nothing")
    H.raises(function() optim.LBFGS(list):step(function() return list end) end,
      "expected it to return the loss, got table")
    H.raises(function() optim.LBFGS {{params = {list[1]}}, {params = {list[2]}}} end,
      "expected one group of parameters, got 2")
    H.raises(function() optim.LBFGS({lr = 1}):step(print) end, "got none yet")
    H.raises(function() optim.LBFGS {} :load_state_dict {} end, "got none yet")
  end)
end)
