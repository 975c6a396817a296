--- Recurrent layers: RNN, LSTM, GRU and their cells. Relies on nn.Module and the ops rnn_layer,
-- lstm_layer, gru_layer, each of which runs one direction of one layer.
-- Spec: spec/nn/rnn_spec.lua.
--
-- Parameters have PyTorch's names (weight_ih_l0, bias_hh_l1_reverse), layouts and order of gates,
-- and start uniform in +-1/sqrt(hidden_size).

local Module = require("perigee.nn.module").Module
local Parameter = require("perigee.nn.module").Parameter
local constructor = require "perigee.nn.constructor"
local core = require "perigee.core"
local util = require "perigee.util"

local ops = core.ops

local M = {}

local GATES = {RNN = 1, LSTM = 4, GRU = 3}

local function shape_text(shape) return "[" .. table.concat(shape, " x ") .. "]" end

--- Sizes of h: those of hidden_size, or of its projection.
local function width(self)
  local projected = self.proj_size or 0
  return projected > 0 and projected or self.hidden_size
end

--- Registers weight_ih, weight_hh, bias_ih, bias_hh, and weight_hr of a projection, with a suffix.
local function add_parameters(self, suffix, rows, inputs)
  local hidden = self.hidden_size
  local bound = 1 / math.sqrt(hidden)
  local function make(name, ...)
    self[name .. suffix] = Parameter(ops.uniform_(ops.zeros(...), -bound, bound))
  end
  make("weight_ih", rows, inputs)
  make("weight_hh", rows, width(self))
  if self.bias then
    make("bias_ih", rows)
    make("bias_hh", rows)
  end
  if width(self) ~= hidden then make("weight_hr", width(self), hidden) end
end

--- One direction of an LSTM layer whose h is projected: h = W_hr (o tanh(c)), step by step.
local function run_projected(self, x, suffix, h, c, reverse)
  local w_hh, b_hh = self["weight_hh" .. suffix], self["bias_hh" .. suffix]
  local w_hr, hidden = self["weight_hr" .. suffix], self.hidden_size
  local sums = ops.linear(x, self["weight_ih" .. suffix], self["bias_ih" .. suffix])
  local steps, batch = x:size(1), x:size(2)
  h = h or ops.zeros({batch, self.proj_size}, {dtype = x.dtype})
  c = c or ops.zeros({batch, hidden}, {dtype = x.dtype})
  local y = {}
  for k = 1, steps do
    local t = reverse and steps + 1 - k or k
    local gates = sums:select(1, t) + ops.linear(h, w_hh, b_hh)
    local function gate(n) return gates:narrow(2, (n - 1) * hidden + 1, hidden) end
    c = gate(2):sigmoid() * c + gate(1):sigmoid() * gate(3):tanh()
    h = ops.linear(gate(4):sigmoid() * c:tanh(), w_hr)
    y[t] = h
  end
  return ops.stack(y, 1), h, c
end

--- Runs one direction of one layer. h, c: batch x hidden or nil. @return output, h and c afterwards
local function run(self, mode, x, suffix, h, c, reverse)
  local w_ih, w_hh = self["weight_ih" .. suffix], self["weight_hh" .. suffix]
  local b_ih, b_hh = self["bias_ih" .. suffix], self["bias_hh" .. suffix]
  if width(self) ~= self.hidden_size then
    return run_projected(self, x, suffix, h, c, reverse)
  elseif mode == "LSTM" then
    return ops.lstm_layer(x, w_ih, w_hh, b_ih, b_hh, h, c, reverse)
  end
  if mode == "GRU" then return ops.gru_layer(x, w_ih, w_hh, b_ih, b_hh, h, reverse) end
  return ops.rnn_layer(x, w_ih, w_hh, b_ih, b_hh, h, reverse, self.nonlinearity)
end

local function want_tensor(self, name, value)
  if not core.is_tensor(value) then
    util.fail(self.class_name, "argument '%s': expected a tensor, got %s", name,
      util.type_name(value))
  end
  return value
end

--- The parts of a state: h, and c for the LSTM.
local function parts(self, mode, state)
  if state == nil then return nil, nil end
  if mode ~= "LSTM" then return want_tensor(self, "hx", state), nil end
  if type(state) ~= "table" or getmetatable(state) ~= nil or #state ~= 2 then
    util.fail(self.class_name, "argument 'hx': expected a table {h, c}, got %s",
      type(state) == "table" and #state ~= 2 and ("a table of %d"):format(#state)
      or util.type_name(state))
  end
  return want_tensor(self, "h", state[1]), want_tensor(self, "c", state[2])
end

local function check_shape(self, name, t, shape)
  if t and shape_text(t.shape) ~= shape_text(shape) then
    util.fail(self.class_name, "argument '%s': expected %s, got %s", name, shape_text(shape),
      shape_text(t.shape))
  end
end

local function check_width(self, x)
  local n = x:size(x:dim())
  if n ~= self.input_size then
    util.fail(self.class_name, "argument 'input': expected input_size %d, got %d in %s",
      self.input_size, n, shape_text(x.shape))
  end
end

-- Layers ------------------------------------------------------------------------------------------

local Recurrent = Module:extend "Recurrent"

--- The suffix of the parameters of a layer (from 1) and direction (1, 2).
local function suffix_of(layer, direction)
  return ("_l%d%s"):format(layer - 1, direction == 2 and "_reverse" or "")
end

function Recurrent:build()
  local rows = GATES[self.mode] * self.hidden_size
  constructor.at_least(self, 1, "input_size", "hidden_size", "num_layers")
  constructor.probability(self, "dropout")
  local projected = self.proj_size or 0
  if projected < 0 or projected >= self.hidden_size then
    util.fail("nn.LSTM", "argument 'proj_size': expected 0 to below hidden_size %d, got %d",
      self.hidden_size, projected)
  end
  for layer = 1, self.num_layers do
    for direction = 1, self.bidirectional and 2 or 1 do
      local inputs = layer == 1 and self.input_size
        or width(self) * (self.bidirectional and 2 or 1)
      add_parameters(self, suffix_of(layer, direction), rows, inputs)
    end
  end
end

--- Runs all layers over a sequence.
-- @param input steps x batch x input_size; batch x steps x input_size for batch_first; or
-- steps x input_size
-- @param state layers * directions x batch x hidden_size (without the batch where input has none);
-- for the LSTM a table of two, {h, c}, where h has proj_size columns if that is set; zeros where it
-- is left out
-- @return the last layer's output for every step, both directions side by side; and the last state,
-- for the LSTM a table {h, c}
function Recurrent:forward(input, state)
  local mode = self.mode
  local dims = want_tensor(self, "input", input):dim()
  if dims ~= 2 and dims ~= 3 then
    util.fail(self.class_name, "argument 'input': expected 2 or 3 dims, got %s",
      shape_text(input.shape))
  end
  check_width(self, input)
  local directions = self.bidirectional and 2 or 1
  local count = self.num_layers * directions
  local h, c = parts(self, mode, state)
  local x = input
  if dims == 2 then
    x = input:unsqueeze(2)
  elseif self.batch_first then
    x = input:transpose(1, 2)
  end
  local shape = {count, x:size(2), width(self)}
  if dims == 2 then table.remove(shape, 2) end
  check_shape(self, mode == "LSTM" and "h" or "hx", h, shape)
  shape[#shape] = self.hidden_size
  check_shape(self, "c", c, shape)
  if dims == 2 then
    h, c = h and h:unsqueeze(2), c and c:unsqueeze(2)
  end
  local last_h, last_c = {}, {}
  for layer = 1, self.num_layers do
    local outputs = {}
    for direction = 1, directions do
      local k = (layer - 1) * directions + direction
      outputs[direction], last_h[k], last_c[k] = run(self, mode, x, suffix_of(layer, direction),
        h and h:select(1, k), c and c:select(1, k), direction == 2)
    end
    x = directions == 2 and ops.cat(outputs, 3) or outputs[1]
    if self.training and self.dropout > 0 and layer < self.num_layers then
      x = ops.dropout(x, self.dropout, true)
    end
  end
  local function joined(list)
    local t = #list == 1 and list[1]:unsqueeze(1) or ops.stack(list, 1)
    return dims == 2 and t:squeeze(2) or t
  end
  if dims == 2 then
    x = x:squeeze(2)
  elseif self.batch_first then
    x = x:transpose(1, 2)
  end
  if mode == "LSTM" then return x, {joined(last_h), joined(last_c)} end
  return x, joined(last_h)
end

function Recurrent:extra_repr()
  return ("%d, %d"):format(self.input_size, self.hidden_size) .. constructor.changed(self,
    {{"proj_size", self.proj_size and 0}, {"num_layers", 1}, {"bias", true},
      {"batch_first", false}, {"dropout", 0}, {"bidirectional", false}})
end

local SIZES = {{"input_size", "integer"}, {"hidden_size", "integer"}}
local NONLINEARITY = {"nonlinearity", "string", "tanh"}
local BIAS = {"bias", "boolean", true}

local function list(...)
  local params = table.move(SIZES, 1, 2, 1, {})
  for _, p in ipairs {...} do params[#params + 1] = p end
  return params
end

local LAYERS = {"num_layers", "integer", 1}
local ORDER = {"batch_first", "boolean", false}
local DROPOUT, BOTH = {"dropout", "number", 0}, {"bidirectional", "boolean", false}
local PARAMS = {
  RNN = list(LAYERS, NONLINEARITY, BIAS, ORDER, DROPOUT, BOTH),
  GRU = list(LAYERS, BIAS, ORDER, DROPOUT, BOTH),
  LSTM = list(LAYERS, BIAS, ORDER, DROPOUT, BOTH, {"proj_size", "integer", 0}),
}

for mode, params in pairs(PARAMS) do
  local class = Recurrent:extend(mode)
  M[mode] = class
  class.mode = mode
  function class:init(...)
    constructor.read(self, params, ...)
    if mode == "RNN" then
      util.choice("nn.RNN", "nonlinearity", self.nonlinearity, {"tanh", "relu"})
    end
    self:build()
  end
end

-- Cells -------------------------------------------------------------------------------------------

local Cell = Module:extend "RecurrentCell"

--- One step.
-- @param input batch x input_size, or input_size
-- @param state batch x hidden_size (hidden_size); for LSTMCell a table {h, c}; zeros where it is
-- left out
-- @return the new h; and for LSTMCell the new c
function Cell:forward(input, state)
  local mode = self.mode
  local dims = want_tensor(self, "input", input):dim()
  if dims ~= 1 and dims ~= 2 then
    util.fail(self.class_name, "argument 'input': expected 1 or 2 dims, got %s",
      shape_text(input.shape))
  end
  check_width(self, input)
  local h, c = parts(self, mode, state)
  local x = input
  local shape = {self.hidden_size}
  if dims == 2 then table.insert(shape, 1, x:size(1)) end
  check_shape(self, mode == "LSTM" and "h" or "hx", h, shape)
  check_shape(self, "c", c, shape)
  if dims == 1 then
    x, h, c = x:unsqueeze(1), h and h:unsqueeze(1), c and c:unsqueeze(1)
  end
  local _, new_h, new_c = run(self, mode, x:unsqueeze(1), "", h, c, false)
  if dims == 1 then new_h, new_c = new_h:squeeze(1), new_c and new_c:squeeze(1) end
  return new_h, new_c
end

function Cell:extra_repr()
  return ("%d, %d"):format(self.input_size, self.hidden_size) .. constructor.changed(self,
    {{"bias", true}, {"nonlinearity", self.mode == "RNN" and "tanh" or nil}})
end

for mode, params in pairs {RNN = list(BIAS, NONLINEARITY), LSTM = list(BIAS), GRU = list(BIAS)} do
  local class = Cell:extend(mode .. "Cell")
  M[mode .. "Cell"] = class
  class.mode = mode
  function class:init(...)
    constructor.read(self, params, ...)
    constructor.at_least(self, 1, "input_size", "hidden_size")
    if mode == "RNN" then
      util.choice("nn.RNNCell", "nonlinearity", self.nonlinearity, {"tanh", "relu"})
    end
    add_parameters(self, "", GATES[mode] * self.hidden_size, self.input_size)
  end
end

return M
