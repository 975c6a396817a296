/* Pooling: maxima and means over windows, given or adaptive. Relies on layer.h and the pooling
 * ops.
 * Spec: spec/nn/layers_spec.lua. */
#include "nn/layer.h"

#define MAX_POOL(dims, doc_shape)                                                                \
  {                                                                                              \
    .name = "MaxPool" dims,                                                                      \
    .doc =                                                                                       \
        "Maximum of each window of x " doc_shape                                                 \
        "; stride is kernel_size where it is not given; return_indices adds their places, from " \
        "1, which MaxUnpool" dims " takes.",                                                     \
    .lua = "perigee.nn.max_pool",                                                                \
    .show = "kernel_size={kernel_size}, stride={stride}, padding={padding}, "                    \
            "dilation={dilation}, ceil_mode={ceil_mode}",                                        \
    .param = {PG_REQ("kernel_size", PG_INTS),       PG_OPT("stride", PG_INTS),                   \
              PG_DEF("padding", PG_INTS, 0),        PG_DEF("dilation", PG_INTS, 1),              \
              PG_DEF("return_indices", PG_FLAG, 0), PG_DEF("ceil_mode", PG_FLAG, 0)},            \
    .nin = 1, .nout = 1, .check = stride_is_kernel, .op = "max_pool" dims                        \
  }
#define MAX_UNPOOL(dims, numbers, doc_shape)                                               \
  {                                                                                        \
    .name = "MaxUnpool" dims,                                                              \
    .doc = "x " doc_shape " with each value at the place that the indices of MaxPool" dims \
           " name, zeros elsewhere; inputs x, indices and, if wished, output_size.",       \
    .lua = "perigee.nn.max_pool",                                                          \
    .show = "kernel_size={kernel_size*" numbers "}, stride={stride*" numbers               \
            "}, padding={padding*" numbers "}",                                            \
    .param = {PG_REQ("kernel_size", PG_INTS), PG_OPT("stride", PG_INTS),                   \
              PG_DEF("padding", PG_INTS, 0)},                                              \
    .nin = 2, .nout = 1, .check = stride_is_kernel, .op = "max_unpool" dims                \
  }
#define ADAPTIVE(kind, op_kind, dims, doc_shape, extend, ...)                                    \
  {                                                                                              \
    .name = "Adaptive" kind "Pool" dims,                                                         \
    .doc = kind " pooling of x " doc_shape " with windows that give output_size.",               \
    .show = "output_size={output_size}", .param = {PG_REQ("output_size", PG_INTS), __VA_ARGS__}, \
    .nin = 1, .nout = 1, .lua = extend, .op = "adaptive_" op_kind "_pool" dims                   \
  }
/* A stride that was not given is written down, so that a layer shows it. */
static pg_status stride_is_kernel(pg_layer *l) {
  int stride = pg_layer_arg(l->def, "stride");
  if (!l->arg[stride].set) l->arg[stride] = *pg_layer_value(l, "kernel_size");
  return PG_OK;
}

#define LP_POOL(dims, doc_shape)                                                  \
  {                                                                               \
    .name = "LPPool" dims,                                                        \
    .doc = "(sum x^p)^(1/p) over each window of x " doc_shape                     \
           ", p = norm_type; stride defaults to kernel_size.",                    \
    .show = "norm_type={norm_type}, kernel_size={kernel_size}, stride={stride}, " \
            "ceil_mode={ceil_mode}",                                              \
    .param = {PG_REQ("norm_type", PG_FLOAT), PG_REQ("kernel_size", PG_INTS),      \
              PG_OPT("stride", PG_INTS), PG_DEF("ceil_mode", PG_FLAG, 0)},        \
    .nin = 1, .nout = 1, .op = "lp_pool" dims                                     \
  }

const pg_layer_def pg_layers_pool[] = {
    MAX_POOL("1d", "[n x c x length]"),
    MAX_POOL("2d", "[n x c x h x w]"),
    MAX_POOL("3d", "[n x c x d x h x w]"),
    {.name = "AvgPool1d",
     .doc = "Mean of each window of x [n x c x length]; stride is kernel_size where it is not "
            "given.",
     .show = "kernel_size={kernel_size*1}, stride={stride*1}, padding={padding*1}",
     .param = {PG_REQ("kernel_size", PG_INTS), PG_OPT("stride", PG_INTS),
               PG_DEF("padding", PG_INTS, 0), PG_DEF("ceil_mode", PG_FLAG, 0),
               PG_DEF("count_include_pad", PG_FLAG, 1)},
     .nin = 1,
     .nout = 1,
     .check = stride_is_kernel,
     .op = "avg_pool1d"},
    {.name = "AvgPool2d",
     .doc =
         "Mean of each window of x [n x c x h x w]; stride is kernel_size where it is not given.",
     .show = "kernel_size={kernel_size}, stride={stride}, padding={padding}",
     .param = {PG_REQ("kernel_size", PG_INTS), PG_OPT("stride", PG_INTS),
               PG_DEF("padding", PG_INTS, 0), PG_DEF("ceil_mode", PG_FLAG, 0),
               PG_DEF("count_include_pad", PG_FLAG, 1), PG_OPT("divisor_override", PG_INT)},
     .nin = 1,
     .nout = 1,
     .check = stride_is_kernel,
     .op = "avg_pool2d"},
    {.name = "AvgPool3d",
     .doc = "Mean of each window of x [n x c x d x h x w]; stride is kernel_size where it is not "
            "given.",
     .show = "kernel_size={kernel_size}, stride={stride}, padding={padding}",
     .param = {PG_REQ("kernel_size", PG_INTS), PG_OPT("stride", PG_INTS),
               PG_DEF("padding", PG_INTS, 0), PG_DEF("ceil_mode", PG_FLAG, 0),
               PG_DEF("count_include_pad", PG_FLAG, 1), PG_OPT("divisor_override", PG_INT)},
     .nin = 1,
     .nout = 1,
     .check = stride_is_kernel,
     .op = "avg_pool3d"},
    MAX_UNPOOL("1d", "1", "[n x c x length]"),
    MAX_UNPOOL("2d", "2", "[n x c x h x w]"),
    MAX_UNPOOL("3d", "3", "[n x c x d x h x w]"),
    LP_POOL("1d", "[n x c x length]"),
    LP_POOL("2d", "[n x c x h x w]"),
    LP_POOL("3d", "[n x c x d x h x w]"),
    ADAPTIVE("Avg", "avg", "1d", "[n x c x length]", NULL, {0}),
    ADAPTIVE("Avg", "avg", "2d", "[n x c x h x w]", NULL, {0}),
    ADAPTIVE("Avg", "avg", "3d", "[n x c x d x h x w]", NULL, {0}),
    ADAPTIVE("Max", "max", "1d", "[n x c x length]", "perigee.nn.max_pool",
             PG_DEF("return_indices", PG_FLAG, 0)),
    ADAPTIVE("Max", "max", "2d", "[n x c x h x w]", "perigee.nn.max_pool",
             PG_DEF("return_indices", PG_FLAG, 0)),
    ADAPTIVE("Max", "max", "3d", "[n x c x d x h x w]", "perigee.nn.max_pool",
             PG_DEF("return_indices", PG_FLAG, 0)),
    {0}};
