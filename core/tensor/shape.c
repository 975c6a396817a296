/* Shapes and strides: layout tests, broadcasting, views. Relies on tensor.h. Spec:
 * spec/tensor/shape_spec.lua. */
#include <stdio.h>

#include "tensor/tensor.h"

pg_str pg_shape_str_of(int nd, const int64_t *shape) {
  pg_str out;
  size_t at = (size_t)snprintf(out.s, sizeof out.s, "[");
  for (int i = 0; i < nd && at < sizeof out.s; i++)
    at += (size_t)snprintf(out.s + at, sizeof out.s - at, "%s%lld", i ? " x " : "",
                           (long long)shape[i]);
  if (at < sizeof out.s) snprintf(out.s + at, sizeof out.s - at, "]");
  return out;
}

pg_str pg_shape_str(const pg_tensor *t) { return pg_shape_str_of(t->nd, t->shape); }

const char *pg_shape_fault(pg_dtype dtype, int nd, const int64_t *shape, int64_t *numel) {
  if (nd > PG_MAX_DIMS) return "at most 8 dims";
  int64_t n = 1, span = (int64_t)pg_dtype_size(dtype);
  for (int i = 0; i < nd; i++) {
    if (shape[i] < 0) return "sizes of at least 0";
    if (__builtin_mul_overflow(span, shape[i] ? shape[i] : 1, &span))
      return "fewer elements than fill all memory";
    n *= shape[i];
  }
  *numel = n;
  return NULL;
}

pg_status pg_shape_check(pg_ctx *ctx, pg_dtype dtype, int nd, const int64_t *shape,
                         int64_t *numel) {
  const char *expected = pg_shape_fault(dtype, nd, shape, numel);
  if (!expected) return PG_OK;
  return pg_fail(ctx, PG_ESHAPE, "argument 'shape': expected %s, got %s", expected,
                 pg_shape_str_of(nd, shape).s);
}

void pg_contiguous_strides(int nd, const int64_t *shape, int64_t *stride) {
  int64_t n = 1;
  for (int i = nd - 1; i >= 0; i--) {
    stride[i] = n;
    n *= shape[i] > 1 ? shape[i] : 1;
  }
}

bool pg_same_shape(const pg_tensor *a, const pg_tensor *b) {
  if (a->nd != b->nd) return false;
  for (int i = 0; i < a->nd; i++)
    if (a->shape[i] != b->shape[i]) return false;
  return true;
}

bool pg_is_contiguous(const pg_tensor *t) {
  int64_t n = 1;
  for (int i = t->nd - 1; i >= 0; i--) {
    if (t->shape[i] == 0) return true;
    if (t->shape[i] == 1) continue;
    if (t->stride[i] != n) return false;
    n *= t->shape[i];
  }
  return true;
}

bool pg_is_channels_last(const pg_tensor *t) {
  if (t->nd != 4) return false;
  static const int order[4] = {1, 3, 2, 0};
  int64_t n = 1;
  for (int k = 0; k < 4; k++) {
    int i = order[k];
    if (t->shape[i] == 1) continue;
    if (t->stride[i] != n) return false;
    n *= t->shape[i];
  }
  return true;
}

bool pg_is_dense(const pg_tensor *t) {
  if (pg_is_contiguous(t)) return true;
  unsigned used = 0;
  int64_t n = 1;
  for (int k = 0; k < t->nd; k++) { /* the dim whose stride is n comes next */
    int found = -1;
    for (int i = 0; i < t->nd; i++)
      if (!(used >> i & 1) && t->shape[i] != 1 && t->stride[i] == n) found = i;
    if (found < 0) break;
    used |= 1u << found;
    n *= t->shape[found];
  }
  for (int i = 0; i < t->nd; i++)
    if (!(used >> i & 1) && t->shape[i] != 1) return false;
  return true;
}

bool pg_broadcasts(int na, const int64_t *a, int nb, const int64_t *b, int *nd, int64_t *shape) {
  int n = na > nb ? na : nb;
  int64_t out[PG_MAX_DIMS];
  for (int k = 1; k <= n; k++) {
    int64_t x = k <= na ? a[na - k] : 1, y = k <= nb ? b[nb - k] : 1;
    if (x != y && x != 1 && y != 1) return false;
    out[n - k] = x == 1 ? y : x;
  }
  for (int i = 0; i < n; i++) shape[i] = out[i];
  *nd = n;
  return true;
}

pg_status pg_broadcast(pg_ctx *ctx, int na, const int64_t *a, int nb, const int64_t *b, int *nd,
                       int64_t *shape) {
  if (pg_broadcasts(na, a, nb, b, nd, shape)) return PG_OK;
  return pg_fail(ctx, PG_ESHAPE, "expected shapes that broadcast, got %s and %s",
                 pg_shape_str_of(na, a).s, pg_shape_str_of(nb, b).s);
}

void pg_broadcast_strides(const pg_tensor *t, int nd, const int64_t *shape, int64_t *stride) {
  int lead = nd - t->nd;
  for (int i = 0; i < nd; i++) {
    int k = i - lead;
    stride[i] = k < 0 || (t->shape[k] == 1 && shape[i] != 1) ? 0 : t->stride[k];
  }
}

bool pg_view_strides(const pg_tensor *t, int nd, const int64_t *shape, int64_t *stride) {
  if (pg_is_contiguous(t)) {
    pg_contiguous_strides(nd, shape, stride);
    return true;
  }
  if (pg_numel(t) == 0) {
    pg_contiguous_strides(nd, shape, stride);
    return true;
  }
  /* Old dims merge into runs of constant stride; new dims must fill each run exactly. */
  int j = nd - 1;
  for (int i = t->nd - 1; i >= 0;) {
    if (t->shape[i] == 1) {
      i--;
      continue;
    }
    int64_t run = t->shape[i], step = t->stride[i], last = i;
    while (i > 0) {
      if (t->shape[i - 1] == 1) {
        i--;
        continue;
      }
      if (t->stride[i - 1] != t->stride[last] * t->shape[last]) break;
      i--;
      last = i;
      run *= t->shape[i];
    }
    i--;
    int64_t filled = 1;
    while (j >= 0 && (filled < run || shape[j] == 1)) {
      stride[j] = step * filled;
      filled *= shape[j];
      j--;
    }
    if (filled != run) return false;
  }
  for (; j >= 0; j--) stride[j] = 1;
  return true;
}

pg_status pg_dim(pg_ctx *ctx, const char *what, int64_t dim, int nd, int *out) {
  int n = nd ? nd : 1;
  if (dim == 0 || dim > n || dim < -n)
    return pg_fail(ctx, PG_EINDEX, "argument '%s': expected 1..%d or -%d..-1, got %lld", what, n, n,
                   (long long)dim);
  *out = (int)(dim > 0 ? dim - 1 : n + dim);
  return PG_OK;
}
