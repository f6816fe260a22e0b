#define _GNU_SOURCE
#include "engine/transmit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int dco_transmit_new(struct dco_engine *engine, struct dco_transmit **out)
{
    struct dco_transmit *transmit = calloc(1, sizeof *transmit);

    if (!transmit)
        return -ENOMEM;
    transmit->engine = engine;
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

/* Messages of one transport, which stand together. */
static void send_run(struct dco_transmit *transmit, unsigned first, unsigned count)
{
    struct dco_transport *transport = transmit->transport[first];
    struct dco_udp_message *messages = &transmit->message[first];
    struct dco_udp_tally tally = {0};
    bool had_source[DCO_SEND_MESSAGES];

    for (unsigned i = 0; i < count; i++)
        had_source[i] = messages[i].local.family;
    dco_udp_send(&transport->udp, &transmit->outbox, messages, count,
                 transmit->engine->worker.stop_fd, &tally);
    dco_counter_add(&transmit->stats.udp_sends, tally.calls);
    dco_counter_add(&transmit->stats.udp_send_messages, tally.messages);
    dco_counter_add(&transmit->stats.udp_send_packets, tally.packets);
    dco_counter_add(&transmit->stats.send_retries, tally.retries);
    dco_counter_add(&transmit->stats.gso_fallbacks, tally.fallbacks);
    dco_counter_add(&transmit->stats.oversize_sends, tally.oversize);
    for (unsigned i = 0; i < count; i++)
        account(transmit, &messages[i], had_source[i]);
    if (tally.errors_queued)
        dco_transport_drain_errors(transmit->engine, transport);
    if (tally.dead)
        dco_transport_fail(transmit->engine, transport, EPIPE);
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

    return transmit->growing && last->owner == peer && size <= last->segment
           && last->packets < DCO_GSO_SEGMENTS_MAX
           && last->size + size <= datagram_max(&last->remote);
}

/* Room for one more datagram of `size` bytes, at transmit->sealed + transmit->sealed_size. */
static enum dco_drop reserve(struct dco_transmit *transmit, struct dco_peer *peer, uint32_t size)
{
    enum dco_drop drop;

    if (transmit->messages && message_takes(transmit, peer, size)
        && transmit->sealed_size + size <= DCO_SEND_ARENA)
        return DCO_DROP_NONE;
    if (transmit->messages == DCO_SEND_MESSAGES || transmit->sealed_size + size > DCO_SEND_ARENA)
        dco_transmit_flush(transmit);
    drop = message_begin(transmit, peer, size);
    transmit->growing =
        drop == DCO_DROP_NONE
        && atomic_load_explicit(&peer->transport->udp.offloads, memory_order_relaxed)
               & DCO_OFFLOAD_UDP_GSO;
    return drop;
}

static void commit(struct dco_transmit *transmit, uint32_t size)
{
    struct dco_udp_message *message = &transmit->message[transmit->messages - 1];

    message->size += size;
    message->packets++;
    transmit->sealed_size += size;
    if (size < message->segment)
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
                                    struct dco_key *key, uint32_t size, uint64_t *packet_id)
{
    struct dco_engine *engine = transmit->engine;
    unsigned news = dco_key_take_id(key, size, packet_id);

    if (news & DCO_KEY_WAKE)
        dco_worker_kick(&engine->worker);
    if (news & DCO_KEY_SPENT)
        dco_engine_key_event(engine, peer, key, DCO_EVENT_KEY_EXHAUSTED);
    if (news & DCO_KEY_SOON)
        dco_engine_key_event(engine, peer, key, DCO_EVENT_KEY_SOON);
    return news & DCO_KEY_NO_ID ? DCO_DROP_TX_KEY_EXHAUSTED : DCO_DROP_NONE;
}

static enum dco_drop seal(struct dco_transmit *transmit, struct dco_peer *peer, struct dco_key *key,
                          const uint8_t *data, uint32_t size)
{
    uint32_t total = size + dco_key_overhead(key), header;
    uint64_t packet_id;
    enum dco_drop drop = reserve(transmit, peer, total);

    if (drop)
        return drop;
    drop = take_packet_id(transmit, peer, key, size, &packet_id);
    if (!drop) {
        header =
            dco_wire_header(key->key_id, atomic_load_explicit(&peer->tx_id, memory_order_relaxed));
        if (dco_key_seal(key, header, packet_id, data, size,
                         transmit->sealed + transmit->sealed_size)) {
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

static void transmit_packet(struct dco_transmit *transmit, const struct dco_vnet *vnet,
                            uint8_t *packet, uint32_t size)
{
    enum dco_drop drop = dco_gso_begin(&transmit->gso, vnet, packet, size);
    struct dco_peer *peer;
    struct dco_key *key;

    if (drop) {
        dco_stats_drop(&transmit->stats, drop, 1);
        dco_counter_add(&transmit->stats.tun_read_packets, 1);
        return;
    }
    dco_counter_add(&transmit->stats.tun_read_packets, dco_gso_count(&transmit->gso));
    peer = select_peer(transmit->engine, packet);
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
    uint32_t offset[DCO_TUN_BATCH], size[DCO_TUN_BATCH], used = 0;
    unsigned count = 0;
    bool more = true;

    while (count < DCO_TUN_BATCH && used < DCO_TUN_BATCH_BYTES && more) {
        ssize_t n = dco_tun_read(tun, transmit->arena + used, DCO_TUN_READ_MAX);
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
    return count && more;
}
