-- plot.scatter: files of every format, options, errors.
-- Relies on spec/helper.lua. Sources: lua/perigee/plot/scatter.lua, figure.lua, colors.lua.

local H = require "spec.helper"
local plot = require "perigee.plot"

local function read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read "a"
  file:close()
  return text
end

-- Ten clusters on a circle.
local function clusters(n)
  local xy, label, centers = {}, {}, {}
  for k = 1, 10 do
    centers[#centers + 1] = 5 * math.cos(k * math.pi / 5)
    centers[#centers + 1] = 5 * math.sin(k * math.pi / 5)
  end
  for i = 1, n do
    local k = (i - 1) % 10 + 1
    label[i] = k
    xy[#xy + 1] = centers[2 * k - 1] + 0.4 * H.t:normal()
    xy[#xy + 1] = centers[2 * k] + 0.4 * H.t:normal()
  end
  return H.make(xy, "float32", {n, 2}), H.make(label, "int64", {n}),
    H.make(centers, "float32", {10, 2})
end

local with_cairo = pcall(require, "perigee.cairo") and it or pending

describe("plot.scatter", function()
  with_cairo("saves PNG, SVG and PDF", function()
    local points, label, centers = clusters(300)
    local figure = plot.scatter(points, {label = label, centers = centers, title = "λ = 1",
      classes = {"0", "1", "2", "3", "4", "5", "6", "7", "8", "ankle boot"},
      xlabel = "feature 1", ylabel = "feature 2"})
    H.in_folder(function(folder)
      for ending, start in pairs {png = "\x89PNG", svg = "<?xml", pdf = "%PDF"} do
        local path = folder .. "/a." .. ending
        assert.equal(path, figure:save(path))
        assert.equal(start, read(path):sub(1, #start))
      end
      figure:save(folder .. "/small.png", {scale = 1})
      local width, height = string.unpack(">I4I4", read(folder .. "/small.png"), 17)
      assert.same({760, 600}, {width, height})
    end)
  end)
  with_cairo("says why a file cannot be written", function()
    local figure = plot.scatter(H.randn(5, 2))
    local ok, message = figure:save "/no/such/folder/a.png"
    assert.is_nil(ok)
    assert.matches("/no/such/folder/a.png: No such file", message, 1, true)
  end)
  with_cairo("draws what there is of odd data", function()
    local nan, inf = 0 / 0, 1 / 0
    for _, points in ipairs {
      H.make({}, "float32", {0, 2}), H.make({3, 4}, "float64", {1, 2}),
      H.make({nan, 1, inf, 2, 1, 1, 2, 5}, "float32", {4, 2}),
      H.make({1, 2, 3, 4}, "int64", {2, 2}), H.layouts.transposed(H.randn(4, 2)),
    } do
      assert.is_string(plot.scatter(points):bytes "png")
    end
    local points = clusters(30)
    points.requires_grad = true
    local label = H.int(1, 30, 30)
    assert.is_string(plot.scatter(points, {label = label, classes = {"one"}, legend = false,
      equal = false, size = 3, alpha = 0.2, colors = {"#112233", {0, 0.5, 1}}}):bytes "svg")
    assert.is_string(plot.scatter(points, {label = label:unsqueeze(2)}):bytes "png")
  end)
  with_cairo("draws other pictures for other data", function()
    local points, label = clusters(50)
    local plain = plot.scatter(points):bytes "png"
    assert.equal(plain, plot.scatter(points):bytes "png")
    assert.not_equal(plain, plot.scatter(points, {label = label}):bytes "png")
    assert.not_equal(plain, plot.scatter(points, {centers = points}):bytes "png")
  end)
  it("names function, option, expected and given in every refusal", function()
    local points, label = clusters(20)
    local cases = {
      {{nil}, "plot.scatter: argument 'points': expected a tensor of n x 2, got nil"},
      {{H.randn(3, 3)}, "plot.scatter: argument 'points': expected n x 2, got %[3 x 3%]"},
      {{points, {labels = label}}, "unknown option 'labels', did you mean 'label'%?"},
      {{points, {label = H.int(1, 3, 7)}}, "option 'label': expected 20 class numbers.*got %[7%]"},
      {{points, {label = H.randn(20)}}, "option 'label': expected whole numbers, got float32"},
      {{points, {label = H.int(0, 0, 20)}}, "classes count from 1, got 0"},
      {{points, {centers = 3}}, "argument 'centers': expected a tensor"},
      {{points, {size = -1}}, "option 'size': expected a positive number, got %-1"},
      {{points, {title = 3}}, "option 'title': expected a string, got integer"},
      {{points, {colors = {"red"}}}, "option 'colors': expected '#rrggbb'.*got 'red'"},
      {{points, {classes = "a"}}, "option 'classes': expected a list, got 'a'"},
    }
    for _, case in ipairs(cases) do
      H.raises(plot.scatter, case[2], table.unpack(case[1], 1, 2))
    end
    local ok, message = pcall(function() return (plot.scatter(H.randn(3, 3))) end)
    assert.is_false(ok)
    assert.matches("scatter_spec.lua:%d+: plot.scatter", message)
    H.raises(function() plot.scatter(points):save "a.gif" end, "ending in .png, .svg or .pdf")
    H.raises(function() plot.scatter(points):save(3) end, "'path'")
  end)
end)
