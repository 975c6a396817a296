/* Activations: each runs the op of its name with the layer's arguments; PReLU has a parameter.
 * Relies on layer.h and the activation ops.
 * Spec: spec/nn/layers_spec.lua. */
#include "nn/layer.h"

#define INPLACE      PG_DEF("inplace", PG_FLAG, 0)
#define SHOW_INPLACE "[inplace={inplace}]"
#define ONE          .nin = 1, .nout = 1

static pg_status check_prelu(pg_layer *l) { return pg_layer_at_least(l, 1, "num_parameters"); }

static pg_status build_prelu(pg_layer *l) {
  PG_TRY(pg_layer_slot(l, 0, PG_F32, 1, &l->arg[0].i));
  return pg_layer_fill(l, 0, l->arg[1].f);
}

/* Without a dim: the first for 1 or 3 dims (and none), else the second, as PyTorch has it. */
static pg_status forward_softmax(pg_layer *l, int nin, pg_tensor *const *in, pg_tensor **out) {
  (void)nin;
  const char *name = l->def->name[0] == 'L'   ? "log_softmax"
                     : l->def->name[4] == 'm' ? "softmax"
                                              : "softmin";
  if (l->arg[0].set) return pg_layer_run(l, name, 1, in, out);
  int nd = in[0]->nd;
  return pg_do(l->ctx, out, name, "ti", in[0], (int64_t)(nd == 0 || nd == 1 || nd == 3 ? 1 : 2));
}

static pg_status forward_softmax2d(pg_layer *l, int nin, pg_tensor *const *in, pg_tensor **out) {
  (void)nin;
  if (in[0]->nd != 3 && in[0]->nd != 4)
    return pg_fail(l->ctx, PG_ESHAPE, "Softmax2d: argument 'input': expected 3 or 4 dims, got %s",
                   pg_shape_str(in[0]).s);
  return pg_do(l->ctx, out, "softmax", "ti", in[0], (int64_t)-3);
}

const pg_layer_def pg_layers_activation[] = {
    {.name = "ReLU",
     .doc = "y = max(x, 0).",
     .show = SHOW_INPLACE,
     .param = {INPLACE},
     ONE,
     .op = "relu"},
    {.name = "ReLU6",
     .doc = "y = min(max(x, 0), 6).",
     .show = SHOW_INPLACE,
     .param = {INPLACE},
     ONE,
     .op = "relu6"},
    {.name = "LeakyReLU",
     .doc = "y = x for x > 0, else negative_slope x.",
     .show = "negative_slope={negative_slope}[, inplace={inplace}]",
     .param = {PG_DEF("negative_slope", PG_FLOAT, 0.01), INPLACE},
     ONE,
     .op = "leaky_relu"},
    {.name = "RReLU",
     .doc =
         "y = x for x >= 0, else a x with a uniform in lower .. upper, in evaluation their mean.",
     .show = "lower={lower}, upper={upper}[, inplace={inplace}]",
     .param = {PG_DEF("lower", PG_FLOAT, 1.0 / 8), PG_DEF("upper", PG_FLOAT, 1.0 / 3), INPLACE},
     ONE,
     .op = "rrelu"},
    {.name = "PReLU",
     .doc = "y = x for x > 0, else weight x, with one learned weight or one for each channel (dim "
            "2); it starts at init.",
     .show = "num_parameters={num_parameters}",
     .param = {PG_DEF("num_parameters", PG_INT, 1), PG_DEF("init", PG_FLOAT, 0.25)},
     .slot = {{"weight", PG_SLOT_PARAM}},
     ONE,
     .check = check_prelu,
     .build = build_prelu,
     .op = "prelu"},
    {.name = "ELU",
     .doc = "y = x for x > 0, else alpha (exp(x) - 1).",
     .show = "alpha={alpha}[, inplace={inplace}]",
     .param = {PG_DEF("alpha", PG_FLOAT, 1), INPLACE},
     ONE,
     .op = "elu"},
    {.name = "SELU",
     .doc =
         "y = s (max(x, 0) + min(0, a (exp(x) - 1))) with the constants of Klambauer et al. 2017.",
     .show = SHOW_INPLACE,
     .param = {INPLACE},
     ONE,
     .op = "selu"},
    {.name = "CELU",
     .doc = "y = max(x, 0) + min(0, alpha (exp(x / alpha) - 1)).",
     .show = "alpha={alpha}[, inplace={inplace}]",
     .param = {PG_DEF("alpha", PG_FLOAT, 1), INPLACE},
     ONE,
     .op = "celu"},
    {.name = "GELU",
     .doc = "y = x P(X <= x) for a standard normal X, exactly or by the tanh formula.",
     .show = "approximate='{approximate}'",
     .param = {PG_WORD("approximate", 0, "none|tanh")},
     ONE,
     .op = "gelu"},
    {.name = "SiLU",
     .doc = "y = x sigmoid(x).",
     .show = SHOW_INPLACE,
     .param = {INPLACE},
     ONE,
     .op = "silu"},
    {.name = "Mish",
     .doc = "y = x tanh(softplus(x)).",
     .show = SHOW_INPLACE,
     .param = {INPLACE},
     ONE,
     .op = "mish"},
    {.name = "Softplus",
     .doc = "y = log(1 + exp(beta x)) / beta, and x itself where beta x > threshold.",
     .show = "beta={beta}, threshold={threshold}",
     .param = {PG_DEF("beta", PG_FLOAT, 1), PG_DEF("threshold", PG_FLOAT, 20)},
     ONE,
     .op = "softplus"},
    {.name = "Softsign", .doc = "y = x / (1 + |x|).", ONE, .op = "softsign"},
    {.name = "Hardtanh",
     .doc = "y = x clamped to min_val .. max_val.",
     .show = "min_val={min_val}, max_val={max_val}[, inplace={inplace}]",
     .param = {PG_DEF("min_val", PG_FLOAT, -1), PG_DEF("max_val", PG_FLOAT, 1), INPLACE},
     ONE,
     .op = "hardtanh"},
    {.name = "Hardsigmoid",
     .doc = "y = x / 6 + 1/2 clamped to 0 .. 1.",
     .param = {INPLACE},
     ONE,
     .op = "hardsigmoid"},
    {.name = "Hardswish",
     .doc = "y = x hardsigmoid(x).",
     .param = {INPLACE},
     ONE,
     .op = "hardswish"},
    {.name = "LogSigmoid", .doc = "y = log(sigmoid(x)).", ONE, .op = "logsigmoid"},
    {.name = "Tanhshrink", .doc = "y = x - tanh(x).", ONE, .op = "tanhshrink"},
    {.name = "Softshrink",
     .doc = "y = x moved by lambd toward 0, and 0 where |x| <= lambd.",
     .show = "{lambd}",
     .param = {PG_DEF("lambd", PG_FLOAT, 0.5)},
     ONE,
     .op = "softshrink"},
    {.name = "Hardshrink",
     .doc = "y = x where |x| > lambd, else 0.",
     .show = "{lambd}",
     .param = {PG_DEF("lambd", PG_FLOAT, 0.5)},
     ONE,
     .op = "hardshrink"},
    {.name = "Threshold",
     .doc = "y = x where x > threshold, else value.",
     .show = "threshold={threshold}, value={value}[, inplace={inplace}]",
     .param = {PG_REQ("threshold", PG_FLOAT), PG_REQ("value", PG_FLOAT), INPLACE},
     ONE,
     .op = "threshold"},
    {.name = "Tanh", .doc = "y = tanh(x).", ONE, .op = "tanh"},
    {.name = "Sigmoid", .doc = "y = 1 / (1 + exp(-x)).", ONE, .op = "sigmoid"},
    {.name = "GLU",
     .doc = "y = a sigmoid(b), where a and b are the halves of x along dim.",
     .show = "dim={dim}",
     .param = {PG_DEF("dim", PG_DIM, -1)},
     ONE,
     .op = "glu"},
    {.name = "Softmax",
     .doc = "y = exp(x) / sum exp(x) along dim (by default the first of 1 or 3 dims, else the "
            "second).",
     .show = "dim={dim}",
     .param = {PG_OPT("dim", PG_DIM)},
     ONE,
     .forward = forward_softmax},
    {.name = "LogSoftmax",
     .doc = "y = x - log sum exp(x) along dim (by default as Softmax).",
     .show = "dim={dim}",
     .param = {PG_OPT("dim", PG_DIM)},
     ONE,
     .forward = forward_softmax},
    {.name = "Softmin",
     .doc = "y = softmax(-x) along dim (by default as Softmax).",
     .show = "dim={dim}",
     .param = {PG_OPT("dim", PG_DIM)},
     ONE,
     .forward = forward_softmax},
    {.name = "Softmax2d",
     .doc = "Softmax over the channels of images [n x c x h x w] or [c x h x w].",
     ONE,
     .forward = forward_softmax2d},
    {0}};
