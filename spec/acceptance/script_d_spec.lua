-- Script D of API.md, files, runs as written but for the line that writes ONNX.
-- Relies on spec/acceptance/run.lua.
-- Sources: lua/perigee/nn/file.lua, lua/perigee/train/checkpoint.lua, lua/perigee/io.lua.

-- luacheck: no max line length (the script stands as it is in API.md)
local run = require "spec.acceptance.run"

--- What the script starts from: a small model, compiled, and its data.
local BEFORE = [==[
local pg = require "perigee"
local nn, optim, data = pg.nn, pg.optim, pg.data
pg.manual_seed(7)
local image = nn.Input({1, 28, 28}, {name = "image"})
local label = nn.Input({}, {name = "label", dtype = "int64", training_only = true})
local h = nn.PReLU()(nn.Conv2d(1, 4, 5, {padding = 2, stride = 2})(image))
local feature = nn.Linear(4 * 14 * 14, 2, {name = "feature"})(nn.Flatten()(h))
local logits = nn.Linear(2, 10, {name = "logits"})(feature)
local model = nn.Model({image, label}, {logits, nn.CenterLoss(10, 2)(feature, label)})
model:compile {
  optimizer = optim.SGD {lr = 0.01, momentum = 0.9},
  loss = {logits = "cross_entropy", centerloss = "zero"},
  loss_weights = {centerloss = 0.01},
}
local train, test = data.mnist()
]==]

local SCRIPT = [==[
model:save("lenet.perigee")                      -- safetensors + the graph as JSON metadata; data only, no code
local again = nn.load("lenet.perigee")           -- same outputs bit for bit; again:get("centerloss"):centers() too
pg.save("w.safetensors", model:state_dict())     -- also .npy .npz .csv; read by Python's safetensors and numpy
model:load_state_dict(pg.load("w.safetensors"))
model:fit(train, {epochs = 10, callbacks = {pg.callbacks.ModelCheckpoint {path = "run.ckpt"}}})
model:fit(train, {epochs = 10, resume = "run.ckpt"})   -- byte-identical to never having been stopped
]==]

local CHECK = [==[
assert(#model.history.history.loss == 10)
again = assert(nn.load("lenet.perigee"))
model:load_state_dict(pg.load("w.safetensors"))
local a, b = model:predict(test), again:predict(test)
assert(a:bytes() == b:bytes())
assert(again:get("centerloss"):centers():bytes() == model:get("centerloss"):centers():bytes())
]==]

it("script D: files", function()
  run.script(BEFORE .. SCRIPT .. CHECK, {train = 64, test = 20}, function(folder)
    assert.is_string(run.bytes(folder .. "/lenet.perigee"))
    assert.is_string(run.bytes(folder .. "/w.safetensors"))
    assert.is_string(run.bytes(folder .. "/run.ckpt"))
  end)
end)
