/* Reading and writing tensors: the format contract and the bundle of named tensors that every
 * format fills or takes. A file in io/formats/ exports one table, const pg_format
 * pg_formats_<file>[], ended by {0}. Relies on tensor. Spec: spec/io/files_spec.lua. */
#ifndef PG_IO_IO_H
#define PG_IO_IO_H

#include "tensor/tensor.h"

typedef struct pg_entry {
  char *name; /* owned, ends with a zero byte and holds no other; "" for the only tensor */
  pg_tensor *tensor;
} pg_entry;

typedef struct pg_note { /* metadata: text to text */
  char *key, *value;
} pg_note;

/* Named tensors and notes, in the order in which they were added. */
typedef struct pg_bundle {
  pg_ctx *ctx;
  bool single; /* one tensor without a name, as .npy holds it */
  int n, room, nnotes, notes_room;
  pg_entry *entry;
  pg_note *note;
} pg_bundle;

static inline pg_bundle pg_bundle_empty(pg_ctx *ctx) { return (pg_bundle){.ctx = ctx}; }
/* Takes a ref of its own. */
pg_status pg_bundle_add(pg_bundle *b, const char *name, pg_tensor *t);
pg_status pg_bundle_note(pg_bundle *b, const char *key, const char *value);
void pg_bundle_clear(pg_bundle *b);
/* The first name that occurs twice, or NULL. */
pg_status pg_bundle_twice(const pg_bundle *b, const char **name);

typedef struct pg_format {
  const char *name, *doc;
  const char *suffixes; /* ".npy", several separated by '|', in lower case */
  bool notes;           /* keeps metadata */
  /* b is empty at first; on failure its content is the caller's to clear. */
  pg_status (*load)(pg_ctx *ctx, const char *path, pg_bundle *b);
  /* NULL: read only. */
  pg_status (*save)(pg_ctx *ctx, const char *path, const pg_bundle *b);
} pg_format;

/* Every table, NULL-ended; defined in the generated registry. */
const pg_format *const *pg_format_tables(void);
/* Formats in table order; NULL past the end. */
const pg_format *pg_format_at(int i);
/* By name, NULL if there is none. */
const pg_format *pg_format_find(const char *name);
/* By the end of the file's name; PG_EUNSUPPORTED names the suffixes that are known. */
pg_status pg_format_for(pg_ctx *ctx, const char *path, const pg_format **out);
/* Both check what the format cannot hold (names, notes, several tensors) before they touch a file.
 */
pg_status pg_load(pg_ctx *ctx, const pg_format *format, const char *path, pg_bundle *b);
pg_status pg_save(pg_ctx *ctx, const pg_format *format, const char *path, const pg_bundle *b);

/* Valid UTF-8 without a zero byte, as JSON asks for. */
bool pg_utf8_ok(const char *text, size_t n);

#endif
