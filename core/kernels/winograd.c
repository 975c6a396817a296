/* Winograd's minimal filtering over the points 0, p, -p .. and infinity; vectors run along the
 * channels. Relies on kernels/winograd.h, pack.h, bf16.h. Spec: spec/kernels/winograd_spec.lua. */
#include "kernels/winograd.h"

#include <string.h>

#include "kernels/bf16.h"
#include "kernels/pack.h"

#if defined(__AVX512F__)
enum { WIDTH = 64 };
#elif defined(__AVX2__)
enum { WIDTH = 32 };
#else
enum { WIDTH = 16 };
#endif
enum {
  LANES = WIDTH / 4,
  LINE = 16,
  MOST = 12
}; /* MOST points, and results or weights, of a row */

typedef float vec __attribute__((vector_size(WIDTH)));
typedef float loose __attribute__((vector_size(WIDTH), aligned(4), may_alias));
typedef uint32_t bits __attribute__((vector_size(WIDTH)));
typedef uint16_t halves __attribute__((vector_size(WIDTH / 2)));
typedef uint16_t loose_halves __attribute__((vector_size(WIDTH / 2), aligned(2), may_alias));

#define LOAD(p)     ((vec) * (const loose *)(p))
#define STORE(p, v) (*(loose *)(p) = (v))
#define INLINE      static inline __attribute__((always_inline))
#define UNROLL      _Pragma("GCC unroll 12")
#define ROLLED      _Pragma("GCC unroll 1")

/* --- images in memory ------------------------------------------------------------------------- */

/* Image elements are bfloat16 for half, else float32; below, half is a constant. */
INLINE int64_t element(const bool half) { return half ? 2 : 4; }

INLINE vec load(const bool half, const void *p) {
  if (!half) return LOAD(p);
  const bits wide = __builtin_convertvector((halves) * (const loose_halves *)p, bits);
  return (vec)(wide << 16);
}

/* Rounds as pg_f32_bf16 does. */
INLINE void store(const bool half, void *p, vec v) {
  if (!half) {
    STORE(p, v);
    return;
  }
  const bits u = (bits)v, cut = u >> 16;
  const bits even = (u + 0x7fffu + (cut & 1)) >> 16, nan = cut | 0x40;
  const bits odd_one = (bits)((u & 0x7fffffffu) > 0x7f800000u);
  const bits all = (odd_one & nan) | (~odd_one & even);
  *(loose_halves *)p = __builtin_convertvector(all, halves);
}

/* --- transforms of one dimension -------------------------------------------------------------- */

/* The points of a tile: 0 where n is even, pairs of p and -p, infinity. `scale` is 1 / the product
 * of the differences between a point and the other finite ones, but for its sign, which to_points
 * minds. Below, n (points) is a constant. */
#define PAIRS(n) (((n)-1) / 2)
#define ZERO(n)  ((n) % 2 == 0)
#define FIRST(n) (ZERO(n) ? 1 : 0) /* place of the first pair */

INLINE double point(const int n, int pair) {
  static const double of[MOST + 1][(MOST - 1) / 2] = {
      [6] = {1, 0.625},
      [8] = {1, 1.75, 0.5625},
      [9] = {0.21875, 0.65625, 1.125, 2.21875},
      [10] = {0.40625, 0.8125, 1.25, 2.375},
      [11] = {0.1875, 0.5625, 0.90625, 1.34375, 2.59375},
      [12] = {0.34375, 0.6875, 1, 1.46875, 2.78125}};
  return of[n][pair];
}

INLINE double square(const int n, int pair) { return point(n, pair) * point(n, pair); }

/* The elementary symmetric polynomial of degree d of the squares but that of pair `skip`. */
INLINE double symmetric(const int n, int d, int skip) {
  double e[6] = {1, 0, 0, 0, 0, 0};
  UNROLL for (int k = 0; k < PAIRS(n); k++) if (k != skip) UNROLL for (int i = 5; i > 0; i--)
      e[i] += square(n, k) * e[i - 1];
  return e[d];
}

INLINE float scale(const int n, int pair) {
  double product = 2 * (ZERO(n) ? square(n, pair) : point(n, pair));
  UNROLL for (int k = 0; k < PAIRS(n); k++) if (k != pair) product *=
      square(n, pair) - square(n, k);
  return (float)(1 / product);
}

INLINE float scale_of_zero(const int n) {
  double product = 1;
  UNROLL for (int k = 0; k < PAIRS(n); k++) product *= -square(n, k);
  return (float)(1 / product);
}

/* t = n pixels as values at the points: row p holds the coefficients of the product of (x - q)
 * over the other finite points q, turned in sign for -p where 0 is no point. */
INLINE void to_points(const int n, const vec *x, vec *t) {
  vec zero = x[n - 2], infinity = x[n - 1];
  double sign = -1;
  UNROLL for (int d = 1; d <= PAIRS(n); d++, sign = -sign) {
    const float factor = (float)(sign * symmetric(n, d, -1));
    if (ZERO(n)) zero += factor * x[n - 2 - 2 * d];
    infinity += factor * x[n - 1 - 2 * d];
  }
  if (ZERO(n)) t[0] = zero;
  t[n - 1] = infinity;
  UNROLL for (int k = 0; k < PAIRS(n); k++) {
    vec even = x[n - 2], odd = x[n - 3];
    sign = -1;
    UNROLL for (int d = 1; d < PAIRS(n); d++, sign = -sign) {
      const float factor = (float)(sign * symmetric(n, d, k));
      even += factor * x[n - 2 - 2 * d];
      odd += factor * x[n - 3 - 2 * d];
    }
    const float p = (float)point(n, k);
    t[FIRST(n) + 2 * k] = even + p * odd;
    t[FIRST(n) + 1 + 2 * k] = ZERO(n) ? even - p * odd : p * odd - even;
  }
}

INLINE float power(const int n, int pair, int exponent) {
  double product = 1;
  UNROLL for (int i = 0; i < exponent; i++) product *= point(n, pair);
  return (float)product;
}

/* t = the polynomial with these coefficients at the points. */
INLINE void evaluate(const int n, const int count, const vec *y, vec *t) {
  if (ZERO(n)) t[0] = y[0];
  t[n - 1] = y[count - 1];
  UNROLL for (int k = 0; k < PAIRS(n); k++) {
    vec even = y[0], odd = power(n, k, 1) * y[1];
    UNROLL for (int i = 2; i < count; i++) {
      if (i % 2 == 0) even += power(n, k, i) * y[i];
      else odd += power(n, k, i) * y[i];
    }
    t[FIRST(n) + 2 * k] = even + odd;
    t[FIRST(n) + 1 + 2 * k] = even - odd;
  }
}

/* y = the transpose of evaluate. */
INLINE void gather(const int n, const int count, const vec *t, vec *y) {
  y[0] = ZERO(n) ? t[0] : (vec){0};
  UNROLL for (int i = 1; i < count; i++) y[i] = (vec){0};
  UNROLL for (int k = 0; k < PAIRS(n); k++) {
    const vec p = t[FIRST(n) + 2 * k], q = t[FIRST(n) + 1 + 2 * k];
    const vec sum = p + q, difference = p - q;
    UNROLL for (int i = 0; i < count; i++) y[i] += power(n, k, i) * (i % 2 ? difference : sum);
  }
  y[count - 1] += t[n - 1];
}

INLINE void scale_points(const int n, vec *t) {
  if (ZERO(n)) t[0] *= scale_of_zero(n);
  UNROLL for (int k = 0; k < PAIRS(n); k++) {
    t[FIRST(n) + 2 * k] *= scale(n, k);
    t[FIRST(n) + 1 + 2 * k] *= scale(n, k);
  }
}

/* --- plan ------------------------------------------------------------------------------------- */

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* Row length of a block's values of `channels`: rows that are read side by side must not share a
 * set of the first cache. */
static int64_t row_size(int64_t channels) { return channels % 512 ? channels : channels + LINE; }

/* From one point's values to the next one's: no multiple of a page. */
static int64_t point_size(const pgk_winograd *p, int64_t row) { return p->depth * row + LINE; }
static int64_t weight_step(const pgk_winograd *p) { return p->s.ic * p->s.oc + LINE; }

/* Whether there is code for tiles of so many points: those of more than 8 are for bfloat16, which
 * rounds its results more than they do. */
static bool can(const pgk_conv *s, int64_t points) {
  if (points == 6 || points == 8) return true;
  if (!s->bf16) return false;
  return s->kernel[2] == 3 ? points == 9 || points == 10 : points == 11 || points == 12;
}

static int64_t tiles_of(const pgk_conv *s, int64_t points) {
  const int64_t side = points - s->kernel[2] + 1;
  return s->n * ((s->out[1] + side - 1) / side) * ((s->out[2] + side - 1) / side);
}

/* Products per pair of channels, with what the weights cost. */
static int64_t products(const pgk_conv *s, int64_t points) {
  return points * points * (tiles_of(s, points) + 8);
}

/* Weights that fill the third cache must be used often. */
static bool fits(const pgk_conv *s, bool weight, int64_t points) {
  enum { WEIGHTS = 4 << 20, SMALL = 6 << 20, LARGE = 16 << 20 };
  const int64_t size = points * points * s->ic * s->oc, tiles = tiles_of(s, points);
  if (weight && (size > LARGE || (size > SMALL && tiles < 512))) return false;
  return size <= WEIGHTS || tiles >= 256;
}

/* How the sums of a weight gradient are shared. Where they are small, some parts of the images make
 * one each, and no lane needs what another one wrote. Else there is one, made in as few rounds as
 * the third cache allows. */
static void plan_sums(pgk_winograd *p) {
  enum { SMALL = 512 << 10, SUMS = 8, FEW = 4, ROUND = 2 << 20, BLOCK = 8, MOST_TILES = 128 };
  const int64_t floats = p->points * p->points * (p->s.ic + p->s.oc);
  if (p->weight_size <= SMALL) {
    p->block = p->weight_size <= SMALL / 2 ? 32 : 64;
    p->blocks = (p->tiles + p->block - 1) / p->block;
    p->sums = least(p->weight_size <= SMALL / 4 ? SUMS : FEW, p->blocks);
    p->depth = p->block;
    return;
  }
  const int64_t most = least(MOST_TILES, ROUND / floats > BLOCK ? ROUND / floats : BLOCK);
  const int64_t rounds = (p->tiles + most - 1) / most, each = (p->tiles + rounds - 1) / rounds;
  p->block = BLOCK;
  p->blocks = (p->tiles + BLOCK - 1) / BLOCK;
  p->depth = (each + BLOCK - 1) / BLOCK * BLOCK;
}

bool PG_AT(pgk_winograd_plan)(const pgk_conv *s, bool weight, pgk_winograd *p) {
  enum { CACHE = 96 << 10 }; /* floats of a block that stay in the second cache */
  const int64_t size = s->kernel[2];
  if (s->groups != 1 || s->kernel[0] != 1 || s->in[0] != 1 || s->before[0] || s->after[0] ||
      s->kernel[1] != size || (size != 3 && size != 5) || s->ic % 16 || s->oc % 16)
    return false;
  for (int i = 1; i < 3; i++)
    if (s->stride[i] != 1 || s->dilation[i] != 1 || s->before[i] >= size || s->after[i] >= size)
      return false;
  p->s = *s;
  p->points = 0;
  for (int64_t n = 6; n <= MOST; n++)
    if (can(s, n) && fits(s, weight, n) && (!p->points || products(s, n) < products(s, p->points)))
      p->points = n;
  if (!p->points || products(s, p->points) * 5 > size * size * s->n * s->out[1] * s->out[2] * 4)
    return false;
  p->side = p->points - size + 1;
  p->rows = (s->out[1] + p->side - 1) / p->side;
  p->columns = (s->out[2] + p->side - 1) / p->side;
  p->tiles = tiles_of(s, p->points);
  const int64_t points = p->points * p->points;
  p->weight_size = points * weight_step(p);
  p->block = least(64, CACHE / points / (s->ic + s->oc) / LINE * LINE);
  if (p->block < LINE) p->block = LINE;
  p->blocks = (p->tiles + p->block - 1) / p->block;
  p->depth = p->block;
  p->sums = 1;
  if (weight) plan_sums(p);
  p->zeros = row_size(s->ic) > s->oc ? row_size(s->ic) : s->oc;
  p->lane_size = p->zeros + points * (point_size(p, row_size(s->ic)) + point_size(p, s->oc));
  return true;
}

void PG_AT(pgk_winograd_turn)(const pgk_conv *s, pgk_conv *turned) {
  *turned = *s;
  turned->ic = s->oc;
  turned->oc = s->ic;
  for (int i = 0; i < 3; i++) {
    turned->in[i] = s->out[i];
    turned->out[i] = s->in[i];
    turned->before[i] = s->kernel[i] - 1 - s->before[i];
    turned->after[i] = s->kernel[i] - 1 - s->after[i];
  }
}

/* Calls f with the dtype of the images, the points of a tile and the size of the kernel as
 * constants. */
#define CALL(f, p, ...)                                                  \
  do {                                                                   \
    const int64_t key_ = (p)->points * 10 + (p)->points + 1 - (p)->side; \
    if ((p)->s.bf16) {                                                   \
      if (key_ == 63) f(true, 6, 3, p, __VA_ARGS__);                     \
      else if (key_ == 65) f(true, 6, 5, p, __VA_ARGS__);                \
      else if (key_ == 83) f(true, 8, 3, p, __VA_ARGS__);                \
      else if (key_ == 85) f(true, 8, 5, p, __VA_ARGS__);                \
      else if (key_ == 93) f(true, 9, 3, p, __VA_ARGS__);                \
      else if (key_ == 103) f(true, 10, 3, p, __VA_ARGS__);              \
      else if (key_ == 115) f(true, 11, 5, p, __VA_ARGS__);              \
      else f(true, 12, 5, p, __VA_ARGS__);                               \
    } else {                                                             \
      if (key_ == 63) f(false, 6, 3, p, __VA_ARGS__);                    \
      else if (key_ == 65) f(false, 6, 5, p, __VA_ARGS__);               \
      else if (key_ == 83) f(false, 8, 3, p, __VA_ARGS__);               \
      else f(false, 8, 5, p, __VA_ARGS__);                               \
    }                                                                    \
  } while (0)

/* --- weights ---------------------------------------------------------------------------------- */

int64_t PG_AT(pgk_winograd_panels)(const pgk_winograd *p) {
  return p->s.oc / PG_AT(pgk_panel_f32)();
}

INLINE void weight_run(const bool half, const int n, const int size, const pgk_winograd *p,
                       bool turned, const void *w, int64_t begin, int64_t end, float *u) {
  const int taps = size * size;
  const int64_t ic = p->s.ic, oc = p->s.oc, panel = PG_AT(pgk_panel_f32)(), step = weight_step(p);
  const int64_t lane = turned ? taps : ic * taps, in = turned ? oc * taps : taps;
  for (int64_t q = begin; q < end; q++)
    for (int64_t i = 0; i < ic; i++)
      for (int64_t v = 0; v < panel; v += LANES) {
        union {
          float f[25][LANES];
          vec v[25];
        } at;
        vec part[MOST * 5], column[5], t[MOST];
        const int64_t from = (q * panel + v) * lane + i * in;
        for (int l = 0; l < LANES; l++)
          for (int k = 0; k < taps; k++) {
            const int64_t e = from + l * lane + (turned ? taps - 1 - k : k);
            at.f[k][l] = half ? pg_bf16_f32(((const uint16_t *)w)[e]) : ((const float *)w)[e];
          }
        ROLLED for (int x = 0; x < size; x++) {
          for (int y = 0; y < size; y++) column[y] = at.v[y * size + x];
          evaluate(n, size, column, t);
          scale_points(n, t);
          for (int y = 0; y < n; y++) part[y * size + x] = t[y];
        }
        ROLLED for (int y = 0; y < n; y++) {
          evaluate(n, size, part + y * size, t);
          scale_points(n, t);
          float *to = u + y * n * step + q * panel * ic + i * panel + v;
          for (int x = 0; x < n; x++) STORE(to + x * step, t[x]);
        }
      }
}

void PG_AT(pgk_winograd_weight)(const pgk_winograd *p, bool turned, const void *w, int64_t begin,
                                int64_t end, float *u) {
  CALL(weight_run, p, turned, w, begin, end, u);
}

/* --- tiles ------------------------------------------------------------------------------------ */

/* Where tile t lies: its image, and its first result. */
typedef struct place {
  int64_t image, y, x;
} place;

static place place_of(const pgk_winograd *p, int64_t t) {
  const int64_t each = p->rows * p->columns, in = t % each;
  return (place){t / each, in / p->columns * p->side, in % p->columns * p->side};
}

/* The pixels (of so many bytes) of a count x count square at (y, x) of an image, `none` (zeros)
 * where it leaves it. */
static void find(const char *image, int64_t height, int64_t width, int64_t pixel, int64_t y,
                 int64_t x, int count, const void *none, const char **at) {
  for (int i = 0; i < count; i++)
    for (int j = 0; j < count; j++) {
      const bool inside = y + i >= 0 && y + i < height && x + j >= 0 && x + j < width;
      at[i * count + j] = inside ? image + ((y + i) * width + x + j) * pixel : none;
    }
}

/* v[point][t - first][channel] = the transformed input tiles [first, last). */
INLINE void input_tiles(const bool half, const int n, const int size, const pgk_winograd *p,
                        int64_t first, int64_t last, const void *x, const float *none, float *v) {
  (void)size;
  const pgk_conv *s = &p->s;
  const int64_t row = row_size(s->ic), step = point_size(p, row), size_ = element(half),
                pixel = s->ic * size_;
  for (int64_t t = first; t < last; t++, v += row) {
    const place o = place_of(p, t);
    const char *at[MOST * MOST];
    find((const char *)x + o.image * s->in[1] * s->in[2] * pixel, s->in[1], s->in[2], pixel,
         o.y - s->before[1], o.x - s->before[2], n, none, at);
    for (int64_t c = 0; c < s->ic; c += LANES) {
      vec part[MOST * MOST], column[MOST], to[MOST];
      ROLLED for (int j = 0; j < n; j++) {
        for (int i = 0; i < n; i++) column[i] = load(half, at[i * n + j] + c * size_);
        to_points(n, column, to);
        for (int i = 0; i < n; i++) part[i * n + j] = to[i];
      }
      ROLLED for (int i = 0; i < n; i++) {
        to_points(n, part + i * n, to);
        for (int j = 0; j < n; j++) STORE(v + (i * n + j) * step + c, to[j]);
      }
    }
  }
}

/* y = the results of tiles [first, last) from their products m[point][t - first][channel]. */
INLINE void output_tiles(const bool half, const int n, const int size, const pgk_winograd *p,
                         int64_t first, int64_t last, const float *m, const float *bias, void *y) {
  const int side = n - size + 1;
  const pgk_conv *s = &p->s;
  const int64_t size_ = element(half), step = point_size(p, s->oc), height = s->out[1],
                width = s->out[2];
  const bits negative = (bits){0} - (uint32_t)p->relu; /* all bits where results below 0 become 0 */
  for (int64_t t = first; t < last; t++, m += s->oc) {
    const place o = place_of(p, t);
    char *to = (char *)y + ((o.image * height + o.y) * width + o.x) * s->oc * size_;
    const int64_t rows = least(side, height - o.y), columns = least(side, width - o.x);
    for (int64_t c = 0; c < s->oc; c += LANES) {
      vec part[MOST * MOST], column[MOST], out[MOST];
      ROLLED for (int j = 0; j < n; j++) {
        for (int i = 0; i < n; i++) column[i] = LOAD(m + (i * n + j) * step + c);
        gather(n, side, column, out);
        for (int i = 0; i < side; i++) part[i * n + j] = out[i];
      }
      const vec b = bias ? LOAD(bias + c) : (vec){0};
      ROLLED for (int i = 0; i < rows; i++) {
        gather(n, side, part + i * n, out);
        for (int j = 0; j < side; j++) {
          const vec value = out[j] + b;
          const bits drop = (bits)(value < 0) & negative;
          if (j < columns)
            store(half, to + ((i * width + j) * s->oc + c) * size_, (vec)((bits)value & ~drop));
        }
      }
    }
  }
}

/* z[point], packed panels of [depth][panel] = the transformed gradients of tiles [first, last);
 * sum[channel] += those that lie in the image. */
INLINE void grad_tiles(const bool half, const int n, const int size, const pgk_winograd *p,
                       int64_t first, int64_t last, const void *gy, const float *none, float *z,
                       float *sum) {
  const int side = n - size + 1;
  const pgk_conv *s = &p->s;
  const int64_t step = point_size(p, s->oc), panel = PG_AT(pgk_panel_f32)();
  const int64_t size_ = element(half), pixel = s->oc * size_;
  for (int64_t t = first; t < last; t++, z += panel) {
    const place o = place_of(p, t);
    const char *at[MOST * MOST];
    find((const char *)gy + o.image * s->out[1] * s->out[2] * pixel, s->out[1], s->out[2], pixel,
         o.y, o.x, side, none, at);
    for (int64_t c = 0; c < s->oc; c += LANES) {
      vec part[MOST * MOST], column[MOST], to[MOST], all = {0};
      ROLLED for (int j = 0; j < side; j++) {
        for (int i = 0; i < side; i++) {
          column[i] = load(half, at[i * side + j] + c * size_);
          all += column[i];
        }
        evaluate(n, side, column, to);
        for (int i = 0; i < n; i++) part[i * side + j] = to[i];
      }
      if (sum) STORE(sum + c, LOAD(sum + c) + all);
      float *into = z + c / panel * panel * p->depth + c % panel;
      ROLLED for (int i = 0; i < n; i++) {
        evaluate(n, side, part + i * side, to);
        for (int j = 0; j < n; j++) STORE(into + (i * n + j) * step, to[j]);
      }
    }
  }
}

/* --- the products ----------------------------------------------------------------------------- */

/* A lane: zeros for as many channels as an image has, then the two halves of a block. */
static void lane_halves(const pgk_winograd *p, float *lane, float **a, float **b) {
  *a = lane + p->zeros;
  *b = *a + p->points * p->points * point_size(p, row_size(p->s.ic));
}

void PG_AT(pgk_winograd_forward)(const pgk_winograd *p, int64_t b, const void *x, const float *u,
                                 const float *bias, void *y, float *lane) {
  const int64_t ic = p->s.ic, oc = p->s.oc, row = row_size(ic);
  const int64_t first = b * p->block, last = least(p->tiles, first + p->block);
  float *v, *m;
  lane_halves(p, lane, &v, &m);
  memset(lane, 0, sizeof *lane * (size_t)p->zeros);
  CALL(input_tiles, p, first, last, x, lane, v);
  for (int64_t k = 0; k < p->points * p->points; k++) PG_AT(pgk_packed_gemm_f32)
  (false, last - first, oc, ic, v + k * point_size(p, row), row, u + k * weight_step(p), ic, false,
   m + k * point_size(p, oc), oc);
  CALL(output_tiles, p, first, last, m, bias, y);
}

void PG_AT(pgk_winograd_factors)(const pgk_winograd *p, int64_t b, const void *x, const void *gy,
                                 float *bias, float *lane) {
  const int64_t first = b * p->block, last = least(p->tiles, first + p->block);
  const int64_t in = first % p->depth;
  float *v, *z;
  lane_halves(p, lane, &v, &z);
  CALL(input_tiles, p, first, last, x, lane, v + in * row_size(p->s.ic));
  CALL(grad_tiles, p, first, last, gy, lane, z + in * PG_AT(pgk_panel_f32)(), bias);
}

void PG_AT(pgk_winograd_multiply)(const pgk_winograd *p, int64_t first, bool add, int64_t begin,
                                  int64_t end, float *lane, float *sum) {
  const int64_t ic = p->s.ic, oc = p->s.oc, row = row_size(ic);
  const int64_t count = least(p->depth, p->tiles - first * p->block);
  float *v, *z;
  lane_halves(p, lane, &v, &z);
  for (int64_t i = begin; i < end; i++) PG_AT(pgk_packed_gemm_f32)
  (true, ic, oc, count, v + i * point_size(p, row), row, z + i * point_size(p, oc), p->depth, add,
   sum + i * weight_step(p), oc);
}

INLINE void collect_run(const bool half, const int n, const int size, const pgk_winograd *p,
                        const float *sums, int64_t begin, int64_t end, float *gw) {
  (void)half;
  const int taps = size * size;
  const int64_t ic = p->s.ic, oc = p->s.oc;
  for (int64_t i = begin; i < end; i++)
    for (int64_t o = 0; o < oc; o += LANES) {
      union {
        float f[25][LANES];
        vec v[25];
      } at;
      vec part[5 * MOST], t[MOST], out[MOST];
      ROLLED for (int x = 0; x < n; x++) {
        for (int y = 0; y < n; y++) {
          const float *from = sums + (y * n + x) * weight_step(p) + i * oc + o;
          t[y] = LOAD(from);
          for (int64_t k = 1; k < p->sums; k++) t[y] += LOAD(from + k * p->weight_size);
        }
        scale_points(n, t);
        gather(n, size, t, out);
        for (int y = 0; y < size; y++) part[y * n + x] = out[y];
      }
      for (int y = 0; y < size; y++) {
        scale_points(n, part + y * n);
        gather(n, size, part + y * n, out);
        for (int x = 0; x < size; x++) at.v[y * size + x] = out[x];
      }
      for (int l = 0; l < LANES; l++)
        for (int k = 0; k < taps; k++) gw[((o + l) * ic + i) * taps + k] = at.f[k][l];
    }
}

void PG_AT(pgk_winograd_collect)(const pgk_winograd *p, const float *sums, int64_t begin,
                                 int64_t end, float *gw) {
  CALL(collect_run, p, sums, begin, end, gw);
}
