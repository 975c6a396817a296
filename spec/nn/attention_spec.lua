-- MultiheadAttention: PyTorch's values and gradients with its weights, masks, first values, errors.
-- Relies on spec/helper/modules.lua and spec/fixtures/modules/attention.safetensors.
-- Sources: lua/perigee/nn/attention.lua.

local H = require "spec.helper"
local pg = require "perigee"
local nn = pg.nn

describe("MultiheadAttention", function()
  require("spec.helper.modules").modules "attention"

  it("starts with PyTorch's distributions", function()
    pg.manual_seed(3)
    local mha = nn.MultiheadAttention(48, 4)
    local bound = math.sqrt(6 / (4 * 48))
    assert.is_true(mha.in_proj_weight:abs():max():item() <= bound)
    assert.near(bound / math.sqrt(3), mha.in_proj_weight:detach():std():item(), 3e-3)
    H.same(mha.in_proj_bias:detach(), pg.zeros(144))
    H.same(mha.out_proj.bias:detach(), pg.zeros(48))
    assert.is_nil(nn.MultiheadAttention(4, 2, {bias = false}).in_proj_bias)
  end)

  it("computes the same with and without its weights", function()
    local mha, x = nn.MultiheadAttention(8, 2), H.randn(5, 3, 8)
    local mask = nn.Transformer.generate_square_subsequent_mask(5)
    local hidden = pg.triu(pg.ones(5, 5, {dtype = "bool"}), 1)
    local padding = pg.zeros(3, 5, {dtype = "bool"})
    padding[{3, 5}] = true
    for _, pair in ipairs {{{}, {}}, {{attn_mask = mask}, {is_causal = true}},
      {{attn_mask = hidden}, {attn_mask = mask, is_causal = true}},
      {{attn_mask = hidden, key_padding_mask = padding}, {is_causal = true,
        key_padding_mask = padding}},
      {{attn_mask = mask, key_padding_mask = padding}, {attn_mask = hidden,
        key_padding_mask = padding}},
    } do
      local with, without = pair[1], pair[2]
      without.need_weights = false
      local y, w = mha(x, x, x, with)
      local z, none = mha(x, x, x, without)
      H.same(z:detach(), y:detach(), 1e-5)
      assert.same({3, 5, 5}, w.shape)
      H.same(w:detach():sum(3), pg.ones(3, 5), 1e-5)
      assert.is_nil(none)
    end
  end)

  it("drops weights in training only", function()
    local mha, x = nn.MultiheadAttention(8, 2, {dropout = 0.5}), H.randn(5, 3, 8)
    local option = {need_weights = false}
    assert.is_true((mha(x, x, x, option) - mha(x, x, x, option)):abs():max():item() > 0)
    mha:eval()
    H.identical(mha(x, x, x, option):detach(), mha(x, x, x, option):detach())
  end)

  it("is part of graphs", function()
    local x = nn.Input({6, 8}, {name = "x"})
    local y, w = nn.MultiheadAttention(8, 2, {batch_first = true})(x, x, x)
    assert.same({-1, 6, 8}, y.shape)
    assert.same({-1, 6, 6}, w.shape)
    assert.same({2, 6, 8}, nn.Model(x, y)(H.randn(2, 6, 8)).shape)
  end)

  it("refuses what cannot be", function()
    H.raises(function() nn.MultiheadAttention(8, 3) end, "'num_heads': .*got 3")
    H.raises(function() nn.MultiheadAttention(8) end, "'num_heads': .*got nothing")
    H.raises(function() nn.MultiheadAttention(8, 2, {dropot = 0.1}) end, "did you mean 'dropout'")
    local mha, x = nn.MultiheadAttention(8, 2), H.randn(5, 3, 8)
    H.raises(function() mha(x) end, {"MultiheadAttention", "'key': expected a value, got nothing"})
    H.raises(function() mha(H.randn(5, 3, 7), x, x) end,
      "'query': expected a width of 8, got %[5 x 3 x 7%]")
    H.raises(function() mha(x, H.randn(5, 8), x) end, "'key': expected 3 dims as query has")
    H.raises(function() mha(x, x, H.randn(4, 3, 8)) end, "'key': .*got %[5 x 3 x 8%]")
    H.raises(function() mha(x, x, x, {attn_mask = H.randn(4, 5)}) end,
      "'attn_mask': expected %[5 x 5%] or %[6 x 5 x 5%], got %[4 x 5%]")
    H.raises(function() mha(x, x, x, {key_padding_mask = H.randn(5, 3)}) end,
      "'key_padding_mask': expected %[3 x 5%], got %[5 x 3%]")
    H.raises(function() mha(x, x, x, {mask = H.randn(5, 5)}) end, "unknown option 'mask'")
  end)
end)
