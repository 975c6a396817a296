/* Layers that change shapes only: Flatten, Unflatten. Relies on layer.h and the shape ops.
 * Spec: spec/nn/layers_spec.lua. */
#include "nn/layer.h"

static pg_status forward_unflatten(pg_layer *l, int nin, pg_tensor *const *in, pg_tensor **out) {
  (void)nin;
  return pg_do(l->ctx, out, "unflatten", "til", in[0], l->arg[0].i, (int)l->arg[1].n, l->arg[1].v);
}

const pg_layer_def pg_layers_shape[] = {
    {.name = "Flatten",
     .doc = "Joins the dims start_dim .. end_dim into one; by default all but the first.",
     .show = "start_dim={start_dim}, end_dim={end_dim}",
     .param = {PG_DEF("start_dim", PG_DIM, 2), PG_DEF("end_dim", PG_DIM, -1)},
     .nin = 1,
     .nout = 1,
     .op = "flatten"},
    {.name = "Unflatten",
     .doc = "Splits one dim into the sizes unflattened_size, of which one may be -1.",
     .show = "dim={dim}, unflattened_size={unflattened_size}",
     .param = {PG_REQ("dim", PG_DIM), PG_REQ("unflattened_size", PG_INTS)},
     .nin = 1,
     .nout = 1,
     .forward = forward_unflatten},
    {0}};
