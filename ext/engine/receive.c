#define _GNU_SOURCE
#include "engine/receive.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

int dco_receive_new(struct dco_engine *engine, struct dco_receive **out)
{
    struct dco_receive *receive = calloc(1, sizeof *receive);
    int error;

    if (!receive)
        return -ENOMEM;
    receive->engine = engine;
    error = dco_udp_inbox_init(&receive->inbox);
    if (error) {
        free(receive);
        return error;
    }
    *out = receive;
    return 0;
}

void dco_receive_free(struct dco_receive *receive)
{
    if (!receive)
        return;
    dco_udp_inbox_destroy(&receive->inbox);
    free(receive);
}

static void drop(struct dco_receive *receive, enum dco_drop reason, uint64_t packets)
{
    dco_stats_drop(&receive->stats, reason, packets);
}

/* --- to the TUN --- */

static enum dco_drop drop_of_error(int error)
{
    switch (-error) {
    case EIO: /* what a TUN answers while its interface is down */
    case EBADFD:
    case EBADF:
    case EPIPE:
    case ECONNRESET: return DCO_DROP_RX_TUN_DOWN;
    case EAGAIN:
    case ENOBUFS: return DCO_DROP_RX_TUN_BACKLOG;
    default: return DCO_DROP_RX_TUN_WRITE;
    }
}

/* A TUN never fills; a packet socket does, and its reader gets a moment. */
static int write_patiently(struct dco_receive *receive, const struct iovec *iov, int parts)
{
    struct dco_tun *tun = &receive->engine->tun;
    int error = dco_tun_write(tun, iov, parts);

    if (error == -EAGAIN && !receive->impatient) {
        struct pollfd fds[2] = {{.fd = tun->fd, .events = POLLOUT},
                                {.fd = receive->engine->worker.stop_fd, .events = POLLIN}};
        if (poll(fds, 2, DCO_SEND_WAIT_MS) > 0 && fds[0].revents & POLLOUT)
            error = dco_tun_write(tun, iov, parts);
        receive->impatient = error == -EAGAIN;
    }
    dco_counter_add(&receive->stats.tun_writes, 1);
    return error;
}

static void delivered(struct dco_receive *receive, struct dco_peer *peer, uint32_t bytes,
                      uint32_t packets)
{
    dco_counter_add(&receive->stats.tun_write_packets, packets);
    dco_counter_add(&peer->vpn_rx_bytes, bytes);
    dco_counter_add(&peer->vpn_rx_packets, packets);
}

/* The kernel refused the super-packet: its packets go one by one, and when they pass it was the
 * offload, which is then left alone (Linux 6.6.44 refused tails shorter than the segment). */
static void write_singly(struct dco_receive *receive, struct dco_gro_item *item)
{
    static uint8_t no_offload[16];
    struct dco_tun *tun = &receive->engine->tun;
    bool passed = true;

    dco_gro_undo(item);
    for (uint32_t i = 0; i < item->packets; i++) {
        struct iovec iov[2] = {{no_offload, tun->vnet_size}, {item->part[i], item->part_size[i]}};
        int error = write_patiently(receive, iov, 2);
        if (error) {
            passed = false;
            drop(receive, drop_of_error(error), 1);
        } else {
            delivered(receive, item->owner, item->part_size[i], 1);
        }
    }
    if (passed) {
        dco_counter_add(&receive->stats.gro_fallbacks, 1);
        atomic_fetch_and(&tun->offloads,
                         ~(uint32_t)(item->protocol == IPPROTO_TCP ? DCO_OFFLOAD_TUN_TCP_GRO
                                                                   : DCO_OFFLOAD_TUN_UDP_GRO));
    }
}

static void write_item(struct dco_receive *receive, struct dco_gro_item *item)
{
    struct dco_tun *tun = &receive->engine->tun;
    struct iovec iov[DCO_GRO_SEGMENTS + 1];
    int parts = dco_gro_finish(item, tun->vnet, iov);
    int error;

    if (tun->vnet)
        iov[0].iov_len = tun->vnet_size;
    error = write_patiently(receive, iov, parts);
    if (!error)
        delivered(receive, item->owner, item->bytes, item->packets);
    else if (error == -EINVAL && item->packets > 1)
        write_singly(receive, item);
    else
        drop(receive, drop_of_error(error), item->packets);
}

static void reset_items(struct dco_receive *receive)
{
    uint32_t offloads = atomic_load_explicit(&receive->engine->tun.offloads, memory_order_relaxed);

    dco_gro_reset(&receive->gro, offloads & DCO_OFFLOAD_TUN_TCP_GRO,
                  offloads & DCO_OFFLOAD_TUN_UDP_GRO);
}

static void write_items(struct dco_receive *receive)
{
    for (uint32_t i = 0; i < receive->gro.count; i++)
        write_item(receive, &receive->gro.item[i]);
    reset_items(receive);
}

/* --- control port --- */

static void punt(struct dco_receive *receive, struct dco_transport *transport,
                 const struct dco_udp_train *train, int64_t peer_id, const uint8_t *data,
                 uint32_t size)
{
    if (!dco_control_put(receive->engine, transport->id, peer_id, &train->remote, &train->local,
                         data, size)) {
        drop(receive, DCO_DROP_CONTROL_FULL, 1);
        return;
    }
    dco_counter_add(&receive->stats.control_packets, 1);
    receive->signal = true;
}

/* --- float --- */

static bool is_vpn_address(struct dco_engine *engine, const struct dco_address *address)
{
    struct dco_prefix host = {
        .family = address->family,
        .length = address->family == AF_INET ? 32 : 128,
    };
    struct dco_lpm_route *route;

    memcpy(host.ip, address->ip, sizeof host.ip);
    route = dco_lpm_exact(&engine->lpm, &host);
    return route && route->host;
}

static void report_float(struct dco_receive *receive, struct dco_peer *peer,
                         const struct dco_endpoint *endpoint)
{
    struct dco_event_record news = {.kind = DCO_EVENT_PEER_FLOATED, .endpoint = *endpoint};
    uint64_t last = atomic_load_explicit(&peer->float_reported_ns, memory_order_relaxed);

    dco_counter_add(&peer->float_count, 1);
    if (!last || receive->now_ns >= last + 1000000000u) {
        atomic_store_explicit(&peer->float_reported_ns, receive->now_ns, memory_order_relaxed);
        dco_events_post(&receive->engine->events, &peer->record[DCO_RECORD_FLOATED], &news);
    } else if (!atomic_exchange(&peer->float_pending, true)) {
        dco_worker_kick(&receive->engine->worker);
    }
}

static void refuse_float(struct dco_engine *engine, struct dco_peer *peer,
                         const struct dco_endpoint *endpoint)
{
    struct dco_event_record news = {.kind = DCO_EVENT_PEER_FLOAT_REFUSED, .endpoint = *endpoint};

    dco_events_post(&engine->events, &peer->record[DCO_RECORD_FLOAT_REFUSED], &news);
}

/* Moves the peer, under the lock if it is to be had: else the next packet will try again. */
static void move_peer(struct dco_receive *receive, struct dco_peer *peer,
                      const struct dco_endpoint *endpoint, bool floated)
{
    struct dco_engine *engine = receive->engine;
    int error = 0;

    if (pthread_mutex_trylock(&engine->lock))
        return;
    if (peer->dead)
        error = -ENOENT;
    else if (floated)
        error = dco_peer_table_move(&engine->peers, peer, peer->transport->id, &endpoint->remote);
    if (!error) {
        dco_peer_endpoint_write(peer, endpoint);
        dco_peer_path_reset(peer);
    }
    pthread_mutex_unlock(&engine->lock);
    if (!error && floated)
        report_float(receive, peer, endpoint);
}

/* Only an authenticated packet that is the newest of its window says where a peer is. */
static void check_endpoint(struct dco_receive *receive, struct dco_transport *transport,
                           const struct dco_udp_train *train, struct dco_peer *peer)
{
    struct dco_endpoint now = {train->remote, train->local}, known;
    struct dco_peer *owner;

    if (transport != peer->transport)
        return;
    dco_peer_endpoint_read(peer, &known);
    if (dco_address_equal(&known.remote, &now.remote)) {
        if (transport->udp.learn_source && !dco_address_equal(&known.local, &now.local))
            move_peer(receive, peer, &now, false);
        return;
    }
    owner = dco_peer_table_by_address(&receive->engine->peers, transport->id, &now.remote);
    if ((owner && owner != peer) || is_vpn_address(receive->engine, &now.remote))
        refuse_float(receive->engine, peer, &now);
    else
        move_peer(receive, peer, &now, true);
}

/* --- inner packet --- */

static bool source_allowed(struct dco_receive *receive, struct dco_peer *peer,
                           const uint8_t *packet)
{
    struct dco_engine *engine = receive->engine;
    bool ipv4 = packet[0] >> 4 == 4;
    const uint8_t *source = packet + (ipv4 ? 12 : 8);
    size_t size = ipv4 ? 4 : 16;
    uint8_t family = ipv4 ? AF_INET : AF_INET6;

    if (engine->config.mode == DCO_MODE_P2P
        || !atomic_load_explicit(&engine->source_check, memory_order_relaxed))
        return true;
    if (receive->source_family != family || memcmp(receive->source_ip, source, size)) {
        receive->source_family = family;
        memcpy(receive->source_ip, source, size);
        receive->source_owner = dco_engine_owner(engine, family, source);
    }
    return receive->source_owner == peer;
}

static bool is_ip(const uint8_t *packet, uint32_t size)
{
    return (packet[0] >> 4 == 4 && size >= 20) || (packet[0] >> 4 == 6 && size >= 40);
}

static void receive_inner(struct dco_receive *receive, struct dco_transport *transport,
                          const struct dco_udp_train *train, struct dco_peer *peer, uint8_t *packet,
                          uint32_t size)
{
    if (size == 0) {
        drop(receive, DCO_DROP_RX_EMPTY, 1);
        return;
    }
    if (!is_ip(packet, size)) {
        if (size == DCO_KEEPALIVE_SIZE && !memcmp(packet, dco_wire_keepalive, size)) {
            dco_counter_add(&peer->keepalive_rx, 1);
            return;
        }
        dco_counter_add(&peer->rx_unsupported_protocol, 1);
        punt(receive, transport, train, peer->id, packet, size);
        return;
    }
    if (!source_allowed(receive, peer, packet)) {
        dco_counter_add(&peer->rx_source_errors, 1);
        drop(receive, DCO_DROP_RX_SOURCE, 1);
        return;
    }
    if (!dco_gro_add(&receive->gro, packet, size, peer)) {
        write_items(receive);
        dco_gro_add(&receive->gro, packet, size, peer);
    }
}

/* --- data packet --- */

static struct dco_peer *find_peer(struct dco_receive *receive, struct dco_transport *transport,
                                  const struct dco_udp_train *train, uint32_t id)
{
    struct dco_engine *engine = receive->engine;
    struct dco_peer *only;

    if (engine->config.mode == DCO_MODE_MULTIPEER) {
        if (id == DCO_PEER_ID_UNDEFINED)
            return dco_peer_table_by_address(&engine->peers, transport->id, &train->remote);
        return dco_peer_table_by_id(&engine->peers, id);
    }
    only = atomic_load_explicit(&engine->only, memory_order_acquire);
    if (only && only->id != id) {
        struct dco_endpoint endpoint;
        dco_peer_endpoint_read(only, &endpoint);
        if (id != DCO_PEER_ID_UNDEFINED || !dco_address_equal(&endpoint.remote, &train->remote))
            return NULL;
    }
    return only;
}

static void count_open(struct dco_receive *receive, struct dco_peer *peer, struct dco_key *key,
                       uint32_t size)
{
    uint64_t usage = dco_counter_read(&key->open_usage) + (size + 15) / 16 + 1;

    dco_counter_set(&key->open_usage, usage);
    if (usage >= key->usage_soon)
        dco_engine_key_event(receive->engine, peer, key, DCO_EVENT_KEY_SOON);
}

/* What was in a data packet. */
struct opened {
    uint8_t *inner;
    uint32_t size;
    bool newest; /* the highest packet id yet */
};

/* The same steps in the epoch format, where each epoch has its own key and window. */
static enum dco_drop open_epoch_packet(struct dco_receive *receive, struct dco_peer *peer,
                                       struct dco_key *key, uint8_t *packet, uint32_t size,
                                       struct opened *opened)
{
    struct dco_epochs_opened epoch = {0};
    enum dco_drop drop =
        dco_epochs_open(key->epochs, packet, size, receive->now_ns / 1000000000u, &epoch);

    if (epoch.wake)
        dco_worker_kick(&receive->engine->worker);
    if (epoch.soon)
        dco_engine_key_event(receive->engine, peer, key, DCO_EVENT_KEY_SOON);
    switch (drop) {
    case DCO_DROP_NONE:
        opened->inner = packet + DCO_WIRE_EPOCH_AAD;
        opened->size = size - DCO_WIRE_EPOCH_OVERHEAD;
        opened->newest = epoch.newest;
        break;
    case DCO_DROP_RX_DECRYPT: dco_counter_add(&peer->rx_decrypt_errors, 1); break;
    case DCO_DROP_RX_EPOCH_AHEAD: dco_counter_add(&peer->rx_unknown_key_id, 1); break;
    case DCO_DROP_RX_EPOCH_PAST:
    case DCO_DROP_RX_REPLAY: dco_counter_add(&peer->rx_replay_errors, 1); break;
    default: break;
    }
    return drop;
}

/* Decrypts in place and checks the packet id; what fails changes nothing but a counter. */
static enum dco_drop open_packet(struct dco_receive *receive, struct dco_peer *peer,
                                 uint8_t *packet, uint32_t size, struct opened *opened)
{
    struct dco_key *key = dco_keyslots_find(&peer->keys, dco_wire_key_id(packet));
    uint32_t packet_id;

    if (!key) {
        dco_counter_add(&peer->rx_unknown_key_id, 1);
        return DCO_DROP_RX_UNKNOWN_KEY;
    }
    if (key->epochs)
        return open_epoch_packet(receive, peer, key, packet, size, opened);
    if (size < DCO_WIRE_OVERHEAD)
        return DCO_DROP_RX_RUNT;
    if (key->forgeries >= key->forgery_limit)
        return DCO_DROP_RX_KEY_SPENT;
    packet_id = dco_load32(packet + DCO_WIRE_HEADER);
    if (!dco_aead_open(&key->opening, packet, size)) {
        key->forgeries++;
        dco_counter_add(&peer->rx_decrypt_errors, 1);
        return DCO_DROP_RX_DECRYPT;
    }
    count_open(receive, peer, key, size - DCO_WIRE_OVERHEAD);
    if (!dco_pktid_accept(&key->window, packet_id, receive->now_ns / 1000000000u)) {
        dco_counter_add(&peer->rx_replay_errors, 1);
        return DCO_DROP_RX_REPLAY;
    }
    opened->inner = packet + DCO_WIRE_OVERHEAD;
    opened->size = size - DCO_WIRE_OVERHEAD;
    opened->newest = key->window.newest == packet_id;
    return DCO_DROP_NONE;
}

static void receive_data(struct dco_receive *receive, struct dco_transport *transport,
                         const struct dco_udp_train *train, uint8_t *packet, uint32_t size)
{
    struct dco_peer *peer = find_peer(receive, transport, train, dco_wire_peer_id(packet));
    struct opened opened = {0};
    enum dco_drop reason;

    if (!peer) {
        drop(receive, DCO_DROP_RX_UNKNOWN_PEER, 1);
        return;
    }
    dco_counter_add(&peer->link_rx_packets, 1);
    dco_counter_add(&peer->link_rx_bytes, size);
    reason = open_packet(receive, peer, packet, size, &opened);
    if (reason) {
        drop(receive, reason, 1);
        return;
    }
    dco_counter_set(&peer->last_received_ns, receive->now_ns);
    if (opened.newest)
        check_endpoint(receive, transport, train, peer);
    receive_inner(receive, transport, train, peer, opened.inner, opened.size);
}

static void receive_datagram(struct dco_receive *receive, struct dco_transport *transport,
                             const struct dco_udp_train *train, uint8_t *packet, uint32_t size)
{
    if (size < DCO_WIRE_HEADER) {
        drop(receive, DCO_DROP_RX_RUNT, 1);
        return;
    }
    switch (dco_wire_opcode(packet)) {
    case DCO_WIRE_DATA_V2: receive_data(receive, transport, train, packet, size); break;
    case DCO_WIRE_DATA_V1: drop(receive, DCO_DROP_RX_DATA_V1, 1); break;
    default: punt(receive, transport, train, -1, packet, size);
    }
}

/* Peer, key and opcode are read per datagram: a train may mix them. Returns how many there were. */
static uint32_t receive_train(struct dco_receive *receive, struct dco_transport *transport,
                              const struct dco_udp_train *train)
{
    uint32_t packets = 0, offset = 0;

    if (train->truncated) {
        drop(receive, DCO_DROP_RX_TRUNCATED, 1);
        return 1;
    }
    do {
        uint32_t left = train->size - offset;
        uint32_t size = left < train->segment ? left : train->segment;
        receive_datagram(receive, transport, train, train->data + offset, size);
        offset += size;
        packets++;
    } while (offset < train->size);
    return packets;
}

bool dco_receive_batch(struct dco_receive *receive, struct dco_transport *transport)
{
    unsigned width = receive->inbox.width;
    int trains = dco_udp_receive(&transport->udp, &receive->inbox);
    uint32_t packets = 0;

    if (trains <= 0) {
        if (trains < 0 && trains != -EAGAIN && trains != -EINTR)
            dco_transport_drain_errors(receive->engine, transport);
        return false;
    }
    receive->now_ns = dco_now_ns();
    receive->impatient = false;
    receive->source_family = 0;
    reset_items(receive);
    for (int i = 0; i < trains; i++)
        packets += receive_train(receive, transport, &receive->inbox.train[i]);
    write_items(receive);
    dco_counter_add(&receive->stats.udp_receives, 1);
    dco_counter_add(&receive->stats.udp_receive_messages, (unsigned)trains);
    dco_counter_add(&receive->stats.udp_receive_packets, packets);
    dco_stats_batch(receive->stats.rx_batches, packets);
    if (receive->signal)
        dco_bell_ring(&receive->engine->control_bell);
    receive->signal = false;
    return (unsigned)trains == width;
}
