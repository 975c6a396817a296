-- nn.utils: parameters as one vector, weight and spectral norm. Clipping is in
-- spec/optim/optim_spec.lua.
-- Relies on busted and spec/helper.lua.
-- Sources: lua/perigee/nn/utils.lua, lua/perigee/nn/reparametrize.lua.

local H = require "spec.helper"
local pg = require "perigee"
local nn = pg.nn

describe("nn.utils", function()
  it("takes parameters to a vector and back", function()
    local lin = nn.Linear(2, 3)
    local v = nn.utils.parameters_to_vector(lin:parameters())
    assert.same({9}, v.shape)
    nn.utils.vector_to_parameters(pg.arange(1, 9):to("float32"), lin:parameters())
    H.same(lin.weight:detach(), {{1, 2}, {3, 4}, {5, 6}})
    H.same(lin.bias:detach(), {7, 8, 9})
    H.raises(function() nn.utils.vector_to_parameters(pg.ones(3), lin:parameters()) end, "9")
  end)
end)

local function keys(dict)
  local list = {}
  for name, t in pairs(dict) do list[#list + 1] = name .. " " .. table.concat(t.shape, "x") end
  table.sort(list)
  return table.concat(list, ", ")
end

--- A module in Lua with a parameter of its own.
local Scale = nn.Module:extend "ScaleOfUtilsSpec"
function Scale:init() self.weight = nn.Parameter(H.randn(3, 4)) end
function Scale:forward(x) return x:matmul(self.weight:t()) end

describe("weight_norm", function()
  it("leaves the function as it is, and trains length and direction", function()
    for _, make in ipairs {function() return nn.Linear(4, 3, {bias = false}) end, Scale} do
      local layer, x = make(), H.randn(2, 4)
      local before, w = layer(x):detach(), layer.weight:detach():clone()
      assert.is_true(rawequal(layer, nn.utils.weight_norm(layer)))
      assert.equal("weight_g 3x1, weight_v 3x4", keys(layer:state_dict()))
      H.same(layer(x):detach(), before, 1e-5)
      H.same(layer.weight_g:detach(), w:norm(2, 2, true))
      layer(x):pow(2):sum():backward()
      local g, v = layer.weight_g, layer.weight_v
      local ng, nv = g:detach():clone(), v:detach():clone()
      ng.requires_grad = true
      nv.requires_grad = true
      x:matmul((nv * (ng / nv:norm(2, 2, true))):t()):pow(2):sum():backward()
      H.same(g.grad, ng.grad, 1e-5)
      H.same(v.grad, nv.grad, 1e-5)
      do
        local _ <close> = pg.no_grad()
        g:mul_(2)
      end
      H.same(layer(x):detach(), before * 2, 1e-5)
      nn.utils.remove_weight_norm(layer)
      assert.equal("weight 3x4", keys(layer:state_dict()))
      H.same(layer(x):detach(), before * 2, 1e-5)
      assert.is_true(layer.weight.requires_grad)
      H.raises(function() nn.utils.remove_weight_norm(layer) end,
        "'name': expected a parameter of .* with weight_norm, got 'weight'")
    end
  end)
  it("has a dim, or one length for all", function()
    local conv = nn.utils.weight_norm(nn.Conv2d(2, 3, 3), "weight", 2)
    assert.equal("bias 3, weight_g 1x2x1x1, weight_v 3x2x3x3", keys(conv:state_dict()))
    local all = nn.utils.weight_norm(nn.Linear(2, 3), {dim = -1})
    assert.equal("bias 3, weight_g , weight_v 3x2", keys(all:state_dict()))
    local other = nn.utils.weight_norm(nn.Conv2d(2, 3, 3), {dim = 2})
    other:load_state_dict(conv:state_dict())
    local x = H.randn(1, 2, 4, 4)
    H.same(other(x), conv(x))
    assert.equal("float64", conv:double()(x:double()).dtype)
  end)
  it("says what is wrong", function()
    H.raises(function() nn.utils.weight_norm(3) end, "weight_norm: argument 'module'")
    H.raises(function() nn.utils.weight_norm(nn.Linear(2, 3), "wait") end,
      "'name': expected a parameter of Linear, got 'wait'")
    H.raises(function() nn.utils.weight_norm(nn.Linear(2, 3), "weight", 3) end,
      "'dim': expected 1..2 or %-2..%-1, got 3")
    local twice = nn.utils.weight_norm(nn.Linear(2, 3))
    H.raises(function() nn.utils.weight_norm(twice) end, "'name': .*got 'weight'")
  end)
end)

describe("spectral_norm", function()
  it("divides by the largest singular value, which it finds in training", function()
    local layer, x = nn.Linear(4, 3, {bias = false}):double(), H.t64.randn(2, 4)
    local w = layer.weight:detach():clone()
    nn.utils.spectral_norm(layer)
    assert.equal("weight_orig 3x4, weight_u 3, weight_v 4", keys(layer:state_dict()))
    for _ = 1, 200 do layer(x) end
    local square = w:matmul(w:t())   -- power iteration of our own
    local u = H.t64.randn(3)
    for _ = 1, 500 do
      u = square:matmul(u)
      u = u / u:norm()
    end
    local sigma = square:matmul(u):norm():sqrt()
    H.same(layer.weight:detach(), w / sigma, 1e-8)
    layer:eval()
    local before = layer.weight_u:clone()
    H.same(layer(x):detach(), x:matmul((w / sigma):t()), 1e-8)
    H.same(layer.weight_u, before)
    layer(x):pow(2):sum():backward()
    assert.same({3, 4}, layer.weight_orig.grad.shape)
    nn.utils.remove_spectral_norm(layer)
    assert.equal("weight 3x4", keys(layer:state_dict()))
    H.same(layer.weight:detach(), w / sigma, 1e-8)
  end)
  it("takes rows along dim 2 of transposed convolutions", function()
    local layer = nn.utils.spectral_norm(nn.ConvTranspose2d(2, 3, 2))
    assert.equal("bias 3, weight_orig 2x3x2x2, weight_u 3, weight_v 8", keys(layer:state_dict()))
    H.raises(function() nn.utils.spectral_norm(nn.Linear(2, 3), {n_power_iterations = 0}) end,
      "'n_power_iterations': expected at least 1, got 0")
  end)
end)

describe("nn.utils.parametrizations", function()
  require("spec.helper.modules").modules "norms"

  it("keep their parts apart and give the parameter back", function()
    local layer, x = nn.utils.parametrizations.weight_norm(nn.Linear(4, 3)), H.randn(2, 4)
    assert.equal("bias 3, parametrizations.weight.original0 3x1, "
      .. "parametrizations.weight.original1 3x4", keys(layer:state_dict()))
    assert.is_true(nn.utils.parametrize.is_parametrized(layer, "weight"))
    assert.is_false(nn.utils.parametrize.is_parametrized(layer, "bias"))
    local before = layer(x):detach()
    H.raises(function() nn.utils.parametrizations.spectral_norm(layer) end,
      "'name': expected a parameter of Linear that is not computed from others, got 'weight'")
    nn.utils.parametrize.remove_parametrizations(layer, "weight")
    assert.is_false(nn.utils.parametrize.is_parametrized(layer))
    assert.equal("bias 3, weight 3x4", keys(layer:state_dict()))
    assert.equal("Linear(in_features=4, out_features=3, bias=True)", tostring(layer))
    H.same(layer(x):detach(), before, 1e-6)
    H.raises(function() nn.utils.parametrize.remove_parametrizations(layer) end,
      "'name': expected a parameter of Linear with a parametrization, got 'weight'")
  end)

  it("load states in the other form", function()
    local old, new = nn.utils, nn.utils.parametrizations
    for _, kind in ipairs {"weight_norm", "spectral_norm"} do
      for _, from in ipairs {old, new} do
        local net = nn.Sequential {nn.ReLU(), from[kind](nn.Conv2d(2, 3, 2))}
        local to = from == old and new or old
        local other = nn.Sequential {nn.ReLU(), to[kind](nn.Conv2d(2, 3, 2))}
        other:load_state_dict(net:state_dict())
        H.same(other[2].weight:detach(), net[2].weight:detach(), 1e-6)
        local x = H.randn(1, 2, 3, 3)
        H.same(other:eval()(x):detach(), net:eval()(x):detach(), 1e-6)
      end
    end
  end)
end)

it("norms are saved with their module, wherever they stand", function()
  local Net = nn.Module:extend "NetOfUtilsSpec"
  function Net:init()
    self.own = nn.utils.weight_norm(nn.Linear(3, 3))
    self.plain = nn.Linear(3, 2)
    self.undone = nn.utils.weight_norm(nn.Linear(2, 2))
  end
  function Net:forward(x) return self.undone(self.plain(self.own(x))) end
  H.in_folder(function(path)
    local net = Net()
    nn.utils.parametrizations.spectral_norm(net.plain, {n_power_iterations = 2})
    nn.utils.remove_weight_norm(net.undone)
    local input = nn.Input({3}, {name = "x"})
    local graph = nn.Model(input, nn.utils.spectral_norm(nn.Linear(3, 2))(input))
    local x = H.randn(4, 3)
    for i, model in ipairs {net:eval(), graph:eval()} do
      assert(model:save(path .. i))
      local again = assert(nn.load(path .. i))
      assert.same(keys(model:state_dict()), keys(again:state_dict()))
      H.identical(again(x):detach(), model(x):detach())
      assert.equal(tostring(model), tostring(again))
    end
  end)
end)

it("get_total_norm is the norm of norms", function()
  H.same(nn.utils.get_total_norm {pg.ones(2), pg.ones(2, 7)}, 4)
  H.same(nn.utils.get_total_norm({pg.tensor {1, -5}, pg.tensor {3}}, math.huge), 5)
end)
