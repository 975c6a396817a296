/* Initial values of parameters, in place: constant_, zeros_, ones_, eye_, dirac_, xavier, kaiming,
 * trunc_normal_, orthogonal_. Relies on draw.h. Sources: Glorot, Bengio 2010; He et al. 2015; Saxe
 * et al. 2014. Spec: spec/ops/init_spec.lua. */
#include "autograd/op.h"
#include "ops/draw.h"

static pg_status infer_init(pg_call *c) {
  const pg_tensor *x = c->in[0];
  PG_TRY(pg_want(c, 0, PG_M_FLOAT));
  if (x->node && c->ctx->grad_mode)
    return pg_fail(c->ctx, PG_ESTATE,
                   "argument '%s': expected a tensor that no gradient flows through, got the "
                   "result of an op; detach() it or use pg.no_grad()",
                   pg_in_name(c, 0));
  return pg_out_like(c, 0, (pg_dtype)x->dtype, x);
}

/* --- constants -----------------------------------------------------------------------------------
 */

static pg_status forward_constant(pg_call *c) {
  pg_tensor_fill(c->out[0], c->arg[0].f);
  return PG_OK;
}
static pg_status forward_zeros(pg_call *c) {
  pg_tensor_fill(c->out[0], 0);
  return PG_OK;
}
static pg_status forward_ones(pg_call *c) {
  pg_tensor_fill(c->out[0], 1);
  return PG_OK;
}

static pg_status infer_eye(pg_call *c) {
  PG_TRY(pg_want_dim(c, 0, 2));
  return infer_init(c);
}
static pg_status forward_eye(pg_call *c) {
  pg_tensor *y = c->out[0];
  pg_tensor_fill(y, 0);
  for (int64_t i = 0; i < pg_min64(y->shape[0], y->shape[1]); i++)
    pg_put_f64(y, i * (y->stride[0] + y->stride[1]), 1);
  return PG_OK;
}

static pg_status infer_dirac(pg_call *c) {
  const pg_tensor *x = c->in[0];
  if (x->nd < 3 || x->nd > 5)
    return pg_bad_in(c, PG_ESHAPE, 0, "a convolution's weight of 3 to 5 dims");
  if (c->arg[0].i < 1 || x->shape[0] % c->arg[0].i)
    return pg_bad_arg(c, PG_EARG, 0, "a divisor of the first size of tensor %s", pg_shape_str(x).s);
  return infer_init(c);
}
/* The identity of convolution: the middle element of (i, i) in each group. */
static pg_status forward_dirac(pg_call *c) {
  pg_tensor *y = c->out[0];
  pg_tensor_fill(y, 0);
  int64_t per = y->shape[0] / c->arg[0].i, middle = 0;
  for (int i = 2; i < y->nd; i++) {
    if (!y->shape[i]) return PG_OK;
    middle += y->shape[i] / 2 * y->stride[i];
  }
  for (int64_t i = 0; i < y->shape[0]; i++)
    if (i % per < y->shape[1]) pg_put_f64(y, i * y->stride[0] + i % per * y->stride[1] + middle, 1);
  return PG_OK;
}

/* --- xavier, kaiming
 * ------------------------------------------------------------------------------ */

/* Inputs and outputs of a unit: sizes 2 and 1 times the receptive field. */
static pg_status infer_fans(pg_call *c) {
  if (c->in[0]->nd < 2) return pg_bad_in(c, PG_ESHAPE, 0, "at least 2 dims");
  return infer_init(c);
}

static void fans(const pg_tensor *x, double *in, double *out) {
  double field = 1;
  for (int i = 2; i < x->nd; i++) field *= (double)x->shape[i];
  *in = (double)x->shape[1] * field;
  *out = (double)x->shape[0] * field;
}

static double xavier_std(const pg_call *c) {
  double in, out;
  fans(c->in[0], &in, &out);
  return c->arg[0].f * sqrt(2 / (in + out));
}

static pg_status forward_xavier_uniform(pg_call *c) {
  double bound = sqrt(3) * xavier_std(c);
  return draw_uniform(c->ctx, c->out[0], -bound, bound);
}

static pg_status forward_xavier_normal(pg_call *c) {
  return draw_normal(c->ctx, c->out[0], 0, xavier_std(c));
}

#define NONLINEAR                                                                                \
  "linear|conv1d|conv2d|conv3d|conv_transpose1d|conv_transpose2d|conv_transpose3d|sigmoid|tanh|" \
  "relu|leaky_relu|selu"
enum { TANH = 8, RELU, LEAKY_RELU, SELU };

/* arg a, mode (fan_in|fan_out), nonlinearity */
static double kaiming_std(const pg_call *c) {
  double in, out, a = c->arg[0].f, gain = 1;
  fans(c->in[0], &in, &out);
  switch (c->arg[2].i) {
  case TANH:
    gain = 5.0 / 3;
    break;
  case RELU:
    gain = sqrt(2);
    break;
  case LEAKY_RELU:
    gain = sqrt(2 / (1 + a * a));
    break;
  case SELU:
    gain = 0.75;
    break;
  default:
    break;
  }
  return gain / sqrt(c->arg[1].i ? out : in);
}

static pg_status forward_kaiming_uniform(pg_call *c) {
  if (!pg_numel(c->out[0])) return PG_OK;
  double bound = sqrt(3) * kaiming_std(c);
  return draw_uniform(c->ctx, c->out[0], -bound, bound);
}

static pg_status forward_kaiming_normal(pg_call *c) {
  if (!pg_numel(c->out[0])) return PG_OK;
  return draw_normal(c->ctx, c->out[0], 0, kaiming_std(c));
}

/* --- trunc_normal_: arg mean, std, a, b
 * ------------------------------------------------------------ */

static pg_status infer_trunc(pg_call *c) {
  if (!(c->arg[1].f > 0))
    return pg_fail(c->ctx, PG_EARG, "argument 'std': expected more than 0, got %g", c->arg[1].f);
  if (!(c->arg[2].f < c->arg[3].f)) return pg_bad_arg(c, PG_EARG, 2, "less than b %g", c->arg[3].f);
  return infer_init(c);
}

/* Uniform numbers between the distribution's values at a and b, put through its inverse: bisection
 * on erfc. */
static double normal_quantile(double u) {
  double lo = -40, hi = 40;
  for (int i = 0; i < 60; i++) {
    double mid = (lo + hi) / 2;
    if (0.5 * erfc(-mid * M_SQRT1_2) < u) lo = mid;
    else hi = mid;
  }
  return (lo + hi) / 2;
}

static pg_status forward_trunc(pg_call *c) {
  double mean = c->arg[0].f, std = c->arg[1].f, a = c->arg[2].f, b = c->arg[3].f;
  double from = 0.5 * erfc(-(a - mean) / std * M_SQRT1_2);
  double to = 0.5 * erfc(-(b - mean) / std * M_SQRT1_2);
  pg_tensor *y = c->out[0], *u = NULL;
  PG_TRY(pg_tensor_new(c->ctx, PG_F64, y->nd, y->shape, &u));
  pg_status s = draw_uniform(c->ctx, u, from, to);
  if (s == PG_OK) {
    double *v = pg_data(u);
    for (int64_t i = 0; i < pg_numel(u); i++) {
      double x = mean + std * normal_quantile(v[i]);
      v[i] = x < a ? a : x > b ? b : x;
    }
    s = pg_tensor_copy(y, u);
  }
  pg_tensor_unref(u);
  return s;
}

/* --- orthogonal_: arg gain
 * ------------------------------------------------------------------------- */

/* Rows (of the shorter side) of a normal matrix made orthonormal one after another, twice for
 * accuracy: the Q of its QR decomposition with a positive diagonal. */
static pg_status forward_orthogonal(pg_call *c) {
  pg_tensor *y = c->out[0], *q = NULL, *back = NULL;
  int64_t rows = y->shape[0], cols = rows ? pg_numel(y) / rows : 0;
  if (!pg_numel(y)) return PG_OK;
  int64_t shape[2] = {pg_min64(rows, cols), pg_max64(rows, cols)}, n = shape[1];
  PG_TRY(pg_tensor_new(c->ctx, PG_F64, 2, shape, &q));
  pg_status s = draw_normal(c->ctx, q, 0, 1);
  if (s == PG_OK) {
    double *m = pg_data(q);
    for (int64_t i = 0; i < shape[0]; i++) {
      double *restrict v = m + i * n;
      for (int pass = 0; pass < 2; pass++)
        for (int64_t k = 0; k < i; k++) {
          const double *restrict w = m + k * n;
          double dot = 0;
          for (int64_t j = 0; j < n; j++) dot += v[j] * w[j];
          for (int64_t j = 0; j < n; j++) v[j] -= dot * w[j];
        }
      double norm = 0;
      for (int64_t j = 0; j < n; j++) norm += v[j] * v[j];
      norm = 1 / sqrt(norm);
      for (int64_t j = 0; j < n; j++) v[j] *= norm;
    }
    int64_t full[PG_MAX_DIMS], stride[PG_MAX_DIMS];
    for (int i = 0; i < y->nd; i++) full[i] = y->shape[i];
    pg_contiguous_strides(y->nd, full, stride);
    if (rows > cols) { /* transposed: row i of y is column i of q */
      for (int i = 1; i < y->nd; i++) stride[i] *= n;
      stride[0] = 1;
    }
    for (int64_t i = 0; i < pg_numel(q); i++) m[i] *= c->arg[0].f;
    s = pg_tensor_alias(c->ctx, q, y->nd, full, stride, 0, &back);
  }
  if (s == PG_OK) s = pg_tensor_copy(y, back);
  pg_tensor_unref(back);
  pg_tensor_unref(q);
  return s;
}

/* --- the table
 * ------------------------------------------------------------------------------------- */

#define INIT PG_INIT | PG_INPLACE_ONLY | PG_NODIFF
#define KAIMING                                                                   \
  PG_T("tensor"), PG_DEF("a", PG_FLOAT, 0), PG_WORD("mode", 0, "fan_in|fan_out"), \
      PG_WORD("nonlinearity", LEAKY_RELU, NONLINEAR)
#define XAVIER PG_T("tensor"), PG_DEF("gain", PG_FLOAT, 1)

const pg_op PG_AT(pg_ops_init)[] = {
    {"constant_",
     "Fills with val.",
     {PG_T("tensor"), PG_REQ("val", PG_FLOAT)},
     INIT,
     0,
     1,
     infer_init,
     {forward_constant},
     NULL},
    {"zeros_", "Fills with 0.", {PG_T("tensor")}, INIT, 0, 1, infer_init, {forward_zeros}, NULL},
    {"ones_", "Fills with 1.", {PG_T("tensor")}, INIT, 0, 1, infer_init, {forward_ones}, NULL},
    {"eye_",
     "The identity matrix: 1 on the diagonal, 0 elsewhere.",
     {PG_T("tensor")},
     INIT,
     0,
     1,
     infer_eye,
     {forward_eye},
     NULL},
    {"dirac_",
     "The weight of a convolution that passes its input on.",
     {PG_T("tensor"), PG_DEF("groups", PG_INT, 1)},
     INIT,
     0,
     1,
     infer_dirac,
     {forward_dirac},
     NULL},
    {"xavier_uniform_",
     "Uniform in +- gain sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio 2010).",
     {XAVIER},
     INIT | PG_RANDOM,
     0,
     1,
     infer_fans,
     {forward_xavier_uniform},
     NULL},
    {"xavier_normal_",
     "Normal with deviation gain sqrt(2 / (fan_in + fan_out)) (Glorot and Bengio 2010).",
     {XAVIER},
     INIT | PG_RANDOM,
     0,
     1,
     infer_fans,
     {forward_xavier_normal},
     NULL},
    {"kaiming_uniform_",
     "Uniform in +- gain sqrt(3 / fan) (He et al. 2015).",
     {KAIMING},
     INIT | PG_RANDOM,
     0,
     1,
     infer_fans,
     {forward_kaiming_uniform},
     NULL},
    {"kaiming_normal_",
     "Normal with deviation gain / sqrt(fan) (He et al. 2015).",
     {KAIMING},
     INIT | PG_RANDOM,
     0,
     1,
     infer_fans,
     {forward_kaiming_normal},
     NULL},
    {"trunc_normal_",
     "Normal with this mean and deviation, within a..b.",
     {PG_T("tensor"), PG_DEF("mean", PG_FLOAT, 0), PG_DEF("std", PG_FLOAT, 1),
      PG_DEF("a", PG_FLOAT, -2), PG_DEF("b", PG_FLOAT, 2)},
     INIT | PG_RANDOM,
     0,
     1,
     infer_trunc,
     {forward_trunc},
     NULL},
    {"orthogonal_",
     "Rows (or columns, where they are fewer) orthogonal to one another, of length gain.",
     {PG_T("tensor"), PG_DEF("gain", PG_FLOAT, 1)},
     INIT | PG_RANDOM,
     0,
     1,
     infer_fans,
     {forward_orthogonal},
     NULL},
    {0}};
