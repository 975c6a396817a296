/* The layer contract: a leaf with slots (parameters, buffers), built from constructor arguments,
 * whose forward is made of ops. Relies on autograd and ops. A file in layers/ exports const
 * pg_layer_def pg_layers_<file>[], ended by {0}. Spec: spec/nn/layers_spec.lua. */
#ifndef PG_NN_LAYER_H
#define PG_NN_LAYER_H

#include "autograd/node.h"

#define PG_MAX_SLOT 8

enum { PG_SLOT_PARAM = 1, PG_SLOT_BUFFER = 2 };

typedef struct pg_slot {
  const char *name; /* PyTorch's: "weight", "running_mean" */
  int kind;
} pg_slot;

typedef struct pg_layer pg_layer;

typedef struct pg_layer_def {
  const char *name;             /* class name: "Conv2d" */
  const char *doc;              /* what it computes, shapes, source */
  const char *lua;              /* Lua module that adds methods to the class; NULL for none */
  pg_param param[PG_MAX_PARAM]; /* constructor arguments in PyTorch's order */
  pg_slot slot[PG_MAX_SLOT];
  int nin, nout; /* inputs that forward takes (further ones optional up to nin), outputs */
  int nin_least; /* 0: nin */
  pg_status (*build)(pg_layer *l); /* checks arguments, makes slots; NULL: nothing to make */
  pg_status (*forward)(pg_layer *l, int nin, pg_tensor *const *in, pg_tensor **out);
} pg_layer_def;

struct pg_layer {
  pg_ctx *ctx;
  const pg_layer_def *def;
  int refs;
  bool training;
  pg_arg arg[PG_MAX_PARAM]; /* by place in def->param */
  int64_t ints[PG_MAX_INTS];
  int nints;
  pg_tensor *slot[PG_MAX_SLOT]; /* owned; NULL where an option left it out (bias = false) */
};

/* Builds a layer; arg and ints as a call's. dtype of parameters: float32. */
pg_status pg_layer_new(pg_ctx *ctx, const pg_layer_def *def, const pg_call *args, pg_layer **out);
void pg_layer_unref(pg_layer *l);
pg_layer *pg_layer_ref(pg_layer *l);
/* out[0..def->nout) are owned by the caller. */
pg_status pg_layer_forward(pg_layer *l, int nin, pg_tensor *const *in, pg_tensor **out);
const pg_layer_def *pg_layer_find(const char *name);
const pg_layer_def *pg_layer_def_at(int i);       /* NULL past the end */
const pg_layer_def *const *pg_layer_tables(void); /* generated */

/* For build: slot[i] = zeros of this shape, a parameter that wants grad or a buffer, as its kind
 * says. */
pg_status pg_layer_slot(pg_layer *l, int i, pg_dtype dtype, int nd, const int64_t *shape);
/* Places of an argument by name, for layers with many; -1 if there is none. */
int pg_layer_arg(const pg_layer_def *def, const char *name);

#endif
