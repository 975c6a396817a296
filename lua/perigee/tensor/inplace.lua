--- In-place forms that are no op of C: the result is copied over the tensor, or, where it is a
-- view, the tensor becomes that view.
-- Relies on perigee.core. Spec: spec/tensor/inplace_spec.lua.

local core = require "perigee.core"
local blame = require "perigee.blame"
local util = require "perigee.util"

local ops, Tensor = core.ops, core.Tensor

local function publish(name, f)
  ops[name] = f
  Tensor[name] = f
end

for _, name in ipairs {"cumsum", "cumprod", "tril", "triu", "addmm", "baddbmm", "addmv", "addr",
                       "addbmm", "renorm", "put", "index_reduce", "ldexp", "mvlgamma"} do
  local pure = ops[name]
  publish(name .. "_", function(x, ...)
    return blame.named(name .. "_", function(...) return ops.copy_(x, pure(x, ...)) end, ...)
  end)
end

for _, name in ipairs {"squeeze", "unsqueeze", "transpose", "t", "swapaxes", "swapdims"} do
  local view = ops[name]
  publish(name .. "_", function(x, ...)
    return blame.named(name .. "_", function(...) return core.become(x, view(x, ...)) end, ...)
  end)
end

--- Cuts the tensor itself off from what made it; a leaf no longer requires grad.
-- @return the tensor
publish("detach_", function(x)
  util.expect("detach_", "input", x, "tensor")
  if not x.is_leaf then return core.become(x, x:detach(), true) end
  if x.requires_grad then x.requires_grad = false end
  return x
end)

--- Writes value on the main diagonal (i, i, ..); with wrap, a tall matrix starts again below.
-- @return the tensor
publish("fill_diagonal_", function(x, value, wrap)
  util.expect("fill_diagonal_", "input", x, "tensor")
  util.expect("fill_diagonal_", "fill_value", value, "number")
  if type(wrap) == "table" then wrap = util.options("fill_diagonal_", wrap, {wrap = false}).wrap end
  local nd = x:dim()
  if nd < 2 then
    util.fail("fill_diagonal_", "argument 'input': expected at least 2 dims, got %d", nd)
  end
  local n, step, strides, least = x:size(1), 0, x:stride(), x:size(1)
  for i = 1, nd do
    if nd > 2 and x:size(i) ~= n then
      util.fail("fill_diagonal_", "argument 'input': expected equal sizes, got [%s]",
        table.concat(x.shape, " x "))
    end
    step, least = step + strides[i], math.min(least, x:size(i))
  end
  return blame.call("", function()
    ops.fill_(nd == 2 and ops.diagonal(x) or ops.as_strided(x, {least}, {step}), value)
    local cols = nd == 2 and x:size(2) or math.huge
    local first = cols + 2
    while wrap and first <= n do
      ops.fill_(ops.diagonal(ops.narrow(x, 1, first, n - first + 1)), value)
      first = first + cols + 1
    end
    return x
  end)
end)
