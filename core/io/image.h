/* Pictures as tensors: PNG through libpng, JPEG and BMP through stb_image, PGM and PPM by our own
 * reader. Relies on tensor. Spec: spec/io/image_spec.lua. */
#ifndef PG_IO_IMAGE_H
#define PG_IO_IMAGE_H

#include "tensor/tensor.h"

/* Bytes of a decoded picture where the caller names no limit. */
#define PG_IMAGE_LIMIT (INT64_C(1) << 28)

/* Reads a picture: *out is uint8, channels x height x width, owned by the caller. What it is, its
 * first bytes tell. Samples are as stored, without colour management; 16 bits are rounded to 8.
 * channels: 0 for as many as the file has (1 grey, 2 grey and alpha, 3 colour, 4 colour and alpha;
 * a palette is colour), or 1 or 3: alpha is dropped, grey is repeated, colour weighed as in
 * ITU-R BT.601. limit: bytes that the file and the decoded picture may take each; checked on the
 * header, before the picture is decoded. PG_EFORMAT where the file is damaged. */
pg_status pg_image_read(pg_ctx *ctx, const char *path, int channels, int64_t limit,
                        pg_tensor **out);
/* Writes uint8 of height x width or channels x height x width, 1 to 4 channels. */
pg_status pg_image_write_png(pg_ctx *ctx, const char *path, pg_tensor *t);
/* The same with 1 channel (PGM) or 3 (PPM). */
pg_status pg_image_write_pnm(pg_ctx *ctx, const char *path, pg_tensor *t);

#endif
