/* Dropout, Dropout1d .. 3d, AlphaDropout, FeatureAlphaDropout. Relies on layer.h and the
 * dropout ops.
 * Spec: spec/nn/layers_spec.lua. */
#include "nn/layer.h"

static pg_status check_p(pg_layer *l) {
  double p = l->arg[0].f;
  if (!(p >= 0 && p <= 1))
    return pg_fail(l->ctx, PG_EARG, "argument 'p': expected 0 to 1, got %g", p);
  return PG_OK;
}

#define DROPOUT(layer, run, text)                                                              \
  {                                                                                            \
    .name = layer, .doc = text, .show = "p={p}, inplace={inplace}",                            \
    .param = {PG_DEF("p", PG_FLOAT, 0.5), PG_DEF("inplace", PG_FLAG, 0)}, .nin = 1, .nout = 1, \
    .check = check_p, .op = run                                                                \
  }

const pg_layer_def pg_layers_dropout[] = {
    DROPOUT("Dropout", "dropout",
            "In training, sets each element to zero with probability p and divides the others by "
            "1 - p; the identity in evaluation."),
    DROPOUT("Dropout1d", "dropout1d",
            "In training, sets whole channels of [n x c x length] to zero with probability p and "
            "divides the others by 1 - p."),
    DROPOUT("Dropout2d", "dropout2d",
            "In training, sets whole channels of [n x c x h x w] to zero with probability p and "
            "divides the others by 1 - p."),
    DROPOUT(
        "Dropout3d", "dropout3d",
        "In training, sets whole channels of [n x c x d x h x w] to zero with probability p and "
        "divides the others by 1 - p."),
    DROPOUT("FeatureAlphaDropout", "feature_alpha_dropout",
            "AlphaDropout of whole channels of [n x c x ..]."),
    DROPOUT("AlphaDropout", "alpha_dropout",
            "Dropout that keeps mean and variance of SELU's outputs (Klambauer et al. 2017)."),
    {0}};
