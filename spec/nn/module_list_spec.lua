-- nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict.
-- Relies on busted and spec/helper.lua.
-- Sources: lua/perigee/nn/module_list.lua.

local H = require "spec.helper"
local pg = require "perigee"
local nn = pg.nn

describe("containers that only hold", function()
  it("ModuleList counts from 1", function()
    local list = nn.ModuleList {nn.Linear(1, 2), nn.Linear(2, 3)}
    list:append(nn.ReLU())
    assert.equal(3, #list)
    local seen = {}
    for i, m in ipairs(list) do seen[i] = m.class_name end
    assert.same({"Linear", "Linear", "ReLU"}, seen)
    assert.is_not_nil(list:state_dict()["2.weight"])
    assert.is_true(rawequal(list[-1], list[3]))
    H.raises(function() nn.ModuleList {3} end, "expected a module")
    H.raises(function() list(pg.ones(1)) end, "expected a class with a method forward, got none")
  end)
  it("ModuleDict goes by names", function()
    local dict = nn.ModuleDict {b = nn.ReLU(), a = nn.Linear(1, 1)}
    assert.equal("ReLU", dict.b.class_name)
    assert.is_not_nil(dict:state_dict()["a.weight"])
  end)
  it("ParameterList holds parameters", function()
    local list = nn.ParameterList {pg.ones(2), nn.Parameter(pg.zeros(3))}
    assert.equal(2, #list)
    assert.is_true(list[1].requires_grad)
    assert.equal(2, #list:parameters())
  end)
  it("ParameterDict holds them by name", function()
    local dict = nn.ParameterDict {right = pg.ones(2), left = nn.Parameter(pg.zeros(3))}
    assert.is_true(dict.right.requires_grad)
    assert.same({3}, dict:state_dict().left.shape)
    assert.equal("ParameterDict(\n    (left): Parameter containing: [float32 of size 3]\n"
      .. "    (right): Parameter containing: [float32 of size 2]\n)", tostring(dict))
    H.raises(function() nn.ParameterDict {a = 3} end, "expected a tensor")
  end)
end)
