--- Start-up: `perigee -e 'print(1)'` as a process, against a Python that imports torch.
local command = "build/perigee"

return {
  setup = function()
    return function() assert(os.execute(command .. " -e 'print(1)' >/dev/null")) end
  end,
  --- The most memory that the process held, of its own word.
  remark = function()
    local chunk = [[print(io.open("/proc/self/status"):read("a"):match("VmHWM:%s*(%d+)"))]]
    local pipe = assert(io.popen(("%s -e '%s'"):format(command, chunk)))
    local kib = tonumber(pipe:read "a")
    pipe:close()
    return ("resident at most %.1f MB"):format(kib / 1024)
  end,
}
