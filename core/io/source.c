/* Sources of bytes: plain files and gzip streams (zlib), told apart by their first bytes.
 * Relies on base, POSIX files and zlib.
 * Spec: spec/io/files_spec.lua. */
#include "io/source.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

static pg_status file_read(pg_source *s, void *buf, size_t n, size_t *got) {
  *got = 0;
  while (*got < n) {
    ssize_t r = read(s->fd, (char *)buf + *got, n - *got);
    if (r < 0 && errno == EINTR) continue;
    if (r < 0) return pg_fail(s->ctx, PG_EIO, "%s: %s", s->name, strerror(errno));
    if (r == 0) break;
    *got += (size_t)r;
  }
  return PG_OK;
}

static pg_status gzip_read(pg_source *s, void *buf, size_t n, size_t *got) {
  *got = 0;
  while (*got < n) {
    size_t step = n - *got < (size_t)1 << 30 ? n - *got : (size_t)1 << 30;
    int r = gzread(s->stream, (char *)buf + *got, (unsigned)step);
    int code = Z_OK;
    const char *text = r < (int)step ? gzerror(s->stream, &code) : NULL;
    if (code == Z_BUF_ERROR) {
      return pg_fail(s->ctx, PG_EFORMAT, "%s: truncated: the gzip stream ends too early", s->name);
    }
    if (code == Z_MEM_ERROR) return pg_fail(s->ctx, PG_ENOMEM, "%s: out of memory", s->name);
    if (code == Z_ERRNO) return pg_fail(s->ctx, PG_EIO, "%s: %s", s->name, strerror(errno));
    if (code != Z_OK) {
      const char *reason = strstr(text, ": "); /* behind "<fd:3>" */
      return pg_fail(s->ctx, PG_EFORMAT, "%s: damaged gzip stream: %s", s->name,
                     reason == NULL ? text : reason + 2);
    }
    if (r <= 0) break;
    *got += (size_t)r;
  }
  return PG_OK;
}

pg_status pg_source_open(pg_ctx *ctx, const char *path, bool gzip, pg_source *s) {
  *s = (pg_source){.ctx = ctx, .name = path, .fd = -1, .read = file_read};
  s->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe must not hang us */
  if (s->fd < 0) return pg_fail(ctx, PG_EIO, "%s: %s", path, strerror(errno));
  struct stat st;
  if (fstat(s->fd, &st) != 0) {
    pg_status failed = pg_fail(ctx, PG_EIO, "%s: %s", path, strerror(errno));
    pg_source_close(s);
    return failed;
  }
  if (!S_ISREG(st.st_mode)) {
    pg_source_close(s);
    return pg_fail(ctx, PG_EIO, "%s: %s", path,
                   S_ISDIR(st.st_mode) ? "is a directory" : "not a regular file");
  }
  s->size = s->stored = (int64_t)st.st_size;
  unsigned char magic[2];
  if (!gzip || pread(s->fd, magic, 2, 0) != 2 || magic[0] != 0x1f || magic[1] != 0x8b) return PG_OK;
  s->stream = gzdopen(s->fd, "rb");
  if (s->stream == NULL) {
    pg_source_close(s);
    return pg_fail(ctx, PG_ENOMEM, "%s: out of memory", path);
  }
  gzbuffer(s->stream, 1 << 17);
  s->size = -1;
  s->read = gzip_read;
  return PG_OK;
}

void pg_source_close(pg_source *s) {
  if (s->stream != NULL) {
    gzclose(s->stream); /* closes fd too */
  } else if (s->fd >= 0) {
    close(s->fd);
  }
  s->stream = NULL;
  s->fd = -1;
}

pg_status pg_source_read(pg_source *s, void *buf, size_t n, const char *what) {
  size_t got = 0;
  PG_TRY(s->read(s, buf, n, &got));
  s->at += (int64_t)got;
  if (got == n) return PG_OK;
  return pg_fail(s->ctx, PG_EFORMAT, "%s: truncated: %zu bytes of %s expected, %zu are there",
                 s->name, n, what, got);
}

pg_status pg_source_end(pg_source *s) {
  char extra;
  size_t got = 0;
  PG_TRY(s->read(s, &extra, 1, &got));
  if (got == 0) return PG_OK;
  return pg_fail(s->ctx, PG_EFORMAT, "%s: longer than its header says: more data after byte %lld",
                 s->name, (long long)s->at);
}

pg_status pg_source_all(pg_source *s, char **out, size_t *len) {
  size_t n = (size_t)(s->size - s->at);
  void *block = NULL;
  PG_TRY(pg_alloc(s->ctx, n + 1, &block));
  pg_status status = pg_source_read(s, block, n, "text");
  if (status != PG_OK) {
    pg_free(s->ctx, block, n + 1);
    return status;
  }
  ((char *)block)[n] = 0;
  *out = block;
  *len = n;
  return PG_OK;
}
