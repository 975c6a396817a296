--- lstm_layer, gru_layer, rnn_layer: gradients, layouts, states, messages.
-- Relies on spec/helper.lua; PyTorch's values are in spec/nn/rnn_spec.lua. Sources: core/ops/rnn.c,
-- core/kernels/pack.c, core/kernels/half.c.

local H = require "spec.helper"
local core = require "perigee.core"
local ops = core.ops

local GATES = {lstm_layer = 4, gru_layer = 3, rnn_layer = 1}

for name, gates in pairs(GATES) do
  -- Arguments for sizes t x n x i -> h, with biases and states or without.
  local function arguments(t, steps, batch, inputs, h, full, ...)
    local list = {t.randn(steps, batch, inputs), t.randn(gates * h, inputs), t.randn(gates * h, h)}
    local n = name == "lstm_layer" and 7 or 6
    if full then
      list[4], list[5], list[6] = t.randn(gates * h), t.randn(gates * h), t.randn(batch, h)
      if n == 7 then list[7] = t.randn(batch, h) end
    end
    for i, value in ipairs {...} do list[n + i] = value end
    list.n = n + select("#", ...)
    return list
  end
  H.op(name, {
    args = function(t) return arguments(t, 3, 2, 3, 2, true) end,
    more = {function(t) return arguments(t, 3, 2, 2, 3, true, true) end,
      function(t) return arguments(t, 2, 3, 2, 3, false) end,
      function(t) return arguments(t, 1, 1, 2, 3, true) end,
      name == "rnn_layer" and function(t) return arguments(t, 3, 2, 2, 3, true, true, "relu") end
        or nil},
    threads = false, bfloat16 = 1 / 8, -- every step adds the rounding of its states
    large = function(t) return arguments(t, 5, 70, 9, 19, true) end,
    empty = {function(t) return arguments(t, 3, 0, 4, 2, true) end, {3, 0, 2}},
    wrong_shape = {{function(t) return {t.randn(3, 2), t.randn(gates, 2), t.randn(gates, 1)} end,
      "expected steps x batch x features, got %[3 x 2%]"},
      {function(t) return arguments(t, 0, 2, 3, 2) end, "at least one step"},
      {function(t) return {t.randn(3, 2, 4), t.randn(gates * 2, 3), t.randn(gates * 2, 2)} end,
        "'weight_ih': expected gates x features %[" .. gates * 2 .. " x 4%], got %["
        .. gates * 2 .. " x 3%]"},
      {function(t) return {t.randn(3, 2, 4), t.randn(gates * 2, 4), t.randn(gates * 2 + 1, 2)} end,
        "'weight_hh': expected gates x hidden %[" .. gates * 2 .. " x 2%]"},
      {function(t)
        local list = arguments(t, 3, 2, 4, 2, true)
        list[6] = t.randn(3, 2)
        return list
      end, "'h0': expected batch x hidden %[2 x 2%], got %[3 x 2%]"}},
    wrong_dtype = {function(t)
      return {t.int(1, 5, {3, 2, 4}), t.randn(gates * 2, 4), t.randn(gates * 2, 2)}
    end, "got int64"},
  })

  it(name .. " computes samples as if they were alone", function()
    local generator = {randn = H.randn}
    for _, batch in ipairs {1, 5, 8, 17, 33} do
      local args = arguments(generator, 4, batch, 3, 21, true)
      local y = ops[name](table.unpack(args, 1, args.n))
      local at = (batch + 1) // 2
      args[1] = args[1]:narrow(2, at, 1)
      for i = 6, name == "lstm_layer" and 7 or 6 do args[i] = args[i]:narrow(1, at, 1) end
      H.same(ops[name](table.unpack(args, 1, args.n)), y:narrow(2, at, 1), 1e-5)
    end
  end)

  -- The gradients of every output towards every input, and the outputs.
  local function gradients(make, create)
    local args = make(H.generator("float64", 5))
    local leaves = {}
    for i = 1, args.n do
      if core.is_tensor(args[i]) then
        args[i].requires_grad = true
        leaves[#leaves + 1] = args[i]
      end
    end
    local results = table.pack(ops[name](table.unpack(args, 1, args.n)))
    local total
    for j, y in ipairs(results) do
      local term = (y * ops.cos(y:detach() * j)):sum()
      total = total and total + term or term
    end
    return core.grad({total}, leaves, {create_graph = create})
  end

  it(name .. " has the same gradient from ops, for the second one", function()
    for _, reverse in ipairs {false, true} do
      local function make(t) return arguments(t, 5, 9, 3, 7, true, reverse) end
      local fused, recorded = gradients(make, false), gradients(make, true)
      for i, g in ipairs(fused) do
        assert.is_true(recorded[i].requires_grad)
        H.same(recorded[i]:detach(), g, 1e-12)
      end
    end
  end)

  it(name .. " survives every failing allocation of the second gradient", function()
    local function make(t) return arguments(t, 2, 2, 3, 2, true) end
    gradients(make, true)
    collectgarbage()
    collectgarbage()
    local before, n, ok, message = core.memory().live, 0
    repeat
      n = n + 1
      core.fail_after(n)
      ok, message = pcall(gradients, make, true)
      core.fail_after(-1)
      if not ok then assert.matches("out of memory", message) end
    until ok
    message = nil
    collectgarbage()
    collectgarbage()
    assert.equal(before, core.memory().live, message)
    assert.is_true(n > 100)
  end)

  -- Outputs and gradients of all leaves for arguments in this dtype; `run` calls the op.
  local function trace(args, dtype, run)
    local leaves, given = {}, {n = args.n}
    for i = 1, args.n do
      given[i] = args[i]
      if core.is_tensor(args[i]) then
        given[i] = args[i]:to(dtype)
        given[i].requires_grad = true
        leaves[#leaves + 1] = given[i]
      end
    end
    local results = table.pack(run(table.unpack(given, 1, given.n)))
    local total
    for j, y in ipairs(results) do
      local place = ops.arange(1, y:numel()):to(dtype):view(y.shape)
      local term = (y:to(dtype) * ops.cos(place * j)):sum()
      total = total and total + term or term
    end
    total:backward()
    local grads = {}
    for i, t in ipairs(leaves) do grads[i] = t.grad end
    return results, grads
  end

  local function lowered(...)
    return core.autocast("bfloat16", ops[name], ...)
  end

  it(name .. " under autocast is near that of float64, gradients of weights in float32", function()
    local shapes = {{3, 2, 3, 2}, {4, 5, 7, 9}, {1, 1, 1, 1}, {6, 33, 20, 31}, {5, 64, 16, 32},
      {3, 17, 40, 65}}
    for _, s in ipairs(shapes) do
      for _, reverse in ipairs {false, true} do
        for _, full in ipairs {true, false} do
          local t = H.generator("float32", 7)
          local args = arguments(t, s[1], s[2], s[3], s[4], full)
          for i = 1, #args do -- values that bfloat16 holds
            args[i] = (args[i] * (i == 1 and 1 or 0.3)):to "bfloat16":to "float32"
          end
          local at = name == "lstm_layer" and 8 or 7
          args[at], args.n = reverse, at
          local want, exact = trace(args, "float64", ops[name])
          local got, grads = trace(args, "float32", lowered)
          local text = table.concat(s, " ")
          for j, y in ipairs(got) do
            assert.equal("bfloat16", y.dtype)
            local gap = (y:detach():double() - want[j]:detach()):abs():max():item()
            assert.is_true(gap < 0.02, ("%s: output %d off by %g"):format(text, j, gap))
          end
          for i, g in ipairs(grads) do
            assert.equal("float32", g.dtype)
            local size = exact[i]:abs():max():item()
            local gap = (g:double() - exact[i]):abs():max():item()
            assert.is_true(gap <= 0.03 * size + 1e-9,
              ("%s: gradient %d off by %g at %g"):format(text, i, gap, size))
          end
        end
      end
    end
  end)

  it(name .. " under autocast has the same bits with 1 and 2 threads, and no graph", function()
    local args = arguments(H.generator("float32", 3), 5, 70, 19, 45, true)
    local threads = core.num_threads()
    local seen
    for n = 1, 2 do
      core.num_threads(n)
      local results, grads = trace(args, "float32", lowered)
      core.num_threads(threads)
      local bits = {}
      for _, y in ipairs(results) do bits[#bits + 1] = y:detach():bytes() end
      for _, g in ipairs(grads) do bits[#bits + 1] = g:bytes() end
      for i = 1, seen and #bits or 0 do assert.is_true(seen[i] == bits[i], "tensor " .. i) end
      seen = bits
    end
    local results = table.pack(lowered(table.unpack(args, 1, args.n)))
    for j, y in ipairs(results) do assert.equal(seen[j], y:bytes()) end
  end)

  it(name .. " under autocast has second gradients and survives failing allocations", function()
    local function second()
      local args = arguments(H.generator("float32", 5), 3, 4, 3, 5, true)
      for i = 1, #args do args[i].requires_grad = true end
      local y = lowered(table.unpack(args, 1, args.n))
      local g = core.grad({y:float():square():sum()}, {args[1]}, {create_graph = true})[1]
      g:square():sum():backward()
      return args[3].grad
    end
    assert.equal("float32", second().dtype)
    local function first()
      local args = arguments(H.generator("float32", 5), 3, 4, 3, 5, true)
      args.n = #args
      trace(args, "float32", lowered)
    end
    first()
    collectgarbage() collectgarbage()
    local before, n, ok, message = core.memory().live, 0
    repeat
      n = n + 1
      core.fail_after(n)
      ok, message = pcall(first)
      core.fail_after(-1)
      if not ok then assert.matches("out of memory", tostring(message)) end
    until ok
    message = nil
    collectgarbage() collectgarbage()
    assert.equal(before, core.memory().live, message)
  end)
end
