/* Systems of equations and determinants on LAPACK: inv, solve, det, slogdet, cholesky,
 * solve_triangular. Relies on ops/matrices.h. Gradients: Giles, "An extended collection of matrix
 * derivative results for forward and reverse mode AD", 2008. Spec: spec/ops/linalg_spec.lua. */
#include <stdio.h>

#include "ops/matrices.h"

/* Both dtypes of a kernel: CALL(b->wide, lu, (n, a, pivot)). */
#define CALL(wide, name, f32, f64) ((wide) ? pgk_##name##_f64 f64 : pgk_##name##_f32 f32)

enum { UPPER = 1, TURNED = 2, UNIT = 4, RIGHT = 8 };

static pg_status singular(pg_ctx *ctx, int nd, int64_t which) {
  return matrices_fail(ctx, nd, which, "is singular");
}

/* --- inv ---------------------------------------------------------------------------------------
 */
static pg_status infer_inv(pg_call *c) {
  const pg_tensor *x = c->in[0];
  PG_TRY(matrices_want_square(c, 0));
  int64_t n = x->shape[x->nd - 1];
  return matrices_out(c, 0, x->nd - 2, x->shape, n, n, false);
}

/* work: pivots, then LAPACK's. */
static int run_inv(const matrices *b, int64_t i, void *work) {
  int *pivot = work;
  void *more = (char *)work + (size_t)b->n * sizeof(double), *a = matrices_at(b, 0, i);
  int info = CALL(b->wide, lu, (b->n, a, pivot), (b->n, a, pivot));
  if (info) return info;
  return CALL(b->wide, lu_invert, (b->n, a, pivot, more), (b->n, a, pivot, more));
}

static pg_status forward_inv(pg_call *c) {
  pg_tensor *x = c->in[0], *y = c->out[0];
  int64_t n = x->shape[x->nd - 1], failed;
  int info;
  if (pg_numel(y) == 0) return PG_OK;
  PG_TRY(pg_tensor_copy(y, x));
  matrices b = {.count = pg_numel(x) / (n * n), .n = n, .wide = x->dtype == PG_F64, .run = run_inv};
  b.cost = 2.0 * (double)n * (double)n * (double)n;
  b.bytes = (size_t)n * sizeof(double) * (1 + PGK_BLOCK);
  matrices_set(&b, 0, y, 2);
  PG_TRY(matrices_run(c->ctx, &b, &failed, &info));
  return failed ? singular(c->ctx, x->nd, failed) : PG_OK;
}

/* gx = -y^T g y^T */
static pg_status backward_inv(pg_call *c) {
  pg_chain k = {.ctx = c->ctx};
  pg_tensor *turned = matrices_turn(&k, c->out[0]);
  pg_tensor *g = matrices_mul(&k, matrices_mul(&k, turned, c->gout[0]), turned);
  pg_chain_give(&k, PG_STEP(&k, "neg", "t", g), &c->gin[0]);
  return pg_chain_end(&k);
}

/* --- solve: arg left ---------------------------------------------------------------------------
 * A X = B, or X A = B. B is one vector per matrix where it has one dim or A's shape without the
 * last dim. */
static bool is_vector(int na, const int64_t *a, int nb, const int64_t *b) {
  return nb == 1 || (nb == na - 1 && memcmp(a, b, sizeof *a * (size_t)nb) == 0);
}

/* Joint batch dims of the calls' two operands; in[1] has `last` dims that are no batch. */
static pg_status joint_batch(pg_call *c, int last, int *nd, int64_t *batch) {
  const pg_tensor *a = c->in[0], *b = c->in[1];
  if (pg_broadcasts(a->nd - 2, a->shape, b->nd - last, b->shape, nd, batch)) return PG_OK;
  return pg_bad_in(c, PG_ESHAPE, 1, "a batch that broadcasts with that of A %s", pg_shape_str(a).s);
}

static pg_status infer_solve(pg_call *c) {
  const pg_tensor *a = c->in[0], *b = c->in[1];
  bool left = c->arg[0].i;
  PG_TRY(matrices_want_square(c, 0));
  PG_TRY(pg_want_same_dtype(c, 1, 0));
  bool vector = b->nd > 0 && is_vector(a->nd, a->shape, b->nd, b->shape);
  int64_t n = a->shape[a->nd - 1], batch[PG_MAX_DIMS];
  int nd;
  if (vector && !left)
    return pg_fail(c->ctx, PG_EARG,
                   "argument 'left': expected true where B is a vector, got false");
  if (b->nd == 0 || b->shape[vector || !left ? b->nd - 1 : b->nd - 2] != n)
    return pg_bad_in(c, PG_ESHAPE, 1, "%s to follow A %s",
                     pg_shape_only(b->nd, vector || !left ? b->nd - 1 : b->nd - 2, n).s,
                     pg_shape_str(a).s);
  PG_TRY(joint_batch(c, vector ? 1 : 2, &nd, batch));
  if (!vector)
    return matrices_out(c, 0, nd, batch, b->shape[b->nd - 2], b->shape[b->nd - 1], !left);
  batch[nd++] = n;
  return pg_out_shape(c, 0, (pg_dtype)a->dtype, nd, batch);
}

static int run_solve(const matrices *b, int64_t i, void *work) {
  void *a = matrices_at(b, 0, i), *y = matrices_at(b, 1, i);
  int *pivot = work;
  int info = CALL(b->wide, lu, (b->n, a, pivot), (b->n, a, pivot));
  if (info) return info;
  CALL(b->wide, lu_solve, (false, b->n, b->k, a, pivot, y), (false, b->n, b->k, a, pivot, y));
  return 0;
}

static pg_status forward_solve(pg_call *c) {
  pg_tensor *a = c->in[0], *b = c->in[1], *y = c->out[0], *lu;
  bool vector = is_vector(a->nd, a->shape, b->nd, b->shape), left = c->arg[0].i;
  int last = vector ? 1 : 2, info;
  int64_t n = a->shape[a->nd - 1], failed;
  if (pg_numel(y) == 0) return PG_OK;
  PG_TRY(pg_tensor_copy(y, b)); /* X A = B is A^T X^T = B^T: both lie by rows then */
  PG_TRY(matrices_copy(c->ctx, a, y->nd - last, y->shape, !left, &lu));
  matrices m = {.count = pg_numel(lu) / (n * n), .n = n, .wide = a->dtype == PG_F64};
  m.k = pg_numel(y) / (m.count * n);
  m.run = run_solve;
  m.cost = (double)n * (double)n * ((double)n + 2.0 * (double)m.k);
  m.bytes = (size_t)n * sizeof(int);
  matrices_set(&m, 0, lu, 2);
  matrices_set(&m, 1, y, last);
  pg_status s = matrices_run(c->ctx, &m, &failed, &info);
  pg_tensor_unref(lu);
  if (s == PG_OK && failed) s = singular(c->ctx, y->nd - last + 2, failed);
  return s;
}

/* gB = A^-T g, gA = -gB X^T; from the right gB = g A^-T, gA = -X^T gB. */
static pg_status backward_solve(pg_call *c) {
  const pg_meta *ma = &c->meta[0], *mb = &c->meta[1];
  bool vector = is_vector(ma->nd, ma->shape, mb->nd, mb->shape), left = c->arg[0].i;
  pg_chain k = {.ctx = c->ctx};
  pg_tensor *g = c->gout[0], *x = c->out[0];
  if (vector) {
    g = matrices_wide(&k, g, -1);
    x = matrices_wide(&k, x, -1);
  }
  pg_tensor *gb = PG_STEP(&k, "linalg.solve", "ttb", matrices_turn(&k, c->in[0]), g, left);
  if (c->need[0]) {
    pg_tensor *turned = matrices_turn(&k, x);
    pg_tensor *ga = left ? matrices_mul(&k, gb, turned) : matrices_mul(&k, turned, gb);
    pg_chain_give(&k, matrices_sum_to(&k, PG_STEP(&k, "neg", "t", ga), ma), &c->gin[0]);
  }
  if (c->need[1]) {
    if (vector) gb = PG_STEP(&k, "squeeze", "tl", gb, 1, (int64_t[]){-1});
    pg_chain_give(&k, matrices_sum_to(&k, gb, mb), &c->gin[1]);
  }
  return pg_chain_end(&k);
}

/* --- solve_triangular: arg upper, left, unitriangular ------------------------------------------
 */
static pg_status infer_triangular(pg_call *c) {
  const pg_tensor *a = c->in[0], *b = c->in[1];
  bool left = c->arg[1].i;
  int64_t batch[PG_MAX_DIMS];
  int nd;
  PG_TRY(matrices_want_square(c, 0));
  PG_TRY(matrices_want(c, 1));
  PG_TRY(pg_want_same_dtype(c, 1, 0));
  if (b->shape[left ? b->nd - 2 : b->nd - 1] != a->shape[a->nd - 1])
    return pg_bad_in(c, PG_ESHAPE, 1, "%s to follow A %s",
                     pg_shape_only(b->nd, left ? b->nd - 2 : b->nd - 1, a->shape[a->nd - 1]).s,
                     pg_shape_str(a).s);
  PG_TRY(joint_batch(c, 2, &nd, batch));
  return matrices_out(c, 0, nd, batch, b->shape[b->nd - 2], b->shape[b->nd - 1], false);
}

static int run_triangular(const matrices *b, int64_t i, void *work) {
  void *a = matrices_at(b, 0, i), *y = matrices_at(b, 1, i);
  bool right = b->flags & RIGHT, upper = b->flags & UPPER, unit = b->flags & UNIT;
  (void)work;
  CALL(b->wide, triangle_solve, (right, upper, false, unit, b->m, b->k, a, y),
       (right, upper, false, unit, b->m, b->k, a, y));
  return 0;
}

static pg_status forward_triangular(pg_call *c) {
  pg_tensor *a = c->in[0], *y = c->out[0], *t;
  int64_t n = a->shape[a->nd - 1], failed;
  int info;
  if (pg_numel(y) == 0) return PG_OK;
  PG_TRY(pg_tensor_copy(y, c->in[1]));
  PG_TRY(matrices_copy(c->ctx, a, y->nd - 2, y->shape, false, &t));
  matrices m = {.count = pg_numel(t) / (n * n), .n = n, .wide = a->dtype == PG_F64};
  m.m = y->shape[y->nd - 2];
  m.k = y->shape[y->nd - 1];
  m.flags = (c->arg[0].i ? UPPER : 0) | (c->arg[1].i ? 0 : RIGHT) | (c->arg[2].i ? UNIT : 0);
  m.run = run_triangular;
  m.cost = (double)n * (double)m.m * (double)m.k;
  matrices_set(&m, 0, t, 2);
  matrices_set(&m, 1, y, 2);
  pg_status s = matrices_run(c->ctx, &m, &failed, &info);
  pg_tensor_unref(t);
  return s;
}

/* As for solve; of gA the triangle that was read. */
static pg_status backward_triangular(pg_call *c) {
  bool upper = c->arg[0].i, left = c->arg[1].i, unit = c->arg[2].i;
  pg_chain k = {.ctx = c->ctx};
  pg_tensor *gb = PG_STEP(&k, "linalg.solve_triangular", "ttbbb", matrices_turn(&k, c->in[0]),
                          c->gout[0], !upper, left, unit);
  if (c->need[0]) {
    pg_tensor *turned = matrices_turn(&k, c->out[0]);
    pg_tensor *ga = left ? matrices_mul(&k, gb, turned) : matrices_mul(&k, turned, gb);
    ga = PG_STEP(&k, "neg", "t", ga);
    ga = PG_STEP(&k, upper ? "triu" : "tril", "ti", ga, (int64_t)(!unit ? 0 : upper ? 1 : -1));
    pg_chain_give(&k, matrices_sum_to(&k, ga, &c->meta[0]), &c->gin[0]);
  }
  if (c->need[1]) pg_chain_give(&k, matrices_sum_to(&k, gb, &c->meta[1]), &c->gin[1]);
  return pg_chain_end(&k);
}

/* --- det and slogdet ---------------------------------------------------------------------------
 */
static pg_status infer_det(pg_call *c) {
  const pg_tensor *x = c->in[0];
  PG_TRY(matrices_want_square(c, 0));
  for (int j = 0; j < c->op->nout; j++)
    PG_TRY(pg_out_shape(c, j, (pg_dtype)x->dtype, x->nd - 2, x->shape));
  return PG_OK;
}

/* The product of the factors' diagonal, or its sign and the sum of logarithms. */
#define DETERMINANT(T)                                                  \
  {                                                                     \
    const T *lu = a;                                                    \
    double sign = 1, product = 1, sum = 0;                              \
    for (int64_t j = 0; j < n; j++) {                                   \
      double v = (double)lu[j * (n + 1)];                               \
      if (pivot[j] != j + 1) sign = -sign;                              \
      if (v < 0) sign = -sign;                                          \
      if (v != v || v == 0) sign *= v;                                  \
      product *= fabs(v);                                               \
      sum += log(fabs(v));                                              \
    }                                                                   \
    *(T *)matrices_at(b, 1, i) = (T)(b->flags ? sign : sign * product); \
    if (b->flags) *(T *)matrices_at(b, 2, i) = (T)sum;                  \
  }

static int run_det(const matrices *b, int64_t i, void *work) {
  int *pivot = work;
  int64_t n = b->n;
  void *a = matrices_at(b, 0, i);
  CALL(b->wide, lu, (n, a, pivot), (n, a, pivot));
  if (b->wide) DETERMINANT(double)
  else DETERMINANT(float)
  return 0;
}

static pg_status forward_det(pg_call *c) {
  pg_tensor *x = c->in[0], *lu;
  int64_t n = x->shape[x->nd - 1], failed;
  int info;
  if (n == 0 || pg_numel(c->out[0]) == 0) {
    pg_tensor_fill(c->out[0], 1);
    if (c->nout > 1) pg_tensor_fill(c->out[1], 0);
    return PG_OK;
  }
  PG_TRY(matrices_copy(c->ctx, x, x->nd - 2, x->shape, false, &lu));
  matrices b = {.count = pg_numel(c->out[0]), .n = n, .wide = x->dtype == PG_F64, .run = run_det};
  b.cost = (double)n * (double)n * (double)n;
  b.bytes = (size_t)n * sizeof(int);
  b.flags = c->nout > 1;
  matrices_set(&b, 0, lu, 2);
  for (int j = 0; j < c->nout; j++) matrices_set(&b, j + 1, c->out[j], 0);
  pg_status s = matrices_run(c->ctx, &b, &failed, &info);
  pg_tensor_unref(lu);
  return s;
}

/* Is an element of t zero? */
static bool has_zero(const pg_tensor *t) {
  bool found = false;
  int64_t n = pg_numel(t);
  for (int64_t i = 0; i < n; i++) found = found || pg_at_f64(t, i) == 0;
  return found;
}

/* gx = g det x^-T; where a determinant is zero, g times the cofactors. */
static pg_status backward_det(pg_call *c) {
  pg_chain k = {.ctx = c->ctx};
  pg_tensor *wide = matrices_wide(&k, matrices_wide(&k, c->gout[0], -1), -1), *slope;
  if (has_zero(c->out[0])) {
    slope = PG_STEP(&k, "linalg.cofactor", "t", c->in[0]);
  } else {
    pg_tensor *y = matrices_wide(&k, matrices_wide(&k, c->out[0], -1), -1);
    slope = matrices_turn(&k, PG_STEP(&k, "linalg.inv", "t", c->in[0]));
    slope = PG_STEP(&k, "mul", "tt", slope, y);
  }
  pg_chain_give(&k, PG_STEP(&k, "mul", "tt", slope, wide), &c->gin[0]);
  return pg_chain_end(&k);
}

/* gx = g x^-T for the logarithm; the sign has none. */
static pg_status backward_slogdet(pg_call *c) {
  if (!c->gout[1]) return PG_OK;
  pg_chain k = {.ctx = c->ctx};
  pg_tensor *slope = matrices_turn(&k, PG_STEP(&k, "linalg.inv", "t", c->in[0]));
  pg_tensor *wide = matrices_wide(&k, matrices_wide(&k, c->gout[1], -1), -1);
  pg_chain_give(&k, PG_STEP(&k, "mul", "tt", slope, wide), &c->gin[0]);
  return pg_chain_end(&k);
}

/* --- cholesky: arg upper -----------------------------------------------------------------------
 */
static int run_cholesky(const matrices *b, int64_t i, void *work) {
  void *a = matrices_at(b, 0, i);
  (void)work;
  return CALL(b->wide, cholesky, (b->flags, b->n, a), (b->flags, b->n, a));
}

/* Zeros in what is not the factor. */
#define CLEAR(T)                                                                      \
  for (int64_t i = 0; i < b.count; i++) {                                             \
    T *a = matrices_at(&b, 0, i);                                                     \
    for (int64_t j = 0; j < n; j++)                                                   \
      for (int64_t r = upper ? j + 1 : 0; r < (upper ? n : j); r++) a[j * n + r] = 0; \
  }

static pg_status forward_cholesky(pg_call *c) {
  pg_tensor *x = c->in[0], *y = c->out[0];
  bool upper = c->arg[0].i;
  int64_t n = x->shape[x->nd - 1], failed;
  int info;
  if (pg_numel(y) == 0) return PG_OK;
  PG_TRY(pg_tensor_copy(y, x));
  matrices b = {.count = pg_numel(x) / (n * n), .n = n, .wide = x->dtype == PG_F64};
  b.run = run_cholesky;
  b.flags = upper;
  b.cost = (double)n * (double)n * (double)n / 3;
  matrices_set(&b, 0, y, 2);
  PG_TRY(matrices_run(c->ctx, &b, &failed, &info));
  char text[96];
  snprintf(text, sizeof text, "is not positive definite: its leading minor of order %d is not",
           info);
  if (failed) return matrices_fail(c->ctx, x->nd, failed, text);
  if (b.wide) CLEAR(double)
  else CLEAR(float)
  return PG_OK;
}

/* gx = L^-T s L^-1, s the symmetric half of the lower triangle of L^T gL. */
static pg_status backward_cholesky(pg_call *c) {
  pg_chain k = {.ctx = c->ctx};
  pg_tensor *l = c->out[0], *g = c->gout[0];
  if (c->arg[0].i) {
    l = matrices_turn(&k, l);
    g = matrices_turn(&k, g);
  }
  pg_tensor *turned = matrices_turn(&k, l);
  pg_tensor *low = PG_STEP(&k, "tril", "t", matrices_mul(&k, turned, g));
  pg_tensor *below = PG_STEP(&k, "tril", "ti", low, (int64_t)-1);
  pg_tensor *s = PG_STEP(&k, "add", "tt", low, matrices_turn(&k, below));
  s = PG_STEP(&k, "mul", "tt", s, pg_chain_number(&k, 0.5));
  s = PG_STEP(&k, "linalg.solve_triangular", "ttb", turned, s, true);
  s = PG_STEP(&k, "linalg.solve_triangular", "ttbb", l, s, false, false);
  pg_chain_give(&k, s, &c->gin[0]);
  return pg_chain_end(&k);
}

const pg_op PG_AT(pg_ops_linalg)[] = {
    {"linalg.inv",
     "The inverse of every matrix, A A^-1 = I.",
     {PG_T("A")},
     PG_LINALG,
     PG_SAVE_OUT(0),
     1,
     infer_inv,
     {forward_inv},
     backward_inv},
    {"linalg.solve",
     "X with A X = B, or X A = B if not left; B holds matrices, or one vector for each matrix.",
     {PG_T("A"), PG_T("B"), PG_DEF("left", PG_FLAG, 1)},
     PG_LINALG,
     PG_SAVE_IN(0) | PG_SAVE_OUT(0),
     1,
     infer_solve,
     {forward_solve},
     backward_solve},
    {"linalg.solve_triangular",
     "X with A X = B, or X A = B if not left, for the upper or lower triangle of A; unitriangular: "
     "its diagonal is taken as ones.",
     {PG_T("A"), PG_T("B"), PG_REQ("upper", PG_FLAG), PG_DEF("left", PG_FLAG, 1),
      PG_DEF("unitriangular", PG_FLAG, 0)},
     PG_LINALG,
     PG_SAVE_IN(0) | PG_SAVE_OUT(0),
     1,
     infer_triangular,
     {forward_triangular},
     backward_triangular},
    {"linalg.det",
     "The determinant of every matrix.",
     {PG_T("A")},
     PG_LINALG,
     PG_SAVE_IN(0) | PG_SAVE_OUT(0),
     1,
     infer_det,
     {forward_det},
     backward_det},
    {"linalg.slogdet",
     "The sign of the determinant of every matrix and the logarithm of its magnitude.",
     {PG_T("A")},
     PG_LINALG,
     PG_SAVE_IN(0),
     2,
     infer_det,
     {forward_det},
     backward_slogdet},
    {"linalg.cholesky",
     "The lower triangle L with A = L L^T of every symmetric positive definite matrix, or the "
     "upper "
     "L^T.",
     {PG_T("input"), PG_DEF("upper", PG_FLAG, 0)},
     PG_LINALG,
     PG_SAVE_OUT(0),
     1,
     infer_inv,
     {forward_cholesky},
     backward_cholesky},
    {0}};
