/* embedding_bag: sums, means or maxima of rows of a table, bag by bag, without the rows in between.
 * Relies on index ops for gradients, chain.h. Spec: spec/ops/embedding_bag_spec.lua. */
#include <math.h>
#include <string.h>

#include "autograd/op.h"
#include "base/par.h"
#include "ops/chain.h"

enum { INPUT, WEIGHT, OFFSETS, PER_SAMPLE };
enum { MAX_NORM, NORM_TYPE, BY_FREQUENCY, MODE, SPARSE, LAST_OFFSET, PADDING };
enum { SUM, MEAN, MAX };
/* What forward keeps: [n] bag of each index from 1, [n] its factor, [bags x width] for MAX the row
 * that each maximum came from (0: the bag is empty). */
enum { KEEP_BAG, KEEP_FACTOR, KEEP_ROW };

typedef struct bags {
  int mode;
  int64_t count, width, length, padding; /* length: of every bag, where there are no offsets */
  int64_t n;                             /* indices */
  const int64_t *index, *first;          /* first: offsets from 1, or NULL */
  int64_t offsets;
  const void *weight, *scale;
  void *y;
  int64_t *row;
} bags;

static void bounds(const bags *b, int64_t bag, int64_t *begin, int64_t *end) {
  *begin = b->first ? b->first[bag] - 1 : bag * b->length;
  if (!b->first) *end = *begin + b->length;
  else *end = bag + 1 < b->offsets ? b->first[bag + 1] - 1 : b->n;
}

#define BAGS(S, T)                                                     \
  static void run_##S(void *arg, int64_t begin, int64_t end) {         \
    const bags *b = arg;                                               \
    const T *scale = b->scale;                                         \
    for (int64_t bag = begin; bag < end; bag++) {                      \
      int64_t from, to, used = 0, width = b->width;                    \
      T *restrict y = (T *)b->y + bag * width;                         \
      int64_t *restrict row = b->row ? b->row + bag * width : NULL;    \
      bounds(b, bag, &from, &to);                                      \
      memset(y, 0, sizeof(T) * (size_t)width);                         \
      if (row) memset(row, 0, sizeof *row *(size_t)width);             \
      for (int64_t i = from; i < to; i++) {                            \
        int64_t at = b->index[i];                                      \
        if (at == b->padding) continue;                                \
        const T *restrict w = (const T *)b->weight + (at - 1) * width; \
        used++;                                                        \
        if (b->mode != MAX) {                                          \
          T f = scale ? scale[i] : 1;                                  \
          for (int64_t j = 0; j < width; j++) y[j] += f * w[j];        \
          continue;                                                    \
        }                                                              \
        for (int64_t j = 0; j < width; j++) {                          \
          bool more = used == 1 || w[j] > y[j];                        \
          y[j] = more ? w[j] : y[j];                                   \
          row[j] = more ? at : row[j];                                 \
        }                                                              \
      }                                                                \
      if (b->mode == MEAN && used)                                     \
        for (int64_t j = 0; j < width; j++) y[j] /= (T)used;           \
    }                                                                  \
  }
BAGS(f32, float)
BAGS(f64, double)

/* --- infer -------------------------------------------------------------------------------------
 */

static pg_status check_padding(pg_call *c) {
  int64_t p = c->arg[PADDING].i, n = c->in[WEIGHT]->shape[0];
  if (!c->arg[PADDING].set || (p >= 1 && p <= n) || (p < 0 && p >= -n)) return PG_OK;
  return pg_bad_arg(c, PG_EINDEX, PADDING, "1..%lld or -%lld..-1", (long long)n, (long long)n);
}

static pg_status infer(pg_call *c) {
  const pg_tensor *x = c->in[INPUT], *w = c->in[WEIGHT], *o = c->in[OFFSETS];
  PG_TRY(pg_want(c, INPUT, 1u << PG_I64));
  PG_TRY(pg_want(c, WEIGHT, PG_M_REAL));
  PG_TRY(pg_want_dim(c, WEIGHT, 2));
  PG_TRY(check_padding(c));
  if (c->arg[MAX_NORM].set || c->arg[BY_FREQUENCY].i)
    return pg_fail(c->ctx, PG_EUNSUPPORTED, "argument '%s' is not supported",
                   pg_arg_name(c, c->arg[MAX_NORM].set ? MAX_NORM : BY_FREQUENCY));
  if (x->nd != 1 && x->nd != 2)
    return pg_fail(c->ctx, PG_ESHAPE, "argument 'input': expected 1 or 2 dims, got %s",
                   pg_shape_str(x).s);
  if ((x->nd == 1) != (o != NULL))
    return pg_bad_in(c, PG_EARG, OFFSETS, o ? "nothing for input %s" : "a tensor for input %s",
                     pg_shape_str(x).s);
  int64_t count = x->shape[0];
  if (o) {
    PG_TRY(pg_want(c, OFFSETS, 1u << PG_I64));
    PG_TRY(pg_want_dim(c, OFFSETS, 1));
    count = o->shape[0] - (c->arg[LAST_OFFSET].i ? 1 : 0);
    if (count < 0)
      return pg_fail(c->ctx, PG_ESHAPE,
                     "argument 'offsets': expected at least one with include_last_offset, got %s",
                     pg_shape_str(o).s);
  }
  if (c->in[PER_SAMPLE]) {
    PG_TRY(pg_want_same_dtype(c, PER_SAMPLE, WEIGHT));
    if (c->arg[MODE].i != SUM)
      return pg_bad_in(c, PG_EARG, PER_SAMPLE, "nothing but with mode 'sum'");
    if (!pg_same_shape(c->in[PER_SAMPLE], x))
      return pg_fail(c->ctx, PG_ESHAPE, "argument 'per_sample_weights': expected %s, got %s",
                     pg_shape_str(x).s, pg_shape_str(c->in[PER_SAMPLE]).s);
  }
  return pg_out_shape(c, 0, (pg_dtype)w->dtype, 2, (int64_t[]){count, w->shape[1]});
}

/* --- forward -----------------------------------------------------------------------------------
 */

static pg_status check_data(pg_call *c, const bags *b, int64_t rows) {
  for (int64_t i = 0; i < b->n; i++)
    if (b->index[i] < 1 || b->index[i] > rows)
      return pg_fail(c->ctx, PG_EINDEX,
                     "argument 'input': expected 1..%lld, got %lld at position %lld",
                     (long long)rows, (long long)b->index[i], (long long)i + 1);
  for (int64_t i = 0; i < b->offsets; i++) {
    int64_t least = i ? b->first[i - 1] : 1, most = i ? b->n + 1 : 1;
    if (b->first[i] < least || b->first[i] > most)
      return pg_fail(c->ctx, PG_EINDEX,
                     "argument 'offsets': expected %lld..%lld, got %lld at position %lld",
                     (long long)least, (long long)most, (long long)b->first[i], (long long)i + 1);
  }
  return PG_OK;
}

/* keep[KEEP_BAG], keep[KEEP_FACTOR]: 0 for padding, 1 / count for the mean. */
static pg_status keep_factors(pg_call *c, const bags *b, pg_dtype dtype) {
  PG_TRY(pg_tensor_new(c->ctx, PG_I64, 1, &b->n, &c->keep[KEEP_BAG]));
  PG_TRY(pg_tensor_new(c->ctx, dtype, 1, &b->n, &c->keep[KEEP_FACTOR]));
  int64_t *bag_of = pg_data(c->keep[KEEP_BAG]);
  for (int64_t i = 0; i < b->n; i++) { /* what no bag holds */
    bag_of[i] = 1;
    pg_put_f64(c->keep[KEEP_FACTOR], i, 0);
  }
  for (int64_t bag = 0; bag < b->count; bag++) {
    int64_t begin, end, used = 0;
    bounds(b, bag, &begin, &end);
    for (int64_t i = begin; i < end; i++) used += b->index[i] != b->padding;
    double f = b->mode == MEAN && used ? 1 / (double)used : 1;
    for (int64_t i = begin; i < end; i++) {
      bag_of[i] = bag + 1;
      pg_put_f64(c->keep[KEEP_FACTOR], i, b->index[i] == b->padding ? 0 : f);
    }
  }
  return PG_OK;
}

static pg_status forward(pg_call *c) {
  pg_tensor *in[4] = {0}, *y = c->out[0];
  pg_status s = PG_OK;
  for (int i = 0; i < 4 && s == PG_OK; i++)
    if (c->in[i]) s = pg__contiguous(c->ctx, c->in[i], &in[i]);
  if (s != PG_OK) goto done;
  int64_t rows = in[WEIGHT]->shape[0], p = c->arg[PADDING].i;
  bags b = {.mode = (int)c->arg[MODE].i,
            .count = y->shape[0],
            .width = y->shape[1],
            .length = in[INPUT]->nd == 2 ? in[INPUT]->shape[1] : 0,
            .padding = !c->arg[PADDING].set ? 0
                       : p > 0              ? p
                                            : rows + 1 + p,
            .n = pg_numel(in[INPUT]),
            .index = pg_data(in[INPUT]),
            .weight = pg_data(in[WEIGHT]),
            .y = pg_data(y)};
  if (in[OFFSETS]) {
    b.first = pg_data(in[OFFSETS]);
    b.offsets = pg_numel(in[OFFSETS]);
  }
  if (in[PER_SAMPLE]) b.scale = pg_data(in[PER_SAMPLE]);
  s = check_data(c, &b, rows);
  if (s == PG_OK && b.mode == MAX) {
    s = pg_tensor_new(c->ctx, PG_I64, 2, y->shape, &c->keep[KEEP_ROW]);
    if (s == PG_OK) b.row = pg_data(c->keep[KEEP_ROW]);
  } else if (s == PG_OK && c->recording) {
    s = keep_factors(c, &b, (pg_dtype)y->dtype);
  }
  if (s == PG_OK)
    pg_par_for(c->ctx, b.count, pg_grain(b.width * (b.length + 8)),
               y->dtype == PG_F32 ? run_f32 : run_f64, &b);
done:
  for (int i = 0; i < 4; i++) pg_tensor_unref(in[i]);
  return s;
}

/* --- backward: made of ops ---------------------------------------------------------------------
 */

/* An empty bag has row 0: its zeros go to row 1 with factor 0. */
static pg_status backward_max(pg_call *c) {
  pg_chain k = {.ctx = c->ctx};
  const pg_meta *w = &c->meta[WEIGHT];
  pg_tensor *row = c->keep[KEEP_ROW], *g = c->gout[0];
  pg_tensor *one = pg_chain_number(&k, 1);
  g = PG_STEP(&k, "mul", "tt", g, PG_STEP(&k, "ge", "tt", row, one));
  pg_tensor *at = PG_STEP(&k, "clamp_min", "tt", row, one);
  pg_tensor *index = PG_STEP(&k, "to", "ti", at, (int64_t)PG_I64);
  pg_tensor *zeros =
      pg_chain_push(&k, pg_tensor_zeros(c->ctx, (pg_dtype)w->dtype, w->nd, w->shape, &k.made));
  pg_chain_give(&k, PG_STEP(&k, "scatter_add", "titt", zeros, (int64_t)1, index, g),
                &c->gin[WEIGHT]);
  return pg_chain_end(&k);
}

static pg_status backward(pg_call *c) {
  if (c->arg[MODE].i == MAX) return backward_max(c);
  pg_chain k = {.ctx = c->ctx};
  const pg_meta *w = &c->meta[WEIGHT];
  int64_t n = pg_numel(c->in[INPUT]), first = 1, last = -1;
  pg_tensor *index = PG_STEP(&k, "reshape", "tl", c->in[INPUT], 1, &n);
  pg_tensor *g = c->gout[0];
  if (w->shape[0] == 0 || g->shape[0] == 0 || n == 0) {
    if (c->need[WEIGHT])
      k.status = pg_tensor_zeros(c->ctx, (pg_dtype)w->dtype, w->nd, w->shape, &c->gin[WEIGHT]);
    return pg_chain_end(&k);
  }
  g = PG_STEP(&k, "index_select", "tit", g, first, c->keep[KEEP_BAG]);
  g = PG_STEP(&k, "mul", "tt", g, PG_STEP(&k, "unsqueeze", "ti", c->keep[KEEP_FACTOR], last));
  pg_tensor *scale = c->in[PER_SAMPLE];
  if (c->need[WEIGHT]) {
    pg_tensor *rows = g;
    if (scale) {
      int64_t column[2] = {n, 1};
      rows = PG_STEP(&k, "mul", "tt", g, PG_STEP(&k, "reshape", "tl", scale, 2, column));
    }
    pg_tensor *zeros =
        pg_chain_push(&k, pg_tensor_zeros(c->ctx, (pg_dtype)w->dtype, w->nd, w->shape, &k.made));
    pg_chain_give(&k, PG_STEP(&k, "index_add", "titt", zeros, first, index, rows), &c->gin[WEIGHT]);
  }
  if (scale && c->need[PER_SAMPLE]) {
    pg_tensor *rows = PG_STEP(&k, "index_select", "tit", c->in[WEIGHT], first, index);
    pg_tensor *sum = PG_STEP(&k, "sum", "tl", PG_STEP(&k, "mul", "tt", g, rows), 1, &last);
    const pg_meta *m = &c->meta[PER_SAMPLE];
    pg_chain_give(&k, PG_STEP(&k, "reshape", "tl", sum, (int)m->nd, m->shape), &c->gin[PER_SAMPLE]);
  }
  return pg_chain_end(&k);
}

const pg_op PG_AT(pg_ops_embedding_bag)[] = {
    {"embedding_bag",
     "Sum, mean or maximum of the rows of weight that a bag names: input [bags x n], or [n] with "
     "the places (from 1) where bags begin in offsets; padding_idx is left out; an empty bag gives "
     "zeros.",
     {PG_TIDX("input"),
      PG_T("weight"),
      {"offsets", PG_TENSOR, PG_OPTIONAL | PG_NOGRAD, 0, NULL},
      PG_OPT("max_norm", PG_FLOAT),
      PG_DEF("norm_type", PG_FLOAT, 2),
      PG_DEF("scale_grad_by_freq", PG_FLAG, 0),
      PG_WORD("mode", MEAN, "sum|mean|max"),
      PG_DEF("sparse", PG_FLAG, 0),
      PG_TOPT("per_sample_weights"),
      PG_DEF("include_last_offset", PG_FLAG, 0),
      PG_OPT("padding_idx", PG_INT)},
     PG_NN,
     PG_SAVE_IN(INPUT) | PG_SAVE_IN(WEIGHT) | PG_SAVE_IN(PER_SAMPLE),
     1,
     infer,
     {forward},
     backward},
    {0}};
