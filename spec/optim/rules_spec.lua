-- Every rule of core/optim/rules: twelve steps against PyTorch, in float64 and float32, its state
-- saved and taken up, and any layout of parameter and gradient.
-- Relies on spec/fixtures/training/rules.safetensors (see spec/fixtures/training.py).
-- Sources: core/optim/rules/*.c.

local core = require "perigee.core"
local H = require "spec.helper"
local pg = require "perigee"
local optim = pg.optim

local data, notes = core.io.load("spec/fixtures/training/rules.safetensors", "safetensors")
local cases = core.io.json_decode(notes.cases)

local function params(dtype)
  local list = {}
  for k = 1, 2 do
    list[k] = data["start." .. k]:to(dtype):clone()
    list[k].requires_grad = true
  end
  return list
end

local function step(opt, list, t, dtype)
  for k = 1, 2 do list[k].grad = data["grads." .. k][t]:to(dtype):clone() end
  opt:step()
end

describe("rules", function()
  for i, case in ipairs(cases) do
    local words = {}
    for key in pairs(case.options) do words[#words + 1] = key end
    table.sort(words)
    local label = ("%s {%s}"):format(case.rule, table.concat(words, ", "))
    for dtype, tolerance in pairs {float64 = 1e-10, float32 = 2e-4} do
      it(label .. " in " .. dtype, function()
        local list = params(dtype)
        local opt = optim[case.rule](list, case.options)
        for t = 1, 12 do
          step(opt, list, t, dtype)
          for k = 1, 2 do
            H.same(list[k]:detach(), data[i .. "." .. k][t]:to(dtype), tolerance)
          end
        end
      end)
    end
    it(label .. " goes on from its state_dict bit for bit", function()
      local one, two = params "float64", params "float64"
      local a = optim[case.rule](one, case.options)
      for t = 1, 5 do step(a, one, t, "float64") end
      local b = optim[case.rule](two, {})
      for k = 1, 2 do two[k]:detach():copy_(one[k]:detach()) end
      b:load_state_dict(a:state_dict())
      for t = 6, 12 do
        step(a, one, t, "float64")
        step(b, two, t, "float64")
      end
      for k = 1, 2 do H.same(two[k]:detach(), one[k]:detach(), 0) end
    end)
  end

  it("Adam with decoupled_weight_decay is AdamW bit for bit", function()
    for _, amsgrad in ipairs {false, true} do
      local one, two = params "float32", params "float32"
      local given = {lr = 0.05, weight_decay = 0.3, amsgrad = amsgrad}
      local w = optim.AdamW(two, given)
      given.decoupled_weight_decay = true
      local a = optim.Adam(one, given)
      assert.is_true(a.param_groups[1].decoupled_weight_decay)
      for t = 1, 4 do
        step(a, one, t, "float32")
        step(w, two, t, "float32")
      end
      for k = 1, 2 do H.same(one[k]:detach(), two[k]:detach(), 0) end
    end
  end)

  it("Lion moves by signs", function()
    local p = pg.tensor({1, 2, 3}, {requires_grad = true})
    local opt = optim.Lion({p}, {lr = 0.5, weight_decay = 0.1})
    p.grad = pg.tensor {2, -3, 0}
    opt:step()
    H.same(p:detach(), pg.tensor {1 * 0.95 - 0.5, 2 * 0.95 + 0.5, 3 * 0.95})
  end)

  it("move parameters of any dense layout by gradients of any layout", function()
    local plain = pg.arange(1, 12):to("float32"):reshape(3, 4)
    local grad = (pg.arange(1, 12):to("float32") / 7):reshape(3, 4)
    local a = plain:clone()
    a.requires_grad = true
    a.grad = grad:clone()
    optim.Adam({a}, {lr = 0.1}):step()
    local b = plain:t():contiguous():t()   -- columns first in memory
    b.requires_grad = true
    b.grad = grad:clone()
    optim.Adam({b}, {lr = 0.1}):step()
    H.same(b:detach(), a:detach(), 0)
  end)
end)
