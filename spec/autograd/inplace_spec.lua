-- Gradients through operations in place: backward sees what was there before.
-- Relies on spec/helper.lua. Sources: core/autograd/apply.c.

local H = require "spec.helper"

describe("in place", function()
  it("keeps what backward needs of the overwritten tensor", function()
    H.gradcheck(function(x) return x:clone():sin_() end, H.t64.randn(3))
    H.gradcheck(function(x) return x:clone():square_():sin_():mul_(3) end, H.t64.randn(3))
    H.gradcheck(function(x, y) return x:clone():mul_(y):div_(y + 3) end, H.t64.randn(2, 3),
      H.t64.positive(3))
  end)
  it("works where both operands are the same tensor", function()
    H.gradcheck(function(x)
      local y = x:clone()
      return y:mul_(y)
    end, H.t64.randn(3))
  end)
  it("has second gradients", function()
    H.gradgradcheck(function(x) return x:clone():sin_():square_() end, H.t64.randn(3))
  end)
  it("still refuses to go back through a saved tensor that was changed later", function()
    local x = H.t64.randn(3)
    x.requires_grad = true
    local y = x * 1
    local z = y:sin()
    y:add_(1)
    H.raises(function() z:sum():backward() end, "changed in place")
  end)
end)
