--- Indexing by tensors: x[key] and x[key] = value where the key is, or holds, index tensors or
-- masks. Relies on perigee.core. Spec: spec/ops/index_spec.lua.

local core = require "perigee.core"

local ops = core.ops

--- Parts of a key that holds tensors: the key of its integers and ranges, with {} where tensors
-- stand, and the tensors by the dim that they index once the integers have dropped theirs.
local function parts_of(x, key)
  if core.is_tensor(key) then return nil, {key}, 1 end
  local basic, tensors, last, dim, plain = {}, {}, 0, 0, true
  for _, item in ipairs(key) do
    if core.is_tensor(item) then
      local covers = item.dtype == "bool" and math.max(item:dim(), 1) or 1
      tensors[dim + 1] = item
      last = dim + 1
      dim = dim + covers
      for _ = 1, covers do basic[#basic + 1] = {} end
    else
      basic[#basic + 1] = item
      if type(item) ~= "number" then dim = dim + 1 end
      plain = plain and type(item) == "table" and next(item) == nil
    end
  end
  if #basic > x:dim() then
    error(("indexing: argument 'index': expected at most %d indices, got %d"):format(x:dim(),
      #basic), 4)
  end
  return not plain and basic or nil, tensors, last
end

--- x[key] where the key is, or holds, index tensors (1-based) or masks.
function core.index_get(x, key)
  local basic, tensors, last = parts_of(x, key)
  if basic then x = x[basic] end
  return ops.index(x, table.unpack(tensors, 1, last))
end

--- x[key] = value for such keys.
function core.index_set(x, key, value)
  local basic, tensors, last = parts_of(x, key)
  if not basic then
    ops.index_put_(x, value, table.unpack(tensors, 1, last))
    return
  end
  x[basic] = ops.index_put(x[basic], value, table.unpack(tensors, 1, last))
end
