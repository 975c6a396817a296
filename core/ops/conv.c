/* Convolution of 1-d, 2-d and 3-d images, its transpose, and the three products that all gradients
 * are made of. float32 and bfloat16 run on Winograd's algorithm where that is fast, or on oneDNN
 * where it is there, the rest on im2col and BLAS; kernels of one tap, or that cover their image,
 * are products of matrices. Relies on autograd/op.h, ops/engine.h, product.h, base/choice.h,
 * kernels/winograd.h, im2col.h, blas.h.
 * Spec: spec/ops/conv_spec.lua. */
#include <string.h>

#include "autograd/op.h"
#include "base/choice.h"
#include "base/par.h"
#include "kernels/blas.h"
#include "kernels/im2col.h"
#include "kernels/winograd.h"
#include "ops/engine.h"
#include "ops/product.h"

/* --- geometry --------------------------------------------------------------------------------- */

/* Arguments of a convolution and of its gradients, in this order; SHAPE only where the result's
 * shape does not follow. A gradient's lists are explicit: three strides, dilations; six paddings,
 * those before first. */
enum { STRIDE, PADDING, DILATION, GROUPS, SHAPE };
/* Arguments of a transposed convolution. */
enum { T_STRIDE, T_PADDING, T_OUTPUT_PADDING, T_GROUPS, T_DILATION };

/* A convolution seen as 3-d; sp is the number of spatial dims of its tensors, batched whether they
 * have N. With relu, which forward may set, a product FORWARD may give max(y, 0) and says so. */
typedef struct geometry {
  pgk_conv c;
  int sp;
  bool batched;
  bool *relu;
} geometry;

static int spatial(int weight_nd) { return weight_nd - 2; }

static int64_t volume(const int64_t *v) { return v[0] * v[1] * v[2]; }

enum { MOST = INT32_MAX }; /* so that products of two arguments fit */

/* Argument k as n values in the last places of v; the ones before stay as they are. */
static pg_status read_ints(pg_call *c, int k, int n, int64_t least, int64_t v[3]) {
  PG_TRY(pg_arg_ints(c, k, n, least, v + 3 - n));
  for (int i = 3 - n; i < 3; i++)
    if (v[i] > MOST)
      return pg_fail(c->ctx, PG_EARG, "argument '%s': expected at most %d, got %lld",
                     pg_arg_name(c, k), MOST, (long long)v[i]);
  return PG_OK;
}

/* A geometry for an image of shape x and a weight of shape w, whose channels and sizes the caller
 * fills in. */
static pg_status geometry_init(pg_call *call, int nd, const int64_t *x, int wnd, const int64_t *w,
                               geometry *g) {
  memset(g, 0, sizeof *g);
  const int sp = g->sp = spatial(wnd);
  pgk_conv *c = &g->c;
  if (nd != sp + 1 && nd != sp + 2)
    return pg_fail(call->ctx, PG_ESHAPE, "argument '%s': expected %d or %d dims, got %s",
                   pg_in_name(call, 0), sp + 1, sp + 2, pg_shape_str_of(nd, x).s);
  g->batched = nd == sp + 2;
  c->n = g->batched ? x[0] : 1;
  c->threads = call->ctx->threads;
  for (int i = 0; i < 3; i++)
    c->in[i] = c->out[i] = c->kernel[i] = c->stride[i] = c->dilation[i] = 1;
  for (int i = 0; i < sp; i++) {
    c->kernel[3 - sp + i] = w[2 + i];
    if (w[2 + i] < 1) return pg_bad_in(call, PG_ESHAPE, 1, "a kernel of at least 1 in each dim");
  }
  return PG_OK;
}

static pg_status read_padding(pg_call *call, geometry *g) {
  const pg_arg *padding = &call->arg[PADDING];
  pgk_conv *c = &g->c;
  if (call->op->flags & PG_HIDDEN) {
    memcpy(c->before, padding->v, sizeof c->before);
    memcpy(c->after, padding->v + 3, sizeof c->after);
    return PG_OK;
  }
  if (!padding->s) {
    PG_TRY(read_ints(call, PADDING, g->sp, 0, c->before));
    memcpy(c->after, c->before, sizeof c->after);
    return PG_OK;
  }
  if (strcmp(padding->s, "same") != 0) return PG_OK;
  for (int i = 3 - g->sp; i < 3; i++) {
    if (c->stride[i] != 1) return pg_bad_arg(call, PG_EARG, STRIDE, "1 with padding 'same'");
    const int64_t total = c->dilation[i] * (c->kernel[i] - 1);
    c->before[i] = total / 2;
    c->after[i] = total - total / 2;
  }
  return PG_OK;
}

/* Fills g for an image of shape x (nd dims) and a weight of shape w. */
static pg_status conv_geometry(pg_call *call, int nd, const int64_t *x, int wnd, const int64_t *w,
                               geometry *g) {
  PG_TRY(geometry_init(call, nd, x, wnd, w, g));
  const int sp = g->sp, given = call->op->flags & PG_HIDDEN ? 3 : sp;
  pgk_conv *c = &g->c;
  c->ic = x[nd - sp - 1];
  c->oc = w[0];
  c->groups = call->arg[GROUPS].i;
  if (c->groups < 1 || c->ic % c->groups || c->oc % c->groups)
    return pg_bad_arg(call, PG_EARG, GROUPS, "a divisor of the %lld input and %lld output channels",
                      (long long)c->ic, (long long)c->oc);
  if (w[1] != c->ic / c->groups)
    return pg_bad_in(call, PG_ESHAPE, 0, "%lld channels for weight %s and groups %lld",
                     (long long)(w[1] * c->groups), pg_shape_str_of(wnd, w).s,
                     (long long)c->groups);
  PG_TRY(read_ints(call, STRIDE, given, 1, c->stride));
  PG_TRY(read_ints(call, DILATION, given, 1, c->dilation));
  PG_TRY(read_padding(call, g));
  for (int i = 0; i < 3; i++) {
    if (i >= 3 - sp) c->in[i] = x[nd - 3 + i];
    const int64_t span =
        c->in[i] + c->before[i] + c->after[i] - c->dilation[i] * (c->kernel[i] - 1) - 1;
    if (span < 0)
      return pg_bad_in(call, PG_ESHAPE, 1, "a kernel that fits into input %s with its padding",
                       pg_shape_str_of(nd, x).s);
    c->out[i] = span / c->stride[i] + 1;
  }
  return PG_OK;
}

/* Fills g with the convolution that a transposed one with this input and weight turns round: its
 * image is the result, its output the input. */
static pg_status transposed_geometry(pg_call *call, int nd, const int64_t *x, int wnd,
                                     const int64_t *w, geometry *g) {
  PG_TRY(geometry_init(call, nd, x, wnd, w, g));
  const int sp = g->sp;
  pgk_conv *c = &g->c;
  int64_t extra[3] = {0};
  c->oc = x[nd - sp - 1];
  c->groups = call->arg[T_GROUPS].i;
  if (c->groups < 1 || c->oc % c->groups)
    return pg_bad_arg(call, PG_EARG, T_GROUPS, "a divisor of the %lld input channels",
                      (long long)c->oc);
  if (w[0] != c->oc)
    return pg_bad_in(call, PG_ESHAPE, 0, "%lld channels for weight %s", (long long)w[0],
                     pg_shape_str_of(wnd, w).s);
  c->ic = w[1] * c->groups;
  PG_TRY(read_ints(call, T_STRIDE, sp, 1, c->stride));
  PG_TRY(read_ints(call, T_PADDING, sp, 0, c->before));
  PG_TRY(read_ints(call, T_OUTPUT_PADDING, sp, 0, extra));
  PG_TRY(read_ints(call, T_DILATION, sp, 1, c->dilation));
  for (int i = 3 - sp; i < 3; i++) {
    if (extra[i] >= pg_max64(c->stride[i], c->dilation[i]))
      return pg_bad_arg(call, PG_EARG, T_OUTPUT_PADDING, "less than stride %lld or dilation %lld",
                        (long long)c->stride[i], (long long)c->dilation[i]);
    c->out[i] = x[nd - 3 + i];
    if (c->out[i] < 1) return pg_bad_in(call, PG_ESHAPE, 0, "images with pixels");
    /* what does not fill a step need not be taken from the padding */
    c->after[i] = c->before[i] - (extra[i] < c->stride[i] ? 0 : extra[i]);
    c->in[i] = (c->out[i] - 1) * c->stride[i] - 2 * c->before[i] +
               c->dilation[i] * (c->kernel[i] - 1) + extra[i] + 1;
    if (c->in[i] < 1)
      return pg_bad_arg(call, PG_ESHAPE, T_PADDING,
                        "a padding that leaves something of the result for input %s",
                        pg_shape_str_of(nd, x).s);
  }
  return PG_OK;
}

/* Shape and channels-last strides of an image of g's kind; returns its number of dims. */
static int image_shape(const geometry *g, int64_t channels, const int64_t size[3], int64_t *shape,
                       int64_t *stride) {
  const int nd = g->sp + 1 + g->batched;
  int64_t step = channels;
  for (int i = 2; i >= 3 - g->sp; i--) {
    shape[nd - 3 + i] = size[i];
    stride[nd - 3 + i] = step;
    step *= size[i];
  }
  shape[nd - g->sp - 1] = channels;
  stride[nd - g->sp - 1] = 1;
  if (g->batched) {
    shape[0] = g->c.n;
    stride[0] = step;
  }
  return nd;
}

/* Declares the output of a call: an image, channels last in memory. */
static pg_status out_image(pg_call *call, const geometry *g, int64_t channels,
                           const int64_t size[3]) {
  int64_t shape[PG_MAX_DIMS], stride[PG_MAX_DIMS];
  int nd = g->sp + 1 + g->batched;
  image_shape(g, channels, size, shape, stride);
  PG_TRY(pg_out_shape(call, 0, (pg_dtype)call->in[0]->dtype, nd, shape));
  call->os[0].strided = true;
  memcpy(call->os[0].stride, stride, sizeof *stride * (size_t)nd);
  return PG_OK;
}

/* A new image, channels last in memory. */
static pg_status new_image(pg_ctx *ctx, pg_dtype dtype, const geometry *g, int64_t channels,
                           const int64_t size[3], pg_tensor **out) {
  int64_t shape[PG_MAX_DIMS], stride[PG_MAX_DIMS];
  int nd = image_shape(g, channels, size, shape, stride);
  return pg_tensor_new_strided(ctx, dtype, nd, shape, stride, PG_HOST, out);
}

/* t, an image of g's kind, channels last: a view of it where it is so, else a copy; as 4-d, with
 * depth and height as one dim. */
static pg_status as_image(pg_ctx *ctx, pg_tensor *t, const geometry *g, pg_tensor **out) {
  *out = NULL;
  const int nd = t->nd, w = nd - 1, h = nd - 2, d = nd - 3;
  int64_t shape[4] = {1, t->shape[nd - g->sp - 1], 1, t->shape[w]};
  int64_t stride[4] = {0, t->stride[nd - g->sp - 1], 0, t->stride[w]};
  if (g->batched) {
    shape[0] = t->shape[0];
    stride[0] = t->stride[0];
  }
  if (g->sp > 1) {
    shape[2] = t->shape[h];
    stride[2] = t->stride[h];
  }
  if (g->sp > 2 && t->shape[d] != 1) {
    if (t->shape[h] != 1 && t->stride[d] != t->stride[h] * t->shape[h]) {
      pg_tensor *plain;
      PG_TRY(pg__contiguous(ctx, t, &plain));
      pg_status s = as_image(ctx, plain, g, out);
      pg_tensor_unref(plain);
      return s;
    }
    if (t->shape[h] == 1) stride[2] = t->stride[d];
    shape[2] *= t->shape[d];
  }
  pg_tensor *alias;
  PG_TRY(pg_tensor_alias(ctx, t, 4, shape, stride, t->offset, &alias));
  pg_status s = pg__channels_last(ctx, alias, out);
  pg_tensor_unref(alias);
  return s;
}

/* --- portable path ---------------------------------------------------------------------------- */

/* FORWARD makes y of x and w, INPUT x of y and w, WEIGHT w of x and y. */
typedef enum product { FORWARD, INPUT, WEIGHT } product;

/* Work on a block of images. */
typedef struct portable_job {
  const pgk_conv *s;
  void *x, *col;
  int64_t group, first, patch;
  bool f64;
} portable_job;

static void job_im2col(void *arg, int64_t begin, int64_t end) {
  const portable_job *j = arg;
  const int64_t at = begin * j->patch;
  begin += j->first;
  end += j->first;
  if (j->f64) PG_AT(pgk_im2col_f64)(j->s, j->x, j->group, begin, end, (double *)j->col + at);
  else PG_AT(pgk_im2col_f32)(j->s, j->x, j->group, begin, end, (float *)j->col + at);
}

static void job_col2im(void *arg, int64_t begin, int64_t end) {
  const portable_job *j = arg;
  const int64_t at = begin * volume(j->s->out) * j->patch;
  begin += j->first;
  end += j->first;
  if (j->f64) PG_AT(pgk_col2im_f64)(j->s, (double *)j->col + at, j->group, begin, end, j->x);
  else PG_AT(pgk_col2im_f32)(j->s, (float *)j->col + at, j->group, begin, end, j->x);
}

static void gemm(bool f64, bool ta, bool tb, int64_t m, int64_t n, int64_t k, const void *a,
                 int64_t lda, const void *b, int64_t ldb, bool add, void *c, int64_t ldc) {
  if (f64) pgk_gemm_f64(ta, tb, m, n, k, 1, a, lda, b, ldb, add, c, ldc);
  else pgk_gemm_f32(ta, tb, m, n, k, 1, a, lda, b, ldb, add, c, ldc);
}

static void *at(void *p, int64_t i, size_t size) { return (char *)p + (size_t)i * size; }

static pg_status portable_run(pg_ctx *ctx, const pgk_conv *s, product what, bool f64, void *x,
                              void *w, void *y) {
  const size_t size = f64 ? 8 : 4;
  const int64_t og = s->oc / s->groups, patch = s->ic / s->groups * volume(s->kernel);
  const int64_t pixels = volume(s->out), most = ((int64_t)4 << 20) / (int64_t)size;
  const int64_t images = pg_min64(s->n, pg_max64(1, most / pg_max64(1, patch * pixels)));
  const size_t weight_bytes = (size_t)(s->oc * patch) * size;
  const size_t col_bytes = (size_t)(images * pixels * patch) * size;
  void *col = NULL, *inner = NULL;
  pg_status status = pg_alloc(ctx, weight_bytes, &inner);
  if (status == PG_OK) status = pg_alloc(ctx, col_bytes, &col);
  if (status != PG_OK) goto done;
  if (what == WEIGHT) memset(inner, 0, weight_bytes);
  else if (f64) PG_AT(pgk_weight_in_f64)(s, w, inner);
  else PG_AT(pgk_weight_in_f32)(s, w, inner);
  if (what == INPUT) memset(x, 0, (size_t)(s->n * volume(s->in) * s->ic) * size);
  for (int64_t g = 0; g < s->groups; g++)
    for (int64_t n = 0; n < s->n; n += images) {
      const int64_t count = pg_min64(images, s->n - n), rows = count * pixels;
      void *wg = at(inner, g * og * patch, size), *yg = at(y, n * pixels * s->oc + g * og, size);
      portable_job j = {s, x, col, g, n * pixels, patch, f64};
      if (what != INPUT) pg_par_for(ctx, rows, pg_grain(patch), job_im2col, &j);
      if (what == FORWARD) {
        gemm(f64, false, true, rows, og, patch, col, patch, wg, patch, false, yg, s->oc);
      } else if (what == WEIGHT) {
        gemm(f64, true, false, og, patch, rows, yg, s->oc, col, patch, true, wg, patch);
      } else {
        gemm(f64, false, false, rows, patch, og, yg, s->oc, wg, patch, false, col, patch);
        j.first = n;
        pg_par_for(ctx, count, 1, job_col2im, &j);
      }
    }
  if (what == WEIGHT && f64) PG_AT(pgk_weight_out_f64)(s, inner, w);
  else if (what == WEIGHT) PG_AT(pgk_weight_out_f32)(s, inner, w);
done:
  pg_free(ctx, col, col_bytes);
  pg_free(ctx, inner, weight_bytes);
  return status;
}

/* --- Winograd --------------------------------------------------------------------------------- */

/* Each lane has scratch of its own and takes every lanes-th block, so that no result depends on
 * their number. So it is with the sums of a weight gradient; where there is one only, it goes in
 * rounds of blocks, whose scratch is shared. */
typedef struct winograd_job {
  const pgk_winograd *p;
  bool turned;
  int64_t lanes, first; /* block of a round */
  const void *x, *w, *gy;
  const float *bias;
  void *y;
  float *u, *scratch, *sums, *biases, *gw;
} winograd_job;

static void job_weight(void *arg, int64_t begin, int64_t end) {
  const winograd_job *j = arg;
  PG_AT(pgk_winograd_weight)(j->p, j->turned, j->w, begin, end, j->u);
}

static void job_forward(void *arg, int64_t begin, int64_t end) {
  const winograd_job *j = arg;
  for (int64_t lane = begin; lane < end; lane++)
    for (int64_t b = lane; b < j->p->blocks; b += j->lanes) PG_AT(pgk_winograd_forward)
  (j->p, b, j->x, j->u, j->bias, j->y, j->scratch + lane * j->p->lane_size);
}

static float *bias_of(const winograd_job *j, int64_t k) {
  return j->biases ? j->biases + k * j->p->s.oc : NULL;
}

static void job_sums(void *arg, int64_t begin, int64_t end) {
  const winograd_job *j = arg;
  const pgk_winograd *p = j->p;
  for (int64_t lane = begin; lane < end; lane++)
    for (int64_t k = lane; k < p->sums; k += j->lanes) {
      const int64_t first = p->blocks * k / p->sums, last = p->blocks * (k + 1) / p->sums;
      float *scratch = j->scratch + lane * p->lane_size;
      memset(scratch, 0, sizeof *scratch * (size_t)p->zeros);
      for (int64_t b = first; b < last; b++) {
        PG_AT(pgk_winograd_factors)(p, b, j->x, j->gy, bias_of(j, k), scratch);
        PG_AT(pgk_winograd_multiply)
        (p, b, b > first, 0, p->points * p->points, scratch, j->sums + k * p->weight_size);
      }
    }
}

static void job_factors(void *arg, int64_t begin, int64_t end) {
  const winograd_job *j = arg;
  for (int64_t b = begin; b < end; b++) PG_AT(pgk_winograd_factors)
  (j->p, j->first + b, j->x, j->gy, bias_of(j, b), j->scratch);
}

static void job_multiply(void *arg, int64_t begin, int64_t end) {
  const winograd_job *j = arg;
  PG_AT(pgk_winograd_multiply)
  (j->p, j->first, j->first > 0, begin, end, j->scratch, j->sums);
}

static void job_collect(void *arg, int64_t begin, int64_t end) {
  const winograd_job *j = arg;
  PG_AT(pgk_winograd_collect)(j->p, j->sums, begin, end, j->gw);
}

/* The product in float32 or bfloat16, for relu max(y, 0) of a FORWARD; *done = false, and nothing
 * changed, where Winograd is not the way. */
static pg_status winograd_run(pg_ctx *ctx, const pgk_conv *s, product what, void *x, void *w,
                              float *bias, void *y, bool relu, bool *done) {
  pgk_winograd p;
  pgk_conv turned;
  PG_AT(pgk_winograd_turn)(s, &turned);
  const bool weight = what == WEIGHT;
  *done = PG_AT(pgk_winograd_plan)(what == INPUT ? &turned : s, weight, &p);
  if (!*done) return PG_OK;
  p.relu = relu;
  const int64_t each = p.depth / p.block; /* blocks of a round */
  const int64_t lanes = pg_min64(ctx->threads, weight ? p.sums : p.blocks);
  const int64_t parts = weight ? pg_max64(p.sums, each) : 0, biases = bias ? parts * s->oc : 0;
  const int64_t fixed = p.sums * p.weight_size + biases, floats = fixed + lanes * p.lane_size;
  const size_t bytes = sizeof(float) * (size_t)floats;
  void *block;
  PG_TRY(pg_alloc(ctx, bytes, &block));
  winograd_job j = {.p = &p,
                    .turned = what == INPUT,
                    .lanes = lanes,
                    .w = w,
                    .u = block,
                    .sums = block,
                    .scratch = (float *)block + fixed};
  if (weight) {
    j.x = x;
    j.gy = y;
    j.gw = w;
    if (bias) j.biases = j.sums + p.sums * p.weight_size;
    memset(j.scratch - biases, 0, sizeof(float) * (size_t)(biases + p.zeros));
    if (each == 1) {
      pg_par_for(ctx, lanes, 1, job_sums, &j);
      j.first = p.blocks;
    }
    for (; j.first < p.blocks; j.first += each) {
      pg_par_for(ctx, pg_min64(each, p.blocks - j.first), 1, job_factors, &j);
      pg_par_for(ctx, p.points * p.points, 1, job_multiply, &j);
    }
    pg_par_for(ctx, s->ic, 1, job_collect, &j);
    if (bias) {
      memset(bias, 0, sizeof *bias * (size_t)s->oc);
      for (int64_t k = 0; k < parts; k++)
        for (int64_t i = 0; i < s->oc; i++) bias[i] += j.biases[k * s->oc + i];
    }
  } else {
    j.x = what == INPUT ? y : x;
    j.y = what == INPUT ? x : y;
    j.bias = what == INPUT ? NULL : bias;
    pg_par_for(ctx, PG_AT(pgk_winograd_panels)(&p), 1, job_weight, &j);
    pg_par_for(ctx, lanes, 1, job_forward, &j);
  }
  pg_free(ctx, block, bytes);
  return PG_OK;
}

/* --- the three products ----------------------------------------------------------------------- */

typedef struct bias_job {
  int64_t c;
  const void *bias;
  void *y;
} bias_job;

/* y[r][i] += bias[i] */
#define ADD_BIAS(T, SUFFIX)                                              \
  static void add_bias_##SUFFIX(void *arg, int64_t begin, int64_t end) { \
    const bias_job *j = arg;                                             \
    const T *restrict b = j->bias;                                       \
    for (int64_t r = begin; r < end; r++) {                              \
      T *restrict y = (T *)j->y + r * j->c;                              \
      for (int64_t i = 0; i < j->c; i++) y[i] += b[i];                   \
    }                                                                    \
  }
ADD_BIAS(float, f32)
ADD_BIAS(double, f64)

static void add_bias(pg_ctx *ctx, pg_tensor *bias, pg_tensor *y) {
  const int64_t c = bias->shape[0], n = pg_numel(y);
  if (!n) return;
  bias_job j = {c, pg_data(bias), pg_data(y)};
  pg_par_for(ctx, n / c, pg_grain(c), y->dtype == PG_F64 ? add_bias_f64 : add_bias_f32, &j);
}

/* The product on images x and y, channels last, and a contiguous weight w, all of one dtype but for
 * WEIGHT in bfloat16, which gives float32. bias (float32 or float64, may be NULL) is added in
 * FORWARD and is the sum of y in WEIGHT. */
static pg_status multiply(pg_ctx *ctx, const geometry *g, product what, pg_tensor *x, pg_tensor *w,
                          pg_tensor *bias, pg_tensor *y);

/* bfloat16 by way of float32. */
static pg_status multiply_widened(pg_ctx *ctx, const geometry *g, product what, pg_tensor *x,
                                  pg_tensor *w, pg_tensor *bias, pg_tensor *y) {
  pg_tensor *given[3] = {x, w, y}, *wide[3] = {NULL};
  pg_status s = PG_OK;
  for (int i = 0; i < 3 && s == PG_OK; i++) {
    pg_tensor *t = given[i];
    const bool written = i == (what == FORWARD ? 2 : what == INPUT ? 0 : 1);
    if (t->dtype == PG_F32) {
      wide[i] = pg_tensor_ref(t);
    } else {
      s = pg_tensor_new_like(ctx, t, PG_F32, &wide[i]);
      if (s == PG_OK && !written) s = pg_tensor_copy(wide[i], t);
    }
  }
  if (s == PG_OK) s = multiply(ctx, g, what, wide[0], wide[1], bias, wide[2]);
  if (s == PG_OK && what == FORWARD) s = pg_tensor_copy(y, wide[2]);
  if (s == PG_OK && what == INPUT) s = pg_tensor_copy(x, wide[0]);
  for (int i = 0; i < 3; i++) pg_tensor_unref(wide[i]);
  return s;
}

/* *out = t summed over everything but dim `channel` (from 0); bfloat16 adds up to float32. */
static pg_status sum_channels(pg_ctx *ctx, pg_tensor *t, int channel, pg_tensor **out) {
  int64_t dims[PG_MAX_DIMS];
  int n = 0;
  for (int d = 0; d < t->nd; d++)
    if (d != channel) dims[n++] = d + 1;
  if (t->dtype != PG_BF16) return pg_do(ctx, out, "sum", "tl", t, n, dims);
  pg_tensor *wide;
  PG_TRY(pg_do(ctx, &wide, "to", "ti", t, (int64_t)PG_F32));
  pg_status s = pg_do(ctx, out, "sum", "tl", wide, n, dims);
  pg_tensor_unref(wide);
  return s;
}

/* oneDNN's product; PG_EUNSUPPORTED, without a message, where it has none. */
static pg_status dnn_run(pgk_dnn *dnn, const pgk_conv *s, product what, pg_tensor *x, pg_tensor *w,
                         pg_tensor *bias, pg_tensor *y) {
  void *b = bias ? pg_data(bias) : NULL;
  int failed = 1;
  if (dnn && what == FORWARD)
    failed = pgk_dnn_conv_forward(dnn, s, pg_data(x), pg_data(w), b, pg_data(y));
  else if (dnn && what == INPUT)
    failed = pgk_dnn_conv_backward_data(dnn, s, pg_data(y), pg_data(w), pg_data(x));
  else if (dnn)
    failed = pgk_dnn_conv_backward_weight(dnn, s, pg_data(x), pg_data(y), pg_data(w), b);
  return failed ? PG_EUNSUPPORTED : PG_OK;
}

/* The ways to a product in bfloat16. */
enum { WAY_DNN, WAY_OWN, WAYS };

typedef struct half_job {
  pg_ctx *ctx;
  const geometry *g;
  pgk_dnn *dnn;
  const pgk_conv *s;
  product what;
  pg_tensor *x, *w, *bias, *y;
  bool winograd;
} half_job;

static pg_status half_run(void *arg, int way) {
  const half_job *j = arg;
  bool *relu = j->g->relu;
  if (relu) *relu = false; /* whatever the way before this one did */
  if (way == WAY_DNN) return dnn_run(j->dnn, j->s, j->what, j->x, j->w, j->bias, j->y);
  if (j->winograd) {
    bool done;
    PG_TRY(winograd_run(j->ctx, j->s, j->what, pg_data(j->x), pg_data(j->w),
                        j->bias ? pg_data(j->bias) : NULL, pg_data(j->y), relu, &done));
    if (done && relu) *relu = true;
    if (done) return PG_OK;
  }
  return multiply_widened(j->ctx, j->g, j->what, j->x, j->w, j->bias, j->y);
}

/* The product in bfloat16, in the way that is the fastest for its shape on this machine. */
static pg_status half_multiply(half_job *j, const pg_engine *e) {
  j->dnn = e->bf16 ? e->dnn : NULL;
  j->winograd = e->winograd && !j->ctx->deterministic;
  if (!j->dnn) return half_run(j, WAY_OWN);
  struct {
    product what;
    bool bias;
    pgk_conv s;
  } key;
  memset(&key, 0, sizeof key);
  key.what = j->what;
  key.bias = j->bias != NULL;
  memcpy(&key.s, j->s, sizeof key.s);
  return pg_choose(j->ctx, "conv in bfloat16", &key, sizeof key, WAYS, half_run, j);
}

/* Whether tap k of the kernel meets a pixel in dim i. */
static bool meets(const pgk_conv *s, int i, int64_t k) {
  const int64_t at = k * s->dilation[i] - s->before[i]; /* where it lies for the first output */
  const int64_t o = at < 0 ? (s->stride[i] - 1 - at) / s->stride[i] : 0;
  return o < s->out[i] && at + o * s->stride[i] < s->in[i];
}

/* Takes away the outer taps of g's kernel that meet nothing but padding, as those of 3 x 3 on one
 * pixel; first[i]: the first one that stays. Whether there were any. */
static bool crop(geometry *g, int64_t first[3]) {
  pgk_conv *s = &g->c;
  bool any = false;
  for (int i = 0; i < 3; i++) {
    const int64_t step = s->dilation[i];
    int64_t from = 0, to = s->kernel[i];
    for (; from < to - 1 && s->before[i] >= step && !meets(s, i, 0); from++) s->before[i] -= step;
    for (; to > from + 1 && s->after[i] >= step && !meets(s, i, to - 1 - from); to--)
      s->after[i] -= step;
    any = any || to - from < s->kernel[i];
    s->kernel[i] = to - from;
    first[i] = from;
  }
  return any;
}

/* A kernel that covers its image, for one output: a product of matrices. */
static bool is_whole(const pgk_conv *s) {
  for (int i = 0; i < 3; i++) {
    if (s->kernel[i] != s->in[i] || s->before[i] || s->out[i] != 1) return false;
    if (s->kernel[i] > 1 && s->dilation[i] > 1) return false;
  }
  return s->groups == 1;
}

/* Whether a product of matrices, pixels x channels, is the way for a kernel of one tap. */
static bool is_pointwise(const pgk_conv *s, const pg_engine *e) {
  enum { FEW = 2048 };
  for (int i = 0; i < 3; i++)
    if (s->kernel[i] != 1 || s->stride[i] != 1 || s->before[i] || s->after[i]) return false;
  return s->groups == 1 && (!e || !e->dnn || (e->winograd && s->n * volume(s->in) < FEW));
}

/* *out = the taps of weight w that `crop` left, as a view; their channels last if so wished. */
static pg_status taps(pg_ctx *ctx, pg_tensor *w, const geometry *g, const int64_t first[3],
                      bool last, pg_tensor **out) {
  int64_t shape[PG_MAX_DIMS], stride[PG_MAX_DIMS], offset = w->offset;
  const int nd = w->nd;
  memcpy(shape, w->shape, sizeof shape);
  memcpy(stride, w->stride, sizeof stride);
  for (int i = 3 - g->sp; i < 3; i++) {
    const int d = i - 3 + nd, to = last ? d - 1 : d;
    offset += first[i] * w->stride[d];
    stride[to] = w->stride[d];
    shape[to] = g->c.kernel[i];
  }
  if (last) {
    shape[nd - 1] = w->shape[1];
    stride[nd - 1] = w->stride[1];
  }
  return pg_tensor_alias(ctx, w, nd, shape, stride, offset, out);
}

/* The product on matrices: of a whole kernel, whose weight has its channels last, or of one tap. */
static pg_status matrix_run(pg_ctx *ctx, const pgk_conv *s, product what, pg_dtype dtype, void *x,
                            void *w, const void *bias, void *y) {
  const int64_t rows = s->n * volume(s->out), ic = s->ic * volume(s->kernel), oc = s->oc;
  pgk_product p = {.m = rows, .n = oc, .k = ic, .tb = true, .bias = bias};
  p.a = x, p.lda = ic, p.b = w, p.ldb = ic, p.c = y, p.ldc = oc;
  if (what == INPUT) {
    p.tb = false, p.n = ic, p.k = oc;
    p.a = y, p.lda = oc, p.c = x, p.ldc = ic;
  } else if (what == WEIGHT) {
    p.ta = true, p.tb = false, p.m = oc, p.n = ic, p.k = rows;
    p.a = y, p.lda = oc, p.b = x, p.c = w, p.ldc = ic;
  }
  return pg__product(ctx, dtype, &p);
}

/* multiply, by a weight in the kernels' form. */
static pg_status multiply_plain(pg_ctx *ctx, const geometry *g, product what, pg_tensor *x,
                                pg_tensor *w, pg_tensor *bias, pg_tensor *y);

static pg_status multiply(pg_ctx *ctx, const geometry *g, product what, pg_tensor *x, pg_tensor *w,
                          pg_tensor *bias, pg_tensor *y) {
  geometry less = *g;
  int64_t first[3];
  const pg_dtype dtype = (pg_dtype)(what == INPUT ? y : x)->dtype;
  const bool cropped = crop(&less, first), last = is_whole(&less.c) && dtype != PG_BF16;
  if (!cropped && !last) return multiply_plain(ctx, g, what, x, w, bias, y);
  pg_tensor *part = NULL, *own = NULL;
  pg_status s = taps(ctx, w, &less, first, last, &part);
  if (s == PG_OK && what != WEIGHT) s = pg__contiguous(ctx, part, &own);
  else if (s == PG_OK) s = pg_tensor_new(ctx, (pg_dtype)w->dtype, part->nd, part->shape, &own);
  if (s == PG_OK) s = multiply_plain(ctx, &less, what, x, own, bias, y);
  if (s == PG_OK && what == WEIGHT) {
    if (cropped) pg_tensor_fill(w, 0);
    s = pg_tensor_copy(part, own);
  }
  pg_tensor_unref(own);
  pg_tensor_unref(part);
  return s;
}

static pg_status multiply_plain(pg_ctx *ctx, const geometry *g, product what, pg_tensor *x,
                                pg_tensor *w, pg_tensor *bias, pg_tensor *y) {
  pgk_conv s;
  memcpy(&s, &g->c, sizeof s);
  pg_tensor *into = what == FORWARD ? y : what == INPUT ? x : w;
  const pg_dtype dtype = (pg_dtype)(what == INPUT ? y : x)->dtype;
  s.bf16 = dtype == PG_BF16;
  if (!s.n || !s.ic || !s.oc || !volume(s.in)) {
    pg_tensor_fill(into, 0);
  } else {
    const pg_engine *e = NULL;
    if (dtype != PG_F64) PG_TRY(pg_engine_of(ctx, &e));
    if (s.bf16) {
      half_job j = {ctx, g, NULL, &s, what, x, w, bias, y, false};
      return half_multiply(&j, e);
    }
    if (is_whole(&s) || is_pointwise(&s, e)) {
      const void *b = bias && what == FORWARD ? pg_data(bias) : NULL;
      PG_TRY(matrix_run(ctx, &s, what, dtype, pg_data(x), pg_data(w), b, pg_data(y)));
      if (b) return PG_OK;
    } else {
      if (dtype == PG_F32 && e->winograd && !ctx->deterministic) {
        bool done;
        void *b = bias ? pg_data(bias) : NULL;
        PG_TRY(winograd_run(ctx, &s, what, pg_data(x), pg_data(w), b, pg_data(y), g->relu, &done));
        if (done && g->relu) *g->relu = true;
        if (done) return PG_OK;
      }
      if (e && dnn_run(e->dnn, &s, what, x, w, bias, y) == PG_OK) return PG_OK;
      PG_TRY(portable_run(ctx, &s, what, dtype == PG_F64, pg_data(x), pg_data(w), pg_data(y)));
    }
  }
  if (!bias || what == INPUT) return PG_OK;
  if (what == WEIGHT) {
    pg_tensor *sum;
    PG_TRY(sum_channels(ctx, y, 1, &sum));
    pg_status copied = pg_tensor_copy(bias, sum);
    pg_tensor_unref(sum);
    return copied;
  }
  if (!s.bf16) {
    add_bias(ctx, bias, y);
    return PG_OK;
  }
  int64_t shape[4] = {1, s.oc, 1, 1}, stride[4] = {0, 1, 0, 0};
  pg_tensor *wide; /* an empty sum in bfloat16: the bias alone */
  PG_TRY(pg_tensor_alias(ctx, bias, 4, shape, stride, bias->offset, &wide));
  pg_status status = pg_tensor_copy(y, wide);
  pg_tensor_unref(wide);
  return status;
}

/* The dtype in which bias and weight gradients of images of this dtype are summed. */
static pg_dtype sum_dtype(pg_dtype d) { return d == PG_BF16 ? PG_F32 : d; }

/* y = x * w + bias; y is new, channels last. *kept, where not NULL, gets x in that memory order if
 * it had another one. */
static pg_status forward_into(pg_ctx *ctx, const geometry *g, pg_tensor *x, pg_tensor *w,
                              pg_tensor *bias, pg_tensor *y, pg_tensor **kept) {
  pg_tensor *xi = NULL, *wc = NULL, *bc = NULL, *yi = NULL;
  pg_status s = as_image(ctx, x, g, &xi);
  if (s == PG_OK) s = as_image(ctx, y, g, &yi);
  if (s == PG_OK) s = pg__contiguous(ctx, w, &wc);
  if (s == PG_OK && bias) s = pg__as(ctx, bias, sum_dtype((pg_dtype)bias->dtype), &bc);
  if (s == PG_OK) s = multiply(ctx, g, FORWARD, xi, wc, bc, yi);
  if (s == PG_OK && kept && xi->storage != x->storage) *kept = pg_tensor_ref(xi);
  pg_tensor_unref(yi);
  pg_tensor_unref(bc);
  pg_tensor_unref(wc);
  pg_tensor_unref(xi);
  return s;
}

/* x = the gradient of the image; x is new, channels last. */
static pg_status input_into(pg_ctx *ctx, const geometry *g, pg_tensor *y, pg_tensor *w,
                            pg_tensor *x) {
  pg_tensor *xi = NULL, *wc = NULL, *yi = NULL;
  pg_status s = as_image(ctx, y, g, &yi);
  if (s == PG_OK) s = as_image(ctx, x, g, &xi);
  if (s == PG_OK) s = pg__contiguous(ctx, w, &wc);
  if (s == PG_OK) s = multiply(ctx, g, INPUT, xi, wc, NULL, yi);
  pg_tensor_unref(wc);
  pg_tensor_unref(xi);
  pg_tensor_unref(yi);
  return s;
}

/* *gw, contiguous = the gradient of a weight of shape w, float32 for bfloat16. *gb, where gb is not
 * NULL = that of the bias, the sum of y. kept: x in the kernels' memory order, or NULL. */
static pg_status weight_into(pg_ctx *ctx, const geometry *g, pg_tensor *x, pg_tensor *kept,
                             pg_tensor *y, const pg_meta *w, pg_tensor **gw, pg_tensor **gb) {
  const pg_dtype wide = sum_dtype((pg_dtype)w->dtype);
  pg_tensor *xi = NULL, *yi = NULL;
  pg_status s = PG_OK;
  if (kept) xi = pg_tensor_ref(kept);
  else s = as_image(ctx, x, g, &xi);
  if (s == PG_OK) s = as_image(ctx, y, g, &yi);
  if (s == PG_OK) s = pg_tensor_new(ctx, wide, w->nd, w->shape, gw);
  if (s == PG_OK && gb) s = pg_tensor_new(ctx, wide, 1, &g->c.oc, gb);
  if (s == PG_OK) s = multiply(ctx, g, WEIGHT, xi, *gw, gb ? *gb : NULL, yi);
  pg_tensor_unref(yi);
  pg_tensor_unref(xi);
  return s;
}

/* --- the products as ops ---------------------------------------------------------------------- */

/* conv_apply(input, weight, ..), conv_input_grad(grad, weight, .., shape of the input) and
 * conv_weight_grad(input, grad, .., shape of the weight): each one's gradients are the other two.
 */
static pg_status product_op(pg_ctx *ctx, product what, const geometry *g, pg_tensor *a,
                            pg_tensor *b, const pg_meta *like, pg_tensor **out) {
  const pgk_conv *c = &g->c;
  int64_t padding[6];
  memcpy(padding, c->before, sizeof c->before);
  memcpy(padding + 3, c->after, sizeof c->after);
  static const char *const name[] = {"conv_apply", "conv_input_grad", "conv_weight_grad"};
  return pg_do(ctx, out, name[what], what == FORWARD ? "ttllli" : "ttlllil", a, b, 3, c->stride, 6,
               padding, 3, c->dilation, c->groups, like ? like->nd : 0, like ? like->shape : NULL);
}

static pg_status apply_infer(pg_call *c) {
  geometry g;
  const pg_tensor *x = c->in[0], *w = c->in[1];
  PG_TRY(conv_geometry(c, x->nd, x->shape, w->nd, w->shape, &g));
  return out_image(c, &g, g.c.oc, g.c.out);
}

static pg_status apply_forward(pg_call *c) {
  geometry g;
  const pg_tensor *x = c->in[0], *w = c->in[1];
  PG_TRY(conv_geometry(c, x->nd, x->shape, w->nd, w->shape, &g));
  return forward_into(c->ctx, &g, c->in[0], c->in[1], NULL, c->out[0], NULL);
}

static pg_status bias_grad(pg_call *c) {
  pg_tensor *gy = c->gout[0];
  return sum_channels(c->ctx, gy, gy->nd - 1 - spatial(c->meta[1].nd), &c->gin[2]);
}

/* Gradients of input and weight as ops. */
static pg_status recorded_backward(pg_call *c, const geometry *g) {
  pg_tensor *gy = c->gout[0];
  if (c->need[0]) PG_TRY(product_op(c->ctx, INPUT, g, gy, c->in[1], &c->meta[0], &c->gin[0]));
  if (!c->need[1]) return PG_OK;
  return product_op(c->ctx, WEIGHT, g, c->in[0], gy, &c->meta[1], &c->gin[1]);
}

static pg_status apply_backward(pg_call *c) {
  geometry g;
  const pg_meta *x = &c->meta[0], *w = &c->meta[1];
  PG_TRY(conv_geometry(c, x->nd, x->shape, w->nd, w->shape, &g));
  return recorded_backward(c, &g);
}

static pg_status input_grad_geometry(pg_call *c, int wnd, const int64_t *w, geometry *g) {
  return conv_geometry(c, c->arg[SHAPE].n, c->arg[SHAPE].v, wnd, w, g);
}

static pg_status input_grad_infer(pg_call *c) {
  geometry g;
  PG_TRY(input_grad_geometry(c, c->in[1]->nd, c->in[1]->shape, &g));
  return out_image(c, &g, g.c.ic, g.c.in);
}

static pg_status input_grad_forward(pg_call *c) {
  geometry g;
  PG_TRY(input_grad_geometry(c, c->in[1]->nd, c->in[1]->shape, &g));
  return input_into(c->ctx, &g, c->in[0], c->in[1], c->out[0]);
}

static pg_status input_grad_backward(pg_call *c) {
  geometry g;
  const pg_meta *w = &c->meta[1];
  PG_TRY(input_grad_geometry(c, w->nd, w->shape, &g));
  pg_tensor *gx = c->gout[0];
  if (c->need[0]) PG_TRY(product_op(c->ctx, FORWARD, &g, gx, c->in[1], NULL, &c->gin[0]));
  if (!c->need[1]) return PG_OK;
  return product_op(c->ctx, WEIGHT, &g, gx, c->in[0], w, &c->gin[1]);
}

static pg_status weight_grad_geometry(pg_call *c, int nd, const int64_t *x, geometry *g) {
  return conv_geometry(c, nd, x, c->arg[SHAPE].n, c->arg[SHAPE].v, g);
}

static pg_status weight_grad_infer(pg_call *c) {
  geometry g;
  PG_TRY(weight_grad_geometry(c, c->in[0]->nd, c->in[0]->shape, &g));
  return pg_out_shape(c, 0, (pg_dtype)c->in[0]->dtype, c->arg[SHAPE].n, c->arg[SHAPE].v);
}

static pg_status weight_grad_forward(pg_call *c) {
  geometry g;
  PG_TRY(weight_grad_geometry(c, c->in[0]->nd, c->in[0]->shape, &g));
  pg_meta like = {.dtype = c->in[0]->dtype, .nd = c->out[0]->nd};
  memcpy(like.shape, c->out[0]->shape, sizeof like.shape);
  pg_tensor *gw = NULL;
  pg_status s = weight_into(c->ctx, &g, c->in[0], NULL, c->in[1], &like, &gw, NULL);
  if (s == PG_OK) s = pg_tensor_copy(c->out[0], gw);
  pg_tensor_unref(gw);
  return s;
}

static pg_status weight_grad_backward(pg_call *c) {
  geometry g;
  const pg_meta *x = &c->meta[0];
  PG_TRY(weight_grad_geometry(c, x->nd, x->shape, &g));
  pg_tensor *gw = c->gout[0];
  if (c->need[0]) PG_TRY(product_op(c->ctx, INPUT, &g, c->in[1], gw, x, &c->gin[0]));
  if (!c->need[1]) return PG_OK;
  return product_op(c->ctx, FORWARD, &g, c->in[0], gw, NULL, &c->gin[1]);
}

/* --- conv1d, conv2d, conv3d ------------------------------------------------------------------- */

/* Dtypes and dims that all convolutions ask for; channels: of the result. */
static pg_status check_tensors(pg_call *c, int sp) {
  PG_TRY(pg_want(c, 0, PG_M_FLOAT));
  PG_TRY(pg_want_same_dtype(c, 1, 0));
  PG_TRY(pg_want_same_dtype(c, 2, 0));
  return pg_want_dim(c, 1, sp + 2);
}

static pg_status check_bias(pg_call *c, int64_t channels) {
  const pg_tensor *bias = c->in[2];
  if (bias && (bias->nd != 1 || bias->shape[0] != channels))
    return pg_fail(c->ctx, PG_ESHAPE, "argument 'bias': expected [%lld], got %s",
                   (long long)channels, pg_shape_str(bias).s);
  return PG_OK;
}

static pg_status conv_infer(pg_call *c, int sp) {
  PG_TRY(check_tensors(c, sp));
  const pg_tensor *x = c->in[0], *w = c->in[1];
  geometry g;
  PG_TRY(conv_geometry(c, x->nd, x->shape, w->nd, w->shape, &g));
  PG_TRY(check_bias(c, g.c.oc));
  return out_image(c, &g, g.c.oc, g.c.out);
}

/* conv_infer, and the count: every weight once for each pixel of the result. */
static pg_status conv_count(pg_call *c, int sp) {
  PG_TRY(conv_infer(c, sp));
  const pg_tensor *w = c->in[1];
  const int64_t n = pg_numel_of(c->os[0].nd, c->os[0].shape);
  if (w->shape[0]) pg_count_macs(c, n / w->shape[0] * pg_numel(w));
  return PG_OK;
}

static pg_status conv1d_infer(pg_call *c) { return conv_count(c, 1); }
static pg_status conv2d_infer(pg_call *c) { return conv_count(c, 2); }
static pg_status conv3d_infer(pg_call *c) { return conv_count(c, 3); }

static pg_status conv_forward(pg_call *c) {
  const pg_tensor *x = c->in[0], *w = c->in[1];
  geometry g;
  PG_TRY(conv_geometry(c, x->nd, x->shape, w->nd, w->shape, &g));
  pg_tensor **kept = c->recording && w->requires_grad ? &c->keep[0] : NULL;
  if (c->then && c->then->flags & PG_RELU) g.relu = &c->joined;
  return forward_into(c->ctx, &g, c->in[0], c->in[1], c->in[2], c->out[0], kept);
}

static pg_status conv_backward(pg_call *c) {
  pg_ctx *ctx = c->ctx;
  const pg_meta *x = &c->meta[0], *w = &c->meta[1];
  geometry g;
  PG_TRY(conv_geometry(c, x->nd, x->shape, w->nd, w->shape, &g));
  pg_tensor *gy = c->gout[0];
  if (c->recording) {
    PG_TRY(recorded_backward(c, &g));
    return c->need[2] ? bias_grad(c) : PG_OK;
  }
  if (c->need[0]) {
    PG_TRY(new_image(ctx, (pg_dtype)x->dtype, &g, g.c.ic, g.c.in, &c->gin[0]));
    PG_TRY(input_into(ctx, &g, gy, c->in[1], c->gin[0]));
  }
  if (c->need[1])
    return weight_into(ctx, &g, c->in[0], c->keep[0], gy, w, &c->gin[1],
                       c->need[2] ? &c->gin[2] : NULL);
  return c->need[2] ? bias_grad(c) : PG_OK;
}

/* --- conv_transpose1d, 2d, 3d ----------------------------------------------------------------- */

static pg_status transposed_infer(pg_call *c, int sp) {
  PG_TRY(check_tensors(c, sp));
  const pg_tensor *x = c->in[0], *w = c->in[1];
  geometry g;
  PG_TRY(transposed_geometry(c, x->nd, x->shape, w->nd, w->shape, &g));
  PG_TRY(check_bias(c, g.c.ic));
  return out_image(c, &g, g.c.ic, g.c.in);
}

/* transposed_infer, and the count: every weight once for each pixel of the input. */
static pg_status transposed_count(pg_call *c, int sp) {
  PG_TRY(transposed_infer(c, sp));
  const pg_tensor *w = c->in[1];
  if (w->shape[0]) pg_count_macs(c, pg_numel(c->in[0]) / w->shape[0] * pg_numel(w));
  return PG_OK;
}

static pg_status transposed1d_infer(pg_call *c) { return transposed_count(c, 1); }
static pg_status transposed2d_infer(pg_call *c) { return transposed_count(c, 2); }
static pg_status transposed3d_infer(pg_call *c) { return transposed_count(c, 3); }

static pg_status transposed_forward(pg_call *c) {
  const pg_tensor *x = c->in[0], *w = c->in[1];
  geometry g;
  PG_TRY(transposed_geometry(c, x->nd, x->shape, w->nd, w->shape, &g));
  PG_TRY(input_into(c->ctx, &g, c->in[0], c->in[1], c->out[0]));
  if (!c->in[2]) return PG_OK;
  pg_tensor *y = c->out[0], *bias;
  if (y->dtype == PG_BF16) {
    int64_t shape[PG_MAX_DIMS], stride[PG_MAX_DIMS] = {0};
    for (int i = 0; i < y->nd; i++) shape[i] = 1;
    shape[y->nd - g.sp - 1] = g.c.ic;
    stride[y->nd - g.sp - 1] = c->in[2]->stride[0];
    PG_TRY(pg_tensor_alias(c->ctx, c->in[2], y->nd, shape, stride, c->in[2]->offset, &bias));
    pg__add_in_place(y, bias);
  } else {
    PG_TRY(pg__contiguous(c->ctx, c->in[2], &bias));
    add_bias(c->ctx, bias, y);
  }
  pg_tensor_unref(bias);
  return PG_OK;
}

static pg_status transposed_backward(pg_call *c) {
  pg_ctx *ctx = c->ctx;
  const pg_meta *x = &c->meta[0], *w = &c->meta[1];
  geometry g;
  PG_TRY(transposed_geometry(c, x->nd, x->shape, w->nd, w->shape, &g));
  pg_tensor *gy = c->gout[0];
  if (c->need[0]) PG_TRY(product_op(ctx, FORWARD, &g, gy, c->in[1], NULL, &c->gin[0]));
  if (c->need[1] && !c->recording)
    PG_TRY(weight_into(ctx, &g, gy, NULL, c->in[0], w, &c->gin[1], NULL));
  else if (c->need[1]) PG_TRY(product_op(ctx, WEIGHT, &g, gy, c->in[0], w, &c->gin[1]));
  return c->need[2] ? bias_grad(c) : PG_OK;
}

/* --- descriptors ------------------------------------------------------------------------------ */

#define CONV_ARGS                                                                  \
  PG_DEF("stride", PG_INTS, 1), {"padding", PG_INTS, PG_DEFAULT, 0, "valid|same"}, \
      PG_DEF("dilation", PG_INTS, 1), PG_DEF("groups", PG_INT, 1)

/* CONV("2d", "H x W", .., conv2d_infer): conv2d. */
#define CONV(dims, sizes, kernel, check)                                                          \
  {                                                                                               \
    .name = "conv" dims,                                                                          \
    .doc = "y[n, o] = bias[o] + the sum over channels i of weight[o, i] correlated with "         \
           "input[n, i]; input N x C x " sizes ", weight O x C/groups x " kernel ".",             \
    .param = {PG_T("input"), PG_T("weight"), PG_TOPT("bias"), CONV_ARGS},                         \
    .flags = PG_NN | PG_LOWER, .saves = PG_SAVE_IN(0) | PG_SAVE_IN(1), .nout = 1, .infer = check, \
    .forward = {conv_forward}, .backward = conv_backward                                          \
  }
#define TRANSPOSED(dims, sizes, kernel, check)                                                    \
  {                                                                                               \
    .name = "conv_transpose" dims,                                                                \
    .doc = "y = bias + what conv" dims " with this weight would send back to its input as "       \
           "gradient; input N x C x " sizes ", weight C x O/groups x " kernel ".",                \
    .param = {PG_T("input"),                                                                      \
              PG_T("weight"),                                                                     \
              PG_TOPT("bias"),                                                                    \
              PG_DEF("stride", PG_INTS, 1),                                                       \
              PG_DEF("padding", PG_INTS, 0),                                                      \
              PG_DEF("output_padding", PG_INTS, 0),                                               \
              PG_DEF("groups", PG_INT, 1),                                                        \
              PG_DEF("dilation", PG_INTS, 1)},                                                    \
    .flags = PG_NN | PG_LOWER, .saves = PG_SAVE_IN(0) | PG_SAVE_IN(1), .nout = 1, .infer = check, \
    .forward = {transposed_forward}, .backward = transposed_backward                              \
  }
#define PRODUCT(title, text, a, b, check, run, back, ...)                                  \
  {                                                                                        \
    .name = title, .doc = text, .param = {PG_T(a), PG_T(b), CONV_ARGS, __VA_ARGS__},       \
    .flags = PG_HIDDEN, .saves = PG_SAVE_IN(0) | PG_SAVE_IN(1), .nout = 1, .infer = check, \
    .forward = {run}, .backward = back                                                     \
  }

const pg_op PG_AT(pg_ops_conv)[] = {
    CONV("2d", "H x W", "kH x kW", conv2d_infer),
    CONV("1d", "L", "k", conv1d_infer),
    CONV("3d", "D x H x W", "kD x kH x kW", conv3d_infer),
    TRANSPOSED("2d", "H x W", "kH x kW", transposed2d_infer),
    TRANSPOSED("1d", "L", "k", transposed1d_infer),
    TRANSPOSED("3d", "D x H x W", "kD x kH x kW", transposed3d_infer),
    PRODUCT("conv_apply", "A convolution without bias, all its lists explicit.", "input", "weight",
            apply_infer, apply_forward, apply_backward, {0}),
    PRODUCT("conv_input_grad", "The gradient of a convolution's input, of this shape.", "grad",
            "weight", input_grad_infer, input_grad_forward, input_grad_backward,
            PG_REQ("shape", PG_INTS)),
    PRODUCT("conv_weight_grad", "The gradient of a convolution's weight, of this shape.", "input",
            "grad", weight_grad_infer, weight_grad_forward, weight_grad_backward,
            PG_REQ("shape", PG_INTS)),
    {0}};
