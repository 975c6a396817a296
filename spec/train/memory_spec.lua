-- Memory over thousands of training steps in stock lua5.4: a process of its own must not grow.
-- Relies on spec/helper.lua and /proc/self/status (elsewhere nothing is tested).
-- Sources: lua/binding/core.c (pgl_pressure), lua/binding/scope.c, core/base/mem.c.

local H = require "spec.helper"

-- Steps a network and prints its resident kilobytes after `warm` steps, then after every further
-- `every` steps.
local SCRIPT = [[
local pg = require "perigee"
local nn, optim = pg.nn, pg.optim
local kind, scoped, steps, warm, every = %q, %s, %d, %d, %d
pg.manual_seed(1)
local net, images
if kind == "convolutional" then
  net = nn.Sequential {
    nn.Conv2d(1, 8, 3, {padding = 1}), nn.BatchNorm2d(8), nn.PReLU(), nn.MaxPool2d(2),
    nn.Conv2d(8, 8, 3, {padding = 1}), nn.ReLU(), nn.MaxPool2d(2),
    nn.Flatten(), nn.Linear(128, 2), nn.Dropout(0.1),
  }
  images = pg.randn(16, 1, 16, 16)
else
  net, images = nn.Sequential {nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2)}, pg.randn(16, 4)
end
local head, center = nn.Linear(2, 10), nn.CenterLoss(10, 2)
local params = net:parameters()
for _, p in ipairs(head:parameters()) do params[#params + 1] = p end
local opt = optim.Adam(params, {lr = 1e-3})
local labels = pg.randint(1, 10, {16})

local function step()
  local _ <close> = scoped and pg.scope() or nil
  local feature = net(images)
  local loss = nn.functional.cross_entropy(head(feature), labels)
    + center(feature, labels):mean() * 0.1
  opt:zero_grad()
  loss:backward()
  opt:step()
  return loss:item()
end

local function resident()
  for line in io.lines "/proc/self/status" do
    local kilobytes = line:match "^VmRSS:%%s*(%%d+) kB"
    if kilobytes then return kilobytes end
  end
end

for k = 1, steps do
  assert(step() < math.huge)
  if k >= warm and (k - warm) %% every == 0 then print(resident()) end
end
]]

local STEPS, WARM, EVERY = 2000, 100, 100

-- One thread: a step is too small for two, which would wait for one another.
local function measure(kind, scoped)
  local sizes = {}
  H.in_folder(function(folder)
    local path = folder .. "/steps.lua"
    local file = assert(io.open(path, "w"))
    file:write(SCRIPT:format(kind, scoped, STEPS, WARM, EVERY))
    assert(file:close())
    local pipe = assert(io.popen(("OMP_NUM_THREADS=1 lua5.4 '%s' 2>&1"):format(path)))
    local output = pipe:read "a"
    assert(pipe:close(), output)
    for word in output:gmatch "%d+" do sizes[#sizes + 1] = tonumber(word) end
  end)
  return sizes
end

local status = io.open "/proc/self/status"
if status then status:close() end
-- AddressSanitizer keeps freed memory back, so that its processes do grow.
local sanitized = (os.getenv "LD_PRELOAD" or ""):find "asan"

if status and not sanitized then
  describe("a process that trains", function()
    for _, kind in ipairs {"tiny", "convolutional"} do
      for _, scoped in ipairs {true, false} do
        it(("a %s network %s scopes stays as large as it is after %d steps"):format(kind,
          scoped and "with" or "without", WARM), function()
          local sizes = measure(kind, scoped)
          assert.equal((STEPS - WARM) // EVERY + 1, #sizes)
          local largest = math.max(table.unpack(sizes))
          assert(largest <= 1.05 * sizes[1], ("%d kB after %d steps, %d kB at most later: %s")
            :format(sizes[1], WARM, largest, table.concat(sizes, " ")))
        end)
      end
    end
  end)
end
