/* Pooling of volumes: max, average, power mean, adaptive, made of the pooling of images: over h and
 * w of every slice, then over d with the slices as rows. Relies on composed.h. Spec:
 * spec/ops/pool3d_spec.lua. */
#include <string.h>

#include "autograd/node.h"
#include "ops/composed.h"

/* A window along d, h, w; size: of the result. */
typedef struct window {
  int64_t k[3], stride[3], pad[3], dilation[3], size[3];
  bool ceil_mode;
} window;

static pg_status want_volumes(pg_call *c) {
  const pg_tensor *x = c->in[0];
  PG_TRY(pg_want(c, 0, PG_M_REAL));
  if (x->nd != 4 && x->nd != 5)
    return pg_fail(c->ctx, PG_ESHAPE, "argument 'input': expected 4 or 5 dims, got %s",
                   pg_shape_str(x).s);
  for (int d = x->nd - 3; d < x->nd; d++)
    if (!x->shape[d]) return pg_bad_in(c, PG_ESHAPE, 0, "volumes with voxels");
  return PG_OK;
}

/* Three values of argument k, or `otherwise` where it is -1 or empty. */
static pg_status three(pg_call *c, int k, int64_t least, const int64_t *otherwise, int64_t *v) {
  memcpy(v, otherwise, 3 * sizeof *v);
  if (k < 0 || !c->arg[k].set || !c->arg[k].n) return PG_OK;
  PG_TRY(pg_arg_ints(c, k, 3, least, v));
  for (int i = 0; i < 3; i++)
    if (v[i] > INT16_MAX)
      return pg_fail(c->ctx, PG_EARG, "argument '%s': expected at most %d, got %lld",
                     pg_arg_name(c, k), INT16_MAX, (long long)v[i]);
  return PG_OK;
}

/* at: the argument kernel_size, stride comes after it; padding_at, dilation_at: -1 where the op has
 * none. */
static pg_status read_window(pg_call *c, int at, int padding_at, int dilation_at, int ceil_at,
                             window *w) {
  static const int64_t none[3] = {0, 0, 0}, one[3] = {1, 1, 1};
  const pg_tensor *x = c->in[0];
  PG_TRY(three(c, at, 1, one, w->k));
  PG_TRY(three(c, at + 1, 1, w->k, w->stride));
  PG_TRY(three(c, padding_at, 0, none, w->pad));
  PG_TRY(three(c, dilation_at, 1, one, w->dilation));
  w->ceil_mode = c->arg[ceil_at].i != 0;
  for (int i = 0; i < 3; i++) {
    const int64_t in = x->shape[x->nd - 3 + i], reach = w->dilation[i] * (w->k[i] - 1) + 1;
    if (w->pad[i] > reach / 2)
      return pg_bad_arg(c, PG_EARG, padding_at, "at most half of the kernel of %lld",
                        (long long)reach);
    const int64_t span = in + 2 * w->pad[i] - reach + (w->ceil_mode ? w->stride[i] - 1 : 0);
    if (span < 0)
      return pg_bad_arg(c, PG_ESHAPE, at, "a kernel that fits into input %s", pg_shape_str(x).s);
    w->size[i] = span / w->stride[i] + 1;
    if (w->ceil_mode && (w->size[i] - 1) * w->stride[i] >= in + w->pad[i]) w->size[i]--;
  }
  return PG_OK;
}

static pg_status adaptive_window(pg_call *c, window *w) { return pg_arg_ints(c, 0, 3, 1, w->size); }

/* x as images: every slice of every channel; then, with h and w pooled, every channel with its
 * slices as rows; then the volumes of the result. */
static pg_tensor *as_slices(pg_chain *k, pg_tensor *x) {
  const int64_t *s = x->shape + (x->nd - 3);
  int64_t shape[4] = {1, pg_numel_of(x->nd - 2, x->shape), s[1], s[2]};
  return PG_STEP(k, "reshape", "tl", x, 4, shape);
}

static pg_tensor *as_rows(pg_chain *k, const pg_tensor *x, const window *w, pg_tensor *slices) {
  int64_t shape[4] = {1, pg_numel_of(x->nd - 3, x->shape), x->shape[x->nd - 3],
                      w->size[1] * w->size[2]};
  return PG_STEP(k, "reshape", "tl", slices, 4, shape);
}

static pg_tensor *as_volumes(pg_chain *k, const pg_tensor *x, const window *w, pg_tensor *rows) {
  int64_t shape[PG_MAX_DIMS];
  memcpy(shape, x->shape, sizeof shape);
  memcpy(shape + x->nd - 3, w->size, sizeof w->size);
  return PG_STEP(k, "reshape", "tl", rows, (int)x->nd, shape);
}

/* --- maxima ------------------------------------------------------------------------------------
 */

enum { ON_SLICES, ON_ROWS };

/* Argument i of c = two integers. */
static void set_pair(pg_call *c, int i, int64_t first, int64_t second) {
  int64_t *v = c->ints + c->nints;
  v[0] = first;
  v[1] = second;
  c->nints += 2;
  c->arg[i] = (pg_arg){.set = true, .n = 2, .v = v};
}

/* max_pool2d or, where w->k is 0, adaptive_max_pool2d; *places gets the second output where it is
 * not NULL. */
static pg_tensor *max_of_images(pg_chain *k, pg_tensor *x, const window *w, int stage,
                                pg_tensor **places) {
  if (k->status != PG_OK) return NULL;
  const bool adaptive = w->k[0] == 0, rows = stage == ON_ROWS;
  pg_call c;
  pg_call_init(&c, k->ctx, pg_op_find(k->ctx, adaptive ? "adaptive_max_pool2d" : "max_pool2d"));
  c.in[0] = x;
  if (adaptive) {
    if (rows) set_pair(&c, 0, w->size[0], w->size[1] * w->size[2]);
    else set_pair(&c, 0, w->size[1], w->size[2]);
  } else {
    const int64_t *const given[4] = {w->k, w->stride, w->pad, w->dilation};
    for (int i = 0; i < 4; i++)
      if (rows) set_pair(&c, i, given[i][0], i != 2); /* a width of 1 without padding */
      else set_pair(&c, i, given[i][1], given[i][2]);
    c.arg[4] = (pg_arg){.set = true, .i = w->ceil_mode};
  }
  c.arg[adaptive ? 1 : 5] = (pg_arg){.set = true, .i = places != NULL};
  k->status = pg_apply(&c);
  if (k->status != PG_OK) return NULL;
  if (places) {
    k->made = c.out[1];
    *places = pg_chain_push(k, PG_OK);
  }
  k->made = c.out[0];
  return pg_chain_push(k, PG_OK);
}

static pg_tensor *whole(pg_chain *k, int64_t v) {
  if (k->status != PG_OK) return NULL;
  return pg_chain_push(k, pg_tensor_number(k->ctx, (double)v, true, &k->made));
}

/* Places within a volume, from those within a slice, first, and those among the rows, second. */
static pg_tensor *joined_places(pg_chain *k, const pg_tensor *x, const window *w, pg_tensor *first,
                                pg_tensor *second) {
  const int64_t channels = pg_numel_of(x->nd - 3, x->shape), area = w->size[1] * w->size[2];
  const int64_t depth = x->shape[x->nd - 3], plane = x->shape[x->nd - 2] * x->shape[x->nd - 1];
  first = PG_STEP(k, "reshape", "tl", first, 2, (int64_t[]){channels, depth * area});
  second = PG_STEP(k, "reshape", "tl", second, 2, (int64_t[]){channels, w->size[0] * area});
  pg_tensor *slice = PG_STEP(k, "sub", "tt", second, whole(k, 1));
  slice = PG_STEP(k, "floor_divide", "tt", slice, whole(k, area));
  slice = PG_STEP(k, "mul", "tt", slice, whole(k, plane));
  return PG_STEP(k, "add", "tt", PG_STEP(k, "gather", "tit", first, (int64_t)2, second), slice);
}

static pg_status max_pool(pg_call *c, const window *w) {
  const pg_tensor *x = c->in[0];
  const bool places = c->nout == 2;
  pg_chain k = {.ctx = c->ctx};
  pg_tensor *first = NULL, *second = NULL;
  pg_tensor *t = as_slices(&k, c->in[0]);
  t = as_rows(&k, x, w, max_of_images(&k, t, w, ON_SLICES, places ? &first : NULL));
  t = as_volumes(&k, x, w, max_of_images(&k, t, w, ON_ROWS, places ? &second : NULL));
  if (places) {
    pg_tensor *at = as_volumes(&k, x, w, joined_places(&k, x, w, first, second));
    pg_chain_give(&k, at, &c->out[1]);
  }
  return pg_chain_result(&k, t, &c->out[0]);
}

static pg_status max_infer(pg_call *c) {
  window w;
  PG_TRY(want_volumes(c));
  c->nout = c->arg[5].i ? 2 : 1;
  return read_window(c, 0, 2, 3, 4, &w);
}

static pg_status max_run(pg_call *c) {
  window w;
  PG_TRY(read_window(c, 0, 2, 3, 4, &w));
  return max_pool(c, &w);
}

static pg_status adaptive_max_infer(pg_call *c) {
  window w;
  PG_TRY(want_volumes(c));
  c->nout = c->arg[1].i ? 2 : 1;
  return adaptive_window(c, &w);
}

static pg_status adaptive_max_run(pg_call *c) {
  window w = {0};
  PG_TRY(adaptive_window(c, &w));
  return max_pool(c, &w);
}

/* --- means -------------------------------------------------------------------------------------
 */

static pg_status avg_infer(pg_call *c) {
  window w;
  PG_TRY(want_volumes(c));
  if (c->arg[5].set && c->arg[5].i == 0) return pg_bad_arg(c, PG_EARG, 5, "an integer but 0");
  return read_window(c, 0, 2, -1, 3, &w);
}

/* With a divisor of its own the slices are summed and the rows divided. */
static pg_tensor *mean_of_images(pg_chain *k, pg_call *c, pg_tensor *x, const int64_t *size,
                                 const int64_t *stride, const int64_t *pad, int64_t divisor) {
  const int ceil_mode = c->arg[3].i != 0, count = c->arg[4].i != 0;
  if (!c->arg[5].set)
    return PG_STEP(k, "avg_pool2d", "tlllbb", x, 2, size, 2, stride, 2, pad, ceil_mode, count);
  return PG_STEP(k, "avg_pool2d", "tlllbbi", x, 2, size, 2, stride, 2, pad, ceil_mode, count,
                 divisor);
}

static pg_status avg_run(pg_call *c) {
  window w;
  PG_TRY(read_window(c, 0, 2, -1, 3, &w));
  pg_chain k = {.ctx = c->ctx};
  pg_tensor *t = as_slices(&k, c->in[0]);
  t = mean_of_images(&k, c, t, w.k + 1, w.stride + 1, w.pad + 1, 1);
  t = as_rows(&k, c->in[0], &w, t);
  t = mean_of_images(&k, c, t, (int64_t[]){w.k[0], 1}, (int64_t[]){w.stride[0], 1},
                     (int64_t[]){w.pad[0], 0}, c->arg[5].i);
  return pg_chain_result(&k, as_volumes(&k, c->in[0], &w, t), &c->out[0]);
}

static pg_status adaptive_avg_infer(pg_call *c) {
  window w;
  PG_TRY(want_volumes(c));
  return adaptive_window(c, &w);
}

static pg_status adaptive_avg_run(pg_call *c) {
  window w;
  PG_TRY(adaptive_window(c, &w));
  pg_chain k = {.ctx = c->ctx};
  pg_tensor *t = PG_STEP(&k, "adaptive_avg_pool2d", "tl", as_slices(&k, c->in[0]), 2, w.size + 1);
  t = PG_STEP(&k, "adaptive_avg_pool2d", "tl", as_rows(&k, c->in[0], &w, t), 2,
              (int64_t[]){w.size[0], w.size[1] * w.size[2]});
  return pg_chain_result(&k, as_volumes(&k, c->in[0], &w, t), &c->out[0]);
}

/* --- power mean: arg norm_type, kernel_size, stride, ceil_mode ----------------------------------
 */

static pg_status lp_infer(pg_call *c) {
  window w;
  PG_TRY(want_volumes(c));
  if (!(c->arg[0].f != 0))
    return pg_fail(c->ctx, PG_EARG, "argument 'norm_type': expected a number but 0, got %g",
                   c->arg[0].f);
  return read_window(c, 1, -1, -1, 3, &w);
}

static pg_status lp_run(pg_call *c) {
  window w;
  PG_TRY(read_window(c, 1, -1, -1, 3, &w));
  pg_chain k = {.ctx = c->ctx};
  const double p = c->arg[0].f;
  pg_tensor *t = PG_STEP(&k, "lp_pool2d", "tfllb", as_slices(&k, c->in[0]), p, 2, w.k + 1, 2,
                         w.stride + 1, (int)w.ceil_mode);
  t = PG_STEP(&k, "lp_pool2d", "tfllb", as_rows(&k, c->in[0], &w, t), p, 2, (int64_t[]){w.k[0], 1},
              2, (int64_t[]){w.stride[0], 1}, (int)w.ceil_mode);
  return pg_chain_result(&k, as_volumes(&k, c->in[0], &w, t), &c->out[0]);
}

/* --- the table ----------------------------------------------------------------------------------
 */

#define VOLUMES(title, text, outputs, check, run, ...)                          \
  {                                                                             \
    .name = title, .doc = text, .param = {PG_T("input"), __VA_ARGS__},          \
    .flags = PG_COMPOSED | PG_NN, .nout = outputs, .infer = check, .forward = { \
      run                                                                       \
    }                                                                           \
  }
#define RETURN_INDICES PG_DEF("return_indices", PG_FLAG, 0)

const pg_op PG_AT(pg_ops_pool3d)[] = {
    VOLUMES("max_pool3d",
            "The largest value of each window of N x C x D x H x W volumes; stride defaults to "
            "kernel_size.",
            2, max_infer, max_run, PG_REQ("kernel_size", PG_INTS), PG_OPT("stride", PG_INTS),
            PG_DEF("padding", PG_INTS, 0), PG_DEF("dilation", PG_INTS, 1),
            PG_DEF("ceil_mode", PG_FLAG, 0), RETURN_INDICES),
    VOLUMES("avg_pool3d",
            "The mean of each window of N x C x D x H x W volumes; stride defaults to kernel_size.",
            1, avg_infer, avg_run, PG_REQ("kernel_size", PG_INTS), PG_OPT("stride", PG_INTS),
            PG_DEF("padding", PG_INTS, 0), PG_DEF("ceil_mode", PG_FLAG, 0),
            PG_DEF("count_include_pad", PG_FLAG, 1), PG_OPT("divisor_override", PG_INT)),
    VOLUMES("lp_pool3d",
            "(the sum of x^norm_type)^(1/norm_type) over each window of N x C x D x H x W volumes.",
            1, lp_infer, lp_run, PG_REQ("norm_type", PG_FLOAT), PG_REQ("kernel_size", PG_INTS),
            PG_OPT("stride", PG_INTS), PG_DEF("ceil_mode", PG_FLAG, 0)),
    VOLUMES("adaptive_avg_pool3d",
            "The mean over output_size even cuts of N x C x D x H x W volumes.", 1,
            adaptive_avg_infer, adaptive_avg_run, PG_REQ("output_size", PG_INTS)),
    VOLUMES("adaptive_max_pool3d",
            "The largest value over output_size even cuts of N x C x D x H x W volumes.", 2,
            adaptive_max_infer, adaptive_max_run, PG_REQ("output_size", PG_INTS), RETURN_INDICES),
    {0}};
