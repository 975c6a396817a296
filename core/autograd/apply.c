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
    if (!list && c->in[i] && c->in[i]->requires_grad && !(p->flags & PG_NOGRAD)) return true;
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

static pg_status convert_inputs(pg_call *c, pg_tensor **owned) {
  static const unsigned char none[PG_MAX_IN];
  if (memcmp(c->cast, none, sizeof none) == 0) return PG_OK;
  for (int i = 0; i < c->nin && i < PG_MAX_IN; i++) {
    if (!c->cast[i]) continue;
    pg_dtype to = (pg_dtype)(c->cast[i] - 1);
    pg_tensor *t = c->in[i];
    if (t->is_number && t->refs == 1 && t->storage->refs == 1) { /* our own scalar: change it */
      double v = pg_item_f64(t);
      t->dtype = (unsigned char)to;
      pg_put_f64(t, 0, v);
      continue;
    }
    const char *doing = c->ctx->doing;
    if (t->requires_grad && c->ctx->grad_mode)
      PG_TRY(pg_do(c->ctx, &owned[i], "to", "ti", t, (int64_t)to));
    else PG_TRY(pg__as(c->ctx, t, to, &owned[i]));
    c->ctx->doing = doing;
    c->in[i] = owned[i];
  }
  return PG_OK;
}

/* May t, the caller's in[0], be overwritten? Inputs that overlap it in another way are copied
 * first. */
static pg_status check_inplace(pg_call *c, pg_tensor *t, bool flow, pg_tensor **owned) {
  const pg_out *o = &c->os[0];
  if (o->nd != t->nd || memcmp(o->shape, t->shape, sizeof *o->shape * o->nd) != 0)
    return pg_bad_in(c, PG_ESHAPE, 0, "%s to hold the result in place",
                     pg_shape_str_of(o->nd, o->shape).s);
  if (o->dtype != t->dtype && (pg_is_float((pg_dtype)o->dtype) > pg_is_float((pg_dtype)t->dtype) ||
                               t->dtype == PG_BOOL || flow))
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
    if (o->view) {
      PG_TRY(pg_tensor_alias(c->ctx, c->in[0], o->nd, o->shape, o->stride, o->offset, &c->out[j]));
      c->out[j]->is_view = true;
    } else {
      PG_TRY(pg__tensor_new_checked(c->ctx, (pg_dtype)o->dtype, o->nd, o->shape,
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
  pg_tensor *t = c->in[0];
  PG_TRY(pg_tensor_clone(c->ctx, t, out));
  (*out)->requires_grad = t->requires_grad;
  (*out)->node = t->node;
  (*out)->node_out = t->node_out;
  if (t->node) t->node->refs++;
  return PG_OK;
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
  n->nin = c->nin;
  n->nout = c->nout;
  n->narg = narg;
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
    if (!(op->saves & PG_SAVE_OUT(j))) continue;
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
    meta_of(&n->meta[i], t);
    unsigned bit = op->param[0].kind == PG_TENSORS ? PG_SAVE_IN(0) : i < 16 ? PG_SAVE_IN(i) : 0;
    if (op->saves & bit) {
      n->in[i] = pg_tensor_ref(before && t->storage == c->in[0]->storage ? before : t);
      n->version[i] = n->in[i]->storage->version;
    }
    if (!t->requires_grad || (in_flags(op, i) & PG_NOGRAD)) continue;
    if (t->node) {
      n->edge[i].node = t->node;
      n->edge[i].out = t->node_out;
      t->node->refs++;
    } else {
      n->edge[i].leaf = pg_tensor_ref(t);
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

/* In anomaly mode: PG_EVALUE where the op made a NaN from inputs without any. */
static pg_status check_anomaly(pg_call *c) {
  bool made = false;
  for (int j = 0; j < c->nout && !made; j++) made = pg__has_nan(c->out[j]);
  for (int i = 0; i < c->nin && made; i++) made = !pg__has_nan(c->in[i]);
  return made ? pg_fail(c->ctx, PG_EVALUE, "made a NaN from inputs without any") : PG_OK;
}

static pg_status run(pg_call *c, pg_tensor **owned) {
  const pg_op *op = c->op;
  int device = PG_HOST;
  for (int i = 0; i < c->nin; i++)
    if (c->in[i] && c->in[i]->storage->device == PG_META) device = PG_META;
  PG_TRY(op->infer(c));
  pg_tensor *self = c->nin ? c->in[0] : NULL;
  PG_TRY(convert_inputs(c, owned));
  if (op->flags & PG_COMPOSED) return op->forward[PG_HOST](c);
  bool flow = grads_flow(c);
  c->recording = flow;
  if (c->inplace) {
    PG_TRY(check_inplace(c, self, flow, owned));
    c->out[0] = pg_tensor_ref(self);
    if (device == PG_META) return PG_OK;
    pg_tensor *before = NULL;
    if (flow && overwrites_saved(c)) PG_TRY(copy_before(c, &before));
    pg_status s = c->os[0].dtype != self->dtype ? forward_and_copy(c) : op->forward[PG_HOST](c);
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
  for (int i = 0; i < n; i++) given[i] = c->in[i];
  pg_status s = run(c, owned);
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
