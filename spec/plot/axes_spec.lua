-- Round numbers on axes, and colours.
-- Relies on spec/helper.lua. Sources: lua/perigee/plot/axes.lua, colors.lua.

local axes = require "perigee.plot.axes"
local colors = require "perigee.plot.colors"

describe("ticks", function()
  it("are round numbers inside the range", function()
    assert.equal(2.0, axes.step(10, 5))
    assert.equal(2.5, axes.step(12, 5))
    assert.equal(0.5, axes.step(2.3, 5))
    assert.same({-2, 0, 2}, (axes.ticks(-3, 3.5, 2)))
    assert.same({0, 0.25, 0.5}, (axes.ticks(-0.1, 0.6, 0.25)))
    assert.equal(2, select(2, axes.ticks(-0.1, 0.6, 0.25)))
    assert.equal(0, select(2, axes.ticks(0, 100, 20)))
  end)
  it("stay few and whole where they must", function()
    for _, range in ipairs {1e-7, 0.013, 1, 3, 7.77, 1234, 1e9} do
      for most = 2, 12 do
        local list = axes.ticks(0, range, axes.step(range, most))
        assert.is_true(#list >= 2 and #list <= most + 1)
      end
    end
    assert.equal(1, axes.step(3, 10, true))
    assert.equal(5, axes.step(12, 4, true))
    assert.equal(20, axes.step(75, 5, true))
  end)
  it("are written with as many decimals as the step needs, and a true minus", function()
    assert.equal("2.50", axes.format(2.5, 2))
    assert.equal("\u{2212}3", axes.format(-3, 0))
    assert.equal("0", axes.format(-0.0, 0))
    assert.equal("2e7", axes.format(2e7, 0))
    assert.equal("1e\u{2212}5", axes.format(1e-5, 5))
  end)
end)

describe("a range", function()
  it("has some air, and never no length", function()
    assert.same({-0.5, 10.5}, {axes.range(0, 10)})
    assert.same({-1, 1}, {axes.range(0, 0)})
    assert.same({0, 1}, {axes.range(nil)})
    local lo, hi = axes.range(5, 5)
    assert.is_true(lo < 5 and hi > 5)
  end)
end)

describe("colours", function()
  it("are read from hex and lists", function()
    assert.same({1, 0, 0.2}, colors.parse "#ff0033")
    assert.same({1, 0, 0.2}, colors.parse {1, 0, 0.2})
    assert.is_nil(colors.parse "red")
    assert.is_nil(colors.parse {1, 2, 0})
  end)
  it("differ, however many there are", function()
    local seen = {}
    for _, c in ipairs(colors.list(60)) do
      local key = ("%.2f %.2f %.2f"):format(table.unpack(c))
      assert.is_nil(seen[key])
      seen[key] = true
    end
  end)
end)
