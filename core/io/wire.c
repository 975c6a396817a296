/* Conversion of file elements to tensor elements, in chunks, straight into the tensor where both
 * agree. Relies on tensor and source.
 * Spec: spec/io/files_spec.lua. */
#include "io/wire.h"

#include <string.h>

#define X(code, bytes, dtype) {bytes, dtype},
static const struct { unsigned char size, dtype; } wires[PG_NWIRES] = {PG_WIRE_LIST(X)};
#undef X

size_t pg_wire_size(pg_wire w) { return wires[w].size; }
pg_dtype pg_wire_dtype(pg_wire w) { return (pg_dtype)wires[w].dtype; }

pg_wire pg_wire_of(pg_dtype d) {
  static const unsigned char of[PG_NDTYPES] = {PG_WIRE_F32, PG_WIRE_F64, PG_WIRE_BF16,
                                               PG_WIRE_I64, PG_WIRE_U8,  PG_WIRE_BOOL};
  return (pg_wire)of[d];
}

pg_status pg_wire_bytes(pg_ctx *ctx, const char *name, pg_wire w, int nd, const int64_t *shape,
                        int64_t *bytes) {
  int64_t total = 1; /* with 1 for every 0: strides must fit too */
  bool empty = false, fits = true;
  for (int i = 0; i < nd && fits; i++) {
    if (shape[i] < 0) {
      return pg_fail(ctx, PG_EFORMAT, "%s: negative size %lld", name, (long long)shape[i]);
    }
    empty |= shape[i] == 0;
    fits = !__builtin_mul_overflow(total, shape[i] == 0 ? 1 : shape[i], &total);
  }
  int64_t in_memory;
  fits =
      fits && !__builtin_mul_overflow(total, (int64_t)pg_dtype_size(pg_wire_dtype(w)), &in_memory);
  if (!fits) {
    return pg_fail(ctx, PG_EFORMAT, "%s: the sizes %s are beyond any file", name,
                   pg_shape_str_of(nd, shape).s);
  }
  *bytes = empty ? 0 : total * wires[w].size;
  return PG_OK;
}

static float half_to_float(uint16_t h) {
  uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = (h >> 10) & 31, fraction = h & 1023;
  union {
    uint32_t u;
    float f;
  } v;
  if (exponent == 0) { /* zero and subnormals: fraction * 2^-24 is exact */
    v.f = (float)fraction * 0x1p-24f;
    v.u |= sign;
  } else {
    v.u = sign | (exponent == 31 ? 255 : exponent + 112) << 23 | fraction << 13;
  }
  return v.f;
}

static void swap_bytes(unsigned char *p, int64_t n, size_t size) {
  for (int64_t i = 0; i < n; i++, p += size) {
    for (size_t a = 0, b = size - 1; a < b; a++, b--) {
      unsigned char keep = p[a];
      p[a] = p[b];
      p[b] = keep;
    }
  }
}

/* Widens n elements at src, of a type that the tensor does not hold, to dst. */
static pg_status widen(pg_source *s, pg_wire w, int64_t n, const unsigned char *src, void *dst) {
  int64_t *ints = dst;
  for (int64_t i = 0; i < n; i++) {
    uint64_t v = 0;
    memcpy(&v, src + (size_t)i * wires[w].size, wires[w].size);
    switch (w) {
    case PG_WIRE_I8:
      ints[i] = (int8_t)v;
      break;
    case PG_WIRE_I16:
      ints[i] = (int16_t)v;
      break;
    case PG_WIRE_I32:
      ints[i] = (int32_t)v;
      break;
    case PG_WIRE_F16:
      ((float *)dst)[i] = half_to_float((uint16_t)v);
      break;
    default:
      if (v > INT64_MAX) {
        return pg_fail(s->ctx, PG_EVALUE, "%s: the value %llu does not fit into int64", s->name,
                       (unsigned long long)v);
      }
      ints[i] = (int64_t)v;
    }
  }
  return PG_OK;
}

pg_status pg_wire_read(pg_source *s, pg_wire w, bool big, pg_tensor *t) {
  PG_ASSERT(t->dtype == wires[w].dtype && pg_is_contiguous(t));
  size_t size = wires[w].size;
  int64_t n = pg_numel(t);
  unsigned char *data = pg_data(t);
  if (pg_wire_of((pg_dtype)t->dtype) == w) {
    PG_TRY(pg_source_read(s, data, (size_t)n * size, "data"));
    if (big && size > 1) swap_bytes(data, n, size);
    if (w == PG_WIRE_BOOL) {
      for (int64_t i = 0; i < n; i++) data[i] = data[i] != 0;
    }
    return PG_OK;
  }
  unsigned char chunk[8192];
  size_t wide = pg_dtype_size((pg_dtype)t->dtype);
  for (int64_t at = 0, step = (int64_t)(sizeof chunk / size); at < n; at += step) {
    int64_t m = pg_min64(step, n - at);
    PG_TRY(pg_source_read(s, chunk, (size_t)m * size, "data"));
    if (big && size > 1) swap_bytes(chunk, m, size);
    PG_TRY(widen(s, w, m, chunk, data + (size_t)at * wide));
  }
  return PG_OK;
}
