-- What must hold of every op in the registry: a doc, a spec, a gradient check or the word that
-- there is no gradient. Runs the files of spec/ops/ and spec/tensor/ with a recorder in place of
-- the helper. Relies on perigee and lfs. Sources: core/ops/*.c, lua/perigee/tensor/*.lua.

require "perigee"
local core = require "perigee.core"
local lfs = require "lfs"

local function nothing() end

-- Name -> spec table of every H.op call in these folders.
local function specs()
  local found = {}
  local anything = setmetatable({}, {
    __index = function(self) return self end, __call = function(self) return self end,
    __len = function() return 0 end,
  })
  local recorder = setmetatable({op = function(name, spec) found[name] = spec end},
    {__index = function() return anything end})
  local env = setmetatable({
    describe = function(_, fn) fn() end, it = nothing, pending = nothing,
    before_each = nothing, after_each = nothing, setup = nothing, teardown = nothing,
    require = function(name) return name == "spec.helper" and recorder or require(name) end,
  }, {__index = _G})
  for _, folder in ipairs {"spec/ops", "spec/tensor"} do
    for name in lfs.dir(folder) do
      if name:find "_spec%.lua$" then assert(loadfile(folder .. "/" .. name, "t", env))() end
    end
  end
  return found
end

describe("every op", function()
  local infos = core.op_info()
  local found = specs()

  local function missing(test)
    local names = {}
    for _, info in ipairs(infos) do
      if test(info) then names[#names + 1] = info.name end
    end
    table.sort(names)
    return table.concat(names, ", ")
  end

  local function spec_of(info)
    for _, name in ipairs(info.names) do
      local spec = found[name] or found[name .. "_"]
      if spec then return spec end
    end
  end

  it("has a doc of one sentence", function()
    assert.equal("", missing(function(info) return not (info.doc and info.doc:find "%w.*%.$") end))
  end)
  it("has a spec", function()
    assert.equal("", missing(function(info) return not info.hidden and not spec_of(info) end))
  end)
  it("has a gradient check, or says that it has no gradient", function()
    assert.equal("", missing(function(info)
      local spec = spec_of(info)
      return spec and spec.nograd and not info.nodiff
    end))
  end)
  it("has second gradients, but for those that are flat or say that they have none", function()
    local names = {}
    for name, spec in pairs(found) do
      if spec.smooth == false then names[#names + 1] = name end
    end
    table.sort(names)
    -- div is flat with a rounding mode; center_loss has them towards its features, corrcoef where
    -- it is not cut at 1: spec/nn/center_loss_spec.lua, spec/tensor/statistics_spec.lua.
    assert.same({"ceil", "center_loss", "corrcoef", "ctc_loss", "div", "floor", "round", "sign",
      "trunc"}, names)
  end)
  it("has a name of its own", function()
    local seen = {}
    for _, info in ipairs(infos) do
      for _, name in ipairs(info.names) do
        assert.is_nil(seen[name], "two ops are named " .. name)
        seen[name] = true
      end
    end
  end)
end)
