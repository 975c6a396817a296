-- Script A of API.md, tensors and gradients, runs as written.
-- Relies on spec/acceptance/run.lua.
-- Sources: core/, lua/binding/.

-- luacheck: no max line length (the script stands as it is in API.md)
local run = require "spec.acceptance.run"

local SCRIPT = [==[
local pg = require "perigee"
pg.manual_seed(7)
local x = pg.tensor {{1, 2, 3}, {4, 5, 6}}            -- float32, 2 x 3
assert(x.shape[1] == 2 and x.shape[2] == 3 and x.dtype == "float32")
local y = (x * 2 + 1):matmul(x:t())                    -- 2 x 2
assert(y[{2, 1}]:item() == 9 * 1 + 11 * 2 + 13 * 3)
x[{ {}, 2 }] = 0
assert(x:sum():item() == 14)
local values, indices = pg.tensor {3, 9, 4}:max(1)     -- 9, 2
assert(values:item() == 9 and indices:item() == 2)
local w = pg.randn(3, 1, {requires_grad = true})
local loss = (x:matmul(w) - 1):pow(2):mean()
loss:backward()
print(w.grad)                                          -- 3 x 1, printed with shape and dtype
]==]

it("script A: tensors and gradients", function()
  run.script(SCRIPT, {train = 10, test = 10}, function(_, output)
    assert.matches("3 x 1", output)
    assert.matches("float32", output)
  end)
end)
