-- .npy: numpy's files in every dtype and order, our own back again, and every way to be malformed.
-- Relies on spec/fixtures/io, which numpy wrote. Sources: core/io/formats/npy.c, core/io/wire.c.

local H = require "spec.helper"
local core = require "perigee.core"
local files = require "spec.helper.files"

local load, save = core.io.load, core.io.save

local GRID = {{0, .5, 1, 1.5}, {2, 2.5, 3, 3.5}, {4, 4.5, 5, 5.5}}

local function npy(header, data, version)
  if version and version > 1 then
    return "\x93NUMPY" .. string.pack("<BBs4", version, 0, header) .. (data or "")
  end
  return "\x93NUMPY" .. string.pack("<BBs2", version or 1, 0, header) .. (data or "")
end

local function described(shape, descr, fortran)
  return ("{'descr': '%s', 'fortran_order': %s, 'shape': %s, }\n"):format(descr or "<f4",
    fortran or "False", shape)
end

describe("a .npy file", function()
  it("of numpy reads as it was written", function()
    local t = load(files.fixture "plain.npy")
    H.same(t, GRID)
    assert.equal("float32", t.dtype)
    H.same(load(files.fixture "version2.npy"), GRID)
    H.same(load(files.fixture "version3.npy"), GRID)
  end)
  it("in Fortran order reads in C order", function()
    local t = load(files.fixture "fortran.npy")
    assert.equal("float64", t.dtype)
    assert.is_true(t:is_contiguous())
    H.same(t, {{{0, 1, 2, 3}, {4, 5, 6, 7}, {8, 9, 10, 11}},
      {{12, 13, 14, 15}, {16, 17, 18, 19}, {20, 21, 22, 23}}})
  end)
  it("may have its keys in any order, double quotes and Python 2's integers", function()
    files.with("a.npy", npy('{"shape":(2L,),"fortran_order":True,"descr":"=f4"}',
      string.pack("<ff", 1, 2)), function(path)
      H.same(load(path), {1, 2})
    end)
  end)
  it("of bool holds 0 and 1 only, whatever its bytes", function()
    files.with("a.npy", npy(described("(3,)", "|b1"), "\0\2\255"), function(path)
      assert.equal("\0\1\1", load(path):bytes())
    end)
  end)
  for _, dtype in ipairs {"float32", "float64", "int64", "uint8", "bool"} do
    it("of " .. dtype .. " comes back as it was saved", function()
      H.in_folder(function(folder)
        for _, shape in ipairs {{}, {3}, {2, 3}, {0, 3}, {2, 1, 3, 1, 1, 1, 1, 2}} do
          local n = 1
          for _, size in ipairs(shape) do n = n * size end
          local values = {}
          for i = 1, n do values[i] = dtype == "bool" and i % 2 or i end
          local t = H.make(values, dtype, shape)
          assert.is_true(save(folder .. "/t.npy", t))
          H.identical(load(folder .. "/t.npy"), t)
        end
      end)
    end)
  end
  it("is written from any strides, and bfloat16 as float32", function()
    H.in_folder(function(folder)
      local path = folder .. "/t.npy"
      local t = core.tensor {{1, 2, 3}, {4, 5, 6}}
      assert(save(path, t:t()))
      H.same(load(path), {{1, 4}, {2, 5}, {3, 6}})
      assert(save(path, t:to "bfloat16"))
      local back = load(path)
      assert.equal("float32", back.dtype)
      H.same(back, t)
    end)
  end)
  it("begins its data at a multiple of 64 bytes", function()
    H.in_folder(function(folder)
      assert(save(folder .. "/t.npy", core.tensor {1, 2, 3}))
      assert.equal(64 * 2 + 12, #files.read(folder .. "/t.npy"))
    end)
  end)
end)

describe("a .npy file is refused", function()
  local good = files.read(files.fixture "plain.npy")
  local cases = {
    {"empty", "", "truncated"},
    {"cut in its magic", good:sub(1, 4), "truncated"},
    {"cut in its header", good:sub(1, 60), "truncated: its npy header claims 118 bytes, 50"},
    {"cut in its data", good:sub(1, -4), "truncated: %[3 x 4%] needs 48 bytes, 45 are there"},
    {"with bytes behind its data", good .. "x", "longer than its header says"},
    {"with another magic", "PK\3\4 something else", "not a npy file"},
    {"of version 4", npy(described "(1,)", "1234", 4), "version 4.0 is not supported"},
    {"with a header length beyond the file", "\x93NUMPY\2\0\xff\xff\xff\xff{}", "truncated"},
    {"that claims terabytes", npy(described "(1000000000000,)", "1234"), "needs 4000000000000"},
    {"with sizes that overflow", npy(described "(4294967296, 4294967296, 4294967296)"),
      "beyond any file"},
    {"with sizes that overflow behind a 0",
      npy(described "(0, 4611686018427387904, 4611686018427387904)"), "beyond any file"},
    {"with a size beyond 64 bits", npy(described "(99999999999999999999999,)"), "below 2%^63"},
    {"with a negative size", npy(described "(-1,)"), "a size expected"},
    {"with nine dims", npy(described "(1,1,1,1,1,1,1,1,1)", "1234"), "more than 8 dims"},
    {"with a key twice", npy("{'descr': '<f4', 'descr': '<f4', 'shape': ()}"), "repeated key"},
    {"with an unknown key", npy("{'descr': '<f4', 'color': 3}"), "unknown key 'color'"},
    {"without a key", npy("{'descr': '<f4', 'shape': (1,)}", "1234"), "missing"},
    {"with text behind the dict", npy(described("(1,)") .. "x", "1234"), "the end expected"},
    {"with an open string", npy "{'descr': '<f4", "string expected"},
    {"with a zero byte in its header", npy "{'descr'\0", "zero byte"},
    {"with strings", npy(described("(1,)", "<U1"), "1234"), "'<U1' is not supported"},
    {"with complex numbers", npy(described("(1,)", "<c8"), "12345678"), "'<c8' is not supported"},
    {"with records", npy("{'descr': [('a', '<f4')], 'shape': (1,)}"), "structured"},
    {"with integers beyond int64", npy(described("(1,)", "<u8"), ("\xff"):rep(8)),
      "does not fit into int64"},
  }
  for _, case in ipairs(cases) do
    it(case[1], function() files.refused("a.npy", case[2], case[3]) end)
  end
  it("with pickled objects, which are never run", function()
    local t, message = load(files.fixture "pickled.npy")
    assert.is_nil(t)
    assert.matches("pickled objects are never read", message)
  end)
  it("when several tensors should go into it", function()
    local one = core.tensor {1}
    H.raises(function() save("x.npy", {a = one, b = one}) end, "holds one tensor")
    H.raises(function() save("x.npy", one, {a = "b"}) end, "holds no metadata")
  end)
end)
