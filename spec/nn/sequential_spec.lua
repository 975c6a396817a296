-- nn.Sequential: children, names, indexing, several inputs.
-- Relies on busted and spec/helper.lua.
-- Sources: lua/perigee/nn/sequential.lua.

local H = require "spec.helper"
local pg = require "perigee"
local nn = pg.nn

describe("nn.Sequential", function()
  it("runs its children one after the other", function()
    local a, b = nn.Linear(3, 4), nn.Linear(4, 2)
    local x = pg.randn(5, 3)
    H.same(nn.Sequential {a, nn.ReLU(), b}(x):detach(), b(a(x):relu()):detach(), 0)
    H.same(nn.Sequential(a, b)(x):detach(), b(a(x)):detach(), 0)
    assert.is_true(rawequal(x, nn.Sequential {}(x)))
    assert.same({5, 4}, nn.Sequential {a}(x).shape)
  end)
  it("counts children from 1, and goes by names where they have one", function()
    local net = nn.Sequential {nn.ReLU(), nn.Linear(2, 2, {name = "fc"}), nn.Tanh(), name = "head"}
    assert.equal("head", net.name)
    assert.equal(3, #net)
    assert.is_true(rawequal(net.fc, net[2]))
    assert.is_true(rawequal(net[-1], net[3]))
    assert.is_nil(net[4])
    assert.is_not_nil(net:state_dict()["fc.weight"])
    net:append(nn.Sigmoid())
    assert.equal("Sigmoid", net[4].class_name)
  end)
  it("hands several inputs to the first child", function()
    local net = nn.Sequential {nn.CenterLoss(3, 2), nn.Flatten(1)}
    assert.same({4}, net(pg.randn(4, 2), pg.randint(1, 3, {4})).shape)
  end)
  it("refuses what is no module", function()
    H.raises(function() nn.Sequential {nn.ReLU(), 3} end, "'child': .*got 3 as child 2")
    H.raises(function() nn.Sequential {nn.ReLU(), nam = "x"} end, "unknown option 'nam'")
    H.raises(function() nn.Sequential {nn.ReLU {name = "a"}, nn.ReLU {name = "a"}} end,
      "'name': expected names of children that differ, got 'a' twice")
  end)
end)
