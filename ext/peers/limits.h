/* What a peer may use before it is told of: times, bytes and packets, each once until it is set
 * again. Values, clock and counters come from the caller; no lock.
 *
 * The two threads of a peer count, its timer looks at the clock, and the API sets: every word stands
 * by itself, and whoever takes a limit out of `armed` is the one who tells. */
#ifndef DCO_PEERS_LIMITS_H
#define DCO_PEERS_LIMITS_H

#include <stdatomic.h>
#include <stdint.h>

#include "dco.h"

struct dco_limit_meter {
    _Atomic uint32_t armed;             /* bit n: limit n is set, and was not reached yet */
    _Atomic uint64_t value[DCO_LIMITS]; /* as set: seconds, bytes or packets; 0: off */
    _Atomic uint64_t due[DCO_LIMITS];   /* where it is reached: ns, or of what is counted */
    _Atomic uint64_t inactive_bytes;    /* as set: so many count as activity */
    _Atomic uint64_t active_at;         /* bytes counted at which there was activity again */
};

/* What crossed the tunnel since the peer was added, both ways. */
struct dco_crossed {
    uint64_t bytes, packets;
};

/* Those that are `given` start anew from here; 0 switches one off. */
void dco_limits_set(struct dco_limit_meter *meter, const struct dco_limits *limits, uint64_t now_ns,
                    struct dco_crossed crossed);
/* There is a new key, or another one seals: what is counted for the next one starts anew. */
void dco_limits_renew(struct dco_limit_meter *meter, struct dco_crossed crossed);

/* Both return which limits were reached now: bit n, limit n. */
uint32_t dco_limits_count(struct dco_limit_meter *meter, uint64_t now_ns,
                          struct dco_crossed crossed);
uint32_t dco_limits_expire(struct dco_limit_meter *meter, uint64_t now_ns);

/* When the next time is up; UINT64_MAX: never. */
uint64_t dco_limits_next(const struct dco_limit_meter *meter);

void dco_limits_describe(const struct dco_limit_meter *meter, struct dco_limits *limits);
void dco_limits_save(const struct dco_limit_meter *meter, struct dco_limits_state *state);
void dco_limits_load(struct dco_limit_meter *meter, const struct dco_limits_state *state);

#endif
