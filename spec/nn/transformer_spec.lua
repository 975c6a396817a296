-- Transformer layers and stacks: PyTorch's values and gradients with its weights loaded by name,
-- copies, causal masks, files, errors.
-- Relies on spec/helper/modules.lua and spec/fixtures/modules/*transformer.safetensors.
-- Sources: lua/perigee/nn/transformer.lua.

local H = require "spec.helper"
local pg = require "perigee"
local nn = pg.nn

describe("transformers", function()
  require("spec.helper.modules").modules "transformer"
  require("spec.helper.modules").modules "small_transformer"

  it("name the layers of a stack as PyTorch does", function()
    local layer = nn.TransformerEncoderLayer(8, 2, 12)
    local stack = nn.TransformerEncoder(layer, 2)
    local state = stack:state_dict()
    assert.is_truthy(state["layers.0.self_attn.in_proj_weight"])
    assert.is_truthy(state["layers.1.norm2.bias"])
    assert.equal(2, #stack.layers)
    H.identical(stack.layers[2].linear1.weight:detach(), layer.linear1.weight:detach())
    assert.is_false(rawequal(stack.layers[2].linear1.weight, layer.linear1.weight))
    assert.is_false(rawequal(stack.layers[1].linear1.weight, stack.layers[2].linear1.weight))
  end)

  it("draw no random numbers for copies", function()
    pg.manual_seed(1)
    nn.TransformerEncoderLayer(8, 2, 12)
    local expected = pg.rand(1):item()
    pg.manual_seed(1)
    nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 12), 3)
    assert.equal(expected, pg.rand(1):item())
  end)

  it("see no later token where they are causal", function()
    local stack = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 12, {norm_first = true}),
      2):eval()
    local x, mask = H.randn(6, 2, 8), nn.Transformer.generate_square_subsequent_mask(6)
    local y = stack(x, {is_causal = true}):detach()
    H.same(stack(x, mask):detach(), y, 1e-5)
    local z = x:clone()
    z[6] = 1
    H.same(stack(z, {is_causal = true}):detach():narrow(1, 1, 5), y:narrow(1, 1, 5), 1e-6)
  end)

  it("make a mask of -inf above the diagonal", function()
    local inf = math.huge
    H.same(nn.Transformer.generate_square_subsequent_mask(3),
      pg.tensor {{0, -inf, -inf}, {0, 0, -inf}, {0, 0, 0}})
  end)

  it("take a function as activation", function()
    local layer = nn.TransformerEncoderLayer(8, 2, 12, {activation = pg.tanh, dropout = 0})
    assert.same({4, 2, 8}, layer(H.randn(4, 2, 8)).shape)
    H.raises(function() layer:save(os.tmpname()) end, "function")
  end)

  it("train as part of a graph", function()
    local x = nn.Input({5, 8}, {name = "x"})
    local layer = nn.TransformerEncoderLayer(8, 2, 12, {batch_first = true, dropout = 0})
    local model = nn.Model(x, nn.Linear(8, 3)(nn.TransformerEncoder(layer, 2)(x)))
    model(H.randn(2, 5, 8)):sum():backward()
    for name, p in model:named_parameters() do assert.is_truthy(p.grad, name) end
  end)

  it("keep what is frozen through a file", function()
    local stack = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 12), 2)
    stack.layers[1]:freeze()
    stack.layers[2].norm1:eval()
    local path = os.tmpname()
    assert(stack:save(path))
    local again = assert(nn.load(path))
    os.remove(path)
    assert.is_false(again.layers[1].linear1.weight.requires_grad)
    assert.is_true(again.layers[2].linear1.weight.requires_grad)
    assert.is_false(again.layers[2].norm1.training)
    assert.is_true(again.layers[2].norm2.training)
  end)

  it("refuse what cannot be", function()
    H.raises(function() nn.TransformerEncoderLayer(8, 3) end, "'nhead': .*got 3")
    H.raises(function() nn.TransformerEncoderLayer(8, 2, {activation = "gelo"}) end,
      "did you mean 'gelu'")
    H.raises(function() nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2)) end,
      "'num_layers': expected an integer, got nothing")
    H.raises(function() nn.TransformerEncoder(7, 2) end, "'encoder_layer': expected a callable")
    H.raises(function() nn.TransformerEncoder(print, 2) end, "expected a module, got function")
    H.raises(function() nn.TransformerEncoderLayer(8, 2, 12)(H.randn(4, 2, 7)) end,
      "expected a width of 8, got %[4 x 2 x 7%]")
    H.raises(function() nn.TransformerDecoderLayer(8, 2, 12)(H.randn(4, 2, 8)) end,
      "'memory': expected a value, got nothing")
  end)
end)
