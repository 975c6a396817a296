/* The iterator: ordering, merging and splitting of dims. Relies on shape, base/par. Spec:
 * spec/tensor/iter_spec.lua. */
#include "tensor/iter.h"

#include <stdlib.h>

#include "base/par.h"

static int64_t step_of(const pg_iter *it, int d, int k) { return llabs(it->stride[d][k]); }

/* Does dim a belong inside dim b (smaller steps first; the output decides, then the inputs)? */
static bool inner(const pg_iter *it, int a, int b) {
  for (int k = 0; k < it->count; k++) {
    int64_t x = step_of(it, a, k), y = step_of(it, b, k);
    if (x == y || (x == 0 || y == 0)) continue;
    return x < y;
  }
  return false;
}

static void swap_dims(pg_iter *it, int a, int b) {
  int64_t n = it->shape[a];
  it->shape[a] = it->shape[b];
  it->shape[b] = n;
  for (int k = 0; k < it->count; k++) {
    int64_t s = it->stride[a][k];
    it->stride[a][k] = it->stride[b][k];
    it->stride[b][k] = s;
  }
}

/* Most walks: every tensor is contiguous and of this shape, or one element. */
static bool init_flat(pg_iter *it, int nd, const int64_t *shape, int count, pg_tensor *const *t) {
  for (int k = 0; k < count; k++) {
    it->stride[0][k] = 0;
    if (t[k]->nd == 0) continue;
    if (t[k]->nd != nd) return false;
    for (int64_t i = nd - 1, n = 1; i >= 0; n *= shape[i--])
      if (t[k]->shape[i] != shape[i] || (t[k]->stride[i] != n && shape[i] != 1)) return false;
    it->stride[0][k] = (int64_t)pg_dtype_size((pg_dtype)t[k]->dtype);
  }
  it->nd = 1;
  it->shape[0] = it->numel;
  return it->numel > 1;
}

/* In bytes: what a thread's nearest cache takes, the shortest run, what common caches hold. */
enum { STREAM_BLOCK = 1024, STREAM_RUN = 1024, STREAM_FROM = 40 << 20 };

/* Is t[0] written in long runs, and is what all tensors hold more than the caches do? */
static bool wants_stream(const pg_iter *it, pg_tensor *const *t) {
  if (it->numel * 8 * it->count < STREAM_FROM) return false;
  if (it->stride[0][0] != (int64_t)it->size || it->shape[0] * it->stride[0][0] < STREAM_RUN)
    return false;
  size_t bytes = 0;
  for (int k = 0; k < it->count; k++) {
    if (k && it->data[k] == it->data[0]) return false; /* in place */
    int64_t n = 1;
    for (int d = 0; d < it->nd; d++) n *= it->stride[d][k] ? it->shape[d] : 1;
    bytes += (size_t)n * pg_dtype_size((pg_dtype)t[k]->dtype);
  }
  return bytes >= STREAM_FROM;
}

/* In bytes: runs up to which a block of them is faster, if some operand's copy has to be made again
 * for each block or not; a block. */
enum { NARROW = 400, NARROW_HELD = 512, BLOCK = 4096 };

static bool joined(const pg_iter *it, int k) {
  return it->stride[1][k] == it->stride[0][k] * it->shape[0];
}

static bool wants_blocks(const pg_iter *it) {
  if (it->nd < 2 || it->stride[0][0] != (int64_t)it->size || !joined(it, 0)) return false;
  int64_t most = NARROW_HELD, widest = 0;
  for (int k = 0; k < it->count; k++) {
    if (!joined(it, k) && it->stride[1][k]) most = NARROW;
    widest = pg_max64(widest, it->width[k]);
  }
  return it->shape[0] * widest <= most;
}

void pg__iter_plan(pg_iter *it, int nd, const int64_t *shape, int count, pg_tensor *const *t) {
  PG_ASSERT(count <= PG_ITER_MAX);
  it->count = count;
  it->numel = pg_numel_of(nd, shape);
  if (init_flat(it, nd, shape, count, t)) return;
  int64_t stride[PG_ITER_MAX][PG_MAX_DIMS];
  for (int k = 0; k < count; k++) pg_broadcast_strides(t[k], nd, shape, stride[k]);
  int n = 0;
  for (int i = nd - 1; i >= 0; i--) { /* innermost first, dims of one element dropped */
    if (shape[i] == 1) continue;
    it->shape[n] = shape[i];
    for (int k = 0; k < count; k++)
      it->stride[n][k] = stride[k][i] * (int64_t)pg_dtype_size((pg_dtype)t[k]->dtype);
    n++;
  }
  for (int i = 1; i < n; i++) /* insertion sort keeps equal dims in order */
    for (int j = i; j > 0 && inner(it, j, j - 1); j--) swap_dims(it, j, j - 1);
  int m = 0;
  for (int i = 1; i < n; i++) {
    bool merge = true;
    for (int k = 0; k < count && merge; k++)
      merge = it->stride[i][k] == it->stride[m][k] * it->shape[m];
    if (merge) {
      it->shape[m] *= it->shape[i];
    } else {
      m++;
      if (m != i) {
        it->shape[m] = it->shape[i];
        for (int k = 0; k < count; k++) it->stride[m][k] = it->stride[i][k];
      }
    }
  }
  it->nd = n ? m + 1 : 0;
  if (!it->nd) {
    it->nd = 1;
    it->shape[0] = it->numel ? 1 : 0;
    for (int k = 0; k < count; k++) it->stride[0][k] = 0;
  }
}

void pg_iter_init(pg_iter *it, int nd, const int64_t *shape, int count, pg_tensor *const *t) {
  pg__iter_plan(it, nd, shape, count, t);
  for (int k = 0; k < count; k++) it->data[k] = pg_data(t[k]);
  it->kern = pg__kern(t[0]->ctx);
  for (int k = 0; k < count; k++) it->width[k] = (uint8_t)pg_dtype_size((pg_dtype)t[k]->dtype);
  it->size = it->width[0];
  it->stream = wants_stream(it, t);
  it->narrow = wants_blocks(it);
}

typedef struct walk {
  const pg_iter *it;
  pg_loop loop;
  const void *arg;
} walk;

/* n elements of the innermost dim, written to a block that stays in the nearest cache and sent from
 * there. */
static void run_stream(const walk *w, int64_t n, char *const *at) {
  const pg_iter *it = w->it;
  const int64_t most = STREAM_BLOCK / (int64_t)it->size;
  _Alignas(64) char block[STREAM_BLOCK];
  char *p[PG_ITER_MAX];
  for (int k = 0; k < it->count; k++) p[k] = at[k];
  for (int64_t m; n > 0; n -= m) {
    m = pg_min64(n, most);
    char *to = p[0];
    p[0] = block;
    w->loop(m, p, it->stride[0], w->arg);
    it->kern->stream(to, block, (size_t)m * it->size);
    p[0] = to;
    for (int k = 0; k < it->count; k++) p[k] += m * it->stride[0][k];
  }
}

/* `rows` whole runs of the innermost dim that follow one another in t[0]. */
static void run_rows(const walk *w, int64_t rows, char *const *from) {
  const pg_iter *it = w->it;
  const int64_t n = it->shape[0];
  int64_t most = rows, step[PG_ITER_MAX];
  _Alignas(64) char copy[PG_ITER_MAX - 1][BLOCK + PG_LAY_PAST];
  char *p[PG_ITER_MAX];
  bool held[PG_ITER_MAX] = {false}; /* the copy serves all blocks */
  for (int k = 0; k < it->count; k++) most = pg_min64(most, BLOCK / (n * it->width[k]));
  for (int64_t r = 0, m; r < rows; r += m) {
    m = pg_min64(most, rows - r);
    for (int k = 0; k < it->count; k++) {
      const int64_t row = it->stride[1][k];
      step[k] = it->stride[0][k];
      p[k] = from[k] + r * row;
      if (joined(it, k)) continue;
      char *to = copy[k - 1];
      if (!held[k]) it->kern->lay(it->width[k], m, n, to, p[k], row, step[k]);
      held[k] = row == 0;
      step[k] = it->width[k];
      p[k] = to;
    }
    w->loop(m * n, p, step, w->arg);
  }
}

/* Elements [begin, end) of the merged order. */
static void run_range(void *arg, int64_t begin, int64_t end) {
  const walk *w = arg;
  const pg_iter *it = w->it;
  char *p[PG_ITER_MAX];
  int64_t at[PG_MAX_DIMS], rest = begin;
  for (int k = 0; k < it->count; k++) p[k] = it->data[k];
  for (int d = 0; d < it->nd; d++) {
    at[d] = rest % it->shape[d];
    rest /= it->shape[d];
    for (int k = 0; k < it->count; k++) p[k] += at[d] * it->stride[d][k];
  }
  while (begin < end) {
    const int64_t rows =
        it->narrow && at[0] == 0 ? pg_min64((end - begin) / it->shape[0], it->shape[1] - at[1]) : 0;
    if (rows > 1) {
      run_rows(w, rows, p);
      begin += rows * it->shape[0];
      if (begin >= end) break;
      for (int k = 0; k < it->count; k++)
        p[k] += (rows - 1) * it->stride[1][k] + it->shape[0] * it->stride[0][k];
      at[1] += rows - 1;
      at[0] = it->shape[0];
    } else {
      int64_t n = pg_min64(end - begin, it->shape[0] - at[0]);
      if (it->stream) run_stream(w, n, p);
      else w->loop(n, p, it->stride[0], w->arg);
      begin += n;
      if (begin >= end) break;
      for (int k = 0; k < it->count; k++) p[k] += n * it->stride[0][k];
      at[0] += n;
    }
    for (int d = 0; d < it->nd - 1 && at[d] == it->shape[d]; d++) {
      for (int k = 0; k < it->count; k++)
        p[k] += it->stride[d + 1][k] - it->shape[d] * it->stride[d][k];
      at[d] = 0;
      at[d + 1]++;
    }
  }
  if (it->stream) it->kern->settle();
}

void pg_iter_run(pg_ctx *ctx, const pg_iter *it, int cost, pg_loop loop, const void *arg) {
  if (!it->numel) return;
  if (it->nd == 1 && it->numel <= 4096) {
    char *p[PG_ITER_MAX];
    for (int k = 0; k < it->count; k++) p[k] = it->data[k];
    loop(it->numel, p, it->stride[0], arg);
    return;
  }
  walk w = {it, loop, arg};
  pg_par_for(ctx, it->numel, pg_grain(cost), run_range, &w);
}

void pg_iter_over(pg_ctx *ctx, int count, pg_tensor *const *t, int cost, pg_loop loop,
                  const void *arg) {
  pg_iter it;
  const bool held = ctx->holds_data;
  pg_iter_init(&it, t[0]->nd, t[0]->shape, count, t);
  pg_iter_run(ctx, &it, cost, loop, arg);
  ctx->holds_data = held;
}
