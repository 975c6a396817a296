--- What every spec uses: seeded tensors, comparison, gradient checks, the checks that every op must
-- pass (H.op), PyTorch's fixtures (H.fixtures). `local H = require "spec.helper"`.
-- Relies on the files of spec/helper/, perigee.core and busted.
-- Spec: spec/helper_spec.lua.

local H = {}
for _, part in ipairs {"values", "check", "op", "fixtures"} do
  for name, value in pairs(require("spec.helper." .. part)) do H[name] = value end
end

local function is_dir(path)
  local file = io.open(path .. "/.")
  if file then file:close() end
  return file ~= nil
end

--- Folder of real data sets: $PERIGEE_DATA, or shared/data beside the checkout; nil where absent.
-- `if H.data_dir() then it(...) end`
function H.data_dir()
  for _, path in ipairs {os.getenv "PERIGEE_DATA" or "", "../shared/data"} do
    if path ~= "" and is_dir(path) then return path end
  end
  return nil
end

--- Calls fn(path) with the name of a fresh folder that is removed afterwards, whatever happens.
function H.in_folder(fn)
  local path = os.tmpname()
  os.remove(path)
  assert(os.execute(("mkdir -p '%s'"):format(path)))
  local result = table.pack(pcall(fn, path))
  os.execute(("rm -rf '%s'"):format(path))
  if not result[1] then error(result[2], 0) end
  return table.unpack(result, 2, result.n)
end

return H
