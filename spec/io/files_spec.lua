-- pg.save and pg.load: the format by name, nested tables, atomic writing, arguments.
-- Relies on spec/helper/files.lua. Sources: lua/perigee/io.lua, core/io/io.c, sink.c, source.c.

local H = require "spec.helper"
local core = require "perigee.core"
local pg = require "perigee"
local files = require "spec.helper.files"

local function listing(folder)
  local names = {}
  for name in require "lfs".dir(folder) do
    if not name:find "^%.+$" then names[#names + 1] = name end
  end
  table.sort(names)
  return table.concat(names, " ")
end

describe("pg.save and pg.load", function()
  it("go by the file's name, or by the format that is given", function()
    H.in_folder(function(folder)
      local t = pg.tensor {1, 2}
      for _, ending in ipairs {"npy", "NPY"} do
        assert.is_true(pg.save(folder .. "/t." .. ending, t))
        H.same(pg.load(folder .. "/t." .. ending), t)
      end
      assert(pg.save(folder .. "/t.weights", {a = t}, {format = "safetensors",
        metadata = {made = "here"}}))
      local back, notes = pg.load(folder .. "/t.weights", {format = "safetensors"})
      H.same(back.a, t)
      assert.same({made = "here"}, notes)
    end)
  end)
  it("join the names of nested tables with dots", function()
    H.in_folder(function(folder)
      local path = folder .. "/t.npz"
      assert(pg.save(path, {conv = {weight = pg.tensor {1}, {bias = pg.tensor {2}}},
        c = pg.tensor {3}}))
      local back = pg.load(path)
      H.same(back["conv.weight"], {1})
      H.same(back["conv.1.bias"], {2})
      H.same(back.c, {3})
    end)
    local loop = {}
    loop.loop = loop
    H.raises(function() pg.save("x.npz", loop) end, "'value': .*got one at 'loop'")
    local one = pg.tensor {1}
    H.raises(function() pg.save("x.npz", {["a.b"] = one, a = {b = one}}) end,
      "'value': expected names that differ, got 'a%.b' twice")
    H.raises(function() pg.save("x.npz", {a = {b = 3}}) end, "'value': .*got integer at 'a%.b'")
  end)
  it("give nil and a message where the world refuses", function()
    for _, path in ipairs {"/no/folder/x.npy", "/tmp.npy/x.npz", "x.unknown"} do
      local t, message = pg.load(path)
      assert.is_nil(t)
      assert.equal(path, message:sub(1, #path))
    end
    local ok, message = pg.save("/no/folder/x.npy", pg.tensor {1})
    assert.is_nil(ok)
    assert.equal("/no/folder/x.npy: No such file or directory", message)
    H.in_folder(function(folder)
      os.execute(("mkdir '%s/d.npy'"):format(folder))
      ok, message = pg.save(folder .. "/d.npy", pg.tensor {1})
      assert.is_nil(ok)
      assert.matches("is a directory", message)
      ok, message = pg.load(folder .. "/d.npy")
      assert.is_nil(ok)
      assert.matches("is a directory", message)
      os.execute(("mkfifo '%s/f.npy'"):format(folder))
      ok, message = pg.load(folder .. "/f.npy")
      assert.is_nil(ok)
      assert.matches("not a regular file", message)
    end)
  end)
  it("raise where the script is wrong", function()
    local one = pg.tensor {1}
    H.raises(function() pg.load(3) end, "argument 'path': expected a string, got 3")
    H.raises(function() pg.load("x.npy", {formt = "npy"}) end, "did you mean 'format'")
    H.raises(function() pg.load("x", {format = "npyy"}) end, "did you mean 'npy'")
    H.raises(function() pg.save("x.npy", 3) end, "expected a tensor or a table")
    H.raises(function() pg.save("x.unknown", one) end,
      "'path': expected an ending of .*, got x.unknown")
    H.raises(function() pg.save("a\0b.npy", one) end, "zero byte")
    H.raises(function() pg.save("x.npy", core.meta("float32", {2})) end, "no data")
    one:release()
    H.raises(function() pg.save("x.npy", one) end, "released")
  end)
  it("replace a file in one step and leave nothing else behind", function()
    H.in_folder(function(folder)
      local path = folder .. "/t.npy"
      assert(pg.save(path, pg.tensor {1, 2, 3}))
      assert(pg.save(path, pg.tensor {4}))
      assert.equal("t.npy", listing(folder))
      H.same(pg.load(path), {4})
      local before, wide = files.read(path), pg.tensor {5, 6}:expand(4, 2)
      core.fail_after(1)
      assert.is_false((pcall(pg.save, path, wide)))
      core.fail_after(0)
      H.raises(function() pg.save(folder .. "/t.csv", pg.zeros(2, 2, 2)) end, "rows and columns")
      H.raises(function() pg.save(path, {a = pg.tensor {1}}) end, "one tensor")
      assert.equal("t.npy", listing(folder))
      assert.equal(before, files.read(path))
    end)
  end)
  it("write through a link and keep the file's mode", function()
    H.in_folder(function(folder)
      assert(pg.save(folder .. "/t.npy", pg.tensor {1}))
      os.execute(("chmod 640 '%s/t.npy'; ln -s t.npy '%s/l.npy'"):format(folder, folder))
      assert(pg.save(folder .. "/l.npy", pg.tensor {2}))
      H.same(pg.load(folder .. "/t.npy"), {2})
      local lfs = require "lfs"
      assert.equal("link", lfs.symlinkattributes(folder .. "/l.npy", "mode"))
      assert.equal("rw-r-----", lfs.attributes(folder .. "/t.npy", "permissions"))
    end)
  end)
  it("free what they read with the scope they read it in", function()
    H.in_folder(function(folder)
      assert(pg.save(folder .. "/t.npy", pg.zeros(1000)))
      collectgarbage()
      local before = core.memory().live
      do
        local scope <close> = pg.scope()
        assert.is_not_nil(scope)
        pg.load(folder .. "/t.npy")
      end
      assert.equal(before, core.memory().live)
    end)
  end)
end)

describe("core.io.formats", function()
  it("lists each format with a doc, an ending and nothing twice", function()
    local seen = {}
    for _, format in ipairs(core.io.formats()) do
      assert.is_true(#format.doc > 10, format.name)
      for suffix in format.suffixes:gmatch "[^|]+" do
        assert.is_nil(seen[suffix], suffix)
        seen[suffix] = true
      end
    end
    assert.is_true(seen[".npy"] and seen[".npz"] and seen[".safetensors"] and seen[".csv"])
  end)
end)
