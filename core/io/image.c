/* Decoding and encoding of pictures. A file is read whole and its header checked before a decoder
 * sees it; of PNG every chunk and its checksum, so that libpng meets sound files only.
 * Relies on source, sink, libpng's simplified interface (no jumps), zlib and stb_image.
 * Spec: spec/io/image_spec.lua. */
#include "io/image.h"

#include <limits.h>
#include <png.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "io/sink.h"
#include "io/source.h"

#define STB_IMAGE_STATIC
#define STB_IMAGE_IMPLEMENTATION
#define STBI_ONLY_JPEG
#define STBI_ONLY_BMP
#define STBI_NO_STDIO
#define STBI_NO_LINEAR
#define STBI_NO_HDR
#define STBI_MAX_DIMENSIONS 65535
#define STBI_ASSERT(x)      ((void)0)
#include <stb_image.h>
#pragma GCC diagnostic ignored "-Wunused-function" /* it declares what is left out here, too */

/* A file in memory and what is said about it. */
typedef struct file {
  pg_ctx *ctx;
  const char *name;
  unsigned char *bytes;
  size_t n, room;
  int64_t limit;
} file;

/* Decoded samples as decoders give them: row by row, channels together. */
typedef struct picture {
  int64_t width, height;
  int channels;
  unsigned char *samples;
} picture;

static pg_status damaged(const file *f, const char *what) {
  return pg_fail(f->ctx, PG_EFORMAT, "%s: %s", f->name, what);
}

/* Refuses sizes of nothing, and more bytes than the limit. */
static pg_status check_size(const file *f, int64_t width, int64_t height, int channels) {
  if (width < 1 || height < 1) return damaged(f, "a picture without pixels");
  if (width > f->limit / height / channels) {
    return pg_fail(f->ctx, PG_EUNSUPPORTED,
                   "%s: %lld x %lld pixels of %d channels: more than the limit of %lld bytes",
                   f->name, (long long)width, (long long)height, channels, (long long)f->limit);
  }
  return PG_OK;
}

static pg_status samples_new(const file *f, picture *p) {
  void *block = NULL;
  PG_TRY(pg_alloc(f->ctx, (size_t)(p->width * p->height * p->channels), &block));
  p->samples = block;
  return PG_OK;
}

static void samples_free(pg_ctx *ctx, picture *p) {
  pg_free(ctx, p->samples, (size_t)(p->width * p->height * p->channels));
  p->samples = NULL;
}

/* --- PNG ---------------------------------------------------------------------------------------
 */
static const unsigned char png_magic[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};

static bool is_chunk(const unsigned char *type, const char *name) {
  return memcmp(type, name, 4) == 0;
}

static pg_status check_png_header(const file *f, const unsigned char *h) {
  int64_t width = pg_get_be32(h), height = pg_get_be32(h + 4);
  int depth = h[8], kind = h[9];
  /* Bit depths that a colour type allows, as a sum of powers of two. */
  static const struct {
    int kind, depths, channels;
  } kinds[] = {{0, 1 | 2 | 4 | 8 | 16, 1},
               {2, 8 | 16, 3},
               {3, 1 | 2 | 4 | 8, 4},
               {4, 8 | 16, 2},
               {6, 8 | 16, 4}};
  size_t k = 0, known = sizeof kinds / sizeof *kinds;
  while (k < known && kinds[k].kind != kind) k++;
  bool power = depth > 0 && depth <= 16 && (depth & (depth - 1)) == 0;
  if (k == known || !power || (kinds[k].depths & depth) == 0) {
    return pg_fail(f->ctx, PG_EFORMAT, "%s: a PNG cannot have colour type %d with %d bits", f->name,
                   kind, depth);
  }
  if (h[10] != 0 || h[11] != 0 || h[12] > 1) {
    return pg_fail(f->ctx, PG_EFORMAT,
                   "%s: a PNG of unknown compression %d, filter %d, "
                   "interlace %d",
                   f->name, h[10], h[11], h[12]);
  }
  return check_size(f, width, height, kinds[k].channels);
}

/* Checks every chunk, and takes out those by which libpng would change samples: gamma, colour
 * spaces and significant bits. f->bytes and f->n hold what is left. */
static pg_status check_png(file *f) {
  unsigned char *to = f->bytes + 8;
  size_t at = 8;
  bool data = false, end = false;
  while (!end) {
    if (f->n - at < 12) return damaged(f, "truncated: a PNG ends with the chunk IEND");
    unsigned char *chunk = f->bytes + at, *type = chunk + 4;
    uint32_t length = pg_get_be32(chunk);
    for (int i = 0; i < 4; i++) {
      if (!((type[i] >= 'A' && type[i] <= 'Z') || (type[i] >= 'a' && type[i] <= 'z'))) {
        return pg_fail(f->ctx, PG_EFORMAT, "%s: a PNG chunk without a name at byte %zu", f->name,
                       at);
      }
    }
    if (length > f->n - at - 12) {
      return pg_fail(f->ctx, PG_EFORMAT,
                     "%s: truncated: the PNG chunk %.4s claims %u bytes, %zu are there", f->name,
                     (const char *)type, (unsigned)length, f->n - at - 12);
    }
    uLong sum = crc32(crc32(0, NULL, 0), type, length + 4);
    if (sum != pg_get_be32(chunk + 8 + length)) {
      return pg_fail(f->ctx, PG_EFORMAT, "%s: the PNG chunk %.4s has a wrong checksum", f->name,
                     (const char *)type);
    }
    bool header = is_chunk(type, "IHDR");
    if (header != (at == 8) || (header && length != 13)) {
      return damaged(f, "a PNG begins with one chunk IHDR of 13 bytes");
    }
    if (header) PG_TRY(check_png_header(f, chunk + 8));
    data = data || is_chunk(type, "IDAT");
    end = is_chunk(type, "IEND");
    bool colours = is_chunk(type, "gAMA") || is_chunk(type, "cHRM") || is_chunk(type, "sRGB") ||
                   is_chunk(type, "iCCP") || is_chunk(type, "sBIT") || is_chunk(type, "cICP");
    size_t whole = (size_t)length + 12;
    if (!colours) {
      memmove(to, chunk, whole);
      to += whole;
    }
    at += whole;
  }
  if (!data) return damaged(f, "a PNG without the chunk IDAT");
  f->n = (size_t)(to - f->bytes);
  return PG_OK;
}

/* Undoes the filter of one row in place. above: the row before, zeros for the first. */
static bool unfilter(unsigned char kind, unsigned char *row, const unsigned char *above, size_t n,
                     size_t step) {
  for (size_t i = 0; i < n && kind != 0; i++) {
    int a = i >= step ? row[i - step] : 0, b = above[i], c = i >= step ? above[i - step] : 0;
    int guess = a;
    if (kind == 2) {
      guess = b;
    } else if (kind == 3) {
      guess = (a + b) / 2;
    } else if (kind == 4) { /* Paeth: of a, b and c the one nearest to a + b - c */
      int to_a = abs(b - c), to_b = abs(a - c), to_c = abs(a + b - 2 * c);
      guess = to_a <= to_b && to_a <= to_c ? a : to_b <= to_c ? b : c;
    }
    row[i] = (unsigned char)(row[i] + guess);
  }
  return kind <= 4;
}

/* The seven passes of an interlaced PNG: first pixel and distance, across and down. */
static const struct {
  int x, y, dx, dy;
} passes[7] = {{0, 0, 8, 8}, {4, 0, 8, 8}, {0, 4, 4, 8}, {2, 0, 4, 4},
               {0, 2, 2, 4}, {1, 0, 2, 2}, {0, 1, 1, 2}};

static int64_t pass_length(int64_t size, int first, int step) {
  return size > first ? (size - first + step - 1) / step : 0;
}

/* 16 bits a sample, `stored` samples a pixel, interlaced, from inflated data. key: samples of the
 * transparent colour, NULL for none; p has one more channel then. */
static bool from_passes(unsigned char *raw, int stored, const unsigned char *key,
                        const unsigned char *zeros, picture *p) {
  size_t step = 2 * (size_t)stored;
  for (int k = 0; k < 7; k++) {
    int64_t width = pass_length(p->width, passes[k].x, passes[k].dx);
    int64_t height = width > 0 ? pass_length(p->height, passes[k].y, passes[k].dy) : 0;
    const unsigned char *above = zeros;
    for (int64_t j = 0; j < height; j++) {
      unsigned char kind = *raw++;
      if (!unfilter(kind, raw, above, (size_t)width * step, step)) return false;
      int64_t y = passes[k].y + j * passes[k].dy;
      for (int64_t i = 0; i < width; i++) {
        const unsigned char *from = raw + (size_t)i * step;
        int64_t x = passes[k].x + i * passes[k].dx;
        unsigned char *to = p->samples + (y * p->width + x) * p->channels;
        for (int c = 0; c < stored; c++) {
          to[c] = (unsigned char)(((from[2 * c] << 8 | from[2 * c + 1]) * 255 + 32767) / 65535);
        }
        if (key != NULL) to[stored] = memcmp(from, key, step) == 0 ? 0 : 255;
      }
      above = raw;
      raw += (size_t)width * step;
    }
  }
  return true;
}

/* An interlaced PNG of 16 bits, which libpng's simplified interface decodes wrongly (1.6.39) or not
 * safely (CVE-2025-65018). f has been checked; its bytes are overwritten. */
static pg_status read_deep_interlaced(file *f, picture *p) {
  const unsigned char *h = f->bytes + 16;
  int stored = h[9] == 0 ? 1 : h[9] == 2 ? 3 : h[9] == 4 ? 2 : 4;
  unsigned char key[6];
  bool keyed = false;
  p->width = pg_get_be32(h);
  p->height = pg_get_be32(h + 4);
  size_t packed = 0, size = 0, row = 2 * (size_t)stored * (size_t)p->width;
  for (size_t at = 8; at < f->n;) {
    unsigned char *chunk = f->bytes + at;
    size_t length = pg_get_be32(chunk);
    if (is_chunk(chunk + 4, "tRNS") && stored != 2 && length == 2 * (size_t)stored && length <= 6) {
      memcpy(key, chunk + 8, length);
      keyed = true;
    } else if (is_chunk(chunk + 4, "IDAT")) {
      memmove(f->bytes + packed, chunk + 8, length);
      packed += length;
    }
    at += length + 12;
  }
  for (int k = 0; k < 7; k++) {
    size_t width = (size_t)pass_length(p->width, passes[k].x, passes[k].dx);
    size_t height = (size_t)pass_length(p->height, passes[k].y, passes[k].dy);
    if (width > 0) size += height * (1 + width * 2 * (size_t)stored);
  }
  p->channels = stored + keyed;
  void *raw = NULL, *zeros = NULL;
  pg_status status = samples_new(f, p);
  if (status == PG_OK) status = pg_alloc(f->ctx, size, &raw);
  if (status == PG_OK) status = pg_alloc_zero(f->ctx, row, &zeros);
  if (status == PG_OK) {
    uLongf got = size;
    bool fine = uncompress(raw, &got, f->bytes, packed) == Z_OK && got == size;
    fine = fine && from_passes(raw, stored, keyed ? key : NULL, zeros, p);
    if (!fine) status = damaged(f, "damaged PNG: its pixels cannot be unpacked");
  }
  if (raw != NULL) pg_free(f->ctx, raw, size);
  if (zeros != NULL) pg_free(f->ctx, zeros, row);
  return status;
}

static pg_status read_png(file *f, picture *p) {
  PG_TRY(check_png(f));
  if (f->bytes[24] == 16 && f->bytes[28] == 1) return read_deep_interlaced(f, p);
  png_image image = {.version = PNG_IMAGE_VERSION};
  pg_status status = PG_OK;
  if (png_image_begin_read_from_memory(&image, f->bytes, f->n)) {
    image.flags |= PNG_IMAGE_FLAG_16BIT_sRGB;
    image.format &= PNG_FORMAT_FLAG_COLOR | PNG_FORMAT_FLAG_ALPHA;
    p->width = image.width;
    p->height = image.height;
    p->channels = (int)PNG_IMAGE_SAMPLE_CHANNELS(image.format);
    status = samples_new(f, p);
    if (status == PG_OK) png_image_finish_read(&image, NULL, p->samples, 0, NULL);
  }
  /* A warning counts as damage where it is about the pixels: too few of them. */
  bool bad = (image.warning_or_error & 2) != 0 ||
             (image.warning_or_error != 0 && strstr(image.message, "IDAT") != NULL);
  if (status == PG_OK && bad) {
    status = pg_fail(f->ctx, PG_EFORMAT, "%s: damaged PNG: %s", f->name, image.message);
  }
  png_image_free(&image);
  return status;
}

/* --- JPEG and BMP ------------------------------------------------------------------------------
 */
/* The Huffman tables of a segment DHT: 16 counts and as many values as they add up to. More than
 * 256 would make stb_image 2.27 write past its tables. */
static bool sound_tables(const unsigned char *b, size_t n) {
  while (n > 0) {
    if (n < 17) return false;
    size_t values = 0;
    for (int i = 1; i <= 16; i++) values += b[i];
    if (values > 256 || n < 17 + values) return false;
    b += 17 + values;
    n -= 17 + values;
  }
  return true;
}

/* Walks the segments as stb_image will, to the marker EOI: it takes what is missing for zeros. */
static pg_status check_jpeg(const file *f) {
  const unsigned char *b = f->bytes;
  size_t at = 2;
  for (;;) { /* in packed data 0xff is followed by 0 or by a restart marker */
    while (at + 1 < f->n && (b[at] != 0xff || b[at + 1] == 0 || b[at + 1] == 0xff ||
                             (b[at + 1] >= 0xd0 && b[at + 1] <= 0xd7))) {
      at++;
    }
    if (at + 1 >= f->n) break;
    unsigned marker = b[at + 1];
    at += 2;
    if (marker == 0xd9) return PG_OK;
    if (marker == 0x01 || marker == 0xd8) continue;
    if (f->n - at < 2) break;
    size_t length = (size_t)b[at] << 8 | b[at + 1];
    if (length < 2) return damaged(f, "damaged JPEG: a segment without a length");
    if (length > f->n - at) break;
    if (marker == 0xc4 && !sound_tables(b + at + 2, length - 2)) {
      return damaged(f, "damaged JPEG: a Huffman table that cannot be");
    }
    at += length;
  }
  return damaged(f, "truncated: a JPEG ends with the marker EOI");
}

static pg_status check_bmp(const file *f) {
  const unsigned char *b = f->bytes;
  if (f->n < 30) return damaged(f, "truncated: a BMP header is longer");
  bool old = pg_get_le32(b + 14) == 12; /* OS/2: sizes of 16 bits */
  int64_t width = old ? b[18] | b[19] << 8 : (int32_t)pg_get_le32(b + 18);
  int64_t height = old ? b[20] | b[21] << 8 : (int32_t)pg_get_le32(b + 22);
  int64_t bits = old ? b[24] | b[25] << 8 : b[28] | b[29] << 8;
  height = height < 0 ? -height : height;
  PG_TRY(check_size(f, width, height, 1));
  int64_t bytes = (width * bits + 31) / 32 * 4 * height, there = (int64_t)f->n - 14;
  if (there < bytes) {
    return pg_fail(f->ctx, PG_EFORMAT,
                   "%s: truncated: %lld bytes of pixels expected, at most %lld are there", f->name,
                   (long long)bytes, (long long)there);
  }
  return PG_OK;
}

static pg_status read_stb(file *f, const char *kind, picture *p) {
  int width = 0, height = 0, channels = 0;
  if (f->n > INT_MAX) return damaged(f, "more than 2 GB");
  if (!stbi_info_from_memory(f->bytes, (int)f->n, &width, &height, &channels)) {
    return pg_fail(f->ctx, PG_EFORMAT, "%s: not a %s that can be read: %s", f->name, kind,
                   stbi_failure_reason());
  }
  height = abs(height); /* of a BMP whose first row is the highest, it is negative */
  PG_TRY(check_size(f, width, height, channels));
  unsigned char *samples =
      stbi_load_from_memory(f->bytes, (int)f->n, &width, &height, &channels, 0);
  if (samples == NULL) {
    return pg_fail(f->ctx, PG_EFORMAT, "%s: damaged %s: %s", f->name, kind, stbi_failure_reason());
  }
  pg_status status = check_size(f, width, height, channels);
  if (status == PG_OK) {
    *p = (picture){.width = width, .height = height, .channels = channels};
    status = samples_new(f, p);
  }
  if (status == PG_OK) {
    memcpy(p->samples, samples, (size_t)width * (size_t)height * (size_t)channels);
  }
  stbi_image_free(samples);
  return status;
}

/* --- PGM and PPM -------------------------------------------------------------------------------
 */
static bool is_space(int c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

/* The next number of the header or of a plain picture, behind spaces and comments; -1 for none. */
static int64_t next_number(const file *f, size_t *at) {
  while (*at < f->n && (is_space(f->bytes[*at]) || f->bytes[*at] == '#')) {
    if (f->bytes[*at] == '#') {
      while (*at < f->n && f->bytes[*at] != '\n' && f->bytes[*at] != '\r') ++*at;
    } else {
      ++*at;
    }
  }
  int64_t value = -1;
  while (*at < f->n && f->bytes[*at] >= '0' && f->bytes[*at] <= '9') {
    if (value > INT32_MAX) return -1;
    value = (value < 0 ? 0 : value) * 10 + (f->bytes[(*at)++] - '0');
  }
  return value;
}

static unsigned char to_byte(int64_t v, int64_t most) {
  v = v > most ? most : v;
  return (unsigned char)((v * 255 + most / 2) / most);
}

static pg_status read_pnm(file *f, picture *p) {
  bool plain = f->bytes[1] < '4';
  int channels = f->bytes[1] == '3' || f->bytes[1] == '6' ? 3 : 1;
  size_t at = 2;
  int64_t width = next_number(f, &at), height = next_number(f, &at), most = next_number(f, &at);
  if (width < 0 || height < 0 || most < 1 || most > 65535 || at == f->n ||
      !is_space(f->bytes[at])) {
    return damaged(f, "a PGM or PPM header is width, height and greatest value (1 .. 65535)");
  }
  at++;
  PG_TRY(check_size(f, width, height, channels));
  int64_t n = width * height * channels, there = (int64_t)(f->n - at);
  int64_t bytes = plain ? 2 * n - 1 : most > 255 ? 2 * n : n; /* a plain sample: digit and space */
  if (there < bytes) {
    return pg_fail(f->ctx, PG_EFORMAT,
                   "%s: truncated: %lld bytes of pixels expected, %lld are "
                   "there",
                   f->name, (long long)bytes, (long long)there);
  }
  *p = (picture){.width = width, .height = height, .channels = channels};
  PG_TRY(samples_new(f, p));
  const unsigned char *from = f->bytes + at;
  for (int64_t i = 0; i < n; i++) {
    int64_t v = plain        ? next_number(f, &at)
                : most > 255 ? from[2 * i] << 8 | from[2 * i + 1]
                             : from[i];
    if (v < 0 || v > most) {
      return pg_fail(f->ctx, PG_EFORMAT, "%s: sample %lld is %s", f->name, (long long)i + 1,
                     v < 0 ? "missing" : "above the greatest value");
    }
    p->samples[i] = most == 255 ? (unsigned char)v : to_byte(v, most);
  }
  if (!plain) at += (size_t)bytes;
  while (at < f->n && is_space(f->bytes[at])) at++;
  return at == f->n ? PG_OK : damaged(f, "longer than its header says");
}

/* --- reading -----------------------------------------------------------------------------------
 */
static pg_status decode(file *f, picture *p) {
  const unsigned char *b = f->bytes;
  if (f->n >= 8 && memcmp(b, png_magic, 8) == 0) return read_png(f, p);
  if (f->n >= 3 && b[0] == 0xff && b[1] == 0xd8 && b[2] == 0xff) {
    PG_TRY(check_jpeg(f));
    return read_stb(f, "JPEG", p);
  }
  if (f->n >= 2 && b[0] == 'B' && b[1] == 'M') {
    PG_TRY(check_bmp(f));
    return read_stb(f, "BMP", p);
  }
  if (f->n >= 3 && b[0] == 'P' && strchr("2356", b[1]) != NULL && b[1] != 0) return read_pnm(f, p);
  return damaged(f, "not a PNG, JPEG, BMP, PGM or PPM file");
}

/* channels x height x width from row-by-row samples. */
static pg_status to_planes(pg_ctx *ctx, const picture *p, int channels, pg_tensor **out) {
  int64_t n = p->width * p->height, shape[3] = {channels, p->height, p->width};
  PG_TRY(pg_tensor_new(ctx, PG_U8, 3, shape, out));
  unsigned char *to = pg_data(*out);
  const unsigned char *from = p->samples;
  int have = p->channels;
  if (channels == 1 && have >= 3) {
    for (int64_t i = 0; i < n; i++, from += have) {
      to[i] = (unsigned char)((299 * from[0] + 587 * from[1] + 114 * from[2] + 500) / 1000);
    }
    return PG_OK;
  }
  for (int c = 0; c < channels; c++) {
    const unsigned char *plane = from + (have < 3 && channels == 3 ? 0 : c);
    for (int64_t i = 0; i < n; i++) to[c * n + i] = plane[i * have];
  }
  return PG_OK;
}

pg_status pg_image_read(pg_ctx *ctx, const char *path, int channels, int64_t limit,
                        pg_tensor **out) {
  if (channels != 0 && channels != 1 && channels != 3) {
    return pg_fail(ctx, PG_EARG, "channels: expected 1, 3 or 0 for the file's own, got %d",
                   channels);
  }
  pg_source s;
  PG_TRY(pg_source_open(ctx, path, false, &s));
  file f = {.ctx = ctx, .name = path, .limit = limit};
  picture p = {0};
  char *bytes = NULL;
  pg_status status = PG_OK;
  if (s.size > limit) {
    status = pg_fail(ctx, PG_EUNSUPPORTED, "%s: a file of %lld bytes: more than the limit of %lld",
                     path, (long long)s.size, (long long)limit);
  }
  if (status == PG_OK) status = pg_source_all(&s, &bytes, &f.n);
  pg_source_close(&s);
  f.bytes = (unsigned char *)bytes;
  f.room = f.n + 1;
  if (status == PG_OK) status = decode(&f, &p);
  if (status == PG_OK) status = to_planes(ctx, &p, channels == 0 ? p.channels : channels, out);
  if (p.samples != NULL) samples_free(ctx, &p);
  if (bytes != NULL) pg_free(ctx, bytes, f.room);
  return status;
}

/* --- writing -----------------------------------------------------------------------------------
 */
/* Row-by-row samples of a tensor, to be freed by the caller. most: channels. */
static pg_status to_rows(pg_ctx *ctx, const char *path, pg_tensor *t, int most, picture *p) {
  int nd = t->nd;
  int64_t channels = nd == 3 ? t->shape[0] : 1;
  if (t->dtype != PG_U8 || (nd != 2 && nd != 3) || channels < 1 || channels > most ||
      (most == 3 && channels == 2) || pg_numel(t) == 0) {
    return pg_fail(ctx, PG_EARG,
                   "%s: expected a picture: uint8, height x width or channels x height x width "
                   "with %s channels, got %s of %s",
                   path, most == 3 ? "1 or 3" : "1 to 4", pg_dtype_name((pg_dtype)t->dtype),
                   pg_shape_str(t).s);
  }
  *p = (picture){t->shape[nd - 1], t->shape[nd - 2], (int)channels, NULL};
  pg_tensor *dense = NULL;
  PG_TRY(pg__contiguous(ctx, t, &dense));
  file f = {.ctx = ctx, .name = path};
  pg_status status = samples_new(&f, p);
  int64_t n = p->width * p->height;
  const unsigned char *from = pg_data(dense);
  for (int64_t c = 0; status == PG_OK && c < channels; c++) {
    for (int64_t i = 0; i < n; i++) p->samples[i * channels + c] = from[c * n + i];
  }
  pg_tensor_unref(dense);
  return status;
}

static pg_status finish(pg_sink *s, pg_status status) {
  if (status == PG_OK) return pg_sink_commit(s);
  pg_sink_drop(s);
  return status;
}

pg_status pg_image_write_png(pg_ctx *ctx, const char *path, pg_tensor *t) {
  picture p = {0};
  PG_TRY(to_rows(ctx, path, t, 4, &p));
  static const png_uint_32 formats[] = {0, PNG_FORMAT_GRAY, PNG_FORMAT_GA, PNG_FORMAT_RGB,
                                        PNG_FORMAT_RGBA};
  pg_sink s = {.ctx = ctx, .name = path};
  pg_status status = PG_OK;
  if (p.width > 1000000 || p.height > 1000000) {
    status = pg_fail(ctx, PG_EUNSUPPORTED, "%s: a PNG of more than 1000000 columns or rows", path);
  }
  if (status == PG_OK) status = pg_sink_open(ctx, path, &s);
  if (status == PG_OK) {
    png_image image = {.version = PNG_IMAGE_VERSION,
                       .width = (png_uint_32)p.width,
                       .height = (png_uint_32)p.height,
                       .format = formats[p.channels]};
    if (!png_image_write_to_stdio(&image, s.file, 0, p.samples, 0, NULL)) {
      status = pg_fail(ctx, PG_EIO, "%s: %s", path, image.message);
    }
    png_image_free(&image);
    status = finish(&s, status);
  }
  samples_free(ctx, &p);
  return status;
}

pg_status pg_image_write_pnm(pg_ctx *ctx, const char *path, pg_tensor *t) {
  picture p = {0};
  PG_TRY(to_rows(ctx, path, t, 3, &p));
  pg_sink s = {.ctx = ctx, .name = path};
  pg_status status = pg_sink_open(ctx, path, &s);
  if (status == PG_OK) {
    status = pg_sink_printf(&s, "P%d\n%lld %lld\n255\n", p.channels == 1 ? 5 : 6,
                            (long long)p.width, (long long)p.height);
    size_t bytes = (size_t)(p.width * p.height * p.channels);
    if (status == PG_OK) status = pg_sink_write(&s, p.samples, bytes);
    status = finish(&s, status);
  }
  samples_free(ctx, &p);
  return status;
}
