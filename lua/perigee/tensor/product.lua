--- Products and distances made of matmul, mul and sum; einsum.
-- Relies on tensor/define. Spec: spec/tensor/product_spec.lua.

local define = require "perigee.tensor.define"
local core = require "perigee.core"

local ops = core.ops
local fail, whole_dim, shape_text = define.fail, define.dim, define.shape_text
define = define.define

local function size_of(list)
  local n = 1
  for _, k in ipairs(list) do n = n * k end
  return n
end

define {
  "inner",
  "input: tensor; other: tensor",
  "Sum of products over the last dims: y[i.., j..] = sum_p input[i.., p] other[j.., p].",
  function(a, b)
    if a:dim() == 0 or b:dim() == 0 then return ops.mul(a, b) end
    local n = a:size(-1)
    if n ~= b:size(-1) then
      fail("argument 'other': expected the last size of input %s, got %s", shape_text(a),
        shape_text(b))
    end
    local left = table.move(a.shape, 1, a:dim() - 1, 1, {})
    local right = table.move(b.shape, 1, b:dim() - 1, 1, {})
    local y = ops.matmul(ops.reshape(a, size_of(left), n), ops.t(ops.reshape(b, size_of(right), n)))
    return ops.reshape(y, table.move(right, 1, #right, #left + 1, left))
  end,
}

define {
  "vdot",
  "input: tensor; other: tensor",
  "Inner product of two vectors, y = sum_p input[p] other[p].",
  function(a, b) return ops.dot(a, b) end,
}

define {
  "trace",
  "input: tensor",
  "Sum of the diagonal of a matrix.",
  function(x)
    if x:dim() ~= 2 then fail("argument 'input': expected 2 dims, got %s", shape_text(x)) end
    return ops.sum(ops.diagonal(x))
  end,
}

local function cross(a, b, dim)
  local function cycle(x, k) return ops.roll(x, -k, dim) end
  return ops.sub(ops.mul(cycle(a, 1), cycle(b, 2)), ops.mul(cycle(a, 2), cycle(b, 1)))
end

local function cross_dim(a, b, dim)
  local shapes = ("%s and %s"):format(shape_text(a), shape_text(b))
  if a:dim() ~= b:dim() then
    fail("argument 'other': expected as many dims as input %s, got %s", shape_text(a),
      shape_text(b))
  end
  if not dim then
    for i = 1, a:dim() do
      if a:size(i) == 3 and b:size(i) == 3 then return i end
    end
    fail("argument 'input': expected a dim of size 3 in both, got %s", shapes)
  end
  dim = whole_dim(dim, a:dim())
  if a:dim() == 0 or a:size(dim) ~= 3 or b:size(dim) ~= 3 then
    fail("argument 'dim': expected a dim of size 3 in both, got dim %d of %s", dim, shapes)
  end
  return dim
end

define {
  "cross",
  "input: tensor; other: tensor; dim: dim?",
  "Cross product of the vectors along dim, by default the first of size 3.",
  function(a, b, dim)
    return cross(a, b, cross_dim(a, b, dim))
  end,
}
define {
  "linalg.cross",
  "input: tensor; other: tensor; dim: dim = -1",
  "Cross product of the vectors along dim; the other dims broadcast.",
  function(a, b, dim)
    return cross(a, b, cross_dim(a, b, dim))
  end,
  room = "linalg",
}

define {
  "kron",
  "input: tensor; other: tensor",
  "Kronecker product: every element of input times all of other, laid out as blocks.",
  function(a, b)
    local nd = math.max(a:dim(), b:dim())
    local left, right, shape = {}, {}, {}
    for i = 1, nd do
      local at_a, at_b = i - nd + a:dim(), i - nd + b:dim()
      local m, n = at_a >= 1 and a:size(at_a) or 1, at_b >= 1 and b:size(at_b) or 1
      left[2 * i - 1], left[2 * i] = m, 1
      right[2 * i - 1], right[2 * i] = 1, n
      shape[i] = m * n
    end
    if nd > 4 then
      fail("argument 'input': expected at most 4 dims in both, got %s and %s", shape_text(a),
        shape_text(b))
    end
    return ops.reshape(ops.mul(ops.reshape(a, left), ops.reshape(b, right)), shape)
  end,
}

define {
  "tensordot",
  "a: tensor; b: tensor; dims: any = 2",
  "Sum of products over the last dims of a and the first of b, or over the dims {of a, of b}.",
  function(a, b, dims)
    local from_a, from_b = {}, {}
    if math.type(dims) and math.tointeger(dims) then
      if dims < 0 or dims > math.min(a:dim(), b:dim()) then
        fail("argument 'dims': expected 0..%d, got %d", math.min(a:dim(), b:dim()), dims)
      end
      for i = 1, dims do
        from_a[i], from_b[i] = a:dim() - dims + i, i
      end
    elseif type(dims) == "table" and type(dims[1]) == "table" and type(dims[2]) == "table" then
      for i, d in ipairs(dims[1]) do from_a[i] = whole_dim(d, a:dim(), "dims") end
      for i, d in ipairs(dims[2]) do from_b[i] = whole_dim(d, b:dim(), "dims") end
    else
      fail("argument 'dims': expected an integer or two lists of dims, got %s", type(dims))
    end
    if #from_a ~= #from_b then
      fail("argument 'dims': expected as many dims of b as of a, %d, got %d", #from_a, #from_b)
    end
    local gone_a, gone_b, inner = {}, {}, 1
    for i = 1, #from_a do
      local da, db = from_a[i], from_b[i]
      if a:size(da) ~= b:size(db) then
        fail("argument 'dims': expected dims of equal size, got dim %d of %s and dim %d of %s", da,
          shape_text(a), db, shape_text(b))
      end
      gone_a[da], gone_b[db] = true, true
      inner = inner * a:size(da)
    end
    local order_a, order_b, rows, cols = {}, {}, {}, {}
    for d = 1, a:dim() do
      if not gone_a[d] then order_a[#order_a + 1], rows[#rows + 1] = d, a:size(d) end
    end
    for _, d in ipairs(from_a) do order_a[#order_a + 1] = d end
    for _, d in ipairs(from_b) do order_b[#order_b + 1] = d end
    for d = 1, b:dim() do
      if not gone_b[d] then order_b[#order_b + 1], cols[#cols + 1] = d, b:size(d) end
    end
    local y = ops.matmul(ops.reshape(ops.permute(a, order_a), size_of(rows), inner),
      ops.reshape(ops.permute(b, order_b), inner, size_of(cols)))
    return ops.reshape(y, table.move(cols, 1, #cols, #rows + 1, rows))
  end,
}

-- Scaled sums of products, beta input + alpha (..); beta 0 ignores input.
local function add_scaled(x, beta, product, alpha)
  if alpha ~= 1 then product = ops.mul(product, alpha) end
  if beta == 0 then return product end
  if beta ~= 1 then x = ops.mul(x, beta) end
  return ops.add(x, product)
end

define {
  "addmv",
  "input: tensor; mat: tensor; vec: tensor; beta: number = 1; alpha: number = 1",
  "beta input + alpha mat vec for a matrix and a vector.",
  function(x, mat, vec, beta, alpha) return add_scaled(x, beta, ops.mv(mat, vec), alpha) end,
}
define {
  "addr",
  "input: tensor; vec1: tensor; vec2: tensor; beta: number = 1; alpha: number = 1",
  "beta input + alpha vec1 vec2^T for two vectors.",
  function(x, u, v, beta, alpha) return add_scaled(x, beta, ops.outer(u, v), alpha) end,
}
define {
  "addbmm",
  "input: tensor; batch1: tensor; batch2: tensor; beta: number = 1; alpha: number = 1",
  "beta input + alpha times the sum of the products of two batches of matrices.",
  function(x, a, b, beta, alpha)
    return add_scaled(x, beta, ops.sum(ops.bmm(a, b), 1), alpha)
  end,
}

--- The cheapest order of a product of matrices with these sizes (matrix i is sizes[i] x
-- sizes[i + 1]), by dynamic programming.
local function chain(list)
  local n, sizes, cost, cut = #list, {}, {}, {}
  for i, x in ipairs(list) do
    sizes[i], sizes[i + 1] = x:size(1), x:size(2)
    cost[i], cut[i] = {[i] = 0}, {}
  end
  for len = 2, n do
    for i = 1, n - len + 1 do
      local j = i + len - 1
      for k = i, j - 1 do
        local c = cost[i][k] + cost[k + 1][j] + sizes[i] * sizes[k + 1] * sizes[j + 1]
        if not cost[i][j] or c < cost[i][j] then cost[i][j], cut[i][j] = c, k end
      end
    end
  end
  local function product(i, j)
    if i == j then return list[i] end
    local k = cut[i][j]
    return ops.matmul(product(i, k), product(k + 1, j))
  end
  return product(1, n)
end

local function multi_dot(list)
  local n = #list
  if n < 2 then fail("argument 'tensors': expected at least two tensors, got %d", n) end
  list = table.move(list, 1, n, 1, {})
  local row, column = list[1]:dim() == 1, list[n]:dim() == 1
  if row then list[1] = ops.unsqueeze(list[1], 1) end
  if column then list[n] = ops.unsqueeze(list[n], 2) end
  for i, x in ipairs(list) do
    if x:dim() ~= 2 then
      fail("argument 'tensors': expected 2 dims at %d, got %s", i, shape_text(x))
    end
    if i > 1 and list[i - 1]:size(2) ~= x:size(1) then
      fail("argument 'tensors': expected [%d x *] to follow %s, got %s as tensor %d",
        list[i - 1]:size(2), shape_text(list[i - 1]), shape_text(x), i)
    end
  end
  local y = chain(list)
  if column then y = ops.select(y, 2, 1) end
  return row and ops.select(y, 1, 1) or y
end

define {
  "chain_matmul",
  "matrices: loose",
  "Product of two or more matrices in the cheapest order.",
  multi_dot,
}
define {
  "linalg.multi_dot",
  "tensors: tensors",
  "Product of two or more matrices in the cheapest order; the first and the last may be vectors.",
  multi_dot,
  room = "linalg",
}

define {
  "dist",
  "input: tensor; other: tensor; p: number = 2",
  "The p-norm of input - other.",
  function(a, b, p) return ops.norm(ops.sub(a, b), p) end,
}

--- Square root, 0 where x is negative, whose gradient is zero where x is not positive.
local function safe_sqrt(x)
  local none = ops.le(x, 0)
  return ops.where(none, 0, ops.sqrt(ops.where(none, 1, x)))
end

define {
  "cdist",
  "x1: tensor; x2: tensor; p: number = 2; compute_mode: use_mm_for_euclid_dist_if_necessary|"
    .. "use_mm_for_euclid_dist|donot_use_mm_for_euclid_dist = use_mm_for_euclid_dist_if_necessary",
  "p-norm distances of all rows of x1 to all rows of x2, y[.., i, j] = |x1[.., i] - x2[.., j]|_p; "
    .. "p = 2 by a matrix product where one has more than 25 rows.",
  function(a, b, p, mode)
    if a:dim() < 2 or b:dim() < 2 or a:size(-1) ~= b:size(-1) then
      fail("argument 'x2': expected rows as long as those of x1 %s, got %s", shape_text(a),
        shape_text(b))
    end
    if p ~= p or p < 0 then fail("argument 'p': expected at least 0, got %g", p) end
    local many = a:size(-2) > 25 or b:size(-2) > 25
    if p == 2 and (mode == "use_mm_for_euclid_dist"
        or many and mode == "use_mm_for_euclid_dist_if_necessary") then
      local square = ops.add(ops.sum(ops.square(a), -1, true),
        ops.transpose(ops.sum(ops.square(b), -1, true), -2, -1))
      return safe_sqrt(ops.sub(square, ops.mul(ops.matmul(a, ops.transpose(b, -2, -1)), 2)))
    end
    local gap = ops.sub(ops.unsqueeze(a, -2), ops.unsqueeze(b, -3))
    if p == 0 then return ops.sum(ops.clamp(ops.ceil(ops.abs(gap)), nil, 1), -1) end
    if a:size(-1) == 0 then return ops.sum(gap, -1) end
    if p == 2 then return safe_sqrt(ops.sum(ops.square(gap), -1)) end
    if p == 1 then return ops.sum(ops.abs(gap), -1) end
    return ops.norm(gap, p, -1)
  end,
  full = true,
}

define {
  "renorm",
  "input: tensor; p: number; dim: dim; maxnorm: number",
  "Input with every slice along dim scaled down to a p-norm of at most maxnorm.",
  function(x, p, dim, most)
    local nd, others = x:dim(), {}
    if nd < 2 then fail("argument 'input': expected at least 2 dims, got %s", shape_text(x)) end
    dim = whole_dim(dim, nd)
    for i = 1, nd do
      if i ~= dim then others[#others + 1] = i end
    end
    local long = ops.gt(ops.norm(ops.detach(x), p, others, true), most)
    local size = ops.norm(ops.where(long, x, 0), p, others, true) -- others get no gradient by it
    return ops.mul(x, ops.where(long, ops.div(most, ops.add(size, 1e-7)), 1))
  end,
}

-- einsum ------------------------------------------------------------------------------------------

--- Labels of one term; "..." becomes {} at its place. fail names what is wrong.
local function read_term(text, k)
  local labels, at, dots = {}, 1, false
  text = text:gsub("%s", "")
  while at <= #text do
    if text:sub(at, at + 2) == "..." then
      if dots then
        fail("argument 'equation': expected one ellipsis in a term, got '%s' as term %d", text, k)
      end
      dots, labels[#labels + 1], at = true, "...", at + 3
    else
      local letter = text:sub(at, at)
      if not letter:find "%a" then
        fail("argument 'equation': expected letters, '...', ',' and '->', got '%s' in '%s'", letter,
          text)
      end
      labels[#labels + 1], at = letter, at + 1
    end
  end
  return labels, dots
end

--- The labels of operand k with its ellipsis spelled out: dim i from the right is "...i".
local function spell(labels, dots, x, k)
  local extra = x:dim() - (#labels - (dots and 1 or 0))
  if extra < 0 or (extra > 0 and not dots) then
    fail("argument 'operands': expected %d dims, as its term has labels, got %s as operand %d",
      #labels - (dots and 1 or 0), shape_text(x), k)
  end
  local out = {}
  for _, label in ipairs(labels) do
    if label == "..." then
      for i = extra, 1, -1 do out[#out + 1] = "..." .. i end
    else
      out[#out + 1] = label
    end
  end
  return out, dots and extra or 0
end

--- Repeated labels become a diagonal.
local function diagonals(x, labels)
  local i = 1
  while i <= #labels do
    local twin
    for k = i + 1, #labels do
      if labels[k] == labels[i] then twin = k break end
    end
    if twin then
      if x:size(i) ~= x:size(twin) then
        fail("argument 'operands': expected one size for label '%s' in one operand, got %d and %d",
          labels[i], x:size(i), x:size(twin))
      end
      x = ops.diagonal(x, 0, i, twin) -- it becomes the last dim
      local label = table.remove(labels, twin)
      table.remove(labels, i)
      labels[#labels + 1] = label
    else
      i = i + 1
    end
  end
  return x
end

local function set_of(list)
  local set = {}
  for i, label in ipairs(list) do set[label] = i end
  return set
end

--- x summed over the labels that `keep` refuses.
local function sum_out(x, labels, keep)
  local dims, left = {}, {}
  for i, label in ipairs(labels) do
    if keep(label) then left[#left + 1] = label else dims[#dims + 1] = i end
  end
  return #dims > 0 and ops.sum(x, dims) or x, left
end

--- x without the dims of size 1 whose label has another size in the other operand.
local function drop_ones(x, labels, other, places)
  for i = #labels, 1, -1 do
    local at = places[labels[i]]
    if at and x:size(i) == 1 and other:size(at) ~= 1 then
      x = ops.select(x, i, 1)
      table.remove(labels, i)
    end
  end
  return x
end

--- One operand of two: its sum of products over the labels that only the two have and that
-- `needed` does not.
local function contract(a, la, b, lb, needed)
  la, lb = table.move(la, 1, #la, 1, {}), table.move(lb, 1, #lb, 1, {})
  a = drop_ones(a, la, b, set_of(lb))
  b = drop_ones(b, lb, a, set_of(la))
  local in_a, in_b = set_of(la), set_of(lb)
  a, la = sum_out(a, la, function(l) return needed[l] or in_b[l] end)
  b, lb = sum_out(b, lb, function(l) return needed[l] or in_a[l] end)
  in_a, in_b = set_of(la), set_of(lb)
  local batch, left, right, inner = {}, {}, {}, {}
  for _, l in ipairs(la) do
    local group = not in_b[l] and left or needed[l] and batch or inner
    group[#group + 1] = l
  end
  for _, l in ipairs(lb) do
    if not in_a[l] then right[#right + 1] = l end
  end
  local function arranged(x, places, ...)
    local order, sizes = {}, {}
    for i, group in ipairs {...} do
      local n = 1
      for _, l in ipairs(group) do
        order[#order + 1] = places[l]
        n = n * x:size(places[l])
      end
      sizes[i] = n
    end
    return ops.reshape(ops.permute(x, order), sizes)
  end
  local shape, labels = {}, {}
  for _, item in ipairs {{batch, a, in_a}, {left, a, in_a}, {right, b, in_b}} do
    for _, l in ipairs(item[1]) do
      labels[#labels + 1], shape[#shape + 1] = l, item[2]:size(item[3][l])
    end
  end
  local x, y
  if #batch == 0 then
    x, y = arranged(a, in_a, left, inner), arranged(b, in_b, inner, right)
  else
    x, y = arranged(a, in_a, batch, left, inner), arranged(b, in_b, batch, inner, right)
  end
  return ops.reshape(#inner == 0 and ops.mul(x, y) or ops.matmul(x, y), shape), labels
end

--- Labels of the result where the equation names none: those that stand once, in order, behind the
-- ellipsis.
local function implied(terms, extra)
  local count, letters, labels = {}, {}, {}
  for _, term in ipairs(terms) do
    for _, l in ipairs(term) do
      if not l:find("...", 1, true) then count[l] = (count[l] or 0) + 1 end
    end
  end
  for l, n in pairs(count) do
    if n == 1 then letters[#letters + 1] = l end
  end
  table.sort(letters)
  for i = extra, 1, -1 do labels[#labels + 1] = "..." .. i end
  return table.move(letters, 1, #letters, #labels + 1, labels)
end

local function einsum(equation, operands)
  local left, right = equation:match "^(.-)%->(.*)$"
  left = left or equation
  local terms, dotted, k = {}, {}, 0
  for text in (left .. ","):gmatch "(.-)," do
    k = k + 1
    terms[k], dotted[k] = read_term(text, k)
  end
  if k ~= #operands then
    fail("argument 'operands': expected %d for the equation '%s', got %d", k, equation, #operands)
  end
  local extra, list, sizes = 0, {}, {}
  for i, x in ipairs(operands) do
    local labels, n = spell(terms[i], dotted[i], x, i)
    extra = math.max(extra, n)
    terms[i] = table.move(labels, 1, #labels, 1, {})
    x = diagonals(x, labels)
    for d, l in ipairs(labels) do
      local size, known = x:size(d), sizes[l]
      if known and known ~= size and known ~= 1 and size ~= 1 then
        fail("argument 'operands': expected size %d for label '%s', got %d in operand %d", known, l,
          size, i)
      end
      sizes[l] = known and known ~= 1 and known or size
    end
    list[i] = {x, labels}
  end
  local wanted
  if right then
    wanted = {}
    for _, l in ipairs((read_term(right, k + 1))) do
      if l == "..." then
        for i = extra, 1, -1 do wanted[#wanted + 1] = "..." .. i end
      else
        wanted[#wanted + 1] = l
      end
    end
    local seen = {}
    for _, l in ipairs(wanted) do
      if seen[l] then
        fail("argument 'equation': expected labels of the result once, got '%s' twice", l)
      end
      if not sizes[l] then
        fail("argument 'equation': expected labels of operands in the result, got '%s'", l)
      end
      seen[l] = true
    end
  else
    wanted = implied(terms, extra)
  end
  local in_result = set_of(wanted)
  local x, labels = list[1][1], list[1][2]
  if #list > 1 then
    for i = 2, #list do
      local needed = set_of(wanted)
      for later = i + 1, #list do
        for _, l in ipairs(list[later][2]) do needed[l] = true end
      end
      x, labels = contract(x, labels, list[i][1], list[i][2], needed)
    end
  end
  x, labels = sum_out(x, labels, function(l) return in_result[l] end)
  local places, order = set_of(labels), {}
  for i, l in ipairs(wanted) do order[i] = places[l] end
  local still = true
  for i, at in ipairs(order) do still = still and at == i end
  return still and x or ops.permute(x, order)
end

define {
  "einsum",
  "equation: string; operands: loose",
  "Sum of products over labelled dims: 'bij,bjk->bik'; a label twice in a term takes the diagonal, "
    .. "'...' stands for leading dims that broadcast, labels missing behind -> are summed.",
  einsum,
}
