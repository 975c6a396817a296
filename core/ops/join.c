/* Joining and repeating: cat, stack, tile, repeat_interleave, flip, roll, pad. Relies on views of
 * the output and the copying iterator. Spec: spec/ops/join_spec.lua. */
#include <string.h>

#include "autograd/op.h"
#include "base/par.h"
#include "tensor/iter.h"

static int64_t product_of(const int64_t *v, int from, int to) {
  int64_t n = 1;
  for (int i = from; i < to; i++) n *= v[i];
  return n;
}

/* Copies src to the part of y at `start` (per dim, NULL: zeros) with src's shape. */
static pg_status copy_block(pg_ctx *ctx, pg_tensor *y, const int64_t *start, pg_tensor *src) {
  int64_t offset = y->offset;
  pg_tensor *part;
  for (int i = 0; i < y->nd && start; i++) offset += start[i] * y->stride[i];
  PG_TRY(pg_tensor_alias(ctx, y, src->nd, src->shape, y->stride, offset, &part));
  pg_status s = pg_tensor_copy(part, src);
  pg_tensor_unref(part);
  return s;
}

/* --- cat and stack -----------------------------------------------------------------------------
 */
/* PyTorch lets an empty vector stand for "nothing" in any list. */
static bool is_nothing(int nd, const int64_t *shape) { return nd == 1 && shape[0] == 0; }

static pg_status infer_cat(pg_call *c) {
  const pg_tensor *first = NULL;
  bool channels_last = true;
  if (c->nin == 0)
    return pg_fail(c->ctx, PG_EARG, "argument '%s': expected at least one tensor, got none",
                   pg_in_name(c, 0));
  for (int i = 0; i < c->nin; i++) {
    const pg_tensor *t = c->in[i];
    if (t->nd == 0)
      return pg_fail(
          c->ctx, PG_ESHAPE,
          "argument '%s': expected at least 1 dim, got [] as tensor %d; use stack for scalars",
          pg_in_name(c, i), i + 1);
    if (is_nothing(t->nd, t->shape)) continue;
    if (!first) first = t;
    channels_last = channels_last && pg_is_channels_last(t) && !pg_is_contiguous(t);
  }
  if (!first) first = c->in[0];
  int dim;
  PG_TRY(pg_arg_dim(c, 0, first->nd, &dim));
  int64_t shape[PG_MAX_DIMS], total = 0;
  for (int i = 0; i < c->nin; i++) {
    const pg_tensor *t = c->in[i];
    if (is_nothing(t->nd, t->shape) && t->nd != first->nd) continue;
    bool fits = t->nd == first->nd;
    for (int k = 0; k < first->nd && fits; k++) fits = k == dim || t->shape[k] == first->shape[k];
    if (!fits && !is_nothing(t->nd, t->shape))
      return pg_fail(
          c->ctx, PG_ESHAPE,
          "argument '%s': expected tensors like the first %s but in dim %d, got %s as tensor %d",
          pg_in_name(c, i), pg_shape_str(first).s, dim + 1, pg_shape_str(t).s, i + 1);
    total += t->shape[dim];
  }
  memcpy(shape, first->shape, sizeof shape);
  shape[dim] = total;
  PG_TRY(pg_out_shape(c, 0, pg_promote(c, c->nin), first->nd, shape));
  if (first->nd == 4 && channels_last) {
    int64_t w = shape[1], h = w * shape[3], n = h * shape[2];
    memcpy(c->os[0].stride, (int64_t[4]){n, 1, h, w}, 4 * sizeof *shape);
    c->os[0].strided = true;
  }
  return PG_OK;
}

/* Rows of y made of a piece of each input: all contiguous and of one dtype. */
typedef struct braid {
  pg_call *c;
  int dim;      /* cat: the pieces' length is the input's size there; stack: -1 */
  size_t size;  /* bytes of an element */
  size_t inner; /* bytes of all that one index into dim holds */
  size_t row;   /* bytes of a row of y */
  bool single;  /* every piece is one element */
  bool stream;  /* y goes past the caches */
} braid;

/* Bytes that a braid makes at once: they stay in the nearest cache. */
enum { BRAID_BLOCK = 8192 };

static size_t piece_of(const braid *q, int i) {
  const pg_tensor *t = q->c->in[i];
  if (q->dim < 0) return q->inner;
  return t->nd == q->c->out[0]->nd ? (size_t)t->shape[q->dim] * q->inner : 0;
}

/* WEAVE(32) -> static void weave_32(q, begin, end, to): rows [begin, end) whose pieces are all one
 * element, four inputs at a time. */
#define WEAVE(BITS)                                                                \
  static void weave_##BITS(const braid *q, int64_t begin, int64_t end, char *to) { \
    typedef uint##BITS##_t T;                                                      \
    const int64_t n = end - begin;                                                 \
    const int k = q->c->nin;                                                       \
    for (int j = 0; j < k; j += 4) {                                               \
      const int m = k - j < 4 ? k - j : 4;                                         \
      T *restrict y = (T *)to + j;                                                 \
      const T *x[4];                                                               \
      for (int i = 0; i < 4; i++)                                                  \
        x[i] = (const T *)pg_data(q->c->in[j + (i < m ? i : 0)]) + begin;          \
      const T *restrict a = x[0], *restrict b = x[1];                              \
      const T *restrict c = x[2], *restrict d = x[3];                              \
      if (k == 2) WEAVE2(2);                                                       \
      else if (k == 3) WEAVE3(3);                                                  \
      else if (k == 4) WEAVE4(4);                                                  \
      else if (m == 4) WEAVE4(k);                                                  \
      else if (m == 3) WEAVE3(k);                                                  \
      else if (m == 2) WEAVE2(k);                                                  \
      else WEAVE1(k);                                                              \
    }                                                                              \
  }
#define WEAVE1(k) \
  for (int64_t i = 0; i < n; i++) y[(k)*i] = a[i]
#define WEAVE2(k)                     \
  do {                                \
    for (int64_t i = 0; i < n; i++) { \
      y[(k)*i] = a[i];                \
      y[(k)*i + 1] = b[i];            \
    }                                 \
  } while (0)
#define WEAVE3(k)                     \
  do {                                \
    for (int64_t i = 0; i < n; i++) { \
      y[(k)*i] = a[i];                \
      y[(k)*i + 1] = b[i];            \
      y[(k)*i + 2] = c[i];            \
    }                                 \
  } while (0)
#define WEAVE4(k)                     \
  do {                                \
    for (int64_t i = 0; i < n; i++) { \
      y[(k)*i] = a[i];                \
      y[(k)*i + 1] = b[i];            \
      y[(k)*i + 2] = c[i];            \
      y[(k)*i + 3] = d[i];            \
    }                                 \
  } while (0)
WEAVE(8)
WEAVE(16)
WEAVE(32)
WEAVE(64)

static void braid_block(const braid *q, int64_t begin, int64_t end, char *to) {
  if (q->single) {
    if (q->size == 4) weave_32(q, begin, end, to);
    else if (q->size == 8) weave_64(q, begin, end, to);
    else if (q->size == 2) weave_16(q, begin, end, to);
    else weave_8(q, begin, end, to);
    return;
  }
  const pg_kern *kern = pg__kern(q->c->ctx);
  for (int i = 0; i < q->c->nin; i++) {
    const size_t piece = piece_of(q, i);
    if (!piece) continue;
    kern->rows(end - begin, piece, to, (int64_t)q->row,
               (const char *)pg_data(q->c->in[i]) + (size_t)begin * piece, (int64_t)piece);
    to += piece;
  }
}

static void braid_rows(void *arg, int64_t begin, int64_t end) {
  const braid *q = arg;
  const pg_kern *kern = pg__kern(q->c->ctx);
  char *y = pg_data(q->c->out[0]);
  const int64_t most = pg_max64(1, BRAID_BLOCK / (int64_t)q->row);
  _Alignas(64) char block[BRAID_BLOCK];
  for (int64_t n; begin < end; begin += n) {
    n = pg_min64(end - begin, most);
    char *to = y + (size_t)begin * q->row;
    braid_block(q, begin, begin + n, q->stream ? block : to);
    if (q->stream) kern->stream(to, block, (size_t)n * q->row);
  }
  if (q->stream) kern->settle();
}

/* Joins inputs whose pieces are short in one walk over y, cat's at dim `at`; false: not so, nothing
 * was done. */
static bool join_short(pg_call *c, int at, bool stack) {
  const pg_tensor *y = c->out[0];
  braid q = {.c = c, .dim = stack ? -1 : at, .size = pg_dtype_size((pg_dtype)y->dtype)};
  const int64_t count = product_of(y->shape, 0, at), total = pg_numel(y) * (int64_t)q.size;
  if (count < 2 || !total || !pg_is_contiguous(y)) return false;
  q.inner = (size_t)product_of(y->shape, at + 1, y->nd) * q.size;
  q.row = (size_t)y->shape[at] * q.inner;
  if (q.row > BRAID_BLOCK) return false;
  q.single = true;
  for (int i = 0; i < c->nin; i++) {
    q.single = q.single && piece_of(&q, i) == q.size;
    if (piece_of(&q, i) == 0) continue;
    if (c->in[i]->dtype != y->dtype || !pg_is_contiguous(c->in[i])) return false;
  }
  q.stream = 2 * total >= 40 << 20;
  pg_par_for(c->ctx, count, pg_grain((int64_t)(q.row / q.size)), braid_rows, &q);
  return true;
}

static pg_status forward_cat(pg_call *c) {
  pg_tensor *y = c->out[0];
  int64_t start[PG_MAX_DIMS] = {0};
  int dim;
  PG_TRY(pg_arg_dim(c, 0, y->nd, &dim));
  if (join_short(c, dim, false)) return PG_OK;
  for (int i = 0; i < c->nin; i++) {
    pg_tensor *t = c->in[i];
    if (t->nd != y->nd) continue;
    PG_TRY(copy_block(c->ctx, y, start, t));
    start[dim] += t->shape[dim];
  }
  return PG_OK;
}

static pg_status backward_cat(pg_call *c) {
  pg_tensor *g = c->gout[0];
  int dim;
  int64_t start = 1;
  PG_TRY(pg_arg_dim(c, 0, g->nd, &dim));
  for (int i = 0; i < c->nin; i++) {
    if (c->meta[i].nd != g->nd) continue;
    int64_t n = c->meta[i].shape[dim];
    if (c->need[i] && n)
      PG_TRY(pg_do(c->ctx, &c->gin[i], "narrow", "tiii", g, (int64_t)dim + 1, start, n));
    start += n;
  }
  return PG_OK;
}

static pg_status infer_stack(pg_call *c) {
  if (c->nin == 0)
    return pg_fail(c->ctx, PG_EARG, "argument '%s': expected at least one tensor, got none",
                   pg_in_name(c, 0));
  const pg_tensor *first = c->in[0];
  int dim, nd = 0;
  PG_TRY(pg_arg_dim(c, 0, first->nd + 1, &dim));
  if (first->nd == PG_MAX_DIMS)
    return pg_bad_in(c, PG_ESHAPE, 0, "at most %d dims", PG_MAX_DIMS - 1);
  for (int i = 1; i < c->nin; i++)
    if (!pg_same_shape(first, c->in[i]))
      return pg_fail(c->ctx, PG_ESHAPE,
                     "argument '%s': expected tensors like the first %s, got %s as tensor %d",
                     pg_in_name(c, i), pg_shape_str(first).s, pg_shape_str(c->in[i]).s, i + 1);
  int64_t shape[PG_MAX_DIMS];
  for (int i = 0; i <= first->nd; i++) {
    if (i == dim) shape[nd++] = c->nin;
    if (i < first->nd) shape[nd++] = first->shape[i];
  }
  return pg_out_shape(c, 0, pg_promote(c, c->nin), nd, shape);
}

static pg_status forward_stack(pg_call *c) {
  pg_tensor *y = c->out[0];
  int dim, nd = 0;
  PG_TRY(pg_arg_dim(c, 0, y->nd, &dim));
  if (join_short(c, dim, true)) return PG_OK;
  int64_t stride[PG_MAX_DIMS];
  for (int i = 0; i < y->nd; i++)
    if (i != dim) stride[nd++] = y->stride[i];
  for (int i = 0; i < c->nin; i++) {
    pg_tensor *part;
    PG_TRY(pg_tensor_alias(c->ctx, y, nd, c->in[i]->shape, stride, y->offset + i * y->stride[dim],
                           &part));
    pg_status s = pg_tensor_copy(part, c->in[i]);
    pg_tensor_unref(part);
    PG_TRY(s);
  }
  return PG_OK;
}

static pg_status backward_stack(pg_call *c) {
  for (int i = 0; i < c->nin; i++)
    if (c->need[i])
      PG_TRY(pg_do(c->ctx, &c->gin[i], "select", "tii", c->gout[0], c->arg[0].i, (int64_t)i + 1));
  return PG_OK;
}

/* --- tile --------------------------------------------------------------------------------------
 */
static pg_status infer_tile(pg_call *c) {
  const pg_tensor *x = c->in[0];
  const pg_arg *a = &c->arg[0];
  int nd = a->n > x->nd ? a->n : x->nd;
  int64_t shape[PG_MAX_DIMS];
  if (nd > PG_MAX_DIMS) return pg_bad_arg(c, PG_ESHAPE, 0, "at most %d dims", PG_MAX_DIMS);
  for (int i = 0; i < nd; i++) {
    int kx = i - (nd - x->nd), ka = i - (nd - a->n);
    int64_t times = ka < 0 ? 1 : a->v[ka], size = kx < 0 ? 1 : x->shape[kx];
    if (times < 0 || (size && times > INT64_MAX / size))
      return pg_bad_arg(c, PG_EARG, 0, "counts from 0 that memory can hold for input %s",
                        pg_shape_str(x).s);
    shape[i] = times * size;
  }
  return pg_out_shape(c, 0, (pg_dtype)x->dtype, nd, shape);
}

typedef struct tiling {
  int nd;
  size_t size; /* of an element */
  const int64_t *shape;
  int64_t from[PG_MAX_DIMS], step[PG_MAX_DIMS]; /* of the input, padded to nd dims */
  const char *x;
  char *y;
} tiling;

/* Rows [begin, end) of the output: each repeats one row of the input. */
static void tile_rows(void *arg, int64_t begin, int64_t end) {
  const tiling *q = arg;
  int last = q->nd - 1;
  size_t row = (size_t)q->from[last] * q->size;
  int64_t times = q->shape[last] / q->from[last];
  for (int64_t r = begin; r < end; r++) {
    int64_t rest = r, at = 0;
    for (int d = last - 1; d >= 0; d--) {
      at += rest % q->shape[d] % q->from[d] * q->step[d];
      rest /= q->shape[d];
    }
    char *to = q->y + (size_t)r * row * (size_t)times;
    for (int64_t k = 0; k < times; k++)
      memcpy(to + (size_t)k * row, q->x + (size_t)at * q->size, row);
  }
}

static pg_status forward_tile(pg_call *c) {
  pg_tensor *x, *y = c->out[0];
  if (pg_numel(y) == 0) return PG_OK;
  if (y->nd == 0) return pg_tensor_copy(y, c->in[0]);
  PG_TRY(pg__contiguous(c->ctx, c->in[0], &x));
  tiling q = {.nd = y->nd, .size = pg_dtype_size((pg_dtype)x->dtype), .shape = y->shape};
  int64_t step = 1;
  for (int i = y->nd - 1; i >= 0; i--) {
    int k = i - (y->nd - x->nd);
    q.from[i] = k < 0 ? 1 : x->shape[k];
    q.step[i] = step;
    step *= q.from[i];
  }
  q.x = pg_data(x);
  q.y = pg_data(y);
  int64_t width = y->shape[y->nd - 1];
  pg_par_for(c->ctx, pg_numel(y) / width, pg_grain(width), tile_rows, &q);
  pg_tensor_unref(x);
  return PG_OK;
}

/* Sums the repetitions of one dim after another. */
static pg_status backward_tile(pg_call *c) {
  const pg_meta *m = &c->meta[0];
  int64_t shape[PG_MAX_DIMS];
  pg_tensor *g = pg_tensor_ref(c->gout[0]);
  int nd = g->nd;
  memcpy(shape, g->shape, sizeof shape);
  pg_status s = PG_OK;
  if (pg_numel(g) == 0) goto done; /* nothing flows */
  for (int i = 0; i < nd && s == PG_OK; i++) {
    int k = i - (nd - m->nd);
    int64_t size = k < 0 ? 1 : m->shape[k], times = shape[i] / size;
    if (times == 1) continue;
    int64_t split[4] = {product_of(shape, 0, i), times, size, product_of(shape, i + 1, nd)};
    pg_tensor *wide = NULL, *sum = NULL;
    s = pg_do(c->ctx, &wide, "view", "tl", g, 4, split);
    if (s == PG_OK) s = pg_do(c->ctx, &sum, "sum", "tl", wide, 1, (int64_t[]){2});
    pg_tensor_unref(wide);
    if (s != PG_OK) break;
    pg_tensor_unref(g);
    g = sum;
    shape[i] = size;
  }
  if (s == PG_OK) s = pg_do(c->ctx, &c->gin[0], "view", "tl", g, (int)m->nd, m->shape);
done:
  pg_tensor_unref(g);
  return s;
}

/* --- repeat_interleave -------------------------------------------------------------------------
 */
/* m as [before x n x 1 x after] around dim; without dim everything is n. */
static pg_status around(pg_call *c, int nd, const int64_t *shape, int64_t *four) {
  int dim = 0;
  four[0] = four[2] = four[3] = 1;
  four[1] = product_of(shape, 0, nd);
  if (!c->arg[1].set) return PG_OK;
  PG_TRY(pg_arg_dim(c, 1, nd, &dim));
  if (nd == 0) return PG_OK;
  four[0] = product_of(shape, 0, dim);
  four[1] = shape[dim];
  four[3] = product_of(shape, dim + 1, nd);
  return PG_OK;
}

static pg_status infer_repeat_interleave(pg_call *c) {
  const pg_tensor *x = c->in[0];
  int64_t shape[PG_MAX_DIMS], times = c->arg[0].i;
  int dim = 0, nd = x->nd;
  if (c->arg[1].set) PG_TRY(pg_arg_dim(c, 1, nd, &dim));
  memcpy(shape, x->shape, sizeof shape);
  if (!c->arg[1].set || nd == 0) {
    shape[0] = pg_numel(x);
    nd = 1;
  }
  if (times < 0 || (shape[dim] && times > INT64_MAX / shape[dim]))
    return pg_bad_arg(c, PG_EARG, 0, "a count from 0 that memory can hold for input %s",
                      pg_shape_str(x).s);
  shape[dim] *= times;
  return pg_out_shape(c, 0, (pg_dtype)x->dtype, nd, shape);
}

static pg_status forward_repeat_interleave(pg_call *c) {
  int64_t four[4];
  pg_tensor *x = NULL, *from = NULL, *to = NULL;
  if (pg_numel(c->out[0]) == 0) return PG_OK;
  PG_TRY(around(c, c->in[0]->nd, c->in[0]->shape, four));
  pg_status s = pg__contiguous(c->ctx, c->in[0], &x);
  if (s == PG_OK) s = pg_tensor_alias(c->ctx, x, 4, four, NULL, x->offset, &from);
  four[2] = c->arg[0].i;
  if (s == PG_OK) s = pg_tensor_alias(c->ctx, c->out[0], 4, four, NULL, c->out[0]->offset, &to);
  if (s == PG_OK) s = pg_tensor_copy(to, from);
  pg_tensor_unref(to);
  pg_tensor_unref(from);
  pg_tensor_unref(x);
  return s;
}

static pg_status backward_repeat_interleave(pg_call *c) {
  const pg_meta *m = &c->meta[0];
  int64_t four[4];
  pg_tensor *wide = NULL, *sum = NULL;
  PG_TRY(around(c, m->nd, m->shape, four));
  four[2] = c->arg[0].i;
  pg_status s = pg_do(c->ctx, &wide, "view", "tl", c->gout[0], 4, four);
  if (s == PG_OK) s = pg_do(c->ctx, &sum, "sum", "tl", wide, 1, (int64_t[]){3});
  if (s == PG_OK) s = pg_do(c->ctx, &c->gin[0], "view", "tl", sum, (int)m->nd, m->shape);
  pg_tensor_unref(sum);
  pg_tensor_unref(wide);
  return s;
}

/* --- flip and roll -----------------------------------------------------------------------------
 */
static pg_status infer_flip(pg_call *c) {
  unsigned mask;
  if (c->arg[0].n) PG_TRY(pg_arg_dims(c, 0, c->in[0]->nd, &mask));
  return pg_out_like(c, 0, (pg_dtype)c->in[0]->dtype, c->in[0]);
}

static pg_status forward_flip(pg_call *c) {
  pg_tensor *x = c->in[0], *turned;
  int64_t stride[PG_MAX_DIMS], offset = x->offset;
  unsigned mask = 0;
  if (pg_numel(x) == 0) return PG_OK;
  if (c->arg[0].n) PG_TRY(pg_arg_dims(c, 0, x->nd, &mask));
  for (int i = 0; i < x->nd; i++) {
    bool on = mask >> i & 1;
    stride[i] = on ? -x->stride[i] : x->stride[i];
    if (on) offset += (x->shape[i] - 1) * x->stride[i];
  }
  PG_TRY(pg_tensor_alias(c->ctx, x, x->nd, x->shape, stride, offset, &turned));
  pg_status s = pg_tensor_copy(c->out[0], turned);
  pg_tensor_unref(turned);
  return s;
}

static pg_status backward_flip(pg_call *c) {
  return pg_do(c->ctx, &c->gin[0], "flip", "tl", c->gout[0], (int)c->arg[0].n, c->arg[0].v);
}

/* How far each dim moves, 0 <= by < size. */
static pg_status shifts_of(pg_call *c, int nd, const int64_t *shape, int64_t *by) {
  const pg_arg *shifts = &c->arg[0], *dims = &c->arg[1];
  int n = dims->set ? dims->n : 0;
  memset(by, 0, sizeof *by * PG_MAX_DIMS);
  if (shifts->n != (n ? n : 1))
    return pg_bad_arg(c, PG_EARG, 0, "%d integers, one for each of dims", n ? n : 1);
  for (int i = 0; i < n; i++) {
    int dim;
    PG_TRY(pg_dim(c->ctx, "dim", dims->v[i], nd, &dim));
    if (nd == 0 || shape[dim] == 0) continue;
    int64_t size = shape[dim];
    by[dim] = (by[dim] + (shifts->v[i] % size + size) % size) % size;
  }
  return PG_OK;
}

static pg_status infer_roll(pg_call *c) {
  const pg_tensor *x = c->in[0];
  int64_t by[PG_MAX_DIMS];
  PG_TRY(shifts_of(c, x->nd, x->shape, by));
  return pg_out_shape(c, 0, (pg_dtype)x->dtype, x->nd, x->shape);
}

/* y = x moved by `by`: every moved dim falls into two blocks. */
static pg_status roll_blocks(pg_ctx *ctx, pg_tensor *x, pg_tensor *y, const int64_t *by) {
  unsigned moved = 0;
  for (int i = 0; i < x->nd; i++) moved |= (unsigned)(by[i] != 0) << i;
  unsigned wrap = moved;
  for (;;) { /* every subset of moved: the dims whose tail comes to the front */
    int64_t shape[PG_MAX_DIMS], to[PG_MAX_DIMS], offset = x->offset;
    for (int i = 0; i < x->nd; i++) {
      bool tail = wrap >> i & 1;
      int64_t head = x->shape[i] - by[i];
      shape[i] = tail ? by[i] : head;
      to[i] = tail ? 0 : by[i];
      if (tail) offset += head * x->stride[i];
    }
    pg_tensor *part;
    PG_TRY(pg_tensor_alias(ctx, x, x->nd, shape, x->stride, offset, &part));
    pg_status s = copy_block(ctx, y, to, part);
    pg_tensor_unref(part);
    PG_TRY(s);
    if (!wrap) return PG_OK;
    wrap = (wrap - 1) & moved;
  }
}

static pg_status forward_roll(pg_call *c) {
  pg_tensor *x = c->in[0], *y = c->out[0], *flat_x = NULL, *flat_y = NULL;
  int64_t by[PG_MAX_DIMS], n = pg_numel(x);
  if (n == 0) return PG_OK;
  PG_TRY(shifts_of(c, x->nd, x->shape, by));
  if (c->arg[1].set && c->arg[1].n) return roll_blocks(c->ctx, x, y, by);
  by[0] = (c->arg[0].v[0] % n + n) % n;
  PG_TRY(pg__contiguous(c->ctx, x, &x));
  pg_status s = pg_tensor_alias(c->ctx, x, 1, &n, NULL, x->offset, &flat_x);
  if (s == PG_OK) s = pg_tensor_alias(c->ctx, y, 1, &n, NULL, y->offset, &flat_y);
  if (s == PG_OK) s = roll_blocks(c->ctx, flat_x, flat_y, by);
  pg_tensor_unref(flat_y);
  pg_tensor_unref(flat_x);
  pg_tensor_unref(x);
  return s;
}

static pg_status backward_roll(pg_call *c) {
  const pg_arg *shifts = &c->arg[0], *dims = &c->arg[1];
  int64_t back[PG_MAX_INTS];
  for (int i = 0; i < shifts->n; i++) back[i] = -shifts->v[i];
  if (!dims->set) return pg_do(c->ctx, &c->gin[0], "roll", "tl", c->gout[0], (int)shifts->n, back);
  return pg_do(c->ctx, &c->gin[0], "roll", "tll", c->gout[0], (int)shifts->n, back, (int)dims->n,
               dims->v);
}

/* --- pad ---------------------------------------------------------------------------------------
 */
enum { CONSTANT, REFLECT, REPLICATE, CIRCULAR };

/* Elements put before (left) and after (right) of dim i of nd; the list starts at the last dim. */
static int64_t left_of(const pg_arg *pad, int nd, int i) {
  int k = 2 * (nd - 1 - i);
  return k < pad->n ? pad->v[k] : 0;
}
static int64_t right_of(const pg_arg *pad, int nd, int i) {
  int k = 2 * (nd - 1 - i) + 1;
  return k < pad->n ? pad->v[k] : 0;
}

static pg_status infer_pad(pg_call *c) {
  const pg_tensor *x = c->in[0];
  const pg_arg *pad = &c->arg[0];
  int64_t mode = c->arg[1].i, shape[PG_MAX_DIMS];
  if (pad->n % 2 || pad->n > 2 * x->nd)
    return pg_fail(c->ctx, PG_EARG,
                   "argument 'pad': expected pairs for at most %d dims of %s, "
                   "got %d numbers",
                   x->nd, pg_shape_str(x).s, pad->n);
  for (int i = 0; i < x->nd; i++) {
    int64_t n = x->shape[i], left = left_of(pad, x->nd, i), right = right_of(pad, x->nd, i);
    int64_t limit = mode == REFLECT ? n - 1 : mode == CIRCULAR ? n : INT64_MAX / 4;
    bool padded = left > 0 || right > 0;
    if (left > limit || right > limit || left < -limit || right < -limit ||
        (mode != CONSTANT && padded && n == 0))
      return pg_fail(c->ctx, PG_ESHAPE,
                     "argument 'pad': expected -%lld..%lld for dim %d of %s, got %lld, %lld",
                     (long long)limit, (long long)limit, i + 1, pg_shape_str(x).s, (long long)left,
                     (long long)right);
    shape[i] = n + left + right;
    if (shape[i] < 0)
      return pg_fail(c->ctx, PG_ESHAPE,
                     "argument 'pad': expected to take at most all of dim %d of %s, got %lld, %lld",
                     i + 1, pg_shape_str(x).s, (long long)left, (long long)right);
  }
  PG_TRY(pg_out_shape(c, 0, (pg_dtype)x->dtype, x->nd, shape));
  if (mode == CONSTANT && pg_is_channels_last(x) && !pg_is_contiguous(x)) {
    int64_t w = shape[1], h = w * shape[3], n = h * shape[2];
    memcpy(c->os[0].stride, (int64_t[4]){n, 1, h, w}, 4 * sizeof *shape);
    c->os[0].strided = true;
  }
  return PG_OK;
}

static pg_status pad_constant(pg_call *c) {
  pg_tensor *x = c->in[0], *y = c->out[0], *part;
  int64_t shape[PG_MAX_DIMS], to[PG_MAX_DIMS], offset = x->offset;
  pg_tensor_fill(y, c->arg[2].f);
  for (int i = 0; i < x->nd; i++) {
    int64_t left = left_of(&c->arg[0], x->nd, i), right = right_of(&c->arg[0], x->nd, i);
    shape[i] = x->shape[i] + pg_min64(left, 0) + pg_min64(right, 0);
    if (shape[i] <= 0) return PG_OK; /* nothing of x is left */
    to[i] = pg_max64(left, 0);
    offset += pg_max64(-left, 0) * x->stride[i];
  }
  PG_TRY(pg_tensor_alias(c->ctx, x, x->nd, shape, x->stride, offset, &part));
  pg_status s = copy_block(c->ctx, y, to, part);
  pg_tensor_unref(part);
  return s;
}

/* Where each place of the padded tensor comes from: map[d][i] elements from the start, in the
 * strides of the unpadded one. */
typedef struct padding {
  int nd;
  const int64_t *shape; /* padded */
  const int64_t *map[PG_MAX_DIMS];
  const char *from;
  char *to;
  size_t size;
} padding;

static int64_t source_of(int64_t at, int64_t n, int64_t mode) {
  if (mode == REPLICATE) return at < 0 ? 0 : at >= n ? n - 1 : at;
  if (mode == CIRCULAR) return at < 0 ? at + n : at >= n ? at - n : at;
  return at < 0 ? -at : at >= n ? 2 * (n - 1) - at : at;
}

/* Fills q->map for a tensor of `shape` and `stride` from one block of count numbers. */
static pg_status make_maps(pg_ctx *ctx, padding *q, const pg_arg *pad, int64_t mode,
                           const int64_t *shape, const int64_t *stride, int64_t **block,
                           size_t *bytes) {
  int64_t count = 0;
  for (int i = 0; i < q->nd; i++) count += q->shape[i];
  *bytes = (size_t)count * sizeof **block;
  PG_TRY(pg_alloc(ctx, *bytes, (void **)block));
  int64_t *at = *block;
  for (int i = 0; i < q->nd; i++) {
    int64_t left = left_of(pad, q->nd, i);
    q->map[i] = at;
    for (int64_t k = 0; k < q->shape[i]; k++)
      *at++ = source_of(k - left, shape[i], mode) * stride[i];
  }
  return PG_OK;
}

static int64_t row_source(const padding *q, int64_t row) {
  int64_t at = 0;
  for (int d = q->nd - 2; d >= 0; d--) {
    at += q->map[d][row % q->shape[d]];
    row /= q->shape[d];
  }
  return at;
}

/* GATHER_ROW(uint32_t): y[j] = x[map[j]]. */
#define GATHER_ROW(T)                                 \
  do {                                                \
    const T *x = (const T *)q->from + at;             \
    T *y = (T *)q->to + r * n;                        \
    for (int64_t j = 0; j < n; j++) y[j] = x[map[j]]; \
  } while (0)

static void pad_rows(void *arg, int64_t begin, int64_t end) {
  const padding *q = arg;
  int64_t n = q->shape[q->nd - 1];
  const int64_t *map = q->map[q->nd - 1];
  for (int64_t r = begin; r < end; r++) {
    int64_t at = row_source(q, r);
    if (q->size == 4) GATHER_ROW(uint32_t);
    else if (q->size == 8) GATHER_ROW(uint64_t);
    else if (q->size == 2) GATHER_ROW(uint16_t);
    else GATHER_ROW(uint8_t);
  }
}

static pg_status forward_pad(pg_call *c) {
  pg_tensor *x = c->in[0], *y = c->out[0];
  if (c->arg[1].i == CONSTANT) return pad_constant(c);
  if (pg_numel(y) == 0) return PG_OK;
  if (y->nd == 0) return pg_tensor_copy(y, x);
  padding q = {.nd = y->nd, .shape = y->shape, .from = pg_data(x), .to = pg_data(y)};
  q.size = pg_dtype_size((pg_dtype)x->dtype);
  int64_t *block;
  size_t bytes;
  PG_TRY(make_maps(c->ctx, &q, &c->arg[0], c->arg[1].i, x->shape, x->stride, &block, &bytes));
  int64_t width = y->shape[y->nd - 1];
  pg_par_for(c->ctx, pg_numel(y) / width, pg_grain(width), pad_rows, &q);
  pg_free(c->ctx, block, bytes);
  return PG_OK;
}

static pg_status backward_pad(pg_call *c) {
  const pg_arg *pad = &c->arg[0];
  if (c->arg[1].i != CONSTANT)
    return pg_do(c->ctx, &c->gin[0], "pad_backward", "tlli", c->gout[0], (int)c->meta[0].nd,
                 c->meta[0].shape, (int)pad->n, pad->v, c->arg[1].i);
  int64_t crop[2 * PG_MAX_DIMS];
  for (int i = 0; i < pad->n; i++) crop[i] = -pad->v[i];
  return pg_do(c->ctx, &c->gin[0], "pad", "tl", c->gout[0], (int)pad->n, crop);
}

/* gx[map] += g over the dims from the first padded one on; the dims before it go to threads. */
typedef struct unpadding {
  padding q;
  int64_t rows; /* of g for one item of the leading dims */
  bool wide;    /* float64 */
} unpadding;

#define SCATTER_ROW(T)                                  \
  do {                                                  \
    const T *g = (const T *)q->from + r * n;            \
    T *gx = (T *)q->to + at;                            \
    for (int64_t j = 0; j < n; j++) gx[map[j]] += g[j]; \
  } while (0)

static void unpad_items(void *arg, int64_t begin, int64_t end) {
  const unpadding *u = arg;
  const padding *q = &u->q;
  int64_t n = q->shape[q->nd - 1];
  const int64_t *map = q->map[q->nd - 1];
  for (int64_t r = begin * u->rows; r < end * u->rows; r++) {
    int64_t at = row_source(q, r);
    if (u->wide) SCATTER_ROW(double);
    else SCATTER_ROW(float);
  }
}

static pg_status infer_pad_backward(pg_call *c) {
  PG_TRY(pg_want(c, 0, PG_M_REAL));
  return pg_out_shape(c, 0, (pg_dtype)c->in[0]->dtype, c->arg[0].n, c->arg[0].v);
}

static pg_status forward_pad_backward(pg_call *c) {
  pg_tensor *g, *y = c->out[0];
  pg_tensor_fill(y, 0);
  if (pg_numel(c->in[0]) == 0) return PG_OK;
  if (y->nd == 0) return pg_tensor_copy(y, c->in[0]);
  PG_TRY(pg__contiguous(c->ctx, c->in[0], &g));
  unpadding u = {.q = {.nd = g->nd, .shape = g->shape}, .wide = g->dtype == PG_F64};
  u.q.from = pg_data(g);
  u.q.to = pg_data(y);
  int64_t *block;
  size_t bytes;
  pg_status s =
      make_maps(c->ctx, &u.q, &c->arg[1], c->arg[2].i, y->shape, y->stride, &block, &bytes);
  if (s == PG_OK) {
    int lead = 0;
    while (lead < g->nd - 1 && left_of(&c->arg[1], g->nd, lead) == 0 &&
           right_of(&c->arg[1], g->nd, lead) == 0)
      lead++;
    int64_t items = product_of(g->shape, 0, lead);
    u.rows = product_of(g->shape, lead, g->nd - 1);
    pg_par_for(c->ctx, items, pg_grain(u.rows * g->shape[g->nd - 1]), unpad_items, &u);
    pg_free(c->ctx, block, bytes);
  }
  pg_tensor_unref(g);
  return s;
}

static pg_status backward_pad_backward(pg_call *c) {
  return pg_do(c->ctx, &c->gin[0], "pad", "tli", c->gout[0], (int)c->arg[1].n, c->arg[1].v,
               c->arg[2].i);
}

#define PAD_MODES "constant|reflect|replicate|circular"

const pg_op PG_AT(pg_ops_join)[] = {
    {"cat|concat|concatenate",
     "The tensors one after another along dim.",
     {{"tensors", PG_TENSORS, 0, 0, NULL}, PG_DEF("dim", PG_DIM, 1)},
     0,
     0,
     1,
     infer_cat,
     {forward_cat},
     backward_cat},
    {"stack",
     "The tensors, all of one shape, side by side along a new dim.",
     {{"tensors", PG_TENSORS, 0, 0, NULL}, PG_DEF("dim", PG_DIM, 1)},
     0,
     0,
     1,
     infer_stack,
     {forward_stack},
     backward_stack},
    {"tile|repeat",
     "input repeated dims[i] times along dim i.",
     {PG_T("input"), PG_REQ("dims", PG_SHAPE)},
     PG_METHOD,
     0,
     1,
     infer_tile,
     {forward_tile},
     backward_tile},
    {"repeat_each",
     "Every element repeats times in a row along dim; without dim, of the flattened input.",
     {PG_T("input"), PG_REQ("repeats", PG_INT), PG_OPT("dim", PG_DIM)},
     PG_HIDDEN,
     0,
     1,
     infer_repeat_interleave,
     {forward_repeat_interleave},
     backward_repeat_interleave},
    {"flip",
     "input with the order along dims reversed.",
     {PG_T("input"), PG_REQ("dims", PG_SHAPE)},
     PG_METHOD,
     0,
     1,
     infer_flip,
     {forward_flip},
     backward_flip},
    {"roll",
     "input moved by shifts along dims, what falls out coming in again on the other side.",
     {PG_T("input"), PG_REQ("shifts", PG_INTS), PG_OPT("dims", PG_INTS)},
     PG_METHOD,
     0,
     1,
     infer_roll,
     {forward_roll},
     backward_roll},
    {"pad",
     "input with pad elements before and after: pairs from the last dim on; negative ones cut off.",
     {PG_T("input"), PG_REQ("pad", PG_INTS), PG_WORD("mode", CONSTANT, PAD_MODES),
      PG_DEF("value", PG_FLOAT, 0)},
     PG_NN,
     0,
     1,
     infer_pad,
     {forward_pad},
     backward_pad},
    {"pad_backward",
     "Adds a gradient of pad up where each padded element came from.",
     {PG_T("grad"), PG_REQ("shape", PG_INTS), PG_REQ("pad", PG_INTS),
      PG_WORD("mode", CONSTANT, PAD_MODES)},
     PG_HIDDEN,
     0,
     1,
     infer_pad_backward,
     {forward_pad_backward},
     backward_pad_backward},
    {0}};
