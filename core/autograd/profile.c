/* Gathering events: a growing list, a text pool, and the counts of ops and gradients.
 * Relies on profile.h. Spec: spec/autograd/profile_spec.lua. */
#include "autograd/profile.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

typedef struct text {
  struct text *next;
  size_t bytes;
  char s[];
} text;

/* The event in which the node of this number was made; in rising order. */
typedef struct made {
  uint64_t sequence;
  int event;
} made;

/* What the ctx says. */
typedef struct counts {
  int64_t macs, memory, allocations;
} counts;

/* An open event and what the ctx said when it began. */
typedef struct frame {
  int event;
  counts counts;
  int64_t guess; /* multiply-adds, where nothing inside counted any */
} frame;

struct pg_profile {
  pg_ctx *ctx;
  pg_event *event;
  made *made;
  text *texts;
  frame *frame; /* what is open, innermost last */
  int count, room, nmade, made_room, depth, frame_room;
  int lost;
  bool shapes;
  int64_t began;
  size_t bytes;       /* of this profile itself, .. */
  uint64_t own_calls; /* .. and the allocations for it: no event's */
};

static int64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static counts counts_now(const pg_profile *p) {
  const pg_mem *m = &p->ctx->mem;
  return (counts){p->ctx->macs, (int64_t)(m->live - p->bytes),
                  (int64_t)(m->allocations - p->own_calls)};
}

static void add(pg_event *e, int sign, counts c) {
  e->macs += sign * c.macs;
  e->memory += sign * c.memory;
  e->allocations += sign * c.allocations;
}

static pg_status own_alloc(pg_profile *p, size_t bytes, void **out) {
  p->own_calls++;
  PG_TRY(pg_alloc(p->ctx, bytes, out));
  p->bytes += bytes;
  return PG_OK;
}

static void own_free(pg_profile *p, void *block, size_t bytes) {
  if (block) p->bytes -= bytes;
  pg_free(p->ctx, block, bytes);
}

/* Makes room for one more item of `size` bytes. */
static pg_status grow(pg_profile *p, void **list, size_t size, int used, int *room) {
  if (used < *room) return PG_OK;
  int more = *room ? 2 * *room : 256;
  void *wider;
  PG_TRY(own_alloc(p, size * (size_t)more, &wider));
  if (used) memcpy(wider, *list, size * (size_t)used);
  own_free(p, *list, size * (size_t)*room);
  *list = wider;
  *room = more;
  return PG_OK;
}

pg_status pg_profile_start(pg_ctx *ctx, bool shapes, pg_profile **out) {
  *out = NULL;
  if (ctx->profile) return pg_fail(ctx, PG_ESTATE, "a profiler is running already");
  pg_profile *p;
  PG_TRY(pg_alloc_zero(ctx, sizeof *p, (void **)&p));
  p->ctx = ctx;
  p->shapes = shapes;
  p->began = now();
  ctx->profile = p;
  *out = p;
  return PG_OK;
}

void pg_profile_stop(pg_profile *p) {
  if (p->ctx->profile != p) return;
  pg_profile_leave(p, 0);
  p->ctx->profile = NULL;
}

void pg_profile_free(pg_profile *p) {
  if (!p) return;
  pg_profile_stop(p);
  own_free(p, p->event, sizeof *p->event * (size_t)p->room);
  own_free(p, p->frame, sizeof *p->frame * (size_t)p->frame_room);
  own_free(p, p->made, sizeof *p->made * (size_t)p->made_room);
  while (p->texts) {
    text *next = p->texts->next;
    own_free(p, p->texts, p->texts->bytes);
    p->texts = next;
  }
  pg_free(p->ctx, p, sizeof *p);
}

int pg_profile_count(const pg_profile *p) { return p->count; }
const pg_event *pg_profile_event(const pg_profile *p, int i) { return &p->event[i]; }
int pg_profile_lost(const pg_profile *p) { return p->lost; }

pg_status pg_profile_text(pg_profile *p, const char *s, const char **out) {
  size_t n = strlen(s) + 1, bytes = sizeof(text) + n;
  text *t;
  *out = NULL;
  PG_TRY(own_alloc(p, bytes, (void **)&t));
  t->bytes = bytes;
  t->next = p->texts;
  p->texts = t;
  *out = memcpy(t->s, s, n);
  return PG_OK;
}

int pg_profile_enter(pg_profile *p, pg_event_kind kind, const char *name, const char *path) {
  if (grow(p, (void **)&p->event, sizeof *p->event, p->count, &p->room) != PG_OK ||
      grow(p, (void **)&p->frame, sizeof *p->frame, p->depth, &p->frame_room) != PG_OK) {
    p->lost++;
    return -1;
  }
  if (!path) path = p->depth ? p->event[p->frame[p->depth - 1].event].path : "";
  int event = p->count++;
  p->event[event] = (pg_event){.name = name,
                               .path = path,
                               .kind = kind,
                               .parent = p->depth ? p->frame[p->depth - 1].event : -1,
                               .forward = -1};
  frame *f = &p->frame[p->depth++];
  *f = (frame){event, counts_now(p), 0};
  p->event[event].start = now() - p->began;
  return event;
}

static void close_innermost(pg_profile *p, int64_t end) {
  const frame *f = &p->frame[--p->depth];
  pg_event *e = &p->event[f->event];
  counts c = counts_now(p);
  c.macs -= f->counts.macs;
  c.memory -= f->counts.memory;
  c.allocations -= f->counts.allocations;
  e->time = end - e->start;
  add(e, 1, c);
  if (!c.macs) e->macs += f->guess;
  e->flops += 2 * e->macs;
  if (e->parent < 0) return;
  add(&p->event[e->parent], -1, c);
  p->event[e->parent].inner_time += e->time;
}

void pg_profile_leave(pg_profile *p, int event) {
  if (event < 0) return;
  int64_t end = now() - p->began;
  while (p->depth && p->frame[p->depth - 1].event >= event) close_innermost(p, end);
}

void pg_profile_add(pg_profile *p, int event, int64_t flops, int64_t bytes) {
  if (event < 0) return;
  p->event[event].flops += flops;
  p->event[event].bytes += bytes;
}

/* --- ops and their gradients ---------------------------------------------------------------------
 */

static int64_t bytes_of(int nd, const int64_t *shape, int dtype) {
  return pg_numel_of(nd, shape) * (int64_t)pg_dtype_size((pg_dtype)dtype);
}

static int64_t tensor_bytes(const pg_tensor *t) {
  return t ? bytes_of(t->nd, t->shape, t->dtype) : 0;
}

/* "[16 x 4], [8 x 4], [8]" of the inputs. */
static const char *shapes_of(pg_profile *p, int n, pg_tensor *const *in) {
  char list[400] = "";
  size_t at = 0;
  for (int i = 0; i < n && at < sizeof list - 1; i++)
    at += (size_t)snprintf(list + at, sizeof list - at, "%s%s", i ? ", " : "",
                           in[i] ? pg_shape_str(in[i]).s : "-");
  const char *s;
  return pg_profile_text(p, list, &s) == PG_OK ? s : NULL;
}

void pg__profile_made(pg_profile *p, const pg_node *n) {
  if (!p->depth) return;
  if (grow(p, (void **)&p->made, sizeof *p->made, p->nmade, &p->made_room) != PG_OK) return;
  p->made[p->nmade++] = (made){n->sequence, p->frame[p->depth - 1].event};
}

/* "linear+relu" of two ops in one. */
static const char *joined_name(pg_profile *p, const pg_op *op, const pg_op *then) {
  char name[80];
  const char *s;
  snprintf(name, sizeof name, "%.*s+%.*s", (int)strcspn(op->name, "|"), op->name,
           (int)strcspn(then->name, "|"), then->name);
  return pg_profile_text(p, name, &s) == PG_OK ? s : op->name;
}

void pg__profile_call(pg_profile *p, int event, const pg_call *c) {
  const pg_tensor *first = c->nout ? c->out[0] : NULL;
  if (event < 0 || !first) return;
  if (c->then) {
    const char *name = joined_name(p, c->op, c->then);
    p->event[event].name = name;
    pg_profile_add(p, event, pg_numel(first), 0);
  }
  if (p->shapes) {
    const char *shapes = shapes_of(p, c->nin, c->in);
    p->event[event].shapes = shapes;
  }
  if (c->op->flags & PG_COMPOSED) return; /* the ops inside say it all */
  int64_t bytes = 0;
  for (int i = 0; i < c->nin; i++) bytes += tensor_bytes(c->in[i]);
  for (int j = 0; j < c->nout; j++) bytes += tensor_bytes(c->out[j]);
  bool moves = c->op->forward[PG_HOST] && !(c->os[0].view && !c->inplace);
  bool each = (c->op->flags & PG_INPLACE) && pg_is_float((pg_dtype)first->dtype);
  pg_profile_add(p, event, each ? pg_numel(first) : 0, moves ? bytes : 0);
}

void pg__profile_shapes_only(pg_profile *p, int64_t macs) {
  for (int k = 0; k < p->depth; k++) p->frame[k].counts.macs += macs;
}

/* The event that made node n, or -1. */
static int maker(const pg_profile *p, const pg_node *n) {
  int low = 0, high = p->nmade;
  while (low < high) {
    int at = low + (high - low) / 2;
    if (p->made[at].sequence < n->sequence) low = at + 1;
    else high = at;
  }
  return low < p->nmade && p->made[low].sequence == n->sequence ? p->made[low].event : -1;
}

int pg__profile_node(pg_profile *p, const pg_node *n) {
  int forward = maker(p, n);
  const char *name = n->then ? joined_name(p, n->op, n->then) : n->op->name;
  int event =
      pg_profile_enter(p, PG_EVENT_BACKWARD, name, forward >= 0 ? p->event[forward].path : "");
  if (event < 0) return event;
  int64_t bytes = 0, elements = 0;
  int products = 0;
  for (int i = 0; i < n->nin; i++) {
    const pg_meta *m = &n->meta[i];
    bytes += tensor_bytes(n->in[i]);
    if (!n->edge[i].node && !n->edge[i].leaf) continue;
    bytes += bytes_of(m->nd, m->shape, m->dtype);
    elements += pg_numel_of(m->nd, m->shape);
    products += m->nd > 1;
  }
  for (int j = 0; j < PG_MAX_OUT; j++) bytes += tensor_bytes(n->grad[j]) + tensor_bytes(n->out[j]);
  for (int k = 0; k < PG_MAX_KEEP; k++) bytes += tensor_bytes(n->keep[k]);
  pg_event *e = &p->event[event];
  e->forward = forward;
  e->bytes = n->op->forward[PG_HOST] ? bytes : 0;
  e->flops = n->op->flags & PG_INPLACE ? elements : 0;
  if (n->then) e->flops += pg_numel_of(n->out_meta[0].nd, n->out_meta[0].shape);
  if (forward >= 0 && p->event[forward].kind == PG_EVENT_OP)
    p->frame[p->depth - 1].guess = pg_min64(products, 2) * p->event[forward].macs;
  return event;
}
