--- A folder with a folder of pictures for each class, as a dataset.
-- Relies on core.io and data/dataset.lua. Spec: spec/data/image_folder_spec.lua.

local core = require "perigee.core"
local blame = require "perigee.blame"
local util = require "perigee.util"
local dataset = require "perigee.data.dataset"

local FN = "data.image_folder"

local ENDINGS = {png = true, jpg = true, jpeg = true, bmp = true, pgm = true, ppm = true,
  pnm = true}

--- Names of the pictures in a folder, sorted.
local function pictures_in(folder)
  local names = {}
  for _, name in ipairs(core.io.list(folder)) do
    if ENDINGS[(name:match "%.(%w+)$" or ""):lower()] then names[#names + 1] = name end
  end
  table.sort(names)
  return names
end

--- A picture as channels x height x width, brought to a size where one is wanted.
local function read(path, opt)
  local picture, message = core.io.image(path, opt.channels, opt.limit)
  if not picture or not opt.size then return picture, message end
  local height, width = opt.size[1], opt.size[2]
  if picture:size(2) == height and picture:size(3) == width then return picture end
  local scaled = core.ops.interpolate(picture:to("float32"):unsqueeze(1),
    {size = {height, width}, mode = "bilinear"})
  return scaled:squeeze(1):round():clamp(0, 255):to("uint8")
end

local function expect_size(size)
  if size == nil then return nil end
  if math.type(size) then size = {size, size} end
  if type(size) ~= "table" or #size ~= 2 or not math.tointeger(size[1])
      or not math.tointeger(size[2]) or size[1] < 1 or size[2] < 1 then
    blame.raise("%s: option 'size': expected a size or {height, width}, got %s", FN,
      util.show(size))
  end
  return size
end

--- The pictures of a folder, root/class/picture.png: fields image (N x channels x height x width,
-- uint8; float32 0..1 in batches) and label (N, int64, from 1). Classes are the folders in sorted
-- order; within a class pictures are sorted by name. All of it is held in memory.
-- `local train = assert(data.image_folder("flowers/train", {size = {64, 64}}))`
-- @param root the folder
-- @param opt size: height and width to which pictures are scaled (without it they must all have one
-- size); channels: 1 or 3 (3); limit: greatest size of a picture in bytes (2^28); most: of each
-- class take so many at most
-- @return a TensorDataset with `classes`, or nil and a message
return function(root, opt)
  util.expect(FN, "root", root, "string")
  opt = util.options(FN, opt, {"size", "limit", "most", channels = 3})
  util.choice(FN, "channels", opt.channels, {1, 3})
  opt.size = expect_size(opt.size)
  local most = util.expect(FN, "most", opt.most, "integer|nil") or math.huge
  local files, classes = core.io.list(root)
  if not files then return nil, classes end
  table.sort(classes)
  if #classes == 0 then return nil, root .. ": there are no folders in it, one for each class" end
  local stacks, labels, first = {}, {}, nil
  for k, class in ipairs(classes) do
    local list = {}
    local folder = root .. "/" .. class
    for i, name in ipairs(pictures_in(folder)) do
      if i > most then break end
      local path = folder .. "/" .. name
      local picture, message = read(path, opt)
      if not picture then return nil, message end
      local shape = table.concat(picture.shape, " x ")
      first = first or {path = path, shape = shape}
      if shape ~= first.shape then
        return nil, ("%s: %s, but %s: %s; option 'size' brings them to one size"):format(path,
          shape, first.path, first.shape)
      end
      list[i] = picture
      labels[#labels + 1] = k
    end
    if #list == 0 then return nil, folder .. ": there are no pictures in it" end
    stacks[k] = core.ops.stack(list)
    for _, picture in ipairs(list) do picture:release() end
  end
  return dataset.TensorDataset(
    {image = core.ops.cat(stacks, 1), label = core.tensor(labels, {dtype = "int64"})},
    {transforms = {image = "unit"}, classes = classes})
end
