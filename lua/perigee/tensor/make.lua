--- Tensors from bytes and after the model of another tensor.
-- Relies on blame, util, tensor/define. Spec: spec/tensor/make_spec.lua.

local blame = require "perigee.blame"
local core = require "perigee.core"
local define = require "perigee.tensor.define"
local util = require "perigee.util"

local ops, Tensor = core.ops, core.Tensor
local fail = define.fail
define = define.define

--- Raises unless x is a tensor, or an object that stands for one.
local function want(name, x)
  if not core.is_tensor(x) and not (type(x) == "table" and getmetatable(x)) then
    util.expect(name, "self", x, "tensor")
  end
end

define {
  "frombuffer",
  "buffer: string; dtype: dtype; count: integer = -1; offset: integer = 0; "
    .. "requires_grad: boolean = false",
  "Vector of the numbers of a dtype in the bytes of a string, from offset (bytes) on.",
  function(bytes, dtype, count, offset, grad)
    local size = #core.tensor({0}, {dtype = dtype}):bytes()
    local rest = #bytes - offset
    if offset < 0 or rest < 0 then
      fail("argument 'offset': expected 0..%d, got %d", #bytes, offset)
    end
    if count < 0 then
      if rest % size ~= 0 then
        fail("argument 'buffer': expected a multiple of %d bytes, the size of %s, got %d", size,
          dtype, rest)
      end
      count = rest // size
    elseif count * size > rest then
      fail("argument 'count': expected at most %d of %s, got %d", rest // size, dtype, count)
    end
    local x = core.from_bytes(bytes:sub(offset + 1, offset + count * size), dtype, {count})
    if grad then x.requires_grad = true end
    return x
  end,
  nodiff = true,
}

-- normal(mean, std) with a tensor among the two: one number for each place of their common shape.
local normal = ops.normal

function ops.normal(mean, std, ...)
  if not core.is_tensor(mean) and not core.is_tensor(std) then return normal(mean, std, ...) end
  local like = ops.add(mean, std or 1)
  local y = blame.named("normal", ops.randn_like, ops.detach(like))
  return ops.add(ops.mul(y, std or 1), mean)
end

-- x:new_zeros(2, 3) and kin: as the function, with x's dtype unless another is named.
for name, fn in pairs {new_zeros = "zeros", new_ones = "ones", new_empty = "empty",
                       new_full = "full"} do
  local make = ops[fn]
  Tensor[name] = function(x, ...)
    want(name, x)
    local args = table.pack(...)
    local last = args[args.n]
    if args.n > 0 and type(last) == "table" and #last == 0 and next(last) ~= nil then
      local opt = {dtype = x.dtype}
      for key, value in pairs(last) do opt[key] = value end
      args[args.n] = opt
    else
      args.n = args.n + 1
      args[args.n] = {dtype = x.dtype}
    end
    return blame.named(name, make, table.unpack(args, 1, args.n))
  end
end

--- A tensor of numbers in x's dtype.
function Tensor.new_tensor(x, data, opt)
  want("new_tensor", x)
  opt = util.options("new_tensor", opt, {"dtype", "requires_grad"})
  return blame.named("new_tensor", core.tensor, data, {dtype = opt.dtype or x.dtype,
    requires_grad = opt.requires_grad})
end

--- Bytes that one element takes.
function Tensor.element_size(x)
  want("element_size", x)
  return #core.tensor({0}, {dtype = x.dtype}):bytes()
end

Tensor.tolist = Tensor.totable

for name, dtype in pairs {float = "float32", double = "float64", long = "int64", int = "int64",
                          byte = "uint8", bool = "bool", bfloat16 = "bfloat16"} do
  Tensor[name] = function(x)
    want(name, x)
    return ops.to(x, dtype)
  end
end
