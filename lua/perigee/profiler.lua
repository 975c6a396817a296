--- `pg.profiler`: where the time, the FLOP and the memory of a program go, op by op and layer by
-- layer. Relies on perigee.core and, for the paths of layers, on nn/module.lua.
-- Spec: spec/autograd/profile_spec.lua.

local core = require "perigee.core"
local util = require "perigee.util"

local M = {}

local Profile = {__name = "Profile"}
Profile.__index = Profile

local running   -- the profile that gathers, or nil

-- Layers ------------------------------------------------------------------------------------------

local Guard = {__name = "profiler guard"}

--- Ends the event; a profile that was stopped meanwhile ended it already.
function Guard:__close()
  if running ~= self.profile then return end
  core.profile_leave(running._handle, self.event)
  local stack = running._stack
  if self.depth then
    for i = #stack, self.depth, -1 do stack[i] = nil end
  end
end

local function text_of(profile, text)
  local known = profile._texts[text]
  if not known then
    known = core.profile_text(profile._handle, text)
    profile._texts[text] = known
  end
  return known
end

--- Path of module below another one, or nil. Listed once for each.
local function path_below(profile, top, module)
  local paths = profile._paths[top]
  if not paths then
    paths = {}
    for path, child in top:named_modules() do paths[child] = path end
    profile._paths[top] = paths
  end
  return paths[module]
end

--- The name of a module that no other one called: its own, or its class; numbered where there are
-- several.
local function root_name(profile, module)
  local name = profile._roots[module]
  if not name then
    local label = module.name or module.class_name
    local n = (profile._labels[label] or 0) + 1
    profile._labels[label] = n
    name = n == 1 and label or label .. "#" .. n
    profile._roots[module] = name
  end
  return name
end

--- Opens the event of a module's call.
local function enter_module(module)
  local profile = running
  local stack = profile._stack
  local path
  for i = #stack, 1, -1 do
    local below = path_below(profile, stack[i][1], module)
    if below then
      path = below == "" and stack[i][2] or stack[i][2] .. "." .. below
      break
    end
  end
  path = path or root_name(profile, module)
  stack[#stack + 1] = {module, path}
  local event = core.profile_enter(profile._handle, "layer", text_of(profile, module.class_name),
    text_of(profile, path))
  return setmetatable({profile = profile, event = event, depth = #stack}, Guard)
end

-- Gathering ---------------------------------------------------------------------------------------

local function start(opt)
  opt = util.options("pg.profiler", opt, {record_shapes = false})
  util.expect("pg.profiler", "record_shapes", opt.record_shapes, "boolean")
  if running then util.fail("pg.profiler", "a profiler is running already") end
  local profile = setmetatable({
    _handle = core.profile_start(opt.record_shapes),
    _texts = {}, _paths = {}, _roots = {}, _labels = {}, _stack = {},
  }, Profile)
  running = profile
  require("perigee.nn.module").observe(enter_module)
  return profile
end

--- Ends the profile; what it gathered stays. A second time does nothing. @return the profile
function Profile:stop()
  if running == self then
    require("perigee.nn.module").observe(nil)
    core.profile_stop(self._handle)
    running = nil
    self._texts, self._paths, self._roots, self._stack = {}, {}, {}, {}
  end
  return self
end

Profile.__close = Profile.stop

--- Gathers from now on what ops, gradients, layers and optimizers do.
-- `local prof <close> = pg.profiler()` until the end of the block or `prof:stop()`;
-- `local prof = pg.profiler(function() .. end)` while the function runs. Then
-- `print(prof:table())`, `print(prof:table {group_by = "layer"})`,
-- `prof:export_chrome_trace("trace.json")`. While no profiler runs an op pays one branch for it;
-- while one runs, about 0.1 us, and a call of a layer 1 us.
-- Events are kept until the profile is collected: profile some steps, not a whole training.
-- @param fn a function without arguments, optional
-- @param opt record_shapes (false): also the shapes of the inputs
-- @return a profile
function M.profile(fn, opt)
  if type(fn) ~= "function" then return start(fn) end
  local profile <close> = start(opt)
  fn()
  return profile
end

--- A span of the program by name: `local _ <close> = pg.profiler.record_function("augment")`.
-- Without a running profiler it does nothing.
-- @param name what tables and traces show
-- @return an object to be closed
function M.record_function(name)
  util.expect("pg.profiler.record_function", "name", name, "string")
  if not running then return setmetatable({profile = false}, Guard) end
  local event = core.profile_enter(running._handle, "label", text_of(running, name))
  return setmetatable({profile = running, event = event}, Guard)
end

-- Reading -----------------------------------------------------------------------------------------

local SUFFIX = {backward = "_backward", step = ".step", zero_grad = ".zero_grad"}

local function event_of(handle, i)
  local kind, name, path, parent, forward, start_ns, time, self_time, flops, bytes, memory,
    allocations, shapes = core.profile_event(handle, i)
  name = name:match "^[^|]+" .. (SUFFIX[kind] or "")
  return {
    kind = kind, name = kind == "layer" and "nn." .. name or name, path = path, parent = parent,
    forward = forward, start = start_ns / 1000, cpu_time_total = time / 1000,
    self_cpu_time_total = self_time / 1000, flops = flops, bytes = bytes,
    self_cpu_memory_usage = memory, allocations = allocations, input_shapes = shapes,
  }
end

--- What happened, in the order in which it began: a list of tables with `name`, `kind` ("op",
-- "backward", "engine", "layer", "label", "step", "zero_grad"), `path` of the layer it works for,
-- `parent` and `forward` (numbers of events: the one around it, the op whose gradient it is; 0 for
-- none), `start`, `cpu_time_total`, `self_cpu_time_total` (microseconds), and its own `flops`,
-- `bytes`, `self_cpu_memory_usage`, `allocations`, and `input_shapes`.
function Profile:events()
  local list = {}
  for i = 1, (core.profile_count(self._handle)) do list[i] = event_of(self._handle, i) end
  return list
end

local Averages = {__name = "profiler averages"}
Averages.__index = Averages

local OWN = {
  flops = "flops", bytes = "bytes", cpu_memory_usage = "self_cpu_memory_usage",
  allocations = "allocations",
}

local function new_row(key)
  return {key = key, count = 0, self_cpu_time_total = 0, cpu_time_total = 0, forward_time = 0,
    backward_time = 0, flops = 0, bytes = 0, self_cpu_memory_usage = 0, cpu_memory_usage = 0,
    allocations = 0}
end

local function average(rows, order)
  for _, row in ipairs(order) do
    row.cpu_time = row.count > 0 and row.cpu_time_total / row.count or 0
    rows[#rows + 1] = row
  end
  return setmetatable(rows, Averages)
end

--- Rows by op: an event's totals count where no event of the same key is around it.
local function by_key(events, key_of)
  local found, order, keys = {}, {}, {}
  for i, e in ipairs(events) do
    local key = key_of(e)
    keys[i] = key
    local row = found[key]
    if not row then
      row = new_row(key)
      row.kind, row.input_shapes = e.kind, e.input_shapes
      found[key] = row
      order[#order + 1] = row
    end
    row.count = row.count + 1
    row.self_cpu_time_total = row.self_cpu_time_total + e.self_cpu_time_total
    row.self_cpu_memory_usage = row.self_cpu_memory_usage + e.self_cpu_memory_usage
    local seen, at = {}, i
    while at > 0 do
      local above = found[keys[at]]
      if not seen[above] then
        seen[above] = true
        for field, own in pairs(OWN) do above[field] = above[field] + e[own] end
        above.cpu_time_total = above.cpu_time_total + e.self_cpu_time_total
      end
      at = events[at].parent
    end
  end
  return average({}, order)
end

local OUTSIDE = "(no layer)"

--- Rows by layer: all that works for it and for those below it, gradients among it.
local function by_layer(events)
  local found, order = {}, {}
  local function row_of(path)
    local row = found[path]
    if not row then
      row = new_row(path == "" and OUTSIDE or path)
      found[path] = row
      order[#order + 1] = row
    end
    return row
  end
  local late = {}   -- events inside a gradient
  for i, e in ipairs(events) do
    late[i] = e.kind == "backward" or late[e.parent] or false
    local own = row_of(e.path)
    if e.kind == "layer" or (e.path == "" and e.parent == 0) then own.count = own.count + 1 end
    own.self_cpu_time_total = own.self_cpu_time_total + e.self_cpu_time_total
    own.self_cpu_memory_usage = own.self_cpu_memory_usage + e.self_cpu_memory_usage
    local path = e.path
    while path do
      local row = row_of(path)
      for field, mine in pairs(OWN) do row[field] = row[field] + e[mine] end
      row.cpu_time_total = row.cpu_time_total + e.self_cpu_time_total
      local when = late[i] and "backward_time" or "forward_time"
      row[when] = row[when] + e.self_cpu_time_total
      path = path:match "^(.*)%.[^.]*$"
    end
  end
  return average({}, order)
end

--- Events summed by op ("linear", "linear_backward"), by op and input shapes (for a profile with
-- record_shapes), or by layer path. Rows have `key`, `count`, `self_cpu_time_total` (without what
-- ran inside), `cpu_time_total`, `cpu_time` (average of the total), in microseconds; `flops` (two a
-- multiply-add, one an element of elementwise ops; gradients of products are taken to cost a
-- product for each factor), `bytes` (of tensors read and written), `cpu_memory_usage` and
-- `self_cpu_memory_usage` (bytes allocated less bytes freed), `allocations`. Rows of layers also
-- have `forward_time` and `backward_time`, and include the layers below; the self times of all rows
-- add up to the time of all events.
-- @param opt group_by "op" (default), "shape" or "layer"
-- @return a list with the method `table`
function Profile:key_averages(opt)
  opt = util.options("key_averages", opt, {group_by = "op"})
  util.choice("key_averages", "group_by", opt.group_by, {"op", "shape", "layer"})
  local events = self:events()
  if opt.group_by == "layer" then return by_layer(events) end
  local shapes = opt.group_by == "shape"
  return by_key(events, function(e)
    return shapes and e.input_shapes and e.name .. " " .. e.input_shapes or e.name
  end)
end

--- Microseconds as "12.345us", "1.234ms", "2.000s".
local function time_text(us)
  if us < 1000 then return ("%.3fus"):format(us) end
  if us < 1000000 then return ("%.3fms"):format(us / 1000) end
  return ("%.3fs"):format(us / 1000000)
end

local function scaled(n, step, units)
  local k, size = 1, math.abs(n)
  while size >= step and k < #units do size, n, k = size / step, n / step, k + 1 end
  return (k == 1 and "%d%s" or "%.2f%s"):format(n, units[k])
end

local function bytes_text(n) return scaled(n, 1024, {" B", " KB", " MB", " GB", " TB"}) end
local function flops_text(n)
  return n == 0 and "--" or scaled(n, 1000, {"", " K", " M", " G", " T", " P"})
end

local SORTS = {"self_cpu_time_total", "cpu_time_total", "cpu_time", "count", "flops", "bytes",
  "cpu_memory_usage", "self_cpu_memory_usage", "allocations", "forward_time", "backward_time",
  "key"}

local function sorted(rows, by)
  local list = table.move(rows, 1, #rows, 1, {})
  table.sort(list, function(a, b)
    if by ~= "key" and a[by] ~= b[by] then return a[by] > b[by] end
    return a.key < b.key
  end)
  return list
end

local function columns_of(rows, total)
  local layers = rows[1] and rows[1].kind == nil
  local function percent(us) return ("%.2f%%"):format(total > 0 and 100 * us / total or 0) end
  local columns = {
    {"Name", function(r) return r.key end},
    {"Self CPU %", function(r) return percent(r.self_cpu_time_total) end},
    {"Self CPU", function(r) return time_text(r.self_cpu_time_total) end},
    {"CPU total %", function(r) return percent(r.cpu_time_total) end},
    {"CPU total", function(r) return time_text(r.cpu_time_total) end},
  }
  local function add(...) columns[#columns + 1] = {...} end
  if layers then
    add("forward", function(r) return time_text(r.forward_time) end)
    add("backward", function(r) return time_text(r.backward_time) end)
  else
    add("CPU time avg", function(r) return time_text(r.cpu_time) end)
  end
  add("# of Calls", function(r) return tostring(r.count) end)
  add("FLOP", function(r) return flops_text(r.flops) end)
  add("Bytes", function(r) return bytes_text(r.bytes) end)
  add("CPU Mem", function(r) return bytes_text(r.cpu_memory_usage) end)
  add("Allocations", function(r) return tostring(r.allocations) end)
  return columns
end

--- The rows as text, like PyTorch's table.
-- @param opt sort_by ("self_cpu_time_total"; any number of a row, or "key"), row_limit (100)
-- @return text
function Averages:table(opt)
  opt = util.options("table", opt, {sort_by = "self_cpu_time_total", row_limit = 100})
  util.choice("table", "sort_by", opt.sort_by, SORTS)
  opt.row_limit = util.expect("table", "row_limit", opt.row_limit, "integer")
  local total = 0
  for _, row in ipairs(self) do total = total + row.self_cpu_time_total end
  local columns, widths, lines = columns_of(self, total), {}, {}
  local list = sorted(self, opt.sort_by)
  local cells = {{}}
  for k, column in ipairs(columns) do cells[1][k] = column[1] end
  for i = 1, math.min(#list, opt.row_limit) do
    local line = {}
    for k, column in ipairs(columns) do line[k] = column[2](list[i]) end
    cells[#cells + 1] = line
  end
  for k = 1, #columns do
    widths[k] = 0
    for _, line in ipairs(cells) do widths[k] = math.max(widths[k], #line[k]) end
  end
  for i, line in ipairs(cells) do
    local parts = {}
    for k, cell in ipairs(line) do
      local space = (" "):rep(widths[k] - #cell)
      parts[k] = k == 1 and cell .. space or space .. cell
    end
    lines[#lines + 1] = (table.concat(parts, "  "):gsub("%s+$", ""))
    if i == 1 then
      for k in ipairs(columns) do parts[k] = ("-"):rep(widths[k]) end
      lines[#lines + 1] = table.concat(parts, "  ")
    end
  end
  if #list > opt.row_limit then
    lines[#lines + 1] = ("and %d more"):format(#list - opt.row_limit)
  end
  lines[#lines + 1] = "Self CPU time total: " .. time_text(total)
  return table.concat(lines, "\n") .. "\n"
end

Averages.__tostring = function(self) return self:table() end

--- `prof:key_averages {group_by = ..}:table {..}` in one call.
-- @param opt group_by ("op"), sort_by ("self_cpu_time_total"), row_limit (100)
-- @return text
function Profile:table(opt)
  opt = util.options("table", opt,
    {group_by = "op", sort_by = "self_cpu_time_total", row_limit = 100})
  local rows = self:key_averages {group_by = opt.group_by}
  return rows:table {sort_by = opt.sort_by, row_limit = opt.row_limit}
end

Profile.__tostring = function(self) return self:table() end

-- Traces ------------------------------------------------------------------------------------------

local QUOTED = {['"'] = '\\"', ["\\"] = "\\\\", ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t"}

local function quote(s)
  return '"' .. s:gsub('[%c"\\]', function(c)
    return QUOTED[c] or ("\\u%04x"):format(c:byte())
  end) .. '"'
end

--- Lines of an event: the span, and an arrow from an op to its gradient.
local function trace_lines(events, i)
  local e = events[i]
  local args = {
    ('"layer":%s'):format(quote(e.path)), ('"flop":%d'):format(e.flops),
    ('"bytes":%d'):format(e.bytes), ('"memory":%d'):format(e.self_cpu_memory_usage),
    ('"allocations":%d'):format(e.allocations), ('"self us":%.3f'):format(e.self_cpu_time_total),
  }
  if e.input_shapes then args[#args + 1] = '"Input Dims":' .. quote(e.input_shapes) end
  local text = ('{"ph":"X","cat":"%s","name":%s,"pid":1,"tid":1,"ts":%.3f,"dur":%.3f,"args":{%s}}')
    :format(e.kind, quote(e.name), e.start, e.cpu_time_total, table.concat(args, ","))
  if e.kind ~= "backward" or e.forward == 0 then return text end
  local arrow = ',\n{"ph":"%s","id":%d,"cat":"fwdbwd","name":"fwdbwd","pid":1,"tid":1,"ts":%.3f%s}'
  return text .. arrow:format("s", i, events[e.forward].start, "")
    .. arrow:format("f", i, e.start, ',"bp":"e"')
end

--- Writes what happened as a trace: a file for chrome://tracing or https://ui.perfetto.dev.
-- @param path name of the file
-- @return true; or nil, message
function Profile:export_chrome_trace(path)
  util.expect("export_chrome_trace", "path", path, "string")
  local file, message = io.open(path, "wb")
  if not file then return nil, message end
  local events = self:events()
  file:write('{"displayTimeUnit":"ms","traceEvents":[\n',
    '{"ph":"M","name":"process_name","pid":1,"tid":1,"args":{"name":"perigee"}}')
  for i = 1, #events do
    file:write(",\n", trace_lines(events, i))
  end
  local ok
  ok, message = file:write "\n]}\n"
  file:close()
  if not ok then return nil, message end
  return true
end

return setmetatable(M, {
  __call = function(_, ...) return M.profile(...) end,
  __name = "profiler",
})
