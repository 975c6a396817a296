/* Conv1d .. 3d, ConvTranspose1d .. 3d. Relies on layer.h and the ops conv1d .. 3d, conv_transpose1d
 * .. 3d, pad.
 * Spec: spec/nn/layers_spec.lua. */
#include <math.h>
#include <string.h>

#include "nn/layer.h"

enum { WEIGHT, BIAS };
/* Places of the arguments. */
enum { IN, OUT, KERNEL, STRIDE, PADDING, DILATION, GROUPS, USE_BIAS, PADDING_MODE };
/* .. of a transposed convolution, from the fifth on. */
enum { T_OUTPUT_PADDING = 5, T_GROUPS, T_BIAS, T_DILATION };

/* The last letter but one of "Conv2d" is its number of spatial dims. */
static int spatial(const pg_layer *l) { return l->def->name[strlen(l->def->name) - 2] - '0'; }

/* Argument k as n values. */
static pg_status sizes(pg_layer *l, int k, int n, int64_t least, int64_t *v) {
  const pg_arg *a = &l->arg[k];
  const char *name = l->def->param[k].name;
  if (a->n != 1 && a->n != n)
    return pg_fail(l->ctx, PG_EARG, "argument '%s': expected one integer or %d, got %d", name, n,
                   a->n);
  for (int i = 0; i < n; i++) {
    v[i] = a->v[a->n == 1 ? 0 : i];
    if (v[i] < least)
      return pg_fail(l->ctx, PG_EARG, "argument '%s': expected at least %lld, got %lld", name,
                     (long long)least, (long long)v[i]);
  }
  return PG_OK;
}

static pg_status check_channels(pg_layer *l, int groups_at) {
  int64_t groups = l->arg[groups_at].i;
  PG_TRY(pg_layer_at_least(l, 1, "in_channels out_channels groups"));
  for (int k = IN; k <= OUT; k++)
    if (l->arg[k].i % groups != 0)
      return pg_fail(l->ctx, PG_EARG, "argument 'groups': expected a divisor of %s %lld, got %lld",
                     l->def->param[k].name, (long long)l->arg[k].i, (long long)groups);
  return PG_OK;
}

static pg_status check_conv(pg_layer *l) {
  int n = spatial(l);
  int64_t v[3], stride[3];
  PG_TRY(check_channels(l, GROUPS));
  PG_TRY(sizes(l, KERNEL, n, 1, v));
  PG_TRY(sizes(l, STRIDE, n, 1, stride));
  PG_TRY(sizes(l, DILATION, n, 1, v));
  if (!l->arg[PADDING].s) return sizes(l, PADDING, n, 0, v);
  for (int i = 0; i < n; i++)
    if (strcmp(l->arg[PADDING].s, "same") == 0 && stride[i] != 1)
      return pg_fail(l->ctx, PG_EARG, "argument 'stride': expected 1 with padding 'same', got %lld",
                     (long long)stride[i]);
  return PG_OK;
}

/* weight [rows x cols x kernel ..] and bias [out], uniform in +-1/sqrt(cols * kernel sizes). */
static pg_status build(pg_layer *l, int64_t rows, int64_t cols, bool bias) {
  int n = spatial(l);
  int64_t shape[5] = {rows, cols}, fan = cols, out = l->arg[OUT].i;
  PG_TRY(sizes(l, KERNEL, n, 1, shape + 2));
  for (int i = 0; i < n; i++) fan *= shape[2 + i];
  double bound = 1 / sqrt((double)fan);
  PG_TRY(pg_layer_slot(l, WEIGHT, PG_F32, n + 2, shape));
  PG_TRY(pg_layer_uniform(l, WEIGHT, bound));
  if (!bias) return PG_OK;
  PG_TRY(pg_layer_slot(l, BIAS, PG_F32, 1, &out));
  return pg_layer_uniform(l, BIAS, bound);
}

static pg_status build_conv(pg_layer *l) {
  return build(l, l->arg[OUT].i, l->arg[IN].i / l->arg[GROUPS].i, l->arg[USE_BIAS].i);
}

/* How much padding goes before and after each dim; "same" puts the odd one behind. */
static pg_status pads(pg_layer *l, int n, int64_t *before, int64_t *after) {
  int64_t kernel[3], dilation[3];
  if (!l->arg[PADDING].s) {
    PG_TRY(sizes(l, PADDING, n, 0, before));
    memcpy(after, before, sizeof *after * (size_t)n);
    return PG_OK;
  }
  PG_TRY(sizes(l, KERNEL, n, 1, kernel));
  PG_TRY(sizes(l, DILATION, n, 1, dilation));
  for (int i = 0; i < n; i++) {
    int64_t total = strcmp(l->arg[PADDING].s, "same") == 0 ? dilation[i] * (kernel[i] - 1) : 0;
    before[i] = total / 2;
    after[i] = total - before[i];
  }
  return PG_OK;
}

/* A padding mode other than zeros pads first, then convolves without padding. */
static pg_status convolve_padded(pg_layer *l, const char *op, pg_tensor *x, pg_tensor **out) {
  static const char *const mode[] = {"constant", "reflect", "replicate", "circular"};
  static const int64_t none[3] = {0, 0, 0};
  int n = spatial(l);
  int64_t before[3], after[3], pad[6];
  PG_TRY(pads(l, n, before, after));
  for (int i = 0; i < n; i++) { /* the last dim comes first */
    pad[2 * i] = before[n - 1 - i];
    pad[2 * i + 1] = after[n - 1 - i];
  }
  pg_tensor *padded;
  PG_TRY(pg_do(l->ctx, &padded, "pad", "tls", x, 2 * n, pad, mode[l->arg[PADDING_MODE].i]));
  pg_arg old = l->arg[PADDING];
  l->arg[PADDING] = (pg_arg){.set = true, .n = (short)n, .v = none};
  pg_status s =
      pg_layer_run(l, op, 3, (pg_tensor *[]){padded, l->slot[WEIGHT], l->slot[BIAS]}, out);
  l->arg[PADDING] = old;
  pg_tensor_unref(padded);
  return s;
}

static pg_status forward_conv(pg_layer *l, int nin, pg_tensor *const *in, pg_tensor **out) {
  (void)nin;
  static const char *const op[] = {"conv1d", "conv2d", "conv3d"};
  const char *name = op[spatial(l) - 1];
  if (l->arg[PADDING_MODE].i != 0) return convolve_padded(l, name, in[0], out);
  return pg_layer_run(l, name, 3, (pg_tensor *[]){in[0], l->slot[WEIGHT], l->slot[BIAS]}, out);
}

static pg_status check_transposed(pg_layer *l) {
  int n = spatial(l);
  int64_t v[3], stride[3], dilation[3];
  PG_TRY(check_channels(l, T_GROUPS));
  PG_TRY(sizes(l, KERNEL, n, 1, v));
  PG_TRY(sizes(l, STRIDE, n, 1, stride));
  PG_TRY(sizes(l, PADDING, n, 0, v));
  PG_TRY(sizes(l, T_DILATION, n, 1, dilation));
  PG_TRY(sizes(l, T_OUTPUT_PADDING, n, 0, v));
  for (int i = 0; i < n; i++)
    if (v[i] >= stride[i] && v[i] >= dilation[i])
      return pg_fail(
          l->ctx, PG_EARG,
          "argument 'output_padding': expected less than stride %lld or dilation %lld, got %lld",
          (long long)stride[i], (long long)dilation[i], (long long)v[i]);
  return PG_OK;
}

static pg_status build_transposed(pg_layer *l) {
  return build(l, l->arg[IN].i, l->arg[OUT].i / l->arg[T_GROUPS].i, l->arg[T_BIAS].i);
}

#define CONV_PARAMS                                                                                \
  {                                                                                                \
    PG_REQ("in_channels", PG_INT), PG_REQ("out_channels", PG_INT), PG_REQ("kernel_size", PG_INTS), \
        PG_DEF("stride", PG_INTS, 1), {"padding", PG_INTS, PG_DEFAULT, 0, "same|valid"},           \
        PG_DEF("dilation", PG_INTS, 1), PG_DEF("groups", PG_INT, 1), PG_DEF("bias", PG_FLAG, 1),   \
        PG_WORD("padding_mode", 0, "zeros|reflect|replicate|circular")                             \
  }
#define CONV_SHOW(n)                                                                      \
  "{in_channels}, {out_channels}, kernel_size={kernel_size*" n "}, stride={stride*" n "}" \
  "[, padding={padding*" n "}][, dilation={dilation*" n "}][, groups={groups}]"           \
  "[, bias={bias}][, padding_mode={padding_mode}]"
#define TRANSPOSED(dims, n, shape)                                                               \
  {                                                                                              \
    .name = "ConvTranspose" dims,                                                                \
    .doc = "What Conv" dims " with this weight [in_channels x out_channels/groups x kernel ..] " \
           "would send back to its input as gradient, for x " shape "; output_padding adds to "  \
           "the result's end.",                                                                  \
    .lua = "perigee.nn.conv_transpose",                                                          \
    .show = "{in_channels}, {out_channels}, kernel_size={kernel_size*" n "}, stride={stride*" n  \
            "}[, padding={padding*" n "}][, dilation={dilation*" n                               \
            "}][, output_padding={output_padding*" n "}][, groups={groups}][, bias={bias}]",     \
    .param = {PG_REQ("in_channels", PG_INT),  PG_REQ("out_channels", PG_INT),                    \
              PG_REQ("kernel_size", PG_INTS), PG_DEF("stride", PG_INTS, 1),                      \
              PG_DEF("padding", PG_INTS, 0),  PG_DEF("output_padding", PG_INTS, 0),              \
              PG_DEF("groups", PG_INT, 1),    PG_DEF("bias", PG_FLAG, 1),                        \
              PG_DEF("dilation", PG_INTS, 1), PG_WORD("padding_mode", 0, "zeros")},              \
    .slot = SLOTS, .nin = 1, .nout = 1, .check = check_transposed, .build = build_transposed,    \
    .op = "conv_transpose" dims                                                                  \
  }
#define SLOTS                                            \
  {                                                      \
    {"weight", PG_SLOT_PARAM}, { "bias", PG_SLOT_PARAM } \
  }

const pg_layer_def pg_layers_conv[] = {
    {.name = "Conv1d",
     .doc = "Cross-correlation of x [n x in_channels x length] with weight [out_channels x "
            "in_channels/groups x kernel_size].",
     .show = CONV_SHOW("1"),
     .param = CONV_PARAMS,
     .slot = SLOTS,
     .nin = 1,
     .nout = 1,
     .check = check_conv,
     .build = build_conv,
     .forward = forward_conv},
    {.name = "Conv2d",
     .doc = "Cross-correlation of x [n x in_channels x h x w] with weight [out_channels x "
            "in_channels/groups x kernel_size]; both start uniform in +-1/sqrt(fan_in).",
     .show = CONV_SHOW("2"),
     .param = CONV_PARAMS,
     .slot = SLOTS,
     .nin = 1,
     .nout = 1,
     .check = check_conv,
     .build = build_conv,
     .forward = forward_conv},
    {.name = "Conv3d",
     .doc = "Cross-correlation of x [n x in_channels x d x h x w] with weight [out_channels x "
            "in_channels/groups x kernel_size].",
     .show = CONV_SHOW("3"),
     .param = CONV_PARAMS,
     .slot = SLOTS,
     .nin = 1,
     .nout = 1,
     .check = check_conv,
     .build = build_conv,
     .forward = forward_conv},
    TRANSPOSED("1d", "1", "[n x in_channels x length]"),
    TRANSPOSED("2d", "2", "[n x in_channels x h x w]"),
    TRANSPOSED("3d", "3", "[n x in_channels x d x h x w]"),
    {0}};
