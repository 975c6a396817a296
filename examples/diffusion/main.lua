--- A small diffusion model that draws handwritten digits on demand.
-- A U-Net on 14 x 14 blocks of pixels learns to tell noise from digit at every strength of noise
-- (v-prediction, Salimans and Ho 2022); sampling walks back from pure noise (DDIM, Song et al.
-- 2021), away from what would be drawn of any digit (guidance, Ho and Salimans 2022). Leaves
-- samples.png (a row for each digit), loss.png and model.safetensors in DIR.

local pg = require "perigee"
local nn, optim, data, plot = pg.nn, pg.optim, pg.data, pg.plot
local F = nn.functional

local option = pg.cli.options {
  "Learns to draw handwritten digits out of noise.",
  {"images", 60000, "training images"},
  {"epochs", 3, "passes over them"},
  {"batch", 64, "images in a step"},
  {"width", 32, "channels of the U-Net at 14 x 14; twice as many at 7 x 7"},
  {"lr", 2e-3, "greatest rate of AdamW's one-cycle schedule"},
  {"steps", 50, "steps from noise to digit"},
  {"guidance", 3.0, "how much the wanted digit counts; 1 is what was learned"},
  {"samples", 10, "drawings of each digit"},
  {"seed", 7, "weights, order and noise"},
  {"root", "", "folder of the four IDX files; looked for where it is not given"},
  {"load", "", "model.safetensors of an earlier run, to draw without training"},
  {"out", ".", "folder for the results"},
}

-- The net -----------------------------------------------------------------------------------------

--- Two convolutions around which the image may pass; what is wanted (time and digit) is added
-- between them.
local Block = nn.Module:extend "Block"
function Block:init(from, to, wanted)
  self.conv1 = nn.Conv2d(from, to, 3, {padding = 1})
  self.norm1 = nn.GroupNorm(8, to)
  self.wanted = nn.Linear(wanted, to)
  self.conv2 = nn.Conv2d(to, to, 3, {padding = 1})
  self.norm2 = nn.GroupNorm(8, to)
  self.pass = from == to and nn.Identity() or nn.Conv2d(from, to, 1)
end
function Block:forward(x, wanted)
  local h = F.silu(self.norm1(self.conv1(x)))
  h = h + self.wanted(wanted):unsqueeze(-1):unsqueeze(-1)
  return F.silu(self.norm2(self.conv2(h))) + self.pass(x)
end

local UNet = nn.Module:extend "UNet"
function UNet:init(width, classes)
  local wanted = 4 * width
  self.time1, self.time2 = nn.Linear(16, wanted), nn.Linear(wanted, wanted)
  self.class = nn.Embedding(classes + 1, wanted) -- the last stands for any digit
  self.start = nn.Conv2d(4, width, 3, {padding = 1})
  self.above = Block(width, width, wanted)
  self.down = nn.Conv2d(width, 2 * width, 4, {stride = 2, padding = 1})
  self.middle1 = Block(2 * width, 2 * width, wanted)
  self.middle2 = Block(2 * width, 2 * width, wanted)
  self.up = nn.ConvTranspose2d(2 * width, width, 4, {stride = 2, padding = 1})
  self.below = Block(2 * width, width, wanted)
  self.finish = nn.Conv2d(width, 4, 3, {padding = 1})
end
--- x: b x 1 x 28 x 28; time: b, 0 (digit) to 1 (noise); label: b. Gives v, shaped like x.
function UNet:forward(x, time, label)
  local angle = time:unsqueeze(2) * (math.pi * 2 ^ pg.arange(-1, 6)):unsqueeze(1)
  local wanted = self.time2(F.silu(self.time1(pg.cat({angle:sin(), angle:cos()}, 2))))
  wanted = F.silu(wanted + self.class(label))
  local above = self.above(self.start(F.pixel_unshuffle(x, 2)), wanted)
  local h = self.middle2(self.middle1(self.down(above), wanted), wanted)
  h = self.below(pg.cat({self.up(h), above}, 2), wanted)
  return F.pixel_shuffle(self.finish(h), 2)
end

-- Noise -------------------------------------------------------------------------------------------

-- How much of digit and of noise there is at a time, as b x 1 x 1 x 1: a quarter of a circle.
local function shares(time)
  local angle = (time * (math.pi / 2)):view(-1, 1, 1, 1)
  return angle:cos(), angle:sin()
end

--- Mean square by which the net misses v = cos noise - sin digit, at random times.
-- A tenth of the digits goes without its label.
local function loss_of(net, digit, label, any)
  local n = digit:size(1)
  local noise, time = pg.randn_like(digit), pg.rand(n)
  local c, s = shares(time)
  label = label:masked_fill(pg.rand(n):lt(0.1), any)
  return F.mse_loss(net(c * digit + s * noise, time, label), c * noise - s * digit)
end

--- Digits for labels, from pure noise in equal steps of time; pixels in 0..1.
local function sample(net, label, any)
  local _ <close> = pg.no_grad()
  local n, steps = label:size(1), option.steps
  local x = pg.randn(n, 1, 28, 28)
  label = pg.cat({label, pg.full_like(label, any)}, 1)
  for k = steps, 1, -1 do
    local time = pg.full({n}, k / steps)
    local c, s = shares(time)
    local both = net(pg.cat({x, x}, 1), pg.cat({time, time}, 1), label)
    local wanted, usual = both:narrow(1, 1, n), both:narrow(1, n + 1, n)
    local v = usual + option.guidance * (wanted - usual)
    local digit = (c * x - s * v):clamp(-1, 1)
    local noise = (x - c * digit) / s -- what is left beside the digit as it was cut
    c, s = shares(time - 1 / steps)
    x = c * digit + s * noise
  end
  return (x + 1) / 2
end

-- Training ----------------------------------------------------------------------------------------

pg.manual_seed(option.seed)
local train = data.mnist {root = option.root ~= "" and option.root or nil}
train = train:subset(1, math.min(option.images, #train))
local classes = #train.classes
local net = UNet(option.width, classes)
local params, count = net:parameters(), 0
for _, p in ipairs(params) do count = count + p:numel() end
print(("%d images, %d parameters"):format(#train, count))

local curve = {}

--- Trains the net; its weights end as a running mean, which draws better than the last ones.
local function learn()
  local loader = data.DataLoader(train,
    {batch_size = option.batch, shuffle = true, seed = option.seed, drop_last = true})
  local total = math.max(2, option.epochs * #loader)
  local opt = optim.AdamW(params, {lr = option.lr})
  local schedule = optim.lr_scheduler.OneCycleLR(opt,
    {max_lr = option.lr, total_steps = total, pct_start = 0.1})

  local averaged = {}
  for i, p in ipairs(params) do averaged[i] = p:detach():clone() end
  local step = 0
  for epoch = 1, option.epochs do
    local started, sum = pg.clock(), 0
    for batch in loader do
      local _ <close> = pg.scope()
      local loss = loss_of(net, batch.image * 2 - 1, batch.label, classes + 1)
      opt:zero_grad()
      loss:backward()
      opt:step()
      schedule:step()
      step = step + 1
      local keep = math.min(0.998, step / (step + 10))
      local _ <close> = pg.no_grad()
      for i, p in ipairs(params) do averaged[i]:mul_(keep):add_(p, {alpha = 1 - keep}) end
      curve[step] = loss:item()
      sum = sum + curve[step]
    end
    local seconds = pg.clock() - started
    print(("epoch %d/%d  %.0f s  %.0f images/s  loss %.4f"):format(epoch, option.epochs, seconds,
      #loader * option.batch / seconds, sum / #loader))
  end
  local _ <close> = pg.no_grad()
  for i, p in ipairs(params) do p:copy_(averaged[i]) end
end

if option.load ~= "" then
  net:load_state_dict(assert(pg.load(option.load)))
else
  learn()
end

-- Drawing -----------------------------------------------------------------------------------------

local label = pg.arange(1, classes):repeat_interleave(option.samples)
local started = pg.clock()
local digits = sample(net, label, classes + 1)
print(("%d digits drawn in %.1f s"):format(#label, pg.clock() - started))
local function out(file) return option.out .. "/" .. file end
local names = {}
for k = 1, classes do names[k] = train.classes[k] end
assert(plot.images(digits, {columns = option.samples, rows = names, title = "Drawn out of noise"})
  :save(out "samples.png"))
if option.load ~= "" then
  print("wrote samples.png to " .. option.out)
  return
end
assert(plot.line({loss = curve}, {
  title = "Diffusion on digits", xlabel = "step", ylabel = "mean squared error of v", smooth = 0.98,
}):save(out "loss.png"))
assert(pg.save(out "model.safetensors", net:state_dict()))
print(("wrote samples.png, loss.png, model.safetensors to %s"):format(option.out))
