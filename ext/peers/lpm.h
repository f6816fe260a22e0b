/* Which peer owns an inner address: a longest-prefix table of VPN addresses and iroutes.
 *
 * One hash map for all prefixes, and a bitmap of the lengths in use: a lookup tries those lengths
 * only, longest first. Real tables have two or three of them. */
#ifndef DCO_PEERS_LPM_H
#define DCO_PEERS_LPM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "dco.h"
#include "peers/map.h"

struct dco_lpm_lengths {
    _Atomic uint64_t word[3]; /* bit n: some prefix has n bits */
    uint32_t count[129];      /* writers': prefixes of each length */
};

struct dco_lpm {
    struct dco_map map;
    struct dco_rcu *rcu;
    struct dco_lpm_lengths ipv4, ipv6;
};

/* One prefix in the table. */
struct dco_lpm_route {
    struct dco_map_entry entry; /* value: the owner */
    struct dco_prefix prefix;
    struct dco_lpm_route *sibling; /* owner's list of its routes; writers' */
    bool host;                     /* the owner's own VPN address, not an iroute; or nobody's */
    bool group;                    /* nobody's: broadcast */
};

int dco_lpm_init(struct dco_lpm *lpm, struct dco_rcu *rcu, size_t buckets);
void dco_lpm_destroy(struct dco_lpm *lpm);

/* Writers. The prefix has no bits beyond its length. NULL: out of memory. */
struct dco_lpm_route *dco_lpm_route_new(const struct dco_prefix *prefix, void *owner, bool host);
void dco_lpm_route_free(struct dco_lpm_route *route); /* one that was never inserted, or NULL */
void dco_lpm_insert(struct dco_lpm *lpm, struct dco_lpm_route *route);
void dco_lpm_remove(struct dco_lpm *lpm, struct dco_lpm_route *route); /* frees it in time */
struct dco_lpm_route *dco_lpm_exact(const struct dco_lpm *lpm, const struct dco_prefix *prefix);

/* Readers: owner of the longest prefix that holds the address (4 or 16 bytes), or NULL. */
void *dco_lpm_lookup(const struct dco_lpm *lpm, uint8_t family, const uint8_t *ip);

#endif
