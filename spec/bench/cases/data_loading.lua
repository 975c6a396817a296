--- Reading data: one shuffled epoch of MNIST in batches of 128, held in memory; and a folder of
-- JPEG pictures from its files to batches of 64. Both give float32 images in 0..1.
-- The data is that beside the project, or in PERIGEE_DATA; a part whose data is not there is left
-- out.

local function run_epoch(pg, loader)
  local samples = 0
  for batch in loader do
    local _ <close> = pg.scope()
    samples = samples + batch.image:size(1)
    for _, t in pairs(batch) do t:release() end
  end
  return samples
end

return {
  every_variant = true,
  setup = function(pg)
    local data, parts = pg.data, {}
    local found, train = pcall(data.mnist)
    if found then
      local loader = data.DataLoader(train, {batch_size = 128, shuffle = true, seed = 1})
      parts[1] = {name = "MNIST epoch", items = 60000,
        step = function() assert(run_epoch(pg, loader) == 60000) end}
    end
    local folder = require("perigee.data.find").find "cifar10-jpg"
    if folder then
      local function step()
        local set = assert(data.image_folder(folder .. "/train"))
        local loader = data.DataLoader(set, {batch_size = 64, shuffle = true, seed = 1})
        return run_epoch(pg, loader)
      end
      parts[#parts + 1] = {name = "JPEG folder", items = 5000, step = step}
    end
    return parts
  end,
}
