/* To whom a peer may send without the host between them: peers by generation, which no later peer
 * with the same id has. Never changed, only replaced. */
#ifndef DCO_PEERS_PERMIT_H
#define DCO_PEERS_PERMIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sync/rcu.h"

struct dco_permit {
    struct dco_rcu_node rcu;
    size_t count;
    uint64_t generation[]; /* ascending */
};

/* A copy of what is in ascending order. NULL: out of memory. */
struct dco_permit *dco_permit_new(const uint64_t *generations, size_t count);
void dco_permit_free(struct dco_permit *permit);
/* Readers may still be there. */
void dco_permit_retire(struct dco_rcu *rcu, struct dco_permit *permit);

/* NULL holds nobody. */
bool dco_permit_holds(const struct dco_permit *permit, uint64_t generation);

#endif
