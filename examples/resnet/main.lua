--- A residual network on small colour photographs (He et al., CVPR 2016).
-- Blocks of two convolutions around which the image passes unchanged, in three stages; SGD with
-- momentum under a one-cycle schedule; images mirrored and moved at random. Leaves curves.png,
-- guesses.png and model.safetensors in DIR.

local pg = require "perigee"
local nn, optim, data, plot = pg.nn, pg.optim, pg.data, pg.plot
local F = nn.functional

local option = pg.cli.options {
  "A residual network that tells photographs apart.",
  {"data", "cifar10-jpg", "folder with train/CLASS/PICTURE and test/CLASS/PICTURE"},
  {"most", 500, "pictures of each class to learn from, at most"},
  {"size", 32, "height and width that pictures are brought to"},
  {"width", 16, "channels of the first stage; the others have 2 and 4 times as many"},
  {"blocks", 2, "blocks in a stage"},
  {"epochs", 20, "passes over the pictures"},
  {"batch", 64, "pictures in a step"},
  {"lr", 0.1, "greatest rate of the one-cycle schedule"},
  {"weight_decay", 5e-4, "pull of the weights to 0"},
  {"seed", 7, "weights, order, mirroring and moves"},
  {"out", ".", "folder for the results"},
}

-- The net -----------------------------------------------------------------------------------------

local function convolution(from, to, size, stride, ...)
  return nn.Sequential {
    nn.Conv2d(from, to, size, {stride = stride, padding = size // 2, bias = false}),
    nn.BatchNorm2d(to),
    ...
  }
end

local Residual = nn.Module:extend "Residual"
function Residual:init(from, to, stride)
  self.first = convolution(from, to, 3, stride, nn.ReLU())
  self.second = convolution(to, to, 3, 1)
  local same = from == to and stride == 1
  self.pass = same and nn.Identity() or convolution(from, to, 1, stride)
end
function Residual:forward(x)
  return F.relu(self.second(self.first(x)) + self.pass(x))
end

local function resnet(width, blocks, classes)
  local layers, channels = {convolution(3, width, 3, 1, nn.ReLU())}, width
  for stage = 1, 3 do
    for block = 1, blocks do
      local to = width << stage - 1
      layers[#layers + 1] = Residual(channels, to, stage > 1 and block == 1 and 2 or 1)
      channels = to
    end
  end
  layers[#layers + 1] = nn.AdaptiveAvgPool2d(1)
  layers[#layers + 1] = nn.Flatten()
  layers[#layers + 1] = nn.Linear(channels, classes)
  return nn.Sequential(layers)
end

-- The pictures ------------------------------------------------------------------------------------

pg.manual_seed(option.seed)
local root = assert(data.find(option.data))
local train = assert(data.image_folder(root .. "/train",
  {most = option.most, size = option.size}))
local test = assert(data.image_folder(root .. "/test", {size = option.size}))
print(("%d pictures of %d classes to learn from, %d to test with"):format(#train, #train.classes,
  #test))

-- uint8 to about -1..1.
local function scaled(image) return image:to("float32") / 128 - 1 end

-- Half of the pictures mirrored; the batch moved by up to an eighth of its size.
local function varied(image)
  local n, most = image:size(1), option.size // 8
  local mirrored = pg.rand(n, 1, 1, 1):lt(0.5)
  local x = scaled(image)
  x = F.pad(pg.where(mirrored, x:flip(4), x), {most, most, most, most})
  local at = pg.randint(1, 2 * most + 1, {2}):totable()
  return x:narrow(3, at[1], option.size):narrow(4, at[2], option.size):contiguous()
end

local function dataset(set, transform)
  return data.TensorDataset({image = set.image, label = set.label},
    {transforms = {image = transform}, classes = set.classes})
end
local learned, tested = dataset(train, varied), dataset(test, scaled)

-- Training ----------------------------------------------------------------------------------------

local net = resnet(option.width, option.blocks, #train.classes)
net:summary {input_shape = {3, option.size, option.size}}
local steps = option.epochs * math.ceil(#learned / option.batch)
net:compile {
  optimizer = optim.SGD {lr = option.lr, momentum = 0.9, nesterov = true,
    weight_decay = option.weight_decay},
  scheduler = function(sgd)
    return optim.lr_scheduler.OneCycleLR(sgd, {max_lr = option.lr, total_steps = steps})
  end,
  loss = "cross_entropy",
  metrics = "accuracy",
}
local history = net:fit(learned, {
  batch_size = option.batch, epochs = option.epochs, seed = option.seed,
  validation_data = tested, scheduler_every = "batch",
})

-- Results -----------------------------------------------------------------------------------------

local guess = net:predict(tested, {batch_size = 100}):argmax(2)
local right = guess:eq(test.label)
print(("test accuracy %.2f %%"):format(100 * right:sum():item() / #test))
local shares = {}
for class, name in ipairs(test.classes) do
  local mine = test.label:eq(class)
  local share = right:logical_and(mine):sum():item() / mine:sum():item()
  shares[class] = ("%s %.0f %%"):format(name, 100 * share)
end
print(table.concat(shares, ", "))

local function out(file) return option.out .. "/" .. file end
local shown = pg.randperm(#test):narrow(1, 1, math.min(24, #test))
local labels = {}
for i, k in ipairs(shown:totable()) do
  local named, wanted = test.classes[guess[k]:item()], test.classes[test.label[k]:item()]
  labels[i] = named == wanted and named or named .. " ✗"
end
assert(plot.images(test.image:index_select(1, shown), {
  columns = 6, zoom = 96 / option.size, gap = 10, labels = labels, title = "What it takes them for",
}):save(out "guesses.png"))
assert(plot.line({training = history.accuracy, test = history.val_accuracy}, {
  title = "Residual network", xlabel = "epoch", ylabel = "accuracy",
}):save(out "curves.png"))
assert(pg.save(out "model.safetensors", net:state_dict()))
print(("wrote guesses.png, curves.png, model.safetensors to %s"):format(option.out))
