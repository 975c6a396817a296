/* Convolution of 1-d and 2-d images, and the bilinear pair that its gradients are made of. Float32
 * runs on oneDNN where it is there, else on im2col and BLAS. Relies on autograd/op.h,
 * kernels/onednn.h, im2col.h, blas.h. Spec: spec/ops/conv_spec.lua. */
#include <stdlib.h>
#include <string.h>

#include "autograd/node.h"
#include "base/par.h"
#include "kernels/blas.h"
#include "kernels/im2col.h"
#include "kernels/onednn.h"

/* --- the engine ------------------------------------------------------------------------------- */

static const char portable = 0; /* its address stands in ctx for "no oneDNN" */

static void engine_free(void *engine) {
  if (engine != (const void *)&portable) pgk_dnn_free(engine);
}

/* *out = oneDNN's engine, or NULL for the portable path; PERIGEE_CONV=onednn|blas decides. */
static pg_status engine(pg_ctx *ctx, pgk_dnn **out) {
  void **slot = &ctx->slot[PG_SLOT_DNN];
  if (!*slot) {
    const char *want = getenv("PERIGEE_CONV");
    bool blas = want && strcmp(want, "blas") == 0;
    pgk_dnn *d = blas ? NULL : pgk_dnn_new();
    if (!d && want && strcmp(want, "onednn") == 0)
      return pg_fail(ctx, PG_EUNSUPPORTED, "PERIGEE_CONV=onednn, but oneDNN cannot be loaded");
    *slot = d ? (void *)d : (void *)&portable;
    ctx->slot_free[PG_SLOT_DNN] = engine_free;
  }
  *out = *slot == (const void *)&portable ? NULL : *slot;
  return PG_OK;
}

/* --- geometry --------------------------------------------------------------------------------- */

/* Arguments of every op here, in this order. */
enum { STRIDE, PADDING, DILATION, GROUPS };

/* A convolution seen as 2-d; sp is the number of spatial dims of its tensors, batched whether they
 * have N. */
typedef struct geometry {
  pgk_conv c;
  int sp;
  bool batched;
} geometry;

enum { MOST = INT32_MAX }; /* so that products of two arguments fit */

static pg_status read_ints(pg_call *c, int k, int n, int64_t least, int64_t *v) {
  PG_TRY(pg_arg_ints(c, k, n, least, v));
  for (int i = 0; i < n; i++)
    if (v[i] > MOST)
      return pg_fail(c->ctx, PG_EARG, "argument '%s': expected at most %d, got %lld",
                     pg_arg_name(c, k), MOST, (long long)v[i]);
  return PG_OK;
}

static pg_status read_args(pg_call *call, int sp, const int64_t *kernel, geometry *g) {
  pg_ctx *ctx = call->ctx;
  int64_t v[2] = {1, 1};
  PG_TRY(read_ints(call, STRIDE, sp, 1, v));
  for (int i = 0; i < 2; i++) g->c.stride[i] = sp == 1 ? (i ? v[0] : 1) : v[i];
  PG_TRY(read_ints(call, DILATION, sp, 1, v));
  for (int i = 0; i < 2; i++) g->c.dilation[i] = sp == 1 ? (i ? v[0] : 1) : v[i];
  const pg_arg *padding = &call->arg[PADDING];
  memset(g->c.pad, 0, sizeof g->c.pad);
  if (padding->s) {
    if (strcmp(padding->s, "same") != 0) return PG_OK;
    for (int i = 0; i < 2; i++) {
      if (g->c.stride[i] != 1)
        return pg_fail(ctx, PG_EARG, "padding 'same' needs stride 1, got %lld",
                       (long long)g->c.stride[i]);
      int64_t total = g->c.dilation[i] * (kernel[i] - 1);
      g->c.pad[i] = total / 2;
      g->c.pad[i + 2] = total - total / 2;
    }
    return PG_OK;
  }
  if (padding->n == 4 && (call->op->flags & PG_HIDDEN)) { /* top, left, bottom, right */
    for (int i = 0; i < 4; i++) g->c.pad[i] = padding->v[i];
    return PG_OK;
  }
  PG_TRY(read_ints(call, PADDING, sp, 0, v));
  for (int i = 0; i < 2; i++) g->c.pad[i] = g->c.pad[i + 2] = sp == 1 ? (i ? v[0] : 0) : v[i];
  return PG_OK;
}

/* Fills g for an image of shape x (nd dims) and a weight of shape w; oh and ow follow. */
static pg_status conv_geometry(pg_call *call, int sp, int nd, const int64_t *x, const int64_t *w,
                               geometry *g) {
  pg_ctx *ctx = call->ctx;
  memset(g, 0, sizeof *g);
  g->sp = sp;
  g->batched = nd == sp + 2;
  if (nd != sp + 1 && nd != sp + 2)
    return pg_fail(ctx, PG_ESHAPE, "argument 'input': expected %d or %d dims, got %s", sp + 1,
                   sp + 2, pg_shape_str_of(nd, x).s);
  const int64_t *image = x + (g->batched ? 1 : 0);
  g->c.n = g->batched ? x[0] : 1;
  g->c.ic = image[0];
  g->c.ih = sp == 1 ? 1 : image[1];
  g->c.iw = image[sp];
  g->c.oc = w[0];
  g->c.kh = sp == 1 ? 1 : w[2];
  g->c.kw = w[sp + 1];
  g->c.groups = call->arg[GROUPS].i;
  if (g->c.groups < 1 || g->c.ic % g->c.groups || g->c.oc % g->c.groups)
    return pg_fail(ctx, PG_EARG, "groups %lld does not divide %lld input and %lld output channels",
                   (long long)g->c.groups, (long long)g->c.ic, (long long)g->c.oc);
  if (w[1] * g->c.groups != g->c.ic)
    return pg_fail(ctx, PG_ESHAPE,
                   "a weight %s with groups %lld expects %lld channels, got input %s",
                   pg_shape_str_of(sp + 2, w).s, (long long)g->c.groups,
                   (long long)(w[1] * g->c.groups), pg_shape_str_of(nd, x).s);
  PG_TRY(read_args(call, sp, &g->c.kh, g));
  const int64_t in[2] = {g->c.ih, g->c.iw}, k[2] = {g->c.kh, g->c.kw};
  int64_t out[2];
  for (int i = 0; i < 2; i++) {
    int64_t span = in[i] + g->c.pad[i] + g->c.pad[i + 2] - g->c.dilation[i] * (k[i] - 1) - 1;
    if (k[i] < 1) return pg_fail(ctx, PG_ESHAPE, "the kernel is empty");
    if (span < 0)
      return pg_fail(ctx, PG_ESHAPE, "a kernel of %lld does not fit into %s with its padding",
                     (long long)k[i], pg_shape_str_of(nd, x).s);
    out[i] = span / g->c.stride[i] + 1;
  }
  g->c.oh = out[0];
  g->c.ow = out[1];
  return PG_OK;
}

/* Output j: an image of c channels, h x w, channels last in memory. */
static pg_status out_image(pg_call *call, int j, pg_dtype dtype, const geometry *g, int64_t c,
                           int64_t h, int64_t w) {
  int64_t shape[4], stride[4], all[4] = {g->c.n, c, h, w}, steps[4] = {h * w * c, 1, w * c, c};
  int nd = 0;
  for (int i = 0; i < 4; i++) {
    if ((i == 0 && !g->batched) || (i == 2 && g->sp == 1)) continue;
    shape[nd] = all[i];
    stride[nd++] = steps[i];
  }
  PG_TRY(pg_out_shape(call, j, dtype, nd, shape));
  call->os[j].strided = true;
  memcpy(call->os[j].stride, stride, sizeof *stride * (size_t)nd);
  return PG_OK;
}

/* t, an image of g's kind, as N x C x H x W, channels last. */
static pg_status as_image(pg_ctx *ctx, pg_tensor *t, const geometry *g, pg_tensor **out) {
  int64_t shape[4] = {1, 1, 1, 1}, stride[4] = {0};
  for (int i = 0, k = 0; i < 4; i++) {
    if ((i == 0 && !g->batched) || (i == 2 && g->sp == 1)) continue;
    shape[i] = t->shape[k];
    stride[i] = t->stride[k++];
  }
  pg_tensor *alias;
  PG_TRY(pg_tensor_alias(ctx, t, 4, shape, stride, t->offset, &alias));
  pg_status s = pg__channels_last(ctx, alias, out);
  pg_tensor_unref(alias);
  return s;
}

/* --- portable path ---------------------------------------------------------------------------- */

/* Work on a block of images: col and the matrices that go with it. */
typedef struct portable_job {
  const pgk_conv *s;
  const void *x;
  void *col, *gx;
  int64_t group, first, patch;
  bool f64;
} portable_job;

static void job_im2col(void *arg, int64_t begin, int64_t end) {
  const portable_job *j = arg;
  const int64_t at = begin * j->patch;
  if (j->f64) PG_AT(pgk_im2col_f64)
  (j->s, j->x, j->group, j->first + begin, j->first + end, (double *)j->col + at);
  else PG_AT(pgk_im2col_f32)(j->s, j->x, j->group, j->first + begin, j->first + end,
                             (float *)j->col + at);
}

static void job_col2im(void *arg, int64_t begin, int64_t end) {
  const portable_job *j = arg;
  const int64_t at = begin * j->s->oh * j->s->ow * j->patch;
  if (j->f64) PG_AT(pgk_col2im_f64)
  (j->s, (const double *)j->col + at, j->group, j->first + begin, j->first + end, j->gx);
  else PG_AT(pgk_col2im_f32)(j->s, (const float *)j->col + at, j->group, j->first + begin,
                             j->first + end, j->gx);
}

static void gemm(bool f64, bool ta, bool tb, int64_t m, int64_t n, int64_t k, const void *a,
                 int64_t lda, const void *b, int64_t ldb, bool add, void *c, int64_t ldc) {
  if (f64) pgk_gemm_f64(ta, tb, m, n, k, 1, a, lda, b, ldb, add, c, ldc);
  else pgk_gemm_f32(ta, tb, m, n, k, 1, a, lda, b, ldb, add, c, ldc);
}

static const void *at(const void *p, int64_t i, size_t size) {
  return (const char *)p + (size_t)i * size;
}

enum { PORTABLE_FORWARD, PORTABLE_INPUT, PORTABLE_WEIGHT };

/* x, w (o, i, ky, kx) and y are the roles; the one that `what` names is written. */
static pg_status portable_run(pg_ctx *ctx, const pgk_conv *s, int what, bool f64, void *x, void *w,
                              void *y) {
  const size_t size = f64 ? 8 : 4;
  const int64_t og = s->oc / s->groups, patch = s->ic / s->groups * s->kh * s->kw,
                pixels = s->oh * s->ow;
  const int64_t most = ((int64_t)4 << 20) / (int64_t)size;
  const int64_t images = pg_min64(s->n, pg_max64(1, most / pg_max64(1, patch * pixels)));
  const size_t weight_bytes = (size_t)(s->oc * patch) * size;
  const size_t col_bytes = (size_t)(images * pixels * patch) * size;
  void *col = NULL, *inner = NULL;
  pg_status status = pg_alloc(ctx, weight_bytes, &inner);
  if (status == PG_OK) status = pg_alloc(ctx, col_bytes, &col);
  if (status != PG_OK) goto done;
  if (what != PORTABLE_WEIGHT) {
    if (f64) PG_AT(pgk_weight_in_f64)(s, w, inner);
    else PG_AT(pgk_weight_in_f32)(s, w, inner);
  } else {
    memset(inner, 0, weight_bytes);
  }
  if (what == PORTABLE_INPUT) memset(x, 0, (size_t)(s->n * s->ih * s->iw * s->ic) * size);
  for (int64_t g = 0; g < s->groups; g++)
    for (int64_t n = 0; n < s->n; n += images) {
      const int64_t count = pg_min64(images, s->n - n), rows = count * pixels;
      void *wg = (void *)at(inner, g * og * patch, size);
      void *yg = (void *)at(y, n * pixels * s->oc + g * og, size);
      portable_job j = {s, x, col, x, g, n * pixels, patch, f64};
      if (what != PORTABLE_INPUT) pg_par_for(ctx, rows, pg_grain(patch), job_im2col, &j);
      if (what == PORTABLE_FORWARD) {
        gemm(f64, false, true, rows, og, patch, col, patch, wg, patch, false, yg, s->oc);
      } else if (what == PORTABLE_WEIGHT) {
        gemm(f64, true, false, og, patch, rows, yg, s->oc, col, patch, true, wg, patch);
      } else {
        gemm(f64, false, false, rows, patch, og, yg, s->oc, wg, patch, false, col, patch);
        j.first = n;
        pg_par_for(ctx, count, 1, job_col2im, &j);
      }
    }
  if (what == PORTABLE_WEIGHT) {
    if (f64) PG_AT(pgk_weight_out_f64)(s, inner, w);
    else PG_AT(pgk_weight_out_f32)(s, inner, w);
  }
done:
  pg_free(ctx, col, col_bytes);
  pg_free(ctx, inner, weight_bytes);
  return status;
}

/* y[r][c] += bias[c] over rows; gbias[c] = sum of gy[r][c]. */
#define BIAS(T, SUFFIX)                                                                          \
  static void bias_add_##SUFFIX(int64_t rows, int64_t c, const T *restrict b, T *restrict y) {   \
    for (int64_t r = 0; r < rows; r++, y += c)                                                   \
      for (int64_t i = 0; i < c; i++) y[i] += b[i];                                              \
  }                                                                                              \
  static void bias_sum_##SUFFIX(int64_t rows, int64_t c, const T *restrict gy, T *restrict gb) { \
    for (int64_t i = 0; i < c; i++) gb[i] = 0;                                                   \
    for (int64_t r = 0; r < rows; r++, gy += c)                                                  \
      for (int64_t i = 0; i < c; i++) gb[i] += gy[i];                                            \
  }
BIAS(float, f32)
BIAS(double, f64)

/* --- the three products ----------------------------------------------------------------------- */

static bool empty(const pgk_conv *s) {
  return s->n * s->oc * s->oh * s->ow * s->ic * s->ih * s->iw == 0;
}

/* y (channels last) = x * w + bias. */
static pg_status forward_into(pg_ctx *ctx, const geometry *g, pg_tensor *x, pg_tensor *w,
                              pg_tensor *bias, pg_tensor *y) {
  const pgk_conv *s = &g->c;
  if (empty(s)) { /* no channels: the bias alone */
    if (!bias || s->oh * s->ow * s->n * s->oc == 0) {
      pg_tensor_fill(y, 0);
      return PG_OK;
    }
    int64_t shape[PG_MAX_DIMS];
    for (int i = 0; i < y->nd; i++) shape[i] = 1;
    shape[g->batched ? 1 : 0] = s->oc;
    int64_t stride[PG_MAX_DIMS] = {0};
    stride[g->batched ? 1 : 0] = bias->stride[0];
    pg_tensor *b;
    PG_TRY(pg_tensor_alias(ctx, bias, y->nd, shape, stride, bias->offset, &b));
    pg_status copied = pg_tensor_copy(y, b);
    pg_tensor_unref(b);
    return copied;
  }
  pg_tensor *xi = NULL, *wc = NULL, *bc = NULL;
  pgk_dnn *dnn = NULL;
  bool f64 = x->dtype == PG_F64;
  pg_status status = as_image(ctx, x, g, &xi);
  if (status == PG_OK) status = pg__contiguous(ctx, w, &wc);
  if (status == PG_OK && bias) status = pg__contiguous(ctx, bias, &bc);
  if (status == PG_OK && !f64) status = engine(ctx, &dnn);
  if (status != PG_OK) goto done;
  void *out = pg_data(y);
  const void *b = bc ? pg_data(bc) : NULL;
  if (dnn && pgk_dnn_conv_forward(dnn, s, pg_data(xi), pg_data(wc), b, out) == 0) goto done;
  status = portable_run(ctx, s, PORTABLE_FORWARD, f64, pg_data(xi), pg_data(wc), out);
  if (status == PG_OK && b) {
    if (f64) bias_add_f64(s->n * s->oh * s->ow, s->oc, b, out);
    else bias_add_f32(s->n * s->oh * s->ow, s->oc, b, out);
  }
done:
  pg_tensor_unref(bc);
  pg_tensor_unref(wc);
  pg_tensor_unref(xi);
  return status;
}

/* gx (channels last) = the gradient of the image. */
static pg_status input_into(pg_ctx *ctx, const geometry *g, pg_tensor *gy, pg_tensor *w,
                            pg_tensor *gx) {
  const pgk_conv *s = &g->c;
  if (empty(s)) {
    pg_tensor_fill(gx, 0);
    return PG_OK;
  }
  pg_tensor *yi = NULL, *wc = NULL;
  pgk_dnn *dnn = NULL;
  bool f64 = gy->dtype == PG_F64;
  pg_status status = as_image(ctx, gy, g, &yi);
  if (status == PG_OK) status = pg__contiguous(ctx, w, &wc);
  if (status == PG_OK && !f64) status = engine(ctx, &dnn);
  if (status == PG_OK &&
      !(dnn && pgk_dnn_conv_backward_data(dnn, s, pg_data(yi), pg_data(wc), pg_data(gx)) == 0))
    status = portable_run(ctx, s, PORTABLE_INPUT, f64, pg_data(gx), pg_data(wc), pg_data(yi));
  pg_tensor_unref(wc);
  pg_tensor_unref(yi);
  return status;
}

/* gw (contiguous) = the gradient of the weight; gb that of the bias, may be NULL. */
static pg_status weight_into(pg_ctx *ctx, const geometry *g, pg_tensor *x, pg_tensor *gy,
                             pg_tensor *gw, pg_tensor *gb) {
  const pgk_conv *s = &g->c;
  if (empty(s)) {
    pg_tensor_fill(gw, 0);
    if (gb) pg_tensor_fill(gb, 0);
    return PG_OK;
  }
  pg_tensor *xi = NULL, *yi = NULL;
  pgk_dnn *dnn = NULL;
  bool f64 = x->dtype == PG_F64;
  pg_status status = as_image(ctx, x, g, &xi);
  if (status == PG_OK) status = as_image(ctx, gy, g, &yi);
  if (status == PG_OK && !f64) status = engine(ctx, &dnn);
  if (status != PG_OK) goto done;
  void *b = gb ? pg_data(gb) : NULL;
  if (dnn && pgk_dnn_conv_backward_weight(dnn, s, pg_data(xi), pg_data(yi), pg_data(gw), b) == 0)
    goto done;
  status = portable_run(ctx, s, PORTABLE_WEIGHT, f64, pg_data(xi), pg_data(gw), pg_data(yi));
  if (status == PG_OK && b) {
    if (f64) bias_sum_f64(s->n * s->oh * s->ow, s->oc, pg_data(yi), b);
    else bias_sum_f32(s->n * s->oh * s->ow, s->oc, pg_data(yi), b);
  }
done:
  pg_tensor_unref(yi);
  pg_tensor_unref(xi);
  return status;
}

/* --- conv1d, conv2d --------------------------------------------------------------------------- */

static int spatial(int weight_nd) { return weight_nd - 2; }

static pg_status conv_infer(pg_call *c, int sp) {
  PG_TRY(pg_want(c, 0, PG_M_REAL));
  PG_TRY(pg_want_same_dtype(c, 1, 0));
  PG_TRY(pg_want_same_dtype(c, 2, 0));
  PG_TRY(pg_want_dim(c, 1, sp + 2));
  const pg_tensor *x = c->in[0], *w = c->in[1], *bias = c->in[2];
  geometry g;
  PG_TRY(conv_geometry(c, sp, x->nd, x->shape, w->shape, &g));
  if (bias && (bias->nd != 1 || bias->shape[0] != g.c.oc))
    return pg_fail(c->ctx, PG_ESHAPE, "argument 'bias': expected [%lld], got %s", (long long)g.c.oc,
                   pg_shape_str(bias).s);
  return out_image(c, 0, (pg_dtype)x->dtype, &g, g.c.oc, g.c.oh, g.c.ow);
}

static pg_status conv1d_infer(pg_call *c) { return conv_infer(c, 1); }
static pg_status conv2d_infer(pg_call *c) { return conv_infer(c, 2); }
static pg_status conv_padded_infer(pg_call *c) { return conv_infer(c, spatial(c->in[1]->nd)); }

static pg_status conv_forward(pg_call *c) {
  const pg_tensor *x = c->in[0], *w = c->in[1];
  geometry g;
  PG_TRY(conv_geometry(c, spatial(w->nd), x->nd, x->shape, w->shape, &g));
  return forward_into(c->ctx, &g, c->in[0], c->in[1], c->in[2], c->out[0]);
}

/* A tensor of the image's shape m, channels last. */
static pg_status new_image(pg_ctx *ctx, pg_dtype dtype, const geometry *g, const pg_meta *m,
                           pg_tensor **out) {
  int64_t c = m->shape[g->batched ? 1 : 0], w = m->shape[m->nd - 1],
          h = g->sp == 1 ? 1 : m->shape[m->nd - 2];
  int64_t steps[4] = {h * w * c, 1, w * c, c}, stride[4];
  int nd = 0;
  for (int i = 0; i < 4; i++)
    if (!((i == 0 && !g->batched) || (i == 2 && g->sp == 1))) stride[nd++] = steps[i];
  return pg_tensor_new_strided(ctx, dtype, m->nd, m->shape, stride, PG_HOST, out);
}

/* Gradients as ops, so that they have gradients: args of g, explicit padding. */
static pg_status grad_op(pg_ctx *ctx, const char *name, const geometry *g, pg_tensor *a,
                         pg_tensor *b, const pg_meta *like, pg_tensor **out) {
  const int64_t *stride = g->c.stride, *dilation = g->c.dilation;
  int lead = g->sp == 1;
  return pg_do(ctx, out, name, "ttlllil", a, b, 2 - lead, stride + lead, 4, g->c.pad, 2 - lead,
               dilation + lead, g->c.groups, like->nd, like->shape);
}

static pg_status conv_backward(pg_call *c) {
  pg_ctx *ctx = c->ctx;
  const pg_meta *x = &c->meta[0], *w = &c->meta[1];
  geometry g;
  PG_TRY(conv_geometry(c, spatial(w->nd), x->nd, x->shape, w->shape, &g));
  pg_tensor *gy = c->gout[0];
  if (c->recording) {
    if (c->need[0]) PG_TRY(grad_op(ctx, "conv_input_grad", &g, gy, c->in[1], x, &c->gin[0]));
    if (c->need[1]) PG_TRY(grad_op(ctx, "conv_weight_grad", &g, c->in[0], gy, w, &c->gin[1]));
    if (!c->need[2]) return PG_OK;
    int64_t dims[3];
    int n = 0;
    for (int d = 1; d <= gy->nd; d++)
      if (d != (g.batched ? 2 : 1)) dims[n++] = d;
    return pg_do(ctx, &c->gin[2], "sum", "tl", gy, n, dims);
  }
  if (c->need[0]) {
    PG_TRY(new_image(ctx, (pg_dtype)x->dtype, &g, x, &c->gin[0]));
    PG_TRY(input_into(ctx, &g, gy, c->in[1], c->gin[0]));
  }
  if (!c->need[1] && !c->need[2]) return PG_OK;
  PG_TRY(pg_tensor_new(ctx, (pg_dtype)w->dtype, w->nd, w->shape, &c->gin[1]));
  if (c->need[2]) PG_TRY(pg_tensor_new(ctx, (pg_dtype)w->dtype, 1, w->shape, &c->gin[2]));
  return weight_into(ctx, &g, c->in[0], gy, c->gin[1], c->gin[2]);
}

/* --- the gradients as ops --------------------------------------------------------------------- */

enum { SHAPE = GROUPS + 1 }; /* shape of the result */

/* conv_input_grad(gy, weight, .., shape): the image whose convolution had gradient gy. */
static pg_status input_grad_geometry(pg_call *c, const int64_t *w, int wnd, geometry *g) {
  const pg_arg *shape = &c->arg[SHAPE];
  return conv_geometry(c, spatial(wnd), shape->n, shape->v, w, g);
}

static pg_status input_grad_infer(pg_call *c) {
  geometry g;
  PG_TRY(input_grad_geometry(c, c->in[1]->shape, c->in[1]->nd, &g));
  return out_image(c, 0, (pg_dtype)c->in[0]->dtype, &g, g.c.ic, g.c.ih, g.c.iw);
}

static pg_status input_grad_forward(pg_call *c) {
  geometry g;
  PG_TRY(input_grad_geometry(c, c->in[1]->shape, c->in[1]->nd, &g));
  return input_into(c->ctx, &g, c->in[0], c->in[1], c->out[0]);
}

static pg_status conv_again(pg_ctx *ctx, const geometry *g, pg_tensor *x, pg_tensor *w,
                            pg_tensor **out) {
  int lead = g->sp == 1;
  return pg_do(ctx, out, "conv_padded", "tttllli", x, w, (pg_tensor *)NULL, 2 - lead,
               g->c.stride + lead, 4, g->c.pad, 2 - lead, g->c.dilation + lead, g->c.groups);
}

static pg_status input_grad_backward(pg_call *c) {
  geometry g;
  PG_TRY(input_grad_geometry(c, c->meta[1].shape, c->meta[1].nd, &g));
  if (c->need[0]) PG_TRY(conv_again(c->ctx, &g, c->gout[0], c->in[1], &c->gin[0]));
  if (!c->need[1]) return PG_OK;
  return grad_op(c->ctx, "conv_weight_grad", &g, c->gout[0], c->in[0], &c->meta[1], &c->gin[1]);
}

/* conv_weight_grad(x, gy, .., shape): the weight's gradient. */
static pg_status weight_grad_geometry(pg_call *c, int nd, const int64_t *x, geometry *g) {
  const pg_arg *shape = &c->arg[SHAPE];
  return conv_geometry(c, spatial(shape->n), nd, x, shape->v, g);
}

static pg_status weight_grad_infer(pg_call *c) {
  geometry g;
  PG_TRY(weight_grad_geometry(c, c->in[0]->nd, c->in[0]->shape, &g));
  return pg_out_shape(c, 0, (pg_dtype)c->in[0]->dtype, c->arg[SHAPE].n, c->arg[SHAPE].v);
}

static pg_status weight_grad_forward(pg_call *c) {
  geometry g;
  PG_TRY(weight_grad_geometry(c, c->in[0]->nd, c->in[0]->shape, &g));
  return weight_into(c->ctx, &g, c->in[0], c->in[1], c->out[0], NULL);
}

static pg_status weight_grad_backward(pg_call *c) {
  geometry g;
  PG_TRY(weight_grad_geometry(c, c->meta[0].nd, c->meta[0].shape, &g));
  if (c->need[0])
    PG_TRY(grad_op(c->ctx, "conv_input_grad", &g, c->in[1], c->gout[0], &c->meta[0], &c->gin[0]));
  if (!c->need[1]) return PG_OK;
  return conv_again(c->ctx, &g, c->in[0], c->gout[0], &c->gin[1]);
}

#define CONV_ARGS                                                                  \
  PG_DEF("stride", PG_INTS, 1), {"padding", PG_INTS, PG_DEFAULT, 0, "valid|same"}, \
      PG_DEF("dilation", PG_INTS, 1), PG_DEF("groups", PG_INT, 1)

const pg_op PG_AT(pg_ops_conv)[] = {
    {.name = "conv2d",
     .doc =
         "y[n, o] = bias[o] + the sum over channels i of weight[o, i] correlated with input[n, i]; "
         "input N x C x H x W, weight O x C/groups x kH x kW.",
     .param = {PG_T("input"), PG_T("weight"), PG_TOPT("bias"), CONV_ARGS},
     .flags = PG_NN,
     .saves = PG_SAVE_IN(0) | PG_SAVE_IN(1),
     .nout = 1,
     .infer = conv2d_infer,
     .forward = {conv_forward},
     .backward = conv_backward},
    {.name = "conv1d",
     .doc =
         "y[n, o] = bias[o] + the sum over channels i of weight[o, i] correlated with input[n, i]; "
         "input N x C x L, weight O x C/groups x k.",
     .param = {PG_T("input"), PG_T("weight"), PG_TOPT("bias"), CONV_ARGS},
     .flags = PG_NN,
     .saves = PG_SAVE_IN(0) | PG_SAVE_IN(1),
     .nout = 1,
     .infer = conv1d_infer,
     .forward = {conv_forward},
     .backward = conv_backward},
    {.name = "conv_padded",
     .doc = "conv1d or conv2d, by the dims of weight, with a padding of top, left, bottom, right.",
     .param = {PG_T("input"), PG_T("weight"), PG_TOPT("bias"), CONV_ARGS},
     .flags = PG_HIDDEN,
     .saves = PG_SAVE_IN(0) | PG_SAVE_IN(1),
     .nout = 1,
     .infer = conv_padded_infer,
     .forward = {conv_forward},
     .backward = conv_backward},
    {.name = "conv_input_grad",
     .doc = "The gradient of a convolution's input, of this shape.",
     .param = {PG_T("grad"), PG_T("weight"), CONV_ARGS, PG_REQ("shape", PG_INTS)},
     .flags = PG_HIDDEN,
     .saves = PG_SAVE_IN(0) | PG_SAVE_IN(1),
     .nout = 1,
     .infer = input_grad_infer,
     .forward = {input_grad_forward},
     .backward = input_grad_backward},
    {.name = "conv_weight_grad",
     .doc = "The gradient of a convolution's weight, of this shape.",
     .param = {PG_T("input"), PG_T("grad"), CONV_ARGS, PG_REQ("shape", PG_INTS)},
     .flags = PG_HIDDEN,
     .saves = PG_SAVE_IN(0) | PG_SAVE_IN(1),
     .nout = 1,
     .infer = weight_grad_infer,
     .forward = {weight_grad_forward},
     .backward = weight_grad_backward},
    {0}};
