--- The REPL: multi-line input, values printed by themselves, `?name` help, Ctrl-C, history.
-- Relies on the line functions that the command hands over, on repl/complete.lua and help.lua.
-- Spec: spec/repl/repl_spec.lua.

local complete = require "perigee.repl.complete"
local help = require "perigee.help"
local show = require "perigee.repl.show"

local M = {}

local function incomplete(message)
  return message:sub(-5) == "<eof>"
end

--- Compiles what was typed: an expression whose values are wanted, or statements.
-- @param text the lines so far
-- @param env globals of the chunk
-- @return function, or nil, an error message and whether more lines may mend it
function M.compile(text, env)
  local chunk = load("return " .. text, "=stdin", "t", env)
  if chunk then return chunk end
  local message
  chunk, message = load(text, "=stdin", "t", env)
  if chunk then return chunk end
  return nil, message, incomplete(message)
end

--- The part of a traceback that is the script's own: nothing where the error is on the line typed.
local function own_trace(message)
  local text, trace = message:match "^(.-)\nstack traceback:\n(.*)$"
  if not text then return message end
  local lines = {}
  for line in trace:gmatch "[^\n]+" do
    if line:find "in local 'protect'" then break end
    lines[#lines + 1] = line
  end
  if #lines <= 2 then return text end
  return text .. "\n" .. table.concat(lines, "\n")
end

--- Runs one complete input. protect is pcall or the command's, which Ctrl-C interrupts.
-- @return true where it ran, else false and the message
function M.run(chunk, protect, write)
  local results = table.pack(protect(chunk))
  if not results[1] then return false, own_trace(tostring(results[2])) end
  for i = 2, results.n do write(show.value(results[i]) .. "\n") end
  return true
end

local function history_file()
  local dir = os.getenv "XDG_STATE_HOME"
  if dir and dir ~= "" then return dir .. "/perigee_history" end
  local home = os.getenv "HOME"
  return home and home .. "/.perigee_history"
end

local BANNER = [[
%s, %s. pg, nn, optim, data and plot are loaded.
?name explains, Tab completes, Ctrl-C interrupts, Ctrl-D leaves.
]]

--- Names that every session starts with.
local function session(model_path)
  local pg = require "perigee"
  local env = setmetatable({pg = pg}, {__index = _G})
  for _, room in ipairs {"nn", "optim", "data", "plot"} do
    local ok, module = pcall(function() return pg[room] end)
    if ok then env[room] = module end
  end
  if model_path then
    local model, message = pg.nn.load(model_path)
    if model then env.model = model else io.stderr:write("perigee: ", message, "\n") end
  end
  return env, pg
end

--- Reads and runs until the end of input.
-- @param lines functions of the command: read_line, protect, and where libedit is there
-- add_history, load_history, save_history, set_completion
-- @param model_path a .perigee file to load as `model`, or nil
function M.start(lines, model_path)
  local env, pg = session(model_path)
  local write = function(text) io.stdout:write(text) end
  write(BANNER:format(pg._VERSION, _VERSION))
  local file = lines.load_history and history_file()
  if file then lines.load_history(file) end
  if lines.set_completion then
    lines.set_completion(function(_, word) return complete.words(word, env) end)
  end
  local text
  while true do
    local line = lines.read_line(text and ">> " or "> ")
    if not line then break end
    if not text and line:match "^%s*%?" then
      write(help.text(line:match "^%s*%?%s*(.-)%s*$", env) .. "\n")
      if lines.add_history then lines.add_history(line) end
    elseif text or line:match "%S" then
      text = text and text .. "\n" .. line or line
      local source = text:gsub("^%s*=", "")
      local chunk, message, more = M.compile(source, env)
      if not more or line == "" then
        if lines.add_history then lines.add_history((text:gsub("%s*\n%s*", " "))) end
        text = nil
        local ok = chunk ~= nil
        if chunk then ok, message = M.run(chunk, lines.protect or pcall, write) end
        if not ok then io.stderr:write(message, "\n") end
      end
    end
  end
  write "\n"
  if file then lines.save_history(file) end
end

return M
