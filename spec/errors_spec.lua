-- Wrong calls over the whole surface: each message names function, argument, what was expected and
-- what came. Relies on nothing but the public API. Sources: all of core and lua.

local H = require "spec.helper"
local pg = require "perigee"
local nn, optim, data = pg.nn, pg.optim, pg.data
local F, S = nn.functional, optim.lr_scheduler

local function t(...) return pg.zeros(...) end
local function labels(list) return pg.tensor(list, {dtype = "int64"}) end
local function weight() return pg.ones(2, {requires_grad = true}) end

-- What is wrong, the call, and what its message must hold, plainly, in this order.
local CASES = {
  -- shapes
  {"inner sizes", function() pg.matmul(t(32, 10), t(12, 5)) end, "matmul",
    "[32 x 10] and [12 x 5]"},
  {"broadcasting", function() return t(3, 4) + t(5) end, "add", "[3 x 4] and [5]"},
  {"a mask", function() t(3, 4):masked_fill(t(5):bool(), 0) end, "masked_fill", "[3 x 4] and [5]"},
  {"view", function() t(2, 3):view(4, 2) end, "view", "[2 x 3]", "6 elements", "[4 x 2]"},
  {"expand", function() t(2, 3):expand(4, 3) end, "expand", "[2 x 3]", "[4 x 3]"},
  {"cat", function() pg.cat({t(2, 3), t(2, 4)}, 1) end, "cat", "tensor 2", "[2 x 4]", "[2 x 3]",
    "dim 1"},
  {"stack", function() pg.stack {t(2), t(3)} end, "stack", "tensor 2", "[3]", "[2]"},
  {"split", function() t(2, 3):split({1, 1}, 2) end, "split", "add up to 2", "dim 2 has 3"},
  {"einsum", function() pg.einsum("ij,jk->ik", t(2, 3), t(4, 5)) end, "einsum", "'j'", "4", "3"},
  {"an assigned value", function() t(3, 4)[{ {}, 2 }] = t(5) end, "setitem", "[5]", "[3]"},
  {"a channel count", function() F.conv2d(t(1, 3, 8, 8), t(4, 2, 3, 3)) end, "conv2d",
    "[4 x 2 x 3 x 3]", "expects 2 channels", "[1 x 3 x 8 x 8]"},
  {"features", function() nn.Linear(3, 4)(t(2, 5)) end, "linear", "expected an input with 3",
    "[2 x 5]", "in layer Linear"},
  {"a kernel too large", function() nn.MaxPool2d(9)(t(1, 1, 4, 4)) end, "max_pool2d", "kernel of 9",
    "[1 x 1 x 4 x 4]"},
  {"running statistics", function() F.batch_norm(t(2, 3), t(4), t(3)) end, "batch_norm",
    "'running_mean'", "expected [3]", "got [4]"},
  {"one value a channel", function() nn.BatchNorm1d(3)(t(1, 3)) end, "batch_norm",
    "expected more than one value", "got [1 x 3]"},
  {"count of labels", function() F.cross_entropy(t(4, 3), labels {1, 2}) end, "cross_entropy",
    "labels [2]", "[4 x 3]", "expected [4]"},
  {"features and centers", function() nn.CenterLoss(3, 2)(t(2, 5), labels {1, 2}) end,
    "center_loss", "[2 x 5]", "[3 x 2]"},
  {"input of a recurrent layer", function() nn.LSTM(5, 7)(t(4, 3, 6)) end, "LSTM", "'input'",
    "expected input_size 5", "got 6"},
  {"a state dict", function() nn.Linear(2, 3):load_state_dict {weight = t(3, 3), bias = t(3)} end,
    "load_state_dict", "weight", "expected [3 x 2]", "got [3 x 3]"},
  {"lengths of fields", function() data.TensorDataset {x = t(4), y = t(3)} end, "TensorDataset",
    "'x' has 4", "'y' has 3"},
  -- dtypes and kinds
  {"an index of floats", function() t(2, 3):gather(2, t(2, 1)) end, "gather", "'index'",
    "expected int64", "got float32"},
  {"labels of floats", function() F.nll_loss(t(4, 3), t(4)) end, "nll_loss", "'target'",
    "expected int64", "got float32"},
  {"a condition of floats", function() pg.where(t(2), t(2), t(2)) end, "where", "'condition'",
    "expected uint8 or bool", "got float32"},
  {"no such dtype", function() t(2):to "float31" end, "to", "'dtype'", "float31"},
  {"text for a tensor", function() pg.exp "a" end, "exp", "'input'", "expected a tensor",
    "got 'a'"},
  {"text for an operand", function() return t(2) + "a" end, "add", "'other'",
    "expected a tensor or a number", "got 'a'"},
  {"text for a number", function() nn.CenterLoss(3, 2, {alpha = "x"}) end, "CenterLoss", "'alpha'",
    "expected a number", "got 'x'"},
  {"a number for a path", function() pg.load(3) end, "load", "'path'", "expected a string",
    "got integer"},
  {"a number among layers", function() nn.Sequential(nn.Linear(2, 3), 4) end, "Sequential",
    "child 2", "expected a module", "got integer"},
  {"a number for a dataset", function() data.DataLoader(1) end, "DataLoader", "expected a dataset",
    "got integer"},
  -- ranges
  {"a dim", function() t(2, 3):sum(3) end, "sum", "dim 3", "expected 1..2 or -2..-1"},
  {"a second dim", function() t(2, 3):transpose(1, 3) end, "transpose", "dim1 3", "1..2"},
  {"a row", function() return t(2, 3)[5] end, "indexing", "5", "dim 1", "expected 1..2"},
  {"half an index", function() return t(2, 3)[3.5] end, "indexing", "expected an integer", "3.5"},
  {"an index in a tensor", function() t(2, 3):index_select(1, labels {3}) end, "index_select",
    "index 3", "position 1", "expected 1..2"},
  {"label 0", function() F.cross_entropy(t(4, 3), labels {1, 2, 0, 1}) end, "cross_entropy",
    "'target'", "row 3", "label 0", "expected 1..3"},
  {"a class too many", function() nn.CenterLoss(3, 2)(t(2, 2), labels {1, 4}) end, "center_loss",
    "label 4", "row 2", "1..3"},
  {"a word too many", function() nn.Embedding(5, 2)(labels {6}) end, "embedding", "index 6",
    "expected 1..5"},
  {"k", function() t(2, 3):topk(5, 2) end, "topk", "'k'", "expected 0..3", "got 5"},
  {"no chunks", function() t(2, 3):chunk(0) end, "chunk", "'chunks'", "positive", "got 0"},
  {"a negative size", function() t(-1) end, "zeros", "negative size", "[-1]"},
  {"a step of nothing", function() pg.arange(1, 10, 0) end, "arange", "1 to 10", "by 0"},
  {"low above high", function() pg.randint(5, 1, {2}) end, "randint", "expected low <= high",
    "got 5 and 1"},
  {"a probability", function() nn.Dropout(1.5) end, "Dropout", "'p'", "expected 0 to 1", "got 1.5"},
  {"a learning rate", function() optim.SGD({weight()}, {lr = -1}) end, "SGD", "'lr'",
    "expected at least 0", "got -1"},
  {"a beta", function() optim.Adam({weight()}, {betas = {1.5, 0.9}}) end, "Adam", "'betas'",
    "expected 0 to below 1", "got 1.5"},
  {"a norm", function() nn.utils.clip_grad_norm_({t(2)}, -1) end, "clip_grad_norm_", "'max_norm'",
    "expected at least 0", "got -1"},
  {"groups", function() nn.Conv2d(3, 8, 3, {groups = 2}) end, "Conv2d", "in_channels 3",
    "groups 2"},
  {"heads", function() nn.MultiheadAttention(7, 2) end, "MultiheadAttention", "embed_dim 7",
    "num_heads 2"},
  -- missing, too many, unknown
  {"no argument", function() pg.exp() end, "exp", "'input' is missing", "expected a tensor"},
  {"steps", function() pg.linspace(0, 1) end, "linspace", "'steps' is missing", "an integer"},
  {"out_features", function() nn.Linear(3) end, "Linear", "'out_features' is missing",
    "an integer"},
  {"step_size", function() S.StepLR(optim.SGD({weight()}, {lr = 1})) end, "StepLR",
    "'step_size' is missing"},
  {"too many", function() t(3):exp(1, 2, 3) end, "exp", "expected at most 1", "got 4"},
  {"an option of an op", function() t(2, 3):sum {keepdm = true} end, "sum", "'keepdm'",
    "did you mean 'keepdim'"},
  {"an option of a layer", function() nn.Linear(3, 4, {bais = false}) end, "Linear", "'bais'",
    "did you mean 'bias'"},
  {"an option of an optimizer", function() optim.SGD({weight()}, {momentm = 1}) end, "SGD",
    "'momentm'", "did you mean 'momentum'"},
  {"an option of a loader", function()
    data.DataLoader(data.TensorDataset {x = t(4)}, {batch_sizes = 2})
  end, "DataLoader", "'batch_sizes'", "did you mean 'batch_size'"},
  {"a reduction", function() F.mse_loss(t(2), t(2), {reduction = "avg"}) end, "mse_loss",
    "'reduction'", "none|mean|sum", "got 'avg'"},
  {"a preset", function() nn.CenterLoss(3, 2, {preset = "keas"}) end, "CenterLoss", "'preset'",
    "keras|", "got 'keas'"},
  {"a form of gelu", function() F.gelu(t(2), {approximate = "sigmoid"}) end, "gelu",
    "'approximate'", "none|tanh", "got 'sigmoid'"},
  {"an optimizer", function() return optim.Adm end, "optim", "'Adm'", "did you mean 'Adam'"},
  {"a loss", function() nn.Linear(2, 1):compile {loss = "nope"} end, "compile", "'nope'", "mse"},
  -- state: released, freed, not allowed
  {"a released tensor", function()
    local x = t(2)
    x:release()
    return x + 1
  end, "add", "'input'", "tensor was released"},
  {"a tensor of a closed scope", function()
    local x
    do
      local _ <close> = pg.scope()
      x = t(2):exp()
    end
    return x:sum()
  end, "sum", "'input'", "released when its scope closed"},
  {"a freed graph", function()
    local loss = weight():sum()
    loss:backward()
    loss:backward()
  end, "sum", "backward ran through this graph before", "retain_graph"},
  {"backward of a constant", function() t(2):backward() end, "backward", "requires grad"},
  {"backward of many", function() weight():exp():backward() end, "backward", "gradient of its own",
    "[2]"},
  {"a leaf in place", function() weight():add_(1) end, "add", "leaf that requires grad", "no_grad"},
  {"item of many", function() t(2, 3):item() end, "item", "expected a tensor of one element",
    "[2 x 3]"},
  {"fit before compile", function() nn.Linear(2, 1):fit(1) end, "fit", "not compiled"},
  {"ragged rows", function() pg.tensor {{1, 2}, {3}} end, "tensor", "ragged", "expected 2",
    "got 1"},
  -- files
  {"an ending", function() pg.save("x.foo", t(2)) end, "save", "x.foo", ".npy"},
  {"a data set that is not there", function() data.mnist {root = "/nowhere"} end, "data.mnist",
    "/nowhere", "train-images-idx3-ubyte"},
}

describe("errors", function()
  for _, case in ipairs(CASES) do
    it(("%s: %s"):format(case[3], case[1]), function()
      local ok, message = pcall(case[2])
      assert.is_false(ok, "no error was raised")
      message = tostring(message)
      local at = 1
      for i = 3, #case do
        local first, last = message:find(case[i], at, true)
        assert.is_truthy(first, ("%q lacks %q"):format(message, case[i]))
        at = last + 1
      end
    end)
  end

  it("of files come as nil and a message", function()
    local value, message = pg.load "/nowhere.npy"
    assert.is_nil(value)
    assert.is_truthy(message:find("/nowhere.npy", 1, true))
    local path = os.tmpname() .. ".npy"
    local file = assert(io.open(path, "wb"))
    file:write "\x93NUMPY\1\0\4\0{}  "
    file:close()
    value, message = pg.load(path)
    os.remove(path)
    assert.is_nil(value)
    assert.is_truthy(message:find(path, 1, true))
  end)

  it("point at the script's line", function()
    H.raises(function() optim.SGD({weight()}, {momentm = 1}) end, "^spec/errors_spec.lua:%d+: ")
    H.raises(function() S.StepLR(optim.SGD({weight()}, {lr = 1})) end,
      "^spec/errors_spec.lua:%d+: ")
    H.raises(function() nn.utils.clip_grad_norm_({t(2)}, -1) end, "^spec/errors_spec.lua:%d+: ")
    H.raises(function() nn.Linear(3) end, "^spec/errors_spec.lua:%d+: ")
    H.raises(function() return t(2, 3)[5] end, "^spec/errors_spec.lua:%d+: ")
  end)
end)
