-- Table files: numbers, names, words, separators, quotes; what is written; what is refused.
-- Relies on spec/helper/files.lua; real tables where they are present. Sources:
-- core/io/formats/csv.c, lua/perigee/io.lua.

local H = require "spec.helper"
local core = require "perigee.core"
local pg = require "perigee"
local files = require "spec.helper.files"

local NAN = 0 / 0

local function read(text, name, opt)
  return files.with(name or "a.csv", text, function(path) return pg.load(path, opt) end)
end

describe("a table file", function()
  it("of numbers is one tensor, float32 unless told", function()
    local t, info = read "1,2\n3,4.5\n"
    assert.equal("float32", t.dtype)
    H.same(t, {{1, 2}, {3, 4.5}})
    assert.same({classes = {}}, info)
    assert.equal("float64", read("1,2\n", nil, {dtype = "float64"}).dtype)
    H.raises(function() pg.load("x.npy", {dtype = "float64"}) end, "for table files")
  end)
  it("may use ; and tab, spaces, CR LF, comments, a byte order mark, no last line end", function()
    H.same(read "\xef\xbb\xbf1;2\r\n3;4", {{1, 2}, {3, 4}})
    H.same(read("1\t\t3\n4\t5\t6\n", "a.tsv"), {{1, NAN, 3}, {4, 5, 6}})
    H.same(read "# a, b, c\n\n 1 , 2\n3 ,\"4\"\n", {{1, 2}, {3, 4}})
    H.same(read "1e3,-.5\n0x10,inf\n", {{1000, -.5}, {16, math.huge}})
  end)
  it("reads missing numbers as NaN", function()
    H.same(read "1,NA\n,?\n", {{1, NAN}, {NAN, NAN}})
  end)
  it("with a line of names is a tensor for each column", function()
    local t, info = read 'height,"name, ""x""",n\n1.5,bob,1\n2,al,2\n2.5,bob,\n'
    assert.same({"height", 'name, "x"', "n"}, info.columns)
    H.same(t.height, {1.5, 2, 2.5})
    H.same(t.n, {1, 2, NAN})
    local names = t['name, "x"']
    assert.equal("int64", names.dtype)
    H.same(names, {2, 1, 2})
    assert.same({"al", "bob"}, info.classes['name, "x"'])
  end)
  it("with words but no names counts its columns", function()
    local t, info = read "5.1,setosa\n4,versicolor\n4,setosa\n"
    H.same(t[1], {5.1, 4, 4})
    H.same(t[2], {1, 2, 1})
    assert.same({[2] = {"setosa", "versicolor"}}, info.classes)
    assert.is_nil(info.columns)
  end)
  it("may hold lines inside quotes, and names only", function()
    local _, info = read 'x\n"two\nlines"\n'
    assert.same({"two\nlines"}, info.classes.x)
    local t = read "a,b\n"
    assert.same({0}, t.a.shape)
  end)
  it("reads what it wrote", function()
    H.in_folder(function(folder)
      local path = folder .. "/t.csv"
      local t = core.tensor {{0.1, 1e-30}, {-3, 16777216}, {1 / 0, NAN}}
      assert.is_true(pg.save(path, t))
      assert.equal("0.1,1e-30\n-3,16777216\ninf,", files.read(path):match ".*,")
      H.same(pg.load(path), t, 0)
      t = core.tensor({{0.1}, {1 / 3}}, {dtype = "float64"})
      assert(pg.save(path, t:select(2, 1)))
      H.same(pg.load(path, {dtype = "float64"}), t, 0)
      assert(pg.save(path, {["a b"] = t:select(2, 1), n = core.tensor({5, 6}, {dtype = "int64"})}))
      assert.equal('"a b",n\n0.1,5\n', files.read(path):match ".-\n.-\n")
      H.same(pg.load(path).n, {5, 6})
      assert(pg.save(path, core.tensor {true, false}))
      assert.equal("1\n0\n", files.read(path))
    end)
  end)
  it("keeps the point whatever the locale", function()
    local before = os.setlocale(nil, "numeric")
    if not (os.setlocale("de_DE.UTF-8", "numeric") or os.setlocale("fr_FR.UTF-8", "numeric")) then
      return
    end
    H.in_folder(function(folder)
      assert(pg.save(folder .. "/t.csv", core.tensor {1.5}))
      H.same(pg.load(folder .. "/t.csv"), {{1.5}})
      assert.equal("[1.5]", pg.io.json_encode {1.5})
    end)
    os.setlocale(before, "numeric")
  end)
  it("survives every failing allocation", function()
    files.with("a.csv", "a,b\n1,x\n2,y\n", files.survives_failures)
    files.with("a.csv", "1,2\n3,4\n", files.survives_failures)
  end)
  if H.data_dir() then
    it("reads the tables that are there", function()
      local folder = H.data_dir() .. "/tabular/"
      assert.same({178, 14}, pg.load(folder .. "wine.csv").shape)
      local iris, info = pg.load(folder .. "iris.csv")
      assert.same({150}, iris[5].shape)
      assert.same({"Iris-setosa", "Iris-versicolor", "Iris-virginica"}, info.classes[5])
    end)
  end
end)

describe("a table file is refused", function()
  local cases = {
    {"empty", "", "holds no table"},
    {"of comments only", "# a\n\n", "holds no table"},
    {"with a short line", "1,2\n3\n", "line 2 has 1 cells, the first one has 2"},
    {"with a long line behind a quoted one", '"a\nb",c\n1,2\n1,2,3\n', "line 4 has 3 cells"},
    {"with an open quote", '1,"2\n3\n', "line 1: a quoted cell does not end"},
    {"with text behind a quote", '1,"2"3\n', "line 1: a quoted cell does not end"},
    {"with a zero byte", "1\0,2", "zero byte"},
    {"with a name twice", "a,a\n1,2\n", "'a' occurs twice"},
  }
  for _, case in ipairs(cases) do
    it(case[1], function() files.refused("a.csv", case[2], case[3]) end)
  end
  it("when a tensor is no table", function()
    H.raises(function() pg.save("x.csv", core.tensor {{{1}}}) end, "%[1 x 1 x 1%]")
    H.raises(function() pg.save("x.csv", {a = core.tensor {1}, b = core.tensor {1, 2}}) end,
      "'b' is %[2%]")
  end)
end)
