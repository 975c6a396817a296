/* Text of a tensor: values in aligned columns, an excerpt of large ones, shape and dtype below.
 * Relies on tensor.h. Spec: spec/tensor/show_spec.lua. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tensor/tensor.h"

#define EDGE     3    /* rows and columns shown at each end of a long dim */
#define SHOW_ALL 1000 /* tensors up to this many elements are shown whole */
#define FIELD    32

typedef struct text {
  pg_ctx *ctx;
  char *s;
  size_t len, room;
  pg_status status;
} text;

static void put(text *t, const char *s, size_t n) {
  if (t->status != PG_OK) return;
  if (t->len + n + 1 > t->room) {
    size_t room = t->room * 2 > t->len + n + 1 ? t->room * 2 : t->len + n + 1;
    void *grown;
    t->status = pg_alloc(t->ctx, room, &grown);
    if (t->status != PG_OK) return;
    if (t->len) memcpy(grown, t->s, t->len);
    pg_free(t->ctx, t->s, t->room);
    t->s = grown;
    t->room = room;
  }
  memcpy(t->s + t->len, s, n);
  t->len += n;
  t->s[t->len] = 0;
}

static void puts_text(text *t, const char *s) { put(t, s, strlen(s)); }

typedef struct style {
  bool whole, science, real;
  int digits, width;
  int edge; /* 0: no dim is shortened */
} style;

static int format(const pg_tensor *t, const style *st, int64_t offset, char *buf) {
  if (t->dtype == PG_BOOL)
    return snprintf(buf, FIELD, "%s", pg_at_i64(t, offset) ? "true" : "false");
  if (!st->real) return snprintf(buf, FIELD, "%lld", (long long)pg_at_i64(t, offset));
  double v = pg_at_f64(t, offset);
  if (v != v) return snprintf(buf, FIELD, "nan");
  if (isinf(v)) return snprintf(buf, FIELD, "%s", v > 0 ? "inf" : "-inf");
  if (st->science) return snprintf(buf, FIELD, "%.*e", st->digits, v);
  if (st->whole) return snprintf(buf, FIELD, "%.0f.", v);
  return snprintf(buf, FIELD, "%.*f", st->digits, v);
}

/* Indices 0 .. shown of a dim of n; a gap stands after the first edge ones. */
static int64_t shown(const style *st, int64_t n) {
  return st->edge && n > 2 * st->edge ? 2 * st->edge : n;
}
static int64_t nth(const style *st, int64_t n, int64_t i) {
  return shown(st, n) == n || i < st->edge ? i : n - shown(st, n) + i;
}

/* Calls the pass over all shown elements in order, by a counter, without recursion. */
static void each(const pg_tensor *t, style *st, text *out) {
  int64_t at[PG_MAX_DIMS] = {0};
  char buf[FIELD];
  int nd = t->nd;
  double least = INFINITY, most = 0;
  for (int i = 0; i < nd; i++)
    if (!t->shape[i]) return;
  for (;;) {
    int64_t offset = 0;
    for (int i = 0; i < nd; i++) offset += nth(st, t->shape[i], at[i]) * t->stride[i];
    if (!out) { /* measuring */
      if (st->real) {
        double v = fabs(pg_at_f64(t, offset));
        if (isfinite(v)) {
          if (v != floor(v)) st->whole = false;
          if (v > most) most = v;
          if (v > 0 && v < least) least = v;
        }
      }
    } else {
      if (nd && at[nd - 1] == 0) {
        int opened = 0;
        while (opened < nd && at[nd - 1 - opened] == 0) opened++;
        for (int i = 0; i < nd - opened; i++) puts_text(out, " ");
        for (int i = 0; i < opened; i++) puts_text(out, "{");
      }
      int n = format(t, st, offset, buf);
      for (int i = n; i < st->width; i++) puts_text(out, " ");
      puts_text(out, buf);
    }
    int d = nd - 1;
    int closed = 0;
    while (d >= 0 && at[d] + 1 == shown(st, t->shape[d])) {
      at[d--] = 0;
      closed++;
    }
    if (out)
      for (int i = 0; i < closed; i++) puts_text(out, "}");
    if (d < 0) break;
    at[d]++;
    if (out) {
      bool gap = shown(st, t->shape[d]) != t->shape[d] && at[d] == st->edge;
      if (d == nd - 1) {
        puts_text(out, gap ? ", ..., " : ", ");
      } else {
        puts_text(out, ",\n");
        for (int i = d; i < nd - 2; i++) puts_text(out, "\n");
        if (gap) {
          for (int i = 0; i <= d; i++) puts_text(out, " ");
          puts_text(out, "...,\n");
        }
      }
    }
  }
  if (!out && st->real) {
    st->science = most > 0 && (most >= 1e8 || (!st->whole && (least < 1e-4 || most / least > 1e7)));
    st->digits = 4;
  }
}

/* Second measuring pass: the widest field. */
static void measure_width(const pg_tensor *t, style *st) {
  int64_t at[PG_MAX_DIMS] = {0};
  char buf[FIELD];
  for (int i = 0; i < t->nd; i++)
    if (!t->shape[i]) return;
  for (;;) {
    int64_t offset = 0;
    for (int i = 0; i < t->nd; i++) offset += nth(st, t->shape[i], at[i]) * t->stride[i];
    int n = format(t, st, offset, buf);
    if (n > st->width) st->width = n;
    int d = t->nd - 1;
    while (d >= 0 && at[d] + 1 == shown(st, t->shape[d])) at[d--] = 0;
    if (d < 0) break;
    at[d]++;
  }
}

pg_status pg_tensor_show(pg_ctx *ctx, const pg_tensor *t, char **out, size_t *len) {
  text txt = {.ctx = ctx};
  *out = NULL;
  *len = 0;
  if (t->storage->device == PG_META) {
    puts_text(&txt, "(no data: shape only)");
  } else if (!pg_numel(t)) {
    puts_text(&txt, "{}");
  } else {
    style st = {.whole = true, .real = pg_is_float((pg_dtype)t->dtype)};
    st.edge = pg_numel(t) > SHOW_ALL ? EDGE : 0;
    each(t, &st, NULL);
    measure_width(t, &st);
    each(t, &st, &txt);
  }
  char tail[320];
  if (t->nd)
    snprintf(tail, sizeof tail, "\n[%s tensor %.*s%s]", pg_dtype_name((pg_dtype)t->dtype),
             (int)(strlen(pg_shape_str(t).s) - 2), pg_shape_str(t).s + 1,
             t->requires_grad ? ", requires_grad" : "");
  else
    snprintf(tail, sizeof tail, "\n[%s scalar%s]", pg_dtype_name((pg_dtype)t->dtype),
             t->requires_grad ? ", requires_grad" : "");
  puts_text(&txt, tail);
  if (txt.status != PG_OK) {
    pg_free(ctx, txt.s, txt.room);
    return txt.status;
  }
  /* The caller frees len + 1 bytes: move to a block of exactly that size. */
  void *exact;
  pg_status s = pg_alloc(ctx, txt.len + 1, &exact);
  if (s == PG_OK) {
    memcpy(exact, txt.s, txt.len + 1);
    *out = exact;
    *len = txt.len;
  }
  pg_free(ctx, txt.s, txt.room);
  return s;
}
