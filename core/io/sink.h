/* Where bytes go: a temporary file beside the target, which takes its place only when all is
 * written and on disk. Relies on base.
 * Spec: spec/io/files_spec.lua. */
#ifndef PG_IO_SINK_H
#define PG_IO_SINK_H

#include <stdio.h>

#include "base/ctx.h"

typedef struct pg_sink {
  pg_ctx *ctx;
  const char *name; /* borrowed; opens every message */
  char *target;     /* the file to become, links followed */
  char *temporary;  /* NULL where the target is no regular file (/dev/stdout) */
  FILE *file;
} pg_sink;

/* On failure s needs no drop. path must outlive s. */
pg_status pg_sink_open(pg_ctx *ctx, const char *path, pg_sink *s);
pg_status pg_sink_write(pg_sink *s, const void *buf, size_t n);
pg_status pg_sink_printf(pg_sink *s, const char *fmt, ...) PG_PRINTF(2, 3);
/* Opens the temporary file again after somebody else has written it by its name. */
pg_status pg_sink_reopen(pg_sink *s);
/* Puts the file in place. s is empty afterwards, whatever the result; on failure the target is as
 * it was. */
pg_status pg_sink_commit(pg_sink *s);
/* Gives up: the target is as it was. Fine on an empty s. */
void pg_sink_drop(pg_sink *s);

#endif
