--- What `fit` shows while it works: a bar on a terminal, else one plain line an epoch.
-- Relies on core.isatty, core.term_width, core.clock. No CR and no ESC leaves it but on a terminal.
-- Spec: spec/train/progress_spec.lua.
--
-- PERIGEE_PROGRESS=auto|bar|plain|json|none says how; auto (the default) is a bar where standard
-- output is a terminal, TERM is not "dumb" and CI is not set. NO_COLOR leaves colours out.

local core = require "perigee.core"
local util = require "perigee.util"

local M = {}

local MODES = {"auto", "bar", "plain", "json", "none"}

--- The mode from the environment and the terminal.
-- @param env function as os.getenv
-- @param tty whether the output is a terminal
-- @return "bar", "plain", "json" or "none"
function M.mode(env, tty)
  local wanted = env("PERIGEE_PROGRESS")
  if wanted == nil or wanted == "" then wanted = "auto" end
  local known = false
  for _, mode in ipairs(MODES) do known = known or mode == wanted end
  if not known then
    local near = util.suggest(wanted, MODES)
    error(("PERIGEE_PROGRESS: expected one of %s, got '%s'%s"):format(table.concat(MODES, ", "),
      wanted, near and (", did you mean '%s'?"):format(near) or ""), 0)
  end
  if wanted ~= "auto" then return wanted end
  local term, ci = env("TERM"), env("CI")
  local plain = not tty or term == nil or term == "" or term == "dumb"
    or (ci ~= nil and ci ~= "" and ci ~= "false" and ci ~= "0")
  return plain and "plain" or "bar"
end

--- 0.03125 -> "0.0312", 12345.6 -> "1.235e+04": four figures that stay in place.
function M.number(value)
  if type(value) ~= "number" then return tostring(value) end
  if value ~= value then return "nan" end
  local size = math.abs(value)
  if size == math.huge then return value > 0 and "inf" or "-inf" end
  if size ~= 0 and (size < 1e-3 or size >= 1e4) then return ("%.3e"):format(value) end
  return ("%.4f"):format(value)
end

--- 3725 -> "1:02:05", 65 -> "1:05".
function M.time(seconds)
  local s = math.floor(seconds + 0.5)
  if s >= 3600 then return ("%d:%02d:%02d"):format(s // 3600, s // 60 % 60, s % 60) end
  return ("%d:%02d"):format(s // 60, s % 60)
end

--- "loss 0.1234  accuracy 0.9812": logs in their order.
local function log_text(logs, names)
  local words = {}
  for _, name in ipairs(names) do
    if logs[name] ~= nil then words[#words + 1] = name .. " " .. M.number(logs[name]) end
  end
  return table.concat(words, "  ")
end

local function rate_text(samples, seconds, unit)
  if seconds <= 0 then return "" end
  local rate = samples / seconds
  return (rate >= 100 and "%.0f %s/s" or "%.1f %s/s"):format(rate, unit)
end

--- Cut to so many columns, counting UTF-8 characters.
local function fit_width(text, width)
  local n = utf8.len(text)
  if not n or n <= width then return text end
  return text:sub(1, utf8.offset(text, width + 1) - 1)
end

local Progress = util.class "Progress"

--- @param opt mode, epochs, unit ("images"), out (a file, standard output), width, color
function Progress:init(opt)
  self.out = opt.out or io.stdout
  self.mode = opt.mode
  self.epochs = opt.epochs
  self.unit = opt.unit or "samples"
  self.width = opt.width
  self.color = opt.color
  self.clock = opt.clock or core.clock
  self.open = false
  self.drawn = 0
end

function Progress:epoch_begin(epoch, total)
  self.epoch, self.total, self.step, self.samples = epoch, total, 0, 0
  self.start, self.shown = self.clock(), -math.huge
end

--- After a training step.
-- @param samples how many the batch had
-- @param logs function that gives the means so far and their names; called when they are shown
function Progress:update(samples, logs)
  self.step = self.step + 1
  self.samples = self.samples + samples
  if self.mode ~= "bar" then return end
  local now = self.clock()
  if now - self.shown < 0.1 then return end
  self.shown = now
  self:draw(now, logs)
end

function Progress:draw(now, logs)
  local seconds = now - self.start
  local width = (self.width or core.term_width() or 80) - 1
  local done = self.total and self.total > 0 and math.min(1, self.step / self.total)
  local head = ("Epoch %d/%d "):format(self.epoch, self.epochs)
  local count = self.total and (" %d/%d"):format(self.step, self.total)
    or (" step %d"):format(self.step)
  local tail = {}
  if done and done > 0 and done < 1 then
    tail[1] = "ETA " .. M.time(seconds / done * (1 - done))
  else
    tail[1] = M.time(seconds)
  end
  tail[#tail + 1] = rate_text(self.samples, seconds, self.unit)
  tail[#tail + 1] = log_text(logs())
  local rest = count .. "  " .. table.concat(tail, "  ")
  local room = math.max(0, math.min(30, width - #head - utf8.len(rest)))
  local line
  if done and room >= 8 then
    local full = math.floor(done * room + 0.5)
    local bar, void = ("━"):rep(full), ("─"):rep(room - full)
    if self.color then bar = "\27[32m" .. bar .. "\27[39m" end
    line = head .. bar .. void .. rest
  else
    line = fit_width(head .. rest:sub(2), width)
  end
  self.out:write("\r", line, "\27[K")
  self.out:flush()
  self.open = true
end

--- After an epoch, validation included.
-- @param logs table of values
-- @param names their order
function Progress:epoch_end(logs, names)
  local seconds = self.clock() - self.start
  if self.mode == "none" then return end
  if self.mode == "json" then
    local row = {epoch = self.epoch, epochs = self.epochs, steps = self.step,
      samples = self.samples, seconds = seconds}
    local order = {"epoch", "epochs", "steps", "samples", "seconds"}
    for _, name in ipairs(names) do
      if logs[name] ~= nil and row[name] == nil then
        row[name] = logs[name]
        order[#order + 1] = name
      end
    end
    local words = {}
    for i, name in ipairs(order) do
      local value = row[name]
      local text = math.type(value) == "integer" and tostring(value) or ("%.9g"):format(value)
      if value ~= value or math.abs(value) == math.huge then text = "null" end
      words[i] = ('"%s": %s'):format(name, text)
    end
    self.out:write("{", table.concat(words, ", "), "}\n")
  else
    if self.open then self.out:write("\r\27[K") end
    local line = ("Epoch %d/%d  %s  %s"):format(self.epoch, self.epochs, M.time(seconds),
      rate_text(self.samples, seconds, self.unit))
    self.out:write((line .. "  " .. log_text(logs, names)):gsub("%s+$", ""), "\n")
  end
  self.out:flush()
  self.open = false
end

--- A line of its own, for messages of callbacks.
function Progress:say(text)
  if self.mode == "none" or self.mode == "json" then return end
  if self.open then self.out:write("\r\27[K") end
  self.open = false
  self.out:write(text, "\n")
end

--- Leaves the cursor on a fresh line; also when an error or Ctrl-C ends the epoch.
function Progress:close()
  if self.open then self.out:write("\n") end
  self.open = false
  self.out:flush()
end
Progress.__close = Progress.close

--- A progress display.
-- @param opt verbose (true or 1: as the environment says; 2: a plain line an epoch; 0 or false:
-- nothing), epochs, unit; for tests: out, mode, width, color, clock, env, tty
function M.new(opt)
  local env = opt.env or os.getenv
  local mode = opt.mode
  if not mode then
    local tty = opt.tty
    if tty == nil then tty = core.isatty(1) end
    mode = M.mode(env, tty)
    if opt.verbose == 2 and mode == "bar" then mode = "plain" end
    if opt.verbose == 0 or opt.verbose == false then mode = "none" end
  end
  local no_color = env("NO_COLOR")
  local color = opt.color
  if color == nil then color = no_color == nil or no_color == "" end
  return Progress {mode = mode, epochs = opt.epochs, unit = opt.unit, out = opt.out,
    width = opt.width, color = color, clock = opt.clock}
end

return M
