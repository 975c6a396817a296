/* Embedding: rows of a table by 1-based index. Relies on layer.h and the op embedding.
 * Spec: spec/nn/layers_spec.lua. */
#include <math.h>

#include "nn/layer.h"

enum { COUNT, DIM, PADDING, MAX_NORM, NORM_TYPE, BY_FREQUENCY };

static pg_status check(pg_layer *l) {
  PG_TRY(pg_layer_at_least(l, 0, "num_embeddings embedding_dim"));
  int64_t n = l->arg[COUNT].i, p = l->arg[PADDING].i;
  if (l->arg[PADDING].set && (p == 0 || p > n || p < -n))
    return pg_fail(l->ctx, PG_EARG, "argument 'padding_idx': expected 1 to %lld, got %lld",
                   (long long)n, (long long)p);
  return PG_OK;
}

/* N(0, 1), and zeros in the row of padding_idx. */
static pg_status build(pg_layer *l) {
  int64_t shape[2] = {l->arg[COUNT].i, l->arg[DIM].i};
  PG_TRY(pg_layer_slot(l, 0, PG_F32, 2, shape));
  PG_TRY(pg_layer_normal(l, 0, 0, 1));
  if (!l->arg[PADDING].set) return PG_OK;
  int64_t p = l->arg[PADDING].i, row = p < 0 ? p + shape[0] : p - 1;
  pg_tensor *view;
  PG_TRY(pg_tensor_alias(l->ctx, l->slot[0], 1, shape + 1, l->slot[0]->stride + 1, row * shape[1],
                         &view));
  pg_tensor_fill(view, 0);
  pg_tensor_unref(view);
  return PG_OK;
}

static double number_at(const pg_tensor *t, int64_t i) {
  return t->dtype == PG_F64 ? ((const double *)pg_data(t))[i] : ((const float *)pg_data(t))[i];
}

/* Scales row `row` of weight down to `most` where its p-norm is larger. */
static void bound_row(pg_tensor *weight, int64_t row, double p, double most) {
  const int64_t n = weight->shape[1], step = weight->stride[1], at = row * weight->stride[0];
  double norm = 0;
  for (int64_t i = 0; i < n; i++) {
    double v = fabs(number_at(weight, at + i * step));
    norm = isinf(p) ? fmax(norm, v) : norm + pow(v, p);
  }
  if (!isinf(p)) norm = pow(norm, 1 / p);
  if (!(norm > most)) return;
  const double k = most / (norm + 1e-7);
  for (int64_t i = 0; i < n; i++) {
    int64_t j = at + i * step;
    if (weight->dtype == PG_F64) ((double *)pg_data(weight))[j] *= k;
    else ((float *)pg_data(weight))[j] *= (float)k;
  }
}

/* *often [shape of index, 1] = how often each index occurs; rows that occur are bounded. */
static pg_status count_rows(pg_layer *l, const pg_tensor *index, pg_tensor **often) {
  pg_ctx *ctx = l->ctx;
  pg_tensor *weight = l->slot[0];
  const int64_t n = pg_numel(index), rows = weight->shape[0], *at = pg_data(index);
  int64_t *count, shape[PG_MAX_DIMS];
  PG_TRY(pg_alloc_zero(ctx, sizeof *count * (size_t)rows, (void **)&count));
  for (int64_t i = 0; i < n; i++) {
    if (at[i] < 1 || at[i] > rows) continue; /* the op complains */
    if (!count[at[i] - 1]++ && l->arg[MAX_NORM].set)
      bound_row(weight, at[i] - 1, l->arg[NORM_TYPE].f, l->arg[MAX_NORM].f);
  }
  if (l->arg[MAX_NORM].set) weight->storage->version++;
  pg_status s = PG_OK;
  if (l->arg[BY_FREQUENCY].i) {
    for (int i = 0; i < index->nd; i++) shape[i] = index->shape[i];
    shape[index->nd] = 1;
    s = pg_tensor_new(ctx, (pg_dtype)weight->dtype, index->nd + 1, shape, often);
    for (int64_t i = 0; i < n && s == PG_OK; i++) {
      double c = at[i] < 1 || at[i] > rows ? 1 : (double)count[at[i] - 1];
      if (weight->dtype == PG_F64) ((double *)pg_data(*often))[i] = c;
      else ((float *)pg_data(*often))[i] = (float)c;
    }
  }
  pg_free(ctx, count, sizeof *count * (size_t)rows);
  return s;
}

/* y with the gradient of each row divided by how often its index occurs. */
static pg_status share(pg_ctx *ctx, pg_tensor *often, pg_tensor **y) {
  pg_tensor *fixed = NULL, *gap = NULL, *part = NULL, *sum = NULL;
  pg_status s = pg_tensor_detach(ctx, *y, &fixed);
  if (s == PG_OK) s = pg_do(ctx, &gap, "sub", "tt", *y, fixed);
  if (s == PG_OK) s = pg_do(ctx, &part, "div", "tt", gap, often);
  if (s == PG_OK) s = pg_do(ctx, &sum, "add", "tt", fixed, part);
  pg_tensor_unref(fixed);
  pg_tensor_unref(gap);
  pg_tensor_unref(part);
  pg_tensor_unref(*y);
  *y = sum;
  return s;
}

static pg_status forward(pg_layer *l, int nin, pg_tensor *const *in, pg_tensor **out) {
  pg_ctx *ctx = l->ctx;
  pg_tensor *all[2] = {in[0], l->slot[0]}, *often = NULL;
  const bool plain = !l->arg[MAX_NORM].set && !l->arg[BY_FREQUENCY].i;
  (void)nin;
  if (!plain && in[0]->dtype == PG_I64 && in[0]->storage->device == PG_HOST &&
      l->slot[0]->storage->device == PG_HOST && pg_is_float((pg_dtype)l->slot[0]->dtype)) {
    if (l->slot[0]->dtype == PG_BF16)
      return pg_fail(ctx, PG_EDTYPE, "max_norm and scale_grad_by_freq want a float32 weight");
    pg_tensor *index;
    PG_TRY(pg__contiguous(ctx, in[0], &index));
    pg_status s = count_rows(l, index, &often);
    pg_tensor_unref(index);
    PG_TRY(s);
  }
  pg_status s = pg_layer_run(l, "embedding", 2, all, out);
  if (s == PG_OK && often) s = share(ctx, often, out);
  pg_tensor_unref(often);
  return s;
}

const pg_layer_def pg_layers_embedding[] = {
    {.name = "Embedding",
     .doc = "y[.., :] = weight[x[..], :] for 1-based indices x of any shape; weight "
            "[num_embeddings x embedding_dim] starts N(0, 1); the row padding_idx starts at zero "
            "and gets no gradient. max_norm scales rows that are used and have a larger "
            "norm_type-norm down to it, in place; scale_grad_by_freq divides a row's gradient by "
            "how often x names it.",
     .show = "{num_embeddings}, {embedding_dim}[, padding_idx={padding_idx}]"
             "[, max_norm={max_norm}]",
     .param = {PG_REQ("num_embeddings", PG_INT), PG_REQ("embedding_dim", PG_INT),
               PG_OPT("padding_idx", PG_INT), PG_OPT("max_norm", PG_FLOAT),
               PG_DEF("norm_type", PG_FLOAT, 2), PG_DEF("scale_grad_by_freq", PG_FLAG, 0)},
     .slot = {{"weight", PG_SLOT_PARAM}},
     .nin = 1,
     .nout = 1,
     .check = check,
     .build = build,
     .forward = forward},
    {0}};
