/* Recording what a Lua function asks of the core, to do it again without Lua. Relies on pgl.h.
 * Spec: spec/binding/tape_spec.lua. */
#ifndef PGL_TAPE_H
#define PGL_TAPE_H

#include "nn/layer.h"
#include "optim/optim.h"
#include "pgl.h"

typedef struct pgl_tape pgl_tape;

/* Each is called with the action it notes, while st->tape is there; L is who acts. An op is noted
 * before it runs, its results afterwards. */
void pgl_tape_op(lua_State *L, pgl_tape *t, const pg_call *c);
void pgl_tape_op_done(pgl_tape *t, const pg_call *c, pg_status s);
/* then: what the layer's op was joined with, or NULL. */
void pgl_tape_layer(lua_State *L, pgl_tape *t, pg_layer *l, const pg_op *then, int nin,
                    pg_tensor *const *in, int nout, pg_tensor *const *out);
void pgl_tape_backward(lua_State *L, pgl_tape *t, pg_tensor *root, pg_tensor *grad, bool retain,
                       bool create);
/* Somebody looks whether x requires grad: settled for arguments only. */
void pgl_tape_flags(lua_State *L, const pg_tensor *x);
/* idx: where the optimizer lies as a Lua value. */
void pgl_tape_step(lua_State *L, pgl_tape *t, pg_optim *o, int idx);
void pgl_tape_zero_grad(lua_State *L, pgl_tape *t, pg_optim *o, int idx, bool set_to_none);

#endif
