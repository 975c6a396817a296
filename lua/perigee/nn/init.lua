--- `pg.nn`: layers, containers, models. Layers written in C become classes at first access.
-- Relies on nn/module.lua and nn/layer.lua; the rest is loaded when it is used.
-- Spec: spec/nn/nn_spec.lua.

local layer = require "perigee.nn.layer"
local module = require "perigee.nn.module"
local util = require "perigee.util"

local M = {Module = module.Module, Parameter = module.Parameter, is_module = module.is_module}

--- What each name is loaded by.
local LAZY = {
  Sequential = function() return require "perigee.nn.sequential" end,
  ModuleList = function() return require("perigee.nn.module_list").ModuleList end,
  ModuleDict = function() return require("perigee.nn.module_list").ModuleDict end,
  ParameterList = function() return require("perigee.nn.module_list").ParameterList end,
  RNN = function() return require("perigee.nn.rnn").RNN end,
  LSTM = function() return require("perigee.nn.rnn").LSTM end,
  GRU = function() return require("perigee.nn.rnn").GRU end,
  RNNCell = function() return require("perigee.nn.rnn").RNNCell end,
  LSTMCell = function() return require("perigee.nn.rnn").LSTMCell end,
  GRUCell = function() return require("perigee.nn.rnn").GRUCell end,
  EmbeddingBag = function() return require("perigee.nn.bag").EmbeddingBag end,
  Bilinear = function() return require("perigee.nn.bag").Bilinear end,
  MultiheadAttention = function()
    return require("perigee.nn.attention").MultiheadAttention
  end,
  TransformerEncoderLayer = function()
    return require("perigee.nn.transformer").TransformerEncoderLayer
  end,
  TransformerEncoder = function()
    return require("perigee.nn.transformer").TransformerEncoder
  end,
  TransformerDecoderLayer = function()
    return require("perigee.nn.transformer").TransformerDecoderLayer
  end,
  TransformerDecoder = function()
    return require("perigee.nn.transformer").TransformerDecoder
  end,
  Transformer = function()
    return require("perigee.nn.transformer").Transformer
  end,
  ParameterDict = function() return require("perigee.nn.module_list").ParameterDict end,
  TripletMarginWithDistanceLoss = function()
    return require("perigee.nn.triplet").TripletMarginWithDistanceLoss
  end,
  functional = function() return require "perigee.nn.functional" end,
  init = function() return require "perigee.nn.initial" end,
  utils = function() return require "perigee.nn.utils" end,
  Input = function() return require("perigee.nn.graph").Input end,
  Model = function() return require "perigee.nn.model" end,
  load = function() return require("perigee.nn.file").load end,
}

--- The class of this name: a layer, a container, or one made by nn.Module:extend; nil without one.
function M.class(name)
  local made = layer.class(name) or LAZY[name] and name:find "^%u" and LAZY[name]()
  return type(made) == "table" and made or module.class(name)
end

--- Names of all classes.
function M.class_names()
  local names = {}
  for _, list in ipairs {layer.names(), module.class_names()} do
    for _, name in ipairs(list) do names[#names + 1] = name end
  end
  for name in pairs(LAZY) do
    if name:find "^%u" and name ~= "Input" then names[#names + 1] = name end
  end
  table.sort(names)
  return names
end

return setmetatable(M, {
  __name = "nn",
  __index = function(self, key)
    if type(key) == "string" and key:sub(1, 2) == "__" then return nil end
    local value = LAZY[key] and LAZY[key]() or layer.class(key)
    if value == nil then
      local words = M.class_names()
      for name in pairs(LAZY) do words[#words + 1] = name end
      local near = util.suggest(key, words)
      error(("nn: argument 'name': expected the name of a layer or function, got %s%s"):format(
        util.show(key), near and (", did you mean '%s'?"):format(near) or ""), 2)
    end
    rawset(self, key, value)
    return value
  end,
})
