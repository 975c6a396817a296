/* interpolate: images brought to another size, one axis at a time; each step is a linear op whose
 * gradient is its transpose. Axes keep their order in memory (channels-last stays so). Relies on
 * composed.h, base/par.h. Spec: spec/ops/resize_spec.lua. */
#include <math.h>
#include <string.h>

#include "base/par.h"
#include "ops/composed.h"

/* Rules along an axis; the last two widen their filter where pixels become fewer. */
enum { NEAREST, NEAREST_EXACT, LINEAR, CUBIC, LINEAR_SMOOTH, CUBIC_SMOOTH };
enum { TAPS = 4 };

/* --- taps ---------------------------------------------------------------------------------------
 */

/* Output o is the sum of weight[o * taps + k] times input[index[o * taps + k]]; narrow are the same
 * weights as float. */
typedef struct axis_map {
  int64_t in, out;
  int taps;
  int64_t *index;
  double *weight;
  float *narrow;
} axis_map;

static double cubic_near(double t) { return ((1.25 * t) - 2.25) * t * t + 1; }
static double cubic_far(double t) { return ((-0.75 * t + 3.75) * t - 6) * t + 3; }

/* Where output o lies in the input, computed in float for float32 as PyTorch does, so that both
 * round to the same pixel. */
#define POSITION(S, T, FLOOR)                                                          \
  static double position_##S(int rule, bool align, int64_t o, int64_t in, int64_t out, \
                             double given) {                                           \
    T scale = given > 0 ? (T)(1 / given) : (T)in / (T)out;                             \
    if (align) return (double)((out > 1 ? (T)(in - 1) / (T)(out - 1) : 0) * (T)o);     \
    if (rule == NEAREST) return (double)FLOOR((T)o * scale);                           \
    if (rule == NEAREST_EXACT) return (double)FLOOR(((T)o + (T)0.5) * scale);          \
    T at = scale * ((T)o + (T)0.5) - (T)0.5;                                           \
    return (double)(at < 0 && rule == LINEAR ? 0 : at);                                \
  }
POSITION(f32, float, floorf)
POSITION(f64, double, floor)

static int64_t clamp(int64_t i, int64_t n) { return i < 0 ? 0 : i < n ? i : n - 1; }

static double triangle(double t) { return t < 1 ? 1 - t : 0; }
/* Catmull and Rom's cubic, which the smooth rule has. */
static double bump(double t) {
  if (t < 1) return (1.5 * t - 2.5) * t * t + 1;
  return t < 2 ? ((-0.5 * t + 2.5) * t - 4) * t + 2 : 0;
}

/* Half the width of the smooth rules' filter, in pixels of the input. */
static double reach(const axis_map *m, int rule, bool align, double given) {
  double half = rule == CUBIC_SMOOTH ? 2 : 1, scale = given > 0 ? 1 / given : 0;
  if (align) scale = m->out > 1 ? (double)(m->in - 1) / (double)(m->out - 1) : 0;
  else if (given <= 0) scale = (double)m->in / (double)m->out;
  return scale > 1 ? half * scale : half;
}

/* Weights over the pixels within reach of every output, whose sum is 1. Computed in float for
 * float32, as PyTorch does. */
#define SMOOTH(S, T)                                                                      \
  static void fill_smooth_##S(axis_map *m, int rule, bool align, double given) {          \
    T scale = given > 0 ? (T)(1 / given) : (T)m->in / (T)m->out;                          \
    if (align) scale = m->out > 1 ? (T)(m->in - 1) / (T)(m->out - 1) : 0;                 \
    const T half = rule == CUBIC_SMOOTH ? 2 : 1, wide = scale > 1 ? scale : 1;            \
    for (int64_t o = 0; o < m->out; o++) {                                                \
      const T center = scale * ((T)o + (T)0.5);                                           \
      const int64_t first = pg_max64((int64_t)(center - half * wide + (T)0.5), 0);        \
      const int64_t past = pg_min64((int64_t)(center + half * wide + (T)0.5), m->in);     \
      int64_t *index = m->index + o * m->taps;                                            \
      double *w = m->weight + o * m->taps, sum = 0;                                       \
      for (int k = 0; k < m->taps; k++) {                                                 \
        const double t = fabs((double)((T)(k + first) - center + (T)0.5) / (double)wide); \
        index[k] = clamp(first + k, m->in);                                               \
        w[k] = first + k >= past ? 0 : rule == CUBIC_SMOOTH ? bump(t) : triangle(t);      \
        sum += w[k];                                                                      \
      }                                                                                   \
      for (int k = 0; k < m->taps && sum != 0; k++) w[k] /= sum;                          \
    }                                                                                     \
  }
SMOOTH(f32, float)
SMOOTH(f64, double)

static void fill_map(axis_map *m, int rule, bool align, double given, bool f64) {
  if (rule >= LINEAR_SMOOTH) {
    (f64 ? fill_smooth_f64 : fill_smooth_f32)(m, rule, align, given);
    return;
  }
  for (int64_t o = 0; o < m->out; o++) {
    double at = f64 ? position_f64(rule, align, o, m->in, m->out, given)
                    : position_f32(rule, align, o, m->in, m->out, given);
    int64_t first = (int64_t)floor(at), *index = m->index + o * m->taps;
    double t = at - (double)first, *w = m->weight + o * m->taps;
    if (rule <= NEAREST_EXACT) {
      index[0] = clamp(first, m->in);
      w[0] = 1;
    } else if (rule == LINEAR) {
      index[0] = clamp(first, m->in);
      index[1] = clamp(first + 1, m->in);
      w[0] = 1 - t;
      w[1] = t;
    } else {
      for (int k = 0; k < TAPS; k++) index[k] = clamp(first - 1 + k, m->in);
      w[0] = cubic_far(t + 1);
      w[1] = cubic_near(t);
      w[2] = cubic_near(1 - t);
      w[3] = cubic_far(2 - t);
    }
  }
}

/* --- loops --------------------------------------------------------------------------------------
 */

/* The tensor as outer x axis x inner in memory. */
typedef struct axis_job {
  const axis_map *m;
  int64_t outer, inner;
  const void *x;
  void *y;
} axis_job;

#define AXIS(S, T, WEIGHT)                                                                     \
  /* Units are rows of the result: outer x out. */                                             \
  static void spread_##S(void *arg, int64_t begin, int64_t end) {                              \
    const axis_job *j = arg;                                                                   \
    const axis_map *m = j->m;                                                                  \
    const int64_t inner = j->inner;                                                            \
    for (int64_t u = begin; u < end; u++) {                                                    \
      const int64_t o = u % m->out, *index = m->index + o * m->taps;                           \
      const T *x = (const T *)j->x + u / m->out * m->in * inner, *w = m->WEIGHT + o * m->taps; \
      T *restrict y = (T *)j->y + u * inner;                                                   \
      const T *restrict a = x + index[0] * inner;                                              \
      if (m->taps == 1) {                                                                      \
        for (int64_t i = 0; i < inner; i++) y[i] = a[i];                                       \
        continue;                                                                              \
      }                                                                                        \
      const T *restrict b = x + index[1] * inner, p = w[0], q = w[1];                          \
      if (m->taps == 2) {                                                                      \
        for (int64_t i = 0; i < inner; i++) y[i] = p * a[i] + q * b[i];                        \
        continue;                                                                              \
      }                                                                                        \
      if (m->taps != TAPS) {                                                                   \
        for (int64_t i = 0; i < inner; i++) y[i] = p * a[i] + q * b[i];                        \
        for (int k = 2; k < m->taps; k++) {                                                    \
          const T *restrict e = x + index[k] * inner, v = w[k];                                \
          for (int64_t i = 0; i < inner; i++) y[i] += v * e[i];                                \
        }                                                                                      \
        continue;                                                                              \
      }                                                                                        \
      const T *restrict c = x + index[2] * inner, r = w[2];                                    \
      const T *restrict d = x + index[3] * inner, s = w[3];                                    \
      for (int64_t i = 0; i < inner; i++) y[i] = p * a[i] + q * b[i] + r * c[i] + s * d[i];    \
    }                                                                                          \
  }                                                                                            \
  /* The same where inner is 1. Units are those of outer. */                                   \
  static void spread_row_##S(void *arg, int64_t begin, int64_t end) {                          \
    const axis_job *j = arg;                                                                   \
    const axis_map *m = j->m;                                                                  \
    const int64_t *restrict at = m->index;                                                     \
    const T *restrict w = m->WEIGHT;                                                           \
    for (int64_t u = begin; u < end; u++) {                                                    \
      const T *restrict x = (const T *)j->x + u * m->in;                                       \
      T *restrict y = (T *)j->y + u * m->out;                                                  \
      if (m->taps == 1)                                                                        \
        for (int64_t o = 0; o < m->out; o++) y[o] = x[at[o]];                                  \
      else if (m->taps == 2)                                                                   \
        for (int64_t o = 0; o < m->out; o++)                                                   \
          y[o] = w[2 * o] * x[at[2 * o]] + w[2 * o + 1] * x[at[2 * o + 1]];                    \
      else if (m->taps != TAPS)                                                                \
        for (int64_t o = 0; o < m->out; o++) {                                                 \
          T sum = 0;                                                                           \
          for (int64_t k = o * m->taps; k < (o + 1) * m->taps; k++) sum += w[k] * x[at[k]];    \
          y[o] = sum;                                                                          \
        }                                                                                      \
      else                                                                                     \
        for (int64_t o = 0; o < m->out; o++)                                                   \
          y[o] = w[4 * o] * x[at[4 * o]] + w[4 * o + 1] * x[at[4 * o + 1]] +                   \
                 w[4 * o + 2] * x[at[4 * o + 2]] + w[4 * o + 3] * x[at[4 * o + 3]];            \
    }                                                                                          \
  }                                                                                            \
  /* The transpose: y has the axis of the map's input. Units are those of outer. */            \
  static void gather_##S(void *arg, int64_t begin, int64_t end) {                              \
    const axis_job *j = arg;                                                                   \
    const axis_map *m = j->m;                                                                  \
    const int64_t inner = j->inner, taps = m->taps;                                            \
    memset((T *)j->y + begin * m->in * inner, 0,                                               \
           (size_t)((end - begin) * m->in * inner) * sizeof(T));                               \
    for (int64_t u = begin; u < end; u++) {                                                    \
      const T *from = (const T *)j->x + u * m->out * inner;                                    \
      T *to = (T *)j->y + u * m->in * inner;                                                   \
      for (int64_t o = 0; inner == 1 && o < m->out; o++)                                       \
        for (int64_t k = o * taps; k < (o + 1) * taps; k++)                                    \
          to[m->index[k]] += m->WEIGHT[k] * from[o];                                           \
      for (int64_t k = 0; inner > 1 && k < m->out * taps; k++) {                               \
        const T *restrict x = from + k / taps * inner;                                         \
        T *restrict y = to + m->index[k] * inner;                                              \
        const T w = m->WEIGHT[k];                                                              \
        for (int64_t i = 0; i < inner; i++) y[i] += w * x[i];                                  \
      }                                                                                        \
    }                                                                                          \
  }
AXIS(f32, float, narrow)
AXIS(f64, double, weight)

/* --- one axis: arg dim (from 0), size of the result, rule, align, scale (0: none) ---------------
 */

enum { DIM, SIZE, RULE, ALIGN, SCALE };

/* Dims of t from the slowest in memory to the fastest; those of a tensor that is not dense as they
 * are numbered. */
static void memory_order(const pg_tensor *t, int *order) {
  bool dense = pg_is_dense(t);
  for (int i = 0; i < t->nd; i++) {
    int j = i;
    for (; dense && j > 0 && t->stride[order[j - 1]] < t->stride[i]; j--) order[j] = order[j - 1];
    order[j] = i;
  }
}

static pg_status infer_axis(pg_call *c) {
  const pg_tensor *x = c->in[0];
  int order[PG_MAX_DIMS];
  int64_t shape[PG_MAX_DIMS], step = 1;
  memcpy(shape, x->shape, sizeof shape);
  shape[c->arg[DIM].i] = c->arg[SIZE].i;
  PG_TRY(pg_out_shape(c, 0, (pg_dtype)x->dtype, x->nd, shape));
  memory_order(x, order);
  c->os[0].strided = true;
  for (int i = x->nd - 1; i >= 0; i--) {
    c->os[0].stride[order[i]] = step;
    step *= pg_max64(1, shape[order[i]]);
  }
  return PG_OK;
}

static pg_status run_axis(pg_call *c, bool transposed) {
  pg_ctx *ctx = c->ctx;
  int dim = (int)c->arg[DIM].i, rule = (int)c->arg[RULE].i, order[PG_MAX_DIMS];
  pg_tensor *x = NULL, *y = c->out[0];
  if (!pg_numel(y) && !pg_numel(c->in[0])) return PG_OK;
  if (pg_is_dense(c->in[0])) x = pg_tensor_ref(c->in[0]);
  else PG_TRY(pg__contiguous(ctx, c->in[0], &x));
  memory_order(c->in[0], order);
  axis_map m = {.taps = rule == CUBIC ? TAPS : rule == LINEAR ? 2 : 1};
  m.in = transposed ? y->shape[dim] : x->shape[dim];
  m.out = transposed ? x->shape[dim] : y->shape[dim];
  if (rule >= LINEAR_SMOOTH)
    m.taps = 2 * (int)ceil(reach(&m, rule, c->arg[ALIGN].i != 0, c->arg[SCALE].f)) + 1;
  axis_job j = {.m = &m, .outer = 1, .inner = 1, .x = pg_data(x), .y = pg_data(y)};
  bool after = false;
  for (int i = 0; i < x->nd; i++) {
    if (order[i] == dim) after = true;
    else if (after) j.inner *= x->shape[order[i]];
    else j.outer *= x->shape[order[i]];
  }
  size_t entries = (size_t)(m.out * m.taps);
  size_t bytes = entries * (sizeof *m.index + sizeof *m.weight + sizeof *m.narrow);
  void *room = NULL;
  pg_status s = pg_alloc(ctx, bytes, &room);
  if (s == PG_OK) {
    m.index = room;
    m.weight = (double *)(m.index + entries);
    m.narrow = (float *)(m.weight + entries);
    bool f64 = x->dtype == PG_F64;
    fill_map(&m, rule, c->arg[ALIGN].i != 0, c->arg[SCALE].f, f64);
    for (size_t i = 0; i < entries; i++) m.narrow[i] = (float)m.weight[i];
    int64_t row = j.inner * m.taps;
    if (transposed)
      pg_par_for(ctx, j.outer, pg_grain(m.out * row), f64 ? gather_f64 : gather_f32, &j);
    else if (j.inner == 1)
      pg_par_for(ctx, j.outer, pg_grain(m.out * row), f64 ? spread_row_f64 : spread_row_f32, &j);
    else pg_par_for(ctx, j.outer * m.out, pg_grain(row), f64 ? spread_f64 : spread_f32, &j);
  }
  pg_free(ctx, room, bytes);
  pg_tensor_unref(x);
  return s;
}

static pg_status forward_axis(pg_call *c) { return run_axis(c, false); }
static pg_status forward_axis_grad(pg_call *c) { return run_axis(c, true); }

static pg_status opposite(pg_call *c, const char *op) {
  return pg_do(c->ctx, &c->gin[0], op, "tiiibf", c->gout[0], c->arg[DIM].i,
               c->meta[0].shape[c->arg[DIM].i], c->arg[RULE].i, c->arg[ALIGN].i != 0,
               c->arg[SCALE].f);
}

static pg_status backward_axis(pg_call *c) { return opposite(c, "resize_axis_grad"); }
static pg_status backward_axis_grad(pg_call *c) { return opposite(c, "resize_axis"); }

/* --- interpolate --------------------------------------------------------------------------------
 */

enum { TO, FACTOR, MODE, CORNERS, RECOMPUTE, ANTIALIAS, FACTOR_1 }; /* arguments */
enum { M_NEAREST, M_LINEAR, M_BILINEAR, M_BICUBIC, M_TRILINEAR, M_AREA, M_EXACT };

/* The factor given for spatial dim i, or 0. */
static double factor(const pg_call *c, int i) {
  if (c->arg[FACTOR_1 + i].set) return c->arg[FACTOR_1 + i].f;
  return c->arg[FACTOR].set ? c->arg[FACTOR].f : 0;
}

/* Sizes that the result has. */
static pg_status target_sizes(pg_call *c, int64_t *size) {
  const pg_tensor *x = c->in[0];
  int sp = x->nd - 2;
  if (c->arg[TO].set) return pg_arg_ints(c, TO, sp, 1, size);
  for (int i = 0; i < sp; i++) {
    double f = factor(c, i), n = floor((double)x->shape[2 + i] * f);
    if (!(f > 0 && n >= 1 && n <= INT32_MAX))
      return pg_fail(
          c->ctx, PG_EARG,
          "argument 'scale_factor': expected a factor that makes 1..%d pixels of %lld, got %g",
          INT32_MAX, (long long)x->shape[2 + i], f);
    size[i] = (int64_t)n;
  }
  return PG_OK;
}

static pg_status infer_interpolate(pg_call *c) {
  const pg_tensor *x = c->in[0];
  int64_t mode = c->arg[MODE].i, size[3];
  PG_TRY(pg_want(c, 0, PG_M_REAL));
  static const int dims[] = {0, 3, 4, 4, 5, 0, 0};
  if (x->nd < 3 || x->nd > 5 || (dims[mode] && x->nd != dims[mode]))
    return pg_fail(c->ctx, PG_ESHAPE, "argument 'input': expected %s dims, got %s",
                   dims[mode] == 3   ? "3"
                   : dims[mode] == 4 ? "4"
                   : dims[mode] == 5 ? "5"
                                     : "3 to 5",
                   pg_shape_str(x).s);
  bool scaled = c->arg[FACTOR].set || c->arg[FACTOR_1].set;
  if (c->arg[TO].set == scaled)
    return pg_fail(c->ctx, PG_EARG, "argument 'size': expected either size or scale_factor, got %s",
                   scaled ? "both" : "neither");
  for (int i = 0; i < 3 && c->arg[FACTOR_1].set; i++)
    if (c->arg[FACTOR_1 + i].set != (i < x->nd - 2))
      return pg_fail(c->ctx, PG_EARG,
                     "argument 'scale_factor': expected one number or %d, got another count",
                     x->nd - 2);
  if (c->arg[CORNERS].set && c->arg[CORNERS].i && (mode < M_LINEAR || mode > M_TRILINEAR))
    return pg_bad_arg(c, PG_EARG, CORNERS, "false with mode '%s'",
                      mode == M_NEAREST ? "nearest"
                      : mode == M_AREA  ? "area"
                                        : "nearest-exact");
  if (c->arg[ANTIALIAS].i && mode != M_BILINEAR && mode != M_BICUBIC)
    return pg_bad_arg(c, PG_EARG, ANTIALIAS, "false but with modes bilinear and bicubic");
  for (int i = 2; i < x->nd; i++)
    if (!x->shape[i]) return pg_bad_in(c, PG_ESHAPE, 0, "images with pixels");
  return target_sizes(c, size);
}

static pg_status forward_interpolate(pg_call *c) {
  pg_chain k = {.ctx = c->ctx};
  pg_tensor *x = c->in[0];
  int64_t size[3], mode = c->arg[MODE].i;
  PG_TRY(target_sizes(c, size));
  if (mode == M_AREA) {
    static const char *const pools[] = {"adaptive_avg_pool1d", "adaptive_avg_pool2d",
                                        "adaptive_avg_pool3d"};
    return pg_do(c->ctx, &c->out[0], pools[x->nd - 3], "tl", x, x->nd - 2, size);
  }
  static const int rules[] = {NEAREST, LINEAR, LINEAR, CUBIC, LINEAR, NEAREST, NEAREST_EXACT};
  bool recompute = c->arg[RECOMPUTE].set && c->arg[RECOMPUTE].i;
  bool align = c->arg[CORNERS].set && c->arg[CORNERS].i;
  int rule = rules[mode];
  if (c->arg[ANTIALIAS].i) rule = rule == CUBIC ? CUBIC_SMOOTH : LINEAR_SMOOTH;
  bool copies = rule == LINEAR || rule >= LINEAR_SMOOTH; /* an axis that keeps its size */
  if (mode == M_NEAREST && x->nd == 4)                   /* both, as PyTorch has it */
    copies = x->shape[2] == size[0] && x->shape[3] == size[1];
  for (int dim = x->nd - 1; dim >= 2 && x; dim--) {
    double f = recompute ? 0 : factor(c, dim - 2);
    if (x->shape[dim] == size[dim - 2] && (f == 0 || f == 1 || align || copies)) continue;
    x = PG_STEP(&k, "resize_axis", "tiiibf", x, (int64_t)dim, size[dim - 2], (int64_t)rule, align,
                f);
  }
  if (x == c->in[0]) x = PG_STEP(&k, "clone", "t", x);
  return pg_chain_result(&k, x, &c->out[0]);
}

/* --- the table ----------------------------------------------------------------------------------
 */

#define RULES "nearest|nearest-exact|linear|cubic|linear-smooth|cubic-smooth"
#define AXIS_ARGS                                                                 \
  PG_REQ("dim", PG_INT), PG_REQ("size", PG_INT), PG_WORD("rule", NEAREST, RULES), \
      PG_DEF("align_corners", PG_FLAG, 0), PG_DEF("scale", PG_FLOAT, 0)

const pg_op PG_AT(pg_ops_resize)[] = {
    PG_COMPOSED_OP(
        "interpolate",
        "Images N x C x (D x H x) W brought to size, or to scale_factor times their own "
        "(a number, or one for each dim); antialias widens the filter where pixels become "
        "fewer.",
        PG_NN, infer_interpolate, forward_interpolate, PG_T("input"), PG_OPT("size", PG_INTS),
        PG_OPT("scale_factor", PG_FLOAT),
        PG_WORD("mode", M_NEAREST, "nearest|linear|bilinear|bicubic|trilinear|area|nearest-exact"),
        PG_OPT("align_corners", PG_FLAG), PG_OPT("recompute_scale_factor", PG_FLAG),
        PG_DEF("antialias", PG_FLAG, 0), PG_OPT("scale_factor_1", PG_FLOAT),
        PG_OPT("scale_factor_2", PG_FLOAT), PG_OPT("scale_factor_3", PG_FLOAT)),
    {"resize_axis",
     "One dim of input (numbered from 0) brought to size.",
     {PG_T("input"), AXIS_ARGS},
     PG_HIDDEN,
     0,
     1,
     infer_axis,
     {forward_axis},
     backward_axis},
    {"resize_axis_grad",
     "The transpose of resize_axis: size is that of its input.",
     {PG_T("input"), AXIS_ARGS},
     PG_HIDDEN,
     0,
     1,
     infer_axis,
     {forward_axis_grad},
     backward_axis_grad},
    {0}};
