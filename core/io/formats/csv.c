/* Tables of numbers and words as text: CSV with ',', ';' or tab, quotes as RFC 4180 has them.
 * Relies on source and sink.
 * Spec: spec/io/csv_spec.lua. */
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/io.h"
#include "io/sink.h"
#include "io/source.h"

/* A parsed file: cells[row * columns + column] points into the text, which was cut up in place. */
typedef struct table {
  pg_ctx *ctx;
  const char *path;
  char *text;
  size_t text_bytes;
  char **cells;
  int64_t n, room, columns;
} table;

/* --- cutting the text into cells ----------------------------------------------------------------
 */
static pg_status add_cell(table *t, char *cell) {
  if (t->n == t->room) {
    int64_t room = t->room == 0 ? 1024 : t->room * 2;
    void *bigger = NULL;
    PG_TRY(pg_alloc(t->ctx, (size_t)room * sizeof(char *), &bigger));
    if (t->n > 0) memcpy(bigger, t->cells, (size_t)t->n * sizeof(char *));
    pg_free(t->ctx, t->cells, (size_t)t->room * sizeof(char *));
    t->cells = bigger;
    t->room = room;
  }
  t->cells[t->n++] = cell;
  return PG_OK;
}

/* Whichever of , ; and tab the first line has most of. */
static char find_separator(const char *text) {
  static const char candidates[] = ",;\t";
  int count[3] = {0};
  bool quoted = false;
  for (; *text != 0 && (quoted || (*text != '\n' && *text != '\r')); text++) {
    if (*text == '"') quoted = !quoted;
    const char *found = quoted ? NULL : strchr(candidates, *text);
    if (found != NULL) count[found - candidates]++;
  }
  return count[2] > count[0] && count[2] > count[1] ? '\t' : count[1] > count[0] ? ';' : ',';
}

static bool ends_line(char c) { return c == 0 || c == '\n' || c == '\r'; }

/* Takes the cell at *at: ends it with a zero byte and leaves *at behind its separator; *last: it
 * ended its line. Blanks around it go. Returns NULL where a quote is not closed or text follows it.
 */
static char *take_cell(char **at, char separator, int64_t *line, bool *last) {
  char *p = *at, *cell, *end;
  while (*p == ' ' || (*p == '\t' && separator != '\t')) p++;
  if (*p == '"') {
    cell = end = ++p;
    for (; *p != '"' || p[1] == '"'; *end++ = *p++) {
      if (*p == 0) return NULL;
      if (*p == '"') p++; /* "" stands for one */
      if (*p == '\n') ++*line;
    }
    p++;
    while (*p == ' ') p++;
    if (*p != separator && !ends_line(*p)) return NULL;
  } else {
    cell = p;
    while (*p != separator && !ends_line(*p)) p++;
    end = p;
    while (end > cell && (end[-1] == ' ' || end[-1] == '\t')) end--;
  }
  *last = ends_line(*p);
  if (*p != 0) p += *p == '\r' && p[1] == '\n' ? 2 : 1;
  *end = 0;
  *at = p;
  return cell;
}

static pg_status cut(table *t) {
  char *p = t->text;
  if (strncmp(p, "\xef\xbb\xbf", 3) == 0) p += 3;
  char separator = 0;
  for (int64_t line = 1; *p != 0; line++) {
    if (ends_line(*p) || *p == '#') { /* empty lines and comments */
      while (!ends_line(*p)) p++;
      if (*p != 0) p += *p == '\r' && p[1] == '\n' ? 2 : 1;
      continue;
    }
    if (separator == 0) separator = find_separator(p);
    int64_t width = 0, first = line;
    for (bool last = false; !last; width++) {
      char *cell = take_cell(&p, separator, &line, &last);
      if (cell == NULL) {
        return pg_fail(t->ctx, PG_EFORMAT, "%s: line %lld: a quoted cell does not end", t->path,
                       (long long)first);
      }
      PG_TRY(add_cell(t, cell));
    }
    if (t->columns == 0) t->columns = width;
    if (width != t->columns) {
      return pg_fail(t->ctx, PG_EFORMAT, "%s: line %lld has %lld cells, the first one has %lld",
                     t->path, (long long)first, (long long)width, (long long)t->columns);
    }
  }
  if (t->n > 0) return PG_OK;
  return pg_fail(t->ctx, PG_EFORMAT, "%s: holds no table", t->path);
}

/* --- what the cells mean ------------------------------------------------------------------------
 */
/* Empty, NA and ? stand for a missing number, read as NaN. */
static bool is_missing(const char *cell) {
  return cell[0] == 0 || strcmp(cell, "NA") == 0 || strcmp(cell, "?") == 0;
}

static bool is_number(const char *cell, double *v) {
  char *end;
  *v = strtod(cell, &end);
  return end != cell && *end == 0;
}

/* Are all cells of a column, from a row on, numbers or missing? */
static bool numeric_column(const table *t, int64_t column, int64_t from) {
  double v;
  for (int64_t i = from * t->columns + column; i < t->n; i += t->columns) {
    if (!is_missing(t->cells[i]) && !is_number(t->cells[i], &v)) return false;
  }
  return true;
}

/* The first line names the columns where it is a word above numbers, or nothing but words. */
static bool has_header(const table *t) {
  bool only_words = true;
  double v;
  for (int64_t c = 0; c < t->columns; c++) {
    bool word = !is_number(t->cells[c], &v) && !is_missing(t->cells[c]);
    if (word && t->n > t->columns && numeric_column(t, c, 1)) return true;
    only_words = only_words && word;
  }
  return only_words;
}

static double cell_number(const char *cell) {
  double v;
  return !is_missing(cell) && is_number(cell, &v) ? v : (double)NAN;
}

static int by_word(const void *a, const void *b) {
  return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* text[at..) += word in JSON quotes, or only the bytes needed where text is NULL. */
static size_t put_json(char *text, size_t at, const char *word) {
  size_t begin = at;
#define PUT(c) (text == NULL ? (void)0 : (void)(text[at] = (char)(c)), at++)
  PUT('"');
  for (; *word != 0; word++) {
    unsigned char c = (unsigned char)*word;
    if (c < 32) { /* \u00xx */
      for (const char *p = "\\u00"; *p != 0; p++) PUT(*p);
      PUT('0' + (c >> 4));
      PUT("0123456789abcdef"[c & 15]);
      continue;
    }
    if (c == '"' || c == '\\') PUT('\\');
    PUT(c);
  }
  PUT('"');
#undef PUT
  return at - begin;
}

/* Adds the note key: the words as a JSON list. */
static pg_status note_words(pg_bundle *b, const char *key, char *const *words, int64_t n) {
  size_t bytes = 3;
  for (int64_t i = 0; i < n; i++) bytes += put_json(NULL, 0, words[i]) + 1;
  void *block = NULL;
  PG_TRY(pg_alloc(b->ctx, bytes, &block));
  char *text = block;
  size_t at = 0;
  text[at++] = '[';
  for (int64_t i = 0; i < n; i++) {
    if (i > 0) text[at++] = ',';
    at += put_json(text, at, words[i]);
  }
  text[at++] = ']';
  text[at] = 0;
  pg_status status = pg_bundle_note(b, key, text);
  pg_free(b->ctx, block, bytes);
  return status;
}

/* Words become their number, from 1, in the sorted list of all words, which becomes a note. */
static pg_status word_column(const table *t, int64_t column, int64_t from, const char *name,
                             pg_tensor *codes, pg_bundle *b) {
  int64_t rows = pg_numel(codes), distinct = 0, *code = pg_data(codes);
  size_t bytes = (size_t)rows * sizeof(char *);
  void *block = NULL;
  PG_TRY(pg_alloc(t->ctx, bytes, &block));
  char **words = block;
  for (int64_t i = 0; i < rows; i++) words[i] = t->cells[(from + i) * t->columns + column];
  qsort(words, (size_t)rows, sizeof *words, by_word);
  for (int64_t i = 0; i < rows; i++) {
    if (i == 0 || strcmp(words[i], words[distinct - 1]) != 0) words[distinct++] = words[i];
  }
  for (int64_t i = 0; i < rows; i++) {
    char **found = bsearch(&t->cells[(from + i) * t->columns + column], words, (size_t)distinct,
                           sizeof *words, by_word);
    code[i] = found - words + 1;
  }
  char key[300];
  snprintf(key, sizeof key, "classes.%.280s", name);
  pg_status status = note_words(b, key, words, distinct);
  pg_free(t->ctx, block, bytes);
  return status;
}

static pg_status add_columns(const table *t, bool header, pg_bundle *b) {
  int64_t from = header ? 1 : 0, rows = t->n / t->columns - from;
  if (header) PG_TRY(note_words(b, "columns", t->cells, t->columns));
  for (int64_t c = 0; c < t->columns; c++) {
    char number[24];
    snprintf(number, sizeof number, "%lld", (long long)c + 1);
    const char *name = header && t->cells[c][0] != 0 ? t->cells[c] : number;
    bool numeric = rows == 0 || numeric_column(t, c, from);
    pg_tensor *v = NULL;
    PG_TRY(pg_tensor_new(t->ctx, numeric ? PG_F64 : PG_I64, 1, &rows, &v));
    pg_status status = PG_OK;
    if (numeric) {
      double *x = pg_data(v);
      for (int64_t i = 0; i < rows; i++) x[i] = cell_number(t->cells[(from + i) * t->columns + c]);
    } else {
      status = word_column(t, c, from, name, v, b);
    }
    if (status == PG_OK) status = pg_bundle_add(b, name, v);
    pg_tensor_unref(v);
    PG_TRY(status);
  }
  return PG_OK;
}

/* Numbers only: one tensor, rows x columns. Otherwise a tensor for each column. */
static pg_status understand(const table *t, pg_bundle *b) {
  bool header = has_header(t), numbers = !header;
  for (int64_t c = 0; c < t->columns && numbers; c++) numbers = numeric_column(t, c, 0);
  if (!numbers) return add_columns(t, header, b);
  int64_t shape[2] = {t->n / t->columns, t->columns};
  pg_tensor *v = NULL;
  PG_TRY(pg_tensor_new(t->ctx, PG_F64, 2, shape, &v));
  double *x = pg_data(v);
  for (int64_t i = 0; i < t->n; i++) x[i] = cell_number(t->cells[i]);
  pg_status status = pg_bundle_add(b, "", v);
  b->single = true;
  pg_tensor_unref(v);
  return status;
}

/* Numbers are read and written with a point, whatever the locale; *old is for leave_c_locale. */
static pg_status enter_c_locale(pg_ctx *ctx, locale_t *own, locale_t *old) {
  *own = newlocale(LC_ALL_MASK, "C", (locale_t)0);
  if (*own == (locale_t)0) return pg_fail(ctx, PG_ENOMEM, "out of memory");
  *old = uselocale(*own);
  return PG_OK;
}

static void leave_c_locale(locale_t own, locale_t old) {
  uselocale(old);
  freelocale(own);
}

static pg_status load(pg_ctx *ctx, const char *path, pg_bundle *b) {
  table t = {.ctx = ctx, .path = path};
  pg_source s;
  locale_t own = (locale_t)0, old = (locale_t)0;
  PG_TRY(pg_source_open(ctx, path, false, &s));
  pg_status status = pg_source_all(&s, &t.text, &t.text_bytes);
  pg_source_close(&s);
  if (status == PG_OK && strlen(t.text) != t.text_bytes) {
    status = pg_fail(ctx, PG_EFORMAT, "%s: is no text: it holds a zero byte", path);
  }
  if (status == PG_OK) status = cut(&t);
  if (status == PG_OK) status = enter_c_locale(ctx, &own, &old);
  if (status == PG_OK) {
    status = understand(&t, b);
    leave_c_locale(own, old);
  }
  pg_free(ctx, t.cells, (size_t)t.room * sizeof(char *));
  if (t.text != NULL) pg_free(ctx, t.text, t.text_bytes + 1);
  return status;
}

/* --- writing ------------------------------------------------------------------------------------
 */
/* The shortest decimal that reads back as the same number. */
static pg_status put_number(pg_sink *s, const pg_tensor *t, int64_t at) {
  if (!pg_is_float((pg_dtype)t->dtype)) {
    return pg_sink_printf(s, "%lld", (long long)pg_at_i64(t, at));
  }
  double v = pg_at_f64(t, at);
  bool wide = t->dtype == PG_F64;
  char text[40];
  for (int digits = wide ? 15 : 6; digits <= (wide ? 17 : 9); digits++) {
    snprintf(text, sizeof text, "%.*g", digits, v);
    if (wide ? strtod(text, NULL) == v : strtof(text, NULL) == (float)v) break;
  }
  return pg_sink_printf(s, "%s", text);
}

static pg_status put_name(pg_sink *s, const char *name) {
  if (name[0] != 0 && strpbrk(name, ",;\t\"\r\n# ") == NULL) return pg_sink_printf(s, "%s", name);
  PG_TRY(pg_sink_write(s, "\"", 1));
  for (; *name != 0; name++) {
    PG_TRY(*name == '"' ? pg_sink_write(s, "\"\"", 2) : pg_sink_write(s, name, 1));
  }
  return pg_sink_write(s, "\"", 1);
}

/* Rows of a tensor with at most two dims. */
static pg_status write_rows(pg_sink *s, const pg_tensor *t) {
  int64_t rows = t->nd == 0 ? 1 : t->shape[0], columns = t->nd < 2 ? 1 : t->shape[1];
  int64_t down = t->nd == 0 ? 0 : t->stride[0], right = t->nd < 2 ? 0 : t->stride[1];
  for (int64_t r = 0; r < rows; r++) {
    for (int64_t c = 0; c < columns; c++) {
      if (c > 0) PG_TRY(pg_sink_write(s, ",", 1));
      PG_TRY(put_number(s, t, r * down + c * right));
    }
    PG_TRY(pg_sink_write(s, "\n", 1));
  }
  return PG_OK;
}

/* Tensors of one dim and one length, side by side under their names. */
static pg_status write_columns(pg_sink *s, const pg_bundle *b) {
  for (int i = 0; i < b->n; i++) {
    if (i > 0) PG_TRY(pg_sink_write(s, ",", 1));
    PG_TRY(put_name(s, b->entry[i].name));
  }
  PG_TRY(pg_sink_write(s, "\n", 1));
  for (int64_t r = 0; r < b->entry[0].tensor->shape[0]; r++) {
    for (int i = 0; i < b->n; i++) {
      const pg_tensor *t = b->entry[i].tensor;
      if (i > 0) PG_TRY(pg_sink_write(s, ",", 1));
      PG_TRY(put_number(s, t, r * t->stride[0]));
    }
    PG_TRY(pg_sink_write(s, "\n", 1));
  }
  return PG_OK;
}

static pg_status check(pg_ctx *ctx, const char *path, const pg_bundle *b) {
  if (b->n == 0) return pg_fail(ctx, PG_EARG, "%s: no tensors to write", path);
  for (int i = 0; i < b->n; i++) {
    const pg_tensor *t = b->entry[i].tensor, *first = b->entry[0].tensor;
    if (b->single) {
      if (t->nd <= 2) continue;
      return pg_fail(ctx, PG_ESHAPE, "%s: a table has rows and columns, the tensor is %s", path,
                     pg_shape_str(t).s);
    }
    if (t->nd != 1 || first->nd != 1 || t->shape[0] != first->shape[0]) {
      return pg_fail(ctx, PG_ESHAPE,
                     "%s: columns are tensors of one dim and one length, '%.100s' is %s%s", path,
                     b->entry[i].name, pg_shape_str(t).s, i == 0 ? "" : " unlike those before it");
    }
  }
  return PG_OK;
}

static pg_status save(pg_ctx *ctx, const char *path, const pg_bundle *b) {
  PG_TRY(check(ctx, path, b));
  pg_sink s;
  locale_t own = (locale_t)0, old = (locale_t)0;
  PG_TRY(pg_sink_open(ctx, path, &s));
  pg_status status = enter_c_locale(ctx, &own, &old);
  if (status == PG_OK) {
    status = b->single ? write_rows(&s, b->entry[0].tensor) : write_columns(&s, b);
    leave_c_locale(own, old);
  }
  if (status == PG_OK) return pg_sink_commit(&s);
  pg_sink_drop(&s);
  return status;
}

const pg_format pg_formats_csv[] = {
    {"csv", "a table of numbers, or named columns of numbers and words", ".csv|.tsv", false, load,
     save},
    {0},
};
