--- Tensors from and to plain Lua values, strided views, and seeded generators. Uses neither the
-- library's random numbers nor its constructors' arithmetic: only raw bytes go in and out.
-- Relies on perigee.core (from_bytes, t:bytes()) and its shape ops.
-- Spec: spec/helper_spec.lua.

local core = require "perigee.core"

local M = {}

local FORMAT = {float32 = "f", float64 = "d", int64 = "i8", uint8 = "B", bool = "B"}
local BATCH = 128
M.FLOATS = {"float32", "float64"}

local function product(shape)
  local n = 1
  for _, size in ipairs(shape) do n = n * size end
  return n
end
M.product = product

--- Numbers of a string of raw elements (booleans as 0 and 1).
function M.unpack(bytes, dtype)
  local format = assert(FORMAT[dtype], "no plain numbers for this dtype")
  local size = string.packsize("=" .. format)
  local n, values, at = #bytes // size, {}, 1
  local many = "=" .. format:rep(BATCH)
  while n - #values >= BATCH do
    table.move({string.unpack(many, bytes, at)}, 1, BATCH, #values + 1, values)
    at = at + BATCH * size
  end
  while #values < n do
    values[#values + 1], at = string.unpack("=" .. format, bytes, at)
  end
  return values
end

--- Raw elements of an array of numbers (or booleans).
function M.pack(values, dtype)
  local format = assert(FORMAT[dtype], "no plain numbers for this dtype")
  local parts, plain = {}, values
  if type(values[1]) == "boolean" then
    plain = {}
    for i, v in ipairs(values) do plain[i] = v and 1 or 0 end
  end
  for first = 1, #plain, BATCH do
    local last = math.min(first + BATCH - 1, #plain)
    parts[#parts + 1] = string.pack("=" .. format:rep(last - first + 1),
      table.unpack(plain, first, last))
  end
  return table.concat(parts)
end

--- A contiguous tensor from an array of numbers in row-major order.
function M.make(values, dtype, shape)
  return core.from_bytes(M.pack(values, dtype), dtype, shape)
end

--- Elements of a tensor in row-major order, as an array of numbers (bools as 0 and 1).
function M.values(t)
  local dtype = t.dtype
  if dtype == "bfloat16" then return M.values(t:detach():to("float32")) end
  return M.unpack(t:bytes(), dtype)
end

--- A new tensor of fn(v) over the elements v of x; same shape and dtype unless one is given.
function M.map(x, fn, dtype)
  local values = M.values(x)
  for i, v in ipairs(values) do values[i] = fn(v, i) end
  return M.make(values, dtype or x.dtype, x.shape)
end

--- Whether v is a tensor of a floating dtype.
function M.is_float(v)
  return core.is_tensor(v) and v.dtype:find "float" ~= nil
end

--- A copy of a value with fn applied to every tensor in it (in lists and option tables too).
function M.replace(value, fn)
  if core.is_tensor(value) then return fn(value) end
  if type(value) ~= "table" or getmetatable(value) then return value end
  local copy = {}
  for key, item in pairs(value) do
    copy[key] = key == "n" and item or M.replace(item, fn)
  end
  return copy
end

--- Every tensor in a value (in lists and option tables too), in a fixed order.
function M.tensors(value, found)
  found = found or {}
  if core.is_tensor(value) then
    found[#found + 1] = value
  elseif type(value) == "table" and not getmetatable(value) then
    local keys = {}
    for key in pairs(value) do keys[#keys + 1] = key end
    table.sort(keys, function(a, b)
      if type(a) == type(b) then return a < b end
      return type(a) == "number"
    end)
    for _, key in ipairs(keys) do M.tensors(value[key], found) end
  end
  return found
end

--- A detached contiguous copy that wants a gradient if `grad`.
function M.leaf(t, grad)
  local copy = core.from_bytes(t:detach():bytes(), t.dtype, t.shape)
  if grad then copy.requires_grad = true end
  return copy
end

--- Views with the elements of t laid out otherwise: name -> function(t) -> an equal view, or t.
M.layouts = {
  transposed = function(t)
    if t:dim() < 2 then return t end
    return t:transpose(1, -1):contiguous():transpose(1, -1)
  end,
  stepped = function(t) -- every second element of a row, what lies between is garbage
    local shape, values, wide = t.shape, M.values(t), {}
    if #shape == 0 then shape[1] = 1 end
    for i, v in ipairs(values) do
      wide[2 * i - 1] = v
      wide[2 * i] = M.is_float(t) and 0 / 0 or 1
    end
    local ranges = {}
    for d = 1, #shape do ranges[d] = {} end
    ranges[#shape] = {1, -1, 2}
    shape[#shape] = 2 * shape[#shape]
    local view = M.make(wide, t.dtype, shape)[ranges]
    return t:dim() == 0 and view[1] or view
  end,
  channels_last = function(t)
    if t:dim() ~= 4 then return t end
    return t:permute {1, 3, 4, 2}:contiguous():permute {1, 4, 2, 3}
  end,
}

-- --- seeded generators -------------------------------------------------------------------------

local Generator = {}

--- A generator of tensors: float ones get `dtype`. The same seed gives the same tensors.
-- Shapes are given loose or as one table.
function M.generator(dtype, seed)
  return setmetatable({dtype = dtype or "float32", state = (seed or 1) * 0x9E3779B97F4A7C15},
    Generator)
end

--- Uniform in [0, 1), 53 bits.
function Generator:number()
  self.state = self.state + 0x9E3779B97F4A7C15 -- SplitMix64 (Steele, Lea, Flood 2014)
  local z = self.state
  z = (z ~ (z >> 30)) * 0xBF58476D1CE4E5B9
  z = (z ~ (z >> 27)) * 0x94D049BB133111EB
  z = z ~ (z >> 31)
  return (z >> 11) * 0x1p-53
end

function Generator:normal()
  local r = math.sqrt(-2 * math.log(1 - self:number()))
  return r * math.cos(2 * math.pi * self:number())
end

local function shape_of(...)
  local first = ...
  if type(first) == "table" then return table.move(first, 1, #first, 1, {}) end
  return {...}
end

-- Rounded to float32, so that both float dtypes hold the very same numbers.
local function fill(self, draw, dtype, shape)
  local values = {}
  for i = 1, product(shape) do
    local v = draw(i)
    values[i] = (dtype == "float64") and string.unpack("=f", string.pack("=f", v)) or v
  end
  return M.make(values, dtype or self.dtype, shape)
end

-- What t.randn(..) and the like are; called with a dot: the generator is an upvalue.
local draws = {
  randn = function(g) return function(...)
    return fill(g, function() return g:normal() end, g.dtype, shape_of(...)) end end,
  rand = function(g) return function(...)
    return fill(g, function() return g:number() end, g.dtype, shape_of(...)) end end,
  uniform = function(g) return function(lo, hi, ...)
    return fill(g, function() return lo + (hi - lo) * g:number() end, g.dtype, shape_of(...))
  end end,
  positive = function(g) return function(...)
    return fill(g, function() return 0.5 + 1.5 * g:number() end, g.dtype, shape_of(...)) end end,
  away = function(g) return function(point, ...) -- at least 0.1 away from a kink
    return fill(g, function()
      local v = g:normal()
      return point + v + (v < 0 and -0.1 or 0.1)
    end, g.dtype, shape_of(...)) end end,
  distinct = function(g) return function(...) -- no two closer than 0.05, in random order
    local shape = shape_of(...)
    local n, order = product(shape), {}
    for i = 1, n do order[i] = i end
    for i = n, 2, -1 do
      local j = 1 + math.floor(g:number() * i)
      order[i], order[j] = order[j], order[i]
    end
    local step = math.max(0.05, math.min(0.5, 4 / math.max(n, 1)))
    return fill(g, function(i)
      return (order[i] - (n + 1) / 2 + 0.3 * g:number()) * step
    end, g.dtype, shape) end end,
  int = function(g) return function(lo, hi, ...) -- both ends included
    return fill(g, function() return lo + math.floor((hi - lo + 1) * g:number()) end, "int64",
      shape_of(...)) end end,
  byte = function(g) return function(...)
    return fill(g, function() return math.floor(256 * g:number()) end, "uint8", shape_of(...))
  end end,
  bool = function(g) return function(...)
    return fill(g, function() return g:number() < 0.5 and 1 or 0 end, "bool", shape_of(...))
  end end,
  zeros = function(g) return function(...)
    return fill(g, function() return 0 end, g.dtype, shape_of(...)) end end,
  ones = function(g) return function(...)
    return fill(g, function() return 1 end, g.dtype, shape_of(...)) end end,
  full = function(g) return function(value, ...)
    return fill(g, function() return value end, g.dtype, shape_of(...)) end end,
  -- from a flat or nested table of numbers, in the dtype under test unless one is given
  tensor = function(g) return function(rows, dtype)
    local shape, values, at = {}, {}, rows
    while type(at) == "table" do
      shape[#shape + 1] = #at
      at = at[1]
    end
    local function walk(row)
      if type(row) ~= "table" then values[#values + 1] = row return end
      for _, item in ipairs(row) do walk(item) end
    end
    walk(rows)
    return M.make(values, dtype or g.dtype, shape)
  end end,
}

function Generator:__index(name)
  local method = rawget(Generator, name)
  if method then return method end
  local draw = draws[name]
  if not draw then error(("t.%s: there is no such generator"):format(tostring(name)), 2) end
  local bound = draw(self)
  rawset(self, name, bound)
  return bound
end

--- Results packed; one plain list of results (of split, of meshgrid) counts as several.
function M.results(...)
  local first = ...
  if select("#", ...) == 1 and type(first) == "table" and getmetatable(first) == nil then
    return table.pack(table.unpack(first))
  end
  return table.pack(...)
end

--- The generators for hand-written tests: `H.t.randn(3, 4)` is float32, `H.t64.randn(3, 4)`
-- float64. Every test begins with them and the library's own stream freshly seeded.
M.t = M.generator("float32")
M.t64 = M.generator("float64")
function M.reseed()
  M.t.state, M.t64.state = 1, 2
  core.manual_seed(1)
end
for _, name in ipairs {"randn", "rand", "uniform", "positive", "away", "distinct", "int", "bool"} do
  M[name] = function(...) return M.t[name](...) end
end
--- `H.away_from(0, shape..)`: normal numbers at least 0.1 away from a point.
M.away_from = M.away

return M
