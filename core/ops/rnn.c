/* One direction of one layer of an RNN, LSTM or GRU over a whole sequence. In bfloat16 sums, gates
 * and cells are float32. Relies on vmath.h, pack.h and half.h for the products of each step,
 * product.h and half.h for those over all steps. Spec: spec/ops/rnn_spec.lua. */
#include <math.h>
#include <string.h>

#include "autograd/node.h"
#include "base/par.h"
#include "kernels/bf16.h"
#include "kernels/pack.h"
#include "kernels/vmath.h"
#include "ops/chain.h"
#include "ops/half.h"
#include "ops/product.h"

/* Places of the tensor parameters; only the LSTM has C0. */
enum { X, W_IH, W_HH, B_IH, B_HH, H0, C0 };

typedef enum kind { LSTM, GRU, TANH, RELU } kind;

/* --- kernels: one row of one step --------------------------------------------------------------
 * a row of gates has 4 h elements for the LSTM (i f g o), 4 h for the GRU (r z n, and W_hn h + b_hn
 * by itself), h for the RNN. Tensors, the operands of products and da have elements of one type,
 * sums (gates, cells, gradients of states) of another, which is float32 beside bfloat16. */
typedef struct rnn_kern {
  int64_t size, sum; /* bytes of an element and of a sum */
  int64_t unit;      /* operands have rows of whole units, 0 after their end */
  int64_t (*panel)(void);
  void (*pack)(bool flip, int64_t k, int64_t n, const void *b, int64_t ldb, int64_t begin,
               int64_t end, void *to);
  void (*gemm)(int64_t m, int64_t n, int64_t k, const void *a, int64_t lda, const void *b, bool add,
               void *c, int64_t ldc);
  /* a: sums without bias, then gates. h_old, c_old: the state before; h, c after. room: for 2 n
   * sums. */
  void (*forward)(kind k, int64_t n, void *a, const void *bias, const void *h_old,
                  const void *c_old, void *h, void *c, void *room);
  /* dh: gradient of h without dy, then the part of that of h_old that does not go through W_hh;
   * dc: of c, then of c_old; da: of the sums. dy may be NULL. room: for 6 n sums. */
  void (*backward)(kind k, int64_t n, const void *a, const void *h_old, const void *c_old,
                   const void *h, const void *c, const void *dy, void *dh, void *dc, void *da,
                   void *room);
  void (*add)(int64_t n, void *to, const void *from);    /* elements to sums */
  void (*widen)(int64_t n, void *to, const void *from);  /* sums = elements */
  void (*narrow)(int64_t n, void *to, const void *from); /* elements = sums */
} rnn_kern;

#define RNN(S, T)                                                                                  \
  static int64_t panel_##S(void) { return PG_AT(pgk_panel_##S)(); }                                \
  static void pack_##S(bool flip, int64_t k, int64_t n, const void *b, int64_t ldb, int64_t begin, \
                       int64_t end, void *to) {                                                    \
    PG_AT(pgk_pack_##S)(flip, k, n, b, ldb, begin, end, to);                                       \
  }                                                                                                \
  static void gemm_##S(int64_t m, int64_t n, int64_t k, const void *a, int64_t lda, const void *b, \
                       bool add, void *c, int64_t ldc) {                                           \
    PG_AT(pgk_packed_gemm_##S)(false, m, n, k, a, lda, b, k, add, c, ldc);                         \
  }                                                                                                \
  static void add_##S(int64_t n, void *to, const void *from) {                                     \
    T *restrict y = to;                                                                            \
    const T *restrict x = from;                                                                    \
    for (int64_t j = 0; j < n; j++) y[j] += x[j];                                                  \
  }                                                                                                \
  static void lstm_##S(int64_t n, T *restrict a, const T *restrict b, const T *c_old,              \
                       T *restrict h, T *c) {                                                      \
    PG_IVDEP for (int64_t j = 0; j < n; j++) {                                                     \
      T i = pg_sigmoid_##S(a[j] + b[j]), f = pg_sigmoid_##S(a[n + j] + b[n + j]);                  \
      T g = pg_tanh_##S(a[2 * n + j] + b[2 * n + j]);                                              \
      T o = pg_sigmoid_##S(a[3 * n + j] + b[3 * n + j]);                                           \
      T s = f * c_old[j] + i * g;                                                                  \
      a[j] = i;                                                                                    \
      a[n + j] = f;                                                                                \
      a[2 * n + j] = g;                                                                            \
      a[3 * n + j] = o;                                                                            \
      c[j] = s;                                                                                    \
      h[j] = o * pg_tanh_##S(s);                                                                   \
    }                                                                                              \
  }                                                                                                \
  static void gru_##S(int64_t n, T *restrict a, const T *restrict b, const T *restrict h_old,      \
                      T *restrict h) {                                                             \
    for (int64_t j = 0; j < n; j++) {                                                              \
      T r = pg_sigmoid_##S(a[j] + b[j]), z = pg_sigmoid_##S(a[n + j] + b[n + j]);                  \
      T u = a[3 * n + j] + b[3 * n + j];                                                           \
      T v = pg_tanh_##S(a[2 * n + j] + b[2 * n + j] + r * u);                                      \
      a[j] = r;                                                                                    \
      a[n + j] = z;                                                                                \
      a[2 * n + j] = v;                                                                            \
      a[3 * n + j] = u;                                                                            \
      h[j] = v + z * (h_old[j] - v);                                                               \
    }                                                                                              \
  }                                                                                                \
  static void copy_##S(int64_t n, void *to, const void *from) {                                    \
    memcpy(to, from, sizeof(T) * (size_t)n);                                                       \
  }                                                                                                \
  static void forward_##S(kind k, int64_t n, void *a, const void *bias, const void *h_old,         \
                          const void *c_old, void *h, void *c, void *room) {                       \
    const T *restrict x = a;                                                                       \
    const T *restrict b = bias;                                                                    \
    T *restrict y = h;                                                                             \
    (void)room;                                                                                    \
    if (k == LSTM) lstm_##S(n, a, bias, c_old, h, c);                                              \
    else if (k == GRU) gru_##S(n, a, bias, h_old, h);                                              \
    else if (k == TANH) {                                                                          \
      for (int64_t j = 0; j < n; j++) y[j] = pg_tanh_##S(x[j] + b[j]);                             \
    } else {                                                                                       \
      for (int64_t j = 0; j < n; j++) {                                                            \
        T v = x[j] + b[j];                                                                         \
        y[j] = v < 0 ? 0 : v;                                                                      \
      }                                                                                            \
    }                                                                                              \
  }                                                                                                \
  static void lstm_back_##S(int64_t n, const T *restrict a, const T *restrict c_old,               \
                            const T *restrict c, const T *restrict dh, T *restrict dc,             \
                            T *restrict da) {                                                      \
    for (int64_t j = 0; j < n; j++) {                                                              \
      T i = a[j], f = a[n + j], g = a[2 * n + j], o = a[3 * n + j], t = pg_tanh_##S(c[j]);         \
      T d = dc[j] + dh[j] * o * (1 - t * t);                                                       \
      da[j] = d * g * i * (1 - i);                                                                 \
      da[n + j] = d * c_old[j] * f * (1 - f);                                                      \
      da[2 * n + j] = d * i * (1 - g * g);                                                         \
      da[3 * n + j] = dh[j] * t * o * (1 - o);                                                     \
      dc[j] = d * f;                                                                               \
    }                                                                                              \
  }                                                                                                \
  static void gru_back_##S(int64_t n, const T *restrict a, const T *restrict h_old,                \
                           T *restrict dh, T *restrict da) {                                       \
    for (int64_t j = 0; j < n; j++) {                                                              \
      T r = a[j], z = a[n + j], v = a[2 * n + j], u = a[3 * n + j];                                \
      T dv = dh[j] * (1 - z) * (1 - v * v);                                                        \
      da[j] = dv * u * r * (1 - r);                                                                \
      da[n + j] = dh[j] * (h_old[j] - v) * z * (1 - z);                                            \
      da[2 * n + j] = dv;                                                                          \
      da[3 * n + j] = dv * r;                                                                      \
      dh[j] *= z;                                                                                  \
    }                                                                                              \
  }                                                                                                \
  static void backward_##S(kind k, int64_t n, const void *a, const void *h_old, const void *c_old, \
                           const void *h, const void *c, const void *dy, void *dh, void *dc,       \
                           void *da, void *room) {                                                 \
    const T *restrict y = h;                                                                       \
    T *restrict d = dh;                                                                            \
    T *restrict to = da;                                                                           \
    (void)room;                                                                                    \
    if (dy) add_##S(n, dh, dy);                                                                    \
    if (k == GRU) {                                                                                \
      gru_back_##S(n, a, h_old, dh, da);                                                           \
      return;                                                                                      \
    }                                                                                              \
    if (k == LSTM) lstm_back_##S(n, a, c_old, c, dh, dc, da);                                      \
    else if (k == TANH) {                                                                          \
      for (int64_t j = 0; j < n; j++) to[j] = d[j] * (1 - y[j] * y[j]);                            \
    } else {                                                                                       \
      for (int64_t j = 0; j < n; j++) to[j] = y[j] > 0 ? d[j] : 0;                                 \
    }                                                                                              \
    memset(d, 0, sizeof(T) * (size_t)n);                                                           \
  }
RNN(f32, float)
RNN(f64, double)

static void pack_bf16(bool flip, int64_t k, int64_t n, const void *b, int64_t ldb, int64_t begin,
                      int64_t end, void *to) {
  PG_AT(pgk_half_kern_of)()->pack(flip, false, k, n, b, ldb, begin, end, to);
}
static void gemm_bf16(int64_t m, int64_t n, int64_t k, const void *a, int64_t lda, const void *b,
                      bool add, void *c, int64_t ldc) {
  const int64_t words = (k + 1) / 2;
  PG_AT(pgk_half_kern_of)()->gemm(false, m, n, words, a, lda / 2, b, words, add, c, ldc);
}
static int64_t panel_bf16(void) { return PGK_HALF_PANEL; }
static void add_bf16(int64_t n, void *to, const void *from) {
  float *restrict y = to;
  const uint16_t *restrict x = from;
  for (int64_t j = 0; j < n; j++) y[j] += pg_bf16_f32(x[j]);
}
static void widen_bf16(int64_t n, void *to, const void *from) {
  float *restrict y = to;
  const uint16_t *restrict x = from;
  for (int64_t j = 0; j < n; j++) y[j] = pg_bf16_f32(x[j]);
}
static void narrow_bf16(int64_t n, void *to, const void *from) {
  uint16_t *restrict y = to;
  const float *restrict x = from;
  for (int64_t j = 0; j < n; j++) y[j] = pg_f32_bf16(x[j]);
}
static void forward_bf16(kind k, int64_t n, void *a, const void *bias, const void *h_old,
                         const void *c_old, void *h, void *c, void *room) {
  float *after = room, *before = after + n;
  if (k == GRU) widen_bf16(n, before, h_old);
  forward_f32(k, n, a, bias, before, c_old, after, c, NULL);
  narrow_bf16(n, h, after);
}
static void backward_bf16(kind k, int64_t n, const void *a, const void *h_old, const void *c_old,
                          const void *h, const void *c, const void *dy, void *dh, void *dc,
                          void *da, void *room) {
  float *state = room, *g = state + n, *to = g + n;
  const int64_t row = k == LSTM || k == GRU ? 4 * n : n;
  if (k != LSTM) widen_bf16(n, state, k == GRU ? h_old : h);
  if (dy) widen_bf16(n, g, dy);
  backward_f32(k, n, a, state, c_old, state, c, dy ? g : NULL, dh, dc, to, NULL);
  narrow_bf16(row, da, to);
}

#define KERN(S, T, U, unit, widen, narrow)                                                         \
  {                                                                                                \
    sizeof(T), sizeof(U), unit, panel_##S, pack_##S, gemm_##S, forward_##S, backward_##S, add_##S, \
        widen, narrow                                                                              \
  }
static const rnn_kern kerns[PG_NDTYPES] = {
    [PG_F32] = KERN(f32, float, float, 1, copy_f32, copy_f32),
    [PG_F64] = KERN(f64, double, double, 1, copy_f64, copy_f64),
    [PG_BF16] = KERN(bf16, uint16_t, float, 2, widen_bf16, narrow_bf16)};

/* --- a run over the sequence -------------------------------------------------------------------
 */

/* Part of the product of a step: columns from.. of the operand's row times a packed matrix. */
typedef struct part {
  bool hidden; /* forward: the operand is h, else x. backward: the result is dh, else dx */
  bool add;
  int64_t k, n, from, to; /* from: in the operand; to: first column of the result */
  bool flip;
  const char *weight;
  char *packed;
} part;

typedef struct run {
  pg_ctx *ctx;
  const rnn_kern *kern;
  kind kind;
  bool reverse, keep;
  int64_t size, sum;                       /* bytes of an element, of a sum */
  int64_t steps, batch, in, h, gates, row; /* gates: rows of the weights; row: of a kept row */
  int64_t grain;                           /* samples of a chunk, which goes through all steps */
  int64_t pad;                             /* row length of the scratch operand */
  int parts;
  part part[3];
  const char *x, *h0, *c0, *bias;
  char *y, *hn, *cn, *saved, *cells; /* saved: steps x batch x row, cells: steps x batch x h */
  const char *dy, *dhn, *dcn;
  char *dx, *dh0, *dc0, *da;
  char *block, *scratch; /* one block: packed weights, bias, then scratch of every chunk */
  size_t bytes, chunk_bytes, operand_bytes;
} run;

static int64_t step_at(const run *r, int64_t i) { return r->reverse ? r->steps - 1 - i : i; }

static int64_t whole(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }
static size_t line(size_t bytes) { return (bytes + 63) & ~(size_t)63; }

static void fill_run(pg_call *c, kind k, run *r) {
  const pg_meta *x = &c->meta[X], *w = &c->meta[W_IH];
  memset(r, 0, sizeof *r);
  r->ctx = c->ctx;
  r->kern = &kerns[x->dtype];
  r->kind = k;
  r->size = r->kern->size;
  r->sum = r->kern->sum;
  r->steps = x->shape[0];
  r->batch = x->shape[1];
  r->in = x->shape[2];
  r->gates = w->shape[0];
  r->h = c->meta[W_HH].shape[1];
  r->row = k == LSTM || k == GRU ? 4 * r->h : r->h;
  r->grain = r->batch >= 64 ? 32 : r->batch >= 32 ? 16 : r->batch >= 16 ? 8 : pg_max64(r->batch, 1);
}

/* Rows of W_hh in two parts for the GRU, whose n gate keeps W_hn h apart. */
static void forward_parts(run *r, const char *w_ih, const char *w_hh) {
  int64_t rows = r->kind == GRU ? 2 * r->h : r->gates;
  r->part[0] = (part){.k = r->in, .n = r->gates, .flip = true, .weight = w_ih};
  r->part[1] =
      (part){.hidden = true, .add = true, .k = r->h, .n = rows, .flip = true, .weight = w_hh};
  r->parts = 2;
  if (r->kind != GRU) return;
  r->part[r->parts++] = (part){.hidden = true,
                               .k = r->h,
                               .n = r->h,
                               .to = 3 * r->h,
                               .flip = true,
                               .weight = w_hh + rows * r->h * r->size};
}

static void backward_parts(run *r, const char *w_ih, const char *w_hh) {
  int64_t rows = r->kind == GRU ? 2 * r->h : r->gates;
  r->parts = 0;
  if (r->dx && r->size == r->sum) /* else one product of all steps */
    r->part[r->parts++] = (part){.k = r->gates, .n = r->in, .weight = w_ih};
  r->part[r->parts++] = (part){.hidden = true, .add = true, .k = rows, .n = r->h, .weight = w_hh};
  if (r->kind != GRU) return;
  r->part[r->parts++] = (part){.hidden = true,
                               .add = true,
                               .k = r->h,
                               .n = r->h,
                               .from = whole(3 * r->h, r->kern->unit),
                               .weight = w_hh + rows * r->h * r->size};
}

typedef struct packing {
  const run *r;
  const part *p;
} packing;

static void pack_panels(void *arg, int64_t begin, int64_t end) {
  const packing *g = arg;
  const part *p = g->p;
  g->r->kern->pack(p->flip, p->k, p->n, p->weight, p->flip ? p->k : p->n, begin, end, p->packed);
}

/* Takes the block and packs the weights. width: longest operand of a part; extra: sums of a chunk's
 * scratch per sample; the chunk has a row of zeros and room for a row's kernel besides. */
static pg_status open_run(run *r, int64_t width, int64_t extra) {
  int64_t panel = r->kern->panel(), unit = r->kern->unit;
  size_t size = (size_t)r->size, at[3];
  r->bytes = line((size_t)(r->sum * r->row));
  for (int i = 0; i < r->parts; i++) {
    const part *p = &r->part[i];
    at[i] = r->bytes;
    r->bytes += line(size * (size_t)(whole(p->n, panel) * whole(p->k, unit)));
  }
  size_t scratch_at = r->bytes;
  r->pad = whole(width, unit) + 64 / r->size;
  r->operand_bytes = line(size * (size_t)(r->grain * r->pad));
  r->chunk_bytes = r->operand_bytes + line((size_t)(r->sum * (r->grain * extra + 8 * r->h)));
  r->bytes += r->chunk_bytes * (size_t)((r->batch + r->grain - 1) / r->grain);
  PG_TRY(pg_alloc(r->ctx, r->bytes, (void **)&r->block));
  r->scratch = r->block + scratch_at;
  r->bias = r->block;
  for (int i = 0; i < r->parts; i++) {
    part *p = &r->part[i];
    p->packed = r->block + at[i];
    packing g = {r, p};
    pg_par_for(r->ctx, whole(p->n, panel) / panel, pg_grain(4 * p->k * panel), pack_panels, &g);
  }
  return PG_OK;
}

static void close_run(run *r) { pg_free(r->ctx, r->block, r->bytes); }

/* to = n elements, and 0 up to a whole unit. */
static void put_operand(const run *r, char *to, const char *from, int64_t n) {
  memcpy(to, from, (size_t)(n * r->size));
  memset(to + n * r->size, 0, (size_t)((whole(n, r->kern->unit) - n) * r->size));
}

/* Cells before the first step as sums: the caller's, or widened into `room`; NULL: zeros. */
static const char *first_cells(const run *r, int64_t begin, int64_t m, char *room) {
  if (!r->c0) return NULL;
  const char *given = r->c0 + begin * r->h * r->size;
  if (r->size == r->sum) return given;
  r->kern->widen(m * r->h, room, given);
  return room;
}

/* Samples [begin, end) of the batch through all steps. */
static void forward_chunk(void *arg, int64_t begin, int64_t end) {
  const run *r = arg;
  int64_t m = end - begin, size = r->size, sum = r->sum, h = r->h;
  char *operand = r->scratch + r->chunk_bytes * (size_t)(begin / r->grain);
  char *zero = operand + r->operand_bytes, *room = zero + h * sum, *cells_room = room + 7 * h * sum;
  char *own = cells_room + m * h * sum; /* gates where nothing is kept */
  const char *c_first = first_cells(r, begin, m, cells_room);
  memset(zero, 0, (size_t)(h * sum));
  for (int64_t i = 0; i < r->steps; i++) {
    int64_t t = step_at(r, i), before = r->reverse ? t + 1 : t - 1;
    const char *h_old = i       ? r->y + (before * r->batch + begin) * h * size
                        : r->h0 ? r->h0 + begin * h * size
                                : zero;
    const char *c_old = c_first ? c_first : zero;
    if (r->cells && i) c_old = r->cells + ((r->keep ? before : 0) * r->batch + begin) * h * sum;
    int64_t h_step = i || r->h0 ? h * size : 0, c_step = c_old == zero ? 0 : h * sum;
    char *a = r->keep ? r->saved + (t * r->batch + begin) * r->row * sum : own;
    const part *last = NULL;
    for (const part *p = r->part; p < r->part + r->parts; p++) {
      if (!last || last->hidden != p->hidden)
        for (int64_t q = 0; q < m; q++)
          put_operand(r, operand + q * r->pad * size,
                      p->hidden ? h_old + q * h_step
                                : r->x + ((t * r->batch + begin + q) * r->in) * size,
                      p->k);
      last = p;
      r->kern->gemm(m, p->n, p->k, operand, r->pad, p->packed, p->add, a + p->to * sum, r->row);
    }
    char *y = r->y + (t * r->batch + begin) * h * size;
    char *cells = r->cells ? r->cells + ((r->keep ? t : 0) * r->batch + begin) * h * sum : NULL;
    for (int64_t q = 0; q < m; q++)
      r->kern->forward(r->kind, h, a + q * r->row * sum, r->bias, h_old + q * h_step,
                       c_old + q * c_step, y + q * h * size, cells ? cells + q * h * sum : NULL,
                       room);
  }
  int64_t t = step_at(r, r->steps - 1);
  memcpy(r->hn + begin * h * size, r->y + (t * r->batch + begin) * h * size,
         (size_t)(m * h * size));
  if (r->cn)
    r->kern->narrow(m * h, r->cn + begin * h * size,
                    r->cells + ((r->keep ? t : 0) * r->batch + begin) * h * sum);
}

static void backward_chunk(void *arg, int64_t begin, int64_t end) {
  const run *r = arg;
  int64_t m = end - begin, size = r->size, sum = r->sum, h = r->h;
  const int64_t apart = r->kind == GRU ? 3 * h : r->row; /* what follows has a place of its own */
  const int64_t rest = whole(apart, r->kern->unit);
  size_t state = (size_t)(m * h * sum);
  char *operand = r->scratch + r->chunk_bytes * (size_t)(begin / r->grain);
  char *zero = operand + r->operand_bytes, *room = zero + h * sum, *cells_room = room + 7 * h * sum;
  char *dh = cells_room + state, *dc = dh + state;
  const char *c_first = first_cells(r, begin, m, cells_room);
  memset(zero, 0, (size_t)(h * sum));
  memset(dh, 0, 2 * state);
  if (r->dhn) r->kern->widen(m * h, dh, r->dhn + begin * h * size);
  if (r->dcn) r->kern->widen(m * h, dc, r->dcn + begin * h * size);
  for (int64_t i = r->steps - 1; i >= 0; i--) {
    int64_t t = step_at(r, i), before = r->reverse ? t + 1 : t - 1;
    int64_t at = t * r->batch + begin, old = before * r->batch + begin;
    const char *h_old = i ? r->y + old * h * size : r->h0 ? r->h0 + begin * h * size : zero;
    const char *c_old = c_first ? c_first : zero;
    if (r->cells && i) c_old = r->cells + old * h * sum;
    int64_t h_step = i || r->h0 ? h * size : 0, c_step = c_old == zero ? 0 : h * sum;
    for (int64_t q = 0; q < m; q++) {
      char *da = r->da + (at + q) * r->row * size, *to = operand + q * r->pad * size;
      r->kern->backward(r->kind, h, r->saved ? r->saved + (at + q) * r->row * sum : NULL,
                        h_old + q * h_step, c_old + q * c_step, r->y + (at + q) * h * size,
                        r->cells ? r->cells + (at + q) * h * sum : NULL,
                        r->dy ? r->dy + (at + q) * h * size : NULL, dh + q * h * sum,
                        dc + q * h * sum, da, room);
      put_operand(r, to, da, apart);
      if (apart < r->row) put_operand(r, to + rest * size, da + apart * size, r->row - apart);
    }
    for (const part *p = r->part; p < r->part + r->parts; p++)
      r->kern->gemm(m, p->n, p->k, operand + p->from * size, r->pad, p->packed, p->add,
                    p->hidden ? dh : r->dx + at * r->in * size, p->n);
  }
  if (r->dh0) r->kern->narrow(m * h, r->dh0 + begin * h * size, dh);
  if (r->dc0) r->kern->narrow(m * h, r->dc0 + begin * h * size, dc);
}

/* --- infer -------------------------------------------------------------------------------------
 */

static pg_status want_shape(pg_call *c, int i, const char *what, int nd, const int64_t *shape) {
  const pg_tensor *t = c->in[i];
  if (!t) return PG_OK;
  PG_TRY(pg_want_same_dtype(c, i, X));
  if (t->nd == nd && memcmp(t->shape, shape, sizeof *shape * (size_t)nd) == 0) return PG_OK;
  return pg_fail(c->ctx, PG_ESHAPE, "argument '%s': expected %s %s, got %s", pg_in_name(c, i), what,
                 pg_shape_str_of(nd, shape).s, pg_shape_str(t).s);
}

static pg_status infer(pg_call *c, kind k) {
  const pg_tensor *x = c->in[X], *w = c->in[W_HH];
  PG_TRY(pg_want(c, X, pg__half_dtypes(c->in[X])));
  if (x->nd != 3)
    return pg_fail(c->ctx, PG_ESHAPE, "argument 'input': expected steps x batch x features, got %s",
                   pg_shape_str(x).s);
  if (x->shape[0] < 1)
    return pg_fail(c->ctx, PG_ESHAPE, "argument 'input': expected at least one step, got %s",
                   pg_shape_str(x).s);
  PG_TRY(pg_want_dim(c, W_HH, 2));
  int64_t h = w->shape[1], gates = k == LSTM ? 4 * h : k == GRU ? 3 * h : h, batch = x->shape[1];
  PG_TRY(want_shape(c, W_HH, "gates x hidden", 2, (int64_t[]){gates, h}));
  PG_TRY(want_shape(c, W_IH, "gates x features", 2, (int64_t[]){gates, x->shape[2]}));
  PG_TRY(want_shape(c, B_IH, "gates", 1, &gates));
  PG_TRY(want_shape(c, B_HH, "gates", 1, &gates));
  PG_TRY(want_shape(c, H0, "batch x hidden", 2, (int64_t[]){batch, h}));
  if (k == LSTM) PG_TRY(want_shape(c, C0, "batch x hidden", 2, (int64_t[]){batch, h}));
  pg_dtype d = (pg_dtype)x->dtype;
  PG_TRY(pg_out_shape(c, 0, d, 3, (int64_t[]){x->shape[0], batch, h}));
  for (int j = 1; j < c->op->nout; j++) PG_TRY(pg_out_shape(c, j, d, 2, (int64_t[]){batch, h}));
  return PG_OK;
}

/* --- forward and backward ----------------------------------------------------------------------
 */

/* Contiguous forms of the inputs; owned. */
static pg_status dense_inputs(pg_call *c, pg_tensor **dense) {
  for (int i = 0; i < c->nin; i++)
    if (c->in[i]) PG_TRY(pg__contiguous(c->ctx, c->in[i], &dense[i]));
  return PG_OK;
}
static void drop_all(int n, pg_tensor **t) {
  for (int i = 0; i < n; i++) pg_tensor_unref(t[i]);
}
static void *data_of(const pg_tensor *t) { return t ? pg_data(t) : NULL; }

/* The biases of a row of gates, summed where their gates' sums are. */
static void fill_bias(run *r, const pg_tensor *b_ih, const pg_tensor *b_hh) {
  char *bias = r->block;
  int64_t apart = r->kind == GRU ? 2 * r->h : r->gates, sum = r->sum;
  memset(bias, 0, (size_t)(r->row * sum));
  if (b_ih) r->kern->add(r->gates, bias, pg_data(b_ih));
  if (!b_hh) return;
  const char *from = pg_data(b_hh);
  r->kern->add(apart, bias, from);
  if (r->kind == GRU) r->kern->add(r->h, bias + 3 * r->h * sum, from + apart * r->size);
}

static pg_status forward(pg_call *c, kind k) {
  pg_tensor *in[PG_MAX_IN] = {0}, *saved = NULL, *cells = NULL;
  pg_meta meta[PG_MAX_IN];
  run r;
  for (int i = 0; i <= W_HH; i++) {
    meta[i] = (pg_meta){.dtype = c->in[i]->dtype, .nd = c->in[i]->nd};
    memcpy(meta[i].shape, c->in[i]->shape, sizeof meta[i].shape);
  }
  c->meta = meta;
  fill_run(c, k, &r);
  r.keep = c->recording && (k == LSTM || k == GRU);
  r.reverse = c->arg[0].i;
  pg_dtype d = r.size == r.sum ? (pg_dtype)c->in[X]->dtype : PG_F32; /* of sums */
  pg_status s = dense_inputs(c, in);
  if (s == PG_OK && r.keep)
    s = pg_tensor_new(c->ctx, d, 3, (int64_t[]){r.steps, r.batch, r.row}, &saved);
  if (s == PG_OK && k == LSTM)
    s = pg_tensor_new(c->ctx, d, 3, (int64_t[]){r.keep ? r.steps : 1, r.batch, r.h}, &cells);
  if (s != PG_OK) goto done;
  forward_parts(&r, pg_data(in[W_IH]), pg_data(in[W_HH]));
  s = open_run(&r, pg_max64(r.in, r.h), (r.keep ? 0 : r.row) + r.h);
  if (s != PG_OK) goto done;
  fill_bias(&r, in[B_IH], in[B_HH]);
  r.x = pg_data(in[X]);
  r.h0 = data_of(in[H0]);
  r.c0 = k == LSTM ? data_of(in[C0]) : NULL;
  r.y = pg_data(c->out[0]);
  r.hn = pg_data(c->out[1]);
  r.cn = k == LSTM ? pg_data(c->out[2]) : NULL;
  r.saved = data_of(saved);
  r.cells = data_of(cells);
  pg_par_for(c->ctx, r.batch, r.grain, forward_chunk, &r);
  close_run(&r);
  if (c->recording) {
    c->keep[0] = saved;
    c->keep[1] = cells;
    saved = cells = NULL;
  }
done:
  c->meta = NULL;
  pg_tensor_unref(cells);
  pg_tensor_unref(saved);
  drop_all(PG_MAX_IN, in);
  return s;
}

/* c = op(a) b, + c for add, of elements: into sums, or for narrow into elements. */
static pg_status multiply(const run *r, bool ta, bool add, bool narrow, int64_t m, int64_t n,
                          int64_t k, const char *a, int64_t lda, const char *b, char *c) {
  const int64_t ld = pg_max64(n, 1);
  if (r->size != r->sum) {
    const pgk_half_kern *kern = PG_AT(pgk_half_kern_of)();
    pgk_half p = {.ta = ta,
                  .add = add,
                  .c_wide = !narrow,
                  .m = m,
                  .n = n,
                  .k = k,
                  .a = a,
                  .lda = lda,
                  .b = b,
                  .ldb = ld,
                  .c = c,
                  .ldc = ld};
    if (k == 0 && !add) memset(c, 0, (size_t)(m * n * (narrow ? r->size : r->sum)));
    return pg__half_shared(r->ctx, kern, &p);
  }
  pgk_product p = {.ta = ta,
                   .add = add,
                   .m = m,
                   .n = n,
                   .k = k,
                   .a = a,
                   .lda = lda,
                   .b = b,
                   .ldb = ld,
                   .c = c,
                   .ldc = ld};
  return pg__product(r->ctx, r->size == 4 ? PG_F32 : PG_F64, &p);
}

/* dst [rows x n] (+)= da[.., from..from + rows]^T b over count rows of da and b. */
static pg_status weight_part(const run *r, char *dst, int64_t from, int64_t rows, int64_t first,
                             int64_t count, const char *b, int64_t n, bool add) {
  return multiply(r, true, add, false, rows, n, count, r->da + (first * r->row + from) * r->size,
                  r->row, b, dst);
}

/* dW_hh: steps but the first meet the states before them in y, the first meets h0. */
static pg_status hidden_gradient(const run *r, char *dst, int64_t from, int64_t rows) {
  int64_t later = (r->steps - 1) * r->batch, size = r->size;
  PG_TRY(weight_part(r, dst, from, rows, r->reverse ? 0 : r->batch, later,
                     r->y + (r->reverse ? r->batch * r->h * size : 0), r->h, false));
  if (!r->h0) return PG_OK;
  return weight_part(r, dst, from, rows, r->reverse ? later : 0, r->batch, r->h0, r->h, true);
}

/* Gradients of weights and biases are sums, others elements. */
static pg_status new_grad(pg_call *c, int i) {
  const pg_meta *m = &c->meta[i];
  const bool wide = m->dtype == PG_BF16 && i >= W_IH && i <= B_HH;
  return pg_tensor_new(c->ctx, wide ? PG_F32 : (pg_dtype)m->dtype, m->nd, m->shape, &c->gin[i]);
}

typedef struct bias_job {
  const run *r;
  int64_t from;
  char *dst;
} bias_job;

static void bias_columns(void *arg, int64_t begin, int64_t end) {
  const bias_job *j = arg;
  const run *r = j->r;
  char *dst = j->dst + begin * r->sum;
  memset(dst, 0, (size_t)((end - begin) * r->sum));
  for (int64_t q = 0; q < r->steps * r->batch; q++)
    r->kern->add(end - begin, dst, r->da + (q * r->row + j->from + begin) * r->size);
}

/* dst [n] = sum over all rows of da's columns [from, from + n). */
static void bias_part(const run *r, char *dst, int64_t from, int64_t n) {
  bias_job j = {r, from, dst};
  pg_par_for(r->ctx, n, pg_max64(32, pg_grain(r->steps * r->batch)), bias_columns, &j);
}

static pg_status weight_gradients(pg_call *c, const run *r) {
  int64_t apart = r->kind == GRU ? 2 * r->h : r->gates, size = r->sum;
  if (c->need[W_IH])
    PG_TRY(weight_part(r, pg_data(c->gin[W_IH]), 0, r->gates, 0, r->steps * r->batch, r->x, r->in,
                       false));
  if (c->need[W_HH]) {
    char *dst = pg_data(c->gin[W_HH]);
    PG_TRY(hidden_gradient(r, dst, 0, apart));
    if (r->kind == GRU) PG_TRY(hidden_gradient(r, dst + apart * r->h * size, 3 * r->h, r->h));
  }
  if (c->need[B_IH]) bias_part(r, pg_data(c->gin[B_IH]), 0, r->gates);
  if (!c->need[B_HH]) return PG_OK;
  char *dst = pg_data(c->gin[B_HH]);
  if (c->need[B_IH]) memcpy(dst, pg_data(c->gin[B_IH]), (size_t)(apart * size));
  else bias_part(r, dst, 0, apart);
  if (r->kind == GRU) bias_part(r, dst + apart * size, 3 * r->h, r->h);
  return PG_OK;
}

/* --- the same from ops: for gradients that are differentiated again ----------------------------
 */

static pg_tensor *gate(pg_chain *q, const char *fn, pg_tensor *sums, int64_t i, int64_t h) {
  pg_tensor *some = PG_STEP(q, "narrow", "tiii", sums, (int64_t)2, i * h + 1, h);
  return fn ? PG_STEP(q, fn, "t", some) : some;
}

/* state[0] = h and for the LSTM state[1] = c after a step; a: W x + b of the step. */
static pg_status step_of_ops(pg_call *c, kind k, pg_tensor *const *in, pg_tensor *a,
                             pg_tensor **state) {
  pg_chain q = {.ctx = c->ctx};
  const int64_t h = c->meta[W_HH].shape[1];
  pg_tensor *b = PG_STEP(&q, "linear", "ttt", state[0], in[W_HH], in[B_HH]);
  pg_tensor *after[2] = {NULL, NULL};
  if (k == GRU) {
    pg_tensor *u = gate(&q, NULL, b, 2, h);
    pg_tensor *gates =
        PG_STEP(&q, "add", "tt", gate(&q, NULL, a, 0, 2 * h), gate(&q, NULL, b, 0, 2 * h));
    pg_tensor *r = gate(&q, "sigmoid", gates, 0, h), *z = gate(&q, "sigmoid", gates, 1, h);
    pg_tensor *v =
        PG_STEP(&q, "add", "tt", gate(&q, NULL, a, 2, h), PG_STEP(&q, "mul", "tt", r, u));
    v = PG_STEP(&q, "tanh", "t", v);
    pg_tensor *kept = PG_STEP(&q, "mul", "tt", z, PG_STEP(&q, "sub", "tt", state[0], v));
    after[0] = PG_STEP(&q, "add", "tt", v, kept);
  } else {
    pg_tensor *sums = PG_STEP(&q, "add", "tt", a, b);
    if (k == LSTM) {
      pg_tensor *i = gate(&q, "sigmoid", sums, 0, h), *f = gate(&q, "sigmoid", sums, 1, h);
      pg_tensor *g = gate(&q, "tanh", sums, 2, h), *o = gate(&q, "sigmoid", sums, 3, h);
      pg_tensor *kept = PG_STEP(&q, "mul", "tt", f, state[1]);
      after[1] = PG_STEP(&q, "add", "tt", kept, PG_STEP(&q, "mul", "tt", i, g));
      after[0] = PG_STEP(&q, "mul", "tt", o, PG_STEP(&q, "tanh", "t", after[1]));
    } else {
      after[0] = PG_STEP(&q, k == RELU ? "relu" : "tanh", "t", sums);
    }
  }
  for (int j = 0; j < 2 && q.status == PG_OK; j++) {
    pg_tensor *old = state[j];
    state[j] = pg_tensor_ref(after[j]);
    pg_tensor_unref(old);
  }
  return pg_chain_end(&q);
}

/* Runs the sequence from in, and puts every output that has a gradient beside that: owned. */
static pg_status run_of_ops(pg_call *c, kind k, pg_tensor *const *in, pg_tensor **state, int *n,
                            pg_tensor **root, pg_tensor **grad) {
  pg_tensor *sums = NULL, *a = NULL;
  const int64_t steps = c->meta[X].shape[0];
  pg_status s = pg_do(c->ctx, &sums, "linear", "ttt", in[X], in[W_IH], in[B_IH]);
  for (int64_t i = 0; i < steps && s == PG_OK; i++) {
    const int64_t at = c->arg[0].i ? steps - i : i + 1;
    s = pg_do(c->ctx, &a, "select", "tii", sums, (int64_t)1, at);
    if (s == PG_OK) s = step_of_ops(c, k, in, a, state);
    pg_tensor_unref(a);
    a = NULL;
    if (s != PG_OK || !c->gout[0]) continue;
    s = pg_do(c->ctx, &grad[*n], "select", "tii", c->gout[0], (int64_t)1, at);
    if (s == PG_OK) root[(*n)++] = pg_tensor_ref(state[0]);
  }
  for (int j = 1; j < c->nout && s == PG_OK; j++) {
    if (!c->gout[j]) continue;
    grad[*n] = pg_tensor_ref(c->gout[j]);
    root[(*n)++] = pg_tensor_ref(state[j - 1]);
  }
  pg_tensor_unref(sums);
  return s;
}

/* The gradient of the run from ops at views of the inputs, through which it flows on. */
static pg_status backward_of_ops(pg_call *c, kind k) {
  pg_tensor *in[PG_MAX_IN] = {0}, *state[2] = {NULL, NULL}, *from[PG_MAX_IN], *to[PG_MAX_IN];
  pg_tensor **root = NULL;
  const int64_t most = c->meta[X].shape[0] + PG_MAX_OUT;
  const size_t bytes = 2 * (size_t)most * sizeof *root;
  const pg_meta *x = &c->meta[X];
  int place[PG_MAX_IN], n = 0, count = 0;
  pg_status s = pg_alloc(c->ctx, bytes, (void **)&root);
  if (s != PG_OK) return s;
  memset(root, 0, bytes);
  for (int i = 0; i < c->nin && s == PG_OK; i++) {
    if (!c->in[i]) continue;
    s = pg_do(c->ctx, &in[i], "view", "tl", c->in[i], (int)c->in[i]->nd, c->in[i]->shape);
    if (!c->need[i] || s != PG_OK) continue;
    place[count] = i;
    from[count++] = in[i];
  }
  for (int j = 0; j < (k == LSTM ? 2 : 1) && s == PG_OK; j++) {
    if (in[H0 + j]) state[j] = pg_tensor_ref(in[H0 + j]);
    else
      s = pg_do(c->ctx, &state[j], "zeros", "li", 2,
                (int64_t[]){x->shape[1], c->meta[W_HH].shape[1]}, (int64_t)x->dtype);
  }
  if (s == PG_OK) s = run_of_ops(c, k, in, state, &n, root, root + most);
  if (s == PG_OK) s = pg_grad(c->ctx, n, root, root + most, count, from, true, true, to);
  for (int i = 0; i < count && s == PG_OK; i++) c->gin[place[i]] = to[i];
  drop_all((int)(2 * most), root);
  pg_free(c->ctx, root, bytes);
  drop_all(2, state);
  drop_all(PG_MAX_IN, in);
  return s;
}

static pg_status backward(pg_call *c, kind k) {
  if (c->recording) return backward_of_ops(c, k);
  pg_tensor *in[PG_MAX_IN] = {0}, *g[PG_MAX_OUT] = {0}, *da = NULL;
  run r;
  fill_run(c, k, &r);
  r.reverse = c->arg[0].i;
  pg_status s = dense_inputs(c, in);
  for (int j = 0; j < c->nout && s == PG_OK; j++)
    if (c->gout[j]) s = pg__contiguous(c->ctx, c->gout[j], &g[j]);
  for (int i = 0; i < c->nin && s == PG_OK; i++)
    if (c->need[i]) s = new_grad(c, i);
  if (s == PG_OK)
    s = pg_tensor_new(c->ctx, (pg_dtype)c->meta[X].dtype, 3, (int64_t[]){r.steps, r.batch, r.row},
                      &da);
  if (s != PG_OK) goto done;
  r.dx = data_of(c->gin[X]);
  backward_parts(&r, pg_data(in[W_IH]), pg_data(in[W_HH]));
  s = open_run(&r, whole(r.row, 2) + 2, 3 * r.h);
  if (s != PG_OK) goto done;
  r.x = pg_data(in[X]);
  r.h0 = data_of(in[H0]);
  r.y = pg_data(c->out[0]);
  r.saved = data_of(c->keep[0]);
  r.cells = data_of(c->keep[1]);
  r.da = pg_data(da);
  r.dy = data_of(g[0]);
  r.dhn = data_of(g[1]);
  r.dh0 = data_of(c->gin[H0]);
  if (k == LSTM) {
    r.c0 = data_of(in[C0]);
    r.dcn = data_of(g[2]);
    r.dc0 = data_of(c->gin[C0]);
  }
  pg_par_for(c->ctx, r.batch, r.grain, backward_chunk, &r);
  close_run(&r);
  s = weight_gradients(c, &r);
  if (s == PG_OK && r.dx && r.size != r.sum)
    s = multiply(&r, false, false, true, r.steps * r.batch, r.in, r.gates, r.da, r.row,
                 pg_data(in[W_IH]), r.dx);
done:
  pg_tensor_unref(da);
  drop_all(PG_MAX_OUT, g);
  drop_all(PG_MAX_IN, in);
  return s;
}

/* infer, and the count: both weights once for every row of every step. */
static pg_status count(pg_call *c, kind k) {
  PG_TRY(infer(c, k));
  const pg_tensor *x = c->in[X];
  const int64_t weights = pg_numel(c->in[W_IH]) + pg_numel(c->in[W_HH]);
  pg_count_macs(c, pg_numel_of(x->nd - 1, x->shape) * weights);
  return PG_OK;
}

static pg_status infer_lstm(pg_call *c) { return count(c, LSTM); }
static pg_status infer_gru(pg_call *c) { return count(c, GRU); }
static pg_status infer_rnn(pg_call *c) { return count(c, TANH); }
static kind rnn_kind(const pg_call *c) { return c->arg[1].i ? RELU : TANH; }
static pg_status forward_lstm(pg_call *c) { return forward(c, LSTM); }
static pg_status forward_gru(pg_call *c) { return forward(c, GRU); }
static pg_status forward_rnn(pg_call *c) { return forward(c, rnn_kind(c)); }
static pg_status backward_lstm(pg_call *c) { return backward(c, LSTM); }
static pg_status backward_gru(pg_call *c) { return backward(c, GRU); }
static pg_status backward_rnn(pg_call *c) { return backward(c, rnn_kind(c)); }

#define WEIGHTS                                                                                \
  PG_T("input"), PG_T("weight_ih"), PG_T("weight_hh"), PG_TOPT("bias_ih"), PG_TOPT("bias_hh"), \
      PG_TOPT("h0")
#define SAVES                                                                                 \
  PG_SAVE_IN(X) | PG_SAVE_IN(W_IH) | PG_SAVE_IN(W_HH) | PG_SAVE_IN(B_IH) | PG_SAVE_IN(B_HH) | \
      PG_SAVE_IN(H0) | PG_SAVE_OUT(0)

const pg_op PG_AT(pg_ops_rnn)[] = {
    {"lstm_layer",
     "i, f, o = sigmoid(W x + b + W' h + b'), g = tanh(..), c' = f c + i g, h' = o tanh(c') for "
     "every step of x [t x n x features], from the last one backwards for reverse: all h, the last "
     "h and c; rows of the weights in the order i f g o.",
     {WEIGHTS, PG_TOPT("c0"), PG_DEF("reverse", PG_FLAG, 0)},
     PG_NN | PG_LOWER,
     SAVES | PG_SAVE_IN(C0),
     3,
     infer_lstm,
     {forward_lstm},
     backward_lstm},
    {"gru_layer",
     "r, z = sigmoid(W x + b + W' h + b'), n = tanh(W x + b + r (W' h + b')), h' = (1 - z) n + z h "
     "for every step of x [t x n x features], from the last one backwards for reverse: all h and "
     "the last; rows of the weights in the order r z n.",
     {WEIGHTS, PG_DEF("reverse", PG_FLAG, 0)},
     PG_NN | PG_LOWER,
     SAVES,
     2,
     infer_gru,
     {forward_gru},
     backward_gru},
    {"rnn_layer",
     "h' = tanh(W x + b + W' h + b') or the relu of it for every step of x [t x n x features], "
     "from the last one backwards for reverse: all h and the last.",
     {WEIGHTS, PG_DEF("reverse", PG_FLAG, 0), PG_WORD("nonlinearity", 0, "tanh|relu")},
     PG_NN | PG_LOWER,
     SAVES,
     2,
     infer_rnn,
     {forward_rnn},
     backward_rnn},
    {0}};
