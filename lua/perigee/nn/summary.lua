--- `module:summary()`: a table of layers with shapes and parameter counts, as Keras prints it.
-- Relies on nn.Module and nn/graph.lua. Spec: spec/nn/summary_spec.lua.

local core = require "perigee.core"
local graph = require "perigee.nn.graph"
local mode = require "perigee.nn.mode"
local util = require "perigee.util"

local M = {}

--- 1234567 -> "1,234,567".
function M.thousands(n)
  local text = tostring(n)
  while true do
    local cut, k = text:gsub("^(%d+)(%d%d%d)", "%1,%2")
    if k == 0 then return text end
    text = cut
  end
end

--- Bytes as "1.23 MB".
local function bytes_text(n)
  if n < 1024 then return n .. " B" end
  if n < 1024 * 1024 then return ("%.2f KB"):format(n / 1024) end
  return ("%.2f MB"):format(n / 1024 / 1024)
end

local SIZE = {float32 = 4, float64 = 8, bfloat16 = 2, int64 = 8, uint8 = 1, bool = 1}

--- Counts of a module, each tensor once over all calls that share `seen`.
local function count(module, seen)
  local c = {trainable = 0, frozen = 0, buffers = 0, bytes = 0}
  local function add(kind, tensor)
    if seen[tensor] then return end
    seen[tensor] = true
    c[kind] = c[kind] + tensor:numel()
    c.bytes = c.bytes + tensor:numel() * SIZE[tensor.dtype]
  end
  for _, p in module:named_parameters() do add(p.requires_grad and "trainable" or "frozen", p) end
  for _, b in module:named_buffers() do add("buffers", b) end
  return c
end

--- Multiply-adds of one sample through a module, by a run without data; a free size counts once.
local function macs_of(module, args)
  local filled = graph.map(args, function(leaf)
    if not graph.is_symbolic(leaf) then return leaf end
    local shape = {}
    for i, size in ipairs(leaf._shape) do shape[i] = size == -1 and 1 or size end
    return core.meta(leaf._dtype, shape)
  end)
  local _ <close> = mode.inference(module)
  local before = core.macs()
  local ok = pcall(module, table.unpack(filled, 1, args.n))
  return ok and core.macs() - before or 0
end

local function graph_rows(model)
  local g, rows, calls = model._graph, {}, {}
  for _, node in ipairs(g.order) do
    local from, shapes = {}, {}
    for _, source in ipairs(node.sources) do from[#from + 1] = g.name_of[source] end
    for i, symbol in ipairs(node.outputs) do shapes[i] = graph.shape_text(symbol._shape) end
    local module = node.module
    rows[#rows + 1] = {
      name = g.node_name[node], module = not calls[module or node] and module or nil,
      class = module and util.type_name(module) or "Input", shape = table.concat(shapes, ", "),
      macs = module and macs_of(module, node.args) or 0,
      from = table.concat(from, ", "), again = module and calls[module],
      training_only = node.training_only,
    }
    calls[module or node] = g.node_name[node]
  end
  return rows
end

--- Rows of a module that is no graph; shapes where an input shape says what flows through a
-- Sequential.
local function child_rows(module, input_shape)
  local rows, flow = {}, nil
  if input_shape and util.type_name(module) == "Sequential" then flow = graph.Input(input_shape) end
  for name, child in module:named_children() do
    local macs = flow and macs_of(child, {flow, n = 1}) or 0
    if flow then flow = child(flow) end
    rows[#rows + 1] = {name = name, module = child, class = util.type_name(child), macs = macs,
      shape = graph.is_symbolic(flow) and graph.shape_text(flow._shape) or "", from = ""}
  end
  return rows
end

local function pad(text, width) return text .. (" "):rep(width - (utf8.len(text) or #text)) end

--- The summary as a list of lines.
-- @param module a module
-- @param opt input_shape (without the batch) for a Sequential
function M.lines(module, opt)
  local rows = module._graph and graph_rows(module) or child_rows(module, opt.input_shape)
  local seen, head = {}, {"Layer (class)", "Output shape", "Params", "MACs", "Connected to"}
  local cells, widths, shaped, connected, macs = {}, {}, false, false, 0
  for i, row in ipairs(rows) do
    local c = row.module and count(row.module, seen)
    local params = c and M.thousands(c.trainable + c.frozen) or row.again and "shared" or "0"
    local note = row.training_only and ", training only" or ""
    macs = macs + row.macs
    cells[i] = {("%s (%s%s)"):format(row.name, row.class, note), row.shape, params,
      M.thousands(row.macs), row.from}
    shaped, connected = shaped or row.shape ~= "", connected or row.from ~= ""
  end
  local columns = {1}
  if shaped then columns[#columns + 1] = 2 end
  columns[#columns + 1] = 3
  if shaped then columns[#columns + 1] = 4 end
  if connected then columns[#columns + 1] = 5 end
  for _, k in ipairs(columns) do
    widths[k] = #head[k]
    for _, cell in ipairs(cells) do
      widths[k] = math.max(widths[k], utf8.len(cell[k]) or #cell[k])
    end
  end
  local function line(cell)
    local words = {}
    for i, k in ipairs(columns) do
      local number = k == 3 or k == 4
      words[i] = number and (" "):rep(widths[k] - #cell[k]) .. cell[k] or pad(cell[k], widths[k])
    end
    return (table.concat(words, "  "):gsub("%s+$", ""))
  end
  local width = 2 * (#columns - 1)
  for _, k in ipairs(columns) do width = width + widths[k] end
  local c = count(module, {})
  local out = {("%s%s"):format(util.type_name(module),
    module.name and " \"" .. module.name .. "\"" or "")}
  local function rule(mark) out[#out + 1] = mark:rep(width) end
  rule "-"
  out[#out + 1] = line(head)
  rule "="
  for _, cell in ipairs(cells) do out[#out + 1] = line(cell) end
  rule "="
  out[#out + 1] = ("Total params: %s (%s with buffers)"):format(
    M.thousands(c.trainable + c.frozen), bytes_text(c.bytes))
  out[#out + 1] = "Trainable params: " .. M.thousands(c.trainable)
  out[#out + 1] = "Non-trainable params: " .. M.thousands(c.frozen)
  if shaped then out[#out + 1] = "MACs of one sample: " .. M.thousands(macs) end
  if c.buffers > 0 then out[#out + 1] = "Values in buffers: " .. M.thousands(c.buffers) end
  rule "-"
  return out
end

--- Prints the layers with output shapes, parameters, multiply-adds of one sample (MACs), and
-- what they are connected to.
-- @param opt input_shape: a list of sizes without the batch, gives a Sequential's shapes;
-- print: function of a line (standard output)
function M.summary(module, opt)
  opt = util.options("summary", opt, {"input_shape", "print"})
  local show = opt.print or print
  for _, line in ipairs(M.lines(module, opt)) do show(line) end
end

return M
