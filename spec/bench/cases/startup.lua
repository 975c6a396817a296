--- Start-up: `perigee -e 'print(1)'` as a process, against a Python that imports torch.

local function output_of(command)
  local pipe = assert(io.popen(command))
  local text = pipe:read "a"
  pipe:close()
  return text
end

--- MB resident, now and at most, after a chunk of Lua has run.
local function resident(chunk)
  local status = output_of(("build/perigee -e '%s; print(io.open(%q):read \"a\")'"):format(chunk,
    "/proc/self/status"))
  return status:match "VmRSS:%s*(%d+)" / 1024, status:match "VmHWM:%s*(%d+)" / 1024
end

--- MB resident after `import torch` in the peer's Python, or nil.
local function peer_resident()
  local python = os.getenv "PERIGEE_PEER_PYTHON"
  if not python or python == "" then return nil end
  local status = output_of(("'%s' -c 'import torch; print(open(\"/proc/self/status\").read())'")
    :format(python))
  return status:match "VmRSS:%s*(%d+)" / 1024
end

return {
  seconds = 0.5,
  setup = function()
    return function() assert(os.execute "build/perigee -e 'print(1)' >/dev/null") end
  end,
  remark = function()
    local after = [[local pg = require "perigee"]]
    local base = resident(after)
    local used, most = resident(after .. " local _ = pg.nn, pg.optim, pg.data, pg.randn(2, 2)")
    local theirs = peer_resident()
    return ("resident after require %.1f MB, with nn, optim, data and a tensor %.1f MB (at most "
      .. "%.1f)%s"):format(base, used, most,
      theirs and (", after import torch %.1f MB"):format(theirs) or "")
  end,
}
