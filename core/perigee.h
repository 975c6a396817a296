/* The public header of libperigee: status codes, dtypes, opaque handles, and the calls an embedder
 * needs. Relies on nothing; every floor includes it. Structures live in the headers of their
 * floors. Indices and dims that reach an op count from 1 and may be negative (from the end); C
 * arrays count from 0. */
#ifndef PERIGEE_H
#define PERIGEE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PG_VERSION  "0.1.0"
#define PG_MAX_DIMS 8

#if defined(__GNUC__)
#define PG_PRINTF(a, b) __attribute__((format(printf, a, b)))
#else
#define PG_PRINTF(a, b)
#endif

/* X(code, meaning): the one list of what can go wrong. */
#define PG_STATUS_LIST(X)                  \
  X(OK, "ok")                              \
  X(ENOMEM, "out of memory")               \
  X(ESHAPE, "shapes do not fit")           \
  X(EDTYPE, "dtype not supported here")    \
  X(EINDEX, "index out of range")          \
  X(EARG, "bad argument")                  \
  X(ESTATE, "not possible in this state")  \
  X(EVALUE, "value not allowed")           \
  X(EIO, "file cannot be read or written") \
  X(EFORMAT, "file is malformed")          \
  X(EUNSUPPORTED, "not supported")

#define X(code, meaning) PG_##code,
typedef enum pg_status { PG_STATUS_LIST(X) PG_NSTATUS } pg_status;
#undef X

/* X(code, name, bytes) */
#define PG_DTYPE_LIST(X) \
  X(F32, "float32", 4)   \
  X(F64, "float64", 8)   \
  X(BF16, "bfloat16", 2) \
  X(I64, "int64", 8)     \
  X(U8, "uint8", 1)      \
  X(BOOL, "bool", 1)

#define X(code, name, bytes) PG_##code,
typedef enum pg_dtype { PG_DTYPE_LIST(X) PG_NDTYPES } pg_dtype;
#undef X

typedef struct pg_ctx pg_ctx;
typedef struct pg_tensor pg_tensor;
typedef struct pg_node pg_node;
typedef struct pg_op pg_op;
typedef struct pg_call pg_call;

/* --- context: owns memory, rng, threads, error text; one per thread of use ---------------------
 */
pg_status pg_ctx_new(pg_ctx **out);
void pg_ctx_free(pg_ctx *ctx); /* every tensor of ctx must be gone */
const char *pg_error(const pg_ctx *ctx);
const char *pg_status_text(pg_status s);
void pg_manual_seed(pg_ctx *ctx, uint64_t seed);
int pg_get_num_threads(const pg_ctx *ctx);
void pg_set_num_threads(pg_ctx *ctx, int n);
/* On: only algorithms that add in the plain order, even where a faster one is at hand whose results
 * differ in the last digits (fast convolution). Off at first. Results never depend on threads. */
bool pg_get_deterministic(const pg_ctx *ctx);
void pg_set_deterministic(pg_ctx *ctx, bool on);
const char *pg_isa(const pg_ctx *ctx);   /* "base", "v3" or "v4" */
size_t pg_bytes_live(const pg_ctx *ctx); /* held by tensors, nodes, layers: exact */
size_t pg_bytes_peak(const pg_ctx *ctx);

/* --- tensors ------------------------------------------------------------------------------------
 */
/* A contiguous tensor with undefined content; *out is owned by the caller. */
pg_status pg_tensor_new(pg_ctx *ctx, pg_dtype dtype, int nd, const int64_t *shape, pg_tensor **out);
pg_tensor *pg_tensor_ref(pg_tensor *t);
void pg_tensor_unref(pg_tensor *t); /* NULL is fine */
void *pg_tensor_data(const pg_tensor *t);
int pg_tensor_dim(const pg_tensor *t);
const int64_t *pg_tensor_shape(const pg_tensor *t);
const int64_t *pg_tensor_stride(const pg_tensor *t);
int64_t pg_tensor_numel(const pg_tensor *t);
pg_dtype pg_tensor_dtype(const pg_tensor *t);
pg_tensor *pg_tensor_grad(const pg_tensor *t); /* borrowed, NULL if none */
pg_status pg_tensor_requires_grad(pg_tensor *t, bool on);
const char *pg_dtype_name(pg_dtype d);
size_t pg_dtype_size(pg_dtype d);

/* --- ops ----------------------------------------------------------------------------------------
 */
const pg_op *pg_op_find(const pg_ctx *ctx, const char *name); /* NULL if there is none */
/* Runs an op with one output. fmt has a letter for each parameter in the descriptor's order:
 * t tensor (NULL = absent), f double, i int64_t, b int, s const char *, l int n + const int64_t *,
 * - default. *out is owned by the caller. A required tensor that is NULL (what should have made it
 * failed) gives PG_ESTATE and leaves the text of that failure.
 *   pg_do(ctx, &y, "sum", "tlb", x, 1, (int64_t[]){2}, 1) */
pg_status pg_do(pg_ctx *ctx, pg_tensor **out, const char *name, const char *fmt, ...);

/* --- gradients ----------------------------------------------------------------------------------
 */
/* d root / d leaves, added to leaf.grad. grad NULL means 1 and asks for a root of one element. */
pg_status pg_backward(pg_ctx *ctx, pg_tensor *root, pg_tensor *grad, bool retain_graph,
                      bool create_graph);

#endif
