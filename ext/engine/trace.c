#define _GNU_SOURCE
#include "engine/trace.h"

#include <string.h>

#include "codec/tcpframe.h"

static struct dco_trace_lane *sealing_lane(struct dco_trace *trace, const struct dco_worker *worker)
{
    return &trace->lane[2 * worker->index];
}

static struct dco_trace_lane *receive_lane(struct dco_trace *trace, const struct dco_worker *worker)
{
    return &trace->lane[2 * worker->index + 1];
}

/* --- records --- */

static bool concerns(const struct dco_trace *trace, const struct dco_peer_ref *ref)
{
    for (size_t i = 0; i < trace->config.peer_count; i++) {
        const struct dco_peer_ref *one = &trace->peer[i];
        if (ref->generation && one->id == ref->id
            && (!one->generation || one->generation == ref->generation))
            return true;
    }
    return !trace->config.peer_count;
}

/* The same packet is chosen at all its points, and at both ends of a tunnel: multiples of the golden
 * ratio fall evenly (Fibonacci hashing). */
static bool chosen(const struct dco_trace *trace, struct dco_trace_lane *lane,
                   const struct dco_trace_record *record)
{
    uint32_t share = trace->config.share;

    if (!share)
        return true;
    if (record->format != DCO_TRACE_NO_ID)
        return (uint32_t)(record->packet_id * UINT64_C(0x9E3779B97F4A7C15) >> 32) < share;
    lane->turn += share;
    return lane->turn < share;
}

static void put(struct dco_trace *trace, struct dco_trace_lane *lane,
                struct dco_trace_record *record, const uint8_t *packet)
{
    const struct dco_trace_config *config = &trace->config;
    struct timespec now;

    if (!(config->points & record->point) || (config->drops_only && !record->drop)
        || !concerns(trace, &record->peer) || !chosen(trace, lane, record))
        return;
    clock_gettime(CLOCK_REALTIME, &now);
    record->time_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    record->kept = record->size < config->snap ? record->size : config->snap;
    if (dco_ring_put(&lane->ring, record, sizeof *record, packet, record->kept))
        dco_bell_ring(&trace->bell);
    else
        dco_counter_add(&lane->lost, 1);
}

static struct dco_trace_record describe(enum dco_trace_point point, const struct dco_peer *peer)
{
    struct dco_trace_record record = {.point = point, .packets = 1};

    if (peer)
        record.peer = (struct dco_peer_ref){peer->id, peer->generation};
    return record;
}

static void note_drop(struct dco_trace_record *record, enum dco_drop drop, uint32_t packets)
{
    record->drop = drop;
    record->lost = drop ? packets : 0;
}

/* Key id and packet id as a data packet shows them. The key tells its format; where there is none the
 * usual one is assumed. */
static void identify(struct dco_trace_record *record, const struct dco_key *key,
                     const uint8_t *packet, uint32_t size)
{
    bool epochs = key && key->epochs;

    if (size < (epochs ? DCO_WIRE_EPOCH_AAD : DCO_WIRE_AAD)
        || dco_wire_opcode(packet) != DCO_WIRE_DATA_V2)
        return;
    record->format = epochs ? DCO_TRACE_EPOCH_ID : DCO_TRACE_CLASSIC_ID;
    record->key_id = dco_wire_key_id(packet);
    record->packet_id =
        epochs ? dco_load64(packet + DCO_WIRE_HEADER) : dco_load32(packet + DCO_WIRE_HEADER);
}

static void hold(struct dco_trace *trace, struct dco_trace_lane *lane, const uint8_t *packet,
                 uint32_t size)
{
    memcpy(lane->held, packet, size < trace->config.snap ? size : trace->config.snap);
    lane->held_size = size;
}

/* --- from the interface to the wire --- */

/* As it stands on the wire. */
static uint64_t next_id(const struct dco_key *key)
{
    uint64_t epoch = key->epochs ? key->epochs->sealing->key.epoch : 0;

    return epoch << 48 | key->counter.next;
}

void dco_trace_transmit_begin(struct dco_trace *trace, struct dco_transmit *transmit,
                              const struct dco_peer *peer, const uint8_t *packet, uint32_t size)
{
    struct dco_trace_lane *lane = sealing_lane(trace, transmit->worker);
    bool own = peer && peer->home == transmit->worker->index;

    hold(trace, lane, packet, size);
    lane->key = own ? dco_keyslots_get(&peer->keys, DCO_SLOT_PRIMARY) : NULL;
    lane->next_id = lane->key ? next_id(lane->key) : 0;
    lane->sealed = lane->key ? dco_counter_read(&lane->key->sealed) : 0;
    transmit->stats.loss = (struct dco_stats_loss){0};
}

/* The first id that the packet took: counted from the last one, since the epoch may have turned right
 * before it, unless that was later. */
static void identify_sealed(struct dco_trace_record *record, const struct dco_trace_lane *lane)
{
    const struct dco_key *key = lane->key;
    uint64_t sealed = key ? dco_counter_read(&key->sealed) - lane->sealed : 0;

    if (!sealed)
        return;
    record->format = key->epochs ? DCO_TRACE_EPOCH_ID : DCO_TRACE_CLASSIC_ID;
    record->key_id = key->key_id;
    record->packet_id = key->counter.next > sealed ? next_id(key) - sealed : lane->next_id;
}

void dco_trace_transmit_end(struct dco_trace *trace, struct dco_transmit *transmit,
                            const struct dco_peer *peer, uint32_t packets)
{
    struct dco_trace_lane *lane = sealing_lane(trace, transmit->worker);
    struct dco_trace_record record = describe(DCO_TRACE_TX_INNER, peer);

    record.size = lane->held_size;
    record.packets = packets;
    note_drop(&record, transmit->stats.loss.reason, transmit->stats.loss.packets);
    identify_sealed(&record, lane);
    put(trace, lane, &record, lane->held);
}

/* One datagram or frame of a message; with `drop` it was not taken. */
static void put_sent(struct dco_trace *trace, struct dco_transmit *transmit,
                     struct dco_trace_record record, const struct dco_peer *peer,
                     const uint8_t *packet, uint32_t size, enum dco_drop drop)
{
    record.size = size;
    identify(&record, dco_keyslots_find(&peer->keys, dco_wire_key_id(packet)), packet, size);
    note_drop(&record, drop, 1);
    put(trace, sealing_lane(trace, transmit->worker), &record, packet);
}

void dco_trace_datagrams(struct dco_trace *trace, struct dco_transmit *transmit,
                         const struct dco_transport *transport,
                         const struct dco_udp_message *message, enum dco_drop drop)
{
    struct dco_trace_record record = describe(DCO_TRACE_TX_OUTER, message->owner);

    record.remote = message->remote;
    record.local = message->local.family ? message->local : transport->udp->local;
    record.local.port = transport->udp->local.port;
    for (uint32_t i = 0; i < message->packets; i++) {
        uint32_t at = i * message->segment, left = message->size - at;
        put_sent(trace, transmit, record, message->owner, message->data + at,
                 left < message->segment ? left : message->segment,
                 message->failed_at >> i & 1 ? drop : DCO_DROP_NONE);
    }
}

void dco_trace_frames(struct dco_trace *trace, struct dco_transmit *transmit,
                      const struct dco_transport *transport, const struct dco_udp_message *message,
                      enum dco_drop drop, uint32_t lost)
{
    struct dco_trace_record record = describe(DCO_TRACE_TX_OUTER, message->owner);
    uint8_t *data = (uint8_t *)message->data, *packet;
    uint32_t size, i = 0;
    size_t at = 0;

    record.stream = true;
    record.remote = transport->stream->tcp.remote;
    record.local = transport->stream->tcp.local;
    for (; dco_tcpframe_next(data, message->size, &at, DCO_TCPFRAME_MAX, &packet, &size) > 0; i++)
        put_sent(trace, transmit, record, message->owner, packet, size,
                 i < message->packets - lost ? DCO_DROP_NONE : drop);
}

void dco_trace_control_lost(struct dco_trace *trace, struct dco_transmit *transmit,
                            const struct dco_transport *transport, const uint8_t *packet,
                            uint32_t size)
{
    struct dco_trace_record record = describe(DCO_TRACE_TX_OUTER, NULL);

    record.size = size;
    record.stream = true;
    if (transport) {
        record.remote = transport->stream->tcp.remote;
        record.local = transport->stream->tcp.local;
    }
    note_drop(&record, DCO_DROP_TX_CONTROL, 1);
    put(trace, sealing_lane(trace, transmit->worker), &record, packet);
}

/* --- from the wire to the interface --- */

void dco_trace_receive_begin(struct dco_trace *trace, struct dco_receive *receive,
                             const uint8_t *packet, uint32_t size)
{
    hold(trace, receive_lane(trace, receive->worker), packet, size);
    receive->stats.loss = (struct dco_stats_loss){0};
}

/* Reasons for which a packet is not opened, or not believed. The others are about what was in it. */
static bool refused_outside(enum dco_drop drop)
{
    switch (drop) {
    case DCO_DROP_RX_RUNT:
    case DCO_DROP_RX_TRUNCATED:
    case DCO_DROP_RX_DATA_V1:
    case DCO_DROP_RX_UNKNOWN_PEER:
    case DCO_DROP_RX_UNKNOWN_KEY:
    case DCO_DROP_RX_EPOCH_PAST:
    case DCO_DROP_RX_EPOCH_AHEAD:
    case DCO_DROP_RX_KEY_SPENT:
    case DCO_DROP_RX_DECRYPT:
    case DCO_DROP_RX_REPLAY:
    case DCO_DROP_RX_HANDOFF_FULL:
    case DCO_DROP_CONTROL_FULL: return true;
    default: return false;
    }
}

static void put_opened(struct dco_trace *trace, struct dco_trace_lane *lane,
                       struct dco_trace_record record, const struct dco_key *key,
                       const uint8_t *packet, struct dco_stats_loss loss)
{
    const uint8_t *inner = packet + (key->epochs ? DCO_WIRE_EPOCH_AAD : DCO_WIRE_OVERHEAD);

    record.point = DCO_TRACE_RX_INNER;
    record.size -= dco_key_overhead(key);
    note_drop(&record, loss.reason, loss.packets);
    /* Keepalives and messages are no packets of the interface. */
    if (loss.reason || (record.size && (inner[0] >> 4 == 4 || inner[0] >> 4 == 6)))
        put(trace, lane, &record, inner);
}

void dco_trace_receive_end(struct dco_trace *trace, struct dco_receive *receive,
                           const struct dco_transport *transport, const struct dco_udp_train *train,
                           struct dco_peer *peer, const uint8_t *packet)
{
    struct dco_trace_lane *lane = receive_lane(trace, receive->worker);
    struct dco_stats_loss loss = receive->stats.loss;
    struct dco_trace_record record = describe(DCO_TRACE_RX_OUTER, peer);
    const struct dco_key *key = NULL;

    if (peer && peer->home != receive->worker->index && !loss.reason)
        return; /* its home has it now */
    record.size = lane->held_size;
    record.stream = transport->stream;
    record.remote = train->remote;
    record.local = train->local;
    if (peer && record.size)
        key = dco_keyslots_find(&peer->keys, dco_wire_key_id(packet));
    identify(&record, key, packet, record.size);
    if (refused_outside(loss.reason))
        note_drop(&record, loss.reason, loss.packets);
    put(trace, lane, &record, lane->held);
    if (!record.drop && key && record.size >= dco_key_overhead(key)
        && dco_wire_opcode(packet) == DCO_WIRE_DATA_V2)
        put_opened(trace, lane, record, key, packet, loss);
}

void dco_trace_undelivered(struct dco_trace *trace, struct dco_receive *receive,
                           struct dco_peer *peer, const uint8_t *packet, uint32_t size,
                           enum dco_drop drop, uint32_t packets)
{
    struct dco_trace_record record = describe(DCO_TRACE_RX_INNER, peer);

    record.size = size;
    record.packets = packets;
    note_drop(&record, drop, packets);
    put(trace, receive_lane(trace, receive->worker), &record, packet);
}
