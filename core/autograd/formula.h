/* Gradients written as formulas: text that is computed with ops, so that it is recorded when second
 * derivatives are asked for. Relies on op.h.
 * Spec: spec/autograd/formula_spec.lua. */
#ifndef PG_AUTOGRAD_FORMULA_H
#define PG_AUTOGRAD_FORMULA_H

#include "autograd/op.h"

/* For backward: gin[i] = text, if need[i]. In the text g is gout[0], y is out[0], x or a is in[0],
 * b is in[1], c is in[2]; p and q are the numbers given here. It may have + - * / unary minus,
 * parentheses, decimal numbers and calls of ops whose parameters are all tensors or have defaults:
 *   pg_formula(c, 0, "g * (1 - y * y)", 0, 0)
 *   pg_formula(c, 1, "where(gt(b, p), g * a, 0)", 0.5, 0)
 * The result may still have the shape that broadcasting gave; the engine sums it. */
pg_status pg_formula(pg_call *c, int i, const char *text, double p, double q);

/* For the forward of a composed op: *out = text over in[] (g and y are not there), or one more ref
 * of an input. */
pg_status pg_formula_value(pg_call *c, const char *text, double p, double q, pg_tensor **out);

#endif
