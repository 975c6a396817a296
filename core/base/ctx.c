/* pg_ctx: making, freeing, error text. Relies on mem, par, isa. Spec: spec/base/ctx_spec.lua. */
#include "base/ctx.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/isa.h"
#include "base/par.h"

pg_status pg_ctx_new(pg_ctx **out) {
  *out = NULL;
  pg_ctx *ctx = calloc(1, sizeof *ctx);
  if (!ctx) return PG_ENOMEM;
  ctx->mem.fail_after = -1;
#if defined(__SANITIZE_ADDRESS__)
  ctx->mem.no_cache = true; /* so that a use after free is seen */
#endif
  ctx->level = pg_isa_detect();
  ctx->grad_mode = true;
  pg_par_init(ctx);
  *out = ctx;
  return PG_OK;
}

void pg_ctx_free(pg_ctx *ctx) {
  if (!ctx) return;
  for (int i = 0; i < PG_NSLOTS; i++)
    if (ctx->slot[i] && ctx->slot_free[i]) ctx->slot_free[i](ctx->slot[i]);
  pg_mem_drop(ctx);
  free(ctx);
}

const char *pg_error(const pg_ctx *ctx) { return ctx->error; }

const char *pg_status_text(pg_status s) {
  static const char *const text[] = {
#define X(code, meaning) meaning,
      PG_STATUS_LIST(X)
#undef X
  };
  return (unsigned)s < PG_NSTATUS ? text[s] : "unknown status";
}

pg_status pg_fail(pg_ctx *ctx, pg_status code, const char *fmt, ...) {
  char text[PG_ERROR_LEN];
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(text, sizeof text, fmt, ap);
  va_end(ap);
  snprintf(ctx->error, sizeof ctx->error, "%.*s%s%.800s%s%.120s%s",
           ctx->doing ? (int)strcspn(ctx->doing, "|") : 0, ctx->doing ? ctx->doing : "",
           ctx->doing ? ": " : "", text, ctx->where ? " (in layer " : "",
           ctx->where ? ctx->where : "", ctx->where ? ")" : "");
  return code;
}

void pg_manual_seed(pg_ctx *ctx, uint64_t seed) { ctx->rng = (pg_rng){seed, 0}; }
int pg_get_num_threads(const pg_ctx *ctx) { return ctx->threads; }
bool pg_get_deterministic(const pg_ctx *ctx) { return ctx->deterministic; }
void pg_set_deterministic(pg_ctx *ctx, bool on) { ctx->deterministic = on; }
const char *pg_isa(const pg_ctx *ctx) { return pg_isa_name(ctx->level); }
size_t pg_bytes_live(const pg_ctx *ctx) { return ctx->mem.live; }
size_t pg_bytes_peak(const pg_ctx *ctx) { return ctx->mem.peak; }
