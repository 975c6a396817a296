/* One .npy array inside whatever holds it: a file of its own or a member of an .npz.
 * Relies on source and tensor; implemented in formats/npy.c.
 * Spec: spec/io/npy_spec.lua. */
#ifndef PG_IO_NPY_H
#define PG_IO_NPY_H

#include "io/source.h"
#include "tensor/tensor.h"

#define PG_NPY_HEADER 256 /* room for the longest header that we write */

/* Reads an array that fills s from its start to its end. *out is owned by the caller. Fortran order
 * and big-endian elements come out contiguous and native. */
pg_status pg_npy_read(pg_source *s, pg_tensor **out);
/* The header for t, padded to a multiple of 64; returns its length. bfloat16, which numpy lacks,
 * must have been converted. */
size_t pg_npy_header(const pg_tensor *t, char header[PG_NPY_HEADER]);
/* What of t a .npy can hold, contiguous: t itself, or float32 for bfloat16. Owned by the caller. */
pg_status pg_npy_writable(pg_ctx *ctx, pg_tensor *t, pg_tensor **out);

#endif
