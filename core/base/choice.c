/* The table of choices: open hashing of (kind, key), kept in ctx for as long as it lives.
 * Relies on choice.h. Spec: spec/autograd/autocast_spec.lua. */
#include "base/choice.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BUCKETS = 256 };

typedef struct choice {
  struct choice *next;
  const char *kind;
  size_t bytes;
  int way;
  unsigned char key[];
} choice;

typedef struct choices {
  choice *bucket[BUCKETS];
} choices;

static void choices_free(void *slot) {
  choices *all = slot;
  for (int i = 0; i < BUCKETS; i++)
    while (all->bucket[i]) {
      choice *next = all->bucket[i]->next;
      free(all->bucket[i]);
      all->bucket[i] = next;
    }
  free(all);
}

static size_t bucket_of(const char *kind, const void *key, size_t bytes) {
  uint64_t h = 14695981039346656037u;
  for (const char *s = kind; *s; s++) h = (h ^ (unsigned char)*s) * 1099511628211u;
  const unsigned char *p = key;
  for (size_t i = 0; i < bytes; i++) h = (h ^ p[i]) * 1099511628211u;
  return (h ^ h >> 32) % BUCKETS;
}

int pg_chosen(const pg_ctx *ctx, const char *kind, const void *key, size_t bytes) {
  const choices *all = ctx->slot[PG_SLOT_CHOICE];
  if (!all) return -1;
  for (const choice *c = all->bucket[bucket_of(kind, key, bytes)]; c; c = c->next)
    if (c->bytes == bytes && strcmp(c->kind, kind) == 0 && memcmp(c->key, key, bytes) == 0)
      return c->way;
  return -1;
}

/* Without memory the choice is made again next time. */
static void note(pg_ctx *ctx, const char *kind, const void *key, size_t bytes, int way) {
  choices *all = ctx->slot[PG_SLOT_CHOICE];
  if (!all) {
    all = calloc(1, sizeof *all);
    if (!all) return;
    ctx->slot[PG_SLOT_CHOICE] = all;
    ctx->slot_free[PG_SLOT_CHOICE] = choices_free;
  }
  choice *c = malloc(sizeof *c + bytes);
  if (!c) return;
  choice **at = &all->bucket[bucket_of(kind, key, bytes)];
  *c = (choice){.next = *at, .kind = kind, .bytes = bytes, .way = way};
  memcpy(c->key, key, bytes);
  *at = c;
}

static int64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

enum { TIMES = 4, LONG = 2000000 /* ns */ };

/* *time = the least of a few runs after a first one; one is enough where it takes long. */
static pg_status measure(pg_way_fn run, void *arg, int way, int64_t *time) {
  PG_TRY(run(arg, way));
  *time = INT64_MAX;
  for (int i = 0; i < TIMES && (i == 0 || *time < LONG); i++) {
    const int64_t start = now();
    PG_TRY(run(arg, way));
    const int64_t took = now() - start;
    if (took < *time) *time = took;
  }
  return PG_OK;
}

static pg_status first_that_exists(int ways, pg_way_fn run, void *arg) {
  for (int way = 0; way < ways; way++) {
    pg_status s = run(arg, way);
    if (s != PG_EUNSUPPORTED) return s;
  }
  return PG_EUNSUPPORTED;
}

pg_status pg_choose(pg_ctx *ctx, const char *kind, const void *key, size_t bytes, int ways,
                    pg_way_fn run, void *arg) {
  if (ctx->deterministic) return first_that_exists(ways, run, arg);
  int best = pg_chosen(ctx, kind, key, bytes), last = -1;
  if (best >= 0) return run(arg, best);
  int64_t best_time = 0, time;
  for (int way = 0; way < ways; way++) {
    pg_status s = measure(run, arg, way, &time);
    if (s == PG_EUNSUPPORTED) continue;
    PG_TRY(s);
    last = way;
    if (best >= 0 && time > best_time - best_time / 10) continue;
    best = way;
    best_time = time;
  }
  if (best < 0) return PG_EUNSUPPORTED;
  note(ctx, kind, key, bytes, best);
  return best == last ? PG_OK : run(arg, best);
}
