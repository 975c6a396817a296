--- Single operations in float32: one part each, of the same name and sizes as in ops.py. What an
-- operation returns is allocated and freed within its time, on both sides; "both" is forward and
-- backward.

local LARGE, MEDIUM = {2048, 2048}, {256, 256}

return {
  threads = function(name) return name:find "^sgemm" or name:find "^conv" end,
  setup = function(pg)
    local nn = pg.nn
    local F = nn.functional
    local list = {}

    --- Adds a part: make() returns the function to be timed, and is called when it is first needed.
    local function line(name, make, flop)
      local run
      list[#list + 1] = {name = name, flop = flop, step = function()
        if not run then
          pg.manual_seed(1)
          run = make()
        end
        run()
      end}
    end
    --- Forward only: call(inputs of make()).
    local function forward(name, make, call, flop)
      line(name, function()
        local input = table.pack(make())
        return function()
          local _ <close> = pg.scope()
          call(table.unpack(input, 1, input.n))
        end
      end, flop)
    end
    --- Forward and backward; all float inputs want gradients. The gradient that comes back has the
    -- memory order of the result.
    local function both(name, make, call)
      line(name, function()
        local input = table.pack(make())
        local leaves = {}
        for i = 1, input.n do
          if pg.is_tensor(input[i]) and input[i].dtype == "float32" then
            input[i].requires_grad = true
            leaves[#leaves + 1] = input[i]
          end
        end
        local g = call(table.unpack(input, 1, input.n)):detach():clone()
        return function()
          local _ <close> = pg.scope()
          for i = 1, #leaves do leaves[i].grad = nil end
          call(table.unpack(input, 1, input.n)):backward(g)
        end
      end)
    end
    local function last(...) -- an image batch in channels-last memory
      local n, c, h, w = ...
      return pg.randn(n, h, w, c):permute(1, 4, 2, 3)
    end

    for _, size in ipairs {{"4m", LARGE}, {"64k", MEDIUM}} do
      local tag, shape = table.unpack(size)
      local function one() return pg.randn(shape) end
      local function two() return pg.randn(shape), pg.randn(shape) end
      forward("add " .. tag, two, function(x, y) return x + y end)
      forward("mul " .. tag, two, function(x, y) return x * y end)
      forward("exp " .. tag, one, pg.exp)
      forward("gelu " .. tag, one, F.gelu)
      forward("sigmoid " .. tag, one, pg.sigmoid)
      forward("tanh " .. tag, one, pg.tanh)
      forward("relu " .. tag, one, F.relu)
      both("relu both " .. tag, one, F.relu)
      both("gelu both " .. tag, one, F.gelu)
      both("mul both " .. tag, two, function(x, y) return x * y end)
      forward("where " .. tag, function()
        local x, y = two()
        return x:gt(0), x, y
      end, pg.where)
      forward("clamp " .. tag, one, function(x) return x:clamp(-0.5, 0.5) end)
      forward("mul scalar " .. tag, one, function(x) return x * 1.5 end)
      forward("add row " .. tag, function() return pg.randn(shape), pg.randn(shape[2]) end,
        function(x, y) return x + y end)
      forward("add column " .. tag, function() return pg.randn(shape), pg.randn(shape[1], 1) end,
        function(x, y) return x + y end)
      both("add row both " .. tag, function() return pg.randn(shape), pg.randn(shape[2]) end,
        function(x, y) return x + y end)
      forward("dropout " .. tag, one, function(x) return F.dropout(x, 0.5, true) end)
    end
    both("prelu both channels-last", function()
      return last(64, 32, 28, 28), pg.rand(32)
    end, F.prelu)

    local function cube() return pg.randn(128, 256, 128) end
    for _, name in ipairs {"sum", "mean", "max", "var", "argmax"} do
      for dim = 1, 3 do
        forward(("%s dim %d"):format(name, dim), cube, function(x) return x[name](x, dim) end)
      end
      forward(name .. " all", cube, function(x) return x[name](x) end)
    end
    for dim = 1, 3 do
      forward("cumsum dim " .. dim, cube, function(x) return x:cumsum(dim) end)
    end
    for dim = 2, 3 do
      forward("softmax dim " .. dim, cube, function(x) return x:softmax(dim) end)
      forward("log_softmax dim " .. dim, cube, function(x) return x:log_softmax(dim) end)
    end
    both("softmax both dim 3", cube, function(x) return x:softmax(3) end)

    both("layer_norm both", function() return pg.randn(4096, 256), pg.randn(256), pg.randn(256) end,
      function(x, w, b) return F.layer_norm(x, {256}, w, b) end)
    both("group_norm both", function()
      return pg.randn(32, 64, 28, 28), pg.randn(64), pg.randn(64)
    end, function(x, w, b) return F.group_norm(x, 8, w, b) end)
    both("instance_norm both", function() return pg.randn(32, 64, 28, 28) end,
      function(x) return F.instance_norm(x) end)
    for _, layout in ipairs {{"nchw", pg.randn}, {"channels-last", last}} do
      local tag, image = table.unpack(layout)
      both("batch_norm both " .. tag, function()
        return image(64, 64, 28, 28), pg.randn(64), pg.randn(64)
      end, function(x, w, b) return F.batch_norm(x, nil, nil, w, b, true) end)
      local function map() return image(64, 64, 28, 28) end
      local function small() return image(64, 256, 8, 8) end
      forward("max_pool2d " .. tag, map, function(x) return F.max_pool2d(x, 2) end)
      both("max_pool2d both " .. tag, map, function(x) return F.max_pool2d(x, 2) end)
      both("max_pool2d 3x3 both " .. tag, map, function(x) return F.max_pool2d(x, 3, 2, 1) end)
      forward("avg_pool2d " .. tag, map, function(x) return F.avg_pool2d(x, 2) end)
      both("avg_pool2d both " .. tag, map, function(x) return F.avg_pool2d(x, 2) end)
      both("max_pool2d small both " .. tag, small, function(x) return F.max_pool2d(x, 2) end)
      both("adaptive_avg_pool2d both " .. tag, small, function(x)
        return F.adaptive_avg_pool2d(x, 1)
      end)
    end

    forward("gather", function()
      return pg.randn(2048, 1024), pg.randint(1, 1024, {2048, 1024})
    end, function(x, idx) return x:gather(2, idx) end)
    forward("index_select rows", function()
      return pg.randn(8192, 256), pg.randint(1, 8192, {8192})
    end, function(x, idx) return x:index_select(1, idx) end)
    both("index_select columns both", function()
      return pg.randn(2048, 1024), pg.randint(1, 1024, {512})
    end, function(x, idx) return x:index_select(2, idx) end)
    both("embedding both", function()
      return pg.randint(1, 10000, {64, 128}), pg.randn(10000, 256)
    end, F.embedding)
    local function pair() return pg.randn(1024, 1024), pg.randn(1024, 1024) end
    forward("cat dim 1", pair, function(x, y) return pg.cat({x, y}, 1) end)
    forward("cat dim 2", pair, function(x, y) return pg.cat({x, y}, 2) end)
    forward("stack dim 3", pair, function(x, y) return pg.stack({x, y}, 3) end)
    forward("transpose copy", function() return pg.randn(LARGE) end,
      function(x) return x:t():contiguous() end)
    forward("permute copy 0231", function() return pg.randn(64, 64, 28, 28) end,
      function(x) return x:permute(1, 3, 4, 2):contiguous() end)
    forward("permute copy 0312", function() return pg.randn(64, 28, 28, 64) end,
      function(x) return x:permute(1, 4, 2, 3):contiguous() end)
    forward("permute copy 0213", function() return pg.randn(16, 128, 4, 64) end,
      function(x) return x:permute(1, 3, 2, 4):contiguous() end)
    forward("sort rows", function() return pg.randn(1024, 1024) end,
      function(x) return x:sort(2) end)
    forward("sort 1m", function() return pg.randn(1048576) end, function(x) return x:sort(1) end)
    forward("topk 10 of 1024", function() return pg.randn(1024, 1024) end,
      function(x) return x:topk(10, 2) end)
    both("cross_entropy both", function()
      return pg.randn(4096, 1000), pg.randint(1, 1000, {4096})
    end, F.cross_entropy)
    forward("randn 1m", function() end, function() return pg.randn(1048576) end)
    forward("rand 1m", function() end, function() return pg.rand(1048576) end)
    forward("randperm 1m", function() end, function() return pg.randperm(1048576) end)
    line("adam 10 parameters", function()
      local params = {}
      for i = 1, 10 do
        params[i] = nn.Parameter(pg.randn(512, 256))
        params[i].grad = pg.randn(512, 256)
      end
      local opt = pg.optim.Adam(params, {lr = 1e-3})
      return function() opt:step() end
    end)
    line("clip and adam 10 parameters", function()
      local params = {}
      for i = 1, 10 do
        params[i] = nn.Parameter(pg.randn(512, 256))
        params[i].grad = pg.randn(512, 256)
      end
      local opt = pg.optim.Adam(params, {lr = 1e-3})
      return function()
        local _ <close> = pg.scope()
        nn.utils.clip_grad_norm_(params, 1)
        opt:step()
      end
    end)

    for _, s in ipairs {{1024, 1024, 1024}, {512, 512, 512}, {256, 256, 256}, {64, 64, 64},
      {128, 512, 784}, {128, 10, 512}, {4096, 64, 64}, {16, 1024, 1024}, {1, 1024, 1024},
      {1024, 1, 1024}} do
      local m, n, k = table.unpack(s)
      forward(("sgemm %dx%dx%d"):format(m, n, k), function()
        return pg.randn(m, k), pg.randn(k, n)
      end, pg.matmul, 2 * m * n * k)
    end
    for _, s in ipairs {{64, 1, 32, 28, 5, 1}, {64, 32, 32, 28, 5, 1}, {64, 64, 64, 14, 5, 1},
      {64, 128, 128, 7, 5, 1}, {64, 3, 64, 32, 3, 1}, {32, 64, 64, 32, 3, 1},
      {64, 128, 128, 16, 3, 1}, {64, 256, 256, 8, 3, 1}, {64, 64, 128, 32, 1, 1},
      {64, 64, 128, 32, 3, 2}, {64, 256, 64, 16, 1, 1}, {8, 3, 64, 112, 7, 2}} do
      local n, c, d, h, k, stride = table.unpack(s)
      forward(("conv %d %d->%d %dx%d k%d s%d"):format(n, c, d, h, h, k, stride), function()
        return last(n, c, h, h), pg.randn(d, c, k, k), pg.randn(d)
      end, function(x, w, b) return F.conv2d(x, w, b, stride, k // 2) end,
        2 * n * c * d * k * k * (h // stride) ^ 2)
    end
    return list
  end,
}
