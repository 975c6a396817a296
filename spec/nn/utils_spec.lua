-- nn.utils: parameters as one vector. Clipping is in spec/optim/optim_spec.lua.
-- Relies on busted and spec/helper.lua.
-- Sources: lua/perigee/nn/utils.lua.

local H = require "spec.helper"
local pg = require "perigee"
local nn = pg.nn

describe("nn.utils", function()
  it("takes parameters to a vector and back", function()
    local lin = nn.Linear(2, 3)
    local v = nn.utils.parameters_to_vector(lin:parameters())
    assert.same({9}, v.shape)
    nn.utils.vector_to_parameters(pg.arange(1, 9):to("float32"), lin:parameters())
    H.same(lin.weight:detach(), {{1, 2}, {3, 4}, {5, 6}})
    H.same(lin.bias:detach(), {7, 8, 9})
    H.raises(function() nn.utils.vector_to_parameters(pg.ones(3), lin:parameters()) end, "9")
  end)
end)
