/* Bundles, and the choice of a format by name or suffix.
 * Relies on tensor and on the generated registry of io/formats.
 * Spec: spec/io/files_spec.lua. */
#include "io/io.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* Makes room for one more in an array of n elements. */
static pg_status grow(pg_ctx *ctx, void **array, int n, int *room, size_t size) {
  if (n < *room) return PG_OK;
  if (n >= 1 << 28) return pg_fail(ctx, PG_EUNSUPPORTED, "more than %d names in one file", n);
  int wanted = *room == 0 ? 16 : *room * 2;
  void *bigger = NULL;
  PG_TRY(pg_alloc(ctx, (size_t)wanted * size, &bigger));
  if (n > 0) memcpy(bigger, *array, (size_t)n * size);
  pg_free(ctx, *array, (size_t)*room * size);
  *array = bigger;
  *room = wanted;
  return PG_OK;
}

static pg_status copy_text(pg_ctx *ctx, const char *text, char **out) {
  size_t n = strlen(text) + 1;
  void *copy = NULL;
  PG_TRY(pg_alloc(ctx, n, &copy));
  *out = memcpy(copy, text, n);
  return PG_OK;
}

static void free_text(pg_ctx *ctx, char *text) {
  if (text != NULL) pg_free(ctx, text, strlen(text) + 1);
}

pg_status pg_bundle_add(pg_bundle *b, const char *name, pg_tensor *t) {
  void *array = b->entry;
  pg_status status = grow(b->ctx, &array, b->n, &b->room, sizeof *b->entry);
  b->entry = array;
  char *copy = NULL;
  if (status == PG_OK) status = copy_text(b->ctx, name, &copy);
  if (status == PG_OK) b->entry[b->n++] = (pg_entry){copy, pg_tensor_ref(t)};
  return status;
}

pg_status pg_bundle_note(pg_bundle *b, const char *key, const char *value) {
  void *array = b->note;
  pg_status status = grow(b->ctx, &array, b->nnotes, &b->notes_room, sizeof *b->note);
  b->note = array;
  pg_note note = {NULL, NULL};
  if (status == PG_OK) status = copy_text(b->ctx, key, &note.key);
  if (status == PG_OK) status = copy_text(b->ctx, value, &note.value);
  if (status == PG_OK) {
    b->note[b->nnotes++] = note;
  } else {
    free_text(b->ctx, note.key);
  }
  return status;
}

void pg_bundle_clear(pg_bundle *b) {
  for (int i = 0; i < b->n; i++) {
    free_text(b->ctx, b->entry[i].name);
    pg_tensor_unref(b->entry[i].tensor);
  }
  for (int i = 0; i < b->nnotes; i++) {
    free_text(b->ctx, b->note[i].key);
    free_text(b->ctx, b->note[i].value);
  }
  pg_free(b->ctx, b->entry, (size_t)b->room * sizeof *b->entry);
  pg_free(b->ctx, b->note, (size_t)b->notes_room * sizeof *b->note);
  *b = pg_bundle_empty(b->ctx);
}

static int compare_text(const void *a, const void *b) {
  return strcmp(*(const char *const *)a, *(const char *const *)b);
}

pg_status pg_bundle_twice(const pg_bundle *b, const char **name) {
  *name = NULL;
  void *block = NULL;
  size_t bytes = (size_t)b->n * sizeof(char *);
  PG_TRY(pg_alloc(b->ctx, bytes, &block));
  const char **names = block;
  for (int i = 0; i < b->n; i++) names[i] = b->entry[i].name;
  if (b->n > 1) qsort(names, (size_t)b->n, sizeof *names, compare_text);
  for (int i = 1; i < b->n && *name == NULL; i++) {
    if (strcmp(names[i - 1], names[i]) == 0) *name = names[i];
  }
  pg_free(b->ctx, block, bytes);
  return PG_OK;
}

const pg_format *pg_format_at(int i) {
  for (const pg_format *const *table = pg_format_tables(); *table != NULL; table++) {
    for (const pg_format *f = *table; f->name != NULL; f++) {
      if (i-- == 0) return f;
    }
  }
  return NULL;
}

const pg_format *pg_format_find(const char *name) {
  const pg_format *f;
  for (int i = 0; (f = pg_format_at(i)) != NULL; i++) {
    if (strcmp(f->name, name) == 0) return f;
  }
  return NULL;
}

/* Does path end with one of the suffixes, in any case? */
static bool has_suffix(const char *path, const char *suffixes) {
  size_t length = strlen(path);
  while (*suffixes != 0) {
    size_t n = strcspn(suffixes, "|");
    bool same = n < length;
    for (size_t i = 0; same && i < n; i++) {
      same = tolower((unsigned char)path[length - n + i]) == suffixes[i];
    }
    if (same) return true;
    suffixes += suffixes[n] == 0 ? n : n + 1;
  }
  return false;
}

pg_status pg_format_for(pg_ctx *ctx, const char *path, const pg_format **out) {
  char known[256] = "";
  const pg_format *f;
  for (int i = 0; (f = pg_format_at(i)) != NULL; i++) {
    if (has_suffix(path, f->suffixes)) {
      *out = f;
      return PG_OK;
    }
    strncat(known, i == 0 ? "" : "|", sizeof known - strlen(known) - 1);
    strncat(known, f->suffixes, sizeof known - strlen(known) - 1);
  }
  for (char *p = known; *p != 0; p++) *p = *p == '|' ? ' ' : *p;
  return pg_fail(ctx, PG_EUNSUPPORTED, "%s: argument 'path': expected an ending of %s, got %s",
                 path, known, path);
}

pg_status pg_load(pg_ctx *ctx, const pg_format *format, const char *path, pg_bundle *b) {
  PG_TRY(format->load(ctx, path, b));
  const char *twice;
  PG_TRY(pg_bundle_twice(b, &twice));
  if (twice == NULL) return PG_OK;
  return pg_fail(ctx, PG_EFORMAT, "%s: the name '%s' occurs twice", path, twice);
}

pg_status pg_save(pg_ctx *ctx, const pg_format *format, const char *path, const pg_bundle *b) {
  if (format->save == NULL) {
    return pg_fail(ctx, PG_EUNSUPPORTED, "%s: files of the format %s are only read", path,
                   format->name);
  }
  if (b->nnotes > 0 && !format->notes) {
    return pg_fail(ctx, PG_EUNSUPPORTED, "%s: the format %s holds no metadata", path, format->name);
  }
  const char *twice;
  PG_TRY(pg_bundle_twice(b, &twice));
  if (twice != NULL) {
    return pg_fail(ctx, PG_EARG, "%s: the name '%s' occurs twice", path, twice);
  }
  return format->save(ctx, path, b);
}

bool pg_utf8_ok(const char *text, size_t n) {
  const unsigned char *p = (const unsigned char *)text, *end = p + n;
  while (p < end) {
    int more = *p == 0     ? -1
               : *p < 0x80 ? 0
               : *p < 0xc2 ? -1
               : *p < 0xe0 ? 1
               : *p < 0xf0 ? 2
               : *p < 0xf5 ? 3
                           : -1;
    if (more < 0 || end - p <= more) return false;
    for (int i = 1; i <= more; i++) {
      if ((p[i] & 0xc0) != 0x80) return false;
    }
    bool wrong = (p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) ||
                 (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f);
    if (wrong) return false;
    p += more + 1;
  }
  return true;
}
