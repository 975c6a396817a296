-- Command-line options: kinds, forms, defaults, suggestions, the text of --help.
-- Relies on spec/helper.lua. Sources: lua/perigee/cli.lua.

local lfs = require "lfs"
local H = require "spec.helper"
local cli = require "perigee.cli"
local files = require "spec.helper.files"

local BUILD = os.getenv "PERIGEE_BUILD" or "build"
local COMMAND = (BUILD:find "^/" and "" or lfs.currentdir() .. "/") .. BUILD .. "/perigee"

local SPEC = {
  "Trains a net.",
  {"epochs", 3, "passes over the data"},
  {"lr", 0.1, "learning rate"},
  {"out", ".", "folder"},
  {"batch_size", 32, "images in a step"},
  {"shuffle", true, "keep the order"},
  {"draw", false, "make a picture"},
  {"kind", "a", "what", choices = {"a", "beta"}},
}

local function parse(...) return cli.parse({...}, SPEC) end

describe("cli.parse", function()
  it("gives defaults where nothing is said", function()
    assert.same({epochs = 3, lr = 0.1, out = ".", batch_size = 32, shuffle = true, draw = false,
      kind = "a"}, parse())
  end)
  it("takes a value as the next word or behind '='", function()
    local option = parse("--epochs", "5", "--lr=1", "--out", "a=b", "--batch-size=7")
    assert.equal(5, option.epochs)
    assert.equal("float", math.type(option.lr))
    assert.equal("a=b", option.out)
    assert.equal(7, option.batch_size)
    assert.equal(1e-3, parse("--lr", "1e-3").lr)
    assert.equal(-2, parse("--epochs", "-2").epochs)
  end)
  it("switches booleans", function()
    local option = parse("--no-shuffle", "--draw")
    assert.is_false(option.shuffle)
    assert.is_true(option.draw)
    assert.is_true(parse("--no-shuffle", "--shuffle").shuffle)
  end)
  it("asks for help wherever it is said", function()
    assert.equal("help", (parse("--epochs", "5", "--help")))
    assert.equal("help", (parse "-h"))
  end)
  it("refuses with a message that names option, expected and given", function()
    for _, case in ipairs {
      {{"--epoch", "1"},
        "unknown option %-%-epoch, did you mean %-%-epochs%?; options are %-%-epochs"},
      {{"--zzz=1"}, "unknown option %-%-zzz; options are"},
      {{"--epochs", "1.5"}, "option %-%-epochs: expected an integer, got '1.5'"},
      {{"--lr", "fast"}, "option %-%-lr: expected a number, got 'fast'"},
      {{"--lr"}, "option %-%-lr: expected a number, got nothing"},
      {{"5"}, "expected an option such as %-%-epochs, got '5'"},
      {{"--draw=yes"}, "option %-%-draw takes no value"},
      {{"--no-epochs"}, "unknown option %-%-no%-epochs"},
      {{"--kind", "bete"},
        "option %-%-kind: expected one of a, beta, got 'bete', did you mean"},
    } do
      local option, message = parse(table.unpack(case[1]))
      assert.is_nil(option)
      assert.matches(case[2], message)
    end
  end)
  it("refuses declarations that say nothing", function()
    H.raises(function() cli.parse({}, {{"a"}}) end, "option 'a': a default is a number")
    H.raises(function() cli.parse({}, {{"a", 1}, {"a", 2}}) end, "'a' is declared twice")
    H.raises(function() cli.parse({}, {1}) end, "entry 1: expected {name, default, doc}")
    H.raises(function() cli.parse({}, "x") end, "argument 'spec': expected a table")
  end)
end)

describe("cli.usage", function()
  it("lists every option with its default", function()
    assert.equal([[
Trains a net.

usage: perigee train.lua [options]
  --epochs N      passes over the data (3)
  --lr X          learning rate (0.1)
  --out TEXT      folder (.)
  --batch-size N  images in a step (32)
  --no-shuffle    keep the order
  --draw          make a picture
  --kind TEXT     what: a, beta (a)
  --help          this text]], cli.usage(SPEC, "train.lua"))
  end)
end)

describe("cli.options", function()
  local function run(words)
    return H.in_folder(function(folder)
      files.write(folder .. "/x.lua", [[
        local option = require("perigee").cli.options {"Adds.", {"a", 1, "first"}, {"b", 2.5}}
        print(option.a + option.b)]])
      local pipe = io.popen(("cd '%s' && %s x.lua %s 2>&1; echo status=$?"):format(folder, COMMAND,
        words))
      local text = pipe:read "a"
      pipe:close()
      return text
    end)
  end
  it("reads the script's arguments", function()
    assert.equal("3.5\nstatus=0\n", run "")
    assert.equal("7.0\nstatus=0\n", run "--a 3 --b=4")
  end)
  it("ends the program where they do not fit, and after --help", function()
    assert.equal("x.lua: option --a: expected an integer, got 'z'; --help says more\nstatus=2\n",
      run "--a z")
    assert.matches("^Adds.\n\nusage: perigee x.lua .*status=0\n$", run "--help")
  end)
end)
