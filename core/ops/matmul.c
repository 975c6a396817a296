/* Matrix products: matmul and its special forms, addmm, baddbmm, linear. Relies on ops/product.h,
 * ops/half.h and ops/engine.h for bfloat16; transposed and strided operands are multiplied as they
 * lie. Spec: spec/ops/matmul_spec.lua. */
#include <string.h>

#include "autograd/op.h"
#include "base/choice.h"
#include "base/par.h"
#include "kernels/bf16.h"
#include "ops/engine.h"
#include "ops/half.h"
#include "ops/product.h"

/* Many products c[i] = alpha op(a[i]) op(b[i]) + beta c[i] over batch dims with strides; each as
 * `one` says, whose pointers are those of the first. */
typedef struct job {
  pg_ctx *ctx;
  pg_dtype dtype;
  double alpha, beta;
  pgk_product one;
  int nd; /* batch dims */
  int64_t shape[PG_MAX_DIMS], sa[PG_MAX_DIMS], sb[PG_MAX_DIMS], sc[PG_MAX_DIMS];
  int64_t count, lanes;
} job;

static void integer_product(const job *j, const pgk_product *p) {
  uint64_t alpha = (uint64_t)(int64_t)j->alpha, beta = (uint64_t)(int64_t)j->beta;
  const int64_t *a = p->a, *b = p->b;
  int64_t ra = p->ta ? 1 : p->lda, ca = p->ta ? p->lda : 1;
  int64_t rb = p->tb ? 1 : p->ldb, cb = p->tb ? p->ldb : 1;
  for (int64_t i = 0; i < p->m; i++)
    for (int64_t q = 0; q < p->n; q++) {
      uint64_t sum = 0;
      for (int64_t l = 0; l < p->k; l++)
        sum += (uint64_t)a[i * ra + l * ca] * (uint64_t)b[l * rb + q * cb];
      int64_t *at = (int64_t *)p->c + i * p->ldc + q;
      *at = (int64_t)(alpha * sum + (j->beta == 0 ? 0 : beta * (uint64_t)*at));
    }
}

/* Whether blocked products do it; then p is planned. */
static bool plan(const job *j, pgk_product *p, bool split) {
  p->bytes = 0;
  if (j->dtype == PG_I64 || j->alpha != 1 || (j->beta != 0 && j->beta != 1)) return false;
  p->add = j->beta == 1 && !p->bias;
  return j->dtype == PG_F32 ? PG_AT(pgk_product_plan_f32)(p, split)
                            : PG_AT(pgk_product_plan_f64)(p, split);
}

static void other_product(const job *j, const pgk_product *p) {
  if (j->dtype == PG_I64) integer_product(j, p);
  else if (j->dtype == PG_F32) pg__library_f32(p, j->alpha, j->beta);
  else pg__library_f64(p, j->alpha, j->beta);
}

static pgk_product nth(const job *j, int64_t i) {
  int64_t oa = 0, ob = 0, oc = 0, size = (int64_t)pg_dtype_size(j->dtype);
  pgk_product p = j->one;
  for (int d = j->nd - 1; d >= 0; d--) {
    int64_t at = i % j->shape[d];
    i /= j->shape[d];
    oa += at * j->sa[d];
    ob += at * j->sb[d];
    oc += at * j->sc[d];
  }
  p.a = (const char *)p.a + oa * size;
  p.b = (const char *)p.b + ob * size;
  p.c = (char *)p.c + oc * size;
  return p;
}

/* Each product by one thread, lane i taking every lanes-th, with its own piece of the scratch. */
static void run_lanes(void *arg, int64_t begin, int64_t end) {
  const job *j = arg;
  for (int64_t lane = begin; lane < end; lane++)
    for (int64_t i = lane; i < j->count; i += j->lanes) {
      pgk_product p = nth(j, i);
      bool planned = plan(j, &p, false);
      p.scratch = (char *)j->one.scratch + p.bytes * (size_t)lane;
      if (!planned) other_product(j, &p);
      else if (j->dtype == PG_F32) pg__run_alone_f32(&p);
      else pg__run_alone_f64(&p);
    }
}

static pg_status run_batches(job *j) {
  pgk_product first = j->one;
  bool planned = plan(j, &first, false);
  size_t bytes = planned ? first.bytes : 0;
  j->lanes = pg_min64(pg_max64(j->ctx->threads, 1), j->count);
  bytes *= (size_t)j->lanes;
  if (bytes > 0) PG_TRY(pg_alloc(j->ctx, bytes, &j->one.scratch));
  double work = (double)first.m * (double)first.n * (double)first.k * (double)j->count;
  pg_par_for(j->ctx, j->lanes, work < 1e5 ? j->lanes : 1, run_lanes, j);
  if (bytes > 0) pg_free(j->ctx, j->one.scratch, bytes);
  return PG_OK;
}

static pg_status one_product(const job *j, pgk_product *p) {
  if (!plan(j, p, j->ctx->threads > 1)) {
    other_product(j, p);
    return PG_OK;
  }
  return j->dtype == PG_F32 ? pg__run_plan_f32(j->ctx, p) : pg__run_plan_f64(j->ctx, p);
}

/* How the last two dims of t lie: rows (*flip false) or columns (*flip true) in one piece, *ld
 * apart. false: neither. */
static bool layout(const pg_tensor *t, bool *flip, int64_t *ld) {
  int64_t r = t->shape[t->nd - 2], c = t->shape[t->nd - 1];
  int64_t rs = t->stride[t->nd - 2], cs = t->stride[t->nd - 1];
  if ((cs == 1 || c <= 1) && (r <= 1 || rs >= pg_max64(c, 1))) {
    *flip = false;
    *ld = r <= 1 ? pg_max64(c, 1) : rs;
    return true;
  }
  if ((rs == 1 || r <= 1) && (c <= 1 || cs >= pg_max64(r, 1))) {
    *flip = true;
    *ld = c <= 1 ? pg_max64(r, 1) : cs;
    return true;
  }
  return false;
}

/* Strides of t's batch dims (all but the last two) seen as the nd dims of shape. */
static void batch_strides(const pg_tensor *t, int nd, const int64_t *shape, int64_t *stride) {
  int lead = nd - (t->nd - 2);
  for (int i = 0; i < nd; i++) {
    int k = i - lead;
    stride[i] = k < 0 || (t->shape[k] == 1 && shape[i] != 1) ? 0 : t->stride[k];
  }
}

/* *out = t with its dims but the last merged: [rows x cols]. No graph. */
static pg_status merge_rows(pg_ctx *ctx, pg_tensor *t, pg_tensor **out) {
  int64_t cols = t->nd ? t->shape[t->nd - 1] : 1, rows = 1, stride[2];
  for (int i = 0; i < t->nd - 1; i++) rows *= t->shape[i];
  int64_t shape[2] = {rows, cols};
  *out = NULL;
  if (t->nd == 2) {
    *out = pg_tensor_ref(t);
    return PG_OK;
  }
  if (pg_view_strides(t, 2, shape, stride))
    return pg_tensor_alias(ctx, t, 2, shape, stride, t->offset, out);
  pg_tensor *dense;
  PG_TRY(pg__contiguous(ctx, t, &dense));
  pg_status s = pg_tensor_alias(ctx, dense, 2, shape, (int64_t[]){cols, 1}, dense->offset, out);
  pg_tensor_unref(dense);
  return s;
}

static pg_status product(pg_ctx *ctx, pg_tensor *a, bool ta, pg_tensor *b, bool tb, double alpha,
                         double beta, pg_tensor *bias, pg_tensor *out);

/* Sizes and strides of op(t)'s matrices and batch dims, seen as out's batch dims. */
static void describe(const pg_tensor *t, bool turned, const pg_tensor *out, int64_t *size,
                     int64_t *stride) {
  const int nd = out->nd, r = t->nd - (turned ? 1 : 2), c = t->nd - (turned ? 2 : 1);
  batch_strides(t, nd - 2, out->shape, stride);
  for (int i = 0; i < nd - 2; i++) {
    const int k = i - (nd - t->nd);
    size[i] = k < 0 ? 1 : t->shape[k];
    if (size[i] == 1) stride[i] = 1;
  }
  size[nd - 2] = t->shape[r];
  size[nd - 1] = t->shape[c];
  stride[nd - 2] = t->stride[r];
  stride[nd - 1] = t->stride[c];
  /* one row or column: the step to a next one is that of a full line */
  if (size[nd - 1] == 1) stride[nd - 1] = stride[nd - 2] == 1 ? pg_max64(size[nd - 2], 1) : 1;
  if (size[nd - 2] == 1) stride[nd - 2] = stride[nd - 1] == 1 ? pg_max64(size[nd - 1], 1) : 1;
}

/* The ways to a product in bfloat16. */
enum { WAY_OWN, WAY_DNN, WAYS };

/* Products of bfloat16 matrices over batch dims, a and b and out being laid out; one: as the first
 * of them. */
typedef struct half_job {
  pg_ctx *ctx;
  const pg_engine *engine;
  const pgk_half_kern *kern;
  pg_tensor *a, *b, *out;
  bool ta, tb;
  pgk_half one;
  int nd;
  int64_t shape[PG_MAX_DIMS], sa[PG_MAX_DIMS], sb[PG_MAX_DIMS], sc[PG_MAX_DIMS];
  int64_t count, lanes;
} half_job;

static pgk_half nth_half(const half_job *j, int64_t i) {
  pgk_half p = j->one;
  for (int d = j->nd - 1; d >= 0; d--) {
    const int64_t at = i % j->shape[d];
    i /= j->shape[d];
    p.a = (const uint16_t *)p.a + at * j->sa[d];
    p.b = (const uint16_t *)p.b + at * j->sb[d];
    p.c = (char *)p.c + at * j->sc[d] * (p.c_wide ? 4 : 2);
  }
  return p;
}

/* As run_lanes. */
static void run_half_lanes(void *arg, int64_t begin, int64_t end) {
  const half_job *j = arg;
  for (int64_t lane = begin; lane < end; lane++)
    for (int64_t i = lane; i < j->count; i += j->lanes) {
      pgk_half p = nth_half(j, i);
      j->kern->plan(&p, 1);
      p.scratch = (char *)j->one.scratch + p.bytes * (size_t)lane;
      pg__half_alone(j->kern, &p);
    }
}

static pg_status run_half_batches(half_job *j) {
  pgk_half first = j->one;
  if (!j->kern->plan(&first, 1)) return PG_OK;
  j->lanes = pg_min64(pg_max64(j->ctx->threads, 1), j->count);
  const size_t bytes = first.bytes * (size_t)j->lanes;
  const double work = (double)first.m * (double)first.n * (double)first.k * (double)j->count;
  PG_TRY(pg_alloc(j->ctx, bytes, &j->one.scratch));
  pg_par_for(j->ctx, j->lanes, work < 2e5 ? j->lanes : 1, run_half_lanes, j);
  pg_free(j->ctx, j->one.scratch, bytes);
  return PG_OK;
}

static pg_status run_half_own(half_job *j) {
  const pgk_half *p = &j->one;
  const double work = (double)p->m * (double)p->n * (double)p->k;
  if (j->count > 1 && (work <= 4e6 || j->count >= 32)) return run_half_batches(j);
  for (int64_t i = 0; i < j->count; i++) {
    pgk_half next = nth_half(j, i);
    PG_TRY(pg__half_shared(j->ctx, j->kern, &next));
  }
  return PG_OK;
}

/* oneDNN's product; not of an odd k, beside whose end an infinity may become a NaN there (2.6). */
static pg_status run_half_dnn(const half_job *j) {
  pgk_half_product p;
  if (!j->engine->dnn || j->out->nd > PGK_HALF_DIMS || j->one.k % 2) return PG_EUNSUPPORTED;
  memset(&p, 0, sizeof p);
  p.nd = j->out->nd;
  p.threads = j->ctx->threads;
  p.wide = j->one.c_wide;
  describe(j->a, j->ta, j->out, p.a, p.a_stride);
  describe(j->b, j->tb, j->out, p.b, p.b_stride);
  describe(j->out, false, j->out, p.c, p.c_stride);
  const int failed = pgk_dnn_product(j->engine->dnn, &p, j->one.a, j->one.b, j->one.bias, j->one.c);
  return failed ? PG_EUNSUPPORTED : PG_OK;
}

static pg_status run_half(void *arg, int way) {
  half_job *j = arg;
  if (way == WAY_DNN) return run_half_dnn(j);
  return j->kern ? run_half_own(j) : PG_EUNSUPPORTED;
}

/* The product in the way that is the fastest for its shape on this machine; what only we can do is
 * not measured, nor what is over at once. */
static pg_status choose_half(half_job *j) {
  const pgk_half *p = &j->one;
  const double work = (double)p->m * (double)p->n * (double)p->k * (double)j->count;
  if (j->kern && (p->add || !j->engine->dnn || work < 1 << 15)) return run_half_own(j);
  if (p->add) return PG_EUNSUPPORTED;
  const int64_t key[] = {p->m,  p->n,  p->k,      j->count,       j->nd, j->ctx->threads,
                         p->ta, p->tb, p->c_wide, p->bias != NULL};
  return pg_choose(j->ctx, "product in bfloat16", key, sizeof key, WAYS, run_half, j);
}

/* out (+)= op(a) op(b) + bias (float32, may be NULL) of bfloat16 matrices, out that or float32,
 * where the processor has instructions for it; else *done = false. */
static pg_status half_product(pg_ctx *ctx, pg_tensor *a, bool ta, pg_tensor *b, bool tb,
                              const pg_tensor *bias, bool add, pg_tensor *out, bool *done) {
  half_job j = {.ctx = ctx, .ta = ta, .tb = tb, .count = 1};
  *done = false;
  PG_TRY(pg_engine_of(ctx, &j.engine));
  if (!j.engine->bf16 || !pg_numel(a) || !pg_numel(b)) return PG_OK;
  j.kern = PG_AT(pgk_half_kern_of)();
  pg_tensor *mine[3] = {pg_tensor_ref(a), pg_tensor_ref(b), pg_tensor_ref(out)};
  pg_status s = PG_OK;
  const bool folded = b->nd == 2 && a->nd > 2 && a->nd == out->nd && !ta;
  bool flip;
  int64_t ld;
  for (int i = 0; i < 3 && s == PG_OK; i++) {
    pg_tensor *t = mine[i];
    if (folded && i != 1) { /* one product of all rows */
      s = merge_rows(ctx, t, &mine[i]);
      pg_tensor_unref(t);
      t = mine[i];
    }
    if (s != PG_OK || layout(t, &flip, &ld)) continue;
    s = pg__contiguous(ctx, t, &mine[i]);
    pg_tensor_unref(t);
  }
  if (s == PG_OK) {
    pgk_half *p = &j.one;
    j.a = a = mine[0];
    j.b = b = mine[1];
    j.out = out = mine[2];
    layout(a, &flip, &p->lda);
    p->ta = ta != flip;
    layout(b, &flip, &p->ldb);
    p->tb = tb != flip;
    p->m = out->shape[out->nd - 2];
    p->n = out->shape[out->nd - 1];
    p->k = ta ? a->shape[a->nd - 2] : a->shape[a->nd - 1];
    p->ldc = p->n;
    p->a = pg_data(a);
    p->b = pg_data(b);
    p->c = pg_data(out);
    p->bias = bias ? pg_data(bias) : NULL;
    p->add = add;
    p->c_wide = out->dtype == PG_F32;
    j.nd = out->nd - 2;
    for (int i = 0; i < j.nd; i++) j.count *= j.shape[i] = out->shape[i];
    batch_strides(a, j.nd, j.shape, j.sa);
    batch_strides(b, j.nd, j.shape, j.sb);
    batch_strides(out, j.nd, j.shape, j.sc);
    s = choose_half(&j);
    *done = s == PG_OK;
    if (s == PG_EUNSUPPORTED) s = PG_OK;
  }
  for (int i = 0; i < 3; i++) pg_tensor_unref(mine[i]);
  return s;
}

/* product on float32 copies of what is neither float32, float64 nor int64. */
static pg_status converted_product(pg_ctx *ctx, pg_tensor *a, bool ta, pg_tensor *b, bool tb,
                                   double alpha, double beta, pg_tensor *out) {
  pg_dtype wide = pg_is_float((pg_dtype)out->dtype) ? PG_F32 : PG_I64;
  pg_tensor *wa = NULL, *wb = NULL, *wout = NULL;
  pg_status s = pg__as(ctx, a, wide, &wa);
  if (s == PG_OK) s = pg__as(ctx, b, wide, &wb);
  if (s == PG_OK) s = pg__as(ctx, out, wide, &wout);
  if (s == PG_OK) s = product(ctx, wa, ta, wb, tb, alpha, beta, NULL, wout);
  if (s == PG_OK) s = pg_tensor_copy(out, wout);
  pg_tensor_unref(wout);
  pg_tensor_unref(wb);
  pg_tensor_unref(wa);
  return s;
}

/* out[.. m x n] = alpha op(a) op(b) + beta out; a, b at least 2-d of out's dtype (bfloat16 beside
 * float32 too), ta and tb swap their last two dims, batch dims broadcast to out's. out is
 * contiguous. bias: a contiguous [n] added to every row, alpha being 1 and beta 0, of float32 or
 * float64; or NULL. */
static pg_status product(pg_ctx *ctx, pg_tensor *a, bool ta, pg_tensor *b, bool tb, double alpha,
                         double beta, pg_tensor *bias, pg_tensor *out) {
  if (a->dtype == PG_BF16 && alpha == 1 && (beta == 0 || beta == 1)) {
    bool done;
    PG_TRY(half_product(ctx, a, ta, b, tb, NULL, beta == 1, out, &done));
    if (done) return PG_OK;
  }
  if (a->dtype == PG_BF16 || (out->dtype != PG_F32 && out->dtype != PG_F64 && out->dtype != PG_I64))
    return converted_product(ctx, a, ta, b, tb, alpha, beta, out);
  if (pg_numel(out) == 0) return PG_OK;
  pg_tensor *mine[3] = {pg_tensor_ref(a), pg_tensor_ref(b), pg_tensor_ref(out)};
  pg_status s = PG_OK;
  bool flip, folded = b->nd == 2 && a->nd > 2 && a->nd == out->nd && !ta;
  job j = {.ctx = ctx, .dtype = (pg_dtype)out->dtype, .alpha = alpha, .beta = beta, .count = 1};
  pgk_product *p = &j.one;
  for (int i = 0; i < 3 && s == PG_OK; i++) {
    pg_tensor *t = mine[i];
    if (folded && i != 1) { /* one product of all rows */
      s = merge_rows(ctx, t, &mine[i]);
      pg_tensor_unref(t);
      t = mine[i];
    }
    if (s != PG_OK || layout(t, &flip, &p->lda)) continue;
    s = pg__contiguous(ctx, t, &mine[i]);
    pg_tensor_unref(t);
  }
  if (s != PG_OK) goto done;
  a = mine[0];
  b = mine[1];
  out = mine[2];
  layout(a, &flip, &p->lda);
  p->ta = ta != flip;
  layout(b, &flip, &p->ldb);
  p->tb = tb != flip;
  p->m = out->shape[out->nd - 2];
  p->n = out->shape[out->nd - 1];
  p->k = ta ? a->shape[a->nd - 2] : a->shape[a->nd - 1];
  p->ldc = pg_max64(p->n, 1);
  p->a = pg_data(a);
  p->b = pg_data(b);
  p->c = pg_data(out);
  p->bias = bias ? pg_data(bias) : NULL;
  j.nd = out->nd - 2;
  for (int i = 0; i < j.nd; i++) j.count *= j.shape[i] = out->shape[i];
  if (j.count == 1) {
    s = one_product(&j, p);
    goto done;
  }
  batch_strides(a, j.nd, j.shape, j.sa);
  batch_strides(b, j.nd, j.shape, j.sb);
  batch_strides(out, j.nd, j.shape, j.sc);
  double work = (double)p->m * (double)p->n * (double)p->k;
  if (work <= 2e6 || j.count >= 32) { /* threads take whole products */
    s = run_batches(&j);
    goto done;
  }
  for (int64_t i = 0; i < j.count && s == PG_OK; i++) { /* threads share each */
    pgk_product next = nth(&j, i);
    s = one_product(&j, &next);
  }
done:
  for (int i = 0; i < 3; i++) pg_tensor_unref(mine[i]);
  return s;
}

/* Shape of op(a) op(b), both at least 2-d. */
static pg_status product_shape(pg_ctx *ctx, const pg_tensor *a, bool ta, const pg_tensor *b,
                               bool tb, int *nd, int64_t *shape) {
  PG_TRY(pg_broadcast(ctx, a->nd - 2, a->shape, b->nd - 2, b->shape, nd, shape));
  shape[(*nd)++] = a->shape[ta ? a->nd - 1 : a->nd - 2];
  shape[(*nd)++] = b->shape[tb ? b->nd - 2 : b->nd - 1];
  return PG_OK;
}

/* *out = t with its last two dims swapped if flip is set. */
static pg_status swapped(pg_ctx *ctx, pg_tensor *t, bool flip, pg_tensor **out) {
  if (flip) return pg_do(ctx, out, "transpose", "tii", t, (int64_t)-2, (int64_t)-1);
  *out = pg_tensor_ref(t);
  return PG_OK;
}

/* *out = alpha op(a) op(b), recorded where the call records. sums: of bfloat16 as float32, as the
 * gradient of a weight is wanted. */
static pg_status multiply(pg_call *c, pg_tensor *a, bool ta, pg_tensor *b, bool tb, double alpha,
                          bool sums, pg_tensor **out) {
  *out = NULL;
  pg_status s;
  if (!c->recording) {
    int nd;
    int64_t shape[PG_MAX_DIMS];
    PG_TRY(product_shape(c->ctx, a, ta, b, tb, &nd, shape));
    const bool wide = sums && a->dtype == PG_BF16;
    PG_TRY(pg_tensor_new(c->ctx, wide ? PG_F32 : (pg_dtype)a->dtype, nd, shape, out));
    s = product(c->ctx, a, ta, b, tb, alpha, 0, NULL, *out);
    if (s != PG_OK) {
      pg_tensor_unref(*out);
      *out = NULL;
    }
    return s;
  }
  pg_tensor *x = NULL, *y = NULL, *z = NULL, *number = NULL;
  s = swapped(c->ctx, a, ta, &x);
  if (s == PG_OK) s = swapped(c->ctx, b, tb, &y);
  if (s == PG_OK) s = pg_do(c->ctx, &z, "matmul", "tt", x, y);
  if (s == PG_OK && alpha == 1) *out = pg_tensor_ref(z);
  else if (s == PG_OK) {
    s = pg_tensor_number(c->ctx, alpha, false, &number);
    if (s == PG_OK) s = pg_do(c->ctx, out, "mul", "tt", z, number);
  }
  pg_tensor_unref(number);
  pg_tensor_unref(z);
  pg_tensor_unref(y);
  pg_tensor_unref(x);
  return s;
}

/* *out = t as this shape, recorded where the call records. */
static pg_status reshaped(pg_call *c, pg_tensor *t, int nd, const int64_t *shape, pg_tensor **out) {
  *out = NULL;
  if (t->nd == nd && memcmp(t->shape, shape, sizeof *shape * (size_t)nd) == 0) {
    *out = pg_tensor_ref(t);
    return PG_OK;
  }
  if (c->recording) return pg_do(c->ctx, out, "view", "tl", t, nd, shape);
  int64_t stride[PG_MAX_DIMS];
  if (pg_view_strides(t, nd, shape, stride))
    return pg_tensor_alias(c->ctx, t, nd, shape, stride, t->offset, out);
  pg_tensor *dense;
  PG_TRY(pg__contiguous(c->ctx, t, &dense));
  pg_status s = pg_tensor_alias(c->ctx, dense, nd, shape, NULL, dense->offset, out);
  pg_tensor_unref(dense);
  return s;
}

/* --- matmul and what is matmul under stricter rules --------------------------------------------
 */
static pg_status infer_matmul(pg_call *c) {
  const pg_tensor *a = c->in[0], *b = c->in[1];
  PG_TRY(pg_want(c, 0, PG_M_FLOAT | PG_M_INT));
  PG_TRY(pg_want_same_dtype(c, 1, 0));
  if (a->nd == 0 || b->nd == 0) return pg_bad_in(c, PG_ESHAPE, a->nd ? 1 : 0, "at least 1 dim");
  int64_t ka = a->shape[a->nd - 1], kb = b->shape[b->nd > 1 ? b->nd - 2 : 0];
  if (ka != kb)
    return pg_bad_in(c, PG_ESHAPE, 1, "%s to follow input %s",
                     pg_shape_only(b->nd, b->nd > 1 ? b->nd - 2 : 0, ka).s, pg_shape_str(a).s);
  int na = a->nd > 2 ? a->nd - 2 : 0, nb = b->nd > 2 ? b->nd - 2 : 0, nd;
  int64_t shape[PG_MAX_DIMS];
  if (!pg_broadcasts(na, a->shape, nb, b->shape, &nd, shape))
    return pg_bad_in(c, PG_ESHAPE, 1, "a batch that broadcasts with that of input %s",
                     pg_shape_str(a).s);
  if (a->nd > 1) shape[nd++] = a->shape[a->nd - 2];
  if (b->nd > 1) shape[nd++] = b->shape[b->nd - 1];
  return pg_out_shape(c, 0, (pg_dtype)a->dtype, nd, shape);
}

static pg_status want_dims(pg_call *c, int a, int b) {
  PG_TRY(pg_want_dim(c, 0, a));
  return pg_want_dim(c, 1, b);
}
static pg_status infer_mm(pg_call *c) {
  PG_TRY(want_dims(c, 2, 2));
  return infer_matmul(c);
}
static pg_status infer_bmm(pg_call *c) {
  PG_TRY(want_dims(c, 3, 3));
  if (c->in[0]->shape[0] != c->in[1]->shape[0])
    return pg_bad_in(c, PG_ESHAPE, 1, "%s to follow input %s",
                     pg_shape_only(3, 0, c->in[0]->shape[0]).s, pg_shape_str(c->in[0]).s);
  return infer_matmul(c);
}
static pg_status infer_mv(pg_call *c) {
  PG_TRY(want_dims(c, 2, 1));
  return infer_matmul(c);
}
static pg_status infer_dot(pg_call *c) {
  PG_TRY(want_dims(c, 1, 1));
  return infer_matmul(c);
}

/* *out = t as a matrix: a vector becomes one row on the left and one column on the right. */
static pg_status matrix(pg_ctx *ctx, pg_tensor *t, bool left, pg_tensor **out) {
  *out = NULL;
  if (t->nd > 1) {
    *out = pg_tensor_ref(t);
    return PG_OK;
  }
  int64_t n = t->shape[0], step = t->stride[0];
  int64_t shape[2] = {left ? 1 : n, left ? n : 1}, stride[2] = {left ? 1 : step, left ? step : 1};
  return pg_tensor_alias(ctx, t, 2, shape, stride, t->offset, out);
}

/* Shape of the result with the dims that vectors took away put back. */
static int full_shape(const pg_tensor *y, int na, int nb, int64_t *shape) {
  int nd = y->nd;
  memcpy(shape, y->shape, sizeof *shape * (size_t)nd);
  if (nb == 1) shape[nd++] = 1;
  if (na == 1) {
    shape[nd] = shape[nd - 1];
    shape[nd++ - 1] = 1;
  }
  return nd;
}

static pg_status forward_matmul(pg_call *c) {
  pg_tensor *a = c->in[0], *b = c->in[1], *y = c->out[0];
  if (a->nd > 1 && b->nd > 1) return product(c->ctx, a, false, b, false, 1, 0, NULL, y);
  int64_t shape[PG_MAX_DIMS + 2], stride[PG_MAX_DIMS + 2];
  int nd = full_shape(y, a->nd, b->nd, shape);
  pg_contiguous_strides(nd, shape, stride);
  pg_tensor *ma = NULL, *mb = NULL, *my = NULL;
  pg_status s = matrix(c->ctx, a, true, &ma);
  if (s == PG_OK) s = matrix(c->ctx, b, false, &mb);
  if (s == PG_OK) s = pg_tensor_alias(c->ctx, y, nd, shape, stride, y->offset, &my);
  if (s == PG_OK) s = product(c->ctx, ma, false, mb, false, 1, 0, NULL, my);
  pg_tensor_unref(my);
  pg_tensor_unref(mb);
  pg_tensor_unref(ma);
  return s;
}

/* Adds a product of matrices to the gradient of in[i] that is there, which is float32 beside
 * bfloat16 matrices; gin[i]: it was done. */
static pg_status multiply_into(pg_call *c, int i, pg_tensor *a, bool ta, pg_tensor *b, bool tb,
                               double alpha) {
  pg_tensor *t = pg_into(c, i, a->dtype == PG_BF16 ? PG_F32 : a->dtype), *rows = NULL;
  if (!t || a->nd != 2 || b->nd != 2) return PG_OK;
  const int64_t shape[2] = {a->shape[ta], b->shape[!tb]};
  if (t->nd < 2 || t->shape[t->nd - 1] != shape[1] || pg_numel(t) != shape[0] * shape[1])
    return PG_OK;
  PG_TRY(pg_tensor_alias(c->ctx, t, 2, shape, (int64_t[]){shape[1], 1}, t->offset, &rows));
  pg_status s = product(c->ctx, a, ta, b, tb, alpha, 1, NULL, rows);
  if (s == PG_OK) c->gin[i] = pg_tensor_ref(t);
  pg_tensor_unref(rows);
  return s;
}

/* gin[i] = g, summed over broadcast dims and brought to in[i]'s shape; consumes g. */
static pg_status finish(pg_call *c, int i, pg_tensor *g) {
  pg_tensor *sum = NULL;
  pg_meta m = c->meta[i];
  if (m.nd == 1) { /* the vector was one row or one column */
    m.nd = 2;
    m.shape[i == 0 ? 1 : 0] = c->meta[i].shape[0];
    m.shape[i == 0 ? 0 : 1] = 1;
  }
  pg_status s = pg_sum_to(c->ctx, g, &m, &sum);
  if (s == PG_OK) s = reshaped(c, sum, c->meta[i].nd, c->meta[i].shape, &c->gin[i]);
  pg_tensor_unref(sum);
  pg_tensor_unref(g);
  return s;
}

/* Gradients of a[.. m x k] b[.. k x n] with g[.. m x n]: ga = alpha g b^T, gb = alpha a^T g. */
static pg_status product_backward(pg_call *c, int ia, int ib, pg_tensor *g, double alpha) {
  pg_tensor *a = c->in[ia], *b = c->in[ib], *part = NULL;
  if (c->need[ia]) PG_TRY(multiply_into(c, ia, g, false, b, true, alpha));
  if (c->need[ia] && !c->gin[ia]) {
    PG_TRY(multiply(c, g, false, b, true, alpha, false, &part));
    PG_TRY(finish(c, ia, part));
  }
  if (!c->need[ib]) return PG_OK;
  if (b->nd > 2 || a->nd == 2) {
    PG_TRY(multiply_into(c, ib, a, true, g, false, alpha));
    if (c->gin[ib]) return PG_OK;
    PG_TRY(multiply(c, a, true, g, false, alpha, b->nd == 2, &part));
    return finish(c, ib, part);
  }
  int64_t k = a->shape[a->nd - 1], n = g->shape[g->nd - 1], rows = 1; /* one product of all rows */
  for (int i = 0; i < a->nd - 1; i++) rows *= a->shape[i];
  pg_tensor *a2 = NULL, *g2 = NULL;
  pg_status s = reshaped(c, a, 2, (int64_t[]){rows, k}, &a2);
  if (s == PG_OK) s = reshaped(c, g, 2, (int64_t[]){rows, n}, &g2);
  if (s == PG_OK) s = multiply_into(c, ib, a2, true, g2, false, alpha);
  const bool done = c->gin[ib] != NULL;
  if (s == PG_OK && !done) s = multiply(c, a2, true, g2, false, alpha, true, &part);
  pg_tensor_unref(g2);
  pg_tensor_unref(a2);
  return s == PG_OK && !done ? finish(c, ib, part) : s;
}

static pg_status backward_matmul(pg_call *c) {
  pg_tensor *a = c->in[0], *b = c->in[1], *ma = NULL, *mb = NULL, *g = NULL;
  if (a->nd > 1 && b->nd > 1) return product_backward(c, 0, 1, c->gout[0], 1);
  int64_t shape[PG_MAX_DIMS + 2];
  int nd = full_shape(c->gout[0], a->nd, b->nd, shape);
  pg_status s = reshaped(c, c->gout[0], nd, shape, &g);
  if (s == PG_OK && a->nd == 1) s = reshaped(c, a, 2, (int64_t[]){1, a->shape[0]}, &ma);
  if (s == PG_OK && b->nd == 1) s = reshaped(c, b, 2, (int64_t[]){b->shape[0], 1}, &mb);
  if (ma) c->in[0] = ma;
  if (mb) c->in[1] = mb;
  if (s == PG_OK) s = product_backward(c, 0, 1, g, 1);
  c->in[0] = a;
  c->in[1] = b;
  pg_tensor_unref(mb);
  pg_tensor_unref(ma);
  pg_tensor_unref(g);
  return s;
}

/* --- outer -------------------------------------------------------------------------------------
 */
static pg_status infer_outer(pg_call *c) {
  PG_TRY(want_dims(c, 1, 1));
  PG_TRY(pg_want(c, 0, PG_M_FLOAT | PG_M_INT | PG_M_BOOL));
  PG_TRY(pg_want(c, 1, PG_M_FLOAT | PG_M_INT | PG_M_BOOL));
  pg_dtype d = pg_promote(c, 2);
  if (d == PG_BOOL) PG_TRY(pg_want(c, 0, PG_M_FLOAT | PG_M_INT));
  for (int i = 0; i < 2; i++) pg_cast_in(c, i, d);
  int64_t shape[2] = {c->in[0]->shape[0], c->in[1]->shape[0]};
  return pg_out_shape(c, 0, d, 2, shape);
}

static pg_status forward_outer(pg_call *c) {
  pg_tensor *a = NULL, *b = NULL;
  pg_status s = matrix(c->ctx, c->in[0], false, &a);
  if (s == PG_OK) s = matrix(c->ctx, c->in[1], true, &b);
  if (s == PG_OK) s = product(c->ctx, a, false, b, false, 1, 0, NULL, c->out[0]);
  pg_tensor_unref(b);
  pg_tensor_unref(a);
  return s;
}

static pg_status backward_outer(pg_call *c) {
  pg_tensor *turned = NULL;
  if (c->need[0]) PG_TRY(pg_do(c->ctx, &c->gin[0], "matmul", "tt", c->gout[0], c->in[1]));
  if (!c->need[1]) return PG_OK;
  PG_TRY(swapped(c->ctx, c->gout[0], true, &turned));
  pg_status s = pg_do(c->ctx, &c->gin[1], "matmul", "tt", turned, c->in[0]);
  pg_tensor_unref(turned);
  return s;
}

/* --- beta input + alpha a b --------------------------------------------------------------------
 */
static pg_status infer_add_product(pg_call *c, int dims) {
  const pg_tensor *a = c->in[1], *b = c->in[2];
  PG_TRY(pg_want(c, 0, PG_M_FLOAT | PG_M_INT));
  PG_TRY(pg_want_same_dtype(c, 1, 0));
  PG_TRY(pg_want_same_dtype(c, 2, 0));
  PG_TRY(pg_want_dim(c, 1, dims));
  PG_TRY(pg_want_dim(c, 2, dims));
  const bool inner = a->shape[dims - 1] != b->shape[dims - 2];
  if (inner || (dims == 3 && a->shape[0] != b->shape[0]))
    return pg_bad_in(c, PG_ESHAPE, 2, "%s to follow %s %s",
                     pg_shape_only(dims, inner ? dims - 2 : 0, a->shape[inner ? dims - 1 : 0]).s,
                     pg_in_name(c, 1), pg_shape_str(a).s);
  int nd;
  int64_t shape[PG_MAX_DIMS];
  PG_TRY(product_shape(c->ctx, a, false, b, false, &nd, shape));
  PG_TRY(pg_want_spread(c, 0, "the product", nd, shape));
  return pg_out_shape(c, 0, (pg_dtype)a->dtype, nd, shape);
}
static pg_status infer_addmm(pg_call *c) { return infer_add_product(c, 2); }
static pg_status infer_baddbmm(pg_call *c) { return infer_add_product(c, 3); }

static pg_status forward_addmm(pg_call *c) {
  double beta = c->arg[0].f, alpha = c->arg[1].f;
  if (beta != 0) PG_TRY(pg_tensor_copy(c->out[0], c->in[0]));
  return product(c->ctx, c->in[1], false, c->in[2], false, alpha, beta, NULL, c->out[0]);
}

static pg_status backward_addmm(pg_call *c) {
  double beta = c->arg[0].f;
  if (c->need[0] && beta != 0) {
    pg_tensor *sum = NULL, *number = NULL;
    pg_status s = pg_sum_to(c->ctx, c->gout[0], &c->meta[0], &sum);
    if (s == PG_OK && beta == 1) c->gin[0] = pg_tensor_ref(sum);
    else if (s == PG_OK) {
      s = pg_tensor_number(c->ctx, beta, false, &number);
      if (s == PG_OK) s = pg_do(c->ctx, &c->gin[0], "mul", "tt", sum, number);
    }
    pg_tensor_unref(number);
    pg_tensor_unref(sum);
    PG_TRY(s);
  }
  return product_backward(c, 1, 2, c->gout[0], c->arg[1].f);
}

/* --- linear ------------------------------------------------------------------------------------
 */
/* A weight without the dim of outputs: y = input . weight, and so without its last dim. */
static pg_status infer_single(pg_call *c) {
  const pg_tensor *x = c->in[0], *w = c->in[1], *b = c->in[2];
  if (x->nd == 0 || x->shape[x->nd - 1] != w->shape[0])
    return pg_bad_in(c, PG_ESHAPE, 0, "%s to follow weight %s",
                     pg_shape_only(x->nd ? x->nd : 1, x->nd ? x->nd - 1 : 0, w->shape[0]).s,
                     pg_shape_str(w).s);
  if (b && b->nd) return pg_bad_in(c, PG_ESHAPE, 2, "[] to follow weight %s", pg_shape_str(w).s);
  return pg_out_shape(c, 0, (pg_dtype)x->dtype, x->nd - 1, x->shape);
}
static pg_status forward_single(pg_call *c) {
  pg_tensor *y, *sum = NULL;
  PG_TRY(pg_do(c->ctx, &y, "matmul", "tt", c->in[0], c->in[1]));
  pg_status s = c->in[2] ? pg_do(c->ctx, &sum, "add", "tt", y, c->in[2]) : PG_OK;
  if (s == PG_OK) s = pg_tensor_copy(c->out[0], sum ? sum : y);
  pg_tensor_unref(sum);
  pg_tensor_unref(y);
  return s;
}
static pg_status backward_single(pg_call *c) {
  pg_ctx *ctx = c->ctx;
  pg_tensor *g = c->gout[0], *column, *product = NULL;
  PG_TRY(pg_do(ctx, &column, "unsqueeze", "ti", g, (int64_t)-1));
  pg_status s = PG_OK;
  if (c->need[0]) s = pg_do(ctx, &c->gin[0], "mul", "tt", column, c->in[1]);
  if (s == PG_OK && c->need[1]) s = pg_do(ctx, &product, "mul", "tt", column, c->in[0]);
  if (product) s = pg_sum_to(ctx, product, &c->meta[1], &c->gin[1]);
  if (s == PG_OK && c->need[2]) s = pg_do(ctx, &c->gin[2], "sum", "t", g);
  pg_tensor_unref(product);
  pg_tensor_unref(column);
  return s;
}

static pg_status infer_linear(pg_call *c) {
  const pg_tensor *x = c->in[0], *w = c->in[1], *b = c->in[2];
  PG_TRY(pg_want(c, 0, PG_M_FLOAT));
  PG_TRY(pg_want_same_dtype(c, 1, 0));
  PG_TRY(pg_want_same_dtype(c, 2, 0));
  if (w->nd == 1) return infer_single(c);
  PG_TRY(pg_want_dim(c, 1, 2));
  if (x->nd == 0 || x->shape[x->nd - 1] != w->shape[1])
    return pg_bad_in(c, PG_ESHAPE, 0, "%s to follow weight %s",
                     pg_shape_only(x->nd ? x->nd : 1, x->nd ? x->nd - 1 : 0, w->shape[1]).s,
                     pg_shape_str(w).s);
  if (b && (b->nd != 1 || b->shape[0] != w->shape[0]))
    return pg_bad_in(c, PG_ESHAPE, 2, "[%lld] to follow weight %s", (long long)w->shape[0],
                     pg_shape_str(w).s);
  int64_t shape[PG_MAX_DIMS];
  memcpy(shape, x->shape, sizeof *shape * x->nd);
  shape[x->nd - 1] = w->shape[0];
  return pg_out_shape(c, 0, (pg_dtype)x->dtype, x->nd, shape);
}

/* y = x w^T + b in bfloat16, rounded once. */
static pg_status half_linear(pg_call *c) {
  pg_ctx *ctx = c->ctx;
  pg_tensor *x = c->in[0], *w = c->in[1], *b = c->in[2], *y = c->out[0], *wide = NULL, *bias = NULL;
  bool done = false;
  pg_status s = b ? pg__as(ctx, b, PG_F32, &bias) : PG_OK;
  if (s == PG_OK && x->nd > 1) s = half_product(ctx, x, false, w, true, bias, false, y, &done);
  if (s == PG_OK && !done) {
    pg_tensor *x2 = NULL, *y2 = NULL;
    s = pg_tensor_new(ctx, PG_F32, y->nd, y->shape, &wide);
    if (s == PG_OK && b) s = pg_tensor_copy(wide, b);
    if (s == PG_OK) s = merge_rows(ctx, x, &x2);
    if (s == PG_OK) s = merge_rows(ctx, wide, &y2);
    if (s == PG_OK) s = product(ctx, x2, false, w, true, 1, b ? 1 : 0, NULL, y2);
    if (s == PG_OK) s = pg_tensor_copy(y, wide);
    pg_tensor_unref(y2);
    pg_tensor_unref(x2);
  }
  pg_tensor_unref(wide);
  pg_tensor_unref(bias);
  return s;
}

static pg_status forward_linear(pg_call *c) {
  pg_tensor *x = c->in[0], *w = c->in[1], *y = c->out[0], *b = NULL, *x2 = NULL, *y2 = NULL;
  if (w->nd == 1) return forward_single(c);
  if (x->dtype == PG_BF16) return half_linear(c);
  pg_status s = PG_OK;
  bool inside = y->dtype == PG_F32 || y->dtype == PG_F64; /* the product adds the bias itself */
  double beta = c->in[2] && !inside ? 1 : 0;
  if (beta == 1) s = pg_tensor_copy(y, c->in[2]);
  else if (c->in[2]) s = pg__contiguous(c->ctx, c->in[2], &b);
  if (s == PG_OK) s = merge_rows(c->ctx, x, &x2);
  if (s == PG_OK) s = merge_rows(c->ctx, y, &y2);
  if (s == PG_OK) s = product(c->ctx, x2, false, w, true, 1, beta, b, y2);
  pg_tensor_unref(y2);
  pg_tensor_unref(x2);
  pg_tensor_unref(b);
  return s;
}

typedef struct columns {
  int64_t rows, cols;
  const void *g;
  void *sum;
} columns;

enum { STRIP = 64, ROWS = 256 };

/* COLUMN_SUMS(float, float, f32, PLAIN): sum[j] = sum over rows of g[i][j] for a strip of columns;
 * every 256 rows go to a double. */
#define COLUMN_SUMS(FROM, T, name, WIDE)                                             \
  static void column_sums_##name(void *arg, int64_t begin, int64_t end) {            \
    const columns *q = arg;                                                          \
    const FROM *restrict g = q->g;                                                   \
    T *restrict out = q->sum;                                                        \
    double total[STRIP] = {0};                                                       \
    int64_t n = end - begin;                                                         \
    for (int64_t i0 = 0; i0 < q->rows; i0 += ROWS) {                                 \
      int64_t last = pg_min64(q->rows, i0 + ROWS);                                   \
      T part[STRIP] = {0};                                                           \
      for (int64_t i = i0; i < last; i++)                                            \
        for (int64_t j = 0; j < n; j++) part[j] += WIDE(g[i * q->cols + begin + j]); \
      for (int64_t j = 0; j < n; j++) total[j] += part[j];                           \
    }                                                                                \
    for (int64_t j = 0; j < n; j++) out[begin + j] = (T)total[j];                    \
  }
#define PLAIN(x) (x)
COLUMN_SUMS(float, float, f32, PLAIN)
COLUMN_SUMS(double, double, f64, PLAIN)
COLUMN_SUMS(uint16_t, float, bf16, pg_bf16_f32)

/* *out = sums of the columns of g[rows x cols]; those of bfloat16 as float32. */
static pg_status column_sums(pg_call *c, pg_tensor *g, pg_tensor **out) {
  if (c->recording) return pg_do(c->ctx, out, "sum", "tl", g, 1, (int64_t[]){1});
  const bool half = g->dtype == PG_BF16;
  pg_tensor *dense = NULL;
  PG_TRY(pg__contiguous(c->ctx, g, &dense));
  pg_status s = pg_tensor_new(c->ctx, half ? PG_F32 : (pg_dtype)g->dtype, 1, &g->shape[1], out);
  if (s == PG_OK) {
    columns q = {g->shape[0], g->shape[1], pg_data(dense), pg_data(*out)};
    pg_par_for(c->ctx, q.cols, STRIP,
               half                 ? column_sums_bf16
               : g->dtype == PG_F32 ? column_sums_f32
                                    : column_sums_f64,
               &q);
  }
  pg_tensor_unref(dense);
  return s;
}

static pg_status backward_linear(pg_call *c) {
  pg_tensor *x = c->in[0], *w = c->in[1], *g = NULL, *x2 = NULL, *gx = NULL;
  if (w->nd == 1) return backward_single(c);
  int64_t k = w->shape[1], n = w->shape[0], rows = 1;
  for (int i = 0; i < x->nd - 1; i++) rows *= x->shape[i];
  pg_status s = reshaped(c, c->gout[0], 2, (int64_t[]){rows, n}, &g);
  if (s == PG_OK && c->need[0]) {
    s = multiply_into(c, 0, g, false, w, false, 1);
    if (s == PG_OK && !c->gin[0]) {
      s = multiply(c, g, false, w, false, 1, false, &gx);
      if (s == PG_OK) s = reshaped(c, gx, x->nd, x->shape, &c->gin[0]);
    }
  }
  if (s == PG_OK && c->need[1]) {
    s = reshaped(c, x, 2, (int64_t[]){rows, k}, &x2);
    if (s == PG_OK) s = multiply_into(c, 1, g, true, x2, false, 1);
    if (s == PG_OK && !c->gin[1]) s = multiply(c, g, true, x2, false, 1, true, &c->gin[1]);
  }
  if (s == PG_OK && c->need[2]) s = column_sums(c, g, &c->gin[2]);
  pg_tensor_unref(gx);
  pg_tensor_unref(x2);
  pg_tensor_unref(g);
  return s;
}

#define SAVE_BOTH (PG_SAVE_IN(0) | PG_SAVE_IN(1))

/* An op's infer that also counts: elements of the result times the length of the sum, which is the
 * last dim of in[a]. */
#define COUNTED(name, check, a)                                                       \
  static pg_status name(pg_call *c) {                                                 \
    PG_TRY(check(c));                                                                 \
    const pg_tensor *t = c->in[a];                                                    \
    pg_count_macs(c, pg_numel_of(c->os[0].nd, c->os[0].shape) * t->shape[t->nd - 1]); \
    return PG_OK;                                                                     \
  }
COUNTED(count_matmul, infer_matmul, 0)
COUNTED(count_mm, infer_mm, 0)
COUNTED(count_bmm, infer_bmm, 0)
COUNTED(count_mv, infer_mv, 0)
COUNTED(count_dot, infer_dot, 0)
COUNTED(count_addmm, infer_addmm, 1)
COUNTED(count_baddbmm, infer_baddbmm, 1)
COUNTED(count_linear, infer_linear, 0)

const pg_op PG_AT(pg_ops_matmul)[] = {
    {"matmul",
     "Matrix product over the last two dims, y[.., i, j] = sum_p input[.., i, p] other[.., p, j]; "
     "leading dims broadcast, a vector is a row on the left and a column on the right.",
     {PG_T("input"), PG_T("other")},
     PG_METHOD | PG_LOWER,
     SAVE_BOTH,
     1,
     count_matmul,
     {forward_matmul},
     backward_matmul},
    {"mm",
     "Product of two matrices, y[i, j] = sum_p input[i, p] mat2[p, j].",
     {PG_T("input"), PG_T("mat2")},
     PG_METHOD | PG_LOWER,
     SAVE_BOTH,
     1,
     count_mm,
     {forward_matmul},
     backward_matmul},
    {"bmm",
     "Product of two batches of matrices, y[b, i, j] = sum_p input[b, i, p] mat2[b, p, j].",
     {PG_T("input"), PG_T("mat2")},
     PG_METHOD | PG_LOWER,
     SAVE_BOTH,
     1,
     count_bmm,
     {forward_matmul},
     backward_matmul},
    {"mv",
     "Matrix times vector, y[i] = sum_p input[i, p] vec[p].",
     {PG_T("input"), PG_T("vec")},
     PG_METHOD | PG_LOWER,
     SAVE_BOTH,
     1,
     count_mv,
     {forward_matmul},
     backward_matmul},
    {"dot",
     "Inner product of two vectors, y = sum_p input[p] other[p].",
     {PG_T("input"), PG_T("other")},
     PG_METHOD,
     SAVE_BOTH,
     1,
     count_dot,
     {forward_matmul},
     backward_matmul},
    {"outer|ger",
     "Outer product of two vectors, y[i, j] = input[i] vec2[j].",
     {PG_T("input"), PG_T("vec2")},
     PG_METHOD,
     SAVE_BOTH,
     1,
     infer_outer,
     {forward_outer},
     backward_outer},
    {"addmm",
     "beta input + alpha mat1 mat2, input broadcast to the product; beta 0 ignores input.",
     {PG_T("input"), PG_T("mat1"), PG_T("mat2"), PG_DEF("beta", PG_FLOAT, 1),
      PG_DEF("alpha", PG_FLOAT, 1)},
     PG_METHOD | PG_LOWER,
     PG_SAVE_IN(1) | PG_SAVE_IN(2),
     1,
     count_addmm,
     {forward_addmm},
     backward_addmm},
    {"baddbmm",
     "beta input + alpha batch1 batch2 for batches of matrices; beta 0 ignores input.",
     {PG_T("input"), PG_T("batch1"), PG_T("batch2"), PG_DEF("beta", PG_FLOAT, 1),
      PG_DEF("alpha", PG_FLOAT, 1)},
     PG_METHOD | PG_LOWER,
     PG_SAVE_IN(1) | PG_SAVE_IN(2),
     1,
     count_baddbmm,
     {forward_addmm},
     backward_addmm},
    {"linear",
     "y = input weight^T + bias over the last dim; weight is out x in, or in for one output.",
     {PG_T("input"), PG_T("weight"), PG_TOPT("bias")},
     PG_NN | PG_LOWER,
     SAVE_BOTH,
     1,
     count_linear,
     {forward_linear},
     backward_linear},
    {0}};
