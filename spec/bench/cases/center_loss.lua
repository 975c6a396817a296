--- Center loss alone, forward and backward with the update of the centers: batch 256, 512 features,
-- 10 to 1,000,000 classes.

local function step_of(pg, classes)
  pg.manual_seed(1)
  local layer = pg.nn.CenterLoss(classes, 512, {alpha = 0.5})
  local x = pg.randn(256, 512, {requires_grad = true})
  local y = pg.randint(1, classes, {256})
  return function()
    local _ <close> = pg.scope()
    x.grad = nil
    layer(x, y):mean():backward()
  end
end

return {
  every_variant = true,
  growth = {{axis = "classes", values = {10, 100, 1000, 10000, 100000, 1000000}}},
  setup = function(pg, option)
    if option.classes then return step_of(pg, option.classes) end
    local parts = {}
    for _, classes in ipairs {10, 10000, 1000000} do
      parts[#parts + 1] = {name = classes .. " classes", step = step_of(pg, classes)}
    end
    return parts
  end,
}
