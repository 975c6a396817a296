-- Gradients written as formulas: numbers stay exact, every operator and call is recorded.
-- Source: core/autograd/formula.c. Relies on spec/helper.lua.

local core = require "perigee.core"
local H = require "spec.helper"
local ops = core.ops

describe("a gradient formula", function()
  local t = H.generator("float64", 8)

  it("keeps numbers in float64", function()
    local a, b = H.leaf(t.randn(3), true), H.leaf(t.randn(3), true)
    core.backward(ops.lerp(a, b, 0.3), ops.ones({3}, {dtype = "float64"}), {create_graph = true})
    H.same(a.grad, {0.7, 0.7, 0.7}, 1e-15)
    H.same(b.grad, {0.3, 0.3, 0.3}, 1e-15)
    a.grad, b.grad = nil, nil
  end)

  it("may have a number for every operand of a call", function() -- log(2) in the gradient of 2^x
    H.gradcheck(function(x) return ops.pow(2, x) end, t.randn(3))
    H.gradgradcheck(function(x) return ops.pow(2, x) end, t.randn(3))
  end)

  it("has third derivatives too", function()
    local x = H.leaf(t.tensor {0.5, 1.5}, true)
    local g = x:tanh()
    for _ = 1, 3 do
      core.backward(g, ops.ones({2}, {dtype = "float64"}), {create_graph = true})
      g = x.grad
      x.grad = nil
    end
    H.same(g, H.map(x:detach(), function(v) -- -2 sech^4 + 4 tanh^2 sech^2
      local y = (math.exp(2 * v) - 1) / (math.exp(2 * v) + 1)
      return -2 * (1 - y * y) ^ 2 + 4 * y * y * (1 - y * y)
    end), 1e-12)
  end)

  it("sums what broadcasting spread", function()
    local a, b = t.positive(3, 1), t.positive(2, 1, 4)
    H.gradgradcheck(function(u, v) return ops.atan2(u, v) end, a, b)
  end)
end)
