/* Convolutions through oneDNN, API v2 (Debian 12) and v3 behind one face, loaded at first use: the
 * library costs start-up time and memory that scripts without convolutions need not pay.
 * Relies on onednn.h; allocates primitives and one scratch block. Spec: spec/kernels/conv_spec.lua.
 */
#include "kernels/onednn.h"

#include <stddef.h>

#if defined(PG_DNNL_SONAME)
#include <dlfcn.h>
#include <dnnl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define V3 (DNNL_VERSION_MAJOR >= 3)

#define COMMON_FUNCTIONS(X)                  \
  X(dnnl_engine_create)                      \
  X(dnnl_engine_destroy)                     \
  X(dnnl_stream_create)                      \
  X(dnnl_stream_destroy)                     \
  X(dnnl_stream_wait)                        \
  X(dnnl_version)                            \
  X(dnnl_primitive_attr_create)              \
  X(dnnl_primitive_attr_destroy)             \
  X(dnnl_primitive_attr_set_scratchpad_mode) \
  X(dnnl_primitive_desc_query_md)            \
  X(dnnl_primitive_desc_destroy)             \
  X(dnnl_primitive_create)                   \
  X(dnnl_primitive_execute)                  \
  X(dnnl_primitive_destroy)                  \
  X(dnnl_reorder_primitive_desc_create)      \
  X(dnnl_memory_create)                      \
  X(dnnl_memory_destroy)                     \
  X(dnnl_memory_set_data_handle)             \
  X(dnnl_memory_desc_get_size)               \
  X(dnnl_memory_desc_equal)
#if V3
#define FUNCTIONS(X)                                      \
  COMMON_FUNCTIONS(X)                                     \
  X(dnnl_memory_desc_create_with_tag)                     \
  X(dnnl_memory_desc_create_with_strides)                 \
  X(dnnl_matmul_primitive_desc_create)                    \
  X(dnnl_memory_desc_destroy)                             \
  X(dnnl_convolution_forward_primitive_desc_create)       \
  X(dnnl_convolution_backward_data_primitive_desc_create) \
  X(dnnl_convolution_backward_weights_primitive_desc_create)
typedef dnnl_memory_desc_t md;        /* ours: an owned handle */
typedef const_dnnl_memory_desc_t cmd; /* the library's, borrowed */
#define MD(m) (m)
#else
#define FUNCTIONS(X)                                     \
  COMMON_FUNCTIONS(X)                                    \
  X(dnnl_memory_desc_init_by_tag)                        \
  X(dnnl_memory_desc_init_by_strides)                    \
  X(dnnl_matmul_desc_init)                               \
  X(dnnl_dilated_convolution_forward_desc_init)          \
  X(dnnl_dilated_convolution_backward_data_desc_init)    \
  X(dnnl_dilated_convolution_backward_weights_desc_init) \
  X(dnnl_primitive_desc_create)
typedef dnnl_memory_desc_t md;         /* ours: a value */
typedef const dnnl_memory_desc_t *cmd; /* the library's, borrowed */
#define MD(m) (&(m))
#endif

typedef struct library {
  void *handle;
#define X(name) __typeof__(&name) name;
  FUNCTIONS(X)
#undef X
} library;

typedef enum direction { FORWARD, BACKWARD_DATA, BACKWARD_WEIGHT } direction;

enum { SRC, WEIGHT, BIAS, DST, NMEM };

/* One primitive for one shape. The weight lies in the layout that the primitive likes best,
 * `inner`; the user's is `mem[WEIGHT]`, and `reorder` goes from one to the other (none where they
 * are the same). status: why there is no primitive. */
typedef struct entry {
  struct entry *next;
  pgk_conv shape;
  direction dir;
  bool bias;
  dnnl_status_t status;
  dnnl_primitive_t primitive, reorder;
  dnnl_memory_t mem[NMEM], inner, scratch, reorder_scratch;
  size_t inner_bytes, scratch_bytes, reorder_scratch_bytes;
} entry;

enum { A, B, C, NPRODUCT };

/* One primitive for one product; the bias comes last in mem. */
typedef struct product_entry {
  struct product_entry *next;
  pgk_half_product shape;
  bool bias;
  dnnl_status_t status;
  dnnl_primitive_t primitive;
  dnnl_memory_t mem[NPRODUCT + 1], scratch;
  size_t scratch_bytes;
} product_entry;

/* Memory that a primitive needs while it runs. */
typedef struct block {
  void *data;
  size_t bytes;
} block;

enum { BUCKETS = 256, MOST_ENTRIES = 1024 };

struct pgk_dnn {
  library lib;
  dnnl_engine_t engine;
  dnnl_stream_t stream;
  dnnl_primitive_attr_t attr;
  entry *bucket[BUCKETS];
  product_entry *product[BUCKETS];
  int entries, products;
  block scratch, inner;
  char version[48];
};

static bool load(library *l) {
  l->handle = dlopen(PG_DNNL_SONAME, RTLD_LAZY | RTLD_LOCAL | RTLD_NODELETE);
  if (!l->handle) return false;
  bool all = true;
  void *found;
#define X(name)                           \
  found = dlsym(l->handle, #name);        \
  memcpy(&l->name, &found, sizeof found); \
  all = all && found;
  FUNCTIONS(X)
#undef X
  if (!all) dlclose(l->handle);
  return all;
}

pgk_dnn *pgk_dnn_new(void) {
  pgk_dnn *d = calloc(1, sizeof *d);
  if (!d) return NULL;
  if (!load(&d->lib)) {
    free(d);
    return NULL;
  }
  library *l = &d->lib;
  if (l->dnnl_engine_create(&d->engine, dnnl_cpu, 0) != dnnl_success ||
      l->dnnl_stream_create(&d->stream, d->engine, dnnl_stream_default_flags) != dnnl_success ||
      l->dnnl_primitive_attr_create(&d->attr) != dnnl_success ||
      l->dnnl_primitive_attr_set_scratchpad_mode(d->attr, dnnl_scratchpad_mode_user) !=
          dnnl_success) {
    pgk_dnn_free(d);
    return NULL;
  }
  const dnnl_version_t *v = l->dnnl_version();
  snprintf(d->version, sizeof d->version, "oneDNN %d.%d.%d", v->major, v->minor, v->patch);
  return d;
}

static void entry_free(pgk_dnn *d, entry *e) {
  library *l = &d->lib;
  if (e->primitive) l->dnnl_primitive_destroy(e->primitive);
  if (e->reorder) l->dnnl_primitive_destroy(e->reorder);
  for (int i = 0; i < NMEM; i++)
    if (e->mem[i]) l->dnnl_memory_destroy(e->mem[i]);
  if (e->inner) l->dnnl_memory_destroy(e->inner);
  if (e->scratch) l->dnnl_memory_destroy(e->scratch);
  if (e->reorder_scratch) l->dnnl_memory_destroy(e->reorder_scratch);
  free(e);
}

static void entries_free(pgk_dnn *d) {
  for (int i = 0; i < BUCKETS; i++)
    while (d->bucket[i]) {
      entry *next = d->bucket[i]->next;
      entry_free(d, d->bucket[i]);
      d->bucket[i] = next;
    }
  d->entries = 0;
}

static void product_free(pgk_dnn *d, product_entry *e) {
  library *l = &d->lib;
  if (e->primitive) l->dnnl_primitive_destroy(e->primitive);
  for (int i = 0; i <= NPRODUCT; i++)
    if (e->mem[i]) l->dnnl_memory_destroy(e->mem[i]);
  if (e->scratch) l->dnnl_memory_destroy(e->scratch);
  free(e);
}

static void products_free(pgk_dnn *d) {
  for (int i = 0; i < BUCKETS; i++)
    while (d->product[i]) {
      product_entry *next = d->product[i]->next;
      product_free(d, d->product[i]);
      d->product[i] = next;
    }
  d->products = 0;
}

void pgk_dnn_free(pgk_dnn *d) {
  if (!d) return;
  entries_free(d);
  products_free(d);
  if (d->attr) d->lib.dnnl_primitive_attr_destroy(d->attr);
  if (d->stream) d->lib.dnnl_stream_destroy(d->stream);
  if (d->engine) d->lib.dnnl_engine_destroy(d->engine);
  free(d->scratch.data);
  free(d->inner.data);
  free(d);
}

const char *pgk_dnn_version(const pgk_dnn *d) { return d->version; }

/* --- descriptors ------------------------------------------------------------------------------ */

static dnnl_status_t md_make(library *l, md *m, int nd, const int64_t *dims, dnnl_data_type_t type,
                             dnnl_format_tag_t tag) {
  dnnl_dims_t d = {0};
  for (int i = 0; i < nd; i++) d[i] = dims[i];
#if V3
  return l->dnnl_memory_desc_create_with_tag(m, nd, d, type, tag);
#else
  return l->dnnl_memory_desc_init_by_tag(m, nd, d, type, tag);
#endif
}

static void md_drop(library *l, md *m) {
#if V3
  if (*m) l->dnnl_memory_desc_destroy(*m);
#else
  (void)l;
  (void)m;
#endif
}

/* The descriptors of one convolution: the user's, and the weight in whatever layout the primitive
 * likes. */
typedef struct descriptors {
  md mem[NMEM], any_weight, hint_weight; /* hint_weight: that of the forward pass */
  bool bias;
} descriptors;

static bool is_deep(const pgk_conv *s) {
  return s->in[0] != 1 || s->kernel[0] != 1 || s->out[0] != 1 || s->before[0] || s->after[0];
}

static dnnl_status_t describe(library *l, const pgk_conv *s, direction dir, bool bias,
                              descriptors *d) {
  dnnl_data_type_t type = s->bf16 ? dnnl_bf16 : dnnl_f32;
  dnnl_data_type_t weight_type = dir == BACKWARD_WEIGHT ? dnnl_f32 : type;
  const bool deep = is_deep(s), grouped = s->groups > 1;
  const int nd = deep ? 5 : 4, skip = 5 - nd;
  int64_t src[5] = {0}, dst[5] = {0};
  int64_t weight[6] = {s->groups, s->oc / s->groups, s->ic / s->groups};
  src[0] = dst[0] = s->n;
  src[1] = s->ic;
  dst[1] = s->oc;
  for (int i = skip; i < 3; i++) {
    src[2 + i - skip] = s->in[i];
    dst[2 + i - skip] = s->out[i];
    weight[3 + i - skip] = s->kernel[i];
  }
  const dnnl_format_tag_t image = deep ? dnnl_ndhwc : dnnl_nhwc;
  const dnnl_format_tag_t plain =
      deep ? (grouped ? dnnl_goidhw : dnnl_oidhw) : (grouped ? dnnl_goihw : dnnl_oihw);
  const int64_t *w = grouped ? weight : weight + 1;
  const int nw = grouped ? nd + 1 : nd;
  memset(d, 0, sizeof *d);
  d->bias = bias;
  dnnl_status_t r = md_make(l, &d->mem[SRC], nd, src, type, image);
  if (r == dnnl_success) r = md_make(l, &d->mem[DST], nd, dst, type, image);
  if (r == dnnl_success) r = md_make(l, &d->mem[WEIGHT], nw, w, weight_type, plain);
  if (r == dnnl_success) r = md_make(l, &d->any_weight, nw, w, weight_type, dnnl_format_tag_any);
  if (r == dnnl_success) r = md_make(l, &d->hint_weight, nw, w, type, dnnl_format_tag_any);
  if (r == dnnl_success && bias) r = md_make(l, &d->mem[BIAS], 1, &s->oc, dnnl_f32, dnnl_a);
  return r;
}

static void descriptors_drop(library *l, descriptors *d) {
  for (int i = 0; i < NMEM; i++) md_drop(l, &d->mem[i]);
  md_drop(l, &d->any_weight);
  md_drop(l, &d->hint_weight);
}

static dnnl_status_t primitive_desc(pgk_dnn *p, const pgk_conv *s, direction dir, descriptors *d,
                                    dnnl_primitive_desc_t *out) {
  library *l = &p->lib;
  dnnl_dims_t stride = {0}, dilation = {0}, before = {0}, after = {0};
  for (int i = is_deep(s) ? 0 : 1, at = 0; i < 3; i++, at++) {
    stride[at] = s->stride[i];
    dilation[at] = s->dilation[i] - 1;
    before[at] = s->before[i];
    after[at] = s->after[i];
  }
  dnnl_alg_kind_t direct = dnnl_convolution_direct;
#if V3
  cmd bias = d->bias ? d->mem[BIAS] : NULL;
  if (dir == FORWARD)
    return l->dnnl_convolution_forward_primitive_desc_create(
        out, p->engine, dnnl_forward_training, direct, d->mem[SRC], d->any_weight, bias,
        d->mem[DST], stride, dilation, before, after, p->attr);
  dnnl_primitive_desc_t hint;
  dnnl_status_t r = l->dnnl_convolution_forward_primitive_desc_create(
      &hint, p->engine, dnnl_forward_training, direct, d->mem[SRC], d->hint_weight, bias,
      d->mem[DST], stride, dilation, before, after, p->attr);
  if (r != dnnl_success) return r;
  r = dir == BACKWARD_DATA ? l->dnnl_convolution_backward_data_primitive_desc_create(
                                 out, p->engine, direct, d->mem[SRC], d->any_weight, d->mem[DST],
                                 stride, dilation, before, after, hint, p->attr)
                           : l->dnnl_convolution_backward_weights_primitive_desc_create(
                                 out, p->engine, direct, d->mem[SRC], d->any_weight, bias,
                                 d->mem[DST], stride, dilation, before, after, hint, p->attr);
  l->dnnl_primitive_desc_destroy(hint);
  return r;
#else
  const dnnl_memory_desc_t *bias = d->bias ? &d->mem[BIAS] : NULL;
  dnnl_convolution_desc_t forward, c;
  dnnl_status_t r = l->dnnl_dilated_convolution_forward_desc_init(
      &forward, dnnl_forward_training, direct, &d->mem[SRC], &d->hint_weight, bias, &d->mem[DST],
      stride, dilation, before, after);
  if (r != dnnl_success) return r;
  dnnl_primitive_desc_t hint = NULL;
  if (dir == FORWARD) return l->dnnl_primitive_desc_create(out, &forward, p->attr, p->engine, NULL);
  r = l->dnnl_primitive_desc_create(&hint, &forward, p->attr, p->engine, NULL);
  if (r != dnnl_success) return r;
  r = dir == BACKWARD_DATA
          ? l->dnnl_dilated_convolution_backward_data_desc_init(&c, direct, &d->mem[SRC],
                                                                &d->any_weight, &d->mem[DST],
                                                                stride, dilation, before, after)
          : l->dnnl_dilated_convolution_backward_weights_desc_init(
                &c, direct, &d->mem[SRC], &d->any_weight, bias, &d->mem[DST], stride, dilation,
                before, after);
  if (r == dnnl_success) r = l->dnnl_primitive_desc_create(out, &c, p->attr, p->engine, hint);
  l->dnnl_primitive_desc_destroy(hint);
  return r;
#endif
}

/* Makes a primitive of pd with the scratch memory it wants; takes pd. */
static dnnl_status_t finish(pgk_dnn *p, dnnl_primitive_desc_t pd, dnnl_primitive_t *primitive,
                            dnnl_memory_t *scratch, size_t *bytes) {
  library *l = &p->lib;
  cmd want = l->dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0);
  *bytes = want ? l->dnnl_memory_desc_get_size(want) : 0;
  dnnl_status_t r = dnnl_success;
  if (*bytes) r = l->dnnl_memory_create(scratch, want, p->engine, DNNL_MEMORY_NONE);
  if (r == dnnl_success) r = l->dnnl_primitive_create(primitive, pd);
  l->dnnl_primitive_desc_destroy(pd);
  return r;
}

/* The weight's private layout and the reorder between it and the user's. */
static dnnl_status_t make_inner(pgk_dnn *p, entry *e, cmd inner, cmd user) {
  library *l = &p->lib;
  if (l->dnnl_memory_desc_equal(inner, user)) return dnnl_success;
  e->inner_bytes = l->dnnl_memory_desc_get_size(inner);
  dnnl_status_t r = l->dnnl_memory_create(&e->inner, inner, p->engine, DNNL_MEMORY_NONE);
  if (r != dnnl_success) return r;
  dnnl_primitive_desc_t pd;
  bool out = e->dir == BACKWARD_WEIGHT;
  r = l->dnnl_reorder_primitive_desc_create(&pd, out ? inner : user, p->engine, out ? user : inner,
                                            p->engine, p->attr);
  if (r != dnnl_success) return r;
  return finish(p, pd, &e->reorder, &e->reorder_scratch, &e->reorder_scratch_bytes);
}

/* Fills e, whose shape, dir and bias are set. */
static dnnl_status_t entry_make(pgk_dnn *p, entry *e) {
  library *l = &p->lib;
  const pgk_conv *s = &e->shape;
  const direction dir = e->dir;
  const bool bias = e->bias;
  descriptors d;
  dnnl_primitive_desc_t pd = NULL;
  dnnl_status_t r = describe(l, s, dir, bias, &d);
  if (r == dnnl_success) r = primitive_desc(p, s, dir, &d, &pd);
  if (r == dnnl_success) {
    cmd inner = l->dnnl_primitive_desc_query_md(
        pd, dir == BACKWARD_WEIGHT ? dnnl_query_diff_weights_md : dnnl_query_weights_md, 0);
    r = make_inner(p, e, inner, MD(d.mem[WEIGHT]));
    if (r != dnnl_success) l->dnnl_primitive_desc_destroy(pd);
  }
  if (r == dnnl_success) r = finish(p, pd, &e->primitive, &e->scratch, &e->scratch_bytes);
  for (int i = 0; i < NMEM && r == dnnl_success; i++)
    if (i != BIAS || bias)
      r = l->dnnl_memory_create(&e->mem[i], MD(d.mem[i]), p->engine, DNNL_MEMORY_NONE);
  descriptors_drop(l, &d);
  return r;
}

/* --- lookup and execution --------------------------------------------------------------------- */

static bool same_shape(const pgk_conv *a, const pgk_conv *b) {
  return memcmp(a, b, offsetof(pgk_conv, threads)) == 0 && a->threads == b->threads &&
         a->bf16 == b->bf16;
}

static dnnl_status_t find(pgk_dnn *p, const pgk_conv *s, direction dir, bool bias, entry **out) {
  uint64_t h = (uint64_t)dir * 2 + bias;
  const int64_t key[] = {s->n,         s->ic,        s->oc,        s->in[1],     s->in[2],
                         s->kernel[1], s->kernel[2], s->stride[2], s->before[2], s->threads};
  for (size_t i = 0; i < sizeof key / sizeof *key; i++)
    h = (h ^ (uint64_t)key[i]) * 0x9E3779B97F4A7C15u;
  entry **bucket = &p->bucket[h >> 56 & (BUCKETS - 1)];
  for (entry *e = *bucket; e; e = e->next)
    if (e->dir == dir && e->bias == bias && same_shape(&e->shape, s)) {
      *out = e;
      return e->status;
    }
  if (p->entries >= MOST_ENTRIES) entries_free(p);
  entry *e = calloc(1, sizeof *e);
  if (!e) return dnnl_out_of_memory;
  e->shape = *s;
  e->dir = dir;
  e->bias = bias;
  e->status = entry_make(p, e);
  if (e->status == dnnl_out_of_memory) {
    entry_free(p, e);
    return dnnl_out_of_memory;
  }
  e->next = *bucket;
  *bucket = *out = e;
  p->entries++;
  return e->status;
}

static dnnl_status_t want(block *b, size_t bytes) {
  if (bytes <= b->bytes) return dnnl_success;
  bytes = (bytes + 4095) & ~(size_t)4095;
  void *data = aligned_alloc(4096, bytes);
  if (!data) return dnnl_out_of_memory;
  free(b->data);
  b->data = data;
  b->bytes = bytes;
  return dnnl_success;
}

static dnnl_status_t run_reorder(pgk_dnn *p, entry *e) {
  library *l = &p->lib;
  bool out = e->dir == BACKWARD_WEIGHT;
  dnnl_exec_arg_t args[3] = {{DNNL_ARG_FROM, out ? e->inner : e->mem[WEIGHT]},
                             {DNNL_ARG_TO, out ? e->mem[WEIGHT] : e->inner}};
  int n = 2;
  if (e->reorder_scratch) {
    dnnl_status_t r = want(&p->scratch, e->reorder_scratch_bytes);
    if (r != dnnl_success) return r;
    l->dnnl_memory_set_data_handle(e->reorder_scratch, p->scratch.data);
    args[n++] = (dnnl_exec_arg_t){DNNL_ARG_SCRATCHPAD, e->reorder_scratch};
  }
  return l->dnnl_primitive_execute(e->reorder, p->stream, n, args);
}

/* data[SRC], [WEIGHT], [BIAS] (may be NULL), [DST] in the direction's roles. */
static int execute(pgk_dnn *p, const pgk_conv *s, direction dir, void *const *data) {
  library *l = &p->lib;
  entry *e;
  dnnl_status_t r = find(p, s, dir, data[BIAS] != NULL, &e);
  if (r != dnnl_success) return (int)r;
  r = want(&p->scratch, e->scratch_bytes);
  if (r == dnnl_success) r = want(&p->inner, e->inner_bytes);
  if (r != dnnl_success) return (int)r;
  if (e->inner) l->dnnl_memory_set_data_handle(e->inner, p->inner.data);
  for (int i = 0; i < NMEM; i++)
    if (e->mem[i]) l->dnnl_memory_set_data_handle(e->mem[i], data[i]);
  if (e->reorder && dir != BACKWARD_WEIGHT && (r = run_reorder(p, e)) != dnnl_success)
    return (int)r;
  static const int roles[3][NMEM] = {
      {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_BIAS, DNNL_ARG_DST},
      {DNNL_ARG_DIFF_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_BIAS, DNNL_ARG_DIFF_DST},
      {DNNL_ARG_SRC, DNNL_ARG_DIFF_WEIGHTS, DNNL_ARG_DIFF_BIAS, DNNL_ARG_DIFF_DST}};
  dnnl_exec_arg_t args[NMEM + 1];
  int n = 0;
  for (int i = 0; i < NMEM; i++) {
    dnnl_memory_t m = i == WEIGHT && e->inner ? e->inner : e->mem[i];
    if (m) args[n++] = (dnnl_exec_arg_t){roles[dir][i], m};
  }
  if (e->scratch) {
    l->dnnl_memory_set_data_handle(e->scratch, p->scratch.data);
    args[n++] = (dnnl_exec_arg_t){DNNL_ARG_SCRATCHPAD, e->scratch};
  }
  r = l->dnnl_primitive_execute(e->primitive, p->stream, n, args);
  if (r == dnnl_success && e->reorder && dir == BACKWARD_WEIGHT) r = run_reorder(p, e);
  if (r == dnnl_success) r = l->dnnl_stream_wait(p->stream);
  return (int)r;
}

int pgk_dnn_conv_forward(pgk_dnn *d, const pgk_conv *s, const void *x, const void *weight,
                         const float *bias, void *y) {
  void *const data[NMEM] = {(void *)x, (void *)weight, (void *)bias, y};
  return execute(d, s, FORWARD, data);
}

int pgk_dnn_conv_backward_data(pgk_dnn *d, const pgk_conv *s, const void *gy, const void *weight,
                               void *gx) {
  void *const data[NMEM] = {gx, (void *)weight, NULL, (void *)gy};
  return execute(d, s, BACKWARD_DATA, data);
}

int pgk_dnn_conv_backward_weight(pgk_dnn *d, const pgk_conv *s, const void *x, const void *gy,
                                 void *gweight, float *gbias) {
  void *const data[NMEM] = {(void *)x, gweight, gbias, (void *)gy};
  return execute(d, s, BACKWARD_WEIGHT, data);
}

/* --- products of matrices --------------------------------------------------------------------- */

static dnnl_status_t md_strided(library *l, md *m, const pgk_half_product *p, const int64_t *size,
                                const int64_t *stride, dnnl_data_type_t type) {
  dnnl_dims_t d = {0}, s = {0};
  for (int i = 0; i < p->nd; i++) {
    d[i] = size[i];
    s[i] = stride[i];
  }
#if V3
  return l->dnnl_memory_desc_create_with_strides(m, (int)p->nd, d, type, s);
#else
  return l->dnnl_memory_desc_init_by_strides(m, (int)p->nd, d, type, s);
#endif
}

static dnnl_status_t product_desc(pgk_dnn *d, md *m, bool bias, dnnl_primitive_desc_t *out) {
  library *l = &d->lib;
#if V3
  return l->dnnl_matmul_primitive_desc_create(out, d->engine, m[A], m[B], bias ? m[NPRODUCT] : NULL,
                                              m[C], d->attr);
#else
  dnnl_matmul_desc_t desc;
  dnnl_status_t r =
      l->dnnl_matmul_desc_init(&desc, &m[A], &m[B], bias ? &m[NPRODUCT] : NULL, &m[C]);
  if (r != dnnl_success) return r;
  return l->dnnl_primitive_desc_create(out, &desc, d->attr, d->engine, NULL);
#endif
}

/* Fills e, whose shape and bias are set. */
static dnnl_status_t product_make(pgk_dnn *d, product_entry *e) {
  library *l = &d->lib;
  const pgk_half_product *p = &e->shape;
  int64_t size[PGK_HALF_DIMS], stride[PGK_HALF_DIMS];
  for (int i = 0; i < PGK_HALF_DIMS; i++) size[i] = 1;
  size[p->nd - 1] = p->c[p->nd - 1];
  for (int i = 0; i < PGK_HALF_DIMS; i++) stride[i] = i < p->nd - 1 ? size[p->nd - 1] : 1;
  md m[NPRODUCT + 1];
  memset(m, 0, sizeof m);
  dnnl_primitive_desc_t pd = NULL;
  dnnl_status_t r = md_strided(l, &m[A], p, p->a, p->a_stride, dnnl_bf16);
  if (r == dnnl_success) r = md_strided(l, &m[B], p, p->b, p->b_stride, dnnl_bf16);
  if (r == dnnl_success)
    r = md_strided(l, &m[C], p, p->c, p->c_stride, p->wide ? dnnl_f32 : dnnl_bf16);
  if (r == dnnl_success && e->bias) r = md_strided(l, &m[NPRODUCT], p, size, stride, dnnl_f32);
  if (r == dnnl_success) r = product_desc(d, m, e->bias, &pd);
  if (r == dnnl_success) r = finish(d, pd, &e->primitive, &e->scratch, &e->scratch_bytes);
  for (int i = 0; i <= NPRODUCT && r == dnnl_success; i++)
    if (i < NPRODUCT || e->bias)
      r = l->dnnl_memory_create(&e->mem[i], MD(m[i]), d->engine, DNNL_MEMORY_NONE);
  for (int i = 0; i <= NPRODUCT; i++) md_drop(l, &m[i]);
  return r;
}

static dnnl_status_t product_find(pgk_dnn *d, const pgk_half_product *p, bool bias,
                                  product_entry **out) {
  uint64_t h = bias;
  const int64_t *key = (const int64_t *)p;
  for (size_t i = 0; i < sizeof *p / sizeof *key; i++)
    h = (h ^ (uint64_t)key[i]) * 0x9E3779B97F4A7C15u;
  product_entry **bucket = &d->product[h >> 56 & (BUCKETS - 1)];
  for (product_entry *e = *bucket; e; e = e->next)
    if (e->bias == bias && memcmp(&e->shape, p, sizeof *p) == 0) {
      *out = e;
      return e->status;
    }
  if (d->products >= MOST_ENTRIES) products_free(d);
  product_entry *e = calloc(1, sizeof *e);
  if (!e) return dnnl_out_of_memory;
  e->shape = *p;
  e->bias = bias;
  e->status = product_make(d, e);
  if (e->status == dnnl_out_of_memory) {
    product_free(d, e);
    return dnnl_out_of_memory;
  }
  e->next = *bucket;
  *bucket = *out = e;
  d->products++;
  return e->status;
}

int pgk_dnn_product(pgk_dnn *d, const pgk_half_product *p, const void *a, const void *b,
                    const float *bias, void *c) {
  library *l = &d->lib;
  product_entry *e;
  dnnl_status_t r = product_find(d, p, bias != NULL, &e);
  if (r == dnnl_success) r = want(&d->scratch, e->scratch_bytes);
  if (r != dnnl_success) return (int)r;
  static const int roles[NPRODUCT + 1] = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST,
                                          DNNL_ARG_BIAS};
  void *const data[NPRODUCT + 1] = {(void *)a, (void *)b, c, (void *)bias};
  dnnl_exec_arg_t args[NPRODUCT + 2];
  int n = 0;
  for (int i = 0; i <= NPRODUCT; i++) {
    if (!e->mem[i]) continue;
    l->dnnl_memory_set_data_handle(e->mem[i], data[i]);
    args[n++] = (dnnl_exec_arg_t){roles[i], e->mem[i]};
  }
  if (e->scratch) {
    l->dnnl_memory_set_data_handle(e->scratch, d->scratch.data);
    args[n++] = (dnnl_exec_arg_t){DNNL_ARG_SCRATCHPAD, e->scratch};
  }
  r = l->dnnl_primitive_execute(e->primitive, d->stream, n, args);
  if (r == dnnl_success) r = l->dnnl_stream_wait(d->stream);
  return (int)r;
}

#else

pgk_dnn *pgk_dnn_new(void) { return NULL; }
void pgk_dnn_free(pgk_dnn *d) { (void)d; }
const char *pgk_dnn_version(const pgk_dnn *d) { return d ? "" : "none"; }
int pgk_dnn_conv_forward(pgk_dnn *d, const pgk_conv *s, const void *x, const void *weight,
                         const float *bias, void *y) {
  (void)d, (void)s, (void)x, (void)weight, (void)bias, (void)y;
  return -1;
}
int pgk_dnn_conv_backward_data(pgk_dnn *d, const pgk_conv *s, const void *gy, const void *weight,
                               void *gx) {
  (void)d, (void)s, (void)gy, (void)weight, (void)gx;
  return -1;
}
int pgk_dnn_conv_backward_weight(pgk_dnn *d, const pgk_conv *s, const void *x, const void *gy,
                                 void *gweight, float *gbias) {
  (void)d, (void)s, (void)x, (void)gy, (void)gweight, (void)gbias;
  return -1;
}
int pgk_dnn_product(pgk_dnn *d, const pgk_half_product *p, const void *a, const void *b,
                    const float *bias, void *c) {
  (void)d, (void)p, (void)a, (void)b, (void)bias, (void)c;
  return -1;
}
#endif
