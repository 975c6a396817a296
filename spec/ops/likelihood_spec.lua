--- Likelihood losses: PyTorch's values and gradients, messages.
-- Relies on spec/helper.lua. Sources: core/ops/likelihood.c.

local H = require "spec.helper"
local core = require "perigee.core"

H.fixtures("likelihood")

H.op("poisson_nll_loss", {
  args = function(t) return {t.randn(3, 4), t.positive(3, 4)} end,
  more = {function(t) return {t.positive(3, 4), t.uniform(1.1, 3, 3, 4), false, true, 1e-3, "none"}
    end},
  empty = {function(t) return {t.randn(0, 4), t.randn(0, 4), {reduction = "sum"}} end, {}},
  wrong_shape = {function(t) return {t.randn(3, 4), t.randn(3, 3)} end, "broadcast"},
  wrong_dtype = {function(t) return {t.int(1, 5, {3}), t.randn(3)} end,
    "'input': expected float32"},
})
H.op("gaussian_nll_loss", {
  args = function(t) return {t.randn(3, 4), t.randn(3, 4), t.positive(3, 4)} end,
  more = {function(t) return {t.randn(3, 4), t.randn(3, 4), t.positive(3), true, 1e-6, "none"} end,
    function(t) return {t.randn(3, 4), t.randn(3, 4), t.positive(3, 1), {reduction = "sum"}} end},
  empty = {function(t) return {t.randn(0, 4), t.randn(0, 4), t.randn(0), {reduction = "sum"}} end,
    {}},
  wrong_shape = {{function(t) return {t.randn(3, 4), t.randn(3, 4), t.positive(4)} end,
      "'var': expected %[3 x 4%], 1 in its last dim or without it, got %[4%]"},
    {function(t) return {t.randn(3), t.randn(3), H.make({1, 1, -2}, t.dtype, {3})} end,
      "'var': expected at least 0, got %-2 at element 3"},
    {function(t) return {t.randn(3), t.randn(3), t.positive(3), false, 0} end,
      "'eps': expected more than 0, got 0"}},
  wrong_dtype = {function(t) return {t.int(1, 5, {3}), t.randn(3), t.positive(3)} end,
    "'input': expected float32"},
})

it("gaussian_nll_loss takes a number as variance", function()
  local x, y = H.randn(3, 4), H.randn(3, 4)
  H.same(core.ops.gaussian_nll_loss(x, y, 0.5):item(),
    core.ops.gaussian_nll_loss(x, y, core.ops.full({3, 4}, 0.5)):item(), 1e-6)
end)
