/* Layers that change the grid of images: Upsample and its old names, PixelShuffle, PixelUnshuffle,
 * ChannelShuffle, Fold, Unfold. Relies on layer.h and the ops interpolate, pixel_shuffle ..
 * channel_shuffle, fold, im2col.
 * Spec: spec/nn/layers_spec.lua. */
#include "nn/layer.h"

#define ONE           .nin = 1, .nout = 1
#define UPSAMPLE_ARGS PG_OPT("size", PG_INTS), PG_OPT("scale_factor", PG_FLOAT)
#define FACTORS                                                           \
  PG_OPT("scale_factor_1", PG_FLOAT), PG_OPT("scale_factor_2", PG_FLOAT), \
      PG_OPT("scale_factor_3", PG_FLOAT)

static pg_status forward_nearest(pg_layer *l, int nin, pg_tensor *const *in, pg_tensor **out) {
  (void)nin;
  if (in[0]->nd == 4) return pg_layer_run(l, "interpolate", 1, in, out);
  return pg_fail(l->ctx, PG_ESHAPE, "%s: argument 'input': expected 4 dims, got %s", l->def->name,
                 pg_shape_str(in[0]).s);
}

static pg_status check_shuffle(pg_layer *l) {
  return pg_layer_at_least(l, 1, "upscale_factor downscale_factor groups");
}

#define SHUFFLE(title, run, argument, text)                                     \
  {                                                                             \
    .name = title, .doc = text, .show = argument "={" argument "}",             \
    .param = {PG_REQ(argument, PG_INT)}, ONE, .check = check_shuffle, .op = run \
  }

const pg_layer_def pg_layers_image[] = {
    {.name = "Upsample",
     .doc = "Images [n x c x (d x h x) w] brought to size, or to scale_factor times their own; "
            "modes nearest, linear, bilinear, bicubic, trilinear, area, nearest-exact.",
     .lua = "perigee.nn.upsample",
     .param = {UPSAMPLE_ARGS,
               PG_WORD("mode", 0, "nearest|linear|bilinear|bicubic|trilinear|area|nearest-exact"),
               PG_OPT("align_corners", PG_FLAG), PG_OPT("recompute_scale_factor", PG_FLAG),
               FACTORS},
     ONE,
     .op = "interpolate"},
    {.name = "UpsamplingNearest2d",
     .doc = "Upsample of images [n x c x h x w] by the nearest pixel.",
     .lua = "perigee.nn.upsample",
     .param = {UPSAMPLE_ARGS, PG_WORD("mode", 0, "nearest"), FACTORS},
     ONE,
     .forward = forward_nearest},
    {.name = "UpsamplingBilinear2d",
     .doc = "Upsample of images [n x c x h x w], bilinear with aligned corners.",
     .lua = "perigee.nn.upsample",
     .param = {UPSAMPLE_ARGS, PG_WORD("mode", 0, "bilinear"), PG_DEF("align_corners", PG_FLAG, 1),
               FACTORS},
     ONE,
     .op = "interpolate"},
    SHUFFLE("PixelShuffle", "pixel_shuffle", "upscale_factor",
            "[.. x c r^2 x h x w] as [.. x c x h r x w r]."),
    SHUFFLE("PixelUnshuffle", "pixel_unshuffle", "downscale_factor",
            "[.. x c x h r x w r] as [.. x c r^2 x h x w]."),
    SHUFFLE("ChannelShuffle", "channel_shuffle", "groups",
            "Channels of [n x c x ..] in groups, taken from each group in turn."),
    {.name = "Unfold",
     .doc = "Every patch of images [n x c x h x w] as a column: [n x c kh kw x patches].",
     .show = "kernel_size={kernel_size}, dilation={dilation}, padding={padding}, stride={stride}",
     .param = {PG_REQ("kernel_size", PG_INTS), PG_DEF("dilation", PG_INTS, 1),
               PG_DEF("padding", PG_INTS, 0), PG_DEF("stride", PG_INTS, 1)},
     ONE,
     .op = "im2col"},
    {.name = "Fold",
     .doc = "Adds columns [n x c kh kw x patches] up to images [n x c x h x w] of output_size.",
     .show = "output_size={output_size}, kernel_size={kernel_size}, dilation={dilation}, "
             "padding={padding}, stride={stride}",
     .param = {PG_REQ("output_size", PG_INTS), PG_REQ("kernel_size", PG_INTS),
               PG_DEF("dilation", PG_INTS, 1), PG_DEF("padding", PG_INTS, 0),
               PG_DEF("stride", PG_INTS, 1)},
     ONE,
     .op = "fold"},
    {0}};
