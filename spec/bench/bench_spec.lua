--- The benchmarks can be run: what ./dev bench promises that needs no peer and no quiet machine.
-- Times are not looked at.
local core = require "perigee.core"
local measure = require "spec.bench.measure"

local function output_of(arguments)
  local pipe = assert(io.popen("PERIGEE_PEER_PYTHON= lua5.4 spec/bench/run.lua " .. arguments
    .. " 2>&1"))
  local text = pipe:read "a"
  return text, (pipe:close())
end

describe("./dev bench", function()
  it("has a peer for each case", function()
    local names = measure.names()
    assert.is_true(#names > 5)
    for _, name in ipairs(names) do
      local case = measure.load(name)
      assert.is_function(case.setup, name)
      local file = assert(io.open(("%s/%s.py"):format(measure.folder, name)))
      assert.truthy(file:read "a":find "def variants%(", name)
      file:close()
    end
  end)
  it("says what it can do and refuses what it cannot", function()
    local text, ok = output_of "--help"
    assert.is_true(ok)
    assert.truthy(text:find("--memory", 1, true))
    text, ok = output_of "--list"
    assert.is_true(ok)
    assert.equal(table.concat(measure.names(), "\n") .. "\n", text)
    for arguments, message in pairs {["--nosuch"] = "unknown option %-%-nosuch",
        ["nosuch"] = "there is no case nosuch", ["--rounds x"] = "expected a whole number, got x",
        ["--json"] = "expected a file, got nothing"} do
      text, ok = output_of(arguments)
      assert.is_nil(ok)
      assert.truthy(text:find("^bench: .*" .. message), text)
    end
  end)
  it("times cases and writes everything as JSON", function()
    local path = os.tmpname()
    local text, ok = output_of(
      "--all --rounds 1 --seconds 0.001 tiny_mlp_step logistic_step --json " .. path)
    local file = assert(io.open(path))
    local report = core.io.json_decode(file:read "a")
    file:close()
    os.remove(path)
    assert.is_true(ok, text)
    assert.equal("none", report.peer)
    assert.equal(2, #report.results)
    assert.equal("tiny_mlp_step", report.results[1].case)
    assert.is_true(report.results[1].parts[1].ours > 0)
    assert.equal(2, #report.memory)
    assert.equal(core.num_threads(), report.num_threads)
    assert.is_true(report.memory[2].ours.most > report.memory[2].ours.tensors)
  end)
  it("times parts with one thread and with all by turns", function()
    local seen, before = {}, core.num_threads()
    local results = measure.by_threads("ops", {}, {rounds = 2, seconds = 1e-4}, {2, 1},
      function(name)
        seen[#seen + 1] = name
        return name == "sgemm 64x64x64"
      end)
    assert.equal(before, core.num_threads())
    assert.is_true(#seen > 100)
    assert.equal(1, #results)
    assert.equal(2, #results[1])
    for k = 1, 2 do
      assert.equal("sgemm 64x64x64", results[1][k].name)
      assert.is_true(results[1][k].ours > 0)
    end
  end)
end)
