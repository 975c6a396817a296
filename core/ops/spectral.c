/* Decompositions on LAPACK: qr, svd, svdvals, eigh, eigvalsh, pinv. Relies on ops/matrices.h.
 * Gradients: Giles 2008 (eigh, svd); Walter and Lehmann, "On evaluating higher-order derivatives of
 * the QR decomposition", 2012; Golub and Pereyra 1973 (pinv). Spec: spec/ops/spectral_spec.lua. */
#include "autograd/node.h"
#include "ops/matrices.h"

#define CALL(wide, name, f32, f64) ((wide) ? pgk_##name##_f64 f64 : pgk_##name##_f32 f32)

static int64_t rows_of(const pg_tensor *t) { return t->shape[t->nd - 2]; }
static int64_t cols_of(const pg_tensor *t) { return t->shape[t->nd - 1]; }

static size_t element(const matrices *b) { return b->wide ? sizeof(double) : sizeof(float); }

static pg_status no_convergence(pg_ctx *ctx, int nd, int64_t failed) {
  return matrices_fail(ctx, nd, failed, "was not decomposed: LAPACK did not converge");
}

/* out[0..nout) = results of an op of one tensor with flag arguments, recorded where gradients are;
 * NULL where something failed. Pushed on the chain. */
static void decompose(pg_chain *k, const char *name, pg_tensor *x, int nout, int64_t first,
                      pg_tensor **out) {
  for (int j = 0; j < nout; j++) out[j] = NULL;
  if (k->status != PG_OK) return;
  pg_call c;
  pg_call_init(&c, k->ctx, pg_op_find(k->ctx, name));
  c.in[0] = x;
  c.arg[0] = (pg_arg){.set = true, .i = first};
  k->status = pg_apply(&c);
  if (k->status != PG_OK) return;
  for (int j = 0; j < nout; j++) {
    k->made = c.out[j];
    out[j] = pg_chain_push(k, PG_OK);
  }
}

/* Step: the identity of t's dtype, n x n. */
static pg_tensor *identity(pg_chain *k, const pg_tensor *t, int64_t n) {
  return PG_STEP(k, "eye", "iii", n, n, (int64_t)t->dtype);
}

/* Step: a matrix whose element i, j is v[j] - v[i], 1 on the diagonal. */
static pg_tensor *gaps(pg_chain *k, pg_tensor *v, pg_tensor *eye) {
  pg_tensor *d = PG_STEP(k, "sub", "tt", matrices_wide(k, v, -2), matrices_wide(k, v, -1));
  return PG_STEP(k, "add", "tt", d, eye);
}

/* Step: the first n elements of dim (-1 or -2) of t, t itself where it has no more. */
static pg_tensor *head(pg_chain *k, pg_tensor *t, int64_t dim, int64_t n) {
  if (!t || t->shape[t->nd + dim] == n) return t;
  return PG_STEP(k, "narrow", "tiii", t, dim, (int64_t)1, n);
}

/* --- qr: arg mode ------------------------------------------------------------------------------
 */
enum { REDUCED, COMPLETE, R_ONLY };

static pg_status infer_qr(pg_call *c) {
  const pg_tensor *x = c->in[0];
  PG_TRY(matrices_want(c, 0));
  int64_t m = rows_of(x), n = cols_of(x), k = pg_min64(m, n), mode = c->arg[0].i;
  if (mode == COMPLETE) k = m;
  if (mode == R_ONLY) PG_TRY(pg_out_shape(c, 0, (pg_dtype)x->dtype, 1, (int64_t[]){0}));
  else PG_TRY(matrices_out(c, 0, x->nd - 2, x->shape, m, k, false));
  return matrices_out(c, 1, x->nd - 2, x->shape, k, n, false);
}

/* Operands: 0 the copy of A, 1 q (NULL: not wanted), 2 r. k: columns of q. */
#define QR(T, name)                                                                       \
  static int run_qr_##name(const matrices *b, int64_t i, void *work) {                    \
    int64_t m = b->m, n = b->n, cols = b->k, known = pg_min64(m, n);                      \
    T *a = matrices_at(b, 0, i), *r = matrices_at(b, 2, i), *tau = work;                  \
    int info = pgk_qr_##name(m, n, a, tau, tau + known);                                  \
    if (info) return info;                                                                \
    int64_t height = b->flags ? cols : known; /* rows of r */                             \
    for (int64_t j = 0; j < n; j++)                                                       \
      for (int64_t p = 0; p < height; p++) r[j * height + p] = p <= j ? a[j * m + p] : 0; \
    if (!b->p[1]) return 0;                                                               \
    T *q = matrices_at(b, 1, i);                                                          \
    memcpy(q, a, sizeof *q *(size_t)(m * known));                                         \
    return pgk_qr_q_##name(m, cols, known, q, tau, tau + known);                          \
  }
QR(float, f32)
QR(double, f64)

static pg_status forward_qr(pg_call *c) {
  pg_tensor *x = c->in[0], *copy;
  int64_t m = rows_of(x), n = cols_of(x), failed;
  int info;
  if (pg_numel(x) == 0) { /* no reflections: Q is the identity */
    pg_tensor_fill(c->out[1], 0);
    if (pg_numel(c->out[0]) == 0) return PG_OK;
    pg_tensor *eye;
    PG_TRY(pg_do(c->ctx, &eye, "eye", "iii", m, m, (int64_t)x->dtype));
    pg_status s = pg_tensor_copy(c->out[0], eye);
    pg_tensor_unref(eye);
    return s;
  }
  PG_TRY(matrices_copy(c->ctx, x, x->nd - 2, x->shape, false, &copy));
  matrices b = {.count = pg_numel(x) / (m * n), .m = m, .n = n, .wide = x->dtype == PG_F64};
  b.k = c->arg[0].i == COMPLETE ? m : pg_min64(m, n);
  b.flags = c->arg[0].i == COMPLETE;
  b.run = b.wide ? run_qr_f64 : run_qr_f32;
  b.cost = 4.0 * (double)m * (double)n * (double)pg_min64(m, n);
  b.bytes = element(&b) * (size_t)(pg_min64(m, n) + pg_max64(n, b.k) * PGK_BLOCK);
  matrices_set(&b, 0, copy, 2);
  if (c->arg[0].i != R_ONLY) matrices_set(&b, 1, c->out[0], 2);
  matrices_set(&b, 2, c->out[1], 2);
  pg_status s = matrices_run(c->ctx, &b, &failed, &info);
  pg_tensor_unref(copy);
  return s;
}

/* gx = (gQ + Q sym) R^-T, sym the symmetric matrix with the upper triangle of gR R^T - Q^T gQ. Of a
 * wide matrix [X Y] = Q [U W]: so for X, with Y gW^T added to gQ; gY = Q gW. */
static pg_status backward_qr(pg_call *c) {
  const pg_meta *meta = &c->meta[0];
  int64_t m = meta->shape[meta->nd - 2], n = meta->shape[meta->nd - 1];
  if (c->arg[0].i == R_ONLY || (c->arg[0].i == COMPLETE && m > n))
    return pg_fail(c->ctx, PG_EUNSUPPORTED, "has no gradient in mode %s; use mode 'reduced'",
                   c->arg[0].i == R_ONLY ? "'r'"
                                         : "'complete' for matrices with more rows than "
                                           "columns");
  pg_chain k = {.ctx = c->ctx};
  pg_tensor *q = c->out[0], *r = c->out[1], *gq = c->gout[0], *gr = c->gout[1], *gy = NULL;
  if (m < n) {
    int64_t more = m + 1, rest = n - m;
    if (gr) {
      pg_tensor *w = PG_STEP(&k, "narrow", "tiii", r, (int64_t)-1, more, rest);
      pg_tensor *gw = PG_STEP(&k, "narrow", "tiii", gr, (int64_t)-1, more, rest);
      pg_tensor *part = matrices_mul(&k, matrices_mul(&k, q, w), matrices_turn(&k, gw));
      gq = gq ? PG_STEP(&k, "add", "tt", gq, part) : part;
      gy = matrices_mul(&k, q, gw);
    }
    r = head(&k, r, -1, m);
    gr = head(&k, gr, -1, m);
  }
  pg_tensor *s = gr ? matrices_mul(&k, gr, matrices_turn(&k, r)) : NULL;
  if (gq) {
    pg_tensor *part = matrices_mul(&k, matrices_turn(&k, q), gq);
    s = s ? PG_STEP(&k, "sub", "tt", s, part) : PG_STEP(&k, "neg", "t", part);
  }
  pg_tensor *above = PG_STEP(&k, "triu", "ti", s, (int64_t)1);
  s = PG_STEP(&k, "add", "tt", PG_STEP(&k, "triu", "t", s), matrices_turn(&k, above));
  s = matrices_mul(&k, q, s);
  if (gq) s = PG_STEP(&k, "add", "tt", s, gq);
  s = PG_STEP(&k, "linalg.solve_triangular", "ttbb", matrices_turn(&k, r), s, false, false);
  if (m < n) {
    pg_tensor *wide = PG_STEP(&k, "pad", "tl", s, 2, (int64_t[]){0, n - m});
    if (gy) {
      gy = PG_STEP(&k, "pad", "tl", gy, 2, (int64_t[]){m, 0});
      wide = PG_STEP(&k, "add", "tt", wide, gy);
    }
    s = wide;
  }
  pg_chain_give(&k, s, &c->gin[0]);
  return pg_chain_end(&k);
}

/* --- svd: arg full_matrices; svdvals -----------------------------------------------------------
 */
static pg_status infer_svdvals(pg_call *c) {
  const pg_tensor *x = c->in[0];
  PG_TRY(matrices_want(c, 0));
  int64_t shape[PG_MAX_DIMS];
  memcpy(shape, x->shape, sizeof shape);
  shape[x->nd - 2] = pg_min64(rows_of(x), cols_of(x));
  return pg_out_shape(c, c->op->nout == 1 ? 0 : 1, (pg_dtype)x->dtype, x->nd - 1, shape);
}
static pg_status infer_svd(pg_call *c) {
  const pg_tensor *x = c->in[0];
  PG_TRY(infer_svdvals(c));
  int64_t m = rows_of(x), n = cols_of(x), k = pg_min64(m, n);
  bool full = c->arg[0].i;
  PG_TRY(matrices_out(c, 0, x->nd - 2, x->shape, m, full ? m : k, false));
  return matrices_out(c, 2, x->nd - 2, x->shape, full ? n : k, n, false);
}

static int run_svd(const matrices *b, int64_t i, void *work) {
  void *a = matrices_at(b, 0, i), *s = matrices_at(b, 2, i), *u = NULL, *vt = NULL;
  int *iwork = (int *)((char *)work + element(b) * (size_t)b->nwork);
  char job = (char)b->flags;
  if (job == 'N') u = vt = work; /* not read */
  else {
    u = matrices_at(b, 1, i);
    vt = matrices_at(b, 3, i);
  }
  return CALL(b->wide, svd, (job, b->m, b->n, a, s, u, vt, work, b->nwork, iwork),
              (job, b->m, b->n, a, s, u, vt, work, b->nwork, iwork));
}

/* u, s, vt of x; u and vt NULL: s only. */
static pg_status svd(pg_ctx *ctx, const pg_tensor *x, bool full, pg_tensor *u, pg_tensor *values,
                     pg_tensor *vt) {
  pg_tensor *copy;
  int64_t m = rows_of(x), n = cols_of(x), least = pg_min64(m, n), failed;
  int info;
  PG_TRY(matrices_want_finite(ctx, x, "A"));
  PG_TRY(matrices_copy(ctx, x, x->nd - 2, x->shape, false, &copy));
  matrices b = {.count = pg_numel(x) / (m * n), .m = m, .n = n, .wide = x->dtype == PG_F64};
  b.flags = !u ? 'N' : full ? 'A' : 'S';
  b.nwork = pgk_svd_work((char)b.flags, m, n);
  b.run = run_svd;
  b.cost = 10.0 * (double)m * (double)n * (double)least;
  b.bytes = element(&b) * (size_t)b.nwork + sizeof(int) * (size_t)(8 * least);
  matrices_set(&b, 0, copy, 2);
  matrices_set(&b, 2, values, 1);
  if (u) matrices_set(&b, 1, u, 2);
  if (u) matrices_set(&b, 3, vt, 2);
  pg_status s = matrices_run(ctx, &b, &failed, &info);
  pg_tensor_unref(copy);
  return s == PG_OK && failed ? no_convergence(ctx, x->nd, failed) : s;
}

static pg_status fill_identity(pg_ctx *ctx, pg_tensor *t) {
  pg_tensor *eye;
  PG_TRY(pg_do(ctx, &eye, "eye", "iii", rows_of(t), cols_of(t), (int64_t)t->dtype));
  pg_status s = pg_tensor_copy(t, eye);
  pg_tensor_unref(eye);
  return s;
}

static pg_status forward_svd(pg_call *c) {
  if (pg_numel(c->in[0]))
    return svd(c->ctx, c->in[0], c->arg[0].i, c->out[0], c->out[1], c->out[2]);
  PG_TRY(fill_identity(c->ctx, c->out[0]));
  return fill_identity(c->ctx, c->out[2]);
}
static pg_status forward_svdvals(pg_call *c) {
  if (pg_numel(c->in[0]) == 0) return PG_OK;
  return svd(c->ctx, c->in[0], false, NULL, c->out[0], NULL);
}

/* Step: t - t^T. */
static pg_tensor *skew(pg_chain *k, pg_tensor *t) {
  return PG_STEP(k, "sub", "tt", t, matrices_turn(k, t));
}

/* With E[i][j] = s[j]^2 - s[i]^2 (1 on the diagonal):
 * gx = (U (skew(U^T gU) / E S + S skew(V^T gV) / E + gS) + (gU - U U^T gU) / S) V^T
 *      + U / S (gV^T - gV^T V V^T) */
static pg_status backward_svd(pg_call *c) {
  const pg_meta *meta = &c->meta[0];
  int64_t m = meta->shape[meta->nd - 2], n = meta->shape[meta->nd - 1], least = pg_min64(m, n);
  pg_chain k = {.ctx = c->ctx};
  pg_tensor *u = head(&k, c->out[0], -1, least), *s = c->out[1];
  pg_tensor *vt = head(&k, c->out[2], -2, least), *gs = c->gout[1];
  pg_tensor *gu = head(&k, c->gout[0], -1, least), *gvt = head(&k, c->gout[2], -2, least);
  pg_tensor *row = matrices_wide(&k, s, -2), *inner = NULL, *left = NULL, *right = NULL;
  pg_tensor *eye = identity(&k, u, least), *gap = NULL;
  if (gu || gvt) gap = gaps(&k, PG_STEP(&k, "mul", "tt", s, s), eye);
  if (gu) {
    pg_tensor *p = matrices_mul(&k, matrices_turn(&k, u), gu);
    inner = PG_STEP(&k, "mul", "tt", PG_STEP(&k, "div", "tt", skew(&k, p), gap), row);
    if (m > least) {
      left = PG_STEP(&k, "sub", "tt", gu, matrices_mul(&k, u, p));
      left = PG_STEP(&k, "div", "tt", left, row);
    }
  }
  if (gvt) {
    pg_tensor *p = matrices_mul(&k, vt, matrices_turn(&k, gvt));
    pg_tensor *part = PG_STEP(&k, "div", "tt", skew(&k, p), gap);
    part = PG_STEP(&k, "mul", "tt", part, matrices_wide(&k, s, -1));
    inner = inner ? PG_STEP(&k, "add", "tt", inner, part) : part;
    if (n > least) {
      right = PG_STEP(&k, "sub", "tt", gvt, matrices_mul(&k, matrices_turn(&k, p), vt));
      right = matrices_mul(&k, PG_STEP(&k, "div", "tt", u, row), right);
    }
  }
  if (gs) {
    pg_tensor *part = PG_STEP(&k, "mul", "tt", matrices_wide(&k, gs, -2), eye);
    inner = inner ? PG_STEP(&k, "add", "tt", inner, part) : part;
  }
  pg_tensor *g = matrices_mul(&k, u, inner);
  if (left) g = PG_STEP(&k, "add", "tt", g, left);
  g = matrices_mul(&k, g, vt);
  if (right) g = PG_STEP(&k, "add", "tt", g, right);
  pg_chain_give(&k, g, &c->gin[0]);
  return pg_chain_end(&k);
}

/* gx = U gS V^T */
static pg_status backward_svdvals(pg_call *c) {
  pg_chain k = {.ctx = c->ctx};
  pg_tensor *parts[3];
  decompose(&k, "linalg.svd", c->in[0], 3, false, parts);
  pg_tensor *g = PG_STEP(&k, "mul", "tt", parts[0], matrices_wide(&k, c->gout[0], -2));
  pg_chain_give(&k, matrices_mul(&k, g, parts[2]), &c->gin[0]);
  return pg_chain_end(&k);
}

/* --- eigh and eigvalsh: arg UPLO ---------------------------------------------------------------
 */
static pg_status infer_eigvalsh(pg_call *c) {
  const pg_tensor *x = c->in[0];
  PG_TRY(matrices_want_square(c, 0));
  return pg_out_shape(c, 0, (pg_dtype)x->dtype, x->nd - 1, x->shape);
}
static pg_status infer_eigh(pg_call *c) {
  const pg_tensor *x = c->in[0];
  PG_TRY(infer_eigvalsh(c));
  return matrices_out(c, 1, x->nd - 2, x->shape, rows_of(x), cols_of(x), false);
}

static int run_eigh(const matrices *b, int64_t i, void *work) {
  void *a = matrices_at(b, 0, i), *w = matrices_at(b, 1, i);
  int *iwork = (int *)((char *)work + element(b) * (size_t)b->nwork);
  bool vectors = b->flags & 1, upper = b->flags & 2;
  return CALL(b->wide, eigh, (vectors, upper, b->n, a, w, work, b->nwork, iwork, b->niwork),
              (vectors, upper, b->n, a, w, work, b->nwork, iwork, b->niwork));
}

static pg_status forward_eigh(pg_call *c) {
  pg_tensor *x = c->in[0], *copy = NULL;
  int64_t n = cols_of(x), failed;
  int info;
  if (pg_numel(x) == 0) return PG_OK;
  PG_TRY(matrices_want_finite(c->ctx, x, "A"));
  if (c->nout > 1) {
    PG_TRY(pg_tensor_copy(c->out[1], x));
    copy = pg_tensor_ref(c->out[1]);
  } else {
    PG_TRY(matrices_copy(c->ctx, x, x->nd - 2, x->shape, false, &copy));
  }
  matrices b = {.count = pg_numel(x) / (n * n), .n = n, .wide = x->dtype == PG_F64};
  b.flags = (c->nout > 1 ? 1 : 0) | (c->arg[0].i == 1 ? 2 : 0);
  b.nwork = pgk_eigh_work(c->nout > 1, n, &b.niwork);
  b.run = run_eigh;
  b.cost = 9.0 * (double)n * (double)n * (double)n;
  b.bytes = element(&b) * (size_t)b.nwork + sizeof(int) * (size_t)b.niwork;
  matrices_set(&b, 0, copy, 2);
  matrices_set(&b, 1, c->out[0], 1);
  pg_status s = matrices_run(c->ctx, &b, &failed, &info);
  pg_tensor_unref(copy);
  return s == PG_OK && failed ? no_convergence(c->ctx, x->nd, failed) : s;
}

/* gx = V (V^T gV / E with gL on the diagonal) V^T, E[i][j] = l[j] - l[i]. */
static pg_status backward_eigh(pg_call *c) {
  pg_chain k = {.ctx = c->ctx};
  pg_tensor *v = c->out[1], *turned = matrices_turn(&k, v), *inner = NULL;
  pg_tensor *eye = identity(&k, v, cols_of(v));
  if (c->gout[1]) {
    pg_tensor *p = matrices_mul(&k, turned, c->gout[1]);
    p = PG_STEP(&k, "div", "tt", p, gaps(&k, c->out[0], eye));
    inner = PG_STEP(&k, "sub", "tt", p, PG_STEP(&k, "mul", "tt", p, eye));
  }
  if (c->gout[0]) {
    pg_tensor *part = PG_STEP(&k, "mul", "tt", matrices_wide(&k, c->gout[0], -2), eye);
    inner = inner ? PG_STEP(&k, "add", "tt", inner, part) : part;
  }
  pg_chain_give(&k, matrices_mul(&k, matrices_mul(&k, v, inner), turned), &c->gin[0]);
  return pg_chain_end(&k);
}

/* gx = V gL V^T */
static pg_status backward_eigvalsh(pg_call *c) {
  pg_chain k = {.ctx = c->ctx};
  pg_tensor *parts[2];
  decompose(&k, "linalg.eigh", c->in[0], 2, c->arg[0].i, parts);
  pg_tensor *g = PG_STEP(&k, "mul", "tt", parts[1], matrices_wide(&k, c->gout[0], -2));
  g = matrices_mul(&k, g, matrices_turn(&k, parts[1]));
  pg_chain_give(&k, g, &c->gin[0]);
  return pg_chain_end(&k);
}

/* --- pinv: arg rtol, atol ----------------------------------------------------------------------
 */
static pg_status infer_pinv(pg_call *c) {
  const pg_tensor *x = c->in[0];
  PG_TRY(matrices_want(c, 0));
  return matrices_out(c, 0, x->nd - 2, x->shape, cols_of(x), rows_of(x), true);
}

/* Smallest singular value that counts: the larger of atol and rtol times the largest one. rtol is
 * max(m, n) eps unless one of the two is given. */
static double cut(const pg_call *c, double largest) {
  const pg_tensor *x = c->in[0];
  const pg_arg *atol = &c->arg[0], *rtol = &c->arg[1];
  double eps = x->dtype == PG_F64 ? 0x1p-52 : 0x1p-23;
  double relative = rtol->set                  ? rtol->f
                    : atol->set && atol->f > 0 ? 0
                                               : eps * (double)pg_max64(rows_of(x), cols_of(x));
  return fmax(atol->set ? atol->f : 0, relative * largest);
}

/* part[0..3) = U, the singular values and V^T of x in float64: columns one after another, those of
 * each matrix together; owned. */
static pg_status svd_parts(pg_ctx *ctx, pg_tensor *x, pg_tensor **part) {
  int64_t shape[PG_MAX_DIMS], m = rows_of(x), n = cols_of(x), k = pg_min64(m, n);
  int nd = x->nd - 2;
  memcpy(shape, x->shape, sizeof shape);
  pg_tensor *wide = NULL;
  pg_status s = pg__as(ctx, x, PG_F64, &wide);
  const int64_t sizes[3][2] = {{m, k}, {1, k}, {k, n}};
  for (int j = 0; j < 3 && s == PG_OK; j++) {
    int64_t stride[PG_MAX_DIMS];
    shape[nd] = sizes[j][0];
    shape[nd + 1] = sizes[j][1];
    pg_contiguous_strides(nd + 2, shape, stride);
    stride[nd] = 1;
    stride[nd + 1] = pg_max64(sizes[j][0], 1);
    s = pg_tensor_new_strided(ctx, PG_F64, nd + 2, shape, stride, PG_HOST, &part[j]);
  }
  if (s == PG_OK) s = svd(ctx, wide, false, part[0], part[1], part[2]);
  pg_tensor_unref(wide);
  return s;
}

/* out[.. b x a] = V f(s) U^T, from x[.. a x b]; f turns the singular values of each matrix, n of
 * them, into factors. transpose: out[.. a x b] = U f(s) V^T instead. */
static pg_status from_svd(pg_call *c, bool transpose,
                          void (*f)(const pg_call *c, int64_t n, const double *u, const double *vt,
                                    double *s)) {
  pg_tensor *x = c->in[0], *part[3] = {0}, *made = NULL;
  int64_t m = rows_of(x), n = cols_of(x), k = pg_min64(m, n);
  if (pg_numel(c->out[0]) == 0) return PG_OK;
  pg_chain chain = {.ctx = c->ctx};
  pg_status s = svd_parts(c->ctx, x, part);
  if (s != PG_OK) goto done;
  double *u = pg_data(part[0]), *values = pg_data(part[1]), *vt = pg_data(part[2]);
  int64_t count = pg_numel(x) / (m * n);
  for (int64_t i = 0; i < count; i++) f(c, k, u + i * m * k, vt + i * k * n, values + i * k);
  pg_tensor *scaled = PG_STEP(&chain, "mul", "tt", part[0], part[1]);
  made = matrices_mul(&chain, scaled, part[2]);
  if (!transpose) made = matrices_turn(&chain, made);
  s = chain.status;
  if (s == PG_OK) s = pg_tensor_copy(c->out[0], made);
done:
  pg_chain_end(&chain);
  for (int j = 0; j < 3; j++) pg_tensor_unref(part[j]);
  return s;
}

static void inverted(const pg_call *c, int64_t n, const double *u, const double *vt, double *s) {
  double least = cut(c, s[0]);
  (void)u;
  (void)vt;
  for (int64_t i = 0; i < n; i++) s[i] = s[i] > least ? 1 / s[i] : 0;
}

static pg_status forward_pinv(pg_call *c) { return from_svd(c, false, inverted); }

/* With P = y, A = x: gx = -P^T g P^T + (I - A P) g^T P P^T + P^T P g^T (I - P A). */
static pg_status backward_pinv(pg_call *c) {
  pg_chain k = {.ctx = c->ctx};
  pg_tensor *p = c->out[0], *pt = matrices_turn(&k, p), *gt = matrices_turn(&k, c->gout[0]);
  pg_tensor *first = matrices_mul(&k, matrices_mul(&k, pt, c->gout[0]), pt);
  pg_tensor *b = matrices_mul(&k, matrices_mul(&k, gt, p), pt);
  b = PG_STEP(&k, "sub", "tt", b, matrices_mul(&k, c->in[0], matrices_mul(&k, p, b)));
  pg_tensor *d = matrices_mul(&k, pt, matrices_mul(&k, p, gt));
  d = PG_STEP(&k, "sub", "tt", d, matrices_mul(&k, matrices_mul(&k, d, p), c->in[0]));
  pg_tensor *sum = PG_STEP(&k, "add", "tt", b, d);
  pg_chain_give(&k, PG_STEP(&k, "sub", "tt", sum, first), &c->gin[0]);
  return pg_chain_end(&k);
}

/* --- cofactors, also of singular matrices ------------------------------------------------------
 * The sign of U and of V^T comes from their determinants, which are 1 or -1. */
static double orientation(int64_t n, const double *q, double *copy, int *pivot) {
  memcpy(copy, q, sizeof *q * (size_t)(n * n));
  pgk_lu_f64(n, copy, pivot);
  double sign = 1;
  for (int64_t j = 0; j < n; j++)
    if ((pivot[j] != j + 1) != (copy[j * (n + 1)] < 0)) sign = -sign;
  return sign;
}

/* s[i] = product of the others. */
static void others(const pg_call *c, int64_t n, const double *u, const double *vt, double *s) {
  double *copy = pg_data(c->keep[0]);
  double sign = orientation(n, u, copy, pg_data(c->keep[1]));
  sign *= orientation(n, vt, copy, pg_data(c->keep[1]));
  double left = sign; /* copy[i] = product of s[0..i) */
  for (int64_t i = 0; i < n; i++) {
    copy[i] = left;
    left *= s[i];
  }
  double right = 1;
  for (int64_t i = n - 1; i >= 0; i--) {
    double v = s[i];
    s[i] = copy[i] * right;
    right *= v;
  }
}

static pg_status infer_cofactor(pg_call *c) {
  PG_TRY(matrices_want_square(c, 0));
  return pg_out_shape(c, 0, (pg_dtype)c->in[0]->dtype, c->in[0]->nd, c->in[0]->shape);
}

static pg_status forward_cofactor(pg_call *c) {
  int64_t n = cols_of(c->in[0]);
  PG_TRY(pg_tensor_new(c->ctx, PG_F64, 2, (int64_t[]){n, n}, &c->keep[0]));
  pg_status s = pg_tensor_new(c->ctx, PG_I64, 1, &n, &c->keep[1]);
  if (s == PG_OK) s = from_svd(c, true, others);
  for (int j = 0; j < 2; j++) {
    pg_tensor_unref(c->keep[j]);
    c->keep[j] = NULL;
  }
  return s;
}

/* How the cofactors of A = U diag(s) V^T move with A, applied to G: sign U M V^T, from Q = U^T G V:
 * M[i][i] = sum of Q[j][j] p(i, j) over the others, M[i][j] = -Q[j][i] p(i, j), where p(i, j) is
 * the product of all s but two. u, vt: by columns; work: 2 n^2. */
static void cofactor_move(int64_t n, const double *u, const double *s, const double *vt,
                          const double *g, double sign, double *work, double *out) {
  double *q = work, *m = work + n * n;
  for (int64_t i = 0; i < n; i++)
    for (int64_t c = 0; c < n; c++) {
      m[i * n + c] = 0;
      for (int64_t r = 0; r < n; r++) m[i * n + c] += u[i * n + r] * g[r * n + c];
    }
  for (int64_t i = 0; i < n; i++)
    for (int64_t j = 0; j < n; j++) {
      q[i * n + j] = 0;
      for (int64_t c = 0; c < n; c++) q[i * n + j] += m[i * n + c] * vt[c * n + j];
    }
  for (int64_t i = 0; i < n; i++) {
    m[i * n + i] = 0;
    for (int64_t j = 0; j < n; j++) {
      if (i == j) continue;
      double p = 1;
      for (int64_t k = 0; k < n; k++) p *= k == i || k == j ? 1 : s[k];
      m[i * n + i] += q[j * n + j] * p;
      m[i * n + j] = -q[j * n + i] * p;
    }
  }
  for (int64_t i = 0; i < n; i++)
    for (int64_t c = 0; c < n; c++) {
      q[i * n + c] = 0;
      for (int64_t j = 0; j < n; j++) q[i * n + c] += m[i * n + j] * vt[c * n + j];
    }
  for (int64_t r = 0; r < n; r++)
    for (int64_t c = 0; c < n; c++) {
      out[r * n + c] = 0;
      for (int64_t i = 0; i < n; i++) out[r * n + c] += u[i * n + r] * q[i * n + c];
      out[r * n + c] *= sign;
    }
}

static pg_status infer_cofactor_move(pg_call *c) {
  PG_TRY(infer_cofactor(c));
  PG_ASSERT(pg_same_shape(c->in[0], c->in[1]));
  return PG_OK;
}

static pg_status forward_cofactor_move(pg_call *c) {
  pg_tensor *x = c->in[0], *part[3] = {0}, *wide = NULL, *g = NULL, *made = NULL, *room = NULL;
  const int64_t n = cols_of(x), area = n * n, count = area ? pg_numel(x) / area : 0;
  if (pg_numel(x) == 0) return PG_OK;
  pg_status s = svd_parts(c->ctx, x, part);
  if (s == PG_OK) s = pg__as(c->ctx, c->in[1], PG_F64, &wide);
  if (s == PG_OK) s = pg__contiguous(c->ctx, wide, &g);
  if (s == PG_OK) s = pg_tensor_new(c->ctx, PG_F64, x->nd, x->shape, &made);
  if (s == PG_OK) s = pg_tensor_new(c->ctx, PG_F64, 1, (int64_t[]){2 * area + n}, &room);
  if (s == PG_OK) {
    const double *u = pg_data(part[0]), *values = pg_data(part[1]), *vt = pg_data(part[2]);
    double *work = pg_data(room);
    int *pivot = (int *)(void *)(work + 2 * area);
    for (int64_t i = 0; i < count; i++) {
      const double *ui = u + i * area, *vi = vt + i * area;
      double sign = orientation(n, ui, work, pivot);
      sign *= orientation(n, vi, work, pivot);
      cofactor_move(n, ui, values + i * n, vi, (double *)pg_data(g) + i * area, sign, work,
                    (double *)pg_data(made) + i * area);
    }
    s = pg_tensor_copy(c->out[0], made);
  }
  pg_tensor_unref(room);
  pg_tensor_unref(made);
  pg_tensor_unref(g);
  pg_tensor_unref(wide);
  for (int j = 0; j < 3; j++) pg_tensor_unref(part[j]);
  return s;
}

static pg_status backward_cofactor(pg_call *c) {
  return pg_do(c->ctx, &c->gin[0], "linalg.cofactor_move", "tt", c->in[0], c->gout[0]);
}

/* The map is its own transpose. */
static pg_status backward_cofactor_move(pg_call *c) {
  if (c->need[0])
    return pg_fail(c->ctx, PG_EUNSUPPORTED,
                   "det has no third derivative at matrices whose determinant is 0");
  return pg_do(c->ctx, &c->gin[1], "linalg.cofactor_move", "tt", c->in[0], c->gout[0]);
}

const pg_op PG_AT(pg_ops_spectral)[] = {
    {"linalg.qr",
     "Q with orthonormal columns and the upper triangle R, A = Q R; mode 'r' gives R only.",
     {PG_T("A"), PG_WORD("mode", REDUCED, "reduced|complete|r")},
     PG_LINALG,
     PG_SAVE_OUT(0) | PG_SAVE_OUT(1),
     2,
     infer_qr,
     {forward_qr},
     backward_qr},
    {"linalg.svd",
     "U, the singular values S downwards, and V^T with A = U diag(S) V^T; full_matrices: square U "
     "and "
     "V^T.",
     {PG_T("A"), PG_DEF("full_matrices", PG_FLAG, 1)},
     PG_LINALG,
     PG_SAVE_OUT(0) | PG_SAVE_OUT(1) | PG_SAVE_OUT(2),
     3,
     infer_svd,
     {forward_svd},
     backward_svd},
    {"linalg.svdvals",
     "The singular values of every matrix, downwards.",
     {PG_T("A")},
     PG_LINALG,
     PG_SAVE_IN(0),
     1,
     infer_svdvals,
     {forward_svdvals},
     backward_svdvals},
    {"linalg.eigh",
     "Eigenvalues upwards and eigenvectors (columns) of the symmetric matrix in the lower (UPLO "
     "'U': "
     "upper) triangle of A = V diag(L) V^T.",
     {PG_T("A"), PG_WORD("UPLO", 0, "L|U")},
     PG_LINALG,
     PG_SAVE_OUT(0) | PG_SAVE_OUT(1),
     2,
     infer_eigh,
     {forward_eigh},
     backward_eigh},
    {"linalg.eigvalsh",
     "Eigenvalues, upwards, of the symmetric matrix in the lower (UPLO 'U': upper) triangle.",
     {PG_T("A"), PG_WORD("UPLO", 0, "L|U")},
     PG_LINALG,
     PG_SAVE_IN(0),
     1,
     infer_eigvalsh,
     {forward_eigh},
     backward_eigvalsh},
    {"linalg.pinv",
     "The pseudoinverse V diag(1/S) U^T of every matrix; singular values up to max(atol, rtol "
     "times "
     "the largest) count as zero.",
     {PG_T("A"), PG_OPT("atol", PG_FLOAT), PG_OPT("rtol", PG_FLOAT)},
     PG_LINALG,
     PG_SAVE_IN(0) | PG_SAVE_OUT(0),
     1,
     infer_pinv,
     {forward_pinv},
     backward_pinv},
    {"linalg.cofactor",
     "The cofactors of every square matrix, det(A) A^-T where there is an inverse.",
     {PG_T("A")},
     PG_HIDDEN,
     PG_SAVE_IN(0),
     1,
     infer_cofactor,
     {forward_cofactor},
     backward_cofactor},
    {"linalg.cofactor_move",
     "How the cofactors of every square matrix move where the matrix moves by G.",
     {PG_T("A"), PG_T("G")},
     PG_HIDDEN,
     PG_SAVE_IN(0),
     1,
     infer_cofactor_move,
     {forward_cofactor_move},
     backward_cofactor_move},
    {0}};
