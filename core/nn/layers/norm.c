/* Normalisation: BatchNorm1d .. 3d, LayerNorm, GroupNorm, InstanceNorm1d .. 3d, RMSNorm,
 * LocalResponseNorm. Relies on layer.h and the normalisation ops.
 * Spec: spec/nn/layers_spec.lua. */
#include <string.h>

#include "nn/layer.h"

#define AFFINE \
  {"weight", PG_SLOT_PARAM}, { "bias", PG_SLOT_PARAM }
#define RUNNING                                                        \
  {"running_mean", PG_SLOT_BUFFER}, {"running_var", PG_SLOT_BUFFER}, { \
    "num_batches_tracked", PG_SLOT_BUFFER                              \
  }
enum { WEIGHT, BIAS, MEAN, VAR, TRACKED };
/* Arguments of the batch and instance norms. */
enum { FEATURES, EPS, MOMENTUM, USE_AFFINE, TRACK, USE_BIAS };

/* weight = 1 and, where it is wanted, bias = 0. */
static pg_status affine(pg_layer *l, int nd, const int64_t *shape, bool bias) {
  PG_TRY(pg_layer_slot(l, WEIGHT, PG_F32, nd, shape));
  PG_TRY(pg_layer_fill(l, WEIGHT, 1));
  return bias ? pg_layer_slot(l, BIAS, PG_F32, nd, shape) : PG_OK;
}

/* Without an affine map there is no bias either. */
static void settle_bias(pg_layer *l, const char *affine_name) {
  int bias = pg_layer_arg(l->def, "bias");
  if (!pg_layer_value(l, affine_name)->i) l->arg[bias].i = 0;
}

static pg_status check_features(pg_layer *l) {
  settle_bias(l, "affine");
  return pg_layer_at_least(l, 0, "num_features");
}

static pg_status check_layer_norm(pg_layer *l) {
  settle_bias(l, "elementwise_affine");
  return PG_OK;
}

static pg_status build_batch(pg_layer *l) {
  const int64_t *n = &l->arg[FEATURES].i;
  if (l->arg[USE_AFFINE].i) PG_TRY(affine(l, 1, n, l->arg[USE_BIAS].i));
  if (!l->arg[TRACK].i) return PG_OK;
  PG_TRY(pg_layer_slot(l, MEAN, PG_F32, 1, n));
  PG_TRY(pg_layer_slot(l, VAR, PG_F32, 1, n));
  PG_TRY(pg_layer_fill(l, VAR, 1));
  return pg_layer_slot(l, TRACKED, PG_I64, 0, NULL);
}

/* The number in "BatchNorm2d". */
static int dims_of_name(const pg_layer *l) { return l->def->name[strlen(l->def->name) - 2] - '0'; }

/* Dims that x may have: those of "BatchNorm2d" and, where batched is false, one less. */
static pg_status check_dims(pg_layer *l, const pg_tensor *x) {
  int n = dims_of_name(l);
  bool instance = l->def->name[0] == 'I';
  int least = n == 1 || instance ? n + 1 : n + 2, most = n + 2;
  if (x->nd >= least && x->nd <= most) return PG_OK;
  if (least == most)
    return pg_fail(l->ctx, PG_ESHAPE, "%s: argument 'input': expected %d dims, got %s",
                   l->def->name, most, pg_shape_str(x).s);
  return pg_fail(l->ctx, PG_ESHAPE, "%s: argument 'input': expected %d or %d dims, got %s",
                 l->def->name, least, most, pg_shape_str(x).s);
}

static pg_status forward_batch(pg_layer *l, int nin, pg_tensor *const *in, pg_tensor **out) {
  (void)nin;
  pg_tensor *const *s = l->slot;
  PG_TRY(check_dims(l, in[0]));
  const bool training = l->training;
  l->training = training || !s[MEAN]; /* without running statistics always the batch's */
  pg_status status = pg_layer_run(l, "batch_norm", 5,
                                  (pg_tensor *[]){in[0], s[MEAN], s[VAR], s[WEIGHT], s[BIAS]}, out);
  l->training = training;
  if (status == PG_OK && training && s[TRACKED] && in[0]->storage->device == PG_HOST)
    ++*(int64_t *)pg_data(s[TRACKED]);
  return status;
}

static pg_status forward_instance(pg_layer *l, int nin, pg_tensor *const *in, pg_tensor **out) {
  (void)nin;
  pg_tensor *const *s = l->slot;
  PG_TRY(check_dims(l, in[0]));
  bool instance = l->training || !s[MEAN];
  const bool alone = in[0]->nd == dims_of_name(l) + 1; /* a sample without a batch */
  pg_tensor *x = pg_tensor_ref(in[0]), *y = NULL;
  pg_status status = PG_OK;
  if (alone) {
    pg_tensor_unref(x);
    status = pg_do(l->ctx, &x, "unsqueeze", "ti", in[0], (int64_t)1);
  }
  if (status == PG_OK)
    status = pg_do(l->ctx, &y, "instance_norm", "tttttbff", x, s[MEAN], s[VAR], s[WEIGHT], s[BIAS],
                   instance, l->arg[MOMENTUM].f, l->arg[EPS].f);
  if (status == PG_OK && alone) status = pg_do(l->ctx, out, "squeeze", "tl", y, 1, (int64_t[]){1});
  else if (status == PG_OK) *out = pg_tensor_ref(y);
  pg_tensor_unref(y);
  pg_tensor_unref(x);
  return status;
}

static pg_status build_layer_norm(pg_layer *l) {
  const pg_arg *shape = &l->arg[0];
  if (shape->n < 1 || shape->n > PG_MAX_DIMS)
    return pg_fail(l->ctx, PG_EARG, "argument 'normalized_shape': expected 1 to %d sizes, got %d",
                   PG_MAX_DIMS, shape->n);
  const pg_arg *elementwise = pg_layer_value(l, "elementwise_affine");
  int bias = pg_layer_arg(l->def, "bias");
  return elementwise->i ? affine(l, shape->n, shape->v, bias >= 0 && l->arg[bias].i) : PG_OK;
}

static pg_status check_group(pg_layer *l) {
  settle_bias(l, "affine");
  PG_TRY(pg_layer_at_least(l, 1, "num_groups num_channels"));
  if (l->arg[1].i % l->arg[0].i != 0)
    return pg_fail(l->ctx, PG_EARG,
                   "argument 'num_groups': expected a divisor of num_channels %lld, got %lld",
                   (long long)l->arg[1].i, (long long)l->arg[0].i);
  return PG_OK;
}

static pg_status build_group(pg_layer *l) {
  return l->arg[3].i ? affine(l, 1, &l->arg[1].i, l->arg[4].i) : PG_OK;
}

static pg_status check_size(pg_layer *l) { return pg_layer_at_least(l, 1, "size"); }

#define BATCH_PARAMS(affine, track)                                               \
  {                                                                               \
    PG_REQ("num_features", PG_INT), PG_DEF("eps", PG_FLOAT, 1e-5),                \
        PG_DEF("momentum", PG_FLOAT, 0.1), PG_DEF("affine", PG_FLAG, affine),     \
        PG_DEF("track_running_stats", PG_FLAG, track), PG_DEF("bias", PG_FLAG, 1) \
  }
#define BATCH_SHOW                                                                 \
  "{num_features}, eps={eps}, momentum={momentum}, affine={affine}, bias={bias}, " \
  "track_running_stats={track_running_stats}"
#define BATCH(dims, shapes)                                                                   \
  {                                                                                           \
    .name = "BatchNorm" dims,                                                                 \
    .doc = "y = weight (x - mean) / sqrt(var + eps) + bias over each channel of x " shapes    \
           "; in training mean and var are the batch's and running_mean, running_var follow " \
           "them by momentum.",                                                               \
    .show = BATCH_SHOW, .param = BATCH_PARAMS(1, 1), .slot = {AFFINE, RUNNING}, .nin = 1,     \
    .nout = 1, .check = check_features, .build = build_batch, .forward = forward_batch        \
  }
#define INSTANCE(dims, shapes)                                                                   \
  {                                                                                              \
    .name = "InstanceNorm" dims,                                                                 \
    .doc = "y = weight (x - mean) / sqrt(var + eps) + bias over each channel of each sample of " \
           "x " shapes ".",                                                                      \
    .show = BATCH_SHOW, .param = BATCH_PARAMS(0, 0), .slot = {AFFINE, RUNNING}, .nin = 1,        \
    .nout = 1, .check = check_features, .build = build_batch, .forward = forward_instance        \
  }

const pg_layer_def pg_layers_norm[] = {
    BATCH("1d", "[n x c] or [n x c x length]"),
    BATCH("2d", "[n x c x h x w]"),
    BATCH("3d", "[n x c x d x h x w]"),
    INSTANCE("1d", "[n x c x length]"),
    INSTANCE("2d", "[n x c x h x w]"),
    INSTANCE("3d", "[n x c x d x h x w]"),
    {.name = "LayerNorm",
     .doc = "y = weight (x - mean) / sqrt(var + eps) + bias over the last dims, those of "
            "normalized_shape.",
     .show = "{normalized_shape*}, eps={eps}, elementwise_affine={elementwise_affine}, bias={bias}",
     .param = {PG_REQ("normalized_shape", PG_INTS), PG_DEF("eps", PG_FLOAT, 1e-5),
               PG_DEF("elementwise_affine", PG_FLAG, 1), PG_DEF("bias", PG_FLAG, 1)},
     .slot = {AFFINE},
     .nin = 1,
     .nout = 1,
     .check = check_layer_norm,
     .build = build_layer_norm,
     .op = "layer_norm"},
    {.name = "RMSNorm",
     .doc = "y = weight x / sqrt(mean(x^2) + eps) over the last dims, those of normalized_shape.",
     .show = "{normalized_shape*}, eps={eps}, elementwise_affine={elementwise_affine}",
     .param = {PG_REQ("normalized_shape", PG_INTS), PG_OPT("eps", PG_FLOAT),
               PG_DEF("elementwise_affine", PG_FLAG, 1)},
     .slot = {{"weight", PG_SLOT_PARAM}},
     .nin = 1,
     .nout = 1,
     .build = build_layer_norm,
     .op = "rms_norm"},
    {.name = "GroupNorm",
     .doc = "y = weight (x - mean) / sqrt(var + eps) + bias over num_groups groups of channels of "
            "each sample.",
     .show = "{num_groups}, {num_channels}, eps={eps}, affine={affine}, bias={bias}",
     .param = {PG_REQ("num_groups", PG_INT), PG_REQ("num_channels", PG_INT),
               PG_DEF("eps", PG_FLOAT, 1e-5), PG_DEF("affine", PG_FLAG, 1),
               PG_DEF("bias", PG_FLAG, 1)},
     .slot = {AFFINE},
     .nin = 1,
     .nout = 1,
     .check = check_group,
     .build = build_group,
     .op = "group_norm"},
    {.name = "LocalResponseNorm",
     .doc = "y = x / (k + alpha mean(x^2 over size neighbouring channels))^beta.",
     .show = "{size}, alpha={alpha}, beta={beta}, k={k}",
     .param = {PG_REQ("size", PG_INT), PG_DEF("alpha", PG_FLOAT, 1e-4),
               PG_DEF("beta", PG_FLOAT, 0.75), PG_DEF("k", PG_FLOAT, 1)},
     .nin = 1,
     .nout = 1,
     .check = check_size,
     .op = "local_response_norm"},
    {0}};
