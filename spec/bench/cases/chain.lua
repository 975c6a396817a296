--- Chains of elementwise operations as scripts write them by hand, compiled: a gated activation,
-- the GELU by tanh, a Gaussian likelihood, an Adam update. "both" is forward and backward.

return {
  setup = function(pg)
    local parts = {}

    local function part(name, shape, inputs, grad, fn)
      local input, g, run
      local function start()
        pg.manual_seed(1)
        input = {}
        for i = 1, inputs do
          input[i] = i < 3 and pg.randn(shape) or pg.rand(shape) + 0.5
          input[i].requires_grad = grad
        end
        if grad then g = pg.randn(shape) end
        run = pg.compile(grad and function(...) fn(...):backward(g) end or fn)
      end
      parts[#parts + 1] = {name = name, step = function()
        if not run then start() end
        local _ <close> = pg.scope()
        for i = 1, grad and inputs or 0 do input[i].grad = nil end
        run(table.unpack(input))
      end}
    end

    local function swish(x) return x * x:sigmoid() end
    local function gelu(x)
      return 0.5 * x * (1 + ((x + 0.044715 * x * x * x) * 0.7978845608):tanh())
    end
    local function nll(x, y, s)
      local d = x - y
      return d * d / (2 * s * s) + s:log()
    end
    local function adam(p, g, m, v)
      local _ <close> = pg.no_grad()
      m:mul_(0.9):add_(g * 0.1)
      v:mul_(0.999):add_(g * g * 0.001)
      p:sub_(m / 0.9 * 0.01 / ((v / 0.99):sqrt() + 1e-8))
    end

    for _, size in ipairs {{"64k", {256, 256}}, {"1m", {1024, 1024}}, {"4m", {2048, 2048}}} do
      local tag, shape = table.unpack(size)
      for _, case in ipairs {{"swish", 1, swish}, {"gelu", 1, gelu}, {"nll", 3, nll}} do
        local name, inputs, fn = table.unpack(case)
        part(name .. " " .. tag, shape, inputs, false, fn)
        part(name .. " both " .. tag, shape, inputs, true, fn)
      end
      part("adam " .. tag, shape, 4, false, adam)
    end
    return parts
  end,
}
