/* Building, running and changing layers. Relies on layer.h, node.h, registry.
 * Spec: spec/nn/layers_spec.lua. */
#include "nn/layer.h"

#include <string.h>

#include "autograd/registry.h"

/* --- lookup -------------------------------------------------------------------------------------
 */

const pg_layer_def *pg_layer_def_at(int i) {
  const pg_layer_def *const *tables = pg_layer_tables();
  for (int k = 0; tables[k]; k++)
    for (const pg_layer_def *d = tables[k]; d->name; d++)
      if (i-- == 0) return d;
  return NULL;
}

const pg_layer_def *pg_layer_find(const char *name) {
  const pg_layer_def *d;
  for (int i = 0; (d = pg_layer_def_at(i)) != NULL; i++)
    if (strcmp(d->name, name) == 0) return d;
  return NULL;
}

int pg_layer_arg(const pg_layer_def *def, const char *name) {
  for (int k = 0; def->param[k].kind != PG_END; k++)
    if (strcmp(def->param[k].name, name) == 0) return k;
  return -1;
}

const pg_arg *pg_layer_value(const pg_layer *l, const char *name) {
  int k = pg_layer_arg(l->def, name);
  PG_ASSERT(k >= 0);
  return &l->arg[k];
}

/* Length of word k of "a|b|c", whose start goes to *word; 0 where there is none. */
static size_t word_at(const char *choices, int64_t k, const char **word) {
  const char *s = choices;
  while (s && k-- > 0) s = strchr(s, '|') ? strchr(s, '|') + 1 : NULL;
  *word = s;
  return s ? strcspn(s, "|") : 0;
}

/* --- making and freeing -------------------------------------------------------------------------
 */

static size_t text_bytes(const pg_layer_def *def, const pg_call *args) {
  size_t n = 0;
  for (int k = 0; def->param[k].kind != PG_END; k++)
    if (args->arg[k].s && def->param[k].kind != PG_ENUM) n += strlen(args->arg[k].s) + 1;
  return n;
}

/* Copies arguments, lists and texts, so that nothing of the caller's is kept. */
static void take_args(pg_layer *l, const pg_call *args) {
  char *text = (char *)(l + 1);
  l->nints = args->nints;
  memcpy(l->ints, args->ints, sizeof *l->ints * (size_t)args->nints);
  for (int k = 0; l->def->param[k].kind != PG_END; k++) {
    int kind = l->def->param[k].kind;
    pg_arg *a = &l->arg[k];
    *a = args->arg[k];
    if ((kind == PG_INTS || kind == PG_SHAPE) && a->v && !a->s)
      a->v = l->ints + (a->v - args->ints);
    if (!a->s) continue;
    if (kind == PG_ENUM) {
      a->s = NULL; /* the number says it */
    } else {
      size_t n = strlen(a->s) + 1;
      a->s = memcpy(text, a->s, n);
      text += n;
    }
  }
}

static pg_status make(pg_layer *l) {
  if (l->def->check) PG_TRY(l->def->check(l));
  l->inplace_at = pg_layer_arg(l->def, "inplace");
  l->op = l->def->op ? pg_op_find(l->ctx, l->def->op) : NULL;
  if (l->def->op && !l->op)
    return pg_fail(l->ctx, PG_EUNSUPPORTED, "there is no op '%s'", l->def->op);
  return l->def->build ? l->def->build(l) : PG_OK;
}

pg_status pg_layer_new(pg_ctx *ctx, const pg_layer_def *def, const pg_call *args, pg_layer **out) {
  *out = NULL;
  size_t bytes = sizeof(pg_layer) + text_bytes(def, args);
  pg_layer *l;
  PG_TRY(pg_alloc_zero(ctx, bytes, (void **)&l));
  l->ctx = ctx;
  l->def = def;
  l->refs = 1;
  l->training = true;
  l->bytes = bytes;
  take_args(l, args);
  const char *doing = ctx->doing;
  bool mode = ctx->grad_mode;
  ctx->doing = def->name;
  ctx->grad_mode = false; /* initial values are no part of a graph */
  pg_status s = make(l);
  ctx->grad_mode = mode;
  ctx->doing = doing;
  if (s == PG_OK) *out = l;
  else pg_layer_unref(l);
  return s;
}

pg_layer *pg_layer_ref(pg_layer *l) {
  if (l) l->refs++;
  return l;
}

void pg_layer_unref(pg_layer *l) {
  if (!l || --l->refs) return;
  if (l->def->drop) l->def->drop(l);
  for (int i = 0; i < PG_MAX_SLOT; i++) pg_tensor_unref(l->slot[i]);
  pg_free(l->ctx, l, l->bytes);
}

/* --- slots and arguments ------------------------------------------------------------------------
 */

pg_status pg_layer_slot(pg_layer *l, int i, pg_dtype dtype, int nd, const int64_t *shape) {
  pg_tensor *t;
  PG_TRY(pg_tensor_zeros(l->ctx, dtype, nd, shape, &t));
  t->is_param = true;
  t->requires_grad = l->def->slot[i].kind == PG_SLOT_PARAM;
  pg_tensor_unref(l->slot[i]);
  l->slot[i] = t;
  return PG_OK;
}

pg_status pg_layer_get(pg_layer *l, int i, pg_tensor **out) {
  *out = NULL;
  if (l->def->sync) PG_TRY(l->def->sync(l));
  *out = l->slot[i];
  return PG_OK;
}

pg_status pg_layer_set(pg_layer *l, int i, pg_tensor *t) {
  const pg_slot *slot = &l->def->slot[i];
  if (t && slot->kind == PG_SLOT_PARAM) {
    if (!pg_is_float((pg_dtype)t->dtype))
      return pg_fail(l->ctx, PG_EDTYPE, "%s: argument '%s': expected a floating tensor, got %s",
                     l->def->name, slot->name, pg_dtype_name((pg_dtype)t->dtype));
    if (t->node)
      return pg_fail(l->ctx, PG_ESTATE,
                     "%s: argument '%s': expected a leaf, got the result of an op; detach() it",
                     l->def->name, slot->name);
  }
  if (t) {
    t->is_param = true;
    if (slot->kind == PG_SLOT_PARAM && !l->slot[i]) t->requires_grad = true;
  }
  pg_tensor_ref(t);
  pg_tensor_unref(l->slot[i]);
  l->slot[i] = t;
  if (l->def->replaced) l->def->replaced(l);
  return PG_OK;
}

pg_status pg_layer_put(pg_layer *l, int i, pg_tensor *t) {
  if (!pg_is_float((pg_dtype)t->dtype))
    return pg_fail(l->ctx, PG_EDTYPE, "%s: argument '%s': expected a floating tensor, got %s",
                   l->def->name, l->def->slot[i].name, pg_dtype_name((pg_dtype)t->dtype));
  pg_tensor_ref(t);
  pg_tensor_unref(l->slot[i]);
  l->slot[i] = t;
  if (l->def->replaced) l->def->replaced(l);
  return PG_OK;
}

pg_status pg_layer_set_arg(pg_layer *l, int i, const pg_arg *value) {
  const pg_param *p = &l->def->param[i];
  if (p->kind == PG_INTS || p->kind == PG_SHAPE || p->kind == PG_STRING)
    return pg_fail(l->ctx, PG_EARG,
                   "%s: argument '%s': expected what the layer was made with, got another value; "
                   "make another layer",
                   l->def->name, p->name);
  if (l->def->sync) PG_TRY(l->def->sync(l));
  pg_arg old = l->arg[i];
  l->arg[i] = *value;
  l->arg[i].set = true;
  l->arg[i].s = NULL;
  const char *doing = l->ctx->doing;
  l->ctx->doing = l->def->name;
  pg_status s = l->def->check ? l->def->check(l) : PG_OK;
  l->ctx->doing = doing;
  if (s != PG_OK) l->arg[i] = old;
  return s;
}

pg_status pg_layer_at_least(pg_layer *l, int64_t least, const char *names) {
  for (const char *s = names; *s;) {
    size_t n = strcspn(s, " ");
    for (int k = 0; l->def->param[k].kind != PG_END; k++) {
      const char *name = l->def->param[k].name;
      if (strlen(name) != n || memcmp(name, s, n) != 0 || !l->arg[k].set) continue;
      if (l->arg[k].i < least)
        return pg_fail(l->ctx, PG_EARG, "argument '%s': expected at least %lld, got %lld", name,
                       (long long)least, (long long)l->arg[k].i);
    }
    s += n;
    s += *s == ' ';
  }
  return PG_OK;
}

pg_status pg_layer_uniform(pg_layer *l, int i, double bound) {
  return pg_do(l->ctx, NULL, "uniform_", "tff", l->slot[i], -bound, bound);
}

pg_status pg_layer_normal(pg_layer *l, int i, double mean, double std) {
  return pg_do(l->ctx, NULL, "normal_", "tff", l->slot[i], mean, std);
}

pg_status pg_layer_fill(pg_layer *l, int i, double value) {
  pg_tensor_fill(l->slot[i], value);
  return PG_OK;
}

/* --- running ------------------------------------------------------------------------------------
 */

/* Number of `word` (n letters) among p's choices, or -1. */
static int64_t choice_of(const pg_param *p, const char *word, size_t n) {
  const char *s;
  size_t len;
  for (int64_t k = 0; (len = word_at(p->choices, k, &s)) > 0; k++)
    if (len == n && memcmp(s, word, n) == 0) return k;
  return -1;
}

/* *to = the layer's argument `from`, given in the op's kind. */
static pg_status pass_arg(const pg_layer *l, int from, const pg_param *p, pg_arg *to, pg_call *c) {
  const pg_param *q = &l->def->param[from];
  const pg_arg *a = &l->arg[from];
  bool whole = q->kind == PG_INT || q->kind == PG_FLAG || q->kind == PG_DIM;
  bool list = q->kind == PG_INTS || q->kind == PG_SHAPE;
  if (p->kind == PG_FLOAT && whole) {
    to->f = (double)a->i;
    to->is_int = true;
  } else if (p->kind == PG_ENUM && q->kind == PG_ENUM) {
    const char *word;
    size_t n = word_at(q->choices, a->i, &word);
    to->i = choice_of(p, word, n);
    if (to->i < 0)
      return pg_fail(l->ctx, PG_EARG, "argument '%s': expected one of %s, got '%.*s'", p->name,
                     p->choices, (int)n, word);
  } else if ((p->kind == PG_INTS || p->kind == PG_SHAPE) && (list || whole)) {
    const int64_t *v = whole ? &a->i : a->v;
    *to = (pg_arg){.n = whole ? 1 : a->n, .s = whole ? NULL : a->s};
    if (to->s) {
      to->set = true;
      return PG_OK;
    }
    if (c->nints + to->n > PG_MAX_INTS)
      return pg_fail(l->ctx, PG_EARG, "argument '%s': expected at most %d integers, got more",
                     p->name, PG_MAX_INTS);
    to->v = memcpy(c->ints + c->nints, v, sizeof *v * (size_t)to->n);
    c->nints += to->n;
  } else if (p->kind == q->kind ||
             (whole && (p->kind == PG_INT || p->kind == PG_FLAG || p->kind == PG_DIM))) {
    *to = *a;
  } else {
    return pg_fail(l->ctx, PG_EARG, "argument '%s' is of another kind for the op", p->name);
  }
  to->set = true;
  return PG_OK;
}

static pg_status fill_call(pg_layer *l, pg_call *c, int nin, pg_tensor *const *in) {
  int i = 0, k = 0;
  for (const pg_param *p = c->op->param; p->kind != PG_END; p++) {
    if (p->kind == PG_TENSOR) {
      if (i < nin) c->in[i] = in[i];
      if (!c->in[i] && !(p->flags & PG_OPTIONAL))
        return pg_fail(l->ctx, PG_EARG, "argument '%s': expected a tensor, got nothing", p->name);
      i++;
      continue;
    }
    pg_arg *to = &c->arg[k++];
    int from = pg_layer_arg(l->def, p->name);
    if (from >= 0 && l->arg[from].set) {
      PG_TRY(pass_arg(l, from, p, to, c));
    } else if (strcmp(p->name, "training") == 0) {
      to->i = l->training;
      to->set = true;
    }
  }
  return PG_OK;
}

static pg_status run(pg_layer *l, const pg_op *op, int nin, pg_tensor *const *in, pg_tensor **out) {
  pg_call c;
  pg_call_init(&c, l->ctx, op);
  PG_TRY(fill_call(l, &c, nin, in));
  int k = l->inplace_at;
  c.inplace = k >= 0 && l->arg[k].set && l->arg[k].i && (op->flags & PG_INPLACE);
  if (l->then) pg_call_join(&c, l->then);
  PG_TRY(pg_apply(&c));
  if (c.then) l->then = NULL;
  for (int j = 1; j < c.nout; j++) pg_tensor_unref(c.out[j]);
  *out = c.out[0];
  return PG_OK;
}

pg_status pg_layer_run(pg_layer *l, const char *name, int nin, pg_tensor *const *in,
                       pg_tensor **out) {
  *out = NULL;
  const pg_op *op = pg_op_find(l->ctx, name);
  if (!op) return pg_fail(l->ctx, PG_EUNSUPPORTED, "there is no op '%s'", name);
  return run(l, op, nin, in, out);
}

/* The op of the descriptor on the inputs, then the slots. */
static pg_status run_op(pg_layer *l, int nin, pg_tensor *const *in, pg_tensor **out) {
  pg_tensor *all[PG_MAX_IN + PG_MAX_SLOT];
  int n = 0;
  for (int i = 0; i < l->def->nin; i++) all[n++] = i < nin ? in[i] : NULL;
  for (int i = 0; i < PG_MAX_SLOT && l->def->slot[i].name; i++) all[n++] = l->slot[i];
  *out = NULL;
  return run(l, l->op, n, all, out);
}

pg_status pg_layer_forward(pg_layer *l, int nin, pg_tensor *const *in, pg_tensor **out) {
  pg_ctx *ctx = l->ctx;
  const pg_layer_def *def = l->def;
  int least = def->nin_least ? def->nin_least : def->nin;
  for (int j = 0; j < def->nout; j++) out[j] = NULL;
  if (nin < least || nin > def->nin)
    return pg_fail(ctx, PG_EARG, "%s: argument 'input': expected %d tensor%s, got %d", def->name,
                   nin < least ? least : def->nin, (nin < least ? least : def->nin) == 1 ? "" : "s",
                   nin);
  const char *where = ctx->where;
  if (!where) ctx->where = def->name;
  pg_status s = def->forward ? def->forward(l, nin, in, out) : run_op(l, nin, in, out);
  ctx->where = where;
  return s;
}

const pg_op *pg_layer_follows(const pg_layer *l) {
  const pg_layer_def *def = l->def;
  const bool bare = l->op && !def->forward && def->nin == 1 && !def->slot[0].name;
  return bare && pg_can_follow(l->op) ? l->op : NULL;
}

pg_status pg_layer_forward_join(pg_layer *l, const pg_op *then, int nin, pg_tensor *const *in,
                                pg_tensor **out, bool *joined) {
  l->then = then;
  pg_status s = pg_layer_forward(l, nin, in, out);
  *joined = then && !l->then;
  l->then = NULL;
  return s;
}
