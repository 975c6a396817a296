/* Tapes: ops, layers, backward passes and optimizer steps in order, with slots for the tensors
 * between them. Whatever else touches tensors while a tape records spoils it. Relies on tape.h.
 * Spec: spec/binding/tape_spec.lua. */
#include "tape.h"

#include <limits.h>
#include <string.h>

#include "tensor/chain.h"

typedef enum action_kind { DO_OP, DO_LAYER, DO_BACKWARD, DO_STEP, DO_ZERO_GRAD } action_kind;

/* Settings of the ctx under which an action runs. */
typedef struct modes {
  bool grad, deterministic, autocast;
} modes;

typedef struct action {
  action_kind kind;
  modes modes;
  bool inplace, retain, create, set_to_none;
  int nin, nout, narg, nints;
  int in, arg, ints; /* where its own begin in the tape's lists */
  int done, ndone;   /* of the list `ended`: slots that nothing needs after it */
  int out;           /* first slot of the results; an op in place: that of its first input */
  const pg_op *op;
  const pg_op *then; /* what a layer's op is joined with; or NULL */
  pg_layer *layer;   /* owned */
  pg_optim *optim;   /* held by the anchors */
} action;

typedef enum slot_kind { IS_INPUT, IS_CONSTANT, IS_RESULT } slot_kind;

typedef struct slot {
  slot_kind kind;
  pg_tensor *t; /* owned: a constant always, others while they are known */
} slot;

/* What an argument has to be. */
typedef struct shape {
  unsigned char dtype, nd;
  bool requires_grad, leaf;
  int64_t shape[PG_MAX_DIMS], stride[PG_MAX_DIMS];
} shape;

/* An argument, an upvalue or a result of the function. */
typedef struct value {
  int type;
  int slot; /* of a tensor; -1: none */
  bool whole;
  union {
    lua_Integer i;
    lua_Number n;
    const void *p;
  };
} value;

typedef struct list {
  void *item;
  size_t size;
  int count, room;
} list;

struct pgl_tape {
  pg_ctx *ctx;
  pgl_state *state;
  lua_State *home; /* who records */
  bool spoilt;     /* something happened that cannot be done again */
  int epoch;       /* the state's, when it began */
  modes modes;     /* of the ctx, when it began */
  bool large;      /* some tensor is, so that chains of elementwise ops are worth it */
  int ninput;      /* tensors among the arguments */
  list actions, slots, in, args, ints, shapes, given, upvalues, results, ended;
};

enum { NTAPES = 4 };

/* A function and its tapes. Its uservalue 1 is the function, 2 a table of what tapes refer to. */
typedef struct compiled {
  const void *tag;
  pgl_state *state;
  pgl_tape *ready[NTAPES]; /* the one used last comes first */
  pgl_tape *candidate;     /* recorded once; ready when it is recorded again the same */
  pgl_tape *recording;
  int failures; /* recordings in a row that came to nothing */
  int64_t replays;
  int64_t fused; /* elementwise loops that the last of them ran in chains */
  bool busy;
} compiled;

static const char compiled_tag = 0;

/* Recordings in a row that may come to nothing before the function is left alone. */
enum { PATIENCE = 6 };

/* --- lists --------------------------------------------------------------------------------------
 */

/* Room for n more items; NULL, and the tape is spoilt, where there is no memory. */
static void *more(pgl_tape *t, list *l, size_t size, int n) {
  l->size = size;
  if (!l->item || l->count + n > l->room) {
    int room = 2 * l->room > l->count + n ? 2 * l->room : l->count + n + 8;
    void *wider;
    if (pg_alloc(t->ctx, size * (size_t)room, &wider) != PG_OK) {
      t->spoilt = true;
      return NULL;
    }
    if (l->count) memcpy(wider, l->item, size * (size_t)l->count);
    pg_free(t->ctx, l->item, size * (size_t)l->room);
    l->item = wider;
    l->room = room;
  }
  l->count += n;
  void *first = (char *)l->item + size * (size_t)(l->count - n);
  memset(first, 0, size * (size_t)n);
  return first;
}

static void drop_list(pgl_tape *t, list *l) {
  pg_free(t->ctx, l->item, l->size * (size_t)l->room);
  *l = (list){0};
}

static slot *slot_at(const pgl_tape *t, int i) { return (slot *)t->slots.item + i; }
static action *action_at(const pgl_tape *t, int i) { return (action *)t->actions.item + i; }
static int *in_at(const pgl_tape *t, int i) { return (int *)t->in.item + i; }
static pg_arg *arg_at(const pgl_tape *t, int i) { return (pg_arg *)t->args.item + i; }
static int64_t *int_at(const pgl_tape *t, int i) { return (int64_t *)t->ints.item + i; }

static void forget_results(pgl_tape *t) {
  for (int i = 0; i < t->slots.count; i++) {
    slot *s = slot_at(t, i);
    if (s->kind == IS_CONSTANT) continue;
    pg_tensor *old = s->t;
    s->t = NULL;
    pg_tensor_unref(old);
  }
}

static void tape_free(pgl_tape *t) {
  if (!t) return;
  forget_results(t);
  for (int i = 0; i < t->slots.count; i++) pg_tensor_unref(slot_at(t, i)->t);
  for (int i = 0; i < t->actions.count; i++) pg_layer_unref(action_at(t, i)->layer);
  list *all[] = {&t->actions, &t->slots, &t->in,       &t->args,    &t->ints,
                 &t->shapes,  &t->given, &t->upvalues, &t->results, &t->ended};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) drop_list(t, all[i]);
  pg_free(t->ctx, t, sizeof *t);
}

/* --- recording ----------------------------------------------------------------------------------
 */

static modes modes_of(const pg_ctx *ctx) {
  return (modes){ctx->grad_mode, ctx->deterministic, ctx->autocast};
}

static bool same_modes(modes a, modes b) {
  return a.grad == b.grad && a.deterministic == b.deterministic && a.autocast == b.autocast;
}

static int find_slot(const pgl_tape *t, const pg_tensor *x) {
  for (int i = t->slots.count - 1; i >= 0; i--)
    if (slot_at(t, i)->t == x) return i;
  return -1;
}

/* A slot that takes a ref of x. */
static int new_slot(pgl_tape *t, slot_kind kind, pg_tensor *x) {
  slot *s = more(t, &t->slots, sizeof *s, 1);
  if (!s) return -1;
  *s = (slot){kind, pg_tensor_ref(x)};
  return t->slots.count - 1;
}

/* A number of the binding's becomes a constant of the tape's own. */
static int number_slot(pgl_tape *t, const pg_tensor *x) {
  pg_tensor *own;
  if (pg_tensor_number(t->ctx, pg_item_f64(x), x->is_int_number, &own) != PG_OK) {
    t->spoilt = true;
    return -1;
  }
  int i = new_slot(t, IS_CONSTANT, own);
  pg_tensor_unref(own);
  return i;
}

static int slot_of(pgl_tape *t, pg_tensor *x) {
  if (!x) return -1;
  if (x->is_number) return number_slot(t, x);
  int i = find_slot(t, x);
  return i >= 0 ? i : new_slot(t, IS_CONSTANT, x);
}

/* A new action, or NULL where nothing is to be noted any more. */
static action *note(lua_State *L, pgl_tape *t, action_kind kind, int nin, pg_tensor *const *in) {
  if (L != t->home) t->spoilt = true;
  if (t->spoilt) return NULL;
  int first = t->in.count;
  int *at = more(t, &t->in, sizeof *at, nin);
  for (int i = 0; i < nin && at; i++) {
    int s = slot_of(t, in[i]);
    *in_at(t, first + i) = s;
  }
  action *a = t->spoilt ? NULL : more(t, &t->actions, sizeof *a, 1);
  if (!a) return NULL;
  a->kind = kind;
  a->modes = modes_of(t->ctx);
  a->nin = nin;
  a->in = first;
  return a;
}

static void note_results(pgl_tape *t, action *a, int nout, pg_tensor *const *out) {
  a->nout = nout;
  a->out = t->slots.count;
  for (int j = 0; j < nout; j++) {
    new_slot(t, IS_RESULT, out[j]);
    t->large = t->large || pg_numel(out[j]) >= PG_CHAIN_LEAST;
  }
}

void pgl_tape_op(lua_State *L, pgl_tape *t, const pg_call *c) {
  action *a = note(L, t, DO_OP, c->nin, c->in);
  if (!a) return;
  a->op = c->op;
  a->inplace = c->inplace;
  for (const pg_param *p = c->op->param; p->kind != PG_END; p++)
    a->narg += p->kind != PG_TENSOR && p->kind != PG_TENSORS;
  a->nints = c->nints;
  a->arg = t->args.count;
  a->ints = t->ints.count;
  pg_arg *arg = more(t, &t->args, sizeof *arg, a->narg);
  int64_t *ints = more(t, &t->ints, sizeof *ints, a->nints);
  if (t->spoilt) return;
  if (a->nints) memcpy(ints, c->ints, sizeof *ints * (size_t)a->nints);
  int k = 0;
  for (const pg_param *p = c->op->param; p->kind != PG_END; p++) {
    if (p->kind == PG_TENSOR || p->kind == PG_TENSORS) continue;
    arg[k] = c->arg[k];
    bool is_list = (p->kind == PG_INTS || p->kind == PG_SHAPE) && c->arg[k].v;
    if (c->arg[k].s) t->spoilt = true;
    /* a list is kept as where it begins */
    if (is_list) arg[k].i = c->arg[k].v - c->ints;
    k++;
  }
}

void pgl_tape_op_done(pgl_tape *t, const pg_call *c, pg_status s) {
  if (s != PG_OK) t->spoilt = true;
  if (t->spoilt) return;
  action *a = action_at(t, t->actions.count - 1);
  if (a->inplace) {
    a->out = *in_at(t, a->in);
    a->nout = 1;
    t->large = t->large || pg_numel(c->in[0]) >= PG_CHAIN_LEAST;
  } else {
    note_results(t, a, c->nout, c->out);
  }
}

void pgl_tape_layer(lua_State *L, pgl_tape *t, pg_layer *l, const pg_op *then, int nin,
                    pg_tensor *const *in, int nout, pg_tensor *const *out) {
  action *a = note(L, t, DO_LAYER, nin, in);
  if (!a) return;
  a->layer = pg_layer_ref(l);
  a->then = then;
  note_results(t, a, nout, out);
}

void pgl_tape_backward(lua_State *L, pgl_tape *t, pg_tensor *root, pg_tensor *grad, bool retain,
                       bool create) {
  action *a = note(L, t, DO_BACKWARD, 2, (pg_tensor *[]){root, grad});
  if (!a) return;
  a->retain = retain;
  a->create = create;
}

void pgl_tape_flags(lua_State *L, const pg_tensor *x) {
  pgl_tape *t = pgl_state_of(L)->tape;
  if (!t) return;
  int i = find_slot(t, x);
  if (i < 0 || slot_at(t, i)->kind != IS_INPUT) t->spoilt = true;
}

/* Keeps the value at idx for as long as the function that is compiled. */
static void anchor(lua_State *L, const pgl_tape *t, int idx) {
  idx = lua_absindex(L, idx);
  if (lua_type(L, idx) < LUA_TSTRING) return;
  lua_rawgetp(L, LUA_REGISTRYINDEX, t); /* the anchors of a tape that records */
  lua_pushvalue(L, idx);
  lua_pushboolean(L, 1);
  lua_rawset(L, -3);
  lua_pop(L, 1);
}

static action *note_optim(lua_State *L, pgl_tape *t, action_kind kind, pg_optim *o, int idx) {
  action *a = note(L, t, kind, 0, NULL);
  if (!a) return NULL;
  a->optim = o;
  anchor(L, t, idx);
  return a;
}

void pgl_tape_step(lua_State *L, pgl_tape *t, pg_optim *o, int idx) {
  note_optim(L, t, DO_STEP, o, idx);
}

void pgl_tape_zero_grad(lua_State *L, pgl_tape *t, pg_optim *o, int idx, bool set_to_none) {
  action *a = note_optim(L, t, DO_ZERO_GRAD, o, idx);
  if (a) a->set_to_none = set_to_none;
}

/* --- values -------------------------------------------------------------------------------------
 */

static bool value_at(lua_State *L, int idx, value *v) {
  *v = (value){.type = lua_type(L, idx), .slot = -1};
  switch (v->type) {
  case LUA_TNUMBER:
    v->whole = lua_isinteger(L, idx);
    if (v->whole) v->i = lua_tointeger(L, idx);
    else v->n = lua_tonumber(L, idx);
    return true;
  case LUA_TBOOLEAN:
    v->i = lua_toboolean(L, idx);
    return true;
  case LUA_TNIL:
    return true;
  default:
    v->p = lua_topointer(L, idx);
    return v->p != NULL;
  }
}

static bool same_value(const value *a, const value *b) {
  return a->type == b->type && a->slot == b->slot && a->whole == b->whole && a->i == b->i;
}

static void shape_of(shape *s, const pg_tensor *x) {
  memset(s, 0, sizeof *s);
  s->dtype = x->dtype;
  s->nd = x->nd;
  s->requires_grad = x->requires_grad;
  s->leaf = !x->node;
  memcpy(s->shape, x->shape, sizeof *s->shape * x->nd);
  memcpy(s->stride, x->stride, sizeof *s->stride * x->nd);
}

static bool fits(const shape *s, const pg_tensor *x) {
  return s->dtype == x->dtype && s->nd == x->nd && s->requires_grad == x->requires_grad &&
         s->leaf == !x->node && !x->is_number &&
         memcmp(s->shape, x->shape, sizeof *s->shape * x->nd) == 0 &&
         memcmp(s->stride, x->stride, sizeof *s->stride * x->nd) == 0;
}

/* Arguments first..last: tensors become the first slots. */
static void note_arguments(lua_State *L, pgl_tape *t, int first, int last) {
  for (int idx = first; idx <= last && !t->spoilt; idx++) {
    value *v = more(t, &t->given, sizeof *v, 1);
    if (!v) return;
    pgl_box *b = pgl_to_box(L, idx);
    if (!value_at(L, idx, v)) t->spoilt = true;
    anchor(L, t, idx);
    if (!b) {
      if (v->type == LUA_TTABLE || v->type == LUA_TUSERDATA || v->type == LUA_TFUNCTION)
        t->spoilt = true; /* what is in it may change */
      continue;
    }
    if (!b->t || find_slot(t, b->t) >= 0) {
      t->spoilt = true;
      return;
    }
    *v = (value){.type = LUA_TUSERDATA, .slot = new_slot(t, IS_INPUT, b->t)};
    shape *s = more(t, &t->shapes, sizeof *s, 1);
    if (s) shape_of(s, b->t);
    t->ninput++;
  }
}

static void note_upvalues(lua_State *L, pgl_tape *t, int fn) {
  for (int k = 1; lua_getupvalue(L, fn, k); k++) {
    value *v = more(t, &t->upvalues, sizeof *v, 1);
    if (v && !value_at(L, -1, v)) t->spoilt = true;
    anchor(L, t, -1);
    lua_pop(L, 1);
  }
}

/* Results of the function from first to last: tensors of the tape, or plain values. */
static void note_returned(lua_State *L, pgl_tape *t, int first, int last) {
  for (int idx = first; idx <= last && !t->spoilt; idx++) {
    value *v = more(t, &t->results, sizeof *v, 1);
    if (!v) return;
    pgl_box *b = pgl_to_box(L, idx);
    if (b) {
      *v = (value){.type = LUA_TUSERDATA, .slot = b->t ? find_slot(t, b->t) : -1};
      if (v->slot < 0 || slot_at(t, v->slot)->kind != IS_RESULT) t->spoilt = true;
    } else if (!value_at(L, idx, v) || v->type > LUA_TNUMBER || v->type == LUA_TLIGHTUSERDATA) {
      t->spoilt = true;
    }
  }
}

/* Notes after which action each slot is needed no more: then a replay lets go of its tensor, whose
 * memory the next one takes. */
static void plan_ends(pgl_tape *t) {
  const int nslot = t->slots.count;
  int *last, k = 0;
  if (!nslot || pg_alloc(t->ctx, sizeof *last * (size_t)nslot, (void **)&last) != PG_OK) return;
  for (int i = 0; i < nslot; i++) last[i] = slot_at(t, i)->kind == IS_RESULT ? -1 : INT_MAX;
  for (int i = 0; i < t->actions.count; i++) {
    const action *a = action_at(t, i);
    for (int j = 0; j < a->nin; j++) {
      const int s = *in_at(t, a->in + j);
      if (s >= 0 && last[s] < i) last[s] = i;
    }
    for (int j = 0; j < a->nout; j++)
      if (last[a->out + j] < i) last[a->out + j] = i;
  }
  for (int i = 0; i < t->results.count; i++) {
    const value *v = (const value *)t->results.item + i;
    if (v->slot >= 0) last[v->slot] = INT_MAX;
  }
  int *ended = more(t, &t->ended, sizeof *ended, nslot);
  for (int i = 0; i < t->actions.count && ended; i++) {
    action *a = action_at(t, i);
    a->done = k;
    for (int s = 0; s < nslot; s++)
      if (last[s] == i) ended[k++] = s;
    a->ndone = k - a->done;
  }
  pg_free(t->ctx, last, sizeof *last * (size_t)nslot);
}

/* --- comparing ----------------------------------------------------------------------------------
 */

static bool same_slot(const slot *a, const slot *b) {
  if (a->kind != b->kind) return false;
  if (a->kind != IS_CONSTANT || a->t == b->t) return true;
  double x, y;
  if (!a->t->is_number || !b->t->is_number || a->t->is_int_number != b->t->is_int_number)
    return false;
  x = pg_item_f64(a->t);
  y = pg_item_f64(b->t);
  return memcmp(&x, &y, sizeof x) == 0;
}

static bool same_action(const pgl_tape *t, const action *a, const pgl_tape *u, const action *b) {
  if (a->kind != b->kind || !same_modes(a->modes, b->modes) || a->inplace != b->inplace ||
      a->retain != b->retain || a->create != b->create || a->set_to_none != b->set_to_none ||
      a->nin != b->nin || a->nout != b->nout || a->narg != b->narg || a->nints != b->nints ||
      a->out != b->out || a->op != b->op || a->then != b->then || a->layer != b->layer ||
      a->optim != b->optim)
    return false;
  for (int i = 0; i < a->nin; i++)
    if (*in_at(t, a->in + i) != *in_at(u, b->in + i)) return false;
  for (int i = 0; i < a->nints; i++)
    if (*int_at(t, a->ints + i) != *int_at(u, b->ints + i)) return false;
  for (int i = 0; i < a->narg; i++) {
    const pg_arg *x = arg_at(t, a->arg + i), *y = arg_at(u, b->arg + i);
    if (x->set != y->set || x->is_int != y->is_int || x->n != y->n || x->i != y->i) return false;
  }
  return true;
}

static bool same_values(const list *a, const list *b) {
  if (a->count != b->count) return false;
  for (int i = 0; i < a->count; i++)
    if (!same_value((value *)a->item + i, (value *)b->item + i)) return false;
  return true;
}

static bool same_tape(const pgl_tape *t, const pgl_tape *u) {
  if (t->epoch != u->epoch || t->ninput != u->ninput || t->actions.count != u->actions.count ||
      t->slots.count != u->slots.count || !same_values(&t->given, &u->given) ||
      !same_values(&t->upvalues, &u->upvalues) || !same_values(&t->results, &u->results))
    return false;
  if (t->ninput && memcmp(t->shapes.item, u->shapes.item, sizeof(shape) * (size_t)t->ninput) != 0)
    return false;
  for (int i = 0; i < t->slots.count; i++)
    if (!same_slot(slot_at(t, i), slot_at(u, i))) return false;
  for (int i = 0; i < t->actions.count; i++)
    if (!same_action(t, action_at(t, i), u, action_at(u, i))) return false;
  return true;
}

/* --- replaying ----------------------------------------------------------------------------------
 */

/* Do the arguments first..last, the function at fn and the settings fit the tape? */
static bool applies(lua_State *L, const pgl_tape *t, int fn, int first, int last) {
  const pg_ctx *ctx = t->ctx;
  if (t->epoch != t->state->epoch || !same_modes(t->modes, modes_of(ctx)) || ctx->anomaly ||
      ctx->profile || t->state->observed || t->given.count != last - first + 1)
    return false;
  int tensors = 0;
  for (int i = 0; i < t->given.count; i++) {
    const value *want = (const value *)t->given.item + i;
    if (want->slot >= 0) {
      pgl_box *b = pgl_to_box(L, first + i);
      if (!b || !b->t || !fits((const shape *)t->shapes.item + tensors++, b->t)) return false;
    } else {
      value v;
      if (!value_at(L, first + i, &v) || !same_value(want, &v)) return false;
    }
  }
  for (int k = 0; k < t->upvalues.count; k++) {
    value v;
    if (!lua_getupvalue(L, fn, k + 1)) return false;
    bool same = value_at(L, -1, &v) && same_value((const value *)t->upvalues.item + k, &v);
    lua_pop(L, 1);
    if (!same) return false;
  }
  return true;
}

static pg_status do_op(pgl_tape *t, const action *a) {
  pg_call c;
  pg_tensor *in[PG_MAX_IN], **many = in;
  pg_call_init(&c, t->ctx, a->op);
  c.inplace = a->inplace;
  size_t bytes = sizeof *many * (size_t)a->nin;
  if (a->nin > PG_MAX_IN) PG_TRY(pg_alloc(t->ctx, bytes, (void **)&many));
  for (int i = 0; i < a->nin; i++) {
    int s = *in_at(t, a->in + i);
    many[i] = s >= 0 ? slot_at(t, s)->t : NULL;
  }
  c.in = many;
  c.nin = a->nin;
  c.nints = a->nints;
  if (a->nints) memcpy(c.ints, int_at(t, a->ints), sizeof *c.ints * (size_t)a->nints);
  int k = 0;
  for (const pg_param *p = a->op->param; p->kind != PG_END; p++) {
    if (p->kind == PG_TENSOR || p->kind == PG_TENSORS) continue;
    c.arg[k] = *arg_at(t, a->arg + k);
    if ((p->kind == PG_INTS || p->kind == PG_SHAPE) && c.arg[k].set)
      c.arg[k].v = c.ints + c.arg[k].i;
    k++;
  }
  pg_status s = pg_apply(&c);
  if (many != in) pg_free(t->ctx, many, bytes);
  PG_TRY(s);
  if (a->inplace) {
    pg_tensor_unref(c.out[0]);
    return PG_OK;
  }
  for (int j = 0; j < c.nout; j++) slot_at(t, a->out + j)->t = c.out[j];
  return PG_OK;
}

static pg_status do_layer(pgl_tape *t, const action *a) {
  pg_tensor *in[PG_MAX_IN], *out[PG_MAX_OUT] = {0};
  for (int i = 0; i < a->nin; i++) {
    int s = *in_at(t, a->in + i);
    in[i] = s >= 0 ? slot_at(t, s)->t : NULL;
  }
  bool joined;
  PG_TRY(pg_layer_forward_join(a->layer, a->then, a->nin, in, out, &joined));
  PG_ASSERT(joined || !a->then);
  for (int j = 0; j < a->nout; j++) slot_at(t, a->out + j)->t = out[j];
  return PG_OK;
}

static void set_modes(pg_ctx *ctx, modes m) {
  ctx->grad_mode = m.grad;
  ctx->deterministic = m.deterministic;
  ctx->autocast = m.autocast;
}

static pg_status do_action(pgl_tape *t, const action *a) {
  set_modes(t->ctx, a->modes);
  switch (a->kind) {
  case DO_OP:
    return do_op(t, a);
  case DO_LAYER:
    return do_layer(t, a);
  case DO_BACKWARD: {
    int grad = *in_at(t, a->in + 1);
    return pg_backward(t->ctx, slot_at(t, *in_at(t, a->in))->t,
                       grad < 0 ? NULL : slot_at(t, grad)->t, a->retain, a->create);
  }
  case DO_STEP:
    return pg_optim_step(a->optim);
  default:
    pg_optim_zero_grad(a->optim, a->set_to_none);
    return PG_OK;
  }
}

static void let_go(pgl_tape *t, const action *a) {
  for (int k = 0; k < a->ndone; k++) {
    slot *s = slot_at(t, ((const int *)t->ended.item)[a->done + k]);
    pg_tensor *old = s->t;
    s->t = NULL;
    pg_tensor_unref(old);
  }
}

static bool can_repeat(const action *a) { return a->kind == DO_OP || a->kind == DO_LAYER; }

/* Runs the tape on the arguments from stack index `first`; pushes the results. */
static int replay(lua_State *L, compiled *f, pgl_tape *t, int first) {
  pgl_state *st = t->state;
  luaL_checkstack(L, t->results.count + 8, NULL);
  int top = lua_gettop(L);
  f->busy = true;
  for (int i = 0; i < t->results.count; i++) {
    const value *v = (const value *)t->results.item + i;
    if (v->slot >= 0) pgl_box_new_in(L, st, true);
    else if (v->type == LUA_TBOOLEAN) lua_pushboolean(L, (int)v->i);
    else if (v->type == LUA_TNUMBER && v->whole) lua_pushinteger(L, v->i);
    else if (v->type == LUA_TNUMBER) lua_pushnumber(L, v->n);
    else lua_pushnil(L);
  }
  int tensors = 0;
  for (int i = 0; i < t->given.count; i++)
    if (((const value *)t->given.item + i)->slot >= 0)
      slot_at(t, tensors++)->t = pg_tensor_ref(pgl_to_box(L, first + i)->t);
  lua_State *before = st->running;
  st->running = L;
  pg_status s = PG_OK;
  const int64_t fused = pg_chain_counts(t->ctx).steps;
  const bool chain = t->large && pg_chain_begin(t->ctx);
  for (int i = 0; i < t->actions.count && s == PG_OK; i++) {
    const action *a = action_at(t, i);
    s = do_action(t, a);
    if (s == PG_ENOMEM && !st->injecting && can_repeat(a)) {
      lua_gc(L, LUA_GCCOLLECT);
      s = do_action(t, a);
    }
    if (s == PG_OK) let_go(t, a);
  }
  if (chain) pg_chain_end(t->ctx);
  f->fused = pg_chain_counts(t->ctx).steps - fused;
  f->busy = false;
  st->running = before;
  set_modes(t->ctx, t->modes);
  for (int i = 0; i < t->results.count && s == PG_OK; i++) {
    const value *v = (const value *)t->results.item + i;
    if (v->slot >= 0) pgl_to_box(L, top + 1 + i)->t = pg_tensor_ref(slot_at(t, v->slot)->t);
  }
  forget_results(t);
  if (s != PG_OK) return luaL_error(L, "%s", pg_error(t->ctx));
  f->replays++;
  pgl_pressure(L, st);
  return t->results.count;
}

/* --- the compiled function ----------------------------------------------------------------------
 */

static compiled *check_compiled(lua_State *L, int idx) {
  compiled *f = lua_touserdata(L, idx);
  if (!f || lua_rawlen(L, idx) != sizeof *f || f->tag != &compiled_tag)
    luaL_error(L, "expected a compiled function, got %s", luaL_typename(L, idx));
  return f;
}

static int compiled_gc(lua_State *L) {
  compiled *f = check_compiled(L, 1);
  for (int i = 0; i < NTAPES; i++) tape_free(f->ready[i]);
  tape_free(f->candidate);
  tape_free(f->recording);
  memset(f->ready, 0, sizeof f->ready);
  f->candidate = f->recording = NULL;
  return 0;
}

static int all_results(lua_State *L, int status, lua_KContext k) {
  (void)status;
  (void)k;
  return lua_gettop(L);
}

/* Upvalues: the compiled, the function, what runs it where no tape applies (compiled, fn, ..). */
static int call_compiled(lua_State *L) {
  compiled *f = lua_touserdata(L, lua_upvalueindex(1));
  int n = lua_gettop(L);
  for (int i = 0; i < NTAPES && f->ready[i] && !f->busy && !f->state->tape; i++) {
    pgl_tape *t = f->ready[i];
    if (!applies(L, t, lua_upvalueindex(2), 1, n)) continue;
    for (int k = i; k > 0; k--) f->ready[k] = f->ready[k - 1];
    f->ready[0] = t;
    return replay(L, f, t, 1);
  }
  luaL_checkstack(L, 4, NULL);
  lua_pushvalue(L, lua_upvalueindex(3));
  lua_insert(L, 1);
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_insert(L, 2);
  lua_pushvalue(L, lua_upvalueindex(2));
  lua_insert(L, 3);
  lua_callk(L, n + 2, LUA_MULTRET, 0, all_results);
  return lua_gettop(L);
}

/* compile(fn, long_way) -> the function that replays, its compiled */
static int l_compile(lua_State *L) {
  luaL_checktype(L, 1, LUA_TFUNCTION);
  luaL_checktype(L, 2, LUA_TFUNCTION);
  lua_settop(L, 2);
  compiled *f = lua_newuserdatauv(L, sizeof *f, 1);
  *f = (compiled){.tag = &compiled_tag, .state = pgl_state_of(L)};
  luaL_setmetatable(L, "perigee.compiled");
  lua_newtable(L);
  lua_setiuservalue(L, 3, 1);
  lua_pushvalue(L, 3);
  lua_pushvalue(L, 1);
  lua_pushvalue(L, 2);
  lua_pushcclosure(L, call_compiled, 3);
  lua_pushvalue(L, 3);
  return 2;
}

static void end_recording(lua_State *L, compiled *f) {
  if (!f->recording) return;
  lua_pushnil(L);
  lua_rawsetp(L, LUA_REGISTRYINDEX, f->recording);
  if (f->state->tape == f->recording) f->state->tape = NULL;
}

/* tape_begin(compiled, fn, ..) -> whether what happens now is recorded */
static int l_tape_begin(lua_State *L) {
  compiled *f = check_compiled(L, 1);
  pgl_state *st = f->state;
  int last = lua_gettop(L);
  pgl_tape *t;
  lua_pushboolean(L, 0);
  if (st->tape || f->recording || f->busy || f->failures >= PATIENCE || st->observed ||
      st->ctx->profile || st->ctx->anomaly ||
      pg_alloc_zero(st->ctx, sizeof *t, (void **)&t) != PG_OK)
    return 1;
  *t = (pgl_tape){
      .ctx = st->ctx, .state = st, .home = L, .epoch = st->epoch, .modes = modes_of(st->ctx)};
  f->recording = t;
  lua_getiuservalue(L, 1, 1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, t);
  note_arguments(L, t, 3, last);
  note_upvalues(L, t, 2);
  st->tape = t;
  lua_pushboolean(L, 1);
  return 1;
}

/* tape_abandon(compiled): an error ended the recording. */
static int l_tape_abandon(lua_State *L) {
  compiled *f = check_compiled(L, 1);
  end_recording(L, f);
  tape_free(f->recording);
  f->recording = NULL;
  return 0;
}

/* tape_end(compiled, ..): the function returned these. */
static int l_tape_end(lua_State *L) {
  compiled *f = check_compiled(L, 1);
  pgl_tape *t = f->recording;
  if (!t) return 0;
  end_recording(L, f);
  f->recording = NULL;
  note_returned(L, t, 2, lua_gettop(L));
  if (t->epoch != f->state->epoch) t->spoilt = true;
  bool ready = !t->spoilt && f->candidate && same_tape(f->candidate, t);
  forget_results(t);
  if (t->spoilt) {
    f->failures++;
    tape_free(t);
    return 0;
  }
  tape_free(f->candidate);
  f->candidate = NULL;
  if (!ready) {
    f->failures++;
    f->candidate = t;
    return 0;
  }
  f->failures = 0;
  plan_ends(t);
  tape_free(f->ready[NTAPES - 1]);
  for (int k = NTAPES - 1; k > 0; k--) f->ready[k] = f->ready[k - 1];
  f->ready[0] = t;
  return 0;
}

/* tape_info(compiled) -> replays so far, tapes that are ready, actions of the one used last, loops
 * that the last replay ran in chains */
static int l_tape_info(lua_State *L) {
  compiled *f = check_compiled(L, 1);
  int n = 0;
  while (n < NTAPES && f->ready[n]) n++;
  lua_pushinteger(L, f->replays);
  lua_pushinteger(L, n);
  lua_pushinteger(L, n ? f->ready[0]->actions.count : 0);
  lua_pushinteger(L, f->fused);
  return 4;
}

/* touch(): what a tape took for settled may have changed. */
static int l_touch(lua_State *L) {
  pgl_state_of(L)->epoch++;
  return 0;
}

/* spoil(): something happens that is not to be left out of a repetition. */
static int l_spoil(lua_State *L) {
  pgl_spoil(pgl_state_of(L));
  return 0;
}

void pgl_spoil(pgl_state *st) {
  if (st->tape) st->tape->spoilt = true;
}

void pgl_open_tape(lua_State *L) {
  luaL_newmetatable(L, "perigee.compiled");
  lua_pushcfunction(L, compiled_gc);
  lua_setfield(L, -2, "__gc");
  lua_pop(L, 1);
  static const luaL_Reg functions[] = {{"compile", l_compile},     {"tape_begin", l_tape_begin},
                                       {"tape_end", l_tape_end},   {"tape_abandon", l_tape_abandon},
                                       {"tape_info", l_tape_info}, {"touch", l_touch},
                                       {"spoil", l_spoil},         {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
}
