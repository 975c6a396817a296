--- Regression on a table: how good is a red wine, from eleven measurements of it?
-- An MLP on winequality-red (Cortez et al. 2009); a fifth of the rows is held out and touched only
-- for the last line. Leaves loss.png and predicted.png in DIR where --out names one.

local pg = require "perigee"
local nn, optim, data = pg.nn, pg.optim, pg.data

local option = pg.cli.options {
  "Predicts the last column of a CSV file from the others.",
  {"data", "tabular/winequality-red.csv", "the file; looked for among the data sets too"},
  {"hidden", 64, "units of the two hidden layers; 0 fits a plane"},
  {"dropout", 0.2, "share of hidden units left out in a step"},
  {"epochs", 60, "passes over the rows"},
  {"batch", 32, "rows in a step"},
  {"lr", 2e-3, "AdamW's rate; falls to 0 as a cosine"},
  {"weight_decay", 0.01, "AdamW's pull to 0"},
  {"seed", 7, "split, weights and order"},
  {"out", "", "folder for loss.png and predicted.png; nothing is written without"},
}

pg.manual_seed(option.seed)
local name = option.data:match "[^/]*$"
local rows = assert(data.csv(assert(data.find(option.data)), {target = -1}))
local learned, held = data.random_split(rows, {0.8, 0.2}, {seed = option.seed})
print(("%s: %d rows to learn from, %d held out"):format(name, #learned, #held))

-- Mean 0 and deviation 1, by what is known of the rows to learn from.
local function scaler(t)
  local mean, deviation = t:mean(1), t:std(1):clamp_min(1e-6)
  return function(v) return (v - mean) / deviation end, function(v) return v * deviation + mean end
end
local scale_input = scaler(learned.input)
local scale_target, unscale_target = scaler(learned.target)
local function scaled(set)
  return data.TensorDataset {input = scale_input(set.input), label = scale_target(set.target)}
end
local train, test = scaled(learned), scaled(held)

local width, layers = train.input:size(2), {}
for _ = 1, option.hidden > 0 and 2 or 0 do
  layers[#layers + 1] = nn.Linear(width, option.hidden)
  layers[#layers + 1] = nn.ReLU()
  layers[#layers + 1] = nn.Dropout(option.dropout)
  width = option.hidden
end
layers[#layers + 1] = nn.Linear(width, 1)
local net = nn.Sequential(layers)
print(net)

net:compile {
  optimizer = optim.AdamW {lr = option.lr, weight_decay = option.weight_decay},
  scheduler = function(adam)
    return optim.lr_scheduler.CosineAnnealingLR(adam, {T_max = option.epochs})
  end,
  loss = "mse",
}
local history = net:fit(train, {
  batch_size = option.batch, epochs = option.epochs, seed = option.seed, verbose = false,
})
for epoch = 1, option.epochs do
  if epoch == 1 or epoch % math.max(1, option.epochs // 6) == 0 then
    print(("epoch %3d  loss %.4f"):format(epoch, history.loss[epoch]))
  end
end

--- Share of the variance that a prediction explains.
local function r2(predicted, target)
  local unexplained = (target - predicted):square():sum():item()
  return 1 - unexplained / (target - target:mean()):square():sum():item()
end
local function predict(set) return unscale_target(net:predict(set):squeeze(2)) end
local predicted = predict(test)
local off = (predicted - held.target):abs():mean():item()
print(("training R2 %.3f, held-out R2 %.3f, held-out mean error %.2f points"):format(
  r2(predict(train), learned.target), r2(predicted, held.target), off))

if option.out ~= "" then
  local function out(file) return option.out .. "/" .. file end
  assert(pg.plot.line({["training loss"] = history.loss}, {
    title = name, xlabel = "epoch", ylabel = "mean squared error (scaled)",
  }):save(out "loss.png"))
  local scattered = held.target + 0.3 * (pg.rand(#held) - 0.5) -- grades are whole numbers
  assert(pg.plot.scatter(pg.stack({scattered, predicted}, 2), {
    title = name .. ": held-out rows", xlabel = "target (scattered by 0.15)", ylabel = "predicted",
    equal = false,
  }):save(out "predicted.png"))
  print("wrote loss.png, predicted.png to " .. option.out)
end
