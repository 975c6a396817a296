/* Shared by the files of the binding: the state behind the module, boxes, argument parsing, errors.
 * The binding is the only code that includes lua.h. Spec: spec/binding/. */
#ifndef PGL_H
#define PGL_H

#include <lauxlib.h>
#include <lua.h>

#include "autograd/node.h"
#include "autograd/registry.h"

typedef struct pgl_scope pgl_scope;
struct pgl_tape;

/* One per Lua state; lives in the registry and is freed last. */
typedef struct pgl_state {
  pg_ctx *ctx;
  pgl_scope *scope;      /* innermost open scope */
  size_t soft_max;       /* bytes live that make the collector run */
  size_t live_before;    /* bytes live after the last collection of young boxes */
  int calls;             /* of pgl_pressure since then */
  int tensor_meta;       /* the metatable's place in the registry */
  lua_State *running;    /* that called the engine; hooks run on it */
  struct pgl_tape *tape; /* records; NULL: none */
  int epoch;             /* changes with what tapes take for settled */
  bool observed;         /* somebody wants to see every call of a module */
  bool injecting;        /* core.fail_after is armed: no second try on ENOMEM */
  char error[PG_ERROR_LEN];
  pg_tensor number; /* what a call's number becomes, while nobody else holds it */
  pg_storage number_storage;
  double number_value;
} pgl_state;

/* What a script holds: a ref of a tensor. A box without tensor was released. */
typedef struct pgl_box {
  const void *tag;
  pg_tensor *t;
  pgl_state *state;
  pgl_scope *scope; /* whose list it is in; NULL: none */
  struct pgl_box *prev, *next;
  bool by_scope; /* released because its scope closed */
} pgl_box;

pgl_state *pgl_state_of(lua_State *L);
static inline pg_ctx *pgl_ctx(lua_State *L) { return pgl_state_of(L)->ctx; }

/* Raises the core's message unless s is PG_OK. */
void pgl_check(lua_State *L, pg_status s);
/* nil, message for what the world may refuse (PG_EIO, PG_EFORMAT): returns 2; raises otherwise. */
int pgl_refuse(lua_State *L, pg_status s);

/* [-0, +1] An empty box. A tensor that is put in its t belongs to it. Tracked: an open scope frees
 * it. */
pgl_box *pgl_box_new(lua_State *L, bool tracked);
pgl_box *pgl_box_new_in(lua_State *L, pgl_state *st, bool tracked);
/* [-0, +1] A box with one more ref of t; nil for NULL. Not tracked by scopes. */
void pgl_push(lua_State *L, pg_tensor *t);
/* The box at idx, or NULL where there is none. */
pgl_box *pgl_to_box(lua_State *L, int idx);
/* The tensor at idx; raises for anything else and for a released one. */
pg_tensor *pgl_check_tensor(lua_State *L, int idx);
/* The same for those that look at nothing but shape, dtype and the like. */
pg_tensor *pgl_peek_tensor(lua_State *L, int idx);
/* What a tape that records cannot do again happens now. pgl_box_new, pgl_push and pgl_check_tensor
 * do this. */
void pgl_spoil(pgl_state *st);
/* What tapes take for settled changes now: modes, parameters, hooks. */
static inline void pgl_changed(pgl_state *st) { st->epoch++; }
/* Call after bytes were allocated: runs the collector over young boxes now and then, and over all
 * when the soft maximum is passed. */
void pgl_pressure(lua_State *L, pgl_state *st);
/* Backward frees a tensor as soon as it is done with it, unless a box holds it: lets go of boxes
 * that the script has lost, where the graph is large enough. */
void pgl_before_backward(lua_State *L, pgl_state *st);

/* The arguments of one call, parsed by a parameter list. */
typedef struct pgl_args {
  pgl_state *st;
  const char *fn;           /* for messages */
  const char *const *extra; /* further keys that the options table may have; NULL-ended, or NULL */
  int last;                 /* stack index of the last argument */
  int options;              /* stack index of the options table; 0: none */
  int tensor_at;            /* stack index of the first tensor; 0: none */
  pg_tensor *owned[PG_MAX_IN]; /* tensors made from numbers */
  pg_tensor **list;            /* tensors of a PG_TENSORS parameter */
} pgl_args;

/* a without anything in it; set fn, extra and last. */
static inline void pgl_args_init(pgl_args *a, pgl_state *st) { *a = (pgl_args){.st = st}; }
/* pgl_parse for calls that give nothing but tensors, and a number behind the first; false: it is no
 * such call, and c is as it was. */
bool pgl_take_tensors(lua_State *L, pgl_args *a, const pg_param *param, pg_call *c);
/* Fills c (its defaults set) from stack first..last. On failure returns false with the text in
 * st->error and owns nothing. On success call pgl_args_free after use. Pushes nothing but the
 * storage of a list. */
bool pgl_parse(lua_State *L, pgl_args *a, int first, const pg_param *param, pg_call *c);
void pgl_args_free(pgl_args *a);
/* pg_call_init for parameter lists that do not belong to an op. */
void pgl_defaults(pg_call *c, pg_ctx *ctx, const pg_param *param);

/* "float32", "float", "double", "long" ..; -1 if it is none. */
int pgl_dtype(const char *name);
/* Name of the running C function as scripts know it, for messages. May push. */
const char *pgl_fn(lua_State *L);
/* [-0, +1] What stands at idx, in the words of a message. */
const char *pgl_given(lua_State *L, int idx);
/* Raises "fn: argument 'what': expected .., got ..", with what stands at idx. */
int pgl_wrong(lua_State *L, const char *what, const char *expected, int idx);
/* The argument at idx; raises by pgl_wrong unless it is one. n may be NULL. */
lua_Integer pgl_integer(lua_State *L, int idx, const char *what);
lua_Number pgl_number(lua_State *L, int idx, const char *what);
const char *pgl_string(lua_State *L, int idx, const char *what, size_t *n);
void pgl_table(lua_State *L, int idx, const char *what);
/* Reads a shape (list of integers) at idx into shape; raises. */
int pgl_check_shape(lua_State *L, int idx, int64_t *shape);
/* The one of n words nearest to `word`, or NULL. */
const char *pgl_nearest(const char *word, const char *const *list, int n);
/* [-0, +1] Pushes a parameter list: {{name=, kind=, default=, choices=, optional=}}. */
void pgl_push_params(lua_State *L, const pg_param *param);
/* [-0, +1] Pushes an argument of parameter p as a Lua value. */
void pgl_push_arg(lua_State *L, const pg_param *p, const pg_arg *arg);

/* Each file adds its functions to the module table on top of the stack. [-0, +0] */
void pgl_open_tensor(lua_State *L);
void pgl_open_op(lua_State *L);
void pgl_open_autograd(lua_State *L);
void pgl_open_scope(lua_State *L);
void pgl_open_layer(lua_State *L);
void pgl_open_optim(lua_State *L);
void pgl_open_io(lua_State *L);
void pgl_open_data(lua_State *L);
void pgl_open_profile(lua_State *L);
void pgl_open_tape(lua_State *L);

/* scope.c */
void pgl_scope_add(pgl_state *st, pgl_box *b);
void pgl_scope_remove(pgl_box *b);

#endif
