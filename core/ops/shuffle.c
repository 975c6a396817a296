/* Channels as pixels and in another order: pixel_shuffle, pixel_unshuffle, channel_shuffle.
 * Relies on composed.h. Spec: spec/ops/shuffle_spec.lua. */
#include <string.h>

#include "ops/composed.h"

static pg_status check_factor(pg_call *c, int least) {
  const pg_tensor *x = c->in[0];
  if (x->nd < least || x->nd > 6)
    return pg_fail(c->ctx, PG_ESHAPE, "argument 'input': expected %d dims or more, got %s", least,
                   pg_shape_str(x).s);
  if (c->arg[0].i >= 1 && c->arg[0].i < INT16_MAX) return PG_OK;
  return pg_fail(c->ctx, PG_EARG, "argument '%s': expected at least 1, got %lld", pg_arg_name(c, 0),
                 (long long)c->arg[0].i);
}

static pg_status check_divides(pg_call *c, int dim, int64_t by) {
  if (c->in[0]->shape[dim] % by == 0) return PG_OK;
  return pg_fail(c->ctx, PG_ESHAPE,
                 "argument 'input': expected a multiple of %lld in dim %d, got %s", (long long)by,
                 dim + 1, pg_shape_str(c->in[0]).s);
}

static pg_status check_shuffle(pg_call *c) {
  PG_TRY(check_factor(c, 3));
  return check_divides(c, c->in[0]->nd - 3, c->arg[0].i * c->arg[0].i);
}

static pg_status check_unshuffle(pg_call *c) {
  PG_TRY(check_factor(c, 3));
  PG_TRY(check_divides(c, c->in[0]->nd - 2, c->arg[0].i));
  return check_divides(c, c->in[0]->nd - 1, c->arg[0].i);
}

static pg_status check_channels(pg_call *c) {
  PG_TRY(check_factor(c, 3));
  return check_divides(c, 1, c->arg[0].i);
}

/* Views x as `split`, permutes the last n dims by `order` (from 1 within those), views as `joined`;
 * the dims before the last n stay. */
static pg_status rearrange(pg_call *c, int lead, const int64_t *split, int n, const int64_t *order,
                           int njoined, const int64_t *joined) {
  pg_chain k = {.ctx = c->ctx};
  int64_t shape[PG_MAX_DIMS], turn[PG_MAX_DIMS], final[PG_MAX_DIMS];
  memcpy(shape, c->in[0]->shape, sizeof *shape * (size_t)lead);
  memcpy(final, shape, sizeof *shape * (size_t)lead);
  memcpy(shape + lead, split, sizeof *shape * (size_t)n);
  memcpy(final + lead, joined, sizeof *shape * (size_t)njoined);
  for (int i = 0; i < lead; i++) turn[i] = i + 1;
  for (int i = 0; i < n; i++) turn[lead + i] = lead + order[i];
  pg_tensor *t = PG_STEP(&k, "reshape", "tl", c->in[0], lead + n, shape);
  t = PG_STEP(&k, "permute", "tl", t, lead + n, turn);
  t = PG_STEP(&k, "reshape", "tl", t, lead + njoined, final);
  return pg_chain_result(&k, t, &c->out[0]);
}

static pg_status run_shuffle(pg_call *c) {
  const pg_tensor *x = c->in[0];
  const int64_t *s = x->shape + x->nd - 3, r = c->arg[0].i, channels = s[0] / (r * r);
  return rearrange(c, x->nd - 3, (int64_t[]){channels, r, r, s[1], s[2]}, 5,
                   (int64_t[]){1, 4, 2, 5, 3}, 3, (int64_t[]){channels, s[1] * r, s[2] * r});
}

static pg_status run_unshuffle(pg_call *c) {
  const pg_tensor *x = c->in[0];
  const int64_t *s = x->shape + x->nd - 3, r = c->arg[0].i, h = s[1] / r, w = s[2] / r;
  return rearrange(c, x->nd - 3, (int64_t[]){s[0], h, r, w, r}, 5, (int64_t[]){1, 3, 5, 2, 4}, 3,
                   (int64_t[]){s[0] * r * r, h, w});
}

static pg_status run_channels(pg_call *c) {
  const pg_tensor *x = c->in[0];
  int64_t rest = 1, g = c->arg[0].i, channels = x->shape[1];
  pg_chain k = {.ctx = c->ctx};
  for (int i = 2; i < x->nd; i++) rest *= x->shape[i];
  pg_tensor *t =
      PG_STEP(&k, "reshape", "tl", c->in[0], 4, (int64_t[]){x->shape[0], g, channels / g, rest});
  t = PG_STEP(&k, "permute", "tl", t, 4, (int64_t[]){1, 3, 2, 4});
  t = PG_STEP(&k, "reshape", "tl", t, x->nd, x->shape);
  return pg_chain_result(&k, t, &c->out[0]);
}

const pg_op PG_AT(pg_ops_shuffle)[] = {
    PG_COMPOSED_OP("pixel_shuffle", "[.. x C r^2 x H x W] as [.. x C x H r x W r].", PG_NN,
                   check_shuffle, run_shuffle, PG_T("input"), PG_REQ("upscale_factor", PG_INT)),
    PG_COMPOSED_OP("pixel_unshuffle", "[.. x C x H r x W r] as [.. x C r^2 x H x W].", PG_NN,
                   check_unshuffle, run_unshuffle, PG_T("input"),
                   PG_REQ("downscale_factor", PG_INT)),
    PG_COMPOSED_OP("channel_shuffle",
                   "Channels of N x C x .. in groups, taken from each group in turn.", PG_NN,
                   check_channels, run_channels, PG_T("input"), PG_REQ("groups", PG_INT)),
    {0}};
