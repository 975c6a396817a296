-- nn.Module: registration by assignment, walking, modes, casts, state, printing, hooks.
-- Relies on busted and spec/helper.lua.
-- Sources: lua/perigee/nn/module.lua.

local H = require "spec.helper"
local pg = require "perigee"
local nn, F = pg.nn, pg.nn.functional

local Residual = nn.Module:extend "Residual"
function Residual:init(width)
  self.conv1 = nn.Conv2d(width, width, 3, {padding = 1})
  self.conv2 = nn.Conv2d(width, width, 3, {padding = 1})
end
function Residual:forward(x)
  return x + self.conv2(F.relu(self.conv1(x)))
end

local function names(iterator)
  local list = {}
  for name in iterator do list[#list + 1] = name end
  return list
end

describe("nn.Module", function()
  it("registers modules, parameters and buffers in order", function()
    local Net = nn.Module:extend "Net"
    function Net:init()
      self.scale = nn.Parameter(pg.ones(3))
      self.body = nn.Linear(3, 3)
      self:register_buffer("seen", pg.zeros(1))
      self.note = "plain"
    end
    function Net:forward(x) return self.body(x) * self.scale end
    local net = Net()
    assert.same({"scale", "body.weight", "body.bias"}, names(net:named_parameters()))
    assert.same({"seen"}, names(net:named_buffers()))
    assert.same({"", "body"}, names(net:named_modules()))
    assert.same({"body"}, names(net:named_children()))
    assert.equal("plain", net.note)
    assert.equal(3, #net:parameters())
    net(pg.ones(2, 3)):sum():backward()
    assert.same({3}, net.scale.grad.shape)
    net:zero_grad()
    assert.is_nil(net.scale.grad)
    net.body = nil
    assert.same({"scale"}, names(net:named_parameters()))
    net.scale = "now plain" == "x" or nil
    assert.same({}, names(net:named_parameters()))
  end)
  it("runs the class of script E, alone and inside a Sequential", function()
    local block = Residual(4)
    local x = pg.randn(2, 4, 5, 5)
    assert.same({2, 4, 5, 5}, block(x).shape)
    assert.same({"1.conv1.weight", "1.conv1.bias", "1.conv2.weight", "1.conv2.bias"},
      names(nn.Sequential {block}:named_parameters()))
    assert.is_true(block:is(nn.Module))
    assert.is_true(block:is(Residual))
    assert.is_false(nn.ReLU():is(Residual))
    local Wide = Residual:extend "Wide"
    function Wide:forward(x_) return Residual.forward(self, x_) * 2 end
    assert.same({2, 4, 5, 5}, Wide(4)(x).shape)
  end)
  it("runs on symbolic tensors", function()
    local out = Residual(16)(nn.Input({16, 8, 8}))
    assert.same({-1, 16, 8, 8}, out.shape)
  end)
  it("lists a shared parameter once, and its state under both names", function()
    local a, b = nn.Linear(2, 2), nn.Linear(2, 2)
    b.weight = a.weight
    local net = nn.Sequential {a, b}
    assert.same({"1.weight", "1.bias", "2.bias"}, names(net:named_parameters()))
    assert.is_not_nil(net:state_dict()["2.weight"])
    net(pg.ones(1, 2)):sum():backward()
    assert.is_true(rawequal(a.weight, b.weight))
  end)
  it("switches modes below it", function()
    local net = nn.Sequential {nn.Dropout(), nn.Sequential {nn.BatchNorm1d(2)}}
    assert.is_true(net.training)
    assert.equal(net, net:eval())
    assert.is_false(net[2][1].training)
    net:train()
    assert.is_true(net[2][1].training)
    net[1].training = false
    assert.is_false(net[1].training)
    H.same(net[1](pg.ones(9)), pg.ones(9))
  end)
  it("freezes", function()
    local net = nn.Linear(2, 2):freeze()
    assert.is_false(net.weight.requires_grad)
    assert.is_true(net:unfreeze().weight.requires_grad)
  end)
  it("casts parameters and floating buffers", function()
    local net = nn.BatchNorm1d(3):double()
    assert.equal("float64", net.weight.dtype)
    assert.equal("float64", net.running_mean.dtype)
    assert.equal("int64", net.num_batches_tracked.dtype)
    assert.is_true(net.weight.requires_grad)
    assert.equal("float64", net(pg.randn(4, 3, {dtype = "float64"})).dtype)
    assert.equal("float32", net:to("float32").weight.dtype)
    H.raises(function() net:to "int64" end, "float32")
    local tied = nn.Sequential {nn.Linear(2, 2), nn.Linear(2, 2)}
    tied[2].weight = tied[1].weight
    tied:double()
    assert.is_true(rawequal(tied[1].weight, tied[2].weight))
  end)
  it("applies a function to children before parents", function()
    local seen = {}
    nn.Sequential {nn.ReLU(), nn.Tanh()}:apply(function(m) seen[#seen + 1] = m.class_name end)
    assert.same({"Tanh", "ReLU", "Sequential"}, seen)
  end)
  it("prints as PyTorch does", function()
    assert.equal([[
Sequential(
  (1): Residual(
    (conv1): Conv2d(4, 4, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))
    (conv2): Conv2d(4, 4, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))
  )
  (2): ReLU()
)]], tostring(nn.Sequential {Residual(4), nn.ReLU()}))
  end)
  it("calls hooks before and after forward", function()
    local lin = nn.Identity()
    local handle = lin:register_forward_hook(function(_, inputs, y) return y + inputs[1] end)
    local pre = lin:register_forward_pre_hook(function(_, x) return x * 10 end)
    assert.equal(20, lin(pg.tensor(1.0)):item())
    handle:remove()
    assert.equal(10, lin(pg.tensor(1.0)):item())
    pre:remove()
    assert.equal(1, lin(pg.tensor(1.0)):item())
  end)
  it("makes parameters of tensors, sharing memory", function()
    local t = pg.zeros(2)
    local p = nn.Parameter(t)
    assert.is_true(p.requires_grad and p.is_leaf)
    assert.is_false(t.requires_grad)
    t:fill_(3)
    H.same(p:detach(), {3, 3})
    assert.is_false(nn.Parameter(t, false).requires_grad)
    H.raises(function() nn.Parameter(pg.tensor({1}, {dtype = "int64"})) end, "floating")
    H.raises(function() nn.Parameter "x" end, "expected a tensor, got string")
  end)
  it("keeps parameters alive when a scope closes", function()
    local p, net
    do
      local _ <close> = pg.scope()
      p = nn.Parameter(pg.ones(2))
      net = nn.Linear(2, 2):double()
      net:register_buffer("extra", pg.ones(1))
    end
    assert.equal(2, p:sum():item())
    assert.equal("float64", net.weight:sum().dtype)
    assert.equal(1, net.extra:item())
  end)
  it("refuses what cannot be", function()
    local net = Residual(2)
    H.raises(function() net:add_module("x", 3) end, "expected a module, got")
    H.raises(function() net:add_module("a.b", nn.ReLU()) end, "without '.'")
    H.raises(function() net:add_module("me", net) end, "'child': .*got the module itself as 'me'")
    H.raises(function() nn.Linear(2, 2).weight = pg.ones(2, 2) end, "nn.Parameter")
    H.raises(function() nn.Module:extend "a b" end, "class name")
    H.raises(function() nn.Module:extend("Empty")()(1) end,
      "expected a class with a method forward, got none")
    H.raises(function() net.training = 3 end, "boolean")
  end)
end)

describe("state_dict", function()
  local function net()
    return nn.Sequential {nn.Linear(2, 3), nn.BatchNorm1d(3)}
  end
  it("goes round", function()
    local a, b = net(), net()
    a(pg.randn(5, 2))
    local result = b:load_state_dict(a:state_dict())
    assert.same({missing_keys = {}, unexpected_keys = {}}, result)
    local x = pg.randn(4, 2)
    a:eval()
    b:eval()
    H.same(b(x):detach(), a(x):detach(), 0)
    assert.equal(1, b[2].num_batches_tracked:item())
  end)
  it("shares memory and has no gradient", function()
    local a = nn.Linear(2, 2)
    local dict = a:state_dict()
    dict.weight:zero_()
    assert.equal(0, a.weight:abs():sum():item())
    assert.is_false(dict.weight.requires_grad)
  end)
  it("keeps parameters that an optimizer knows", function()
    local a, b = net(), net()
    local before = a[1].weight
    a:load_state_dict(b:state_dict())
    assert.is_true(rawequal(before, a[1].weight))
  end)
  it("lists what is missing, unexpected or of another shape, and changes nothing", function()
    local a = net()
    local before = a[1].weight:detach():clone()
    local dict = net():state_dict()
    dict["2.bias"] = nil
    dict["2.biass"] = pg.ones(3)
    dict["1.bias"] = pg.ones(4)
    H.raises(function() a:load_state_dict(dict) end,
      "missing: 2%.bias.*unexpected: 2%.biass.*1%.bias %(expected %[3%], got %[4%]%)")
    H.raises(function() a:load_state_dict(dict, {strict = false}) end, "1%.bias")
    H.same(a[1].weight:detach(), before, 0)
    dict["1.bias"] = nil
    local result = a:load_state_dict(dict, {strict = false})
    assert.same({"2.biass"}, result.unexpected_keys)
    assert.equal(2, #result.missing_keys)
  end)
end)
