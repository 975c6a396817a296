--- Linear algebra made of the decompositions in C: norms, ranks, powers, least squares.
-- Relies on tensor/define. Spec: spec/tensor/linalg_spec.lua.

local define = require "perigee.tensor.define"
local core = require "perigee.core"
local util = require "perigee.util"

local ops = core.ops
local fail, whole_dim, shape_text = define.fail, define.dim, define.shape_text
define = define.define

local EPS = {float32 = 2.0 ^ -23, float64 = 2.0 ^ -52}

local function want_matrices(x, square)
  if x:dim() < 2 then
    fail("argument 'A': expected a matrix or a batch of matrices, got %s", shape_text(x))
  end
  if square and x:size(-1) ~= x:size(-2) then
    fail("argument 'A': expected square matrices, got %s", shape_text(x))
  end
end

local function want_float(x, name)
  if not x.dtype:find "float" then
    fail("argument '%s': expected a floating dtype, got %s", name, x.dtype)
  end
end

local show = util.show

-- Norms -------------------------------------------------------------------------------------------

local function vector_norm(x, ord, dim, keepdim, dtype)
  if dtype then x = ops.to(x, dtype) end
  want_float(x, "x")
  return ops.norm(x, {p = ord, dim = dim, keepdim = keepdim})
end

local function matrix_norm(x, ord, dim, keepdim, dtype)
  if dtype then x = ops.to(x, dtype) end
  want_float(x, "A")
  want_matrices(x)
  if type(dim) ~= "table" or #dim ~= 2 then
    fail("argument 'dim': expected two dims, got %s", type(dim) == "table" and #dim or show(dim))
  end
  local rows, cols = whole_dim(dim[1], x:dim()), whole_dim(dim[2], x:dim())
  if rows == cols then fail("argument 'dim': expected two different dims, got %d twice", rows) end
  local y
  if ord == "fro" then
    return ops.norm(x, {p = 2, dim = {rows, cols}, keepdim = keepdim})
  elseif ord == "nuc" or ord == 2 or ord == -2 then
    local s = ops["linalg.svdvals"](ops.movedim(x, {rows, cols}, {-2, -1}))
    y = ord == "nuc" and ops.sum(s, -1) or ord == 2 and ops.amax(s, -1) or ops.amin(s, -1)
  elseif ord == 1 or ord == -1 or ord == math.huge or ord == -math.huge then
    local along, over = rows, cols
    if math.abs(ord) ~= 1 then along, over = cols, rows end
    y = ops.sum(ops.abs(x), along, true)
    y = (ord > 0 and ops.amax or ops.amin)(y, over, true)
    return keepdim and y or ops.squeeze(y, {rows, cols})
  else
    fail("argument 'ord': expected 'fro', 'nuc', 1, -1, 2, -2, math.huge or -math.huge, got %s",
      show(ord))
  end
  if not keepdim then return y end
  local low, high = math.min(rows, cols), math.max(rows, cols)
  return ops.unsqueeze(ops.unsqueeze(y, low), high)
end

define {
  "linalg.vector_norm",
  "x: tensor; ord: number = 2; dim: integers?; keepdim: boolean = false; dtype: dtype?",
  "(sum |x|^ord)^(1/ord) over dim, or over all elements; ord may be 0, math.huge, -math.huge.",
  vector_norm,
  room = "linalg",
}

define {
  "linalg.matrix_norm",
  "A: tensor; ord: any = fro; dim: integers = {-2, -1}; keepdim: boolean = false; dtype: dtype?",
  "Norm of every matrix: 'fro', 'nuc' (sum of singular values), 2 and -2 (largest and smallest), 1 "
    .. "and -1 (columns), math.huge and -math.huge (rows).",
  matrix_norm,
  room = "linalg",
}

local function norm(x, ord, dim, keepdim, dtype)
  local dims = type(dim) == "table" and #dim or dim and 1 or nil
  if ord == nil and (dims == nil or dims > 0) then
    return vector_norm(x, 2, dim, keepdim, dtype)
  elseif dims == 2 or (dims == nil and x:dim() == 2) then
    return matrix_norm(x, ord, dim or {1, 2}, keepdim, dtype)
  elseif dims == 1 or (dims == nil and x:dim() == 1) then
    if type(ord) ~= "number" then
      fail("argument 'ord': expected a number for vectors, got %s", show(ord))
    end
    return vector_norm(x, ord, dim, keepdim, dtype)
  end
  fail("argument 'dim': expected one or two dims for ord %s and input %s, got another count",
    show(ord), shape_text(x))
end

define {
  "linalg.norm",
  "A: tensor; ord: any?; dim: integers?; keepdim: boolean = false; dtype: dtype?",
  "Norm of vectors (one dim) or matrices (two dims): see vector_norm and matrix_norm; "
    .. "without ord the "
    .. "root of the sum of squares.",
  norm,
  room = "linalg",
}

define {
  "linalg.cond",
  "A: tensor; p: any?",
  "Condition number of every matrix in a matrix norm, |A| |A^-1|; by default the ratio of "
    .. "the largest "
    .. "and the smallest singular value.",
  function(x, p)
    want_matrices(x, p ~= nil and math.abs(tonumber(p) or 1) ~= 2)
    if p == nil or p == 2 or p == -2 then
      local s = ops["linalg.svdvals"](x)
      local largest, smallest = ops.select(s, -1, 1), ops.select(s, -1, -1)
      if p == -2 then return ops.div(smallest, largest) end
      return ops.div(largest, smallest)
    end
    return ops.mul(matrix_norm(x, p, {-2, -1}), matrix_norm(ops["linalg.inv"](x), p, {-2, -1}))
  end,
  room = "linalg",
}

-- Ranks and least squares -------------------------------------------------------------------------

local function rank_of(x, atol, rtol, hermitian, tol)
  if tol then
    if atol or rtol then
      fail("argument 'tol': expected nothing beside atol and rtol, got %g", tol)
    end
    atol, rtol = tol, 0
  end
  want_float(x, "A")
  want_matrices(x, hermitian)
  local s
  if hermitian then s = ops.abs(ops["linalg.eigvalsh"](x))
  else s = ops["linalg.svdvals"](x) end
  s = ops.detach(s)
  if s:size(-1) == 0 then
    return ops.sum(ops.to(s, "int64"), -1)
  end
  if not rtol then
    rtol = atol and atol > 0 and 0 or EPS[x.dtype] * math.max(x:size(-1), x:size(-2))
  end
  local least = ops.clamp(ops.mul(ops.amax(s, -1, true), rtol), atol or 0)
  return ops.sum(ops.to(ops.gt(s, least), "int64"), -1)
end

define {
  "linalg.matrix_rank",
  "A: tensor; atol: number?; rtol: number?; hermitian: boolean = false; tol: number?",
  "How many singular values (eigenvalues by magnitude, if hermitian) of every matrix exceed "
    .. "max(atol, rtol times the largest), or tol alone.",
  rank_of,
  nodiff = true, room = "linalg", full = true,
}

define {
  "linalg.lstsq",
  "A: tensor; B: tensor; rcond: number?; driver: gelsy|gels|gelsd|gelss = gelsy",
  "X of smallest norm that minimises |A X - B|, and what PyTorch's driver of that name gives: the "
    .. "residuals' squares (full rank, more rows than columns), the rank, the singular values.",
  function(a, b, rcond, driver)
    want_float(a, "A")
    want_matrices(a)
    local m, n, nd = a:size(-2), a:size(-1), a:dim()
    local vector = b:dim() == nd - 1
    for i = 1, vector and nd - 1 or 0 do vector = vector and a:size(i) == b:size(i) end
    if vector then b = ops.unsqueeze(b, -1) end
    if b:dim() < 2 or b:size(-2) ~= m then
      fail("argument 'B': expected as many rows as A %s, got %s", shape_text(a), shape_text(b))
    end
    local x = ops.matmul(ops["linalg.pinv"](a, {rtol = rcond}), b)
    local rank = rank_of(a, nil, rcond)
    local residuals = ops.zeros(0, {dtype = a.dtype})
    if m > n and driver ~= "gelsy" and ops.all(ops.eq(rank, n)):item() then
      residuals = ops.sum(ops.square(ops.sub(ops.matmul(a, x), b)), -2)
      if vector then residuals = ops.squeeze(residuals, -1) end
    end
    if vector then x = ops.squeeze(x, -1) end
    local values = (driver == "gelsd" or driver == "gelss") and ops["linalg.svdvals"](ops.detach(a))
      or ops.zeros(0, {dtype = a.dtype})
    if driver == "gels" then rank = ops.zeros(0, {dtype = "int64"}) end
    return x, residuals, rank, values
  end,
  full = true, room = "linalg",
}

-- rcond is the older name of pinv's rtol.
local pinv = ops["linalg.pinv"]
ops["linalg.pinv"] = function(...)
  local given = table.pack(...)
  local last = given[given.n]
  if type(last) == "table" and getmetatable(last) == nil and last.rcond ~= nil then
    local options = {}
    for key, value in pairs(last) do options[key == "rcond" and "rtol" or key] = value end
    if last.rtol ~= nil then
      fail("linalg.pinv: argument 'rcond': expected it once, got rtol beside it")
    end
    given[given.n] = options
  end
  return pinv(table.unpack(given, 1, given.n))
end

-- Powers ------------------------------------------------------------------------------------------

local function power(x, n)
  want_matrices(x, true)
  if n == 0 then
    return ops.clone(ops.expand(ops.eye(x:size(-1), {dtype = x.dtype}), x.shape))
  elseif n < 0 then
    x, n = ops["linalg.inv"](x), -n
  end
  local y
  while true do
    if n % 2 == 1 then y = y and ops.matmul(y, x) or x end
    n = n // 2
    if n == 0 then return y end
    x = ops.matmul(x, x)
  end
end

for name, room in pairs {["linalg.matrix_power"] = "linalg", matrix_power = false} do
  define {
    name,
    "A: tensor; n: integer",
    "The n-th power of every square matrix; a negative one of its inverse.",
    power,
    room = room or nil,
  }
end

-- Names outside of pg.linalg ----------------------------------------------------------------------

for name, twin in pairs {inverse = "linalg.inv", det = "linalg.det", slogdet = "linalg.slogdet"} do
  define {
    name,
    "input: tensor",
    ("As %s."):format(twin),
    function(x) return ops[twin](x) end,
  }
end

define {
  "pinverse",
  "input: tensor; rcond: number = 1e-15",
  "As linalg.pinv with singular values up to rcond times the largest as zero.",
  function(x, rcond) return ops["linalg.pinv"](x, {rtol = rcond}) end,
}

define {
  "logdet",
  "input: tensor",
  "Logarithm of the determinant of every matrix, NaN where that is negative.",
  function(x)
    local sign, log = ops["linalg.slogdet"](x)
    return ops.where(ops.lt(sign, 0), 0 / 0, log)
  end,
}

define {
  "cholesky",
  "input: tensor; upper: boolean = false",
  "As linalg.cholesky.",
  function(x, upper) return ops["linalg.cholesky"](x, upper) end,
}

local function cholesky_solve(b, l, upper)
  local solve, turned = ops["linalg.solve_triangular"], ops.transpose(l, -2, -1)
  if upper then return solve(l, solve(turned, b, false), true) end
  return solve(turned, solve(l, b, false), true)
end

define {
  "cholesky_solve",
  "input: tensor; L: tensor; upper: boolean = false",
  "X with A X = input, from the Cholesky factor of A.",
  function(b, l, upper)
    want_matrices(l, true)
    return cholesky_solve(b, l, upper)
  end,
}

define {
  "cholesky_inverse",
  "L: tensor; upper: boolean = false",
  "The inverse of A from its Cholesky factor.",
  function(l, upper)
    want_matrices(l, true)
    return cholesky_solve(ops.eye(l:size(-1), {dtype = l.dtype}), l, upper)
  end,
}

-- Words in the place of a norm's p ----------------------------------------------------------------

local p_norm = ops.norm

local function norm_of(x, p, ...)
  if type(p) == "table" and type(p.p) == "string" then
    return norm_of(x, p.p, p.dim, p.keepdim)
  elseif p == "fro" then
    return p_norm(x, 2, ...)
  elseif p == "nuc" then
    local dim, keepdim = ...
    return ops["linalg.matrix_norm"](x, "nuc", dim or {-2, -1}, keepdim)
  end
  return p_norm(x, p, ...)
end
ops.norm, core.Tensor.norm = norm_of, norm_of
