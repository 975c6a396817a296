-- Pictures: PNG of every kind against PngSuite and a decoder in Python, JPEG against reference
-- pictures, BMP, PGM and PPM by hand, writing, limits, and every way to be damaged.
-- Relies on spec/fixtures/io/png_suite.json; the suites themselves where they are present.
-- Sources: core/io/image.c, core/io/formats/image.c.

local H = require "spec.helper"
local core = require "perigee.core"
local pg = require "perigee"
local files = require "spec.helper.files"

-- Adler-32 and CRC-32 of a string.
local function adler(text)
  local a, b = 1, 0
  for i = 1, #text do
    a = (a + text:byte(i)) % 65521
    b = (b + a) % 65521
  end
  return b << 16 | a
end
local function crc(text)
  local sum = 0xffffffff
  for i = 1, #text do
    sum = sum ~ text:byte(i)
    for _ = 1, 8 do sum = sum >> 1 ~ (sum & 1) * 0xedb88320 end
  end
  return sum ~ 0xffffffff
end

local MAGIC = "\x89PNG\r\n\26\n"
local function chunk(name, body) return string.pack(">s4", body):sub(1, 4) .. name .. body
  .. string.pack(">I4", crc(name .. body)) end
local function header(width, height, depth, kind, interlaced)
  return chunk("IHDR", string.pack(">I4I4BBBBB", width, height, depth, kind, 0, 0, interlaced or 0))
end
local function packed(raw) -- zlib, stored
  return "\x78\1" .. string.pack("<BI2I2", 1, #raw, #raw ~ 0xffff) .. raw
    .. string.pack(">I4", adler(raw))
end
local END = chunk("IEND", "")
local function png(head, raw, ...)
  return MAGIC .. head .. table.concat({...}) .. chunk("IDAT", packed(raw)) .. END
end

local function read(name, bytes, opt)
  return files.with(name, bytes, function(path) return pg.io.image(path, opt) end)
end

local function bmp(width, height, bits, rows, extra)
  local size = #rows
  return "BM" .. string.pack("<I4I2I2I4", 54 + size, 0, 0, 54)
    .. string.pack("<I4i4i4I2I2I4I4i4i4I4I4", 40, width, height, 1, bits, 0, size, 0, 0, 0, 0)
    .. rows .. (extra or "")
end

local GREY = png(header(2, 2, 8, 0), "\0\1\2\0\3\4")

describe("a PNG", function()
  it("gives grey, palette, alpha and deep samples as the file has them", function()
    H.same(read("a.png", GREY), {{{1, 2}, {3, 4}}})
    H.same(read("a.png", png(header(2, 1, 1, 0), "\0\x40")), {{{0, 255}}})
    H.same(read("a.png", png(header(1, 1, 8, 6), "\0\1\2\3\4")), {{{1}}, {{2}}, {{3}}, {{4}}})
    H.same(read("a.png", png(header(2, 1, 8, 3), "\0\1\0", chunk("PLTE", "abcdef"))),
      {{{100, 97}}, {{101, 98}}, {{102, 99}}})
    H.same(read("a.png", png(header(1, 1, 16, 0), "\0\x80\xff")), {{{128}}})
    H.same(read("a.png", png(header(2, 1, 8, 0), "\0\7\9", chunk("tRNS", "\0\9"))),
      {{{7, 9}}, {{255, 0}}})
  end)
  it("is not changed by what it says about colours", function()
    local gamma = chunk("gAMA", string.pack(">I4", 100000))
    H.same(read("a.png", png(header(2, 2, 8, 0), "\0\1\2\0\3\4", gamma, chunk("sBIT", "\4"))),
      {{{1, 2}, {3, 4}}})
    H.same(read("a.png", png(header(1, 1, 16, 0), "\0\x80\xff", gamma)), {{{128}}})
  end)
  it("may be interlaced, 16 bits and a transparent colour included", function()
    H.same(read("a.png", png(header(1, 2, 8, 0, 1), "\0\5\0\6")), {{{5}, {6}}})
    H.same(read("a.png", png(header(1, 2, 16, 0, 1), "\0\0\xff\0\xff\xff",
      chunk("tRNS", "\0\xff"))), {{{1}, {255}}, {{0}, {255}}})
  end)
  if H.data_dir() then
    it("reads as a decoder in Python reads PngSuite", function()
      local sums = core.io.json_decode(files.read(files.fixture "png_suite.json"))
      local count = 0
      for name, want in pairs(sums) do
        local t = assert(pg.io.image(H.data_dir() .. "/png-suite/" .. name))
        local got = t.shape
        got[4] = adler(t:bytes())
        assert.same(want, got, name)
        count = count + 1
      end
      assert.equal(161, count)
    end)
    it("refuses all that PngSuite has damaged", function()
      local folder, count = H.data_dir() .. "/png-suite", 0
      for _, name in ipairs(core.io.list(folder)) do
        if name:find "^x" then
          files.refused("a.png", files.read(folder .. "/" .. name), "PNG")
          count = count + 1
        end
      end
      assert.equal(14, count)
    end)
  end
  it("is refused where a chunk, its checksum or its pixels are wrong", function()
    local raw = "\0\1\2\0\3\4"
    for _, case in ipairs {
      {GREY:sub(1, 20), "truncated"}, {GREY:sub(1, -2), "truncated"},
      {GREY:sub(1, -13), "truncated"},
      {MAGIC, "truncated"}, {MAGIC .. END, "begins with one chunk IHDR"},
      {(GREY:gsub("IDAT", "IDAU")), "IDAU has a wrong checksum"},
      {MAGIC .. chunk("ID T", ""), "without a name at byte 8"},
      {MAGIC .. header(2, 2, 8, 0) .. header(2, 2, 8, 0) .. END, "one chunk IHDR"},
      {MAGIC .. header(2, 2, 8, 0) .. END, "without the chunk IDAT"},
      {png(header(0, 2, 8, 0), raw), "without pixels"},
      {png(header(2, 2, 3, 0), raw), "cannot have colour type 0 with 3 bits"},
      {png(header(2, 2, 8, 5), raw), "cannot have colour type 5"},
      {png(header(2, 2, 8, 0, 2), raw), "interlace 2"},
      {png(header(2, 2, 8, 0), "\0\1\2"), "damaged PNG"},
      {png(header(2, 2, 8, 0), "\9\1\2\0\3\4"), "damaged PNG"},
      {png(header(2, 2, 8, 3), raw), "damaged PNG"},
      {png(header(2, 2, 16, 0, 1), raw), "cannot be unpacked"},
      {png(header(1, 1, 16, 0, 1), "\9\1\2"), "cannot be unpacked"},
      {MAGIC .. header(2, 2, 8, 0) .. chunk("IDAT", "abcdef") .. END, "damaged PNG"},
      {png(header(0x7fffffff, 0x7fffffff, 8, 6), raw), "more than the limit of 268435456 bytes"},
      {png(header(0xffffffff, 1, 8, 0), raw), "more than the limit"},
    } do
      files.refused("a.png", case[1], case[2])
    end
  end)
  it("survives every failing allocation", function()
    files.with("a.png", GREY, files.survives_failures)
    files.with("a.png", png(header(1, 2, 16, 0, 1), "\0\0\xff\0\xff\xff"), files.survives_failures)
  end)
end)

describe("a JPEG", function()
  if H.data_dir() then
    local folder = H.data_dir() .. "/jpeg/"
    -- Correct decoders differ by rounding; and where colour has 2 x 2 samples, in how they spread
    -- them, so that brightness is compared there. Left out: files without their Huffman tables or
    -- coefficients.
    it("reads as the reference pictures, within rounding", function()
      local count = 0
      for _, name in ipairs(core.io.list(folder)) do
        local stem = name:match "^(.*)%.jpg$"
        if stem and not (stem == "mjpeg" or stem:find "partial" or stem:find "missing%-dc") then
          local opt = {channels = stem:find "[34]x[34]$" and 1 or nil}
          local t = assert(pg.io.image(folder .. name, opt))
          local want = assert(pg.io.image(folder .. stem .. ".png", opt))
          if want:size(1) ~= t:size(1) then want = want:narrow(1, 1, 3) end
          assert.same(want.shape, t.shape, name)
          local off = (t:to("float32") - want:to("float32")):abs()
          assert.is_true(off:mean():item() < (opt.channels and 1 or 0.5), name)
          assert.is_true(off:max():item() <= 4, name)
          count = count + 1
        end
      end
      assert.equal(34, count)
    end)
    it("is refused where tables are missing, or its end is", function()
      files.refused("a.jpg", files.read(folder .. "mjpeg.jpg"), "damaged JPEG: bad huffman code")
      local bytes = files.read(folder .. "rgb.jpg")
      files.refused("a.jpg", bytes:sub(1, #bytes // 2), "truncated: a JPEG ends with the marker")
      files.refused("a.jpg", bytes:sub(1, 300), "truncated")
      files.refused("a.jpg", bytes:sub(1, 20), "truncated")
    end)
    it("never breaks on damaged bytes", function()
      local bytes = files.read(folder .. "jpg-progressive.jpg")
      for place = 3, #bytes - 2, 23 do
        local broken = bytes:sub(1, place) .. string.char((bytes:byte(place + 1) + 97) % 256)
          .. bytes:sub(place + 2)
        local t, message = read("a.jpg", broken)
        assert.is_true(t ~= nil or message:find "a.jpg: " ~= nil)
      end
    end)
    it("survives every failing allocation", function()
      files.survives_failures(folder .. "jpg-gray.jpg")
    end)
  end
  it("is refused where there is only its magic", function()
    files.refused("a.jpg", "\xff\xd8\xff", "truncated")
    files.refused("a.jpg", "\xff\xd8\xff\xfe\0\2\xff\xd9", "not a JPEG that can be read")
  end)
  it("is refused where its Huffman tables are too long or cut", function()
    local function tables(body)
      return "\xff\xd8\xff\xc4" .. string.pack(">I2", #body + 2) .. body .. "\xff\xd9"
    end
    local counts = ("\17"):rep(16) -- 272 values
    files.refused("a.jpg", tables("\0" .. counts .. ("a"):rep(272)), "Huffman table that cannot be")
    files.refused("a.jpg", tables("\0" .. ("\1"):rep(16) .. "abc"), "Huffman table that cannot be")
    files.refused("a.jpg", "\xff\xd8\xff\xc4\0\1\xff\xd9", "a segment without a length")
  end)
end)

describe("a BMP", function()
  it("reads rows from below, blue first, padded to four bytes", function()
    local rows = "\3\2\1\6\5\4\0\0" .. "\9\8\7\12\11\10\0\0"
    H.same(read("a.bmp", bmp(2, 2, 24, rows)),
      {{{7, 10}, {1, 4}}, {{8, 11}, {2, 5}}, {{9, 12}, {3, 6}}})
    H.same(read("a.bmp", bmp(2, -2, 24, rows)),
      {{{1, 4}, {7, 10}}, {{2, 5}, {8, 11}}, {{3, 6}, {9, 12}}})
  end)
  it("is refused where pixels are missing or too many", function()
    files.refused("a.bmp", bmp(200, 200, 24, "abc"), "truncated: 120000 bytes")
    files.refused("a.bmp", "BM", "truncated")
    files.refused("a.bmp", bmp(0, 2, 24, ("a"):rep(16)), "without pixels")
    files.refused("a.bmp", bmp(0x7fffffff, 0x7fffffff, 24, "abc"), "limit")
    files.refused("a.bmp", bmp(2, 2, 5, ("a"):rep(16)), "BMP")
  end)
end)

describe("PGM and PPM", function()
  it("read packed and plain, comments, any greatest value, 16 bits", function()
    H.same(read("a.pgm", "P5 2 1 255\n\1\2"), {{{1, 2}}})
    H.same(read("a.pgm", "P5\n# by hand\n2 1 # wide\n255\n##"), {{{35, 35}}})
    H.same(read("a.ppm", "P6 1 1 255\nabc"), {{{97}}, {{98}}, {{99}}})
    H.same(read("a.pgm", "P2 3 1 15\n0 15 # c\n5\n"), {{{0, 255, 85}}})
    H.same(read("a.ppm", "P3 1 1 255 1 2 3"), {{{1}}, {{2}}, {{3}}})
    H.same(read("a.pgm", "P5 2 1 65535\n\255\255\128\0"), {{{255, 128}}})
    H.same(read("a.pgm", "P5 1 1 255\n\1\n"), {{{1}}})
  end)
  it("are refused where header and pixels do not agree", function()
    for _, case in ipairs {
      {"P5", "not a PNG"}, {"P5 ", "header is width"}, {"P5 2 1", "header is width"},
      {"P5 2 1 0\nab", "header is width"}, {"P5 2 1 65536\nabcd", "header is width"},
      {"P5 x 1 255\nab", "header is width"}, {"P5 99999999999 1 255\na", "header is width"},
      {"P5 0 1 255\n", "without pixels"}, {"P5 2 2 255\nabc", "truncated: 4 bytes"},
      {"P5 2 1 255\nabc", "longer than"}, {"P2 2 1 255\n1 256", "sample 2 is above"},
      {"P2 2 1 255\n1 xy", "sample 2 is missing"}, {"P5 2 1 9\n\1\11", "sample 2 is above"},
      {"P6 999999999 999999999 255\n", "limit"},
    } do
      files.refused("a.pgm", case[1], case[2])
    end
  end)
  if H.data_dir() then
    it("read the ORL faces", function()
      assert.same({1, 112, 92}, pg.io.image(H.data_dir() .. "/orl-faces/s1/1.pgm").shape)
    end)
  end
end)

describe("pg.io.image", function()
  it("gives the channels that are asked for", function()
    local rgba = png(header(1, 1, 8, 6), "\0\100\50\200\4")
    H.same(read("a.png", rgba, {channels = 3}), {{{100}}, {{50}}, {{200}}})
    H.same(read("a.png", rgba, {channels = 1}), {{{82}}})
    H.same(read("a.png", png(header(1, 1, 8, 4), "\0\9\1"), {channels = 3}), {{{9}}, {{9}}, {{9}}})
    H.same(read("a.png", png(header(1, 1, 8, 4), "\0\9\1"), {channels = 1}), {{{9}}})
    H.same(read("a.png", GREY, {channels = 3})[2], {{1, 2}, {3, 4}})
    H.raises(function() read("a.png", GREY, {channels = 2}) end, "channels: expected 1, 3 or 0")
    H.raises(function() read("a.png", GREY, {channel = 3}) end, "did you mean 'channels'")
    H.raises(function() pg.io.image(3) end, "argument 'path': expected a string")
  end)
  it("has a limit that the caller may set", function()
    assert.same({1, 2, 2}, read("a.png", GREY, {limit = #GREY}).shape)
    local t, message = read("a.png", GREY, {limit = #GREY - 1})
    assert.is_nil(t)
    assert.matches("a file of %d+ bytes: more than the limit of %d+", message)
    t, message = read("a.pgm", "P5 50 50 255\n", {limit = 2000})
    assert.is_nil(t)
    assert.matches("50 x 50 pixels of 1 channels: more than the limit of 2000 bytes", message)
  end)
  it("says what is wrong with files that are none", function()
    local t, message = pg.io.image "/no/such.png"
    assert.is_nil(t)
    assert.equal("/no/such.png: No such file or directory", message)
    files.refused("a.png", "", "not a PNG, JPEG, BMP, PGM or PPM file")
    files.refused("a.png", "GIF89a", "not a PNG")
  end)
end)

describe("pg.save of a picture", function()
  local function round(name, t)
    return H.in_folder(function(folder)
      local path = folder .. "/" .. name
      assert(pg.save(path, t))
      return (pg.load(path))
    end)
  end
  it("comes back from PNG with 1 to 4 channels, from PGM and PPM with 1 or 3", function()
    for channels = 1, 4 do
      local t = pg.randint(0, 255, {channels, 5, 3}):to("uint8")
      H.identical(round("a.png", t), t)
      H.identical(round("a.png", t:transpose(2, 3)), t:transpose(2, 3):contiguous())
      if channels % 2 == 1 then H.identical(round("a.ppm", t), t) end
    end
    local flat = pg.randint(0, 255, {4, 6}):to("uint8")
    H.identical(round("a.png", flat), flat:unsqueeze(1))
    H.identical(round("a.pgm", flat), flat:unsqueeze(1))
  end)
  it("refuses what is no picture", function()
    local t = pg.zeros(1, 2, 2)
    H.raises(function() round("a.png", t) end, "expected a picture: uint8.*got float32 of %[1 x 2")
    H.raises(function() round("a.png", pg.zeros(5, 2, 2):to("uint8")) end, "1 to 4 channels")
    H.raises(function() round("a.ppm", pg.zeros(2, 2, 2):to("uint8")) end, "1 or 3 channels")
    H.raises(function() round("a.png", pg.zeros(0, 2):to("uint8")) end, "expected a picture")
    H.raises(function() round("a.png", {a = t}) end, "a picture is one tensor")
    H.raises(function() round("a.jpg", t:to("uint8")) end, "only read")
  end)
end)
