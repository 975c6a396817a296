--- Handwritten digits with a small convolutional network: above 99 % on the MNIST test set.
-- Three convolutions with batch norm, Adam under a one-cycle schedule, images moved by up to two
-- pixels. Leaves curves.png and model.perigee in DIR.

local pg = require "perigee"
local nn, optim, data = pg.nn, pg.optim, pg.data

local option = pg.cli.options {
  "A convolutional network that reads handwritten digits.",
  {"images", 60000, "training images"},
  {"epochs", 6, "passes over them"},
  {"batch", 128, "images in a step"},
  {"lr", 0.01, "greatest rate of the one-cycle schedule"},
  {"shift", 2, "greatest move of a batch, in pixels"},
  {"seed", 7, "weights, order and moves"},
  {"root", "", "folder of the four IDX files; looked for where it is not given"},
  {"out", ".", "folder for the results"},
}

pg.manual_seed(option.seed)
local train, test = data.mnist {root = option.root ~= "" and option.root or nil}
train = train:subset(1, math.min(option.images, #train))
print(("%d images to learn from, %d to test with"):format(#train, #test))

-- A batch as float32 in 0..1, moved as a whole to one of (2 shift + 1)^2 places.
local function moved(image)
  local k, height, width = option.shift, image:size(3), image:size(4)
  local wide = nn.functional.pad(image:to("float32") / 255, {k, k, k, k})
  local y, x = pg.randint(1, 2 * k + 1, {1}):item(), pg.randint(1, 2 * k + 1, {1}):item()
  return wide:narrow(3, y, height):narrow(4, x, width):contiguous()
end
local learned = data.TensorDataset({image = train.image, label = train.label},
  {transforms = {image = moved}, classes = train.classes})

local layers, channels = {}, 1
for _, width in ipairs {16, 32, 64} do
  layers[#layers + 1] = nn.Conv2d(channels, width, 3, {padding = 1, bias = false})
  layers[#layers + 1] = nn.BatchNorm2d(width)
  layers[#layers + 1] = nn.ReLU()
  layers[#layers + 1] = nn.MaxPool2d(2)
  channels = width
end
layers[#layers + 1] = nn.Flatten()
layers[#layers + 1] = nn.Dropout(0.25)
layers[#layers + 1] = nn.Linear(64 * 3 * 3, 10)
local net = nn.Sequential(layers)
net:summary {input_shape = {1, 28, 28}}

local steps = option.epochs * math.ceil(#learned / option.batch)
net:compile {
  optimizer = optim.Adam {lr = option.lr},
  scheduler = function(adam)
    return optim.lr_scheduler.OneCycleLR(adam, {max_lr = option.lr, total_steps = steps})
  end,
  loss = "cross_entropy",
  metrics = "accuracy",
}
local started = pg.clock()
local history = net:fit(learned, {
  batch_size = option.batch, epochs = option.epochs, seed = option.seed, validation_data = test,
  scheduler_every = "batch",
})
local seconds = pg.clock() - started

local scores = net:predict(test, {batch_size = 500})
local wrong = scores:argmax(2):ne(test.label):sum():item()
print(("test accuracy %.2f %% (%d of %d wrong), %.0f s of training"):format(
  100 * (1 - wrong / #test), wrong, #test, seconds))

local function out(file) return option.out .. "/" .. file end
assert(net:save(out "model.perigee"))
assert(pg.plot.line({training = history.accuracy, test = history.val_accuracy}, {
  title = "Handwritten digits", xlabel = "epoch", ylabel = "accuracy",
}):save(out "curves.png"))
print(("wrote curves.png, model.perigee to %s"):format(option.out))
