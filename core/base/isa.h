/* Which instruction level this machine runs: x86-64 base, v3 (AVX2 + FMA), v4 (AVX-512).
 * PERIGEE_ISA overrides downwards. */
#ifndef PG_BASE_ISA_H
#define PG_BASE_ISA_H

#include "base/ctx.h"

pg_level pg_isa_detect(void);
const char *pg_isa_name(pg_level level);
/* "AMD EPYC ..." and features ("avx512 bf16 amx"), for benchmarks. */
/* Does the processor have instructions that multiply bfloat16? */
bool pg_isa_has_bf16(void);
const char *pg_isa_features(char *buf, size_t n);

#endif
