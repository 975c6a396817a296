/* bfloat16 as its upper half of a float32, both ways.
 * Relies on the C library's integer types only.
 * Spec: spec/tensor/copy_spec.lua. */
#ifndef PG_KERNELS_BF16_H
#define PG_KERNELS_BF16_H

#include <stdint.h>

static inline float pg_bf16_f32(uint16_t h) {
  union {
    uint32_t u;
    float f;
  } v = {(uint32_t)h << 16};
  return v.f;
}
static inline uint16_t pg_f32_bf16(float f) { /* to nearest even; NaN stays NaN */
  union {
    float f;
    uint32_t u;
  } v = {f};
  uint32_t r = v.u + 0x7fffu + ((v.u >> 16) & 1);
  return (v.u & 0x7fffffffu) > 0x7f800000u ? (uint16_t)((v.u >> 16) | 0x40) : (uint16_t)(r >> 16);
}

#endif
