/* Counter-based random numbers (Philox 4x32-10; Salmon et al., SC 2011): element i of a stream
 * depends on seed, stream position and i only, never on threads. Spec: spec/base/rng_spec.lua. */
#ifndef PG_BASE_RNG_H
#define PG_BASE_RNG_H

#include "perigee.h"

typedef struct pg_rng {
  uint64_t seed, position; /* position counts blocks of four 32-bit words */
} pg_rng;

typedef struct pg_rng_block {
  uint32_t w[4];
} pg_rng_block;

/* Block number i of the stream with this seed. */
pg_rng_block pg_rng_at(uint64_t seed, uint64_t i);

/* Reserves n blocks and returns the number of the first one. */
static inline uint64_t pg_rng_take(pg_rng *r, uint64_t n) {
  uint64_t at = r->position;
  r->position += n;
  return at;
}

/* In [0, 1), 24 bits / 53 bits. */
static inline float pg_rng_f32(uint32_t w) { return (float)(w >> 8) * 0x1p-24f; }
static inline double pg_rng_f64(uint32_t hi, uint32_t lo) {
  return (double)((((uint64_t)hi << 32) | lo) >> 11) * 0x1p-53;
}

/* Uniform in [0, n), n > 0, without modulo bias beyond 2^-64 * n. */
uint64_t pg_rng_below(pg_rng *r, uint64_t n);

#endif
