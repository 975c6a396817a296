/* Atomic writing: temporary file in the target's folder, fsync, rename, fsync of the folder.
 * Relies on base and POSIX files.
 * Spec: spec/io/files_spec.lua. */
#include "io/sink.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static pg_status fail_errno(pg_sink *s) {
  return pg_fail(s->ctx, PG_EIO, "%s: %s", s->name, strerror(errno));
}

/* Opens a new file beside the target, with the target's mode where there is one. */
static pg_status open_temporary(pg_sink *s, const struct stat *old) {
  size_t room = strlen(s->target) + 32;
  s->temporary = malloc(room);
  if (s->temporary == NULL) return pg_fail(s->ctx, PG_ENOMEM, "%s: out of memory", s->name);
  int fd = -1;
  for (int i = 0; i < 1000; i++) {
    snprintf(s->temporary, room, "%s.tmp%ld-%d", s->target, (long)getpid(), i);
    fd = open(s->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd >= 0 || errno != EEXIST) break;
  }
  if (fd >= 0 && old != NULL && fchmod(fd, old->st_mode & 0777) != 0) {
    close(fd);
    unlink(s->temporary);
    fd = -1;
  }
  if (fd >= 0) s->file = fdopen(fd, "wb");
  if (s->file != NULL) return PG_OK;
  pg_status failed = fail_errno(s);
  if (fd >= 0) {
    close(fd);
    unlink(s->temporary);
  }
  return failed;
}

pg_status pg_sink_open(pg_ctx *ctx, const char *path, pg_sink *s) {
  *s = (pg_sink){.ctx = ctx, .name = path};
  struct stat st;
  bool exists = stat(path, &st) == 0;
  if (exists && S_ISDIR(st.st_mode)) return pg_fail(ctx, PG_EIO, "%s: is a directory", path);
  s->target = exists ? realpath(path, NULL) : strdup(path);
  pg_status status = PG_OK;
  if (s->target == NULL) {
    status = fail_errno(s);
  } else if (exists && !S_ISREG(st.st_mode)) {
    s->file = fopen(s->target, "wb");
    if (s->file == NULL) status = fail_errno(s);
  } else if (exists && access(s->target, W_OK) != 0) {
    status = fail_errno(s); /* a file that was made read-only is meant to stay */
  } else {
    status = open_temporary(s, exists ? &st : NULL);
  }
  if (status == PG_OK) return PG_OK;
  free(s->target);
  free(s->temporary);
  *s = (pg_sink){.ctx = ctx, .name = path};
  return status;
}

pg_status pg_sink_write(pg_sink *s, const void *buf, size_t n) {
  if (n > 0 && fwrite(buf, 1, n, s->file) != n) return fail_errno(s);
  return PG_OK;
}

pg_status pg_sink_printf(pg_sink *s, const char *fmt, ...) {
  va_list args;
  va_start(args, fmt);
  int n = vfprintf(s->file, fmt, args);
  va_end(args);
  return n < 0 ? fail_errno(s) : PG_OK;
}

pg_status pg_sink_reopen(pg_sink *s) {
  fclose(s->file);
  s->file = fopen(s->temporary, "r+b");
  return s->file == NULL ? fail_errno(s) : PG_OK;
}

/* Makes the rename itself last; a folder that cannot be synced is no reason to fail. */
static void sync_folder(char *target) {
  char *slash = strrchr(target, '/');
  if (slash != NULL) slash[slash == target ? 1 : 0] = 0;
  int fd = open(slash != NULL ? target : ".", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return;
  (void)!fsync(fd);
  close(fd);
}

void pg_sink_drop(pg_sink *s) {
  if (s->file != NULL) fclose(s->file);
  if (s->temporary != NULL) unlink(s->temporary);
  free(s->target);
  free(s->temporary);
  *s = (pg_sink){.ctx = s->ctx, .name = s->name};
}

pg_status pg_sink_commit(pg_sink *s) {
  pg_status status = fflush(s->file) == 0 ? PG_OK : fail_errno(s);
  if (status == PG_OK && s->temporary != NULL && fsync(fileno(s->file)) != 0) {
    status = fail_errno(s);
  }
  FILE *file = s->file;
  s->file = NULL;
  if (fclose(file) != 0 && status == PG_OK) status = fail_errno(s);
  if (status == PG_OK && s->temporary != NULL) {
    if (rename(s->temporary, s->target) == 0) {
      free(s->temporary);
      s->temporary = NULL;
      sync_folder(s->target);
    } else {
      status = fail_errno(s);
    }
  }
  pg_sink_drop(s);
  return status;
}
