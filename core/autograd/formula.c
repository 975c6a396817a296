/* The evaluator of gradient formulas: two stacks, operators by precedence, no recursion.
 * Relies on formula.h.
 * Spec: spec/autograd/formula_spec.lua. */
#include "autograd/formula.h"

#include <string.h>

#define DEPTH 24

typedef struct value {
  pg_tensor *t; /* owned; NULL for a number */
  double v;
} value;

typedef struct pending {
  char name[20]; /* op to run; "(" for a parenthesis */
  int rank, args;
  bool call; /* a function: its parenthesis is open */
} pending;

typedef struct formula {
  pg_call *c;
  double p, q;
  int nval, nop;
  value val[DEPTH];
  pending op[DEPTH];
} formula;

static bool is_letter(char ch) { return (ch >= 'a' && ch <= 'z') || ch == '_'; }
static bool is_digit(char ch) { return ch >= '0' && ch <= '9'; }

static double read_number(const char **text) {
  double v = 0, unit = 1;
  const char *s = *text;
  for (; is_digit(*s); s++) v = 10 * v + (*s - '0');
  if (*s == '.')
    for (s++; is_digit(*s); s++) {
      v = 10 * v + (*s - '0');
      unit *= 10;
    }
  *text = s;
  return v / unit;
}

/* Pushes a tensor; one that came from a number is that number again, bfloat16 is computed with in
 * float32. */
static pg_status push_tensor(formula *f, pg_tensor *t) {
  value v = {NULL, 0};
  if (t->is_number) v.v = pg_item_f64(t);
  else if (t->dtype != PG_BF16) v.t = pg_tensor_ref(t);
  else PG_TRY(pg_do(f->c->ctx, &v.t, "to", "ti", t, (int64_t)PG_F32));
  f->val[f->nval++] = v;
  return PG_OK;
}

static pg_status push_variable(formula *f, char name) {
  const pg_call *c = f->c;
  switch (name) {
  case 'g':
    return push_tensor(f, c->gout[0]);
  case 'y':
    return push_tensor(f, c->out[0]);
  case 'x':
  case 'a':
    return push_tensor(f, c->in[0]);
  case 'b':
    return push_tensor(f, c->in[1]);
  case 'c':
    return push_tensor(f, c->in[2]);
  default:
    PG_ASSERT(name == 'p' || name == 'q');
    f->val[f->nval++] = (value){NULL, name == 'p' ? f->p : f->q};
    return PG_OK;
  }
}

static double fold(char op, double a, double b) {
  switch (op) {
  case 'a':
    return a + b;
  case 's':
    return a - b;
  case 'm':
    return a * b;
  case 'd':
    return a / b;
  default:
    return -a;
  }
}

/* Runs the op on top of the stack over its operands. */
static pg_status reduce(formula *f) {
  pg_ctx *ctx = f->c->ctx;
  pending *op = &f->op[--f->nop];
  PG_ASSERT(f->nval >= op->args && op->args <= 3);
  value *v = &f->val[f->nval - op->args];
  bool numbers = !op->call;
  for (int i = 0; i < op->args; i++) numbers = numbers && !v[i].t;
  if (numbers) {
    v[0].v = fold(op->name[0], v[0].v, op->args > 1 ? v[1].v : 0);
    f->nval -= op->args - 1;
    return PG_OK;
  }
  for (int i = 0; i < op->args; i++)
    if (!v[i].t) PG_TRY(pg_tensor_number(ctx, v[i].v, false, &v[i].t));
  static const char *const letters[] = {"", "t", "tt", "ttt"};
  pg_tensor *out;
  PG_TRY(pg_do(ctx, &out, op->name, letters[op->args], v[0].t, op->args > 1 ? v[1].t : NULL,
               op->args > 2 ? v[2].t : NULL));
  for (int i = 0; i < op->args; i++) pg_tensor_unref(v[i].t);
  v[0].t = out;
  f->nval -= op->args - 1;
  return PG_OK;
}

static void push(formula *f, const char *name, size_t len, int rank, int args) {
  PG_ASSERT(f->nop < DEPTH && len < sizeof f->op[0].name);
  pending *op = &f->op[f->nop++];
  memcpy(op->name, name, len);
  op->name[len] = 0;
  op->rank = rank;
  op->args = args;
  op->call = false;
}

/* Reduces down to the innermost open parenthesis. */
static pg_status reduce_to_open(formula *f) {
  while (f->nop && f->op[f->nop - 1].rank) PG_TRY(reduce(f));
  return PG_OK;
}

static pg_status evaluate(formula *f, const char *s) {
  bool operand = true; /* an operand comes next */
  while (*s) {
    const char *start = s;
    if (*s == ' ') {
      s++;
    } else if (is_digit(*s)) {
      f->val[f->nval++] = (value){NULL, read_number(&s)};
      operand = false;
    } else if (is_letter(*s)) {
      while (is_letter(*s) || is_digit(*s)) s++;
      if (*s == '(') {
        push(f, start, (size_t)(s - start), 0, 1);
        f->op[f->nop - 1].call = true;
        s++;
      } else {
        PG_ASSERT(s == start + 1);
        PG_TRY(push_variable(f, *start));
        operand = false;
      }
    } else if (*s == '(') {
      push(f, s++, 1, 0, 0);
    } else if (*s == ',') {
      PG_TRY(reduce_to_open(f));
      f->op[f->nop - 1].args++;
      operand = true;
      s++;
    } else if (*s == ')') {
      PG_TRY(reduce_to_open(f));
      if (f->op[f->nop - 1].call) PG_TRY(reduce(f));
      else f->nop--;
      s++;
    } else if (*s == '-' && operand) {
      push(f, "neg", 3, 3, 1);
      s++;
    } else {
      int rank = *s == '*' || *s == '/' ? 2 : 1;
      while (f->nop && f->op[f->nop - 1].rank >= rank) PG_TRY(reduce(f));
      push(f, *s == '*' ? "mul" : *s == '/' ? "div" : *s == '+' ? "add" : "sub", 3, rank, 2);
      operand = true;
      s++;
    }
    PG_ASSERT(f->nval < DEPTH);
  }
  while (f->nop) PG_TRY(reduce(f));
  return PG_OK;
}

pg_status pg_formula_value(pg_call *c, const char *text, double p, double q, pg_tensor **out) {
  formula f;
  *out = NULL;
  f.c = c;
  f.p = p;
  f.q = q;
  f.nval = f.nop = 0;
  pg_status s = evaluate(&f, text);
  if (s != PG_OK) {
    while (f.nval) pg_tensor_unref(f.val[--f.nval].t);
    return s;
  }
  PG_ASSERT(f.nval == 1 && f.val[0].t);
  *out = f.val[0].t;
  return PG_OK;
}

pg_status pg_formula(pg_call *c, int i, const char *text, double p, double q) {
  return c->need[i] ? pg_formula_value(c, text, p, q, &c->gin[i]) : PG_OK;
}
