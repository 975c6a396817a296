/* Padding layers: ConstantPad, ZeroPad, ReflectionPad, ReplicationPad, CircularPad, 1d to 3d.
 * Relies on layer.h and the op pad.
 * Spec: spec/nn/layers_spec.lua. */
#include <string.h>

#include "nn/layer.h"

enum { PADDING, VALUE };

/* The last letter but one of "ZeroPad2d" is its number of spatial dims. */
static int spatial(const pg_layer *l) { return l->def->name[strlen(l->def->name) - 2] - '0'; }

static pg_status check(pg_layer *l) {
  int n = l->arg[PADDING].n, want = 2 * spatial(l);
  if (n == 1 || n == want) return PG_OK;
  return pg_fail(l->ctx, PG_EARG, "argument 'padding': expected one integer or %d, got %d", want,
                 n);
}

static pg_status forward(pg_layer *l, int nin, pg_tensor *const *in, pg_tensor **out) {
  (void)nin;
  const pg_arg *padding = &l->arg[PADDING];
  int sp = spatial(l), n = 2 * sp;
  int64_t pad[6];
  if (in[0]->nd != sp + 1 && in[0]->nd != sp + 2)
    return pg_fail(l->ctx, PG_ESHAPE, "%s: argument 'input': expected %d or %d dims, got %s",
                   l->def->name, sp + 1, sp + 2, pg_shape_str(in[0]).s);
  for (int i = 0; i < n; i++) pad[i] = padding->v[padding->n == 1 ? 0 : i];
  const char *mode = "constant";
  if (strncmp(l->def->name, "Refl", 4) == 0) mode = "reflect";
  if (strncmp(l->def->name, "Repl", 4) == 0) mode = "replicate";
  if (strncmp(l->def->name, "Circ", 4) == 0) mode = "circular";
  bool value = pg_layer_arg(l->def, "value") >= 0;
  return pg_do(l->ctx, out, "pad", "tlsf", in[0], n, pad, mode, value ? l->arg[VALUE].f : 0.0);
}

#define PAD(kind, dims, numbers, shape, text)                                                    \
  {                                                                                              \
    .name = kind "Pad" dims,                                                                     \
    .doc = "x " shape " with " text ": padding is one number or "                                \
           "those before and after each dim, the last dim first.",                               \
    .show = "{padding*" numbers "}", .param = {PG_REQ("padding", PG_INTS)}, .nin = 1, .nout = 1, \
    .check = check, .forward = forward                                                           \
  }
#define CONSTANT(dims, numbers, shape)                                                     \
  {                                                                                        \
    .name = "ConstantPad" dims,                                                            \
    .doc = "x " shape " with value around it: padding is one "                             \
           "number or those before and after each dim, the last dim first.",               \
    .show = "padding={padding*" numbers "}, value={value}",                                \
    .param = {PG_REQ("padding", PG_INTS), PG_REQ("value", PG_FLOAT)}, .nin = 1, .nout = 1, \
    .check = check, .forward = forward                                                     \
  }
#define EVERY(dims, numbers, shape)                                                     \
  CONSTANT(dims, numbers, shape), PAD("Zero", dims, numbers, shape, "zeros around it"), \
      PAD("Reflection", dims, numbers, shape, "its mirror image around it"),            \
      PAD("Replication", dims, numbers, shape, "its border repeated around it"),        \
      PAD("Circular", dims, numbers, shape, "its other end around it")

const pg_layer_def pg_layers_pad[] = {
    /* each kind in every number of dims */
    EVERY("1d", "2", "[n x c x length]"),
    EVERY("2d", "4", "[n x c x h x w]"),
    EVERY("3d", "6", "[n x c x d x h x w]"),
    {0}};
