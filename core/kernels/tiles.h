/* The code of pack.c for one dtype: it is included once for each, with T the type, AT(name) the
 * name for it, LANES of a vector, LOW and HIGH that mix two vectors. */

typedef T AT(vec) __attribute__((vector_size(WIDTH)));
typedef T AT(loose) __attribute__((vector_size(WIDTH), aligned(sizeof(T)), may_alias));

#define COLUMNS (VECTORS * LANES)
#define PANEL   (PACKED_VECTORS * LANES)
/* Distance of a row's vectors in a packed operand of k rows. */
#define APART(k) (PACKED_VECTORS == 1 ? PANEL * (k) : LANES)
#define DEEP     (DEPTH / (int)sizeof(T))

/* --- packing -----------------------------------------------------------------------------------
 */

/* to[p step + q] = from[q ld + p] for the q < rows, 0 for rows <= q < LANES; p < k. */
static void AT(turn)(int64_t rows, int64_t k, const T *from, int64_t ld, T *to, int64_t step) {
  int64_t p = 0;
  for (; p + LANES <= k; p += LANES) {
    AT(vec) x[LANES], y[LANES];
    if (rows == LANES) {
      EACH_LANE x[i] = *(const AT(loose) *)(from + i * ld + p);
    } else {
      for (int i = 0; i < LANES; i++) x[i] = (AT(vec)){0};
      for (int i = 0; i < rows; i++) x[i] = *(const AT(loose) *)(from + i * ld + p);
    }
    /* A round moves the highest bit of the lane into the number of the vector and that of the
     * number into the lane. */
    _Pragma("GCC unroll 4") for (int s = 1; s < LANES; s *= 2) {
      _Pragma("GCC unroll 8") for (int i = 0; i < LANES / 2; i++) {
        y[2 * i] = LOW(x[i], x[i + LANES / 2]);
        y[2 * i + 1] = HIGH(x[i], x[i + LANES / 2]);
      }
      EACH_LANE x[i] = y[i];
    }
    EACH_LANE *(AT(loose) *)(to + (p + i) * step) = x[i];
  }
  for (; p < k; p++)
    for (int64_t q = 0; q < LANES; q++) to[p * step + q] = q < rows ? from[q * ld + p] : 0;
}

/* Panels of n columns; flip: b's rows are its columns. */
static void AT(pack)(bool flip, int64_t k, int64_t n, const T *b, int64_t ldb, T *to) {
  for (int64_t j = 0; j < n; j += PANEL, to += k * PANEL) {
    int64_t w = least(PANEL, n - j);
    const T *from = b + (flip ? j * ldb : j);
    if (flip) {
      for (int64_t q = 0; q < w; q += LANES)
        AT(turn)(least(LANES, w - q), k, from + q * ldb, ldb, to + q, PANEL);
    } else if (w == PANEL) {
      for (int64_t p = 0; p < k; p++) memcpy(to + p * PANEL, from + p * ldb, sizeof(T) * PANEL);
    } else {
      for (int64_t p = 0; p < k; p++)
        for (int64_t q = 0; q < PANEL; q++) to[p * PANEL + q] = q < w ? from[p * ldb + q] : 0;
    }
  }
}

int64_t PG_AT(AT(pgk_panel))(void) { return PANEL; }

void PG_AT(AT(pgk_pack))(bool flip, int64_t k, int64_t n, const T *b, int64_t ldb, int64_t begin,
                         int64_t end, T *to) {
  int64_t j = begin * PANEL;
  AT(pack)(flip, k, least(n, end * PANEL) - j, b + (flip ? j * ldb : j), ldb, to + j * k);
}

/* --- tiles -------------------------------------------------------------------------------------
 */

/* One tile of `rows` rows and `vectors` vectors, constants where this is inlined; w columns of it
 * are written: c = base + sum, or sum where base is NULL. Element p of row i of the left operand is
 * a[i row + p step], row p of the right one b[p ldb], its vectors `next` apart. */
static inline __attribute__((always_inline)) void AT(tile)(const int rows, const int vectors,
                                                           int64_t w, int64_t k, const T *a,
                                                           int64_t row, int64_t step, const T *b,
                                                           int64_t ldb, int64_t next, const T *base,
                                                           int64_t base_ld, T *c, int64_t ldc) {
  AT(vec) sum[ROWS][VECTORS];
  EACH_ROW EACH_VECTOR sum[i][v] = (AT(vec)){0};
  if (k > AHEAD) EACH_ROW EACH_VECTOR __builtin_prefetch(c + i * ldc + v * LANES, 1);
  for (int64_t p = 0; p < k; p++, a += step, b += ldb) {
    AT(vec) x[VECTORS];
    EACH_VECTOR x[v] = *(const AT(loose) *)(b + v * next);
    EACH_ROW EACH_VECTOR sum[i][v] += a[i * row] * x[v];
  }
  if (w == vectors * LANES) {
    if (base) {
      EACH_ROW EACH_VECTOR sum[i][v] += *(const AT(loose) *)(base + i * base_ld + v * LANES);
    }
    EACH_ROW EACH_VECTOR *(AT(loose) *)(c + i * ldc + v * LANES) = sum[i][v];
    return;
  }
#if defined(__AVX512F__)
  EACH_ROW EACH_VECTOR {
    const unsigned mask = w >= (v + 1) * LANES ? ~0u
                          : w > v * LANES      ? (1u << (w - v * LANES)) - 1
                                               : 0;
    if (base) sum[i][v] += LOAD_MASKED(mask, base + i * base_ld + v * LANES);
    STORE_MASKED(c + i * ldc + v * LANES, mask, sum[i][v]);
  }
#else
  T all[ROWS * COLUMNS];
  EACH_ROW EACH_VECTOR *(AT(loose) *)(all + i * COLUMNS + v * LANES) = sum[i][v];
  for (int i = 0; i < rows; i++, c += ldc) {
    if (base)
      for (int64_t q = 0; q < w; q++) c[q] = base[i * base_ld + q] + all[i * COLUMNS + q];
    else
      for (int64_t q = 0; q < w; q++) c[q] = all[i * COLUMNS + q];
  }
#endif
}

/* The right operand of a band: COLUMNS columns are `step` elements on, their vectors `next` apart,
 * rows ldb; tail: where the last COLUMNS are packed in k rows if they are not whole, or NULL. */
typedef struct AT(panels) {
  const T *b, *tail;
  int64_t step, next, ldb;
} AT(panels);

/* `rows` rows of the left operand times all n columns. */
static inline __attribute__((always_inline)) void AT(band)(const int rows, int64_t n, int64_t k,
                                                           const T *a, int64_t row, int64_t step,
                                                           const AT(panels) * r, const T *base,
                                                           int64_t base_ld, T *c, int64_t ldc) {
  const T *b = r->b;
  int64_t ldb = r->ldb, next = r->next;
  for (int64_t j = 0; j < n; j += COLUMNS, b += r->step, c += COLUMNS) {
    int64_t w = least(COLUMNS, n - j);
    if (w < COLUMNS && r->tail) {
      b = r->tail;
      ldb = PANEL;
      next = APART(k);
    }
    if (w > LANES) AT(tile)(rows, VECTORS, w, k, a, row, step, b, ldb, next, base, base_ld, c, ldc);
    else AT(tile)(rows, 1, w, k, a, row, step, b, ldb, next, base, base_ld, c, ldc);
    base = base ? base + COLUMNS : NULL;
  }
}

/* m <= ROWS rows, staged or of a transposed operand: neighbours in memory, or a row length apart.
 */
#define BANDS(name, row, step)                                                                    \
  static void AT(name)(int64_t m, int64_t n, int64_t k, const T *a, int64_t lda,                  \
                       const AT(panels) * r, const T *base, int64_t base_ld, T *c, int64_t ldc) { \
    if (m == ROWS) {                                                                              \
      AT(band)(ROWS, n, k, a, row, step, r, base, base_ld, c, ldc);                               \
      return;                                                                                     \
    }                                                                                             \
    for (int64_t i = 0, rows; i < m; i += rows) {                                                 \
      const T *x = a + i * (row), *from = base ? base + i * base_ld : NULL;                       \
      T *y = c + i * ldc;                                                                         \
      rows = ROWS > 8 && m - i >= 8 ? 8 : m - i >= 4 ? 4 : m - i >= 2 ? 2 : 1;                    \
      if (rows == 8) AT(band)(ROWS > 8 ? 8 : 1, n, k, x, row, step, r, from, base_ld, y, ldc);    \
      else if (rows == 4) AT(band)(4, n, k, x, row, step, r, from, base_ld, y, ldc);              \
      else if (rows == 2) AT(band)(2, n, k, x, row, step, r, from, base_ld, y, ldc);              \
      else AT(band)(1, n, k, x, row, step, r, from, base_ld, y, ldc);                             \
    }                                                                                             \
  }
BANDS(rows_close, 1, lda)
BANDS(rows_apart, lda, 1)
#undef BANDS

void PG_AT(AT(pgk_packed_gemm))(bool turn, int64_t m, int64_t n, int64_t k, const T *a, int64_t lda,
                                const T *b, int64_t depth, bool add, T *c, int64_t ldc) {
  for (int64_t j = 0; j < n; j += COLUMNS, b += COLUMNS * depth) { /* b's panels stay near */
    AT(panels) r = {b, NULL, 0, APART(depth), PANEL};
    for (int64_t i = 0, rows; i < m; i += rows) {
      rows = m - i == 16 && ROWS > 8 ? 8 : least(ROWS, m - i);
      int64_t w = least(COLUMNS, n - j);
      T *to = c + i * ldc + j;
      if (turn) AT(rows_close)(rows, w, k, a + i, lda, &r, add ? to : NULL, ldc, to, ldc);
      else AT(rows_apart)(rows, w, k, a + i * lda, lda, &r, add ? to : NULL, ldc, to, ldc);
    }
  }
}

/* --- vectors -----------------------------------------------------------------------------------
 */

/* c[i][j] = base[i][j] + sum over p of a[i][p] b[j][p] for `rows` and `cols`, constants. */
static inline __attribute__((always_inline)) void AT(dots)(const int rows, const int cols,
                                                           int64_t k, const T *a, int64_t lda,
                                                           const T *b, int64_t ldb, const T *base,
                                                           int64_t base_ld, T *c, int64_t ldc) {
  AT(vec) sum[FEW_ROWS][4];
  EACH_ROW
  _Pragma("GCC unroll 4") for (int j = 0; j < cols; j++) sum[i][j] = (AT(vec)){0};
  int64_t p = 0;
  for (; p + LANES <= k; p += LANES) {
    AT(vec) x[4];
    _Pragma("GCC unroll 4") for (int j = 0; j < cols; j++) x[j] =
        *(const AT(loose) *)(b + j * ldb + p);
    EACH_ROW {
      AT(vec) y = *(const AT(loose) *)(a + i * lda + p);
      _Pragma("GCC unroll 4") for (int j = 0; j < cols; j++) sum[i][j] += y * x[j];
    }
  }
  EACH_ROW {
    T part[LANES > 4 ? LANES : 4], total[4], rest[4] = {0};
    for (int j = 0; j < cols; j++)
      for (int64_t q = p; q < k; q++) rest[j] += a[i * lda + q] * b[j * ldb + q];
    AT(vec) all = sum[i][0];
    if (cols == 4) { /* two rounds of mixing leave lanes of columns 0 2 1 3 0 2 1 3 .. */
      AT(vec) even = LOW(sum[i][0], sum[i][1]) + HIGH(sum[i][0], sum[i][1]);
      AT(vec) odd = LOW(sum[i][2], sum[i][3]) + HIGH(sum[i][2], sum[i][3]);
      if (LANES > 2) {
        all = LOW(even, odd) + HIGH(even, odd);
      } else { /* one round is all */
        all = even;
        memcpy(part + 2, &odd, sizeof odd);
      }
    }
    memcpy(part, &all, sizeof all);
    for (int half = LANES / 2; half >= cols; half /= 2)
      for (int q = 0; q < half; q++) part[q] += part[q + half];
    for (int j = 0; j < cols; j++) total[j] = part[j] + rest[j];
    if (cols == 4 && LANES >= 4) {
      total[1] = part[2] + rest[1];
      total[2] = part[1] + rest[2];
    }
    for (int j = 0; j < cols; j++)
      c[i * ldc + j] = base ? base[i * base_ld + j] + total[j] : total[j];
  }
}

static void AT(run_dots)(const pgk_product *p, int64_t begin, int64_t end) {
  for (int64_t j = begin, cols; j < end; j += cols) {
    cols = end - j >= 4 ? 4 : 1;
    const T *b = (const T *)p->b + j * p->ldb;
    for (int64_t i = 0, rows; i < p->m; i += rows) {
      rows = p->m - i >= 4 ? 4 : p->m - i >= 2 ? 2 : 1;
      const T *a = (const T *)p->a + i * p->lda;
      T *c = (T *)p->c + i * p->ldc + j;
      const T *base = p->bias ? (const T *)p->bias + j : p->add ? c : NULL;
      int64_t base_ld = p->bias ? 0 : p->ldc;
#define DOTS_OF(r, n) AT(dots)(r, n, p->k, a, p->lda, b, p->ldb, base, base_ld, c, p->ldc)
      if (cols == 4) {
        if (rows == 4) DOTS_OF(4, 4);
        else if (rows == 2) DOTS_OF(2, 4);
        else DOTS_OF(1, 4);
      } else {
        if (rows == 4) DOTS_OF(4, 1);
        else if (rows == 2) DOTS_OF(2, 1);
        else DOTS_OF(1, 1);
      }
#undef DOTS_OF
    }
  }
}

/* The one row of c from rows of b, four at a time. */
static void AT(run_sums)(const pgk_product *p, int64_t begin, int64_t end) {
  int64_t n = end - begin, step = p->ta ? p->lda : 1, i = 0;
  const T *a = p->a, *b = (const T *)p->b + begin;
  T *restrict c = (T *)p->c + begin;
  if (p->bias) memcpy(c, (const T *)p->bias + begin, sizeof(T) * (size_t)n);
  else if (!p->add) memset(c, 0, sizeof(T) * (size_t)n);
  for (; i + 4 <= p->k; i += 4, b += 4 * p->ldb) {
    T a0 = a[i * step], a1 = a[(i + 1) * step], a2 = a[(i + 2) * step], a3 = a[(i + 3) * step];
    const T *b1 = b + p->ldb, *b2 = b1 + p->ldb, *b3 = b2 + p->ldb;
    for (int64_t j = 0; j < n; j++) c[j] += a0 * b[j] + a1 * b1[j] + (a2 * b2[j] + a3 * b3[j]);
  }
  for (; i < p->k; i++, b += p->ldb) {
    T x = a[i * step];
    for (int64_t j = 0; j < n; j++) c[j] += x * b[j];
  }
}

/* --- blocked products --------------------------------------------------------------------------
 */

/* `rows` rows of the left operand by tiles, whose rows lie side by side: row i of a tile at
 * to[p STAGE + i], the next tile k STAGE on. */
static void AT(stage)(bool ta, int64_t rows, int64_t k, const T *a, int64_t lda, T *to) {
  if (!ta) {
    for (int64_t i = 0; i < rows; i += ROWS, a += ROWS * lda, to += k * STAGE)
      for (int64_t q = 0; q < least(ROWS, rows - i); q += LANES)
        AT(turn)(least(LANES, least(ROWS, rows - i) - q), k, a + q * lda, lda, to + q, STAGE);
    return;
  }
  for (int64_t p = 0; p < k; p++, a += lda, to += STAGE) {
    int64_t i = 0;
    T *at = to;
    for (; i + ROWS <= rows; i += ROWS, at += k * STAGE) memcpy(at, a + i, sizeof(T) * ROWS);
    for (int64_t q = 0; q < rows - i; q++) at[q] = a[i + q];
  }
}

/* Rows [i, i + m), columns [j, j + n) of c. packed: b as pgk_product_pack leaves it, from column
 * `first` on, `width` columns; NULL: b is used where it lies, by panels that are packed where its
 * rows are columns. */
static void AT(piece)(const pgk_product *p, int64_t i, int64_t m, int64_t j, int64_t n,
                      const T *packed, int64_t first, int64_t width) {
  _Alignas(64) T staged[TILES * STAGE * DEEP];
  _Alignas(64) T last[COLUMNS * DEEP];
  const bool turned = p->tb && !packed;
  int64_t bent = packed || turned ? 0 : n % COLUMNS, group = turned ? COLUMNS : GROUP;
  int64_t blocks = most(1, parts_of(p->k, DEEP)), deep = parts_of(p->k, blocks);
  int64_t some = whole(parts_of(m, parts_of(m, TILES * ROWS)), ROWS);
  int64_t apart = p->lda * (int64_t)sizeof(T);
  int64_t side = p->ta ? some : ROWS; /* rows that are staged at once, just before their use */
  /* Rows a multiple of a page apart share a few lines of the first cache. Others are read where
   * they lie if too few columns would use the staged ones, or if a panel's turning has cleared the
   * way: */
  int64_t few = p->ta ? 3 * COLUMNS : turned ? n : 4 * COLUMNS;
  bool stage = n > few || (n > LANES && m > 1 && apart % (p->ta ? 1024 : PAGE) == 0);
  for (int64_t at = 0; at < p->k; at += deep) {
    int64_t k = least(deep, p->k - at);
    AT(panels) r = {packed + width * at + (j - first) * k, NULL, COLUMNS * k, APART(k), PANEL};
    if (!packed && !turned) {
      const T *b = (const T *)p->b + at * p->ldb + j;
      r = (AT(panels)){b, bent ? last : NULL, COLUMNS, LANES, p->ldb};
      if (bent) AT(pack)(false, k, bent, b + n - bent, p->ldb, last);
    }
    for (int64_t q = i; q < i + m; q += some) { /* these rows times a group of columns */
      int64_t all = least(some, i + m - q), lda = stage ? STAGE : p->lda;
      const T *a = (const T *)p->a + (p->ta ? at * p->lda + q : q * p->lda + at);
      for (int64_t g = 0; g < n; g += group) {
        int64_t w = least(group, n - g);
        AT(panels) near = r;
        if (turned) {
          AT(pack)(true, k, w, (const T *)p->b + (j + g) * p->ldb + at, p->ldb, last);
          near.b = last;
        } else {
          near.b += g / COLUMNS * r.step;
        }
        for (int64_t t = 0; t < all; t += ROWS) {
          int64_t rows = least(ROWS, all - t);
          const T *x = a + (p->ta ? t : t * p->lda);
          if (stage) {
            T *to = staged + t / ROWS * k * STAGE;
            if (g == 0 && t % side == 0) AT(stage)(p->ta, least(side, all - t), k, x, p->lda, to);
            x = to;
          }
          T *c = (T *)p->c + (q + t) * p->ldc + j + g;
          const T *base = at || p->add ? c : p->bias ? (const T *)p->bias + j + g : NULL;
          int64_t base_ld = at || p->add ? p->ldc : 0;
          if (stage || p->ta) AT(rows_close)(rows, w, k, x, lda, &near, base, base_ld, c, p->ldc);
          else AT(rows_apart)(rows, w, k, x, lda, &near, base, base_ld, c, p->ldc);
        }
      }
    }
  }
}

/* Panels of the round times blocks of k; a block's panels lie together. */
void PG_AT(AT(pgk_product_pack))(const pgk_product *p, int64_t begin, int64_t end) {
  int64_t width = whole(p->last - p->first, COLUMNS), panels = width / COLUMNS;
  int64_t deep = parts_of(p->k, parts_of(p->k, DEEP));
  for (int64_t i = begin; i < end; i++) {
    int64_t at = i / panels * deep, j = i % panels * COLUMNS, k = least(deep, p->k - at);
    int64_t w = least(COLUMNS, p->last - p->first - j), col = p->first + j;
    const T *b = (const T *)p->b + (p->tb ? col * p->ldb + at : at * p->ldb + col);
    AT(pack)(p->tb, k, w, b, p->ldb, (T *)p->scratch + width * at + j * k);
  }
}

void PG_AT(AT(pgk_product_run))(const pgk_product *p, int64_t begin, int64_t end) {
  int64_t across = parts_of(p->last - p->first, p->cols);
  const T *packed = p->way == PACKED ? p->scratch : NULL;
  for (int64_t item = begin; item < end; item++) {
    int64_t i = item / across * p->rows, j = p->first + item % across * p->cols;
    int64_t m = least(p->rows, p->m - i), n = least(p->cols, p->last - j);
    if (p->way == DOTS) AT(run_dots)(p, j, j + n);
    else if (p->way == SUMS) AT(run_sums)(p, j, j + n);
    else AT(piece)(p, i, m, j, n, packed, p->first, whole(p->last - p->first, COLUMNS));
  }
}

void PG_AT(AT(pgk_product_round))(pgk_product *p, int64_t first) {
  p->first = first;
  p->last = least(p->n, first + p->round);
  int64_t n = p->last - first;
  p->packs = p->way == PACKED ? parts_of(n, COLUMNS) * parts_of(p->k, DEEP) : 0;
  p->items = parts_of(p->m, p->rows) * parts_of(n, p->cols);
}

/* Cuts c into items of equal size, which depend on the shape only: about one for PORTION
 * multiply-adds, no more than MOST, and such that a staged row and a panel are used often. */
static void AT(cut)(pgk_product *p, double work) {
  int64_t want = 1, down = 1, across = 1, n = p->round;
  if (work >= ALONE)
    for (want = 2; want < MOST && want * (double)PORTION < work;) want *= 2;
  if (p->way == DIRECT || p->way == PACKED) {
    while (down * across < want && p->m >= down * 2 * TILES * ROWS) down *= 2;
    while (down * across < want && n >= across * 2 * GROUP) across *= 2;
    want = least(want, FEW);
    while (down * across < want && p->m >= down * 4 * ROWS) down *= 2;
    while (down * across < want && n >= across * 4 * COLUMNS) across *= 2;
  } else if (p->way == TURNED) { /* each item packs its columns */
    while (across < want && n >= across * 8 * COLUMNS) across *= 2;
    while (down * across < least(want, 2) && p->m >= 2 * ROWS) down *= 2;
  } else { /* dot products, or pieces of rows that are not too short to read */
    int64_t piece = p->way == DOTS ? 64 : 4 * GROUP;
    while (across < want && n >= across * 2 * piece) across *= 2;
    if (across < 2 && want > 1 && n >= GROUP) across = 2;
  }
  p->rows = parts_of(p->m, down);
  p->cols = whole(parts_of(n, across), COLUMNS);
}

bool PG_AT(AT(pgk_product_plan))(pgk_product *p, bool split) {
  double work = (double)p->m * (double)p->n * (double)p->k;
  if (work == 0) return false;
  p->bytes = 0;
  p->round = p->n;
  p->rows = p->m;
  p->cols = whole(p->n, COLUMNS);
  if (p->n == 1 && p->m > 1 && p->ldc == 1 && !p->bias) { /* the transposed product has one row */
    pgk_product q = *p;
    p->a = q.b;
    p->b = q.a;
    p->lda = q.ldb;
    p->ldb = q.lda;
    p->ta = !q.tb;
    p->tb = !q.ta;
    p->m = p->rows = 1;
    p->n = p->ldc = p->round = q.m;
  }
  if (p->tb && p->m <= FEW_ROWS && (!p->ta || (p->m == 1 && p->lda == 1))) p->way = DOTS;
  else if (p->m == 1 && !p->tb) p->way = SUMS;
  else if (!p->tb && (p->m < MANY_ROWS || p->n * p->k < LARGE)) p->way = DIRECT;
  else if (p->tb && p->m <= TILES * ROWS) p->way = TURNED;
  else {
    p->way = PACKED;
    p->round = least(p->n, most(COLUMNS, ROUND / p->k / COLUMNS * COLUMNS));
    p->bytes = sizeof(T) * (size_t)(whole(p->round, COLUMNS) * p->k);
  }
  AT(cut)(p, !split ? 0 : p->way == DOTS || p->way == SUMS ? 4 * work : work);
  return true;
}

#undef COLUMNS
#undef PANEL
#undef APART
#undef DEEP
