--- The peer: a Python process that is told over named pipes which case to prepare and to time.
-- Relies on spec/bench/peer.py, mkfifo. A message is a line of JSON, and so is its answer.

local core = require "perigee.core"

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
  local answer = assert(core.io.json_decode(line))
  if type(answer) == "table" and answer.error then error("the peer says: " .. answer.error, 0) end
  return answer
end

function Peer:ask(message)
  self.out:write(core.io.json_encode(message), "\n")
  return self:read()
end

--- Builds a case on the peer's side.
-- @param option table that its variants get, by name
-- @param quick leaves out what has to be compiled first
-- @return list of {name=, parts={name = true}}, the variants that could be built
function Peer:prepare(name, option, quick)
  return self:ask {what = "prepare", case = name, option = option, quick = quick or false}
end

--- Seconds of one call of a part of a variant, timed for about `seconds`.
function Peer:time(name, variant, part, seconds)
  return self:ask {what = "time", case = name, variant = variant, part = part, seconds = seconds}
end

--- Drops what was prepared for a case.
function Peer:forget(name) return self:ask {what = "forget", case = name} end

--- Sets the number of threads.
function Peer:threads(n) return self:ask {what = "threads", n = n} end

function Peer:stop()
  self.out:write(core.io.json_encode {what = "stop"}, "\n")
  self.out:close()
  self.input:close()
  for _, path in ipairs(self.paths) do os.remove(path) end
end

return M
