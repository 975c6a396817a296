-- The module perigee.core as a whole: one state however often it is required.
-- Relies on perigee.core.
-- Sources: lua/binding/core.c.

it("requiring again gives the same module, and tensors of before stay good", function()
  local core = require "perigee.core"
  local kept = core.ops.ones(1000)
  local loaded = package.loaded["perigee.core"]
  package.loaded["perigee.core"] = nil
  local again = require "perigee.core"
  package.loaded["perigee.core"] = loaded
  assert.equal(core, again)
  collectgarbage()
  collectgarbage()
  assert.equal(1000, (again.ops.ones(1000) * kept):sum():item())
end)

it("deterministic is a switch that tells its state before the call", function()
  local pg = require "perigee"
  local H = require "spec.helper"
  assert.is_false(pg.deterministic())
  assert.is_false(pg.deterministic(true))
  assert.is_true(pg.deterministic())
  assert.is_true(pg.deterministic(false))
  assert.is_false(pg.deterministic())
  H.raises(function() pg.deterministic(1) end, "deterministic: expected true or false, got number")
end)
