-- Datasets in memory, subsets, splits, datasets of one's own.
-- Relies on perigee. Sources: lua/perigee/data/dataset.lua, core/data/data.c.

local H = require "spec.helper"
local core = require "perigee.core"
local pg = require "perigee"

local data = pg.data

local function small()
  return data.TensorDataset({
    image = core.from_bytes("\0\51\102\153\204\255", "uint8", {3, 2}),
    label = pg.tensor({2, 1, 3}, {dtype = "int64"}),
  }, {transforms = {image = "unit"}, classes = {"a", "b", "c"}})
end

local function index(...) return pg.tensor({...}, {dtype = "int64"}) end

describe("data.TensorDataset", function()
  it("gives samples and batches by field", function()
    local set = small()
    assert.equal(3, #set)
    local sample = set:get(2)
    H.same(sample.image, {.4, .6})
    H.same(sample.label, 1)
    assert.same({}, sample.label.shape)
    local batch = set:batch(index(3, 1, 3))
    assert.equal("float32", batch.image.dtype)
    H.same(batch.image, {{.8, 1}, {0, .2}, {.8, 1}})
    H.same(batch.label, {3, 2, 3})
    assert.equal("int64", batch.label.dtype)
    H.same(set:batch({2}).label, {1})
  end)
  it("scales all of uint8 as a division by 255 does", function()
    local bytes = {}
    for i = 0, 255 do bytes[i + 1] = string.char(i) end
    local t = core.from_bytes(table.concat(bytes), "uint8", {256, 1})
    local set = data.TensorDataset({x = t}, {transforms = {x = "unit"}})
    H.identical(set:batch(core.data.range(1, 256)).x, t:to "float32" / 255)
  end)
  it("has its fields and classes as attributes, kept as they were given", function()
    local set = small()
    assert.equal("uint8", set.image.dtype)
    H.same(set.label, {2, 1, 3})
    assert.equal("b", set.classes[2])
    assert.is_nil(set.nothing)
  end)
  it("gives batches of their own memory", function()
    local set = data.TensorDataset {x = pg.tensor {1, 2, 3}}
    set:batch(index(1, 2, 3)).x:add_(5)
    set:get(1).x:add_(5)
    H.same(set.x, {1, 2, 3})
  end)
  it("takes a function as a transform", function()
    local set = data.TensorDataset({x = pg.tensor {1, 2, 3}},
      {transforms = {x = function(x) return x * 2 end}})
    H.same(set:batch(index(1, 3)).x, {2, 6})
    H.same(set:get(2).x, 4)
  end)
  it("outlives the scope it was made in", function()
    local set, part, label
    do
      local scope <close> = pg.scope()
      assert.is_not_nil(scope)
      set = data.TensorDataset {x = pg.arange(1, 4):t()}
      part = set:subset(2, 3)
      label = part.x
    end
    H.same(label, {2, 3})
    H.same(part:get(2).x, 3)
    H.same(set:get(4).x, 4)
  end)
  it("takes any strides", function()
    local set = data.TensorDataset {x = pg.tensor {{1, 2, 3}, {4, 5, 6}}:t()}
    H.same(set:get(2).x, {2, 5})
  end)
  it("refuses what is no set of fields", function()
    local x, y = pg.zeros(3), pg.zeros(4)
    H.raises(function() data.TensorDataset {a = x, b = y} end, "'fields': .*got 4 in 'b'")
    H.raises(function() data.TensorDataset {} end, "an empty one")
    H.raises(function() data.TensorDataset(x) end, "expected a table of tensors by field name")
    H.raises(function() data.TensorDataset {x} end, "'fields': .*got tensor at 1")
    H.raises(function() data.TensorDataset {a = 3} end, "'fields': .*got integer at 'a'")
    H.raises(function() data.TensorDataset {get = x} end, "'fields': .*got 'get'")
    H.raises(function() data.TensorDataset {a = pg.tensor(1)} end, "'fields': .*got %[%] as 'a'")
    H.raises(function() data.TensorDataset({a = x}, {transforms = {a = "unit"}}) end,
      "'transforms': expected uint8 for 'unit', got float32 in 'a'")
    H.raises(function() data.TensorDataset({image = x}, {transforms = {imge = print}}) end,
      "did you mean 'image'")
    H.raises(function() data.TensorDataset({a = x}, {clases = {}}) end, "did you mean 'classes'")
  end)
  it("refuses samples it does not have", function()
    local set = small()
    H.raises(function() set:get(0) end, "'i': expected 1%.%.3, got 0")
    H.raises(function() set:get(4) end, "'i': expected 1%.%.3, got 4")
    H.raises(function() set:get(1.5) end, "expected an integer, got 1.5")
    H.raises(function() set:batch(index(1, 4)) end, "'index': expected 1%.%.3, got 4")
    H.raises(function() set:batch(index(0)) end, "'index': expected 1%.%.3, got 0")
    H.raises(function() set:batch(pg.tensor {1}) end, "int64")
    H.raises(function() set:batch(3) end, "expected a list of indices")
  end)
end)

describe("a subset", function()
  it("is a range, both ends included, or a list", function()
    local set = data.TensorDataset {x = pg.arange(11, 20)}
    H.same(set:subset(2, 4).x, {12, 13, 14})
    H.same(set:subset(9).x, {19, 20})
    H.same(set:subset(-3, -2).x, {18, 19})
    H.same(set:subset({5, 5, 1}).x, {15, 15, 11})
    H.same(set:subset(index(3)).x, {13})
    assert.equal(0, #set:subset(4, 3))
    assert.equal(0, #set:subset {})
  end)
  it("of a subset is one too, with fields, classes and batches", function()
    local part = small():subset({3, 1}):subset {2}
    assert.equal(1, #part)
    H.same(part.label, {2})
    H.same(part:get(1).label, 2)
    H.same(part:batch(index(1, 1)).image, {{0, .2}, {0, .2}})
    assert.equal("c", part.classes[3])
  end)
  it("does not follow its list when that changes", function()
    local list = index(1, 2)
    local part = small():subset(list)
    list:add_(10)
    H.same(part:get(1).label, 2)
  end)
  it("refuses what the set does not have", function()
    local set = small()
    H.raises(function() set:subset(1, 4) end, "'last': expected a range within 1%.%.3, got 1%.%.4")
    H.raises(function() set:subset(0, 2) end, "within 1%.%.3, got 0%.%.2")
    H.raises(function() set:subset(3, 1) end, "within 1%.%.3, got 3%.%.1")
    H.raises(function() set:subset {0} end, "'index': expected 1%.%.3, got 0")
    H.raises(function() set:subset {4} end, "'index': expected 1%.%.3, got 4")
    H.raises(function() set:subset "x" end, "expected a list of indices")
    H.raises(function() set:subset(1, 2):get(3) end, "'i': expected 1%.%.2, got 3")
  end)
end)

describe("data.random_split", function()
  local set = data.TensorDataset {x = pg.arange(1, 10)}
  it("parts the set, the same for the same seed", function()
    local a, b = data.random_split(set, {7, 3}, {seed = 5})
    local c, d = data.random_split(set, {0.7, 0.3}, {seed = 5})
    H.identical(a.x, c.x)
    H.identical(b.x, d.x)
    local all = pg.cat({a.x, b.x}):totable()
    table.sort(all)
    assert.same({1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, all)
    local e = data.random_split(set, {7, 3}, {seed = 6})
    assert.not_same(a.x:totable(), e.x:totable())
  end)
  it("deals out what rounding leaves", function()
    local a, b, c = data.random_split(set, {1 / 3, 1 / 3, 1 / 3})
    assert.same({4, 3, 3}, {#a, #b, #c})
    assert.equal(10, #data.random_split(set, {1.0}))
  end)
  it("follows the global seed where it has none of its own", function()
    pg.manual_seed(3)
    local a = data.random_split(set, {5, 5})
    local b = data.random_split(set, {5, 5})
    pg.manual_seed(3)
    H.identical(data.random_split(set, {5, 5}).x, a.x)
    H.identical(data.random_split(set, {5, 5}).x, b.x)
  end)
  it("refuses lengths that do not add up", function()
    H.raises(function() data.random_split(set, {7, 2}) end, "'lengths': .*got 9")
    H.raises(function() data.random_split(set, {.5, .4}) end, "'lengths': .*got 0%.9")
    H.raises(function() data.random_split(set, {-1, 11}) end, "'lengths': .*got %-1")
    H.raises(function() data.random_split(set, {"x"}) end, "expected a number")
  end)
end)

describe("a dataset of one's own", function()
  local Numbers = data.Dataset:extend "Numbers"
  function Numbers:init(n) self.n = n end
  Numbers.__len = function(self) return self.n end
  function Numbers.get(_, i)
    return {x = pg.full({2}, i), whole = i, half = i / 2, odd = i % 2 == 1, name = "n" .. i}
  end

  it("is collated from its samples", function()
    local batch = Numbers(5):batch(index(4, 1))
    H.same(batch.x, {{4, 4}, {1, 1}})
    H.same(batch.whole, {4, 1})
    assert.equal("int64", batch.whole.dtype)
    H.same(batch.half, {2, .5})
    H.same(batch.odd, {false, true})
    assert.same({"n4", "n1"}, batch.name)
  end)
  it("has subsets", function()
    local part = Numbers(5):subset(2, 3)
    H.same(part:batch(index(2)).whole, {3})
    assert.equal(2, part:get(1).whole)
  end)
  it("is told when its samples differ", function()
    local Odd = data.Dataset:extend "Odd"
    Odd.__len = function() return 2 end
    function Odd.get(_, i) return i == 1 and {a = 1, b = 2} or {a = 1} end
    H.raises(function() Odd():batch(index(1, 2)) end,
      "Odd:get%(2%): expected the field 'b', as other samples have it, got nothing")
    function Odd.get() return 3 end
    H.raises(function() Odd():batch(index(1)) end, "Odd:get%(1%): expected a table of fields")
  end)
end)
