/* Copies between layouts whose unit strides lie in different dims (rows to columns, channels-first
 * to channels-last), tile by tile so that both sides stay in cache. Relies on iter.h, base/par.
 * Spec: spec/tensor/copy_spec.lua. */
#include "base/par.h"
#include "tensor/iter.h"

enum { TILE = 32 };

/* Dims 0 (unit stride of the output) and `across` (unit stride of the input) of an iterator. */
typedef struct turn {
  const pg_iter *it;
  int across;
  size_t size;
  int64_t strips; /* of TILE elements along across */
} turn;

/* COPY_TILE(uint32_t): n along dim 0, m along across. Rows of a power of two bytes share few cache
 * sets, so each tile is read along its rows once, into a buffer. */
#define COPY_TILE(T)                                                        \
  do {                                                                      \
    T tile[TILE][TILE];                                                     \
    const T *x = (const T *)from;                                           \
    T *y = (T *)to;                                                         \
    int64_t sx = it->stride[0][1] / (int64_t)sizeof(T);                     \
    int64_t sy = it->stride[q->across][0] / (int64_t)sizeof(T);             \
    for (int64_t i0 = 0; i0 < n; i0 += TILE) {                              \
      int64_t rows = pg_min64(TILE, n - i0);                                \
      for (int64_t i = 0; i < rows; i++)                                    \
        for (int64_t j = 0; j < m; j++) tile[i][j] = x[(i0 + i) * sx + j];  \
      for (int64_t j = 0; j < m; j++)                                       \
        for (int64_t i = 0; i < rows; i++) y[j * sy + i0 + i] = tile[i][j]; \
    }                                                                       \
  } while (0)

/* Items [begin, end): strips of all other dims. */
static void copy_strips(void *arg, int64_t begin, int64_t end) {
  const turn *q = arg;
  const pg_iter *it = q->it;
  int64_t n = it->shape[0];
  for (int64_t item = begin; item < end; item++) {
    int64_t j0 = item % q->strips * TILE, rest = item / q->strips;
    int64_t m = pg_min64(TILE, it->shape[q->across] - j0);
    char *to = it->data[0] + j0 * it->stride[q->across][0];
    const char *from = it->data[1] + j0 * it->stride[q->across][1];
    for (int d = 1; d < it->nd; d++) {
      if (d == q->across) continue;
      int64_t at = rest % it->shape[d];
      rest /= it->shape[d];
      to += at * it->stride[d][0];
      from += at * it->stride[d][1];
    }
    if (q->size == 4)
      it->kern->turn(n, m, (const uint32_t *)from, it->stride[0][1] / 4, (uint32_t *)to,
                     it->stride[q->across][0] / 4);
    else if (q->size == 8) COPY_TILE(uint64_t);
    else if (q->size == 2) COPY_TILE(uint16_t);
    else COPY_TILE(uint8_t);
  }
}

bool pg__copy_turned(pg_ctx *ctx, const pg_iter *it, size_t size) {
  int64_t unit = (int64_t)size;
  if (it->nd < 2 || it->numel < 1024 || it->stride[0][0] != unit) return false;
  if (it->stride[0][1] == unit || it->stride[0][1] == 0) return false;
  turn q = {it, 0, size, 0};
  for (int d = 1; d < it->nd; d++)
    if (it->stride[d][1] == unit && it->shape[d] >= 4) q.across = d;
  if (!q.across) return false;
  q.strips = (it->shape[q.across] + TILE - 1) / TILE;
  int64_t width = it->shape[0] * pg_min64(TILE, it->shape[q.across]);
  pg_par_for(ctx, it->numel / it->shape[0] / it->shape[q.across] * q.strips, pg_grain(2 * width),
             copy_strips, &q);
  return true;
}
