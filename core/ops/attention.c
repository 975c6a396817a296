/* Scaled dot-product attention, one head of one sample at a time: the scores of a block of queries
 * are made, used and forgotten (Dao et al., FlashAttention, 2022); what backward keeps is one
 * number per query. In bfloat16 products do too, scores and sums are float32. Relies on vmath.h,
 * pack.h, half.h, lanes.h, chain.h. Spec: spec/ops/attention_spec.lua. */
#include <math.h>
#include <string.h>

#include "autograd/op.h"
#include "base/par.h"
#include "kernels/bf16.h"
#include "kernels/pack.h"
#include "kernels/vmath.h"
#include "ops/chain.h"
#include "ops/half.h"
#include "ops/lanes.h"

enum { QUERY, KEY, VALUE, MASK };
enum { DROPOUT_P, IS_CAUSAL, SCALE };
enum { BLOCK = 64 }; /* queries at once */

/* --- a run over all heads ----------------------------------------------------------------------
 */

/* A tensor [.. x rows x cols] whose rows lie in one piece. */
typedef struct heads {
  char *data;
  int64_t row;                /* distance of rows */
  int64_t batch[PG_MAX_DIMS]; /* strides of the batch dims */
} heads;

typedef struct attention_kern attention_kern;

typedef struct run {
  pg_ctx *ctx;
  const attention_kern *kern;
  int64_t size; /* bytes of an element */
  int nd;       /* batch dims */
  int64_t shape[PG_MAX_DIMS], count;
  int64_t l, s, e, ev; /* queries, keys, width of queries and keys, width of values */
  int64_t wide;        /* row length of scratch scores */
  bool causal, mask_bool;
  double scale, keep_scale; /* keep_scale: 1 / (1 - p) */
  uint32_t limit;           /* a weight stays where its word >= limit; 0: no dropout */
  uint64_t seed, first;
  heads q, k, v, mask, out, dout, dq, dk, dv, dmask;
  int64_t mask_col;
  char *lse; /* [count x l]: log sum exp of the scores of each query, +inf where all are masked */
  int64_t lanes;
  char *block;
  size_t bytes, lane_bytes;
} run;

struct attention_kern {
  pg_dtype sums;                              /* of lse */
  size_t (*scratch)(const run *r, bool back); /* bytes of a lane */
  void (*forward)(const run *r, int64_t head, char *scratch);
  void (*backward)(const run *r, int64_t head, char *scratch);
};

static int64_t head_offset(const run *r, const int64_t *stride, int64_t head) {
  int64_t at = 0;
  for (int d = r->nd - 1; d >= 0; d--) {
    at += head % r->shape[d] * stride[d];
    head /= r->shape[d];
  }
  return at;
}

/* Keys that queries [begin, end) may see. */
static int64_t keys_of(const run *r, int64_t end) { return r->causal ? pg_min64(end, r->s) : r->s; }

/* Words for the weights of one query, in whole groups of 128. */
static int64_t groups_of(const run *r) { return (r->s + 127) / 128; }

static void words_of(const run *r, int64_t head, int64_t query, int64_t n, uint32_t *to) {
  uint32_t w[4][PG_RNG_LANES];
  uint64_t at = r->first + (uint64_t)((head * r->l + query) * groups_of(r) * PG_RNG_LANES);
  for (int64_t i = 0; i < n; i += 4 * PG_RNG_LANES, at += PG_RNG_LANES) {
    pg_rng_lanes(r->seed, at, w);
    for (int j = 0; j < PG_RNG_LANES; j++)
      for (int k = 0; k < 4; k++) to[i + 4 * j + k] = w[k][j];
  }
}

/* Where things lie in a lane's scratch, in elements. */
typedef struct places {
  int64_t kt, k, vt, v, part, query, grad, scores, weights, words, total;
} places;

static int64_t whole(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

static places places_of(const run *r, int64_t panel, bool back) {
  int64_t at = 0, line = 64 / r->size;
  places p;
#define PLACE(name, n) \
  p.name = at;         \
  at += whole(n, line)
  PLACE(kt, r->e * whole(r->s, panel));
  PLACE(v, back ? 0 : r->s * whole(r->ev, panel));
  PLACE(k, back ? r->s * whole(r->e, panel) : 0);
  PLACE(vt, back ? r->ev * whole(r->s, panel) : 0);
  PLACE(part, back ? BLOCK * pg_max64(whole(r->e, panel), whole(r->ev, panel)) : 0);
  PLACE(query, BLOCK * (r->e + line));
  PLACE(grad, back ? BLOCK * (r->ev + line) : 0);
  PLACE(scores, BLOCK * r->wide);
  PLACE(weights, back ? BLOCK * r->wide : 0);
  PLACE(words, (groups_of(r) * 128 * 4 + r->size - 1) / r->size);
#undef PLACE
  p.total = at;
  return p;
}

/* --- kernels -----------------------------------------------------------------------------------
 * q, g: [BLOCK x width + a line] scratch rows; x, y: [BLOCK x wide] scores and weights. */
#define ATTENTION(S, T)                                                                          \
  static size_t scratch_##S(const run *r, bool back) {                                           \
    return sizeof(T) * (size_t)places_of(r, PG_AT(pgk_panel_##S)(), back).total;                 \
  }                                                                                              \
  static void stage_##S(int64_t n, int64_t width, double scale, const T *from, int64_t row,      \
                        T *restrict to, int64_t ld) {                                            \
    for (int64_t i = 0; i < n; i++)                                                              \
      for (int64_t j = 0; j < width; j++) to[i * ld + j] = from[i * row + j] * (T)scale;         \
  }                                                                                              \
  static void pack_all_##S(bool flip, int64_t k, int64_t n, const T *b, int64_t ldb, T *to) {    \
    int64_t panel = PG_AT(pgk_panel_##S)();                                                      \
    PG_AT(pgk_pack_##S)(flip, k, n, b, ldb, 0, (n + panel - 1) / panel, to);                     \
  }                                                                                              \
  /* Adds the mask of one query to its n scores. */                                              \
  static void mask_row_##S(const run *r, const char *mask, int64_t n, T *restrict x) {           \
    int64_t step = r->mask_col;                                                                  \
    if (r->mask_bool) {                                                                          \
      const uint8_t *m = (const uint8_t *)mask;                                                  \
      for (int64_t j = 0; j < n; j++) x[j] = m[j * step] ? x[j] : -INFINITY;                     \
    } else {                                                                                     \
      const T *m = (const T *)mask;                                                              \
      for (int64_t j = 0; j < n; j++) x[j] += m[j * step];                                       \
    }                                                                                            \
  }                                                                                              \
  /* Scores of queries [begin, end) of a head; q holds them scaled. What the causal mask hides   \
   * within the n columns is -inf. */                                                            \
  static void scores_##S(const run *r, int64_t head, int64_t begin, int64_t end, int64_t n,      \
                         const T *q, const T *kt, T *x) {                                        \
    PG_AT(pgk_packed_gemm_##S)                                                                   \
    (false, end - begin, n, r->e, q, r->e + 64 / r->size, kt, r->e, false, x, r->wide);          \
    for (int64_t i = begin; i < end; i++, x += r->wide) {                                        \
      if (r->mask.data) {                                                                        \
        int64_t size = r->mask_bool ? 1 : r->size;                                               \
        int64_t at = head_offset(r, r->mask.batch, head) + i * r->mask.row;                      \
        mask_row_##S(r, r->mask.data + at * size, n, x);                                         \
      }                                                                                          \
      if (r->causal)                                                                             \
        for (int64_t j = i + 1; j < n; j++) x[j] = -INFINITY;                                    \
    }                                                                                            \
  }                                                                                              \
  static void drop_row_##S(const run *r, int64_t n, const uint32_t *words, T *restrict x) {      \
    const T scale = (T)r->keep_scale;                                                            \
    const uint32_t limit = r->limit;                                                             \
    for (int64_t j = 0; j < n; j++) x[j] = words[j] >= limit ? x[j] * scale : 0;                 \
  }                                                                                              \
  static void forward_##S(const run *r, int64_t head, char *scratch) {                           \
    places p = places_of(r, PG_AT(pgk_panel_##S)(), false);                                      \
    T *at = (T *)scratch, *kt = at + p.kt, *v = at + p.v, *q = at + p.query, *x = at + p.scores; \
    uint32_t *words = (uint32_t *)(at + p.words);                                                \
    const T *from = (const T *)r->q.data + head_offset(r, r->q.batch, head);                     \
    T *to = (T *)r->out.data + head_offset(r, r->out.batch, head);                               \
    pack_all_##S(true, r->e, r->s, (const T *)r->k.data + head_offset(r, r->k.batch, head),      \
                 r->k.row, kt);                                                                  \
    pack_all_##S(false, r->s, r->ev, (const T *)r->v.data + head_offset(r, r->v.batch, head),    \
                 r->v.row, v);                                                                   \
    for (int64_t begin = 0, end; begin < r->l; begin = end) {                                    \
      end = pg_min64(begin + BLOCK, r->l);                                                       \
      int64_t m = end - begin, n = keys_of(r, end);                                              \
      stage_##S(m, r->e, r->scale, from + begin * r->q.row, r->q.row, q, r->e + 64 / r->size);   \
      scores_##S(r, head, begin, end, n, q, kt, x);                                              \
      for (int64_t i = 0; i < m; i++) {                                                          \
        T *restrict row = x + i * r->wide;                                                       \
        T most = lanes_max_##S(n, row);                                                          \
        most = most == -INFINITY ? 0 : most;                                                     \
        for (int64_t j = 0; j < n; j++) row[j] = pg_exp_##S(row[j] - most);                      \
        T sum = lanes_sum_##S(n, row), f = sum == 0 ? 0 : 1 / sum;                               \
        for (int64_t j = 0; j < n; j++) row[j] *= f;                                             \
        if (r->lse)                                                                              \
          ((T *)r->lse)[head * r->l + begin + i] =                                               \
              sum == 0 ? (T)INFINITY : most + (T)log((double)sum);                               \
        if (r->limit) {                                                                          \
          words_of(r, head, begin + i, n, words);                                                \
          drop_row_##S(r, n, words, row);                                                        \
        }                                                                                        \
      }                                                                                          \
      PG_AT(pgk_packed_gemm_##S)                                                                 \
      (false, m, r->ev, n, x, r->wide, v, r->s, false, to + begin * r->out.row, r->out.row);     \
    }                                                                                            \
  }                                                                                              \
  static void zero_rows_##S(const heads *h, T *to, int64_t rows, int64_t width) {                \
    for (int64_t i = 0; i < rows; i++) memset(to + i * h->row, 0, sizeof(T) * (size_t)width);    \
  }                                                                                              \
  static void backward_##S(const run *r, int64_t head, char *scratch) {                          \
    places p = places_of(r, PG_AT(pgk_panel_##S)(), true);                                       \
    T *at = (T *)scratch, *kt = at + p.kt, *k = at + p.k, *vt = at + p.vt, *part = at + p.part;  \
    T *q = at + p.query, *g = at + p.grad, *x = at + p.scores, *y = at + p.weights;              \
    uint32_t *words = (uint32_t *)(at + p.words);                                                \
    int64_t line = 64 / r->size, ldq = r->e + line, ldg = r->ev + line;                          \
    const T *q_in = (const T *)r->q.data + head_offset(r, r->q.batch, head);                     \
    const T *k_in = (const T *)r->k.data + head_offset(r, r->k.batch, head);                     \
    const T *v_in = (const T *)r->v.data + head_offset(r, r->v.batch, head);                     \
    const T *out = (const T *)r->out.data + head_offset(r, r->out.batch, head);                  \
    const T *dout = (const T *)r->dout.data + head_offset(r, r->dout.batch, head);               \
    T *dq = r->dq.data ? (T *)r->dq.data + head_offset(r, r->dq.batch, head) : NULL;             \
    T *dk = r->dk.data ? (T *)r->dk.data + head_offset(r, r->dk.batch, head) : NULL;             \
    T *dv = r->dv.data ? (T *)r->dv.data + head_offset(r, r->dv.batch, head) : NULL;             \
    T *dm = r->dmask.data ? (T *)r->dmask.data + head_offset(r, r->dmask.batch, head) : NULL;    \
    pack_all_##S(true, r->e, r->s, k_in, r->k.row, kt);                                          \
    pack_all_##S(true, r->ev, r->s, v_in, r->v.row, vt);                                         \
    if (dq) pack_all_##S(false, r->s, r->e, k_in, r->k.row, k);                                  \
    if (dk) zero_rows_##S(&r->dk, dk, r->s, r->e);                                               \
    if (dv) zero_rows_##S(&r->dv, dv, r->s, r->ev);                                              \
    for (int64_t begin = 0, end; begin < r->l; begin = end) {                                    \
      end = pg_min64(begin + BLOCK, r->l);                                                       \
      int64_t m = end - begin, n = keys_of(r, end);                                              \
      stage_##S(m, r->e, r->scale, q_in + begin * r->q.row, r->q.row, q, ldq);                   \
      stage_##S(m, r->ev, 1, dout + begin * r->dout.row, r->dout.row, g, ldg);                   \
      scores_##S(r, head, begin, end, n, q, kt, x);                                              \
      PG_AT(pgk_packed_gemm_##S)(false, m, n, r->ev, g, ldg, vt, r->ev, false, y, r->wide);      \
      for (int64_t i = 0; i < m; i++) {                                                          \
        T *restrict a = x + i * r->wide, *restrict b = y + i * r->wide;                          \
        const T *restrict o = out + (begin + i) * r->out.row;                                    \
        T lse = ((const T *)r->lse)[head * r->l + begin + i], sum = 0;                           \
        for (int64_t j = 0; j < r->ev; j++) sum += o[j] * g[i * ldg + j];                        \
        for (int64_t j = 0; j < n; j++) a[j] = pg_exp_##S(a[j] - lse);                           \
        if (r->limit) {                                                                          \
          words_of(r, head, begin + i, n, words);                                                \
          drop_row_##S(r, n, words, b);                                                          \
        }                                                                                        \
        for (int64_t j = 0; j < n; j++) b[j] = a[j] * (b[j] - sum);                              \
        if (r->limit) drop_row_##S(r, n, words, a);                                              \
        if (!dm) continue;                                                                       \
        T *row = dm + (begin + i) * r->dmask.row;                                                \
        memcpy(row, b, sizeof(T) * (size_t)n);                                                   \
        memset(row + n, 0, sizeof(T) * (size_t)(r->s - n));                                      \
      }                                                                                          \
      if (dv) {                                                                                  \
        pack_all_##S(false, m, r->ev, g, ldg, part);                                             \
        PG_AT(pgk_packed_gemm_##S)                                                               \
        (true, n, r->ev, m, x, r->wide, part, m, true, dv, r->dv.row);                           \
      }                                                                                          \
      if (dk) {                                                                                  \
        pack_all_##S(false, m, r->e, q, ldq, part);                                              \
        PG_AT(pgk_packed_gemm_##S)                                                               \
        (true, n, r->e, m, y, r->wide, part, m, true, dk, r->dk.row);                            \
      }                                                                                          \
      if (!dq) continue;                                                                         \
      T *to = dq + begin * r->dq.row;                                                            \
      PG_AT(pgk_packed_gemm_##S)                                                                 \
      (false, m, r->e, n, y, r->wide, k, r->s, false, to, r->dq.row);                            \
      for (int64_t i = 0; i < m; i++)                                                            \
        for (int64_t j = 0; j < r->e; j++) to[i * r->dq.row + j] *= (T)r->scale;                 \
    }                                                                                            \
  }
ATTENTION(f32, float)
ATTENTION(f64, double)

/* --- bfloat16 ----------------------------------------------------------------------------------
 * Operands of products are words (half.h), everything else float32. */

enum { PAD = 32 }; /* elements after a row of operands, and of sums */

/* Where things lie in a lane's scratch, in bytes. */
typedef struct half_places {
  size_t kt, k, vt, v, part, query, grad, scores, weights, rows, woven, sums, dk, dv, words, total;
} half_places;

static half_places half_places_of(const run *r, bool back) {
  const size_t e = (size_t)r->e, ev = (size_t)r->ev, s = (size_t)r->s, wide = (size_t)r->wide;
  const size_t e_words = (e + 1) / 2, ev_words = (ev + 1) / 2, s_words = (s + 1) / 2;
#define PANELS(n) (((n) + PGK_HALF_PANEL - 1) / PGK_HALF_PANEL * PGK_HALF_PANEL)
  const size_t widest = PANELS(e > ev ? e : ev);
  size_t at = 0;
  half_places p;
#define PLACE(name, bytes) \
  p.name = at;             \
  at += ((size_t)(bytes) + 63) & ~(size_t)63
  PLACE(kt, 4 * e_words * PANELS(s));
  PLACE(v, back ? 0 : 4 * s_words * PANELS(ev));
  PLACE(k, back ? 4 * s_words * PANELS(e) : 0);
  PLACE(vt, back ? 4 * ev_words * PANELS(s) : 0);
  PLACE(part, back ? 4 * (BLOCK / 2) * widest : 0);
  PLACE(query, 2 * BLOCK * (2 * e_words + PAD));
  PLACE(grad, back ? 2 * BLOCK * (2 * ev_words + PAD) : 0);
  PLACE(scores, 4 * BLOCK * wide);
  PLACE(weights, back ? 4 * BLOCK * wide : 0);
  PLACE(rows, 2 * BLOCK * wide);
  PLACE(woven, back ? 4 * (BLOCK / 2) * wide : 0);
  PLACE(sums, 4 * BLOCK * widest);
  PLACE(dk, back ? 4 * s * e : 0);
  PLACE(dv, back ? 4 * s * ev : 0);
  PLACE(words, 4 * 128 * groups_of(r));
#undef PLACE
#undef PANELS
  p.total = at;
  return p;
}

static size_t scratch_bf16(const run *r, bool back) { return half_places_of(r, back).total; }

/* Copies n rows as operands: each ends with a 0 where `width` is odd. */
static void stage_bf16(int64_t n, int64_t width, const uint16_t *from, int64_t row, uint16_t *to,
                       int64_t ld) {
  for (int64_t i = 0; i < n; i++, to += ld) {
    memcpy(to, from + i * row, sizeof *to * (size_t)width);
    to[width] = 0;
  }
}

/* to = f from, rounded. */
static void narrow(int64_t n, float f, const float *restrict from, uint16_t *restrict to) {
  for (int64_t j = 0; j < n; j++) to[j] = pg_f32_bf16(f * from[j]);
}

static void pack_all_bf16(bool flip, int64_t k, int64_t n, const uint16_t *b, int64_t ldb,
                          uint32_t *to) {
  PG_AT(pgk_half_kern_of)
  ()->pack(flip, false, k, n, b, ldb, 0, (n + PGK_HALF_PANEL - 1) / PGK_HALF_PANEL, to);
}

/* As scores_f32, q not being scaled. */
static void scores_bf16(const run *r, int64_t head, int64_t begin, int64_t end, int64_t n,
                        const uint16_t *q, int64_t ldq, const uint32_t *kt, float *x) {
  const int64_t words = (r->e + 1) / 2;
  const float scale = (float)r->scale;
  PG_AT(pgk_half_kern_of)
  ()->gemm(false, end - begin, n, words, q, ldq / 2, kt, words, false, x, r->wide);
  for (int64_t i = begin; i < end; i++, x += r->wide) {
    for (int64_t j = 0; j < n; j++) x[j] *= scale;
    if (r->mask.data) {
      const char *m = r->mask.data;
      const int64_t at = head_offset(r, r->mask.batch, head) + i * r->mask.row;
      if (r->mask_bool) {
        mask_row_f32(r, m + at, n, x);
      } else {
        const uint16_t *from = (const uint16_t *)m + at;
        for (int64_t j = 0; j < n; j++) x[j] += pg_bf16_f32(from[j * r->mask_col]);
      }
    }
    if (r->causal)
      for (int64_t j = i + 1; j < n; j++) x[j] = -INFINITY;
  }
}

static void forward_bf16(const run *r, int64_t head, char *scratch) {
  const half_places p = half_places_of(r, false);
  const pgk_half_kern *kern = PG_AT(pgk_half_kern_of)();
  const int64_t ldq = whole(r->e, 2) + PAD, depth = (r->s + 1) / 2;
  uint32_t *kt = (uint32_t *)(scratch + p.kt), *v = (uint32_t *)(scratch + p.v);
  uint32_t *words = (uint32_t *)(scratch + p.words);
  uint16_t *q = (uint16_t *)(scratch + p.query), *rows = (uint16_t *)(scratch + p.rows);
  float *x = (float *)(scratch + p.scores), *sums = (float *)(scratch + p.sums), f[BLOCK];
  const uint16_t *from = (const uint16_t *)r->q.data + head_offset(r, r->q.batch, head);
  uint16_t *to = (uint16_t *)r->out.data + head_offset(r, r->out.batch, head);
  pack_all_bf16(true, r->e, r->s, (uint16_t *)r->k.data + head_offset(r, r->k.batch, head),
                r->k.row, kt);
  pack_all_bf16(false, r->s, r->ev, (uint16_t *)r->v.data + head_offset(r, r->v.batch, head),
                r->v.row, v);
  for (int64_t begin = 0, end; begin < r->l; begin = end) {
    end = pg_min64(begin + BLOCK, r->l);
    const int64_t m = end - begin, n = keys_of(r, end);
    stage_bf16(m, r->e, from + begin * r->q.row, r->q.row, q, ldq);
    scores_bf16(r, head, begin, end, n, q, ldq, kt, x);
    for (int64_t i = 0; i < m; i++) {
      float *restrict row = x + i * r->wide;
      float most = lanes_max_f32(n, row);
      most = most == -INFINITY ? 0 : most;
      for (int64_t j = 0; j < n; j++) row[j] = pg_exp_f32(row[j] - most);
      const float sum = lanes_sum_f32(n, row);
      f[i] = sum == 0 ? 0 : 1 / sum;
      if (r->lse)
        ((float *)r->lse)[head * r->l + begin + i] =
            sum == 0 ? INFINITY : most + (float)log((double)sum);
      if (r->limit) {
        words_of(r, head, begin + i, n, words);
        drop_row_f32(r, n, words, row);
      }
      narrow(n, 1, row, rows + i * r->wide);
      rows[i * r->wide + n] = 0;
    }
    kern->gemm(false, m, r->ev, (n + 1) / 2, rows, r->wide / 2, v, depth, false, sums, r->ev);
    for (int64_t i = 0; i < m; i++)
      narrow(r->ev, f[i], sums + i * r->ev, to + (begin + i) * r->out.row);
  }
}

static void backward_bf16(const run *r, int64_t head, char *scratch) {
  const half_places p = half_places_of(r, true);
  const pgk_half_kern *kern = PG_AT(pgk_half_kern_of)();
  const int64_t ldq = whole(r->e, 2) + PAD, ldg = whole(r->ev, 2) + PAD, depth = (r->s + 1) / 2;
  const int64_t ev_words = (r->ev + 1) / 2;
  uint32_t *kt = (uint32_t *)(scratch + p.kt), *k = (uint32_t *)(scratch + p.k);
  uint32_t *vt = (uint32_t *)(scratch + p.vt), *part = (uint32_t *)(scratch + p.part);
  uint32_t *words = (uint32_t *)(scratch + p.words), *woven = (uint32_t *)(scratch + p.woven);
  uint16_t *q = (uint16_t *)(scratch + p.query), *g = (uint16_t *)(scratch + p.grad);
  uint16_t *rows = (uint16_t *)(scratch + p.rows);
  float *x = (float *)(scratch + p.scores), *y = (float *)(scratch + p.weights);
  float *sums = (float *)(scratch + p.sums);
  float *dk_sums = (float *)(scratch + p.dk), *dv_sums = (float *)(scratch + p.dv);
#define AT_HEAD(name) ((uint16_t *)r->name.data + head_offset(r, r->name.batch, head))
  const uint16_t *q_in = AT_HEAD(q), *k_in = AT_HEAD(k), *v_in = AT_HEAD(v);
  const uint16_t *out = AT_HEAD(out), *dout = AT_HEAD(dout);
  uint16_t *dq = r->dq.data ? AT_HEAD(dq) : NULL, *dk = r->dk.data ? AT_HEAD(dk) : NULL;
  uint16_t *dv = r->dv.data ? AT_HEAD(dv) : NULL, *dm = r->dmask.data ? AT_HEAD(dmask) : NULL;
#undef AT_HEAD
  pack_all_bf16(true, r->e, r->s, k_in, r->k.row, kt);
  pack_all_bf16(true, r->ev, r->s, v_in, r->v.row, vt);
  if (dq) pack_all_bf16(false, r->s, r->e, k_in, r->k.row, k);
  if (dk) memset(dk_sums, 0, sizeof(float) * (size_t)(r->s * r->e));
  if (dv) memset(dv_sums, 0, sizeof(float) * (size_t)(r->s * r->ev));
  for (int64_t begin = 0, end; begin < r->l; begin = end) {
    end = pg_min64(begin + BLOCK, r->l);
    const int64_t m = end - begin, n = keys_of(r, end), pairs = (m + 1) / 2;
    stage_bf16(m, r->e, q_in + begin * r->q.row, r->q.row, q, ldq);
    stage_bf16(m, r->ev, dout + begin * r->dout.row, r->dout.row, g, ldg);
    scores_bf16(r, head, begin, end, n, q, ldq, kt, x);
    kern->gemm(false, m, n, ev_words, g, ldg / 2, vt, ev_words, false, y, r->wide);
    for (int64_t i = 0; i < m; i++) {
      float *restrict a = x + i * r->wide, *restrict b = y + i * r->wide;
      const uint16_t *restrict o = out + (begin + i) * r->out.row;
      const float lse = ((const float *)r->lse)[head * r->l + begin + i];
      for (int64_t j = 0; j < r->ev; j++) sums[j] = pg_bf16_f32(o[j]) * pg_bf16_f32(g[i * ldg + j]);
      const float sum = lanes_sum_f32(r->ev, sums);
      for (int64_t j = 0; j < n; j++) a[j] = pg_exp_f32(a[j] - lse);
      if (r->limit) {
        words_of(r, head, begin + i, n, words);
        drop_row_f32(r, n, words, b);
      }
      for (int64_t j = 0; j < n; j++) b[j] = a[j] * (b[j] - sum);
      if (r->limit) drop_row_f32(r, n, words, a);
      if (dq) {
        narrow(n, 1, b, rows + i * r->wide);
        rows[i * r->wide + n] = 0;
      }
      if (!dm) continue;
      uint16_t *row = dm + (begin + i) * r->dmask.row;
      narrow(n, 1, b, row);
      memset(row + n, 0, sizeof *row * (size_t)(r->s - n));
    }
    if (dv) {
      pack_all_bf16(false, m, r->ev, g, ldg, part);
      kern->weave(m, n, x, r->wide, woven, r->wide);
      kern->gemm(true, n, r->ev, pairs, woven, r->wide, part, pairs, true, dv_sums, r->ev);
    }
    if (dk) {
      pack_all_bf16(false, m, r->e, q, ldq, part);
      kern->weave(m, n, y, r->wide, woven, r->wide);
      kern->gemm(true, n, r->e, pairs, woven, r->wide, part, pairs, true, dk_sums, r->e);
    }
    if (!dq) continue;
    kern->gemm(false, m, r->e, (n + 1) / 2, rows, r->wide / 2, k, depth, false, sums, r->e);
    for (int64_t i = 0; i < m; i++)
      narrow(r->e, (float)r->scale, sums + i * r->e, dq + (begin + i) * r->dq.row);
  }
  for (int64_t i = 0; i < r->s; i++) {
    if (dk) narrow(r->e, (float)r->scale, dk_sums + i * r->e, dk + i * r->dk.row);
    if (dv) narrow(r->ev, 1, dv_sums + i * r->ev, dv + i * r->dv.row);
  }
}

static const attention_kern kerns[PG_NDTYPES] = {
    [PG_F32] = {PG_F32, scratch_f32, forward_f32, backward_f32},
    [PG_F64] = {PG_F64, scratch_f64, forward_f64, backward_f64},
    [PG_BF16] = {PG_F32, scratch_bf16, forward_bf16, backward_bf16}};

/* Lanes [begin, end): each takes every lanes-th head. */
static void forward_lanes(void *arg, int64_t begin, int64_t end) {
  const run *r = arg;
  for (int64_t i = begin; i < end; i++)
    for (int64_t head = i; head < r->count; head += r->lanes)
      r->kern->forward(r, head, r->block + r->lane_bytes * (size_t)i);
}
static void backward_lanes(void *arg, int64_t begin, int64_t end) {
  const run *r = arg;
  for (int64_t i = begin; i < end; i++)
    for (int64_t head = i; head < r->count; head += r->lanes)
      r->kern->backward(r, head, r->block + r->lane_bytes * (size_t)i);
}

/* A head's result does not depend on its lane, so there may be as many as threads. */
static pg_status run_lanes(run *r, bool back) {
  r->lanes = pg_min64(pg_max64(r->ctx->threads, 1), r->count);
  if (r->lanes == 0) return PG_OK;
  r->lane_bytes = r->kern->scratch(r, back);
  r->bytes = r->lane_bytes * (size_t)r->lanes;
  PG_TRY(pg_alloc(r->ctx, r->bytes, (void **)&r->block));
  pg_par_for(r->ctx, r->lanes, 1, back ? backward_lanes : forward_lanes, r);
  pg_free(r->ctx, r->block, r->bytes);
  return PG_OK;
}

/* --- shapes ------------------------------------------------------------------------------------
 */

/* Strides that make a dense tensor of this shape in t's order of memory, rows in one piece. */
static void strides_like(const pg_tensor *t, int nd, const int64_t *shape, int64_t *stride) {
  int order[PG_MAX_DIMS], n = nd - 1, lead = nd - t->nd;
  int64_t distance[PG_MAX_DIMS];
  for (int i = 0; i < n; i++) {
    int64_t at = i < lead ? INT64_MAX : t->stride[i - lead];
    distance[i] = at == 0 ? INT64_MAX : at;
    int k = i;
    for (; k > 0 && distance[order[k - 1]] < distance[i]; k--) order[k] = order[k - 1];
    order[k] = i;
  }
  int64_t step = pg_max64(shape[n], 1);
  stride[n] = 1;
  for (int k = n - 1; k >= 0; k--) {
    stride[order[k]] = step;
    step *= pg_max64(shape[order[k]], 1);
  }
}

/* t as heads; t->nd <= nd + 2. */
static heads heads_of(const run *r, const pg_tensor *t) {
  heads h = {.data = pg_data(t), .row = t->shape[t->nd - 2] == 1 ? 0 : t->stride[t->nd - 2]};
  int lead = r->nd - (t->nd - 2);
  for (int d = 0; d < r->nd; d++)
    h.batch[d] = d < lead || t->shape[d - lead] == 1 ? 0 : t->stride[d - lead];
  return h;
}

/* *out = t itself where its rows lie in one piece, else a contiguous copy; owned. */
static pg_status rows_of(pg_ctx *ctx, pg_tensor *t, pg_tensor **out) {
  if (t->stride[t->nd - 1] != 1 && t->shape[t->nd - 1] > 1) return pg__contiguous(ctx, t, out);
  *out = pg_tensor_ref(t);
  return PG_OK;
}

static pg_status batch_shape(pg_call *c, int *nd, int64_t *shape) {
  const pg_tensor *q = c->in[QUERY], *k = c->in[KEY], *v = c->in[VALUE];
  int64_t some[PG_MAX_DIMS];
  int n;
  int bad = KEY;
  if (pg_broadcasts(q->nd - 2, q->shape, k->nd - 2, k->shape, &n, some)) {
    if (pg_broadcasts(n, some, v->nd - 2, v->shape, nd, shape)) return PG_OK;
    bad = VALUE;
  }
  return pg_bad_in(c, PG_ESHAPE, bad, "a batch that broadcasts with that of query %s",
                   pg_shape_str(q).s);
}

static pg_status check_mask(pg_call *c, int nd, const int64_t *shape) {
  const pg_tensor *m = c->in[MASK];
  if (!m) return PG_OK;
  if (c->arg[IS_CAUSAL].i) return pg_bad_in(c, PG_EARG, MASK, "nothing where is_causal is true");
  if (m->dtype != PG_BOOL && m->dtype != c->in[QUERY]->dtype)
    return pg_fail(c->ctx, PG_EDTYPE, "argument 'attn_mask': expected bool or %s, got %s",
                   pg_dtype_name((pg_dtype)c->in[QUERY]->dtype), pg_dtype_name((pg_dtype)m->dtype));
  bool fits = m->nd >= 2 && m->nd <= nd;
  for (int i = 1; fits && i <= m->nd; i++)
    fits = m->shape[m->nd - i] == 1 || m->shape[m->nd - i] == shape[nd - i];
  if (fits) return PG_OK;
  return pg_fail(c->ctx, PG_ESHAPE,
                 "argument 'attn_mask': expected one that broadcasts to %s, got %s",
                 pg_shape_str_of(nd, shape).s, pg_shape_str(m).s);
}

static pg_status infer(pg_call *c) {
  PG_TRY(pg_want(c, QUERY, pg__half_dtypes(c->in[QUERY])));
  for (int i = QUERY; i <= VALUE; i++) {
    PG_TRY(pg_want_same_dtype(c, i, QUERY));
    if (c->in[i]->nd < 2)
      return pg_fail(c->ctx, PG_ESHAPE, "argument '%s': expected at least 2 dims, got %s",
                     pg_in_name(c, i), pg_shape_str(c->in[i]).s);
  }
  const pg_tensor *q = c->in[QUERY], *k = c->in[KEY], *v = c->in[VALUE];
  if (q->shape[q->nd - 1] != k->shape[k->nd - 1])
    return pg_bad_in(c, PG_ESHAPE, KEY, "%s to follow query %s",
                     pg_shape_only(k->nd, k->nd - 1, q->shape[q->nd - 1]).s, pg_shape_str(q).s);
  if (k->shape[k->nd - 2] != v->shape[v->nd - 2])
    return pg_bad_in(c, PG_ESHAPE, VALUE, "%s to follow key %s",
                     pg_shape_only(v->nd, v->nd - 2, k->shape[k->nd - 2]).s, pg_shape_str(k).s);
  double p = c->arg[DROPOUT_P].f;
  if (!(p >= 0 && p < 1))
    return pg_fail(c->ctx, PG_EARG, "argument 'dropout_p': expected 0 to below 1, got %g", p);
  int nd;
  int64_t shape[PG_MAX_DIMS];
  PG_TRY(batch_shape(c, &nd, shape));
  shape[nd] = q->shape[q->nd - 2];
  shape[nd + 1] = k->shape[k->nd - 2];
  nd += 2;
  PG_TRY(check_mask(c, nd, shape));
  shape[nd - 1] = v->shape[v->nd - 1];
  PG_TRY(pg_out_shape(c, 0, (pg_dtype)q->dtype, nd, shape));
  c->os[0].strided = true;
  strides_like(q, nd, shape, c->os[0].stride);
  return PG_OK;
}

static double scale_of(const pg_call *c, int64_t e) {
  return c->arg[SCALE].set ? c->arg[SCALE].f : 1 / sqrt((double)e);
}

/* Fills r for inputs whose rows lie in one piece; like: of the output's shape. */
static void fill_run(pg_call *c, pg_tensor *const *in, const pg_tensor *like, run *r) {
  memset(r, 0, sizeof *r);
  r->ctx = c->ctx;
  r->kern = &kerns[like->dtype];
  r->size = (int64_t)pg_dtype_size((pg_dtype)like->dtype);
  r->nd = like->nd - 2;
  r->count = 1;
  for (int d = 0; d < r->nd; d++) r->count *= r->shape[d] = like->shape[d];
  r->l = like->shape[r->nd];
  r->ev = like->shape[r->nd + 1];
  r->s = in[KEY]->shape[in[KEY]->nd - 2];
  r->e = in[KEY]->shape[in[KEY]->nd - 1];
  r->wide = whole(r->s, 64 / r->size) + 64 / r->size;
  r->causal = c->arg[IS_CAUSAL].i;
  r->scale = scale_of(c, r->e);
  double p = c->arg[DROPOUT_P].f;
  r->keep_scale = 1 / (1 - p);
  r->limit = (uint32_t)(p * 0x1p32);
  r->q = heads_of(r, in[QUERY]);
  r->k = heads_of(r, in[KEY]);
  r->v = heads_of(r, in[VALUE]);
  r->out = heads_of(r, like);
  if (!in[MASK]) return;
  const pg_tensor *m = in[MASK];
  r->mask = heads_of(r, m);
  r->mask_bool = m->dtype == PG_BOOL;
  r->mask_col = m->shape[m->nd - 1] == 1 ? 0 : m->stride[m->nd - 1];
}

static void drop_all(int n, pg_tensor **t) {
  for (int i = 0; i < n; i++) pg_tensor_unref(t[i]);
}

static pg_status open_inputs(pg_call *c, pg_tensor **in) {
  for (int i = QUERY; i <= VALUE; i++) PG_TRY(rows_of(c->ctx, c->in[i], &in[i]));
  in[MASK] = pg_tensor_ref(c->in[MASK]);
  return PG_OK;
}

/* keep[0]: log sums, and keep[1] with dropout: where in the random stream the words start. */
static pg_status forward(pg_call *c) {
  pg_tensor *in[4] = {0}, *lse = NULL, *place = NULL;
  run r;
  pg_status s = open_inputs(c, in);
  if (s != PG_OK) goto done;
  fill_run(c, in, c->out[0], &r);
  if (c->recording) s = pg_tensor_new(c->ctx, r.kern->sums, 2, (int64_t[]){r.count, r.l}, &lse);
  if (s == PG_OK && c->recording && r.limit)
    s = pg_tensor_new(c->ctx, PG_I64, 1, (int64_t[]){2}, &place);
  if (s != PG_OK) goto done;
  if (lse) r.lse = pg_data(lse);
  r.seed = c->ctx->rng.seed;
  if (r.limit)
    r.first = pg_rng_take(&c->ctx->rng, (uint64_t)(r.count * r.l * groups_of(&r) * PG_RNG_LANES));
  if (place) {
    ((int64_t *)pg_data(place))[0] = (int64_t)r.seed;
    ((int64_t *)pg_data(place))[1] = (int64_t)r.first;
  }
  s = run_lanes(&r, false);
  if (s == PG_OK && c->recording) {
    c->keep[0] = lse;
    c->keep[1] = place;
    lse = place = NULL;
  }
done:
  pg_tensor_unref(place);
  pg_tensor_unref(lse);
  drop_all(4, in);
  return s;
}

/* --- backward ----------------------------------------------------------------------------------
 */

/* *out = 1 / (1 - p) where a weight stayed, else 0: [.. x l x s]. */
static pg_status dropout_factors(pg_call *c, pg_tensor *out) {
  run r;
  pg_tensor *in[4] = {c->in[QUERY], c->in[KEY], c->in[VALUE], NULL};
  fill_run(c, in, c->gout[0], &r);
  r.seed = (uint64_t)((const int64_t *)pg_data(c->keep[1]))[0];
  r.first = (uint64_t)((const int64_t *)pg_data(c->keep[1]))[1];
  void *words;
  size_t bytes = (size_t)groups_of(&r) * 128 * sizeof(uint32_t);
  PG_TRY(pg_alloc(c->ctx, bytes, &words));
  for (int64_t i = 0; i < r.count * r.l; i++) {
    words_of(&r, i / r.l, i % r.l, r.s, words);
    for (int64_t j = 0; j < r.s; j++)
      pg_put_f64(out, i * r.s + j, ((uint32_t *)words)[j] >= r.limit ? r.keep_scale : 0);
  }
  pg_free(c->ctx, words, bytes);
  return PG_OK;
}

static pg_tensor *turned(pg_chain *k, pg_tensor *t) {
  return PG_STEP(k, "transpose", "tii", t, (int64_t)-2, (int64_t)-1);
}

/* The same as a composition of ops, which can be differentiated again. */
static pg_status composed(pg_call *c) {
  pg_chain k = {.ctx = c->ctx};
  pg_tensor *q = c->in[QUERY], *key = c->in[KEY], *v = c->in[VALUE], *g = c->gout[0], *d = NULL;
  int64_t last = -1, nd = g->nd, shape[PG_MAX_DIMS];
  memcpy(shape, g->shape, sizeof shape);
  shape[nd - 1] = key->shape[key->nd - 2];
  pg_tensor *scale = pg_chain_number(&k, scale_of(c, q->shape[q->nd - 1]));
  pg_tensor *x = PG_STEP(&k, "mul", "tt", PG_STEP(&k, "matmul", "tt", q, turned(&k, key)), scale);
  pg_tensor *low = pg_chain_number(&k, -INFINITY), *m = c->in[MASK];
  if (m && m->dtype == PG_BOOL) x = PG_STEP(&k, "where", "ttt", m, x, low);
  else if (m) x = PG_STEP(&k, "add", "tt", x, m);
  if (c->arg[IS_CAUSAL].i && k.status == PG_OK) {
    int64_t square[2] = {shape[nd - 2], shape[nd - 1]};
    pg_status s = pg_tensor_new(c->ctx, PG_BOOL, 2, square, &k.made);
    pg_tensor *seen = pg_chain_push(&k, s);
    if (seen)
      for (int64_t i = 0; i < square[0]; i++)
        for (int64_t j = 0; j < square[1]; j++) ((bool *)pg_data(seen))[i * square[1] + j] = j <= i;
    x = PG_STEP(&k, "where", "ttt", seen, x, low);
  }
  pg_tensor *blind = NULL; /* queries that may see nothing: weights of 0 */
  if (m) {
    pg_tensor *top = PG_STEP(&k, "amax", "tlb", PG_STEP(&k, "detach", "t", x), 1, &last, 1);
    blind = PG_STEP(&k, "eq", "tt", top, low);
    x = PG_STEP(&k, "where", "ttt", blind, pg_chain_number(&k, 0), x);
  }
  pg_tensor *w = PG_STEP(&k, "softmax", "ti", x, last);
  if (blind) w = PG_STEP(&k, "where", "ttt", blind, pg_chain_number(&k, 0), w);
  pg_tensor *used = w;
  pg_tensor *gw = PG_STEP(&k, "matmul", "tt", g, turned(&k, v));
  if (c->keep[1] && k.status == PG_OK) {
    d = pg_chain_push(&k, pg_tensor_new(c->ctx, (pg_dtype)g->dtype, (int)nd, shape, &k.made));
    if (d && k.status == PG_OK) k.status = dropout_factors(c, d);
    gw = PG_STEP(&k, "mul", "tt", gw, d);
    used = PG_STEP(&k, "mul", "tt", w, d);
  }
  pg_tensor *sum = PG_STEP(&k, "sum", "tlb", PG_STEP(&k, "mul", "tt", gw, w), 1, &last, 1);
  pg_tensor *gx = PG_STEP(&k, "mul", "tt", w, PG_STEP(&k, "sub", "tt", gw, sum));
  pg_tensor *gs = PG_STEP(&k, "mul", "tt", gx, scale);
  if (c->need[QUERY]) pg_chain_give(&k, PG_STEP(&k, "matmul", "tt", gs, key), &c->gin[QUERY]);
  if (c->need[KEY]) pg_chain_give(&k, PG_STEP(&k, "matmul", "tt", turned(&k, gs), q), &c->gin[KEY]);
  if (c->need[VALUE])
    pg_chain_give(&k, PG_STEP(&k, "matmul", "tt", turned(&k, used), g), &c->gin[VALUE]);
  if (c->need[MASK]) pg_chain_give(&k, gx, &c->gin[MASK]);
  return pg_chain_end(&k);
}

/* gin[i] with the batch dims of the output, in the order of memory of in[i]; the engine sums over
 * those that were broadcast. */
static pg_status new_grad(pg_call *c, int i, int64_t rows, int64_t cols, const run *r, heads *h) {
  if (!c->need[i]) return PG_OK;
  int nd = r->nd;
  int64_t shape[PG_MAX_DIMS], stride[PG_MAX_DIMS];
  memcpy(shape, r->shape, sizeof *shape * (size_t)nd);
  shape[nd++] = rows;
  shape[nd++] = cols;
  strides_like(c->in[i], nd, shape, stride);
  PG_TRY(pg_tensor_new_strided(c->ctx, (pg_dtype)c->gout[0]->dtype, nd, shape, stride, PG_HOST,
                               &c->gin[i]));
  *h = heads_of(r, c->gin[i]);
  return PG_OK;
}

static pg_status backward(pg_call *c) {
  if (c->recording) return composed(c);
  pg_tensor *in[4] = {0}, *g = NULL;
  run r;
  pg_status s = open_inputs(c, in);
  if (s == PG_OK) s = rows_of(c->ctx, c->gout[0], &g);
  if (s != PG_OK) goto done;
  fill_run(c, in, c->out[0], &r);
  r.dout = heads_of(&r, g);
  r.lse = pg_data(c->keep[0]);
  if (c->keep[1]) {
    r.seed = (uint64_t)((const int64_t *)pg_data(c->keep[1]))[0];
    r.first = (uint64_t)((const int64_t *)pg_data(c->keep[1]))[1];
  }
  s = new_grad(c, QUERY, r.l, r.e, &r, &r.dq);
  if (s == PG_OK) s = new_grad(c, KEY, r.s, r.e, &r, &r.dk);
  if (s == PG_OK) s = new_grad(c, VALUE, r.s, r.ev, &r, &r.dv);
  if (s == PG_OK && in[MASK]) s = new_grad(c, MASK, r.l, r.s, &r, &r.dmask);
  if (s == PG_OK) s = run_lanes(&r, true);
done:
  pg_tensor_unref(g);
  drop_all(4, in);
  return s;
}

/* infer, and the count: every query with every key, in both products. */
static pg_status count(pg_call *c) {
  PG_TRY(infer(c));
  const pg_tensor *q = c->in[QUERY], *k = c->in[KEY], *v = c->in[VALUE];
  const int64_t width = q->shape[q->nd - 1] + v->shape[v->nd - 1];
  pg_count_macs(c, pg_numel_of(q->nd - 1, q->shape) * k->shape[k->nd - 2] * width);
  return PG_OK;
}

const pg_op PG_AT(pg_ops_attention)[] = {
    {"scaled_dot_product_attention",
     "softmax(query key^T scale + mask) value over the last two dims: query [.. l x e], key "
     "[.. s x e], value [.. s x v]; attn_mask is bool (true: may be seen) or added; is_causal: "
     "query i "
     "sees keys 1..i; scale is 1/sqrt(e) by default; dropout_p of the weights are dropped.",
     {PG_T("query"), PG_T("key"), PG_T("value"), PG_TOPT("attn_mask"),
      PG_DEF("dropout_p", PG_FLOAT, 0), PG_DEF("is_causal", PG_FLAG, 0), PG_OPT("scale", PG_FLOAT)},
     PG_NN | PG_RANDOM | PG_LOWER,
     PG_SAVE_IN(QUERY) | PG_SAVE_IN(KEY) | PG_SAVE_IN(VALUE) | PG_SAVE_IN(MASK) | PG_SAVE_OUT(0),
     1,
     count,
     {forward},
     backward},
    {0}};
