-- Script C of API.md, the main job, runs as written on a small data set.
-- Relies on spec/acceptance/run.lua.
-- Sources: lua/perigee/nn/, lua/perigee/train/, lua/perigee/data/, lua/perigee/plot/.

-- luacheck: no max line length (the script stands as it is in API.md)
local run = require "spec.acceptance.run"

local SCRIPT = [==[
local pg = require "perigee"
local nn, optim, data, plot = pg.nn, pg.optim, pg.data, pg.plot
pg.manual_seed(7)

local image = nn.Input({1, 28, 28}, {name = "image"})
local label = nn.Input({}, {name = "label", dtype = "int64", training_only = true})

local h, channels = image, 1
for _, width in ipairs {32, 64, 128} do
  for _ = 1, 2 do
    h = nn.Conv2d(channels, width, 5, {padding = 2})(h)
    h = nn.PReLU()(h)
    channels = width
  end
  h = nn.MaxPool2d(2)(h)
end
local feature = nn.Linear(128 * 3 * 3, 2, {name = "feature"})(nn.Flatten()(h))
local logits = nn.Linear(2, 10, {name = "logits"})(nn.PReLU()(feature))
local center = nn.CenterLoss(10, 2, {alpha = 0.5})(feature, label)      -- batch x 1, named "centerloss"

local model = nn.Model({image, label}, {logits, center})
model:summary()
model:compile {
  optimizer = optim.SGD {lr = 0.01, momentum = 0.9, weight_decay = 5e-4},
  loss = {logits = "cross_entropy", centerloss = "zero"},   -- "zero": the output is the loss already
  loss_weights = {centerloss = 0.01},
  metrics = {logits = "accuracy"},
}
local train, test = data.mnist()
local history = model:fit(train, {batch_size = 128, epochs = 5, seed = 7, validation_data = test})

local centers = model:get("centerloss"):centers()           -- 10 x 2, a copy; never needs an input
pg.save("centers.npy", centers)
local features = model:predict(test, {outputs = "feature"}) -- no labels needed
plot.scatter(features, {label = test.label, classes = test.classes, centers = centers}):save("features.png")
]==]

local CHECK = [==[
assert(#history.history.loss == 5 and #history.history.val_loss == 5)
assert(#history.history.logits_accuracy == 5 and #history.history.centerloss_loss == 5)
assert(centers.shape[1] == 10 and centers.shape[2] == 2)
assert(features.shape[1] == #test and features.shape[2] == 2)
local saved = assert(pg.load("centers.npy"))
assert(saved:bytes() == centers:bytes())
local out = model {image = pg.rand(3, 1, 28, 28), label = pg.tensor({1, 2, 3}, {dtype = "int64"})}
assert(out.logits.shape[2] == 10 and out.centerloss.shape[2] == 1)
local state = model:state_dict()
for _, name in ipairs {"conv2d.weight", "prelu.weight", "centerloss.centers", "feature.bias"} do
  assert(state[name], name)
end
]==]

it("script C: a named graph, center loss, fit, centers out", function()
  run.script(SCRIPT .. CHECK, {train = 130, test = 20}, function(folder, output)
    assert.matches("centerloss %(CenterLoss%)", output)
    assert.matches("Epoch 5/5 ", output)
    assert.equal(5, select(2, output:gsub("Epoch %d/5 ", "")))
    assert.is_nil(output:find("[\r\27]"))
    assert.equal("\137PNG", run.bytes(folder .. "/features.png"):sub(1, 4))
    assert.equal("\147NUMPY", run.bytes(folder .. "/centers.npy"):sub(1, 6))
  end)
end)
