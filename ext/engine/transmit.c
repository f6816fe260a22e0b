#define _GNU_SOURCE
#include "engine/transmit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "codec/tcpframe.h"

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

/* --- flush --- */

static enum dco_drop drop_of_error(int error)
{
    switch (-error) {
    case EAGAIN:
    case ENOBUFS: return DCO_DROP_TX_BACKLOG;
    case EMSGSIZE: return DCO_DROP_TX_TOO_BIG;
    case ENETUNREACH:
    case EHOSTUNREACH:
    case ENETDOWN:
    case EADDRNOTAVAIL:
    case EAFNOSUPPORT:
    case EPIPE:
    case EBADF: return DCO_DROP_TX_NO_TRANSPORT;
    default: return DCO_DROP_TX_SEND;
    }
}

/* A source address that this host no longer has is forgotten; the next packet brings another. */
static void forget_source(struct dco_engine *engine, struct dco_peer *peer)
{
    struct dco_endpoint endpoint;

    if (pthread_mutex_trylock(&engine->lock))
        return;
    dco_peer_endpoint_read(peer, &endpoint);
    memset(&endpoint.local, 0, sizeof endpoint.local);
    dco_peer_endpoint_write(peer, &endpoint);
    pthread_mutex_unlock(&engine->lock);
}

static void account(struct dco_transmit *transmit, struct dco_udp_message *message, bool had_source)
{
    struct dco_peer *peer = message->owner;
    uint32_t lost = (uint32_t)message->failed * message->segment;

    if (message->failed < message->packets) {
        dco_counter_add(&peer->link_tx_packets, message->packets - message->failed);
        dco_counter_add(&peer->link_tx_bytes, message->size - lost);
        dco_counter_set(&peer->last_sent_ns, transmit->now_ns);
    }
    if (message->failed) {
        enum dco_drop reason = drop_of_error(message->error);
        dco_stats_drop(&transmit->stats, reason, message->failed);
        if (reason == DCO_DROP_TX_NO_TRANSPORT)
            dco_counter_add(&peer->tx_no_transport, message->failed);
    }
    if (message->single)
        atomic_store_explicit(&peer->single_above, message->segment - 1u, memory_order_relaxed);
    if (had_source && !message->local.family)
        forget_source(transmit->engine, peer);
}

/* What the connection made of what it got. */
static void stream_result(struct dco_transmit *transmit, struct dco_transport *transport,
                          const struct dco_tcp_tally *tally, int error)
{
    struct dco_stream *stream = transport->stream;

    dco_counter_add(&transmit->stats.tcp_sends, tally->calls);
    dco_counter_add(&transmit->stats.tcp_send_packets, tally->packets);
    if (!error || error == -EAGAIN) {
        dco_stream_await_room(transmit->worker, transport, error == -EAGAIN);
        return;
    }
    dco_tcp_queue_clear(&stream->queue, &transmit->worker->pool);
    dco_stream_await_room(transmit->worker, transport, false);
    dco_transport_fail(transmit->engine, transport, -error,
                       error == -EPIPE || error == -ECONNRESET ? DCO_DELETED_TRANSPORT_DISCONNECT
                                                               : DCO_DELETED_TRANSPORT_ERROR);
}

/* A run of frames; what finds no room is dropped from its end. */
static void send_frames(struct dco_transmit *transmit, const struct dco_udp_message *message,
                        struct dco_transport *transport)
{
    struct dco_peer *peer = message->owner;
    struct dco_tcp_tally tally = {0};
    int error = dco_tcp_send(&transport->stream->tcp, &transport->stream->queue,
                             &transmit->worker->pool, message->data, message->size, &tally);

    if (tally.packets) {
        dco_counter_add(&peer->link_tx_packets, tally.packets);
        dco_counter_add(&peer->link_tx_bytes, tally.bytes);
        dco_counter_set(&peer->last_sent_ns, transmit->now_ns);
    }
    if (tally.packets < message->packets) {
        uint32_t lost = message->packets - tally.packets;
        bool dead = error && error != -EAGAIN;
        dco_stats_drop(&transmit->stats, dead ? DCO_DROP_TX_NO_TRANSPORT : DCO_DROP_TX_BACKLOG,
                       lost);
        if (dead)
            dco_counter_add(&peer->tx_no_transport, lost);
    }
    stream_result(transmit, transport, &tally, error);
}

void dco_transmit_stream(struct dco_transmit *transmit, struct dco_transport *transport)
{
    struct dco_stream *stream = transport->stream;
    struct dco_tcp_tally tally = {0};
    int error = dco_tcp_flush(&stream->tcp, &stream->queue, &transmit->worker->pool, &tally);

    stream_result(transmit, transport, &tally, error);
}

/* Messages of one transport, which stand together. */
static void send_run(struct dco_transmit *transmit, unsigned first, unsigned count)
{
    struct dco_transport *transport = transmit->transport[first];
    struct dco_udp_message *messages = &transmit->message[first];
    struct dco_udp *udp = dco_transport_udp(transport, transmit->worker->index);
    struct dco_udp_tally tally = {0};
    bool had_source[DCO_SEND_MESSAGES];

    if (transport->stream) {
        for (unsigned i = 0; i < count; i++)
            send_frames(transmit, &messages[i], transport);
        return;
    }
    for (unsigned i = 0; i < count; i++)
        had_source[i] = messages[i].local.family;
    dco_udp_send(udp, &transmit->outbox, messages, count, transmit->worker->stop_fd, &tally);
    dco_counter_add(&transmit->stats.udp_sends, tally.calls);
    dco_counter_add(&transmit->stats.udp_send_messages, tally.messages);
    dco_counter_add(&transmit->stats.udp_send_packets, tally.packets);
    dco_counter_add(&transmit->stats.send_retries, tally.retries);
    dco_counter_add(&transmit->stats.gso_fallbacks, tally.fallbacks);
    dco_counter_add(&transmit->stats.oversize_sends, tally.oversize);
    for (unsigned i = 0; i < count; i++)
        account(transmit, &messages[i], had_source[i]);
    if (tally.errors_queued)
        dco_transport_drain_errors(transmit->engine, transport, udp);
    if (tally.dead)
        dco_transport_fail(transmit->engine, transport, EPIPE, DCO_DELETED_TRANSPORT_DISCONNECT);
}

void dco_transmit_flush(struct dco_transmit *transmit)
{
    unsigned first = 0;

    for (unsigned i = 1; i <= transmit->messages; i++) {
        if (i == transmit->messages || transmit->transport[i] != transmit->transport[first]) {
            send_run(transmit, first, i - first);
            first = i;
        }
    }
    transmit->messages = 0;
    transmit->sealed_size = 0;
    transmit->growing = false;
}

/* --- messages --- */

static uint32_t datagram_max(const struct dco_address *remote)
{
    return remote->family == AF_INET ? DCO_UDP4_PAYLOAD_MAX : DCO_UDP6_PAYLOAD_MAX;
}

/* To a connection, which takes frames of all sizes. */
static enum dco_drop run_begin(struct dco_transmit *transmit, struct dco_peer *peer, uint32_t size)
{
    if (size > DCO_TCPFRAME_PREFIX + DCO_TCPFRAME_MAX)
        return DCO_DROP_TX_TOO_BIG;
    transmit->message[transmit->messages] = (struct dco_udp_message){
        .data = transmit->sealed + transmit->sealed_size,
        .segment = UINT16_MAX,
        .owner = peer,
    };
    transmit->transport[transmit->messages++] = peer->transport;
    return DCO_DROP_NONE;
}

static enum dco_drop message_begin(struct dco_transmit *transmit, struct dco_peer *peer,
                                   uint32_t size)
{
    struct dco_udp_message *message = &transmit->message[transmit->messages];
    struct dco_endpoint endpoint;

    dco_peer_endpoint_read(peer, &endpoint);
    if (!endpoint.remote.family)
        return DCO_DROP_TX_NO_TRANSPORT;
    if (size > datagram_max(&endpoint.remote))
        return DCO_DROP_TX_TOO_BIG;
    if (size > atomic_load_explicit(&peer->path_limit, memory_order_relaxed)) {
        if (transmit->now_ns
            < atomic_load_explicit(&peer->path_limit_until_ns, memory_order_relaxed))
            return DCO_DROP_TX_TOO_BIG;
        dco_peer_path_reset(peer);
    }
    *message = (struct dco_udp_message){
        .data = transmit->sealed + transmit->sealed_size,
        .segment = (uint16_t)size,
        .single = size > atomic_load_explicit(&peer->single_above, memory_order_relaxed),
        .owner = peer,
        .remote = endpoint.remote,
        .local = endpoint.local,
    };
    transmit->transport[transmit->messages++] = peer->transport;
    return DCO_DROP_NONE;
}

/* A message takes datagrams of one size to one peer; a shorter one ends it. */
static bool message_takes(const struct dco_transmit *transmit, const struct dco_peer *peer,
                          uint32_t size)
{
    const struct dco_udp_message *last = &transmit->message[transmit->messages - 1];

    if (transmit->growing && last->owner == peer && peer->transport->stream)
        return true;
    return transmit->growing && last->owner == peer && size <= last->segment
           && last->packets < DCO_GSO_SEGMENTS_MAX
           && last->size + size <= datagram_max(&last->remote);
}

static bool sends_trains(const struct dco_transmit *transmit, const struct dco_peer *peer)
{
    const struct dco_udp *udp = dco_transport_udp(peer->transport, transmit->worker->index);

    return atomic_load_explicit(&udp->offloads, memory_order_relaxed) & DCO_OFFLOAD_UDP_GSO;
}

/* Room for one more datagram or frame of `size` bytes, at transmit->sealed + sealed_size. */
static enum dco_drop reserve(struct dco_transmit *transmit, struct dco_peer *peer, uint32_t size)
{
    bool stream = peer->transport->stream;
    enum dco_drop drop;

    if (transmit->messages && message_takes(transmit, peer, size)
        && transmit->sealed_size + size <= DCO_SEND_ARENA)
        return DCO_DROP_NONE;
    if (transmit->messages == DCO_SEND_MESSAGES || transmit->sealed_size + size > DCO_SEND_ARENA)
        dco_transmit_flush(transmit);
    drop = stream ? run_begin(transmit, peer, size) : message_begin(transmit, peer, size);
    transmit->growing = !drop && (stream || sends_trains(transmit, peer));
    return drop;
}

static void commit(struct dco_transmit *transmit, uint32_t size)
{
    struct dco_udp_message *message = &transmit->message[transmit->messages - 1];

    message->size += size;
    message->packets++;
    transmit->sealed_size += size;
    if (size < message->segment && message->segment != UINT16_MAX)
        transmit->growing = false;
}

/* Nothing was put into the message that reserve() began. */
static void cancel(struct dco_transmit *transmit)
{
    if (transmit->messages && !transmit->message[transmit->messages - 1].packets)
        transmit->messages--;
    transmit->growing = false;
}

/* --- seal --- */

static enum dco_drop take_packet_id(struct dco_transmit *transmit, struct dco_peer *peer,
                                    struct dco_key *key, uint32_t size, uint32_t *packet_id)
{
    uint64_t usage = dco_counter_read(&key->usage) + (size + 15) / 16 + 1;

    if (usage > key->usage_limit || !dco_pktid_next(&key->counter, packet_id)) {
        dco_engine_key_event(transmit->engine, peer, key, DCO_EVENT_KEY_EXHAUSTED);
        return DCO_DROP_TX_KEY_EXHAUSTED;
    }
    dco_counter_set(&key->usage, usage);
    dco_counter_add(&key->sealed, 1);
    if (usage >= key->usage_soon || *packet_id >= DCO_PKTID_SOON)
        dco_engine_key_event(transmit->engine, peer, key, DCO_EVENT_KEY_SOON);
    return DCO_DROP_NONE;
}

static enum dco_drop seal(struct dco_transmit *transmit, struct dco_peer *peer, struct dco_key *key,
                          const uint8_t *data, uint32_t size)
{
    uint32_t prefix = peer->transport->stream ? DCO_TCPFRAME_PREFIX : 0;
    uint32_t total = prefix + DCO_WIRE_OVERHEAD + size, packet_id, header;
    enum dco_drop drop = reserve(transmit, peer, total);
    uint8_t *packet = transmit->sealed + transmit->sealed_size + prefix;

    if (drop)
        return drop;
    drop = take_packet_id(transmit, peer, key, size, &packet_id);
    if (!drop) {
        header =
            dco_wire_header(key->key_id, atomic_load_explicit(&peer->tx_id, memory_order_relaxed));
        if (prefix)
            dco_tcpframe_put(packet - prefix, total - prefix);
        if (dco_aead_seal(&key->sealing, header, packet_id, data, size, packet)) {
            commit(transmit, total);
            return DCO_DROP_NONE;
        }
        drop = DCO_DROP_TX_ENCRYPT;
    }
    cancel(transmit);
    return drop;
}

static void count_drop(struct dco_transmit *transmit, struct dco_peer *peer, enum dco_drop reason,
                       uint64_t packets)
{
    dco_stats_drop(&transmit->stats, reason, packets);
    switch (reason) {
    case DCO_DROP_TX_NO_KEY: dco_counter_add(&peer->tx_no_key, packets); break;
    case DCO_DROP_TX_KEY_EXHAUSTED: dco_counter_add(&peer->tx_iv_exhausted, packets); break;
    case DCO_DROP_TX_ENCRYPT: dco_counter_add(&peer->tx_encrypt_errors, packets); break;
    case DCO_DROP_TX_NO_TRANSPORT: dco_counter_add(&peer->tx_no_transport, packets); break;
    default: break;
    }
}

bool dco_transmit_seal(struct dco_transmit *transmit, struct dco_peer *peer, const uint8_t *data,
                       uint32_t size)
{
    struct dco_key *key = dco_keyslots_get(&peer->keys, DCO_SLOT_PRIMARY);
    enum dco_drop drop = key ? seal(transmit, peer, key, data, size) : DCO_DROP_TX_NO_KEY;

    if (drop)
        count_drop(transmit, peer, drop, 1);
    return !drop;
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

static void transmit_segments(struct dco_transmit *transmit, struct dco_peer *peer,
                              struct dco_key *key)
{
    uint64_t bytes = 0, packets = 0;
    uint8_t *segment;
    uint32_t size;

    while (dco_gso_next(&transmit->gso, &segment, &size)) {
        enum dco_drop drop = seal(transmit, peer, key, segment, size);
        if (drop) {
            count_drop(transmit, peer, drop, 1);
            continue;
        }
        bytes += size;
        packets++;
    }
    dco_counter_add(&peer->vpn_tx_bytes, bytes);
    dco_counter_add(&peer->vpn_tx_packets, packets);
}

/* What goes with a packet from one worker, or the API, to another. */
struct handed {
    enum { HANDED_PLAIN, HANDED_VNET, HANDED_CONTROL } kind;
    struct dco_vnet vnet;
    uint64_t transport; /* of a control packet */
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

static bool is_ip(const uint8_t *packet, uint32_t size)
{
    return size && ((packet[0] >> 4 == 4 && size >= 20) || (packet[0] >> 4 == 6 && size >= 40));
}

static void transmit_packet(struct dco_transmit *transmit, const struct dco_vnet *vnet,
                            uint8_t *packet, uint32_t size)
{
    struct dco_peer *peer = is_ip(packet, size) ? select_peer(transmit->engine, packet) : NULL;
    enum dco_drop drop;
    struct dco_key *key;

    if (peer && peer->home != transmit->worker->index) {
        hand_over(transmit, peer, vnet, packet, size);
        return;
    }
    drop = dco_gso_begin(&transmit->gso, vnet, packet, size);
    if (drop) {
        dco_stats_drop(&transmit->stats, drop, 1);
        dco_counter_add(&transmit->stats.tun_read_packets, 1);
        return;
    }
    dco_counter_add(&transmit->stats.tun_read_packets, dco_gso_count(&transmit->gso));
    if (!peer) {
        dco_stats_drop(&transmit->stats, DCO_DROP_TX_NO_PEER, dco_gso_count(&transmit->gso));
        return;
    }
    key = dco_keyslots_get(&peer->keys, DCO_SLOT_PRIMARY);
    if (!key) {
        count_drop(transmit, peer, DCO_DROP_TX_NO_KEY, dco_gso_count(&transmit->gso));
        return;
    }
    transmit_segments(transmit, peer, key);
}

static void transmit_read(struct dco_transmit *transmit, uint8_t *data, uint32_t size)
{
    const struct dco_tun *tun = &transmit->engine->tun;
    struct dco_vnet vnet;

    if (!tun->vnet) {
        transmit_packet(transmit, NULL, data, size);
        return;
    }
    if (size < tun->vnet_size) {
        dco_stats_drop(&transmit->stats, DCO_DROP_TX_MALFORMED, 1);
        dco_counter_add(&transmit->stats.tun_read_packets, 1);
        return;
    }
    memcpy(&vnet, data, sizeof vnet);
    transmit_packet(transmit, &vnet, data + tun->vnet_size, size - tun->vnet_size);
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
    for (unsigned i = 0; i < count; i++)
        transmit_read(transmit, transmit->arena + offset[i], size[i]);
    dco_transmit_flush(transmit);
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

/* What is due falls last, so that it and what waits are never less than what is there. */
static void send_ordered(struct dco_transmit *transmit, uint64_t id, const uint8_t *packet,
                         uint32_t size)
{
    struct dco_transport *transport = dco_transport_find(&transmit->engine->transports, id);
    struct dco_tcp_tally tally = {0};
    int error = -EPIPE;

    if (transport && !atomic_load(&transport->failed)) {
        struct dco_stream *stream = transport->stream;
        error = dco_tcp_send_control(&stream->tcp, &stream->queue, &transmit->worker->pool, packet,
                                     size, &tally);
        stream_result(transmit, transport, &tally, error == -ENOBUFS ? -EAGAIN : error);
        atomic_fetch_sub(&stream->control_due, size + DCO_TCPFRAME_PREFIX);
    }
    if (error && error != -EAGAIN)
        dco_stats_drop(&transmit->stats, DCO_DROP_TX_CONTROL, 1);
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
        if (head.kind == HANDED_CONTROL)
            send_ordered(transmit, head.transport, transmit->arena, size);
        else
            transmit_packet(transmit, head.kind == HANDED_VNET ? &head.vnet : NULL, transmit->arena,
                            size);
        bytes += size;
    }
    dco_transmit_flush(transmit);
    announce(transmit);
    return bytes >= DCO_TUN_BATCH_BYTES;
}
