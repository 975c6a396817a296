-- Layers and the activations behind them as one op: bits, gradients, who may look.
-- Relies on busted and spec/helper.lua.
-- Sources: core/autograd/apply.c, core/autograd/backward.c, core/nn/layer.c, lua/binding/layer.c,
-- lua/perigee/nn/layer.lua, lua/perigee/nn/sequential.lua, lua/perigee/nn/model.lua.

local core = require "perigee.core"
local pg = require "perigee"
local H = require "spec.helper"
local nn = pg.nn

--- Children one by one, through Lua.
local function apart(net, x)
  for i = 1, #net do x = net[i](x) end
  return x
end

--- The names of the ops that ran.
local function ops_of(fn)
  local names = {}
  for _, e in ipairs(pg.profiler(fn):events()) do
    if e.kind == "op" then names[#names + 1] = e.name end
  end
  return table.concat(names, " ")
end

--- Result, all gradients and buffers of one pass, which leaves the net as it was.
local function pass(net, run, x)
  local before = {}
  for key, value in pairs(net:state_dict()) do before[key] = value:clone() end
  x = H.leaf(x, true)
  net:zero_grad()
  local y = run(net, x)
  y:backward(H.cotangent(y))
  local found = {y:detach(), x.grad}
  for _, p in ipairs(net:parameters()) do found[#found + 1] = p.grad:clone() end
  for _, b in ipairs(net:buffers()) do found[#found + 1] = b:clone() end
  net:load_state_dict(before)
  return found
end

local function same_bits(a, b)
  assert.equal(#a, #b)
  for i = 1, #a do H.identical(a[i], b[i]) end
end

local function together(net, x) return net(x) end

local FIRST = {
  Linear = {function() return nn.Linear(7, 5) end, {9, 7}},
  ["Linear of three dims"] = {function() return nn.Linear(7, 5, {bias = false}) end, {3, 4, 7}},
  Conv1d = {function() return nn.Conv1d(3, 6, 3) end, {2, 3, 11}},
  Conv2d = {function() return nn.Conv2d(3, 6, 5, {stride = 2, groups = 3}) end, {2, 3, 11, 9}},
  ["Conv2d by Winograd"] = {function() return nn.Conv2d(32, 32, 3, {padding = 1}) end,
    {4, 32, 13, 10}},
  ["Conv2d that pads"] = {function()
    return nn.Conv2d(3, 6, 3, {padding = 1, padding_mode = "reflect"})
  end, {2, 3, 8, 8}},
  ConvTranspose2d = {function() return nn.ConvTranspose2d(3, 4, 3) end, {2, 3, 5, 5}},
  ["BatchNorm1d of rows"] = {function() return nn.BatchNorm1d(300) end, {21, 300}},
  ["BatchNorm2d of planes"] = {function() return nn.BatchNorm2d(5) end, {4, 5, 7, 9}},
  ["BatchNorm2d without statistics"] = {function()
    return nn.BatchNorm2d(5, {track_running_stats = false, affine = false})
  end, {4, 5, 7, 9}},
  LayerNorm = {function() return nn.LayerNorm(6) end, {5, 6}},
  Identity = {function() return nn.Identity() end, {5, 6}},
}

describe("a layer and the activation behind it", function()
  for name, case in pairs(FIRST) do
    it(("give the bits of the two: %s"):format(name), function()
      for _, activation in ipairs {"ReLU", "Sigmoid", "Tanh"} do
        for _, dtype in ipairs {"float32", "float64", "bfloat16"} do
          for _, training in ipairs {true, false} do
            pg.manual_seed(5)
            local net = nn.Sequential {case[1](), nn[activation]()}:to(dtype)
            net:train(training)
            local x = pg.randn(case[2]):to(dtype)
            same_bits(pass(net, together, x), pass(net, apart, x))
          end
        end
      end
    end)
  end

  it("give the bits of the two on channels-last images", function()
    pg.manual_seed(6)
    for _, width in ipairs {8, 300} do
      local net = nn.Sequential {nn.Conv2d(2, width, 3), nn.BatchNorm2d(width), nn.ReLU(),
        nn.Conv2d(width, 3, 1), nn.Tanh()}
      local x = pg.randn(3, 2, 9, 8)
      for _, training in ipairs {true, false} do
        net:train(training)
        same_bits(pass(net, together, x), pass(net, apart, x))
      end
      net:double()
      same_bits(pass(net, together, x:double()), pass(net, apart, x:double()))
    end
  end)

  it("give the bits of the two under autocast", function()
    pg.manual_seed(7)
    local net = nn.Sequential {nn.Linear(12, 9), nn.ReLU(), nn.BatchNorm1d(9), nn.ReLU(),
      nn.Linear(9, 4), nn.Sigmoid()}
    local x = pg.randn(6, 12)
    local function cast(run)
      return function(...)
        local _ <close> = pg.autocast "bfloat16"
        return run(...)
      end
    end
    same_bits(pass(net, cast(together), x), pass(net, cast(apart), x))
  end)

  it("keep what is not finite, and the sign of zero", function()
    local x = pg.tensor {{1 / 0, -1 / 0, 0 / 0, -0.0, 0.0, -1e-30, 2}}:t()
    local net = nn.Sequential {nn.BatchNorm1d(1), nn.ReLU()}:eval()
    same_bits(pass(net, together, x), pass(net, apart, x))
    pg.manual_seed(12)
    net = nn.Sequential {nn.Conv2d(16, 16, 3, {padding = 1}), nn.ReLU()}
    x = pg.randn(4, 16, 12, 12)
    x[{1, 1, 1, 1}], x[{2, 1, 1, 1}] = 0 / 0, -1 / 0
    local a, b = net(x):detach(), apart(net, x):detach()
    assert.is_true(a:isnan():any():item() and a:eq(0):any():item())
    H.identical(a, b)
  end)

  it("give the bits of one thread with two", function()
    pg.manual_seed(8)
    local net = nn.Sequential {nn.Conv2d(16, 64, 3, {padding = 1}), nn.BatchNorm2d(64), nn.ReLU(),
      nn.Conv2d(64, 16, 3, {padding = 1}), nn.ReLU()}
    local x, found = pg.randn(4, 16, 24, 24), {}
    local threads = core.num_threads()
    for n = 1, 2 do
      core.num_threads(n)
      found[n] = pass(net, together, x)
    end
    core.num_threads(threads)
    same_bits(found[1], found[2])
  end)

  it("have the gradients of the function, also the second ones", function()
    pg.manual_seed(9)
    local nets = {
      nn.Sequential {nn.Linear(3, 4), nn.Tanh()},
      nn.Sequential {nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2), nn.Sigmoid()},
      nn.Sequential {nn.Conv1d(3, 2, 1), nn.BatchNorm1d(2), nn.ReLU()},
    }
    for i, net in ipairs(nets) do
      net:double()
      local x = i == 3 and pg.randn({4, 3, 2}, {dtype = "float64"})
        or pg.randn({4, 3}, {dtype = "float64"})
      H.gradcheck(net, x)
      H.gradgradcheck(net, x)
    end
  end)

  it("run as one op, in nn.Sequential and in a graph", function()
    local x = pg.randn(2, 3, 6, 6)
    local net = nn.Sequential {nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(),
      nn.Linear(64, 5), nn.Tanh(), nn.Linear(5, 2), nn.Sigmoid()}
    assert.equal("conv2d batch_norm+relu flatten linear+tanh linear+sigmoid",
      ops_of(function() net(x) end))
    local input = nn.Input({3, 6, 6}, {name = "image"})
    local h = input
    for i = 1, #net do h = net[i](h) end
    local model = nn.Model(input, h)
    assert.equal("conv2d batch_norm+relu flatten linear+tanh linear+sigmoid",
      ops_of(function() model(x) end))
    same_bits(pass(net, together, x), pass(net, function(_, v) return model(v) end, x))
  end)

  it("are two ops in a graph where somebody else reads between them", function()
    local input = nn.Input({4}, {name = "x"})
    local first = nn.Linear(4, 3, {name = "first"})(input)
    local model = nn.Model(input, {nn.ReLU {name = "last"}(first), nn.Tanh {name = "other"}(first)})
    local x = pg.randn(2, 4)
    assert.equal("linear relu tanh", ops_of(function() model(x) end))
    local chain = nn.Model(input, nn.ReLU()(first))
    assert.equal("linear+relu", ops_of(function() chain(x) end))
    assert.equal("linear relu", ops_of(function() chain:compute({"first", "relu"}, {x = x}) end))
  end)

  it("are two ops where a hook or a class of one's own stands in between", function()
    local x = pg.randn(2, 3)
    local calls = 0
    local function look() calls = calls + 1 end
    for i = 1, 2 do
      local net = nn.Sequential {nn.Linear(3, 4), nn.ReLU()}
      local hook = net[i]:register_forward_hook(look)
      assert.equal("linear relu", ops_of(function() net(x) end))
      hook.remove()
      net[i]:register_forward_pre_hook(look)
      net(x)
    end
    assert.equal(4, calls)
    local Mine = nn.ReLU:extend "MineForJoin"
    local mine = nn.Sequential {nn.Linear(3, 4), Mine()}
    assert.equal("linear relu", ops_of(function() mine(x) end))
    local replaced = nn.Sequential {nn.Linear(3, 4), nn.ReLU()}
    replaced[2].forward = function(_, v) return v * 2 end
    H.same(replaced(x):detach(), (replaced[1](x) * 2):detach(), 0)
  end)

  it("are two ops where the first keeps its result, changes its input, or gives a view", function()
    local x = pg.randn(2, 4)
    assert.equal("tanh relu", ops_of(function() nn.Sequential {nn.Tanh(), nn.ReLU()}(x) end))
    local y = x:clone()
    assert.equal("hardswish relu", ops_of(function()
      nn.Sequential {nn.Hardswish {inplace = true}, nn.ReLU()}(y)
    end))
    y = x:clone()
    nn.Sequential {nn.Flatten(), nn.ReLU {inplace = true}}(y)
    H.same(y, x:relu(), 0)
    y = x:clone()
    nn.Sequential {nn.Identity(), nn.ReLU {inplace = true}}(y)
    H.same(y, x:relu(), 0)
  end)

  it("are two ops in anomaly mode", function()
    local net = nn.Sequential {nn.Linear(2, 2), nn.ReLU()}
    local _ <close> = pg.detect_anomaly()
    local x = pg.randn(1, 2)
    assert.equal("linear relu", ops_of(function() net(x) end))
  end)

  it("may be in place, shared and twice in a row", function()
    pg.manual_seed(10)
    local linear, relu = nn.Linear(4, 4), nn.ReLU {inplace = true}
    local net = nn.Sequential {linear, relu, linear, relu, nn.ReLU()}
    local x = pg.randn(3, 4)
    same_bits(pass(net, together, x), pass(net, apart, x))
  end)

  it("say when their result was changed in place", function()
    local net = nn.Sequential {nn.Linear(2, 2), nn.Sigmoid()}
    local y = net(pg.randn(3, 2))
    y:mul_(2)
    H.raises(function() y:sum():backward() end,
      "linear: the result %[3 x 2%] was changed in place, but its gradient needs the old value")
  end)

  it("name the layer of a wrong input", function()
    local net = nn.Sequential {nn.Linear(3, 2, {name = "fc"}), nn.ReLU()}
    H.raises(function() net(pg.randn(2, 4)) end,
      "^[^\n]*join_spec.lua:%d+: linear: argument 'input': .*%(in layer Linear 'fc'%)$")
    H.raises(function() net("x") end, "Linear: argument 'input': expected a tensor, got string")
    H.raises(function() nn.Sequential {nn.Identity(), nn.ReLU {name = "act"}}(pg.tensor {true}) end,
      "relu: argument 'input': .*%(in layer ReLU 'act'%)$")
  end)

  it("show in a profile as layers of their own, of which the second has nothing to do", function()
    local net = nn.Sequential {nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)}
    local x = pg.randn(5, 3)
    local profile = pg.profiler(function() net(x):sum():backward() end)
    local rows = {}
    for _, row in ipairs(profile:key_averages {group_by = "layer"}) do rows[row.key] = row end
    for i = 1, 3 do assert.equal(1, rows["Sequential." .. i].count) end
    assert.equal(0, rows["Sequential.2"].flops)
    local found = {}
    for _, row in ipairs(profile:key_averages()) do found[row.key] = row end
    assert.equal(2 * 5 * 3 * 4 + 5 * 4, found["linear+relu"].flops)
    assert.equal(1, found["linear+relu_backward"].count)
  end)

  it("give results between layers back at once", function()
    local net = nn.Sequential {}
    for i = 1, 40, 2 do
      net:append(nn.Linear(64, 64))
      net:append(i % 4 == 1 and nn.ReLU() or nn.GELU())
    end
    local x = pg.randn(1024, 64)
    local _ <close> = pg.no_grad()
    local _ <close> = pg.scope()
    net(x)
    local before = core.memory().live
    collectgarbage "stop"
    local y = net(x)
    collectgarbage "restart"
    assert.is_true(core.memory().live - before <= 2 * 1024 * 64 * 4)
    assert.is_not_nil(y)
  end)

  it("are one op in a compiled step too", function()
    local function train(compiled)
      pg.manual_seed(13)
      local net = nn.Sequential {nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 16, 3, {padding = 1}), nn.ReLU(), nn.Flatten(), nn.Linear(1600, 24),
        nn.Sigmoid(), nn.Linear(24, 3)}
      local opt = pg.optim.SGD(net:parameters(), {lr = 0.1})
      local function step(x, y)
        opt:zero_grad()
        local loss = nn.functional.cross_entropy(net(x), y)
        loss:backward()
        opt:step()
        return loss
      end
      local run = compiled and pg.compile(step) or step
      for _ = 1, 8 do
        local _ <close> = pg.scope()
        run(pg.randn(16, 3, 12, 12), pg.randint(1, 3, {16}))
      end
      local found = {}
      for key, value in pairs(net:state_dict()) do found[key] = value end
      return found, compiled and pg.compile_info(run)
    end
    local a, info = train(true)
    local b = train(false)
    assert.is_true(info.replays > 0)
    for key, value in pairs(a) do H.identical(value, b[key]) end
  end)

  it("survive failing allocations", function()
    pg.manual_seed(11)
    local net = nn.Sequential {nn.Linear(6, 5), nn.ReLU(), nn.BatchNorm1d(5), nn.ReLU(),
      nn.Linear(5, 2), nn.Tanh()}
    net:eval()
    local x = H.leaf(pg.randn(4, 6), true)
    local function run()
      net:zero_grad()
      x.grad = nil
      local y = net(x)
      y:backward(H.cotangent(y))
      return x.grad
    end
    local expected = run():clone()
    for n = 1, 400 do
      core.fail_after(n)
      local ok, message = pcall(run)
      core.fail_after(-1)
      if ok then break end
      assert.matches("out of memory", message)
      assert.is_true(n < 400)
    end
    H.identical(run(), expected)
  end)
end)
