--- An autoencoder: a digit of 784 pixels through 16 numbers and back.
-- Two convolutions down, two transposed ones up; leaves reconstructions.png (test digits and what
-- is left of them), curves.png and model.perigee in DIR.

local pg = require "perigee"
local nn, optim, data, plot = pg.nn, pg.optim, pg.data, pg.plot

local option = pg.cli.options {
  "Squeezes handwritten digits through a few numbers and draws what comes back.",
  {"code", 16, "numbers that an image becomes"},
  {"images", 30000, "training images"},
  {"epochs", 6, "passes over them"},
  {"batch", 128, "images in a step"},
  {"lr", 2e-3, "Adam's rate; falls to 0 as a cosine"},
  {"seed", 7, "weights and order of the images"},
  {"root", "", "folder of the four IDX files; looked for where it is not given"},
  {"out", ".", "folder for the results"},
}

pg.manual_seed(option.seed)
local train, test = data.mnist {root = option.root ~= "" and option.root or nil}
train = train:subset(1, math.min(option.images, #train))
print(("%d images to learn from, %d to test with"):format(#train, #test))

local encoder = nn.Sequential {
  nn.Conv2d(1, 16, 3, {stride = 2, padding = 1}), nn.ReLU(),
  nn.Conv2d(16, 32, 3, {stride = 2, padding = 1}), nn.ReLU(),
  nn.Flatten(), nn.Linear(32 * 7 * 7, option.code),
}
local decoder = nn.Sequential {
  nn.Linear(option.code, 32 * 7 * 7), nn.ReLU(), nn.Unflatten(2, {32, 7, 7}),
  nn.ConvTranspose2d(32, 16, 4, {stride = 2, padding = 1}), nn.ReLU(),
  nn.ConvTranspose2d(16, 1, 4, {stride = 2, padding = 1}),
}
local net = nn.Sequential {encoder, decoder} -- gives logits: sigmoid makes pixels of them
print(net)

net:compile {
  optimizer = optim.Adam {lr = option.lr},
  scheduler = function(adam)
    return optim.lr_scheduler.CosineAnnealingLR(adam, {T_max = option.epochs})
  end,
  loss = "bce_with_logits", inputs = "image", targets = "image",
}
local history = net:fit(train, {
  batch_size = option.batch, epochs = option.epochs, seed = option.seed, validation_data = test,
})

local images = test.image:to("float32") / 255
local back = net:predict(test, {batch_size = 500}):sigmoid()
local function error_of(guess) return (images - guess):square():mean():item() end
print(("mean squared error a pixel: %.4f; of the mean training image: %.4f"):format(error_of(back),
  error_of((train.image:to("float32") / 255):mean(1, {keepdim = true}))))

-- Two test images of each class, above their reconstructions.
local shown = {}
for row = 1, 2 do
  for class = 1, #test.classes do
    local places = test.label:eq(class):nonzero()
    if row <= #places then shown[#shown + 1] = places[{row, 1}]:item() end
  end
end
local index = pg.tensor(shown, {dtype = "int64"})
local half = math.ceil(#shown / 2)
local pairs_of_rows = {}
for _, range in ipairs {{1, half}, {half + 1, #shown}} do
  local part = index[{range}]
  pairs_of_rows[#pairs_of_rows + 1] = images:index_select(1, part)
  pairs_of_rows[#pairs_of_rows + 1] = back:index_select(1, part)
end
local function out(file) return option.out .. "/" .. file end
assert(plot.images(pg.cat(pairs_of_rows, 1), {
  columns = half, rows = {"digit", "back", "digit", "back"},
  title = ("Test digits through %d numbers"):format(option.code),
}):save(out "reconstructions.png"))
assert(plot.line({training = history.loss, test = history.val_loss}, {
  title = "Autoencoder", xlabel = "epoch", ylabel = "binary cross entropy a pixel",
}):save(out "curves.png"))
assert(net:save(out "model.perigee"))
print(("wrote reconstructions.png, curves.png, model.perigee to %s"):format(option.out))
