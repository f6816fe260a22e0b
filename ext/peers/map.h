/* A hash map that threads read without locks: chained buckets, reclaimed by quiescent states.
 *
 * Writers hold the engine's lock. The number of buckets is fixed at creation, from the number of
 * peers the device may have, so that inserting never allocates: entries live in their owners. */
#ifndef DCO_PEERS_MAP_H
#define DCO_PEERS_MAP_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "sync/rcu.h"

struct dco_map_key {
    uint64_t word[3];
};

struct dco_map_entry {
    struct dco_rcu_node rcu; /* for the owner, once the entry is removed */
    _Atomic(struct dco_map_entry *) next;
    struct dco_map_key key; /* never changes while the entry is in a map */
    uint64_t rank;          /* of several entries with one key, lookup takes the highest */
    void *value;
};

struct dco_map {
    _Atomic(struct dco_map_entry *) *bucket;
    uint64_t mask;
    uint64_t seed[3]; /* random: whom we talk to must not choose our chains */
};

int dco_map_init(struct dco_map *map, size_t buckets);
void dco_map_destroy(struct dco_map *map);

void dco_map_insert(struct dco_map *map, struct dco_map_entry *entry);
/* Afterwards the entry is still in use by readers: retire it. */
void dco_map_remove(struct dco_map *map, struct dco_map_entry *entry);

/* For readers that are online, and for writers. */
struct dco_map_entry *dco_map_find(const struct dco_map *map, const struct dco_map_key *key);

#endif
