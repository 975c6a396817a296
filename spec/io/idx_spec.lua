-- IDX: plain and gzip'ed, every element type, and every way to be malformed.
-- Relies on spec/fixtures/io; MNIST itself where it is present. Sources: core/io/formats/idx.c.

local H = require "spec.helper"
local core = require "perigee.core"
local files = require "spec.helper.files"

local function idx(code, shape, data)
  return string.pack(">BBBB" .. ("I4"):rep(#shape), 0, 0, code, #shape, table.unpack(shape)) .. data
end

local PIXELS = {}
for i = 0, 23 do PIXELS[i + 1] = string.char(i) end
PIXELS = table.concat(PIXELS)

describe("an IDX file", function()
  it("reads alike plain and gzip'ed, and by any name", function()
    local packed = core.io.idx(files.fixture "images.idx.gz")
    assert.equal("uint8", packed.dtype)
    assert.same({2, 3, 4}, packed.shape)
    assert.equal(PIXELS, packed:bytes())
    files.with("images-idx3-ubyte", idx(8, {2, 3, 4}, PIXELS), function(path)
      H.identical((core.io.load(path)), packed)
      H.identical((core.io.load(path, "idx")), packed)
    end)
    files.with("whatever.bin", files.read(files.fixture "images.idx.gz"), function(path)
      H.identical(core.io.idx(path), packed)
    end)
  end)
  it("reads every element type", function()
    for _, case in ipairs {
      {9, ">i1i1i1", "int64"}, {11, ">i2i2i2", "int64"}, {12, ">i4i4i4", "int64"},
      {13, ">fff", "float32"}, {14, ">ddd", "float64"},
    } do
      local bytes = case[2]:find "[fd]" and string.pack(case[2], -1.0, 2.0, 100.0)
        or string.pack(case[2], -1, 2, 100)
      files.with("a.idx", idx(case[1], {3}, bytes), function(path)
        local t = core.io.idx(path)
        assert.equal(case[3], t.dtype)
        H.same(t, {-1, 2, 100})
      end)
    end
    H.same(core.io.idx(files.fixture "doubles.idx.gz"), {1.5, -2})
  end)
  it("may hold nothing", function()
    files.with("a.idx", idx(8, {0, 28, 28}, ""), function(path)
      assert.same({0, 28, 28}, core.io.idx(path).shape)
    end)
  end)
  it("survives every failing allocation", function()
    files.survives_failures(files.fixture "images.idx.gz")
    files.survives_failures(files.fixture "doubles.idx.gz")
  end)
  it("is never written", function()
    H.raises(function() core.io.save("x.idx", core.tensor {1}) end, "only read")
  end)
end)

describe("an IDX file is refused", function()
  local packed = files.read(files.fixture "images.idx.gz")
  local function fixture(name) return files.read(files.fixture(name)) end
  local cases = {
    {"empty", "a.idx", "", "truncated"},
    {"cut in its header", "a.idx", "\0\0\8\3\0\0", "truncated"},
    {"with a wrong magic", "a.idx", "\1" .. idx(8, {2}, "ab"):sub(2), "magic 01 00 08 01"},
    {"with an unknown element type", "a.idx", idx(7, {2}, "ab"), "magic 00 00 07 01"},
    {"without dims", "a.idx", "\0\0\8\0", "not an IDX file"},
    {"with nine dims", "a.idx", idx(8, {1, 1, 1, 1, 1, 1, 1, 1, 1}, "a"), "9 dims, at most 8"},
    {"that claims more than it has", "a.idx", idx(8, {3}, "ab"), "truncated: .*%[3%]"},
    {"that claims less than it has", "a.idx", idx(8, {1}, "ab"), "longer than its header says"},
    {"that claims terabytes", "a.idx", idx(8, {0xffffffff, 1000}, "ab"), "truncated"},
    {"gzip'ed and cut", "a.idx.gz", packed:sub(1, -13), "truncated: the gzip stream"},
    {"gzip'ed and cut in its trailer", "a.idx.gz", packed:sub(1, -3), "truncated: the gzip stream"},
    {"gzip'ed and cut in its header", "a.idx.gz", packed:sub(1, 12), "truncated"},
    {"gzip'ed with a wrong checksum", "a.idx.gz", packed:sub(1, -9) .. "abcd" .. packed:sub(-4),
      "damaged gzip stream: incorrect data check"},
    {"gzip'ed, claiming more", "a.idx.gz", fixture "claims_more.idx.gz",
      "truncated: .*claims %[3 x 3 x 4%], 36 bytes of data, 24 are there"},
    {"gzip'ed, claiming less", "a.idx.gz", fixture "claims_less.idx.gz", "longer than"},
    {"gzip'ed, claiming terabytes", "a.idx.gz", fixture "claims_terabytes.idx.gz", "truncated"},
    {"gzip'ed, with sizes that overflow", "a.idx.gz", fixture "claims_beyond.idx.gz", "beyond"},
  }
  for _, case in ipairs(cases) do
    it(case[1], function() files.refused(case[2], case[3], case[4]) end)
  end
  it("that claims terabytes, before their memory is taken", function()
    core.trim()
    assert.is_nil((core.io.idx(files.fixture "claims_terabytes.idx.gz")))
    assert.is_true(core.memory().peak - core.memory().live < 1 << 22)
  end)
end)
