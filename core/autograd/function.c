/* Functions from outside as nodes of the graph, hooks, and the watch for the first NaN.
 * Relies on node.h. Spec: spec/autograd/function_spec.lua. */
#include <string.h>

#include "autograd/node.h"

static pg_status no_infer(pg_call *c) {
  return pg_fail(c->ctx, PG_ESTATE, "a function from outside is not run by name");
}

static pg_status function_backward(pg_call *c) {
  pg_function *f = c->user;
  return f->backward(f, c);
}

static const pg_op function_op = {.name = "function",
                                  .doc = "A function from outside, with a backward of its own.",
                                  .param = {{"inputs", PG_TENSORS, 0, 0, NULL}},
                                  .flags = PG_HIDDEN,
                                  .nout = 1,
                                  .infer = no_infer,
                                  .backward = function_backward};

pg_status pg_function_record(pg_ctx *ctx, pg_function *f, int nin, pg_tensor *const *in, int nout,
                             pg_tensor *const *out) {
  bool flow = false;
  for (int i = 0; i < nin; i++) flow = flow || in[i]->requires_grad;
  pg_status s = PG_OK;
  if (nout > PG_MAX_OUT)
    s = pg_fail(ctx, PG_EARG, "forward: expected at most %d tensors, got %d", PG_MAX_OUT, nout);
  pg_node *n = NULL;
  if (s == PG_OK && flow && ctx->grad_mode) {
    pg_call c;
    pg_call_init(&c, ctx, &function_op);
    c.in = (pg_tensor **)in;
    c.nin = nin;
    c.nout = nout;
    for (int j = 0; j < nout; j++) c.out[j] = out[j];
    s = pg__record(&c, NULL);
    for (int j = 0; j < nout && !n; j++) n = out[j]->node;
  }
  if (n && s == PG_OK) n->function = f;
  else f->drop(f);
  return s;
}

/* --- hooks ------------------------------------------------------------------------------------ */

void pg__hooks_drop(void *hooks) {
  for (pg_hook *h = hooks; h;) {
    pg_hook *next = h->next;
    h->drop(h);
    h = next;
  }
}

pg_status pg_tensor_hook(pg_tensor *t, pg_hook *h) {
  h->next = NULL;
  if (!t->requires_grad) {
    h->drop(h);
    return pg_fail(t->ctx, PG_ESTATE,
                   "register_hook: argument 'self': expected a tensor that requires grad, got one "
                   "that does not");
  }
  t->ctx->hooks_drop = pg__hooks_drop;
  h->out = t->node ? t->node_out : 0;
  pg_hook **at = t->node ? &t->node->hooks : (pg_hook **)&t->hooks;
  while (*at) at = &(*at)->next;
  *at = h;
  return PG_OK;
}

pg_status pg__hooks_run(pg_ctx *ctx, pg_hook *hooks, int out, pg_tensor **grad) {
  for (pg_hook *h = hooks; h; h = h->next) {
    if (h->out != out || !*grad) continue;
    const int nd = (*grad)->nd;
    int64_t shape[PG_MAX_DIMS];
    memcpy(shape, (*grad)->shape, sizeof shape);
    PG_TRY(h->run(h, grad));
    if ((*grad)->nd != nd || memcmp(shape, (*grad)->shape, sizeof *shape * (size_t)nd) != 0)
      return pg_fail(ctx, PG_ESHAPE, "a hook's result: expected the gradient's shape %s, got %s",
                     pg_shape_str_of(nd, shape).s, pg_shape_str(*grad).s);
  }
  return PG_OK;
}

/* --- the first NaN ---------------------------------------------------------------------------- */

bool pg__has_nan(pg_tensor *t) {
  if (!t || !pg_is_float((pg_dtype)t->dtype) || t->storage->device != PG_HOST) return false;
  pg_ctx *ctx = t->ctx;
  pg_tensor *flat = NULL;
  if (pg__as(ctx, t, PG_F64, &flat) != PG_OK) return false;
  const double *p = pg_data(flat);
  const int64_t n = pg_numel(flat);
  bool found = false;
  for (int64_t i = 0; i < n && !found; i++) found = p[i] != p[i];
  pg_tensor_unref(flat);
  return found;
}
