/* The oneDNN engine of a context, made at first use, and which ways to compute are open.
 * Relies on base/ctx.h, base/isa.h, kernels/onednn.h.
 * Spec: spec/kernels/onednn_spec.lua. */
#ifndef PG_OPS_ENGINE_H
#define PG_OPS_ENGINE_H

#include <stdlib.h>
#include <string.h>

#include "base/ctx.h"
#include "base/isa.h"
#include "kernels/onednn.h"

typedef struct pg_engine {
  pgk_dnn *dnn;  /* NULL: none */
  bool winograd; /* convolutions need not be the direct sums */
  bool bf16;     /* the processor multiplies bfloat16 itself */
} pg_engine;

static inline void pg__engine_free(void *engine) {
  pgk_dnn_free(((pg_engine *)engine)->dnn);
  free(engine);
}

/* *out = ctx's; PERIGEE_CONV allows everything, or as onednn or blas the direct sums of that one
 * only, or as winograd all but oneDNN. */
static inline pg_status pg_engine_of(pg_ctx *ctx, const pg_engine **out) {
  void **slot = &ctx->slot[PG_SLOT_DNN];
  if (!*slot) {
    const char *want = getenv("PERIGEE_CONV");
    if (want && !*want) want = NULL;
    const bool blas = want && strcmp(want, "blas") == 0;
    const bool onednn = want && strcmp(want, "onednn") == 0;
    const bool winograd = !want || strcmp(want, "winograd") == 0;
    if (!blas && !onednn && !winograd)
      return pg_fail(ctx, PG_EARG, "PERIGEE_CONV: expected onednn, blas or winograd, got '%s'",
                     want);
    pgk_dnn *dnn = want && !onednn ? NULL : pgk_dnn_new();
    if (!dnn && onednn)
      return pg_fail(ctx, PG_EUNSUPPORTED, "PERIGEE_CONV=onednn, but oneDNN cannot be loaded");
    pg_engine *e = malloc(sizeof *e);
    if (!e) {
      pgk_dnn_free(dnn);
      return pg_fail(ctx, PG_ENOMEM, "out of memory");
    }
    *e = (pg_engine){dnn, winograd, ctx->level == PG_V4 && pg_isa_has_bf16()};
    *slot = e;
    ctx->slot_free[PG_SLOT_DNN] = pg__engine_free;
  }
  *out = *slot;
  return PG_OK;
}

#endif
