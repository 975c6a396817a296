/* Storage and tensor: a strided view of at most 8 dims on a shared, versioned block of memory.
 * Relies on base and kernels. Spec: spec/tensor/tensor_spec.lua. */
#ifndef PG_TENSOR_TENSOR_H
#define PG_TENSOR_TENSOR_H

#include "base/ctx.h"
#include "kernels/bf16.h"
#include "perigee.h"

enum {
  PG_HOST = 0,
  PG_META = 1
};                   /* PG_META: shape and dtype without memory, for shape inference */
#define PG_DEVICES 1 /* columns of forward[] */

typedef struct pg_storage {
  int refs, device;
  uint32_t version; /* raised by every in-place change */
  int queued;       /* place in ctx's chain, from 1; 0: no work on it is put off */
  size_t bytes;
  void *data; /* NULL on PG_META */
} pg_storage;

struct pg_tensor {
  pg_ctx *ctx;
  pg_storage *storage;
  pg_node *node;   /* what made it, owned; NULL for leaves */
  pg_tensor *grad; /* owned */
  int refs;
  short node_out; /* which output of node */
  unsigned char dtype, nd;
  bool requires_grad;  /* a leaf that wants grad, or a result of one */
  bool is_number;      /* a scalar that came from a Lua number: weak in dtype promotion */
  bool is_int_number;  /* .. and was an integer */
  bool is_bool_number; /* .. or true or false */
  bool is_param;       /* outlives scopes */
  bool is_view;        /* made as a view of another tensor */
  int64_t offset;      /* in elements */
  int64_t shape[PG_MAX_DIMS], stride[PG_MAX_DIMS]; /* strides in elements, may be 0 or negative */
  void *hooks;                                     /* of a leaf: pg_hook list, see autograd */
  pg_tensor *low;       /* of a leaf under autocast: its bfloat16 copy, owned; outside any graph */
  uint32_t low_version; /* of the storage when low was made */
};

typedef struct pg_str {
  char s[192];
} pg_str;
pg_str pg_shape_str(const pg_tensor *t); /* "[32 x 10]", scalars "[]" */
pg_str pg_shape_str_of(int nd, const int64_t *shape);

/* chain.c: t's elements are looked at: work on them that was put off is done, and none is put off
 * while what runs may still hold the pointer. */
void pg__chain_met(const pg_tensor *t);

/* The one accessor of element memory; t must be on the host. */
static inline void *pg_data(const pg_tensor *t) {
  PG_ASSERT(t->storage->device == PG_HOST);
  if (__builtin_expect(t->ctx->chain != NULL, 0)) pg__chain_met(t);
  static const unsigned char size[PG_NDTYPES] = {4, 8, 2, 8, 1, 1};
  return (char *)t->storage->data + t->offset * size[t->dtype];
}

/* A number as an element of uint8 holds it: negative ones wrap, as -3 becomes 253. */
static inline double pg_wrap_u8(double v) {
  return v < 0 && v > -0x1p63 ? (double)((int64_t)v & 255) : v;
}

static inline int64_t pg_numel_of(int nd, const int64_t *shape) {
  int64_t n = 1;
  for (int i = 0; i < nd; i++) n *= shape[i];
  return n;
}
static inline int64_t pg_numel(const pg_tensor *t) { return pg_numel_of(t->nd, t->shape); }
static inline bool pg_is_float(pg_dtype d) { return d == PG_F32 || d == PG_F64 || d == PG_BF16; }

/* What should have been of a shape with negative sizes, too many dims or too many elements for
 * memory, in the words of a message; else NULL and the product of its sizes. */
const char *pg_shape_fault(pg_dtype dtype, int nd, const int64_t *shape, int64_t *numel);
/* PG_ESHAPE where pg_shape_fault finds fault. */
pg_status pg_shape_check(pg_ctx *ctx, pg_dtype dtype, int nd, const int64_t *shape, int64_t *numel);
void pg_contiguous_strides(int nd, const int64_t *shape, int64_t *stride);
bool pg_same_shape(const pg_tensor *a, const pg_tensor *b);

/* --- make.c: all *out are owned by the caller ----------------------------------------------------
 */
/* With these strides (dense and non-overlapping, e.g. channels-last). stride NULL: contiguous. */
pg_status pg_tensor_new_strided(pg_ctx *ctx, pg_dtype dtype, int nd, const int64_t *shape,
                                const int64_t *stride, int device, pg_tensor **out);
/* The same for a shape that passed pg_shape_check, of n elements. */
pg_status pg__tensor_new_checked(pg_ctx *ctx, pg_dtype dtype, int nd, const int64_t *shape,
                                 const int64_t *stride, int64_t n, int device, pg_tensor **out);
/* Same shape; same strides where t is dense, else contiguous. */
pg_status pg_tensor_new_like(pg_ctx *ctx, const pg_tensor *t, pg_dtype dtype, pg_tensor **out);
/* N x C x H x W with C fastest in memory. */
pg_status pg_tensor_new_channels_last(pg_ctx *ctx, pg_dtype dtype, const int64_t shape[4],
                                      pg_tensor **out);
/* A view: shares storage, no node, no grad. */
pg_status pg_tensor_alias(pg_ctx *ctx, const pg_tensor *t, int nd, const int64_t *shape,
                          const int64_t *stride, int64_t offset, pg_tensor **out);
/* A view of all of t, cut off from the graph. */
pg_status pg_tensor_detach(pg_ctx *ctx, const pg_tensor *t, pg_tensor **out);
pg_status pg_tensor_clone(pg_ctx *ctx, const pg_tensor *t,
                          pg_tensor **out); /* dense copy, no node */
pg_status pg_tensor_number(pg_ctx *ctx, double v, bool is_int,
                           pg_tensor **out); /* 0-dim, is_number */
pg_status pg_tensor_zeros(pg_ctx *ctx, pg_dtype dtype, int nd, const int64_t *shape,
                          pg_tensor **out);

/* --- shape.c -------------------------------------------------------------------------------------
 */
bool pg_is_contiguous(const pg_tensor *t);
bool pg_is_channels_last(
    const pg_tensor *t); /* 4-dim, C fastest, dense; false where contiguous says it all */
bool pg_is_dense(const pg_tensor *t); /* some permutation of the dims is contiguous */
/* Broadcast of a and b into shape, which may be one of them; false, and nothing written, where they
 * do not broadcast. */
bool pg_broadcasts(int na, const int64_t *a, int nb, const int64_t *b, int *nd, int64_t *shape);
/* The same; PG_ESHAPE names both. */
pg_status pg_broadcast(pg_ctx *ctx, int na, const int64_t *a, int nb, const int64_t *b, int *nd,
                       int64_t *shape);
/* Strides of t seen as `shape` (broadcast dims get 0). t must broadcast to it. */
void pg_broadcast_strides(const pg_tensor *t, int nd, const int64_t *shape, int64_t *stride);
/* Strides that view t as `shape` without copying; false if there are none. */
bool pg_view_strides(const pg_tensor *t, int nd, const int64_t *shape, int64_t *stride);
/* 1-based or negative dim -> 0-based; what names the argument. A scalar counts as one dim. */
pg_status pg_dim(pg_ctx *ctx, const char *what, int64_t dim, int nd, int *out);

/* --- copy.c --------------------------------------------------------------------------------------
 */
/* dst[..] = src broadcast and cast to dst; raises dst's version. */
pg_status pg_tensor_copy(pg_tensor *dst, const pg_tensor *src);
void pg_tensor_fill(pg_tensor *t, double v);
/* dst += src, broadcast; same floating dtype. */
void pg__add_in_place(pg_tensor *dst, const pg_tensor *src);
/* *out = t itself (one more ref) where contiguous, else a contiguous copy. No graph. */
pg_status pg__contiguous(pg_ctx *ctx, pg_tensor *t, pg_tensor **out);
/* *out = t itself where channels-last, else a copy that is. */
pg_status pg__channels_last(pg_ctx *ctx, pg_tensor *t, pg_tensor **out);
/* *out = t itself where it has dtype and is contiguous, else a contiguous cast. No graph. */
pg_status pg__as(pg_ctx *ctx, pg_tensor *t, pg_dtype dtype, pg_tensor **out);
/* First element as a double / integer. */
double pg_item_f64(const pg_tensor *t);
int64_t pg_item_i64(const pg_tensor *t);
/* Element at a memory offset (elements from t's first), any dtype. */
double pg_at_f64(const pg_tensor *t, int64_t offset);
int64_t pg_at_i64(const pg_tensor *t, int64_t offset);
void pg_put_f64(pg_tensor *t, int64_t offset, double v);

/* --- show.c --------------------------------------------------------------------------------------
 */
/* Writes t as text into a block of *len bytes from pg_alloc; free with pg_free(ctx, *out, *len +
 * 1). */
pg_status pg_tensor_show(pg_ctx *ctx, const pg_tensor *t, char **out, size_t *len);

#endif
