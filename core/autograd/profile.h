/* Profiles: what every op, gradient and label did, as a list of events. ctx->profile is the one
 * that gathers; while there is none an op pays one branch. Relies on node.h. Spec:
 * spec/autograd/profile_spec.lua. */
#ifndef PG_AUTOGRAD_PROFILE_H
#define PG_AUTOGRAD_PROFILE_H

#include "autograd/node.h"

typedef enum pg_event_kind {
  PG_EVENT_OP,
  PG_EVENT_BACKWARD, /* of one op */
  PG_EVENT_ENGINE,   /* a whole backward pass */
  PG_EVENT_LAYER,
  PG_EVENT_LABEL,
  PG_EVENT_STEP, /* of an optimizer */
  PG_EVENT_ZERO_GRAD
} pg_event_kind;

/* Counts are the event's own: what the events inside it did is theirs. */
typedef struct pg_event {
  const char *name;   /* of the op, layer, label or rule; borrowed */
  const char *path;   /* of the layer it works for, "" outside of all; borrowed */
  const char *shapes; /* of the inputs; NULL: not asked for */
  pg_event_kind kind;
  int parent, forward;             /* the event around it, the op whose gradient it is; -1: none */
  int64_t start, time, inner_time; /* ns from the profile's start; inner_time: of events inside */
  int64_t macs, flops;             /* multiply-adds; flops counts two for each, and elements */
  int64_t bytes;                   /* of the tensors read and written */
  int64_t memory;                  /* bytes allocated and still there at the end */
  int64_t allocations;
} pg_event;

typedef struct pg_profile pg_profile;

/* Gathers from now on; PG_ESTATE where ctx gathers already. shapes: also those of the inputs. */
pg_status pg_profile_start(pg_ctx *ctx, bool shapes, pg_profile **out);
/* Ends what is open; the events stay. A second time does nothing. */
void pg_profile_stop(pg_profile *p);
void pg_profile_free(pg_profile *p);
int pg_profile_count(const pg_profile *p);
const pg_event *pg_profile_event(const pg_profile *p, int i);
/* Events that found no memory. */
int pg_profile_lost(const pg_profile *p);
/* *out = a copy of text that lives as long as p. */
pg_status pg_profile_text(pg_profile *p, const char *text, const char **out);

/* Opens an event inside the one that is open; path NULL: that one's. Returns its number, or -1
 * where there is no memory. */
int pg_profile_enter(pg_profile *p, pg_event_kind kind, const char *name, const char *path);
/* Closes the event and what is open inside it. -1 is fine. */
void pg_profile_leave(pg_profile *p, int event);
/* Adds to an event's own counts. -1 is fine. */
void pg_profile_add(pg_profile *p, int event, int64_t flops, int64_t bytes);

/* For apply.c and backward.c. The multiply-adds of a gradient are taken to be those of its op for
 * each factor that has one, where the gradient is not made of ops that count. */
void pg__profile_call(pg_profile *p, int event, const pg_call *c);
/* Multiply-adds that shape inference counted are nobody's. */
void pg__profile_shapes_only(pg_profile *p, int64_t macs);
/* A node was made inside the event that is open. */
void pg__profile_made(pg_profile *p, const pg_node *n);
/* Opens the event of n's gradient. */
int pg__profile_node(pg_profile *p, const pg_node *n);

#endif
