/* safetensors: an 8-byte length, a JSON header, the tensors' bytes without holes or overlaps.
 * Relies on cJSON, source, sink, wire. Perigee's own model files are this format too.
 * Spec: spec/io/safetensors_spec.lua. */
#include <cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/io.h"
#include "io/sink.h"
#include "io/wire.h"

#define MAX_HEADER ((uint64_t)100 << 20)

static const struct {
  const char *name;
  unsigned char wire;
} dtypes[] = {
    {"F32", PG_WIRE_F32},   {"F64", PG_WIRE_F64}, {"BF16", PG_WIRE_BF16}, {"F16", PG_WIRE_F16},
    {"I64", PG_WIRE_I64},   {"I32", PG_WIRE_I32}, {"I16", PG_WIRE_I16},   {"I8", PG_WIRE_I8},
    {"U64", PG_WIRE_U64},   {"U32", PG_WIRE_U32}, {"U16", PG_WIRE_U16},   {"U8", PG_WIRE_U8},
    {"BOOL", PG_WIRE_BOOL},
};

typedef struct item {
  const char *name; /* borrowed from the JSON tree */
  pg_wire wire;
  int nd;
  int64_t shape[PG_MAX_DIMS], begin, end;
} item;

/* --- reading ------------------------------------------------------------------------------------
 */
/* A JSON number that is a whole number >= 0 that a double holds exactly. */
static bool whole(const cJSON *j, int64_t *v) {
  if (!cJSON_IsNumber(j) || !(j->valuedouble >= 0 && j->valuedouble <= 0x1p53)) return false;
  *v = (int64_t)j->valuedouble;
  return (double)*v == j->valuedouble;
}

/* The only member of j called key; NULL where there is none or several. */
static const cJSON *only(const cJSON *j, const char *key) {
  const cJSON *found = NULL, *child;
  cJSON_ArrayForEach(child, j) {
    if (strcmp(child->string, key) != 0) continue;
    if (found != NULL) return NULL;
    found = child;
  }
  return found;
}

/* room: bytes of data in the file. */
static pg_status read_item(pg_source *s, const cJSON *j, int64_t room, item *out) {
  out->name = j->string;
  char label[512];
  snprintf(label, sizeof label, "%.300s: tensor '%.150s'", s->name, j->string);
  const cJSON *dtype = only(j, "dtype"), *shape = only(j, "shape"), *at = only(j, "data_offsets");
  if (!cJSON_IsObject(j) || !cJSON_IsString(dtype) || !cJSON_IsArray(shape) || !cJSON_IsArray(at)) {
    return pg_fail(s->ctx, PG_EFORMAT, "%s: dtype, shape and data_offsets expected, once each",
                   label);
  }
  size_t known = sizeof dtypes / sizeof *dtypes, k = 0;
  while (k < known && strcmp(dtypes[k].name, dtype->valuestring) != 0) k++;
  if (k == known) {
    return pg_fail(s->ctx, PG_EUNSUPPORTED, "%s: the dtype '%.20s' is not supported", label,
                   dtype->valuestring);
  }
  out->wire = (pg_wire)dtypes[k].wire;
  const cJSON *size;
  cJSON_ArrayForEach(size, shape) {
    if (out->nd == PG_MAX_DIMS) {
      return pg_fail(s->ctx, PG_EUNSUPPORTED, "%s: more than %d dims", label, PG_MAX_DIMS);
    }
    if (!whole(size, &out->shape[out->nd++])) {
      return pg_fail(s->ctx, PG_EFORMAT, "%s: a size in its shape is no whole number", label);
    }
  }
  if (cJSON_GetArraySize(at) != 2 || !whole(at->child, &out->begin) ||
      !whole(at->child->next, &out->end) || out->begin > out->end || out->end > room) {
    return pg_fail(s->ctx, PG_EFORMAT, "%s: its data_offsets do not lie in the %lld bytes of data",
                   label, (long long)room);
  }
  int64_t bytes;
  PG_TRY(pg_wire_bytes(s->ctx, label, out->wire, out->nd, out->shape, &bytes));
  if (bytes != out->end - out->begin) {
    return pg_fail(s->ctx, PG_EFORMAT, "%s: %s of %s needs %lld bytes, its data_offsets give %lld",
                   label, pg_shape_str_of(out->nd, out->shape).s, dtype->valuestring,
                   (long long)bytes, (long long)(out->end - out->begin));
  }
  return PG_OK;
}

static int by_place(const void *a, const void *b) {
  const item *x = a, *y = b;
  if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
  if (x->end != y->end) return x->end < y->end ? -1 : 1;
  return strcmp(x->name, y->name);
}

static pg_status read_notes(pg_source *s, const cJSON *j, pg_bundle *b) {
  if (!cJSON_IsObject(j)) {
    return pg_fail(s->ctx, PG_EFORMAT, "%s: __metadata__ is no object", s->name);
  }
  const cJSON *note;
  cJSON_ArrayForEach(note, j) {
    if (!cJSON_IsString(note)) {
      return pg_fail(s->ctx, PG_EFORMAT, "%s: the metadata '%.100s' is no text", s->name,
                     note->string);
    }
    PG_TRY(pg_bundle_note(b, note->string, note->valuestring));
  }
  return PG_OK;
}

/* Reads the tensors in the order of their bytes; together they must fill the file. */
static pg_status read_data(pg_source *s, item *items, int n, int64_t room, pg_bundle *b) {
  if (n > 1) qsort(items, (size_t)n, sizeof *items, by_place);
  int64_t at = 0;
  for (int i = 0; i < n; i++) {
    if (items[i].begin != at) {
      return pg_fail(s->ctx, PG_EFORMAT,
                     "%s: tensor '%.150s' begins at byte %lld: %s from byte %lld", s->name,
                     items[i].name, (long long)items[i].begin,
                     items[i].begin > at ? "a hole" : "it overlaps its neighbour", (long long)at);
    }
    at = items[i].end;
  }
  if (at != room) {
    return pg_fail(s->ctx, PG_EFORMAT, "%s: the tensors end at byte %lld of %lld bytes of data",
                   s->name, (long long)at, (long long)room);
  }
  for (int i = 0; i < n; i++) {
    pg_tensor *t = NULL;
    PG_TRY(pg_tensor_new(s->ctx, pg_wire_dtype(items[i].wire), items[i].nd, items[i].shape, &t));
    pg_status status = pg_wire_read(s, items[i].wire, false, t);
    if (status == PG_OK) status = pg_bundle_add(b, items[i].name, t);
    pg_tensor_unref(t);
    PG_TRY(status);
  }
  return pg_source_end(s);
}

static pg_status read_tree(pg_source *s, const cJSON *root, pg_bundle *b) {
  int64_t room = s->size - s->at;
  int n = 0, seen = 0;
  size_t bytes = ((size_t)cJSON_GetArraySize(root) + 1) * sizeof(item);
  void *block = NULL;
  PG_TRY(pg_alloc_zero(s->ctx, bytes, &block));
  item *items = block;
  pg_status status = PG_OK;
  const cJSON *child;
  cJSON_ArrayForEach(child, root) {
    if (strcmp(child->string, "__metadata__") != 0) {
      status = read_item(s, child, room, &items[n++]);
    } else if (seen++ > 0) {
      status = pg_fail(s->ctx, PG_EFORMAT, "%s: __metadata__ occurs twice", s->name);
    } else {
      status = read_notes(s, child, b);
    }
    if (status != PG_OK) break;
  }
  if (status == PG_OK) status = read_data(s, items, n, room, b);
  pg_free(s->ctx, block, bytes);
  return status;
}

/* An escape \u0000 would end cJSON's strings early, and two names would look the same. */
static bool has_zero_escape(const char *text) {
  for (const char *p = text; (p = strchr(p, '\\')) != NULL && p[1] != 0; p += 2) {
    if (strncmp(p, "\\u0000", 6) == 0) return true;
  }
  return false;
}

static pg_status load(pg_ctx *ctx, const char *path, pg_bundle *b) {
  pg_source s;
  PG_TRY(pg_source_open(ctx, path, false, &s));
  unsigned char start[8];
  void *text = NULL;
  cJSON *root = NULL;
  uint64_t length = 0;
  pg_status status = pg_source_read(&s, start, 8, "header length");
  if (status == PG_OK) {
    length = pg_get_le64(start);
    if (length > MAX_HEADER || length > (uint64_t)(s.size - 8)) {
      status = pg_fail(ctx, PG_EFORMAT, "%s: its header claims %llu bytes, %lld are left%s", path,
                       (unsigned long long)length, (long long)s.size - 8,
                       length > MAX_HEADER ? " and 100 MiB allowed" : "");
    }
  }
  if (status == PG_OK) status = pg_alloc(ctx, (size_t)length + 1, &text);
  if (status == PG_OK) {
    ((char *)text)[length] = 0;
    status = pg_source_read(&s, text, (size_t)length, "header");
  }
  if (status == PG_OK) {
    const char *header = text, *end = NULL;
    bool fine = header[0] == '{' && pg_utf8_ok(header, (size_t)length) && !has_zero_escape(header);
    if (fine) root = cJSON_ParseWithLengthOpts(header, (size_t)length + 1, &end, 1);
    if (!cJSON_IsObject(root)) {
      status = pg_fail(ctx, PG_EFORMAT, "%s: its header is no JSON object, at byte %lld", path,
                       8 + (long long)(end == NULL ? 0 : end - header));
    }
  }
  if (status == PG_OK) status = read_tree(&s, root, b);
  cJSON_Delete(root);
  if (text != NULL) pg_free(ctx, text, (size_t)length + 1);
  pg_source_close(&s);
  return status;
}

/* --- writing ------------------------------------------------------------------------------------
 */
static size_t data_bytes(const pg_tensor *t) {
  return (size_t)pg_numel(t) * pg_dtype_size((pg_dtype)t->dtype);
}

/* Wide elements first, so that every tensor lies aligned; then by name. */
static int by_alignment(const void *a, const void *b) {
  const pg_entry *x = *(const pg_entry *const *)a, *y = *(const pg_entry *const *)b;
  size_t p = pg_dtype_size((pg_dtype)x->tensor->dtype),
         q = pg_dtype_size((pg_dtype)y->tensor->dtype);
  return p != q ? (p < q) - (p > q) : strcmp(x->name, y->name);
}

static bool add_entry(cJSON *root, const pg_entry *e, const char *name, size_t at) {
  pg_wire wire = pg_wire_of((pg_dtype)e->tensor->dtype);
  const char *dtype = "";
  for (size_t k = 0; k < sizeof dtypes / sizeof *dtypes; k++) {
    if (dtypes[k].wire == wire) dtype = dtypes[k].name;
  }
  char shape[PG_MAX_DIMS * 21 + 3] = "[", offsets[64];
  int n = 1;
  for (int i = 0; i < e->tensor->nd; i++) {
    n += snprintf(shape + n, sizeof shape - (size_t)n, i == 0 ? "%lld" : ",%lld",
                  (long long)e->tensor->shape[i]);
  }
  snprintf(shape + n, sizeof shape - (size_t)n, "]");
  snprintf(offsets, sizeof offsets, "[%zu,%zu]", at, at + data_bytes(e->tensor));
  cJSON *j = cJSON_AddObjectToObject(root, name);
  return j != NULL && cJSON_AddStringToObject(j, "dtype", dtype) != NULL &&
         cJSON_AddRawToObject(j, "shape", shape) != NULL &&
         cJSON_AddRawToObject(j, "data_offsets", offsets) != NULL;
}

/* The header as cJSON text, NULL where memory ran out; the caller frees it with cJSON_free. */
static char *header_text(const pg_bundle *b, const pg_entry *const *order) {
  cJSON *root = cJSON_CreateObject(), *notes = NULL;
  bool fine = root != NULL;
  if (fine && b->nnotes > 0) fine = (notes = cJSON_AddObjectToObject(root, "__metadata__")) != NULL;
  for (int i = 0; i < b->nnotes && fine; i++) {
    fine = cJSON_AddStringToObject(notes, b->note[i].key, b->note[i].value) != NULL;
  }
  size_t at = 0;
  for (int i = 0; i < b->n && fine; i++) {
    fine = add_entry(root, order[i], b->single ? "tensor" : order[i]->name, at);
    at += data_bytes(order[i]->tensor);
  }
  char *text = fine ? cJSON_PrintUnformatted(root) : NULL;
  cJSON_Delete(root);
  return text;
}

static pg_status check(pg_ctx *ctx, const char *path, const pg_bundle *b) {
  for (int i = 0; i < b->n; i++) {
    const char *name = b->entry[i].name;
    bool fine = pg_utf8_ok(name, strlen(name)) && strcmp(name, "__metadata__") != 0;
    if (!fine) {
      return pg_fail(ctx, PG_EARG, "%s: '%.100s' cannot be the name of a tensor", path, name);
    }
  }
  for (int i = 0; i < b->nnotes; i++) {
    const char *key = b->note[i].key, *value = b->note[i].value;
    if (!pg_utf8_ok(key, strlen(key)) || !pg_utf8_ok(value, strlen(value))) {
      return pg_fail(ctx, PG_EARG, "%s: the metadata '%.100s' is not UTF-8", path, key);
    }
  }
  return PG_OK;
}

static pg_status write_all(pg_sink *s, const char *text, const pg_entry *const *order, int n) {
  size_t length = strlen(text), padded = (length + 7) / 8 * 8;
  unsigned char start[8];
  pg_put_le64(start, padded);
  PG_TRY(pg_sink_write(s, start, 8));
  PG_TRY(pg_sink_write(s, text, length));
  PG_TRY(pg_sink_write(s, "       ", padded - length));
  for (int i = 0; i < n; i++) {
    pg_tensor *t = NULL;
    PG_TRY(pg__contiguous(s->ctx, order[i]->tensor, &t));
    pg_status status = pg_sink_write(s, pg_data(t), data_bytes(t));
    pg_tensor_unref(t);
    PG_TRY(status);
  }
  return PG_OK;
}

static pg_status save(pg_ctx *ctx, const char *path, const pg_bundle *b) {
  PG_TRY(check(ctx, path, b));
  void *block = NULL;
  size_t bytes = (size_t)b->n * sizeof(pg_entry *);
  PG_TRY(pg_alloc(ctx, bytes, &block));
  const pg_entry **order = block;
  for (int i = 0; i < b->n; i++) order[i] = &b->entry[i];
  if (b->n > 1) qsort(order, (size_t)b->n, sizeof *order, by_alignment);
  pg_sink s = {.ctx = ctx, .name = path};
  pg_status status = PG_OK;
  char *text = header_text(b, order);
  if (text == NULL) {
    status = pg_fail(ctx, PG_ENOMEM, "%s: out of memory", path);
  } else if (strlen(text) > MAX_HEADER - 8) {
    status = pg_fail(ctx, PG_EUNSUPPORTED, "%s: names and metadata exceed 100 MiB", path);
  }
  if (status == PG_OK) status = pg_sink_open(ctx, path, &s);
  if (status == PG_OK) {
    status = write_all(&s, text, order, b->n);
    if (status == PG_OK) {
      status = pg_sink_commit(&s);
    } else {
      pg_sink_drop(&s);
    }
  }
  cJSON_free(text);
  pg_free(ctx, block, bytes);
  return status;
}

const pg_format pg_formats_safetensors[] = {
    {"safetensors", "named tensors and text (Hugging Face safetensors); Perigee's models",
     ".safetensors|.perigee|.ckpt", true, load, save},
    {0},
};
