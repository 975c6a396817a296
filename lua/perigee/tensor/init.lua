--- Tensor functions that are compositions of ops, a file for each family.
-- Relies on tensor/define. Spec: spec/tensor/define_spec.lua.

local define = require "perigee.tensor.define"

for _, family in ipairs {"make", "index", "pieces", "join", "shape", "statistics", "product",
                         "compare", "linalg", "window", "place", "arithmetic", "inplace",
                         "functional", "overload"} do
  require("perigee.tensor." .. family)
end

return {functions = define.functions}
