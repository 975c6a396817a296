-- Folders of pictures as datasets: classes, order, sizes, what is refused.
-- Relies on spec/helper/files.lua. Sources: lua/perigee/data/image_folder.lua.

local H = require "spec.helper"
local pg = require "perigee"
local files = require "spec.helper.files"

local data = pg.data

local function pgm(value, width, height)
  width, height = width or 2, height or 2
  return ("P5 %d %d 255\n"):format(width, height) .. string.char(value):rep(width * height)
end

-- Calls fn(folder) with a folder that holds these files, by path.
local function with(list, fn)
  H.in_folder(function(folder)
    for path, bytes in pairs(list) do
      os.execute(("mkdir -p '%s/%s'"):format(folder, path:match "^(.*)/"))
      files.write(folder .. "/" .. path, bytes)
    end
    fn(folder)
  end)
end

describe("data.image_folder", function()
  it("counts classes and pictures in sorted order", function()
    with({["dog/b.pgm"] = pgm(30), ["dog/a.PGM"] = pgm(20), ["cat/z.pgm"] = pgm(10),
      ["cat/notes.txt"] = "x", ["cat/.hidden.pgm"] = "x"}, function(folder)
      local set = assert(data.image_folder(folder))
      assert.same({"cat", "dog"}, set.classes)
      assert.same({3, 3, 2, 2}, set.image.shape)
      assert.equal("uint8", set.image.dtype)
      H.same(set.label, {1, 2, 2})
      H.same(set.image[{ {}, 1, 1, 1 }], {10, 20, 30})
      H.same(set:get(2).image[{1, 1, 1}], 20 / 255)
      assert.equal(1, assert(data.image_folder(folder, {channels = 1})).image:size(2))
      assert.equal(2, #assert(data.image_folder(folder, {most = 1})))
    end)
  end)
  it("brings pictures to one size where it is asked", function()
    with({["a/1.pgm"] = pgm(9, 4, 4), ["a/2.pgm"] = pgm(7, 3, 5)}, function(folder)
      local set, message = data.image_folder(folder)
      assert.is_nil(set)
      assert.matches("2.pgm: 3 x 5 x 3, but .*1.pgm: 3 x 4 x 4; option 'size'", message)
      set = assert(data.image_folder(folder, {size = {2, 3}, channels = 1}))
      H.same(set.image, {{{{9, 9, 9}, {9, 9, 9}}}, {{{7, 7, 7}, {7, 7, 7}}}})
      assert.same({2, 3, 6, 6}, assert(data.image_folder(folder, {size = 6})).image.shape)
    end)
  end)
  it("says what is missing or damaged", function()
    local set, message = data.image_folder "/no/such"
    assert.is_nil(set)
    assert.equal("/no/such: No such file or directory", message)
    with({["a/1.pgm"] = "P5 9 9 255\n"}, function(folder)
      set, message = data.image_folder(folder)
      assert.is_nil(set)
      assert.matches("1.pgm: truncated", message)
      set, message = data.image_folder(folder .. "/a")
      assert.is_nil(set)
      assert.matches("there are no folders in it", message)
    end)
    with({["a/1.txt"] = "x"}, function(folder)
      set, message = data.image_folder(folder)
      assert.is_nil(set)
      assert.matches("/a: there are no pictures in it", message)
    end)
    H.raises(function() data.image_folder(3) end, "argument 'root': expected a string")
    H.raises(function() data.image_folder("x", {size = {1}}) end, "option 'size': expected a size")
    H.raises(function() data.image_folder("x", {sizes = 1}) end, "did you mean 'size'")
    H.raises(function() data.image_folder("x", {channels = 2}) end, "channels")
  end)
  if H.data_dir() then
    it("reads CIFAR-10 from JPEG files", function()
      local set = assert(data.image_folder(H.data_dir() .. "/cifar10-jpg/test", {most = 3}))
      assert.same({30, 3, 32, 32}, set.image.shape)
      assert.equal("airplane", set.classes[1])
      assert.equal("truck", set.classes[10])
    end)
  end
end)
