#define _GNU_SOURCE
#include "engine/group.h"

#include <string.h>

#include "engine/features.h"
#include "engine/forward.h"

bool dco_group_holds(const struct dco_engine *engine, const uint8_t *packet)
{
    struct dco_prefix host = {.family = AF_INET, .length = 32};
    const struct dco_lpm_route *route;

    if (!atomic_load_explicit(&engine->copies_per_s, memory_order_relaxed))
        return false;
    if (packet[0] >> 4 == 6)
        return packet[24] == 0xFF;
    if (packet[16] >> 4 == 0xE)
        return true;
    memcpy(host.ip, packet + 16, 4);
    route = dco_lpm_exact(&engine->lpm, &host);
    return route && route->group;
}

void dco_group_forward(struct dco_receive *receive, const struct dco_peer *source,
                       const uint8_t *packet, uint32_t size)
{
    for (unsigned i = 0; i < receive->engine->workers; i++) {
        if (dco_transmit_group(receive->worker, i, source, packet, size)) {
            receive->forwarded |= 1u << i;
            continue;
        }
        dco_receive_drop(receive, DCO_DROP_TX_HANDOFF_FULL, 1);
        dco_counter_add(&receive->stats.replicated_packets, 1);
    }
    receive->forwarded_bytes += size;
}

static bool receives(const struct dco_transmit *transmit, const struct dco_peer *source,
                     struct dco_peer *peer)
{
    return !atomic_load_explicit(&peer->no_groups, memory_order_relaxed)
           && dco_keyslots_get(&peer->keys, DCO_SLOT_PRIMARY)
           && (!source || dco_forward_permitted(transmit->engine, source, peer));
}

/* Who sends to a group makes the worker look at all of its peers, also where none may have a copy:
 * so that is paid for, too. Sealing takes about as long as it takes to look at so many. */
enum { LOOK = 1, SEAL = DCO_GROUP_COPY - LOOK };

/* A burst is what a second brings, and at least a few peers with a copy each. */
static bool affords(struct dco_transmit *transmit, uint32_t cost)
{
    uint32_t copies = atomic_load_explicit(&transmit->engine->copies_per_s, memory_order_relaxed);
    uint32_t rate = copies * DCO_GROUP_COPY;

    return dco_bucket_take(&transmit->copies, rate * 8ull, rate + DCO_GROUP_LEAST, transmit->now_ns,
                           cost, 1);
}

static void copy(struct dco_transmit *transmit, struct dco_peer *peer, const uint8_t *packet,
                 uint32_t size)
{
    dco_counter_add(&transmit->stats.replicated_packets, 1);
    if (!dco_features_copy(transmit, peer, size)
        || !dco_transmit_seal(transmit, peer, packet, size))
        return;
    dco_counter_add(&peer->vpn_tx_packets, 1);
    dco_counter_add(&peer->vpn_tx_bytes, size);
    if (dco_features(peer) & DCO_PEER_FEATURE_LIMITS)
        dco_features_count(transmit->engine, peer, transmit->now_ns);
}

/* False: whoever has had none yet gets none. */
static bool copy_for_all(struct dco_transmit *transmit, const struct dco_peer *source,
                         const uint8_t *packet, uint32_t size)
{
    struct dco_peer *peer;

    for (uint32_t id = 0; (peer = dco_peer_table_next(&transmit->engine->peers, &id)); id++) {
        if (peer->home != transmit->worker->index)
            continue;
        if (!affords(transmit, LOOK))
            return false;
        if (!receives(transmit, source, peer))
            continue;
        if (!affords(transmit, SEAL))
            return false;
        copy(transmit, peer, packet, size);
    }
    return true;
}

/* Each segment for all before the next one's header is written: it is written over this one's end. */
void dco_group_seal(struct dco_transmit *transmit, const struct dco_peer *source)
{
    uint8_t *segment;
    uint32_t size;

    while (dco_gso_next(&transmit->gso, &segment, &size)) {
        if (copy_for_all(transmit, source, segment, size))
            continue;
        dco_counter_add(&transmit->stats.replicated_packets, 1);
        dco_stats_drop(&transmit->stats, DCO_DROP_TX_GROUP_LIMIT, 1);
    }
}
