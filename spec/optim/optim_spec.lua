-- Optimizers: groups, binding, options, gradients, clipping, determinism, errors.
-- Relies on busted and spec/helper.lua.
-- Sources: core/optim/optim.c, core/optim/clip.c, lua/binding/optim.c, lua/perigee/optim/init.lua.

local H = require "spec.helper"
local core = require "perigee.core"
local pg = require "perigee"
local optim, nn = pg.optim, pg.nn

local function param(...)
  local p = pg.tensor({...})
  p.requires_grad = true
  p.grad = pg.ones(select("#", ...))
  return p
end

describe("optimizers", function()
  it("move what has a gradient only", function()
    local a, b = param(1, 2), pg.tensor({3.0}, {requires_grad = true})
    optim.SGD({a, b}, {lr = 0.5}):step()
    H.same(a:detach(), pg.tensor {0.5, 1.5})
    H.same(b:detach(), pg.tensor {3})
  end)
  it("have groups with rates of their own, assignable", function()
    local a, b = param(1), param(1)
    local opt = optim.SGD({{params = {a}}, {params = {b}, lr = 0.1}}, {lr = 0.5})
    assert.equal(0.5, opt.param_groups[1].lr)
    assert.equal(0.1, opt.param_groups[2].lr)
    opt.param_groups[1].lr = 0.25
    opt:step()
    H.same(a:detach(), pg.tensor {0.75})
    H.same(b:detach(), pg.tensor {0.9})
    opt:add_param_group {params = {param(1)}, lr = 2}
    assert.equal(2, opt.param_groups[3].lr)
    assert.equal(0.25, opt.param_groups[1].lr)
  end)
  it("wait for their parameters", function()
    local opt = optim.SGD {lr = 0.5, momentum = 0.9}
    assert.is_false(opt:is_bound())
    H.raises(function() opt:step() end,
      "expected an optimizer with parameters, got none yet")
    opt.param_groups[1].lr = 0.25
    local p = param(1)
    opt:bind {p}
    assert.is_true(opt:is_bound())
    opt:step()
    H.same(p:detach(), pg.tensor {0.75})
    H.raises(function() opt:bind {p} end,
      "optim%.SGD:bind: expected an optimizer without parameters, got one that has them")
    assert.is_false(optim.Adam():is_bound())
  end)
  it("take options by position and by name", function()
    local p = param(1)
    assert.equal(0.3, optim.SGD({p}, 0.3).param_groups[1].lr)
    assert.equal(0.8, optim.SGD({p}, 0.3, 0.8).param_groups[1].momentum)
    assert.same({0.5, 0.9}, optim.Adam({p}, {betas = {0.5, 0.9}}).param_groups[1].betas)
    assert.equal(1e-3, optim.Adam({p}).param_groups[1].lr)
  end)
  it("forget or fill gradients", function()
    local p = param(1, 2)
    local opt = optim.SGD({p}, {lr = 1})
    opt:zero_grad(false)
    H.same(p.grad, pg.zeros(2))
    opt:zero_grad()
    assert.is_nil(p.grad)
  end)
  it("run a closure with gradients on", function()
    local p = pg.tensor({2.0}, {requires_grad = true})
    local opt = optim.SGD({p}, {lr = 0.1})
    local _ <close> = pg.no_grad()
    local loss = opt:step(function()
      local l = (p * p):sum()
      l:backward()
      return l
    end)
    assert.equal(4, loss:item())
    H.same(p:detach(), pg.tensor {1.6})
  end)
  it("give the same bits on one thread and on two", function()
    local results = {}
    for threads = 1, 2 do
      local before = core.num_threads()
      core.num_threads(threads)
      local p = pg.linspace(-1, 1, 50000)
      p.requires_grad = true
      p.grad = pg.linspace(3, -2, 50000)
      local opt = optim.AdamW({p}, {lr = 0.01})
      for _ = 1, 3 do opt:step() end
      results[threads] = p:detach():bytes()
      core.num_threads(before)
    end
    assert.is_true(results[1] == results[2])
  end)
  it("refuse what cannot be", function()
    local p = param(1)
    H.raises(function() optim.SGD({p}, {lr = -1}) end, "'lr': expected at least 0, got %-1")
    H.raises(function() optim.SGD({p}, {lr = "x"}) end, "'lr': expected a number, got 'x'")
    H.raises(function() optim.SGD({p}, {lr = 0 / 0}) end, "lr")
    H.raises(function() optim.SGD({p}, {momentun = 1}) end, "did you mean 'momentum'")
    H.raises(function() optim.SGD {momentun = 1} end, "did you mean 'momentum'")
    H.raises(function() optim.SGD({p}, {nesterov = true}) end, "'nesterov': .*got 0 and 0")
    H.raises(function() optim.Adam({p}, {betas = {0.9, 1}}) end, "'betas': expected 0 to below 1")
    H.raises(function() optim.Adam({p}, {betas = 0.9}) end, "list of 2 numbers")
    H.raises(function() optim.SGD({p, p}, {lr = 1}) end,
      "'params': expected each tensor once, got %[1%] again as parameter 2")
    H.raises(function() optim.SGD({p * 2}, {lr = 1}) end, "result of an op")
    H.raises(function() optim.SGD({3}, {lr = 1}) end, "'params': .*got 3 as parameter 1")
    H.raises(function() optim.SGD({pg.tensor({1}, {dtype = "int64"})}, {lr = 1}) end, "float32")
    H.raises(function() return optim.Sgd end, "did you mean 'SGD'")
    local opt = optim.SGD({p}, {lr = 1})
    H.raises(function() opt.param_groups[1].momentum = -1 end, "expected at least 0")
    H.raises(function() opt.param_groups[1].lr = 0 / 0 end, "'lr': expected a number, got nan")
    assert.equal(1, opt.param_groups[1].lr)
    opt.param_groups[1].lr = -0.25   -- what chained schedules may come to
    assert.equal(-0.25, opt.param_groups[1].lr)
  end)
  it("refuse a state that does not fit, changing nothing", function()
    local p = param(1, 2)
    local opt = optim.Adam({p}, {lr = 0.1})
    opt:step()
    local state = opt:state_dict()
    state.state[1].exp_avg = pg.zeros(3)
    state.param_groups[1].lr = 7
    H.raises(function() opt:load_state_dict(state) end, "exp_avg")
    assert.equal(0.1, opt.param_groups[1].lr)
  end)
  it("clip gradients by their joint norm", function()
    local a, b = param(1, 1, 1), param(1)
    assert.equal(2, nn.utils.clip_grad_norm_({a, b}, 1))
    H.same(a.grad, pg.full({3}, 1 / (2 + 1e-6)))
    a.grad, b.grad = pg.tensor {3, -4, 0}, pg.tensor {1}
    assert.equal(8, nn.utils.clip_grad_norm_({a, b}, 100, 1))
    assert.equal(4, nn.utils.clip_grad_norm_({a, b}, 100, {norm_type = math.huge}))
    H.same(a.grad, pg.tensor {3, -4, 0})
    nn.utils.clip_grad_value_({a, b}, 2)
    H.same(a.grad, pg.tensor {2, -2, 0})
  end)
  it("measure gradients of any size, dtype and memory order with any number of threads", function()
    local params, all = {}, {}
    for i, shape in ipairs {{3}, {0}, {200, 301}, {16384}, {40000}, {70, 80}} do
      local dtype = i % 2 == 0 and "float64" or "float32"
      local p = pg.zeros(shape, {dtype = dtype, requires_grad = true})
      p.grad = pg.randn(shape, {dtype = dtype})
      if i == 6 then p.grad = pg.randn(70, 160, {dtype = dtype}):narrow(2, 3, 80) end
      params[i], all[i] = p, p.grad:double():reshape(-1)
    end
    params[#params + 1] = param() -- without a gradient
    params[#params].grad = nil
    all = pg.cat(all, 1)
    local threads = pg.get_num_threads()
    for _, p in ipairs {1, 2, 3, math.huge} do
      local norm = {}
      for n = 1, 2 do
        pg.set_num_threads(n)
        norm[n] = nn.utils.clip_grad_norm_(params, 1e9, p)
      end
      pg.set_num_threads(threads)
      assert.equal(norm[1], norm[2])
      local want = all:norm(p):item()
      assert.is_true(math.abs(norm[1] / want - 1) < 1e-12, ("p %g: %g"):format(p, norm[1]))
    end
    nn.utils.clip_grad_norm_(params, 1)
    assert.is_true(math.abs(nn.utils.clip_grad_norm_(params, 1e9) - 1) < 1e-6)
    params[3].grad[{7, 11}] = 0 / 0
    for _, p in ipairs {1, 2, 3, math.huge} do
      local norm = nn.utils.clip_grad_norm_(params, 1e9, p)
      assert.is_true(norm ~= norm)
    end
  end)
  it("print their groups", function()
    assert.matches("lr: 0.5", tostring(optim.SGD({param(1)}, {lr = 0.5})), 1, true)
  end)
end)
