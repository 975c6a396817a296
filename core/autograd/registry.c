/* Op lookup by name. The index lies in ctx and is made at the first lookup. Relies on the generated
 * tables. Spec: spec/meta_spec.lua. */
#include "autograd/registry.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct op_index {
  size_t mask;
  struct {
    const char *name;
    size_t len;
    const pg_op *op;
  } slot[];
} op_index;

static size_t hash(const char *s, size_t n) {
  size_t h = 1469598103934665603u;
  for (size_t i = 0; i < n; i++) h = (h ^ (unsigned char)s[i]) * 1099511628211u;
  return h ^ h >> 29;
}

static op_index *index_make(pg_level level) {
  size_t names = 0, room = 64;
  const pg_op *const *tables = pg_op_tables(level);
  for (int i = 0; tables[i]; i++)
    for (const pg_op *op = tables[i]; op->name; op++)
      for (const char *s = op->name; s; s = strchr(s, '|') ? strchr(s, '|') + 1 : NULL) names++;
  while (room < names * 3) room *= 2;
  op_index *index = calloc(1, sizeof *index + room * sizeof index->slot[0]);
  if (!index) return NULL;
  index->mask = room - 1;
  for (int i = 0; tables[i]; i++)
    for (const pg_op *op = tables[i]; op->name; op++)
      for (const char *s = op->name; s; s = strchr(s, '|') ? strchr(s, '|') + 1 : NULL) {
        size_t n = strcspn(s, "|"), h = hash(s, n) & index->mask;
        while (index->slot[h].name) h = (h + 1) & index->mask;
        index->slot[h].name = s;
        index->slot[h].len = n;
        index->slot[h].op = op;
      }
  return index;
}

static const pg_op *lookup(const pg_ctx *const_ctx, const char *name, size_t n) {
  pg_ctx *ctx = (pg_ctx *)const_ctx;
  if (!ctx->slot[PG_SLOT_OPS]) {
    ctx->slot[PG_SLOT_OPS] = index_make(ctx->level);
    ctx->slot_free[PG_SLOT_OPS] = free;
  }
  const op_index *index = ctx->slot[PG_SLOT_OPS];
  if (!index) return NULL;
  for (size_t h = hash(name, n) & index->mask; index->slot[h].name; h = (h + 1) & index->mask)
    if (index->slot[h].len == n && memcmp(index->slot[h].name, name, n) == 0)
      return index->slot[h].op;
  return NULL;
}

const pg_op *pg_op_find(const pg_ctx *ctx, const char *name) {
  return lookup(ctx, name, strlen(name));
}

const pg_op *pg_op_find_inplace(const pg_ctx *ctx, const char *name, bool *inplace) {
  size_t n = strlen(name);
  const pg_op *op = lookup(ctx, name, n);
  *inplace = op && (op->flags & PG_INPLACE_ONLY);
  if (op || !n || name[n - 1] != '_') return op;
  op = lookup(ctx, name, n - 1);
  *inplace = true;
  return op && (op->flags & PG_INPLACE) ? op : NULL;
}

const pg_op *pg_op_at(const pg_ctx *ctx, int i) {
  const pg_op *const *tables = pg_op_tables(ctx->level);
  for (int k = 0; tables[k]; k++)
    for (const pg_op *op = tables[k]; op->name; op++)
      if (i-- == 0) return op;
  return NULL;
}

bool pg_op_name(const pg_op *op, int i, char *buf, size_t n) {
  const char *s = op->name;
  while (s && i-- > 0) s = strchr(s, '|') ? strchr(s, '|') + 1 : NULL;
  if (!s) return false;
  snprintf(buf, n, "%.*s", (int)strcspn(s, "|"), s);
  return true;
}
