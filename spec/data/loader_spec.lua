-- The DataLoader: order, epochs, sizes, memory.
-- Relies on perigee. Sources: lua/perigee/data/loader.lua, core/data/data.c.

local H = require "spec.helper"
local core = require "perigee.core"
local pg = require "perigee"

local data = pg.data
local set = data.TensorDataset {x = pg.arange(1, 10)}

-- The numbers of every batch of an epoch.
local function epoch(loader)
  local seen = {}
  for batch in loader do seen[#seen + 1] = batch.x:totable() end
  return seen
end

local function flat(batches)
  local all = {}
  for _, batch in ipairs(batches) do table.move(batch, 1, #batch, #all + 1, all) end
  return all
end

describe("data.DataLoader", function()
  it("goes in order, the last batch short or dropped", function()
    local loader = data.DataLoader(set, {batch_size = 4})
    assert.equal(3, #loader)
    assert.same({{1, 2, 3, 4}, {5, 6, 7, 8}, {9, 10}}, epoch(loader))
    assert.same(epoch(loader), epoch(loader))
    loader = data.DataLoader(set, {batch_size = 4, drop_last = true})
    assert.equal(2, #loader)
    assert.same({{1, 2, 3, 4}, {5, 6, 7, 8}}, epoch(loader))
    assert.equal(10, #data.DataLoader(set))
    assert.equal(1, #data.DataLoader(set, {batch_size = 100}))
    assert.equal(0, #data.DataLoader(set, {batch_size = 100, drop_last = true}))
    assert.same({}, epoch(data.DataLoader(set:subset(1, 0), {batch_size = 4})))
  end)
  it("shuffles each epoch anew, by seed and epoch only", function()
    local opt = {batch_size = 3, shuffle = true, seed = 7}
    local a, b = data.DataLoader(set, opt), data.DataLoader(set, opt)
    local one, two = epoch(a), epoch(a)
    assert.not_same(one, two)
    pg.manual_seed(99)
    pg.randn(5)
    assert.same(one, epoch(b))
    assert.same(two, epoch(b))
    b.epoch = 0
    assert.same(one, epoch(b))
    assert.equal(1, b.epoch)
    local all = flat(one)
    table.sort(all)
    assert.same({1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, all)
    assert.not_same(one, epoch(data.DataLoader(set, {batch_size = 3, shuffle = true, seed = 8})))
  end)
  it("leaves the global stream alone with a seed and follows it without", function()
    pg.manual_seed(1)
    local expected = pg.rand(3)
    pg.manual_seed(1)
    epoch(data.DataLoader(set, {shuffle = true, seed = 5}))
    H.identical(pg.rand(3), expected)
    pg.manual_seed(1)
    local a = epoch(data.DataLoader(set, {shuffle = true}))
    pg.manual_seed(1)
    assert.same(a, epoch(data.DataLoader(set, {shuffle = true})))
  end)
  it("shuffles evenly", function()
    local count = {}
    for i = 1, 6 do count[i] = {0, 0, 0} end
    for k = 1, 6000 do
      local p = core.data.permutation(3, 11, k):totable()
      local code = ({[123] = 1, [132] = 2, [213] = 3, [231] = 4, [312] = 5, [321] = 6})[
        p[1] * 100 + p[2] * 10 + p[3]]
      count[code][1] = count[code][1] + 1
    end
    for i = 1, 6 do
      assert.is_true(math.abs(count[i][1] - 1000) < 150, ("order %d: %d"):format(i, count[i][1]))
    end
  end)
  it("may be left early, and walked by two loops at once", function()
    local loader = data.DataLoader(set, {batch_size = 4})
    for batch in loader do
      if batch.x[1]:item() == 5 then break end
    end
    assert.equal(3, #epoch(loader))
    local seen = {}
    for outer in loader do
      for inner in loader do
        seen[#seen + 1] = outer.x[1]:item() * 100 + inner.x[1]:item()
      end
    end
    assert.same({101, 105, 109, 501, 505, 509, 901, 905, 909}, seen)
    local step = loader:batches()
    assert.same({1, 2, 3, 4}, step().x:totable())
  end)
  it("keeps its order when scopes close between batches", function()
    local loader = data.DataLoader(set, {batch_size = 4, shuffle = true, seed = 1})
    local expected, seen = flat(epoch(data.DataLoader(set,
      {batch_size = 4, shuffle = true, seed = 1}))), {}
    local step
    do
      local scope <close> = pg.scope()
      assert.is_not_nil(scope)
      step = loader:batches()
    end
    while true do
      local scope <close> = pg.scope()
      assert.is_not_nil(scope)
      local batch = step()
      if not batch then break end
      table.move(batch.x:totable(), 1, batch.x:size(1), #seen + 1, seen)
    end
    assert.same(expected, seen)
  end)
  it("gives its batches back when a scope closes", function()
    local big = data.TensorDataset {x = pg.zeros(64, 1000)}
    collectgarbage()
    local before = core.memory().live
    for _ = 1, 3 do
      local scope <close> = pg.scope()
      assert.is_not_nil(scope)
      for batch in data.DataLoader(big, {batch_size = 16}) do
        assert.equal(16, batch.x:size(1))
      end
    end
    assert.equal(before, core.memory().live)
  end)
  it("takes any object with a length and get, or batch", function()
    local meta = {__len = function() return 3 end}
    meta.__index = meta
    function meta.get(_, i) return {x = i} end
    assert.same({{1, 2}, {3}}, epoch(data.DataLoader(setmetatable({}, meta), {batch_size = 2})))
  end)
  it("refuses what is none, and options it does not have", function()
    H.raises(function() data.DataLoader(nil) end, "expected a dataset %(with # and get%), got nil")
    H.raises(function() data.DataLoader {1, 2} end, "data.TensorDataset makes one")
    H.raises(function() data.DataLoader(pg.zeros(3)) end, "expected a dataset")
    H.raises(function() data.DataLoader(set, {batchsize = 3}) end, "did you mean 'batch_size'")
    H.raises(function() data.DataLoader(set, {batch_size = 0}) end, "expected at least 1, got 0")
    H.raises(function() data.DataLoader(set, {batch_size = 1.5}) end, "expected an integer")
    H.raises(function() data.DataLoader(set, {seed = "x"}) end, "argument 'seed'")
  end)
end)
