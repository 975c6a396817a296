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
  /* What tostring puts in the brackets: {arg} is a value, {arg*2} a pair of it, [...] is left out
   * where every argument inside has its default. NULL: arguments that differ from their default. */
  const char *show;
  /* The op to run where forward is NULL; see pg_layer_run. It gets the inputs, then the slots. */
  const char *op;
  pg_status (*check)(pg_layer *l); /* ranges of arguments, also when one is assigned; NULL: none */
  pg_status (*build)(pg_layer *l); /* makes slots; NULL: nothing to make */
  pg_status (*forward)(pg_layer *l, int nin, pg_tensor *const *in, pg_tensor **out);
  /* For layers that hold more than slots, in l->own; each may be NULL. */
  pg_status (*sync)(pg_layer *l); /* brings slots up to date before they are read */
  void (*replaced)(pg_layer *l);  /* a slot holds another tensor now */
  void (*drop)(pg_layer *l);      /* frees l->own */
} pg_layer_def;

struct pg_layer {
  pg_ctx *ctx;
  const pg_layer_def *def;
  const pg_op *op;   /* of the descriptor */
  const pg_op *then; /* what the op of a pg_layer_run is to be joined with; NULL once it is */
  int inplace_at;    /* place of the argument "inplace"; -1: none */
  int refs;
  bool training;
  pg_arg arg[PG_MAX_PARAM]; /* by place in def->param */
  int64_t ints[PG_MAX_INTS];
  int nints;
  pg_tensor *slot[PG_MAX_SLOT]; /* owned; NULL where an option left it out (bias = false) */
  void *own;                    /* what only this layer's file knows */
  size_t bytes;                 /* of this block, texts of arguments included */
};

/* Builds a layer; arg and ints as a call's. dtype of parameters: float32. */
pg_status pg_layer_new(pg_ctx *ctx, const pg_layer_def *def, const pg_call *args, pg_layer **out);
void pg_layer_unref(pg_layer *l);
pg_layer *pg_layer_ref(pg_layer *l);
/* out[0..def->nout) are owned by the caller. */
pg_status pg_layer_forward(pg_layer *l, int nin, pg_tensor *const *in, pg_tensor **out);
/* pg_layer_forward, and `then` (of pg_layer_follows; NULL: none) on its result where the two can be
 * one op; *joined says whether. */
pg_status pg_layer_forward_join(pg_layer *l, const pg_op *then, int nin, pg_tensor *const *in,
                                pg_tensor **out, bool *joined);
/* l's op where l is nothing but that, and pg_can_follow says yes; else NULL. */
const pg_op *pg_layer_follows(const pg_layer *l);
/* Slot i brought up to date, borrowed (NULL where it is left out), and another tensor for it.
 * Setting wants a floating leaf for a parameter and takes a ref; t NULL empties the slot. */
pg_status pg_layer_get(pg_layer *l, int i, pg_tensor **out);
pg_status pg_layer_set(pg_layer *l, int i, pg_tensor *t);
/* Puts a tensor that was computed from others into slot i until the next one comes: gradients flow
 * on to what it was made of. Takes a ref. */
pg_status pg_layer_put(pg_layer *l, int i, pg_tensor *t);
/* Another value for argument i: numbers, flags and words of PG_ENUM. On failure the old one stays.
 */
pg_status pg_layer_set_arg(pg_layer *l, int i, const pg_arg *value);
const pg_layer_def *pg_layer_find(const char *name);
const pg_layer_def *pg_layer_def_at(int i);       /* NULL past the end */
const pg_layer_def *const *pg_layer_tables(void); /* generated */

/* For build: slot[i] = zeros of this shape, a parameter that wants grad or a buffer, as its kind
 * says. */
pg_status pg_layer_slot(pg_layer *l, int i, pg_dtype dtype, int nd, const int64_t *shape);
/* For the end of a forward, whose result is the op's.
 * Runs an op with one output: its tensor parameters are in[0..nin) in order (NULL: absent), its
 * arguments those of the layer with the same name, `training` the layer's mode, the others default.
 * A true argument `inplace` runs it in place. *out is owned by the caller. */
pg_status pg_layer_run(pg_layer *l, const char *op, int nin, pg_tensor *const *in, pg_tensor **out);
/* Argument by name; l's class must have it. */
const pg_arg *pg_layer_value(const pg_layer *l, const char *name);
/* PG_EARG unless each named integer is at least `least`. names: "in_features out_features". */
pg_status pg_layer_at_least(pg_layer *l, int64_t least, const char *names);
/* Fills slot i with U(-bound, bound) / N(0, 1) / a constant. */
pg_status pg_layer_uniform(pg_layer *l, int i, double bound);
pg_status pg_layer_normal(pg_layer *l, int i, double mean, double std);
pg_status pg_layer_fill(pg_layer *l, int i, double value);
/* Places of an argument by name, for layers with many; -1 if there is none. */
int pg_layer_arg(const pg_layer_def *def, const char *name);

#endif
