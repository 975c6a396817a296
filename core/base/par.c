/* Threads: OpenMP stands in this file only. Relies on ctx. Spec: spec/base/par_spec.lua. */
#include "base/par.h"

#include <omp.h>
#include <stdlib.h>
#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

#include "base/ctx.h"

/* Denormals are flushed per thread: bits 15 (FTZ) and 6 (DAZ) of MXCSR; FZ of FPCR on arm64. */
static void flush_denormals(void) {
#if defined(__SSE2__)
  _mm_setcsr(_mm_getcsr() | 0x8040u);
#elif defined(__aarch64__)
  uint64_t fpcr;
  __asm__ volatile("mrs %0, fpcr" : "=r"(fpcr));
  __asm__ volatile("msr fpcr, %0" : : "r"(fpcr | (1u << 24)));
#endif
}

void pg_par_init(pg_ctx *ctx) {
  const char *text = getenv("PERIGEE_NUM_THREADS");
  int n = text ? atoi(text) : 0;
  if (n > 0) omp_set_num_threads(n); /* BLAS and oneDNN follow */
  ctx->threads = n > 0 ? n : omp_get_max_threads();
  flush_denormals();
}

void pg_set_num_threads(pg_ctx *ctx, int n) {
  ctx->threads = n < 1 ? 1 : n;
  omp_set_num_threads(ctx->threads);
}

void pg_par_for(pg_ctx *ctx, int64_t n, int64_t grain, pg_par_fn fn, void *arg) {
  if (n <= 0) return;
  if (ctx->catch_up) ctx->catch_up(ctx);
  if (grain < 1) grain = 1;
  int64_t chunks = (n + grain - 1) / grain;
  if (chunks == 1 || ctx->threads == 1) {
    for (int64_t c = 0; c < chunks; c++) fn(arg, c * grain, pg_min64(n, (c + 1) * grain));
    return;
  }
  int threads = (int)pg_min64(chunks, ctx->threads);
  struct pg_chain *chain = ctx->chain; /* belongs to the calling thread */
  ctx->chain = NULL;
#pragma omp parallel num_threads(threads)
  {
    flush_denormals();
#pragma omp for schedule(static) nowait
    for (int64_t c = 0; c < chunks; c++) fn(arg, c * grain, pg_min64(n, (c + 1) * grain));
  }
  ctx->chain = chain;
}
