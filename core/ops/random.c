/* Random fills in place: uniform_, normal_, bernoulli_, exponential_, random_; and dropout of
 * elements, of channels, and the one for SELU. Relies on draw.h, chain.h, iter.h.
 * Spec: spec/ops/random_spec.lua. */
#include "kernels/bf16.h"
#include "ops/chain.h"
#include "ops/draw.h"
#include "tensor/iter.h"

/* --- fills --------------------------------------------------------------------------------------
 */

static pg_status infer_fill(pg_call *c, unsigned dtypes) {
  const pg_tensor *x = c->in[0];
  PG_TRY(pg_want(c, 0, dtypes));
  if (x->node && c->ctx->grad_mode)
    return pg_fail(c->ctx, PG_ESTATE,
                   "argument '%s': expected a tensor that no gradient flows through, got the "
                   "result of an op; detach() it or use pg.no_grad()",
                   pg_in_name(c, 0));
  return pg_out_like(c, 0, (pg_dtype)x->dtype, x);
}

static pg_status infer_uniform(pg_call *c) {
  if (!(c->arg[0].f <= c->arg[1].f))
    return pg_bad_arg(c, PG_EARG, 1, "at least from %g", c->arg[0].f);
  return infer_fill(c, PG_M_FLOAT);
}

static pg_status infer_normal(pg_call *c) {
  if (!(c->arg[1].f >= 0))
    return pg_fail(c->ctx, PG_EARG, "argument 'std': expected 0 or more, got %g", c->arg[1].f);
  return infer_fill(c, PG_M_FLOAT);
}

static pg_status infer_bernoulli(pg_call *c) {
  double p = c->arg[0].f;
  if (!(p >= 0 && p <= 1))
    return pg_fail(c->ctx, PG_EARG, "argument 'p': expected 0 to 1, got %g", p);
  return infer_fill(c, PG_M_ANY);
}

static pg_status infer_exponential(pg_call *c) {
  if (!(c->arg[0].f > 0))
    return pg_fail(c->ctx, PG_EARG, "argument 'lambd': expected more than 0, got %g", c->arg[0].f);
  return infer_fill(c, PG_M_FLOAT);
}

/* arg from, to: both included; absent: 0 and what the dtype counts exactly. */
static void integer_range(const pg_call *c, int64_t *from, int64_t *to) {
  static const int64_t most[PG_NDTYPES] = {
      [PG_F32] = 1 << 24,   [PG_F64] = (int64_t)1 << 53, [PG_BF16] = 1 << 8,
      [PG_I64] = INT64_MAX, [PG_U8] = UINT8_MAX,         [PG_BOOL] = 1};
  *from = c->arg[0].set ? c->arg[0].i : 0;
  *to = c->arg[1].set ? c->arg[1].i : most[c->in[0]->dtype];
}

static pg_status infer_integers(pg_call *c) {
  int64_t from, to;
  integer_range(c, &from, &to);
  if (from > to)
    return pg_fail(c->ctx, PG_EARG,
                   "argument '%s': expected at least from %lld (both are included), got %lld",
                   pg_arg_name(c, 1), (long long)from, (long long)to);
  return infer_fill(c, PG_M_ANY);
}

static pg_status forward_uniform(pg_call *c) {
  return draw_uniform(c->ctx, c->out[0], c->arg[0].f, c->arg[1].f);
}

static pg_status forward_normal(pg_call *c) {
  return draw_normal(c->ctx, c->out[0], c->arg[0].f, c->arg[1].f);
}

static pg_status forward_bernoulli(pg_call *c) {
  return draw_fill(
      c->ctx, c->out[0],
      (draw_job){.a = c->arg[0].f, .make_f32 = draw_bernoulli_f32, .make_f64 = draw_bernoulli_f64});
}

static pg_status forward_exponential(pg_call *c) {
  return draw_fill(c->ctx, c->out[0],
                   (draw_job){.a = c->arg[0].f,
                              .make_f32 = draw_exponential_f32,
                              .make_f64 = draw_exponential_f64});
}

static pg_status forward_integers(pg_call *c) {
  int64_t from, to;
  integer_range(c, &from, &to);
  pg_tensor *t = NULL;
  PG_TRY(pg_do(c->ctx, &t, "randint", "iil", from, to, (int)c->out[0]->nd, c->out[0]->shape));
  pg_status s = pg_tensor_copy(c->out[0], t);
  pg_tensor_unref(t);
  return s;
}

/* --- dropout: arg p, training --------------------------------------------------------------------
 */

typedef struct drop_job {
  uint64_t seed, first;
  uint32_t limit; /* an element stays where its word >= limit */
  int64_t n;
  double scale, add, dropped; /* y = x scale + add where it stays, else dropped */
  const void *x;              /* contiguous, or NULL: only the mask is made */
  void *y;
  uint8_t *mask; /* contiguous; may be NULL where x is given */
} drop_job;

/* DROP(bf16, uint16_t, float, pg_bf16_f32, pg_f32_bf16): elements of type E, computed in T. drop:
 * groups [begin, end) of DRAW_F32 elements. masked: y = x scale + add where the mask says so, else
 * dropped, over any strides. */
#define DROP(S, E, T, GET, PUT)                                                            \
  static void drop_##S(void *arg, int64_t begin, int64_t end) {                            \
    const drop_job *j = arg;                                                               \
    const T scale = (T)j->scale, add = (T)j->add, dropped = (T)j->dropped;                 \
    const uint32_t limit = j->limit;                                                       \
    uint32_t w[4][PG_RNG_LANES], u[DRAW_F32];                                              \
    uint8_t stays[DRAW_F32];                                                               \
    for (int64_t i = begin; i < end; i++) {                                                \
      int64_t n = pg_min64(DRAW_F32, j->n - i * DRAW_F32);                                 \
      pg_rng_lanes(j->seed, j->first + (uint64_t)(i * PG_RNG_LANES), w);                   \
      for (int q = 0; q < PG_RNG_LANES; q++)                                               \
        for (int k = 0; k < 4; k++) u[4 * q + k] = w[k][q];                                \
      if (j->mask) {                                                                       \
        for (int e = 0; e < DRAW_F32; e++) stays[e] = u[e] >= limit;                       \
        memcpy(j->mask + i * DRAW_F32, stays, (size_t)n);                                  \
      }                                                                                    \
      if (!j->x) continue;                                                                 \
      const E *x = (const E *)j->x + i * DRAW_F32;                                         \
      E *y = (E *)j->y + i * DRAW_F32;                                                     \
      PG_IVDEP for (int64_t e = 0; e < n; e++) {                                           \
        T v = GET(x[e]) * scale + add;                                                     \
        y[e] = PUT(u[e] >= limit ? v : dropped);                                           \
      }                                                                                    \
    }                                                                                      \
  }                                                                                        \
  static void masked_##S(int64_t n, char *const *p, const int64_t *s, const void *arg) {   \
    const drop_job *j = arg;                                                               \
    const T scale = (T)j->scale, add = (T)j->add, dropped = (T)j->dropped;                 \
    if (s[0] == sizeof(E) && s[1] == sizeof(E) && s[2] == 1) {                             \
      E *y = (E *)p[0];                                                                    \
      const E *x = (const E *)p[1];                                                        \
      const uint8_t *mask = (const uint8_t *)p[2];                                         \
      PG_IVDEP for (int64_t i = 0; i < n; i++) {                                           \
        T v = GET(x[i]) * scale + add;                                                     \
        y[i] = PUT(mask[i] ? v : dropped);                                                 \
      }                                                                                    \
      return;                                                                              \
    }                                                                                      \
    for (int64_t i = 0; i < n; i++)                                                        \
      *(E *)(p[0] + i * s[0]) = PUT(*(const uint8_t *)(p[2] + i * s[2])                    \
                                        ? GET(*(const E *)(p[1] + i * s[1])) * scale + add \
                                        : dropped);                                        \
  }
#define PLAIN(x) (x)
DROP(f32, float, float, PLAIN, PLAIN)
DROP(f64, double, double, PLAIN, PLAIN)
DROP(bf16, uint16_t, float, pg_bf16_f32, pg_f32_bf16)
static const pg_par_fn drops[PG_NDTYPES] = {
    [PG_F32] = drop_f32, [PG_F64] = drop_f64, [PG_BF16] = drop_bf16};
static const pg_loop maskeds[PG_NDTYPES] = {
    [PG_F32] = masked_f32, [PG_F64] = masked_f64, [PG_BF16] = masked_bf16};

/* y = x m over any strides. */
#define MULTIPLY(S, T)                                                                         \
  static void multiply_##S(int64_t n, char *const *p, const int64_t *s, const void *arg) {     \
    (void)arg;                                                                                 \
    for (int64_t i = 0; i < n; i++)                                                            \
      *(T *)(p[0] + i * s[0]) = *(const T *)(p[1] + i * s[1]) * *(const T *)(p[2] + i * s[2]); \
  }
MULTIPLY(f32, float)
MULTIPLY(f64, double)

static pg_status infer_drop(pg_call *c, unsigned dtypes) {
  PG_TRY(pg_want(c, 0, dtypes));
  double p = c->arg[0].f;
  if (!(p >= 0 && p <= 1))
    return pg_fail(c->ctx, PG_EARG, "argument 'p': expected 0 to 1, got %g", p);
  return pg_out_like(c, 0, (pg_dtype)c->in[0]->dtype, c->in[0]);
}

static pg_status infer_dropout(pg_call *c) { return infer_drop(c, PG_M_FLOAT); }

static bool is_identity(const pg_call *c) { return !c->arg[1].i || c->arg[0].f == 0; }

static uint32_t limit_of(double p) { return (uint32_t)(p * 0x1p32); } /* p < 1 */

static double scale_of(double p) { return p < 1 ? 1 / (1 - p) : 0; }

/* For SELU's outputs: dropped elements become its lowest value, then mean and variance are
 * restored. */
static double alpha_scale(double p, double low) {
  return p < 1 ? 1 / sqrt((1 - p) * (1 + p * low * low)) : 0;
}
static const double selu_low = -1.7580993408473766;

/* Words are taken in logical order, so the mask is the same for every layout. */
static pg_status drop(pg_call *c, double scale, double add, double dropped) {
  pg_ctx *ctx = c->ctx;
  pg_tensor *out = c->out[0], *x = c->in[0], *mask = NULL;
  if (is_identity(c)) return c->inplace ? PG_OK : pg_tensor_copy(out, x);
  bool flat = pg_is_contiguous(x) && pg_is_contiguous(out);
  if (c->recording || !flat) PG_TRY(pg_tensor_new(ctx, PG_BOOL, out->nd, out->shape, &mask));
  if (c->arg[0].f == 1) {
    if (mask) pg_tensor_fill(mask, 0);
    pg_tensor_fill(out, 0);
    c->keep[0] = mask;
    return PG_OK;
  }
  int64_t n = pg_numel(out);
  drop_job j = {.seed = ctx->rng.seed, .limit = limit_of(c->arg[0].f), .n = n, .scale = scale};
  j.first = pg_rng_take(&ctx->rng, (uint64_t)((n + 3) / 4));
  j.add = add;
  j.dropped = dropped;
  j.x = flat ? pg_data(x) : NULL;
  j.y = pg_data(out);
  j.mask = mask ? pg_data(mask) : NULL;
  pg_par_for(ctx, (n + DRAW_F32 - 1) / DRAW_F32, 256, drops[out->dtype], &j);
  if (!flat) pg_iter_over(ctx, 3, (pg_tensor *[]){out, x, mask}, 2, maskeds[out->dtype], &j);
  c->keep[0] = mask;
  return PG_OK;
}

static pg_status drop_back(pg_call *c, double scale) {
  pg_tensor *g = c->gout[0], *mask = c->keep[0];
  if (!mask) {
    c->gin[0] = pg_tensor_ref(g);
    return PG_OK;
  }
  if (c->recording) {
    pg_chain k = {.ctx = c->ctx};
    pg_tensor *m = PG_STEP(&k, "mul", "tt", g, mask);
    pg_chain_give(&k, PG_STEP(&k, "mul", "tt", m, pg_chain_number(&k, scale)), &c->gin[0]);
    return pg_chain_end(&k);
  }
  PG_TRY(pg_tensor_new_like(c->ctx, g, (pg_dtype)g->dtype, &c->gin[0]));
  drop_job j = {.scale = scale};
  pg_iter_over(c->ctx, 3, (pg_tensor *[]){c->gin[0], g, mask}, 2, maskeds[g->dtype], &j);
  return PG_OK;
}

static pg_status forward_dropout(pg_call *c) { return drop(c, scale_of(c->arg[0].f), 0, 0); }
static pg_status backward_dropout(pg_call *c) { return drop_back(c, scale_of(c->arg[0].f)); }

static pg_status forward_alpha(pg_call *c) {
  double p = c->arg[0].f, a = alpha_scale(p, selu_low), b = -a * selu_low * p;
  return drop(c, a, b, a * selu_low + b);
}
static pg_status backward_alpha(pg_call *c) {
  return drop_back(c, alpha_scale(c->arg[0].f, selu_low));
}

/* Whole channels of n x c and dims more sizes, or of c and these; dims 0: n x c and any. */
static pg_status channels_infer(pg_call *c, int dims) {
  static const char *const sizes[] = {"n x c x ..", "n x c x l", "n x c x h x w",
                                      "n x c x d x h x w"};
  PG_TRY(infer_drop(c, is_identity(c) ? PG_M_FLOAT : PG_M_REAL));
  int nd = c->in[0]->nd;
  if (dims ? nd == dims + 1 || nd == dims + 2 : nd >= 2) return PG_OK;
  return pg_fail(c->ctx, PG_ESHAPE, "argument 'input': expected channels of %s, got %s",
                 sizes[dims], pg_shape_str(c->in[0]).s);
}

/* keep[0]: a factor per channel, 0 or 1 / (1 - p). */
static pg_status channels_forward(pg_call *c, int dims) {
  pg_tensor *x = c->in[0], *noise = NULL;
  if (is_identity(c)) return c->inplace ? PG_OK : pg_tensor_copy(c->out[0], x);
  int64_t shape[PG_MAX_DIMS];
  int lead = dims && x->nd == dims + 1 ? 1 : 2;
  for (int i = 0; i < x->nd; i++) shape[i] = i < lead ? x->shape[i] : 1;
  double p = c->arg[0].f, scale = scale_of(p);
  PG_TRY(pg_tensor_new(c->ctx, (pg_dtype)x->dtype, x->nd, shape, &noise));
  pg_status s = draw_fill(
      c->ctx, noise,
      (draw_job){.a = 1 - p, .make_f32 = draw_bernoulli_f32, .make_f64 = draw_bernoulli_f64});
  if (s == PG_OK) {
    for (int64_t i = 0; i < pg_numel(noise); i++) pg_put_f64(noise, i, scale * pg_at_f64(noise, i));
    pg_tensor *t[3] = {c->out[0], x, noise};
    pg_iter_over(c->ctx, 3, t, 1, x->dtype == PG_F32 ? multiply_f32 : multiply_f64, NULL);
    c->keep[0] = noise;
    noise = NULL;
  }
  pg_tensor_unref(noise);
  return s;
}

/* CHANNELS(2): infer_channels2, forward_channels2. */
#define CHANNELS(dims)                                                                  \
  static pg_status infer_channels##dims(pg_call *c) { return channels_infer(c, dims); } \
  static pg_status forward_channels##dims(pg_call *c) { return channels_forward(c, dims); }
CHANNELS(0)
CHANNELS(1)
CHANNELS(2)
CHANNELS(3)

static pg_status backward_channels(pg_call *c) {
  if (c->keep[0]) return pg_do(c->ctx, &c->gin[0], "mul", "tt", c->gout[0], c->keep[0]);
  c->gin[0] = pg_tensor_ref(c->gout[0]);
  return PG_OK;
}

/* --- the table -----------------------------------------------------------------------------------
 */

#define FILL       PG_METHOD | PG_INIT | PG_INPLACE_ONLY | PG_NODIFF | PG_RANDOM
#define DROPOUT    PG_NN | PG_RANDOM | PG_INPLACE
#define DROP_PARAM PG_T("input"), PG_DEF("p", PG_FLOAT, 0.5), PG_DEF("training", PG_FLAG, 1)

const pg_op PG_AT(pg_ops_random)[] = {
    {"uniform_",
     "Fills with numbers uniform in [from, to).",
     {PG_T("input"), PG_DEF("from", PG_FLOAT, 0), PG_DEF("to", PG_FLOAT, 1)},
     FILL,
     0,
     1,
     infer_uniform,
     {forward_uniform},
     NULL},
    {"normal_",
     "Fills with normal numbers of this mean and standard deviation.",
     {PG_T("input"), PG_DEF("mean", PG_FLOAT, 0), PG_DEF("std", PG_FLOAT, 1)},
     FILL,
     0,
     1,
     infer_normal,
     {forward_normal},
     NULL},
    {"bernoulli_",
     "Fills with 1 with probability p, else 0.",
     {PG_T("input"), PG_DEF("p", PG_FLOAT, 0.5)},
     PG_METHOD | PG_INPLACE_ONLY | PG_NODIFF | PG_RANDOM,
     0,
     1,
     infer_bernoulli,
     {forward_bernoulli},
     NULL},
    {"exponential_",
     "Fills with numbers of density lambd exp(-lambd x).",
     {PG_T("input"), PG_DEF("lambd", PG_FLOAT, 1)},
     PG_METHOD | PG_INPLACE_ONLY | PG_NODIFF | PG_RANDOM,
     0,
     1,
     infer_exponential,
     {forward_exponential},
     NULL},
    {"random_",
     "Fills with integers from..to, both included; by default all that the dtype counts from 0.",
     {PG_T("input"), PG_OPT("from", PG_INT), PG_OPT("to", PG_INT)},
     PG_METHOD | PG_INPLACE_ONLY | PG_NODIFF | PG_RANDOM,
     0,
     1,
     infer_integers,
     {forward_integers},
     NULL},
    {"dropout",
     "In training each element becomes 0 with probability p and is divided by 1 - p otherwise.",
     {DROP_PARAM},
     DROPOUT,
     0,
     1,
     infer_dropout,
     {forward_dropout},
     backward_dropout},
    {"alpha_dropout",
     "dropout that keeps mean and variance of SELU's outputs (Klambauer et al. 2017).",
     {DROP_PARAM},
     DROPOUT,
     0,
     1,
     infer_dropout,
     {forward_alpha},
     backward_alpha},
    {"dropout1d",
     "dropout of whole channels of n x c x l.",
     {DROP_PARAM},
     DROPOUT,
     0,
     1,
     infer_channels1,
     {forward_channels1},
     backward_channels},
    {"dropout2d",
     "dropout of whole channels of n x c x h x w.",
     {DROP_PARAM},
     DROPOUT,
     0,
     1,
     infer_channels2,
     {forward_channels2},
     backward_channels},
    {"dropout3d",
     "dropout of whole channels of n x c x d x h x w.",
     {DROP_PARAM},
     DROPOUT,
     0,
     1,
     infer_channels3,
     {forward_channels3},
     backward_channels},
    {"feature_dropout",
     "dropout of whole channels of n x c x ...",
     {DROP_PARAM},
     DROPOUT,
     0,
     1,
     infer_channels0,
     {forward_channels0},
     backward_channels},
    {0}};
