/* Tensors from nothing: constants, sequences, random numbers, and their *_like forms. Random ones
 * draw from ctx->rng by element number, so threads change nothing. Relies on ops/draw.h. Spec:
 * spec/ops/create_spec.lua. */
#include <math.h>

#include "autograd/op.h"
#include "ops/draw.h"

/* --- constants ---------------------------------------------------------------------------------
 */
/* Output 0 has the sizes in arg[k] and the dtype in arg[d], else `otherwise`. */
static pg_status out_sized(pg_call *c, int k, int d, pg_dtype otherwise) {
  const pg_arg *size = &c->arg[k];
  return pg_out_shape(c, 0, c->arg[d].set ? (pg_dtype)c->arg[d].i : otherwise, size->n, size->v);
}
static pg_status out_alike(pg_call *c, int d) {
  const pg_tensor *x = c->in[0];
  return pg_out_like(c, 0, (pg_dtype)(c->arg[d].set ? c->arg[d].i : x->dtype), x);
}

static pg_status infer_sized(pg_call *c) { return out_sized(c, 0, 1, PG_F32); }
static pg_status infer_like(pg_call *c) { return out_alike(c, 0); }
static pg_status infer_full(pg_call *c) {
  const pg_arg *v = &c->arg[1];
  PG_TRY(out_sized(c, 0, 2, v->is_bool ? PG_BOOL : v->is_int ? PG_I64 : PG_F32));
  return pg_want_fit(c, "fill_value", v->f, (pg_dtype)c->os[0].dtype);
}
static pg_status infer_full_like(pg_call *c) {
  PG_TRY(out_alike(c, 1));
  return pg_want_fit(c, "fill_value", c->arg[0].f, (pg_dtype)c->os[0].dtype);
}

static pg_status forward_zeros(pg_call *c) {
  pg_tensor_fill(c->out[0], 0);
  return PG_OK;
}
static pg_status forward_ones(pg_call *c) {
  pg_tensor_fill(c->out[0], 1);
  return PG_OK;
}
static pg_status forward_full(pg_call *c) {
  pg_tensor_fill(c->out[0], c->arg[1].f);
  return PG_OK;
}
static pg_status forward_full_like(pg_call *c) {
  pg_tensor_fill(c->out[0], c->arg[0].f);
  return PG_OK;
}

static pg_status infer_overwrite(pg_call *c) {
  return pg_out_like(c, 0, (pg_dtype)c->in[0]->dtype, c->in[0]);
}
static pg_status infer_fill(pg_call *c) {
  PG_TRY(pg_want_fit(c, "value", c->arg[0].f, (pg_dtype)c->in[0]->dtype));
  return infer_overwrite(c);
}
/* What was overwritten gets no gradient. */
static pg_status backward_nothing(pg_call *c) {
  (void)c;
  return PG_OK;
}

static pg_status infer_eye(pg_call *c) {
  int64_t n = c->arg[0].i, m = c->arg[1].set ? c->arg[1].i : n;
  if (n < 0 || m < 0) return pg_bad_arg(c, PG_EARG, n < 0 ? 0 : 1, "at least 0");
  return pg_out_shape(c, 0, c->arg[2].set ? (pg_dtype)c->arg[2].i : PG_F32, 2, (int64_t[]){n, m});
}

static pg_status forward_eye(pg_call *c) {
  pg_tensor *y = c->out[0];
  pg_tensor_fill(y, 0);
  for (int64_t i = 0; i < pg_min64(y->shape[0], y->shape[1]); i++)
    pg_put_f64(y, i * y->shape[1] + i, 1);
  return PG_OK;
}

/* --- sequences ---------------------------------------------------------------------------------
 */
typedef struct sequence {
  double start, step, base; /* base 0: the exponents themselves */
  double end;               /* counted from behind in the upper half of n, so that it is exact */
  int64_t n;
  bool from_behind;
} sequence;

static double term(const sequence *q, int64_t i) {
  double v = q->from_behind && i >= q->n / 2 ? q->end - (double)(q->n - 1 - i) * q->step
                                             : q->start + (double)i * q->step;
  return q->base != 0 ? pg_pow_f64(q->base, v) : v;
}

static void write_sequence(pg_tensor *y, const sequence *q) {
  for (int64_t i = 0; i < pg_numel(y); i++) pg_put_f64(y, i, term(q, i));
}

/* arange(stop) counts 1, 2 .. stop; arange(start, stop, step) includes both ends. */
static pg_status arange_of(pg_call *c, sequence *q, pg_dtype *dtype) {
  const pg_arg *a = &c->arg[0], *b = &c->arg[1], *step = &c->arg[2];
  double start = b->set ? a->f : 1, stop = b->set ? b->f : a->f;
  bool whole = a->is_int && (!b->set || b->is_int) && step->is_int;
  for (int k = 0; k < 2; k++)
    if (c->arg[k].set && !isfinite(c->arg[k].f))
      return pg_bad_arg(c, PG_EARG, k, "a finite number");
  if (step->f == 0 || !isfinite(step->f)) return pg_bad_arg(c, PG_EARG, 2, "a finite number but 0");
  double count = (stop - start) / step->f;
  count = floor(count + 1e-9 * (fabs(count) + 1)) + 1; /* 0 to 0.3 by 0.1 has four terms */
  if (count < 0) return pg_bad_arg(c, PG_EARG, 2, "a step that leads from %g to %g", start, stop);
  if (count > 1e15)
    return pg_bad_arg(c, PG_EARG, 2, "a step that makes at most 1e15 elements from %g to %g", start,
                      stop);
  *q = (sequence){.start = start, .step = step->f, .n = (int64_t)count};
  *dtype = c->arg[3].set ? (pg_dtype)c->arg[3].i : whole ? PG_I64 : PG_F32;
  return PG_OK;
}

static pg_status infer_arange(pg_call *c) {
  sequence q = {0};
  pg_dtype dtype = PG_F32;
  PG_TRY(arange_of(c, &q, &dtype));
  return pg_out_shape(c, 0, dtype, 1, &q.n);
}

static pg_status forward_arange(pg_call *c) {
  sequence q = {0};
  pg_dtype dtype;
  PG_TRY(arange_of(c, &q, &dtype));
  write_sequence(c->out[0], &q);
  return PG_OK;
}

static pg_status infer_spaced(pg_call *c, int d) {
  int64_t n = c->arg[2].i;
  if (n < 0)
    return pg_fail(c->ctx, PG_EARG, "argument 'steps': expected at least 0, got %lld",
                   (long long)n);
  return pg_out_shape(c, 0, c->arg[d].set ? (pg_dtype)c->arg[d].i : PG_F32, 1, &n);
}
static pg_status infer_linspace(pg_call *c) { return infer_spaced(c, 3); }
static pg_status infer_logspace(pg_call *c) { return infer_spaced(c, 4); }

static pg_status forward_spaced(pg_call *c, double base) {
  sequence q = {.start = c->arg[0].f, .end = c->arg[1].f, .n = c->arg[2].i, .base = base};
  q.from_behind = q.n > 1;
  q.step = q.n > 1 ? (q.end - q.start) / (double)(q.n - 1) : 0;
  write_sequence(c->out[0], &q);
  return PG_OK;
}
static pg_status forward_linspace(pg_call *c) { return forward_spaced(c, 0); }
static pg_status forward_logspace(pg_call *c) { return forward_spaced(c, c->arg[3].f); }

/* --- random numbers ----------------------------------------------------------------------------
 */
/* High word of a b. */
static uint64_t multiply_high(uint64_t a, uint64_t b) {
  uint64_t al = a & 0xffffffffu, ah = a >> 32, bl = b & 0xffffffffu, bh = b >> 32;
  uint64_t low = al * bl, m1 = ah * bl, m2 = al * bh;
  uint64_t carry = ((low >> 32) + (m1 & 0xffffffffu) + (m2 & 0xffffffffu)) >> 32;
  return ah * bh + (m1 >> 32) + (m2 >> 32) + carry;
}

typedef struct integers {
  uint64_t seed, first, range; /* range 0: all 2^64 values */
  int64_t n, low, *y;
} integers;

/* Groups [begin, end) of DRAW_F64 elements, two from each block. */
static void draw_integers(void *arg, int64_t begin, int64_t end) {
  const integers *q = arg;
  for (int64_t g = begin; g < end; g++) {
    uint32_t w[4][PG_RNG_LANES];
    pg_rng_lanes(q->seed, q->first + (uint64_t)(g * PG_RNG_LANES), w);
    int64_t n = pg_min64(DRAW_F64, q->n - g * DRAW_F64);
    for (int64_t i = 0; i < n; i++) {
      int64_t half = 2 * (i % 2), lane = i / 2;
      uint64_t x = (uint64_t)w[half][lane] << 32 | w[half + 1][lane];
      uint64_t part = q->range ? multiply_high(x, q->range) : x;
      q->y[g * DRAW_F64 + i] = (int64_t)((uint64_t)q->low + part);
    }
  }
}

static pg_status want_floating(pg_call *c) {
  if (pg_is_float((pg_dtype)c->os[0].dtype)) return PG_OK;
  return pg_fail(c->ctx, PG_EDTYPE, "argument 'dtype': expected a floating dtype, got %s",
                 pg_dtype_name((pg_dtype)c->os[0].dtype));
}

static pg_status infer_random(pg_call *c) {
  PG_TRY(infer_sized(c));
  return want_floating(c);
}
static pg_status infer_random_like(pg_call *c) {
  PG_TRY(infer_like(c));
  return want_floating(c);
}
static pg_status forward_rand(pg_call *c) { return draw_uniform(c->ctx, c->out[0], 0, 1); }
static pg_status forward_randn(pg_call *c) { return draw_normal(c->ctx, c->out[0], 0, 1); }

static pg_status infer_normal(pg_call *c) {
  if (!(c->arg[1].f >= 0))
    return pg_fail(c->ctx, PG_EARG, "argument 'std': expected at least 0, got %g", c->arg[1].f);
  PG_TRY(out_sized(c, 2, 3, PG_F32));
  return want_floating(c);
}
static pg_status forward_normal(pg_call *c) {
  return draw_normal(c->ctx, c->out[0], c->arg[0].f, c->arg[1].f);
}

static pg_status want_range(pg_call *c) {
  int64_t low = c->arg[0].i, high = c->arg[1].i;
  if (low <= high) return PG_OK;
  return pg_bad_arg(c, PG_EARG, 1, "at least low %lld (both are included)", (long long)low);
}
static pg_status infer_randint(pg_call *c) {
  PG_TRY(want_range(c));
  return out_sized(c, 2, 3, PG_I64);
}
static pg_status infer_randint_like(pg_call *c) {
  PG_TRY(want_range(c));
  return out_alike(c, 2);
}

static pg_status forward_randint(pg_call *c) {
  pg_tensor *y = c->out[0], *wide = NULL;
  if (y->dtype == PG_I64 && pg_is_contiguous(y)) wide = pg_tensor_ref(y);
  else PG_TRY(pg_tensor_new(c->ctx, PG_I64, y->nd, y->shape, &wide));
  integers q = {.seed = c->ctx->rng.seed, .n = pg_numel(wide), .low = c->arg[0].i};
  q.range = (uint64_t)c->arg[1].i - (uint64_t)c->arg[0].i + 1;
  q.y = pg_data(wide);
  q.first = pg_rng_take(&c->ctx->rng, (uint64_t)(q.n + 1) / 2);
  pg_par_for(c->ctx, (q.n + DRAW_F64 - 1) / DRAW_F64, 256, draw_integers, &q);
  pg_status s = wide == y ? PG_OK : pg_tensor_copy(y, wide);
  pg_tensor_unref(wide);
  return s;
}

static pg_status infer_randperm(pg_call *c) {
  int64_t n = c->arg[0].i;
  if (n < 0)
    return pg_fail(c->ctx, PG_EARG, "argument 'n': expected at least 0, got %lld", (long long)n);
  return pg_out_shape(c, 0, c->arg[1].set ? (pg_dtype)c->arg[1].i : PG_I64, 1, &n);
}

/* SHUFFLE(uint32_t): v = 0 .. n - 1 in random order (Fisher and Yates). Each place of an exchange
 * comes from a block of its own; they are made some at a time, so that the exchanges, which miss
 * the caches, overlap. */
#define SHUFFLE(T)                                                  \
  static void shuffle_##T(pg_rng *rng, int64_t n, T *restrict v) {  \
    uint32_t w[4][PG_RNG_LANES];                                    \
    uint64_t first = pg_rng_take(rng, n > 1 ? (uint64_t)n - 1 : 0); \
    for (int64_t i = 0; i < n; i++) v[i] = (T)i;                    \
    for (int64_t i = n - 1, m; i > 0; i -= m) {                     \
      int64_t place[PG_RNG_LANES];                                  \
      m = pg_min64(PG_RNG_LANES, i);                                \
      pg_rng_lanes(rng->seed, first, w);                            \
      first += PG_RNG_LANES;                                        \
      for (int64_t j = 0; j < m; j++) {                             \
        uint64_t x = (uint64_t)w[0][j] << 32 | w[1][j];             \
        place[j] = (int64_t)pg_rng_scale(x, (uint64_t)(i - j) + 1); \
      }                                                             \
      for (int64_t j = 0; j < m; j++) {                             \
        T old = v[i - j];                                           \
        v[i - j] = v[place[j]];                                     \
        v[place[j]] = old;                                          \
      }                                                             \
    }                                                               \
  }
SHUFFLE(uint32_t)
SHUFFLE(int64_t)

static pg_status forward_randperm(pg_call *c) {
  int64_t n = c->arg[0].i;
  pg_tensor *y = c->out[0], *order = NULL;
  uint32_t *narrow = NULL; /* half the memory to go about in */
  const size_t bytes = n < INT32_MAX ? sizeof *narrow * (size_t)n : 0;
  pg_status s = bytes ? pg_alloc(c->ctx, bytes, (void **)&narrow) : PG_OK;
  if (s == PG_OK && y->dtype == PG_I64) order = pg_tensor_ref(y);
  else if (s == PG_OK) s = pg_tensor_new(c->ctx, PG_I64, 1, &n, &order);
  if (s != PG_OK) goto done;
  int64_t *v = pg_data(order);
  if (narrow) {
    shuffle_uint32_t(&c->ctx->rng, n, narrow);
    for (int64_t i = 0; i < n; i++) v[i] = (int64_t)narrow[i] + 1;
  } else {
    shuffle_int64_t(&c->ctx->rng, n, v);
    for (int64_t i = 0; i < n; i++) v[i]++;
  }
  if (order != y) s = pg_tensor_copy(y, order);
done:
  pg_tensor_unref(order);
  pg_free(c->ctx, narrow, bytes);
  return s;
}

static pg_status infer_bernoulli(pg_call *c) {
  PG_TRY(pg_want(c, 0, PG_M_FLOAT));
  return pg_out_like(c, 0, (pg_dtype)c->in[0]->dtype, c->in[0]);
}

/* Probabilities of any layout as contiguous float64, each within 0..most. */
static pg_status open_chances(pg_call *c, double most, pg_tensor **out) {
  PG_TRY(pg__as(c->ctx, c->in[0], PG_F64, out));
  const double *p = pg_data(*out);
  for (int64_t i = 0; i < pg_numel(*out); i++)
    if (!(p[i] >= 0 && p[i] <= most)) {
      pg_status s =
          pg_fail(c->ctx, PG_EVALUE, "argument 'input': expected %s, got %g at element %lld",
                  most == 1 ? "probabilities of 0..1" : "finite weights of at least 0", p[i],
                  (long long)i + 1);
      pg_tensor_unref(*out);
      *out = NULL;
      return s;
    }
  return PG_OK;
}

static pg_status forward_bernoulli(pg_call *c) {
  pg_tensor *p, *u = NULL;
  PG_TRY(open_chances(c, 1, &p));
  pg_status s = pg_tensor_new(c->ctx, PG_F64, p->nd, p->shape, &u);
  if (s == PG_OK) s = draw_uniform(c->ctx, u, 0, 1);
  if (s == PG_OK) {
    const double *chance = pg_data(p);
    double *v = pg_data(u);
    for (int64_t i = 0; i < pg_numel(u); i++) v[i] = v[i] < chance[i];
    s = pg_tensor_copy(c->out[0], u);
  }
  pg_tensor_unref(u);
  pg_tensor_unref(p);
  return s;
}

static pg_status infer_multinomial(pg_call *c) {
  const pg_tensor *x = c->in[0];
  int64_t n = c->arg[0].i;
  PG_TRY(pg_want(c, 0, PG_M_FLOAT));
  if (x->nd < 1 || x->nd > 2) return pg_bad_in(c, PG_ESHAPE, 0, "a vector or rows of weights");
  if (n < 1) return pg_bad_arg(c, PG_EARG, 0, "at least 1");
  if (!c->arg[1].i && n > x->shape[x->nd - 1])
    return pg_bad_arg(c, PG_EARG, 0, "at most %lld without replacement",
                      (long long)x->shape[x->nd - 1]);
  int64_t shape[2] = {x->nd == 2 ? x->shape[0] : n, n};
  return pg_out_shape(c, 0, PG_I64, x->nd, shape);
}

static pg_status forward_multinomial(pg_call *c) {
  const pg_tensor *x = c->in[0];
  pg_tensor *weights, *copy = NULL, *u = NULL;
  int64_t n = x->shape[x->nd - 1], count = c->arg[0].i, *y = pg_data(c->out[0]);
  PG_TRY(open_chances(c, 1e300, &weights));
  pg_status s = pg_tensor_clone(c->ctx, weights, &copy); /* drawn ones become 0 */
  int64_t rows = n ? pg_numel(weights) / n : 0, shape[2] = {rows, count};
  if (s == PG_OK) s = pg_tensor_new(c->ctx, PG_F64, 2, shape, &u);
  if (s != PG_OK) goto done;
  double *w = pg_data(copy);
  for (int64_t r = 0; r < rows && s == PG_OK; r++) {
    int64_t usable = 0;
    for (int64_t i = 0; i < n; i++) usable += w[r * n + i] > 0;
    if (usable < (c->arg[1].i ? 1 : count))
      s = pg_fail(c->ctx, PG_EVALUE,
                  "argument 'input': expected %lld weights above 0 in row %lld, got %lld",
                  (long long)(c->arg[1].i ? 1 : count), (long long)r + 1, (long long)usable);
  }
  if (s == PG_OK) s = draw_uniform(c->ctx, u, 0, 1);
  if (s != PG_OK) goto done;
  const double *v = pg_data(u);
  for (int64_t r = 0; r < rows; r++)
    for (int64_t k = 0; k < count; k++) {
      double total = 0, run = 0, *row = w + r * n;
      for (int64_t i = 0; i < n; i++) total += row[i];
      int64_t at = -1;
      for (int64_t i = 0; i < n && (at < 0 || run <= v[r * count + k] * total); i++) {
        if (!(row[i] > 0)) continue;
        run += row[i];
        at = i;
      }
      y[r * count + k] = at + 1;
      if (!c->arg[1].i) row[at] = 0;
    }
done:
  pg_tensor_unref(u);
  pg_tensor_unref(copy);
  pg_tensor_unref(weights);
  return s;
}

#define SIZE  PG_REQ("size", PG_SHAPE)
#define DTYPE PG_OPT("dtype", PG_DTYPE)

const pg_op PG_AT(pg_ops_create)[] = {
    {"zeros", "All 0.", {SIZE, DTYPE}, PG_NODIFF, 0, 1, infer_sized, {forward_zeros}, NULL},
    {"ones", "All 1.", {SIZE, DTYPE}, PG_NODIFF, 0, 1, infer_sized, {forward_ones}, NULL},
    {"empty", "Memory as it comes.", {SIZE, DTYPE}, PG_NODIFF, 0, 1, infer_sized, {NULL}, NULL},
    {"full",
     "All fill_value; int64 if that is an integer.",
     {SIZE, {"fill_value", PG_FLOAT, PG_NUMBER, 0, NULL}, DTYPE},
     PG_NODIFF,
     0,
     1,
     infer_full,
     {forward_full},
     NULL},
    {"zeros_like",
     "All 0, in the shape and dtype of input.",
     {PG_TIDX("input"), DTYPE},
     PG_NODIFF,
     0,
     1,
     infer_like,
     {forward_zeros},
     NULL},
    {"ones_like",
     "All 1, in the shape and dtype of input.",
     {PG_TIDX("input"), DTYPE},
     PG_NODIFF,
     0,
     1,
     infer_like,
     {forward_ones},
     NULL},
    {"empty_like",
     "Memory as it comes, in the shape and dtype of input.",
     {PG_TIDX("input"), DTYPE},
     PG_NODIFF,
     0,
     1,
     infer_like,
     {NULL},
     NULL},
    {"full_like",
     "All fill_value, in the shape and dtype of input.",
     {PG_TIDX("input"), {"fill_value", PG_FLOAT, PG_NUMBER, 0, NULL}, DTYPE},
     PG_NODIFF,
     0,
     1,
     infer_full_like,
     {forward_full_like},
     NULL},
    {"fill_",
     "Sets every element to value.",
     {PG_T("input"), {"value", PG_FLOAT, PG_NUMBER, 0, NULL}},
     PG_METHOD | PG_INPLACE_ONLY,
     0,
     1,
     infer_fill,
     {forward_full_like},
     backward_nothing},
    {"zero_",
     "Sets every element to 0.",
     {PG_T("input")},
     PG_METHOD | PG_INPLACE_ONLY,
     0,
     1,
     infer_overwrite,
     {forward_zeros},
     backward_nothing},
    {"eye",
     "n x m (m = n by default) with 1 on the diagonal and 0 elsewhere.",
     {PG_REQ("n", PG_INT), PG_OPT("m", PG_INT), DTYPE},
     PG_NODIFF,
     0,
     1,
     infer_eye,
     {forward_eye},
     NULL},
    {"arange",
     "start, start + step, .. up to and including stop; arange(stop) counts 1, 2, .. stop. int64 "
     "if "
     "all are integers.",
     {PG_REQ("start", PG_FLOAT), PG_OPT("stop", PG_FLOAT), PG_DEF("step", PG_FLOAT, 1), DTYPE},
     PG_NODIFF,
     0,
     1,
     infer_arange,
     {forward_arange},
     NULL},
    {"linspace",
     "steps numbers from start to stop (both included), evenly spaced.",
     {PG_REQ("start", PG_FLOAT), PG_REQ("stop", PG_FLOAT), PG_REQ("steps", PG_INT), DTYPE},
     PG_NODIFF,
     0,
     1,
     infer_linspace,
     {forward_linspace},
     NULL},
    {"logspace",
     "base to the power of linspace(start, stop, steps).",
     {PG_REQ("start", PG_FLOAT), PG_REQ("stop", PG_FLOAT), PG_REQ("steps", PG_INT),
      PG_DEF("base", PG_FLOAT, 10), DTYPE},
     PG_NODIFF,
     0,
     1,
     infer_logspace,
     {forward_logspace},
     NULL},
    {"rand",
     "Uniform in [0, 1).",
     {SIZE, DTYPE},
     PG_NODIFF | PG_RANDOM,
     0,
     1,
     infer_random,
     {forward_rand},
     NULL},
    {"rand_like",
     "Uniform in [0, 1), in the shape and dtype of input.",
     {PG_TIDX("input"), DTYPE},
     PG_NODIFF | PG_RANDOM,
     0,
     1,
     infer_random_like,
     {forward_rand},
     NULL},
    {"randn",
     "Normal with mean 0 and standard deviation 1.",
     {SIZE, DTYPE},
     PG_NODIFF | PG_RANDOM,
     0,
     1,
     infer_random,
     {forward_randn},
     NULL},
    {"randn_like",
     "Normal with mean 0 and standard deviation 1, in the shape and dtype of input.",
     {PG_TIDX("input"), DTYPE},
     PG_NODIFF | PG_RANDOM,
     0,
     1,
     infer_random_like,
     {forward_randn},
     NULL},
    {"normal",
     "Normal with this mean and standard deviation.",
     {PG_DEF("mean", PG_FLOAT, 0), PG_DEF("std", PG_FLOAT, 1), SIZE, DTYPE},
     PG_NODIFF | PG_RANDOM,
     0,
     1,
     infer_normal,
     {forward_normal},
     NULL},
    {"randint",
     "Integers low..high, both included, each as likely; randint(high, size) counts from 1.",
     {PG_REQ("low", PG_INT), PG_REQ("high", PG_INT), SIZE, DTYPE},
     PG_NODIFF | PG_RANDOM,
     0,
     1,
     infer_randint,
     {forward_randint},
     NULL},
    {"randint_like",
     "Integers low..high, both included, in the shape and dtype of input.",
     {PG_TIDX("input"), PG_REQ("low", PG_INT), PG_REQ("high", PG_INT), DTYPE},
     PG_NODIFF | PG_RANDOM,
     0,
     1,
     infer_randint_like,
     {forward_randint},
     NULL},
    {"randperm",
     "The numbers 1..n in random order.",
     {PG_REQ("n", PG_INT), DTYPE},
     PG_NODIFF | PG_RANDOM,
     0,
     1,
     infer_randperm,
     {forward_randperm},
     NULL},
    {"bernoulli",
     "1 with the probability that input gives, else 0.",
     {PG_TIDX("input")},
     PG_METHOD | PG_NODIFF | PG_RANDOM,
     0,
     1,
     infer_bernoulli,
     {forward_bernoulli},
     NULL},
    {"multinomial",
     "num_samples places for each row of weights, drawn in proportion to them.",
     {PG_TIDX("input"), PG_REQ("num_samples", PG_INT), PG_DEF("replacement", PG_FLAG, 0)},
     PG_METHOD | PG_NODIFF | PG_RANDOM,
     0,
     1,
     infer_multinomial,
     {forward_multinomial},
     NULL},
    {0}};
