/* Patches of channels-last images as rows of a matrix, and back, for float32 and float64.
 * Relies on im2col.h. Spec: spec/kernels/conv_spec.lua. */
#include "kernels/im2col.h"

#include <string.h>

#define IM2COL(T, SUFFIX)                                                                        \
  void PG_AT(pgk_im2col_##SUFFIX)(const pgk_conv *s, const T *x, int64_t group, int64_t begin,   \
                                  int64_t end, T *col) {                                         \
    const int64_t cg = s->ic / s->groups;                                                        \
    x += group * cg;                                                                             \
    for (int64_t r = begin; r < end; r++) {                                                      \
      const int64_t ox = r % s->ow, oy = r / s->ow % s->oh, n = r / (s->ow * s->oh);             \
      for (int64_t ky = 0; ky < s->kh; ky++) {                                                   \
        const int64_t y = oy * s->stride[0] - s->pad[0] + ky * s->dilation[0];                   \
        for (int64_t kx = 0; kx < s->kw; kx++, col += cg) {                                      \
          const int64_t at = ox * s->stride[1] - s->pad[1] + kx * s->dilation[1];                \
          if (y < 0 || y >= s->ih || at < 0 || at >= s->iw)                                      \
            memset(col, 0, (size_t)cg * sizeof(T));                                              \
          else memcpy(col, x + ((n * s->ih + y) * s->iw + at) * s->ic, (size_t)cg * sizeof(T));  \
        }                                                                                        \
      }                                                                                          \
    }                                                                                            \
  }                                                                                              \
  static void add_##SUFFIX(int64_t n, const T *restrict a, T *restrict b) {                      \
    for (int64_t i = 0; i < n; i++) b[i] += a[i];                                                \
  }                                                                                              \
  void PG_AT(pgk_col2im_##SUFFIX)(const pgk_conv *s, const T *col, int64_t group, int64_t begin, \
                                  int64_t end, T *x) {                                           \
    const int64_t cg = s->ic / s->groups, pixels = s->oh * s->ow;                                \
    x += group * cg;                                                                             \
    for (int64_t r = begin * pixels; r < end * pixels; r++) {                                    \
      const int64_t ox = r % s->ow, oy = r / s->ow % s->oh, n = r / pixels;                      \
      for (int64_t ky = 0; ky < s->kh; ky++) {                                                   \
        const int64_t y = oy * s->stride[0] - s->pad[0] + ky * s->dilation[0];                   \
        for (int64_t kx = 0; kx < s->kw; kx++, col += cg) {                                      \
          const int64_t at = ox * s->stride[1] - s->pad[1] + kx * s->dilation[1];                \
          if (y >= 0 && y < s->ih && at >= 0 && at < s->iw)                                      \
            add_##SUFFIX(cg, col, x + ((n * s->ih + y) * s->iw + at) * s->ic);                   \
        }                                                                                        \
      }                                                                                          \
    }                                                                                            \
  }                                                                                              \
  void PG_AT(pgk_weight_in_##SUFFIX)(const pgk_conv *s, const T *from, T *to) {                  \
    const int64_t k = s->kh * s->kw, cg = s->ic / s->groups;                                     \
    for (int64_t o = 0; o < s->oc; o++)                                                          \
      for (int64_t p = 0; p < k; p++)                                                            \
        for (int64_t i = 0; i < cg; i++) to[(o * k + p) * cg + i] = from[(o * cg + i) * k + p];  \
  }                                                                                              \
  void PG_AT(pgk_weight_out_##SUFFIX)(const pgk_conv *s, const T *from, T *to) {                 \
    const int64_t k = s->kh * s->kw, cg = s->ic / s->groups;                                     \
    for (int64_t o = 0; o < s->oc; o++)                                                          \
      for (int64_t i = 0; i < cg; i++)                                                           \
        for (int64_t p = 0; p < k; p++) to[(o * cg + i) * k + p] = from[(o * k + p) * cg + i];   \
  }

IM2COL(float, f32)
IM2COL(double, f64)
