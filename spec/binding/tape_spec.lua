-- Compiled functions: the same bits as without, when they repeat and when they do not.
-- Relies on spec/helper.lua. Sources: lua/binding/tape.c, lua/perigee/compile.lua.

local core = require "perigee.core"
local pg = require "perigee"
local H = require "spec.helper"
local nn = pg.nn
local F = nn.functional

local function bytes_of(net)
  local list = {}
  for _, p in ipairs(net:parameters()) do list[#list + 1] = p:bytes() end
  for _, b in ipairs(net:buffers()) do list[#list + 1] = b:bytes() end
  return list
end

local function small()
  return nn.Sequential {nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)}
end

-- Trains twice from the same start, plainly and compiled. make() -> net, step, which gets
-- (x, y, k, net); between(k, net) runs before step k. @return the compiled step of the second
local function trains_the_same(make, between, batch_of)
  local states, losses, run = {}, {}, nil
  for pass = 1, 2 do
    pg.manual_seed(3)
    local net, step = make()
    run = pass == 1 and step or pg.compile(step)
    losses[pass] = {}
    for k = 1, 12 do
      if between then between(k, net) end
      local n = batch_of and batch_of(k) or 6
      local x, y = pg.randn(n, 4), pg.randint(1, 3, {n})
      losses[pass][k] = run(x, y):item()
    end
    states[pass] = bytes_of(net)
  end
  assert.same(losses[1], losses[2])
  assert.same(states[1], states[2])
  return run
end

local function trainer(rule, build, options)
  return function()
    local net = (build or small)()
    local opt = pg.optim[rule](net:parameters(), options or {lr = 0.1})
    return net, function(x, y)
      opt:zero_grad()
      local loss = F.cross_entropy(net(x), y)
      loss:backward()
      opt:step()
      return loss
    end, opt
  end
end

describe("a compiled step", function()
  it("trains to the same bits with any optimizer", function()
    for _, rule in ipairs {"SGD", "Adam", "RMSprop"} do
      local run = trains_the_same(trainer(rule))
      assert.same({replays = 10, tapes = 1, actions = 6, fused = 0}, pg.compile_info(run))
    end
    trains_the_same(trainer("SGD", nil, {lr = 0.1, momentum = 0.9, weight_decay = 0.01}))
  end)

  it("draws random numbers anew and keeps statistics", function()
    local run = trains_the_same(trainer("SGD", function()
      return nn.Sequential {nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3)}
    end))
    assert.equal(10, pg.compile_info(run).replays)
  end)

  it("computes in bfloat16 where fn does", function()
    local run = trains_the_same(function()
      local net = small()
      local opt = pg.optim.SGD(net:parameters(), {lr = 0.1})
      return net, function(x, y)
        opt:zero_grad()
        local out
        do
          local _ <close> = pg.autocast "bfloat16"
          out = net(x)
        end
        local loss = F.cross_entropy(out, y)
        loss:backward()
        opt:step()
        return loss
      end
    end)
    assert.equal(10, pg.compile_info(run).replays)
  end)

  it("has a tape for each shape", function()
    local run = trains_the_same(trainer("Adam"), nil, function(k) return k % 3 == 0 and 2 or 6 end)
    local info = pg.compile_info(run)
    assert.equal(2, info.tapes)
    assert.is_true(info.replays > 0)
  end)

  it("sees learning rates change, in groups and by schedulers outside", function()
    local opt, scheduler
    local function make()
      local net, step
      net, step, opt = trainer("SGD")()
      scheduler = pg.optim.lr_scheduler.StepLR(opt, {step_size = 2, gamma = 0.5})
      return net, step
    end
    local run = trains_the_same(make, function(k)
      if k == 5 then opt.param_groups[1].lr = 0.02 end
      if k > 6 then scheduler:step() end
    end)
    assert.equal(10, pg.compile_info(run).replays)
  end)

  it("sees training mode, frozen and replaced parameters, and hooks", function()
    local calls = {0, 0}
    local pass = 0
    local function build()
      pass = pass + 1
      return nn.Sequential {nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 3)}
    end
    trains_the_same(trainer("SGD", build), function(k, net)
      if k == 4 then net:eval() end
      if k == 6 then net:train() end
      if k == 8 then
        local mine = pass
        net[2]:register_forward_hook(function() calls[mine] = calls[mine] + 1 end)
      end
      if k == 10 then net[1].bias.requires_grad = false end
    end)
    assert.same({5, 5}, calls)
  end)

  it("goes on where a mode is set that is there already", function()
    local run = trains_the_same(trainer("SGD"), function(_, net) net:train() end)
    assert.equal(10, pg.compile_info(run).replays)
  end)

  it("works with clones that scopes keep", function()
    trains_the_same(function()
      local net, step = trainer("SGD")()
      return net, function(x, y)
        local scope <close> = pg.scope()
        local loss = scope:keep(step(x, y))
        return loss
      end
    end)
  end)
end)

describe("a compiled function", function()
  it("falls back where it branches on data", function()
    local f = pg.compile(function(x)
      if x:sum():item() > 0 then return x * 2 end
      return x - 1
    end)
    for _ = 1, 5 do H.same(f(H.make({1, 2}, "float32", {2})), {2, 4}) end
    H.same(f(H.make({-1, -2}, "float32", {2})), {-2, -3})
    assert.equal(0, pg.compile_info(f).replays)
  end)

  it("falls back for comparisons, indices, gradients and tensors made of numbers", function()
    local cases = {
      function(x) return x[1] + 1 end,
      function(x) return x + x:max().data:item() end,
      function(x) return x * pg.tensor {2, 3} end,
      function(x)
        local w = x:detach():requires_grad_()
        w:sum():backward()
        return w.grad * 1
      end,
      function(x) return pg.grad((x * 1):pow(2):sum(), x)[1] end,
      function(x) return x:sum() > pg.zeros() and x + 1 or x end,
    }
    for k, fn in ipairs(cases) do
      local f = pg.compile(fn)
      for i = 1, 4 do
        local x = H.make({i, -2 * i}, "float32", {2}):requires_grad_()
        local ok, value = pcall(f, x)
        local ok2, value2 = pcall(fn, x)
        assert.equal(ok2, ok)
        if ok then assert.equal(value2:bytes(), value:bytes(), "case " .. k) end
      end
      assert.equal(0, pg.compile_info(f).replays)
    end
  end)

  it("follows upvalues that change", function()
    local count, h = 0, pg.zeros(2)
    local f = pg.compile(function(x)
      h = h * 0.5 + x
      return h * count
    end)
    local want = {0, 0}
    for _ = 1, 6 do
      count = count + 1
      local got = f(pg.ones(2))
      want = {want[1] * 0.5 + 1, want[2] * 0.5 + 1}
      H.same(got, {want[1] * count, want[2] * count}, 1e-6)
    end
    assert.equal(0, pg.compile_info(f).replays)
  end)

  it("sees whether a tensor requires grad", function()
    local w = pg.ones(1)
    local f = pg.compile(function(x) return w.requires_grad and x + 1 or x - 1 end)
    for _ = 1, 4 do H.same(f(pg.zeros(1)), {-1}) end
    w.requires_grad = true
    for _ = 1, 4 do H.same(f(pg.zeros(1)), {1}) end
  end)

  it("notices state in modules that differs from call to call", function()
    local Running = nn.Module:extend "Running"
    function Running:init() self.last = false end
    function Running:forward(x)
      local y = self.last and self.last + x or x * 1
      rawset(self, "last", y)
      return y
    end
    local net = Running()
    local f = pg.compile(function(x) return net(x) end)
    for k = 1, 5 do H.same(f(pg.ones(2)), {k, k}) end
  end)

  it("tells plain arguments apart and returns what fn returns", function()
    local f = pg.compile(function(x, power, flip, name)
      return flip and -x:pow(power) or x:pow(power), power, name, nil, true
    end)
    local x = H.make({1, 2}, "float32", {2})
    for _ = 1, 4 do
      for _, power in ipairs {2, 3} do
        local y, p, name, none, yes = f(x, power, power == 3, nil)
        H.same(y, power == 2 and {1, 4} or {-1, -8})
        assert.same({power, nil, nil, true}, {p, name, none, yes})
      end
    end
    H.same((f(x, 2.0, false)), {1, 4})
  end)

  it("repeats calls whose plain arguments stay", function()
    local f = pg.compile(function(x, power) return x:pow(power):sum(1, true), power end)
    for k = 1, 6 do
      local y, p = f(H.make({k, 2}, "float32", {2}), 2)
      H.same(y, {k * k + 4})
      assert.equal(2, p)
    end
    assert.same({replays = 4, tapes = 1, actions = 2, fused = 0}, pg.compile_info(f))
  end)

  it("lets gradients flow through what it returns", function()
    local w = H.make({2, 3}, "float64", {2}):requires_grad_()
    local f = pg.compile(function(x) return (x * w):sin() end)
    for k = 1, 5 do
      local x = H.make({k, -k}, "float64", {2}):requires_grad_()
      w.grad = nil
      f(x):sum():backward()
      H.same(w.grad, {k * math.cos(2 * k), -k * math.cos(-3 * k)}, 1e-12)
      H.same(x.grad, {2 * math.cos(2 * k), 3 * math.cos(-3 * k)}, 1e-12)
    end
    assert.equal(3, pg.compile_info(f).replays)
  end)

  it("keeps grad modes, in-place ops, lists and creation", function()
    local function fn(x)
      local noise = pg.randn(2, {dtype = x.dtype})
      local y = pg.cat({x, noise, x * 2}):clone()
      y:add_(1)
      do
        local _ <close> = pg.no_grad()
        y = y * 2
      end
      return y:view(3, 2), x.requires_grad
    end
    local f = pg.compile(fn)
    for k = 1, 6 do
      local x = H.make({k, 1}, "float32", {2})
      pg.manual_seed(k)
      local a, on = f(x)
      pg.manual_seed(k)
      local b = fn(x)
      assert.equal(b:bytes(), a:bytes())
      assert.is_false(on)
    end
    assert.equal(4, pg.compile_info(f).replays)
  end)

  it("raises the errors of its ops and goes on", function()
    local net = small()
    local f = pg.compile(function(x, y)
      local loss = F.cross_entropy(net(x), y)
      loss:backward()
      return loss
    end)
    local x = pg.rand(2, 4)
    for _ = 1, 4 do f(x, H.make({1, 2}, "int64", {2})) end
    H.raises(function() f(x, H.make({1, 4}, "int64", {2})) end, "got label 4 in row 2")
    assert.is_true(f(x, H.make({1, 2}, "int64", {2})):item() > 0)
    H.raises(function() f(pg.rand(2, 5), H.make({1, 2}, "int64", {2})) end, "linear")
    assert.is_true(f(x, H.make({1, 2}, "int64", {2})):item() > 0)
    local g = pg.compile(function() error "mine" end)
    for _ = 1, 3 do H.raises(g, "mine") end
  end)

  it("may call another, and is no part of a profile", function()
    local inner = pg.compile(function(x) return x + 1 end)
    local outer = pg.compile(function(x) return inner(x) * 2 end)
    for k = 1, 5 do
      H.same(inner(H.make({k}, "float32", {1})), {k + 1})
      H.same(outer(H.make({k}, "float32", {1})), {2 * k + 2})
    end
    assert.equal(3, pg.compile_info(outer).replays)
    local prof = pg.profiler(function() outer(pg.ones(1)) end)
    assert.equal("mul", prof:events()[3].name)
  end)

  it("gives its memory back, and survives every failing allocation", function()
    collectgarbage()
    collectgarbage()
    local net = small()
    local x, y = pg.rand(6, 4), pg.randint(1, 3, {6})
    local function fn(a, b)
      local loss = F.cross_entropy(net(a), b)
      loss:backward()
      net:zero_grad()
      return loss
    end
    fn(x, y)
    local want = fn(x, y):item()
    collectgarbage()
    collectgarbage()
    local before = core.memory().live
    for n = 1, 60 do
      local f = pg.compile(fn)
      core.fail_after(n)
      for _ = 1, 4 do
        local ok, loss = pcall(f, x, y)
        if ok then assert.equal(want, loss:item()) end
        net:zero_grad()
      end
      core.fail_after(0)
      assert.equal(want, f(x, y):item())
    end
    collectgarbage()
    collectgarbage()
    assert.equal(before, core.memory().live)
  end)

  it("refuses what is no function", function()
    H.raises(function() pg.compile(1) end, "pg.compile: argument 'fn': expected a function")
    H.raises(function() pg.compile_info(print) end, "expected what pg.compile returned")
  end)
end)

it("compiled functions repeat under the autocast that they were noted under", function()
  local w = pg.randn(6, 4)
  local product = pg.compile(function(x) return F.linear(x, w) end)
  local x = pg.randn(3, 4)
  for k = 1, 12 do
    local half = k > 4 and k < 9
    local y = half and pg.autocast("bfloat16", product, x) or product(x)
    assert.equal(half and "bfloat16" or "float32", y.dtype)
  end
end)
