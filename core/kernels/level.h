/* Names per instruction level. Files of kernels/ (but blas.c and onednn.c), ops/ and optim/rules/
 * are compiled once per level with -DPG_LEVEL=base|v3|v4; what they export is wrapped in PG_AT:
 * PG_AT(foo) -> foo_v4. */
#ifndef PG_KERNELS_LEVEL_H
#define PG_KERNELS_LEVEL_H

#ifndef PG_LEVEL
#define PG_LEVEL base
#endif
#define PG_CAT2(a, b) a##_##b
#define PG_CAT(a, b)  PG_CAT2(a, b)
#define PG_AT(name)   PG_CAT(name, PG_LEVEL)

/* Before a loop: its iterations do not depend on one another, so it is vectorised without asking
 * for overlap. Unlike restrict it allows an output that is exactly one of the inputs (in place). */
#if defined(__clang__)
#define PG_IVDEP _Pragma("clang loop vectorize(assume_safety)")
#else
#define PG_IVDEP _Pragma("GCC ivdep")
#endif

#endif
