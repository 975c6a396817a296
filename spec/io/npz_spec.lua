-- .npz: numpy's archives in every dtype, our own back again, and every way to be malformed.
-- Relies on spec/fixtures/io, which numpy and zipfile wrote. Sources: core/io/formats/npz.c.

local H = require "spec.helper"
local core = require "perigee.core"
local files = require "spec.helper.files"

local load, save = core.io.load, core.io.save

local GRID = {{0, 1, 2, 3}, {4, 5, 6, 7}, {8, 9, 10, 11}}
local SIGNED = {{-5, -4, -3, -2}, {-1, 0, 1, 2}, {3, 4, 5, 6}}

describe("an .npz file", function()
  it("of numpy, deflated, reads in every dtype and byte order", function()
    local t = load(files.fixture "dtypes.npz")
    local dtypes = {i1 = "int64", i2 = "int64", i4 = "int64", i8 = "int64", u1 = "uint8",
      u2 = "int64", u4 = "int64", u8 = "int64", f2 = "float32", f4 = "float32", f8 = "float64"}
    for kind, dtype in pairs(dtypes) do
      for _, order in ipairs {"", "big_"} do
        local x = t[order .. kind]
        if x or order == "" then
          assert.equal(dtype, x.dtype, kind)
          H.same(x, kind:find "u" and GRID or SIGNED)
        end
      end
    end
    assert.equal("bool", t.b1.dtype)
    H.same(t.b1, {{1, 0, 1, 0}, {1, 0, 1, 0}, {1, 0, 1, 0}})
    H.same(t.scalar, 3.5)
    assert.same({0, 4}, t.empty.shape)
  end)
  it("of float16 reads to the last subnormal", function()
    local half = load(files.fixture "dtypes.npz").half
    H.same(half, core.tensor {0, -0.0, 1, 65504, 0x1p-24, 0x3.ffp-16, 1 / 0, 0 / 0},
      {tol = 0, signs = true})
  end)
  it("stored with ZIP64 extras reads by name", function()
    local t = load(files.fixture "stored.npz")
    H.same(t["layer.0/w"], GRID)
    H.same(t.b, {1, 2})
  end)
  it("comes back as it was saved", function()
    H.in_folder(function(folder)
      local path = folder .. "/t.npz"
      local t = {w = core.tensor {{1, 2}, {3, 4}}, ["conv.weight"] = core.tensor({7},
        {dtype = "int64"}), ["ä/b"] = core.tensor(2.5, {dtype = "float64"}),
        none = H.make({}, "float32", {0, 3})}
      assert.is_true(save(path, t))
      local back = load(path)
      for name, x in pairs(t) do H.identical(back[name], x) end
      for name in pairs(back) do assert.is_not_nil(t[name], name) end
      local bytes = files.read(path)
      assert(save(path, t))
      assert.equal(bytes, files.read(path))
      assert(save(path, t.w:t()))
      H.same(load(path).arr_0, {{1, 3}, {2, 4}})
      assert.is_nil(io.open(path .. ".tmp"))
    end)
  end)
  it("survives every failing allocation", function()
    files.survives_failures(files.fixture "stored.npz")
  end)
end)

describe("an .npz file is refused", function()
  local stored = files.read(files.fixture "stored.npz")
  local deflated = files.read(files.fixture "dtypes.npz")
  local directory = assert(stored:find("PK\1\2", 1, true))
  local data = assert(stored:find(string.pack("<fff", 1, 2, 3), 1, true))
  local cases = {
    {"empty", ""},
    {"that is no archive", ("no archive at all "):rep(10)},
    {"cut before its directory", stored:sub(1, 200)},
    {"cut in its directory", stored:sub(1, -30)},
    {"with a changed byte", stored:sub(1, data) .. "\xff" .. stored:sub(data + 2), "CRC"},
    {"with damaged deflate data", deflated:sub(1, 60) .. "\xff\xff\xff" .. deflated:sub(64),
      "member 'i2.npy'"},
    {"whose directory claims gigabytes",
      stored:sub(1, directory + 23) .. "\xf0\xff\xff\xff" .. stored:sub(directory + 28), "claims"},
    {"with a name twice", files.read(files.fixture "twice.npz"), "'a' occurs twice"},
    {"with a member that is no array", files.read(files.fixture "text.npz"), "'readme.txt'"},
    {"with a member of garbage", files.read(files.fixture "garbage.npz"), "not a npy file"},
    {"packed by LZMA", files.read(files.fixture "lzma.npz"), "method 14 is not supported"},
    {"with integers beyond int64", files.read(files.fixture "huge_int.npz"), "fit into int64"},
  }
  for _, case in ipairs(cases) do
    it(case[1], function() files.refused("a.npz", case[2], case[3] or ".") end)
  end
  it("when there is nothing to write, or a name that no member can have", function()
    H.raises(function() save("x.npz", {}) end, "no tensors")
    H.raises(function() save("x.npz", {["\xff"] = core.tensor {1}}) end, "name of a member")
    H.raises(function() save("x.npz", {[""] = core.tensor {1}}) end, "name of a member")
  end)
end)
