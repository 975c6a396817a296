/* pg_ctx: allocator, error text, random stream, threads, grad mode. Relies on nothing above the C
 * library. The only shared state of the library; no globals anywhere. Spec: spec/base/ctx_spec.lua.
 */
#ifndef PG_BASE_CTX_H
#define PG_BASE_CTX_H

#include "base/mem.h"
#include "base/rng.h"
#include "perigee.h"

#define PG_ERROR_LEN 1024

typedef enum pg_level { PG_BASE, PG_V3, PG_V4, PG_NLEVELS } pg_level;

enum { PG_SLOT_OPS, PG_SLOT_DNN, PG_SLOT_CHOICE, PG_SLOT_LUA, PG_SLOT_CHAIN, PG_NSLOTS };

struct pg_ctx {
  pg_mem mem;
  pg_rng rng;
  char error[PG_ERROR_LEN];
  const char *doing; /* name of the running op, put before error texts; NULL outside */
  const char *where; /* path of the running layer, put behind error texts; NULL outside */
  int threads;
  pg_level level;
  bool grad_mode;     /* ops record gradients */
  bool deterministic; /* no algorithms that round otherwise than the plain ones */
  bool autocast;      /* ops with PG_LOWER run in bfloat16, those with PG_FULL in float32 */
  uint64_t sequence;  /* number of the last node made */
  uint64_t steps; /* optimizer steps so far: what happens between two of them belongs together */
  pg_node *dead;  /* nodes waiting to be freed, drained without recursion */
  bool draining;
  void (*node_unref)(pg_node *);        /* set by autograd when it records its first node */
  void (*hooks_drop)(void *hooks);      /* set by autograd when it takes its first hook */
  int64_t macs;                         /* multiply-adds of products so far */
  struct pg_profile *profile;           /* gathers what ops do; NULL: none, as mostly */
  bool anomaly;                         /* ops and gradients stop at the first NaN they make */
  struct pg_chain *chain;               /* takes elementwise work to do it later; NULL: none does */
  void (*catch_up)(pg_ctx *ctx);        /* does what was put off; NULL: nothing is */
  bool holds_data;                      /* what runs may have pointers to elements of tensors */
  void *slot[PG_NSLOTS];                /* what higher floors keep in ctx, each made at first use */
  void (*slot_free[PG_NSLOTS])(void *); /* called by pg_ctx_free */
};

/* Writes "op: text (in layer path)" into ctx and returns code. */
pg_status pg_fail(pg_ctx *ctx, pg_status code, const char *fmt, ...) PG_PRINTF(3, 4);

#define PG_TRY(expr)                        \
  do {                                      \
    pg_status pg_try_s = (expr);            \
    if (pg_try_s != PG_OK) return pg_try_s; \
  } while (0)

/* What only our own bug can break. */
#include <assert.h>
#define PG_ASSERT(x) assert(x)

static inline int64_t pg_min64(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t pg_max64(int64_t a, int64_t b) { return a > b ? a : b; }

#endif
