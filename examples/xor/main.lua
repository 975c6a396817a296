--- Exclusive or: the smallest problem that a single layer cannot solve.
-- A net of 2-8-1 learns it by a loop written by hand; prints the loss, the four answers and the
-- straight lines that the hidden units draw.

local pg = require "perigee"
local nn, optim = pg.nn, pg.optim

local option = pg.cli.options {
  "Exclusive or, learned by a net with one hidden layer.",
  {"hidden", 8, "units of the hidden layer"},
  {"steps", 500, "steps of Adam, each on all four cases"},
  {"lr", 0.05, "learning rate"},
  {"seed", 7, "initial weights"},
  {"out", "", "folder for loss.png; none is drawn without"},
}

pg.manual_seed(option.seed)
local input = pg.tensor {{0, 0}, {0, 1}, {1, 0}, {1, 1}}
local target = pg.tensor {{0}, {1}, {1}, {0}}

local net = nn.Sequential {
  nn.Linear(2, option.hidden), nn.Tanh(), nn.Linear(option.hidden, 1),
}
print(net)
local opt = optim.Adam(net:parameters(), {lr = option.lr})

local curve = {}
local started = pg.clock()
for step = 1, option.steps do
  local _ <close> = pg.scope()
  local loss = nn.functional.binary_cross_entropy_with_logits(net(input), target)
  opt:zero_grad()
  loss:backward()
  opt:step()
  curve[step] = loss:item()
  if step == 1 or step % math.max(1, option.steps // 5) == 0 then
    print(("step %4d  loss %.5f"):format(step, curve[step]))
  end
end
print(("%.0f steps/s"):format(option.steps / (pg.clock() - started)))

local answer = net(input):sigmoid()
local right = 0
for i = 1, 4 do
  local a, b = input[{i, 1}]:item(), input[{i, 2}]:item()
  local p, wanted = answer[{i, 1}]:item(), target[{i, 1}]:item()
  if (p > 0.5) == (wanted == 1) then right = right + 1 end
  print(("%d xor %d = %d, learned %.4f"):format(a, b, wanted, p))
end
print(("%d of 4 right"):format(right))

if option.out ~= "" then
  assert(pg.plot.line({loss = curve}, {
    title = "Exclusive or", xlabel = "step", ylabel = "binary cross entropy", log = true,
  }):save(option.out .. "/loss.png"))
  print("wrote loss.png to " .. option.out)
end
