/* Chains: what depends on what, and the walk over blocks. Relies on chain.h.
 * Spec: spec/tensor/chain_spec.lua. */
#include "tensor/chain.h"

#include <stdlib.h>
#include <string.h>

#include "base/par.h"

enum {
  STEPS = 32,          /* loops in one chain */
  STORES = 64,         /* storages that they touch */
  BLOCK = 1024,        /* elements at once, at most: */
  FAR = 1 << 20,       /* half of it for so many, which come from memory: measured */
  SCRATCH = 64 * 1024, /* bytes for what is not in memory */
};

/* An operand of a step: the storage `store` from byte `at` on, or one value (store -1). Element i
 * of a flat one lies at i * size, in every step of the chain. */
typedef struct operand {
  short store;
  unsigned char size;
  bool flat;
  int64_t at;
  _Alignas(8) char value[8];
} operand;

typedef struct step {
  pg_loop loop;
  int count, cost, nd;
  bool has_arg, skip;
  operand on[PG_ITER_MAX];
  char *base[PG_ITER_MAX]; /* while the chain runs; of an operand in scratch: its block */
  int64_t shape[PG_MAX_DIMS], stride[PG_MAX_DIMS][PG_ITER_MAX];
  _Alignas(8) char arg[PG_CHAIN_ARG];
} step;

typedef struct store {
  pg_storage *s;
  bool made;    /* the chain writes all of it before anything reads it */
  bool written; /* by the chain */
  bool mixed;   /* read otherwise than flat from `at` */
  bool dead;    /* no tensor holds it: with made, it is in scratch */
  unsigned char size;
  int64_t at;
  int block, last; /* its block of scratch or -1; the last step that touches it */
} store;

typedef struct pg_chain {
  int count, nstore, block;
  int64_t numel;
  pg_chain_info info;
  size_t stride; /* bytes of a block of scratch */
  step step[STEPS];
  store store[STORES];
} pg_chain;

/* --- doing it -----------------------------------------------------------------------------------
 */

/* n elements from `at` on of a step over several dims. */
static void run_dims(const step *w, char *const *flat, int64_t at, int64_t n) {
  char *p[PG_ITER_MAX];
  int64_t place[PG_MAX_DIMS], rest = at;
  for (int k = 0; k < w->count; k++) p[k] = flat[k];
  for (int d = 0; d < w->nd; d++) {
    place[d] = rest % w->shape[d];
    rest /= w->shape[d];
    for (int k = 0; k < w->count; k++)
      if (!w->on[k].flat) p[k] += place[d] * w->stride[d][k];
  }
  while (n > 0) {
    const int64_t m = pg_min64(n, w->shape[0] - place[0]);
    w->loop(m, p, w->stride[0], w->has_arg ? w->arg : NULL);
    n -= m;
    if (n <= 0) return;
    for (int k = 0; k < w->count; k++) p[k] += m * w->stride[0][k];
    place[0] += m;
    for (int d = 0; d < w->nd - 1 && place[d] == w->shape[d]; d++) {
      for (int k = 0; k < w->count; k++)
        if (!w->on[k].flat) p[k] += w->stride[d + 1][k] - w->shape[d] * w->stride[d][k];
      place[d] = 0;
      place[d + 1]++;
    }
  }
}

/* Elements [begin, end), block by block through all steps. */
static void run_range(void *arg, int64_t begin, int64_t end) {
  const pg_chain *q = arg;
  _Alignas(64) char scratch[SCRATCH];
  for (int64_t at = begin, n; at < end; at += n) {
    n = pg_min64(end - at, q->block);
    for (int i = 0; i < q->count; i++) {
      const step *w = &q->step[i];
      if (w->skip) continue;
      char *p[PG_ITER_MAX];
      for (int k = 0; k < w->count; k++) {
        const operand *o = &w->on[k];
        const int block = o->store < 0 ? -1 : q->store[o->store].block;
        p[k] = block >= 0 ? scratch + (size_t)block * q->stride : w->base[k];
        if (block < 0 && o->flat) p[k] += at * o->size;
      }
      if (w->nd == 1) w->loop(n, p, w->stride[0], w->has_arg ? w->arg : NULL);
      else run_dims(w, p, at, n);
    }
  }
}

static bool in_scratch(const store *st) { return st->made && st->dead; }

/* Marks steps whose results go nowhere; notes the last step that touches each storage. */
static void plan_steps(pg_chain *q) {
  bool read[STORES] = {false};
  for (int j = 0; j < q->nstore; j++) q->store[j].last = -1;
  for (int i = q->count - 1; i >= 0; i--) {
    step *w = &q->step[i];
    const int to = w->on[0].store;
    w->skip = in_scratch(&q->store[to]) && !read[to];
    q->info.skipped += w->skip;
    for (int k = 0; k < w->count && !w->skip; k++) {
      const int j = w->on[k].store;
      if (j < 0) continue;
      read[j] = read[j] || k > 0;
      if (q->store[j].last < 0) q->store[j].last = i;
    }
  }
}

/* Gives blocks of scratch to what is not in memory, one used last first. */
static int plan_blocks(pg_chain *q) {
  int spare[STORES], nspare = 0, blocks = 0;
  for (int j = 0; j < q->nstore; j++) q->store[j].block = -1;
  for (int i = 0; i < q->count; i++) {
    const step *w = &q->step[i];
    if (w->skip) continue;
    store *to = &q->store[w->on[0].store];
    if (in_scratch(to) && to->block < 0) to->block = nspare ? spare[--nspare] : blocks++;
    for (int k = 0; k < w->count; k++) {
      const int j = w->on[k].store;
      bool again = false; /* as an earlier operand */
      for (int h = 0; h < k; h++) again = again || w->on[h].store == j;
      if (j >= 0 && !again && q->store[j].block >= 0 && q->store[j].last == i)
        spare[nspare++] = q->store[j].block;
    }
  }
  return blocks;
}

static void set_bases(pg_chain *q) {
  for (int i = 0; i < q->count; i++) {
    step *w = &q->step[i];
    for (int k = 0; k < w->count; k++) {
      operand *o = &w->on[k];
      if (o->store < 0) w->base[k] = o->value;
      else if (!in_scratch(&q->store[o->store]))
        w->base[k] = (char *)q->store[o->store].s->data + o->at;
    }
  }
}

static void run_all(pg_ctx *ctx) {
  pg_chain *q = ctx->chain;
  ctx->catch_up = NULL;
  if (!q || !q->count) return;
  plan_steps(q);
  const int blocks = plan_blocks(q);
  set_bases(q);
  int64_t cost = 0;
  for (int i = 0; i < q->count; i++) cost += q->step[i].skip ? 0 : q->step[i].cost;
  int size = 1;
  for (int j = 0; j < q->nstore; j++)
    if (in_scratch(&q->store[j]) && q->store[j].size > size) size = q->store[j].size;
  q->block = q->numel < FAR ? BLOCK : BLOCK / 2;
  while (blocks * q->block * size > SCRATCH) q->block /= 2;
  q->stride = (size_t)(q->block * size);
  const int64_t grain = pg_max64(pg_grain((int)pg_min64(cost, 1 << 15)) / q->block, 1) * q->block;
  pg_par_for(ctx, q->numel, grain, run_range, q);
  q->info.runs++;
  q->info.steps += q->count;
  for (int j = 0; j < q->nstore; j++) {
    store *st = &q->store[j];
    q->info.unmade += in_scratch(st);
    st->s->queued = 0;
    if (st->dead) pg__storage_free(ctx, st->s);
  }
  q->count = q->nstore = 0;
}

/* --- putting it off -----------------------------------------------------------------------------
 */

/* Sorts the operands into values, flat ones and others. false: the result is not flat. */
static bool see_operands(step *w, const pg_iter *it, pg_tensor *const *t) {
  for (int k = 0; k < it->count; k++) {
    operand *o = &w->on[k];
    bool one = true, flat = true;
    const int64_t size = (int64_t)pg_dtype_size((pg_dtype)t[k]->dtype);
    for (int64_t d = 0, next = size; d < it->nd; next *= it->shape[d++]) {
      one = one && it->stride[d][k] == 0;
      flat = flat && it->stride[d][k] == next;
    }
    o->size = (unsigned char)size;
    o->flat = flat;
    o->at = t[k]->offset * size;
    o->store = one && !flat ? -1 : 0;
    if (k == 0 && !flat) return false;
    if (k && t[k]->storage == t[0]->storage && (!flat || o->at != w->on[0].at)) return false;
  }
  return true;
}

/* Must what is in the chain come before operand k is touched? */
static bool collides(const pg_chain *q, const step *w, int k, const pg_tensor *t) {
  if (!t->storage->queued) return false;
  const operand *o = &w->on[k];
  const store *st = &q->store[t->storage->queued - 1];
  const bool same = o->flat && st->at == o->at && st->size == o->size;
  return k == 0 ? st->mixed || !same : st->written && !same;
}

static void add_operand(pg_chain *q, operand *o, const pg_tensor *t) {
  pg_storage *s = t->storage;
  if (o->store < 0) {
    memcpy(o->value, (char *)s->data + o->at, o->size);
    return;
  }
  if (!s->queued) {
    q->store[q->nstore] = (store){.s = s, .at = o->at, .size = o->size};
    s->queued = ++q->nstore;
  }
  o->store = (short)(s->queued - 1);
  store *st = &q->store[o->store];
  st->mixed = st->mixed || !o->flat || st->at != o->at || st->size != o->size;
}

bool pg__chain_take(pg_ctx *ctx, int count, pg_tensor *const *t, int cost, pg_loop loop,
                    const void *arg, size_t bytes, bool updates) {
  pg_chain *q = ctx->chain;
  const int64_t numel = pg_numel(t[0]);
  if (ctx->holds_data || numel < PG_CHAIN_LEAST || bytes > PG_CHAIN_ARG) return false;
  pg_iter it;
  step found;
  pg__iter_plan(&it, t[0]->nd, t[0]->shape, count, t);
  if (!see_operands(&found, &it, t)) return false;
  bool now = q->count == STEPS || q->nstore + count > STORES || (q->count && q->numel != numel);
  for (int k = 0; k < count && !now; k++) now = collides(q, &found, k, t[k]);
  if (now) run_all(ctx);
  step *w = &q->step[q->count];
  memcpy(w->on, found.on, sizeof w->on[0] * (size_t)count);
  for (int k = 1; k < count; k++) add_operand(q, &w->on[k], t[k]);
  const bool fresh = !t[0]->storage->queued && !updates;
  add_operand(q, &w->on[0], t[0]);
  store *to = &q->store[w->on[0].store];
  to->written = true;
  to->made = to->made || (fresh && (size_t)(numel * to->size) == to->s->bytes);
  w->loop = loop;
  w->count = count;
  w->cost = cost;
  w->has_arg = arg != NULL;
  if (arg) memcpy(w->arg, arg, bytes);
  w->nd = it.nd;
  memcpy(w->shape, it.shape, sizeof *it.shape * (size_t)it.nd);
  memcpy(w->stride, it.stride, sizeof *it.stride * (size_t)it.nd);
  q->numel = numel;
  q->count++;
  ctx->catch_up = run_all;
  return true;
}

void pg__chain_met(const pg_tensor *t) {
  pg_ctx *ctx = t->ctx;
  if (t->storage->queued) run_all(ctx);
  ctx->holds_data = true;
}

void pg__chain_keep(pg_ctx *ctx, pg_storage *s) {
  pg_chain *q = ctx->chain;
  store *st = &q->store[s->queued - 1];
  st->dead = true;
  if (!st->made) return;
  pg_free(ctx, s->data, s->bytes);
  s->data = NULL;
}

/* --- where it is allowed ------------------------------------------------------------------------
 */

bool pg_chain_begin(pg_ctx *ctx) {
  if (ctx->chain) return false;
  pg_chain *q = ctx->slot[PG_SLOT_CHAIN];
  if (!q) {
    q = malloc(sizeof *q);
    if (!q) return false;
    q->count = q->nstore = 0;
    q->info = (pg_chain_info){0};
    ctx->slot[PG_SLOT_CHAIN] = q;
    ctx->slot_free[PG_SLOT_CHAIN] = free;
  }
  ctx->chain = q;
  ctx->holds_data = false;
  return true;
}

void pg_chain_end(pg_ctx *ctx) {
  run_all(ctx);
  ctx->chain = NULL;
}

pg_chain_info pg_chain_counts(const pg_ctx *ctx) {
  const pg_chain *q = ctx->slot[PG_SLOT_CHAIN];
  return q ? q->info : (pg_chain_info){0};
}
