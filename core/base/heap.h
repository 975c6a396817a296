/* Large blocks: one range of addresses, cut and joined as blocks come and go, so that memory freed
 * by one size serves every other. Relies on perigee.h. Spec: spec/base/mem_spec.lua. */
#ifndef PG_BASE_HEAP_H
#define PG_BASE_HEAP_H

#include "perigee.h"

#define PG_HEAP_BINS 1024 /* 32 to a doubling of the size */

typedef struct pg_heap {
  char *base, *top,
      *end;     /* base NULL: no range; [base, top) holds blocks, [top, end) is untouched */
  bool refused; /* the system gives no range of addresses */
  struct pg_heap_block *last;              /* the block below top */
  struct pg_heap_block *bin[PG_HEAP_BINS]; /* free blocks by size */
  uint64_t map[PG_HEAP_BINS / 64];         /* which bins hold any */
  size_t cached;                           /* bytes of free blocks that the system still backs */
} pg_heap;

/* 64-byte aligned memory of at least bytes, NULL where there is none. *size is what the block takes
 * away; *grown tells whether the system was asked. */
void *pg__heap_alloc(pg_heap *h, size_t bytes, size_t *size, bool *grown);
/* -> what the block gives back. p must come from pg__heap_alloc. */
size_t pg__heap_free(pg_heap *h, void *p);
/* Gives the pages of free blocks back to the system. */
void pg__heap_trim(pg_heap *h);
/* Gives everything back; no block may be in use. */
void pg__heap_drop(pg_heap *h);

#endif
