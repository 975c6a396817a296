--- Windows for signals: hann, hamming, blackman, bartlett, kaiser.
-- Relies on tensor/define. Spec: spec/tensor/window_spec.lua.

local define = require "perigee.tensor.define"
local ops = require("perigee.core").ops

local fail = define.fail
define = define.define

--- a - b cos(t), t being pi times the place from 0 to 2.
local function raised(a, b)
  return function(at) return ops.sub(a, ops.mul(ops.cos(ops.mul(at, math.pi)), b)) end
end

-- Every one as {further parameters, what it is, function of the places (from 0 to 2) and those}.
local WINDOWS = {
  {"hann", "", "0.5 - 0.5 cos(2 pi k / N)", raised(0.5, 0.5)},
  {"hamming", "alpha: number = 0.54; beta: number = 0.46; ", "alpha - beta cos(2 pi k / N)",
    function(at, alpha, beta) return raised(alpha, beta)(at) end},
  {"blackman", "", "0.42 - 0.5 cos(2 pi k / N) + 0.08 cos(4 pi k / N)",
    function(at)
      return ops.add(raised(0.42, 0.5)(at), ops.mul(ops.cos(ops.mul(at, 2 * math.pi)), 0.08))
    end},
  {"bartlett", "", "1 - |2 k / N - 1|",
    function(at) return ops.sub(1, ops.abs(ops.sub(at, 1))) end},
  {"kaiser", "beta: number = 12; ", "i0(beta sqrt(1 - (2 k / N - 1)^2)) / i0(beta)",
    function(at, beta)
      local inside = ops.sub(1, ops.square(ops.sub(at, 1)))
      local top = ops.i0(ops.mul(ops.sqrt(ops.clamp(inside, 0)), beta))
      return ops.div(top, ops.i0(ops.full({}, beta, {dtype = "float64"})))
    end},
}

for _, window in ipairs(WINDOWS) do
  local _, more = window[2]:gsub(":", ":")
  define {
    window[1] .. "_window",
    ("window_length: integer; periodic: boolean = true; %sdtype: dtype = float32; "
      .. "requires_grad: boolean = false"):format(window[2]),
    ("%s for k = 0 .. window_length - 1; N is window_length if periodic, else one less."):format(
      window[3]),
    function(n, periodic, ...)
      local given = table.pack(...)
      local dtype, grad = given[more + 1], given[more + 2]
      if n < 0 then fail("argument 'window_length': expected at least 0, got %d", n) end
      if not dtype:find "float" then
        fail("argument 'dtype': expected a floating dtype, got %s", dtype)
      end
      local y
      if n < 2 then
        y = ops.ones(n, {dtype = "float64"})
      else
        local at = ops.mul(ops.arange(0, n - 1, {dtype = "float64"}),
          2 / (periodic and n or n - 1))
        y = window[4](at, table.unpack(given, 1, more))
      end
      y = ops.to(y, dtype)
      if grad then y.requires_grad = true end
      return y
    end,
    nodiff = true, method = false,
  }
end
