--- A small GPT: a causal transformer that learns to write like the text it reads, character by
-- character (Radford et al., 2019, in the size of Karpathy's nanoGPT for a CPU).
-- Reads tinyshakespeare where it is found, or any text; prints the validation loss and a sample as
-- it learns; leaves nano_gpt.perigee in the folder --out.

local pg = require "perigee"
local nn, optim = pg.nn, pg.optim

local option = pg.cli.options {
  "A causal transformer that writes like the text it has read.",
  {"text", "", "a text file; by default tinyshakespeare"},
  {"width", 128, "width of a token"},
  {"heads", 4, "heads of attention"},
  {"layers", 4, "blocks"},
  {"context", 64, "characters that the model sees"},
  {"batch", 32, "pieces of text in a step"},
  {"steps", 1500, "optimizer steps"},
  {"lr", 2e-3, "AdamW's highest rate; it rises for 100 steps and falls along a cosine"},
  {"every", 500, "steps between reports"},
  {"sample", 300, "characters of a sample"},
  {"temperature", 0.8, "below 1: likelier characters"},
  {"seed", 1, "weights, order of the text and samples"},
  {"out", "", "folder for the model; it is not kept without"},
}

-- The text as numbers ----------------------------------------------------------------------------

local function read_text()
  local places = option.text ~= "" and {option.text} or {
    (os.getenv "PERIGEE_DATA" or ".") .. "/tinyshakespeare/input.txt",
    "../shared/data/tinyshakespeare/input.txt",
  }
  for _, path in ipairs(places) do
    local file = io.open(path, "rb")
    if file then
      local text = file:read "a"
      file:close()
      return text
    end
  end
  error("there is no " .. table.concat(places, " and no ") .. "; give --text FILE", 0)
end

local text = read_text()
local bytes = pg.from_bytes(text, "uint8", {#text}):to "int64"
local characters, number = {}, pg.ones({256}, {dtype = "int64"})
for i, byte in ipairs(pg.unique(bytes):totable()) do
  characters[i] = string.char(byte)
  number[byte + 1] = i
end
local codes = number:index_select(1, bytes + 1)
local split = #codes * 9 // 10
local train, test = codes[{{1, split}}], codes[{{split + 1, -1}}]
local context = math.min(option.context, #test - 1)
print(("%d characters, %d different ones; the last tenth is for validation"):format(#codes,
  #characters))

-- The model --------------------------------------------------------------------------------------

local GPT = nn.Module:extend "GPT"

function GPT:init(vocabulary, width, heads, layers, length)
  self.token = nn.Embedding(vocabulary, width)
  self.position = nn.Embedding(length, width)
  self.blocks = nn.ModuleList()
  for _ = 1, layers do
    self.blocks:append(nn.TransformerEncoderLayer(width, heads, 4 * width, 0, "gelu",
      {batch_first = true, norm_first = true}))
  end
  self.norm = nn.LayerNorm(width)
  self.logits = nn.Linear(width, vocabulary, {bias = false})
  self:apply(function(module) -- GPT-2's: small, so that the sum of many blocks stays small
    if module.class_name == "Linear" or module.class_name == "Embedding" then
      nn.init.normal_(module.weight:detach(), 0, 0.02)
    end
  end)
end

-- x: n x length. The scores of what comes after each character.
function GPT:forward(x)
  local h = self.token(x) + self.position(pg.arange(1, x:size(2)))
  for _, block in ipairs(self.blocks) do h = block(h, {is_causal = true}) end
  return self.logits(self.norm(h))
end

pg.manual_seed(option.seed)
local model = GPT(#characters, option.width, option.heads, option.layers, context)
local count = 0
for _, p in ipairs(model:parameters()) do count = count + p:numel() end
print(("%d parameters in %d blocks"):format(count, option.layers))

-- Pieces of the text that start at these places, and what comes after each of their characters.
local function pieces(part, starts)
  local index = starts:view(-1, 1) + pg.arange(0, context)
  local all = part:index_select(1, index:view(-1)):view(-1, context + 1)
  return all[{{}, {1, -2}}], all[{{}, {2, -1}}]
end

local function loss_of(part, starts)
  local x, y = pieces(part, starts)
  return nn.functional.cross_entropy(model(x):view(-1, #characters), y:reshape(-1))
end

-- Nats per character over the whole of a text, piece by piece.
local function validate(part)
  local _ <close> = pg.no_grad()
  local total, n, per = 0, (#part - 1) // context, 64
  model:eval()
  for first = 0, n - 1, per do
    local _ <close> = pg.scope()
    local last = math.min(first + per, n) - 1
    local loss = loss_of(part, pg.arange(first, last) * context + 1)
    total = total + loss:item() * (last - first + 1)
  end
  model:train()
  return total / n
end

local function write(length)
  local _ <close> = pg.no_grad()
  local _ <close> = pg.scope()
  local x, words = number[("\n"):byte() + 1]:view(1, 1), {}
  model:eval()
  for i = 1, length do
    local scores = model(x)[{1, -1}]
    local code = pg.multinomial((scores / option.temperature):softmax(1), 1)
    words[i] = characters[code:item()]
    x = pg.cat({x, code:view(1, 1)}, 2)
    if x:size(2) > context then x = x[{{}, {-context, -1}}] end
  end
  model:train()
  return table.concat(words)
end

-- Learning ---------------------------------------------------------------------------------------

local opt = optim.AdamW(model:parameters(), {lr = option.lr, betas = {0.9, 0.99},
  weight_decay = 0.1})
local schedule = optim.lr_scheduler.LambdaLR(opt, function(step)
  local warm = math.min(1, (step + 1) / 100)
  return warm * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / option.steps)))
end)
local start, mean, val = pg.clock(), nil, nil
for step = 1, option.steps do
  do
    local _ <close> = pg.scope()
    local loss = loss_of(train, pg.randint(1, #train - context, {option.batch}))
    opt:zero_grad()
    loss:backward()
    nn.utils.clip_grad_norm_(model:parameters(), 1)
    opt:step()
    schedule:step()
    mean = mean and 0.98 * mean + 0.02 * loss:item() or loss:item()
  end
  if step % option.every == 0 or step == option.steps then
    val = validate(test)
    print(("\nstep %d, %.0f s: training %.3f, validation %.3f nats a character"):format(step,
      pg.clock() - start, mean, val))
    print("| " .. write(option.sample):gsub("\n", "\n| "))
  end
end
if option.out ~= "" then assert(model:save(option.out .. "/nano_gpt.perigee")) end
return val
