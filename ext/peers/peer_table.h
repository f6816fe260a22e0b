/* The peers of a device: by id, by transport address, and in the order they came.
 *
 * Writers hold the engine's lock; lookups are for threads that are online, and for writers. */
#ifndef DCO_PEERS_PEER_TABLE_H
#define DCO_PEERS_PEER_TABLE_H

#include "peers/map.h"
#include "peers/peer.h"

#define DCO_PEER_PAGE_BITS 12
#define DCO_PEER_PAGES 4096 /* pages of 4096 ids cover the 24 bits */

struct dco_peer_page {
    _Atomic uint32_t count;
    _Atomic(struct dco_peer *) peer[1 << DCO_PEER_PAGE_BITS];
};

struct dco_peer_table {
    struct dco_rcu *rcu;
    _Atomic(struct dco_peer_page *) page[DCO_PEER_PAGES]; /* kept until the end */
    _Atomic uint32_t pages;                               /* there is none from here on */
    struct dco_map by_address;
    struct dco_peer *first, *last;
    uint32_t count;
};

int dco_peer_table_init(struct dco_peer_table *table, struct dco_rcu *rcu, size_t peers);
void dco_peer_table_destroy(struct dco_peer_table *table);

/* Makes room for the id, so that adding cannot fail. -ENOMEM. */
int dco_peer_table_reserve(struct dco_peer_table *table, uint32_t id);
void dco_peer_table_add(struct dco_peer_table *table, struct dco_peer *peer);
/* Takes the peer out of everything here; it may still be in use: retire it. */
void dco_peer_table_remove(struct dco_peer_table *table, struct dco_peer *peer);

static inline struct dco_peer *dco_peer_table_by_id(const struct dco_peer_table *table, uint32_t id)
{
    struct dco_peer_page *page =
        atomic_load_explicit(&table->page[id >> DCO_PEER_PAGE_BITS], memory_order_acquire);

    if (!page)
        return NULL;
    return atomic_load_explicit(&page->peer[id & ((1 << DCO_PEER_PAGE_BITS) - 1)],
                                memory_order_acquire);
}

/* The peer with the lowest id that is at least `*id`, and sets `*id` to it; NULL: no more. */
struct dco_peer *dco_peer_table_next(const struct dco_peer_table *table, uint32_t *id);

/* Several peers of a transport may claim one address (a client that came back): the newest has it. */
struct dco_peer *dco_peer_table_by_address(const struct dco_peer_table *table, uint32_t transport,
                                           const struct dco_address *address);

/* Enters the peer under a new address, or under none (family 0). Returns -EAGAIN, and changes
 * nothing, when the last move has not been seen by all threads yet. */
int dco_peer_table_move(struct dco_peer_table *table, struct dco_peer *peer, uint32_t transport,
                        const struct dco_address *address);

#endif
