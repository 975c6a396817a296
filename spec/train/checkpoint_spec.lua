-- Stopping and going on: as if the training had never been stopped, bit for bit.
-- Relies on fit, ModelCheckpoint, nn.load.
-- Sources: lua/perigee/train/checkpoint.lua.

local H = require "spec.helper"
local pg = require "perigee"
local nn, optim = pg.nn, pg.optim

local function set(n)
  pg.manual_seed(2)
  return {x = pg.randn(n, 3), label = pg.randint(1, 2, {n})}
end

local function make(optimizer)
  pg.manual_seed(1)
  local x = nn.Input({3}, {name = "x"})
  local label = nn.Input({}, {name = "label", dtype = "int64", training_only = true})
  local h = nn.Dropout(0.3)(nn.BatchNorm1d(6)(nn.Linear(3, 6)(x)))
  local feature = nn.Linear(6, 2, {name = "feature"})(h)
  local score = nn.Linear(2, 2, {name = "score"})(feature)
  local m = nn.Model({x, label}, {score, nn.CenterLoss(2, 2)(feature, label)})
  return m:compile {optimizer = optimizer(), loss = {score = "cross_entropy", centerloss = "zero"}}
end

--- Every tensor of a model as bytes by name.
local function bytes(model)
  local result = {}
  for name, tensor in pairs(model:state_dict()) do result[name] = tensor:bytes() end
  return result
end

local function fit(model, epochs, more)
  local opt = {epochs = epochs, batch_size = 8, verbose = false}
  for key, value in pairs(more or {}) do opt[key] = value end
  return model:fit(set(50), opt)
end

local rules = {
  ["SGD with momentum"] = function() return optim.SGD {lr = 0.1, momentum = 0.9} end,
  Adam = function() return optim.Adam {lr = 0.01} end,
}
for name, rule in pairs(rules) do
  for _, seed in ipairs {7, false} do
    it(("resume equals never having been stopped: %s, %s seed"):format(name,
      seed and "a" or "no"), function()
      H.in_folder(function(folder)
        local path = folder .. "/run.ckpt"
        local more = {seed = seed or nil}
        local whole = make(rule)
        local expected = fit(whole, 4, more)
        more.callbacks = {pg.callbacks.ModelCheckpoint {path = path}}
        fit(make(rule), 2, more)
        local again = make(rule)
        pg.manual_seed(99)
        local history = fit(again, 4, {seed = seed or nil, resume = path})
        assert.same(bytes(whole), bytes(again))
        assert.same(expected.history, history.history)
        assert.same({1, 2, 3, 4}, history.epoch)
      end)
    end)
  end
end

it("a scheduler goes on too", function()
  H.in_folder(function(folder)
    local path = folder .. "/run.ckpt"
    local function options(more)
      more.scheduler = function(opt)
        return optim.lr_scheduler.StepLR(opt, {step_size = 1, gamma = 0.5})
      end
      more.seed = 3
      return more
    end
    local rule = rules.Adam
    local whole = make(rule)
    fit(whole, 3, options {})
    fit(make(rule), 1, options {callbacks = {pg.callbacks.ModelCheckpoint {path = path}}})
    local again = make(rule)
    fit(again, 3, options {resume = path})
    assert.same(bytes(whole), bytes(again))
    assert.equal(whole.optimizer.param_groups[1].lr, again.optimizer.param_groups[1].lr)
  end)
end)

it("resume refuses what is no checkpoint", function()
  H.in_folder(function(folder)
    local model = make(rules.Adam)
    assert.error_matches(function() fit(model, 2, {resume = folder .. "/none.ckpt"}) end,
      "fit: resume: .*none.ckpt")
    model:save(folder .. "/m.perigee")
    assert.error_matches(function() fit(model, 2, {resume = folder .. "/m.perigee"}) end,
      "is no checkpoint of a training")
    assert.error_matches(function() fit(model, 2, {resume = 5}) end, "expected the path")
  end)
end)
