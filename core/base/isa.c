/* Detection of the instruction level. Relies on ctx. Spec: spec/base/ctx_spec.lua. */
#include "base/isa.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

const char *pg_isa_name(pg_level level) {
  static const char *const name[PG_NLEVELS] = {"base", "v3", "v4"};
  return name[level];
}

static pg_level built(pg_level level) {
#if !defined(PG_HAVE_V4)
  if (level == PG_V4) level = PG_V3;
#endif
#if !defined(PG_HAVE_V3)
  if (level == PG_V3) level = PG_BASE;
#endif
  return level;
}

pg_level pg_isa_detect(void) {
  pg_level level = PG_BASE;
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) level = PG_V3;
  if (level == PG_V3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq"))
    level = PG_V4;
#endif
  const char *want = getenv("PERIGEE_ISA");
  if (want)
    for (int i = 0; i < PG_NLEVELS; i++)
      if (strcmp(want, pg_isa_name((pg_level)i)) == 0 && i < (int)level) level = (pg_level)i;
  return built(level);
}

bool pg_isa_has_bf16(void) {
#if defined(__x86_64__)
  unsigned a, b, c, d;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 5 & 1);
#else
  return false;
#endif
}

const char *pg_isa_features(char *buf, size_t n) {
#if defined(__x86_64__)
  unsigned a, b, c, d, brand[12] = {0};
  for (unsigned i = 0; i < 3; i++)
    __get_cpuid(0x80000002u + i, &brand[4 * i], &brand[4 * i + 1], &brand[4 * i + 2],
                &brand[4 * i + 3]);
  bool amx = false;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) amx = (d >> 22 & 1) && (d >> 24 & 1);
  snprintf(buf, n, "%.47s%s%s%s", (const char *)brand,
           __builtin_cpu_supports("avx512f") ? ", avx512" : "",
           pg_isa_has_bf16() ? ", avx512_bf16" : "", amx ? ", amx_bf16" : "");
#else
  snprintf(buf, n, "unknown processor");
#endif
  return buf;
}
