/* Where bytes come from: a plain file, a gzip stream, a member of a zip archive; read forward only.
 * Relies on base; nothing here trusts a length that a file states about itself.
 * Spec: spec/io/files_spec.lua. */
#ifndef PG_IO_SOURCE_H
#define PG_IO_SOURCE_H

#include "base/ctx.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the formats are read as little-endian");

typedef struct pg_source pg_source;
struct pg_source {
  pg_ctx *ctx;
  const char *name; /* borrowed; opens every message */
  int64_t stored;   /* bytes on disk; for a zip member its compressed bytes */
  int64_t size;     /* bytes to read in all, -1 where only the end of the stream tells */
  int64_t at;       /* bytes read so far */
  int fd;           /* -1 where there is none */
  void *stream;     /* the gzip stream or zip member */
  /* Reads up to n bytes; *got < n only at the end. */
  pg_status (*read)(pg_source *s, void *buf, size_t n, size_t *got);
};

/* Opens a regular file. gzip: look for its magic and inflate where it is there. path must outlive
 * s. On failure s needs no close. */
pg_status pg_source_open(pg_ctx *ctx, const char *path, bool gzip, pg_source *s);
void pg_source_close(pg_source *s);
/* Exactly n bytes; PG_EFORMAT "truncated" where there are fewer. what names them in the message. */
pg_status pg_source_read(pg_source *s, void *buf, size_t n, const char *what);
/* PG_EFORMAT unless everything has been read; a gzip or zip checksum is compared here. */
pg_status pg_source_end(pg_source *s);
/* Everything that is left of a source of known size, with a zero byte behind it: *out has *len + 1
 * bytes from pg_alloc. */
pg_status pg_source_all(pg_source *s, char **out, size_t *len);

/* Big-endian and little-endian integers of a header. */
static inline uint32_t pg_get_be32(const unsigned char *p) {
  return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}
static inline uint32_t pg_get_le32(const unsigned char *p) {
  return (uint32_t)p[3] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[1] << 8 | p[0];
}
static inline uint64_t pg_get_le64(const unsigned char *p) {
  return (uint64_t)pg_get_le32(p + 4) << 32 | pg_get_le32(p);
}
static inline void pg_put_le64(unsigned char *p, uint64_t v) {
  for (int i = 0; i < 8; i++) p[i] = (unsigned char)(v >> (8 * i));
}

#endif
