/* Running an op: infer, casts, outputs, forward, recording. Relies on op.h, node.h, registry.
 * Spec: spec/autograd/apply_spec.lua. */
#include <string.h>

#include "autograd/profile.h"
#include "autograd/registry.h"

static int tensor_params(const pg_op *op) {
  int n = 0;
  for (const pg_param *p = op->param; p->kind != PG_END; p++)
    n += p->kind == PG_TENSOR || p->kind == PG_TENSORS;
  return n;
}

void pg_call_init(pg_call *c, pg_ctx *ctx, const pg_op *op) {
  memset(c, 0, offsetof(pg_call, os)); /* os and ints are written before they are read */
  memset(c->cast, 0, sizeof c->cast);
  memset(c->in_room, 0, sizeof c->in_room);
  c->nints = 0;
  c->ctx = ctx;
  c->op = op;
  c->in = c->in_room;
  c->nin = tensor_params(op);
  c->nout = op->nout;
  int k = 0;
  for (const pg_param *p = op->param; p->kind != PG_END; p++) {
    if (p->kind == PG_TENSOR || p->kind == PG_TENSORS) continue;
    pg_arg *a = &c->arg[k++];
    *a = (pg_arg){0};
    if (!(p->flags & PG_DEFAULT)) continue;
    a->set = true;
    if (p->kind == PG_FLOAT) {
      a->f = p->def;
      a->is_int = p->def == (double)(int64_t)p->def;
    } else if (p->kind == PG_INTS || p->kind == PG_SHAPE) {
      c->ints[c->nints] = (int64_t)p->def;
      a->v = &c->ints[c->nints++];
      a->n = 1;
    } else {
      a->i = (int64_t)p->def;
    }
  }
}

/* in[i] as the caller gave it. */
static pg_tensor *given(const pg_call *c, int i) {
  return c->given && i < PG_MAX_IN ? c->given[i] : c->in[i];
}

static bool grads_flow(const pg_call *c) {
  if (!c->ctx->grad_mode || (c->op->flags & PG_NODIFF) || !c->op->backward) return false;
  bool list = c->op->param[0].kind == PG_TENSORS;
  int i = 0;
  for (const pg_param *p = c->op->param; p->kind != PG_END; p++) {
    if (p->kind == PG_TENSORS) {
      for (int k = 0; k < c->nin; k++)
        if (c->in[k]->requires_grad) return true;
      return false;
    }
    if (p->kind != PG_TENSOR) continue;
    const pg_tensor *t = given(c, i);
    if (!list && t && t->requires_grad && !(p->flags & PG_NOGRAD)) return true;
    i++;
  }
  return false;
}

/* The flags of tensor parameter i. */
static unsigned in_flags(const pg_op *op, int i) {
  for (const pg_param *p = op->param; p->kind != PG_END; p++) {
    if (p->kind == PG_TENSORS) return p->flags;
    if (p->kind == PG_TENSOR && i-- == 0) return p->flags;
  }
  return 0;
}

static pg_status apply(pg_call *c);

/* *out = a new tensor with t's values in another dtype, and its memory order; no graph. */
static pg_status cast_copy(pg_ctx *ctx, const pg_tensor *t, pg_dtype dtype, pg_tensor **out) {
  PG_TRY(pg_tensor_new_like(ctx, t, dtype, out));
  if (t->storage->device == PG_META) return PG_OK;
  pg_status s = pg_tensor_copy(*out, t);
  if (s == PG_OK) return PG_OK;
  pg_tensor_unref(*out);
  *out = NULL;
  return s;
}

/* *out = t, a leaf, in bfloat16: made once for each version of t, and kept with it. */
static pg_status cast_kept(pg_ctx *ctx, pg_tensor *t, pg_tensor **out) {
  if (!t->low || t->low_version != t->storage->version) {
    pg_tensor_unref(t->low);
    t->low = NULL;
    PG_TRY(cast_copy(ctx, t, PG_BF16, &t->low));
    t->low_version = t->storage->version;
  }
  return pg_tensor_detach(ctx, t->low, out);
}

/* in[i] = the given tensor in this dtype. The copy stays outside the graph, which sees the given
 * one; only what a composed op is made of has to find the cast there. */
static pg_status convert(pg_call *c, int i, pg_dtype to, pg_tensor **owned) {
  pg_ctx *ctx = c->ctx;
  pg_tensor *t = given(c, i), *made = NULL;
  if (t->is_number && t->refs == 1 && t->storage->refs == 1) { /* our own scalar: change it */
    double v = pg_item_f64(t);
    t->dtype = (unsigned char)to;
    pg_put_f64(t, 0, v);
    return PG_OK;
  }
  const char *doing = ctx->doing;
  const bool flow = t->requires_grad && ctx->grad_mode;
  if (flow && (c->op->flags & PG_COMPOSED)) PG_TRY(pg_do(ctx, &made, "to", "ti", t, (int64_t)to));
  else if (to == PG_BF16 && t->requires_grad && !t->node) PG_TRY(cast_kept(ctx, t, &made));
  else PG_TRY(cast_copy(ctx, t, to, &made));
  ctx->doing = doing;
  made->requires_grad = t->requires_grad;
  pg_tensor_unref(owned[i]);
  c->in[i] = owned[i] = made;
  return PG_OK;
}

static pg_status convert_inputs(pg_call *c, pg_tensor **owned) {
  static const unsigned char none[PG_MAX_IN];
  if (memcmp(c->cast, none, sizeof none) == 0) return PG_OK;
  for (int i = 0; i < c->nin && i < PG_MAX_IN; i++)
    if (c->cast[i]) PG_TRY(convert(c, i, (pg_dtype)(c->cast[i] - 1), owned));
  return PG_OK;
}

/* Converts all inputs of one dtype to another. */
static pg_status convert_all(pg_call *c, pg_dtype from, pg_dtype to, pg_tensor **owned) {
  for (int i = 0; i < c->nin && i < PG_MAX_IN; i++) {
    const pg_tensor *t = c->in[i];
    if (t && t->dtype == from && !t->is_number) PG_TRY(convert(c, i, to, owned));
  }
  return PG_OK;
}

/* Are the results of an op that works in float32 to be rounded to bfloat16? As the first floating
 * tensor is; where all take part alike, only if all are. */
static bool rounds(const pg_call *c) {
  bool every = c->op->flags & PG_FULL, first = true;
  for (int i = 0; i < c->nin && i < PG_MAX_IN; i++) {
    const pg_tensor *t = c->in[i];
    if (!t || t->is_number || !pg_is_float((pg_dtype)t->dtype)) continue;
    if (t->dtype != PG_BF16 && (every || first)) return false;
    first = false;
  }
  return true;
}

/* infer; where the op has no bfloat16 kernels, once more on float32 copies. */
static pg_status infer(pg_call *c, pg_tensor **owned) {
  const pg_op *op = c->op;
  const bool list = op->param[0].kind == PG_TENSORS;
  c->widen = c->given && !list ? PG_WIDEN_MAY : PG_WIDEN_NO;
  pg_status s = op->infer(c);
  if (s == PG_OK || c->widen != PG_WIDEN_ASKED) return s;
  const bool round = rounds(c);
  memset(c->cast, 0, sizeof c->cast);
  c->widen = PG_WIDEN_NO;
  PG_TRY(convert_all(c, PG_BF16, PG_F32, owned));
  PG_TRY(op->infer(c));
  if (round) c->widen = PG_WIDEN_DONE;
  return PG_OK;
}

/* *t, owned, becomes bfloat16. */
static pg_status round_one(pg_ctx *ctx, pg_tensor **t) {
  pg_tensor *wide = *t, *narrow;
  if (!wide || wide->dtype != PG_F32) return PG_OK;
  PG_TRY(cast_copy(ctx, wide, PG_BF16, &narrow));
  pg_tensor_unref(wide);
  *t = narrow;
  return PG_OK;
}

/* May t, the caller's in[0], be overwritten? Inputs that overlap it in another way are copied
 * first. */
static pg_status check_inplace(pg_call *c, pg_tensor *t, bool flow, pg_tensor **owned) {
  const pg_out *o = &c->os[0];
  if (o->nd != t->nd || memcmp(o->shape, t->shape, sizeof *o->shape * o->nd) != 0)
    return pg_bad_in(c, PG_ESHAPE, 0, "%s to hold the result in place",
                     pg_shape_str_of(o->nd, o->shape).s);
  if (o->dtype != t->dtype && c->widen != PG_WIDEN_DONE &&
      (pg_is_float((pg_dtype)o->dtype) > pg_is_float((pg_dtype)t->dtype) || t->dtype == PG_BOOL ||
       flow))
    return pg_fail(
        c->ctx, PG_EDTYPE, "argument '%s': expected %s to hold the result in place, got %s",
        pg_in_name(c, 0), pg_dtype_name((pg_dtype)o->dtype), pg_dtype_name((pg_dtype)t->dtype));
  for (int i = 0; i < t->nd; i++)
    if (t->stride[i] == 0 && t->shape[i] > 1)
      return pg_fail(c->ctx, PG_ESTATE,
                     "argument '%s': expected a tensor that may change in place, got an expanded "
                     "one; clone() it",
                     pg_in_name(c, 0));
  if (c->ctx->grad_mode && t->requires_grad && !t->node && !(c->op->flags & PG_INIT))
    return pg_fail(c->ctx, PG_ESTATE,
                   "argument '%s': expected a tensor that may change in place, got a leaf that "
                   "requires grad; use pg.no_grad()",
                   pg_in_name(c, 0));
  if (flow && t->is_view)
    return pg_fail(c->ctx, PG_ESTATE,
                   "argument '%s': expected a tensor that may change in place, got a view where "
                   "gradients flow; assign to an index of the whole tensor, or clone() first",
                   pg_in_name(c, 0));
  for (int i = 1; i < c->nin; i++) {
    pg_tensor *u = c->in[i];
    if (!u || u->storage != t->storage) continue;
    if (pg_same_shape(t, u) && t->offset == u->offset &&
        memcmp(t->stride, u->stride, sizeof *t->stride * t->nd) == 0)
      continue;
    pg_tensor *copy;
    PG_TRY(pg_tensor_clone(c->ctx, u, &copy));
    pg_tensor_unref(owned[i]);
    c->in[i] = owned[i] = copy;
  }
  return PG_OK;
}

static pg_status make_outputs(pg_call *c, int device) {
  for (int j = 0; j < c->nout; j++) {
    const pg_out *o = &c->os[j];
    const bool round = device == PG_META && c->widen == PG_WIDEN_DONE && o->dtype == PG_F32;
    if (o->view) {
      PG_TRY(pg_tensor_alias(c->ctx, c->in[0], o->nd, o->shape, o->stride, o->offset, &c->out[j]));
      c->out[j]->is_view = true;
    } else {
      PG_TRY(pg__tensor_new_checked(c->ctx, round ? PG_BF16 : (pg_dtype)o->dtype, o->nd, o->shape,
                                    o->strided ? o->stride : NULL, o->numel, device, &c->out[j]));
    }
  }
  return PG_OK;
}

static void meta_of(pg_meta *m, const pg_tensor *t) {
  m->dtype = t->dtype;
  m->nd = t->nd;
  memcpy(m->shape, t->shape, sizeof *m->shape * t->nd);
}

static size_t align8(size_t n) { return (n + 7) & ~(size_t)7; }

/* Does backward want an input that this in-place call is about to overwrite? */
static bool overwrites_saved(const pg_call *c) {
  for (int i = 0; i < c->nin; i++)
    if (c->in[i] && c->in[i]->storage == c->in[0]->storage && (c->op->saves & PG_SAVE_IN(i)))
      return true;
  return false;
}

/* *out = a copy of in[0] with its place in the graph. */
static pg_status copy_before(pg_call *c, pg_tensor **out) {
  const pg_tensor *t = given(c, 0);
  PG_TRY(pg_tensor_clone(c->ctx, c->in[0], out));
  (*out)->requires_grad = t->requires_grad;
  (*out)->node = t->node;
  (*out)->node_out = t->node_out;
  if (t->node) t->node->refs++;
  return PG_OK;
}

/* What a node keeps of input i: in float32 for an op that works in float32 the bfloat16 tensor that
 * was given is kept, which is half as large, and widened again for backward. */
static pg_tensor *kept_input(const pg_call *c, int i, pg_tensor *before) {
  pg_tensor *t = c->in[i], *g = given(c, i);
  if (before && t->storage == c->in[0]->storage) return before;
  const bool overwritten = c->inplace && g->storage == c->out[0]->storage;
  return g->dtype == PG_BF16 && t->dtype == PG_F32 && !overwritten ? g : t;
}

/* Makes the node of a finished call and hangs the outputs on it. before: in[0] as it was, where the
 * call overwrote what backward needs; else NULL. */
pg_status pg__record(pg_call *c, pg_tensor *before) {
  pg_ctx *ctx = c->ctx;
  const pg_op *op = c->op;
  int narg = 0;
  size_t text = 0;
  for (const pg_param *p = op->param; p->kind != PG_END; p++) {
    if (p->kind == PG_TENSOR || p->kind == PG_TENSORS) continue;
    if (c->arg[narg].s) text += strlen(c->arg[narg].s) + 1;
    narg++;
  }
  size_t nin = (size_t)c->nin, nout = (size_t)c->nout;
  size_t at_edge = align8(sizeof(pg_node)), at_meta = at_edge + nin * sizeof(pg_edge);
  size_t at_in = at_meta + align8(nin * sizeof(pg_meta)), at_arg = at_in + nin * sizeof(void *);
  size_t at_ints = at_arg + align8((size_t)narg * sizeof(pg_arg));
  size_t at_version = at_ints + (size_t)c->nints * sizeof(int64_t);
  size_t at_text = at_version + align8((nin + nout) * sizeof(uint32_t));
  size_t bytes = at_text + text;
  char *block;
  PG_TRY(pg_alloc(ctx, bytes, (void **)&block));
  pg_node *n = (pg_node *)block;
  memset(block, 0, at_arg);
  n->refs = 1;
  n->ctx = ctx;
  n->op = op;
  n->then = c->then;
  n->nin = c->nin;
  n->nout = c->nout;
  n->narg = narg;
  n->widened = c->widen == PG_WIDEN_DONE;
  n->nints = c->nints;
  n->bytes = bytes;
  n->edge = (pg_edge *)(block + at_edge);
  n->meta = (pg_meta *)(block + at_meta);
  n->in = (pg_tensor **)(block + at_in);
  n->arg = (pg_arg *)(block + at_arg);
  n->ints = (int64_t *)(block + at_ints);
  n->version = (uint32_t *)(block + at_version);
  n->where = ctx->where;
  for (int j = 0; j < c->nout; j++) { /* the only thing that can fail comes first */
    meta_of(&n->out_meta[j], c->out[j]);
    if (!(op->saves & PG_SAVE_OUT(j)) && !c->then) continue;
    pg_status s = pg_tensor_detach(ctx, c->out[j], &n->out[j]);
    if (s != PG_OK) {
      for (int k = 0; k < j; k++) pg_tensor_unref(n->out[k]);
      pg_free(ctx, block, bytes);
      return s;
    }
    n->version[nin + (size_t)j] = c->out[j]->storage->version;
  }
  memcpy(n->arg, c->arg, (size_t)narg * sizeof(pg_arg));
  memcpy(n->ints, c->ints, (size_t)c->nints * sizeof(int64_t));
  char *strings = block + at_text;
  int k = 0;
  for (const pg_param *p = op->param; p->kind != PG_END; p++) {
    if (p->kind == PG_TENSOR || p->kind == PG_TENSORS) continue;
    pg_arg *a = &n->arg[k++];
    if ((p->kind == PG_INTS || p->kind == PG_SHAPE) && a->v) a->v = n->ints + (a->v - c->ints);
    if (a->s) {
      size_t len = strlen(a->s) + 1;
      memcpy(strings, a->s, len);
      a->s = strings;
      strings += len;
    }
  }
  for (int i = 0; i < c->nin; i++) {
    pg_tensor *t = c->in[i];
    if (!t) continue;
    pg_tensor *g = given(c, i);
    meta_of(&n->meta[i], t);
    n->edge[i].dtype = g->dtype;
    n->widened = n->widened || (g->dtype == PG_BF16 && t->dtype == PG_F32);
    unsigned bit = op->param[0].kind == PG_TENSORS ? PG_SAVE_IN(0) : i < 16 ? PG_SAVE_IN(i) : 0;
    if (op->saves & bit) {
      n->in[i] = pg_tensor_ref(kept_input(c, i, before));
      n->version[i] = n->in[i]->storage->version;
    }
    if (!g->requires_grad || (in_flags(op, i) & PG_NOGRAD)) continue;
    if (g->node) {
      n->edge[i].node = g->node;
      n->edge[i].out = g->node_out;
      g->node->refs++;
    } else {
      n->edge[i].leaf = pg_tensor_ref(g);
    }
  }
  memcpy(n->keep, c->keep, sizeof n->keep);
  memset(c->keep, 0, sizeof c->keep);
  n->sequence = ++ctx->sequence;
  if (ctx->profile) pg__profile_made(ctx->profile, n);
  ctx->node_unref = pg_node_unref;
  for (int j = 0; j < c->nout; j++) {
    pg_tensor *t = c->out[j];
    if (!pg_is_float((pg_dtype)t->dtype)) continue;
    if (t->node) pg_node_unref(t->node); /* in place: the old node lives on in our edge */
    t->node = n;
    t->node_out = (short)j;
    t->requires_grad = true;
    n->refs++;
  }
  pg_node_unref(n);
  return PG_OK;
}

/* Runs forward into a fresh tensor of the op's own dtype and copies that into in[0]. */
static pg_status forward_and_copy(pg_call *c) {
  pg_tensor *into = c->out[0];
  const pg_out *o = &c->os[0];
  c->out[0] = NULL;
  bool inplace = c->inplace;
  c->inplace = false;
  pg_status s =
      pg_tensor_new_strided(c->ctx, (pg_dtype)o->dtype, o->nd, o->shape, NULL, PG_HOST, &c->out[0]);
  if (s == PG_OK) s = c->op->forward[PG_HOST](c);
  if (s == PG_OK) s = pg_tensor_copy(into, c->out[0]);
  pg_tensor_unref(c->out[0]);
  c->out[0] = into;
  c->inplace = inplace;
  return s;
}

/* Runs an in-place forward on the float32 copy in in[0] and rounds that into the tensor itself. */
static pg_status forward_widened(pg_call *c) {
  pg_tensor *into = c->out[0];
  c->out[0] = c->in[0];
  pg_status s = c->op->forward[PG_HOST](c);
  c->out[0] = into;
  return s == PG_OK ? pg_tensor_copy(into, c->in[0]) : s;
}

static pg_status forward_in_place(pg_call *c) {
  if (c->widen == PG_WIDEN_DONE && c->in[0] != c->out[0]) return forward_widened(c);
  if (c->os[0].dtype != c->out[0]->dtype) return forward_and_copy(c);
  return c->op->forward[PG_HOST](c);
}

/* Does out[0] get memory of its own, with numbers that `then` can be asked of? */
static bool joinable(const pg_call *c) {
  return !c->os[0].view && pg_is_float((pg_dtype)c->os[0].dtype) && c->op->forward[PG_HOST];
}

/* Runs c->then on out[0], outside the graph. */
static pg_status run_then(pg_call *c) {
  pg_ctx *ctx = c->ctx;
  const bool mode = ctx->grad_mode;
  pg_call then;
  pg_call_init(&then, ctx, c->then);
  then.in[0] = c->out[0];
  then.inplace = true;
  ctx->grad_mode = false;
  pg_status s = apply(&then);
  ctx->grad_mode = mode;
  if (s == PG_OK) pg_tensor_unref(then.out[0]);
  return s;
}

/* In anomaly mode: PG_EVALUE where the op made a NaN from inputs without any. */
static pg_status check_anomaly(pg_call *c) {
  bool made = false;
  for (int j = 0; j < c->nout && !made; j++) made = pg__has_nan(c->out[j]);
  for (int i = 0; i < c->nin && made; i++) made = !pg__has_nan(c->in[i]);
  return made ? pg_fail(c->ctx, PG_EVALUE, "made a NaN from inputs without any") : PG_OK;
}

/* The results of a composed op, rounded in the graph. */
static pg_status round_recorded(pg_call *c) {
  for (int j = 0; j < c->nout; j++) {
    pg_tensor *wide = c->out[j], *narrow;
    if (!wide || wide->dtype != PG_F32) continue;
    PG_TRY(pg_do(c->ctx, &narrow, "to", "ti", wide, (int64_t)PG_BF16));
    pg_tensor_unref(wide);
    c->out[j] = narrow;
  }
  return PG_OK;
}

static pg_status run(pg_call *c, pg_tensor **owned) {
  const pg_op *op = c->op;
  const bool autocast = c->ctx->autocast;
  int device = PG_HOST;
  for (int i = 0; i < c->nin; i++)
    if (c->in[i] && c->in[i]->storage->device == PG_META) device = PG_META;
  if (autocast && !c->inplace && (op->flags & PG_LOWER))
    PG_TRY(convert_all(c, PG_F32, PG_BF16, owned));
  if (autocast && !c->inplace && (op->flags & PG_FULL))
    PG_TRY(convert_all(c, PG_BF16, PG_F32, owned));
  PG_TRY(infer(c, owned));
  if (c->then && !joinable(c)) c->then = NULL;
  pg_tensor *self = c->nin ? given(c, 0) : NULL;
  PG_TRY(convert_inputs(c, owned));
  c->ctx->autocast = autocast && (op->flags & PG_COMPOSED) && !(op->flags & PG_FULL);
  if (op->flags & PG_COMPOSED) {
    PG_TRY(op->forward[PG_HOST](c));
    return c->widen == PG_WIDEN_DONE ? round_recorded(c) : PG_OK;
  }
  bool flow = grads_flow(c);
  c->recording = flow;
  if (c->inplace) {
    PG_TRY(check_inplace(c, self, flow, owned));
    c->out[0] = pg_tensor_ref(self);
    if (device == PG_META) return PG_OK;
    pg_tensor *before = NULL;
    if (flow && overwrites_saved(c)) PG_TRY(copy_before(c, &before));
    pg_status s = forward_in_place(c);
    c->out[0]->storage->version++;
    if (s == PG_OK && flow) s = pg__record(c, before);
    pg_tensor_unref(before);
    return s;
  } else {
    PG_TRY(make_outputs(c, device));
    if (device == PG_META) {
      for (int j = 0; j < c->nout; j++) c->out[j]->requires_grad = false;
      return PG_OK;
    }
    if (op->forward[PG_HOST]) PG_TRY(op->forward[PG_HOST](c));
    for (int j = 0; j < c->nout && c->widen == PG_WIDEN_DONE; j++)
      PG_TRY(round_one(c->ctx, &c->out[j]));
    if (c->then && !c->joined) PG_TRY(run_then(c));
    if (c->ctx->anomaly) PG_TRY(check_anomaly(c));
  }
  return flow ? pg__record(c, NULL) : PG_OK;
}

static pg_status apply(pg_call *c) {
  pg_ctx *ctx = c->ctx;
  const char *doing = ctx->doing;
  ctx->doing = c->name ? c->name : c->op->name;
  pg_tensor *owned[PG_MAX_IN] = {0}, *given[PG_MAX_IN];
  int n = c->nin < PG_MAX_IN ? c->nin : PG_MAX_IN;
  const bool autocast = ctx->autocast, held = ctx->holds_data;
  for (int i = 0; i < n; i++) given[i] = c->in[i];
  c->given = given;
  pg_status s = run(c, owned);
  ctx->autocast = autocast;
  ctx->holds_data = held;
  c->given = NULL;
  for (int i = 0; i < n; i++) {
    c->in[i] = given[i];
    pg_tensor_unref(owned[i]);
  }
  for (int k = 0; k < PG_MAX_KEEP; k++)
    if (c->keep[k]) {
      pg_tensor_unref(c->keep[k]);
      c->keep[k] = NULL;
    }
  if (s != PG_OK)
    for (int j = 0; j < PG_MAX_OUT; j++) {
      pg_tensor_unref(c->out[j]);
      c->out[j] = NULL;
    }
  ctx->doing = doing;
  return s;
}

static pg_status apply_profiled(pg_call *c) {
  pg_profile *p = c->ctx->profile;
  for (int i = 0; i < c->nin; i++) {
    if (!c->in[i] || c->in[i]->storage->device != PG_META) continue;
    int64_t before = c->ctx->macs;
    pg_status s = apply(c);
    pg__profile_shapes_only(p, c->ctx->macs - before);
    return s;
  }
  int event = pg_profile_enter(p, PG_EVENT_OP, c->op->name, NULL);
  pg_status s = apply(c);
  pg__profile_call(p, event, c);
  pg_profile_leave(p, event);
  return s;
}

pg_status pg_apply(pg_call *c) {
  return __builtin_expect(c->ctx->profile != NULL, 0) ? apply_profiled(c) : apply(c);
}

bool pg_can_follow(const pg_op *then) {
  return then->saves == PG_SAVE_OUT(0) && then->flags & PG_INPLACE &&
         !(then->flags & (PG_LOWER | PG_FULL)) && then->param[0].kind == PG_TENSOR &&
         then->param[1].kind == PG_END;
}

void pg_call_join(pg_call *c, const pg_op *then) {
  const pg_op *op = c->op;
  if (op->nout == 1 && op->backward && !(op->flags & PG_COMPOSED) && !c->inplace &&
      !(op->saves & PG_SAVE_OUT(0)) && !c->ctx->anomaly)
    c->then = then;
}

/* Number of `word` among choices "a|b|c", or -1. */
static int64_t word_number(const char *choices, const char *word) {
  size_t n = strlen(word);
  for (int64_t k = 0; choices; k++) {
    size_t len = strcspn(choices, "|");
    if (len == n && memcmp(choices, word, n) == 0) return k;
    choices = choices[len] ? choices + len + 1 : NULL;
  }
  return -1;
}

pg_status pg_do(pg_ctx *ctx, pg_tensor **out, const char *name, const char *fmt, ...) {
  if (out) *out = NULL;
  bool inplace;
  const pg_op *op = pg_op_find_inplace(ctx, name, &inplace);
  if (!op) return pg_fail(ctx, PG_EARG, "there is no op '%s'", name);
  pg_call c;
  pg_call_init(&c, ctx, op);
  c.inplace = inplace;
  va_list ap;
  va_start(ap, fmt);
  bool failed = false;
  int i = 0, k = 0;
  for (const pg_param *p = op->param; *fmt && p->kind != PG_END; fmt++, p++) {
    if (p->kind == PG_TENSOR) {
      if (*fmt == 't') c.in[i] = va_arg(ap, pg_tensor *);
      if (!c.in[i] && !(p->flags & PG_OPTIONAL)) failed = true;
      i++;
      continue;
    }
    pg_arg *a = &c.arg[k++];
    if (*fmt == '-') continue;
    a->set = true;
    switch (*fmt) {
    case 'f':
      a->f = va_arg(ap, double);
      break;
    case 'i':
      a->i = va_arg(ap, int64_t);
      break;
    case 'b':
      a->i = va_arg(ap, int) != 0;
      break;
    case 's':
      a->s = va_arg(ap, const char *);
      if (p->kind == PG_ENUM) {
        a->i = word_number(p->choices, a->s);
        PG_ASSERT(a->i >= 0);
      }
      break;
    case 'l': {
      a->n = (short)va_arg(ap, int);
      const int64_t *v = va_arg(ap, const int64_t *);
      a->v = c.ints + c.nints;
      for (int j = 0; j < a->n && c.nints < PG_MAX_INTS; j++) c.ints[c.nints++] = v[j];
      break;
    }
    default:
      PG_ASSERT(!"format letter");
    }
  }
  va_end(ap);
  if (failed) return PG_ESTATE;
  PG_TRY(pg_apply(&c));
  for (int j = out ? 1 : 0; j < c.nout; j++) pg_tensor_unref(c.out[j]);
  if (out) *out = c.out[0];
  return PG_OK;
}
