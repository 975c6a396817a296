/* Patches of images as columns and back: im2col (nn.functional.unfold) and fold, each the other's
 * gradient. Relies on autograd/op.h, base/par.h. Spec: spec/ops/patches_spec.lua. */
#include <string.h>

#include "autograd/op.h"
#include "base/par.h"

/* Images n x c x ih x iw; columns n x (c k[0] k[1]) x (oh ow). */
typedef struct patches {
  int64_t n, c, ih, iw, oh, ow, k[2], dilation[2], pad[2], stride[2];
  bool batched;
  const void *x;
  void *y;
} patches;

enum { MOST = INT32_MAX }; /* so that products of two arguments fit */

/* Arguments kernel_size, dilation, padding, stride from argument `first` on; ih and iw are set. */
static pg_status read_window(pg_call *c, int first, patches *p) {
  PG_TRY(pg_arg_ints(c, first, 2, 1, p->k));
  PG_TRY(pg_arg_ints(c, first + 1, 2, 1, p->dilation));
  PG_TRY(pg_arg_ints(c, first + 2, 2, 0, p->pad));
  PG_TRY(pg_arg_ints(c, first + 3, 2, 1, p->stride));
  int64_t out[2], in[2] = {p->ih, p->iw};
  for (int i = 0; i < 2; i++) {
    const int64_t each[] = {p->k[i], p->dilation[i], p->pad[i], p->stride[i]};
    for (int k = 0; k < 4; k++)
      if (each[k] > MOST) return pg_bad_arg(c, PG_EARG, first + k, "at most %d", MOST);
    int64_t span = in[i] + 2 * p->pad[i] - p->dilation[i] * (p->k[i] - 1) - 1;
    if (span < 0)
      return pg_bad_arg(c, PG_ESHAPE, first,
                        "a kernel that fits into %lld x %lld pixels with their padding",
                        (long long)in[0], (long long)in[1]);
    out[i] = span / p->stride[i] + 1;
  }
  p->oh = out[0];
  p->ow = out[1];
  if (p->k[0] * p->k[1] > MOST) return pg_bad_arg(c, PG_EARG, first, "at most %d taps", MOST);
  return PG_OK;
}

/* Output columns [*lo, *hi) whose tap at offset `at` from their start lies in a row of n pixels. */
static void inside(int64_t n, int64_t at, int64_t stride, int64_t out, int64_t *lo, int64_t *hi) {
  *lo = at < 0 ? (-at + stride - 1) / stride : 0;
  *hi = at < n ? pg_min64(out, (n - 1 - at) / stride + 1) : 0;
  if (*hi < *lo) *hi = *lo = pg_min64(*lo, out);
}

/* unfold: units are rows of the columns, n c k[0] k[1]. fold: units are planes, n c. */
#define PATCHES(S, T)                                                                        \
  static void unfold_##S(void *arg, int64_t begin, int64_t end) {                            \
    const patches *p = arg;                                                                  \
    for (int64_t u = begin; u < end; u++) {                                                  \
      int64_t kx = u % p->k[1], ky = u / p->k[1] % p->k[0], plane = u / (p->k[0] * p->k[1]); \
      const T *x = (const T *)p->x + plane * p->ih * p->iw;                                  \
      int64_t lo, hi, left = kx * p->dilation[1] - p->pad[1], s = p->stride[1];              \
      inside(p->iw, left, s, p->ow, &lo, &hi);                                               \
      for (int64_t oy = 0; oy < p->oh; oy++) {                                               \
        T *restrict y = (T *)p->y + (u * p->oh + oy) * p->ow;                                \
        int64_t iy = oy * p->stride[0] + ky * p->dilation[0] - p->pad[0];                    \
        if (iy < 0 || iy >= p->ih) {                                                         \
          memset(y, 0, (size_t)p->ow * sizeof *y);                                           \
          continue;                                                                          \
        }                                                                                    \
        const T *restrict row = x + iy * p->iw + left;                                       \
        for (int64_t o = 0; o < lo; o++) y[o] = 0;                                           \
        for (int64_t o = lo; o < hi; o++) y[o] = row[o * s];                                 \
        for (int64_t o = hi; o < p->ow; o++) y[o] = 0;                                       \
      }                                                                                      \
    }                                                                                        \
  }                                                                                          \
  static void fold_##S(void *arg, int64_t begin, int64_t end) {                              \
    const patches *p = arg;                                                                  \
    const int64_t area = p->ih * p->iw, taps = p->k[0] * p->k[1];                            \
    memset((T *)p->y + begin * area, 0, (size_t)((end - begin) * area) * sizeof(T));         \
    for (int64_t u = begin * taps; u < end * taps; u++) {                                    \
      int64_t kx = u % p->k[1], ky = u / p->k[1] % p->k[0];                                  \
      T *y = (T *)p->y + u / taps * area;                                                    \
      int64_t lo, hi, left = kx * p->dilation[1] - p->pad[1], s = p->stride[1];              \
      inside(p->iw, left, s, p->ow, &lo, &hi);                                               \
      for (int64_t oy = 0; oy < p->oh; oy++) {                                               \
        int64_t iy = oy * p->stride[0] + ky * p->dilation[0] - p->pad[0];                    \
        if (iy < 0 || iy >= p->ih) continue;                                                 \
        const T *restrict x = (const T *)p->x + (u * p->oh + oy) * p->ow;                    \
        T *restrict row = y + iy * p->iw + left;                                             \
        for (int64_t o = lo; o < hi; o++) row[o * s] += x[o];                                \
      }                                                                                      \
    }                                                                                        \
  }
PATCHES(f32, float)
PATCHES(f64, double)

static pg_status check_dims(pg_call *c, int least, int most) {
  const pg_tensor *x = c->in[0];
  PG_TRY(pg_want(c, 0, PG_M_REAL));
  if (x->nd == least || x->nd == most) return PG_OK;
  return pg_fail(c->ctx, PG_ESHAPE, "argument 'input': expected %d or %d dims, got %s", least, most,
                 pg_shape_str(x).s);
}

/* Runs fn over in[0], contiguous. */
static pg_status run(pg_call *c, patches *p, int64_t units, int64_t cost, pg_par_fn fn) {
  pg_tensor *x;
  PG_TRY(pg__contiguous(c->ctx, c->in[0], &x));
  p->x = pg_data(x);
  p->y = pg_data(c->out[0]);
  pg_par_for(c->ctx, units, pg_grain(cost), fn, p);
  pg_tensor_unref(x);
  return PG_OK;
}

/* --- im2col: arg kernel_size, dilation, padding, stride -----------------------------------------
 */

static pg_status open_image(pg_call *c, int nd, const int64_t *shape, patches *p) {
  memset(p, 0, sizeof *p);
  p->batched = nd == 4;
  p->n = p->batched ? shape[0] : 1;
  p->c = shape[nd - 3];
  p->ih = shape[nd - 2];
  p->iw = shape[nd - 1];
  return read_window(c, 0, p);
}

static pg_status infer_im2col(pg_call *c) {
  const pg_tensor *x = c->in[0];
  patches p;
  PG_TRY(check_dims(c, 3, 4));
  PG_TRY(open_image(c, x->nd, x->shape, &p));
  int64_t shape[3] = {p.n, p.c * p.k[0] * p.k[1], p.oh * p.ow};
  return pg_out_shape(c, 0, (pg_dtype)x->dtype, p.batched ? 3 : 2, shape + !p.batched);
}

static pg_status forward_im2col(pg_call *c) {
  const pg_tensor *x = c->in[0];
  patches p;
  PG_TRY(open_image(c, x->nd, x->shape, &p));
  return run(c, &p, p.n * p.c * p.k[0] * p.k[1], p.oh * p.ow,
             x->dtype == PG_F64 ? unfold_f64 : unfold_f32);
}

static pg_status backward_im2col(pg_call *c) {
  const pg_meta *m = &c->meta[0];
  patches p;
  PG_TRY(open_image(c, m->nd, m->shape, &p));
  int64_t size[2] = {p.ih, p.iw};
  return pg_do(c->ctx, &c->gin[0], "fold", "tlllll", c->gout[0], 2, size, 2, p.k, 2, p.dilation, 2,
               p.pad, 2, p.stride);
}

/* --- fold: arg output_size, kernel_size, dilation, padding, stride ------------------------------
 */

static pg_status open_columns(pg_call *c, int nd, const int64_t *shape, patches *p) {
  int64_t size[2];
  memset(p, 0, sizeof *p);
  PG_TRY(pg_arg_ints(c, 0, 2, 1, size));
  p->ih = size[0];
  p->iw = size[1];
  p->batched = nd == 3;
  p->n = p->batched ? shape[0] : 1;
  PG_TRY(read_window(c, 1, p));
  int64_t taps = p->k[0] * p->k[1];
  if (shape[nd - 2] % taps)
    return pg_fail(c->ctx, PG_ESHAPE,
                   "argument 'input': expected a multiple of %lld in dim %d, got %s",
                   (long long)taps, nd - 1, pg_shape_str_of(nd, shape).s);
  p->c = shape[nd - 2] / taps;
  if (shape[nd - 1] == p->oh * p->ow) return PG_OK;
  return pg_fail(
      c->ctx, PG_ESHAPE,
      "argument 'input': expected %lld x %lld = %lld columns for this output_size, got %s",
      (long long)p->oh, (long long)p->ow, (long long)(p->oh * p->ow), pg_shape_str_of(nd, shape).s);
}

static pg_status infer_fold(pg_call *c) {
  const pg_tensor *x = c->in[0];
  patches p;
  PG_TRY(check_dims(c, 2, 3));
  PG_TRY(open_columns(c, x->nd, x->shape, &p));
  int64_t shape[4] = {p.n, p.c, p.ih, p.iw};
  return pg_out_shape(c, 0, (pg_dtype)x->dtype, p.batched ? 4 : 3, shape + !p.batched);
}

static pg_status forward_fold(pg_call *c) {
  const pg_tensor *x = c->in[0];
  patches p;
  PG_TRY(open_columns(c, x->nd, x->shape, &p));
  return run(c, &p, p.n * p.c, p.oh * p.ow * p.k[0] * p.k[1],
             x->dtype == PG_F64 ? fold_f64 : fold_f32);
}

static pg_status backward_fold(pg_call *c) {
  const pg_meta *m = &c->meta[0];
  patches p;
  PG_TRY(open_columns(c, m->nd, m->shape, &p));
  return pg_do(c->ctx, &c->gin[0], "im2col", "tllll", c->gout[0], 2, p.k, 2, p.dilation, 2, p.pad,
               2, p.stride);
}

#define WINDOW_ARGS                                                                              \
  PG_REQ("kernel_size", PG_INTS), PG_DEF("dilation", PG_INTS, 1), PG_DEF("padding", PG_INTS, 0), \
      PG_DEF("stride", PG_INTS, 1)

const pg_op PG_AT(pg_ops_patches)[] = {
    {"im2col",
     "Every patch of N x C x H x W images as a column: N x (C kH kW) x patches.",
     {PG_T("input"), WINDOW_ARGS},
     PG_NN,
     0,
     1,
     infer_im2col,
     {forward_im2col},
     backward_im2col},
    {"fold|col2im",
     "Adds columns N x (C kH kW) x patches up to N x C x H x W images of output_size.",
     {PG_T("input"), PG_REQ("output_size", PG_INTS), WINDOW_ARGS},
     PG_NN,
     0,
     1,
     infer_fold,
     {forward_fold},
     backward_fold},
    {0}};
