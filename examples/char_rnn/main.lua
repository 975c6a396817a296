--- A character-level LSTM that learns to write like the text it reads (after Karpathy, 2015).
-- Reads tinyshakespeare where it is found, or any text; prints the validation loss and a sample as
-- it learns; leaves char_rnn.perigee in the folder --out.

local pg = require "perigee"
local nn, optim = pg.nn, pg.optim

local option = pg.cli.options {
  "A character-level LSTM that writes like the text it has read.",
  {"text", "", "a text file; by default tinyshakespeare"},
  {"hidden", 256, "width of the LSTM"},
  {"layers", 1, "layers of the LSTM"},
  {"batch", 32, "places of the text that are read at once"},
  {"length", 64, "characters that gradients flow through"},
  {"steps", 3000, "optimizer steps"},
  {"lr", 5e-3, "Adam's rate at first; it falls to 0 along a cosine"},
  {"every", 500, "steps between reports"},
  {"sample", 300, "characters of a sample"},
  {"temperature", 0.8, "below 1: likelier characters"},
  {"seed", 1, "weights and samples"},
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
local seen = pg.unique(bytes)
local characters, number = {}, pg.ones({256}, {dtype = "int64"})
for i, byte in ipairs(seen:totable()) do
  characters[i] = string.char(byte)
  number[byte + 1] = i
end
local codes = number:index_select(1, bytes + 1)
local split = #codes * 9 // 10
print(("%d characters, %d different ones; the last tenth is for validation"):format(#codes,
  #characters))

-- [steps x lanes]: the text cut into equal pieces that are read side by side.
local function lanes(codes_part, count)
  local rows = #codes_part // count
  return codes_part[{{1, rows * count}}]:view(count, rows):t():contiguous()
end

-- The model --------------------------------------------------------------------------------------

local CharRNN = nn.Module:extend "CharRNN"

function CharRNN:init(vocabulary, hidden, layers)
  self.embedding = nn.Embedding(vocabulary, 64)
  self.lstm = nn.LSTM(64, hidden, {num_layers = layers})
  self.logits = nn.Linear(hidden, vocabulary)
end

-- x: length x lanes. The scores of what comes next, and the state behind the last character.
function CharRNN:forward(x, state)
  local y, after = self.lstm(self.embedding(x), state)
  return self.logits(y), after
end

pg.manual_seed(option.seed)
local model = CharRNN(#characters, option.hidden, option.layers)
local count = 0
for _, p in ipairs(model:parameters()) do count = count + p:numel() end
print(model)
print(("%d parameters"):format(count))

-- Nats per character, from position `at` of the lanes on.
local function loss_at(part, at, length, state)
  local scores, after = model(part[{{at, at + length - 1}}], state)
  local targets = part[{{at + 1, at + length}}]
  return nn.functional.cross_entropy(scores:view(-1, #characters), targets:reshape(-1)), after
end

local function validate(part)
  local _ <close> = pg.no_grad()
  local _ <close> = pg.scope()
  local total, seen_count, state = 0, 0, nil
  model:eval()
  for at = 1, #part - 1, 200 do
    local length = math.min(200, #part - at)
    local loss, after = loss_at(part, at, length, state)
    state = after
    total, seen_count = total + loss:item() * length, seen_count + length
  end
  model:train()
  return total / seen_count
end

local function write(length)
  local _ <close> = pg.no_grad()
  local _ <close> = pg.scope()
  local x, state, words = number[("\n"):byte() + 1]:view(1, 1), nil, {}
  for i = 1, length do
    local scores
    scores, state = model(x, state)
    x = pg.multinomial((scores:view(-1) / option.temperature):softmax(1), 1):view(1, 1)
    words[i] = characters[x:item()]
  end
  return table.concat(words)
end

-- Learning ---------------------------------------------------------------------------------------

local train = lanes(codes[{{1, split}}], option.batch)
local test = lanes(codes[{{split + 1, -1}}], math.min(option.batch, 32))
local length = math.min(option.length, #train - 1)
local opt = optim.Adam(model:parameters(), {lr = option.lr})
local schedule = optim.lr_scheduler.CosineAnnealingLR(opt, option.steps)
local at, state, mean = 1, nil, nil
local start = pg.clock()
local val
for step = 1, option.steps do
  do
    local scope <close> = pg.scope()
    if at + length > #train then at, state = 1, nil end
    local loss, after = loss_at(train, at, length, state)
    opt:zero_grad()
    loss:backward()
    nn.utils.clip_grad_norm_(model:parameters(), 1)
    opt:step()
    schedule:step()
    state = {scope:keep(after[1]:detach()), scope:keep(after[2]:detach())}
    at = at + length
    mean = mean and 0.98 * mean + 0.02 * loss:item() or loss:item()
  end
  if step % option.every == 0 or step == option.steps then
    val = validate(test)
    print(("\nstep %d, %.0f s: training %.3f, validation %.3f nats a character"):format(step,
      pg.clock() - start, mean, val))
    print("| " .. write(option.sample):gsub("\n", "\n| "))
  end
end
if option.out ~= "" then assert(model:save(option.out .. "/char_rnn.perigee")) end
return val
