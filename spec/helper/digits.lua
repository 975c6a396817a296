--- Small sets of images that specs make for the examples: something to learn, in seconds.
-- Relies on spec/helper/files.lua and perigee.
-- Spec: spec/examples/mnist_cnn_spec.lua.

local pg = require "perigee"
local files = require "spec.helper.files"

local M = {}

--- n images of 28 x 28 in ten classes, noise and one bright square whose place tells the class, and
-- their classes 0 to 9, both uint8.
local function digits(n)
  local image, label = pg.randint(0, 60, {n, 28, 28}), {}
  for i = 1, n do
    local class = (i - 1) % 10
    local y, x = 4 + class // 5 * 10, 3 + class % 5 * 5
    image[{i, {y, y + 5}, {x, x + 3}}] = 230
    label[i] = class
  end
  return image:to("uint8"), pg.tensor(label, {dtype = "int64"}):to("uint8")
end

local function idx(t)
  return string.pack(">BBBB", 0, 0, 8, #t.shape)
    .. string.pack(">" .. ("I4"):rep(#t.shape), table.unpack(t.shape)) .. t:bytes()
end

--- Writes the four files of a set in MNIST's form.
function M.mnist(folder, train, test)
  for name, n in pairs {train = train, t10k = test} do
    local image, label = digits(n)
    files.write(folder .. "/" .. name .. "-images-idx3-ubyte", idx(image))
    files.write(folder .. "/" .. name .. "-labels-idx1-ubyte", idx(label))
  end
end

--- Writes root/train and root/test with a folder of PNG files for each of some colours.
-- @param size height and width
function M.colours(root, per_class, size)
  for name, rgb in pairs {red = {200, 40, 40}, green = {40, 200, 40}, blue = {40, 40, 200}} do
    for _, part in ipairs {"train", "test"} do
      local folder = ("%s/%s/%s"):format(root, part, name)
      os.execute(("mkdir -p '%s'"):format(folder))
      for i = 1, per_class do
        local base = pg.tensor(rgb, {dtype = "int64"}):view(3, 1, 1)
        local image = (base + pg.randint(-40, 40, {3, size, size})):to("uint8")
        assert(pg.save(("%s/%d.png"):format(folder, i), image))
      end
    end
  end
end

return M
