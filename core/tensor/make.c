/* Making and releasing storages and tensors. Relies on shape, copy, chain. Spec:
 * spec/tensor/tensor_spec.lua. */
#include <string.h>

#include "tensor/chain.h"

static const unsigned char sizes[PG_NDTYPES] = {
#define X(code, name, bytes) bytes,
    PG_DTYPE_LIST(X)
#undef X
};

const char *pg_dtype_name(pg_dtype d) {
  static const char *const name[PG_NDTYPES] = {
#define X(code, text, bytes) text,
      PG_DTYPE_LIST(X)
#undef X
  };
  return (unsigned)d < PG_NDTYPES ? name[d] : "?";
}

size_t pg_dtype_size(pg_dtype d) { return sizes[d]; }

/* Few bytes lie behind the storage, in its block. */
enum { HEADER = 64, FEW_BYTES = 960 };
_Static_assert(sizeof(pg_storage) <= HEADER, "data is aligned to 64 bytes");

static bool is_few(size_t bytes, int device) { return bytes <= FEW_BYTES && device != PG_META; }

static pg_status storage_new(pg_ctx *ctx, size_t bytes, int device, pg_storage **out) {
  bool few = is_few(bytes, device);
  PG_TRY(pg_alloc(ctx, few ? HEADER + bytes : sizeof **out, (void **)out));
  pg_storage *s = *out;
  *s = (pg_storage){.refs = 1, .device = device, .bytes = bytes};
  if (few) s->data = (char *)s + HEADER;
  if (few || device == PG_META) return PG_OK;
  pg_status status = pg_alloc(ctx, bytes, &s->data);
  if (status != PG_OK) {
    pg_free(ctx, s, sizeof *s);
    *out = NULL;
  }
  return status;
}

void pg__storage_free(pg_ctx *ctx, pg_storage *s) {
  if (is_few(s->bytes, s->device)) {
    pg_free(ctx, s, HEADER + s->bytes);
    return;
  }
  pg_free(ctx, s->data, s->bytes);
  pg_free(ctx, s, sizeof *s);
}

static void storage_unref(pg_ctx *ctx, pg_storage *s) {
  if (!s || --s->refs) return;
  if (s->queued) pg__chain_keep(ctx, s);
  else pg__storage_free(ctx, s);
}

/* A tensor head that owns one ref of storage; on failure storage is unreffed. */
static pg_status head_new(pg_ctx *ctx, pg_storage *storage, pg_dtype dtype, int nd,
                          const int64_t *shape, const int64_t *stride, int64_t offset,
                          pg_tensor **out) {
  pg_tensor *t;
  pg_status s = pg_alloc(ctx, sizeof *t, (void **)&t);
  if (s != PG_OK) {
    storage_unref(ctx, storage);
    return s;
  }
  memset(t, 0, offsetof(pg_tensor, shape)); /* sizes beyond nd are never read */
  t->hooks = NULL;
  t->low = NULL;
  t->ctx = ctx;
  t->storage = storage;
  t->refs = 1;
  t->dtype = (unsigned char)dtype;
  t->nd = (unsigned char)nd;
  t->offset = offset;
  for (int i = 0; i < nd; i++) t->shape[i] = shape[i];
  if (stride)
    for (int i = 0; i < nd; i++) t->stride[i] = stride[i];
  else pg_contiguous_strides(nd, shape, t->stride);
  *out = t;
  return PG_OK;
}

pg_status pg_tensor_new_strided(pg_ctx *ctx, pg_dtype dtype, int nd, const int64_t *shape,
                                const int64_t *stride, int device, pg_tensor **out) {
  int64_t n;
  *out = NULL;
  PG_TRY(pg_shape_check(ctx, dtype, nd, shape, &n));
  return pg__tensor_new_checked(ctx, dtype, nd, shape, stride, n, device, out);
}

pg_status pg__tensor_new_checked(pg_ctx *ctx, pg_dtype dtype, int nd, const int64_t *shape,
                                 const int64_t *stride, int64_t n, int device, pg_tensor **out) {
  *out = NULL;
  pg_storage *storage;
  PG_TRY(storage_new(ctx, (size_t)n * sizes[dtype], device, &storage));
  return head_new(ctx, storage, dtype, nd, shape, stride, 0, out);
}

pg_status pg_tensor_new(pg_ctx *ctx, pg_dtype dtype, int nd, const int64_t *shape,
                        pg_tensor **out) {
  return pg_tensor_new_strided(ctx, dtype, nd, shape, NULL, PG_HOST, out);
}

pg_status pg_tensor_new_like(pg_ctx *ctx, const pg_tensor *t, pg_dtype dtype, pg_tensor **out) {
  return pg_tensor_new_strided(ctx, dtype, t->nd, t->shape, pg_is_dense(t) ? t->stride : NULL,
                               t->storage->device, out);
}

pg_status pg_tensor_new_channels_last(pg_ctx *ctx, pg_dtype dtype, const int64_t shape[4],
                                      pg_tensor **out) {
  int64_t c = shape[1], w = shape[3] * c, h = shape[2] * w;
  int64_t stride[4] = {h, 1, w, c};
  return pg_tensor_new_strided(ctx, dtype, 4, shape, stride, PG_HOST, out);
}

pg_status pg_tensor_alias(pg_ctx *ctx, const pg_tensor *t, int nd, const int64_t *shape,
                          const int64_t *stride, int64_t offset, pg_tensor **out) {
  *out = NULL;
  t->storage->refs++;
  return head_new(ctx, t->storage, t->dtype, nd, shape, stride, offset, out);
}

pg_status pg_tensor_detach(pg_ctx *ctx, const pg_tensor *t, pg_tensor **out) {
  PG_TRY(pg_tensor_alias(ctx, t, t->nd, t->shape, t->stride, t->offset, out));
  (*out)->is_number = t->is_number;
  (*out)->is_int_number = t->is_int_number;
  (*out)->is_bool_number = t->is_bool_number;
  return PG_OK;
}

pg_status pg_tensor_clone(pg_ctx *ctx, const pg_tensor *t, pg_tensor **out) {
  PG_TRY(pg_tensor_new_like(ctx, t, t->dtype, out));
  if (t->storage->device == PG_META) return PG_OK;
  pg_status s = pg_tensor_copy(*out, t);
  if (s != PG_OK) {
    pg_tensor_unref(*out);
    *out = NULL;
  }
  return s;
}

pg_status pg_tensor_number(pg_ctx *ctx, double v, bool is_int, pg_tensor **out) {
  PG_TRY(pg_tensor_new(ctx, PG_F64, 0, NULL, out));
  *(double *)(*out)->storage->data = v;
  (*out)->is_number = true;
  (*out)->is_int_number = is_int;
  return PG_OK;
}

pg_status pg_tensor_zeros(pg_ctx *ctx, pg_dtype dtype, int nd, const int64_t *shape,
                          pg_tensor **out) {
  PG_TRY(pg_tensor_new(ctx, dtype, nd, shape, out));
  memset((*out)->storage->data, 0, (*out)->storage->bytes);
  return PG_OK;
}

pg_tensor *pg_tensor_ref(pg_tensor *t) {
  if (t) t->refs++;
  return t;
}

/* low has neither gradient, node nor copy of its own. */
static void low_free(pg_tensor *low) {
  if (--low->refs) return;
  storage_unref(low->ctx, low->storage);
  pg_free(low->ctx, low, sizeof *low);
}

void pg_tensor_unref(pg_tensor *t) {
  while (t && --t->refs == 0) {
    pg_tensor *grad = t->grad; /* freed by the loop: a gradient may have a gradient */
    pg_node *node = t->node;
    pg_ctx *ctx = t->ctx;
    if (t->hooks) ctx->hooks_drop(t->hooks);
    if (t->low) low_free(t->low);
    storage_unref(ctx, t->storage);
    pg_free(ctx, t, sizeof *t);
    if (node) ctx->node_unref(node);
    t = grad;
  }
}

void *pg_tensor_data(const pg_tensor *t) { return pg_data(t); }
int pg_tensor_dim(const pg_tensor *t) { return t->nd; }
const int64_t *pg_tensor_shape(const pg_tensor *t) { return t->shape; }
const int64_t *pg_tensor_stride(const pg_tensor *t) { return t->stride; }
int64_t pg_tensor_numel(const pg_tensor *t) { return pg_numel(t); }
pg_dtype pg_tensor_dtype(const pg_tensor *t) { return (pg_dtype)t->dtype; }
pg_tensor *pg_tensor_grad(const pg_tensor *t) { return t->grad; }

pg_status pg_tensor_requires_grad(pg_tensor *t, bool on) {
  if (on && !pg_is_float((pg_dtype)t->dtype))
    return pg_fail(t->ctx, PG_EDTYPE,
                   "argument 'requires_grad': expected false for a tensor that is not floating, "
                   "got true for %s",
                   pg_dtype_name((pg_dtype)t->dtype));
  if (!on && t->node)
    return pg_fail(
        t->ctx, PG_ESTATE,
        "argument 'requires_grad': expected true for the result of an op, got false; use detach()");
  if (on || !t->node) t->requires_grad = on;
  return PG_OK;
}
