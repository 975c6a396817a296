/* Winograd's minimal filtering over the points 0, 1, -1, A, -A and infinity; vectors run along the
 * channels. Relies on kernels/winograd.h, pack.h. Spec: spec/kernels/conv_spec.lua. */
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
enum { LANES = WIDTH / 4, TILE = 6, POINTS = TILE * TILE, LINE = 16 };

typedef float vec __attribute__((vector_size(WIDTH)));
typedef float loose __attribute__((vector_size(WIDTH), aligned(4), may_alias));

#define LOAD(p)     ((vec) * (const loose *)(p))
#define STORE(p, v) (*(loose *)(p) = (v))
#define INLINE      static inline __attribute__((always_inline))

/* --- transforms of one dimension -------------------------------------------------------------- */

#define A  2.0f
#define A2 (A * A)
#define A3 (A2 * A)
#define A4 (A2 * A2)
/* 1 / the product of the differences between a point and the other ones. */
#define N0 (1 / A2)
#define N1 (1 / (2 * (1 - A2)))
#define NA (1 / (2 * A2 * (A2 - 1)))

/* Pixels of a tile. */
INLINE void to_points(const vec *x, int64_t step, vec *t) {
  const vec x0 = x[0], x1 = x[step], x2 = x[2 * step], x3 = x[3 * step], x4 = x[4 * step],
            x5 = x[5 * step];
  const vec e = x4 - A2 * x2, o = x3 - A2 * x1, f = x4 - x2, p = A * (x3 - x1);
  t[0] = A2 * x0 - (1 + A2) * x2 + x4;
  t[1] = e + o;
  t[2] = e - o;
  t[3] = f + p;
  t[4] = f - p;
  t[5] = A2 * x1 - (1 + A2) * x3 + x5;
}

/* `side` results from their values at the points. */
INLINE void from_points(const int side, const vec *t, int64_t step, vec *y) {
  const vec t1 = t[step], t2 = t[2 * step], t3 = t[3 * step], t4 = t[4 * step];
  const vec s = t1 + t2, d = t1 - t2, sa = t3 + t4, da = t3 - t4;
  y[0] = t[0] + s + sa;
  y[1] = d + A * da;
  if (side == 4) {
    y[2] = s + A2 * sa;
    y[3] = d + A3 * da;
  }
  y[side - 1] += t[5 * step];
}

/* Gradients of `side` results: the transpose of from_points. */
INLINE void spread(const int side, const vec *y, int64_t step, vec *t) {
  const vec y0 = y[0], y1 = y[step];
  if (side == 2) {
    const vec p = A * y1;
    t[1] = y0 + y1;
    t[2] = y0 - y1;
    t[3] = y0 + p;
    t[4] = y0 - p;
    t[5] = y1;
  } else {
    const vec y2 = y[2 * step], y3 = y[3 * step];
    const vec e = y0 + y2, o = y1 + y3, f = y0 + A2 * y2, p = A * y1 + A3 * y3;
    t[1] = e + o;
    t[2] = e - o;
    t[3] = f + p;
    t[4] = f - p;
    t[5] = y3;
  }
  t[0] = y0;
}

/* Weights of a kernel row of `size`. */
INLINE void weight_points(const int size, const vec *w, int64_t step, vec *t) {
  const vec w0 = w[0], w1 = w[step], w2 = w[2 * step];
  vec e = w0 + w2, o = w1, f = w0 + A2 * w2, p = A * w1;
  if (size == 5) {
    const vec w3 = w[3 * step], w4 = w[4 * step];
    e += w4;
    o += w3;
    f += A4 * w4;
    p += A3 * w3;
  }
  t[0] = N0 * w0;
  t[1] = N1 * (e + o);
  t[2] = N1 * (e - o);
  t[3] = NA * (f + p);
  t[4] = NA * (f - p);
  t[5] = w[(size - 1) * step];
}

/* The transpose of weight_points. */
INLINE void weight_gather(const int size, const vec *t, int64_t step, vec *w) {
  const vec t1 = t[step], t2 = t[2 * step], t3 = t[3 * step], t4 = t[4 * step];
  const vec s = N1 * (t1 + t2), d = N1 * (t1 - t2), sa = NA * (t3 + t4), da = NA * (t3 - t4);
  w[0] = N0 * t[0] + s + sa;
  w[1] = d + A * da;
  w[2] = s + A2 * sa;
  if (size == 5) {
    w[3] = d + A3 * da;
    w[4] = s + A4 * sa;
  }
  w[size - 1] += t[5 * step];
}

/* --- plan ------------------------------------------------------------------------------------- */

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* Row length of a block's values of `channels`: rows that are read side by side must not share a
 * set of the first cache. */
static int64_t row_size(int64_t channels) { return channels % 512 ? channels : channels + LINE; }

/* From one point's values to the next one's: no multiple of a page. */
static int64_t point_size(const pgk_winograd *p, int64_t row) { return p->block * row + LINE; }

/* Sums are made and added for nothing where there are few tiles, and must not fill the memory. */
static void plan_parts(pgk_winograd *p) {
  enum { PARTS = 16, SMALL = 3 << 20, LARGE = 16 << 20, TILES = 512 };
  p->part_size = p->weight_size + p->s.oc;
  p->parts = least(PARTS, p->blocks);
  while (p->parts > 4 && p->parts * p->part_size > SMALL) p->parts /= 2;
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
  p->side = TILE - size + 1;
  p->rows = (s->out[1] + p->side - 1) / p->side;
  p->columns = (s->out[2] + p->side - 1) / p->side;
  p->tiles = s->n * p->rows * p->columns;
  const int64_t direct = size * size * s->n * s->out[1] * s->out[2];
  p->weight_size = POINTS * s->ic * s->oc;
  if (p->tiles < (p->weight_size > WEIGHTS ? 256 : 32) || POINTS * p->tiles * 5 > direct * 4)
    return false;
  p->block = least(64, CACHE / POINTS / (s->ic + s->oc) / LINE * LINE);
  if (p->block < LINE) p->block = LINE;
  p->blocks = (p->tiles + p->block - 1) / p->block;
  const int64_t values = row_size(s->ic) > s->oc ? row_size(s->ic) : s->oc;
  p->lane_size = 2 * POINTS * point_size(p, values) + values;
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

/* --- weights ---------------------------------------------------------------------------------- */

int64_t PG_AT(pgk_winograd_panels)(const pgk_winograd *p) {
  return p->s.oc / PG_AT(pgk_panel_f32)();
}

INLINE void weight_run(const pgk_winograd *p, const int size, bool turned, const float *w,
                       int64_t begin, int64_t end, float *u) {
  enum { MOST = 16 };
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
        vec half[TILE * 5], t[TILE];
        const float *from = w + (q * panel + v) * lane + i * in;
        for (int l = 0; l < LANES; l++)
          for (int k = 0; k < taps; k++) at.f[k][l] = from[l * lane + (turned ? taps - 1 - k : k)];
        for (int x = 0; x < size; x++) {
          weight_points(size, at.v + x, size, t);
          for (int y = 0; y < TILE; y++) half[y * size + x] = t[y];
        }
        for (int y = 0; y < TILE; y++) {
          weight_points(size, half + y * size, 1, t);
          float *to = u + y * TILE * ic * oc + q * panel * ic + i * panel + v;
          for (int x = 0; x < TILE; x++) STORE(to + x * ic * oc, t[x]);
        }
      }
}

void PG_AT(pgk_winograd_weight)(const pgk_winograd *p, bool turned, const float *w, int64_t begin,
                                int64_t end, float *u) {
  if (p->s.kernel[2] == 3) weight_run(p, 3, turned, w, begin, end, u);
  else weight_run(p, 5, turned, w, begin, end, u);
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
static void input_tiles(const pgk_winograd *p, int64_t first, int64_t last, const float *x,
                        const float *none, float *v) {
  const pgk_conv *s = &p->s;
  const int64_t row = row_size(s->ic), step = point_size(p, row);
  for (int64_t t = first; t < last; t++, v += row) {
    const place o = place_of(p, t);
    const float *at[POINTS];
    find(x + o.image * s->in[1] * s->in[2] * s->ic, s->in[1], s->in[2], s->ic, o.y - s->before[1],
         o.x - s->before[2], TILE, none, at);
    for (int64_t c = 0; c < s->ic; c += LANES) {
      vec half[POINTS], column[TILE], to[TILE];
      _Pragma("GCC unroll 1") for (int j = 0; j < TILE; j++) {
        for (int i = 0; i < TILE; i++) column[i] = LOAD(at[i * TILE + j] + c);
        to_points(column, 1, to);
        for (int i = 0; i < TILE; i++) half[i * TILE + j] = to[i];
      }
      _Pragma("GCC unroll 1") for (int i = 0; i < TILE; i++) {
        to_points(half + i * TILE, 1, to);
        for (int j = 0; j < TILE; j++) STORE(v + (i * TILE + j) * step + c, to[j]);
      }
    }
  }
}

/* y = the results of tiles [first, last) from their products m[point][t - first][channel]. */
INLINE void output_tiles(const pgk_winograd *p, const int side, int64_t first, int64_t last,
                         const float *m, const float *bias, float *y) {
  const pgk_conv *s = &p->s;
  const int64_t step = point_size(p, s->oc), height = s->out[1], width = s->out[2];
  for (int64_t t = first; t < last; t++, m += s->oc) {
    const place o = place_of(p, t);
    float *to = y + ((o.image * height + o.y) * width + o.x) * s->oc;
    const int64_t rows = least(side, height - o.y), columns = least(side, width - o.x);
    for (int64_t c = 0; c < s->oc; c += LANES) {
      vec half[4 * TILE], column[TILE], out[4];
      for (int j = 0; j < TILE; j++) {
        for (int i = 0; i < TILE; i++) column[i] = LOAD(m + (i * TILE + j) * step + c);
        from_points(side, column, 1, out);
        for (int i = 0; i < side; i++) half[i * TILE + j] = out[i];
      }
      const vec b = bias ? LOAD(bias + c) : (vec){0};
      for (int i = 0; i < side; i++) {
        from_points(side, half + i * TILE, 1, out);
        if (i < rows)
          for (int j = 0; j < side; j++)
            if (j < columns) STORE(to + (i * width + j) * s->oc + c, out[j] + b);
      }
    }
  }
}

/* z[point], packed panels of [block][panel] = the transformed gradients of tiles [first, last);
 * sum[channel] += those that lie in the image. */
INLINE void grad_tiles(const pgk_winograd *p, const int side, int64_t first, int64_t last,
                       const float *gy, const float *none, float *z, float *sum) {
  const pgk_conv *s = &p->s;
  const int64_t step = point_size(p, s->oc), panel = PG_AT(pgk_panel_f32)();
  for (int64_t t = first; t < last; t++, z += panel) {
    const place o = place_of(p, t);
    const float *at[16];
    find(gy + o.image * s->out[1] * s->out[2] * s->oc, s->out[1], s->out[2], s->oc, o.y, o.x, side,
         none, at);
    for (int64_t c = 0; c < s->oc; c += LANES) {
      vec half[TILE * 4], column[4], to[TILE], all = {0};
      for (int j = 0; j < side; j++) {
        for (int i = 0; i < side; i++) {
          column[i] = LOAD(at[i * side + j] + c);
          all += column[i];
        }
        spread(side, column, 1, to);
        for (int i = 0; i < TILE; i++) half[i * side + j] = to[i];
      }
      if (sum) STORE(sum + c, LOAD(sum + c) + all);
      float *into = z + c / panel * panel * p->block + c % panel;
      for (int i = 0; i < TILE; i++) {
        spread(side, half + i * side, 1, to);
        for (int j = 0; j < TILE; j++) STORE(into + (i * TILE + j) * step, to[j]);
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
  *b = *a + POINTS * point_size(p, values);
  return lane;
}

void PG_AT(pgk_winograd_forward)(const pgk_winograd *p, int64_t b, const float *x, const float *u,
                                 const float *bias, float *y, float *lane) {
  const int64_t ic = p->s.ic, oc = p->s.oc, row = row_size(ic);
  const int64_t first = b * p->block, last = least(p->tiles, first + p->block);
  float *v, *m;
  const float *none = lane_zeros(p, lane, &v, &m);
  input_tiles(p, first, last, x, none, v);
  for (int k = 0; k < POINTS; k++) PG_AT(pgk_packed_gemm_f32)
  (false, last - first, oc, ic, v + k * point_size(p, row), row, u + k * ic * oc, ic, false,
   m + k * point_size(p, oc), oc);
  if (p->side == 4) output_tiles(p, 4, first, last, m, bias, y);
  else output_tiles(p, 2, first, last, m, bias, y);
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
    input_tiles(p, first, last, x, none, v);
    if (p->side == 4) grad_tiles(p, 4, first, last, gy, none, z, bias);
    else grad_tiles(p, 2, first, last, gy, none, z, bias);
    for (int i = 0; i < POINTS; i++) PG_AT(pgk_packed_gemm_f32)
    (true, ic, oc, last - first, v + i * point_size(p, row), row, z + i * point_size(p, oc),
     p->block, b > begin, sum + i * ic * oc, oc);
  }
}

INLINE void collect_run(const pgk_winograd *p, const int size, const float *sums, int64_t begin,
                        int64_t end, float *gw) {
  const int taps = size * size;
  const int64_t ic = p->s.ic, oc = p->s.oc;
  for (int64_t i = begin; i < end; i++)
    for (int64_t o = 0; o < oc; o += LANES) {
      vec half[5 * TILE], t[TILE], out[5];
      for (int x = 0; x < TILE; x++) {
        for (int y = 0; y < TILE; y++) {
          const float *from = sums + ((y * TILE + x) * ic + i) * oc + o;
          t[y] = LOAD(from);
          for (int64_t k = 1; k < p->parts; k++) t[y] += LOAD(from + k * p->part_size);
        }
        weight_gather(size, t, 1, out);
        for (int y = 0; y < size; y++) half[y * TILE + x] = out[y];
      }
      for (int y = 0; y < size; y++) {
        weight_gather(size, half + y * TILE, 1, out);
        for (int x = 0; x < size; x++)
          for (int l = 0; l < LANES; l++) gw[((o + l) * ic + i) * taps + y * size + x] = out[x][l];
      }
    }
}

void PG_AT(pgk_winograd_collect)(const pgk_winograd *p, const float *sums, int64_t begin,
                                 int64_t end, float *gw) {
  if (p->s.kernel[2] == 3) collect_run(p, 3, sums, begin, end, gw);
  else collect_run(p, 5, sums, begin, end, gw);
}
