/* The caching allocator: size classes with eight steps per doubling and LIFO free lists for small
 * blocks, the heap for large ones. Relies on heap, ctx. Spec: spec/base/mem_spec.lua. */
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

#include "base/ctx.h"

#define LARGEST ((size_t)1 << 46)
#define SMALL   1024u              /* up to here classes are 64 bytes apart */
#define LARGE   ((size_t)1 << 20)  /* above, blocks come from the heap */
#define SLACK   ((size_t)64 << 20) /* cache that may stand beside a quarter of the peak */

/* Class of a size and the size of its blocks. */
static inline int class_of(size_t bytes, size_t *block) {
  if (bytes <= SMALL) {
    int c = bytes ? (int)((bytes - 1) / 64) : 0;
    *block = (size_t)(c + 1) * 64;
    return c;
  }
  int log = 63 - __builtin_clzll((unsigned long long)(bytes - 1)); /* 2^log <= bytes - 1 */
  size_t step = (size_t)1 << (log - 3);
  size_t k = (bytes - 1) >> (log - 3); /* 8..15 */
  *block = (k + 1) * step;
  return (int)(SMALL / 64) + (log - 10) * 8 + (int)(k - 8);
}

static void flush(pg_mem *m) {
  for (int c = 0; c < PG_MEM_CLASSES; c++) {
    void *p = m->free_list[c];
    while (p) {
      void *next = *(void **)p;
      free(p);
      p = next;
    }
    m->free_list[c] = NULL;
  }
  m->cached = 0;
}

size_t pg_mem_cached(const pg_ctx *ctx) { return ctx->mem.cached + ctx->mem.heap.cached; }

void pg_mem_trim(pg_ctx *ctx) {
  flush(&ctx->mem);
  pg__heap_trim(&ctx->mem.heap);
}

void pg_mem_drop(pg_ctx *ctx) {
  flush(&ctx->mem);
  pg__heap_drop(&ctx->mem.heap);
}

static bool in_heap(const pg_mem *m, const void *p) {
  return (const char *)p >= m->heap.base && (const char *)p < m->heap.top;
}

/* A block of the class of bytes from its list or from the C library; NULL where there is none. */
static void *from_lists(pg_mem *m, size_t bytes) {
  size_t block;
  int c = class_of(bytes, &block);
  void *p = m->free_list[c];
  if (p) {
    m->free_list[c] = *(void **)p;
    m->cached -= block;
    return p;
  }
  if (m->cached && m->held + m->cached + block > m->held_peak + m->held_peak / 4 + SLACK) flush(m);
  p = aligned_alloc(64, block);
  if (!p && m->cached) {
    flush(m);
    p = aligned_alloc(64, block);
  }
  m->system += p != NULL;
  return p;
}

/* Refusals, and a block that is large or that no list holds; *block becomes its size. */
static __attribute__((noinline)) pg_status alloc_slowly(pg_ctx *ctx, size_t bytes, size_t *block,
                                                        void **out) {
  pg_mem *m = &ctx->mem;
  if (m->fail_after >= 0 && m->fail_after-- == 0) {
    if (!m->fail_once) m->fail_after = 0;
    return pg_fail(ctx, PG_ENOMEM, "out of memory (%zu bytes)", bytes);
  }
  if (bytes > LARGEST) return pg_fail(ctx, PG_ENOMEM, "out of memory (%zu bytes)", bytes);
  if (m->limit && m->live + bytes > m->limit)
    return pg_fail(ctx, PG_ENOMEM, "out of memory (%zu bytes more than the limit of %zu)", bytes,
                   m->limit);
  bool grown = false;
  if (bytes > LARGE && !m->no_cache) *out = pg__heap_alloc(&m->heap, bytes, block, &grown);
  if (*out) m->system += grown;
  else *out = from_lists(m, bytes);
  return *out ? PG_OK : pg_fail(ctx, PG_ENOMEM, "out of memory (%zu bytes)", bytes);
}

pg_status pg_alloc(pg_ctx *ctx, size_t bytes, void **out) {
  pg_mem *m = &ctx->mem;
  *out = NULL;
  m->allocations++;
  size_t block = 0;
  void *p = NULL;
  int c = bytes <= LARGEST ? class_of(bytes, &block) : 0;
  if (m->fail_after < 0 && !m->limit && bytes <= LARGEST && (p = m->free_list[c])) {
    m->free_list[c] = *(void **)p;
    m->cached -= block;
  } else {
    PG_TRY(alloc_slowly(ctx, bytes, &block, &p));
  }
  m->live += bytes;
  m->held += block;
  if (m->live > m->peak) m->peak = m->live;
  if (m->held > m->held_peak) m->held_peak = m->held;
  *out = p;
  return PG_OK;
}

pg_status pg_alloc_zero(pg_ctx *ctx, size_t bytes, void **out) {
  PG_TRY(pg_alloc(ctx, bytes, out));
  memset(*out, 0, bytes);
  return PG_OK;
}

void pg_free(pg_ctx *ctx, void *p, size_t bytes) {
  if (!p) return;
  pg_mem *m = &ctx->mem;
  PG_ASSERT(m->live >= bytes);
  m->live -= bytes;
  if (bytes > LARGE && in_heap(m, p)) {
    m->held -= pg__heap_free(&m->heap, p);
    return;
  }
  size_t block;
  int c = class_of(bytes, &block);
  m->held -= block;
  if (m->no_cache) {
    free(p);
    return;
  }
  *(void **)p = m->free_list[c];
  m->free_list[c] = p;
  m->cached += block;
}
