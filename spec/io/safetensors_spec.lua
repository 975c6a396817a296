-- safetensors: files of the reference implementation, our own back again, every malformed header.
-- Relies on spec/fixtures/io. Sources: core/io/formats/safetensors.c.

local H = require "spec.helper"
local core = require "perigee.core"
local files = require "spec.helper.files"

local load, save = core.io.load, core.io.save

local function pack(header, data, claimed)
  return string.pack("<I8", claimed or #header) .. header .. (data or "")
end

-- The JSON of one tensor.
local function entry(first, last, shape, dtype)
  return ('{"dtype":"%s","shape":%s,"data_offsets":[%s,%s]}'):format(dtype or "F32",
    shape or "[1]", first, last)
end

describe("a .safetensors file", function()
  it("of PyTorch reads in every dtype, with its metadata", function()
    local t, notes = load(files.fixture "torch.safetensors")
    assert.same({format = "pt", note = 'hä "q" \\ \n'}, notes)
    H.same(t.f32, {{0, .5, 1}, {1.5, 2, 2.5}})
    H.same(t.f64, {0, 1, 2})
    assert.equal("float64", t.f64.dtype)
    assert.equal("bfloat16", t.bf16.dtype)
    H.same(t.bf16:to "float32", {0, .5, 1})
    assert.equal("float32", t.f16.dtype)
    H.same(t.f16, {0, .5, 1})
    for _, name in ipairs {"i64", "i32", "i16", "i8"} do
      assert.equal("int64", t[name].dtype)
      H.same(t[name], {-1, 0, 1})
    end
    H.same(t.u8, {0, 1, 2, 3, 4})
    H.same(t.bool, {1, 0})
    H.same(t.scalar, 2.5)
    assert.same({0, 3}, t.empty.shape)
  end)
  it("comes back as it was saved, aligned, in an order of its own", function()
    H.in_folder(function(folder)
      local path = folder .. "/t.safetensors"
      local t = {
        ["b.weight"] = core.tensor {{1, 2}, {3, 4}}, a = core.tensor({7}, {dtype = "int64"}),
        half = core.tensor({1, 2, 3}, {dtype = "bfloat16"}), flag = core.tensor {true, false, true},
        ['n "q"\\ ä'] = core.tensor(2.5, {dtype = "float64"}), none = H.make({}, "uint8", {3, 0}),
      }
      local notes = {b = "2", a = '1 "x" \n ä', [""] = ""}
      assert.is_true(save(path, t, notes))
      local back, again = load(path)
      assert.same(notes, again)
      for name, x in pairs(t) do H.identical(back[name], x) end
      for name in pairs(back) do assert.is_not_nil(t[name], name) end
      local bytes = files.read(path)
      assert.equal(0, string.unpack("<I8", bytes) % 8)
      assert(save(path, back, again))
      assert.equal(bytes, files.read(path))
    end)
  end)
  it("may be empty", function()
    H.in_folder(function(folder)
      assert(save(folder .. "/t.safetensors", {}))
      assert.same({}, (load(folder .. "/t.safetensors")))
    end)
  end)
  it("is also a .perigee and a .ckpt", function()
    H.in_folder(function(folder)
      for _, ending in ipairs {"perigee", "ckpt", "SafeTensors"} do
        assert(save(folder .. "/t." .. ending, core.tensor {1, 2}))
        H.same(load(folder .. "/t." .. ending).tensor, {1, 2})
      end
    end)
  end)
  it("survives every failing allocation", function()
    files.survives_failures(files.fixture "torch.safetensors")
  end)
end)

describe("a .safetensors file is refused", function()
  local a = entry(0, 4)
  local cases = {
    {"empty", "", "truncated"},
    {"with a header longer than the file", pack("{}", "", 50), "claims 50 bytes, 2 are left"},
    {"with a header beyond every limit", pack("{}", "", 1 << 62), "claims 4611686018427387904"},
    {"with a negative header length", pack("{}", "", -1), "claims 18446744073709551615"},
    {"with a header that is no JSON", pack '{"a":', "no JSON object"},
    {"with a header that is no object", pack "[]", "no JSON object"},
    {"with text behind the header's object", pack "{} x", "no JSON object"},
    {"with a header of 100000 brackets", pack('{"a":' .. ("["):rep(100000)), "no JSON object"},
    {"with a name that is not UTF-8", pack('{"\xff":' .. a .. "}", "1234"), "no JSON object"},
    {"with a zero byte in a name", pack('{"a\\u0000b":' .. a .. "}", "1234"), "no JSON object"},
    {"with a name twice", pack(('{"a":%s,"a":%s}'):format(a, entry(4, 8)), "12345678"),
      "'a' occurs twice"},
    {"with a key twice", pack('{"a":{"dtype":"F32","dtype":"F32","shape":[1],'
      .. '"data_offsets":[0,4]}}', "1234"), "once each"},
    {"without a shape", pack('{"a":{"dtype":"F32","data_offsets":[0,4]}}', "1234"), "once each"},
    {"with a number for a tensor", pack('{"a":3}', "1234"), "once each"},
    {"with a dtype nobody knows", pack('{"a":' .. entry(0, 4, "[4]", "F8_E4M3") .. "}", "1234"),
      "'F8_E4M3' is not supported"},
    {"with a hole at the start", pack('{"a":' .. entry(4, 8) .. "}", "12345678"), "a hole"},
    {"with a hole between", pack(('{"a":%s,"b":%s}'):format(a, entry(8, 12)), ("x"):rep(12)),
      "tensor 'b' begins at byte 8: a hole from byte 4"},
    {"with an overlap", pack(('{"a":%s,"b":%s}'):format(entry(0, 8, "[2]"), entry(4, 12, "[2]")),
      ("x"):rep(12)), "overlaps"},
    {"with bytes at the end", pack('{"a":' .. a .. "}", "12345"), "end at byte 4 of 5"},
    {"cut in its data", pack('{"a":' .. a .. "}", "123"), "do not lie in the 3 bytes"},
    {"with offsets backwards", pack('{"a":' .. entry(4, 0) .. "}", "1234"), "do not lie"},
    {"with three offsets", pack('{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,4]}}', "1234"),
      "do not lie"},
    {"with a negative offset", pack('{"a":' .. entry(-4, 0) .. "}", "1234"), "do not lie"},
    {"with a shape of another size", pack('{"a":' .. entry(0, 4, "[2]") .. "}", "1234"),
      "needs 8 bytes, its data_offsets give 4"},
    {"with sizes that overflow",
      pack('{"a":' .. entry(0, 4, "[1099511627776,1099511627776]") .. "}", "1234"), "beyond any"},
    {"with a negative size", pack('{"a":' .. entry(0, 4, "[-1]") .. "}", "1234"), "whole number"},
    {"with a broken size", pack('{"a":' .. entry(0, 4, "[1.5]") .. "}", "1234"), "whole number"},
    {"with nine dims", pack('{"a":' .. entry(0, 4, "[1,1,1,1,1,1,1,1,1]") .. "}", "1234"),
      "more than 8 dims"},
    {"with metadata that is no text", pack '{"__metadata__":{"a":1}}', "'a' is no text"},
    {"with metadata that is no object", pack '{"__metadata__":[]}', "no object"},
    {"with metadata twice", pack '{"__metadata__":{},"__metadata__":{}}', "occurs twice"},
  }
  for _, case in ipairs(cases) do
    it(case[1], function() files.refused("a.safetensors", case[2], case[3]) end)
  end
  it("when a name or a note cannot be written", function()
    local one = core.tensor {1}
    H.raises(function() save("x.safetensors", {__metadata__ = one}) end, "name of a tensor")
    H.raises(function() save("x.safetensors", {["\xff"] = one}) end, "name of a tensor")
    H.raises(function() save("x.safetensors", {a = one}, {a = "\xff"}) end, "not UTF%-8")
    H.raises(function() save("x.safetensors", {a = one}, {a = 3}) end, "expected a string")
  end)
end)
