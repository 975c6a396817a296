/* numpy's .npz: a zip archive of .npy members, stored or deflated, ZIP64 where needed.
 * Relies on libzip, which takes sizes from the central directory, and on npy.h.
 * Spec: spec/io/npz_spec.lua. */
#include <stdio.h>
#include <string.h>
#include <zip.h>

#include "io/io.h"
#include "io/npy.h"
#include "io/sink.h"

/* Deflate cannot do better than 1032 : 1, so a larger claim is a lie. */
#define MAX_RATIO 1032

/* --- reading ------------------------------------------------------------------------------------
 */
static pg_status member_read(pg_source *s, void *buf, size_t n, size_t *got) {
  *got = 0;
  while (*got < n) {
    zip_int64_t r = zip_fread(s->stream, (char *)buf + *got, n - *got);
    if (r < 0) {
      zip_error_t *error = zip_file_get_error(s->stream);
      if (zip_error_code_zip(error) == ZIP_ER_MEMORY) {
        return pg_fail(s->ctx, PG_ENOMEM, "%s: out of memory", s->name);
      }
      return pg_fail(s->ctx, PG_EFORMAT, "%s: damaged zip member: %s", s->name,
                     zip_error_strerror(error));
    }
    if (r == 0) break;
    *got += (size_t)r;
  }
  return PG_OK;
}

/* Checks what the directory says of member i before anything of it is read. */
static pg_status check_member(pg_ctx *ctx, const char *label, const zip_stat_t *st, int64_t left) {
  const zip_uint64_t wanted = ZIP_STAT_SIZE | ZIP_STAT_COMP_SIZE | ZIP_STAT_COMP_METHOD;
  if ((st->valid & wanted) != wanted) {
    return pg_fail(ctx, PG_EFORMAT, "%s: the zip directory gives no size", label);
  }
  if ((st->valid & ZIP_STAT_ENCRYPTION_METHOD) != 0 && st->encryption_method != ZIP_EM_NONE) {
    return pg_fail(ctx, PG_EUNSUPPORTED, "%s: encrypted members are not supported", label);
  }
  if (st->comp_method != ZIP_CM_STORE && st->comp_method != ZIP_CM_DEFLATE) {
    return pg_fail(ctx, PG_EUNSUPPORTED, "%s: zip compression method %d is not supported", label,
                   (int)st->comp_method);
  }
  zip_uint64_t most =
      st->comp_method == ZIP_CM_STORE ? st->comp_size : st->comp_size * MAX_RATIO + MAX_RATIO;
  if (st->comp_size > (zip_uint64_t)left || st->size > most) {
    return pg_fail(ctx, PG_EFORMAT,
                   "%s: the zip directory claims %llu bytes from %llu, %lld are left in the file",
                   label, (unsigned long long)st->size, (unsigned long long)st->comp_size,
                   (long long)left);
  }
  return PG_OK;
}

/* Reads member i into b; *left counts the file's bytes that no member has claimed yet. */
static pg_status load_member(pg_ctx *ctx, const char *path, zip_t *zip, zip_uint64_t i,
                             int64_t *left, pg_bundle *b) {
  const char *name = zip_get_name(zip, i, ZIP_FL_ENC_GUESS);
  size_t length = name == NULL ? 0 : strlen(name);
  char label[512];
  snprintf(label, sizeof label, "%.300s: member '%.150s'", path, name == NULL ? "" : name);
  if (length < 5 || strcmp(name + length - 4, ".npy") != 0) {
    return pg_fail(ctx, PG_EFORMAT, "%s: its name does not end with .npy", label);
  }
  if (!pg_utf8_ok(name, length)) {
    return pg_fail(ctx, PG_EFORMAT, "%s: its name is not UTF-8", label);
  }
  zip_stat_t st;
  if (zip_stat_index(zip, i, 0, &st) != 0) {
    return pg_fail(ctx, PG_EFORMAT, "%s: %s", label, zip_strerror(zip));
  }
  PG_TRY(check_member(ctx, label, &st, *left));
  *left -= (int64_t)st.comp_size;
  zip_file_t *file = zip_fopen_index(zip, i, 0);
  if (file == NULL) return pg_fail(ctx, PG_EFORMAT, "%s: %s", label, zip_strerror(zip));
  pg_source s = {.ctx = ctx,
                 .name = label,
                 .stored = (int64_t)st.comp_size,
                 .size = (int64_t)st.size,
                 .fd = -1,
                 .stream = file,
                 .read = member_read};
  pg_tensor *t = NULL;
  pg_status status = pg_npy_read(&s, &t);
  zip_fclose(file);
  if (status != PG_OK) return status;
  void *key = NULL;
  status = pg_alloc(ctx, length - 3, &key);
  if (status == PG_OK) {
    memcpy(key, name, length - 4);
    ((char *)key)[length - 4] = 0;
    status = pg_bundle_add(b, key, t);
    pg_free(ctx, key, length - 3);
  }
  pg_tensor_unref(t);
  return status;
}

static pg_status load(pg_ctx *ctx, const char *path, pg_bundle *b) {
  pg_source plain; /* says in our words what is wrong with the path, and how long the file is */
  PG_TRY(pg_source_open(ctx, path, false, &plain));
  int64_t left = plain.size;
  pg_source_close(&plain);
  int code = 0;
  zip_t *zip = zip_open(path, ZIP_RDONLY, &code);
  if (zip == NULL) {
    zip_error_t error;
    zip_error_init_with_code(&error, code);
    pg_status failed = pg_fail(ctx, code == ZIP_ER_MEMORY ? PG_ENOMEM : PG_EFORMAT, "%s: %s", path,
                               zip_error_strerror(&error));
    zip_error_fini(&error);
    return failed;
  }
  pg_status status = PG_OK;
  zip_int64_t n = zip_get_num_entries(zip, 0);
  for (zip_int64_t i = 0; i < n && status == PG_OK; i++) {
    status = load_member(ctx, path, zip, (zip_uint64_t)i, &left, b);
  }
  zip_discard(zip);
  return status;
}

/* --- writing ------------------------------------------------------------------------------------
 */
/* A member to be: libzip reads the header, then the tensor's own memory. */
typedef struct member {
  pg_tensor *tensor; /* contiguous, owned */
  char header[PG_NPY_HEADER];
  size_t header_bytes, data_bytes, at;
} member;

static zip_int64_t member_give(void *user, void *buf, zip_uint64_t n, zip_source_cmd_t command) {
  member *m = user;
  switch (command) {
  case ZIP_SOURCE_OPEN:
    m->at = 0;
    return 0;
  case ZIP_SOURCE_READ: {
    size_t done = 0;
    if (m->at < m->header_bytes) {
      done = m->header_bytes - m->at < n ? m->header_bytes - m->at : (size_t)n;
      memcpy(buf, m->header + m->at, done);
    }
    size_t from = m->at + done - m->header_bytes; /* used only when the header is out */
    if (done < n && m->at + done >= m->header_bytes && from < m->data_bytes) {
      size_t more = m->data_bytes - from < n - done ? m->data_bytes - from : (size_t)(n - done);
      memcpy((char *)buf + done, (const char *)pg_data(m->tensor) + from, more);
      done += more;
    }
    m->at += done;
    return (zip_int64_t)done;
  }
  case ZIP_SOURCE_STAT: {
    zip_stat_t *st = buf;
    zip_stat_init(st);
    st->size = m->header_bytes + m->data_bytes;
    st->valid = ZIP_STAT_SIZE;
    return sizeof *st;
  }
  case ZIP_SOURCE_SUPPORTS:
    return zip_source_make_command_bitmap(ZIP_SOURCE_OPEN, ZIP_SOURCE_READ, ZIP_SOURCE_CLOSE,
                                          ZIP_SOURCE_STAT, ZIP_SOURCE_ERROR, ZIP_SOURCE_FREE, -1);
  case ZIP_SOURCE_ERROR:
    return zip_error_to_data(&(zip_error_t){0}, buf, n);
  default:
    return 0;
  }
}

static pg_status zip_failed(pg_ctx *ctx, const char *path, zip_t *zip) {
  bool memory = zip_error_code_zip(zip_get_error(zip)) == ZIP_ER_MEMORY;
  return pg_fail(ctx, memory ? PG_ENOMEM : PG_EIO, "%s: %s", path, zip_strerror(zip));
}

static pg_status add_member(pg_ctx *ctx, const char *path, zip_t *zip, const char *name,
                            member *m) {
  size_t room = strlen(name) + 5;
  void *full = NULL;
  PG_TRY(pg_alloc(ctx, room, &full));
  snprintf(full, room, "%s.npy", name);
  zip_source_t *source = zip_source_function(zip, member_give, m);
  zip_int64_t i = -1;
  if (source != NULL) {
    i = zip_file_add(zip, full, source, ZIP_FL_ENC_UTF_8);
    if (i < 0) zip_source_free(source);
  }
  pg_free(ctx, full, room);
  const zip_uint16_t day_one = 1 << 5 | 1; /* 1980-01-01: same tensors, same bytes */
  if (i < 0 || zip_set_file_compression(zip, (zip_uint64_t)i, ZIP_CM_STORE, 0) != 0 ||
      zip_file_set_dostime(zip, (zip_uint64_t)i, 0, day_one, 0) != 0) {
    return zip_failed(ctx, path, zip);
  }
  return PG_OK;
}

/* Writes the archive over the sink's temporary file. */
static pg_status write_archive(pg_ctx *ctx, pg_sink *s, const pg_bundle *b, member *members) {
  int code = 0;
  zip_t *zip = zip_open(s->temporary, ZIP_CREATE | ZIP_TRUNCATE, &code);
  if (zip == NULL) {
    return pg_fail(ctx, code == ZIP_ER_MEMORY ? PG_ENOMEM : PG_EIO, "%s: cannot be written",
                   s->name);
  }
  pg_status status = PG_OK;
  for (int i = 0; i < b->n && status == PG_OK; i++) {
    member *m = &members[i];
    status = pg_npy_writable(ctx, b->entry[i].tensor, &m->tensor);
    if (status != PG_OK) break;
    m->header_bytes = pg_npy_header(m->tensor, m->header);
    m->data_bytes = (size_t)pg_numel(m->tensor) * pg_dtype_size((pg_dtype)m->tensor->dtype);
    const char *name = b->single ? "arr_0" : b->entry[i].name;
    status = add_member(ctx, s->name, zip, name, m);
  }
  if (status == PG_OK) {
    if (zip_close(zip) == 0) return PG_OK;
    status = zip_failed(ctx, s->name, zip);
  }
  zip_discard(zip);
  return status;
}

static pg_status check_names(pg_ctx *ctx, const char *path, const pg_bundle *b) {
  for (int i = 0; i < b->n; i++) {
    const char *name = b->entry[i].name;
    size_t n = strlen(name);
    if ((n == 0 && !b->single) || n > 60000 || !pg_utf8_ok(name, n)) {
      return pg_fail(ctx, PG_EARG, "%s: '%.100s' cannot be the name of a member", path, name);
    }
  }
  if (b->n > 0) return PG_OK;
  return pg_fail(ctx, PG_EARG, "%s: no tensors to write", path);
}

static pg_status save(pg_ctx *ctx, const char *path, const pg_bundle *b) {
  PG_TRY(check_names(ctx, path, b));
  void *block = NULL;
  size_t bytes = (size_t)b->n * sizeof(member);
  PG_TRY(pg_alloc_zero(ctx, bytes, &block));
  member *members = block;
  pg_sink s;
  pg_status status = pg_sink_open(ctx, path, &s);
  if (status == PG_OK && s.temporary == NULL) {
    status = pg_fail(ctx, PG_EUNSUPPORTED, "%s: a .npz needs a regular file", path);
    pg_sink_drop(&s);
  }
  if (status == PG_OK) {
    status = write_archive(ctx, &s, b, members);
    if (status == PG_OK) status = pg_sink_reopen(&s);
    if (status == PG_OK) {
      status = pg_sink_commit(&s);
    } else {
      pg_sink_drop(&s);
    }
  }
  for (int i = 0; i < b->n; i++) pg_tensor_unref(members[i].tensor);
  pg_free(ctx, block, bytes);
  return status;
}

const pg_format pg_formats_npz[] = {
    {"npz", "named arrays of numpy (numpy.savez, numpy.load)", ".npz", false, load, save},
    {0},
};
