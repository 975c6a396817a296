/* Helpers for an op's infer: declared outputs, checks, dtype promotion. Relies on op.h.
 * Spec: spec/autograd/infer_spec.lua. */
#include <stdio.h>
#include <string.h>

#include "autograd/op.h"

/* Parameter of tensor i (tensors) or of argument k. */
static const pg_param *param_of(const pg_op *op, bool tensor, int at) {
  for (const pg_param *p = op->param; p->kind != PG_END; p++) {
    if (p->kind == PG_TENSORS && tensor) return p;
    if ((p->kind == PG_TENSOR) == tensor && at-- == 0) return p;
  }
  return NULL;
}

const char *pg_in_name(const pg_call *c, int i) {
  const pg_param *p = param_of(c->op, true, i);
  return p ? p->name : "?";
}

/* Parameter of argument k. */
static const pg_param *argument(const pg_call *c, int k) {
  for (const pg_param *p = c->op->param; p->kind != PG_END; p++)
    if (p->kind != PG_TENSOR && p->kind != PG_TENSORS && k-- == 0) return p;
  return NULL;
}

const char *pg_arg_name(const pg_call *c, int k) {
  const pg_param *p = argument(c, k);
  return p ? p->name : "?";
}

/* The value of argument k, in the words of a message. */
static pg_str value_str(const pg_call *c, int k) {
  const pg_arg *a = &c->arg[k];
  pg_str out;
  const size_t n = sizeof out.s;
  if (!a->set) {
    snprintf(out.s, n, "nothing");
    return out;
  }
  switch (argument(c, k)->kind) {
  case PG_FLOAT:
    snprintf(out.s, n, "%g", a->f);
    break;
  case PG_FLAG:
    snprintf(out.s, n, "%s", a->i ? "true" : "false");
    break;
  case PG_DTYPE:
    snprintf(out.s, n, "%s", pg_dtype_name((pg_dtype)a->i));
    break;
  case PG_ENUM: {
    const char *word = argument(c, k)->choices;
    for (int64_t i = a->i; i > 0; i--) word += strcspn(word, "|") + 1;
    snprintf(out.s, n, "'%.*s'", (int)strcspn(word, "|"), word);
    break;
  }
  case PG_STRING:
    snprintf(out.s, n, "'%.60s'", a->s);
    break;
  case PG_INTS:
  case PG_SHAPE:
    if (a->s) snprintf(out.s, n, "'%.60s'", a->s);
    else if (a->n == 1) snprintf(out.s, n, "%lld", (long long)a->v[0]);
    else out = pg_shape_str_of(a->n, a->v);
    break;
  default:
    snprintf(out.s, n, "%lld", (long long)a->i);
  }
  return out;
}

pg_status pg_bad_in(pg_call *c, pg_status code, int i, const char *fmt, ...) {
  char expected[PG_ERROR_LEN / 2];
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(expected, sizeof expected, fmt, ap);
  va_end(ap);
  const pg_tensor *t = c->in[i];
  pg_str got;
  if (!t) snprintf(got.s, sizeof got.s, "nothing");
  else if (t->is_number) snprintf(got.s, sizeof got.s, "%g", pg_item_f64(t));
  else if (code == PG_EDTYPE)
    snprintf(got.s, sizeof got.s, "%s", pg_dtype_name((pg_dtype)t->dtype));
  else got = pg_shape_str(t);
  return pg_fail(c->ctx, code, "argument '%s': expected %s, got %s", pg_in_name(c, i), expected,
                 got.s);
}

pg_status pg_bad_arg(pg_call *c, pg_status code, int k, const char *fmt, ...) {
  char expected[PG_ERROR_LEN / 2];
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(expected, sizeof expected, fmt, ap);
  va_end(ap);
  return pg_fail(c->ctx, code, "argument '%s': expected %s, got %s", pg_arg_name(c, k), expected,
                 value_str(c, k).s);
}

pg_str pg_shape_only(int nd, int dim, int64_t size) {
  pg_str out;
  size_t at = (size_t)snprintf(out.s, sizeof out.s, "[");
  for (int i = 0; i < nd && at < sizeof out.s; i++) {
    const char *before = i ? " x " : "";
    if (i == dim)
      at += (size_t)snprintf(out.s + at, sizeof out.s - at, "%s%lld", before, (long long)size);
    else at += (size_t)snprintf(out.s + at, sizeof out.s - at, "%s*", before);
  }
  if (at < sizeof out.s) snprintf(out.s + at, sizeof out.s - at, "]");
  return out;
}

pg_status pg_broadcast_in(pg_call *c, int i, int with, int *nd, int64_t *shape) {
  const pg_tensor *t = c->in[i];
  if (pg_broadcasts(*nd, shape, t->nd, t->shape, nd, shape)) return PG_OK;
  return pg_bad_in(c, PG_ESHAPE, i, "a shape that broadcasts with %s%s%s",
                   with < 0 ? "" : pg_in_name(c, with), with < 0 ? "" : " ",
                   pg_shape_str_of(*nd, shape).s);
}

pg_status pg_want_spread(pg_call *c, int i, const char *what, int nd, const int64_t *shape) {
  const pg_tensor *t = c->in[i];
  int joint_nd;
  int64_t joint[PG_MAX_DIMS];
  if (pg_broadcasts(nd, shape, t->nd, t->shape, &joint_nd, joint) && joint_nd == nd &&
      memcmp(joint, shape, sizeof *shape * (size_t)nd) == 0)
    return PG_OK;
  return pg_bad_in(c, PG_ESHAPE, i, "a shape that broadcasts to %s %s", what,
                   pg_shape_str_of(nd, shape).s);
}

/* What is wrong with a shape that an op would make; the blame is on the argument that gives it,
 * where there is one. */
static pg_status bad_shape(pg_call *c, int nd, const int64_t *shape, const char *expected) {
  int k = 0;
  for (const pg_param *p = c->op->param; p->kind != PG_END; p++) {
    if (p->kind == PG_SHAPE) return pg_bad_arg(c, PG_ESHAPE, k, "%s", expected);
    k += p->kind != PG_TENSOR && p->kind != PG_TENSORS;
  }
  return pg_fail(c->ctx, PG_ESHAPE, "the result: expected %s, got %s", expected,
                 pg_shape_str_of(nd, shape).s);
}

pg_status pg_out_shape(pg_call *c, int j, pg_dtype dtype, int nd, const int64_t *shape) {
  int64_t n;
  const char *expected = pg_shape_fault(dtype, nd, shape, &n);
  if (expected) return bad_shape(c, nd, shape, expected);
  pg_out *o = &c->os[j];
  o->dtype = (unsigned char)dtype;
  o->nd = (unsigned char)nd;
  o->view = o->strided = false;
  o->numel = n;
  for (int i = 0; i < nd; i++) o->shape[i] = shape[i];
  return PG_OK;
}

pg_status pg_out_like(pg_call *c, int j, pg_dtype dtype, const pg_tensor *t) {
  PG_TRY(pg_out_shape(c, j, dtype, t->nd, t->shape));
  pg_out *o = &c->os[j];
  if (!pg_is_contiguous(t) && pg_is_dense(t)) {
    o->strided = true;
    for (int i = 0; i < t->nd; i++) o->stride[i] = t->stride[i];
  }
  return PG_OK;
}

pg_status pg_out_broadcast(pg_call *c, int j, pg_dtype dtype, int n) {
  int nd = 0;
  int64_t shape[PG_MAX_DIMS];
  const pg_tensor *first = c->in[0];
  bool same = first && pg_is_contiguous(first); /* most calls: one shape, or numbers beside it */
  for (int i = 1; i < n && same; i++)
    same = c->in[i] && (c->in[i]->nd == 0 || pg_same_shape(first, c->in[i]));
  if (same) return pg_out_shape(c, j, dtype, first->nd, first->shape);
  for (int i = 0; i < n; i++)
    if (c->in[i]) PG_TRY(pg_broadcast_in(c, i, i == 1 ? 0 : -1, &nd, shape));
  for (int i = 0; i < n; i++) {
    const pg_tensor *t = c->in[i];
    if (!t || t->nd != nd || memcmp(t->shape, shape, sizeof *shape * (size_t)nd) != 0) continue;
    if (pg_is_dense(t)) return pg_out_like(c, j, dtype, t);
  }
  return pg_out_shape(c, j, dtype, nd, shape);
}

pg_status pg_out_view(pg_call *c, int j, int nd, const int64_t *shape, const int64_t *stride,
                      int64_t offset) {
  PG_TRY(pg_out_shape(c, j, (pg_dtype)c->in[0]->dtype, nd, shape));
  pg_out *o = &c->os[j];
  o->view = true;
  o->offset = offset;
  for (int i = 0; i < nd; i++) o->stride[i] = stride[i];
  return PG_OK;
}

pg_status pg_want(pg_call *c, int i, unsigned mask) {
  const pg_tensor *t = c->in[i];
  if (!t || (mask >> t->dtype & 1)) return PG_OK;
  if (c->widen == PG_WIDEN_MAY && t->dtype == PG_BF16 && (mask >> PG_F32 & 1)) {
    c->widen = PG_WIDEN_ASKED;
    return PG_EDTYPE;
  }
  char list[96] = "";
  size_t at = 0;
  int left = __builtin_popcount(mask);
  for (int d = 0; d < PG_NDTYPES; d++)
    if (mask >> d & 1) {
      left--;
      at += (size_t)snprintf(list + at, sizeof list - at, "%s%s", pg_dtype_name((pg_dtype)d),
                             left > 1    ? ", "
                             : left == 1 ? " or "
                                         : "");
    }
  return pg_fail(c->ctx, PG_EDTYPE, "argument '%s': expected %s, got %s", pg_in_name(c, i), list,
                 pg_dtype_name((pg_dtype)t->dtype));
}

pg_status pg_want_dim(pg_call *c, int i, int nd) {
  const pg_tensor *t = c->in[i];
  if (!t || t->nd == nd) return PG_OK;
  return pg_bad_in(c, PG_ESHAPE, i, "%d dims", nd);
}

pg_status pg_want_same_dtype(pg_call *c, int i, int j) {
  const pg_tensor *a = c->in[i], *b = c->in[j];
  if (!a || !b || a->dtype == b->dtype) return PG_OK;
  return pg_fail(c->ctx, PG_EDTYPE, "argument '%s': expected %s as '%s', got %s", pg_in_name(c, i),
                 pg_dtype_name((pg_dtype)b->dtype), pg_in_name(c, j),
                 pg_dtype_name((pg_dtype)a->dtype));
}

void pg_cast_in(pg_call *c, int i, pg_dtype dtype) {
  PG_ASSERT(i < PG_MAX_IN);
  if (c->in[i] && c->in[i]->dtype != dtype) c->cast[i] = (unsigned char)(1 + dtype);
}

pg_status pg_want_fit(pg_call *c, const char *name, double v, pg_dtype d) {
  if (d != PG_U8 || (v >= -255 && v <= 255)) return PG_OK;
  return pg_fail(c->ctx, PG_EVALUE,
                 "argument '%s': expected 0 to 255 (or down to -255) for uint8, got %g", name, v);
}

static int rank(pg_dtype d) {
  static const int r[PG_NDTYPES] = {
      [PG_BOOL] = 0, [PG_U8] = 1, [PG_I64] = 2, [PG_BF16] = 3, [PG_F32] = 4, [PG_F64] = 5};
  return r[d];
}
static int category(pg_dtype d) { return d == PG_BOOL ? 0 : pg_is_float(d) ? 2 : 1; }

pg_dtype pg_promote(const pg_call *c, int n) {
  int best[3] = {-1, -1, -1}; /* tensors with dims, 0-dim tensors, numbers */
  for (int i = 0; i < n; i++) {
    const pg_tensor *t = c->in[i];
    if (!t) continue;
    int group = t->is_number ? 2 : t->nd == 0 ? 1 : 0;
    pg_dtype d = (pg_dtype)t->dtype;
    if (t->is_number) d = t->is_bool_number ? PG_BOOL : t->is_int_number ? PG_I64 : PG_F32;
    if (best[group] < 0 || rank(d) > rank((pg_dtype)best[group])) best[group] = d;
  }
  int result = best[0];
  for (int g = 1; g < 3; g++) {
    if (best[g] < 0) continue;
    if (result < 0 || category((pg_dtype)best[g]) > category((pg_dtype)result)) result = best[g];
  }
  return result < 0 ? PG_F32 : (pg_dtype)result;
}

pg_status pg_arg_dim(pg_call *c, int k, int nd, int *dim) {
  return pg_dim(c->ctx, pg_arg_name(c, k), c->arg[k].i, nd, dim);
}

pg_status pg_arg_dims(pg_call *c, int k, int nd, unsigned *mask) {
  const pg_arg *a = &c->arg[k];
  *mask = 0;
  if (!a->set || a->n == 0) {
    *mask = (1u << nd) - 1;
    return PG_OK;
  }
  for (int i = 0; i < a->n; i++) {
    int d;
    PG_TRY(pg_dim(c->ctx, pg_arg_name(c, k), a->v[i], nd, &d));
    if (*mask >> d & 1) return pg_bad_arg(c, PG_EARG, k, "each dim once");
    *mask |= 1u << d;
  }
  if (nd == 0) *mask = 0;
  return PG_OK;
}

pg_status pg_arg_ints(pg_call *c, int k, int n, int64_t least, int64_t *v) {
  const pg_arg *a = &c->arg[k];
  if (a->n != 1 && a->n != n)
    return pg_fail(c->ctx, PG_EARG, "argument '%s': expected one integer or %d, got %d",
                   pg_arg_name(c, k), n, a->n);
  for (int i = 0; i < n; i++) {
    v[i] = a->v[a->n == 1 ? 0 : i];
    if (v[i] < least)
      return pg_fail(c->ctx, PG_EARG, "argument '%s': expected at least %lld, got %lld",
                     pg_arg_name(c, k), (long long)least, (long long)v[i]);
  }
  return PG_OK;
}

pg_status pg_sum_to(pg_ctx *ctx, pg_tensor *g, const pg_meta *m, pg_tensor **out) {
  *out = NULL;
  int lead = g->nd - m->nd;
  int64_t dims[PG_MAX_DIMS];
  int n = 0;
  for (int i = 0; i < g->nd; i++)
    if (i < lead || (m->shape[i - lead] == 1 && g->shape[i] != 1)) dims[n++] = i + 1;
  if (!n) {
    *out = pg_tensor_ref(g);
    return PG_OK;
  }
  pg_tensor *sum;
  PG_TRY(pg_do(ctx, &sum, "sum", "tlb", g, n, dims, 1));
  if (!lead) {
    *out = sum;
    return PG_OK;
  }
  pg_status s = pg_do(ctx, out, "view", "tl", sum, m->nd, m->shape);
  pg_tensor_unref(sum);
  return s;
}
