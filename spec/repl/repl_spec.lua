-- The REPL's parts: compiling, showing, completing. Relies on spec/helper.lua.
-- Sources: lua/perigee/repl/*.lua.

local complete = require "perigee.repl.complete"
local repl = require "perigee.repl"
local show = require "perigee.repl.show"

describe("input", function()
  it("is an expression, statements, or not complete yet", function()
    assert.equal(3, repl.compile("1 + 2", {})())
    local env = {}
    repl.compile("a = 5", env)()
    assert.equal(5, env.a)
    local _, why, more = repl.compile("for i = 1, 2 do", {})
    assert.matches("'end' expected", why)
    assert.is_true(more)
    _, why, more = repl.compile("a = = 2", {})
    assert.matches("unexpected symbol", why)
    assert.is_false(more)
  end)
  it("prints every value and reports errors", function()
    local out = {}
    local function write(text) out[#out + 1] = text end
    assert.is_true(repl.run(function() return 1, "two", nil end, pcall, write))
    assert.equal('1\n"two"\nnil\n', table.concat(out))
    local ok, message = repl.run(function() error("boom", 0) end, pcall, write)
    assert.is_false(ok)
    assert.equal("boom", message)
  end)
end)

describe("values", function()
  it("are opened one level", function()
    assert.equal("{1, 2, name = \"x\", t = {...}}", show.value({1, 2, name = "x", t = {1}}))
    assert.equal("{}", show.value({}))
    local long = {}
    for i = 1, 25 do long[i] = i end
    assert.matches("25 in all", show.value(long))
  end)
end)

describe("completion", function()
  it("follows fields and classes", function()
    local class = {forward = print}
    class.__index = class
    local env = {pg = {nn = {Conv1d = 1, Conv2d = 2}}, m = setmetatable({weight = 1}, class)}
    assert.same({"pg.nn.Conv1d", "pg.nn.Conv2d"}, complete.words("pg.nn.Co", env))
    assert.same({"m:forward"}, complete.words("m:f", env))
    assert.same({"m.weight"}, complete.words("m.w", env))
    assert.same({}, complete.words("pg.xx.y", env))
    assert.same({"while"}, complete.words("whi", env))
  end)
  it("finds the methods of tensors", function()
    local x = require("perigee").zeros(2)
    assert.same({"x:totable"}, complete.words("x:tota", {x = x}))
  end)
  it("runs no function", function()
    local function ran() error "ran" end
    local trap = setmetatable({}, {__index = ran, __call = ran})
    assert.same({}, complete.words("trap.a", {trap = trap}))
  end)
end)
