--- Checkpoints: a model file with the state of the training beside the weights.
-- Relies on nn/file.lua. Spec: spec/train/checkpoint_spec.lua.
--
-- `nn.load` reads the model of a checkpoint. For `fit {resume = path}` it also holds, under names
-- that begin with "@", the optimizer's tensors, and as note "perigee.training" the epoch, the
-- random stream, the history, the loader's seed and the scheduler's state.

local core = require "perigee.core"
local blame = require "perigee.blame"
local file = require "perigee.nn.file"

local M = {}

local NOTE = "perigee.training"

--- A copy of plain data that JSON can hold: numbers, strings, booleans, tables of them.
local function plain(value)
  local out = {}
  local todo = {{value, out, 1}}
  while #todo > 0 do
    local from, to, key = table.unpack(table.remove(todo))
    local kind = type(from)
    if kind == "table" and getmetatable(from) == nil then
      local copy = {}
      to[key] = copy
      for k, v in pairs(from) do todo[#todo + 1] = {v, copy, k} end
    elseif kind == "number" and (from ~= from or math.abs(from) == math.huge) then
      to[key] = {number = tostring(from)}
    elseif kind == "number" or kind == "string" or kind == "boolean" then
      to[key] = from
    end
  end
  return out[1]
end

--- Undoes what JSON cannot hold: {number = "inf"}.
local function revive(value)
  local todo = {value}
  while #todo > 0 do
    local at = table.remove(todo)
    for k, v in pairs(at) do
      if type(v) == "table" then
        local words = {inf = math.huge, ["-inf"] = -math.huge, nan = 0 / 0, ["-nan"] = 0 / 0}
        if type(v.number) == "string" then
          at[k] = words[v.number]
        else
          todo[#todo + 1] = v
        end
      end
    end
  end
  return value
end

--- Writes a checkpoint of the running fit.
-- @param path file name
-- @param info what fit gives its callbacks
-- @return true; or nil, message
function M.save(path, info)
  local model, optimizer = info.model, info.optimizer
  local tensors = {}
  for name, tensor in pairs(model:state_dict()) do tensors[name] = tensor end
  local state = optimizer:state_dict()
  local numbers = {}
  for i, entry in pairs(state.state) do
    local kept = {}
    for name, value in pairs(entry) do
      if core.is_tensor(value) then
        tensors[("@optimizer.%d.%s"):format(i, name)] = value
      else
        kept[name] = value
      end
    end
    numbers[tostring(i)] = plain(kept)
  end
  local scheduler = info.scheduler
  local training = {
    epoch = info.epoch, rng = core.rng_state(), history = plain(info.history.history),
    epochs_done = plain(info.history.epoch), groups = plain(state.param_groups), numbers = numbers,
    seed = info.loader.seed,
    scheduler = scheduler and scheduler.state_dict and plain(scheduler:state_dict()) or nil,
  }
  local notes = {perigee = core.io.json_encode(file.describe(model)),
    [NOTE] = core.io.json_encode(training)}
  return core.io.save(path, tensors, notes, "safetensors")
end

--- Brings a model and its training to where a checkpoint left them.
-- @param path file name
-- @param info as in save
-- @return the next epoch
function M.resume(path, info)
  if type(path) ~= "string" then
    blame.raise("fit: resume: expected the path of a checkpoint, got %s", type(path))
  end
  local tensors, notes = core.io.load(path, "safetensors")
  if not tensors then blame.raise("fit: resume: %s", notes) end
  local training, message
  if notes[NOTE] then training, message = core.io.json_decode(notes[NOTE]) end
  if type(training) ~= "table" then
    blame.raise("fit: resume: %s: %s", path,
      message or "is no checkpoint of a training; ModelCheckpoint writes those")
  end
  revive(training)
  local own, state = {}, {}
  for name, tensor in pairs(tensors) do
    local i, slot = name:match "^@optimizer%.(%d+)%.(.+)$"
    if i then
      i = math.tointeger(i)
      state[i] = state[i] or {}
      state[i][slot] = tensor
    else
      own[name] = tensor
    end
  end
  for i, kept in pairs(training.numbers or {}) do
    i = math.tointeger(i)
    state[i] = state[i] or {}
    for name, value in pairs(kept) do state[i][name] = value end
  end
  local ok, text = pcall(function()
    info.model:load_state_dict(own)
    info.optimizer:load_state_dict {state = state, param_groups = training.groups}
    if training.scheduler and info.scheduler then
      info.scheduler:load_state_dict(training.scheduler)
    end
    core.set_rng_state(training.rng)
  end)
  if not ok then blame.raise("fit: resume: %s: %s", path, blame.strip(tostring(text))) end
  for name, list in pairs(training.history or {}) do info.history.history[name] = list end
  for i, epoch in ipairs(training.epochs_done or {}) do info.history.epoch[i] = epoch end
  if training.seed ~= nil then info.loader.seed = training.seed end
  return training.epoch + 1
end

return M
