-- Wrong calls over the whole surface: every message names the function, the argument, what was
-- expected and what came, in this order. Relies on nothing but the public API.
-- Sources: all of core and lua.

local H = require "spec.helper"
local pg = require "perigee"
local nn, optim, data = pg.nn, pg.optim, pg.data
local F, S, I = nn.functional, optim.lr_scheduler, nn.init

local function t(...) return pg.zeros(...) end
local function labels(list) return pg.tensor(list, {dtype = "int64"}) end
local function weight() return pg.ones(2, {requires_grad = true}) end
local function sgd() return optim.SGD({weight()}, {lr = 1}) end
local function set() return data.TensorDataset {x = t(4, 2), label = labels {1, 2, 1, 2}} end
local function compiled()
  return nn.Linear(2, 2):compile {optimizer = "SGD", loss = "cross_entropy"}
end

-- What is wrong, the call, and the four parts of its message: function, argument, what was
-- expected, what came.
local CASES = {
  -- products
  {"inner sizes", function() pg.matmul(t(3, 5), t(4, 2)) end, "matmul", "other",
    "[5 x *] to follow input [3 x 5]", "[4 x 2]"},
  {"inner sizes of a batch", function() pg.matmul(t(7, 3, 5), t(7, 4, 2)) end, "matmul", "other",
    "[* x 5 x *]", "[7 x 4 x 2]"},
  {"batches", function() pg.matmul(t(2, 3, 5), t(3, 5, 4)) end, "matmul", "other",
    "a batch that broadcasts with that of input [2 x 3 x 5]", "[3 x 5 x 4]"},
  {"a scalar", function() pg.matmul(t(3, 5), pg.tensor(1)) end, "matmul", "other", "at least 1 dim",
    "[]"},
  {"dims", function() pg.mm(t(3), t(3, 4)) end, "mm", "input", "2 dims", "[3]"},
  {"batches", function() pg.bmm(t(2, 3, 5), t(3, 5, 4)) end, "bmm", "mat2",
    "[2 x * x *] to follow input [2 x 3 x 5]", "[3 x 5 x 4]"},
  {"a vector", function() pg.mv(t(3, 5), t(4)) end, "mv", "vec", "[5] to follow input [3 x 5]",
    "[4]"},
  {"lengths", function() pg.dot(t(3), t(4)) end, "dot", "other", "[3] to follow input [3]", "[4]"},
  {"inner sizes", function() pg.addmm(t(3, 2), t(3, 5), t(4, 2)) end, "addmm", "mat2",
    "[5 x *] to follow mat1 [3 x 5]", "[4 x 2]"},
  {"what is added", function() pg.addmm(t(4), t(3, 5), t(5, 2)) end, "addmm", "input",
    "a shape that broadcasts to the product [3 x 2]", "[4]"},
  {"a label", function() pg.einsum("ij,jk->ik", t(2, 3), t(4, 5)) end, "einsum", "operands",
    "size 3 for label 'j'", "4 in operand 2"},
  {"operands", function() pg.einsum("ij,jk->ik", t(2, 3)) end, "einsum", "operands",
    "2 for the equation", "1"},
  {"a matrix that is not square", function() pg.linalg.inv(t(2, 3)) end, "linalg.inv", "A",
    "square matrices", "[2 x 3]"},
  {"a right side", function() pg.linalg.solve(pg.eye(3), t(2, 2)) end, "linalg.solve", "B",
    "[3 x *] to follow A [3 x 3]", "[2 x 2]"},
  -- broadcasting and elements
  {"broadcasting", function() return t(3, 4) + t(5) end, "add", "other",
    "a shape that broadcasts with input [3 x 4]", "[5]"},
  {"broadcasting in place", function() t(3):mul_(t(2, 3)) end, "mul_", "input",
    "[2 x 3] to hold the result in place", "[3]"},
  {"a mask", function() t(3, 4):masked_fill(t(5):bool(), 0) end, "masked_fill", "mask",
    "a shape that broadcasts with input [3 x 4]", "[5]"},
  {"a condition of floats", function() pg.where(t(2), t(2), t(2)) end, "where", "condition",
    "uint8 or bool", "float32"},
  {"text for a tensor", function() pg.exp "a" end, "exp", "input", "a tensor", "'a'"},
  {"text for an operand", function() return t(2) + "a" end, "add", "other",
    "a tensor or a number", "'a'"},
  {"a table for an operand", function() pg.atan2(t(2), {1}) end, "atan2", "other",
    "a tensor or a number", "a table"},
  {"a fraction into integers", function() labels({1, 2}):add_(0.5) end, "add_", "input",
    "float32 to hold the result in place", "int64"},
  {"zero among integers", function() return labels {4} // labels {0} end, "floor_divide", "other",
    "integers without a zero", "0"},
  {"a negative power", function() labels({2}):pow(-1) end, "pow", "exponent",
    "at least 0 for integers", "-1"},
  {"no bound", function() t(2):clamp() end, "clamp", "min", "a number or a tensor", "nothing"},
  {"no argument", function() pg.exp() end, "exp", "input", "a tensor", "nothing"},
  {"a composition in place", function() t(2):cumsum_(5) end, "cumsum_", "dim",
    "1..1 or -1..-1", "5"},
  {"new ones of nothing", function() t(2).new_ones(nil, 3) end, "new_ones", "self", "a tensor",
    "nothing"},
  {"a cast of nothing", function() t(2).double(7) end, "double", "self", "a tensor", "7"},
  {"more pieces than memory", function() t(4):tensor_split(2 ^ 53) end, "tensor_split",
    "indices_or_sections", "at most 65536 pieces", "9007199254740992"},
  -- reductions and order
  {"a dim", function() t(2, 3):sum(3) end, "sum", "dim", "1..2 or -2..-1", "3"},
  {"dim 0", function() t(2, 3):mean(0) end, "mean", "dim", "1..2 or -2..-1", "0"},
  {"a dim twice", function() t(2, 3):sum {1, -2} end, "sum", "dim", "each dim once", "[1 x -2]"},
  {"nothing to reduce", function() t(0):max(1) end, "max", "input", "elements to reduce in dim 1",
    "[0]"},
  {"text for a dim", function() t(2):softmax "x" end, "softmax", "dim", "an integer", "'x'"},
  {"two corrections", function() t(3):var(1, true, false, 1) end, "var", "correction",
    "nothing beside 'unbiased'", "1"},
  {"k", function() t(2, 3):topk(5, 2) end, "topk", "k", "0..3", "5"},
  {"a quantile", function() t(3):quantile(1.5) end, "quantile", "q", "values in 0..1", "1.5"},
  {"bins", function() t(3):histc(0) end, "histc", "bins", "at least 1", "0"},
  -- shapes
  {"view", function() t(2, 3):view(4, 2) end, "view", "shape",
    "sizes for the 6 elements of [2 x 3]", "[4 x 2]"},
  {"reshape", function() t(2, 3):reshape(4, 2) end, "reshape", "shape",
    "sizes for the 6 elements of [2 x 3]", "[4 x 2]"},
  {"unflatten", function() t(2, 6):unflatten(2, 4, 2) end, "unflatten", "sizes",
    "sizes for the 6 elements of [6]", "[4 x 2]"},
  {"expand", function() t(2, 3):expand(4, 3) end, "expand", "size",
    "a shape that input [2 x 3] expands to", "[4 x 3]"},
  {"broadcast_to", function() t(2, 3):broadcast_to(4, 3) end, "broadcast_to", "size",
    "a shape that input [2 x 3] expands to", "[4 x 3]"},
  {"permute", function() t(2, 3):permute(1) end, "permute", "dims", "all 2 dims of input [2 x 3]",
    "1"},
  {"a second dim", function() t(2, 3):transpose(1, 3) end, "transpose", "dim1", "1..2 or -2..-1",
    "3"},
  {"too many dims", function() t(2, 3, 4):t() end, "t", "input", "at most 2 dims", "[2 x 3 x 4]"},
  {"cat", function() pg.cat({t(2, 3), t(2, 4)}, 1) end, "cat", "tensors",
    "tensors like the first [2 x 3] but in dim 1", "[2 x 4] as tensor 2"},
  {"concat", function() pg.concat {t(2), 3} end, "concat", "tensors", "a tensor at 2", "3"},
  {"an empty list", function() pg.cat {} end, "cat", "tensors", "at least one tensor", "none"},
  {"stack", function() pg.stack {t(2), t(3)} end, "stack", "tensors",
    "tensors like the first [2]", "[3] as tensor 2"},
  {"split", function() t(2, 3):split({1, 1}, 2) end, "split", "split_size",
    "sizes that add up to 3", "2"},
  {"no chunks", function() t(2, 3):chunk(0) end, "chunk", "chunks", "a positive integer", "0"},
  {"narrow", function() t(5):narrow(1, 3, 4) end, "narrow", "length", "a part of the 5 elements",
    "4"},
  {"select", function() t(2, 3):select(2, 4) end, "select", "index", "1..3 or -3..-1", "4"},
  {"as_strided", function() t(4):as_strided({3, 3}, {2, 1}) end, "as_strided", "size",
    "sizes that stay within the 4 stored elements", "[3 x 3]"},
  {"pad", function() F.pad(t(2, 3), {3, 0}, "reflect") end, "pad", "pad",
    "-2..2 for dim 2 of [2 x 3]", "3, 0"},
  -- making
  {"a negative size", function() t(-1) end, "zeros", "size", "sizes of at least 0", "-1"},
  {"a size for all memory", function() pg.empty(2 ^ 40, 2 ^ 40) end, "empty", "size",
    "fewer elements than fill all memory", "[1099511627776 x 1099511627776]"},
  {"a table for a number", function() pg.full({2}, {}) end, "full", "fill_value", "a number",
    "nothing"},
  {"steps", function() pg.linspace(0, 1) end, "linspace", "steps", "an integer", "nothing"},
  {"a step of nothing", function() pg.arange(1, 10, 0) end, "arange", "step",
    "a finite number but 0", "0"},
  {"low above high", function() pg.randint(5, 1, {2}) end, "randint", "high",
    "at least low 5", "1"},
  {"no chance", function() pg.bernoulli(pg.tensor {0.5, 2}) end, "bernoulli", "input",
    "probabilities of 0..1", "2 at element 2"},
  {"ragged rows", function() pg.tensor {{1, 2}, {3}} end, "tensor", "data", "2 elements", "1"},
  {"text among numbers", function() pg.tensor {1, "x"} end, "tensor", "data", "numbers", "string"},
  {"no such dtype", function() t(2):to "float31" end, "to", "dtype", "a dtype", "'float31'"},
  {"no such dtype of new ones", function() pg.tensor({1}, {dtype = "x"}) end, "tensor", "dtype",
    "a dtype", "'x'"},
  {"gradients of integers", function() labels({1}):requires_grad_() end, "requires_grad_",
    "requires_grad", "false for a tensor that is not floating", "true for int64"},
  -- indexing and assignment
  {"a row", function() return t(2, 3)[5] end, "indexing", "index", "1..2 or -2..-1 in dim 1", "5"},
  {"row 0", function() return t(2, 3)[0] end, "indexing", "index", "1..2 or -2..-1 in dim 1", "0"},
  {"half an index", function() return t(2, 3)[3.5] end, "indexing", "index", "an integer", "3.5"},
  {"a range", function() return t(5)[{ {4, 2} }] end, "indexing", "index", "first <= last",
    "{4, 2}"},
  {"too many indices", function() return t(2, 3)[{1, 1, 1}] end, "indexing", "index",
    "at most 2 indices for [2 x 3]", "3"},
  {"a truth for an index", function() return t(2)[true] end, "indexing", "index",
    "an integer, a table or a tensor", "a boolean"},
  {"a field", function() return t(2).shpe end, "indexing", "key", "a field or method of tensors",
    "'shpe'"},
  {"an assigned value", function() t(3, 4)[{ {}, 2 }] = t(5) end, "assignment", "source",
    "a shape that broadcasts to the place [3]", "[5]"},
  {"assigned text", function() t(3)[1] = "x" end, "assignment", "value", "a tensor or a number",
    "'x'"},
  {"an assigned field", function() t(3).dtype = "int64" end, "assignment", "index",
    "requires_grad, grad or a part", "'dtype'"},
  {"an assigned gradient", function() t(3).grad = t(2) end, "assignment", "grad", "[3]", "[2]"},
  {"an index of floats", function() t(2, 3):gather(2, t(2, 1)) end, "gather", "index", "int64",
    "float32"},
  {"an index that is too long", function() t(2, 3):gather(2, labels {{1}, {1}, {1}}) end, "gather",
    "index", "at most the sizes of input [2 x 3] but in dim 2", "[3 x 1]"},
  {"an index in a tensor", function() t(2, 3):index_select(1, labels {3}) end, "index_select",
    "index", "1..2", "3 at position 1"},
  {"a source", function() t(2, 3):index_add(1, labels {1}, t(2, 3)) end, "index_add", "source",
    "[1 x 3] to follow input [2 x 3]", "[2 x 3]"},
  {"an index of a scatter", function() t(3):scatter(1, labels {0}, 1) end, "scatter", "index",
    "1..3", "0 at position 1"},
  -- nn.functional
  {"features", function() F.linear(t(2, 5), t(4, 3)) end, "linear", "input",
    "[* x 3] to follow weight [4 x 3]", "[2 x 5]"},
  {"a bias", function() F.linear(t(2, 3), t(4, 3), t(3)) end, "linear", "bias",
    "[4] to follow weight [4 x 3]", "[3]"},
  {"a channel count", function() F.conv2d(t(1, 3, 8, 8), t(4, 2, 3, 3)) end, "conv2d", "input",
    "2 channels for weight [4 x 2 x 3 x 3]", "[1 x 3 x 8 x 8]"},
  {"groups", function() F.conv2d(t(1, 3, 8, 8), t(4, 1, 3, 3), {groups = 2}) end, "conv2d",
    "groups", "a divisor of the 3 input and 4 output channels", "2"},
  {"a kernel too large", function() F.conv1d(t(1, 1, 4), t(1, 1, 5)) end, "conv1d", "weight",
    "a kernel that fits into input [1 x 1 x 4]", "[1 x 1 x 5]"},
  {"padding of a pool", function() F.max_pool2d(t(1, 1, 8, 8), 2, 2, 2) end, "max_pool2d",
    "padding", "at most half of the kernel of 2", "2"},
  {"sizes of a norm", function() F.layer_norm(t(2, 5), {3}) end, "layer_norm", "input",
    "its last sizes to be normalized_shape [3]", "[2 x 5]"},
  {"running statistics", function() F.batch_norm(t(2, 3), t(4), t(3)) end, "batch_norm",
    "running_mean", "[3], one a channel of [2 x 3]", "[4]"},
  {"half the statistics", function() F.batch_norm(t(2, 3), t(3)) end, "batch_norm", "running_var",
    "a tensor", "nothing"},
  {"groups of channels", function() F.group_norm(t(2, 5), 2) end, "group_norm", "num_groups",
    "a divisor of the channels of input [2 x 5]", "2"},
  {"a key", function() F.scaled_dot_product_attention(t(3, 4), t(5, 3), t(5, 4)) end,
    "scaled_dot_product_attention", "key", "[* x 4] to follow query [3 x 4]", "[5 x 3]"},
  {"a form of gelu", function() F.gelu(t(2), {approximate = "sigmoid"}) end, "gelu", "approximate",
    "one of none|tanh", "'sigmoid'"},
  {"halves", function() F.glu(t(2, 3)) end, "glu", "input", "an even size in dim 2", "[2 x 3]"},
  {"a factor", function() F.pixel_shuffle(t(1, 3, 2, 2), 2) end, "pixel_shuffle", "input",
    "a multiple of 4 in dim 2", "[1 x 3 x 2 x 2]"},
  -- losses
  {"a target", function() F.mse_loss(t(3, 1), t(3)) end, "mse_loss", "target",
    "the shape of input [3 x 1]", "[3]"},
  {"a reduction", function() F.mse_loss(t(2), t(2), {reduction = "avg"}) end, "mse_loss",
    "reduction", "one of none|mean|sum", "'avg'"},
  {"count of labels", function() F.cross_entropy(t(4, 3), labels {1, 2}) end, "cross_entropy",
    "target", "labels [4] to follow input [4 x 3]", "[2]"},
  {"label 0", function() F.cross_entropy(t(4, 3), labels {1, 2, 0, 1}) end, "cross_entropy",
    "target", "1..3", "label 0 in row 3"},
  {"labels of floats", function() F.nll_loss(t(4, 3), t(4)) end, "nll_loss", "target",
    "int64", "float32"},
  {"scores for probabilities", function() F.binary_cross_entropy(pg.tensor {2}, t(1)) end,
    "binary_cross_entropy", "input", "probabilities of 0..1", "1 others of 1"},
  {"a weight", function() F.binary_cross_entropy(t(2, 3), t(2, 3), t(2)) end,
    "binary_cross_entropy", "weight", "a shape that broadcasts to input [2 x 3]", "[2]"},
  {"a label of many", function() F.multi_margin_loss(t(2, 3), labels {1, 4}) end,
    "multi_margin_loss", "target", "1..3", "label 4 at element 2"},
  {"one target a row", function() F.cosine_embedding_loss(t(4, 3), t(4, 3), t(3)) end,
    "cosine_embedding_loss", "target", "[4] to follow input1 [4 x 3]", "[3]"},
  {"a negative variance", function() F.gaussian_nll_loss(t(2), t(2), pg.tensor {1, -1}) end,
    "gaussian_nll_loss", "var", "at least 0", "-1 at element 2"},
  -- layers
  {"out_features", function() nn.Linear(3) end, "Linear", "out_features", "an integer", "nothing"},
  {"no features", function() nn.Linear(3, -4) end, "Linear", "out_features", "at least", "-4"},
  {"text for a truth", function() nn.Linear(3, 4, "yes") end, "Linear", "bias", "true or false",
    "'yes'"},
  {"no input", function() nn.Linear(3, 4)() end, "Linear", "input", "1 tensor", "0"},
  {"groups of a layer", function() nn.Conv2d(3, 8, 3, {groups = 2}) end, "Conv2d", "groups",
    "a divisor of in_channels 3", "2"},
  {"a stride", function() nn.Conv2d(3, 8, 3, {padding = "same", stride = 2}) end, "Conv2d",
    "stride", "1 with padding 'same'", "2"},
  {"heads", function() nn.MultiheadAttention(7, 2) end, "MultiheadAttention", "num_heads",
    "a divisor of embed_dim 7", "2"},
  {"dims of images", function() nn.BatchNorm2d(3)(t(2, 3)) end, "BatchNorm2d", "input", "4 dims",
    "[2 x 3]"},
  {"one value a channel", function() nn.BatchNorm1d(3)(t(1, 3)) end, "batch_norm", "input",
    "more than one value per channel", "[1 x 3]"},
  {"a probability", function() nn.Dropout(1.5) end, "Dropout", "p", "0 to 1", "1.5"},
  {"a word too many", function() nn.Embedding(5, 2)(labels {6}) end, "embedding", "input", "1..5",
    "6 at position 1"},
  {"input of a recurrent layer", function() nn.LSTM(5, 7)(t(4, 3, 6)) end, "LSTM", "input",
    "input_size 5", "6"},
  {"features and centers", function() nn.CenterLoss(3, 2)(t(2, 5), labels {1, 2}) end,
    "center_loss", "features", "[* x 2] to follow centers [3 x 2]", "[2 x 5]"},
  {"a class too many", function() nn.CenterLoss(3, 2)(t(2, 2), labels {1, 4}) end, "center_loss",
    "labels", "1..3", "label 4 in row 2"},
  {"text for a number", function() nn.CenterLoss(3, 2, {alpha = "x"}) end, "CenterLoss", "alpha",
    "a number", "'x'"},
  {"a preset", function() nn.CenterLoss(3, 2, {preset = "keas"}) end, "CenterLoss", "preset",
    "one of", "'keas'"},
  {"a number among layers", function() nn.Sequential(nn.Linear(2, 3), 4) end, "Sequential",
    "child", "a module", "4 as child 2"},
  {"a cell's kind", function() nn.RNN(2, 3, {nonlinearity = "x"}) end, "RNN", "nonlinearity",
    "one of 'tanh', 'relu'", "'x'"},
  {"a divisor of heads", function() nn.TransformerEncoderLayer(6, 4) end, "TransformerEncoderLayer",
    "nhead", "a divisor of d_model 6", "4"},
  {"a state dict", function() nn.Linear(2, 3):load_state_dict {weight = t(3, 3), bias = t(3)} end,
    "load_state_dict", "state", "[3 x 2]", "[3 x 3]"},
  {"outputs of a graph", function() nn.Model(nn.Input {2}, {}) end, "nn.Model", "outputs",
    "at least one symbolic tensor", "none"},
  {"a size of an input", function() nn.Input {0} end, "nn.Input", "shape",
    "positive integers", "0"},
  {"a gain", function() I.calculate_gain "x" end, "calculate_gain", "nonlinearity",
    "one of", "'x'"},
  {"a weight without fans", function() I.xavier_uniform_(t(3)) end, "xavier_uniform_", "tensor",
    "at least 2 dims", "[3]"},
  -- optimizers and schedulers
  {"a learning rate", function() optim.SGD({weight()}, {lr = -1}) end, "SGD", "lr", "at least 0",
    "-1"},
  {"text for a rate", function() optim.SGD({weight()}, {lr = "x"}) end, "SGD", "lr", "a number",
    "'x'"},
  {"a beta", function() optim.Adam({weight()}, {betas = {1.5, 0.9}}) end, "Adam", "betas",
    "0 to below 1", "1.5"},
  {"one beta", function() optim.Adam({weight()}, {betas = {0.5}}) end, "Adam", "betas",
    "a list of 2 numbers", "table"},
  {"no parameters", function() optim.Adam({}, {lr = 1}) end, "Adam", "params",
    "at least one parameter", "none"},
  {"a result for a parameter", function() optim.SGD({weight() * 2}, {lr = 1}) end, "SGD", "params",
    "leaves", "the result of an op, [2], as parameter 1"},
  {"a number for a parameter", function() optim.SGD({3}, {lr = 1}) end, "SGD", "params", "tensors",
    "3 as parameter 1"},
  {"a loss without closure", function() optim.LBFGS({weight()}):step() end, "LBFGS", "closure",
    "a function", "nothing"},
  {"a norm", function() nn.utils.clip_grad_norm_({t(2)}, -1) end, "clip_grad_norm_", "max_norm",
    "at least 0", "-1"},
  {"step_size", function() S.StepLR(sgd()) end, "StepLR", "step_size", "an integer", "nothing"},
  {"steps of nothing", function() S.StepLR(sgd(), 0) end, "StepLR", "step_size", "at least 1", "0"},
  {"text for gamma", function() S.ExponentialLR(sgd(), "x") end, "ExponentialLR", "gamma",
    "a number", "'x'"},
  {"a number for an optimizer", function() S.StepLR(3, 1) end, "StepLR", "optimizer",
    "an optimizer", "integer"},
  {"a number for a function", function() S.LambdaLR(sgd(), 3) end, "LambdaLR", "lr_lambda",
    "a function or a table", "3"},
  {"steps of a cycle", function() S.OneCycleLR(sgd(), 1) end, "OneCycleLR", "total_steps",
    "an integer", "nothing"},
  -- gradients
  {"a freed graph", function()
    local loss = weight():sum()
    loss:backward()
    loss:backward()
  end, "sum", "retain_graph", "true the first time", "false"},
  {"backward of a constant", function() t(2):backward() end, "backward", "self",
    "a tensor that requires grad", "one that does not"},
  {"backward of many", function() weight():exp():backward() end, "backward", "gradient",
    "one for a tensor of more than one element, [2]", "nothing"},
  {"a gradient's shape", function() weight():exp():backward(t(3)) end, "backward", "gradient",
    "the shape of the tensor, [2]", "[3]"},
  {"a leaf in place", function() weight():add_(1) end, "add_", "input",
    "a tensor that may change in place", "a leaf that requires grad"},
  {"an expanded tensor in place", function() t(1, 3):expand(2, 3):add_(1) end, "add_", "input",
    "a tensor that may change in place", "an expanded one"},
  {"inputs without gradient", function() pg.grad(weight():sum(), {t(2)}) end, "grad", "inputs",
    "tensors that require grad", "one without as input 1"},
  {"a number for a gradient", function() weight():sum():backward(3) end, "backward", "gradient",
    "a tensor or options", "3"},
  {"item of many", function() t(2, 3):item() end, "item", "self", "a tensor of one element",
    "[2 x 3]"},
  {"a released tensor", function()
    local x = t(2)
    x:release()
    return x + 1
  end, "add", "input", "a tensor", "one that was released"},
  {"a tensor of a closed scope", function()
    local x
    do
      local _ <close> = pg.scope()
      x = t(2):exp()
    end
    return x:sum()
  end, "sum", "input", "a tensor", "one that was released when its scope closed"},
  -- data, training, files
  {"lengths of fields", function() data.TensorDataset {x = t(4), y = t(3)} end, "TensorDataset",
    "fields", "4 rows as 'x' has", "3 in 'y'"},
  {"a number for a field", function() data.TensorDataset {x = 3} end, "TensorDataset", "fields",
    "tensors by name", "integer at 'x'"},
  {"a sample", function() set():get(5) end, "get", "i", "1..4", "5"},
  {"a range of samples", function() set():subset(3, 9) end, "subset", "last",
    "a range within 1..4", "3..9"},
  {"parts", function() data.random_split(set(), {1, 2}) end, "random_split", "lengths",
    "4 samples in all", "3"},
  {"a number for a dataset", function() data.DataLoader(1) end, "DataLoader", "set",
    "a dataset", "1"},
  {"a batch of nothing", function() data.DataLoader(set(), {batch_size = 0}) end, "DataLoader",
    "batch_size", "at least 1", "0"},
  {"a loss", function() nn.Linear(2, 1):compile {loss = "nope"} end, "compile", "loss",
    "the name of a loss", "'nope'"},
  {"a metric", function() nn.Linear(2, 1):compile {metrics = "nope"} end, "compile", "metrics",
    "the name of a metric", "'nope'"},
  {"an optimizer for compile", function() nn.Linear(2, 1):compile {optimizer = 3} end, "compile",
    "optimizer", "an optimizer", "3"},
  {"fit before compile", function() nn.Linear(2, 1):fit(set()) end, "fit", "self",
    "a compiled model", "one that is not compiled"},
  {"no epochs", function() compiled():fit(set(), {epochs = 0, verbose = 0}) end, "fit", "epochs",
    "at least 1", "0"},
  {"a field of the batch", function() compiled():fit({x = t(4, 2)}, {verbose = 0}) end, "fit",
    "data", "the batch field 'label'", "x"},
  {"text for data", function() compiled():fit("x", {verbose = 0}) end, "fit", "data", "a dataset",
    "'x'"},
  {"a number for a path", function() pg.load(3) end, "load", "path", "a string", "3"},
  {"a number for a tensor", function() pg.save("x.npy", 3) end, "save", "value", "a tensor",
    "3"},
  {"an ending", function() pg.save("x.foo", t(2)) end, "save", "path", "an ending of",
    "x.foo"},
  -- names that are not there
  {"a function", function() return pg.mtmul end, "pg", "name", "the name of a function", "'mtmul'"},
  {"an optimizer", function() return optim.Adm end, "optim", "name", "the name of an optimizer",
    "'Adm'"},
  {"a layer", function() return nn.Liner end, "nn", "name", "the name of a layer", "'Liner'"},
  {"an initialization", function() return I.unifrm_ end, "nn.init", "name",
    "the name of a function", "'unifrm_'"},
}

-- Options that are not there: the call, the function, the option, the nearest, and one that is.
local OPTIONS = {
  {function() t(2, 3):sum {keepdm = true} end, "sum", "keepdm", "keepdim", "dtype"},
  {function() pg.split(t(4), 2, {dmi = 1}) end, "split", "dmi", "dim", "split_size"},
  {function() pg.tensor({1}, {dtpe = "int64"}) end, "tensor", "dtpe", "dtype", "requires_grad"},
  {function() nn.Linear(3, 4, {bais = false}) end, "Linear", "bais", "bias", "out_features"},
  {function() nn.LSTM(3, 4, {num_layrs = 2}) end, "LSTM", "num_layrs", "num_layers", "dropout"},
  {function() optim.SGD({weight()}, {momentm = 1}) end, "SGD", "momentm", "momentum", "nesterov"},
  {function() S.StepLR(sgd(), 1, {gama = 2}) end, "StepLR", "gama", "gamma", "last_epoch"},
  {function() data.DataLoader(set(), {batch_sizes = 2}) end, "DataLoader", "batch_sizes",
    "batch_size", "shuffle"},
  {function() compiled():fit(set(), {epoch = 1}) end, "fit", "epoch", "epochs", "callbacks"},
  {function() nn.Linear(2, 1):compile {optimiser = 1} end, "compile", "optimiser", "optimizer",
    "metrics"},
  {function() weight():sum():backward {retain_graf = true} end, "backward", "retain_graf",
    "retain_graph", "create_graph"},
}

--- The message of a call that must fail, without the script's place; that must be there.
local function message_of(call)
  local ok, message = pcall(call)
  assert.is_false(ok, "no error was raised")
  local text = message:match "^spec/errors_spec.lua:%d+: (.*)$"
  assert.is_truthy(text, message)
  return text
end

--- Fails unless the parts stand in the message in this order, plainly.
local function has_parts(message, parts)
  local at = 1
  for _, part in ipairs(parts) do
    local first, last = message:find(part, at, true)
    assert.is_truthy(first, ("%q lacks %q"):format(message, part))
    at = last + 1
  end
end

describe("errors", function()
  it("cover at least 120 wrong calls", function() assert.is_true(#CASES >= 120) end)

  for i, case in ipairs(CASES) do
    it(("%s: %s (%d)"):format(case[3], case[1], i), function()
      local message = message_of(case[2])
      has_parts(message, {case[3], "'" .. case[4] .. "'", "expected " .. case[5], "got", case[6]})
      assert.is_truthy(message:find(case[3], 1, true) <= 14, message)
    end)
  end

  for _, case in ipairs(OPTIONS) do
    it(("%s: option %s"):format(case[2], case[3]), function()
      has_parts(message_of(case[1]), {case[2], "unknown option '" .. case[3] .. "'",
        "did you mean '" .. case[4] .. "'", "options are", case[5]})
    end)
  end

  it("count arguments", function()
    has_parts(message_of(function() t(3):exp(1, 2, 3) end), {"exp", "at most 1", "got 4"})
    has_parts(message_of(function() pg.diff(t(3), 1, 1, t(1), t(1), 7) end), {"diff", "at most 5",
      "got 6"})
    has_parts(message_of(function() S.ExponentialLR(sgd(), 1, 1, 1) end), {"ExponentialLR",
      "at most 2", "got 3"})
  end)

  it("of a layer name its path", function()
    local net = nn.Sequential {nn.Linear(2, 3, {name = "first"}), nn.Linear(4, 5)}
    has_parts(message_of(function() net(t(1, 2)) end), {"linear", "'input'", "expected [* x 4]",
      "got [1 x 3]", "in layer"})
  end)

  it("of data sets name the place", function()
    H.raises(function() data.mnist {root = "/nowhere"} end, "data.mnist", "/nowhere",
      "train%-images%-idx3%-ubyte")
  end)

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
end)
