-- The command: scripts, -e, --version, standard input, exit codes, the REPL over a pipe; and the
-- module in stock lua5.4. Relies on the build tree ($PERIGEE_BUILD).
-- Sources: lua/main.c, lua/perigee/repl/.

local H = require "spec.helper"

local BUILD = os.getenv "PERIGEE_BUILD" or "build"
local COMMAND = BUILD .. "/perigee"

local function run(line)
  local pipe = io.popen(line .. " 2>&1; echo status=$?")
  local text = pipe:read "a"
  pipe:close()
  local out, status = text:match "^(.*)status=(%d+)\n$"
  return out, tonumber(status)
end

describe("perigee", function()
  it("runs a chunk with pg at hand", function()
    local out, status = run(COMMAND .. [[ -e 'print(pg.ones(2):sum():item())']])
    assert.equal("2.0\n", out)
    assert.equal(0, status)
  end)
  it("runs a script with its arguments", function()
    H.in_folder(function(dir)
      local file = assert(io.open(dir .. "/a.lua", "w"))
      file:write 'print(arg[0] ~= nil, arg[1], ...)'
      file:close()
      local out, status = run(("%s %s/a.lua one --two"):format(COMMAND, dir))
      assert.equal("true\tone\tone\t--two\n", out)
      assert.equal(0, status)
    end)
  end)
  it("reads a script from standard input", function()
    assert.equal("7\n", (run([[echo 'print(7)' | ]] .. COMMAND)))
  end)
  it("says what version it is and what it runs on", function()
    local out = run(COMMAND .. " --version")
    assert.matches("^Perigee %d+%.%d+%.%d+, Lua 5.4", out)
    assert.matches("threads", out)
  end)
  it("fails with status 1 and a message", function()
    for _, words in ipairs {"-e 'error \"boom\"'", "/nonexistent.lua", "-e 'x ='", "--bogus"} do
      local out, status = run(COMMAND .. " " .. words)
      assert.equal(1, status, words)
      assert.matches("^perigee: ", out)
    end
  end)
  it("keeps going line by line in the REPL", function()
    H.in_folder(function(dir)
      local out = run(([[printf 'a = 20\na + 1\nnil .. 1\n{1, 2}\n?relu\n]]
        .. [[for i = 1, 2 do\nprint(i * 100)\nend\n' | ]]
        .. [[HOME=%s %s -i]]):format(dir, COMMAND))
      assert.matches("21\n", out)
      assert.matches("attempt to concatenate a nil value", out)
      assert.matches("{1, 2}", out)
      assert.matches("nn.functional.relu%(input", out)
      assert.matches("100\n200\n", out)
    end)
  end)
end)

describe("stock lua5.4", function()
  it("requires perigee without globals and without output", function()
    local chunk = [[local before = {} for k in pairs(_G) do before[k] = true end ]]
      .. [[local pg = require "perigee" for k in pairs(_G) do assert(before[k], k) end ]]
      .. [[print(pg.tensor({1, 2}):sum():item())]]
    assert.equal("3.0\n", (run(("lua5.4 -e '%s'"):format(chunk))))
  end)
end)
