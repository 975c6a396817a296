--- cross_entropy, nll_loss: PyTorch's values and gradients, labels, weights, messages.
-- Relies on spec/helper.lua. Source: core/ops/cross_entropy.c.

local H = require "spec.helper"
local core = require "perigee.core"
local ops = core.ops

H.fixtures("cross_entropy")

local function hard(...)
  local rest = table.pack(...)
  return function(t)
    return {t.randn(5, 3), t.int(1, 3, {5}), table.unpack(rest, 1, rest.n)}
  end
end

local wrong = {
  {function(t) return {t.randn(5, 3), t.int(1, 3, {4})} end,
    "'target': expected labels %[5%] to follow input %[5 x 3%], got %[4%]"},
  {function(t) return {t.randn(5, 3), t.int(1, 3, {5, 1})} end, "'target': .*got %[5 x 1%]"},
  {function(t) return {t.randn(5, 3), H.make({1, 2, 4, 1, 1}, "int64", {5})} end,
    "'target': expected 1%.%.3, got label 4 in row 3"},
  {function(t) return {t.randn(5, 3), H.make({1, 0, 4, 1, 1}, "int64", {5})} end,
    "'target': expected 1%.%.3, got label 0 in row 2"},
  {function(t) return {t.randn(5, 3), t.int(1, 3, {5}), t.randn(2)} end,
    "'weight': expected %[3%], one a class, got %[2%]"},
  {function(t) return {t.randn(5, 3), t.int(1, 3, {5}), {reduction = "average"}} end, "reduction"},
}
H.op("cross_entropy", {
  args = hard(),
  more = {hard(nil, -100, "sum"), hard({label_smoothing = 0.2}), hard({reduction = "none"}),
    function(t)
      return {t.randn(2, 3, 4), t.int(1, 3, {2, 4}), t.positive(3), n = 3}
    end,
    function(t) return {t.randn(4, 3), ops.softmax(t.randn(4, 3), 2), {label_smoothing = 0.1}} end},
  fixed = {3}, large = function(t) return {t.randn(5000, 9), t.int(1, 9, {5000})} end,
  empty = {function(t) return {t.randn(0, 3), t.int(1, 3, {0})} end, {}},
  wrong_shape = {{hard({label_smoothing = 2}), "'label_smoothing': expected 0 to 1, got 2"},
    {function(t) return {t.randn(5, 3), t.randn(5, 2)} end,
      "'target': expected class probabilities of the shape of input %[5 x 3%], got %[5 x 2%]"},
    table.unpack(wrong)},
  wrong_dtype = {{function(t) return {t.int(1, 5, {2, 3}), t.int(1, 3, {2})} end,
    "'input': expected float32 or float64, got int64"},
    {function(t) return {t.randn(2, 3), t.bool(2)} end, "'target'.*got bool"}},
})
H.op("nll_loss", {
  args = hard(),
  more = {hard(nil, -100, "sum"), hard({reduction = "none"}),
    function(t) return {t.randn(2, 3, 4), t.int(1, 3, {2, 4}), t.positive(3)} end},
  fixed = {3}, large = function(t) return {t.randn(5000, 9), t.int(1, 9, {5000})} end,
  empty = {function(t) return {t.randn(0, 3), t.int(1, 3, {0})} end, {}},
  wrong_shape = wrong,
  wrong_dtype = {function(t) return {t.randn(2, 3), t.randn(2)} end, "'target'.*got float32"},
})

describe("cross_entropy", function()
  it("leaves ignored rows out, and gives nan where all are", function()
    local t = H.randn(3, 4)
    t.requires_grad = true
    local loss = ops.cross_entropy(t, H.make({2, -100, 4}, "int64", {3}))
    loss:backward()
    assert.same({0, 0, 0, 0}, H.values(t.grad[2]))
    H.same(loss:item(), ops.cross_entropy(ops.index_select(t, 1, H.make({1, 3}, "int64", {2})),
      H.make({2, 4}, "int64", {2})):item(), 1e-6)
    local none = ops.cross_entropy(t, H.make({-100, -100, -100}, "int64", {3})):item()
    assert(none ~= none)
  end)

  it("takes uint8 labels", function()
    local t = H.randn(3, 4)
    H.same(ops.cross_entropy(t, H.make({2, 1, 4}, "uint8", {3})),
      ops.cross_entropy(t, H.make({2, 1, 4}, "int64", {3})))
  end)

  it("agrees with log_softmax and nll_loss for many classes", function()
    for _, n in ipairs {63, 64, 65, 200} do
      local t, y = H.randn(7, n), H.int(1, n, {7})
      H.same(ops.cross_entropy(t, y), ops.nll_loss(ops.log_softmax(t, 2), y), 1e-6)
    end
  end)

  it("agrees with log_softmax and nll_loss for few classes and any number of rows", function()
    for _, n in ipairs {1, 2, 3, 15, 16, 17} do
      for _, rows in ipairs {1, 15, 16, 17, 40} do
        for _, smooth in ipairs {0, 0.1} do
          local t, y, w = H.randn(rows, n) * 8, H.int(1, n, {rows}), H.rand(n)
          if rows > 15 then y[3] = -100 end
          local a, b = t:detach():clone():requires_grad_(), t:detach():clone():requires_grad_()
          local loss = ops.cross_entropy(a, y, {weight = w, label_smoothing = smooth})
          local logp = ops.log_softmax(b, 2)
          local naive = ops.nll_loss(logp, y, {weight = w}) * (1 - smooth)
          if smooth > 0 then
            local keep = (y:ne(-100)):to(t.dtype)
            local picked = ops.index_select(w, 1, y:maximum(1)) * keep
            naive = naive - (logp * w):sum(2):mul(keep):sum() * (smooth / n) / picked:sum()
          end
          loss:backward()
          naive:backward()
          H.same(loss, naive, 1e-5)
          H.same(a.grad, b.grad, 1e-5)
        end
      end
    end
  end)
end)
