--- MNIST and Fashion-MNIST from their IDX files, plain or gzip'ed.
-- Relies on core.io and data/find.lua. Spec: spec/data/mnist_spec.lua.

local core = require "perigee.core"
local blame = require "perigee.blame"
local util = require "perigee.util"
local dataset = require "perigee.data.dataset"
local find = require "perigee.data.find"

local M = {}

local DIGITS = {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"}
local CLOTHES = {"T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt",
  "Sneaker", "Bag", "Ankle boot"}

local PARTS = {
  {"train-images", "idx3-ubyte"}, {"train-labels", "idx1-ubyte"},
  {"t10k-images", "idx3-ubyte"}, {"t10k-labels", "idx1-ubyte"},
}

--- The file of a part in a folder, by any of the names in use; nil where there is none.
local function find_part(folder, part)
  for _, mark in ipairs {"-", "."} do
    for _, ending in ipairs {"", ".gz"} do
      local path = ("%s/%s%s%s%s"):format(folder, part[1], mark, part[2], ending)
      if find.exists(path) then return path end
    end
  end
  return nil
end

--- Where a set may lie. Both sets use the same file names, so a folder that may hold either counts
-- only where it was named for this set: root, and $PERIGEE_DATA for MNIST.
local function places(name, root)
  if root then return {root, root .. "/" .. name} end
  local list = {}
  local own = os.getenv "PERIGEE_DATA"
  if own and own ~= "" then
    if name == "mnist" then list[1] = own end
    list[#list + 1] = own .. "/" .. name
  end
  for _, folder in ipairs(find.shared_folders()) do list[#list + 1] = folder .. "/" .. name end
  list[#list + 1] = "/usr/share/datasets/" .. name
  return list
end

local HELP = {
  mnist = "Get the four files train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, "
    .. "t10k-images-idx3-ubyte.gz and t10k-labels-idx1-ubyte.gz and name their folder in "
    .. "{root = ..} or $PERIGEE_DATA.",
  ["fashion-mnist"] = "Install it with: apt-get install dataset-fashion-mnist; or name the folder "
    .. "of its four IDX files in {root = ..}, or $PERIGEE_DATA, where it is called fashion-mnist.",
}

--- The four files of a set, from the first folder that has them all. Raises where none has.
local function find_set(fn, name, root)
  local searched = {}
  for _, folder in ipairs(places(name, root)) do
    local files, missing = {}, nil
    for i, part in ipairs(PARTS) do
      files[i] = find_part(folder, part)
      if not files[i] and not missing then missing = ("%s-%s"):format(part[1], part[2]) end
    end
    if not missing then return files end
    searched[#searched + 1] = ("  %s (no %s)"):format(folder, missing)
  end
  blame.raise("%s: the data set is not there. Searched:\n%s%s\n%s", fn,
    table.concat(searched, "\n"),
    root and "\nWithout root: $PERIGEE_DATA, ../shared/data, /usr/share/datasets." or "",
    HELP[name])
end

local function read(fn, path)
  local t, message = core.io.idx(path)
  if not t then blame.raise("%s: %s", fn, message) end
  return t
end

--- A set of images and labels: uint8 in memory, float32 0..1 in batches, digit 0 is class 1.
local function make(fn, image_path, label_path, classes)
  local image, label = read(fn, image_path), read(fn, label_path)
  if image.dtype ~= "uint8" or image:dim() ~= 3 then
    blame.raise("%s: %s: expected uint8 images of 3 dims, got %s of %d", fn, image_path,
      image.dtype, image:dim())
  elseif label.dtype ~= "uint8" or label:dim() ~= 1 then
    blame.raise("%s: %s: expected uint8 labels of 1 dim, got %s of %d", fn, label_path,
      label.dtype, label:dim())
  elseif image:size(1) ~= label:size(1) then
    blame.raise("%s: %s holds %d images, %s holds %d labels", fn, image_path, image:size(1),
      label_path, label:size(1))
  end
  label = label:to("int64") + 1
  if label:numel() > 0 and label:max():item() > #classes then
    blame.raise("%s: %s: a label is %d, expected 0 to %d", fn, label_path,
      label:max():item() - 1, #classes - 1)
  end
  local n, height, width = image:size(1), image:size(2), image:size(3)
  return dataset.TensorDataset({image = image:view(n, 1, height, width), label = label},
    {transforms = {image = "unit"}, classes = {table.unpack(classes)}})
end

local function load(fn, name, classes, opt)
  opt = util.options(fn, opt, {"root"})
  util.expect(fn, "root", opt.root, "string|nil")
  local files = find_set(fn, name, opt.root)
  return make(fn, files[1], files[2], classes), make(fn, files[3], files[4], classes)
end

--- The MNIST digits: 60000 to train with, 10000 to test. Fields image (N x 1 x 28 x 28, uint8;
-- float32 0..1 in batches) and label (N, int64, 1..10); `classes[1] == "0"`.
-- Looked for in $PERIGEE_DATA and $PERIGEE_DATA/mnist, ../shared/data/mnist (of the working folder
-- and of the script's), /usr/share/datasets/mnist. Raises, naming all of them, where it is not.
-- @param opt root: the folder to look in, instead
-- @return train, test
function M.mnist(opt)
  return load("data.mnist", "mnist", DIGITS, opt)
end

--- Fashion-MNIST (Xiao, Rasul, Vollgraf, 2017), in the shape of MNIST;
-- `classes[1] == "T-shirt/top"`. Looked for as `mnist` is, in folders called fashion-mnist.
-- @param opt root: the folder to look in, instead
-- @return train, test
function M.fashion_mnist(opt)
  return load("data.fashion_mnist", "fashion-mnist", CLOTHES, opt)
end

return M
