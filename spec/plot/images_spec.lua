-- plot.images: grey and coloured pictures, floats and bytes, sizes, names, errors.
-- Relies on spec/helper.lua. Sources: lua/perigee/plot/images.lua.

local H = require "spec.helper"
local plot = require "perigee.plot"

local with_cairo = pcall(require, "perigee.cairo") and it or pending

local function size_of(png) return string.unpack(">I4I4", png, 17) end

describe("plot.images", function()
  with_cairo("shows the same for bytes and for floats in 0..1, which it cuts there", function()
    local bytes = H.make({0, 255, 51, 102, 0, 0, 255, 255}, "uint8", {2, 1, 2, 2})
    local floats = H.make({-3, 1, 0.2, 0.4, 0 / 0, 0, 1, 9}, "float32", {2, 1, 2, 2})
    local picture = plot.images(bytes):bytes "png"
    assert.equal(picture, plot.images(floats):bytes "png")
    assert.equal(picture, plot.images(bytes:squeeze(2)):bytes "png")
    assert.equal(picture, plot.images(bytes:expand(-1, 3, -1, -1)):bytes "png")
    assert.not_equal(picture, plot.images(255 - bytes):bytes "png")
  end)
  with_cairo("takes columns, zoom, gap, title and names", function()
    local t = H.randn(6, 3, 4, 5)
    local width, height = size_of(plot.images(t, {columns = 3, zoom = 2, gap = 1}):bytes("png", 1))
    assert.same({28 + 3 * 11 - 1, 28 + 2 * 9 - 1}, {width, height})
    for _, opt in ipairs {
      {title = "Six"}, {columns = 2, rows = {"a", "b", "c"}}, {labels = {1, 2, 3, 4, 5, "ü"}},
      {columns = 100}, {gap = 0},
    } do
      for _, format in ipairs {"png", "svg", "pdf"} do
        assert.is_string(plot.images(t, opt):bytes(format))
      end
    end
  end)
  it("names function, option, expected and given in every refusal", function()
    local t = H.randn(2, 1, 4, 4)
    for _, case in ipairs {
      {{3}, "plot.images: argument 'images': expected a tensor, got integer"},
      {{H.randn(2, 2, 4, 4)}, "or n x 1 or 3 x height x width, got %[2 x 2 x 4 x 4%]"},
      {{H.randn(4, 4)}, "got %[4 x 4%]"},
      {{t:to "int64"}, "expected uint8, or floats in 0..1, got int64"},
      {{t:narrow(1, 1, 0)}, "there is nothing to show in %[0 x 1 x 4 x 4%]"},
      {{t, {column = 2}}, "unknown option 'column', did you mean 'columns'"},
      {{t, {columns = 0}}, "option 'columns': expected 1 or more, got 0"},
      {{t, {zoom = 0}}, "option 'zoom': expected a positive number, got 0"},
      {{t, {rows = {"a", "b", "c"}}}, "option 'rows': expected a list of 1 texts, got 3"},
      {{t, {labels = "x"}}, "option 'labels': expected a list of 2 texts, got string"},
    } do
      H.raises(plot.images, case[2], table.unpack(case[1]))
    end
  end)
end)
