--- LeNets++ with center loss (Wen et al., ECCV 2016): 2-D features that form tight clusters.
-- Trains on MNIST where it is found, else on Fashion-MNIST; prints test accuracy and nearest-center
-- accuracy; leaves features.png, loss.png, centers.npy and model.perigee in DIR.

local pg = require "perigee"
local nn, optim, data, plot = pg.nn, pg.optim, pg.data, pg.plot

local option = pg.cli.options {
  "LeNets++ with center loss: two features that form tight clusters.",
  {"images", 20000, "training images"},
  {"epochs", 3, "passes over them"},
  {"lambda", 0.05, "weight of the center loss"},
  {"lr", 1.5e-3, "Adam's rate; a fifth of it in the last epoch"},
  {"seed", 7, "weights and order of the images"},
  {"out", ".", "folder for the results"},
}

--- The mean of the last 20 values at each place.
local function smooth(values)
  local means, sum = {}, 0
  for i, v in ipairs(values) do
    sum = sum + v - (values[i - 20] or 0)
    means[i] = sum / math.min(i, 20)
  end
  return means
end

local function load_data()
  local found, train, test = pcall(data.mnist)
  if found then return "MNIST", train, test end
  return "Fashion-MNIST", data.fashion_mnist()
end

pg.manual_seed(option.seed)
local name, train, test = load_data()
train = train:subset(1, math.min(option.images, #train))
print(("%s: %d images to learn from, %d to test with"):format(name, #train, #test))

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
local center = nn.CenterLoss(10, 2, {alpha = 0.5})(feature, label)

local model = nn.Model({image, label}, {logits, center})
model:summary()
model:compile {
  optimizer = optim.Adam {lr = option.lr}, -- SGD stays an epoch on the plateau of 2-D features
  loss = {logits = "cross_entropy", centerloss = "zero"},
  loss_weights = {centerloss = option.lambda},
  metrics = {logits = "accuracy"},
}

local curve = {logits_loss = {}, centerloss_loss = {}}
local history = model:fit(train, {
  batch_size = 64,
  epochs = option.epochs,
  seed = option.seed,
  callbacks = {
    pg.callbacks.LearningRateScheduler(function(epoch)
      return option.lr * (epoch < option.epochs and 1 or 0.2)
    end),
    pg.callbacks.LambdaCallback {
      on_batch_end = function(_, logs)
        for key, list in pairs(curve) do list[#list + 1] = logs[key] end
      end,
    },
  },
})

local features = model:predict(test, {outputs = "feature", batch_size = 500})
local result = model:evaluate(test, {batch_size = 500})
local centerloss = model:get "centerloss"
local nearest = centerloss:nearest(features):eq(test.label):to("float32"):mean():item()
print(("test accuracy %.4f, nearest-center accuracy %.4f"):format(result.logits_accuracy, nearest))

local function out(file) return option.out .. "/" .. file end
local centers = centerloss:centers()
assert(pg.save(out "centers.npy", centers))
assert(model:save(out "model.perigee"))
assert(plot.scatter(features, {
  label = test.label, classes = test.classes, centers = centers,
  title = ("Test features of %s, lambda = %g"):format(name, option.lambda),
}):save(out "features.png"))
assert(plot.line({
  ["cross entropy"] = smooth(curve.logits_loss),
  ["center loss"] = smooth(curve.centerloss_loss),
}, {
  title = "Loss while training (mean of 20 steps)", xlabel = "step", ylabel = "loss",
}):save(out "loss.png"))
print(("wrote features.png, loss.png, centers.npy, model.perigee to %s"):format(option.out))
return history
