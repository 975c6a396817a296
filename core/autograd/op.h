/* The op contract: a constant descriptor from which binding, gradients, help and meta-specs follow.
 * Relies on tensor. A family file in ops/ exports one table: const pg_op PG_AT(pg_ops_<file>)[],
 * ended by {0}. */
#ifndef PG_AUTOGRAD_OP_H
#define PG_AUTOGRAD_OP_H

#include "kernels/level.h"
#include "tensor/tensor.h"

#define PG_MAX_PARAM 14
#define PG_MAX_IN    8 /* tensor parameters of one op; a PG_TENSORS list may be longer */
#define PG_MAX_OUT   3
#define PG_MAX_KEEP  4
#define PG_MAX_INTS  40

/* Kinds of a parameter. Dims and indices stay 1-based, as the caller wrote them; infer converts
 * with pg_dim. */
typedef enum pg_kind {
  PG_END,
  PG_TENSOR,
  PG_TENSORS, /* a list of tensors; must be the op's only tensor parameter */
  PG_FLOAT,   /* arg.f */
  PG_INT,     /* arg.i */
  PG_FLAG,    /* true or false: arg.i */
  PG_ENUM, /* one word of `choices` ("none|mean|sum"): arg.i is its number from 0, arg.s the word */
  PG_DIM,  /* arg.i */
  PG_INTS, /* an integer or a list of them: arg.n, arg.v; or one of `choices`: arg.s */
  PG_SHAPE, /* like PG_INTS, and given loose too (x:view(2, -1)): takes all remaining positions */
  PG_DTYPE, /* arg.i, a pg_dtype */
  PG_STRING /* arg.s */
} pg_kind;

enum {                  /* flags of a parameter */
       PG_OPTIONAL = 1, /* may be absent: in[i] NULL / arg.set false. Without it and without a
                           default: required */
       PG_DEFAULT = 2,  /* `def` holds the default (for PG_INTS a one-element list; PG_ENUM the
                           number of the word) */
       PG_NOGRAD = 4,   /* no gradient flows to this tensor */
       PG_NUMBER = 8    /* a plain number is taken too, as a 0-dim tensor with is_number set; of a
                           PG_FLOAT: true and false are taken too, as 1 and 0 */
};

typedef struct pg_param {
  const char *name;
  unsigned char kind, flags;
  double def;
  const char *choices;
} pg_param;

/* Shorthands for descriptors. */
#define PG_T(n) \
  { n, PG_TENSOR, 0, 0, NULL }
#define PG_TN(n) \
  { n, PG_TENSOR, PG_NUMBER, 0, NULL } /* tensor or number */
#define PG_TOPT(n) \
  { n, PG_TENSOR, PG_OPTIONAL, 0, NULL }
#define PG_TIDX(n) \
  { n, PG_TENSOR, PG_NOGRAD, 0, NULL } /* indices, masks, targets */
#define PG_REQ(n, k) \
  { n, k, 0, 0, NULL }
#define PG_OPT(n, k) \
  { n, k, PG_OPTIONAL, 0, NULL }
#define PG_DEF(n, k, d) \
  { n, k, PG_DEFAULT, d, NULL }
#define PG_WORD(n, d, words) \
  { n, PG_ENUM, PG_DEFAULT, d, words }

typedef struct pg_arg {
  bool set;
  bool is_int;  /* PG_FLOAT: the caller's number was an integer */
  bool is_bool; /* PG_FLOAT with PG_NUMBER: it was true or false */
  short n;
  union {
    double f;
    int64_t i;
    const int64_t *v;
  };
  const char *s;
} pg_arg;

/* How an op that has no bfloat16 kernels runs on bfloat16 tensors: infer meets one, the caller
 * widens them all to float32, and rounds the results. */
typedef enum pg_widen {
  PG_WIDEN_NO,    /* a bfloat16 tensor that pg_want does not list is an error */
  PG_WIDEN_MAY,   /* .. makes pg_want ask for float32 */
  PG_WIDEN_ASKED, /* it did */
  PG_WIDEN_DONE   /* in[] is widened, results are rounded to bfloat16 */
} pg_widen;

/* What infer decides about an output. */
typedef struct pg_out {
  unsigned char dtype, nd;
  bool view;    /* shares in[0]'s storage with stride and offset */
  bool strided; /* stride is given (dense) */
  int64_t shape[PG_MAX_DIMS], stride[PG_MAX_DIMS], offset;
  int64_t numel;
} pg_out;

typedef struct pg_meta {
  unsigned char dtype, nd;
  int64_t shape[PG_MAX_DIMS];
} pg_meta;

/* One run of an op. Tensor parameters are in[0..nin), the others arg[0..), each in the descriptor's
 * order. forward: in, arg, out (allocated as infer said, content undefined) are there; views need
 * no forward. Where a shape depends on data, infer refuses PG_META and declares an empty out[j],
 * and forward puts a tensor of its own in its place. backward: in[i] is there where `saves` says
 * so, else NULL; meta[i] always; out likewise; gout[j] is NULL where no gradient came; the op fills
 * gin[i] (owned) where need[i], or leaves it NULL for zero. into[i], where it is there, is the
 * gradient that came for in[i] so far, in its shape, dense and seen by nobody else: an op may add
 * to it and give a ref of it as gin[i]. */
struct pg_call {
  pg_ctx *ctx;
  const pg_op *op;
  int nin, nout;
  const char *name; /* what the caller calls it, for messages; NULL: op's first name */
  bool inplace;     /* out[0] is in[0] */
  bool recording;   /* forward: a gradient will be asked for, keep[] is worth filling; backward:
                       create_graph */
  pg_tensor **in;
  pg_tensor **given; /* in[0..PG_MAX_IN) before casts: where the gradients go; NULL: like in */
  const pg_meta *meta;
  bool *need;
  pg_tensor **gin;
  pg_tensor *const *into; /* NULL: nothing is there */
  pg_tensor *out[PG_MAX_OUT], *gout[PG_MAX_OUT];
  pg_tensor *keep[PG_MAX_KEEP]; /* forward may leave owned tensors here for backward */
  const pg_op *then; /* runs in place on out[0] after forward, see pg_call_join; or NULL */
  bool joined;       /* forward has done it already */
  pg_out os[PG_MAX_OUT];
  pg_arg arg[PG_MAX_PARAM];
  unsigned char cast[PG_MAX_IN]; /* 1 + dtype that infer wants in[i] converted to before forward */
  unsigned char widen;           /* a pg_widen */
  void *user;                    /* backward of a function from outside: its pg_function */
  int nints;
  int64_t ints[PG_MAX_INTS]; /* room for lists; infer may add to it */
  pg_tensor *in_room[PG_MAX_IN];
};

enum {                 /* flags of an op */
       PG_METHOD = 1,  /* x:op() too */
       PG_NODIFF = 2,  /* has no gradient */
       PG_RANDOM = 4,  /* draws from ctx->rng */
       PG_INPLACE = 8, /* op_ exists: out[0] has in[0]'s shape, and elements may be read and written
                          in one walk */
       PG_HIDDEN = 16, /* for other ops' backward, not for scripts */
       PG_NN = 32,     /* lives in nn.functional, not in pg */
       PG_INPLACE_ONLY = 64, /* only op_ exists */
       PG_LINALG = 128,      /* lives in pg.linalg */
       PG_INIT = 256,        /* lives in nn.init */
       PG_COMPOSED = 512,    /* forward makes out[] from other ops, which are what is recorded, and
                                runs on shape-only tensors too; infer only checks; no backward */
       PG_LOWER = 1024,      /* under autocast float32 tensors are taken as bfloat16 */
       PG_FULL = 2048,       /* under autocast bfloat16 tensors are taken as float32 */
       PG_RELU = 4096,       /* is max(x, 0), whose gradient goes where the result is not <= 0 */
       PG_JOINS = 8192       /* does a relu in `then` itself: its backward gets the gradient of the
                                relu's result, which is out[0]; all others that of their own */
};

/* saves: what backward needs kept. */
#define PG_SAVE_IN(i)  (1u << (i))
#define PG_SAVE_OUT(j) (1u << (16 + (j)))

struct pg_op {
  const char *name; /* Lua name; further names after it, separated by '|' ("mul|multiply") */
  const char *doc;  /* one sentence with the formula */
  pg_param param[PG_MAX_PARAM];
  unsigned flags, saves;
  int nout;
  pg_status (*infer)(pg_call *c); /* every check, output shapes and dtypes; allocates nothing */
  pg_status (*forward[PG_DEVICES])(pg_call *c);
  pg_status (*backward)(pg_call *c);
};

/* --- for infer -----------------------------------------------------------------------------------
 */
/* Output j is contiguous with this shape. */
pg_status pg_out_shape(pg_call *c, int j, pg_dtype dtype, int nd, const int64_t *shape);
/* Output j has t's shape, and its memory order where t is dense. */
pg_status pg_out_like(pg_call *c, int j, pg_dtype dtype, const pg_tensor *t);
/* Output j has the broadcast shape of in[0..n), in the memory order of the inputs. */
pg_status pg_out_broadcast(pg_call *c, int j, pg_dtype dtype, int n);
/* Output j is a view of in[0]. offset counts elements from the start of the storage. */
pg_status pg_out_view(pg_call *c, int j, int nd, const int64_t *shape, const int64_t *stride,
                      int64_t offset);

enum { /* sets of dtypes */
       PG_M_FLOAT = 1 << PG_F32 | 1 << PG_F64 | 1 << PG_BF16,
       PG_M_REAL = 1 << PG_F32 | 1 << PG_F64, /* what most kernels have; bfloat16 by widening */
       PG_M_INT = 1 << PG_I64 | 1 << PG_U8,
       PG_M_NUM = PG_M_REAL | PG_M_INT,
       PG_M_LOOP = PG_M_FLOAT | PG_M_INT, /* what pg__map runs */
       PG_M_BOOL = 1 << PG_BOOL,
       PG_M_ANY = (1 << PG_NDTYPES) - 1
};
/* code with "argument 'other': expected <text>, got [4 x 2]", where tensor parameter i is what is
 * wrong: its dtype with PG_EDTYPE, its value where it came as a number, else its shape. */
pg_status pg_bad_in(pg_call *c, pg_status code, int i, const char *fmt, ...) PG_PRINTF(4, 5);
/* The same for argument k, with its value. */
pg_status pg_bad_arg(pg_call *c, pg_status code, int k, const char *fmt, ...) PG_PRINTF(4, 5);
/* "[* x 5]": nd dims of which only one has a size that matters. */
pg_str pg_shape_only(int nd, int dim, int64_t size);
/* Joins in[i]'s shape to the first *nd sizes, as broadcasting does; with names the tensor parameter
 * whose shape that is, or -1: any before i. PG_ESHAPE where it does not fit. */
pg_status pg_broadcast_in(pg_call *c, int i, int with, int *nd, int64_t *shape);
/* PG_ESHAPE unless in[i] broadcasts to this shape, that of `what`. */
pg_status pg_want_spread(pg_call *c, int i, const char *what, int nd, const int64_t *shape);
/* PG_EDTYPE unless in[i] is of the set: "argument 'weight': expected float32 or float64, got
 * int64". Where the set has float32 but not bfloat16, a bfloat16 tensor makes the op run on float32
 * copies, and infer is called again. */
pg_status pg_want(pg_call *c, int i, unsigned mask);
/* PG_ESHAPE unless in[i] has nd dims. */
pg_status pg_want_dim(pg_call *c, int i, int nd);
/* PG_EDTYPE unless in[i] has in[j]'s dtype. */
pg_status pg_want_same_dtype(pg_call *c, int i, int j);
/* Asks for in[i] in this dtype; its gradient comes back in its own. */
void pg_cast_in(pg_call *c, int i, pg_dtype dtype);
/* PG_EVALUE unless the number v fits elements of d: what uint8 holds, negative ones wrapped. */
pg_status pg_want_fit(pg_call *c, const char *name, double v, pg_dtype d);
/* PyTorch's promotion over in[0..n): category first, then dims, then numbers. */
pg_dtype pg_promote(const pg_call *c, int n);
/* Name of tensor parameter i / of argument k, for messages. */
const char *pg_in_name(const pg_call *c, int i);
const char *pg_arg_name(const pg_call *c, int k);
/* arg k as dim of a tensor with nd dims, 0-based. */
pg_status pg_arg_dim(pg_call *c, int k, int nd, int *dim);
/* arg k (PG_INTS of dims; absent or empty = all) as bit mask over nd dims. */
pg_status pg_arg_dims(pg_call *c, int k, int nd, unsigned *mask);
/* arg k (PG_INTS) as exactly n values; one value is repeated. least: smallest allowed. */
pg_status pg_arg_ints(pg_call *c, int k, int n, int64_t least, int64_t *v);

/* Adds the multiply-adds of a product to what core counts; once, at the end of infer. */
static inline void pg_count_macs(pg_call *c, int64_t n) { c->ctx->macs += n; }

/* --- for backward --------------------------------------------------------------------------------
 */
/* into[i] where it is of this dtype and contiguous, else NULL. */
static inline pg_tensor *pg_into(const pg_call *c, int i, int dtype) {
  pg_tensor *t = c->into ? c->into[i] : NULL;
  return t && t->dtype == dtype && pg_is_contiguous(t) ? t : NULL;
}
/* *out (owned) = the gradient of what the op itself gave, before `then`. */
pg_status pg_unjoin(pg_call *c, pg_tensor **out);
/* *out = g summed over the dims that broadcasting added, so that it has meta's shape; consumes
 * nothing. */
pg_status pg_sum_to(pg_ctx *ctx, pg_tensor *g, const pg_meta *m, pg_tensor **out);

#endif
