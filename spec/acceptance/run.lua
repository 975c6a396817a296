--- Runs a script of API.md as a process of its own, in a fresh folder, with small data sets.
-- Relies on the environment that ./dev test sets (LUA_PATH, LUA_CPATH).
-- Used by the specs of this folder.

local H = require "spec.helper"

local M = {}

local function write(path, ...)
  local file = assert(io.open(path, "wb"))
  file:write(...)
  assert(file:close())
end

--- n images of 28 x 28 in IDX form, with labels 0..9 in turn: a bright square whose place tells the
-- class, on noise.
local function write_set(folder, part, n)
  local seed = #part
  local function noise()
    seed = (seed * 1103515245 + 12345) % 2147483648
    return seed // 65536 % 40
  end
  local images, labels = {}, {}
  for i = 0, n - 1 do
    local class = i % 10
    local top, left = 2 + class // 5 * 13, 1 + class % 5 * 5
    local rows = {}
    for y = 0, 27 do
      local row = {}
      for x = 0, 27 do
        local inside = y >= top and y < top + 10 and x >= left and x < left + 5
        row[x + 1] = string.char(inside and 210 + noise() or noise())
      end
      rows[y + 1] = table.concat(row)
    end
    images[i + 1] = table.concat(rows)
    labels[i + 1] = string.char(class)
  end
  write(("%s/%s-images-idx3-ubyte"):format(folder, part),
    string.pack(">I4I4I4I4", 0x803, n, 28, 28), table.concat(images))
  write(("%s/%s-labels-idx1-ubyte"):format(folder, part), string.pack(">I4I4", 0x801, n),
    table.concat(labels))
end

--- Writes a script and the data sets mnist and fashion-mnist into a fresh folder, runs the script
-- there, and calls check(folder, output). Fails with the output where the script fails.
-- @param script text of a Lua program
-- @param opt train (256) and test (100): how many images
-- @param check function of the folder and what the script printed
function M.script(script, opt, check)
  H.in_folder(function(folder)
    write(folder .. "/script.lua", script)
    for _, name in ipairs {"mnist", "fashion-mnist"} do
      local set = ("%s/data/%s"):format(folder, name)
      assert(os.execute(("mkdir -p '%s'"):format(set)))
      write_set(set, "train", opt.train or 256)
      write_set(set, "t10k", opt.test or 100)
    end
    local pipe = assert(io.popen(("cd '%s' && PERIGEE_DATA='%s/data' PERIGEE_PROGRESS=plain "
      .. "lua5.4 script.lua 2>&1"):format(folder, folder)))
    local output = pipe:read "a"
    local ok = pipe:close()
    assert(ok, output)
    check(folder, output)
  end)
end

--- The bytes of a file, or nil.
function M.bytes(path)
  local file = io.open(path, "rb")
  if not file then return nil end
  local all = file:read "a"
  file:close()
  return all
end

return M
