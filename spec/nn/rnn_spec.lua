-- RNN, LSTM, GRU and their cells: PyTorch's values and gradients with its weights, first values,
-- dropout, graphs, errors.
-- Relies on spec/helper/modules.lua and spec/fixtures/modules/{rnn,projected}.safetensors.
-- Sources: lua/perigee/nn/rnn.lua, lua/perigee/nn/constructor.lua.

local H = require "spec.helper"
local pg = require "perigee"
local nn = pg.nn

describe("recurrent layers", function()
  require("spec.helper.modules").modules "rnn"
  require("spec.helper.modules").modules "projected"

  it("start uniform in +-1/sqrt(hidden_size)", function()
    pg.manual_seed(4)
    local gru = nn.GRU(30, 64, {num_layers = 2})
    local names = {}
    for name, p in gru:named_parameters() do
      names[#names + 1] = name
      assert.is_true(p:abs():max():item() <= 0.125)
      if p:dim() == 2 then assert.near(0.125 / math.sqrt(3), p:detach():std():item(), 2e-3) end
    end
    assert.same({"weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0", "weight_ih_l1",
      "weight_hh_l1", "bias_ih_l1", "bias_hh_l1"}, names)
    assert.same({192, 30}, gru.weight_ih_l0.shape)
  end)

  it("take zeros for a state that is left out", function()
    local lstm, x = nn.LSTM(3, 4, {num_layers = 2}), H.randn(5, 2, 3)
    local y, state = lstm(x)
    local zeros = pg.zeros(2, 2, 4)
    local z, other = lstm(x, {zeros, zeros})
    H.identical(z:detach(), y:detach())
    H.identical(other[2]:detach(), state[2]:detach())
  end)

  it("go on from a state as if never cut", function()
    for _, class in ipairs {"RNN", "GRU", "LSTM"} do
      local net, x = nn[class](3, 4, {num_layers = 2}), H.randn(6, 2, 3)
      local whole = net(x)
      local first, state = net(x[{{1, 4}}])
      local second = net(x[{{5, 6}}], state)
      H.same(pg.cat({first, second}, 1):detach(), whole:detach(), 1e-6)
    end
  end)

  it("drop between layers, in training only", function()
    pg.manual_seed(2)
    local net, x = nn.GRU(3, 16, {num_layers = 2, dropout = 0.5}), H.randn(4, 2, 3)
    assert.is_true((net(x) - net(x)):abs():max():item() > 0)
    net:eval()
    H.identical(net(x):detach(), net(x):detach())
  end)

  it("are part of graphs", function()
    local x = nn.Input({7, 3}, {name = "x"})
    local y, state = nn.LSTM(3, 4, {batch_first = true, bidirectional = true})(x)
    assert.same({-1, 7, 8}, y.shape)
    assert.same({2, -1, 4}, state[1].shape)
    local model = nn.Model(x, nn.Linear(8, 2)(y[{{}, -1}]))
    assert.same({5, 2}, model(H.randn(5, 7, 3)).shape)
  end)

  it("run cell by cell as the layer does", function()
    local layer, cell = nn.LSTM(3, 4), nn.LSTMCell(3, 4)
    local state = {}
    for name, t in pairs(layer:state_dict()) do state[name:gsub("_l0", "")] = t end
    cell:load_state_dict(state)
    local x = H.randn(3, 2, 3)
    local y = layer(x)
    local h, c
    for t = 1, 3 do h, c = cell(x[t], h and {h, c}) end
    H.same(h:detach(), y:detach()[3], 1e-6)
  end)

  it("have second gradients, through layers, directions and states", function()
    for _, class in ipairs {"RNN", "GRU", "LSTM"} do
      local lstm = class == "LSTM"
      local function check(options, count, ...)
        local net = nn[class](2, 3, options):to "float64"
        H.gradgradcheck(function(x, h, c)
          local y, state = net(x, c and {h, c} or h)
          if lstm then return y, state[1], state[2] end
          return y, state
        end, H.t64.randn(...), H.t64.randn(count, 2, 3), lstm and H.t64.randn(count, 2, 3) or nil)
      end
      check({num_layers = 2, bidirectional = true, dropout = 0}, 4, 3, 2, 2)
      check({batch_first = true}, 1, 2, 3, 2)
      local cell = nn[class .. "Cell"](2, 3):to "float64"
      H.gradgradcheck(function(x, h, c, weight)
        cell:replace_tensor("param", "weight_hh", weight)
        return cell(x, lstm and {h, c} or h)
      end, H.t64.randn(2, 2), H.t64.randn(2, 3), H.t64.randn(2, 3),
        cell.weight_hh:detach():clone())
    end
  end)

  it("refuse what cannot be", function()
    H.raises(function() nn.LSTM(3) end, {"nn.LSTM", "'hidden_size': .*got nothing"})
    H.raises(function() nn.LSTM(3, 0) end, "'hidden_size': expected at least 1, got 0")
    H.raises(function() nn.LSTM(3, 4, {layers = 2}) end, "unknown option 'layers'")
    H.raises(function() nn.LSTM(3, 4, {num_layer = 2}) end, "did you mean 'num_layers'")
    H.raises(function() nn.LSTM(3, 4, {proj_size = 4}) end,
      "'proj_size': expected 0 to below hidden_size 4, got 4")
    H.raises(function() nn.LSTM(3, 4, {proj_size = 2})(H.randn(5, 2, 3),
      {H.randn(1, 2, 4), H.randn(1, 2, 4)}) end, "'h': expected %[1 x 2 x 2%], got %[1 x 2 x 4%]")
    H.raises(function() nn.GRU(3, 4, {dropout = 2}) end, "'dropout': expected 0 to 1, got 2")
    H.raises(function() nn.RNN(3, 4, {nonlinearity = "relo"}) end, "did you mean 'relu'")
    H.raises(function() nn.GRU(3, 4, {bias = 1}) end, "'bias': expected a boolean, got 1")
    local lstm, gru, x = nn.LSTM(3, 4), nn.GRU(3, 4), H.randn(5, 2, 3)
    H.raises(function() lstm(H.randn(5, 2, 4)) end, "expected input_size 3, got 4 in %[5 x 2 x 4%]")
    H.raises(function() lstm(H.randn(3)) end, "expected 2 or 3 dims, got %[3%]")
    H.raises(function() lstm(x, H.randn(1, 2, 4)) end, "expected a table {h, c}, got tensor")
    H.raises(function() lstm(x, {H.randn(1, 2, 4)}) end, "{h, c}, got a table of 1")
    H.raises(function() lstm(x, {H.randn(1, 2, 4), H.randn(1, 3, 4)}) end,
      "LSTM: argument 'c': expected %[1 x 2 x 4%], got %[1 x 3 x 4%]")
    H.raises(function() gru(x, H.randn(1, 2, 5)) end,
      "GRU: argument 'hx': expected %[1 x 2 x 4%], got %[1 x 2 x 5%]")
    H.raises(function() gru(H.randn(0, 2, 3)) end, "at least one step")
    H.raises(function() nn.GRUCell(3, 4)(H.randn(2, 5)) end, "expected input_size 3, got 5")
    H.raises(function() nn.GRUCell(3, 4)(H.randn(2, 3), H.randn(3, 4)) end,
      "%[2 x 4%], got %[3 x 4%]")
    H.raises(function() gru(pg.ones({5, 2, 3}, {dtype = "int64"})) end, "got int64")
  end)
end)
