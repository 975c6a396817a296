-- Profiles: events of ops, gradients, layers and optimizers, their sums, tables and traces.
-- Relies on spec/helper.lua, io (JSON).
-- Sources: core/autograd/profile.c, lua/binding/profile.c, lua/perigee/profiler.lua.

local core = require "perigee.core"
local pg = require "perigee"
local H = require "spec.helper"
local nn = pg.nn

local Block = nn.Module:extend "Block"
function Block:init(width)
  self.first = nn.Linear(width, width)
  self.second = nn.Linear(width, width)
end
function Block:forward(x) return x + self.second(self.first(x):relu()) end

local function network()
  pg.manual_seed(1)
  return nn.Sequential {nn.Linear(4, 8), Block(8), nn.Linear(8, 3)}
end

local function named(events, name, path)
  local found = {}
  for i, e in ipairs(events) do
    if e.name == name and (not path or e.path == path) then
      found[#found + 1] = e
      e.number = i
    end
  end
  return found
end

local function row_of(rows, key)
  for _, row in ipairs(rows) do
    if row.key == key then return row end
  end
  error("no row " .. key)
end

-- One training step under the profiler.
local function profiled_step(opt)
  local net = network()
  local sgd = pg.optim.SGD(net:parameters(), {lr = 0.1, momentum = 0.9})
  local x, y = pg.rand(16, 4), pg.randint(1, 3, {16})
  return pg.profiler(function()
    sgd:zero_grad()
    nn.functional.cross_entropy(net(x), y):backward()
    sgd:step()
  end, opt)
end

describe("a profile", function()
  it("holds what ran, in order, inside what was around it", function()
    local events = profiled_step():events()
    local names = {}
    for i, e in ipairs(events) do
      if e.kind ~= "backward" then names[#names + 1] = e.name end
      assert.is_true(e.parent < i and e.forward < i)
      if e.parent > 0 then
        local around = events[e.parent]
        assert.is_true(around.start <= e.start)
        assert.is_true(e.start + e.cpu_time_total <= around.start + around.cpu_time_total + 1e-6)
      end
    end
    assert.same({
      "SGD.zero_grad", "nn.Sequential", "nn.Linear", "linear", "nn.Block", "nn.Linear", "linear",
      "relu", "nn.Linear", "linear", "add", "nn.Linear", "linear", "cross_entropy", "backward",
      "SGD.step"}, names)
  end)

  it("gives the paths of nested layers", function()
    local paths = {}
    for _, e in ipairs(profiled_step():events()) do
      if e.name == "linear" or e.name == "relu" or e.name == "add" then
        paths[#paths + 1] = e.name .. " " .. e.path
      end
    end
    assert.same({"linear Sequential.1", "linear Sequential.2.first", "relu Sequential.2",
      "linear Sequential.2.second", "add Sequential.2", "linear Sequential.3"}, paths)
  end)

  it("attributes a gradient to the op and the layer that made it", function()
    local events = profiled_step():events()
    local n = 0
    for _, e in ipairs(events) do
      if e.kind == "backward" then
        n = n + 1
        local made = events[e.forward]
        assert.equal(made.name .. "_backward", e.name)
        assert.equal(made.path, e.path)
        assert.equal("backward", events[e.parent].name)
      end
    end
    assert.equal(7, n)
    assert.equal(1, #named(events, "linear_backward", "Sequential.2.first"))
    assert.equal("", named(events, "cross_entropy_backward")[1].path)
  end)

  it("counts FLOP of products in both directions", function()
    local events = profiled_step():events()
    local first = 2 * 16 * 4 * 8
    assert.equal(first, named(events, "linear", "Sequential.1")[1].flops)
    assert.equal(first, named(events, "linear_backward", "Sequential.1")[1].flops)
    local inner = 2 * 16 * 8 * 8
    assert.equal(inner, named(events, "linear", "Sequential.2.first")[1].flops)
    assert.equal(2 * inner, named(events, "linear_backward", "Sequential.2.first")[1].flops)
    assert.equal(16 * 8, named(events, "relu")[1].flops)
  end)

  it("counts bytes and allocations", function()
    local a, b = pg.rand(100, 10), pg.rand(100, 10)
    local kept
    local prof = pg.profiler(function() kept = a + b end)
    local e = prof:events()[1]
    assert.equal("add", e.name)
    assert.equal(3 * 4000, e.bytes)
    assert.is_true(e.allocations >= 1)
    assert.is_true(e.self_cpu_memory_usage >= 4000 and e.self_cpu_memory_usage < 5000)
    assert.equal(1000, kept:numel())
    local view = pg.profiler(function() kept:view(10, 100) end):events()[1]
    assert.equal(0, view.bytes)
  end)

  it("counts what ops inside gradients did once", function()
    local a, b = pg.rand(5, 6):requires_grad_(), pg.rand(6, 7):requires_grad_()
    local before = core.macs()
    local prof = pg.profiler(function()
      local g = pg.grad(a:matmul(b):pow(2):sum(), a, {create_graph = true})[1]
      g:sum():backward()
    end)
    local flops, own, total = 0, 0, 0
    for _, e in ipairs(prof:events()) do
      if e.name == "matmul" then flops = flops + e.flops end
      own = own + e.self_cpu_time_total
      if e.parent == 0 then total = total + e.cpu_time_total end
    end
    assert.equal(2 * (core.macs() - before), flops)
    assert.near(total, own, 1e-6 * total)
  end)

  it("leaves results and gradients as they are", function()
    local function gradients(run)
      local net = network()
      local x, y = pg.rand(16, 4), pg.randint(1, 3, {16})
      local function step() nn.functional.cross_entropy(net(x), y):backward() end
      if run then pg.profiler(step) else step() end
      local list = {}
      for i, p in ipairs(net:parameters()) do list[i] = p.grad:bytes() end
      return list
    end
    assert.same(gradients(false), gradients(true))
  end)

  it("names a graph's layers, and what hooks and functions in Lua do", function()
    local input = nn.Input({4}, {name = "x"})
    local model = nn.Model(input, nn.Linear(2, 1, {name = "head"})(nn.Linear(4, 2)(input):relu()))
    local events = pg.profiler(function() model(pg.rand(3, 4)) end):events()
    assert.equal(1, #named(events, "linear", "Model.head"))
    local Square = pg.Function {name = "square", forward = function(ctx, x)
      ctx:save_for_backward(x)
      return x * x
    end, backward = function(ctx, g) return 2 * ctx.saved_tensors[1] * g end}
    local Layer = nn.Module:extend "SquareLayer"
    function Layer:forward(x) return Square(x) end     -- luacheck: no self
    local x = pg.rand(3):requires_grad_()
    events = pg.profiler(function() Layer()(x):sum():backward() end):events()
    local gradient = named(events, "function_backward")[1]
    assert.equal("SquareLayer", gradient.path)
    assert.equal(2, #named(events, "mul", "SquareLayer") - 1)
  end)

  it("numbers modules of the same name that nobody called", function()
    local a, b = nn.Linear(2, 2), nn.Linear(2, 2)
    local events = pg.profiler(function() return b(a(a(pg.rand(1, 2)))) end):events()
    assert.equal(2, #named(events, "linear", "Linear"))
    assert.equal(1, #named(events, "linear", "Linear#2"))
  end)

  it("gathers nothing for shape inference", function()
    local layer = nn.Linear(4, 8)
    local events = pg.profiler(function() layer(core.meta("float32", {2, 4})) end):events()
    assert.equal(1, #events)
    assert.equal("nn.Linear", events[1].name)
    assert.equal(0, events[1].flops)
  end)

  it("runs from start to stop, to the end of a block, or while a function runs", function()
    local x = pg.ones(3)
    local prof = pg.profiler()
    x = x + 1
    prof:stop()
    x = x + 1
    prof:stop()
    assert.equal(1, #prof:events())
    do
      local inner <close> = pg.profiler.profile {record_shapes = true}
      x = x * 2
      prof = inner
    end
    x = x + 1
    assert.equal(1, #prof:events())
    assert.equal("[3], []", prof:events()[1].input_shapes)
    H.raises(function() pg.profiler(function() error "inside" end) end, "inside")
    assert.equal(0, #pg.profiler(function() end):events())
    H.same(x, {7, 7, 7})
  end)

  it("ends the events of a layer that raises", function()
    local Bad = nn.Module:extend "Bad"
    function Bad:forward(x) return x:matmul(self.w) end
    local net = nn.Sequential {Bad()}
    local events = pg.profiler(function()
      assert.is_false(pcall(net, pg.ones(2, 2)))
      pg.ones(2):add(1)
    end):events()
    assert.equal("", named(events, "add")[1].path)
    assert.equal(0, named(events, "add")[1].parent)
  end)

  it("refuses a second profiler, unknown options and wrong values", function()
    local prof <close> = pg.profiler()
    H.raises(function() pg.profiler() end, "pg.profiler: a profiler is running already")
    prof:stop()
    H.raises(function() pg.profiler {shapes = true} end, "unknown option 'shapes'")
    H.raises(function() prof:table {sort_by = "cpu_tim"} end, "did you mean 'cpu_time'")
    H.raises(function() prof:key_averages {group_by = "file"} end, "'op', 'shape', 'layer'")
    H.raises(function() pg.profiler.record_function(1) end, "expected a string")
  end)

  it("gives its memory back", function()
    collectgarbage()
    collectgarbage()
    local before = core.memory().live
    do
      local prof = profiled_step {record_shapes = true}
      assert.is_true(#prof:events() > 10)
    end
    collectgarbage()
    collectgarbage()
    assert.equal(before, core.memory().live)
  end)

  it("loses events where there is no memory, and nothing else", function()
    local x = pg.rand(3)
    for n = 1, 12 do
      local prof = pg.profiler()
      core.fail_after(n)
      pcall(function() return (x + 1) * 2 end)
      core.fail_after(0)
      prof:stop()
      assert.is_true(#prof:events() <= 2)
      H.same((x + 1) * 2, 2 * x + 2)
    end
  end)
end)

describe("sums", function()
  it("of all rows add up to the time of all events", function()
    local prof = profiled_step()
    local time, flops, bytes, allocations = 0, 0, 0, 0
    for _, e in ipairs(prof:events()) do
      if e.parent == 0 then time = time + e.cpu_time_total end
      flops, bytes, allocations = flops + e.flops, bytes + e.bytes, allocations + e.allocations
    end
    for _, group in ipairs {"op", "shape", "layer"} do
      local own = 0
      for _, row in ipairs(prof:key_averages {group_by = group}) do
        own = own + row.self_cpu_time_total
      end
      assert.near(time, own, 1e-6 * time)
    end
    local rows = prof:key_averages {group_by = "layer"}
    local outside, root = row_of(rows, "(no layer)"), row_of(rows, "Sequential")
    assert.near(time, outside.cpu_time_total + root.cpu_time_total, 1e-6 * time)
    assert.equal(flops, outside.flops + root.flops)
    assert.equal(bytes, outside.bytes + root.bytes)
    assert.equal(allocations, outside.allocations + root.allocations)
  end)

  it("of a layer include the layers below and split by direction", function()
    local rows = profiled_step():key_averages {group_by = "layer"}
    local root, block = row_of(rows, "Sequential"), row_of(rows, "Sequential.2")
    local parts = row_of(rows, "Sequential.1").cpu_time_total + block.cpu_time_total
      + row_of(rows, "Sequential.3").cpu_time_total
    assert.near(root.cpu_time_total, parts + root.self_cpu_time_total, 1e-6 * parts)
    for _, row in ipairs(rows) do
      assert.near(row.cpu_time_total, row.forward_time + row.backward_time,
        1e-6 * row.cpu_time_total)
    end
    assert.is_true(block.backward_time > 0)
    assert.equal(1, block.count)
    local sum = row_of(rows, "Sequential.2.first").flops + row_of(rows, "Sequential.2.second").flops
    assert.equal(sum + 2 * 16 * 8 + 2 * 16 * 8 + 16 * 8, block.flops)
  end)

  it("of a key count nested events of that key once", function()
    local Nest = nn.Module:extend "Nest"
    function Nest:init(depth)
      if depth > 0 then self.inner = Nest(depth - 1) end
    end
    function Nest:forward(x) return self.inner and self.inner(x) + 1 or x + 1 end
    local net = Nest(3)
    local prof = pg.profiler(function() net(pg.ones(2)) end)
    local row = row_of(prof:key_averages(), "nn.Nest")
    assert.equal(4, row.count)
    assert.near(named(prof:events(), "nn.Nest")[1].cpu_time_total, row.cpu_time_total, 1e-6)
  end)

  it("are shown as a table, sorted and cut", function()
    local prof = profiled_step {record_shapes = true}
    local text = prof:table {sort_by = "count", row_limit = 2}
    local lines = {}
    for line in text:gmatch "[^\n]+" do lines[#lines + 1] = line end
    assert.equal(6, #lines)
    assert.is_truthy(lines[1]:find "^Name +Self CPU %% +Self CPU +CPU total %% +CPU total")
    assert.is_truthy(lines[1]:find "# of Calls +FLOP +Bytes +CPU Mem +Allocations$")
    assert.is_truthy(lines[5]:find "^and %d+ more$")
    assert.is_truthy(lines[6]:find "^Self CPU time total: [%d%.]+[mu]?s$")
    assert.equal(text, prof:key_averages():table {sort_by = "count", row_limit = 2})
    assert.equal(prof:table(), tostring(prof))
    assert.is_truthy(prof:table {group_by = "layer"}:find("Sequential.2.first", 1, true))
    assert.is_truthy(prof:table {group_by = "shape"}:find("linear [16 x 4], [8 x 4], [8]", 1, true))
  end)
end)

describe("labels", function()
  it("are spans of their own, and nothing without a profiler", function()
    do
      local _ <close> = pg.profiler.record_function "idle"
    end
    local prof = pg.profiler(function()
      local _ <close> = pg.profiler.record_function "augment"
      pg.ones(2):add(1)
    end)
    local events = prof:events()
    assert.equal("augment", events[1].name)
    assert.equal("label", events[1].kind)
    for i = 2, #events do assert.equal(1, events[i].parent) end
  end)
end)

describe("a Chrome trace", function()
  it("is JSON of complete events with arrows to the gradients", function()
    local prof = profiled_step {record_shapes = true}
    local quoted = 'a "label"\\\n\1'
    local path = os.tmpname()
    assert.is_true(prof:export_chrome_trace(path))
    local trace = pg.io.json_decode(assert(io.open(path)):read "a")
    os.remove(path)
    local events, spans, starts, ends = prof:events(), {}, 0, 0
    for _, e in ipairs(trace.traceEvents) do
      assert.is_string(e.name)
      assert.equal(1, e.pid)
      assert.equal(1, e.tid)
      assert.is_table(e.ph == "X" and e.args or {})
      if e.ph == "X" then
        spans[#spans + 1] = e
        assert.is_string(e.cat)
      elseif e.ph == "s" then
        starts = starts + 1
      elseif e.ph == "f" then
        ends = ends + 1
      else
        assert.equal("M", e.ph)
      end
    end
    assert.equal(#events, #spans)
    assert.equal(7, starts)
    assert.equal(7, ends)
    for i, e in ipairs(events) do
      assert.equal(e.name, spans[i].name)
      assert.equal(e.kind, spans[i].cat)
      assert.near(e.start, spans[i].ts, 1e-3)
      assert.near(e.cpu_time_total, spans[i].dur, 1e-3)
      assert.equal(e.path, spans[i].args.layer)
      assert.equal(e.flops, spans[i].args.flop)
      assert.equal(e.bytes, spans[i].args.bytes)
    end
    prof = pg.profiler(function() local _ <close> = pg.profiler.record_function(quoted) end)
    assert.is_true(prof:export_chrome_trace(path))
    trace = pg.io.json_decode(assert(io.open(path)):read "a")
    os.remove(path)
    assert.equal(quoted, trace.traceEvents[2].name)
  end)

  it("says why a file cannot be written", function()
    local ok, message = pg.profiler(function() end):export_chrome_trace "/nowhere/trace.json"
    assert.is_nil(ok)
    assert.is_truthy(message:find "/nowhere/trace.json")
  end)
end)
