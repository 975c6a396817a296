--- The peer: a Python process that is told over named pipes which case to prepare and to time.
-- Relies on spec/bench/peer.py, mkfifo.

local M = {}

local Peer = {}
Peer.__index = Peer

local function quote(s) return "'" .. s:gsub("'", "'\\''") .. "'" end

--- Starts the peer.
-- @param python path of a Python that has torch, or nil
-- @param folder where the cases are
-- @param threads number of threads that it may use
-- @return peer with `version`, or nil and why there is none
function M.start(python, folder, threads)
  if not python or python == "" then return nil, "none (PERIGEE_PEER_PYTHON is not set)" end
  local base = os.tmpname()
  local to, from = base .. ".to", base .. ".from"
  assert(os.execute(("mkfifo %s %s"):format(quote(to), quote(from))))
  os.execute(("%s spec/bench/peer.py %s %d <%s >%s &"):format(quote(python), quote(folder), threads,
    quote(to), quote(from)))
  local self = setmetatable({paths = {base, to, from}}, Peer)
  self.out = assert(io.open(to, "w"))
  self.input = assert(io.open(from, "r"))
  self.out:setvbuf "line"
  self.version = self:read()
  return self
end

function Peer:read()
  local line = self.input:read "l"
  if not line then error("the peer ended early; its message is above", 0) end
  local problem = line:match "^error (.*)$"
  if problem then error("the peer says: " .. problem, 0) end
  return line
end

--- Builds a case on the peer's side. @return names of its variants
function Peer:prepare(name)
  self.out:write("prepare ", name, "\n")
  local variants = {}
  for word in self:read():gmatch "%S+" do variants[#variants + 1] = word end
  return variants
end

--- Seconds of one step of a variant.
function Peer:time(name, variant, count)
  self.out:write(("time %s %s %d\n"):format(name, variant, count))
  return assert(tonumber(self:read()))
end

function Peer:stop()
  self.out:write "stop\n"
  self.out:close()
  self.input:close()
  for _, path in ipairs(self.paths) do os.remove(path) end
end

return M
