--- Command-line options of scripts: names, defaults, kinds, `--help`.
-- Relies on perigee.util. Spec: spec/cli_spec.lua.
--
-- `local option = pg.cli.options {"Trains a net.", {"lr", 0.1, "learning rate"}, {"out", "."}}`
-- reads `--lr 0.2 --out here` or `--lr=0.2` from the script's `arg`.

local util = require "perigee.util"

local M = {}

-- Kinds of options by their default: how a text becomes a value, and what is expected.
local KIND = {
  integer = {parse = function(text) return math.tointeger(tonumber(text)) end, word = "an integer"},
  float = {
    parse = function(text)
      local value = tonumber(text)
      return value and value + 0.0
    end,
    word = "a number",
  },
  string = {parse = function(text) return text end, word = "a text"},
}

local function dashed(name) return "--" .. name:gsub("_", "-") end

--- The declared options by name, as {name, default, doc, choices =}, after a check.
local function declared(spec)
  util.expect("cli.options", "spec", spec, "table")
  local by_name, names = {}, {}
  for i, item in ipairs(spec) do
    if type(item) == "table" then
      local name = util.expect("cli.options", "spec", item[1], "string")
      if type(item[2]) ~= "boolean" and not KIND[math.type(item[2]) or type(item[2])] then
        util.fail("cli.options",
          "option '%s': a default is a number, a string or a boolean, got %s", name,
          util.type_name(item[2]))
      elseif by_name[name] then
        util.fail("cli.options", "option '%s' is declared twice", name)
      end
      by_name[name] = item
      names[#names + 1] = name
    elseif i > 1 or type(item) ~= "string" then
      util.fail("cli.options", "entry %d: expected {name, default, doc}, got %s", i,
        util.type_name(item))
    end
  end
  return by_name, names
end

--- What `--help` prints.
-- @param spec as for `options`
-- @param script name of the script
function M.usage(spec, script)
  local by_name, names = declared(spec)
  local left, width = {}, #"--help"
  for i, name in ipairs(names) do
    local default = by_name[name][2]
    local value = type(default) == "boolean" and ""
      or math.type(default) == "integer" and " N" or math.type(default) and " X" or " TEXT"
    left[i] = (default == true and "--no-" .. dashed(name):sub(3) or dashed(name)) .. value
    width = math.max(width, #left[i])
  end
  local lines = {("usage: perigee %s [options]"):format(script or "main.lua")}
  if type(spec[1]) == "string" then table.insert(lines, 1, spec[1] .. "\n") end
  for i, name in ipairs(names) do
    local item = by_name[name]
    local words = {item[3]}
    if item.choices then words[#words + 1] = table.concat(item.choices, ", ") end
    local text = table.concat(words, ": ")
    if type(item[2]) ~= "boolean" and item[2] ~= "" then
      text = ("%s%s(%s)"):format(text, text == "" and "" or " ",
        math.type(item[2]) and ("%.14g"):format(item[2]) or item[2])
    end
    lines[#lines + 1] = (("  %-" .. width .. "s  %s"):format(left[i], text):gsub("%s+$", ""))
  end
  lines[#lines + 1] = ("  %-" .. width .. "s  %s"):format("--help", "this text")
  return table.concat(lines, "\n")
end

--- The options of a list of words. Positions are refused: every value has a name.
-- @param words list of strings, as `arg`
-- @param spec as for `options`
-- @return table of values by name, or nil and a message; "help" in place of the table where the
-- words ask for it
function M.parse(words, spec)
  local by_name, names = declared(spec)
  local option, i = {}, 1
  for _, name in ipairs(names) do option[name] = by_name[name][2] end
  while i <= #words do
    local word = words[i]
    if word == "--help" or word == "-h" then return "help" end
    local name, value = word:match "^%-%-([^=]+)=?(.*)$"
    if not name then
      return nil, ("expected an option such as %s, got %s"):format(
        names[1] and dashed(names[1]) or "--help", util.show(word))
    end
    if not word:find "=" then value = nil end
    name = name:gsub("-", "_")
    local item, off = by_name[name], false
    if not item and name:find "^no_" and by_name[name:sub(4)]
        and type(by_name[name:sub(4)][2]) == "boolean" then
      name, off = name:sub(4), true
      item = by_name[name]
    end
    if not item then
      local near = util.suggest(name, names)
      local all = {}
      for k, known in ipairs(names) do all[k] = dashed(known) end
      return nil, ("unknown option %s%s; options are %s"):format(word:match "^[^=]+",
        near and (", did you mean %s?"):format(dashed(near)) or "", table.concat(all, ", "))
    end
    if type(item[2]) == "boolean" then
      if value then return nil, ("option %s takes no value"):format(word:match "^[^=]+") end
      option[name] = not off
    else
      local kind = KIND[math.type(item[2]) or type(item[2])]
      if value == nil then
        i = i + 1
        value = words[i]
      end
      local parsed
      if value ~= nil then parsed = kind.parse(value) end
      if parsed == nil then
        return nil, ("option %s: expected %s, got %s"):format(dashed(name), kind.word,
          value and util.show(value) or "nothing")
      end
      if item.choices then
        local known = false
        for _, choice in ipairs(item.choices) do known = known or choice == parsed end
        if not known then
          local near = util.suggest(parsed, item.choices)
          return nil, ("option %s: expected one of %s, got %s%s"):format(dashed(name),
            table.concat(item.choices, ", "), util.show(parsed),
            near and (", did you mean '%s'?"):format(near) or "")
        end
      end
      option[name] = parsed
    end
    i = i + 1
  end
  return option
end

--- The options of the running script, from its command line. `--help` prints them and ends the
-- program; a word that does not fit ends it with status 2 and a line on standard error.
-- The default says the kind: an integer, a float (write 1.0), a text; a boolean is switched by
-- `--name` and `--no-name`. An underscore in a name is a dash on the command line.
-- @param spec a sentence about the script (optional), then {name, default, doc, choices = list}
-- @return table of values by name
function M.options(spec)
  local words = type(arg) == "table" and arg or {}
  local script = words[0] or "main.lua"
  local option, message = M.parse(words, spec)
  if option == "help" then
    print(M.usage(spec, script))
    os.exit(true, true)
  elseif not option then
    io.stderr:write(("%s: %s; --help says more\n"):format(script, message))
    os.exit(2, true)
  end
  return option
end

return M
