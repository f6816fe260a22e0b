#define _GNU_SOURCE
#include "engine/forward.h"

#include <string.h>

#include "codec/ip.h"
#include "engine/features.h"
#include "engine/group.h"
#include "engine/transmit.h"

/* Bytes by what the header says, never more than there are; 0: the header does not fit. What stands
 * behind them is of no concern to whom it is for. */
static uint32_t length_of(const uint8_t *packet, uint32_t size)
{
    uint32_t header = DCO_IPV6_HEADER, length;

    if (packet[0] >> 4 == 4) {
        header = (packet[0] & 15u) * 4;
        length = dco_load16(packet + 2);
    } else {
        length = header + dco_load16(packet + 4);
    }
    return header >= DCO_IPV4_HEADER && header <= length && length <= size ? length : 0;
}

static enum dco_forwarding forwarding_of(const struct dco_engine *engine)
{
    return atomic_load_explicit(&engine->forwarding, memory_order_acquire);
}

bool dco_forward_permitted(const struct dco_engine *engine, const struct dco_peer *source,
                           const struct dco_peer *destination)
{
    if (source == destination)
        return false;
    if (forwarding_of(engine) == DCO_FORWARDING_ALL)
        return true;
    return dco_permit_holds(atomic_load_explicit(&source->permit, memory_order_acquire),
                            destination->generation);
}

/* Packets of one flow come together: they are looked up once. */
static const struct dco_forward_memo *look_up(struct dco_receive *receive, struct dco_peer *source,
                                              const uint8_t *packet)
{
    struct dco_forward_memo *memo = &receive->memo;
    bool ipv4 = packet[0] >> 4 == 4;
    const uint8_t *ip = packet + (ipv4 ? 16 : 24);
    uint8_t family = ipv4 ? AF_INET : AF_INET6;
    size_t size = ipv4 ? 4 : 16;

    if (memo->source == source && memo->family == family && !memcmp(memo->ip, ip, size))
        return memo;
    memo->source = source;
    memo->family = family;
    memcpy(memo->ip, ip, size);
    memo->destination = dco_engine_owner(receive->engine, family, ip);
    memo->permitted =
        memo->destination && dco_forward_permitted(receive->engine, source, memo->destination);
    memo->group = !memo->destination && dco_group_holds(receive->engine, packet);
    return memo;
}

/* --- on its way --- */

static void count(struct dco_receive *receive, const struct dco_forward_due *due)
{
    dco_counter_add(&receive->stats.forwarded_packets, 1);
    dco_counter_add(&receive->stats.forwarded_bytes, due->size);
    dco_counter_add(&due->source->vpn_rx_packets, 1);
    dco_counter_add(&due->source->vpn_rx_bytes, due->size);
    if (dco_features(due->source) & DCO_PEER_FEATURE_LIMITS)
        dco_features_count(receive->engine, due->source, receive->now_ns);
}

static void announce(struct dco_receive *receive)
{
    for (; receive->forwarded; receive->forwarded &= receive->forwarded - 1)
        dco_handoff_announce(&receive->engine->worker[__builtin_ctz(receive->forwarded)].to_seal);
    receive->forwarded_bytes = 0;
}

/* A receive call may bring more than the ring holds: the other thread begins when there is a batch
 * for it. */
static void hand(struct dco_receive *receive, const struct dco_forward_due *due)
{
    if (!dco_transmit_forward(receive->worker, due->destination, due->packet, due->size)) {
        dco_receive_lose_later(receive, due->source, DCO_DROP_RX_HANDOFF_FULL, due->packet,
                               due->size, 1);
        return;
    }
    count(receive, due);
    receive->forwarded |= 1u << due->destination->home;
    receive->forwarded_bytes += due->size;
    if (receive->forwarded_bytes >= DCO_TUN_BATCH_BYTES)
        announce(receive);
}

/* What is for peers of this worker is sealed here and now, from where it lies, unless the transmit
 * thread is at it, or has not got to what it was given before: then it goes there, too. */
static void settle_due(struct dco_receive *receive)
{
    struct dco_worker *worker = receive->worker;
    bool sealed = false;

    if (!pthread_mutex_trylock(&worker->sealing)) {
        sealed = dco_transmit_due(worker->transmit, receive->due, receive->due_count);
        pthread_mutex_unlock(&worker->sealing);
    }
    for (unsigned i = 0; i < receive->due_count; i++) {
        if (sealed)
            count(receive, &receive->due[i]);
        else
            hand(receive, &receive->due[i]);
    }
    receive->due_count = 0;
}

void dco_forward_flush(struct dco_receive *receive)
{
    if (receive->due_count)
        settle_due(receive);
    announce(receive);
}

static void carry(struct dco_receive *receive, const struct dco_forward_due *due)
{
    if (due->destination->home != receive->worker->index) {
        hand(receive, due);
        return;
    }
    receive->due[receive->due_count++] = *due;
    if (receive->due_count == DCO_TUN_BATCH)
        settle_due(receive);
}

bool dco_forward(struct dco_receive *receive, struct dco_peer *source, uint8_t *packet,
                 uint32_t size)
{
    const struct dco_forward_memo *memo;
    uint32_t length = length_of(packet, size);

    if (forwarding_of(receive->engine) == DCO_FORWARDING_OFF) /* just now */
        return true;
    memo = look_up(receive, source, packet);
    if (!memo->destination) {
        if (length && memo->group)
            dco_group_forward(receive, source, packet, length);
        return true;
    }
    if (!memo->permitted) {
        dco_receive_lose(receive, source, DCO_DROP_RX_FORWARD_DENIED, 1);
    } else if (!length) {
        dco_receive_lose(receive, source, DCO_DROP_RX_FORWARD_MALFORMED, 1);
    } else {
        carry(receive, &(struct dco_forward_due){source, memo->destination, packet, length});
    }
    return false;
}
