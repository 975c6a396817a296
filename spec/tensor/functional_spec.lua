--- bilinear, gumbel_softmax: PyTorch's values and gradients, samples, messages.
-- Relies on spec/helper.lua. Source: lua/perigee/tensor/functional.lua.

local H = require "spec.helper"
local pg = require "perigee"
local ops = require("perigee.core").ops
local F = pg.nn.functional

H.fixtures "tensor_functional"

H.op("bilinear", {
  args = function(t) return {t.randn(3, 2), t.randn(3, 4), t.randn(2, 2, 4), t.randn(2)} end,
  more = {function(t) return {t.randn(2), t.randn(3), t.randn(2, 2, 3)} end},
  threads = false,
  empty = {function(t) return {t.randn(0, 2), t.randn(0, 4), t.randn(5, 2, 4)} end, {0, 5}},
  wrong_shape = {{function(t) return {t.randn(3, 2), t.randn(3, 4), t.randn(2, 4)} end,
    "'weight': expected 3 dims, got %[2 x 4%]"},
    {function(t) return {t.randn(3, 2), t.randn(4, 4), t.randn(5, 2, 4)} end,
      "'input1': .*got %[3 x 2%] and %[4 x 4%]"}},
})
H.op("gumbel_softmax", {
  args = function(t) return {t.randn(3, 4), 0.7} end,
  more = {function(t) return {t.randn(3, 4), 2, false, {dim = 1}} end},
  empty = {function(t) return {t.randn(0, 4)} end, {0, 4}},
  wrong_shape = {function(t) return {t.randn(3, 4), 0} end, "'tau': expected above 0, got 0"},
})

it("gumbel_softmax draws classes with the probabilities of softmax", function()
  pg.manual_seed(3)
  local logits = pg.log(pg.tensor {0.5, 0.3, 0.2}):expand(4000, 3)
  local hard = F.gumbel_softmax(logits, {hard = true})
  H.same(hard:sum(2), pg.ones(4000))
  H.same(hard:mean(1), pg.tensor {0.5, 0.3, 0.2}, 0.03)
  H.same(F.gumbel_softmax(logits):sum(2), pg.ones(4000), 1e-5)
end)

it("gumbel_softmax has the soft sample's gradient where it is hard", function()
  local grads = {}
  for i, hard in ipairs {false, true} do
    pg.manual_seed(2)
    local x = pg.tensor({{0.1, 0.5, -1}}, {requires_grad = true})
    local y = ops.gumbel_softmax(x, 0.5, hard) * pg.tensor {{1, 2, 3}}
    y:sum():backward()
    grads[i] = x.grad
  end
  H.same(grads[2], grads[1])
end)
