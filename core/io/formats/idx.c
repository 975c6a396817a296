/* IDX, the format of the MNIST family: big-endian, plain or gzip'ed.
 * Relies on source and wire.
 * Spec: spec/io/idx_spec.lua. */
#include <string.h>

#include "io/io.h"
#include "io/wire.h"

/* A gzip'ed claim is first believed up to this many times the compressed size. */
#define LIKELY_RATIO 16

static pg_status read_header(pg_source *s, pg_wire *wire, int *nd, int64_t *shape) {
  unsigned char magic[4], size[4];
  PG_TRY(pg_source_read(s, magic, 4, "IDX header"));
  static const struct {
    unsigned char code, wire;
  } types[] = {{0x08, PG_WIRE_U8},  {0x09, PG_WIRE_I8},  {0x0b, PG_WIRE_I16},
               {0x0c, PG_WIRE_I32}, {0x0d, PG_WIRE_F32}, {0x0e, PG_WIRE_F64}};
  size_t k = 0, known = sizeof types / sizeof *types;
  while (k < known && types[k].code != magic[2]) k++;
  if (magic[0] != 0 || magic[1] != 0 || k == known || magic[3] == 0) {
    return pg_fail(
        s->ctx, PG_EFORMAT,
        "%s: not an IDX file: magic %02x %02x %02x %02x, expected 00 00, an element type "
        "(08 .. 0e) and the number of dims",
        s->name, magic[0], magic[1], magic[2], magic[3]);
  }
  if (magic[3] > PG_MAX_DIMS) {
    return pg_fail(s->ctx, PG_EUNSUPPORTED, "%s: %d dims, at most %d are supported", s->name,
                   magic[3], PG_MAX_DIMS);
  }
  *wire = (pg_wire)types[k].wire;
  *nd = magic[3];
  for (int i = 0; i < *nd; i++) {
    PG_TRY(pg_source_read(s, size, 4, "IDX header"));
    shape[i] = pg_get_be32(size);
  }
  return PG_OK;
}

static pg_status lying(pg_source *s, int nd, const int64_t *shape, int64_t bytes, int64_t there) {
  return pg_fail(s->ctx, PG_EFORMAT,
                 "%s: %s: its header claims %s, %lld bytes of data, %lld are there", s->name,
                 there < bytes ? "truncated" : "longer than its header says",
                 pg_shape_str_of(nd, shape).s, (long long)bytes, (long long)there);
}

/* Bytes of a stream of unknown length into a flat uint8 tensor that grows with what really comes,
 * so that a lying header costs no memory. *out has exactly `bytes` elements. */
static pg_status read_growing(pg_source *s, int nd, const int64_t *shape, int64_t bytes,
                              pg_tensor **out) {
  int64_t have = 0, likely = pg_min64(s->stored, INT64_C(1) << 40) * LIKELY_RATIO + (1 << 20);
  int64_t room = pg_min64(bytes, likely);
  pg_tensor *t = NULL;
  PG_TRY(pg_tensor_new(s->ctx, PG_U8, 1, &room, &t));
  pg_status status = PG_OK;
  for (;;) {
    size_t got = 0;
    status = s->read(s, (char *)pg_data(t) + have, (size_t)(room - have), &got);
    have += (int64_t)got;
    s->at += (int64_t)got;
    if (status == PG_OK && have < room) status = lying(s, nd, shape, bytes, have);
    if (status != PG_OK || room == bytes) break;
    room = pg_min64(bytes, room * 2);
    pg_tensor *bigger = NULL;
    status = pg_tensor_new(s->ctx, PG_U8, 1, &room, &bigger);
    if (status != PG_OK) break;
    memcpy(pg_data(bigger), pg_data(t), (size_t)have);
    pg_tensor_unref(t);
    t = bigger;
  }
  if (status == PG_OK) {
    *out = t;
  } else {
    pg_tensor_unref(t);
  }
  return status;
}

static pg_status memory_read(pg_source *s, void *buf, size_t n, size_t *got) {
  memcpy(buf, (const char *)s->stream + s->at, n);
  *got = n;
  return PG_OK;
}

static pg_status read_data(pg_source *s, pg_wire wire, int nd, const int64_t *shape,
                           pg_tensor **out) {
  int64_t bytes;
  PG_TRY(pg_wire_bytes(s->ctx, s->name, wire, nd, shape, &bytes));
  if (s->size >= 0) {
    if (bytes != s->size - s->at) return lying(s, nd, shape, bytes, s->size - s->at);
    PG_TRY(pg_tensor_new(s->ctx, pg_wire_dtype(wire), nd, shape, out));
    return pg_wire_read(s, wire, true, *out);
  }
  pg_tensor *flat = NULL;
  PG_TRY(read_growing(s, nd, shape, bytes, &flat));
  pg_status status = pg_source_end(s);
  if (status == PG_OK && wire == PG_WIRE_U8) {
    int64_t stride[PG_MAX_DIMS];
    pg_contiguous_strides(nd, shape, stride);
    status = pg_tensor_alias(s->ctx, flat, nd, shape, stride, 0, out);
  } else if (status == PG_OK) {
    pg_source memory = {.ctx = s->ctx,
                        .name = s->name,
                        .size = bytes,
                        .fd = -1,
                        .stream = pg_data(flat),
                        .read = memory_read};
    status = pg_tensor_new(s->ctx, pg_wire_dtype(wire), nd, shape, out);
    if (status == PG_OK) status = pg_wire_read(&memory, wire, true, *out);
  }
  pg_tensor_unref(flat);
  return status;
}

static pg_status load(pg_ctx *ctx, const char *path, pg_bundle *b) {
  pg_source s;
  PG_TRY(pg_source_open(ctx, path, true, &s));
  pg_wire wire = PG_WIRE_U8;
  int nd = 0;
  int64_t shape[PG_MAX_DIMS];
  pg_tensor *t = NULL;
  pg_status status = read_header(&s, &wire, &nd, shape);
  if (status == PG_OK) status = read_data(&s, wire, nd, shape, &t);
  if (status == PG_OK) status = pg_bundle_add(b, "", t);
  b->single = true;
  pg_tensor_unref(t);
  pg_source_close(&s);
  return status;
}

const pg_format pg_formats_idx[] = {
    {"idx", "one array of the MNIST family, plain or gzip'ed", ".idx|.idx.gz|-ubyte|-ubyte.gz",
     false, load, NULL},
    {0},
};
