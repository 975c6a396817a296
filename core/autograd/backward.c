/* The engine: a max-heap of nodes by sequence number, because creation order is a topological
 * order. Backward produces, the engine accumulates. No recursion. Relies on node.h, chain.h. Spec:
 * spec/autograd/backward_spec.lua. */
#include <string.h>

#include "autograd/profile.h"
#include "autograd/registry.h"
#include "tensor/chain.h"

/* --- freeing
 * ---------------------------------------------------------------------------------------------- */

static void drop_tensor(pg_tensor **t) {
  pg_tensor *old = *t;
  *t = NULL;
  pg_tensor_unref(old);
}

/* Gives up what backward needed; keeps the edges. */
static void drop_saved(pg_node *n) {
  for (int i = 0; i < n->nin; i++) drop_tensor(&n->in[i]);
  for (int j = 0; j < PG_MAX_OUT; j++) drop_tensor(&n->out[j]);
  for (int k = 0; k < PG_MAX_KEEP; k++) drop_tensor(&n->keep[k]);
}

static void drop_edges(pg_node *n) {
  for (int i = 0; i < n->nin; i++) {
    drop_tensor(&n->edge[i].leaf);
    pg_node *next = n->edge[i].node;
    n->edge[i].node = NULL;
    if (next) pg_node_unref(next);
  }
}

/* Nodes whose last ref went are queued and freed one after another, so that a chain of any length
 * is fine. */
void pg_node_unref(pg_node *n) {
  if (--n->refs) return;
  pg_ctx *ctx = n->ctx;
  n->next_dead = ctx->dead;
  ctx->dead = n;
  if (ctx->draining) return;
  ctx->draining = true;
  while (ctx->dead) {
    pg_node *dead = ctx->dead;
    ctx->dead = dead->next_dead;
    drop_saved(dead);
    drop_edges(dead);
    for (int j = 0; j < PG_MAX_OUT; j++) drop_tensor(&dead->grad[j]);
    if (dead->function) dead->function->drop(dead->function);
    pg__hooks_drop(dead->hooks);
    pg_free(ctx, dead, dead->bytes);
  }
  ctx->draining = false;
}

/* --- the heap
 * --------------------------------------------------------------------------------------------- */

/* A leaf with hooks gets its gradient at the end, when that is complete. */
typedef struct waiting {
  pg_tensor *leaf, *grad; /* leaf is kept alive by a ref */
} waiting;

typedef struct engine {
  pg_ctx *ctx;
  pg_node **heap;
  int count, room;
  bool retain, create;
  int ninput; /* pg_grad: where to deliver */
  pg_tensor *const *input;
  pg_tensor **result;
  uint64_t floor; /* pg_grad: the oldest node of an input, beyond which nothing is asked; or 0 */
  waiting *wait;
  int nwait, wait_room;
  bool chain; /* elementwise work is put off */
} engine;

static void heap_set(engine *e, int i, pg_node *n) {
  e->heap[i] = n;
  n->heap_at = i + 1;
}

static void heap_up(engine *e, int i) {
  pg_node *n = e->heap[i];
  while (i > 0 && e->heap[(i - 1) / 2]->sequence < n->sequence) {
    heap_set(e, i, e->heap[(i - 1) / 2]);
    i = (i - 1) / 2;
  }
  heap_set(e, i, n);
}

static pg_status heap_push(engine *e, pg_node *n) {
  if (n->heap_at) return PG_OK;
  if (e->count == e->room) {
    int room = e->room ? 2 * e->room : 64;
    pg_node **grown;
    PG_TRY(pg_alloc(e->ctx, sizeof *grown * (size_t)room, (void **)&grown));
    if (e->count) memcpy(grown, e->heap, sizeof *grown * (size_t)e->count);
    pg_free(e->ctx, e->heap, sizeof *grown * (size_t)e->room);
    e->heap = grown;
    e->room = room;
  }
  n->refs++;
  heap_set(e, e->count++, n);
  heap_up(e, e->count - 1);
  return PG_OK;
}

static pg_node *heap_pop(engine *e) { /* the caller owns the heap's ref */
  pg_node *top = e->heap[0];
  top->heap_at = 0;
  pg_node *n = e->heap[--e->count];
  if (!e->count) return top;
  int i = 0;
  for (;;) {
    int c = 2 * i + 1;
    if (c >= e->count) break;
    if (c + 1 < e->count && e->heap[c + 1]->sequence > e->heap[c]->sequence) c++;
    if (e->heap[c]->sequence <= n->sequence) break;
    heap_set(e, i, e->heap[c]);
    i = c;
  }
  heap_set(e, i, n);
  return top;
}

/* --- accumulation
 * ----------------------------------------------------------------------------------------- */

static bool ours_alone(const pg_tensor *g) {
  return g->refs == 1 && g->storage->refs == 1 && !g->node && pg_is_dense(g);
}

/* *slot += g; takes g. The first gradient is moved, later ones are added in place where nobody else
 * sees the buffer. */
static pg_status accumulate(engine *e, pg_tensor **slot, pg_tensor *g) {
  if (!*slot) {
    *slot = g;
    return PG_OK;
  }
  pg_status s = PG_OK;
  if (!e->create && ours_alone(*slot)) {
    pg__add_in_place(*slot, g);
    pg_tensor_unref(g);
    return PG_OK;
  }
  if (!e->create && ours_alone(g)) {
    pg__add_in_place(g, *slot);
    pg_tensor_unref(*slot);
    *slot = g;
    return PG_OK;
  }
  pg_tensor *sum;
  s = pg_do(e->ctx, &sum, "add", "tt", *slot, g);
  pg_tensor_unref(g);
  if (s != PG_OK) return s;
  pg_tensor_unref(*slot);
  *slot = sum;
  return PG_OK;
}

/* leaf.grad += g; takes g. The leaf is about to change: what autocast kept of it goes. */
static pg_status deliver_leaf(engine *e, pg_tensor *leaf, pg_tensor *g) {
  if (!e->retain && !e->input) drop_tensor(&leaf->low);
  if (e->input) {
    for (int i = 0; i < e->ninput; i++)
      if (e->input[i] == leaf) return accumulate(e, &e->result[i], g);
    pg_tensor_unref(g);
    return PG_OK;
  }
  if (!leaf->grad && !e->create && !ours_alone(g)) { /* seen elsewhere: .grad gets its own memory */
    pg_tensor *own;
    pg_status s = pg_tensor_clone(e->ctx, g, &own);
    pg_tensor_unref(g);
    PG_TRY(s);
    g = own;
  }
  if (leaf->grad && !e->create && leaf->grad->storage->refs == 1 && !leaf->grad->node) {
    pg__add_in_place(leaf->grad, g); /* .grad stays the same tensor */
    pg_tensor_unref(g);
    return PG_OK;
  }
  return accumulate(e, &leaf->grad, g);
}

/* Puts g aside until the end of the run; takes g. */
static pg_status keep_waiting(engine *e, pg_tensor *leaf, pg_tensor *g) {
  for (int i = 0; i < e->nwait; i++)
    if (e->wait[i].leaf == leaf) return accumulate(e, &e->wait[i].grad, g);
  if (e->nwait == e->wait_room) {
    int room = e->wait_room ? 2 * e->wait_room : 16;
    waiting *grown;
    pg_status s = pg_alloc(e->ctx, sizeof *grown * (size_t)room, (void **)&grown);
    if (s != PG_OK) {
      pg_tensor_unref(g);
      return s;
    }
    if (e->nwait) memcpy(grown, e->wait, sizeof *grown * (size_t)e->nwait);
    pg_free(e->ctx, e->wait, sizeof *grown * (size_t)e->wait_room);
    e->wait = grown;
    e->wait_room = room;
  }
  e->wait[e->nwait++] = (waiting){pg_tensor_ref(leaf), g};
  return PG_OK;
}

/* Runs the hooks of leaves, delivers what they give, and frees the list. */
static pg_status end_waiting(engine *e, pg_status s) {
  for (int i = 0; i < e->nwait; i++) {
    waiting *w = &e->wait[i];
    if (s == PG_OK) s = pg__hooks_run(e->ctx, w->leaf->hooks, 0, &w->grad);
    if (s == PG_OK) s = deliver_leaf(e, w->leaf, w->grad);
    else pg_tensor_unref(w->grad);
    pg_tensor_unref(w->leaf);
  }
  pg_free(e->ctx, e->wait, sizeof *e->wait * (size_t)e->wait_room);
  return s;
}

/* g in m's shape and this dtype; takes g. */
static pg_status fit(engine *e, pg_tensor *g, const pg_meta *m, int dtype, pg_tensor **out) {
  *out = g;
  if (g->nd != m->nd || memcmp(g->shape, m->shape, sizeof *m->shape * m->nd) != 0) {
    pg_status s = pg_sum_to(e->ctx, g, m, out);
    pg_tensor_unref(g);
    PG_TRY(s);
    g = *out;
  }
  if (g->dtype == dtype) return PG_OK;
  pg_status s = pg_do(e->ctx, out, "to", "ti", g, (int64_t)dtype);
  pg_tensor_unref(g);
  return s;
}

/* The gradient that is where edge i of n leads, if an op may add to it; else NULL. */
static pg_tensor *target(const engine *e, const pg_node *n, int i) {
  const pg_edge *edge = &n->edge[i];
  const pg_meta *m = &n->meta[i];
  pg_tensor *t = NULL;
  if (edge->node) t = edge->node->grad[edge->out];
  else if (edge->leaf && !edge->leaf->hooks && !e->input) t = edge->leaf->grad;
  if (!t || !ours_alone(t) || t->dtype != edge->dtype || t->nd != m->nd) return NULL;
  return memcmp(t->shape, m->shape, sizeof *m->shape * m->nd) == 0 ? t : NULL;
}

/* Takes g to where edge i of n leads. */
static pg_status deliver(engine *e, pg_node *n, int i, pg_tensor *g) {
  pg_edge *edge = &n->edge[i];
  PG_TRY(fit(e, g, &n->meta[i], edge->dtype, &g));
  if (edge->leaf && edge->leaf->hooks) return keep_waiting(e, edge->leaf, g);
  if (edge->leaf) return deliver_leaf(e, edge->leaf, g);
  pg_status s = accumulate(e, &edge->node->grad[edge->out], g);
  return s == PG_OK ? heap_push(e, edge->node) : s;
}

/* --- running
 * ---------------------------------------------------------------------------------------------- */

static pg_status check_node(engine *e, const pg_node *n) {
  e->ctx->doing = n->op->name;
  if (n->used)
    return pg_fail(e->ctx, PG_ESTATE,
                   "argument 'retain_graph' of backward: expected true the first time, got false: "
                   "backward ran through this graph before and freed it");
  for (int i = 0; i < n->nin; i++)
    if (n->in[i] && n->version[i] != n->in[i]->storage->version)
      return pg_fail(e->ctx, PG_ESTATE,
                     "input %d %s was changed in place after the op used it, so its gradient "
                     "cannot be computed",
                     i + 1, pg_shape_str(n->in[i]).s);
  for (int j = 0; j < n->nout; j++)
    if (n->out[j] && n->version[n->nin + j] != n->out[j]->storage->version)
      return pg_fail(e->ctx, PG_ESTATE,
                     "the result %s was changed in place, but its gradient needs the old value",
                     pg_shape_str(n->out[j]).s);
  return PG_OK;
}

/* *out = an owned view of saved result j that is part of the graph again, for a backward that is
 * recorded; it stays part of it for as long as what was recorded lives. */
static pg_status rejoin(pg_node *n, int j, pg_tensor **out) {
  if (!n->out[j]) return PG_OK;
  PG_TRY(pg_tensor_detach(n->ctx, n->out[j], out));
  (*out)->node = n;
  (*out)->node_out = (short)j;
  (*out)->requires_grad = true;
  n->refs++;
  return PG_OK;
}

/* *out = an owned ref of saved input i; where the op cast what it was given, part of the graph
 * again as that cast, for a backward that is recorded. */
static pg_status rejoin_cast(pg_node *n, int i, pg_tensor **out) {
  const pg_edge *edge = &n->edge[i];
  pg_tensor *saved = n->in[i];
  if (saved->dtype == edge->dtype || (!edge->node && !edge->leaf)) {
    *out = pg_tensor_ref(saved);
    return PG_OK;
  }
  pg_tensor *source; /* only its place in the graph and its dtype count */
  PG_TRY(pg_tensor_detach(n->ctx, saved, &source));
  source->dtype = edge->dtype;
  source->requires_grad = true;
  if (edge->node) {
    source->node = edge->node;
    source->node_out = (short)edge->out;
    edge->node->refs++;
  }
  pg_call c;
  pg_call_init(&c, n->ctx, pg_op_find(n->ctx, "to"));
  c.in[0] = edge->leaf ? edge->leaf : source;
  c.arg[0].set = true;
  c.arg[0].i = saved->dtype;
  pg_status s = pg_tensor_detach(n->ctx, saved, &c.out[0]);
  if (s == PG_OK) s = pg__record(&c, NULL);
  pg_tensor_unref(source);
  *out = c.out[0];
  return s;
}

/* *out = t, owned; float32 where it is bfloat16. */
static pg_status widened(engine *e, pg_tensor *t, pg_tensor **out) {
  *out = NULL;
  if (!t || t->dtype != PG_BF16) {
    *out = pg_tensor_ref(t);
    return PG_OK;
  }
  if (e->create) return pg_do(e->ctx, out, "to", "ti", t, (int64_t)PG_F32);
  PG_TRY(pg_tensor_new_like(e->ctx, t, PG_F32, out));
  pg_status s = pg_tensor_copy(*out, t);
  if (s == PG_OK) return PG_OK;
  pg_tensor_unref(*out);
  *out = NULL;
  return s;
}

/* Replaces *t, owned, by widened(*t). */
static pg_status widen_own(engine *e, pg_tensor **t) {
  pg_tensor *old = *t;
  pg_status s = widened(e, old, t);
  pg_tensor_unref(old);
  return s;
}

/* Runs backward on c, whose tensors are n's, in a form that the op can take: what its forward
 * widened is widened, what it cast is part of the graph if backward is recorded. */
static pg_status backward_adapted(engine *e, pg_node *n, pg_call *c) {
  pg_tensor *in[PG_MAX_IN] = {NULL}, *gout[PG_MAX_OUT] = {NULL}, *out[PG_MAX_OUT] = {NULL};
  PG_ASSERT(n->nin <= PG_MAX_IN);
  pg_status s = PG_OK;
  for (int i = 0; i < n->nin && s == PG_OK; i++) {
    if (!n->in[i]) continue;
    if (e->create) s = rejoin_cast(n, i, &in[i]);
    else in[i] = pg_tensor_ref(n->in[i]);
    if (s == PG_OK && n->widened) s = widen_own(e, &in[i]);
  }
  for (int j = 0; j < n->nout && s == PG_OK; j++) {
    gout[j] = pg_tensor_ref(c->gout[j]);
    out[j] = pg_tensor_ref(c->out[j]);
    if (n->widened) s = widen_own(e, &gout[j]);
    if (s == PG_OK && n->widened) s = widen_own(e, &out[j]);
  }
  pg_call inner = *c;
  inner.in = in;
  memcpy(inner.gout, gout, sizeof gout);
  memcpy(inner.out, out, sizeof out);
  if (s == PG_OK) s = n->op->backward(&inner);
  for (int i = 0; i < n->nin; i++) pg_tensor_unref(in[i]);
  for (int j = 0; j < n->nout; j++) {
    pg_tensor_unref(gout[j]);
    pg_tensor_unref(out[j]);
  }
  return s;
}

/* Did the op work on other dtypes than it was given? */
static bool has_casts(const pg_node *n) {
  bool any = n->widened;
  for (int i = 0; i < n->nin && n->nin <= PG_MAX_IN; i++)
    any = any || (n->in[i] && n->in[i]->dtype != n->edge[i].dtype);
  return any;
}

pg_status pg_unjoin(pg_call *c, pg_tensor **out) {
  pg_call then;
  pg_meta meta = {.dtype = c->out[0]->dtype, .nd = c->out[0]->nd};
  memcpy(meta.shape, c->out[0]->shape, sizeof *meta.shape * meta.nd);
  bool need = true;
  pg_tensor *in = NULL, *gin = NULL;
  *out = NULL;
  memset(&then, 0, offsetof(pg_call, os));
  then.ctx = c->ctx;
  then.op = c->then;
  then.nin = then.nout = 1;
  then.recording = c->recording;
  then.in = &in;
  then.meta = &meta;
  then.need = &need;
  then.gin = &gin;
  then.gout[0] = c->gout[0];
  then.out[0] = c->out[0];
  PG_TRY(c->then->backward(&then));
  if (gin->dtype == meta.dtype) {
    *out = gin;
    return PG_OK;
  }
  pg_status s = pg_do(c->ctx, out, "to", "ti", gin, (int64_t)meta.dtype);
  pg_tensor_unref(gin);
  return s;
}

/* Runs backward on c, whose tensors are n's. The gradient of what `then` gave makes room for that
 * of the op's own result. */
static pg_status backward(engine *e, pg_node *n, pg_call *c) {
  c->then = n->then;
  if (n->then && !(n->op->flags & PG_JOINS && n->then->flags & PG_RELU)) {
    pg_tensor *own;
    PG_TRY(pg_unjoin(c, &own));
    drop_tensor(&n->grad[0]);
    c->gout[0] = n->grad[0] = own;
    c->then = NULL;
  }
  const bool adapt = n->widened || (e->create && has_casts(n));
  return adapt ? backward_adapted(e, n, c) : n->op->backward(c);
}

/* In anomaly mode: PG_EVALUE where backward made a NaN from gradients without any. */
static pg_status check_anomaly(const pg_node *n, pg_tensor *const *gin) {
  bool made = false;
  for (int i = 0; i < n->nin && !made; i++) made = pg__has_nan(gin[i]);
  for (int j = 0; j < n->nout && made; j++) made = !pg__has_nan(n->grad[j]);
  if (!made) return PG_OK;
  const char *where = n->ctx->where;
  n->ctx->where = n->where;
  pg_status s = pg_fail(n->ctx, PG_EVALUE, "backward made a NaN from gradients without any");
  n->ctx->where = where;
  return s;
}

enum { NIN_STACK = 16 };

static pg_status run_node(engine *e, pg_node *n) {
  pg_ctx *ctx = e->ctx;
  const char *doing = ctx->doing;
  const bool held = ctx->holds_data;
  pg_tensor *gin_room[NIN_STACK], **gin = gin_room, *into[NIN_STACK];
  bool need_room[NIN_STACK], *need = need_room;
  void *block = NULL;
  size_t bytes = 0;
  pg_status s = check_node(e, n);
  if (s != PG_OK) goto done;
  if (n->nin > NIN_STACK) {
    bytes = (size_t)n->nin * (sizeof *gin + sizeof *need);
    s = pg_alloc(ctx, bytes, &block);
    if (s != PG_OK) goto done;
    gin = block;
    need = (bool *)(gin + n->nin);
  }
  bool any = false;
  for (int i = 0; i < n->nin; i++) {
    gin[i] = NULL;
    need[i] = n->edge[i].node || n->edge[i].leaf;
    any = any || need[i];
  }
  if (!any) goto done;
  const bool add = gin == gin_room && !e->create && !ctx->anomaly;
  for (int i = 0; i < n->nin && add; i++) into[i] = need[i] ? target(e, n, i) : NULL;
  pg_call c;
  memset(&c, 0, offsetof(pg_call, os));
  c.ctx = ctx;
  c.op = n->op;
  c.nin = n->nin;
  c.nout = n->nout;
  c.recording = e->create;
  c.user = n->function;
  c.in = n->in;
  c.meta = n->meta;
  c.need = need;
  c.gin = gin;
  c.into = add ? into : NULL;
  memcpy(c.keep, n->keep, sizeof c.keep);
  memcpy(c.arg, n->arg, sizeof *c.arg * (size_t)n->narg);
  for (int j = 0; j < n->nout; j++) {
    c.gout[j] = n->grad[j];
    c.out[j] = n->out[j];
    if (e->create && s == PG_OK) s = rejoin(n, j, &c.out[j]);
  }
  if (s == PG_OK) s = backward(e, n, &c);
  for (int j = 0; j < n->nout; j++)
    if (c.out[j] != n->out[j]) pg_tensor_unref(c.out[j]);
  ctx->doing = n->op->name;
  if (s == PG_OK && ctx->anomaly) s = check_anomaly(n, gin);
  for (int i = 0; i < n->nin; i++) {
    pg_tensor *g = gin[i];
    if (!g) continue;
    if (s != PG_OK || !need[i] || (add && g == into[i])) pg_tensor_unref(g);
    else s = deliver(e, n, i, g);
  }
done:
  pg_free(ctx, block, bytes);
  ctx->doing = doing;
  ctx->holds_data = held;
  return s;
}

static pg_status run_profiled(engine *e, pg_node *n) {
  pg_profile *p = e->ctx->profile;
  int event = pg__profile_node(p, n);
  pg_status s = run_node(e, n);
  if (e->ctx->profile == p) pg_profile_leave(p, event); /* a hook may have ended it */
  return s;
}

/* Results for inputs that are not leaves are caught when their node's gradients are complete. */
static pg_status catch_results(engine *e, pg_node *n) {
  for (int i = 0; i < e->ninput; i++) {
    const pg_tensor *t = e->input[i];
    if (t->node != n || !n->grad[t->node_out]) continue;
    PG_TRY(accumulate(e, &e->result[i], pg_tensor_ref(n->grad[t->node_out])));
  }
  return PG_OK;
}

static pg_status run(engine *e) {
  pg_ctx *ctx = e->ctx;
  const bool mode = ctx->grad_mode, autocast = ctx->autocast;
  ctx->grad_mode = e->create;
  ctx->autocast = false; /* gradients come in the dtypes that forward chose */
  pg_status s = PG_OK;
  while (e->count) {
    pg_node *n = heap_pop(e);
    const bool past = n->sequence <= e->floor;
    const pg_meta *m = &n->out_meta[0];
    if (!e->chain && !ctx->profile && !ctx->anomaly &&
        pg_numel_of(m->nd, m->shape) >= PG_CHAIN_LEAST)
      e->chain = pg_chain_begin(ctx);
    for (int j = 0; j < n->nout && n->hooks && n->sequence >= e->floor && s == PG_OK; j++)
      s = pg__hooks_run(ctx, n->hooks, j, &n->grad[j]);
    if (s == PG_OK && e->input) s = catch_results(e, n);
    if (s == PG_OK && !past) s = ctx->profile ? run_profiled(e, n) : run_node(e, n);
    for (int j = 0; j < PG_MAX_OUT; j++) drop_tensor(&n->grad[j]);
    if (s == PG_OK && !e->retain && !past) {
      n->used = true;
      drop_saved(n);
      drop_edges(n);
    }
    pg_node_unref(n);
  }
  s = end_waiting(e, s);
  if (e->chain) pg_chain_end(ctx);
  ctx->grad_mode = mode;
  ctx->autocast = autocast;
  pg_free(ctx, e->heap, sizeof *e->heap * (size_t)e->room);
  return s;
}

/* Puts the gradient of a root in place: grad, or 1 for a root of one element. */
static pg_status seed(engine *e, pg_tensor *root, pg_tensor *grad) {
  pg_ctx *ctx = e->ctx;
  if (!root->requires_grad)
    return pg_fail(ctx, PG_ESTATE,
                   "argument 'self': expected a tensor that requires grad, got one that does not "
                   "depend on any");
  pg_tensor *g;
  if (grad) {
    if (!pg_same_shape(root, grad))
      return pg_fail(ctx, PG_ESHAPE,
                     "argument 'gradient': expected the shape of the tensor, %s, got %s",
                     pg_shape_str(root).s, pg_shape_str(grad).s);
    g = pg_tensor_ref(grad);
  } else {
    if (pg_numel(root) != 1)
      return pg_fail(ctx, PG_ESHAPE,
                     "argument 'gradient': expected one for a tensor of more than one element, %s, "
                     "got nothing",
                     pg_shape_str(root).s);
    PG_TRY(pg_tensor_new(ctx, (pg_dtype)root->dtype, root->nd, root->shape, &g));
    pg_tensor_fill(g, 1);
  }
  if (!root->node) return deliver_leaf(e, root, g);
  const pg_meta *m = &root->node->out_meta[root->node_out];
  PG_TRY(fit(e, g, m, m->dtype, &g));
  PG_TRY(accumulate(e, &root->node->grad[root->node_out], g));
  return heap_push(e, root->node);
}

static pg_status start(engine *e, int nroot, pg_tensor *const *root, pg_tensor *const *grad) {
  const char *doing = e->ctx->doing;
  pg_profile *p = e->ctx->profile;
  int event = p ? pg_profile_enter(p, PG_EVENT_ENGINE, "backward", NULL) : -1;
  e->ctx->doing = "backward";
  pg_status s = PG_OK;
  for (int i = 0; i < nroot && s == PG_OK; i++) s = seed(e, root[i], grad ? grad[i] : NULL);
  if (s != PG_OK) { /* nothing ran: empty the heap without a step */
    while (e->count) {
      pg_node *n = heap_pop(e);
      for (int j = 0; j < PG_MAX_OUT; j++) drop_tensor(&n->grad[j]);
      pg_node_unref(n);
    }
  }
  pg_status r = run(e);
  if (event >= 0 && e->ctx->profile == p) pg_profile_leave(p, event);
  e->ctx->doing = doing;
  return s != PG_OK ? s : r;
}

pg_status pg_backward(pg_ctx *ctx, pg_tensor *root, pg_tensor *grad, bool retain_graph,
                      bool create_graph) {
  engine e = {.ctx = ctx, .retain = retain_graph || create_graph, .create = create_graph};
  return start(&e, 1, &root, &grad);
}

pg_status pg_grad(pg_ctx *ctx, int nroot, pg_tensor *const *root, pg_tensor *const *grad,
                  int ninput, pg_tensor *const *input, bool retain_graph, bool create_graph,
                  pg_tensor **result) {
  for (int i = 0; i < ninput; i++) result[i] = NULL;
  for (int i = 0; i < ninput; i++)
    if (!input[i]->requires_grad)
      return pg_fail(ctx, PG_ESTATE,
                     "grad: argument 'inputs': expected tensors that require grad, got one without "
                     "as input %d",
                     i + 1);
  engine e = {.ctx = ctx,
              .retain = retain_graph || create_graph,
              .create = create_graph,
              .ninput = ninput,
              .input = input,
              .result = result};
  for (int i = 0; i < ninput; i++) { /* where no input is a leaf, what is older gives nothing */
    const pg_node *n = input[i]->node;
    if (n && (i == 0 || n->sequence < e.floor)) e.floor = n->sequence;
    if (!n) e.floor = 0;
    if (!n) break;
  }
  pg_status s = start(&e, nroot, root, grad);
  if (s != PG_OK)
    for (int i = 0; i < ninput; i++) drop_tensor(&result[i]);
  return s;
}
