--- layer_norm, rms_norm, group_norm, instance_norm, local_response_norm: PyTorch's values and
-- gradients, statistics, messages.
-- Relies on spec/helper.lua. Sources: core/ops/norm.c, core/ops/norm.h.

local H = require "spec.helper"
local core = require "perigee.core"
local ops = core.ops

H.fixtures("norm", "^[^b]")

local ints = {function(t) return {t.int(1, 5, {2, 4}), 4} end,
  "expected float32 or float64, got int64"}

for _, name in ipairs {"layer_norm", "rms_norm"} do
  local layer = name == "layer_norm"
  H.op(name, {
    args = function(t) return {t.randn(3, 5), 5, t.positive(5), layer and t.randn(5) or nil} end,
    more = {function(t) return {t.randn(2, 3, 4), {3, 4}, t.positive(3, 4)} end,
      function(t) return {t.randn(3, 5), 5} end},
    large = function(t) return {t.randn(900, 70), 70, t.positive(70)} end,
    empty = {function(t) return {t.randn(0, 5), 5, t.positive(5)} end, {0, 5}},
    wrong_shape = {{function(t) return {t.randn(3, 5), 4} end,
      "'input': expected its last sizes to be normalized_shape %[4%], got %[3 x 5%]"},
      {function(t) return {t.randn(3, 5), 5, t.randn(4)} end,
        "'weight': expected normalized_shape %[5%], got %[4%]"}},
    wrong_dtype = ints,
  })
end
H.op("group_norm", {
  args = function(t) return {t.randn(2, 4, 3), 2, t.positive(4), t.randn(4)} end,
  more = {function(t) return {t.randn(2, 6, 2, 2), 3} end,
    function(t) return {t.randn(3, 6), 2} end},
  large = function(t) return {t.randn(300, 8, 30), 4, t.positive(8), t.randn(8)} end,
  empty = {function(t) return {t.randn(0, 4, 3), 2} end, {0, 4, 3}},
  wrong_shape = {{function(t) return {t.randn(2, 4), 3} end,
    "'num_groups': expected a divisor of the channels of input %[2 x 4%], got 3"},
    {function(t) return {t.randn(2, 4), 0} end, "'num_groups': .*got 0"},
    {function(t) return {t.randn(2, 4), 2, t.randn(2)} end, "'weight': expected %[4%]"}},
  wrong_dtype = ints,
})
H.op("instance_norm", {
  args = function(t) return {t.randn(2, 3, 4), nil, nil, t.positive(3), t.randn(3), n = 5} end,
  more = {function(t) return {t.randn(2, 3, 2, 2)} end, function(t)
    return {t.randn(2, 3, 4), t.randn(3), t.positive(3), t.positive(3), t.randn(3), false}
  end},
  fixed = {2, 3},
  large = function(t) return {t.randn(300, 8, 30)} end,
  empty = {function(t) return {t.randn(0, 3, 4)} end, {0, 3, 4}},
  wrong_shape = {{function(t) return {t.randn(2, 3)} end, "expected n x c x .., got %[2 x 3%]"},
    {function(t) return {t.randn(2, 3, 1)} end, "more than one value per channel"},
    {function(t) return {t.randn(2, 3, 4), t.randn(3)} end, "beside running_mean, got nothing"}},
  wrong_dtype = {function(t) return {t.int(1, 5, {2, 3, 4})} end, "got int64"},
})
H.op("local_response_norm", {
  args = function(t) return {t.randn(2, 4, 3), 3, 0.5} end,
  more = {function(t) return {t.randn(2, 4, 2, 2), 2, 0.5, 0.6, 2} end},
  empty = {function(t) return {t.randn(0, 4, 3), 3} end, {0, 4, 3}},
  wrong_shape = {{function(t) return {t.randn(4, 3), 3} end, "expected n x c x .., got %[4 x 3%]"},
    {function(t) return {t.randn(2, 4, 3), 0} end, "'size': expected at least 1, got 0"}},
  wrong_dtype = {function(t) return {t.int(1, 5, {2, 3, 4}), 2} end, "got int64"},
})
H.op("channel_window_sum", {
  args = function(t) return {t.randn(2, 4, 3), 1, 2} end,
  empty = {function(t) return {t.randn(0, 4, 3), 1, 1} end, {0, 4, 3}},
  wrong_shape = {function(t) return {t.randn(4), 1, 1} end, "expected n x c"},
  wrong_dtype = {function(t) return {t.int(1, 5, {2, 3, 4}), 1, 1} end, "got int64"},
})

it("instance_norm moves the running statistics by the mean of the samples' ones", function()
  local x = H.randn(2, 3, 5)
  local mean, var = ops.zeros({3}), ops.ones({3})
  ops.instance_norm(x, mean, var, nil, nil, true, 0.3)
  local v, m = ops.var_mean(x, 3)
  H.same(mean, m:mean(1) * 0.3, 1e-5)
  H.same(var, v:mean(1) * 0.3 + 0.7, 1e-5)
end)

it("norms of images keep channels-last memory, forward and backward", function()
  local weight, bias = H.t.positive(6), H.t.randn(6)
  local function group(x, w, b) return ops.group_norm(x, 3, w, b) end
  local function instance(x, w, b) return ops.instance_norm(x, nil, nil, w, b) end
  local function response(x) return ops.local_response_norm(x, 4, 0.5) end
  for _, shape in ipairs {{2, 6, 3, 4}, {1, 6, 5, 1}, {3, 6, 70}, {2, 6, 2, 3, 2}} do
    for _, fn in ipairs {group, instance, response} do
      local results = {}
      local plain = H.randn(shape) + 3
      local order, back = {1}, {1, #shape}
      for d = 3, #shape do order[#order + 1], back[d] = d, d - 1 end
      order[#order + 1] = 2
      for i = 1, 2 do
        local x = i == 1 and plain:clone()
          or plain:permute(order):contiguous():permute(back)
        local w, b = weight:clone(), bias:clone()
        for _, leaf in ipairs {x, w, b} do leaf.requires_grad = true end
        local y = fn(x, w, b)
        y:backward(H.cotangent(y, 1))
        assert.same(x:stride(), y:stride())
        assert.same(x:stride(), x.grad:stride())
        results[i] = {y:detach(), x.grad, w.grad or x, b.grad or x}
      end
      for k = 1, 4 do H.same(results[2][k]:detach(), results[1][k]:detach(), 2e-5) end
    end
  end
end)
