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

describe("in-place views", function()
  local forms = {squeeze_ = {{2, 1, 3}, {}, {2, 3}}, unsqueeze_ = {{2, 3}, {2}, {2, 1, 3}},
    transpose_ = {{2, 3}, {1, 2}, {3, 2}}, t_ = {{2, 3}, {}, {3, 2}},
    swapaxes_ = {{2, 3, 4}, {1, -1}, {4, 3, 2}}, swapdims_ = {{2, 3, 4}, {1, 2}, {3, 2, 4}}}
  for name, form in pairs(forms) do
    it(name .. " changes the tensor's own shape, not its memory", function()
      local x = H.randn(table.unpack(form[1]))
      local before = x:view(-1)
      local expected = ops[name:sub(1, -2)](x, table.unpack(form[2])):clone()
      assert.is_true(rawequal(x, x[name](x, table.unpack(form[2]))))
      assert.same(form[3], x.shape)
      H.same(x, expected, 0)
      x:fill_(7)
      H.same(before, pg.full({before:numel()}, 7.0), 0)
      x[name](x, table.unpack(form[2]))
    end)
    it(name .. " carries gradients", function()
      H.gradcheck(function(t)
        local y = (t * t):contiguous()
        y[name](y, table.unpack(form[2]))
        return y:sin():mul_(2)
      end, H.t64.randn(table.unpack(form[1])))
    end)
  end
  it("stay in their scope, or out of it if kept", function()
    local kept
    do
      local scope <close> = pg.scope()
      kept = scope:keep(pg.ones(2, 1)):squeeze_()
      local other = pg.ones(2, 1)
      other:squeeze_()
    end
    H.same(kept, {1, 1})
  end)
  it("refuse what others hold, in their own name", function()
    local w, x = pg.ones({2, 2}, {requires_grad = true}), pg.ones(2, 2)
    H.raises(function() w:t_() end,
      "t_: argument 'input': expected a tensor that may change in place, got a leaf that requires")
    local loss = (w * x):sum()
    H.raises(function() x:unsqueeze_(1) end, "unsqueeze_: .*got one that a recorded operation")
    assert.same({2, 2}, x.shape)
    loss:backward()
    loss = nil -- luacheck: ignore 311
    H.raises(function() w.grad:unsqueeze_(1) end, "unsqueeze_: .*a gradient holds too")
    H.raises(function() x:unsqueeze_(5) end, "unsqueeze_: argument 'dim': .*got 5")
    assert.same({2, 2}, x.shape)
  end)
  it("detach_ cuts the tensor off", function()
    local x = pg.tensor({3}, {dtype = "float64", requires_grad = true})
    local y = x * x
    local z = y * y
    assert.is_true(rawequal(y, y:detach_()))
    assert.is_true(y.is_leaf)
    assert.is_false(y.requires_grad)
    H.same(y, {9})
    z:sum():backward()
    H.same(x.grad, {108})
    local again = (y * x):sum()
    again:backward()
    H.same(x.grad, {117})
    assert.is_false(x:detach_().requires_grad)
    assert.is_true(rawequal(y, y:detach_()))
    H.raises(function() ops.detach_(1) end, "detach_: argument 'input': expected a tensor, got 1")
  end)
end)

describe("in-place functions", function()
  it("exist beside the methods", function()
    local x = ops.ones(2)
    assert.is_true(rawequal(x, pg.exp_(pg.mul_(x, 0))))
    H.same(x, {1, 1})
  end)
end)
