/* CenterLoss: keeps one center for each class and returns how far features lie from theirs.
 * Relies on layer.h and the ops of center_loss.c. Spec: spec/nn/center_loss_spec.lua.
 *
 * Order update_first moves the centers in forward. Order loss_first stages what forward saw (sums
 * and counts by class) and moves the centers when backward has run: all that was staged for the
 * same optimizer step is one batch. So that this needs no hook, op center_loss writes the number of
 * that step into a ticket, and the layer looks at its tickets whenever somebody looks at the layer.
 * Until the step is over, the values from before are kept: a further forward measures from those.
 */
#include <math.h>
#include <string.h>

#include "autograd/registry.h"
#include "nn/layer.h"

enum { CLASSES, WIDTH, ALPHA, PRESET, ORDER, DENOMINATOR, REDUCTION, INIT, FACTOR, MOMENTUM, ONLY };
enum { CENTERS, COUNTS, DRIFT, VELOCITY };
enum { UPDATE_FIRST, LOSS_FIRST };
enum { NONE, SUM, MEAN, MEAN_SQUARE };

/* By number of the word in `preset`; the arguments that a script leaves out. */
static const struct preset {
  double alpha, factor, momentum;
  int order, denominator, reduction, init, only;
} presets[] = {
    {0.5, 0.5, 0, UPDATE_FIRST, 0, NONE, 0, 0},     /* keras */
    {0.5, 0.5, 0, LOSS_FIRST, 0, SUM, 1, 0},        /* wen2016 */
    {0.5, 0.5, 0.9, LOSS_FIRST, 0, MEAN, 2, 0},     /* caffe_face */
    {0.5, 0.5, 0, LOSS_FIRST, 0, SUM, 0, 1},        /* handongfeng */
    {0.5, 1, 0, LOSS_FIRST, 4, MEAN, 3, 0},         /* kaiyangzhou */
    {0.5, 0.5, 0, LOSS_FIRST, 3, MEAN, 3, 0},       /* jxgu1016 */
    {0.05, 1, 0, LOSS_FIRST, 2, MEAN_SQUARE, 1, 0}, /* facenet */
};

/* What center_sum said about a batch. */
typedef struct batch {
  struct batch *next;
  pg_tensor *sum, *label, *count; /* owned */
  int64_t size;
  pg_tensor *ticket; /* owned; NULL where no gradient was recorded */
  uint64_t steps;    /* ctx->steps when it was staged */
} batch;

typedef struct state {
  batch *first;  /* staged, backward has not run yet */
  batch *window; /* what moves the centers in the step `number` */
  uint64_t number;
  bool shown;                      /* the centers have the values with the window's move */
  pg_tensor *base, *base_velocity; /* rows of the window's classes from before it; where shown */
  int preset, init;
} state;

/* --- arguments ----------------------------------------------------------------------------------
 */

static void preset_float(pg_layer *l, int k, double v) {
  if (!l->arg[k].set) l->arg[k] = (pg_arg){.set = true, .f = v};
}
static void preset_int(pg_layer *l, int k, int v) {
  if (!l->arg[k].set) l->arg[k] = (pg_arg){.set = true, .i = v};
}

static pg_status check_fixed(pg_layer *l, const state *st) {
  const pg_tensor *centers = l->slot[CENTERS];
  bool same = l->arg[CLASSES].i == centers->shape[0] && l->arg[WIDTH].i == centers->shape[1] &&
              l->arg[PRESET].i == st->preset && l->arg[INIT].i == st->init;
  if (!same)
    return pg_fail(l->ctx, PG_EARG,
                   "arguments 'num_classes', 'num_features', 'preset' and 'init': expected what "
                   "the layer was made with, got another value");
  return PG_OK;
}

static pg_status check(pg_layer *l) {
  const struct preset *p = &presets[l->arg[PRESET].i];
  preset_float(l, ALPHA, p->alpha);
  preset_float(l, FACTOR, p->factor);
  preset_float(l, MOMENTUM, p->momentum);
  preset_int(l, ORDER, p->order);
  preset_int(l, DENOMINATOR, p->denominator);
  preset_int(l, REDUCTION, p->reduction);
  preset_int(l, INIT, p->init);
  preset_int(l, ONLY, p->only);
  PG_TRY(pg_layer_at_least(l, 1, "num_classes num_features"));
  static const int range[] = {ALPHA, FACTOR, MOMENTUM};
  for (size_t i = 0; i < sizeof range / sizeof *range; i++) {
    double v = l->arg[range[i]].f;
    if (!(v >= 0 && v < INFINITY) || (range[i] == MOMENTUM && v >= 1))
      return pg_fail(l->ctx, PG_EARG, "argument '%s': expected %s, got %g",
                     l->def->param[range[i]].name,
                     range[i] == MOMENTUM ? "0 to below 1" : "a finite number >= 0", v);
  }
  return l->own ? check_fixed(l, l->own) : PG_OK;
}

static pg_status build(pg_layer *l) {
  int64_t shape[2] = {l->arg[CLASSES].i, l->arg[WIDTH].i};
  PG_TRY(pg_layer_slot(l, CENTERS, PG_F32, 2, shape));
  PG_TRY(pg_layer_slot(l, COUNTS, PG_I64, 1, shape));
  PG_TRY(pg_layer_slot(l, DRIFT, PG_F32, 1, shape));
  if (l->arg[MOMENTUM].f > 0) PG_TRY(pg_layer_slot(l, VELOCITY, PG_F32, 2, shape));
  state *st;
  PG_TRY(pg_alloc_zero(l->ctx, sizeof *st, (void **)&st));
  l->own = st;
  st->preset = (int)l->arg[PRESET].i;
  st->init = (int)l->arg[INIT].i;
  switch (st->init) {
  case 0: /* uniform, as Keras has it */
    return pg_layer_uniform(l, CENTERS, 0.05);
  case 2: /* xavier, as Caffe has it: by the number of inputs */
    return pg_layer_uniform(l, CENTERS, sqrt(3.0 / (double)shape[1]));
  case 3:
    return pg_layer_normal(l, CENTERS, 0, 1);
  default:
    return PG_OK;
  }
}

/* --- batches ------------------------------------------------------------------------------------
 */

static void batch_free(pg_ctx *ctx, batch *b) {
  if (!b) return;
  pg_tensor_unref(b->sum);
  pg_tensor_unref(b->label);
  pg_tensor_unref(b->count);
  pg_tensor_unref(b->ticket);
  pg_free(ctx, b, sizeof *b);
}

static void drop_window(pg_layer *l) {
  state *st = l->own;
  batch_free(l->ctx, st->window);
  pg_tensor_unref(st->base);
  pg_tensor_unref(st->base_velocity);
  st->window = NULL;
  st->base = st->base_velocity = NULL;
  st->shown = false;
}

/* A slot was replaced: what was staged belonged to the old values. */
static void replaced(pg_layer *l) {
  state *st = l->own;
  if (!st) return;
  drop_window(l);
  while (st->first) {
    batch *b = st->first;
    st->first = b->next;
    batch_free(l->ctx, b);
  }
}

static void drop(pg_layer *l) {
  replaced(l);
  pg_free(l->ctx, l->own, sizeof(state));
  l->own = NULL;
}

/* Runs an op of three outputs into b. */
static pg_status run3(pg_ctx *ctx, const char *name, int nin, pg_tensor *const *in, batch *b) {
  pg_call c;
  pg_call_init(&c, ctx, pg_op_find(ctx, name));
  for (int i = 0; i < nin; i++) c.in[i] = in[i];
  PG_TRY(pg_apply(&c));
  pg_tensor_unref(b->sum);
  pg_tensor_unref(b->label);
  pg_tensor_unref(b->count);
  b->sum = c.out[0];
  b->label = c.out[1];
  b->count = c.out[2];
  return PG_OK;
}

/* A solver with momentum moves every class in every step: adds the absent ones to b with zeros. */
static pg_status widen(pg_layer *l, batch *b) {
  pg_tensor *sum = NULL, *label = NULL, *count = NULL;
  const int64_t *shape = l->slot[CENTERS]->shape;
  pg_status s = pg_tensor_zeros(l->ctx, (pg_dtype)b->sum->dtype, 2, shape, &sum);
  if (s == PG_OK) s = pg_tensor_zeros(l->ctx, PG_I64, 1, shape, &label);
  if (s == PG_OK) s = pg_tensor_zeros(l->ctx, PG_I64, 1, shape, &count);
  if (s == PG_OK) {
    int64_t *k = pg_data(label);
    for (int64_t i = 0; i < shape[0]; i++) k[i] = i + 1;
    s = run3(l->ctx, "center_merge", 6,
             (pg_tensor *[]){sum, label, count, b->sum, b->label, b->count}, b);
  }
  pg_tensor_unref(sum);
  pg_tensor_unref(label);
  pg_tensor_unref(count);
  return s;
}

/* *out: what in[0], in[1] say about the centers. Every check of the data happens here. */
static pg_status batch_new(pg_layer *l, pg_tensor *const *in, batch **out) {
  batch *b;
  *out = NULL;
  PG_TRY(pg_alloc_zero(l->ctx, sizeof *b, (void **)&b));
  b->size = in[0]->nd ? in[0]->shape[0] : 0;
  b->steps = l->ctx->steps;
  pg_status s = run3(l->ctx, "center_sum", 3, (pg_tensor *[]){in[0], in[1], l->slot[CENTERS]}, b);
  if (s == PG_OK && l->arg[MOMENTUM].f > 0) s = widen(l, b);
  if (s == PG_OK) *out = b;
  else batch_free(l->ctx, b);
  return s;
}

/* Drift and velocity in the centers' dtype and shape: a script may have replaced the centers. */
static pg_status companions(pg_layer *l) {
  const pg_tensor *centers = l->slot[CENTERS];
  if (!centers) return pg_fail(l->ctx, PG_ESTATE, "CenterLoss: the centers are missing");
  pg_dtype dtype = (pg_dtype)centers->dtype;
  for (int k = DRIFT; k <= VELOCITY; k++) {
    const pg_tensor *t = l->slot[k];
    if (k == VELOCITY && l->arg[MOMENTUM].f == 0) continue;
    if (!t || t->dtype != dtype)
      PG_TRY(pg_layer_slot(l, k, dtype, k == DRIFT ? 1 : 2, centers->shape));
  }
  if (!l->slot[COUNTS]) PG_TRY(pg_layer_slot(l, COUNTS, PG_I64, 1, centers->shape));
  return PG_OK;
}

static pg_status move(pg_layer *l, const batch *b) {
  double momentum = l->arg[MOMENTUM].f;
  if (l->arg[ALPHA].f == 0) return PG_OK;
  return pg_do(l->ctx, NULL, "center_move_", "tttttttfiif", l->slot[CENTERS], b->sum, b->label,
               b->count, l->slot[COUNTS], l->slot[DRIFT], momentum > 0 ? l->slot[VELOCITY] : NULL,
               l->arg[ALPHA].f, l->arg[DENOMINATOR].i, b->size, momentum);
}

/* --- the window ---------------------------------------------------------------------------------
 */

/* Copies rows of `table` that b lists to `list`, or back. */
static void copy_rows(const batch *b, pg_tensor *table, pg_tensor *list, bool back) {
  const int64_t *label = pg_data(b->label);
  int64_t n = b->label->shape[0];
  size_t bytes = (size_t)table->shape[1] * pg_dtype_size((pg_dtype)table->dtype);
  for (int64_t i = 0; i < n && label[i]; i++) {
    char *a = (char *)pg_data(table) + (size_t)(label[i] - 1) * bytes;
    char *k = (char *)pg_data(list) + (size_t)i * bytes;
    memcpy(back ? a : k, back ? k : a, bytes);
  }
  if (back) table->storage->version++;
}

/* Gives the centers the values from before the window. */
static void hide(pg_layer *l) {
  state *st = l->own;
  if (!st->window || !st->shown) return;
  copy_rows(st->window, l->slot[CENTERS], st->base, true);
  if (st->base_velocity) copy_rows(st->window, l->slot[VELOCITY], st->base_velocity, true);
  const int64_t *label = pg_data(st->window->label), *count = pg_data(st->window->count);
  int64_t *counts = pg_data(l->slot[COUNTS]), n = st->window->label->shape[0];
  for (int64_t i = 0; i < n && label[i]; i++) counts[label[i] - 1] -= count[i] > 0;
  pg_tensor_unref(st->base);
  pg_tensor_unref(st->base_velocity);
  st->base = st->base_velocity = NULL;
  st->shown = false;
}

/* Moves the centers by the window, keeping the values from before unless it is the last time. */
static pg_status show(pg_layer *l, bool keep) {
  state *st = l->own;
  if (!st->window || st->shown || l->arg[ALPHA].f == 0) return PG_OK;
  const pg_tensor *sum = st->window->sum;
  PG_TRY(companions(l));
  if (keep) {
    PG_TRY(pg_tensor_new(l->ctx, (pg_dtype)sum->dtype, 2, sum->shape, &st->base));
    if (l->arg[MOMENTUM].f > 0)
      PG_TRY(pg_tensor_new(l->ctx, (pg_dtype)sum->dtype, 2, sum->shape, &st->base_velocity));
    copy_rows(st->window, l->slot[CENTERS], st->base, false);
    if (st->base_velocity) copy_rows(st->window, l->slot[VELOCITY], st->base_velocity, false);
  }
  PG_TRY(move(l, st->window));
  st->shown = true;
  return PG_OK;
}

static pg_status close_window(pg_layer *l) {
  PG_TRY(show(l, false));
  drop_window(l);
  return PG_OK;
}

/* Adds b, which is taken, to the window. */
static pg_status absorb(pg_layer *l, batch *b, uint64_t number) {
  state *st = l->own;
  pg_status s = PG_OK;
  if (st->window && st->number != number) s = close_window(l);
  if (s == PG_OK && st->window) {
    hide(l);
    batch *w = st->window;
    s = run3(l->ctx, "center_merge", 6,
             (pg_tensor *[]){w->sum, w->label, w->count, b->sum, b->label, b->count}, w);
    w->size += b->size;
  } else if (s == PG_OK) {
    st->window = b;
    st->number = number;
    return PG_OK;
  }
  batch_free(l->ctx, b);
  return s;
}

/* Takes in what was staged and whose backward has run, and moves the centers by it. */
static pg_status settle(pg_layer *l) {
  state *st = l->own;
  batch **at = &st->first;
  while (*at) {
    batch *b = *at;
    uint64_t number = b->ticket                   ? (uint64_t) * (int64_t *)pg_data(b->ticket)
                      : b->steps != l->ctx->steps ? b->steps + 1
                                                  : 0;
    if (!number && !(b->ticket && b->ticket->refs == 1)) { /* may still come */
      at = &b->next;
      continue;
    }
    *at = b->next;
    b->next = NULL;
    if (number) PG_TRY(absorb(l, b, number));
    else batch_free(l->ctx, b); /* its graph is gone: backward will never run */
  }
  if (st->window && st->number != l->ctx->steps + 1) return close_window(l);
  return PG_OK;
}

static pg_status sync(pg_layer *l) {
  if (!l->own) return PG_OK;
  PG_TRY(settle(l));
  return show(l, true);
}

/* --- forward ------------------------------------------------------------------------------------
 */

/* *out = rows, which is taken, reduced as the layer is told. */
static pg_status reduce(pg_layer *l, pg_tensor *rows, pg_tensor **out) {
  int reduction = (int)l->arg[REDUCTION].i;
  if (reduction == NONE) {
    *out = rows;
    return PG_OK;
  }
  pg_status s = pg_do(l->ctx, out, reduction == SUM ? "sum" : "mean", "t", rows);
  pg_tensor_unref(rows);
  return s;
}

static double factor_of(const pg_layer *l) {
  double factor = l->arg[FACTOR].f;
  return l->arg[REDUCTION].i == MEAN_SQUARE ? factor / (double)l->arg[WIDTH].i : factor;
}

static pg_status value(pg_layer *l, pg_tensor *const *in, pg_tensor *ticket, pg_tensor **out) {
  pg_tensor *rows;
  PG_TRY(pg_do(l->ctx, &rows, "center_loss", "tttft", in[0], in[1], l->slot[CENTERS], factor_of(l),
               ticket));
  return reduce(l, rows, out);
}

/* Update and value in one pass over the batch, without momentum. */
static pg_status update_and_value(pg_layer *l, pg_tensor *const *in, pg_tensor **out) {
  state *st = l->own;
  pg_tensor *rows = NULL;
  const pg_tensor *centers = l->slot[CENTERS];
  int64_t shape[2] = {in[0]->nd ? in[0]->shape[0] : 0, centers->shape[1]};
  PG_TRY(pg_alloc_zero(l->ctx, sizeof *st->window, (void **)&st->window));
  batch *b = st->window;
  pg_status s = pg_tensor_zeros(l->ctx, PG_I64, 1, shape, &b->label);
  if (s == PG_OK) s = pg_tensor_zeros(l->ctx, PG_I64, 1, shape, &b->count);
  if (s == PG_OK) s = pg_tensor_new(l->ctx, (pg_dtype)centers->dtype, 2, shape, &st->base);
  if (s == PG_OK) {
    st->shown = true; /* b->label says whether it is */
    s = pg_do(l->ctx, &rows, "center_step", "ttttttttffi", in[0], in[1], l->slot[CENTERS],
              l->slot[COUNTS], l->slot[DRIFT], st->base, b->label, b->count, factor_of(l),
              l->arg[ALPHA].f, l->arg[DENOMINATOR].i);
    if (s == PG_OK) s = reduce(l, rows, out);
    if (s != PG_OK) hide(l); /* a failed call leaves the centers as they were */
  }
  drop_window(l);
  return s;
}

static pg_status forward_loss_first(pg_layer *l, pg_tensor *const *in, pg_tensor **out) {
  state *st = l->own;
  batch *b = NULL;
  pg_tensor *ticket = NULL;
  PG_TRY(settle(l));
  hide(l);
  PG_TRY(batch_new(l, in, &b));
  pg_status s = pg_tensor_zeros(l->ctx, PG_I64, 0, NULL, &ticket);
  if (s == PG_OK) s = value(l, in, ticket, out);
  if (s != PG_OK || l->arg[ALPHA].f == 0) {
    pg_tensor_unref(ticket);
    batch_free(l->ctx, b);
    return s;
  }
  if ((*out)->requires_grad) b->ticket = ticket;
  else pg_tensor_unref(ticket);
  batch **end = &st->first;
  while (*end) end = &(*end)->next;
  *end = b;
  return PG_OK;
}

static pg_status forward(pg_layer *l, int nin, pg_tensor *const *in, pg_tensor **out) {
  (void)nin;
  if (in[0]->storage->device == PG_META || in[1]->storage->device == PG_META)
    return value(l, in, NULL, out);
  PG_TRY(companions(l));
  if (!l->training) {
    PG_TRY(sync(l));
    PG_TRY(value(l, in, NULL, out));
    if (!l->arg[ONLY].i) return PG_OK;
    pg_tensor *none; /* a loss of training only */
    pg_status s =
        pg_tensor_zeros(l->ctx, (pg_dtype)(*out)->dtype, (*out)->nd, (*out)->shape, &none);
    pg_tensor_unref(*out);
    *out = none;
    return s;
  }
  if (l->arg[ORDER].i == LOSS_FIRST) return forward_loss_first(l, in, out);
  PG_TRY(sync(l));
  drop_window(l);
  if (l->arg[MOMENTUM].f == 0 && l->arg[ALPHA].f > 0) return update_and_value(l, in, out);
  state *st = l->own;
  PG_TRY(batch_new(l, in, &st->window));
  st->number = 0;
  pg_status s = show(l, true);
  if (s == PG_OK) s = value(l, in, NULL, out);
  if (s != PG_OK) hide(l); /* a failed call leaves the centers as they were */
  drop_window(l);
  return s;
}

const pg_layer_def pg_layers_center_loss[] = {
    {.name = "CenterLoss",
     .doc = "1/2 ||x - c_y||^2 for features x [n x num_features] and labels y [n] or [n x 1], as "
            "[n x 1]; in training each class's center c moves by alpha sum(c - x) / (1 + n). Wen "
            "et al., A Discriminative Feature Learning Approach for Deep Face Recognition, ECCV "
            "2016; `preset` chooses among published variants.",
     .lua = "perigee.nn.center_loss",
     .show = "{num_classes}, {num_features}, alpha={alpha}[, preset={preset}]",
     .param = {PG_REQ("num_classes", PG_INT),
               PG_REQ("num_features", PG_INT),
               PG_OPT("alpha", PG_FLOAT),
               PG_WORD("preset", 0,
                       "keras|wen2016|caffe_face|handongfeng|kaiyangzhou|jxgu1016|facenet"),
               {"order", PG_ENUM, PG_OPTIONAL, 0, "update_first|loss_first"},
               {"denominator", PG_ENUM, PG_OPTIONAL, 0, "1+n|n|none|(1+n)B|B/2"},
               {"reduction", PG_ENUM, PG_OPTIONAL, 0, "none|sum|mean|mean_square"},
               {"init", PG_ENUM, PG_OPTIONAL, 0, "uniform|zeros|xavier|normal"},
               PG_OPT("factor", PG_FLOAT),
               PG_OPT("momentum", PG_FLOAT),
               PG_OPT("training_only", PG_FLAG)},
     .slot = {{"centers", PG_SLOT_BUFFER},
              {"counts", PG_SLOT_BUFFER},
              {"drift", PG_SLOT_BUFFER},
              {"velocity", PG_SLOT_BUFFER}},
     .nin = 2,
     .nout = 1,
     .check = check,
     .build = build,
     .forward = forward,
     .sync = sync,
     .replaced = replaced,
     .drop = drop},
    {0}};
