-- Where data lies: the path itself, $PERIGEE_DATA, shared folders; else every place is named.
-- Relies on spec/helper/files.lua. Sources: lua/perigee/data/find.lua.

local H = require "spec.helper"
local files = require "spec.helper.files"
local data = require "perigee.data"

describe("data.find", function()
  it("takes a path that is there as it is, file or folder", function()
    files.with("a.csv", "1\n", function(path)
      assert.equal(path, data.find(path))
      assert.equal(path:match "^(.*)/", data.find(path:match "^(.*)/"))
    end)
  end)
  it("names every place that it searched", function()
    local path, message = data.find "no/such.csv"
    assert.is_nil(path)
    assert.matches("^no/such.csv: not found. Searched:\n  no/such.csv\n", message)
    assert.matches("../shared/data/no/such.csv\n", message, 1, true)
    assert.matches("/usr/share/datasets/no/such.csv$", message)
    path, message = data.find "/no/such.csv"
    assert.is_nil(path)
    assert.equal("/no/such.csv: not found. Searched:\n  /no/such.csv", message)
    H.raises(function() data.find(3) end, "data.find: argument 'name': expected a string, got 3")
  end)
  it("looks in $PERIGEE_DATA before the shared folders", function()
    H.in_folder(function(folder)
      files.write(folder .. "/x.csv", "1\n")
      local pipe = io.popen(("PERIGEE_DATA='%s' lua5.4 -e 'print(require(\"perigee.data\").find"
        .. " \"x.csv\")'"):format(folder))
      local text = pipe:read "a"
      pipe:close()
      assert.equal(folder .. "/x.csv\n", text)
    end)
  end)
end)
