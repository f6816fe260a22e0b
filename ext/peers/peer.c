#include "peers/peer.h"

#include <stdlib.h>
#include <string.h>

_Static_assert(sizeof(struct dco_endpoint) % sizeof(uint64_t) == 0, "endpoint is whole words");

bool dco_address_equal(const struct dco_address *a, const struct dco_address *b)
{
    return a->family == b->family && a->port == b->port && !memcmp(a->ip, b->ip, sizeof a->ip);
}

struct dco_peer *dco_peer_new(uint32_t id, uint64_t generation)
{
    struct dco_peer *peer = aligned_alloc(DCO_CACHE_LINE, sizeof *peer);

    if (!peer)
        return NULL;
    memset(peer, 0, sizeof *peer);
    peer->id = id;
    peer->generation = generation;
    peer->address_current = -1;
    dco_peer_path_reset(peer);
    for (int i = 0; i < DCO_RECORD_KINDS; i++)
        peer->record[i].peer = peer;
    return peer;
}

void dco_peer_free(struct dco_peer *peer)
{
    if (!peer)
        return;
    for (int i = 0; i < 2; i++)
        dco_key_free(atomic_load_explicit(&peer->keys.slot[i], memory_order_relaxed));
    dco_permit_free(atomic_load_explicit(&peer->permit, memory_order_relaxed));
    free(peer);
}

void dco_peer_path_reset(struct dco_peer *peer)
{
    atomic_store_explicit(&peer->single_above, UINT32_MAX, memory_order_relaxed);
    atomic_store_explicit(&peer->path_learned, UINT32_MAX, memory_order_relaxed);
    /* Cleared first and looked at then: a limit that is being set meanwhile sets it again, or is
     * seen here. */
    atomic_fetch_and(&peer->features, ~(uint32_t)DCO_PEER_FEATURE_PATH);
    if (atomic_load(&peer->path_limit))
        atomic_fetch_or(&peer->features, DCO_PEER_FEATURE_PATH);
}

void dco_peer_endpoint_read(const struct dco_peer *peer, struct dco_endpoint *endpoint)
{
    uint64_t words[DCO_ENDPOINT_WORDS];

    dco_seqlock_read(&peer->endpoint_lock, peer->endpoint, words, DCO_ENDPOINT_WORDS);
    memcpy(endpoint, words, sizeof words);
}

void dco_peer_endpoint_write(struct dco_peer *peer, const struct dco_endpoint *endpoint)
{
    uint64_t words[DCO_ENDPOINT_WORDS];

    memcpy(words, endpoint, sizeof words);
    dco_seqlock_write(&peer->endpoint_lock, peer->endpoint, words, DCO_ENDPOINT_WORDS);
}

struct dco_crossed dco_peer_crossed(const struct dco_peer *peer)
{
    return (struct dco_crossed){
        .bytes = dco_counter_read(&peer->vpn_rx_bytes) + dco_counter_read(&peer->vpn_tx_bytes),
        .packets =
            dco_counter_read(&peer->vpn_rx_packets) + dco_counter_read(&peer->vpn_tx_packets),
    };
}

void dco_peer_stats_read(const struct dco_peer *peer, struct dco_peer_stats *stats)
{
#define X(name) stats->name = dco_counter_read(&peer->name);
    DCO_PEER_COUNTERS(X)
#undef X
}
