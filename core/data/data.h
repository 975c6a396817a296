/* What a data loader computes: the order of an epoch and the rows of a batch. Nothing here is
 * recorded for gradients. Relies on tensor and base/par.
 * Spec: spec/data/loader_spec.lua. */
#ifndef PG_DATA_DATA_H
#define PG_DATA_DATA_H

#include "tensor/tensor.h"

/* first, first + 1 .. last as int64; empty where last is first - 1. *out is owned by the caller. */
pg_status pg_range(pg_ctx *ctx, int64_t first, int64_t last, pg_tensor **out);
/* 1 .. n as int64, shuffled with what r gives (Fisher-Yates). */
pg_status pg_permutation(pg_ctx *ctx, int64_t n, pg_rng *r, pg_tensor **out);
/* A stream for one epoch, a function of both numbers only and far from every other one. */
pg_rng pg_epoch_rng(uint64_t seed, uint64_t epoch);
/* Row i of out = row index[i] of t (n x ..., contiguous); index: m, int64, counts from 1. unit: t
 * is uint8 and 0 .. 255 becomes float32 0 .. 1. */
pg_status pg_rows(pg_ctx *ctx, const pg_tensor *t, const pg_tensor *index, bool unit,
                  pg_tensor **out);

#endif
