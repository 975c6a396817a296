-- Option tables, checks, suggestions and classes of lua/perigee/util.lua.
-- Relies on no C: a broken core does not hide behind it.
-- Sources: lua/perigee/util.lua.

local util = require "perigee.util"

describe("util.suggest", function()
  local words = {"batch_size", "shuffle", "seed", "drop_last", "lr", "lr_decay", "weight_decay"}
  it("finds the nearest word", function()
    assert.equal("batch_size", util.suggest("batchsize", words))
    assert.equal("batch_size", util.suggest("batch_szie", words))
    assert.equal("shuffle", util.suggest("Shufle", words))
    assert.equal("seed", util.suggest("sede", words))
    assert.equal("weight_decay", util.suggest("weightdecay", words))
    assert.equal("batch_size", util.suggest("batch", words))
  end)
  it("suggests nothing far away", function()
    assert.is_nil(util.suggest("zebra", words))
    assert.is_nil(util.suggest("zebra", {}))
    assert.is_nil(util.suggest(3, words))
  end)
end)

describe("util.options", function()
  local function public(given)
    return util.options("data.Thing", given, {batch_size = 1, shuffle = false, "seed"})
  end
  it("fills in defaults and leaves the caller's table alone", function()
    local given = {batch_size = 3}
    assert.same({batch_size = 3, shuffle = false}, public(given))
    assert.same({batch_size = 3}, given)
    assert.same({batch_size = 1, shuffle = false}, public(nil))
    assert.equal(7, public({seed = 7}).seed)
    assert.equal(false, public({shuffle = false}).shuffle)
  end)
  it("refuses unknown keys with a suggestion, blaming the caller's line", function()
    local ok, message = pcall(function() return (public({batchsize = 3})) end)
    assert.is_false(ok)
    assert.matches("data.Thing: unknown option 'batchsize', did you mean 'batch_size'?",
      message, 1, true)
    assert.matches("options are batch_size, seed, shuffle", message, 1, true)
    assert.matches("util_spec.lua", message, 1, true)
    assert.error_matches(function() public({5}) end, "got 5 by position")
    assert.error_matches(function() public("x") end, "expected a table of options, got 'x'")
  end)
end)

describe("util.expect and util.choice", function()
  it("pass what fits", function()
    assert.equal("integer", math.type(util.expect("f", "n", 3.0, "integer")))
    assert.is_nil(util.expect("f", "n", nil, "integer|nil"))
    assert.equal("a", util.choice("f", "mode", "a", {"a", "b"}))
    assert.is_function(util.expect("f", "g", print, "callable"))
  end)
  it("name both sides of what does not", function()
    assert.error_matches(function() util.expect("f", "n", 3.5, "integer") end,
      "f: argument 'n': expected an integer, got 3.5", 1, true)
    assert.error_matches(function() util.expect("f", "n", {}, "integer|string") end,
      "expected an integer or a string, got table", 1, true)
    assert.error_matches(function() util.expect("f", "n", 1 / 0, "integer") end, "an integer")
    assert.error_matches(function() util.choice("f", "mode", "maen", {"mean", "sum"}) end,
      "did you mean 'mean'?", 1, true)
    assert.error_matches(function() util.fail("nn.Thing", "%d is odd", 3) end, "nn.Thing: 3 is odd")
  end)
end)

describe("util.class", function()
  local Base = util.class "Base"
  function Base:init(v) self.v = v end
  function Base:get() return self.v end
  Base.__len = function(self) return self.v end
  local Child = Base:extend "Child"
  function Child:get() return Base.get(self) + 1 end

  it("makes objects, inherits methods and metamethods", function()
    local c = Child(4)
    assert.equal(5, c:get())
    assert.equal(4, #c)
    assert.equal("Child", util.type_name(c))
    assert.equal("Child", tostring(c))
    assert.is_true(c:is(Base))
    assert.is_true(c:is(Child))
    assert.is_false(Base(1):is(Child))
    assert.is_nil(c.nothing)
  end)
end)

describe("util.sorted_keys", function()
  it("puts integers first and the rest in order", function()
    assert.same({1, 2, 10, "a", "b"}, util.sorted_keys {[10] = 1, 1, 2, b = 1, a = 1})
  end)
end)
