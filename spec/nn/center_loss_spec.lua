-- nn.CenterLoss: the golden vector of the design and every property stated there, the variants
-- against a naive reference, staging with loss_first, the state API, warnings.
-- Relies on busted and spec/helper.lua.
-- Sources: core/nn/layers/center_loss.c, lua/perigee/nn/center_loss.lua.

local H = require "spec.helper"
local core = require "perigee.core"
local pg = require "perigee"
local nn, optim = pg.nn, pg.optim

local X = {{1, 2}, {3, 0}, {-1, 1}, {0, -2}}
local LABELS = {1, 1, 3, 2}
local CENTERS = {{0, 0}, {1, 1}, {-1, -1}}

local function int(list) return pg.tensor(list, {dtype = "int64"}) end

local function golden(options, dtype)
  local c = nn.CenterLoss(3, 2, options):to(dtype or "float64")
  c:set_centers(CENTERS)
  local x = pg.tensor(X, {dtype = dtype or "float64"})
  x.requires_grad = true
  return c, x, int(LABELS)
end

--- Centers after one batch, by the definition; denominator(n, b) divides the class's sum of c - x.
local function moved(centers, x, labels, alpha, denominator)
  local result = {}
  for k, c in ipairs(centers) do
    local sum, n = {}, 0
    for i = 1, #c do sum[i] = 0 end
    for b, label in ipairs(labels) do
      if label == k then
        n = n + 1
        for i = 1, #c do sum[i] = sum[i] + c[i] - x[b][i] end
      end
    end
    result[k] = {}
    for i = 1, #c do
      result[k][i] = n > 0 and c[i] - alpha * sum[i] / denominator(n, #labels) or c[i]
    end
  end
  return result
end

describe("CenterLoss, the golden vector", function()
  local AFTER = {{2 / 3, 1 / 3}, {0.75, 0.25}, {-1, -0.5}}
  it("keras: updates, then measures; the gradient ignores the update", function()
    local c, x, y = golden {alpha = 0.5}
    local out = c(x, y)
    H.same(c:centers(), AFTER)
    H.same(out:detach(), {{13 / 9}, {25 / 9}, {1.125}, {2.8125}})
    out:sum():backward()
    H.same(x.grad, {{1 / 3, 5 / 3}, {7 / 3, -1 / 3}, {0, 1.5}, {-0.75, -2.25}})
    assert.same({4, 1}, out.shape)
  end)
  it("the paper: measures the old centers, moves after backward", function()
    local c, x, y = golden {preset = "wen2016", reduction = "none"}
    local out = c(x, y)
    H.same(out:detach(), {{2.5}, {4.5}, {2}, {5}})
    H.same(c:centers(), CENTERS)
    out:sum():backward()
    H.same(c:centers(), AFTER)
    H.same(x.grad, {{1, 2}, {3, 0}, {0, 2}, {-1, -3}})
  end)
  it("the other denominators", function()
    for denominator, after in pairs {
      n = {{1, 0.5}, {0.5, -0.5}, {-1, 0}}, none = {{2, 1}, {0.5, -0.5}, {-1, 0}},
      ["(1+n)B"] = {{1 / 6, 1 / 12}, {0.9375, 0.8125}, {-1, -0.875}},
      ["B/2"] = {{1, 0.5}, {0.75, 0.25}, {-1, -0.5}},
    } do
      local c, x, y = golden {denominator = denominator}
      c(x, y)
      H.same(c:centers(), after)
    end
  end)
  it("takes labels as a column and in float32 too", function()
    local c, x, y = golden({}, "float32")
    c(x, y:view(4, 1))
    H.same(c:centers(), pg.tensor(AFTER), 1e-6)
  end)
end)

describe("CenterLoss presets", function()
  local one = function(n) return 1 + n end
  local wanted = {   -- loss, denominator, value from the sum of squares (here 28), alpha
    keras = {"update_first", one}, wen2016 = {"loss_first", one, 14},
    caffe_face = {"loss_first", one, 3.5}, handongfeng = {"loss_first", one, 14},
    kaiyangzhou = {"loss_first", function(_, b) return b / 2 end, 7},
    jxgu1016 = {"loss_first", function(n, b) return (1 + n) * b end, 3.5},
    facenet = {"loss_first", function() return 1 end, 3.5, 0.05},
  }
  for preset, want in pairs(wanted) do
    it(preset, function()
      local c, x, y = golden {preset = preset}
      assert.equal(want[1], c.order)
      assert.near(want[4] or 0.5, c.alpha, 1e-12)
      local out = c(x, y)
      if want[3] then assert.near(want[3], out:item(), 1e-12) end
      out:sum():backward()
      optim.SGD({pg.zeros(1, {requires_grad = true})}, {lr = 1}):step()
      H.same(c:centers(), moved(CENTERS, X, LABELS, c.alpha, want[2]))
      assert.equal(preset, nn.CenterLoss(c:config()[1]).preset)
    end)
  end
  it("handongfeng is a loss of training only", function()
    local c, x, y = golden {preset = "handongfeng"}
    c:eval()
    assert.equal(0, c(x, y):item())
  end)
  it("caffe_face carries momentum on, also for absent classes", function()
    local c, x, y = golden {preset = "caffe_face", alpha = 0.3}
    local opt = optim.SGD({pg.zeros(1, {requires_grad = true})}, {lr = 1})
    local centers, velocity = CENTERS, {{0, 0}, {0, 0}, {0, 0}}
    local batches = {{X, LABELS}, {{{2, 2}, {1, -1}}, {2, 2}}, {{{0, 3}}, {1}}}
    for _, batch in ipairs(batches) do
      local features = pg.tensor(batch[1], {dtype = "float64"})
      features.requires_grad = true
      c(features, int(batch[2])):backward()
      opt:step()
      local target, next_centers = moved(centers, batch[1], batch[2], 0.3, one), {}
      for k = 1, 3 do
        next_centers[k] = {}
        for i = 1, 2 do
          velocity[k][i] = 0.9 * velocity[k][i] + centers[k][i] - target[k][i]
          next_centers[k][i] = centers[k][i] - velocity[k][i]
        end
      end
      centers = next_centers
      H.same(c:centers(), centers)
    end
    assert.is_not_nil(c:state_dict().velocity)
    H.raises(function() c(x, y * 2) end, "'labels': expected 1%.%.3, got label 6 in row 3")
  end)
  it("choose first values", function()
    pg.manual_seed(5)
    local function spread(preset)
      local t = nn.CenterLoss(200, 12, {preset = preset}):centers()
      return t:abs():max():item(), t:std():item()
    end
    local most, std = spread "keras"
    assert.is_true(most <= 0.05)
    assert.near(0.05 / math.sqrt(3), std, 2e-3)
    assert.equal(0, (spread "wen2016"))
    assert.equal(0, (spread "facenet"))
    assert.is_true(spread "caffe_face" <= 0.5)
    assert.near(1, select(2, spread "jxgu1016"), 0.06)
  end)
end)

describe("CenterLoss properties", function()
  it("touches the batch's rows only, bit for bit", function()
    local c = nn.CenterLoss(1000, 8)
    local before = c:centers()
    c(pg.randn(6, 8), int {3, 500, 3, 999, 500, 3})
    local after = c:centers()
    for _, k in ipairs {1, 2, 4, 499, 501, 998, 1000} do
      assert.is_true(before[k]:bytes() == after[k]:bytes())
    end
    assert.is_false(before[3]:bytes() == after[3]:bytes())
    local counts = c:counts()
    assert.equal(3, counts:sum():item())
    assert.equal(1, counts[500]:item())
    assert.is_true(c:drift()[999]:item() > 0)
    assert.equal(0, c:drift()[998]:item())
  end)
  it("matches its definition on random batches, duplicates and all", function()
    for trial = 1, 5 do
      local c = nn.CenterLoss(7, 20, {alpha = 0.1 * trial}):double()
      local x = pg.randn(40, 20, {dtype = "float64"})
      local y = pg.randint(1, 7, {40})
      local want = moved(c:centers():totable(), x:totable(), y:totable(), 0.1 * trial,
        function(n) return 1 + n end)
      local out = c(x, y)
      H.same(c:centers(), want)
      local rows = (x - c:centers():index_select(1, y)):pow(2):sum(2, {keepdim = true}) / 2
      H.same(out, rows)
    end
  end)
  it("does not move in evaluation, nor with alpha 0", function()
    local c, x, y = golden {}
    c:eval()
    H.same(c(x, y):detach(), {{2.5}, {4.5}, {2}, {5}})
    H.same(c:centers(), CENTERS)
    c:train()
    c.alpha = 0
    c(x, y)
    H.same(c:centers(), CENTERS)
    c.alpha = 0.3
    c(x, y)
    H.same(c:centers(), moved(CENTERS, X, LABELS, 0.3, function(n) return 1 + n end))
  end)
  it("has a gradient to the features only", function()
    local c, x, y = golden {}
    assert.same({}, c:parameters())
    c:eval()
    H.gradcheck(function(t) return c(t, y) end, x)
    H.gradgradcheck(function(t) return c(t, y) end, x)
  end)
  it("names row and value of a wrong label before anything moves", function()
    for _, order in ipairs {"update_first", "loss_first"} do
      local c, x = golden {order = order}
      H.raises(function() c(x, int {1, 4, 3, 2}) end, "'labels': .*got label 4 in row 2")
      H.raises(function() c(x, int {1, 1, 0, 2}) end, "'labels': .*got label 0 in row 3")
      H.same(c:centers(), CENTERS)
      H.same(c:counts(), {0, 0, 0})
    end
  end)
  it("reports features that are not finite and keeps the centers", function()
    for _, bad in ipairs {0 / 0, math.huge} do
      local c, _, y = golden {}
      local x = pg.tensor({{1, 2}, {3, bad}, {0, 0}, {0, 0}}, {dtype = "float64"})
      H.raises(function() c(x, y) end,
        "'features': .*got others in row 2; the centers were left as they are")
      H.same(c:centers(), CENTERS)
    end
  end)
  it("refuses shapes and dtypes that do not fit", function()
    local c, x, y = golden {}
    H.raises(function() c(x, int {1, 2}) end, "'labels': .*got %[2%]")
    H.raises(function() c(pg.zeros(4, 3, {dtype = "float64"}), y) end,
      "'features': expected %[%* x 2%] to follow centers %[3 x 2%], got %[4 x 3%]")
    H.raises(function() c(x:float(), y) end, "float32")
    H.raises(function() c(x, pg.ones(4)) end, "labels")
    H.raises(function() c(x) end, "'input': expected 2 tensors, got 1")
    H.raises(function() nn.CenterLoss(0, 2) end, "'num_classes': expected at least 1")
    H.raises(function() nn.CenterLoss(3, 2, {alpha = -1}) end, "alpha")
    H.raises(function() nn.CenterLoss(3, 2, {order = "loss"}) end, "order")
    H.raises(function() nn.CenterLoss(3, 2, {preset = "karas"}) end, "preset")
    H.raises(function() c.num_classes = 4 end,
      "arguments 'num_classes', 'num_features', 'preset' and 'init': .*got another value")
    H.raises(function() c.alpha = 0 / 0 end, "alpha")
  end)
  it("takes an empty batch", function()
    local c = golden {}
    local out = c(pg.zeros(0, 2, {dtype = "float64"}), pg.zeros(0, {dtype = "int64"}))
    assert.same({0, 1}, out.shape)
    H.same(c:centers(), CENTERS)
  end)
  it("gives the same bits on one thread and on two", function()
    local bits = {}
    for threads = 1, 2 do
      local before = core.num_threads()
      core.num_threads(threads)
      pg.manual_seed(11)
      local c = nn.CenterLoss(50, 300)
      for _ = 1, 3 do c(pg.randn(400, 300), pg.randint(1, 50, {400})) end
      bits[threads] = c:centers():bytes()
      core.num_threads(before)
    end
    assert.is_true(bits[1] == bits[2])
  end)
  it("costs the same however many classes there are", function()
    local x, y = pg.randn(64, 4), pg.randint(1, 100, {64})
    local function seconds(classes)
      local c, best = nn.CenterLoss(classes, 4), math.huge
      for _ = 1, 30 do
        local start = pg.clock()
        c(x, y)
        best = math.min(best, pg.clock() - start)
      end
      return best
    end
    local small = seconds(100)
    assert.is_true(seconds(1000000) < 20 * small)
  end)
  it("leaves everything as it was when an allocation fails", function()
    for _, order in ipairs {"update_first", "loss_first"} do
      local c, x, y = golden {order = order}
      local n, failed = 1, true
      while failed do
        core.fail_after(n)
        local ok = pcall(c, x, y)
        core.fail_after(-1)
        failed = not ok
        if failed then
          H.same(c:centers(), CENTERS)
          H.same(c:counts(), {0, 0, 0})
        end
        n = n + 1
      end
      assert.is_true(n > 5)
    end
  end)
end)

describe("CenterLoss with loss_first", function()
  local function layer()
    local c = nn.CenterLoss(3, 2, {order = "loss_first"}):double()
    c:set_centers(CENTERS)
    return c
  end
  local function feed(c, rows, labels)
    local x = pg.tensor(rows, {dtype = "float64"})
    x.requires_grad = true
    return c(x, int(labels)):sum()
  end
  local dummy
  before_each(function() dummy = optim.SGD({pg.zeros(1, {requires_grad = true})}, {lr = 1}) end)
  local one = function(n) return 1 + n end
  local joined = moved(CENTERS, X, LABELS, 0.5, one)

  it("adds the counts of accumulated batches before it divides", function()
    local c = layer()
    feed(c, {X[1]}, {1}):backward()
    local second = feed(c, {X[2], X[3], X[4]}, {1, 3, 2})
    assert.near(4.5 + 2 + 5, second:item(), 1e-12)   -- measured from the old centers
    second:backward()
    dummy:step()
    H.same(c:centers(), joined)
    H.same(c:counts(), {1, 1, 1})
    feed(c, {{1, 1}}, {2}):backward()
    dummy:step()
    H.same(c:centers(), moved(joined, {{1, 1}}, {2}, 0.5, one))
    H.same(c:counts(), {1, 2, 1})
  end)
  it("joins two forwards before their backwards too", function()
    local c = layer()
    local a, b = feed(c, {X[1], X[3]}, {1, 3}), feed(c, {X[2], X[4]}, {1, 2})
    a:backward()
    b:backward()
    dummy:step()
    H.same(c:centers(), joined)
  end)
  it("shows the moved centers before the step is over, and goes on from the old ones", function()
    local c = layer()
    feed(c, {X[1]}, {1}):backward()
    H.same(c:centers(), moved(CENTERS, {X[1]}, {1}, 0.5, one))
    feed(c, {X[2], X[3], X[4]}, {1, 3, 2}):backward()
    H.same(c:centers(), joined)
  end)
  it("forgets what never saw a backward", function()
    local c = layer()
    do local unused = feed(c, X, LABELS) ; unused:release() end
    collectgarbage()
    collectgarbage()
    dummy:step()
    H.same(c:centers(), CENTERS)
    local kept = feed(c, X, LABELS)
    dummy:step()   -- another optimizer's step comes between
    H.same(c:centers(), CENTERS)
    kept:backward()
    dummy:step()
    H.same(c:centers(), joined)
  end)
  it("moves at the step where features have no gradient", function()
    local c = layer()
    c(pg.tensor(X, {dtype = "float64"}), int(LABELS))
    H.same(c:centers(), CENTERS)
    dummy:step()
    H.same(c:centers(), joined)
  end)
  it("is settled by evaluation, saving and new centers", function()
    local c = layer()
    feed(c, X, LABELS):backward()
    c:eval()
    local x = pg.tensor(X, {dtype = "float64"})
    H.same(c(x, int(LABELS)):sum(), feed(c, X, LABELS):detach())
    H.same(c:state_dict().centers, joined)
    c:train()
    feed(c, X, LABELS):backward()
    c:set_centers(CENTERS)
    dummy:step()
    H.same(c:centers(), CENTERS)
    feed(c, X, LABELS):backward()
    c:load_state_dict(layer():state_dict())
    feed(c, {X[1]}, {1}):backward()
    H.same(c:centers(), moved(CENTERS, {X[1]}, {1}, 0.5, one))
  end)
end)

describe("CenterLoss state", function()
  it("gives copies", function()
    local c = golden {}
    c:centers():zero_()
    H.same(c:centers(), CENTERS)
  end)
  it("takes centers of the right shape", function()
    local c = golden({}, "float32")
    c:set_centers(pg.ones(3, 2, {dtype = "float64"}))
    assert.equal("float32", c:centers().dtype)
    H.raises(function() c:set_centers(pg.ones(2, 3)) end, "expected %[3 x 2%], got %[2 x 3%]")
    H.raises(function() c:set_centers(3) end, "expected a tensor")
  end)
  it("starts from the means of features", function()
    local c = golden {}
    c:init_from(pg.tensor(X, {dtype = "float64"}), int {1, 1, 2, 2})
    H.same(c:centers(), {{2, 1}, {-0.5, -0.5}, {-1, -1}})
    H.same(c:counts(), {0, 0, 0})
    c:init_from {features = pg.tensor(X), label = int {3, 3, 3, 3}}
    H.same(c:centers()[3], pg.tensor({0.75, 0.25}, {dtype = "float64"}))
    H.raises(function() c:init_from(pg.tensor(X)) end, "labels")
  end)
  it("finds nearest centers and rejects far ones", function()
    local c = golden {}
    local labels, distances = c:nearest(pg.tensor({{0.1, 0}, {4, 5}, {-1, -1}},
      {dtype = "float64"}))
    assert.same({1, 2, 3}, labels:totable())
    H.same(distances, {0.1, 5, 0})
    labels = c:nearest(pg.tensor({{0.1, 0}, {4, 5}}, {dtype = "float64"}), {reject = 1})
    assert.same({1, 0}, labels:totable())
    H.raises(function() c:nearest(pg.ones(2, 2), {rejct = 1}) end, "did you mean 'reject'")
  end)
  it("is saved, loaded and cast with the module", function()
    local c = golden {}
    local net = nn.Sequential {nn.Identity(), c}
    local dict = net:state_dict()
    assert.is_not_nil(dict["2.centers"])
    local again = nn.Sequential {nn.Identity(), nn.CenterLoss(3, 2):double()}
    again:load_state_dict(dict)
    H.same(again[2]:centers(), CENTERS)
    assert.equal("float32", again:float()[2]:centers().dtype)
    again[2](pg.tensor(X), int(LABELS))
    H.same(again[2]:drift():to("float64"), {math.sqrt(5) / 3, math.sqrt(0.625), 0.5}, 1e-6)
  end)
  it("writes its centers to files", function()
    H.in_folder(function(folder)
      local c = golden {}
      for _, kind in ipairs {"npy", "csv", "safetensors"} do
        local path = folder .. "/centers." .. kind
        assert(c:export(path))
        local back = pg.load(path)
        if kind == "safetensors" then back = back.centers end
        H.same(back:to("float64"), CENTERS)
      end
      H.raises(function() c:export(folder .. "/centers.txt") end, "npy")
    end)
  end)
  it("warns of classes never seen and of a collapse", function()
    local said = {}
    local before = warn
    _G.warn = function(...) said[#said + 1] = table.concat {...} end   -- luacheck: ignore
    local c = golden {}
    c(pg.tensor({{1, 2}}, {dtype = "float64"}), int {1})
    c:on_epoch_end {epoch = 1, logs = {}}
    c(pg.tensor({{1, 2}, {1, 1}}, {dtype = "float64"}), int {2, 3})
    c:on_epoch_end {epoch = 2, logs = {loss = math.log(3)}}
    c:set_centers(pg.zeros(3, 2))
    c:on_epoch_end {epoch = 3, logs = {logits_loss = 0.3}}
    c:on_epoch_end {epoch = 4, logs = {logits_loss = math.log(3)}}
    _G.warn = before   -- luacheck: ignore
    assert.equal(2, #said)
    assert.matches("2 of 3 classes were never updated (the first is 2)", said[1], 1, true)
    assert.matches("collapsed", said[2], 1, true)
  end)
end)
