-- Table files as datasets: which column is what, classes, errors.
-- Relies on spec/helper/files.lua. Sources: lua/perigee/data/csv.lua.

local H = require "spec.helper"
local pg = require "perigee"
local files = require "spec.helper.files"

local data = pg.data

local function read(text, opt)
  return files.with("a.csv", text, function(path) return data.csv(path, opt) end)
end

describe("data.csv", function()
  it("takes all columns for input where nothing else is said", function()
    local set = read "1,2\n3,4\n"
    H.same(set.input, {{1, 2}, {3, 4}})
    assert.is_nil(set.label)
    assert.equal(2, #set)
  end)
  it("makes classes of words, and of numbers in their order", function()
    local set = read("5,b\n6,a\n7,b\n", {label = 2})
    H.same(set.input, {{5}, {6}, {7}})
    H.same(set.label, {2, 1, 2})
    assert.equal("int64", set.label.dtype)
    assert.same({"a", "b"}, set.classes)
    set = read("x,quality\n1,7\n2,5\n3,7\n", {label = "quality"})
    H.same(set.label, {2, 1, 2})
    assert.same({"5", "7"}, set.classes)
    set = read("3,1\n1,2\n", {label = 1})
    H.same(set.label, {2, 1})
    H.same(set.input, {{1}, {2}})
  end)
  it("takes a column for the target, counted from the end too", function()
    local set = read("1,2,0.5\n3,4,1.5\n", {target = -1})
    H.same(set.target, {.5, 1.5})
    assert.equal("float32", set.target.dtype)
    H.same(set:get(2).input, {3, 4})
  end)
  it("takes the input's columns by name or number, in their order", function()
    local set = read("a,b,c\n1,2,3\n", {columns = {"c", 1}})
    H.same(set.input, {{3, 1}})
  end)
  it("refuses columns that are not there", function()
    H.raises(function() read("a,height\n1,2\n", {label = "hight"}) end, "did you mean 'height'")
    H.raises(function() read("1,2\n", {label = 3}) end, "'label': .*got 3")
    H.raises(function() read("1,2\n", {label = 1, target = 2}) end, "'target': .*got 2")
    H.raises(function() read("1\n", {label = 1}) end,
      "'path': expected columns that are left for input, got none in")
    H.raises(function() read("1,2\n", {lable = 1}) end, "did you mean 'label'")
    local set, message = data.csv "/no/such.csv"
    assert.is_nil(set)
    assert.equal("/no/such.csv: No such file or directory", message)
  end)
  if H.data_dir() then
    it("reads iris", function()
      local iris = data.csv(H.data_dir() .. "/tabular/iris.csv", {label = 5})
      assert.equal(150, #iris)
      assert.same({150, 4}, iris.input.shape)
      H.same(iris.label[150], 3)
      assert.equal("Iris-setosa", iris.classes[1])
    end)
  end
end)
