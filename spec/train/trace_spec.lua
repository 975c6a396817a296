-- Whole trainings against PyTorch, loss by loss: a small CNN with center loss, fixed weights, fixed
-- batches, 30 steps; by hand and through fit; as a graph and as Sequentials with the center loss
-- apart. Relies on spec/fixtures/trace.safetensors and spec/fixtures/training/trace.safetensors,
-- which spec/fixtures/trace.py and training.py made.
-- Sources: core/ops, core/nn/layers, core/optim/rules, lua/perigee/nn/model.lua, lua/perigee/train.

local core = require "perigee.core"
local H = require "spec.helper"
local pg = require "perigee"
local nn, optim = pg.nn, pg.optim

local stored, notes = assert(pg.load "spec/fixtures/trace.safetensors")
local trainings = assert(pg.io.json_decode(notes.trainings))
local alpha, share = tonumber(notes.alpha), tonumber(notes.share)
local BATCHES, BATCH = table.unpack(stored.images.shape)
local SIZE, CLASSES = stored.images.shape[5], stored.centers.shape[1]
local STEPS = stored["sgd.losses"].shape[1]

--- The network of trace.py with its weights at the start.
local function build(spec, dtype)
  local image = nn.Input({1, SIZE, SIZE}, {name = "image"})
  local label = nn.Input({}, {name = "label", dtype = "int64", training_only = true})
  local h, channels = image, 1
  for k, width in ipairs {8, 16} do
    h = nn.Conv2d(channels, width, 3, {padding = 1, bias = not spec.norm, name = "conv" .. k})(h)
    if spec.norm then h = nn.BatchNorm2d(width, {name = "norm" .. k})(h) end
    h = nn.MaxPool2d(2)(nn.PReLU({name = "act" .. k})(h))
    channels = width
  end
  local inner = channels * (SIZE // 4) ^ 2 // 1 | 0
  local feature = nn.Linear(inner, 2, {name = "feature"})(nn.Flatten()(h))
  local logits = nn.Linear(2, CLASSES, {name = "logits"})(nn.PReLU({name = "act3"})(feature))
  local center = nn.CenterLoss(CLASSES, 2, {alpha = alpha, order = spec.order})(feature, label)
  local model = nn.Model({image, label}, {logits, center}):to(dtype)
  local weights = {["centerloss.centers"] = stored.centers}
  for name, value in pairs(stored) do
    local key = name:match "^start%.(.*)"
    if key and (spec.norm or not key:find "norm") then weights[key] = value end
  end
  if spec.norm then weights["conv1.bias"], weights["conv2.bias"] = nil, nil end
  assert.same({}, model:load_state_dict(weights, {strict = false}).unexpected_keys)
  return model
end

local function images(dtype) return stored.images:to(dtype) / 255 end

--- Steps by hand; @return a list of {loss, cross entropy, center loss}
local function by_hand(model, spec, dtype)
  local opt = optim[spec.rule](model:parameters(), spec.options)
  local batches, losses = images(dtype), {}
  for step = 0, STEPS - 1 do
    local _ <close> = pg.scope()
    local k = step % BATCHES + 1
    local out = model {image = batches[k], label = stored.labels[k]}
    local entropy = nn.functional.cross_entropy(out.logits, stored.labels[k])
    local center = out.centerloss:mean()
    local loss = entropy + center * share
    opt:zero_grad()
    loss:backward()
    if spec.clip then nn.utils.clip_grad_norm_(model:parameters(), spec.clip) end
    opt:step()
    losses[step + 1] = {loss:item(), entropy:item(), center:item()}
  end
  return losses
end

--- The same through compile and fit.
local function by_fit(model, spec, dtype)
  local losses = {}
  model:compile {
    optimizer = optim[spec.rule](spec.options),
    loss = {logits = "cross_entropy", centerloss = "zero"},
    loss_weights = {centerloss = share},
    clip_norm = spec.clip,
  }
  model:fit({image = images(dtype):reshape(-1, 1, SIZE, SIZE), label = stored.labels:reshape(-1)}, {
    batch_size = BATCH, epochs = STEPS // BATCHES, shuffle = false, verbose = false,
    callbacks = {{on_batch_end = function(_, _, logs)
      losses[#losses + 1] = {logs.loss, logs.logits_loss, logs.centerloss_loss}
    end}},
  })
  return losses
end

local function check(name, model, losses, dtype)
  local tol = dtype == "float64" and 1e-9 or 1e-4
  local expected = H.values(stored[name .. ".losses"])
  assert.equal(STEPS, #losses)
  for step, three in ipairs(losses) do
    for k, what in ipairs {"loss", "cross entropy", "center loss"} do
      local wanted = expected[(step - 1) * 3 + k]
      assert(math.abs(three[k] - wanted) <= tol * math.max(1, wanted),
        ("%s in step %d: expected %.10g, got %.10g"):format(what, step, wanted, three[k]))
    end
  end
  local state = model:state_dict()
  local function same(what, actual, key)
    local different = H.compare(actual, stored[name .. "." .. key]:to(dtype), {tol = 10 * tol})
    assert(not different, ("%s at the end: %s"):format(what, different))
  end
  same("centers", model:get "centerloss":centers(), "centers")
  for key in pairs(stored) do
    local weight = key:match("^" .. name .. "%.end%.(.*)")
    if weight then same(weight, state[weight], "end." .. weight) end
  end
  local first = images(dtype)[1]
  same("feature", model:predict(first, {outputs = "feature"}), "feature")
  same("logits", model:predict(first, {outputs = "logits"}), "logits")
end

describe("thirty steps agree with PyTorch's:", function()
  for _, name in ipairs {"sgd", "nesterov", "adam", "adamw", "norm", "norm_adam", "loss_first",
    "clipped"} do
    for _, dtype in ipairs {"float32", "float64"} do
      for way, replay in pairs {["by hand"] = by_hand, ["through fit"] = by_fit} do
        it(("%s, %s, in %s"):format(name, way, dtype), function()
          local spec = trainings[name]
          local model = build(spec, dtype)
          check(name, model, replay(model, spec, dtype), dtype)
        end)
      end
    end
  end
end)

local apart = core.io.load("spec/fixtures/training/trace.safetensors", "safetensors")

--- The state that begins with prefix, under names that count from 1.
local function state(prefix)
  local dict = {}
  for name, t in pairs(apart) do
    local k, rest = name:match("^" .. prefix .. "%.(%d+)%.(.+)$")
    if k then dict[("%d.%s"):format(k + 1, rest)] = t end
  end
  return dict
end

describe("Sequentials with a center loss apart", function()
  it("follow PyTorch for thirty steps", function()
    local net = nn.Sequential {nn.Conv2d(1, 6, 3, {padding = 1}), nn.PReLU(), nn.MaxPool2d(2),
      nn.Conv2d(6, 8, 3, {padding = 1}), nn.BatchNorm2d(8), nn.PReLU(), nn.MaxPool2d(2),
      nn.Flatten(), nn.Linear(72, 2)}
    local head = nn.Sequential {nn.PReLU(), nn.Linear(2, 4)}
    local center = nn.CenterLoss(4, 2, {alpha = 0.5})
    net:load_state_dict(state "net")
    head:load_state_dict(state "head")
    center:set_centers(apart.centers)
    local params = net:parameters()
    for _, p in ipairs(head:parameters()) do params[#params + 1] = p end
    local opt = optim.SGD(params, {lr = 0.05, momentum = 0.9, weight_decay = 5e-4})
    local pictures = (apart.images:to("float32") - 128) / 60
    local labels = apart.labels:to("int64")
    local losses = {}
    for step = 1, 30 do
      local _ <close> = pg.scope()
      local from, to = (step - 1) * 16 + 1, step * 16
      local x, y = pictures[{{from, to}}], labels[{{from, to}}]
      local feature = net(x)
      local pull = center(feature, y):mean()
      local cross = nn.functional.cross_entropy(head(feature), y)
      opt:zero_grad()
      local loss = cross + 0.1 * pull
      loss:backward()
      opt:step()
      losses[step] = {cross:item(), pull:item()}
    end
    H.same(pg.tensor(losses), apart.losses, 1e-3)
    H.same(center:centers(), apart["centers.after"], 1e-3)
  end)
end)
