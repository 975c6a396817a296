-- The canvas: formats, drawing, errors.
-- Relies on spec/helper.lua. Sources: lua/binding/cairo.c.

local H = require "spec.helper"

local there, cairo = pcall(require, "perigee.cairo")
if not there then
  describe("perigee.cairo", function() pending("this build has no cairo") end)
  return
end

local function bytes(...)
  return string.pack("=" .. ("d"):rep(select("#", ...)), ...)
end

describe("a canvas", function()
  it("becomes a PNG, an SVG or a PDF", function()
    local starts = {png = "\x89PNG\r\n", svg = "<?xml", pdf = "%PDF"}
    for format, start in pairs(starts) do
      local canvas = cairo.new(format, 40, 30, 2)
      canvas:rect(2, 2, 10, 10):fill(1, 0, 0)
      canvas:rect(2, 2, 10, 10, 3):stroke(1, 0, 0, 1, 0.5, 4)
      canvas:font(10, true)
      canvas:text(3, 20, "λ = 1"):fill(0, 0, 0)
      canvas:points(bytes(1, 2, 3, 4), 1, 0, 1, 0, 2, 0, 0, 0, 1)
      canvas:points(bytes(1, 2, 3, 4), 1, 0, 1, 0, 2, 0, 0, 0, 1, string.pack("=i8i8", 1, 2), 2)
      canvas:polyline(bytes(1, 2, 0 / 0, 1, 3, 4, 5, 6), 1, 0, 1, 0):stroke(1, 0, 0, 0)
      local text = canvas:finish()
      assert.equal(start, text:sub(1, #start))
      assert.is_true(#text > 100)
    end
  end)
  it("has the size it was asked for", function()
    local text = cairo.new("png", 40, 30, 2):finish()
    local width, height = string.unpack(">I4I4", text, 17)
    assert.same({80, 60}, {width, height})
  end)
  it("draws points where the map puts them", function()
    local function picture(x, y, ...)
      return cairo.new("png", 20, 20):points(bytes(x, y), ...):finish()
    end
    local blank = cairo.new("png", 20, 20):finish()
    assert.equal(blank, picture(500, 500, 1, 0, 1, 0, 2, 1, 1, 1, 1))
    assert.equal(blank, picture(0 / 0, 5, 1, 0, 1, 0, 2, 1, 1, 1, 1))
    assert.not_equal(blank, picture(10, 10, 1, 0, 1, 0, 2, 1, 1, 1, 1))
    assert.equal(picture(10, 7, 1, 0, 1, 0, 2, 1, 1, 1, 1),
      picture(1, 2, 4, 6, -1, 9, 2, 1, 1, 1, 1))
  end)
  it("draws pictures of bytes with sharp pixels", function()
    local function picture(...) return cairo.new("png", 8, 8):image(...):finish() end
    local by_hand = cairo.new("png", 8, 8)
    by_hand:rect(2, 4, 2, 2):fill(1, 0, 0)
    by_hand:rect(4, 4, 2, 2):fill(0, 0, 1)
    assert.equal(by_hand:finish(), picture("\255\0\0\0\0\255", 2, 1, 2, 4, 4, 2))
    for _, case in ipairs {
      {"abc", 2, 1, 0, 0, 1, 1}, {"", 0, 1, 0, 0, 1, 1}, {"abc", 1, 1, 0, 0, 0, 1},
      {"abc", 1, 1, 0, 0 / 0, 1, 1}, {"abc", 1, -1, 0, 0, 1, 1},
    } do
      H.raises(function() picture(table.unpack(case)) end, "expected")
    end
  end)
  it("measures text", function()
    local canvas <close> = cairo.new("png", 20, 20)
    canvas:font(10)
    local _, _, _, _, one, ascent, descent = canvas:extents "a"
    local _, _, _, _, two = canvas:extents "aa"
    assert.is_true(two > one and one > 0 and ascent > 0 and descent > 0)
  end)
  it("knows the bounds of finite pairs", function()
    local nan, inf = 0 / 0, 1 / 0
    assert.same({-1, 3, 2, 5}, {cairo.bounds(bytes(3, 2, nan, 9, -1, 5, inf, 100))})
    assert.same({}, {cairo.bounds(bytes(nan, 1))})
    assert.same({}, {cairo.bounds "" })
  end)
  it("refuses what makes no sense, and stays usable", function()
    local canvas = cairo.new("png", 20, 20)
    H.raises(function() canvas:move(0 / 0, 1) end, "finite")
    H.raises(function() canvas:text(1, 1, "\xff") end, "UTF%-8")
    H.raises(function() canvas:text(1, 1, "a\0b") end, "UTF%-8")
    H.raises(function() canvas:points("abc", 1, 0, 1, 0, 1, 0, 0, 0, 1) end, "pairs")
    H.raises(function() canvas:points(bytes(1, 2), 1, 0, 1, 0, 1, 0, 0, 0, 1, "x", 1) end, "int64")
    H.raises(function() canvas:font(0) end, "positive")
    canvas:finish()
    H.raises(function() canvas:move(1, 1) end, "finished")
    H.raises(function() canvas:finish() end, "finished")
    H.raises(function() cairo.new("gif", 1, 1) end, "invalid option")
    H.raises(function() cairo.new("png", 0, 1) end, "width")
    H.raises(function() cairo.new("png", 20000, 20000, 100) end, "pixels")
  end)
  it("raises where restore has no save", function()
    H.raises(function() cairo.new("png", 5, 5):restore() end, "canvas: ")
  end)
  it("goes away half drawn", function()
    for _ = 1, 20 do
      local canvas <close> = cairo.new("svg", 20, 20)
      canvas:rect(0, 0, 5, 5):fill(0, 0, 0)
    end
  end)
end)
