--- Arguments that ops and layers in C take in another form than scripts give them: lists of
-- factors, and lists of integers where an op wants a tensor. Relies on perigee.core and util.
-- Spec: spec/nn/functional_spec.lua.

local core = require "perigee.core"
local util = require "perigee.util"

local M = {}

--- Whether a value is a table of options.
function M.is_options(value)
  return type(value) == "table" and getmetatable(value) == nil and type(next(value)) == "string"
end

local function is_list(value)
  return type(value) == "table" and getmetatable(value) == nil and not M.is_options(value)
end

--- The arguments, packed, with a list of `scale_factor` as scale_factor_1, scale_factor_2 ..
-- @param fn name of the public function, for messages
-- @param place where scale_factor stands by position
function M.scale_factors(fn, place, ...)
  local args, options = table.pack(...), {}
  if args.n > 0 and M.is_options(args[args.n]) then
    for key, value in pairs(args[args.n]) do options[key] = value end
    args.n = args.n - 1
  end
  local list = options.scale_factor
  if args.n >= place and is_list(args[place]) then
    list = args[place]
    args[place] = nil
  end
  if is_list(list) then
    options.scale_factor = nil
    if #list < 1 or #list > 3 then
      util.fail(fn, "argument 'scale_factor': expected a number or 1 to 3 of them, got %d", #list)
    end
    for i, factor in ipairs(list) do
      options["scale_factor_" .. i] = util.expect(fn, "scale_factor", factor, "number")
    end
  end
  args.n = args.n + 1
  args[args.n] = options
  return args
end

--- A list of integers as an int64 tensor; other values as they are.
function M.integers(value)
  if is_list(value) then return core.tensor(value, {dtype = "int64"}) end
  return value
end

return M
