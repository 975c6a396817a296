/* Nodes of the recorded graph and the engine. A node owns what backward needs and is freed as soon
 * as it is done. Relies on op.h. Spec: spec/autograd/backward_spec.lua. */
#ifndef PG_AUTOGRAD_NODE_H
#define PG_AUTOGRAD_NODE_H

#include "autograd/op.h"

/* Runs on the gradient of a tensor when that is complete. */
typedef struct pg_hook {
  struct pg_hook *next;
  int out; /* of a node: which output */
  /* May replace *grad (owned) by another tensor of its shape. */
  pg_status (*run)(struct pg_hook *h, pg_tensor **grad);
  void (*drop)(struct pg_hook *h); /* frees h */
} pg_hook;

/* A function from outside that stands in the graph like an op. */
typedef struct pg_function {
  /* c as for an op's backward: gout (NULL where none came) in, gin (owned) out where need. */
  pg_status (*backward)(struct pg_function *f, pg_call *c);
  void (*drop)(struct pg_function *f); /* frees f */
} pg_function;

typedef struct pg_edge {
  pg_node *node;       /* owned; NULL for a leaf or where no gradient flows */
  pg_tensor *leaf;     /* owned; a leaf that wants grad */
  int out;             /* which output of node */
  unsigned char dtype; /* of the tensor that the caller gave, whatever the op worked on */
} pg_edge;

struct pg_node {
  int refs;
  uint64_t sequence;
  const pg_op *op;
  const pg_op *then; /* ran in place on the result, out[0]; or NULL */
  pg_ctx *ctx;
  int nin, nout, narg, nints;
  size_t bytes;      /* of the whole block; the arrays below lie in it */
  pg_edge *edge;     /* [nin] */
  pg_meta *meta;     /* [nin] */
  pg_tensor **in;    /* [nin] saved or NULL */
  uint32_t *version; /* [nin + nout] of saved tensors, when they were saved */
  pg_meta out_meta[PG_MAX_OUT];
  pg_tensor *out[PG_MAX_OUT]; /* saved outputs: detached views */
  pg_tensor *keep[PG_MAX_KEEP];
  pg_tensor *grad[PG_MAX_OUT]; /* gathered during backward */
  pg_arg *arg;
  int64_t *ints;
  pg_node *next_dead;
  int heap_at;       /* place in the engine's heap + 1; 0 outside */
  bool used;         /* backward ran and the saved tensors are gone */
  bool widened;      /* the op worked in float32: backward gets bfloat16 tensors so too */
  const char *where; /* the layer that ran the op, a constant; may be NULL */
  struct pg_function *function; /* owned; NULL but for functions from outside */
  struct pg_hook *hooks;        /* owned */
};

void pg_node_unref(pg_node *n);

/* Runs an op: infer, casts, outputs, forward, recording. c->op, in, arg are set; on success out[]
 * are owned by the caller, on failure nothing is. */
pg_status pg_apply(pg_call *c);
/* Can `then` run on another op's result in place, with a gradient that needs nothing but its own
 * result? */
bool pg_can_follow(const pg_op *then);
/* Asks that pg_apply(c) run such an op on out[0] as well, in one node; where c->then is set
 * afterwards it was done. Bits are those of the two one after the other. */
void pg_call_join(pg_call *c, const pg_op *then);
/* Like pg_backward for several roots; leaves are left alone and result[i] (owned, NULL where
 * nothing flows) is d roots / d input[i]. grad[i] NULL means 1. */
pg_status pg_grad(pg_ctx *ctx, int nroot, pg_tensor *const *root, pg_tensor *const *grad,
                  int ninput, pg_tensor *const *input, bool retain_graph, bool create_graph,
                  pg_tensor **result);
/* Hangs a hook on t, which must require grad; t (or its node) owns it. */
pg_status pg_tensor_hook(pg_tensor *t, pg_hook *h);
/* Records f as what made out[0..nout) from in[0..nin); the outputs must be fresh tensors without
 * node. Takes f, on failure too. Nothing is recorded where no input requires grad or grad mode is
 * off. */
pg_status pg_function_record(pg_ctx *ctx, pg_function *f, int nin, pg_tensor *const *in, int nout,
                             pg_tensor *const *out);
/* For function.c and the engine. */
pg_status pg__record(pg_call *c, pg_tensor *before);
void pg__hooks_drop(void *hooks);
pg_status pg__hooks_run(pg_ctx *ctx, pg_hook *hooks, int out, pg_tensor **grad);
/* Has t a NaN? On failure of memory: no. */
bool pg__has_nan(pg_tensor *t);
/* Prepares c for op: no inputs, defaults in arg. */
void pg_call_init(pg_call *c, pg_ctx *ctx, const pg_op *op);

#endif
