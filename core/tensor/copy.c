/* Copies, casts, fills and element access. Relies on iter, chain and the level's kernels. Spec:
 * spec/tensor/copy_spec.lua. */
#include <string.h>

#include "base/par.h"
#include "tensor/chain.h"

const pg_kern *pg__kern(const pg_ctx *ctx) {
  switch (ctx->level) {
#if defined(PG_HAVE_V4)
  case PG_V4:
    return &pg_kern_v4;
#endif
#if defined(PG_HAVE_V3)
  case PG_V3:
    return &pg_kern_v3;
#endif
#if defined(PG_HAVE_BASE)
  default:
    return &pg_kern_base;
#elif defined(PG_HAVE_V3)
  default:
    return &pg_kern_v3;
#else
  default:
    return &pg_kern_v4;
#endif
  }
}

/* pg_data for a look that is over at once. */
static void *peek(const pg_tensor *t) {
  const bool held = t->ctx->holds_data;
  void *data = pg_data(t);
  t->ctx->holds_data = held;
  return data;
}

static bool same_order(const pg_tensor *a, const pg_tensor *b) {
  if (!pg_same_shape(a, b)) return false;
  for (int i = 0; i < a->nd; i++)
    if (a->shape[i] != 1 && a->stride[i] != b->stride[i]) return false;
  return pg_is_dense(a);
}

static bool same_layout(const pg_tensor *a, const pg_tensor *b) {
  return a->dtype == b->dtype && same_order(a, b);
}

/* Rows of an iterator over two tensors whose innermost dim is contiguous in both. */
static void copy_rows(void *arg, int64_t begin, int64_t end) {
  const pg_iter *it = arg;
  char *to = it->data[0];
  const char *from = it->data[1];
  int64_t at[PG_MAX_DIMS], rest = begin;
  for (int d = 1; d < it->nd; d++) {
    at[d] = rest % it->shape[d];
    rest /= it->shape[d];
    to += at[d] * it->stride[d][0];
    from += at[d] * it->stride[d][1];
  }
  const size_t bytes = (size_t)it->shape[0] * it->size;
  while (begin < end) {
    const int64_t n = pg_min64(end - begin, it->shape[1] - at[1]);
    it->kern->rows(n, bytes, to, it->stride[1][0], from, it->stride[1][1]);
    begin += n;
    to += n * it->stride[1][0];
    from += n * it->stride[1][1];
    at[1] += n;
    for (int d = 1; d < it->nd - 1 && at[d] == it->shape[d]; d++) {
      to += it->stride[d + 1][0] - it->shape[d] * it->stride[d][0];
      from += it->stride[d + 1][1] - it->shape[d] * it->stride[d][1];
      at[d] = 0;
      at[d + 1]++;
    }
  }
}

/* Copies rows that one thread can take whole; false: not so, nothing was done. */
static bool copy_by_rows(pg_ctx *ctx, pg_iter *it) {
  const int64_t unit = (int64_t)it->size;
  if (it->nd < 2 || it->stream || it->stride[0][0] != unit || it->stride[0][1] != unit)
    return false;
  if (it->shape[0] > pg_grain(1)) return false;
  pg_par_for(ctx, it->numel / it->shape[0], pg_grain(it->shape[0]), copy_rows, it);
  return true;
}

pg_status pg_tensor_copy(pg_tensor *dst, const pg_tensor *src) {
  pg_ctx *ctx = dst->ctx;
  int nd;
  int64_t shape[PG_MAX_DIMS];
  PG_TRY(pg_broadcast(ctx, dst->nd, dst->shape, src->nd, src->shape, &nd, shape));
  if (nd != dst->nd || memcmp(shape, dst->shape, sizeof *shape * (size_t)nd) != 0)
    return pg_fail(ctx, PG_ESHAPE, "%s does not broadcast to %s", pg_shape_str(src).s,
                   pg_shape_str(dst).s);
  dst->storage->version++;
  if (!pg_numel(dst)) return PG_OK;
  pg_tensor *const t[2] = {dst, (pg_tensor *)src};
  const pg_loop cast = pg__kern(ctx)->cast[dst->dtype][src->dtype];
  if (ctx->chain && same_order(dst, src) && pg__put_off(ctx, 2, t, 1, cast, NULL, 0, false))
    return PG_OK;
  if (same_layout(dst, src) &&
      pg_numel(dst) * (int64_t)pg_dtype_size((pg_dtype)dst->dtype) < 65536) {
    memmove(peek(dst), peek(src), (size_t)pg_numel(dst) * pg_dtype_size((pg_dtype)dst->dtype));
    return PG_OK;
  }
  const bool held = ctx->holds_data;
  pg_iter it;
  pg_iter_init(&it, dst->nd, dst->shape, 2, t);
  const bool same = dst->dtype == src->dtype;
  if (!same || !(copy_by_rows(ctx, &it) || pg__copy_turned(ctx, &it, it.size)))
    pg_iter_run(ctx, &it, 1, cast, NULL);
  ctx->holds_data = held;
  return PG_OK;
}

void pg_tensor_fill(pg_tensor *t, double v) {
  t->storage->version++;
  if (t->dtype == PG_U8) v = pg_wrap_u8(v);
  pg_tensor *const list[1] = {t};
  pg_iter_over(t->ctx, 1, list, 1, pg__kern(t->ctx)->fill[t->dtype], &v);
}

void pg__add_in_place(pg_tensor *dst, const pg_tensor *src) {
  dst->storage->version++;
  pg_ctx *ctx = dst->ctx;
  pg_tensor *const t[2] = {dst, (pg_tensor *)src};
  const pg_loop add = pg__kern(ctx)->add[dst->dtype];
  if (pg__put_off(ctx, 2, t, 1, add, NULL, 0, true)) return;
  const bool held = ctx->holds_data;
  pg_iter it;
  pg_iter_init(&it, dst->nd, dst->shape, 2, t);
  it.stream = false;
  pg_iter_run(ctx, &it, 1, add, NULL);
  ctx->holds_data = held;
}

/* *out = new tensor with these strides holding t's values. */
static pg_status copy_as(pg_ctx *ctx, pg_tensor *t, pg_dtype dtype, const int64_t *stride,
                         pg_tensor **out) {
  PG_TRY(pg_tensor_new_strided(ctx, dtype, t->nd, t->shape, stride, t->storage->device, out));
  if (t->storage->device == PG_META) return PG_OK;
  pg_status s = pg_tensor_copy(*out, t);
  if (s != PG_OK) {
    pg_tensor_unref(*out);
    *out = NULL;
  }
  return s;
}

pg_status pg__contiguous(pg_ctx *ctx, pg_tensor *t, pg_tensor **out) {
  return pg__as(ctx, t, (pg_dtype)t->dtype, out);
}

pg_status pg__channels_last(pg_ctx *ctx, pg_tensor *t, pg_tensor **out) {
  *out = NULL;
  PG_ASSERT(t->nd == 4);
  if (pg_is_channels_last(t)) {
    *out = pg_tensor_ref(t);
    return PG_OK;
  }
  int64_t c = t->shape[1], w = t->shape[3] * c, h = t->shape[2] * w;
  int64_t stride[4] = {h, 1, w, c};
  return copy_as(ctx, t, (pg_dtype)t->dtype, stride, out);
}

pg_status pg__as(pg_ctx *ctx, pg_tensor *t, pg_dtype dtype, pg_tensor **out) {
  *out = NULL;
  if (t->dtype == dtype && pg_is_contiguous(t)) {
    *out = pg_tensor_ref(t);
    return PG_OK;
  }
  return copy_as(ctx, t, dtype, NULL, out);
}

double pg_at_f64(const pg_tensor *t, int64_t offset) {
  const void *p = peek(t);
  switch (t->dtype) {
  case PG_F32:
    return ((const float *)p)[offset];
  case PG_F64:
    return ((const double *)p)[offset];
  case PG_BF16:
    return pg_bf16_f32(((const uint16_t *)p)[offset]);
  case PG_I64:
    return (double)((const int64_t *)p)[offset];
  default:
    return ((const uint8_t *)p)[offset];
  }
}

int64_t pg_at_i64(const pg_tensor *t, int64_t offset) {
  if (t->dtype == PG_I64) return ((const int64_t *)peek(t))[offset];
  double v = pg_at_f64(t, offset);
  if (!(v > -0x1p63)) return v != v ? 0 : INT64_MIN;
  return v < 0x1p63 ? (int64_t)v : INT64_MAX;
}

void pg_put_f64(pg_tensor *t, int64_t offset, double v) {
  void *p = peek(t);
  switch (t->dtype) {
  case PG_F32:
    ((float *)p)[offset] = (float)v;
    break;
  case PG_F64:
    ((double *)p)[offset] = v;
    break;
  case PG_BF16:
    ((uint16_t *)p)[offset] = pg_f32_bf16((float)v);
    break;
  case PG_I64:
    ((int64_t *)p)[offset] = v >= -0x1p63 && v < 0x1p63 ? (int64_t)v : INT64_MIN;
    break;
  case PG_U8:
    v = pg_wrap_u8(v);
    ((uint8_t *)p)[offset] = v > 0 ? (uint8_t)(v < 255 ? v : 255) : 0;
    break;
  default:
    ((uint8_t *)p)[offset] = v != 0;
  }
}

double pg_item_f64(const pg_tensor *t) { return pg_at_f64(t, 0); }
int64_t pg_item_i64(const pg_tensor *t) { return pg_at_i64(t, 0); }
