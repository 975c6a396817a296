--- Where data sets lie on this machine.
-- Relies on perigee.util. Spec: spec/data/find_spec.lua.

local util = require "perigee.util"

local M = {}

--- Whether a file or folder of this name is there.
function M.exists(path)
  local file = io.open(path, "rb")
  if file then file:close() end
  return file ~= nil
end

--- Folders named `shared/data` beside the working folder and beside and above the script.
function M.shared_folders()
  local found = {"../shared/data"}
  local script = type(arg) == "table" and type(arg[0]) == "string" and arg[0]:match "^(.*)/[^/]*$"
  if script then
    for _, up in ipairs {"..", "../..", "../../.."} do
      found[#found + 1] = ("%s/%s/shared/data"):format(script, up)
    end
  end
  return found
end

--- The first place of a file or folder of data: itself, then in $PERIGEE_DATA, ../shared/data (of
-- the working folder and of the script's) and /usr/share/datasets.
-- `data.csv(assert(data.find "tabular/iris.csv"), {label = 5})`
-- @param name a path; one that begins with "/" is looked for nowhere else
-- @return the path, or nil and a message that names every place
function M.find(name)
  util.expect("data.find", "name", name, "string")
  local places = {name}
  if not name:find "^/" then
    local own = os.getenv "PERIGEE_DATA"
    if own and own ~= "" then places[#places + 1] = own .. "/" .. name end
    for _, folder in ipairs(M.shared_folders()) do places[#places + 1] = folder .. "/" .. name end
    places[#places + 1] = "/usr/share/datasets/" .. name
  end
  for _, path in ipairs(places) do
    if M.exists(path) then return path end
  end
  return nil, ("%s: not found. Searched:\n  %s"):format(name, table.concat(places, "\n  "))
end

return M
