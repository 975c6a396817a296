/* The caching allocator: 64-byte aligned blocks, free lists by size class for small ones, a heap
 * for large ones, exact byte accounting. Relies on the C library and heap. Spec:
 * spec/base/mem_spec.lua. */
#ifndef PG_BASE_MEM_H
#define PG_BASE_MEM_H

#include "base/heap.h"
#include "perigee.h"

#define PG_MEM_CLASSES 320

typedef struct pg_mem {
  void *free_list[PG_MEM_CLASSES];
  pg_heap heap;
  size_t live, peak;      /* bytes asked for and not given back */
  size_t held, held_peak; /* live blocks, as large as they are */
  size_t cached;          /* bytes on free lists */
  uint64_t allocations;   /* calls so far */
  uint64_t system;        /* calls that reached the system's allocator */
  int64_t fail_after;     /* < 0: never; 0: the next allocation fails, and every later one while it
                             stays 0 */
  size_t limit;           /* live bytes that no allocation may pass; 0: none */
  bool fail_once;         /* after the failure, allocate again */
  bool no_cache;
} pg_mem;

/* *out gets bytes of 64-byte aligned memory (bytes 0: a valid block). PG_ENOMEM leaves *out NULL.
 */
pg_status pg_alloc(pg_ctx *ctx, size_t bytes, void **out);
pg_status pg_alloc_zero(pg_ctx *ctx, size_t bytes, void **out);
/* bytes must be what was asked for; p NULL is fine. */
void pg_free(pg_ctx *ctx, void *p, size_t bytes);
/* Bytes that nothing holds and that were not given back to the system. */
size_t pg_mem_cached(const pg_ctx *ctx);
/* Gives cached blocks back to the system. */
void pg_mem_trim(pg_ctx *ctx);
/* Gives everything back; no block may be in use. */
void pg_mem_drop(pg_ctx *ctx);

#endif
