-- nn.init: functions by name, gains.
-- Relies on busted and spec/helper.lua.
-- Sources: lua/perigee/nn/initial.lua.

local H = require "spec.helper"
local pg = require "perigee"
local nn = pg.nn

describe("nn.init", function()
  it("fills parameters in place", function()
    local lin = nn.Linear(30, 40)
    nn.init.uniform_(lin.weight, 2, 3)
    assert.is_true(lin.weight:min():item() >= 2 and lin.weight:max():item() <= 3)
    assert.is_true(lin.weight.requires_grad)
    nn.init.zeros_(lin.bias)
    assert.equal(0, lin.bias:abs():sum():item())
    nn.init.xavier_uniform_(lin.weight)
    assert.is_true(lin.weight:abs():max():item() <= math.sqrt(6 / 70))
    nn.init.kaiming_normal_(lin.weight)
    assert.near(math.sqrt(2 / 30), lin.weight:detach():std():item(), 0.02)
  end)
  it("knows gains", function()
    assert.equal(math.sqrt(2), nn.init.calculate_gain "relu")
    assert.equal(5 / 3, nn.init.calculate_gain "tanh")
    assert.near(math.sqrt(2 / 1.04), nn.init.calculate_gain("leaky_relu", 0.2), 1e-12)
    H.raises(function() nn.init.calculate_gain "rleu" end, "did you mean 'relu'")
    H.raises(function() return nn.init.kaiming end,
      "expected the name of a function, got 'kaiming', did you mean 'kaiming_normal_'%?")
  end)
  it("leaves a share of every column zero", function()
    local x = nn.Linear(20, 50).weight
    assert.equal(x, nn.init.sparse_(x, 0.25, {std = 2}))
    H.same((x:detach():eq(0)):sum(1), pg.full({20}, 13):to "int64")
    assert.near(2 * math.sqrt(0.74), x:detach():std():item(), 0.15)
    H.raises(function() nn.init.sparse_(pg.zeros(3), 0.5) end,
      "sparse_: argument 'tensor': expected 2 dims, got %[3%]")
    H.raises(function() nn.init.sparse_(pg.zeros(3, 2), 2) end,
      "sparse_: argument 'sparsity': expected 0 to 1, got 2")
    H.raises(function() nn.init.sparse_(pg.zeros(3, 2)) end,
      "sparse_: argument 'sparsity': expected a number, got nothing")
  end)
  it("draws uniformly between a and b, by position or by name", function()
    local uniform, x = nn.init.uniform_, pg.zeros(50)
    for _, args in ipairs {{2, 3}, {{a = 2, b = 3}}, {2, {b = 3}}} do
      uniform(x, table.unpack(args))
      assert.is_true(x:min():item() >= 2 and x:max():item() < 3)
    end
    H.raises(function() nn.init.uniform_(pg.zeros(5), {c = 2}) end, "unknown option 'c'")
  end)
end)
