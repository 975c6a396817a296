--- In-place forms that copy the result over the tensor. Relies on spec/helper.lua.
-- Source: lua/perigee/tensor/inplace.lua.

local H = require "spec.helper"
local core = require "perigee.core"
local pg = require "perigee"
local ops = core.ops

describe("in place", function()
  it("gives what the function gives, and the tensor back", function()
    local square, row = H.randn(3, 3), H.randn(3)
    for name, args in pairs {cumsum = {1}, cumprod = {2}, tril = {}, triu = {1}, renorm = {2, 1, 1},
        addmm = {H.randn(3, 2), H.randn(2, 3)}, addr = {row, row}} do
      local x = square:clone()
      assert.is_true(rawequal(x, x[name .. "_"](x, table.unpack(args))))
      H.same(x, ops[name](square, table.unpack(args)))
    end
    local x = row:clone()
    H.same(x:addmv_(square, row), ops.addmv(row, square, row))
  end)
  it("carries gradients", function()
    local x = H.leaf(H.t64.randn(3), true)
    H.gradcheck(function(t) return t:clone():cumsum_(1) end, x:detach())
  end)
  it("fills diagonals", function()
    local x = ops.zeros(2, 3)
    assert.is_true(rawequal(x, x:fill_diagonal_(5)))
    H.same(x, {{5, 0, 0}, {0, 5, 0}})
    H.same(ops.zeros(7, 2):fill_diagonal_(1, {wrap = true}),
      {{1, 0}, {0, 1}, {0, 0}, {1, 0}, {0, 1}, {0, 0}, {1, 0}})
    H.same(ops.zeros(4, 2):fill_diagonal_(1, true), {{1, 0}, {0, 1}, {0, 0}, {1, 0}})
    H.same(ops.zeros(4, 2):fill_diagonal_(1), {{1, 0}, {0, 1}, {0, 0}, {0, 0}})
    H.same(ops.zeros(2, 2, 2):fill_diagonal_(1), {{{1, 0}, {0, 0}}, {{0, 0}, {0, 1}}})
    H.raises(function() ops.zeros(3):fill_diagonal_(1) end, "expected at least 2 dims, got 1")
    H.raises(function() ops.zeros(2, 2, 3):fill_diagonal_(1) end, "equal sizes, got %[2 x 2 x 3%]")
  end)
end)

describe("in-place functions", function()
  it("exist beside the methods", function()
    local x = ops.ones(2)
    assert.is_true(rawequal(x, pg.exp_(pg.mul_(x, 0))))
    H.same(x, {1, 1})
  end)
end)
