--- One training step of ResNet-18 (He et al., 2016; stem 7x7 of stride 2, then pooling) on images
-- 3 x 32 x 32, 10 classes, batch 64.
local training = require "spec.bench.training"

--- The class of the basic block: two 3x3 convolutions beside a way that skips them.
local function block_class(nn)
  local Block = nn.Module:extend "Block"
  function Block:init(from, to, stride)
    self.main = nn.Sequential {
      nn.Conv2d(from, to, 3, {stride = stride, padding = 1, bias = false}), nn.BatchNorm2d(to),
      nn.ReLU(), nn.Conv2d(to, to, 3, {padding = 1, bias = false}), nn.BatchNorm2d(to)}
    if stride ~= 1 or from ~= to then
      self.downsample = nn.Sequential {nn.Conv2d(from, to, 1, {stride = stride, bias = false}),
        nn.BatchNorm2d(to)}
    end
  end
  function Block:forward(x)
    return nn.functional.relu(self.main(x) + (self.downsample and self.downsample(x) or x))
  end
  return Block
end

return training {
  bf16 = true,
  build = function(pg)
    local nn = pg.nn
    pg.manual_seed(1)
    local Block = block_class(nn)
    local layers = {nn.Conv2d(3, 64, 7, {stride = 2, padding = 3, bias = false}),
      nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, {stride = 2, padding = 1})}
    local from = 64
    for stage, to in ipairs {64, 128, 256, 512} do
      layers[#layers + 1] = Block(from, to, stage == 1 and 1 or 2)
      layers[#layers + 1] = Block(to, to, 1)
      from = to
    end
    for _, layer in ipairs {nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10)} do
      layers[#layers + 1] = layer
    end
    local net = nn.Sequential(layers)
    local x, y = pg.rand(64, 3, 32, 32), pg.randint(1, 10, {64})
    return pg.optim.SGD(net:parameters(), {lr = 0.1, momentum = 0.9, weight_decay = 5e-4}),
      function() return nn.functional.cross_entropy(net(x), y) end
  end,
}
