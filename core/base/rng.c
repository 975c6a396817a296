/* Philox 4x32-10, after Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3",
 * SC 2011. Relies on nothing. Spec: spec/base/rng_spec.lua. */
#include "base/rng.h"

pg_rng_block pg_rng_at(uint64_t seed, uint64_t i) {
  uint32_t c0 = (uint32_t)i, c1 = (uint32_t)(i >> 32), c2 = 0, c3 = 0;
  uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
  for (int round = 0; round < PG_RNG_ROUNDS; round++) {
    pg_rng_round(&c0, &c1, &c2, &c3, k0, k1);
    k0 += PG_RNG_KEY0;
    k1 += PG_RNG_KEY1;
  }
  return (pg_rng_block){{c0, c1, c2, c3}};
}

uint64_t pg_rng_below(pg_rng *r, uint64_t n) {
  pg_rng_block b = pg_rng_at(r->seed, pg_rng_take(r, 1));
  return pg_rng_scale((uint64_t)b.w[0] << 32 | b.w[1], n);
}
