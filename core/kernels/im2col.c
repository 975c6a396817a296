/* Patches of channels-last images as rows of a matrix, and back, for float32 and float64.
 * Relies on im2col.h. Spec: spec/kernels/conv_spec.lua. */
#include "kernels/im2col.h"

#include <string.h>

/* Where output pixel r begins: its image and the place of tap 0, which may lie outside. */
typedef struct corner {
  int64_t n, z, y, x;
} corner;

static inline corner corner_of(const pgk_conv *s, int64_t r) {
  const int64_t *out = s->out, *stride = s->stride, *pad = s->before;
  corner c;
  c.x = r % out[2] * stride[2] - pad[2];
  r /= out[2];
  c.y = r % out[1] * stride[1] - pad[1];
  r /= out[1];
  c.z = r % out[0] * stride[0] - pad[0];
  c.n = r / out[0];
  return c;
}

/* EACH runs for every tap of pixel r, in order; `inside` says whether it lies in the image, `from`
 * is the offset of its channels in x. */
#define TAPS(s, r, EACH)                                                                \
  {                                                                                     \
    const corner c = corner_of(s, r);                                                   \
    for (int64_t kz = 0; kz < (s)->kernel[0]; kz++)                                     \
      for (int64_t ky = 0; ky < (s)->kernel[1]; ky++) {                                 \
        const int64_t z = c.z + kz * (s)->dilation[0], y = c.y + ky * (s)->dilation[1]; \
        const int rows = z >= 0 && z < (s)->in[0] && y >= 0 && y < (s)->in[1];          \
        const int64_t line = ((c.n * (s)->in[0] + z) * (s)->in[1] + y) * (s)->in[2];    \
        for (int64_t kx = 0; kx < (s)->kernel[2]; kx++) {                               \
          const int64_t x_at = c.x + kx * (s)->dilation[2];                             \
          const int inside = rows && x_at >= 0 && x_at < (s)->in[2];                    \
          const int64_t from = (line + x_at) * (s)->ic;                                 \
          EACH                                                                          \
        }                                                                               \
      }                                                                                 \
  }

#define IM2COL(T, SUFFIX)                                                                        \
  static inline void copy_##SUFFIX(int64_t n, const T *restrict a, T *restrict b) {              \
    for (int64_t i = 0; i < n; i++) b[i] = a[i];                                                 \
  }                                                                                              \
  static inline void add_##SUFFIX(int64_t n, const T *restrict a, T *restrict b) {               \
    for (int64_t i = 0; i < n; i++) b[i] += a[i];                                                \
  }                                                                                              \
  void PG_AT(pgk_im2col_##SUFFIX)(const pgk_conv *s, const T *x, int64_t group, int64_t begin,   \
                                  int64_t end, T *col) {                                         \
    const int64_t n = s->ic / s->groups;                                                         \
    x += group * n;                                                                              \
    for (int64_t r = begin; r < end; r++)                                                        \
      TAPS(s, r, {                                                                               \
        if (inside) copy_##SUFFIX(n, x + from, col);                                             \
        else memset(col, 0, (size_t)n * sizeof(T));                                              \
        col += n;                                                                                \
      })                                                                                         \
  }                                                                                              \
  void PG_AT(pgk_col2im_##SUFFIX)(const pgk_conv *s, const T *col, int64_t group, int64_t begin, \
                                  int64_t end, T *x) {                                           \
    const int64_t n = s->ic / s->groups, pixels = s->out[0] * s->out[1] * s->out[2];             \
    x += group * n;                                                                              \
    for (int64_t r = begin * pixels; r < end * pixels; r++)                                      \
      TAPS(s, r, {                                                                               \
        if (inside) add_##SUFFIX(n, col, x + from);                                              \
        col += n;                                                                                \
      })                                                                                         \
  }                                                                                              \
  void PG_AT(pgk_weight_in_##SUFFIX)(const pgk_conv *s, const T *from, T *to) {                  \
    const int64_t k = s->kernel[0] * s->kernel[1] * s->kernel[2], n = s->ic / s->groups;         \
    for (int64_t o = 0; o < s->oc; o++)                                                          \
      for (int64_t t = 0; t < k; t++)                                                            \
        for (int64_t i = 0; i < n; i++) to[(o * k + t) * n + i] = from[(o * n + i) * k + t];     \
  }                                                                                              \
  void PG_AT(pgk_weight_out_##SUFFIX)(const pgk_conv *s, const T *from, T *to) {                 \
    const int64_t k = s->kernel[0] * s->kernel[1] * s->kernel[2], n = s->ic / s->groups;         \
    for (int64_t o = 0; o < s->oc; o++)                                                          \
      for (int64_t i = 0; i < n; i++)                                                            \
        for (int64_t t = 0; t < k; t++) to[(o * n + i) * k + t] = from[(o * k + t) * n + i];     \
  }

IM2COL(float, f32)
IM2COL(double, f64)
