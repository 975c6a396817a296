/* Lookup over the tables that CMake lists in registry.c from the file names of ops/, nn/layers/ and
 * optim/rules/. */
#ifndef PG_AUTOGRAD_REGISTRY_H
#define PG_AUTOGRAD_REGISTRY_H

#include "autograd/op.h"

/* Every op table of a level, NULL-ended; defined in the generated registry.c. */
const pg_op *const *pg_op_tables(pg_level level);
/* Like pg_op_find, and "add_" finds add to be run in place. */
const pg_op *pg_op_find_inplace(const pg_ctx *ctx, const char *name, bool *inplace);
/* Ops in table order; NULL past the end. */
const pg_op *pg_op_at(const pg_ctx *ctx, int i);
/* i-th name of op ("mul|multiply") copied to buf; false past the last. */
bool pg_op_name(const pg_op *op, int i, char *buf, size_t n);

#endif
