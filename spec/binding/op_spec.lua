-- Calls: positions, names, defaults, suggestions, operators, errors. Relies on spec/helper.lua.
-- Sources: lua/binding/op.c, lua/binding/args.c.

local H = require "spec.helper"
local core = require "perigee.core"
local pg = require "perigee"

describe("arguments", function()
  local x = core.tensor {{1, 2, 3}, {4, 5, 6}}
  it("come by position, by name, or both", function()
    H.same(x:sum(2, true), {{6}, {15}})
    H.same(x:sum(2, {keepdim = true}), {{6}, {15}})
    H.same(x:sum {dim = 2, keepdim = true}, {{6}, {15}})
    H.same(pg.sum(x, {2}), {6, 15})
  end)
  it("are missing, surplus, doubled or unknown with a clear error", function()
    H.raises(function() return pg.matmul(x) end, "matmul: argument 'other': .*got nothing")
    H.raises(function() return pg.zeros() end, "zeros: argument 'size': .*got nothing")
    H.raises(function() return x:exp(1, 2) end, "exp: expected at most 1 arguments, got 3")
    H.raises(function() return x:sum(1, {dim = 1}) end, "'dim': .*got it by position and by name")
    H.raises(function() return x:sum {kepdim = true} end, "did you mean 'keepdim'")
    H.raises(function() return x:sum("a") end, "sum: argument 'dim': expected .- got 'a'")
    H.raises(function() return x:sum(1.5) end, "got 1.5")
    H.raises(function() return pg.exp("x") end, "exp: argument 'input': expected a tensor, got 'x'")
    H.raises(function() return x:sum(1, 1) end, "argument 'keepdim': expected true or false, got 1")
  end)
  it("take shapes loose or as a table", function()
    assert.same({2, 3}, pg.zeros(2, 3).shape)
    assert.same({2, 3}, pg.zeros({2, 3}).shape)
    assert.same({}, pg.zeros({}).shape)
    assert.same({3, 2}, x:view(3, -1).shape)
    assert.equal("int64", pg.zeros(2, {dtype = "int64"}).dtype)
    assert.is_true(pg.zeros(2, {requires_grad = true}).requires_grad)
  end)
  it("take whole floats as integers", function()
    H.same(x:sum(2.0), {6, 15})
    H.same(x[2.0], {4, 5, 6})
  end)
end)

describe("operators", function()
  local x = core.tensor {1, 2, 4}
  it("work elementwise with numbers on either side", function()
    H.same(x + 1, {2, 3, 5})
    H.same(1 - x, {0, -1, -3})
    H.same(2 / x, {2, 1, 0.5})
    H.same(x ^ 2, {1, 4, 16})
    H.same(2 ^ x, {2, 4, 16})
    H.same(-x, {-1, -2, -4})
    H.same(x % 3, {1, 2, 1})
    H.same(x // 2, {0, 1, 2})
  end)
  it("join masks", function()
    local a, b = x:gt(1), x:lt(4)
    H.same(a & b, {false, true, false})
    H.same(a | b, {true, true, true})
    H.same(~a, {true, false, false})
  end)
  it("do not compare: methods do", function()
    H.raises(function() return x < x end, "x:lt")
    assert.equal(3, #x)
  end)
  it("promote as PyTorch does", function()
    assert.equal("int64", (core.tensor({1}, {dtype = "int64"}) + 1).dtype)
    assert.equal("float32", (core.tensor({1}, {dtype = "int64"}) + 1.5).dtype)
    assert.equal("float32", (x + core.tensor(1, {dtype = "float64"})).dtype)
    assert.equal("float64", (x + core.tensor({1}, {dtype = "float64"})).dtype)
    assert.equal("float32", (core.tensor({1}, {dtype = "uint8"}) / 2).dtype)
  end)
  it("say what they cannot combine", function()
    H.raises(function() return x + "a" end, "add: argument 'other': expected a tensor or a number")
  end)
end)

describe("the registry", function()
  it("describes every op for help and completion", function()
    for _, info in ipairs(core.op_info()) do
      assert.is_string(info.name)
      assert.is_table(info.params)
      for _, p in ipairs(info.params) do assert.is_string(p.kind, info.name .. "." .. p.name) end
    end
  end)
end)

describe("pg", function()
  it("suggests a name for one that it does not have", function()
    H.raises(function() return pg.onez(2) end, "did you mean 'ones'")
    H.raises(function() return pg.opim end, "did you mean 'optim'")
  end)

  it("gives every op of nn.functional as a function of pg too", function()
    for _, info in ipairs(core.op_info()) do
      if info.nn and not info.hidden and not info.inplace_only then
        assert.is_function(rawget(pg, info.name), info.name)
      end
    end
    H.same(pg.relu(pg.tensor {-1, 2}), pg.tensor {0, 2})
  end)
end)

describe("numbers among the arguments", function()
  it("keep their value in the graph of each call", function()
    local a = H.make({1, 2}, "float32", {2}):requires_grad_()
    local x, y = a * 2, a * 3.5
    local z = a / 4 + 7
    H.same(x, {2, 4})
    H.same(y, {3.5, 7})
    H.same(z, {7.25, 7.5})
    H.same(core.grad(x:sum() + y:sum() + z:sum(), a)[1], {5.75, 5.75})
    H.same(core.grad((a * 2):sum() * 5, a)[1], {10, 10})
    H.same(core.grad((a * 3):pow(2):sum(), a)[1], {18, 36})
  end)

  it("are integers or floats call by call", function()
    local a = H.make({1, 2}, "int64", {2})
    assert.equal("int64", (a + 1).dtype)
    assert.equal("float32", (a + 1.5).dtype)
    assert.equal("int64", (a * 2).dtype)
    H.same(a + 1, {2, 3})
    H.same(H.make({1}, "float64", {1}) + 0.1, {1.1}, 1e-15)
  end)
end)

it("a step in a scope takes no memory from the system once it has run", function()
  local nn = pg.nn
  local net = nn.Sequential {nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3)}
  local x, y = pg.rand(16, 4), pg.randint(1, 3, {16})
  for _, rule in ipairs {"SGD", "Adam"} do
    local opt = pg.optim[rule](net:parameters(), {lr = 0.01})
    local function step()
      local _ <close> = pg.scope()
      opt:zero_grad()
      nn.functional.cross_entropy(net(x) * 0.5, y):backward()
      opt:step()
    end
    for _ = 1, 3 do step() end
    collectgarbage()
    local before = core.memory()
    for _ = 1, 50 do step() end
    local after = core.memory()
    if after.cached > 0 then assert.equal(before.system, after.system) end
  end
end)

describe("inplace", function()
  local ops = core.ops
  it("is the last argument of activations and dropout, as PyTorch has it", function()
    local x = core.tensor {-1, 2}
    H.same(ops.relu(x, false), {0, 2})
    H.same(x, {-1, 2})
    assert.is_true(rawequal(x, ops.relu(x, true)))
    H.same(x, {0, 2})
    assert.is_true(rawequal(x, ops.leaky_relu(x, {negative_slope = 0.5, inplace = true})))
    assert.is_true(rawequal(x, ops.dropout(x, 0, true, true)))
    assert.is_false(rawequal(x, ops.hardtanh(x, -1, 1, false)))
    H.raises(function() ops.relu(x, {inplce = true}) end, "did you mean 'inplace'")
  end)
end)
