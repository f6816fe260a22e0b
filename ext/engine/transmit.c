#define _GNU_SOURCE
#include "engine/transmit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "codec/ecn.h"
#include "codec/tcpframe.h"
#include "engine/answer.h"
#include "engine/features.h"
#include "engine/group.h"
#include "engine/outgoing.h"
#include "engine/receive.h"
#include "engine/trace.h"

int dco_transmit_new(struct dco_worker *worker, struct dco_transmit **out)
{
    struct dco_transmit *transmit = calloc(1, sizeof *transmit);

    if (!transmit)
        return -ENOMEM;
    transmit->engine = worker->engine;
    transmit->worker = worker;
    transmit->arena = malloc(DCO_TUN_ARENA);
    transmit->sealed = malloc(DCO_SEND_ARENA);
    if (!transmit->arena || !transmit->sealed) {
        dco_transmit_free(transmit);
        return -ENOMEM;
    }
    *out = transmit;
    return 0;
}

void dco_transmit_free(struct dco_transmit *transmit)
{
    if (!transmit)
        return;
    free(transmit->arena);
    free(transmit->sealed);
    free(transmit);
}

/* --- seal --- */

static enum dco_drop take_packet_id(struct dco_transmit *transmit, struct dco_peer *peer,
                                    struct dco_key *key, uint32_t size, uint64_t *packet_id)
{
    struct dco_engine *engine = transmit->engine;
    unsigned news = dco_key_take_id(key, size, packet_id);

    if (news & DCO_KEY_WAKE)
        dco_worker_kick(transmit->worker);
    if (news & DCO_KEY_SPENT)
        dco_engine_key_event(engine, peer, key, DCO_EVENT_KEY_EXHAUSTED);
    if (news & DCO_KEY_SOON)
        dco_engine_key_event(engine, peer, key, DCO_EVENT_KEY_SOON);
    return news & DCO_KEY_NO_ID ? DCO_DROP_TX_KEY_EXHAUSTED : DCO_DROP_NONE;
}

static inline enum dco_drop seal(struct dco_transmit *transmit, struct dco_peer *peer,
                                 struct dco_key *key, const uint8_t *data, uint32_t size)
{
    uint32_t prefix = peer->transport->stream ? DCO_TCPFRAME_PREFIX : 0;
    uint32_t total = prefix + dco_key_overhead(key) + size, header;
    uint64_t packet_id;
    enum dco_drop drop = dco_outgoing_reserve(transmit, peer, total);
    uint8_t *packet = transmit->sealed + transmit->sealed_size + prefix;

    if (drop)
        return drop;
    drop = take_packet_id(transmit, peer, key, size, &packet_id);
    if (!drop) {
        header =
            dco_wire_header(key->key_id, atomic_load_explicit(&peer->tx_id, memory_order_relaxed));
        if (prefix)
            dco_tcpframe_put(packet - prefix, total - prefix);
        if (dco_key_seal(key, header, packet_id, data, size, packet)) {
            dco_outgoing_commit(transmit, total);
            return DCO_DROP_NONE;
        }
        drop = DCO_DROP_TX_ENCRYPT;
    }
    dco_outgoing_cancel(transmit);
    return drop;
}

void dco_transmit_drop(struct dco_transmit *transmit, struct dco_peer *peer, enum dco_drop reason,
                       uint64_t packets)
{
    dco_stats_drop(&transmit->stats, reason, packets);
    if (!peer)
        return;
    dco_counter_add(&peer->tx_dropped, packets);
    switch (reason) {
    case DCO_DROP_TX_NO_KEY: dco_counter_add(&peer->tx_no_key, packets); break;
    case DCO_DROP_TX_KEY_EXHAUSTED: dco_counter_add(&peer->tx_iv_exhausted, packets); break;
    case DCO_DROP_TX_ENCRYPT: dco_counter_add(&peer->tx_encrypt_errors, packets); break;
    case DCO_DROP_TX_NO_TRANSPORT: dco_counter_add(&peer->tx_no_transport, packets); break;
    case DCO_DROP_TX_GSO: dco_counter_add(&peer->tx_gso_errors, packets); break;
    case DCO_DROP_TX_RATE_LIMIT: dco_counter_add(&peer->tx_rate_limited, packets); break;
    default: break;
    }
}

/* A message has one TOS: what has another begins the next. Only right before something is sealed,
 * since what was noted is then that of the last message. That neighbours differ is rare. */
static void change_tos(struct dco_transmit *transmit, const struct dco_peer *peer, uint16_t head)
{
    uint8_t tos = dco_tos_read((const uint8_t *)&head);
    uint8_t copied = atomic_load_explicit(&peer->tos_copied, memory_order_relaxed);

    if ((tos ^ transmit->tos) & copied || !transmit->head)
        transmit->growing = false;
    transmit->head = head;
    transmit->tos = tos;
    transmit->tos_copied = UINT8_MAX;
}

static void note_tos(struct dco_transmit *transmit, const struct dco_peer *peer,
                     const uint8_t *packet)
{
    uint16_t head;

    memcpy(&head, packet, sizeof head);
    if (head != transmit->head)
        change_tos(transmit, peer, head);
}

__attribute__((noinline)) static bool seal_or_count(struct dco_transmit *transmit,
                                                    struct dco_peer *peer, const uint8_t *data,
                                                    uint32_t size)
{
    struct dco_key *key = dco_keyslots_get(&peer->keys, DCO_SLOT_PRIMARY);
    enum dco_drop drop = key ? seal(transmit, peer, key, data, size) : DCO_DROP_TX_NO_KEY;

    if (drop)
        dco_transmit_drop(transmit, peer, drop, 1);
    return !drop;
}

bool dco_transmit_seal(struct dco_transmit *transmit, struct dco_peer *peer, const uint8_t *data,
                       uint32_t size)
{
    if (transmit->head) {
        transmit->head = 0;
        transmit->tos = transmit->tos_copied = 0;
        transmit->growing = false;
    }
    return seal_or_count(transmit, peer, data, size);
}

bool dco_transmit_packet(struct dco_transmit *transmit, struct dco_peer *peer,
                         const uint8_t *packet, uint32_t size)
{
    note_tos(transmit, peer, packet);
    return seal_or_count(transmit, peer, packet, size);
}

/* --- packets from the TUN --- */

static struct dco_peer *select_peer(struct dco_engine *engine, const uint8_t *packet)
{
    if (engine->config.mode == DCO_MODE_P2P)
        return atomic_load_explicit(&engine->only, memory_order_acquire);
    if (packet[0] >> 4 == 4)
        return dco_engine_owner(engine, AF_INET, packet + 16);
    return dco_engine_owner(engine, AF_INET6, packet + 24);
}

static inline void transmit_segments(struct dco_transmit *transmit, struct dco_peer *peer,
                                     struct dco_key *key)
{
    uint64_t bytes = 0, packets = 0;
    uint8_t *segment;
    uint32_t size;

    note_tos(transmit, peer, transmit->gso.packet);
    while (dco_gso_next(&transmit->gso, &segment, &size)) {
        enum dco_drop drop = seal(transmit, peer, key, segment, size);
        if (drop) {
            dco_transmit_drop(transmit, peer, drop, 1);
            continue;
        }
        bytes += size;
        packets++;
    }
    dco_counter_add(&peer->vpn_tx_bytes, bytes);
    dco_counter_add(&peer->vpn_tx_packets, packets);
}

__attribute__((cold)) void dco_transmit_segments(struct dco_transmit *transmit,
                                                 struct dco_peer *peer, struct dco_key *key)
{
    transmit_segments(transmit, peer, key);
}

/* What goes with a packet from one worker, or the API, to another. */
struct handed {
    enum {
        HANDED_PLAIN,
        HANDED_VNET,
        HANDED_FORWARD, /* for this peer */
        HANDED_GROUP,   /* from this peer, or, of generation 0, the host */
        HANDED_GROUP_VNET,
        HANDED_CONTROL,
        HANDED_MESSAGE,
    } kind;
    union {
        struct dco_vnet vnet;
        uint32_t peer_id; /* of a message, or a packet from peer to peer */
    };
    union {
        uint64_t transport; /* of a control packet */
        uint64_t generation;
    };
};

/* How many packets a super-packet is, where nothing else will be done with it. */
static uint32_t count_packets(struct dco_transmit *transmit, const struct dco_vnet *vnet,
                              uint8_t *packet, uint32_t size)
{
    return dco_gso_begin(&transmit->gso, vnet, packet, size) ? 1 : dco_gso_count(&transmit->gso);
}

/* The peer's home seals for it, and nobody else. */
static void hand_over(struct dco_transmit *transmit, struct dco_peer *peer,
                      const struct dco_vnet *vnet, uint8_t *packet, uint32_t size)
{
    struct dco_worker *home = &transmit->engine->worker[peer->home];
    struct handed head = {.kind = vnet ? HANDED_VNET : HANDED_PLAIN};

    if (vnet)
        head.vnet = *vnet;
    if (dco_handoff_put(&home->to_seal, transmit->worker->index, &head, sizeof head, packet,
                        size)) {
        transmit->handed |= 1u << peer->home;
        dco_counter_add(&transmit->stats.handed_to_seal, 1);
    } else {
        uint32_t packets = count_packets(transmit, vnet, packet, size);
        dco_counter_add(&transmit->stats.tun_read_packets, packets);
        dco_stats_drop(&transmit->stats, DCO_DROP_TX_HANDOFF_FULL, packets);
    }
}

static void announce(struct dco_transmit *transmit)
{
    for (; transmit->handed; transmit->handed &= transmit->handed - 1)
        dco_handoff_announce(&transmit->engine->worker[__builtin_ctz(transmit->handed)].to_seal);
}

/* In P2P mode the way leads nowhere while there is no peer; else it leads to other hosts. */
static enum dco_icmp unreachable(const struct dco_engine *engine)
{
    return engine->config.mode == DCO_MODE_P2P ? DCO_ICMP_NO_ROUTE : DCO_ICMP_UNREACHABLE;
}

static bool is_ip(const uint8_t *packet, uint32_t size)
{
    return size && ((packet[0] >> 4 == 4 && size >= 20) || (packet[0] >> 4 == 6 && size >= 40));
}

/* transmit->gso, for a peer of this worker. */
static void transmit_to(struct dco_transmit *transmit, struct dco_peer *peer)
{
    struct dco_key *key = dco_keyslots_get(&peer->keys, DCO_SLOT_PRIMARY);
    uint32_t features;

    if (!key) {
        dco_transmit_drop(transmit, peer, DCO_DROP_TX_NO_KEY, dco_gso_count(&transmit->gso));
        return;
    }
    features = dco_features(peer);
    if (features && !dco_features_transmit(transmit, peer, features))
        return;
    transmit_segments(transmit, peer, key);
    if (features & DCO_PEER_FEATURE_LIMITS)
        dco_features_count(transmit->engine, peer, transmit->now_ns);
}

/* The other workers get it before it is split, which overwrites it. */
static void hand_group(struct dco_transmit *transmit, const struct dco_vnet *vnet, uint8_t *packet,
                       uint32_t size)
{
    struct handed head = {.kind = vnet ? HANDED_GROUP_VNET : HANDED_GROUP};

    if (vnet)
        head.vnet = *vnet;
    for (unsigned i = 0; i < transmit->engine->workers; i++) {
        struct dco_handoff *to_seal = &transmit->engine->worker[i].to_seal;
        if (i == transmit->worker->index)
            continue;
        if (dco_handoff_put(to_seal, transmit->worker->index, &head, sizeof head, packet, size)) {
            transmit->handed |= 1u << i;
        } else {
            dco_stats_drop(&transmit->stats, DCO_DROP_TX_HANDOFF_FULL, 1);
            dco_counter_add(&transmit->stats.replicated_packets, 1);
        }
    }
}

static void transmit_packet(struct dco_transmit *transmit, const struct dco_vnet *vnet,
                            uint8_t *packet, uint32_t size)
{
    bool ip = is_ip(packet, size);
    struct dco_peer *peer = ip ? select_peer(transmit->engine, packet) : NULL;
    bool group = ip && !peer && dco_group_holds(transmit->engine, packet);
    enum dco_drop drop;

    if (peer && peer->home != transmit->worker->index) {
        hand_over(transmit, peer, vnet, packet, size);
        return;
    }
    if (group)
        hand_group(transmit, vnet, packet, size);
    drop = dco_gso_begin(&transmit->gso, vnet, packet, size);
    if (drop) {
        dco_transmit_drop(transmit, peer, drop, 1);
        dco_counter_add(&transmit->stats.tun_read_packets, 1);
        return;
    }
    dco_counter_add(&transmit->stats.tun_read_packets, dco_gso_count(&transmit->gso));
    if (peer) {
        transmit_to(transmit, peer);
    } else if (group) {
        dco_counter_add(&transmit->stats.group_packets, dco_gso_count(&transmit->gso));
        dco_group_seal(transmit, NULL);
    } else {
        dco_stats_drop(&transmit->stats, DCO_DROP_TX_NO_PEER, dco_gso_count(&transmit->gso));
        if (transmit->engine->config.unreachable)
            dco_answer(transmit, unreachable(transmit->engine), 0);
    }
}

/* The same under observation. */
__attribute__((cold)) static void trace_packet(struct dco_transmit *transmit,
                                               const struct dco_vnet *vnet, uint8_t *packet,
                                               uint32_t size)
{
    struct dco_trace *trace = dco_trace_on(transmit->engine);
    struct dco_peer *peer = is_ip(packet, size) ? select_peer(transmit->engine, packet) : NULL;
    uint64_t before = dco_counter_read(&transmit->stats.tun_read_packets), packets;

    if (!trace) {
        transmit_packet(transmit, vnet, packet, size);
        return;
    }
    dco_trace_transmit_begin(trace, transmit, peer, packet, size);
    transmit_packet(transmit, vnet, packet, size);
    packets = dco_counter_read(&transmit->stats.tun_read_packets) - before;
    if (packets) /* else its home has it now */
        dco_trace_transmit_end(trace, transmit, peer, (uint32_t)packets);
}

typedef void carry(struct dco_transmit *transmit, const struct dco_vnet *vnet, uint8_t *packet,
                   uint32_t size);

static inline void transmit_read(struct dco_transmit *transmit, uint8_t *data, uint32_t size,
                                 carry *carry)
{
    const struct dco_tun *tun = &transmit->engine->tun;
    struct dco_vnet vnet;

    if (!tun->vnet) {
        carry(transmit, NULL, data, size);
        return;
    }
    if (size < tun->vnet_size) {
        dco_stats_drop(&transmit->stats, DCO_DROP_TX_MALFORMED, 1);
        dco_counter_add(&transmit->stats.tun_read_packets, 1);
        return;
    }
    memcpy(&vnet, data, sizeof vnet);
    carry(transmit, &vnet, data + tun->vnet_size, size - tun->vnet_size);
}

/* Reads until the TUN is empty or the batch is full, then works on the whole batch: what is
 * sealed leaves in as few system calls as its sizes and destinations allow. */
bool dco_transmit_batch(struct dco_transmit *transmit)
{
    struct dco_tun *tun = &transmit->engine->tun;
    unsigned queue = transmit->worker->index;
    uint32_t offset[DCO_TUN_BATCH], size[DCO_TUN_BATCH], used = 0;
    unsigned count = 0;
    bool more = true;

    while (count < DCO_TUN_BATCH && used < DCO_TUN_BATCH_BYTES && more) {
        ssize_t n = dco_tun_read(tun, queue, transmit->arena + used, DCO_TUN_READ_MAX);
        if (n <= 0) { /* whether the descriptor is dead, epoll tells */
            more = n == -EINTR;
            continue;
        }
        offset[count] = used;
        size[count++] = (uint32_t)n;
        used += ((uint32_t)n + 63) & ~63u;
        more = !dco_tun_reads_once(tun);
    }
    dco_counter_add(&transmit->stats.tun_reads, count);
    if (count) {
        dco_stats_batch(transmit->stats.tx_batches, count);
        transmit->now_ns = dco_now_ns();
    }
    if (__builtin_expect(!dco_trace_on(transmit->engine), 1)) {
        for (unsigned i = 0; i < count; i++)
            transmit_read(transmit, transmit->arena + offset[i], size[i], transmit_packet);
    } else {
        for (unsigned i = 0; i < count; i++)
            transmit_read(transmit, transmit->arena + offset[i], size[i], trace_packet);
    }
    dco_outgoing_flush(transmit);
    announce(transmit);
    return count && more;
}

bool dco_transmit_order(struct dco_worker *worker, uint64_t transport, const void *packet,
                        size_t size)
{
    struct handed head = {.kind = HANDED_CONTROL, .transport = transport};

    if (!dco_handoff_put(&worker->to_seal, worker->index, &head, sizeof head, packet, size))
        return false;
    dco_handoff_announce(&worker->to_seal);
    return true;
}

bool dco_transmit_message(struct dco_worker *worker, const struct dco_peer *peer, const void *data,
                          size_t size)
{
    struct handed head = {
        .kind = HANDED_MESSAGE,
        .peer_id = peer->id,
        .generation = peer->generation,
    };

    if (!dco_handoff_put(&worker->to_seal, worker->index, &head, sizeof head, data, size))
        return false;
    dco_handoff_announce(&worker->to_seal);
    return true;
}

uint32_t dco_transmit_message_bytes(size_t size)
{
    return (uint32_t)size + DCO_WIRE_EPOCH_OVERHEAD + DCO_TCPFRAME_PREFIX;
}

/* The ring that the worker's receive thread has at each worker. */
static unsigned from_peers_of(const struct dco_worker *worker)
{
    return worker->engine->workers + worker->index;
}

static bool hand_from_peer(struct dco_worker *worker, unsigned home, const struct handed *head,
                           const uint8_t *packet, uint32_t size)
{
    return dco_handoff_put(&worker->engine->worker[home].to_seal, from_peers_of(worker), head,
                           sizeof *head, packet, size);
}

bool dco_transmit_forward(struct dco_worker *worker, const struct dco_peer *peer,
                          const uint8_t *packet, uint32_t size)
{
    struct handed head = {
        .kind = HANDED_FORWARD,
        .peer_id = peer->id,
        .generation = peer->generation,
    };

    return hand_from_peer(worker, peer->home, &head, packet, size);
}

bool dco_transmit_group(struct dco_worker *worker, unsigned home, const struct dco_peer *source,
                        const uint8_t *packet, uint32_t size)
{
    struct handed head = {
        .kind = HANDED_GROUP,
        .peer_id = source->id,
        .generation = source->generation,
    };

    return hand_from_peer(worker, home, &head, packet, size);
}

bool dco_transmit_reply(struct dco_transmit *transmit, const uint8_t *packet, uint32_t size)
{
    struct dco_peer *peer = select_peer(transmit->engine, packet);
    struct handed head = {.kind = HANDED_FORWARD};

    if (!peer)
        return false;
    if (peer->home == transmit->worker->index) {
        if (!dco_transmit_packet(transmit, peer, packet, size))
            return false;
        dco_counter_add(&peer->vpn_tx_packets, 1);
        dco_counter_add(&peer->vpn_tx_bytes, size);
        return true;
    }
    head.peer_id = peer->id;
    head.generation = peer->generation;
    transmit->handed |= 1u << peer->home;
    return dco_handoff_put(&transmit->engine->worker[peer->home].to_seal, transmit->worker->index,
                           &head, sizeof head, packet, size);
}

/* Who it is for was decided where it came in; NULL: a peer that is gone. */
static void transmit_forwarded(struct dco_transmit *transmit, struct dco_peer *peer,
                               uint8_t *packet, uint32_t size)
{
    struct dco_trace *trace = dco_trace_on(transmit->engine);
    enum dco_drop drop;

    if (trace)
        dco_trace_transmit_begin(trace, transmit, peer, packet, size);
    drop = peer ? dco_gso_begin(&transmit->gso, NULL, packet, size) : DCO_DROP_TX_NO_PEER;
    transmit->from_peer = true;
    if (drop)
        dco_transmit_drop(transmit, peer, drop, 1);
    else
        transmit_to(transmit, peer);
    transmit->from_peer = false;
    if (trace)
        dco_trace_transmit_end(trace, transmit, peer, 1);
}

bool dco_transmit_due(struct dco_transmit *transmit, const struct dco_forward_due *due,
                      unsigned count)
{
    struct dco_worker *worker = transmit->worker;

    if (dco_handoff_waits(&worker->to_seal, from_peers_of(worker)))
        return false;
    transmit->now_ns = dco_now_ns();
    for (unsigned i = 0; i < count; i++)
        transmit_forwarded(transmit, due[i].destination, due[i].packet, due[i].size);
    dco_outgoing_flush(transmit);
    announce(transmit);
    return true;
}

static struct dco_peer *peer_of(const struct dco_transmit *transmit, const struct handed *head)
{
    struct dco_peer_ref ref = {head->peer_id, head->generation};

    return dco_engine_find(transmit->engine, ref);
}

/* A sender that is gone may reach nobody any more. */
static void transmit_group(struct dco_transmit *transmit, const struct handed *head,
                           const struct dco_vnet *vnet, uint8_t *packet, uint32_t size)
{
    bool of_host = vnet || !head->generation;
    struct dco_peer *source = of_host ? NULL : peer_of(transmit, head);

    if ((source || of_host) && !dco_gso_begin(&transmit->gso, vnet, packet, size))
        dco_group_seal(transmit, source);
}

/* What is due falls last, when the queue of the connection has it. */
static void transmit_message(struct dco_transmit *transmit, const struct handed *head,
                             const uint8_t *data, uint32_t size)
{
    struct dco_peer *peer = peer_of(transmit, head);

    dco_counter_add(&transmit->stats.peer_messages, 1);
    if (!peer) {
        dco_stats_drop(&transmit->stats, DCO_DROP_TX_NO_PEER, 1);
        return;
    }
    dco_outgoing_loosen(transmit, true); /* of any size, and nobody could be told */
    dco_transmit_seal(transmit, peer, data, size);
    dco_outgoing_loosen(transmit, false);
    dco_counter_add(&peer->messages_tx, 1);
    if (peer->transport->stream) {
        dco_outgoing_flush(transmit);
        atomic_fetch_sub(&peer->message_due, dco_transmit_message_bytes(size));
    }
}

/* One record of another worker, or of the API, in transmit->arena. */
static void transmit_record(struct dco_transmit *transmit, const struct handed *head, uint32_t size)
{
    uint8_t *data = transmit->arena;

    switch (head->kind) {
    case HANDED_PLAIN: trace_packet(transmit, NULL, data, size); break;
    case HANDED_VNET: trace_packet(transmit, &head->vnet, data, size); break;
    case HANDED_FORWARD: transmit_forwarded(transmit, peer_of(transmit, head), data, size); break;
    case HANDED_GROUP: transmit_group(transmit, head, NULL, data, size); break;
    case HANDED_GROUP_VNET: transmit_group(transmit, head, &head->vnet, data, size); break;
    case HANDED_CONTROL: dco_outgoing_control(transmit, head->transport, data, size); break;
    case HANDED_MESSAGE: transmit_message(transmit, head, data, size); break;
    }
}

bool dco_transmit_handed(struct dco_transmit *transmit)
{
    struct dco_handoff *handoff = &transmit->worker->to_seal;
    uint32_t bytes = 0;
    size_t record;

    transmit->now_ns = dco_now_ns();
    while (bytes < DCO_TUN_BATCH_BYTES && (record = dco_handoff_peek(handoff))) {
        struct handed head;
        uint32_t size = (uint32_t)(record - sizeof head);
        dco_handoff_take(handoff, &head, sizeof head, transmit->arena);
        transmit_record(transmit, &head, size);
        bytes += size;
    }
    dco_outgoing_flush(transmit);
    announce(transmit);
    return bytes >= DCO_TUN_BATCH_BYTES;
}
