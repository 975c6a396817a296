/* Element types as files hold them, and their way into tensors: what Perigee has no dtype for is
 * widened (int8 .. uint64 to int64, float16 to float32). Relies on tensor and source.
 * Spec: spec/io/files_spec.lua. */
#ifndef PG_IO_WIRE_H
#define PG_IO_WIRE_H

#include "io/source.h"
#include "tensor/tensor.h"

/* X(code, bytes, dtype of the tensor) */
#define PG_WIRE_LIST(X) \
  X(BOOL, 1, PG_BOOL)   \
  X(U8, 1, PG_U8)       \
  X(I8, 1, PG_I64)      \
  X(U16, 2, PG_I64)     \
  X(I16, 2, PG_I64)     \
  X(U32, 4, PG_I64)     \
  X(I32, 4, PG_I64)     \
  X(U64, 8, PG_I64)     \
  X(I64, 8, PG_I64)     \
  X(F16, 2, PG_F32)     \
  X(BF16, 2, PG_BF16)   \
  X(F32, 4, PG_F32)     \
  X(F64, 8, PG_F64)

#define X(code, bytes, dtype) PG_WIRE_##code,
typedef enum pg_wire { PG_WIRE_LIST(X) PG_NWIRES } pg_wire;
#undef X

size_t pg_wire_size(pg_wire w);
pg_dtype pg_wire_dtype(pg_wire w); /* of the tensor that holds it */
pg_wire pg_wire_of(pg_dtype d);    /* how a tensor is written */

/* *bytes on disk of a tensor whose shape a header claims. PG_EFORMAT, opened by name, where a size
 * is negative or a product does not fit, in the file or in memory. */
pg_status pg_wire_bytes(pg_ctx *ctx, const char *name, pg_wire w, int nd, const int64_t *shape,
                        int64_t *bytes);
/* Fills t (contiguous, of pg_wire_dtype(w)) from s. big: the file's order is big-endian. */
pg_status pg_wire_read(pg_source *s, pg_wire w, bool big, pg_tensor *t);

#endif
