--- Output handler for busted: a dot a test on a terminal, what went wrong, what is pending, and at
-- the end the line "N passed, N failed". Errors count as failed.
-- Relies on busted.

return function(options)
  local busted = require "busted"
  local handler = require "busted.outputHandlers.base"()
  local tty = require "term".isatty(io.stdout)
  local slow = {}

  local function text(message)
    if message == nil then return "" end
    return type(message) == "string" and message or require "pl.pretty".write(message)
  end

  local function show(kind, item)
    local trace = item.trace or item.element.trace or {}
    io.write(("\n%s: %s\n"):format(kind, item.name))
    if trace.short_src then
      io.write(("  at %s:%s\n"):format(trace.short_src, trace.currentline or "?"))
    end
    local message = text(item.message)
    if message ~= "" then io.write("  ", (message:gsub("\n", "\n  ")), "\n") end
    if options.verbose and trace.traceback then io.write(trace.traceback, "\n") end
  end

  handler.testEnd = function(element, _, status)
    if element.duration and element.duration > 2 then
      slow[#slow + 1] = {element.duration, handler.getFullName(element)}
    end
    if tty then
      io.write(status == "success" and "." or status == "pending" and "p" or "F")
      io.flush()
    end
    return nil, true
  end

  handler.suiteEnd = function()
    if tty then io.write "\n" end
    for _, item in ipairs(handler.pendings) do show("pending", item) end
    for _, item in ipairs(handler.failures) do show("failed", item) end
    for _, item in ipairs(handler.errors) do show("error", item) end
    table.sort(slow, function(a, b) return a[1] > b[1] end)
    for i = 1, math.min(5, #slow) do
      io.write(("slow: %.1f s %s\n"):format(slow[i][1], slow[i][2]))
    end
    io.write(("\n%d pending, %.1f s\n"):format(handler.pendingsCount, handler.getDuration()))
    io.write(("%d passed, %d failed\n"):format(handler.successesCount,
      handler.failuresCount + handler.errorsCount))
    io.flush()
    return nil, true
  end

  busted.subscribe({"test", "end"}, handler.testEnd, {predicate = handler.cancelOnPending})
  busted.subscribe({"suite", "end"}, handler.suiteEnd)
  return handler
end
