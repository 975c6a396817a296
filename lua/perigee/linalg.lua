--- `pg.linalg`: what core.ops holds under names that begin with "linalg.", by PyTorch's names.
-- Relies on core.ops and tensor/define. Spec: spec/linalg_spec.lua.

local core = require "perigee.core"
local util = require "perigee.util"

local M = {}

for _, info in ipairs(core.op_info()) do
  for _, name in ipairs(info.linalg and not info.hidden and info.names or {}) do
    M[name:gsub("^linalg%.", "")] = core.ops[name]
  end
end

return setmetatable(M, {
  __name = "linalg",
  __index = function(_, key)
    if type(key) == "string" and key:sub(1, 2) == "__" then return nil end
    local near = util.suggest(key, util.sorted_keys(M))
    util.fail("linalg", "argument 'name': expected the name of a function, got %s%s",
      util.show(key), near and (", did you mean '%s'?"):format(near) or "")
  end,
})
