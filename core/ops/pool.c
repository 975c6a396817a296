/* Pooling of 1-d and 2-d images: max, average, power mean, adaptive; their gradients are linear ops
 * of their own. Lanes of channels are walked together where images are channels-last. Relies on
 * autograd/op.h. Spec: spec/ops/pool_spec.lua. */
#include <math.h>
#include <string.h>

#include "autograd/node.h"
#include "base/par.h"
#include "ops/chain.h"
#include "ops/lanes.h"

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

static pg_status check_images_of(pg_call *c, int sp, unsigned dtypes) {
  PG_TRY(pg_want(c, 0, dtypes));
  const pg_tensor *x = c->in[0];
  if (x->nd != sp + 1 && x->nd != sp + 2)
    return pg_fail(c->ctx, PG_ESHAPE, "argument 'input': expected %d or %d dims, got %s", sp + 1,
                   sp + 2, pg_shape_str(x).s);
  for (int d = x->nd - sp; d < x->nd; d++)
    if (!x->shape[d]) return pg_bad_in(c, PG_ESHAPE, 0, "images with pixels");
  return PG_OK;
}

static pg_status check_images(pg_call *c, int sp) { return check_images_of(c, sp, PG_M_REAL); }

enum { MOST = INT32_MAX }; /* so that products of two arguments fit */

static pg_status read_ints(pg_call *c, int k, int n, int64_t least, int64_t *v) {
  PG_TRY(pg_arg_ints(c, k, n, least, v));
  for (int i = 0; i < n; i++)
    if (v[i] > MOST)
      return pg_fail(c->ctx, PG_EARG, "argument '%s': expected at most %d, got %lld",
                     pg_arg_name(c, k), MOST, (long long)v[i]);
  return PG_OK;
}

/* Window along the last sp dims. at: the argument kernel_size, stride comes after it; padding_at,
 * dilation_at: -1 where the op has none. */
static pg_status explicit_window(pg_call *c, int sp, int at, int padding_at, int dilation_at,
                                 int ceil_at, window *w) {
  const pg_tensor *x = c->in[0];
  int64_t k[2] = {1, 1}, stride[2], pad[2] = {0}, dilation[2] = {1, 1};
  PG_TRY(read_ints(c, at, sp, 1, k));
  memcpy(stride, k, sizeof k);
  if (c->arg[at + 1].set && c->arg[at + 1].n) PG_TRY(read_ints(c, at + 1, sp, 1, stride));
  if (padding_at >= 0) PG_TRY(read_ints(c, padding_at, sp, 0, pad));
  if (dilation_at >= 0) PG_TRY(read_ints(c, dilation_at, sp, 1, dilation));
  if (k[0] * k[1] > MOST) return pg_bad_arg(c, PG_EARG, at, "at most %d taps", MOST);
  bool ceil_mode = c->arg[ceil_at].i != 0;
  *w = (window){.ih = sp == 1 ? 1 : x->shape[x->nd - 2], .iw = x->shape[x->nd - 1], .oh = 1};
  for (int a = 0; a < 2; a++) w->k[a] = w->stride[a] = w->dilation[a] = 1;
  for (int i = 0; i < sp; i++) {
    int a = i + 2 - sp;
    int64_t in = a ? w->iw : w->ih;
    const int64_t reach = dilation[i] * (k[i] - 1) + 1;
    if (pad[i] > reach / 2)
      return pg_bad_arg(c, PG_EARG, padding_at, "at most half of the kernel of %lld",
                        (long long)reach);
    const int64_t span = in + 2 * pad[i] - reach + (ceil_mode ? stride[i] - 1 : 0);
    if (span < 0)
      return pg_bad_arg(c, PG_ESHAPE, at, "a kernel that fits into input %s", pg_shape_str(x).s);
    int64_t out = span / stride[i] + 1;
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

/* --- the loops -------------------------------------------------------------------------------- */

/* Work shared by the loops. index holds the tap number of each maximum, one byte or eight. A unit
 * is `rows` rows of pooled pixels: one, or those of a whole block where windows write into a common
 * image. */
typedef struct job {
  void *image, *pooled, *index;
  images im;
  window w;
  int64_t rows;
  bool wide;       /* eight bytes in index */
  bool clear, add; /* into the image: zero it first; windows overlap */
} job;

/* Pooled values that are walked together: lanes of one pixel, or pixels of a row where an image has
 * one lane. */
typedef struct piece {
  int64_t at, n, ox, lane;
  int64_t width; /* taps in a row of the window */
  range rx;      /* of the pixel; unused where planar */
  bool planar;
} piece;

/* Elements [lo, hi) of a piece have the tap; that of lo is at `from` in the image, the next ones
 * `step` further on. */
typedef struct span {
  int64_t lo, hi, from, step;
} span;

static inline bool is_planar(const job *j) { return j->im.lanes == 1 && !j->w.adaptive; }

/* The piece that begins at pixel ox of a pooled row, at this lane. */
static inline piece piece_of(const job *j, int64_t row, int64_t ox, int64_t lane, bool planar) {
  const window *w = &j->w;
  piece p = {.planar = planar, .width = w->k[1], .ox = ox, .lane = lane};
  p.at = (row * w->ow + ox) * j->im.lanes + lane;
  if (planar) {
    p.n = pg_min64(LANES, w->ow - ox);
    return p;
  }
  p.n = pg_min64(LANES, j->im.lanes - lane);
  p.rx = taps(w, 1, ox);
  if (w->adaptive) p.width = p.rx.end - p.rx.begin;
  return p;
}

/* a / s, a >= 0, for steps that are mostly small. */
static inline int64_t divide(int64_t a, int64_t s) { return s == 1 ? a : s == 2 ? a >> 1 : a / s; }

static inline int64_t tap_begin(const piece *p) { return p->planar ? 0 : p->rx.tap; }

static inline int64_t tap_end(const piece *p) {
  if (p->planar) return p->width;
  const int64_t n = p->rx.end - p->rx.begin;
  return p->rx.tap + (n > 0 ? divide(n + p->rx.step - 1, p->rx.step) : 0);
}

static inline span span_of(const job *j, const piece *p, int64_t y, int64_t kx) {
  const window *w = &j->w;
  if (!p->planar) {
    const int64_t x = p->rx.begin + (kx - p->rx.tap) * p->rx.step;
    return (span){0, p->n, (y * w->iw + x) * j->im.lanes + p->lane, 1};
  }
  const int64_t s = w->stride[1], x = p->ox * s - w->pad[1] + kx * w->dilation[1];
  const int64_t lo = x < 0 ? divide(-x + s - 1, s) : 0;
  const int64_t hi = x < w->iw ? pg_min64(p->n, divide(w->iw - 1 - x, s) + 1) : 0;
  return (span){lo, hi, y * w->iw + x + lo * s, s};
}

static int64_t divisor(const window *w, range ry, range rx) {
  if (w->divisor) return w->divisor;
  if (w->count_pad) return ry.padded * rx.padded;
  return (ry.end - ry.begin) * (rx.end - rx.begin);
}

static inline void index_read(const job *j, const piece *p, int32_t *restrict at) {
  const int64_t n = p->n, *restrict wide = (const int64_t *)j->index + p->at;
  const uint8_t *restrict narrow = (const uint8_t *)j->index + p->at;
  if (j->wide)
    for (int64_t i = 0; i < n; i++) at[i] = (int32_t)wide[i];
  else
    for (int64_t i = 0; i < n; i++) at[i] = narrow[i];
}

static inline void index_write(const job *j, const piece *p, const int32_t *restrict at) {
  if (!j->index) return;
  const int64_t n = p->n;
  int64_t *restrict wide = (int64_t *)j->index + p->at;
  uint8_t *restrict narrow = (uint8_t *)j->index + p->at;
  if (j->wide)
    for (int64_t i = 0; i < n; i++) wide[i] = at[i];
  else
    for (int64_t i = 0; i < n; i++) narrow[i] = (uint8_t)at[i];
}

/* TAP(max_f32, float, const float, float, BODY): max_f32(n, x, s, tap, v, at) runs BODY for
 * v[i], x[i s] and at[i], i < n, with loops of their own for steps 1 and 2 and for 64 neighbours. X
 * and V are const where BODY only reads. */
#define TAP(NAME, X, V, AT, BODY)                                                                 \
  static inline void NAME##_step(int64_t n, X *restrict x, int64_t s, int32_t tap, V *restrict v, \
                                 AT *restrict at) {                                               \
    (void)tap, (void)at;                                                                          \
    for (int64_t i = 0; i < n; i++) BODY;                                                         \
  }                                                                                               \
  static void NAME(int64_t n, X *restrict x, int64_t s, int32_t tap, V *restrict v,               \
                   AT *restrict at) {                                                             \
    if (s == 1 && n == LANES) NAME##_step(LANES, x, 1, tap, v, at);                               \
    else if (s == 1) NAME##_step(n, x, 1, tap, v, at);                                            \
    else if (s == 2) NAME##_step(n, x, 2, tap, v, at);                                            \
    else NAME##_step(n, x, s, tap, v, at);                                                        \
  }

/* NAME(job, first, past): units of rows. For each piece: BEGIN, then EACH for every tap that lies
 * in the image, then END. They see j, w, ry, p, image (of the block), pooled (of the piece), s,
 * tap. */
#define LOOP(NAME, T, BEGIN, EACH, END)                                                          \
  static inline void NAME##_rows(const job *j, int64_t first, int64_t past, const bool planar) { \
    const window *w = &j->w;                                                                     \
    const int64_t lanes = j->im.lanes, area = w->ih * w->iw * lanes;                             \
    for (int64_t row = first; row < past; row++) {                                               \
      const range ry = taps(w, 0, row % w->oh);                                                  \
      T *image = (T *)j->image + row / w->oh * area;                                             \
      for (int64_t ox = 0; ox < w->ow; ox += planar ? LANES : 1)                                 \
        for (int64_t lane = 0; lane < lanes; lane += LANES) {                                    \
          const piece p = piece_of(j, row, ox, lane, planar);                                    \
          const int64_t kx_begin = tap_begin(&p), kx_end = tap_end(&p);                          \
          T *pooled = (T *)j->pooled + p.at;                                                     \
          BEGIN;                                                                                 \
          for (int64_t y = ry.begin, ky = ry.tap; y < ry.end; y += ry.step, ky++)                \
            for (int64_t kx = kx_begin; kx < kx_end; kx++) {                                     \
              const int32_t tap = (int32_t)(ky * p.width + kx);                                  \
              const span s = span_of(j, &p, y, kx);                                              \
              (void)tap;                                                                         \
              if (s.lo < s.hi) EACH;                                                             \
            }                                                                                    \
          END;                                                                                   \
        }                                                                                        \
    }                                                                                            \
  }                                                                                              \
  static void NAME(void *arg, int64_t first, int64_t past) {                                     \
    const job *j = arg;                                                                          \
    const size_t block = (size_t)(j->w.ih * j->w.iw * j->im.lanes) * sizeof(T);                  \
    if (j->clear)                                                                                \
      memset((char *)j->image + (size_t)first * block, 0, (size_t)(past - first) * block);       \
    if (is_planar(j)) NAME##_rows(j, first * j->rows, past * j->rows, true);                     \
    else NAME##_rows(j, first * j->rows, past * j->rows, false);                                 \
  }

#define POOL(T, SUFFIX)                                                                          \
  /* The first maximum wins; NaN wins over everything. */                                        \
  TAP(max_tap_##SUFFIX, const T, T, int32_t, {                                                   \
    const int take = (x[i * s] > v[i]) | (x[i * s] != x[i * s]);                                 \
    v[i] = take ? x[i * s] : v[i];                                                               \
    at[i] = take ? tap : at[i];                                                                  \
  })                                                                                             \
  TAP(pick_tap_##SUFFIX, const T, T, const int32_t, v[i] = at[i] == tap ? x[i * s] : v[i])       \
  TAP(put_tap_##SUFFIX, T, const T, const int32_t, x[i * s] = at[i] == tap ? v[i] : 0)           \
  TAP(add_tap_##SUFFIX, T, const T, const int32_t, x[i * s] += at[i] == tap ? v[i] : 0)          \
  TAP(sum_tap_##SUFFIX, const T, T, const int32_t, v[i] += x[i * s])                             \
  TAP(set_all_##SUFFIX, T, const T, const int32_t, x[i * s] = v[i])                              \
  TAP(add_all_##SUFFIX, T, const T, const int32_t, x[i * s] += v[i])                             \
  static void first_tap_##SUFFIX(const job *j, const piece *p, range ry, T *best, int32_t *at) { \
    for (int64_t i = 0; i < p->n; i++) {                                                         \
      const int64_t kx = p->planar ? taps(&j->w, 1, p->ox + i).tap : p->rx.tap;                  \
      best[i] = -(T)INFINITY;                                                                    \
      at[i] = (int32_t)(ry.tap * p->width + kx);                                                 \
    }                                                                                            \
  }                                                                                              \
  /* y = x / the number of elements in each window */                                            \
  static void divide_##SUFFIX(const job *j, const piece *p, range ry, const T *x, T *y) {        \
    if (p->planar) {                                                                             \
      for (int64_t i = 0; i < p->n; i++)                                                         \
        y[i] = x[i] / (T)divisor(&j->w, ry, taps(&j->w, 1, p->ox + i));                          \
      return;                                                                                    \
    }                                                                                            \
    const T by = (T)divisor(&j->w, ry, p->rx);                                                   \
    for (int64_t i = 0; i < p->n; i++) y[i] = x[i] / by;                                         \
  }                                                                                              \
  LOOP(max_pool_##SUFFIX, T, T best[LANES]; int32_t at[LANES];                                   \
       first_tap_##SUFFIX(j, &p, ry, best, at),                                                  \
       max_tap_##SUFFIX(s.hi - s.lo, image + s.from, s.step, tap, best + s.lo, at + s.lo),       \
       memcpy(pooled, best, (size_t)p.n * sizeof(T));                                            \
       index_write(j, &p, at))                                                                   \
  /* pooled = image at the index */                                                              \
  LOOP(max_gather_##SUFFIX, T, int32_t at[LANES]; index_read(j, &p, at);                         \
       memset(pooled, 0, (size_t)p.n * sizeof(T)),                                               \
       pick_tap_##SUFFIX(s.hi - s.lo, image + s.from, s.step, tap, pooled + s.lo, at + s.lo), )  \
  /* image += pooled at the index */                                                             \
  LOOP(max_scatter_##SUFFIX, T, int32_t at[LANES];                                               \
       index_read(j, &p, at),                                                                    \
       (j->add ? add_tap_##SUFFIX : put_tap_##SUFFIX)(s.hi - s.lo, image + s.from, s.step, tap,  \
                                                      pooled + s.lo, at + s.lo), )               \
  /* pooled = mean of each window of image */                                                    \
  LOOP(avg_pool_##SUFFIX, T, T sum[LANES];                                                       \
       for (int64_t i = 0; i < p.n; i++) sum[i] = 0,                                             \
       sum_tap_##SUFFIX(s.hi - s.lo, image + s.from, s.step, 0, sum + s.lo, NULL),               \
       divide_##SUFFIX(j, &p, ry, sum, pooled))                                                  \
  /* image += pooled spread over its windows */                                                  \
  LOOP(avg_spread_##SUFFIX, T, T part[LANES];                                                    \
       divide_##SUFFIX(j, &p, ry, pooled, part),                                                 \
       (j->add ? add_all_##SUFFIX : set_all_##SUFFIX)(s.hi - s.lo, image + s.from, s.step, 0,    \
                                                      part + s.lo, NULL), )

POOL(float, f32)
POOL(double, f64)

/* Windows that are runs of neighbours: whole rows of images with one lane. */
static bool whole_rows(const job *j) {
  const window *w = &j->w;
  return is_planar(j) && w->ow == 1 && w->k[1] == w->iw && !w->pad[0] && !w->pad[1] &&
         w->dilation[0] == 1 && w->dilation[1] == 1 && w->k[0] == w->stride[0] &&
         w->oh * w->k[0] == w->ih;
}

/* RUNS(f32, float): pooled[u] = mean of run u, and a run filled with pooled[u] / its length; of
 * units [first, past). */
#define RUNS(S, T)                                                              \
  static void mean_runs_##S(void *arg, int64_t first, int64_t past) {           \
    const job *j = arg;                                                         \
    const window *w = &j->w;                                                    \
    const int64_t n = w->k[0] * w->iw;                                          \
    const T by = (T)(w->divisor ? w->divisor : n);                              \
    for (int64_t u = first; u < past; u++)                                      \
      ((T *)j->pooled)[u] = lanes_sum_##S(n, (const T *)j->image + u * n) / by; \
  }                                                                             \
  static void fill_runs_##S(void *arg, int64_t first, int64_t past) {           \
    const job *j = arg;                                                         \
    const window *w = &j->w;                                                    \
    const int64_t n = w->k[0] * w->iw;                                          \
    const T by = (T)(w->divisor ? w->divisor : n);                              \
    for (int64_t u = first; u < past; u++) {                                    \
      const T v = ((const T *)j->pooled)[u] / by;                               \
      T *restrict y = (T *)j->image + u * n;                                    \
      for (int64_t i = 0; i < n; i++) y[i] = v;                                 \
    }                                                                           \
  }
RUNS(f32, float)
RUNS(f64, double)

/* Windows that lie inside images of several lanes. */
static bool is_inside(const job *j) {
  const window *w = &j->w;
  if (w->adaptive || j->im.lanes == 1 || w->pad[0] || w->pad[1]) return false;
  return (w->oh - 1) * w->stride[0] + (w->k[0] - 1) * w->dilation[0] < w->ih &&
         (w->ow - 1) * w->stride[1] + (w->k[1] - 1) * w->dilation[1] < w->iw;
}

/* INSIDE(f32, float): pooled = mean of each such window, over pooled rows [first, past). */
#define INSIDE(S, T)                                                                               \
  static inline void mean_lanes_##S(int64_t n, const T *restrict x, int64_t down, int64_t right,   \
                                    const int64_t *k, T by, T *restrict y) {                       \
    T sum[LANES];                                                                                  \
    for (int64_t i = 0; i < n; i++) sum[i] = 0;                                                    \
    for (int64_t a = 0; a < k[0]; a++)                                                             \
      for (int64_t b = 0; b < k[1]; b++) {                                                         \
        const T *restrict t = x + a * down + b * right;                                            \
        for (int64_t i = 0; i < n; i++) sum[i] += t[i];                                            \
      }                                                                                            \
    for (int64_t i = 0; i < n; i++) y[i] = sum[i] * by;                                            \
  }                                                                                                \
  static void mean_inside_##S(void *arg, int64_t first, int64_t past) {                            \
    const job *j = arg;                                                                            \
    const window *w = &j->w;                                                                       \
    const int64_t lanes = j->im.lanes, line = w->iw * lanes;                                       \
    const int64_t down = w->dilation[0] * line, right = w->dilation[1] * lanes;                    \
    const T by = 1 / (T)(w->divisor ? w->divisor : w->k[0] * w->k[1]);                             \
    for (int64_t row = first; row < past; row++) {                                                 \
      const int64_t top = row / w->oh * w->ih + row % w->oh * w->stride[0];                        \
      for (int64_t ox = 0; ox < w->ow; ox++) {                                                     \
        const T *x = (const T *)j->image + top * line + ox * w->stride[1] * lanes;                 \
        T *y = (T *)j->pooled + (row * w->ow + ox) * lanes;                                        \
        int64_t lane = 0;                                                                          \
        for (; lane + LANES <= lanes; lane += LANES)                                               \
          mean_lanes_##S(LANES, x + lane, down, right, w->k, by, y + lane);                        \
        if (lane < lanes) mean_lanes_##S(lanes - lane, x + lane, down, right, w->k, by, y + lane); \
      }                                                                                            \
    }                                                                                              \
  }
INSIDE(f32, float)
INSIDE(f64, double)

/* Windows of 2 x 2 that cover images with one lane, whose rows are not long. */
enum { TILE_ROW = 256, TILE_ROOM = 1024, TILE_STEP = 32 };
static bool is_tiled(const job *j) {
  const window *w = &j->w;
  bool tiled = is_planar(j) && !j->wide && w->ow <= TILE_ROW;
  for (int a = 0; a < 2; a++)
    tiled = tiled && w->k[a] == 2 && w->stride[a] == 2 && w->dilation[a] == 1 && !w->pad[a];
  return tiled && w->oh * 2 == w->ih && w->ow * 2 == w->iw;
}

/* TILES(f32, float): the loops for such windows, over pooled rows [first, past). Rows may be short
 * (4 pixels): some are taken together into buffers that have room for a step too much behind each
 * row, so that all loops have long or constant counts. */
#define TILES(S, T)                                                                              \
  /* a[i], b[i] = x[2 i], x[2 i + 1] */                                                          \
  static inline void split_##S(int64_t n, const T *restrict x, T *restrict a, T *restrict b) {   \
    for (int64_t i = 0; i < n; i++) {                                                            \
      a[i] = x[2 * i];                                                                           \
      b[i] = x[2 * i + 1];                                                                       \
    }                                                                                            \
  }                                                                                              \
  /* a[i] = the larger one of a[i] and b[i], the first one if equal; at[i] = 1 where it is b[i]. \
   */                                                                                            \
  static inline void larger_##S(int64_t n, T *restrict a, const T *restrict b,                   \
                                int32_t *restrict at) {                                          \
    for (int64_t i = 0; i < n; i++) {                                                            \
      const int take = (b[i] > a[i]) | (b[i] != b[i]);                                           \
      a[i] = take ? b[i] : a[i];                                                                 \
      at[i] = take ? 1 : 0;                                                                      \
    }                                                                                            \
  }                                                                                              \
  /* The same for the upper row (a, at) and the lower one. */                                    \
  static inline void upper_##S(T *restrict y, int32_t *restrict place, const T *restrict a,      \
                               const T *restrict b, const int32_t *restrict at,                  \
                               const int32_t *restrict bt) {                                     \
    for (int i = 0; i < TILE_STEP; i++) {                                                        \
      const int take = (b[i] > a[i]) | (b[i] != b[i]);                                           \
      y[i] = take ? b[i] : a[i];                                                                 \
      place[i] = take ? bt[i] + 2 : at[i];                                                       \
    }                                                                                            \
  }                                                                                              \
  static void max_tiles_##S(void *arg, int64_t first, int64_t past) {                            \
    const job *j = arg;                                                                          \
    const int64_t ow = j->w.ow, most = TILE_ROOM / (2 * ow);                                     \
    T a[TILE_ROOM + TILE_STEP], b[TILE_ROOM], y[TILE_ROOM / 2 + TILE_STEP];                      \
    int32_t at[TILE_ROOM + TILE_STEP], place[TILE_ROOM / 2 + TILE_STEP];                         \
    for (int64_t row = first, rows; row < past; row += rows) {                                   \
      rows = pg_min64(most, past - row);                                                         \
      const int64_t n = rows * ow;                                                               \
      uint8_t *restrict index = (uint8_t *)j->index + row * ow;                                  \
      split_##S(2 * n, (const T *)j->image + row * 4 * ow, a, b);                                \
      larger_##S(2 * n, a, b, at);                                                               \
      for (int64_t r = 0; r < rows; r++)                                                         \
        for (int64_t o = r * ow; o < (r + 1) * ow; o += TILE_STEP) {                             \
          const int64_t up = o + r * ow;                                                         \
          upper_##S(y + o, place + o, a + up, a + up + ow, at + up, at + up + ow);               \
        }                                                                                        \
      memcpy((T *)j->pooled + row * ow, y, sizeof(T) * (size_t)n);                               \
      for (int64_t i = 0; i < n; i++) index[i] = (uint8_t)place[i];                              \
    }                                                                                            \
  }                                                                                              \
  /* A step of the upper row (k 0) or the lower one (2). */                                      \
  static inline void put_step_##S(T *restrict x, const T *restrict y,                            \
                                  const int32_t *restrict place, int32_t k) {                    \
    for (int i = 0; i < TILE_STEP; i++) {                                                        \
      x[2 * i] = place[i] == k ? y[i] : 0;                                                       \
      x[2 * i + 1] = place[i] == k + 1 ? y[i] : 0;                                               \
    }                                                                                            \
  }                                                                                              \
  static void put_tiles_##S(void *arg, int64_t first, int64_t past) {                            \
    const job *j = arg;                                                                          \
    const int64_t ow = j->w.ow, most = TILE_ROOM / (2 * ow);                                     \
    T x[2 * TILE_ROOM + 2 * TILE_STEP], y[TILE_ROOM / 2 + TILE_STEP];                            \
    int32_t place[TILE_ROOM / 2 + TILE_STEP];                                                    \
    memset(y, 0, sizeof y);                                                                      \
    memset(place, 0, sizeof place);                                                              \
    for (int64_t row = first, rows; row < past; row += rows) {                                   \
      rows = pg_min64(most, past - row);                                                         \
      const int64_t n = rows * ow;                                                               \
      const uint8_t *restrict index = (const uint8_t *)j->index + row * ow;                      \
      memcpy(y, (const T *)j->pooled + row * ow, sizeof(T) * (size_t)n);                         \
      for (int64_t i = 0; i < n; i++) place[i] = index[i];                                       \
      for (int64_t r = 0; r < rows; r++)                                                         \
        for (int32_t k = 0; k < 4; k += 2)                                                       \
          for (int64_t o = r * ow; o < (r + 1) * ow; o += TILE_STEP)                             \
            put_step_##S(x + 2 * (o + r * ow) + k * ow, y + o, place + o, k);                    \
      memcpy((T *)j->image + row * 4 * ow, x, sizeof(T) * (size_t)(4 * n));                      \
    }                                                                                            \
  }                                                                                              \
  static void mean_tiles_##S(void *arg, int64_t first, int64_t past) {                           \
    const job *j = arg;                                                                          \
    const int64_t ow = j->w.ow, most = TILE_ROOM / (2 * ow);                                     \
    const T by = 1 / (T)(j->w.divisor ? j->w.divisor : 4);                                       \
    T a[TILE_ROOM + TILE_STEP], b[TILE_ROOM], y[TILE_ROOM / 2 + TILE_STEP];                      \
    for (int64_t row = first, rows; row < past; row += rows) {                                   \
      rows = pg_min64(most, past - row);                                                         \
      const int64_t n = rows * ow;                                                               \
      split_##S(2 * n, (const T *)j->image + row * 4 * ow, a, b);                                \
      for (int64_t i = 0; i < 2 * n; i++) a[i] += b[i];                                          \
      for (int64_t r = 0; r < rows; r++)                                                         \
        for (int64_t o = r * ow; o < (r + 1) * ow; o += TILE_STEP)                               \
          for (int i = 0; i < TILE_STEP; i++)                                                    \
            y[o + i] = (a[o + r * ow + i] + a[o + (r + 1) * ow + i]) * by;                       \
      memcpy((T *)j->pooled + row * ow, y, sizeof(T) * (size_t)n);                               \
    }                                                                                            \
  }                                                                                              \
  static void spread_tiles_##S(void *arg, int64_t first, int64_t past) {                         \
    const job *j = arg;                                                                          \
    const window *w = &j->w;                                                                     \
    const T by = 1 / (T)(w->divisor ? w->divisor : 4);                                           \
    for (int64_t row = first; row < past; row++) {                                               \
      T *restrict x0 = (T *)j->image + row * 2 * w->iw;                                          \
      T *restrict x1 = x0 + w->iw;                                                               \
      const T *restrict y = (const T *)j->pooled + row * w->ow;                                  \
      for (int64_t i = 0; i < w->ow; i++)                                                        \
        x0[2 * i] = x0[2 * i + 1] = x1[2 * i] = x1[2 * i + 1] = y[i] * by;                       \
    }                                                                                            \
  }
TILES(f32, float)
TILES(f64, double)

static void run_tiles(pg_ctx *ctx, job *j, pg_par_fn loop) {
  pg_par_for(ctx, j->im.blocks * j->w.oh, pg_grain(4 * j->w.ow), loop, j);
}

/* bfloat16: maxima are compared in float32, what only moves moves as it is. */
TAP(max_tap_bf16, const uint16_t, float, int32_t, {
  const float e = pg_bf16_f32(x[i * s]);
  const int take = (e > v[i]) | (e != e);
  v[i] = take ? e : v[i];
  at[i] = take ? tap : at[i];
})
TAP(pick_tap_bf16, const uint16_t, uint16_t, const int32_t, v[i] = at[i] == tap ? x[i * s] : v[i])
TAP(put_tap_bf16, uint16_t, const uint16_t, const int32_t, x[i * s] = at[i] == tap ? v[i] : 0)
LOOP(max_pool_bf16, uint16_t, float best[LANES]; int32_t at[LANES];
     first_tap_f32(j, &p, ry, best, at),
     max_tap_bf16(s.hi - s.lo, image + s.from, s.step, tap, best + s.lo, at + s.lo),
     for (int64_t i = 0; i < p.n; i++) pooled[i] = pg_f32_bf16(best[i]);
     index_write(j, &p, at))
LOOP(max_gather_bf16, uint16_t, int32_t at[LANES]; index_read(j, &p, at);
     memset(pooled, 0, (size_t)p.n * sizeof *pooled),
     pick_tap_bf16(s.hi - s.lo, image + s.from, s.step, tap, pooled + s.lo, at + s.lo), )
/* windows do not overlap */
LOOP(max_scatter_bf16, uint16_t, int32_t at[LANES];
     index_read(j, &p, at),
     put_tap_bf16(s.hi - s.lo, image + s.from, s.step, tap, pooled + s.lo, at + s.lo), )

/* Do windows share elements of the image? */
static bool overlaps(const window *w) {
  bool any = w->adaptive;
  for (int a = 0; a < 2; a++) any = any || (w->k[a] - 1) * w->dilation[a] + 1 > w->stride[a];
  return any;
}

/* Runs a loop of j, whose images are set. into_image: it writes the image. */
static void run(pg_ctx *ctx, job *j, bool f64, pg_par_fn fn32, pg_par_fn fn64, bool into_image) {
  const window *w = &j->w;
  const int64_t lanes = j->im.lanes;
  bool exact = !w->adaptive;
  j->add = into_image && overlaps(w);
  j->clear = false;
  for (int a = 0; a < 2 && into_image; a++) {
    const int64_t in = a ? w->iw : w->ih, out = a ? w->ow : w->oh;
    exact = exact && w->k[a] == w->stride[a] && w->dilation[a] == 1 && out * w->k[a] == in &&
            !w->pad[a];
  }
  j->clear = into_image && !exact;
  j->rows = j->clear ? w->oh : 1;
  int64_t taken = w->adaptive ? (w->ih / w->oh + 1) * (w->iw / w->ow + 1) : w->k[0] * w->k[1];
  pg_par_for(ctx, j->im.blocks * w->oh / j->rows, pg_grain(j->rows * w->ow * taken * lanes),
             f64 ? fn64 : fn32, j);
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
    j.image = pg_data(xi);
    j.pooled = pg_data(yi);
    j.index = index ? pg_data(*index) : NULL;
    const bool half = x->dtype == PG_BF16;
    if (index && !half && is_tiled(&j)) run_tiles(ctx, &j, f64 ? max_tiles_f64 : max_tiles_f32);
    else run(ctx, &j, f64, half ? max_pool_bf16 : max_pool_f32, max_pool_f64, false);
  }
  pg_tensor_unref(yi);
  pg_tensor_unref(xi);
  return s;
}

/* *places = where in its plane of pixels each maximum lies, from 1; index: from max_run. */
static void write_places(const window *w, int sp, pg_tensor *index, pg_tensor *places) {
  int64_t shape[4], stride[4], *out = pg_data(places);
  dims_of(places->nd, places->shape, sp, shape);
  dims_of(places->nd, places->stride, sp, stride);
  for (int64_t y = 0; y < shape[2]; y++)
    for (int64_t x = 0; x < shape[3]; x++) {
      const range ry = taps(w, 0, y), rx = taps(w, 1, x);
      const int64_t width = w->adaptive ? rx.end - rx.begin : w->k[1];
      const int64_t top = ry.begin - ry.tap * ry.step, left = rx.begin - rx.tap * rx.step;
      for (int64_t n = 0; n < shape[0]; n++)
        for (int64_t c = 0; c < shape[1]; c++) {
          const int64_t at = (sp + 2 == places->nd ? n * stride[0] : 0) + c * stride[1] +
                             (sp == 2 ? y * stride[2] : 0) + x * stride[3];
          const int64_t tap = pg_at_i64(index, at);
          out[at] = (top + tap / width * ry.step) * w->iw + left + tap % width * rx.step + 1;
        }
    }
}

/* Runs a max pooling: out[0], out[1] where it was asked for, and what backward needs. */
static pg_status max_outputs(pg_call *c, int sp, const window *w) {
  const bool places = c->nout == 2;
  PG_TRY(max_run(c->ctx, c->in[0], sp, w, c->out[0], places || c->recording ? &c->keep[0] : NULL));
  if (places && pg_numel(c->out[0])) write_places(w, sp, c->keep[0], c->out[1]);
  return PG_OK;
}

/* Declares the maxima and, where argument k is set, their places. */
static pg_status max_declare(pg_call *c, int sp, int k, const window *w) {
  c->nout = c->arg[k].i ? 2 : 1;
  if (c->nout == 2) PG_TRY(out_images(c, 1, PG_I64, c->in[0], sp, w->oh, w->ow));
  return out_images(c, 0, (pg_dtype)c->in[0]->dtype, c->in[0], sp, w->oh, w->ow);
}

static pg_status max_infer(pg_call *c, int sp) {
  window w;
  PG_TRY(check_images_of(c, sp, PG_M_FLOAT));
  PG_TRY(explicit_window(c, sp, 0, 2, 3, 4, &w));
  return max_declare(c, sp, 5, &w);
}

static pg_status max1_infer(pg_call *c) { return max_infer(c, 1); }
static pg_status max2_infer(pg_call *c) { return max_infer(c, 2); }

static pg_status max_forward(pg_call *c, int sp) {
  window w;
  PG_TRY(explicit_window(c, sp, 0, 2, 3, 4, &w));
  return max_outputs(c, sp, &w);
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
  return explicit_window(c, sp, 0, 2, 3, 4, w);
}

/* op: "pool_scatter" and its like, with the window and the shape of the image; sums of bfloat16 are
 * float32. */
static pg_status linear_op(pg_call *c, const char *op, int sp, const window *w, pg_tensor *index,
                           pg_tensor **out) {
  int64_t v[WINDOW_INTS];
  window_ints(w, v);
  if (index && c->gout[0]->dtype == PG_BF16 && overlaps(w)) {
    pg_tensor *g;
    PG_TRY(pg_do(c->ctx, &g, "to", "ti", c->gout[0], (int64_t)PG_F32));
    pg_status s = pg_do(c->ctx, out, op, "ttil", g, index, (int64_t)sp, WINDOW_INTS, v);
    pg_tensor_unref(g);
    return s;
  }
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
                .dilation = {1, 1}};
  w->adaptive = w->ih % w->oh || w->iw % w->ow;
  if (w->adaptive) return PG_OK;
  w->k[0] = w->stride[0] = w->ih / w->oh; /* cut without overlap: a window like any other */
  w->k[1] = w->stride[1] = w->iw / w->ow;
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
  return max_outputs(c, sp, &w);
}

static pg_status adaptive_max_infer(pg_call *c, int sp) {
  window w;
  PG_TRY(check_images(c, sp));
  PG_TRY(adaptive_window(c, sp, &w));
  return max_declare(c, sp, 1, &w);
}

static pg_status adaptive_max1_infer(pg_call *c) { return adaptive_max_infer(c, 1); }
static pg_status adaptive_max2_infer(pg_call *c) { return adaptive_max_infer(c, 2); }
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
    j.image = pg_data(spread ? yi : xi);
    j.pooled = pg_data(spread ? xi : yi);
    if (whole_rows(&j))
      pg_par_for(ctx, j.im.blocks * w->oh, pg_grain(w->k[0] * w->iw),
                 spread ? (f64 ? fill_runs_f64 : fill_runs_f32)
                        : (f64 ? mean_runs_f64 : mean_runs_f32),
                 &j);
    else if (is_tiled(&j))
      run_tiles(ctx, &j,
                spread ? (f64 ? spread_tiles_f64 : spread_tiles_f32)
                       : (f64 ? mean_tiles_f64 : mean_tiles_f32));
    else if (!spread && is_inside(&j))
      pg_par_for(ctx, j.im.blocks * w->oh, pg_grain(w->ow * w->k[0] * w->k[1] * j.im.lanes),
                 f64 ? mean_inside_f64 : mean_inside_f32, &j);
    else if (spread) run(ctx, &j, f64, avg_spread_f32, avg_spread_f64, true);
    else run(ctx, &j, f64, avg_pool_f32, avg_pool_f64, false);
  }
  pg_tensor_unref(yi);
  pg_tensor_unref(xi);
  return s;
}

static pg_status avg_window(pg_call *c, int sp, window *w) {
  PG_TRY(explicit_window(c, sp, 0, 2, -1, 3, w));
  w->count_pad = c->arg[4].i != 0;
  if (sp == 1) return PG_OK;
  const pg_arg *by = &c->arg[5];
  if (by->set && by->i == 0) return pg_bad_arg(c, PG_EARG, 5, "an integer but 0");
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

/* --- power mean ------------------------------------------------------------------------------- */

/* Arguments: norm_type p, kernel_size, stride, ceil_mode. y = (k mean of x^p)^(1/p), k the size of
 * the kernel. */
static pg_status lp_window(pg_call *c, int sp, window *w) {
  PG_TRY(explicit_window(c, sp, 1, -1, -1, 3, w));
  w->count_pad = true;
  return PG_OK;
}

static pg_status lp_infer(pg_call *c, int sp) {
  window w = {0};
  PG_TRY(check_images(c, sp));
  if (!(c->arg[0].f != 0))
    return pg_fail(c->ctx, PG_EARG, "argument 'norm_type': expected a number but 0, got %g",
                   c->arg[0].f);
  PG_TRY(lp_window(c, sp, &w));
  return out_images(c, 0, (pg_dtype)c->in[0]->dtype, c->in[0], sp, w.oh, w.ow);
}

static pg_status lp1_infer(pg_call *c) { return lp_infer(c, 1); }
static pg_status lp2_infer(pg_call *c) { return lp_infer(c, 2); }

static pg_status lp_forward(pg_call *c, int sp) {
  window w = {0};
  int64_t v[WINDOW_INTS];
  PG_TRY(lp_window(c, sp, &w));
  window_ints(&w, v);
  const double p = c->arg[0].f;
  const bool mode = c->ctx->grad_mode;
  c->ctx->grad_mode = false;
  pg_chain k = {.ctx = c->ctx};
  pg_tensor *t = PG_STEP(&k, "pow", "tt", c->in[0], pg_chain_number(&k, p));
  t = PG_STEP(&k, "pool_mean", "til", t, (int64_t)sp, WINDOW_INTS, v);
  t = PG_STEP(&k, "mul", "tt", t, pg_chain_number(&k, (double)(w.k[0] * w.k[1])));
  t = PG_STEP(&k, "pow", "tt", t, pg_chain_number(&k, 1 / p));
  if (k.status == PG_OK) k.status = pg_tensor_copy(c->out[0], t);
  c->ctx->grad_mode = mode;
  return pg_chain_end(&k);
}

static pg_status lp1_forward(pg_call *c) { return lp_forward(c, 1); }
static pg_status lp2_forward(pg_call *c) { return lp_forward(c, 2); }

/* x^(p-1) times k g y^(1-p) spread over the window; 0 where y is 0. */
static pg_status lp_backward(pg_call *c, int sp) {
  window w = {0};
  int64_t v[WINDOW_INTS];
  PG_TRY(window_again(c, sp, lp_window, &w));
  window_ints(&w, v);
  const double p = c->arg[0].f;
  pg_chain k = {.ctx = c->ctx};
  pg_tensor *zero = PG_STEP(&k, "eq", "tt", c->out[0], pg_chain_number(&k, 0));
  pg_tensor *g = PG_STEP(&k, "masked_fill", "ttt", c->gout[0], zero, pg_chain_number(&k, 0));
  pg_tensor *y = PG_STEP(&k, "add", "tt", c->out[0], zero);
  g = PG_STEP(&k, "mul", "tt", g, PG_STEP(&k, "pow", "tt", y, pg_chain_number(&k, 1 - p)));
  g = PG_STEP(&k, "mul", "tt", g, pg_chain_number(&k, (double)(w.k[0] * w.k[1])));
  g = PG_STEP(&k, "pool_spread", "til", g, (int64_t)sp, WINDOW_INTS, v);
  pg_tensor *x = PG_STEP(&k, "pow", "tt", c->in[0], pg_chain_number(&k, p - 1));
  pg_chain_give(&k, PG_STEP(&k, "mul", "tt", g, x), &c->gin[0]);
  return pg_chain_end(&k);
}

static pg_status lp1_backward(pg_call *c) { return lp_backward(c, 1); }
static pg_status lp2_backward(pg_call *c) { return lp_backward(c, 2); }

/* --- the linear ops behind the gradients ------------------------------------------------------ */

enum { SP, WINDOW };

/* The memory order is the index's where there is one, as forward left it. */
static pg_status to_image_infer(pg_call *c) {
  window w = window_of(c->arg[WINDOW].v);
  return out_images(c, 0, (pg_dtype)c->in[0]->dtype, c->in[c->nin - 1], (int)c->arg[SP].i, w.ih,
                    w.iw);
}

static pg_status to_pooled_infer(pg_call *c) {
  window w = window_of(c->arg[WINDOW].v);
  return out_images(c, 0, (pg_dtype)c->in[0]->dtype, c->in[c->nin - 1], (int)c->arg[SP].i, w.oh,
                    w.ow);
}

/* Scatter or gather by an index that has the pooled image's shape. */
static pg_status index_run(pg_call *c, bool scatter) {
  pg_ctx *ctx = c->ctx;
  int sp = (int)c->arg[SP].i;
  pg_tensor *x = c->in[0], *y = c->out[0], *xi = NULL, *yi = NULL, *ii = NULL;
  bool last = wants_last(c->in[1], sp);
  job j = {.w = window_of(c->arg[WINDOW].v), .wide = c->in[1]->dtype == PG_I64};
  images other;
  pg_status s = as_images(ctx, x, sp, last, &xi, &j.im);
  if (s == PG_OK) s = as_images(ctx, y, sp, last, &yi, &other);
  if (s == PG_OK) s = as_images(ctx, c->in[1], sp, last, &ii, &other);
  if (s == PG_OK && pg_numel(y)) {
    PG_ASSERT(yi->storage == y->storage);
    j.image = pg_data(scatter ? yi : xi);
    j.pooled = pg_data(scatter ? xi : yi);
    j.index = pg_data(ii);
    const bool f64 = x->dtype == PG_F64, half = x->dtype == PG_BF16;
    PG_ASSERT(!half || !scatter || !overlaps(&j.w));
    if (scatter && !half && is_tiled(&j)) run_tiles(ctx, &j, f64 ? put_tiles_f64 : put_tiles_f32);
    else if (scatter)
      run(ctx, &j, f64, half ? max_scatter_bf16 : max_scatter_f32, max_scatter_f64, true);
    else run(ctx, &j, f64, half ? max_gather_bf16 : max_gather_f32, max_gather_f64, false);
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

/* The second output: places of the maxima in their plane, counted from 1. */
#define RETURN_INDICES PG_DEF("return_indices", PG_FLAG, 0)
#define MAX_ARGS                                                            \
  PG_T("input"), PG_REQ("kernel_size", PG_INTS), PG_OPT("stride", PG_INTS), \
      PG_DEF("padding", PG_INTS, 0), PG_DEF("dilation", PG_INTS, 1),        \
      PG_DEF("ceil_mode", PG_FLAG, 0), RETURN_INDICES
#define AVG_ARGS                                                            \
  PG_T("input"), PG_REQ("kernel_size", PG_INTS), PG_OPT("stride", PG_INTS), \
      PG_DEF("padding", PG_INTS, 0), PG_DEF("ceil_mode", PG_FLAG, 0),       \
      PG_DEF("count_include_pad", PG_FLAG, 1)
#define LP_ARGS                                                                 \
  PG_T("input"), PG_REQ("norm_type", PG_FLOAT), PG_REQ("kernel_size", PG_INTS), \
      PG_OPT("stride", PG_INTS), PG_DEF("ceil_mode", PG_FLAG, 0)
#define LINEAR_ARGS PG_REQ("dims", PG_INT), PG_REQ("window", PG_INTS)

const pg_op PG_AT(pg_ops_pool)[] = {
    {"max_pool2d",
     "The largest value of each window of N x C x H x W images; stride defaults to kernel_size.",
     {MAX_ARGS},
     PG_NN,
     0,
     2,
     max2_infer,
     {max2_forward},
     max2_backward},
    {"max_pool1d",
     "The largest value of each window of N x C x L signals; stride defaults to kernel_size.",
     {MAX_ARGS},
     PG_NN,
     0,
     2,
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
    {"lp_pool2d",
     "(the sum of x^norm_type)^(1/norm_type) over each window of N x C x H x W images.",
     {LP_ARGS},
     PG_NN,
     PG_SAVE_IN(0) | PG_SAVE_OUT(0),
     1,
     lp2_infer,
     {lp2_forward},
     lp2_backward},
    {"lp_pool1d",
     "(the sum of x^norm_type)^(1/norm_type) over each window of N x C x L signals.",
     {LP_ARGS},
     PG_NN,
     PG_SAVE_IN(0) | PG_SAVE_OUT(0),
     1,
     lp1_infer,
     {lp1_forward},
     lp1_backward},
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
     {PG_T("input"), PG_REQ("output_size", PG_INTS), RETURN_INDICES},
     PG_NN,
     0,
     2,
     adaptive_max2_infer,
     {adaptive_max2_forward},
     adaptive_max2_backward},
    {"adaptive_max_pool1d",
     "The largest value over output_size even cuts of N x C x L signals.",
     {PG_T("input"), PG_REQ("output_size", PG_INTS), RETURN_INDICES},
     PG_NN,
     0,
     2,
     adaptive_max1_infer,
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
