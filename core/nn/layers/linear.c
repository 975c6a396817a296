/* Linear, Identity. Relies on layer.h and the op linear.
 * Spec: spec/nn/layers_spec.lua. */
#include <math.h>

#include "nn/layer.h"

enum { WEIGHT, BIAS };

static pg_status check_linear(pg_layer *l) {
  return pg_layer_at_least(l, 0, "in_features out_features");
}

/* Both U(-1/sqrt(n), 1/sqrt(n)); a weight of no elements is left alone. */
static pg_status fill(pg_layer *l, bool bias, int64_t n, int64_t out) {
  double bound = n > 0 ? 1 / sqrt((double)n) : 0;
  PG_TRY(pg_layer_uniform(l, WEIGHT, bound));
  if (!bias) return PG_OK;
  PG_TRY(pg_layer_slot(l, BIAS, PG_F32, 1, &out));
  return pg_layer_uniform(l, BIAS, bound);
}

static pg_status build_linear(pg_layer *l) {
  int64_t shape[2] = {l->arg[1].i, l->arg[0].i};
  PG_TRY(pg_layer_slot(l, WEIGHT, PG_F32, 2, shape));
  return fill(l, l->arg[2].i, shape[1], shape[0]);
}

static pg_status forward_identity(pg_layer *l, int nin, pg_tensor *const *in, pg_tensor **out) {
  (void)l, (void)nin;
  out[0] = pg_tensor_ref(in[0]);
  return PG_OK;
}

const pg_layer_def pg_layers_linear[] = {
    {.name = "Linear",
     .doc = "y = x W^T + b for x [.. x in_features]; weight [out_features x in_features] and bias "
            "start uniform in +-1/sqrt(in_features).",
     .show = "in_features={in_features}, out_features={out_features}, bias={bias}",
     .param = {PG_REQ("in_features", PG_INT), PG_REQ("out_features", PG_INT),
               PG_DEF("bias", PG_FLAG, 1)},
     .slot = {{"weight", PG_SLOT_PARAM}, {"bias", PG_SLOT_PARAM}},
     .nin = 1,
     .nout = 1,
     .check = check_linear,
     .build = build_linear,
     .op = "linear"},
    {.name = "Identity", .doc = "y = x.", .nin = 1, .nout = 1, .forward = forward_identity},
    {0}};
