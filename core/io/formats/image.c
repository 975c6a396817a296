/* Pictures as files of one tensor: PNG, JPEG, BMP, PGM and PPM.
 * Relies on io/image.h.
 * Spec: spec/io/image_spec.lua. */
#include "io/image.h"

#include "io/io.h"

static pg_status load(pg_ctx *ctx, const char *path, pg_bundle *b) {
  pg_tensor *t = NULL;
  pg_status status = pg_image_read(ctx, path, 0, PG_IMAGE_LIMIT, &t);
  if (status == PG_OK) status = pg_bundle_add(b, "", t);
  b->single = true;
  pg_tensor_unref(t);
  return status;
}

static pg_status only_tensor(pg_ctx *ctx, const char *path, const pg_bundle *b) {
  if (b->single) return PG_OK;
  return pg_fail(ctx, PG_EARG, "%s: a picture is one tensor; several go into .npz or .safetensors",
                 path);
}

static pg_status save_png(pg_ctx *ctx, const char *path, const pg_bundle *b) {
  PG_TRY(only_tensor(ctx, path, b));
  return pg_image_write_png(ctx, path, b->entry[0].tensor);
}

static pg_status save_pnm(pg_ctx *ctx, const char *path, const pg_bundle *b) {
  PG_TRY(only_tensor(ctx, path, b));
  return pg_image_write_pnm(ctx, path, b->entry[0].tensor);
}

const pg_format pg_formats_image[] = {
    {"png", "a picture: uint8, channels x height x width", ".png", false, load, save_png},
    {"pnm", "PGM and PPM, pictures without compression", ".pgm|.ppm|.pnm", false, load, save_pnm},
    {"jpeg", "JPEG, baseline and progressive", ".jpg|.jpeg", false, load, NULL},
    {"bmp", "Windows bitmaps", ".bmp", false, load, NULL},
    {0},
};
