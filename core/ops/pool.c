/* Pooling of 1-d and 2-d images: max, average, adaptive; their gradients are linear ops of their
 * own. Lanes of channels are walked together where images are channels-last. Relies on
 * autograd/op.h. Spec: spec/ops/pool_spec.lua. */
#include <math.h>
#include <string.h>

#include "autograd/node.h"
#include "base/par.h"

enum { LANES = 64 };

/* Windows over h x w. Explicit: kernel, stride, padding, dilation. Adaptive: cut evenly. */
typedef struct window {
  int64_t ih, iw, oh, ow, k[2], stride[2], pad[2], dilation[2], divisor;
  bool adaptive, count_pad;
} window;

enum { WINDOW_INTS = 15 };

static void window_ints(const window *w, int64_t *v) {
  const int64_t all[WINDOW_INTS] = {w->ih,      w->iw,       w->oh,          w->ow,
                                    w->k[0],    w->k[1],     w->stride[0],   w->stride[1],
                                    w->pad[0],  w->pad[1],   w->dilation[0], w->dilation[1],
                                    w->divisor, w->adaptive, w->count_pad};
  memcpy(v, all, sizeof all);
}

static window window_of(const int64_t *v) {
  return (window){v[0],         v[1],           v[2],  v[3],  {v[4], v[5]}, {v[6], v[7]},
                  {v[8], v[9]}, {v[10], v[11]}, v[12], v[13], v[14]};
}

/* Taps of output o along axis a: first, last + 1 in the image, steps of dilation; *tap is the
 * number of the first one within the kernel. */
typedef struct range {
  int64_t begin, end, step, tap, padded; /* padded: taps that lie in the image or its padding */
} range;

static range taps(const window *w, int a, int64_t o) {
  const int64_t in = a ? w->iw : w->ih, out = a ? w->ow : w->oh;
  if (w->adaptive) {
    range r = {o * in / out, ((o + 1) * in + out - 1) / out, 1, 0, 0};
    r.padded = r.end - r.begin;
    return r;
  }
  const int64_t d = w->dilation[a], start = o * w->stride[a] - w->pad[a];
  int64_t skip = start < 0 ? (-start + d - 1) / d : 0;
  int64_t end = start + w->k[a] * d;
  range r = {start + skip * d, pg_min64(end, in), d, skip, 0};
  r.padded = pg_min64(end, in + w->pad[a]) - start;
  return r;
}

/* An image tensor as blocks x pixels x lanes: channels-last images have N blocks of C lanes, others
 * N * C blocks of one. */
typedef struct images {
  int64_t blocks, lanes, c;
  bool last; /* channels last */
} images;

/* The same tensor with H = 1 for 1-d and N = 1 for unbatched images; shares the data. */
static void dims_of(int nd, const int64_t *shape, int sp, int64_t *d) {
  d[0] = nd == sp + 2 ? shape[0] : 1;
  d[1] = shape[nd - sp - 1];
  d[2] = sp == 1 ? 1 : shape[nd - 2];
  d[3] = shape[nd - 1];
}

static pg_status alias4(pg_ctx *ctx, pg_tensor *t, int sp, pg_tensor **out) {
  int64_t shape[4], stride[4] = {0};
  dims_of(t->nd, t->shape, sp, shape);
  if (t->nd == sp + 2) stride[0] = t->stride[0];
  stride[1] = t->stride[t->nd - sp - 1];
  if (sp == 2) stride[2] = t->stride[t->nd - 2];
  stride[3] = t->stride[t->nd - 1];
  return pg_tensor_alias(ctx, t, 4, shape, stride, t->offset, out);
}

/* t as images: channels-last where it is (and really has channels), else contiguous; owned. */
static pg_status as_images(pg_ctx *ctx, pg_tensor *t, int sp, bool last, pg_tensor **out,
                           images *im) {
  pg_tensor *a;
  PG_TRY(alias4(ctx, t, sp, &a));
  pg_status s = last ? pg__channels_last(ctx, a, out) : pg__contiguous(ctx, a, out);
  pg_tensor_unref(a);
  PG_TRY(s);
  im->last = last;
  im->c = t->shape[t->nd - sp - 1];
  im->lanes = last ? im->c : 1;
  im->blocks = (*out)->shape[0] * (last ? 1 : im->c);
  return PG_OK;
}

static bool wants_last(const pg_tensor *t, int sp) {
  if (pg_is_contiguous(t)) return false;
  int c = t->nd - sp - 1;
  return t->stride[c] == 1 && t->shape[c] > 1;
}

/* Declares an output of in[0]'s kind of image with oh x ow pixels, in its memory order. */
static pg_status out_images(pg_call *c, int j, pg_dtype dtype, const pg_tensor *x, int sp,
                            int64_t oh, int64_t ow) {
  int64_t shape[4];
  memcpy(shape, x->shape, sizeof *shape * x->nd);
  if (sp == 2) shape[x->nd - 2] = oh;
  shape[x->nd - 1] = ow;
  PG_TRY(pg_out_shape(c, j, dtype, x->nd, shape));
  if (!wants_last(x, sp)) return PG_OK;
  int64_t channels = x->shape[x->nd - sp - 1], n = channels;
  pg_out *o = &c->os[j];
  o->strided = true;
  for (int d = x->nd - 1; d >= x->nd - sp; d--) {
    o->stride[d] = n;
    n *= shape[d];
  }
  o->stride[x->nd - sp - 1] = 1;
  if (x->nd == sp + 2) o->stride[0] = n;
  return PG_OK;
}

static pg_status check_images(pg_call *c, int sp) {
  PG_TRY(pg_want(c, 0, PG_M_REAL));
  const pg_tensor *x = c->in[0];
  if (x->nd != sp + 1 && x->nd != sp + 2)
    return pg_fail(c->ctx, PG_ESHAPE, "argument 'input': expected %d or %d dims, got %s", sp + 1,
                   sp + 2, pg_shape_str(x).s);
  for (int d = x->nd - sp; d < x->nd; d++)
    if (!x->shape[d])
      return pg_fail(c->ctx, PG_ESHAPE, "argument 'input': images %s have no pixels",
                     pg_shape_str(x).s);
  return PG_OK;
}

/* Window along the last sp dims from kernel, stride, padding, dilation and ceil_mode. */
static pg_status explicit_window(pg_call *c, int sp, int dilation_arg, int ceil_arg, window *w) {
  pg_ctx *ctx = c->ctx;
  const pg_tensor *x = c->in[0];
  int64_t k[2] = {1, 1}, stride[2], pad[2] = {0}, dilation[2] = {1, 1};
  PG_TRY(pg_arg_ints(c, 0, sp, 1, k));
  memcpy(stride, k, sizeof k);
  if (c->arg[1].set && c->arg[1].n) PG_TRY(pg_arg_ints(c, 1, sp, 1, stride));
  PG_TRY(pg_arg_ints(c, 2, sp, 0, pad));
  if (dilation_arg >= 0) PG_TRY(pg_arg_ints(c, dilation_arg, sp, 1, dilation));
  bool ceil_mode = c->arg[ceil_arg].i != 0;
  *w = (window){.ih = sp == 1 ? 1 : x->shape[x->nd - 2], .iw = x->shape[x->nd - 1], .oh = 1};
  for (int a = 0; a < 2; a++) w->k[a] = w->stride[a] = w->dilation[a] = 1;
  for (int i = 0; i < sp; i++) {
    int a = i + 2 - sp;
    int64_t in = a ? w->iw : w->ih;
    if (pad[i] > k[i] / 2)
      return pg_fail(ctx, PG_EARG, "padding %lld is more than half of the kernel, %lld",
                     (long long)pad[i], (long long)k[i]);
    int64_t span = in + 2 * pad[i] - dilation[i] * (k[i] - 1) - 1;
    if (span < 0)
      return pg_fail(ctx, PG_ESHAPE, "a kernel of %lld does not fit into %s", (long long)k[i],
                     pg_shape_str(x).s);
    int64_t out = (span + (ceil_mode ? stride[i] - 1 : 0)) / stride[i] + 1;
    if (ceil_mode && (out - 1) * stride[i] >= in + pad[i])
      out--; /* no window may start in the padding */
    w->k[a] = k[i];
    w->stride[a] = stride[i];
    w->pad[a] = pad[i];
    w->dilation[a] = dilation[i];
    if (a) w->ow = out;
    else w->oh = out;
  }
  return PG_OK;
}

/* --- max -------------------------------------------------------------------------------------- */

/* Work shared by the loops: x and y are images of T, index the place of the maximum within its
 * window (tap number), one byte or eight. */
typedef struct job {
  const void *x;
  void *y, *index;
  images im;
  window w;
  bool wide;
} job;

static inline int64_t get_index(const job *j, int64_t i) {
  return j->wide ? ((const int64_t *)j->index)[i] : ((const uint8_t *)j->index)[i];
}

static inline void put_index(const job *j, int64_t at, int64_t n, const int32_t *from) {
  if (j->wide)
    for (int64_t i = 0; i < n; i++) ((int64_t *)j->index)[at + i] = from[i];
  else
    for (int64_t i = 0; i < n; i++) ((uint8_t *)j->index)[at + i] = (uint8_t)from[i];
}

/* The first maximum wins; NaN wins over everything. */
#define MAX_POOL(T, SUFFIX)                                                                      \
  static void max_lanes_##SUFFIX(int64_t n, const T *restrict x, int32_t tap, T *restrict best,  \
                                 int32_t *restrict at) {                                         \
    for (int64_t i = 0; i < n; i++) {                                                            \
      const T v = x[i];                                                                          \
      const int take = !(v <= best[i]);                                                          \
      best[i] = take ? v : best[i];                                                              \
      at[i] = take ? tap : at[i];                                                                \
    }                                                                                            \
  }                                                                                              \
  static void max_pool_##SUFFIX(void *arg, int64_t begin, int64_t end) {                         \
    const job *j = arg;                                                                          \
    const window *w = &j->w;                                                                     \
    const int64_t lanes = j->im.lanes;                                                           \
    for (int64_t row = begin; row < end; row++) {                                                \
      const int64_t b = row / w->oh, oy = row % w->oh;                                           \
      const T *x = (const T *)j->x + b * w->ih * w->iw * lanes;                                  \
      const range ry = taps(w, 0, oy);                                                           \
      for (int64_t ox = 0; ox < w->ow; ox++) {                                                   \
        const range rx = taps(w, 1, ox);                                                         \
        const int64_t width = w->adaptive ? rx.end - rx.begin : w->k[1];                         \
        for (int64_t l = 0; l < lanes; l += LANES) {                                             \
          const int64_t n = pg_min64(LANES, lanes - l);                                          \
          T best[LANES];                                                                         \
          int32_t at[LANES];                                                                     \
          const int64_t first = ry.tap * width + rx.tap;                                         \
          for (int64_t i = 0; i < n; i++) {                                                      \
            best[i] = -(T)INFINITY;                                                              \
            at[i] = (int32_t)first;                                                              \
          }                                                                                      \
          for (int64_t y = ry.begin, ky = ry.tap; y < ry.end; y += ry.step, ky++)                \
            for (int64_t p = rx.begin, kx = rx.tap; p < rx.end; p += rx.step, kx++)              \
              max_lanes_##SUFFIX(n, x + (y * w->iw + p) * lanes + l, (int32_t)(ky * width + kx), \
                                 best, at);                                                      \
          const int64_t o = (row * w->ow + ox) * lanes + l;                                      \
          memcpy((T *)j->y + o, best, (size_t)n * sizeof(T));                                    \
          if (j->index) put_index(j, o, n, at);                                                  \
        }                                                                                        \
      }                                                                                          \
    }                                                                                            \
  }                                                                                              \
  /* y (image) += x (pooled) at the index, for whole blocks */                                   \
  static void max_scatter_##SUFFIX(void *arg, int64_t begin, int64_t end) {                      \
    const job *j = arg;                                                                          \
    const window *w = &j->w;                                                                     \
    const int64_t lanes = j->im.lanes;                                                           \
    for (int64_t b = begin; b < end; b++) {                                                      \
      T *y = (T *)j->y + b * w->ih * w->iw * lanes;                                              \
      memset(y, 0, (size_t)(w->ih * w->iw * lanes) * sizeof(T));                                 \
      for (int64_t oy = 0; oy < w->oh; oy++)                                                     \
        for (int64_t ox = 0; ox < w->ow; ox++) {                                                 \
          const range ry = taps(w, 0, oy), rx = taps(w, 1, ox);                                  \
          const int64_t width = w->adaptive ? rx.end - rx.begin : w->k[1];                       \
          const int64_t o = ((b * w->oh + oy) * w->ow + ox) * lanes;                             \
          const T *g = (const T *)j->x + o;                                                      \
          for (int64_t l = 0; l < lanes; l++) {                                                  \
            const int64_t tap = get_index(j, o + l);                                             \
            const int64_t py = ry.begin + (tap / width - ry.tap) * ry.step;                      \
            const int64_t px = rx.begin + (tap % width - rx.tap) * rx.step;                      \
            y[(py * w->iw + px) * lanes + l] += g[l];                                            \
          }                                                                                      \
        }                                                                                        \
    }                                                                                            \
  }                                                                                              \
  /* y (pooled) = x (image) at the index */                                                      \
  static void max_gather_##SUFFIX(void *arg, int64_t begin, int64_t end) {                       \
    const job *j = arg;                                                                          \
    const window *w = &j->w;                                                                     \
    const int64_t lanes = j->im.lanes;                                                           \
    for (int64_t b = begin; b < end; b++)                                                        \
      for (int64_t oy = 0; oy < w->oh; oy++)                                                     \
        for (int64_t ox = 0; ox < w->ow; ox++) {                                                 \
          const range ry = taps(w, 0, oy), rx = taps(w, 1, ox);                                  \
          const int64_t width = w->adaptive ? rx.end - rx.begin : w->k[1];                       \
          const int64_t o = ((b * w->oh + oy) * w->ow + ox) * lanes;                             \
          const T *x = (const T *)j->x + b * w->ih * w->iw * lanes;                              \
          for (int64_t l = 0; l < lanes; l++) {                                                  \
            const int64_t tap = get_index(j, o + l);                                             \
            const int64_t py = ry.begin + (tap / width - ry.tap) * ry.step;                      \
            const int64_t px = rx.begin + (tap % width - rx.tap) * rx.step;                      \
            ((T *)j->y)[o + l] = x[(py * w->iw + px) * lanes + l];                               \
          }                                                                                      \
        }                                                                                        \
  }                                                                                              \
  static void sum_lanes_##SUFFIX(int64_t n, const T *restrict x, T k, T *restrict y) {           \
    for (int64_t i = 0; i < n; i++) y[i] += k * x[i];                                            \
  }                                                                                              \
  /* y (pooled) = mean of x (image) over each window */                                          \
  static void avg_pool_##SUFFIX(void *arg, int64_t begin, int64_t end) {                         \
    const job *j = arg;                                                                          \
    const window *w = &j->w;                                                                     \
    const int64_t lanes = j->im.lanes;                                                           \
    for (int64_t row = begin; row < end; row++) {                                                \
      const int64_t b = row / w->oh, oy = row % w->oh;                                           \
      const T *x = (const T *)j->x + b * w->ih * w->iw * lanes;                                  \
      const range ry = taps(w, 0, oy);                                                           \
      for (int64_t ox = 0; ox < w->ow; ox++) {                                                   \
        const range rx = taps(w, 1, ox);                                                         \
        T *y = (T *)j->y + (row * w->ow + ox) * lanes;                                           \
        const T k = (T)1 / (T)divisor(w, ry, rx);                                                \
        memset(y, 0, (size_t)lanes * sizeof(T));                                                 \
        for (int64_t py = ry.begin; py < ry.end; py++)                                           \
          for (int64_t px = rx.begin; px < rx.end; px++)                                         \
            sum_lanes_##SUFFIX(lanes, x + (py * w->iw + px) * lanes, k, y);                      \
      }                                                                                          \
    }                                                                                            \
  }                                                                                              \
  /* y (image) = x (pooled) spread over its windows */                                           \
  static void avg_spread_##SUFFIX(void *arg, int64_t begin, int64_t end) {                       \
    const job *j = arg;                                                                          \
    const window *w = &j->w;                                                                     \
    const int64_t lanes = j->im.lanes;                                                           \
    for (int64_t b = begin; b < end; b++) {                                                      \
      T *y = (T *)j->y + b * w->ih * w->iw * lanes;                                              \
      memset(y, 0, (size_t)(w->ih * w->iw * lanes) * sizeof(T));                                 \
      for (int64_t oy = 0; oy < w->oh; oy++)                                                     \
        for (int64_t ox = 0; ox < w->ow; ox++) {                                                 \
          const range ry = taps(w, 0, oy), rx = taps(w, 1, ox);                                  \
          const T *x = (const T *)j->x + ((b * w->oh + oy) * w->ow + ox) * lanes;                \
          const T k = (T)1 / (T)divisor(w, ry, rx);                                              \
          for (int64_t py = ry.begin; py < ry.end; py++)                                         \
            for (int64_t px = rx.begin; px < rx.end; px++)                                       \
              sum_lanes_##SUFFIX(lanes, x, k, y + (py * w->iw + px) * lanes);                    \
        }                                                                                        \
    }                                                                                            \
  }

static int64_t divisor(const window *w, range ry, range rx) {
  if (w->divisor) return w->divisor;
  if (w->count_pad) return ry.padded * rx.padded;
  return (ry.end - ry.begin) * (rx.end - rx.begin);
}

MAX_POOL(float, f32)
MAX_POOL(double, f64)

/* Runs a loop over rows of pooled pixels, or over whole blocks. x and y are images in one memory
 * order. */
static void run(pg_ctx *ctx, job *j, bool f64, pg_par_fn fn32, pg_par_fn fn64, bool rows) {
  const window *w = &j->w;
  int64_t area =
      (w->adaptive ? (w->ih / w->oh + 1) * (w->iw / w->ow + 1) : w->k[0] * w->k[1]) * j->im.lanes;
  if (rows) pg_par_for(ctx, j->im.blocks * w->oh, pg_grain(w->ow * area), f64 ? fn64 : fn32, j);
  else pg_par_for(ctx, j->im.blocks, pg_grain(w->oh * w->ow * area), f64 ? fn64 : fn32, j);
}

/* y = pooled x; *index gets the places where wanted. */
static pg_status max_run(pg_ctx *ctx, pg_tensor *x, int sp, const window *w, pg_tensor *y,
                         pg_tensor **index) {
  pg_tensor *xi = NULL, *yi = NULL;
  job j = {.w = *w, .wide = w->adaptive || w->k[0] * w->k[1] > 256};
  bool f64 = x->dtype == PG_F64, last = wants_last(x, sp);
  pg_status s = PG_OK;
  if (index) s = pg_tensor_new_like(ctx, y, j.wide ? PG_I64 : PG_U8, index);
  images out;
  if (s == PG_OK) s = as_images(ctx, x, sp, last, &xi, &j.im);
  if (s == PG_OK) s = as_images(ctx, y, sp, last, &yi, &out);
  if (s == PG_OK && pg_numel(y)) {
    PG_ASSERT(yi->storage == y->storage);
    j.x = pg_data(xi);
    j.y = pg_data(yi);
    j.index = index ? pg_data(*index) : NULL;
    run(ctx, &j, f64, max_pool_f32, max_pool_f64, true);
  }
  pg_tensor_unref(yi);
  pg_tensor_unref(xi);
  return s;
}

static pg_status max_infer(pg_call *c, int sp) {
  window w;
  PG_TRY(check_images(c, sp));
  PG_TRY(explicit_window(c, sp, 3, 4, &w));
  return out_images(c, 0, (pg_dtype)c->in[0]->dtype, c->in[0], sp, w.oh, w.ow);
}

static pg_status max1_infer(pg_call *c) { return max_infer(c, 1); }
static pg_status max2_infer(pg_call *c) { return max_infer(c, 2); }

static pg_status max_forward(pg_call *c, int sp) {
  window w;
  PG_TRY(explicit_window(c, sp, 3, 4, &w));
  return max_run(c->ctx, c->in[0], sp, &w, c->out[0], c->recording ? &c->keep[0] : NULL);
}

static pg_status max1_forward(pg_call *c) { return max_forward(c, 1); }
static pg_status max2_forward(pg_call *c) { return max_forward(c, 2); }

/* The window again, from the shapes that backward has. */
static pg_status window_again(pg_call *c, int sp, pg_status (*make)(pg_call *, int, window *),
                              window *w) {
  pg_tensor shell = {.ctx = c->ctx, .dtype = c->meta[0].dtype, .nd = c->meta[0].nd};
  memcpy(shell.shape, c->meta[0].shape, sizeof shell.shape);
  pg_tensor *in[1] = {&shell}, **saved = c->in;
  c->in = in;
  pg_status s = make(c, sp, w);
  c->in = saved;
  return s;
}

static pg_status max_window(pg_call *c, int sp, window *w) {
  return explicit_window(c, sp, 3, 4, w);
}

/* op: "pool_scatter" and its like, with the window and the shape of the image. */
static pg_status linear_op(pg_call *c, const char *op, int sp, const window *w, pg_tensor *index,
                           pg_tensor **out) {
  int64_t v[WINDOW_INTS];
  window_ints(w, v);
  if (index) return pg_do(c->ctx, out, op, "ttil", c->gout[0], index, (int64_t)sp, WINDOW_INTS, v);
  return pg_do(c->ctx, out, op, "til", c->gout[0], (int64_t)sp, WINDOW_INTS, v);
}

static pg_status max_backward(pg_call *c, int sp) {
  window w;
  PG_TRY(window_again(c, sp, max_window, &w));
  return linear_op(c, "pool_scatter", sp, &w, c->keep[0], &c->gin[0]);
}

static pg_status max1_backward(pg_call *c) { return max_backward(c, 1); }
static pg_status max2_backward(pg_call *c) { return max_backward(c, 2); }

/* --- adaptive --------------------------------------------------------------------------------- */

static pg_status adaptive_window(pg_call *c, int sp, window *w) {
  const pg_tensor *x = c->in[0];
  int64_t out[2];
  PG_TRY(pg_arg_ints(c, 0, sp, 1, out));
  *w = (window){.ih = sp == 1 ? 1 : x->shape[x->nd - 2],
                .iw = x->shape[x->nd - 1],
                .oh = sp == 1 ? 1 : out[0],
                .ow = out[sp - 1],
                .adaptive = true};
  return PG_OK;
}

static pg_status adaptive_infer(pg_call *c, int sp) {
  window w;
  PG_TRY(check_images(c, sp));
  PG_TRY(adaptive_window(c, sp, &w));
  return out_images(c, 0, (pg_dtype)c->in[0]->dtype, c->in[0], sp, w.oh, w.ow);
}

static pg_status adaptive1_infer(pg_call *c) { return adaptive_infer(c, 1); }
static pg_status adaptive2_infer(pg_call *c) { return adaptive_infer(c, 2); }

static pg_status adaptive_max_forward(pg_call *c, int sp) {
  window w;
  PG_TRY(adaptive_window(c, sp, &w));
  return max_run(c->ctx, c->in[0], sp, &w, c->out[0], c->recording ? &c->keep[0] : NULL);
}

static pg_status adaptive_max1_forward(pg_call *c) { return adaptive_max_forward(c, 1); }
static pg_status adaptive_max2_forward(pg_call *c) { return adaptive_max_forward(c, 2); }

static pg_status adaptive_max_backward(pg_call *c, int sp) {
  window w;
  PG_TRY(window_again(c, sp, adaptive_window, &w));
  return linear_op(c, "pool_scatter", sp, &w, c->keep[0], &c->gin[0]);
}

static pg_status adaptive_max1_backward(pg_call *c) { return adaptive_max_backward(c, 1); }
static pg_status adaptive_max2_backward(pg_call *c) { return adaptive_max_backward(c, 2); }

/* --- average ---------------------------------------------------------------------------------- */

/* y = x pooled or spread, by the window; both in x's memory order. */
static pg_status avg_run(pg_ctx *ctx, pg_tensor *x, int sp, const window *w, bool spread,
                         pg_tensor *y) {
  pg_tensor *xi = NULL, *yi = NULL;
  job j = {.w = *w};
  images out;
  bool f64 = x->dtype == PG_F64, last = wants_last(x, sp);
  pg_status s = as_images(ctx, x, sp, last, &xi, &j.im);
  if (s == PG_OK) s = as_images(ctx, y, sp, last, &yi, &out);
  if (s == PG_OK && pg_numel(y)) {
    PG_ASSERT(yi->storage == y->storage);
    j.x = pg_data(xi);
    j.y = pg_data(yi);
    if (spread) run(ctx, &j, f64, avg_spread_f32, avg_spread_f64, false);
    else run(ctx, &j, f64, avg_pool_f32, avg_pool_f64, true);
  }
  pg_tensor_unref(yi);
  pg_tensor_unref(xi);
  return s;
}

static pg_status avg_window(pg_call *c, int sp, window *w) {
  PG_TRY(explicit_window(c, sp, -1, 3, w));
  w->count_pad = c->arg[4].i != 0;
  if (sp == 1) return PG_OK;
  const pg_arg *by = &c->arg[5];
  if (by->set && by->i == 0) return pg_fail(c->ctx, PG_EARG, "divisor_override is zero");
  w->divisor = by->set ? by->i : 0;
  return PG_OK;
}

static pg_status avg_infer(pg_call *c, int sp) {
  window w;
  PG_TRY(check_images(c, sp));
  PG_TRY(avg_window(c, sp, &w));
  return out_images(c, 0, (pg_dtype)c->in[0]->dtype, c->in[0], sp, w.oh, w.ow);
}

static pg_status avg1_infer(pg_call *c) { return avg_infer(c, 1); }
static pg_status avg2_infer(pg_call *c) { return avg_infer(c, 2); }

static pg_status avg_forward(pg_call *c, int sp) {
  window w;
  PG_TRY(avg_window(c, sp, &w));
  return avg_run(c->ctx, c->in[0], sp, &w, false, c->out[0]);
}

static pg_status avg1_forward(pg_call *c) { return avg_forward(c, 1); }
static pg_status avg2_forward(pg_call *c) { return avg_forward(c, 2); }

static pg_status avg_backward(pg_call *c, int sp) {
  window w;
  PG_TRY(window_again(c, sp, avg_window, &w));
  return linear_op(c, "pool_spread", sp, &w, NULL, &c->gin[0]);
}

static pg_status avg1_backward(pg_call *c) { return avg_backward(c, 1); }
static pg_status avg2_backward(pg_call *c) { return avg_backward(c, 2); }

static pg_status adaptive_avg_forward(pg_call *c, int sp) {
  window w;
  PG_TRY(adaptive_window(c, sp, &w));
  return avg_run(c->ctx, c->in[0], sp, &w, false, c->out[0]);
}

static pg_status adaptive_avg1_forward(pg_call *c) { return adaptive_avg_forward(c, 1); }
static pg_status adaptive_avg2_forward(pg_call *c) { return adaptive_avg_forward(c, 2); }

static pg_status adaptive_avg_backward(pg_call *c, int sp) {
  window w;
  PG_TRY(window_again(c, sp, adaptive_window, &w));
  return linear_op(c, "pool_spread", sp, &w, NULL, &c->gin[0]);
}

static pg_status adaptive_avg1_backward(pg_call *c) { return adaptive_avg_backward(c, 1); }
static pg_status adaptive_avg2_backward(pg_call *c) { return adaptive_avg_backward(c, 2); }

/* --- the linear ops behind the gradients ------------------------------------------------------ */

enum { SP, WINDOW };

static pg_status to_image_infer(pg_call *c) {
  window w = window_of(c->arg[WINDOW].v);
  return out_images(c, 0, (pg_dtype)c->in[0]->dtype, c->in[0], (int)c->arg[SP].i, w.ih, w.iw);
}

static pg_status to_pooled_infer(pg_call *c) {
  window w = window_of(c->arg[WINDOW].v);
  return out_images(c, 0, (pg_dtype)c->in[0]->dtype, c->in[0], (int)c->arg[SP].i, w.oh, w.ow);
}

/* Scatter or gather by an index that has the pooled image's shape. */
static pg_status index_run(pg_call *c, bool scatter) {
  pg_ctx *ctx = c->ctx;
  int sp = (int)c->arg[SP].i;
  pg_tensor *x = c->in[0], *y = c->out[0], *xi = NULL, *yi = NULL, *ii = NULL;
  bool last = wants_last(x, sp);
  job j = {.w = window_of(c->arg[WINDOW].v), .wide = c->in[1]->dtype == PG_I64};
  images other;
  pg_status s = as_images(ctx, x, sp, last, &xi, &j.im);
  if (s == PG_OK) s = as_images(ctx, y, sp, last, &yi, &other);
  if (s == PG_OK) s = as_images(ctx, c->in[1], sp, last, &ii, &other);
  if (s == PG_OK && pg_numel(y)) {
    PG_ASSERT(yi->storage == y->storage);
    j.x = pg_data(xi);
    j.y = pg_data(yi);
    j.index = pg_data(ii);
    bool f64 = x->dtype == PG_F64;
    if (scatter) run(ctx, &j, f64, max_scatter_f32, max_scatter_f64, false);
    else run(ctx, &j, f64, max_gather_f32, max_gather_f64, false);
  }
  pg_tensor_unref(ii);
  pg_tensor_unref(yi);
  pg_tensor_unref(xi);
  return s;
}

static pg_status scatter_forward(pg_call *c) { return index_run(c, true); }
static pg_status gather_forward(pg_call *c) { return index_run(c, false); }

static pg_status opposite(pg_call *c, const char *op, bool indexed) {
  window w = window_of(c->arg[WINDOW].v);
  return linear_op(c, op, (int)c->arg[SP].i, &w, indexed ? c->in[1] : NULL, &c->gin[0]);
}

static pg_status scatter_backward(pg_call *c) { return opposite(c, "pool_gather", true); }
static pg_status gather_backward(pg_call *c) { return opposite(c, "pool_scatter", true); }
static pg_status spread_backward(pg_call *c) { return opposite(c, "pool_mean", false); }
static pg_status mean_backward(pg_call *c) { return opposite(c, "pool_spread", false); }

static pg_status spread_forward(pg_call *c) {
  window w = window_of(c->arg[WINDOW].v);
  return avg_run(c->ctx, c->in[0], (int)c->arg[SP].i, &w, true, c->out[0]);
}

static pg_status mean_forward(pg_call *c) {
  window w = window_of(c->arg[WINDOW].v);
  return avg_run(c->ctx, c->in[0], (int)c->arg[SP].i, &w, false, c->out[0]);
}

#define MAX_ARGS                                                            \
  PG_T("input"), PG_REQ("kernel_size", PG_INTS), PG_OPT("stride", PG_INTS), \
      PG_DEF("padding", PG_INTS, 0), PG_DEF("dilation", PG_INTS, 1),        \
      PG_DEF("ceil_mode", PG_FLAG, 0)
#define AVG_ARGS                                                            \
  PG_T("input"), PG_REQ("kernel_size", PG_INTS), PG_OPT("stride", PG_INTS), \
      PG_DEF("padding", PG_INTS, 0), PG_DEF("ceil_mode", PG_FLAG, 0),       \
      PG_DEF("count_include_pad", PG_FLAG, 1)
#define LINEAR_ARGS PG_REQ("dims", PG_INT), PG_REQ("window", PG_INTS)

const pg_op PG_AT(pg_ops_pool)[] = {
    {"max_pool2d",
     "The largest value of each window of N x C x H x W images; stride defaults to kernel_size.",
     {MAX_ARGS},
     PG_NN,
     0,
     1,
     max2_infer,
     {max2_forward},
     max2_backward},
    {"max_pool1d",
     "The largest value of each window of N x C x L signals; stride defaults to kernel_size.",
     {MAX_ARGS},
     PG_NN,
     0,
     1,
     max1_infer,
     {max1_forward},
     max1_backward},
    {"avg_pool2d",
     "The mean of each window of N x C x H x W images; stride defaults to kernel_size.",
     {AVG_ARGS, PG_OPT("divisor_override", PG_INT)},
     PG_NN,
     0,
     1,
     avg2_infer,
     {avg2_forward},
     avg2_backward},
    {"avg_pool1d",
     "The mean of each window of N x C x L signals; stride defaults to kernel_size.",
     {AVG_ARGS},
     PG_NN,
     0,
     1,
     avg1_infer,
     {avg1_forward},
     avg1_backward},
    {"adaptive_avg_pool2d",
     "The mean over output_size even cuts of N x C x H x W images.",
     {PG_T("input"), PG_REQ("output_size", PG_INTS)},
     PG_NN,
     0,
     1,
     adaptive2_infer,
     {adaptive_avg2_forward},
     adaptive_avg2_backward},
    {"adaptive_avg_pool1d",
     "The mean over output_size even cuts of N x C x L signals.",
     {PG_T("input"), PG_REQ("output_size", PG_INTS)},
     PG_NN,
     0,
     1,
     adaptive1_infer,
     {adaptive_avg1_forward},
     adaptive_avg1_backward},
    {"adaptive_max_pool2d",
     "The largest value over output_size even cuts of N x C x H x W images.",
     {PG_T("input"), PG_REQ("output_size", PG_INTS)},
     PG_NN,
     0,
     1,
     adaptive2_infer,
     {adaptive_max2_forward},
     adaptive_max2_backward},
    {"adaptive_max_pool1d",
     "The largest value over output_size even cuts of N x C x L signals.",
     {PG_T("input"), PG_REQ("output_size", PG_INTS)},
     PG_NN,
     0,
     1,
     adaptive1_infer,
     {adaptive_max1_forward},
     adaptive_max1_backward},
    {"pool_scatter",
     "Adds each pooled value to the pixel that its index names.",
     {PG_T("input"), PG_TIDX("index"), LINEAR_ARGS},
     PG_HIDDEN,
     PG_SAVE_IN(1),
     1,
     to_image_infer,
     {scatter_forward},
     scatter_backward},
    {"pool_gather",
     "Reads the pixel that the index of each window names.",
     {PG_T("input"), PG_TIDX("index"), LINEAR_ARGS},
     PG_HIDDEN,
     PG_SAVE_IN(1),
     1,
     to_pooled_infer,
     {gather_forward},
     gather_backward},
    {"pool_spread",
     "Spreads each pooled value evenly over its window.",
     {PG_T("input"), LINEAR_ARGS},
     PG_HIDDEN,
     0,
     1,
     to_image_infer,
     {spread_forward},
     spread_backward},
    {"pool_mean",
     "The mean of each window.",
     {PG_T("input"), LINEAR_ARGS},
     PG_HIDDEN,
     0,
     1,
     to_pooled_infer,
     {mean_forward},
     mean_backward},
    {0}};
