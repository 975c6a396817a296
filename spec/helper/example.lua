--- Runs the programs of examples/ as a user does, on small settings.
-- Relies on the build tree ($PERIGEE_BUILD).
-- Spec: spec/examples/xor_spec.lua.

local M = {}

local BUILD = os.getenv "PERIGEE_BUILD" or "build"

--- Runs examples/<name>/main.lua; fails unless it ends with status 0.
-- @param name folder of the example
-- @param options table of option = value; values are quoted, true is a switch
-- @return what it printed
function M.run(name, options)
  local words = {("PERIGEE_PROGRESS=plain %s/perigee examples/%s/main.lua"):format(BUILD, name)}
  for option, value in pairs(options) do
    words[#words + 1] = "--" .. option
    if value ~= true then words[#words + 1] = ("'%s'"):format(value) end
  end
  local pipe = io.popen(table.concat(words, " ") .. " 2>&1; echo status=$?")
  local text = pipe:read "a"
  pipe:close()
  local out, status = text:match "^(.*)status=(%d+)\n$"
  assert(status == "0", text)
  return out
end

--- The numbers that stand behind a word in a text, in order: `numbers(out, "loss")`.
function M.numbers(text, word)
  local list = {}
  for number in text:gmatch("%f[%w_]" .. word .. "%f[^%w_] (%-?[%d.]+e?[-+]?%d*)") do
    list[#list + 1] = assert(tonumber(number))
  end
  return list
end

--- Fails unless the numbers behind a word end lower than they begin.
-- @return the last one
function M.falls(text, word)
  local list = M.numbers(text, word)
  assert(#list > 1, ("'%s' is not there twice in:\n%s"):format(word, text))
  assert(list[#list] < list[1], ("%s goes from %g to %g"):format(word, list[1], list[#list]))
  return list[#list]
end

--- Fails unless every file is there and not empty.
function M.files(folder, names)
  for _, name in ipairs(names) do
    local file = assert(io.open(folder .. "/" .. name, "rb"))
    local size = file:seek "end"
    file:close()
    assert(size > 0, name .. " is empty")
  end
end

return M
