/* A heap for large blocks in one reserved range of addresses: sizes in 32 classes to a doubling,
 * a bit map of the free ones, boundary tags to join neighbours; every call takes constant time.
 * Relies on mmap. Spec: spec/base/mem_spec.lua. */
#include "base/heap.h"

#include <sys/mman.h>
#include <unistd.h>

enum { HEAD = 64, STEPS = 5, LEAST = 15 };
#define GROWTH    ((size_t)2 << 20) /* what the range grows by, and is aligned to */
#define SMALLEST  ((size_t)1 << 32) /* a smaller range is not worth having */
#define REMAINDER ((size_t)1 << 17) /* less is not cut off a block */

/* Stands in the first HEAD bytes of each block; sizes include it. */
typedef struct pg_heap_block {
  size_t size;
  size_t backed;               /* of a free block: bytes that the system still backs */
  struct pg_heap_block *below; /* the neighbour at lower addresses */
  struct pg_heap_block *next, *previous;
  bool free;
} pg_heap_block;

/* The class that a size belongs to; *rounded is the size that the smallest block has from which
 * on all blocks of the class serve. Sizes begin at 2^LEAST. */
static int class_of(size_t size, size_t *rounded) {
  if (size < (size_t)1 << LEAST) size = (size_t)1 << LEAST;
  int log = 63 - __builtin_clzll((unsigned long long)size);
  size_t step = (size_t)1 << (log - STEPS), up = (size + step - 1) / step * step;
  *rounded = up;
  log = 63 - __builtin_clzll((unsigned long long)up);
  return (log - LEAST) * (1 << STEPS) + (int)((up >> (log - STEPS)) - (1 << STEPS));
}

/* The class on whose list a free block stands: the last one that it serves wholly. */
static int bin_of(size_t size) {
  int log = 63 - __builtin_clzll((unsigned long long)size);
  return (log - LEAST) * (1 << STEPS) + (int)((size >> (log - STEPS)) - (1 << STEPS));
}

static pg_heap_block *above(const pg_heap *h, pg_heap_block *b) {
  char *p = (char *)b + b->size;
  return p < h->top ? (pg_heap_block *)(void *)p : NULL;
}

static void put(pg_heap *h, pg_heap_block *b) {
  int k = bin_of(b->size);
  b->free = true;
  b->previous = NULL;
  b->next = h->bin[k];
  if (b->next) b->next->previous = b;
  h->bin[k] = b;
  h->map[k / 64] |= (uint64_t)1 << (k % 64);
  h->cached += b->backed;
}

static void take(pg_heap *h, pg_heap_block *b) {
  int k = bin_of(b->size);
  if (b->next) b->next->previous = b->previous;
  if (b->previous) b->previous->next = b->next;
  else h->bin[k] = b->next;
  if (!h->bin[k]) h->map[k / 64] &= ~((uint64_t)1 << (k % 64));
  b->free = false;
  h->cached -= b->backed;
}

/* A free block of class k or above, NULL where there is none. */
static pg_heap_block *find(const pg_heap *h, int k) {
  uint64_t word = h->map[k / 64] >> (k % 64) << (k % 64);
  for (int i = k / 64;;) {
    if (word) return h->bin[i * 64 + __builtin_ctzll(word)];
    if (++i == PG_HEAP_BINS / 64) return NULL;
    word = h->map[i];
  }
}

/* Reserves addresses, which costs nothing: twice the machine's memory, or what the system allows.
 */
static bool reserve(pg_heap *h) {
  long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
  size_t size = pages > 0 && page > 0 ? 2 * (size_t)pages * (size_t)page : SMALLEST;
  size = (size + SMALLEST - 1) / SMALLEST * SMALLEST;
  for (; size >= SMALLEST; size /= 2) {
    void *p = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) continue;
    h->base = p;
    h->end = h->base + size;
    h->top = h->base + (GROWTH - (uintptr_t)p % GROWTH) % GROWTH;
    return true;
  }
  h->refused = true;
  return false;
}

/* A block at the top that is free and has at least size bytes, NULL where the system refuses. */
static pg_heap_block *grow(pg_heap *h, size_t size) {
  if (!h->base && (h->refused || !reserve(h))) return NULL;
  pg_heap_block *b = h->last && h->last->free ? h->last : NULL;
  size_t more = (size - (b ? b->size : 0) + GROWTH - 1) / GROWTH * GROWTH;
  if (more > (size_t)(h->end - h->top)) return NULL;
  if (mprotect(h->top, more, PROT_READ | PROT_WRITE)) return NULL;
#ifdef MADV_HUGEPAGE
  madvise(h->top, more, MADV_HUGEPAGE);
#endif
  if (b) {
    take(h, b);
  } else {
    b = (pg_heap_block *)(void *)h->top;
    *b = (pg_heap_block){.below = h->last};
    h->last = b;
  }
  b->size += more;
  h->top += more;
  put(h, b);
  return b;
}

/* Cuts what a used block has beyond size off it. */
static void split(pg_heap *h, pg_heap_block *b, size_t size) {
  if (b->size - size < REMAINDER) return;
  pg_heap_block *rest = (pg_heap_block *)(void *)((char *)b + size), *next = above(h, b);
  *rest = (pg_heap_block){
      .size = b->size - size, .backed = b->backed > size ? b->backed - size : 0, .below = b};
  b->size = size;
  if (next) next->below = rest;
  else h->last = rest;
  put(h, rest);
}

void *pg__heap_alloc(pg_heap *h, size_t bytes, size_t *size, bool *grown) {
  size_t want;
  int k = class_of((bytes + HEAD + 63) / 64 * 64, &want);
  pg_heap_block *b = k < PG_HEAP_BINS ? find(h, k) : NULL;
  *grown = !b && k < PG_HEAP_BINS;
  if (*grown) b = grow(h, want);
  if (!b) return NULL;
  take(h, b);
  split(h, b, want);
  *size = b->size;
  return (char *)b + HEAD;
}

size_t pg__heap_free(pg_heap *h, void *p) {
  pg_heap_block *b = (pg_heap_block *)(void *)((char *)p - HEAD);
  size_t size = b->size;
  b->backed = size;
  pg_heap_block *next = above(h, b), *below = b->below;
  if (next && next->free) {
    take(h, next);
    b->size += next->size;
    b->backed += next->backed;
  }
  if (below && below->free) {
    take(h, below);
    below->size += b->size;
    below->backed += b->backed;
    b = below;
  }
  next = above(h, b);
  if (next) next->below = b;
  else h->last = b;
  put(h, b);
  return size;
}

void pg__heap_trim(pg_heap *h) {
  uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
  for (int k = 0; k < PG_HEAP_BINS; k++)
    for (pg_heap_block *b = h->bin[k]; b; b = b->next) {
      uintptr_t from = ((uintptr_t)b + sizeof *b + page - 1) / page * page;
      uintptr_t to = ((uintptr_t)b + b->size) / page * page;
      if (b->backed && to > from) madvise((void *)from, to - from, MADV_DONTNEED);
      b->backed = 0;
    }
  h->cached = 0;
}

void pg__heap_drop(pg_heap *h) {
  if (h->base) munmap(h->base, (size_t)(h->end - h->base));
  *h = (pg_heap){0};
}
