/* Embedding: rows of a table by 1-based index. Relies on layer.h and the op embedding.
 * Spec: spec/nn/layers_spec.lua. */
#include "nn/layer.h"

enum { COUNT, DIM, PADDING };

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

const pg_layer_def pg_layers_embedding[] = {
    {.name = "Embedding",
     .doc = "y[.., :] = weight[x[..], :] for 1-based indices x of any shape; weight "
            "[num_embeddings x embedding_dim] starts N(0, 1); the row padding_idx starts at zero "
            "and gets no gradient.",
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
     .op = "embedding"},
    {0}};
