-- Help texts from descriptors and from source comments. Relies on perigee.
-- Sources: lua/perigee/help.lua.

local help = require "perigee.help"

describe("help", function()
  it("describes ops, layers and optimizers", function()
    assert.matches("pg.sum%(input", help.text "sum")
    assert.matches("keepdim = false", help.text "pg.sum")
    assert.matches("nn.Linear%(in_features", help.text "nn.Linear")
    assert.matches("pg.split%(input, split_size, dim = 1%)\nList of views", help.text "split")
    assert.matches("linalg.cross%(input, other, dim = %-1%)", help.text "pg.linalg.cross")
    assert.matches("optim.SGD%(params", help.text "SGD")
  end)
  it("shows the comment above a Lua function", function()
    assert.matches("Threads used by C", help.text("pg.get_num_threads", {pg = require "perigee"}))
  end)
  it("suggests", function()
    assert.matches("did you mean 'matmul'", help.text "matmull")
    assert.matches("%?conv2d", help.text "")
  end)
end)
