--- Run by busted before any spec (.busted): loads the library once for all files and seeds every
-- test afresh, so that no test depends on another.
-- Relies on busted and spec/helper.lua.

local busted = require "busted"
local H = require "spec.helper"

busted.subscribe({"test", "start"}, function()
  H.reseed()
  return nil, true
end)
