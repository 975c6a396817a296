/* numpy's .npy, format versions 1 to 3 (numpy/lib/format.py documents it).
 * Relies on source, sink, wire.
 * Spec: spec/io/npy_spec.lua. */
#include "io/npy.h"

#include <stdio.h>
#include <string.h>

#include "io/io.h"
#include "io/sink.h"
#include "io/wire.h"

#define MAX_HEADER (1 << 20)

typedef struct header {
  pg_wire wire;
  bool big, fortran;
  int nd;
  int64_t shape[PG_MAX_DIMS];
} header;

/* --- the header: a Python dict of three keys ----------------------------------------------------
 */
typedef struct scanner {
  pg_source *s;
  const char *at; /* into zero-terminated text */
} scanner;

static pg_status malformed(scanner *in, const char *what) {
  int n = (int)strcspn(in->at, "\n");
  return pg_fail(in->s->ctx, PG_EFORMAT, "%s: malformed npy header: %s expected at '%.*s'",
                 in->s->name, what, n < 20 ? n : 20, in->at);
}

static void skip_space(scanner *in) {
  while (*in->at == ' ' || *in->at == '\t' || *in->at == '\n') in->at++;
}

static bool take(scanner *in, char c) {
  skip_space(in);
  if (*in->at != c) return false;
  in->at++;
  return true;
}

static bool take_word(scanner *in, const char *word) {
  skip_space(in);
  size_t n = strlen(word);
  if (strncmp(in->at, word, n) != 0) return false;
  in->at += n;
  return true;
}

/* A quoted string without escapes, shorter than n. */
static pg_status take_string(scanner *in, char *out, size_t n) {
  skip_space(in);
  char quote = *in->at;
  if (quote != '\'' && quote != '"') return malformed(in, "a string");
  const char *end = strchr(in->at + 1, quote);
  if (end == NULL || (size_t)(end - in->at) > n) return malformed(in, "a short string");
  size_t length = (size_t)(end - in->at) - 1;
  memcpy(out, in->at + 1, length);
  out[length] = 0;
  in->at = end + 1;
  return PG_OK;
}

static pg_status take_descr(scanner *in, header *h) {
  static const struct {
    const char *code;
    unsigned char wire;
  } codes[] = {{"b1", PG_WIRE_BOOL}, {"u1", PG_WIRE_U8},  {"i1", PG_WIRE_I8},  {"u2", PG_WIRE_U16},
               {"i2", PG_WIRE_I16},  {"u4", PG_WIRE_U32}, {"i4", PG_WIRE_I32}, {"u8", PG_WIRE_U64},
               {"i8", PG_WIRE_I64},  {"f2", PG_WIRE_F16}, {"f4", PG_WIRE_F32}, {"f8", PG_WIRE_F64}};
  skip_space(in);
  if (*in->at == '[' || *in->at == '(') {
    return pg_fail(in->s->ctx, PG_EUNSUPPORTED, "%s: structured arrays are not supported",
                   in->s->name);
  }
  char descr[32];
  PG_TRY(take_string(in, descr, sizeof descr));
  char order = descr[0];
  const char *code = descr + (order != 0 && strchr("<>|=", order) != NULL ? 1 : 0);
  h->big = order == '>';
  for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
    if (strcmp(code, codes[i].code) == 0) {
      h->wire = (pg_wire)codes[i].wire;
      return PG_OK;
    }
  }
  return pg_fail(in->s->ctx, PG_EUNSUPPORTED, "%s: the numpy dtype '%s' is not supported%s",
                 in->s->name, descr, code[0] == 'O' ? " (pickled objects are never read)" : "");
}

static pg_status take_shape(scanner *in, header *h) {
  if (!take(in, '(')) return malformed(in, "a tuple");
  h->nd = 0;
  while (!take(in, ')')) {
    skip_space(in);
    if (*in->at < '0' || *in->at > '9') return malformed(in, "a size");
    int64_t v = 0;
    for (; *in->at >= '0' && *in->at <= '9'; in->at++) {
      bool over = __builtin_mul_overflow(v, (int64_t)10, &v);
      if (over || __builtin_add_overflow(v, (int64_t)(*in->at - '0'), &v)) {
        return malformed(in, "a size below 2^63");
      }
    }
    if (*in->at == 'L') in->at++; /* Python 2 wrote 3L */
    if (h->nd == PG_MAX_DIMS) {
      return pg_fail(in->s->ctx, PG_EUNSUPPORTED, "%s: more than %d dims", in->s->name,
                     PG_MAX_DIMS);
    }
    h->shape[h->nd++] = v;
    skip_space(in);
    if (*in->at != ')' && !take(in, ',')) return malformed(in, "',' or ')'");
  }
  return PG_OK;
}

static pg_status parse(pg_source *s, const char *text, header *h) {
  scanner in = {s, text};
  unsigned seen = 0;
  if (!take(&in, '{')) return malformed(&in, "'{'");
  while (!take(&in, '}')) {
    char key[16];
    PG_TRY(take_string(&in, key, sizeof key));
    unsigned bit = strcmp(key, "descr") == 0           ? 1
                   : strcmp(key, "fortran_order") == 0 ? 2
                   : strcmp(key, "shape") == 0         ? 4
                                                       : 0;
    if (bit == 0 || (seen & bit) != 0) {
      return pg_fail(s->ctx, PG_EFORMAT, "%s: malformed npy header: %s key '%s'", s->name,
                     bit == 0 ? "unknown" : "repeated", key);
    }
    seen |= bit;
    if (!take(&in, ':')) return malformed(&in, "':'");
    if (bit == 1) {
      PG_TRY(take_descr(&in, h));
    } else if (bit == 4) {
      PG_TRY(take_shape(&in, h));
    } else {
      h->fortran = take_word(&in, "True");
      if (!h->fortran && !take_word(&in, "False")) return malformed(&in, "True or False");
    }
    skip_space(&in);
    if (*in.at != '}' && !take(&in, ',')) return malformed(&in, "',' or '}'");
  }
  skip_space(&in);
  if (*in.at != 0) return malformed(&in, "the end");
  if (seen == 7) return PG_OK;
  return pg_fail(s->ctx, PG_EFORMAT,
                 "%s: malformed npy header: descr, fortran_order or shape missing", s->name);
}

static pg_status read_header(pg_source *s, header *h) {
  unsigned char start[12] = {0};
  PG_TRY(pg_source_read(s, start, 10, "npy header"));
  if (memcmp(start, "\x93NUMPY", 6) != 0) {
    return pg_fail(s->ctx, PG_EFORMAT, "%s: not a npy file: it does not begin with \\x93NUMPY",
                   s->name);
  }
  if (start[6] < 1 || start[6] > 3) {
    return pg_fail(s->ctx, PG_EUNSUPPORTED, "%s: npy version %d.%d is not supported", s->name,
                   start[6], start[7]);
  }
  if (start[6] > 1) PG_TRY(pg_source_read(s, start + 10, 2, "npy header"));
  uint32_t length = pg_get_le32(start + 8);
  int64_t left = s->size - s->at;
  if (length > MAX_HEADER || length > left) {
    return pg_fail(s->ctx, PG_EFORMAT, "%s: %s: its npy header claims %lu bytes, %lld are left",
                   s->name, length > left ? "truncated" : "too long", (unsigned long)length,
                   (long long)left);
  }
  void *text = NULL;
  PG_TRY(pg_alloc(s->ctx, (size_t)length + 1, &text));
  ((char *)text)[length] = 0;
  pg_status status = pg_source_read(s, text, length, "npy header");
  if (status == PG_OK && strlen(text) != length) {
    status = pg_fail(s->ctx, PG_EFORMAT, "%s: malformed npy header: it holds a zero byte", s->name);
  }
  if (status == PG_OK) status = parse(s, text, h);
  pg_free(s->ctx, text, (size_t)length + 1);
  return status;
}

/* t holds the elements of h in Fortran order: *t becomes a contiguous tensor of h's shape. */
static pg_status to_c_order(pg_ctx *ctx, const header *h, pg_tensor **t) {
  int64_t stride[PG_MAX_DIMS], step = 1;
  for (int i = 0; i < h->nd; i++) {
    stride[i] = step;
    step *= h->shape[i];
  }
  pg_tensor *view = NULL, *copy = NULL;
  pg_status status = pg_tensor_alias(ctx, *t, h->nd, h->shape, stride, 0, &view);
  if (status == PG_OK) status = pg__contiguous(ctx, view, &copy);
  pg_tensor_unref(view);
  if (status != PG_OK) return status;
  pg_tensor_unref(*t);
  *t = copy;
  return PG_OK;
}

pg_status pg_npy_read(pg_source *s, pg_tensor **out) {
  *out = NULL;
  header h = {0};
  PG_TRY(read_header(s, &h));
  int64_t bytes, left = s->size - s->at;
  PG_TRY(pg_wire_bytes(s->ctx, s->name, h.wire, h.nd, h.shape, &bytes));
  if (bytes != left) {
    return pg_fail(s->ctx, PG_EFORMAT, "%s: %s: %s needs %lld bytes, %lld are there", s->name,
                   bytes > left ? "truncated" : "longer than its header says",
                   pg_shape_str_of(h.nd, h.shape).s, (long long)bytes, (long long)left);
  }
  pg_tensor *t = NULL;
  PG_TRY(pg_tensor_new(s->ctx, pg_wire_dtype(h.wire), h.nd, h.shape, &t));
  pg_status status = pg_wire_read(s, h.wire, h.big, t);
  if (status == PG_OK) status = pg_source_end(s);
  if (status == PG_OK && h.fortran && h.nd > 1) status = to_c_order(s->ctx, &h, &t);
  if (status != PG_OK) {
    pg_tensor_unref(t);
    return status;
  }
  *out = t;
  return PG_OK;
}

/* --- writing ------------------------------------------------------------------------------------
 */
size_t pg_npy_header(const pg_tensor *t, char out[PG_NPY_HEADER]) {
  static const char descr[PG_NDTYPES][4] = {"<f4", "<f8", "", "<i8", "|u1", "|b1"};
  char sizes[PG_MAX_DIMS * 21 + 1] = "";
  int n = 0;
  for (int i = 0; i < t->nd; i++) {
    n += snprintf(sizes + n, sizeof sizes - (size_t)n, i == 0 ? "%lld," : " %lld,",
                  (long long)t->shape[i]);
  }
  if (t->nd > 1) sizes[n - 1] = 0; /* (3,) but (3, 4) */
  memset(out, ' ', PG_NPY_HEADER);
  memcpy(out, "\x93NUMPY\1\0", 8);
  int used = 10 + snprintf(out + 10, PG_NPY_HEADER - 10,
                           "{'descr': '%s', 'fortran_order': False, 'shape': (%s), }",
                           descr[t->dtype], sizes);
  size_t padded = ((size_t)used + 64) / 64 * 64;
  out[used] = ' ';
  out[padded - 1] = '\n';
  out[8] = (char)((padded - 10) & 255);
  out[9] = (char)((padded - 10) >> 8);
  return padded;
}

pg_status pg_npy_writable(pg_ctx *ctx, pg_tensor *t, pg_tensor **out) {
  return t->dtype == PG_BF16 ? pg__as(ctx, t, PG_F32, out) : pg__contiguous(ctx, t, out);
}

static pg_status load(pg_ctx *ctx, const char *path, pg_bundle *b) {
  pg_source s;
  PG_TRY(pg_source_open(ctx, path, false, &s));
  pg_tensor *t = NULL;
  pg_status status = pg_npy_read(&s, &t);
  pg_source_close(&s);
  if (status == PG_OK) status = pg_bundle_add(b, "", t);
  pg_tensor_unref(t);
  b->single = true;
  return status;
}

static pg_status save(pg_ctx *ctx, const char *path, const pg_bundle *b) {
  if (!b->single) {
    return pg_fail(ctx, PG_EARG,
                   "%s: a .npy holds one tensor; several go into .npz or .safetensors", path);
  }
  pg_tensor *t = NULL;
  pg_sink s = {.ctx = ctx, .name = path};
  PG_TRY(pg_npy_writable(ctx, b->entry[0].tensor, &t));
  pg_status status = pg_sink_open(ctx, path, &s);
  if (status == PG_OK) {
    char text[PG_NPY_HEADER];
    size_t n = pg_npy_header(t, text);
    status = pg_sink_write(&s, text, n);
    size_t bytes = (size_t)pg_numel(t) * pg_dtype_size((pg_dtype)t->dtype);
    if (status == PG_OK) status = pg_sink_write(&s, pg_data(t), bytes);
    if (status == PG_OK) {
      status = pg_sink_commit(&s);
    } else {
      pg_sink_drop(&s);
    }
  }
  pg_tensor_unref(t);
  return status;
}

const pg_format pg_formats_npy[] = {
    {"npy", "one array of numpy (numpy.save, numpy.load)", ".npy", false, load, save},
    {0},
};
