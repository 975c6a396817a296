/* Winograd's minimal filtering over the points 0, p, -p .. and infinity; vectors run along the
 * channels. Relies on kernels/winograd.h, pack.h. Spec: spec/kernels/winograd_spec.lua. */
#include "kernels/winograd.h"

#include <string.h>

#include "kernels/pack.h"

#if defined(__AVX512F__)
enum { WIDTH = 64 };
#elif defined(__AVX2__)
enum { WIDTH = 32 };
#else
enum { WIDTH = 16 };
#endif
enum { LANES = WIDTH / 4, LINE = 16, MOST = 8 }; /* MOST points, and results or weights, of a row */

typedef float vec __attribute__((vector_size(WIDTH)));
typedef float loose __attribute__((vector_size(WIDTH), aligned(4), may_alias));

#define LOAD(p)     ((vec) * (const loose *)(p))
#define STORE(p, v) (*(loose *)(p) = (v))
#define INLINE      static inline __attribute__((always_inline))
#define UNROLL      _Pragma("GCC unroll 8")
#define ROLLED      _Pragma("GCC unroll 1")

/* --- transforms of one dimension -------------------------------------------------------------- */

/* The points of a tile: 0, pairs of p and -p, infinity. `scale` is 1 / the product of the
 * differences between a point and the other finite ones. Below, n (points) is a constant. */
#define PAIRS(n) ((n) / 2 - 1)

INLINE float point(const int n, int pair) {
  return pair == 0 ? 1.0f : n == 6 ? 0.625f : pair == 1 ? 1.75f : 0.5625f;
}

INLINE float square(const int n, int pair) { return point(n, pair) * point(n, pair); }

/* The elementary symmetric polynomial of degree d of the squares but that of pair `skip`. */
INLINE float symmetric(const int n, int d, int skip) {
  float e[4] = {1, 0, 0, 0};
  UNROLL for (int k = 0; k < PAIRS(n); k++) if (k != skip) UNROLL for (int i = 3; i > 0; i--)
      e[i] += square(n, k) * e[i - 1];
  return e[d];
}

INLINE float scale(const int n, int pair) {
  float product = 2 * square(n, pair);
  UNROLL for (int k = 0; k < PAIRS(n); k++) if (k != pair) product *=
      square(n, pair) - square(n, k);
  return 1 / product;
}

INLINE float scale_of_zero(const int n) {
  float product = 1;
  UNROLL for (int k = 0; k < PAIRS(n); k++) product *= -square(n, k);
  return 1 / product;
}

/* t = n pixels as values at the points: row p holds the coefficients of the product of (x - q)
 * over the other finite points q. */
INLINE void to_points(const int n, const vec *x, vec *t) {
  vec zero = x[n - 2], infinity = x[n - 1];
  float sign = -1;
  UNROLL for (int d = 1; d <= PAIRS(n); d++, sign = -sign) {
    zero += sign * symmetric(n, d, -1) * x[n - 2 - 2 * d];
    infinity += sign * symmetric(n, d, -1) * x[n - 1 - 2 * d];
  }
  t[0] = zero;
  t[n - 1] = infinity;
  UNROLL for (int k = 0; k < PAIRS(n); k++) {
    vec even = x[n - 2], odd = x[n - 3];
    sign = -1;
    UNROLL for (int d = 1; d < PAIRS(n); d++, sign = -sign) {
      even += sign * symmetric(n, d, k) * x[n - 2 - 2 * d];
      odd += sign * symmetric(n, d, k) * x[n - 3 - 2 * d];
    }
    odd *= point(n, k);
    t[1 + 2 * k] = even + odd;
    t[2 + 2 * k] = even - odd;
  }
}

/* t = the polynomial with these coefficients at the points. */
INLINE void evaluate(const int n, const int count, const vec *y, vec *t) {
  t[0] = y[0];
  t[n - 1] = y[count - 1];
  UNROLL for (int k = 0; k < PAIRS(n); k++) {
    vec even = y[0], odd = point(n, k) * y[1];
    float power = square(n, k);
    UNROLL for (int i = 2; i < count; i++) {
      if (i % 2 == 0) {
        even += power * y[i];
      } else {
        odd += power * point(n, k) * y[i];
        power *= square(n, k);
      }
    }
    t[1 + 2 * k] = even + odd;
    t[2 + 2 * k] = even - odd;
  }
}

/* y = the transpose of evaluate. */
INLINE void gather(const int n, const int count, const vec *t, vec *y) {
  y[0] = t[0];
  UNROLL for (int i = 1; i < count; i++) y[i] = (vec){0};
  UNROLL for (int k = 0; k < PAIRS(n); k++) {
    const vec sum = t[1 + 2 * k] + t[2 + 2 * k], difference = t[1 + 2 * k] - t[2 + 2 * k];
    float power = 1;
    UNROLL for (int i = 0; i < count; i++, power *= point(n, k)) y[i] +=
        power * (i % 2 ? difference : sum);
  }
  y[count - 1] += t[n - 1];
}

INLINE void scale_points(const int n, vec *t) {
  t[0] *= scale_of_zero(n);
  UNROLL for (int k = 0; k < PAIRS(n); k++) {
    t[1 + 2 * k] *= scale(n, k);
    t[2 + 2 * k] *= scale(n, k);
  }
}

/* --- plan ------------------------------------------------------------------------------------- */

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* Row length of a block's values of `channels`: rows that are read side by side must not share a
 * set of the first cache. */
static int64_t row_size(int64_t channels) { return channels % 512 ? channels : channels + LINE; }

/* From one point's values to the next one's: no multiple of a page. */
static int64_t point_size(const pgk_winograd *p, int64_t row) { return p->block * row + LINE; }

/* Products per pair of channels, with what the weights cost. */
static int64_t products(const pgk_conv *s, int64_t points) {
  const int64_t side = points - s->kernel[2] + 1;
  const int64_t rows = (s->out[1] + side - 1) / side, columns = (s->out[2] + side - 1) / side;
  return points * points * (s->n * rows * columns + 8);
}

/* Sums are made and added for nothing where there are few tiles, and must not fill the memory. */
static void plan_parts(pgk_winograd *p) {
  enum { PARTS = 8, FEW = 4, TINY = 2 << 20, SMALL = 6 << 20, LARGE = 16 << 20, TILES = 512 };
  p->part_size = p->weight_size + p->s.oc;
  p->parts = least(PARTS, p->blocks);
  while (p->parts > FEW && p->parts * p->part_size > TINY) p->parts /= 2;
  const int64_t size = p->parts * p->part_size;
  if (size > LARGE || (size > SMALL && p->tiles < TILES)) p->parts = 0;
}

bool PG_AT(pgk_winograd_plan)(const pgk_conv *s, pgk_winograd *p) {
  /* Floats of a block that stay in the second cache, and of weights that stay in the third. */
  enum { CACHE = 96 << 10, WEIGHTS = 4 << 20 };
  const int64_t size = s->kernel[2];
  if (s->bf16 || s->groups != 1 || s->kernel[0] != 1 || s->in[0] != 1 || s->before[0] ||
      s->after[0] || s->kernel[1] != size || (size != 3 && size != 5) || s->ic % 16 || s->oc % 16)
    return false;
  for (int i = 1; i < 3; i++)
    if (s->stride[i] != 1 || s->dilation[i] != 1 || s->before[i] >= size || s->after[i] >= size)
      return false;
  p->s = *s;
  p->points = products(s, 8) < products(s, 6) ? 8 : 6;
  if (products(s, p->points) * 5 > size * size * s->n * s->out[1] * s->out[2] * 4) return false;
  p->side = p->points - size + 1;
  p->rows = (s->out[1] + p->side - 1) / p->side;
  p->columns = (s->out[2] + p->side - 1) / p->side;
  p->tiles = s->n * p->rows * p->columns;
  const int64_t points = p->points * p->points;
  p->weight_size = points * s->ic * s->oc;
  if (p->weight_size > WEIGHTS && p->tiles < 256) return false;
  p->block = least(64, CACHE / points / (s->ic + s->oc) / LINE * LINE);
  if (p->block < LINE) p->block = LINE;
  p->blocks = (p->tiles + p->block - 1) / p->block;
  const int64_t values = row_size(s->ic) > s->oc ? row_size(s->ic) : s->oc;
  p->lane_size = 2 * points * point_size(p, values) + values;
  plan_parts(p);
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

/* Calls f with the points of a tile and the size of the kernel as constants. */
#define CALL(f, p, ...)                                              \
  do {                                                               \
    if ((p)->points == 6 && (p)->side == 4) f(6, 3, p, __VA_ARGS__); \
    else if ((p)->points == 6) f(6, 5, p, __VA_ARGS__);              \
    else if ((p)->side == 6) f(8, 3, p, __VA_ARGS__);                \
    else f(8, 5, p, __VA_ARGS__);                                    \
  } while (0)

/* --- weights ---------------------------------------------------------------------------------- */

int64_t PG_AT(pgk_winograd_panels)(const pgk_winograd *p) {
  return p->s.oc / PG_AT(pgk_panel_f32)();
}

INLINE void weight_run(const int n, const int size, const pgk_winograd *p, bool turned,
                       const float *w, int64_t begin, int64_t end, float *u) {
  const int taps = size * size;
  const int64_t ic = p->s.ic, oc = p->s.oc, panel = PG_AT(pgk_panel_f32)();
  const int64_t lane = turned ? taps : ic * taps, in = turned ? oc * taps : taps;
  for (int64_t q = begin; q < end; q++)
    for (int64_t i = 0; i < ic; i++)
      for (int64_t v = 0; v < panel; v += LANES) {
        union {
          float f[25][LANES];
          vec v[25];
        } at;
        vec half[MOST * 5], column[5], t[MOST];
        const float *from = w + (q * panel + v) * lane + i * in;
        for (int l = 0; l < LANES; l++)
          for (int k = 0; k < taps; k++) at.f[k][l] = from[l * lane + (turned ? taps - 1 - k : k)];
        ROLLED for (int x = 0; x < size; x++) {
          for (int y = 0; y < size; y++) column[y] = at.v[y * size + x];
          evaluate(n, size, column, t);
          scale_points(n, t);
          for (int y = 0; y < n; y++) half[y * size + x] = t[y];
        }
        ROLLED for (int y = 0; y < n; y++) {
          evaluate(n, size, half + y * size, t);
          scale_points(n, t);
          float *to = u + y * n * ic * oc + q * panel * ic + i * panel + v;
          for (int x = 0; x < n; x++) STORE(to + x * ic * oc, t[x]);
        }
      }
}

void PG_AT(pgk_winograd_weight)(const pgk_winograd *p, bool turned, const float *w, int64_t begin,
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

/* The pixels of a count x count square at (y, x) of an image, `none` (zeros) where it leaves it. */
static void find(const float *image, int64_t height, int64_t width, int64_t channels, int64_t y,
                 int64_t x, int count, const float *none, const float **at) {
  for (int i = 0; i < count; i++)
    for (int j = 0; j < count; j++) {
      const bool inside = y + i >= 0 && y + i < height && x + j >= 0 && x + j < width;
      at[i * count + j] = inside ? image + ((y + i) * width + x + j) * channels : none;
    }
}

/* v[point][t - first][channel] = the transformed input tiles [first, last). */
INLINE void input_tiles(const int n, const int size, const pgk_winograd *p, int64_t first,
                        int64_t last, const float *x, const float *none, float *v) {
  (void)size;
  const pgk_conv *s = &p->s;
  const int64_t row = row_size(s->ic), step = point_size(p, row);
  for (int64_t t = first; t < last; t++, v += row) {
    const place o = place_of(p, t);
    const float *at[MOST * MOST];
    find(x + o.image * s->in[1] * s->in[2] * s->ic, s->in[1], s->in[2], s->ic, o.y - s->before[1],
         o.x - s->before[2], n, none, at);
    for (int64_t c = 0; c < s->ic; c += LANES) {
      vec half[MOST * MOST], column[MOST], to[MOST];
      ROLLED for (int j = 0; j < n; j++) {
        for (int i = 0; i < n; i++) column[i] = LOAD(at[i * n + j] + c);
        to_points(n, column, to);
        for (int i = 0; i < n; i++) half[i * n + j] = to[i];
      }
      ROLLED for (int i = 0; i < n; i++) {
        to_points(n, half + i * n, to);
        for (int j = 0; j < n; j++) STORE(v + (i * n + j) * step + c, to[j]);
      }
    }
  }
}

/* y = the results of tiles [first, last) from their products m[point][t - first][channel]. */
INLINE void output_tiles(const int n, const int size, const pgk_winograd *p, int64_t first,
                         int64_t last, const float *m, const float *bias, float *y) {
  const int side = n - size + 1;
  const pgk_conv *s = &p->s;
  const int64_t step = point_size(p, s->oc), height = s->out[1], width = s->out[2];
  for (int64_t t = first; t < last; t++, m += s->oc) {
    const place o = place_of(p, t);
    float *to = y + ((o.image * height + o.y) * width + o.x) * s->oc;
    const int64_t rows = least(side, height - o.y), columns = least(side, width - o.x);
    for (int64_t c = 0; c < s->oc; c += LANES) {
      vec half[MOST * MOST], column[MOST], out[MOST];
      ROLLED for (int j = 0; j < n; j++) {
        for (int i = 0; i < n; i++) column[i] = LOAD(m + (i * n + j) * step + c);
        gather(n, side, column, out);
        for (int i = 0; i < side; i++) half[i * n + j] = out[i];
      }
      const vec b = bias ? LOAD(bias + c) : (vec){0};
      ROLLED for (int i = 0; i < rows; i++) {
        gather(n, side, half + i * n, out);
        for (int j = 0; j < side; j++)
          if (j < columns) STORE(to + (i * width + j) * s->oc + c, out[j] + b);
      }
    }
  }
}

/* z[point], packed panels of [block][panel] = the transformed gradients of tiles [first, last);
 * sum[channel] += those that lie in the image. */
INLINE void grad_tiles(const int n, const int size, const pgk_winograd *p, int64_t first,
                       int64_t last, const float *gy, const float *none, float *z, float *sum) {
  const int side = n - size + 1;
  const pgk_conv *s = &p->s;
  const int64_t step = point_size(p, s->oc), panel = PG_AT(pgk_panel_f32)();
  for (int64_t t = first; t < last; t++, z += panel) {
    const place o = place_of(p, t);
    const float *at[MOST * MOST];
    find(gy + o.image * s->out[1] * s->out[2] * s->oc, s->out[1], s->out[2], s->oc, o.y, o.x, side,
         none, at);
    for (int64_t c = 0; c < s->oc; c += LANES) {
      vec half[MOST * MOST], column[MOST], to[MOST], all = {0};
      ROLLED for (int j = 0; j < side; j++) {
        for (int i = 0; i < side; i++) {
          column[i] = LOAD(at[i * side + j] + c);
          all += column[i];
        }
        evaluate(n, side, column, to);
        for (int i = 0; i < n; i++) half[i * side + j] = to[i];
      }
      if (sum) STORE(sum + c, LOAD(sum + c) + all);
      float *into = z + c / panel * panel * p->block + c % panel;
      ROLLED for (int i = 0; i < n; i++) {
        evaluate(n, side, half + i * side, to);
        for (int j = 0; j < n; j++) STORE(into + (i * n + j) * step, to[j]);
      }
    }
  }
}

/* --- the products ----------------------------------------------------------------------------- */

/* A lane: zeros for `values` channels, then the two halves of a block. */
static float *lane_zeros(const pgk_winograd *p, float *lane, float **a, float **b) {
  const int64_t row = row_size(p->s.ic), values = row > p->s.oc ? row : p->s.oc;
  memset(lane, 0, sizeof *lane * (size_t)values);
  *a = lane + values;
  *b = *a + p->points * p->points * point_size(p, values);
  return lane;
}

void PG_AT(pgk_winograd_forward)(const pgk_winograd *p, int64_t b, const float *x, const float *u,
                                 const float *bias, float *y, float *lane) {
  const int64_t ic = p->s.ic, oc = p->s.oc, row = row_size(ic);
  const int64_t first = b * p->block, last = least(p->tiles, first + p->block);
  float *v, *m;
  const float *none = lane_zeros(p, lane, &v, &m);
  CALL(input_tiles, p, first, last, x, none, v);
  for (int64_t k = 0; k < p->points * p->points; k++) PG_AT(pgk_packed_gemm_f32)
  (false, last - first, oc, ic, v + k * point_size(p, row), row, u + k * ic * oc, ic, false,
   m + k * point_size(p, oc), oc);
  CALL(output_tiles, p, first, last, m, bias, y);
}

void PG_AT(pgk_winograd_part)(const pgk_winograd *p, int64_t k, const float *x, const float *gy,
                              float *sum, float *bias, float *lane) {
  const int64_t ic = p->s.ic, oc = p->s.oc, row = row_size(ic);
  const int64_t begin = p->blocks * k / p->parts, end = p->blocks * (k + 1) / p->parts;
  float *v, *z;
  const float *none = lane_zeros(p, lane, &v, &z);
  if (bias) memset(bias, 0, sizeof *bias * (size_t)oc);
  for (int64_t b = begin; b < end; b++) {
    const int64_t first = b * p->block, last = least(p->tiles, first + p->block);
    CALL(input_tiles, p, first, last, x, none, v);
    CALL(grad_tiles, p, first, last, gy, none, z, bias);
    for (int64_t i = 0; i < p->points * p->points; i++) PG_AT(pgk_packed_gemm_f32)
    (true, ic, oc, last - first, v + i * point_size(p, row), row, z + i * point_size(p, oc),
     p->block, b > begin, sum + i * ic * oc, oc);
  }
}

INLINE void collect_run(const int n, const int size, const pgk_winograd *p, const float *sums,
                        int64_t begin, int64_t end, float *gw) {
  const int taps = size * size;
  const int64_t ic = p->s.ic, oc = p->s.oc;
  for (int64_t i = begin; i < end; i++)
    for (int64_t o = 0; o < oc; o += LANES) {
      vec half[5 * MOST], t[MOST], out[MOST];
      ROLLED for (int x = 0; x < n; x++) {
        for (int y = 0; y < n; y++) {
          const float *from = sums + ((y * n + x) * ic + i) * oc + o;
          t[y] = LOAD(from);
          for (int64_t k = 1; k < p->parts; k++) t[y] += LOAD(from + k * p->part_size);
        }
        scale_points(n, t);
        gather(n, size, t, out);
        for (int y = 0; y < size; y++) half[y * n + x] = out[y];
      }
      for (int y = 0; y < size; y++) {
        scale_points(n, half + y * n);
        gather(n, size, half + y * n, out);
        for (int x = 0; x < size; x++)
          for (int l = 0; l < LANES; l++) gw[((o + l) * ic + i) * taps + y * size + x] = out[x][l];
      }
    }
}

void PG_AT(pgk_winograd_collect)(const pgk_winograd *p, const float *sums, int64_t begin,
                                 int64_t end, float *gw) {
  CALL(collect_run, p, sums, begin, end, gw);
}
