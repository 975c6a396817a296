-- pg.nn: its names, classes by name, what it says of names that it lacks.
-- Relies on busted and spec/helper.lua.
-- Sources: lua/perigee/nn/init.lua.

local H = require "spec.helper"
local core = require "perigee.core"
local pg = require "perigee"
local nn = pg.nn

describe("pg.nn", function()
  it("has a class for every layer in C", function()
    for _, info in ipairs(core.layers()) do
      assert.equal(info.name, nn[info.name].class_name)
      assert.is_true(rawequal(nn[info.name], nn.class(info.name)))
    end
  end)
  it("knows classes by name", function()
    local mine = nn.Module:extend "OfMyOwn"
    assert.is_true(rawequal(mine, nn.class "OfMyOwn"))
    assert.is_true(rawequal(nn.Sequential, nn.class "Sequential"))
    assert.is_nil(nn.class "functional")
    assert.is_nil(nn.class "Nothing")
    local names = table.concat(nn.class_names(), " ")
    for _, name in ipairs {"Conv2d", "Sequential", "Model", "OfMyOwn"} do
      assert.matches(name, names, 1, true)
    end
  end)
  it("suggests the nearest name", function()
    H.raises(function() return nn.Liner end, "did you mean 'Linear'")
  end)
end)
