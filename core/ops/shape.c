/* Views, and what copies only where no view exists: reshape, permute, select, slices, unfold,
 * diagonal, as_strided and their writing counterparts; clone, casts, copy_. Relies on the shape
 * floor. Spec: spec/ops/shape_spec.lua. */
#include <string.h>

#include "autograd/op.h"

static pg_status want_a_dim(pg_call *c) {
  if (c->in[0]->nd > 0) return PG_OK;
  return pg_fail(c->ctx, PG_ESHAPE, "argument 'input': expected at least one dim, got []");
}

/* --- one shape for another ---------------------------------------------------------------------
 */
/* Output 0 has these sizes: a view of in[0] where one exists. The sizes multiply to its count. */
static pg_status out_reshaped(pg_call *c, int nd, const int64_t *shape) {
  int64_t stride[PG_MAX_DIMS];
  if (pg_view_strides(c->in[0], nd, shape, stride))
    return pg_out_view(c, 0, nd, shape, stride, c->in[0]->offset);
  return pg_out_shape(c, 0, (pg_dtype)c->in[0]->dtype, nd, shape);
}

static pg_status forward_reshape(pg_call *c) {
  pg_tensor *x = c->in[0], *y = c->out[0], *like_x;
  if (c->os[0].view) return PG_OK;
  PG_TRY(pg_tensor_alias(c->ctx, y, x->nd, x->shape, NULL, y->offset, &like_x));
  pg_status s = pg_tensor_copy(like_x, x);
  pg_tensor_unref(like_x);
  return s;
}

static pg_status backward_reshape(pg_call *c) {
  return pg_do(c->ctx, &c->gin[0], "view", "tl", c->gout[0], (int)c->meta[0].nd, c->meta[0].shape);
}

/* Copies v to shape with a -1 replaced, so that as many elements result as the nd sizes of `whole`
 * make. what: name of the argument. */
static pg_status fill_in(pg_call *c, const char *what, int n, const int64_t *v, int nd,
                         const int64_t *whole, int64_t *shape) {
  int64_t count = pg_numel_of(nd, whole);
  int open = -1;
  if (n > PG_MAX_DIMS)
    return pg_fail(c->ctx, PG_ESHAPE, "argument '%s': expected at most %d dims, got %d", what,
                   PG_MAX_DIMS, n);
  int64_t known = 1;
  bool fits = true;
  for (int i = 0; i < n; i++) {
    shape[i] = v[i];
    if (v[i] == -1 && open < 0) open = i;
    else if (v[i] < 0) fits = false;
    else if (v[i] && known > INT64_MAX / v[i]) fits = false;
    else known *= v[i];
  }
  if (fits && open >= 0) {
    fits = known > 0 && count % known == 0;
    if (fits) shape[open] = count / known;
  } else {
    fits = fits && known == count;
  }
  if (fits) return PG_OK;
  return pg_fail(c->ctx, PG_ESHAPE,
                 "argument '%s': expected sizes for the %lld elements of %s, got %s", what,
                 (long long)count, pg_shape_str_of(nd, whole).s, pg_shape_str_of(n, v).s);
}

static pg_status infer_view(pg_call *c) {
  const pg_tensor *x = c->in[0];
  int64_t shape[PG_MAX_DIMS];
  PG_TRY(fill_in(c, pg_arg_name(c, 0), c->arg[0].n, c->arg[0].v, x->nd, x->shape, shape));
  return out_reshaped(c, c->arg[0].n, shape);
}

static pg_status infer_view_as(pg_call *c) {
  const pg_tensor *x = c->in[0], *other = c->in[1];
  int64_t shape[PG_MAX_DIMS];
  PG_TRY(fill_in(c, pg_in_name(c, 1), other->nd, other->shape, x->nd, x->shape, shape));
  return out_reshaped(c, other->nd, shape);
}

static pg_status infer_flatten(pg_call *c) {
  const pg_tensor *x = c->in[0];
  int first, last, nd = 0;
  PG_TRY(pg_arg_dim(c, 0, x->nd, &first));
  PG_TRY(pg_arg_dim(c, 1, x->nd, &last));
  if (first > last)
    return pg_bad_arg(c, PG_EARG, 1, "a dim that does not come before start_dim %d", first + 1);
  int64_t shape[PG_MAX_DIMS], n = 1;
  for (int i = 0; i < first; i++) shape[nd++] = x->shape[i];
  for (int i = first; i <= last && i < x->nd; i++) n *= x->shape[i];
  shape[nd++] = n;
  for (int i = last + 1; i < x->nd; i++) shape[nd++] = x->shape[i];
  return out_reshaped(c, nd, shape);
}

static pg_status infer_unflatten(pg_call *c) {
  const pg_tensor *x = c->in[0];
  int dim, nd = 0, n = c->arg[1].n;
  PG_TRY(want_a_dim(c));
  PG_TRY(pg_arg_dim(c, 0, x->nd, &dim));
  int64_t shape[PG_MAX_DIMS], part[PG_MAX_DIMS];
  PG_TRY(fill_in(c, pg_arg_name(c, 1), n, c->arg[1].v, 1, &x->shape[dim], part));
  if (x->nd - 1 + n > PG_MAX_DIMS)
    return pg_bad_in(c, PG_ESHAPE, 0, "at most %d dims for %d sizes", PG_MAX_DIMS - n + 1, n);
  for (int i = 0; i < dim; i++) shape[nd++] = x->shape[i];
  for (int i = 0; i < n; i++) shape[nd++] = part[i];
  for (int i = dim + 1; i < x->nd; i++) shape[nd++] = x->shape[i];
  return out_reshaped(c, nd, shape);
}

static pg_status infer_squeeze(pg_call *c) {
  const pg_tensor *x = c->in[0];
  unsigned mask;
  int nd = 0;
  PG_TRY(pg_arg_dims(c, 0, x->nd, &mask));
  int64_t shape[PG_MAX_DIMS], stride[PG_MAX_DIMS];
  for (int i = 0; i < x->nd; i++) {
    if ((mask >> i & 1) && x->shape[i] == 1) continue;
    shape[nd] = x->shape[i];
    stride[nd++] = x->stride[i];
  }
  return pg_out_view(c, 0, nd, shape, stride, x->offset);
}

static pg_status infer_unsqueeze(pg_call *c) {
  const pg_tensor *x = c->in[0];
  int dim, nd = 0;
  PG_TRY(pg_arg_dim(c, 0, x->nd + 1, &dim));
  if (x->nd == PG_MAX_DIMS) return pg_bad_in(c, PG_ESHAPE, 0, "at most %d dims", PG_MAX_DIMS - 1);
  int64_t shape[PG_MAX_DIMS], stride[PG_MAX_DIMS];
  for (int i = 0; i <= x->nd; i++) {
    if (i == dim) {
      shape[nd] = 1;
      stride[nd++] = i < x->nd ? x->shape[i] * x->stride[i] : 1;
    }
    if (i == x->nd) break;
    shape[nd] = x->shape[i];
    stride[nd++] = x->stride[i];
  }
  return pg_out_view(c, 0, nd, shape, stride, x->offset);
}

/* --- dims in another order ---------------------------------------------------------------------
 */
static pg_status out_permuted(pg_call *c, const int *order) {
  const pg_tensor *x = c->in[0];
  int64_t shape[PG_MAX_DIMS] = {0}, stride[PG_MAX_DIMS] = {0};
  for (int i = 0; i < x->nd; i++) {
    shape[i] = x->shape[order[i]];
    stride[i] = x->stride[order[i]];
  }
  return pg_out_view(c, 0, x->nd, shape, stride, x->offset);
}

static pg_status infer_permute(pg_call *c) {
  const pg_tensor *x = c->in[0];
  const pg_arg *a = &c->arg[0];
  int order[PG_MAX_DIMS];
  if (a->n != x->nd)
    return pg_bad_arg(c, PG_EARG, 0, "all %d dims of input %s", x->nd, pg_shape_str(x).s);
  unsigned mask = 0;
  for (int i = 0; i < a->n; i++) {
    PG_TRY(pg_dim(c->ctx, pg_arg_name(c, 0), a->v[i], x->nd, &order[i]));
    if (mask >> order[i] & 1) return pg_bad_arg(c, PG_EARG, 0, "each dim once");
    mask |= 1u << order[i];
  }
  return out_permuted(c, order);
}

static pg_status backward_permute(pg_call *c) {
  const pg_arg *a = &c->arg[0];
  int64_t inverse[PG_MAX_DIMS];
  for (int i = 0; i < a->n; i++) inverse[a->v[i] > 0 ? a->v[i] - 1 : a->n + a->v[i]] = i + 1;
  return pg_do(c->ctx, &c->gin[0], "permute", "tl", c->gout[0], (int)a->n, inverse);
}

static pg_status out_swapped(pg_call *c, int a, int b) {
  int order[PG_MAX_DIMS] = {0};
  for (int i = 0; i < c->in[0]->nd; i++) order[i] = i == a ? b : i == b ? a : i;
  return out_permuted(c, order);
}

static pg_status infer_transpose(pg_call *c) {
  int a, b;
  PG_TRY(pg_arg_dim(c, 0, c->in[0]->nd, &a));
  PG_TRY(pg_arg_dim(c, 1, c->in[0]->nd, &b));
  return out_swapped(c, a, b);
}

static pg_status backward_transpose(pg_call *c) {
  return pg_do(c->ctx, &c->gin[0], "transpose", "tii", c->gout[0], c->arg[0].i, c->arg[1].i);
}

static pg_status infer_t(pg_call *c) {
  if (c->in[0]->nd > 2)
    return pg_bad_in(c, PG_ESHAPE, 0, "at most 2 dims (transpose and permute take more)");
  return out_swapped(c, 0, c->in[0]->nd == 2 ? 1 : 0);
}

static pg_status backward_t(pg_call *c) { return pg_do(c->ctx, &c->gin[0], "t", "t", c->gout[0]); }

static pg_status infer_movedim(pg_call *c) {
  const pg_tensor *x = c->in[0];
  const pg_arg *from = &c->arg[0], *to = &c->arg[1];
  int order[PG_MAX_DIMS], source, place, at = 0;
  unsigned used = 0, taken = 0;
  if (from->n != to->n) return pg_bad_arg(c, PG_EARG, 1, "as many dims as source, %d", from->n);
  for (int i = 0; i < from->n; i++) {
    PG_TRY(pg_dim(c->ctx, "source", from->v[i], x->nd, &source));
    PG_TRY(pg_dim(c->ctx, "destination", to->v[i], x->nd, &place));
    if ((used >> source & 1) || (taken >> place & 1))
      return pg_bad_arg(c, PG_EARG, used >> source & 1 ? 0 : 1, "each dim once");
    used |= 1u << source;
    taken |= 1u << place;
    order[place] = source;
  }
  for (int i = 0; i < x->nd; i++) {
    if (used >> i & 1) continue;
    while (taken >> at & 1) at++;
    order[at++] = i;
  }
  return out_permuted(c, order);
}

static pg_status backward_movedim(pg_call *c) {
  return pg_do(c->ctx, &c->gin[0], "movedim", "tll", c->gout[0], (int)c->arg[1].n, c->arg[1].v,
               (int)c->arg[0].n, c->arg[0].v);
}

/* --- expand ------------------------------------------------------------------------------------
 */
static pg_status out_expanded(pg_call *c, int n, const int64_t *v) {
  const pg_tensor *x = c->in[0];
  int64_t shape[PG_MAX_DIMS], stride[PG_MAX_DIMS];
  bool fits = n >= x->nd && n <= PG_MAX_DIMS;
  for (int i = 0; i < n && fits; i++) {
    int k = i - (n - x->nd);
    int64_t own = k < 0 ? 1 : x->shape[k];
    shape[i] = v[i] == -1 && k >= 0 ? own : v[i];
    fits = shape[i] >= 0 && (own == 1 || own == shape[i]);
    stride[i] = k < 0 || own != shape[i] ? 0 : x->stride[k];
  }
  if (!fits && c->nin > 1)
    return pg_bad_in(c, PG_ESHAPE, 1, "a shape that input %s expands to", pg_shape_str(x).s);
  if (!fits)
    return pg_bad_arg(c, PG_ESHAPE, 0, "a shape that input %s expands to", pg_shape_str(x).s);
  return pg_out_view(c, 0, n, shape, stride, x->offset);
}

static pg_status infer_expand(pg_call *c) { return out_expanded(c, c->arg[0].n, c->arg[0].v); }
static pg_status infer_expand_as(pg_call *c) {
  return out_expanded(c, c->in[1]->nd, c->in[1]->shape);
}

/* gin = gout: the engine sums and casts to what the input was. */
static pg_status backward_same(pg_call *c) {
  c->gin[0] = pg_tensor_ref(c->gout[0]);
  return PG_OK;
}

/* --- parts -------------------------------------------------------------------------------------
 * The gradient of a part lies in zeros of the whole. Its place is told in elements of the whole as
 * if that were contiguous, whatever the layout was. */
static pg_status backward_part(pg_call *c, const int64_t *stride, int64_t offset) {
  return pg_do(c->ctx, &c->gin[0], "scatter_view", "tlli", c->gout[0], (int)c->meta[0].nd,
               c->meta[0].shape, (int)c->gout[0]->nd, stride, offset);
}

/* 1-based or negative index into n elements of dim -> 0-based. */
static pg_status index_of(pg_call *c, int64_t index, int dim, const pg_tensor *x, int64_t *out) {
  int64_t n = x->shape[dim];
  if (index == 0 || index > n || index < -n)
    return pg_fail(c->ctx, PG_EINDEX,
                   "argument '%s': expected 1..%lld or -%lld..-1 for dim %d of %s, got %lld",
                   pg_arg_name(c, 1), (long long)n, (long long)n, dim + 1, pg_shape_str(x).s,
                   (long long)index);
  *out = index > 0 ? index - 1 : n + index;
  return PG_OK;
}

static pg_status infer_select(pg_call *c) {
  const pg_tensor *x = c->in[0];
  int dim, nd = 0;
  int64_t at = 0, shape[PG_MAX_DIMS], stride[PG_MAX_DIMS];
  PG_TRY(want_a_dim(c));
  PG_TRY(pg_arg_dim(c, 0, x->nd, &dim));
  PG_TRY(index_of(c, c->arg[1].i, dim, x, &at));
  for (int i = 0; i < x->nd; i++) {
    if (i == dim) continue;
    shape[nd] = x->shape[i];
    stride[nd++] = x->stride[i];
  }
  return pg_out_view(c, 0, nd, shape, stride, x->offset + at * x->stride[dim]);
}

static pg_status backward_select(pg_call *c) {
  const pg_meta *m = &c->meta[0];
  int dim, nd = 0;
  int64_t whole[PG_MAX_DIMS], stride[PG_MAX_DIMS], at = c->arg[1].i;
  PG_TRY(pg_arg_dim(c, 0, m->nd, &dim));
  at = at > 0 ? at - 1 : m->shape[dim] + at;
  pg_contiguous_strides(m->nd, m->shape, whole);
  for (int i = 0; i < m->nd; i++)
    if (i != dim) stride[nd++] = whole[i];
  return backward_part(c, stride, at * whole[dim]);
}

/* A range first..last by step of dim as 0-based start and count. */
static pg_status range_of(pg_call *c, const pg_meta *m, int dim, int64_t *start, int64_t *count) {
  int64_t n = m->shape[dim], first = c->arg[1].i, last = c->arg[2].i, step = c->arg[3].i;
  int64_t from = first < 0 ? n + 1 + first : first, to = last < 0 ? n + 1 + last : last;
  if (step < 1)
    return pg_fail(c->ctx, PG_EARG, "argument 'step': expected at least 1, got %lld",
                   (long long)step);
  if (from < 1 || from > n + 1 || to < 0 || to > n)
    return pg_bad_arg(c, PG_EINDEX, from < 1 || from > n + 1 ? 1 : 2,
                      "1..%lld or from the end for dim %d of %s", (long long)n, dim + 1,
                      pg_shape_str_of(m->nd, m->shape).s);
  *start = from - 1;
  *count = to < from ? 0 : (to - from) / step + 1;
  return PG_OK;
}

static pg_status infer_slice(pg_call *c) {
  const pg_tensor *x = c->in[0];
  int dim;
  int64_t start = 0, count = 0, shape[PG_MAX_DIMS], stride[PG_MAX_DIMS];
  pg_meta m = {.nd = x->nd};
  PG_TRY(want_a_dim(c));
  PG_TRY(pg_arg_dim(c, 0, x->nd, &dim));
  memcpy(m.shape, x->shape, sizeof m.shape);
  PG_TRY(range_of(c, &m, dim, &start, &count));
  memcpy(shape, x->shape, sizeof shape);
  memcpy(stride, x->stride, sizeof stride);
  shape[dim] = count;
  stride[dim] *= c->arg[3].i;
  return pg_out_view(c, 0, x->nd, shape, stride, x->offset + (count ? start * x->stride[dim] : 0));
}

static pg_status backward_slice(pg_call *c) {
  const pg_meta *m = &c->meta[0];
  int dim;
  int64_t start = 0, count = 0, stride[PG_MAX_DIMS];
  PG_TRY(pg_arg_dim(c, 0, m->nd, &dim));
  PG_TRY(range_of(c, m, dim, &start, &count));
  pg_contiguous_strides(m->nd, m->shape, stride);
  int64_t offset = count ? start * stride[dim] : 0;
  stride[dim] *= c->arg[3].i;
  return backward_part(c, stride, offset);
}

static pg_status infer_narrow(pg_call *c) {
  const pg_tensor *x = c->in[0];
  int dim;
  PG_TRY(want_a_dim(c));
  PG_TRY(pg_arg_dim(c, 0, x->nd, &dim));
  int64_t n = x->shape[dim], first = c->arg[1].i, length = c->arg[2].i;
  int64_t start = first < 0 ? n + first : first - 1, shape[PG_MAX_DIMS];
  if (start < 0 || start > n || length < 0 || length > n - start)
    return pg_bad_arg(c, PG_EINDEX, start < 0 || start > n ? 1 : 2,
                      "a part of the %lld elements in dim %d of %s%s", (long long)n, dim + 1,
                      pg_shape_str(x).s, start < 0 || start > n ? "" : " that begins at start");
  memcpy(shape, x->shape, sizeof shape);
  shape[dim] = length;
  return pg_out_view(c, 0, x->nd, shape, x->stride,
                     x->offset + (length ? start * x->stride[dim] : 0));
}

static pg_status backward_narrow(pg_call *c) {
  const pg_meta *m = &c->meta[0];
  int dim;
  int64_t stride[PG_MAX_DIMS], first = c->arg[1].i;
  PG_TRY(pg_arg_dim(c, 0, m->nd, &dim));
  pg_contiguous_strides(m->nd, m->shape, stride);
  int64_t start = first < 0 ? m->shape[dim] + first : first - 1;
  return backward_part(c, stride, c->arg[2].i ? start * stride[dim] : 0);
}

static pg_status infer_unfold(pg_call *c) {
  const pg_tensor *x = c->in[0];
  int dim;
  PG_TRY(want_a_dim(c));
  PG_TRY(pg_arg_dim(c, 0, x->nd, &dim));
  int64_t n = x->shape[dim], size = c->arg[1].i, step = c->arg[2].i;
  if (size < 0 || size > n)
    return pg_fail(c->ctx, PG_EARG, "argument 'size': expected 0..%lld for dim %d of %s, got %lld",
                   (long long)n, dim + 1, pg_shape_str(x).s, (long long)size);
  if (step < 1)
    return pg_fail(c->ctx, PG_EARG, "argument 'step': expected at least 1, got %lld",
                   (long long)step);
  if (x->nd == PG_MAX_DIMS) return pg_bad_in(c, PG_ESHAPE, 0, "at most %d dims", PG_MAX_DIMS - 1);
  int64_t shape[PG_MAX_DIMS], stride[PG_MAX_DIMS];
  memcpy(shape, x->shape, sizeof shape);
  memcpy(stride, x->stride, sizeof stride);
  shape[dim] = (n - size) / step + 1;
  stride[dim] *= step;
  shape[x->nd] = size;
  stride[x->nd] = x->stride[dim];
  return pg_out_view(c, 0, x->nd + 1, shape, stride, x->offset);
}

static pg_status backward_unfold(pg_call *c) {
  const pg_meta *m = &c->meta[0];
  int dim;
  int64_t stride[PG_MAX_DIMS + 1];
  PG_TRY(pg_arg_dim(c, 0, m->nd, &dim));
  pg_contiguous_strides(m->nd, m->shape, stride);
  stride[m->nd] = stride[dim];
  stride[dim] *= c->arg[2].i;
  return backward_part(c, stride, 0);
}

/* Where a diagonal of m lies: its start, length and the strides of the result. */
static pg_status diagonal_of(pg_call *c, const pg_meta *m, const int64_t *step, int64_t *shape,
                             int64_t *stride, int64_t *start) {
  int a, b, nd = 0;
  PG_TRY(pg_arg_dim(c, 1, m->nd, &a));
  PG_TRY(pg_arg_dim(c, 2, m->nd, &b));
  if (m->nd < 2) return pg_bad_in(c, PG_ESHAPE, 0, "at least 2 dims");
  if (a == b) return pg_bad_arg(c, PG_ESHAPE, 2, "another dim than dim1 %d", a + 1);
  int64_t k = c->arg[0].i, down = k < 0 ? -k : 0, right = k > 0 ? k : 0;
  int64_t n = pg_max64(0, pg_min64(m->shape[a] - down, m->shape[b] - right));
  *start = n ? down * step[a] + right * step[b] : 0;
  for (int i = 0; i < m->nd; i++) {
    if (i == a || i == b) continue;
    shape[nd] = m->shape[i];
    stride[nd++] = step[i];
  }
  shape[nd] = n;
  stride[nd] = step[a] + step[b];
  return PG_OK;
}

static pg_status infer_diagonal(pg_call *c) {
  const pg_tensor *x = c->in[0];
  pg_meta m = {.nd = x->nd};
  int64_t shape[PG_MAX_DIMS], stride[PG_MAX_DIMS], start = 0;
  memcpy(m.shape, x->shape, sizeof m.shape);
  PG_TRY(diagonal_of(c, &m, x->stride, shape, stride, &start));
  return pg_out_view(c, 0, x->nd - 1, shape, stride, x->offset + start);
}

static pg_status backward_diagonal(pg_call *c) {
  const pg_meta *m = &c->meta[0];
  int64_t shape[PG_MAX_DIMS], stride[PG_MAX_DIMS], step[PG_MAX_DIMS], start = 0;
  pg_contiguous_strides(m->nd, m->shape, step);
  PG_TRY(diagonal_of(c, m, step, shape, stride, &start));
  return backward_part(c, stride, start);
}

/* --- as_strided --------------------------------------------------------------------------------
 */
/* Splits a distance in elements over dims with strides `step` (largest first) and puts it together
 * with the strides `into`; at gets the coordinates. false: not a sum of them. */
static bool translate(int64_t distance, int nd, const int64_t *shape, const int64_t *step,
                      const int64_t *into, int64_t *at, int64_t *out) {
  unsigned used = 0;
  *out = 0;
  memset(at, 0, sizeof *at * PG_MAX_DIMS);
  for (int k = 0; k < nd; k++) {
    int best = -1;
    for (int i = 0; i < nd; i++)
      if (!(used >> i & 1) && shape[i] > 1 && step[i] > 0 && (best < 0 || step[i] > step[best]))
        best = i;
    if (best < 0) break;
    used |= 1u << best;
    at[best] = distance / step[best];
    distance -= at[best] * step[best];
    *out += at[best] * into[best];
  }
  return distance == 0;
}

/* The region (size, stride, start) of a tensor with strides `step`, told for the strides `into`.
 * false: it reaches beyond the tensor's own elements. */
static bool translate_region(int nd, const int64_t *shape, const int64_t *step, const int64_t *into,
                             int rank, const int64_t *size, const int64_t *stride, int64_t start,
                             int64_t *out_stride, int64_t *out_start) {
  int64_t reach[PG_MAX_DIMS], at[PG_MAX_DIMS];
  if (!translate(start, nd, shape, step, into, reach, out_start)) return false;
  bool empty = pg_numel_of(rank, size) == 0;
  for (int i = 0; i < rank; i++) {
    if (!translate(size[i] > 1 ? stride[i] : 0, nd, shape, step, into, at, &out_stride[i]))
      return false;
    for (int k = 0; k < nd; k++) reach[k] += empty ? 0 : at[k] * (size[i] - 1);
  }
  for (int k = 0; k < nd; k++)
    if (reach[k] >= shape[k] && reach[k] > 0) return false;
  return true;
}

/* Checks the region that args `first`.. name in x's storage; then rewrites the args so that stride
 * and offset count x's elements in row-major order (offset -1: that is not possible). */
static pg_status check_region(pg_call *c, int first) {
  const pg_tensor *x = c->in[0];
  pg_arg *size = &c->arg[first], *stride = &c->arg[first + 1], *offset = &c->arg[first + 2];
  int n = size->n;
  if (n > PG_MAX_DIMS || stride->n != n)
    return pg_bad_arg(c, PG_EARG, first + 1, "as many strides as sizes, %d, and at most %d", n,
                      PG_MAX_DIMS);
  if (!offset->set) offset->i = x->offset;
  int64_t start = offset->i, last = start, count;
  PG_TRY(pg_shape_check(c->ctx, (pg_dtype)x->dtype, n, size->v, &count));
  int64_t room = (int64_t)(x->storage->bytes / pg_dtype_size((pg_dtype)x->dtype));
  bool inside = start >= 0 && start <= room;
  for (int i = 0; i < n && inside && count; i++) {
    if (stride->v[i] < 0)
      return pg_fail(c->ctx, PG_EARG, "argument 'stride': expected at least 0, got %lld",
                     (long long)stride->v[i]);
    inside = size->v[i] == 1 || stride->v[i] <= room;
    if (inside) inside = stride->v[i] == 0 || size->v[i] - 1 <= room / stride->v[i];
    if (inside) last += stride->v[i] * (size->v[i] - 1);
    inside = inside && last < room;
  }
  if (!inside || (count && last >= room))
    return pg_bad_arg(c, PG_EINDEX, first,
                      "sizes that stay within the %lld stored elements from offset %lld",
                      (long long)room, (long long)start);
  return PG_OK;
}

static pg_status rewrite_region(pg_call *c, int first) {
  const pg_tensor *x = c->in[0];
  pg_arg *size = &c->arg[first], *stride = &c->arg[first + 1], *offset = &c->arg[first + 2];
  int n = size->n;
  PG_ASSERT(c->nints + n <= PG_MAX_INTS);
  int64_t *row_major = c->ints + c->nints, whole[PG_MAX_DIMS], start = offset->i - x->offset, to;
  pg_contiguous_strides(x->nd, x->shape, whole);
  bool found;
  if (pg_is_contiguous(x)) {
    for (int i = 0; i < n; i++) row_major[i] = stride->v[i];
    to = start;
    int64_t last = start;
    for (int i = 0; i < n; i++) last += (size->v[i] - 1) * stride->v[i];
    found = start >= 0 && (last < pg_numel(x) || pg_numel_of(n, size->v) == 0);
  } else {
    found = start >= 0 && translate_region(x->nd, x->shape, x->stride, whole, n, size->v, stride->v,
                                           start, row_major, &to);
  }
  c->nints += n;
  stride->v = row_major;
  offset->i = found ? to : -1;
  offset->set = true;
  return PG_OK;
}

static pg_status infer_as_strided(pg_call *c) {
  PG_TRY(check_region(c, 0));
  PG_TRY(pg_out_view(c, 0, c->arg[0].n, c->arg[0].v, c->arg[1].v, c->arg[2].i));
  return rewrite_region(c, 0);
}

static pg_status backward_as_strided(pg_call *c) {
  if (c->arg[2].i < 0)
    return pg_fail(c->ctx, PG_EUNSUPPORTED, "no gradient beyond the elements of %s",
                   pg_shape_str_of(c->meta[0].nd, c->meta[0].shape).s);
  return backward_part(c, c->arg[1].v, c->arg[2].i);
}

/* *out = the part of t at size, row-major strides and offset; t is contiguous. */
static pg_status part_of(pg_ctx *ctx, pg_tensor *t, int n, const int64_t *size,
                         const int64_t *stride, int64_t offset, pg_tensor **out) {
  pg_tensor *dense = NULL;
  *out = NULL;
  PG_TRY(pg_do(ctx, &dense, "contiguous", "t", t));
  pg_status s =
      pg_do(ctx, out, "as_strided", "tlli", dense, n, size, n, stride, dense->offset + offset);
  pg_tensor_unref(dense);
  return s;
}

static pg_status infer_as_strided_scatter(pg_call *c) {
  const pg_tensor *x = c->in[0];
  PG_TRY(check_region(c, 0));
  PG_TRY(rewrite_region(c, 0));
  int n = c->arg[0].n;
  if (c->arg[2].i < 0)
    return pg_bad_arg(c, PG_EINDEX, 0, "sizes that stay within the elements of %s",
                      pg_shape_str(x).s);
  PG_TRY(pg_want_spread(c, 1, "size", n, c->arg[0].v));
  return pg_out_like(c, 0, (pg_dtype)x->dtype, x);
}

static pg_status forward_as_strided_scatter(pg_call *c) {
  pg_tensor *y = c->out[0], *part;
  int n = c->arg[0].n;
  int64_t whole[PG_MAX_DIMS], stride[PG_MAX_DIMS], start = 0;
  if (!c->inplace) PG_TRY(pg_tensor_copy(y, c->in[0]));
  if (pg_numel_of(n, c->arg[0].v) == 0) return PG_OK;
  pg_contiguous_strides(y->nd, y->shape, whole);
  if (pg_is_contiguous(y)) {
    memcpy(stride, c->arg[1].v, sizeof *stride * (size_t)n);
    start = c->arg[2].i;
  } else if (!translate_region(y->nd, y->shape, whole, y->stride, n, c->arg[0].v, c->arg[1].v,
                               c->arg[2].i, stride, &start)) {
    return pg_fail(c->ctx, PG_EUNSUPPORTED, "sizes %s wrap around the rows of %s",
                   pg_shape_str_of(n, c->arg[0].v).s, pg_shape_str(y).s);
  }
  PG_TRY(pg_tensor_alias(c->ctx, y, n, c->arg[0].v, stride, y->offset + start, &part));
  pg_status s = pg_tensor_copy(part, c->in[1]);
  pg_tensor_unref(part);
  return s;
}

static pg_status backward_as_strided_scatter(pg_call *c) {
  int n = c->arg[0].n;
  if (c->need[0]) {
    pg_tensor *dense = NULL, *zero = NULL;
    pg_status s = pg_do(c->ctx, &dense, "contiguous", "t", c->gout[0]);
    if (s == PG_OK) s = pg_tensor_number(c->ctx, 0, false, &zero);
    if (s == PG_OK)
      s = pg_do(c->ctx, &c->gin[0], "as_strided_scatter", "ttlli", dense, zero, n, c->arg[0].v, n,
                c->arg[1].v, dense->offset + c->arg[2].i);
    pg_tensor_unref(zero);
    pg_tensor_unref(dense);
    PG_TRY(s);
  }
  if (!c->need[1]) return PG_OK;
  return part_of(c->ctx, c->gout[0], n, c->arg[0].v, c->arg[1].v, c->arg[2].i, &c->gin[1]);
}

/* --- scatter_view: zeros of `shape`, plus src at strides and offset ----------------------------
 */
static pg_status infer_scatter_view(pg_call *c) {
  PG_ASSERT(c->arg[1].n == c->in[0]->nd);
  return pg_out_shape(c, 0, (pg_dtype)c->in[0]->dtype, c->arg[0].n, c->arg[0].v);
}

/* May two elements of src meet in one place? Strides sorted upwards must each pass the reach of
 * those before. */
static bool overlaps(int nd, const int64_t *shape, const int64_t *stride) {
  unsigned used = 0;
  int64_t reach = 0;
  for (int k = 0; k < nd; k++) {
    int best = -1;
    for (int i = 0; i < nd; i++)
      if (!(used >> i & 1) && shape[i] > 1 && (best < 0 || stride[i] < stride[best])) best = i;
    if (best < 0) return false;
    if (stride[best] <= reach) return true;
    used |= 1u << best;
    reach += stride[best] * (shape[best] - 1);
  }
  return false;
}

static pg_status forward_scatter_view(pg_call *c) {
  pg_tensor *x = c->in[0], *y = c->out[0], *part;
  const int64_t *stride = c->arg[1].v;
  pg_tensor_fill(y, 0);
  int64_t count = pg_numel(x);
  if (!count) return PG_OK;
  PG_TRY(pg_tensor_alias(c->ctx, y, x->nd, x->shape, stride, y->offset + c->arg[2].i, &part));
  pg_status s = PG_OK;
  if (!overlaps(x->nd, x->shape, stride)) {
    s = pg_tensor_copy(part, x);
  } else { /* one element after another, so that the order of addition is fixed */
    int64_t at[PG_MAX_DIMS] = {0}, from = 0, to = 0;
    for (int64_t k = 0; k < count; k++) {
      pg_put_f64(part, to, pg_at_f64(part, to) + pg_at_f64(x, from));
      for (int d = x->nd - 1; d >= 0; d--) {
        from += x->stride[d];
        to += stride[d];
        if (++at[d] < x->shape[d]) break;
        at[d] = 0;
        from -= x->shape[d] * x->stride[d];
        to -= x->shape[d] * stride[d];
      }
    }
  }
  pg_tensor_unref(part);
  return s;
}

static pg_status backward_scatter_view(pg_call *c) {
  return part_of(c->ctx, c->gout[0], c->meta[0].nd, c->meta[0].shape, c->arg[1].v, c->arg[2].i,
                 &c->gin[0]);
}

/* --- copies and casts --------------------------------------------------------------------------
 */
static pg_status out_whole(pg_call *c) {
  const pg_tensor *x = c->in[0];
  return pg_out_view(c, 0, x->nd, x->shape, x->stride, x->offset);
}

static pg_status infer_contiguous(pg_call *c) {
  const pg_tensor *x = c->in[0];
  if (pg_is_contiguous(x)) return out_whole(c);
  return pg_out_shape(c, 0, (pg_dtype)x->dtype, x->nd, x->shape);
}

static pg_status forward_copy(pg_call *c) {
  return c->os[0].view ? PG_OK : pg_tensor_copy(c->out[0], c->in[0]);
}

static pg_status infer_clone(pg_call *c) {
  return pg_out_like(c, 0, (pg_dtype)c->in[0]->dtype, c->in[0]);
}

static pg_status infer_to(pg_call *c) {
  if (c->in[0]->dtype == c->arg[0].i) return out_whole(c);
  return pg_out_like(c, 0, (pg_dtype)c->arg[0].i, c->in[0]);
}

static pg_status infer_type_as(pg_call *c) {
  if (c->in[0]->dtype == c->in[1]->dtype) return out_whole(c);
  return pg_out_like(c, 0, (pg_dtype)c->in[1]->dtype, c->in[0]);
}

static pg_status infer_copy(pg_call *c) {
  const pg_tensor *x = c->in[0];
  PG_TRY(pg_want_spread(c, 1, "input", x->nd, x->shape));
  return pg_out_like(c, 0, (pg_dtype)x->dtype, x);
}

static pg_status forward_copy_into(pg_call *c) { return pg_tensor_copy(c->out[0], c->in[1]); }

static pg_status backward_copy_into(pg_call *c) {
  if (c->need[1]) c->gin[1] = pg_tensor_ref(c->gout[0]);
  return PG_OK;
}

#define DIMS_DEF(n, d) \
  { n, PG_DIM, PG_DEFAULT, d, NULL }

const pg_op PG_AT(pg_ops_shape)[] = {
    {"view|reshape",
     "The same elements in another shape; one size may be -1. Copies only where no view exists.",
     {PG_T("input"), PG_REQ("shape", PG_SHAPE)},
     PG_METHOD,
     0,
     1,
     infer_view,
     {forward_reshape},
     backward_reshape},
    {"view_as|reshape_as",
     "The same elements in the shape of other.",
     {PG_T("input"), PG_TIDX("other")},
     PG_METHOD,
     0,
     1,
     infer_view_as,
     {forward_reshape},
     backward_reshape},
    {"flatten|ravel",
     "Joins the dims start_dim..end_dim into one.",
     {PG_T("input"), DIMS_DEF("start_dim", 1), DIMS_DEF("end_dim", -1)},
     PG_METHOD,
     0,
     1,
     infer_flatten,
     {forward_reshape},
     backward_reshape},
    {"unflatten",
     "Splits dim into sizes; one of them may be -1.",
     {PG_T("input"), PG_REQ("dim", PG_DIM), PG_REQ("sizes", PG_SHAPE)},
     PG_METHOD,
     0,
     1,
     infer_unflatten,
     {forward_reshape},
     backward_reshape},
    {"squeeze",
     "Without the dims of size 1: all of them, or those listed.",
     {PG_T("input"), PG_OPT("dim", PG_INTS)},
     PG_METHOD,
     0,
     1,
     infer_squeeze,
     {NULL},
     backward_reshape},
    {"unsqueeze",
     "With one more dim of size 1, which becomes dim.",
     {PG_T("input"), PG_REQ("dim", PG_DIM)},
     PG_METHOD,
     0,
     1,
     infer_unsqueeze,
     {NULL},
     backward_reshape},
    {"permute",
     "Dims in the order given: dim i of the result is dims[i] of input.",
     {PG_T("input"), PG_REQ("dims", PG_SHAPE)},
     PG_METHOD,
     0,
     1,
     infer_permute,
     {NULL},
     backward_permute},
    {"transpose|swapaxes|swapdims",
     "dim0 and dim1 swapped.",
     {PG_T("input"), PG_REQ("dim0", PG_DIM), PG_REQ("dim1", PG_DIM)},
     PG_METHOD,
     0,
     1,
     infer_transpose,
     {NULL},
     backward_transpose},
    {"t",
     "The transposed matrix, y[i, j] = input[j, i]; vectors and scalars stay as they are.",
     {PG_T("input")},
     PG_METHOD,
     0,
     1,
     infer_t,
     {NULL},
     backward_t},
    {"movedim|moveaxis",
     "The dims source moved to the places destination, the others kept in order.",
     {PG_T("input"), PG_REQ("source", PG_INTS), PG_REQ("destination", PG_INTS)},
     PG_METHOD,
     0,
     1,
     infer_movedim,
     {NULL},
     backward_movedim},
    {"expand|broadcast_to",
     "Dims of size 1 repeated to the sizes given, without copying; -1 keeps a size.",
     {PG_T("input"), PG_REQ("size", PG_SHAPE)},
     PG_METHOD,
     0,
     1,
     infer_expand,
     {NULL},
     backward_same},
    {"expand_as",
     "Dims of size 1 repeated to the shape of other, without copying.",
     {PG_T("input"), PG_TIDX("other")},
     PG_METHOD,
     0,
     1,
     infer_expand_as,
     {NULL},
     backward_same},
    {"select",
     "Slice number index of dim, which goes away.",
     {PG_T("input"), PG_REQ("dim", PG_DIM), PG_REQ("index", PG_INT)},
     PG_METHOD,
     0,
     1,
     infer_select,
     {NULL},
     backward_select},
    {"slice",
     "Elements first..last (both included) of dim, every step-th; negatives count from the end.",
     {PG_T("input"), PG_REQ("dim", PG_DIM), PG_DEF("first", PG_INT, 1), PG_DEF("last", PG_INT, -1),
      PG_DEF("step", PG_INT, 1)},
     PG_METHOD,
     0,
     1,
     infer_slice,
     {NULL},
     backward_slice},
    {"narrow",
     "length elements of dim from start on.",
     {PG_T("input"), PG_REQ("dim", PG_DIM), PG_REQ("start", PG_INT), PG_REQ("length", PG_INT)},
     PG_METHOD,
     0,
     1,
     infer_narrow,
     {NULL},
     backward_narrow},
    {"unfold",
     "All windows of size elements along dimension, step apart; the window becomes the last dim.",
     {PG_T("input"), PG_REQ("dimension", PG_DIM), PG_REQ("size", PG_INT), PG_REQ("step", PG_INT)},
     PG_METHOD,
     0,
     1,
     infer_unfold,
     {NULL},
     backward_unfold},
    {"diagonal",
     "The diagonal of dim1 and dim2 as the last dim; offset > 0 lies above the main one.",
     {PG_T("input"), PG_DEF("offset", PG_INT, 0), DIMS_DEF("dim1", 1), DIMS_DEF("dim2", 2)},
     PG_METHOD,
     0,
     1,
     infer_diagonal,
     {NULL},
     backward_diagonal},
    {"as_strided",
     "A view with any sizes, strides and offset (from 0) in the elements of the storage.",
     {PG_T("input"), PG_REQ("size", PG_INTS), PG_REQ("stride", PG_INTS),
      PG_OPT("storage_offset", PG_INT)},
     PG_METHOD,
     0,
     1,
     infer_as_strided,
     {NULL},
     backward_as_strided},
    {"as_strided_scatter",
     "input with src written to the elements that as_strided would show.",
     {PG_T("input"), PG_TN("src"), PG_REQ("size", PG_INTS), PG_REQ("stride", PG_INTS),
      PG_OPT("storage_offset", PG_INT)},
     PG_METHOD | PG_INPLACE,
     0,
     1,
     infer_as_strided_scatter,
     {forward_as_strided_scatter},
     backward_as_strided_scatter},
    {"scatter_view",
     "Zeros of `shape` with src added at these strides and offset: the gradient of a part.",
     {PG_T("src"), PG_REQ("shape", PG_INTS), PG_REQ("stride", PG_INTS), PG_REQ("offset", PG_INT)},
     PG_HIDDEN,
     0,
     1,
     infer_scatter_view,
     {forward_scatter_view},
     backward_scatter_view},
    {"contiguous",
     "input itself where it lies row by row in memory, else a copy that does.",
     {PG_T("input")},
     PG_METHOD,
     0,
     1,
     infer_contiguous,
     {forward_copy},
     backward_same},
    {"clone",
     "A copy in memory of its own.",
     {PG_T("input")},
     PG_METHOD,
     0,
     1,
     infer_clone,
     {forward_copy},
     backward_same},
    {"to|type",
     "input in another dtype; input itself where it has it.",
     {PG_T("input"), PG_REQ("dtype", PG_DTYPE)},
     PG_METHOD,
     0,
     1,
     infer_to,
     {forward_copy},
     backward_same},
    {"type_as",
     "input in the dtype of other.",
     {PG_T("input"), PG_TIDX("other")},
     PG_METHOD,
     0,
     1,
     infer_type_as,
     {forward_copy},
     backward_same},
    {"detach",
     "The same elements, cut off from the graph.",
     {PG_T("input")},
     PG_METHOD | PG_NODIFF,
     0,
     1,
     out_whole,
     {NULL},
     NULL},
    {"copy_",
     "Overwrites input with src, broadcast and cast.",
     {PG_T("input"), PG_TN("src")},
     PG_METHOD | PG_INPLACE_ONLY,
     0,
     1,
     infer_copy,
     {forward_copy_into},
     backward_copy_into},
    {0}};
