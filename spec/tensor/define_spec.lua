--- Compositions: arguments, errors, help, graphs; the mechanism, not the functions.
-- Relies on spec/helper.lua. Source: lua/perigee/tensor/define.lua.

local H = require "spec.helper"
local core = require "perigee.core"
local pg = require "perigee"
local define = require "perigee.tensor.define"

describe("a composition", function()
  local x = core.tensor {{1, 2, 3}, {4, 5, 6}}

  it("takes arguments by position, by name, or both", function()
    H.same(pg.rot90(x, 1, {1, 2}), x:rot90 {k = 1})
    H.same(pg.diff(x, 1, {dim = 1}), {{3, 3, 3}})
    H.same(pg.diff(x, {dim = 1, n = 1}), {{3, 3, 3}})
    H.same(pg.rot90(x, 1.0), pg.rot90(x))
  end)

  it("takes tensors one by one or as a list", function()
    local a, b = core.tensor {1, 2}, core.tensor {3, 4}
    H.same(pg.hstack(a, b), {1, 2, 3, 4})
    H.same(pg.hstack {a, b}, {1, 2, 3, 4})
    H.same(pg.meshgrid(a, b, "xy")[1], {{1, 2}, {1, 2}})
    H.same(pg.meshgrid(a, b, {indexing = "xy"})[2], {{3, 3}, {4, 4}})
    H.same(pg.einsum("i,i->", a, b), 11)
  end)

  it("says what is wrong with an argument", function()
    H.raises(function() return pg.kron(x) end,
      "kron: argument 'other': expected a tensor, got nothing")
    H.raises(function() local _ = pg.kron(x, 3) end,
      "define_spec.lua:%d+: kron: argument 'other': expected a tensor, got 3")
    H.raises(function() return x:diff(1, 1, x, x, 5) end, "expected at most 5 arguments, got 6")
    H.raises(function() return x:diff(1, {n = 1}) end, "'n': .*got it by position and by name")
    H.raises(function() return x:diff {dimm = 1} end, "unknown option 'dimm', did you mean 'dim'?")
    H.raises(function() return x:diff(1.5) end, "argument 'n': expected an integer, got 1.5")
    H.raises(function() return x:quantile(0.5, 1, 1) end,
      "'keepdim': expected true or false, got 1")
    H.raises(function() return x:quantile(0.5, {interpolation = "linaer"}) end,
      "one of 'linear', .-did you mean 'linear'%?, got 'linaer'")
    H.raises(function() return pg.hstack({x, 3}) end, "expected a tensor at 2, got 3")
    H.raises(function() return pg.frombuffer("abc", "flaot") end,
      'expected a dtype such as "float32"')
  end)

  it("names itself and the op that refused", function()
    H.raises(function() return pg.tensordot(x, x, {{1}, {3}}) end,
      "tensordot: argument 'dims': expected 1%.%.2 or %-2%.%.%-1, got 3")
    H.raises(function() local _ = pg.hstack(x, core.tensor {{1, 2}}) end,
      "define_spec.lua:%d+: hstack: cat: .*got %[1 x 2%] as tensor 2")
  end)

  it("is described as ops are", function()
    local found = {}
    for _, info in ipairs(core.op_info()) do found[info.name] = info end
    assert.is_true(found.rot90.method)
    assert.equal("k", found.rot90.params[2].name)
    assert.same({1, 2}, found.rot90.params[3].default)
    local help = require "perigee.help"
    assert.truthy(help.text("rot90", _G):find("pg.rot90(input, k = 1, dims = {1, 2})", 1, true))
    assert.equal(pg.rot90, core.ops.rot90)
    assert.equal(core.Tensor.rot90, core.ops.rot90)
  end)

  it("is one op of a graph", function()
    local nn = pg.nn
    local input = nn.Input({2, 3}, {name = "x"})
    local y = pg.kron(input, core.tensor {{1, 2}})
    local model = nn.Model({input}, {y})
    H.same(model(x:reshape(1, 2, 3)), pg.kron(x:reshape(1, 2, 3), core.tensor {{1, 2}}))
  end)

  it("reads its parameters from one line", function()
    define.define {"define_spec_probe", "a: integer = 2; b: number?; w: x|y = y; l: integers = {3}",
      "A probe.", function(...) return ... end, nodiff = true}
    local probe = core.ops.define_spec_probe
    assert.same({2, nil, "y", {3}}, {probe()})
    assert.same({1, 0.5, "x", 4}, {probe(1, 0.5, "x", 4)})
    core.ops.define_spec_probe, define.functions.define_spec_probe = nil, nil
    table.remove(define.list)
  end)
end)
