-- The progress display: which mode, what it writes, and that no control characters reach a file.
-- Relies on perigee.core for isatty only.
-- Sources: lua/perigee/train/progress.lua.

local progress = require "perigee.train.progress"

local function env(values)
  return function(name) return values[name] end
end

local function sink()
  local pieces = {}
  return {
    write = function(_, ...)
      for _, piece in ipairs {...} do pieces[#pieces + 1] = piece end
    end,
    flush = function() end,
    text = function() return table.concat(pieces) end,
  }
end

--- A display that ran two epochs of two steps, with a clock that moves a second a step.
local function run(opt)
  local out, now = sink(), 0
  opt.out, opt.epochs, opt.unit = out, 2, "images"
  opt.clock = function()
    now = now + 1
    return now
  end
  opt.env = opt.env or env {}
  opt.width = opt.width or 100
  local view = progress.new(opt)
  for epoch = 1, 2 do
    view:epoch_begin(epoch, 2)
    for _ = 1, 2 do
      view:update(50, function() return {loss = 0.5, accuracy = 0.25}, {"loss", "accuracy"} end)
    end
    view:epoch_end({loss = 0.5, accuracy = 0.25, val_loss = 1e-5},
      {"loss", "accuracy", "val_loss"})
  end
  view:close()
  return out.text()
end

describe("progress.mode", function()
  it("is a bar only on a terminal that can show one", function()
    assert.equal("bar", progress.mode(env {TERM = "xterm"}, true))
    assert.equal("plain", progress.mode(env {TERM = "xterm"}, false))
    assert.equal("plain", progress.mode(env {TERM = "dumb"}, true))
    assert.equal("plain", progress.mode(env {}, true))
    assert.equal("plain", progress.mode(env {TERM = "xterm", CI = "true"}, true))
  end)
  it("follows PERIGEE_PROGRESS", function()
    for _, mode in ipairs {"bar", "plain", "json", "none"} do
      assert.equal(mode, progress.mode(env {PERIGEE_PROGRESS = mode, TERM = "dumb"}, false))
    end
    assert.equal("bar", progress.mode(env {PERIGEE_PROGRESS = "auto", TERM = "xterm"}, true))
    assert.error_matches(function() progress.mode(env {PERIGEE_PROGRESS = "plian"}, true) end,
      "PERIGEE_PROGRESS: expected one of auto, bar, plain, json, none, got 'plian', "
      .. "did you mean 'plain'?", 1, true)
  end)
end)

describe("progress display", function()
  it("writes one plain line an epoch, without CR and ESC", function()
    local text = run {mode = "plain"}
    assert.is_nil(text:find("[\r\27]"))
    local lines = {}
    for line in text:gmatch "[^\n]+" do lines[#lines + 1] = line end
    assert.equal(2, #lines)
    assert.matches("^Epoch 1/2  0:%d%d  .*images/s  loss 0.5000  accuracy 0.2500  "
      .. "val_loss 1.000e%-05$", lines[1])
  end)
  it("writes JSON a line an epoch", function()
    local text = run {mode = "json"}
    assert.is_nil(text:find("[\r\27]"))
    local first = text:match "^[^\n]+"
    assert.matches('^{"epoch": 1, "epochs": 2, "steps": 2, "samples": 100, "seconds": %d+', first)
    assert.matches('"loss": 0.5, "accuracy": 0.25, "val_loss": 1e%-05}$', first)
  end)
  it("is silent with none and verbose = false", function()
    assert.equal("", run {mode = "none"})
    assert.equal("", run {verbose = false, tty = true, env = env {TERM = "xterm"}})
    assert.equal("", run {verbose = 0, tty = true, env = env {TERM = "xterm"}})
  end)
  it("draws a bar with ETA and rate, and ends the epoch with a plain line", function()
    local text = run {tty = true, env = env {TERM = "xterm", NO_COLOR = "1"}}
    assert.matches("\rEpoch 1/2 [━─]+ 1/2  ETA 0:01  50.0 images/s  loss 0.5000", text)
    assert.is_nil(text:find("\27[3", 1, true))
    assert.equal(2, select(2, text:gsub("\n", "")))
    assert.matches("\27%[32m", run {tty = true, env = env {TERM = "xterm"}})
  end)
  it("never draws wider than the terminal", function()
    local text = run {tty = true, width = 40, env = env {TERM = "xterm", NO_COLOR = "1"}}
    for line in text:gmatch "\r([^\r\n]*)\27%[K[^\n]*" do
      assert.is_true(utf8.len(line) < 40, line)
    end
  end)
  it("closes on a fresh line when an error cuts an epoch short", function()
    local out = sink()
    local ok = pcall(function()
      local view <close> = progress.new {mode = "bar", out = out, epochs = 1, width = 80,
        env = env {}}
      view:epoch_begin(1, 10)
      view:update(1, function() return {}, {} end)
      error "stop"
    end)
    assert.is_false(ok)
    assert.matches("\n$", out.text())
  end)
  it("shows numbers in four figures", function()
    assert.equal("0.0312", progress.number(0.03125))
    assert.equal("1.235e+04", progress.number(12345.6))
    assert.equal("nan", progress.number(0 / 0))
    assert.equal("-inf", progress.number(-math.huge))
    assert.equal("0.0000", progress.number(0))
    assert.equal("1:02:05", progress.time(3725))
  end)
end)
