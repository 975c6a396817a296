--- ctc_loss: PyTorch's values and gradients, all alignments counted one by one, messages.
-- Relies on spec/helper.lua. Sources: core/ops/ctc.c.

local H = require "spec.helper"
local core = require "perigee.core"
local F = require("perigee").nn.functional

H.fixtures("ctc")

local function ints(...) return H.make({...}, "int64", {select("#", ...)}) end
local function rows() return H.make({2, 3, 4, 3, 3, 2}, "int64", {2, 3}) end

-- PyTorch's gradient is the one that a log_softmax before it turns into the true one.
local function through(x, ...) return F.ctc_loss(F.log_softmax(x, -1), ...) end

H.op("ctc_loss", {
  fn = through, smooth = false,
  args = function(t) return {t.randn(6, 2, 4), rows(), ints(6, 5), ints(3, 2)} end,
  more = {function(t) return {t.randn(6, 2, 4), ints(1, 2, 2, 3), ints(6, 5), ints(3, 1), 4, "none"}
    end, function(t) return {t.randn(5, 4), ints(2, 2), ints(5), ints(2), {reduction = "sum"}} end},
  large = function(t) return {t.randn(60, 9, 12), t.int(2, 12, {9, 20}), t.int(50, 60, {9}),
    t.int(1, 20, {9})} end,
  empty = {function(t) return {t.randn(6, 0, 4), t.int(1, 2, {0, 3}), t.int(1, 2, {0}),
    t.int(1, 2, {0}), {reduction = "none"}} end, {0}},
  wrong_shape = {{function(t) return {t.randn(6, 2, 4), rows(), ints(6, 5), ints(3)} end,
      "'target_lengths': expected %[2%], got %[1%]"},
    {function(t) return {t.randn(6, 3, 4), rows(), ints(6, 5, 4), ints(3, 3, 3)} end,
      "'targets': expected 3 x longest labels, or all in one row, got %[2 x 3%]"},
    {function(t) return {t.randn(6, 2, 4), rows(), ints(6, 7), ints(3, 3)} end,
      "'input_lengths': expected 0%.%.6, got 7 at element 2"},
    {function(t) return {t.randn(6, 2, 4), rows(), ints(6, 6), ints(3, 4)} end,
      "'target_lengths': expected 0%.%.3, got 4 at element 2"},
    {function(t) return {t.randn(6, 2, 4), ints(2, 3, 4), ints(6, 6), ints(1, 1)} end,
      "'target_lengths': expected a sum of 3, as targets has labels, got 2"},
    {function(t) return {t.randn(6, 2, 4), rows(), ints(6, 6), ints(3, 3), 3} end,
      "'targets': expected 1%.%.4 without blank 3, got 3 as label 2 of sample 1"},
    {function(t) return {t.randn(6, 2, 4), rows(), ints(6, 6), ints(3, 3), 5} end,
      "'blank': expected 1..4, got 5"}},
  wrong_dtype = {function(t) return {t.randn(6, 2, 4), t.randn(2, 3), ints(6, 5), ints(3, 2)} end,
    "'targets': expected int"},
})

it("ctc_loss sums over every alignment", function()
  local x = F.log_softmax(H.t64.randn(4, 3), -1)
  local total = 0
  local function walk(step, path, log)
    if step > 4 then
      local kept, last = {}, nil
      for _, k in ipairs(path) do
        if k ~= last and k ~= 1 then kept[#kept + 1] = k end
        last = k
      end
      if #kept == 2 and kept[1] == 3 and kept[2] == 2 then total = total + math.exp(log) end
      return
    end
    for k = 1, 3 do
      path[step] = k
      walk(step + 1, path, log + x[{step, k}]:item())
    end
    path[step] = nil
  end
  walk(1, {}, 0)
  H.same(F.ctc_loss(x, ints(3, 2), ints(4), ints(2), {reduction = "sum"}):item(), -math.log(total),
    1e-12)
end)

it("ctc_loss takes lists of lengths and labels", function()
  local x = F.log_softmax(H.randn(6, 2, 4), -1)
  H.same(F.ctc_loss(x, {{2, 3, 4}, {3, 3, 2}}, {6, 5}, {3, 2}),
    core.ops.ctc_loss(x, rows(), ints(6, 5), ints(3, 2)))
end)

it("ctc_loss says that it has no second derivative", function()
  local x = H.randn(6, 2, 4)
  x.requires_grad = true
  local loss = through(x, rows(), ints(6, 5), ints(3, 2))
  H.raises(function() core.grad({loss}, {x}, {create_graph = true}) end,
    "ctc_loss: has no second derivative")
end)
