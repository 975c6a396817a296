-- MNIST and Fashion-MNIST: a small set of our own, every way to miss or break it, the real ones
-- where they are present. Relies on spec/helper/files.lua. Sources: lua/perigee/data/mnist.lua.

local H = require "spec.helper"
local core = require "perigee.core"
local pg = require "perigee"
local files = require "spec.helper.files"

local data = pg.data

local function idx(code, shape, bytes)
  return string.pack(">BBBB" .. ("I4"):rep(#shape), 0, 0, code, #shape, table.unpack(shape))
    .. bytes
end

local IMAGES = idx(8, {2, 28, 28}, ("\0\255"):rep(784))

-- The four files of a set with 2 + 2 images; `change` replaces some by name, false leaves one out.
local function with_set(change, fn)
  H.in_folder(function(folder)
    local set = {
      ["train-images-idx3-ubyte"] = IMAGES, ["train-labels-idx1-ubyte"] = idx(8, {2}, "\0\9"),
      ["t10k-images-idx3-ubyte"] = IMAGES, ["t10k-labels-idx1-ubyte"] = idx(8, {2}, "\3\4"),
    }
    for name, bytes in pairs(change) do set[name] = bytes end
    for name, bytes in pairs(set) do
      if bytes then files.write(folder .. "/" .. name, bytes) end
    end
    fn(folder)
  end)
end

describe("data.mnist", function()
  it("reads its four files: classes from 1, images of one channel", function()
    with_set({}, function(folder)
      local train, test = data.mnist {root = folder}
      assert.equal(2, #train)
      H.same(train.label, {1, 10})
      assert.equal("int64", train.label.dtype)
      H.same(test.label, {4, 5})
      assert.equal("0", train.classes[1])
      assert.equal("9", train.classes[10])
      assert.equal("uint8", train.image.dtype)
      assert.same({2, 1, 28, 28}, train.image.shape)
      local image = train:get(1).image
      assert.same({1, 28, 28}, image.shape)
      assert.equal("float32", image.dtype)
      H.same(image:max(), 1)
    end)
  end)
  it("finds them in a folder of the set's name, and under other names in use", function()
    with_set({}, function(folder)
      os.execute(("mkdir '%s/in'; cp -r '%s/in' '%s/mnist'; mv '%s'/t* '%s/mnist'"):format(folder,
        folder, folder, folder, folder))
      assert.equal(2, #data.mnist {root = folder})
      H.raises(function() data.fashion_mnist {root = folder} end, "fashion%-mnist")
      local part = folder .. "/mnist/train-images"
      os.rename(part .. "-idx3-ubyte", part .. ".idx3-ubyte")
      assert.equal(2, #data.mnist {root = folder})
    end)
  end)
  it("names every place that it searched, and what to do", function()
    local ok, message = pcall(data.mnist, {root = "/no/such"})
    assert.is_false(ok)
    for _, part in ipairs {"/no/such ", "/no/such/mnist ", "$PERIGEE_DATA", "../shared/data",
      "train-images-idx3-ubyte"} do
      assert.matches(part, message, 1, true)
    end
    ok, message = pcall(data.fashion_mnist, {root = "/no/such"})
    assert.is_false(ok)
    assert.matches("apt-get install dataset-fashion-mnist", message, 1, true)
    with_set({["t10k-labels-idx1-ubyte"] = false}, function(folder)
      H.raises(function() data.mnist {root = folder} end, "no t10k%-labels%-idx1%-ubyte")
    end)
  end)
  it("searches $PERIGEE_DATA and the folders of shared data", function()
    local script = [[
      local ok, message = pcall(require("perigee.data.mnist").%s)
      if ok then io.write "found" else io.write(message) end
    ]]
    H.in_folder(function(folder)
      local function run(name, root)
        files.write(folder .. "/run.lua", script:format(name))
        local command = ("PERIGEE_DATA='%s' lua5.4 '%s/run.lua'"):format(root, folder)
        local pipe = assert(io.popen(command))
        local text = pipe:read "a"
        pipe:close()
        return text
      end
      local text = run("mnist", "/no/such")
      if text ~= "found" then
        for _, place in ipairs {"/no/such", "/no/such/mnist", "../shared/data/mnist",
          folder .. "/../shared/data/mnist", "/usr/share/datasets/mnist"} do
          assert.matches("  " .. place .. " ", text, 1, true)
        end
      end
      text = run("fashion_mnist", "/no/such")
      if text ~= "found" then
        assert.matches("  /no/such/fashion-mnist ", text, 1, true)
        assert.matches("  /usr/share/datasets/fashion-mnist ", text, 1, true)
        assert.is_nil(text:find("  /no/such ", 1, true))
      end
    end)
  end)
  it("says what is wrong with a file, and which", function()
    local cases = {
      {"train-images-idx3-ubyte", IMAGES:sub(1, -2), "truncated"},
      {"train-images-idx3-ubyte", "\1" .. IMAGES:sub(2), "not an IDX file"},
      {"train-images-idx3-ubyte", idx(8, {3, 28, 28}, ("\0"):rep(2 * 784)), "truncated"},
      {"train-images-idx3-ubyte", idx(8, {2, 784}, ("\0"):rep(2 * 784)), "3 dims"},
      {"t10k-images-idx3-ubyte", idx(8, {1, 28, 28}, ("\0"):rep(784)), "holds 1 images"},
      {"train-labels-idx1-ubyte", idx(8, {2}, "\0\10"), "a label is 10, expected 0 to 9"},
      {"t10k-labels-idx1-ubyte", idx(12, {2}, ("\0"):rep(8)), "expected uint8 labels"},
      {"t10k-labels-idx1-ubyte", "\31\139" .. ("x"):rep(20), "gzip"},
    }
    for _, case in ipairs(cases) do
      with_set({[case[1]] = case[2]}, function(folder)
        local ok, message = pcall(data.mnist, {root = folder})
        assert.is_false(ok)
        assert.matches(case[3], message)
        assert.matches(case[1], message, 1, true)
      end)
    end
  end)
  it("takes root and nothing else", function()
    H.raises(function() data.mnist {rot = "x"} end, "did you mean 'root'")
    H.raises(function() data.mnist {root = 3} end, "argument 'root'")
    H.raises(function() data.mnist "x" end, "expected a table of options")
  end)
end)

local function is_there(path)
  local file = io.open(path)
  if file then file:close() end
  return file ~= nil
end

describe("the real sets", function()
  local function check(train, test, first)
    assert.equal(60000, #train)
    assert.equal(10000, #test)
    assert.same({60000, 1, 28, 28}, train.image.shape)
    H.same(train.label:min(), 1)
    H.same(train.label:max(), 10)
    H.same(core.ops.narrow(train.label, 1, 1, 5), first)
  end
  local folder = H.data_dir()
  if folder and is_there(folder .. "/mnist/train-images-idx3-ubyte.gz") then
    it("of MNIST", function()
      local train, test = data.mnist {root = folder}
      check(train, test, {6, 1, 5, 2, 10})
      H.same(train:get(1).image:mean(), 0.1376801, 1e-6)
    end)
  else
    pending "of MNIST: not present"
  end
  if is_there "/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz" then
    it("of Fashion-MNIST", function()
      local train, test = data.fashion_mnist()
      check(train, test, {10, 1, 1, 4, 1})
      assert.equal("Ankle boot", train.classes[10])
    end)
  else
    pending "of Fashion-MNIST: not present (apt-get install dataset-fashion-mnist)"
  end
end)
