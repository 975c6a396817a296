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

/* One round on the words of a block with key k0, k1. */
static inline void pg_rng_round(uint32_t *c0, uint32_t *c1, uint32_t *c2, uint32_t *c3, uint32_t k0,
                                uint32_t k1) {
  uint64_t a = (uint64_t)0xD2511F53u * *c0, b = (uint64_t)0xCD9E8D57u * *c2;
  uint32_t n0 = (uint32_t)(b >> 32) ^ *c1 ^ k0, n2 = (uint32_t)(a >> 32) ^ *c3 ^ k1;
  *c1 = (uint32_t)b;
  *c3 = (uint32_t)a;
  *c0 = n0;
  *c2 = n2;
}

enum { PG_RNG_ROUNDS = 10, PG_RNG_LANES = 32 };
#define PG_RNG_KEY0 0x9E3779B9u
#define PG_RNG_KEY1 0xBB67AE85u

/* Blocks i .. i + 31 at once, as vector code: w[k][j] is word k of block i + j. */
static inline void pg_rng_lanes(uint64_t seed, uint64_t i, uint32_t w[4][PG_RNG_LANES]) {
  uint32_t *restrict c0 = w[0], *restrict c1 = w[1], *restrict c2 = w[2], *restrict c3 = w[3];
  for (uint32_t j = 0; j < PG_RNG_LANES; j++) {
    c0[j] = (uint32_t)(i + j);
    c1[j] = (uint32_t)((i + j) >> 32);
    c2[j] = c3[j] = 0;
  }
  uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
  for (int round = 0; round < PG_RNG_ROUNDS; round++) {
    for (int j = 0; j < PG_RNG_LANES; j++) pg_rng_round(c0 + j, c1 + j, c2 + j, c3 + j, k0, k1);
    k0 += PG_RNG_KEY0;
    k1 += PG_RNG_KEY1;
  }
}

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

/* x n / 2^64: a word of 64 random bits as a number in [0, n). */
static inline uint64_t pg_rng_scale(uint64_t x, uint64_t n) {
  /* high word of x * n, in 32-bit halves */
  uint64_t lo = (x & 0xffffffffu) * (n & 0xffffffffu), m1 = (x >> 32) * (n & 0xffffffffu);
  uint64_t m2 = (x & 0xffffffffu) * (n >> 32), hi = (x >> 32) * (n >> 32);
  uint64_t carry = ((lo >> 32) + (m1 & 0xffffffffu) + (m2 & 0xffffffffu)) >> 32;
  return hi + (m1 >> 32) + (m2 >> 32) + carry;
}

/* Uniform in [0, n), n > 0, without modulo bias beyond 2^-64 * n. */
uint64_t pg_rng_below(pg_rng *r, uint64_t n);

#endif
