/* Epoch orders and batches.
 * Relies on tensor and base/par.
 * Spec: spec/data/loader_spec.lua. */
#include "data/data.h"

#include <string.h>

#include "base/par.h"

pg_status pg_range(pg_ctx *ctx, int64_t first, int64_t last, pg_tensor **out) {
  int64_t n;
  if (__builtin_sub_overflow(last, first, &n) || n == INT64_MAX || n < -1) {
    return pg_fail(ctx, PG_EINDEX, "argument 'last': expected at least first %lld - 1, got %lld",
                   (long long)first, (long long)last);
  }
  n++;
  PG_TRY(pg_tensor_new(ctx, PG_I64, 1, &n, out));
  int64_t *x = pg_data(*out);
  for (int64_t i = 0; i < n; i++) x[i] = first + i;
  return PG_OK;
}

pg_status pg_permutation(pg_ctx *ctx, int64_t n, pg_rng *r, pg_tensor **out) {
  PG_TRY(pg_range(ctx, 1, n, out));
  int64_t *x = pg_data(*out);
  for (int64_t i = n - 1; i > 0; i--) {
    int64_t j = (int64_t)pg_rng_below(r, (uint64_t)i + 1), keep = x[i];
    x[i] = x[j];
    x[j] = keep;
  }
  return PG_OK;
}

pg_rng pg_epoch_rng(uint64_t seed, uint64_t epoch) {
  pg_rng_block b = pg_rng_at(seed, ~epoch); /* the far end of the seed's own stream */
  return (pg_rng){(uint64_t)b.w[0] << 32 | b.w[1], 0};
}

typedef struct rows {
  const unsigned char *from;
  unsigned char *to;
  const int64_t *index;
  size_t bytes; /* of a row of `from` */
  const float *unit;
} rows;

static void copy_rows(void *arg, int64_t begin, int64_t end) {
  const rows *r = arg;
  for (int64_t i = begin; i < end; i++) {
    const unsigned char *from = r->from + (size_t)(r->index[i] - 1) * r->bytes;
    if (r->unit == NULL) {
      if (r->bytes > 0) memcpy(r->to + (size_t)i * r->bytes, from, r->bytes);
      continue;
    }
    float *to = (float *)(void *)r->to + (size_t)i * r->bytes;
    for (size_t k = 0; k < r->bytes; k++) to[k] = r->unit[from[k]];
  }
}

pg_status pg_rows(pg_ctx *ctx, const pg_tensor *t, const pg_tensor *index, bool unit,
                  pg_tensor **out) {
  if (t->nd == 0 || !pg_is_contiguous(t)) {
    return pg_fail(ctx, PG_ESHAPE,
                   "argument 'self': expected a contiguous tensor with rows, got %s",
                   pg_shape_str(t).s);
  }
  if (index->dtype != PG_I64 || index->nd != 1 || !pg_is_contiguous(index)) {
    return pg_fail(ctx, PG_EDTYPE, "argument 'index': expected a list of int64 indices, got %s %s",
                   pg_dtype_name((pg_dtype)index->dtype), pg_shape_str(index).s);
  }
  if (unit && t->dtype != PG_U8) {
    return pg_fail(ctx, PG_EDTYPE, "argument 'self': expected uint8 to scale to 0 .. 1, got %s",
                   pg_dtype_name((pg_dtype)t->dtype));
  }
  int64_t m = index->shape[0], n = t->shape[0], shape[PG_MAX_DIMS];
  const int64_t *place = pg_data(index);
  for (int64_t i = 0; i < m; i++) {
    if (place[i] < 1 || place[i] > n) {
      return pg_fail(ctx, PG_EINDEX, "argument 'index': expected 1..%lld, got %lld", (long long)n,
                     (long long)place[i]);
    }
  }
  memcpy(shape, t->shape, sizeof shape);
  shape[0] = m;
  PG_TRY(pg_tensor_new(ctx, unit ? PG_F32 : (pg_dtype)t->dtype, t->nd, shape, out));
  float scale[256];
  for (int i = 0; i < 256; i++) scale[i] = (float)i / 255.0f;
  rows r = {pg_data(t), pg_data(*out), place, 0, unit ? scale : NULL};
  r.bytes = (size_t)pg_numel_of(t->nd - 1, t->shape + 1) * pg_dtype_size((pg_dtype)t->dtype);
  pg_par_for(ctx, m, pg_grain((int64_t)r.bytes / (unit ? 1 : 4)), copy_rows, &r);
  return PG_OK;
}
