#define _GNU_SOURCE
#include "engine/receive.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "codec/ecn.h"
#include "engine/deliver.h"
#include "engine/features.h"
#include "engine/forward.h"
#include "engine/trace.h"

int dco_receive_new(struct dco_worker *worker, struct dco_receive **out)
{
    struct dco_receive *receive = calloc(1, sizeof *receive);
    int error;

    if (!receive)
        return -ENOMEM;
    receive->engine = worker->engine;
    receive->worker = worker;
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

void dco_receive_lose(struct dco_receive *receive, struct dco_peer *peer, enum dco_drop reason,
                      uint64_t packets)
{
    dco_receive_drop(receive, reason, packets);
    dco_counter_add(&peer->rx_dropped, packets);
    switch (reason) {
    case DCO_DROP_RX_DECRYPT: dco_counter_add(&peer->rx_decrypt_errors, packets); break;
    case DCO_DROP_RX_UNKNOWN_KEY:
    case DCO_DROP_RX_EPOCH_AHEAD: dco_counter_add(&peer->rx_unknown_key_id, packets); break;
    case DCO_DROP_RX_EPOCH_PAST:
    case DCO_DROP_RX_REPLAY: dco_counter_add(&peer->rx_replay_errors, packets); break;
    case DCO_DROP_RX_SOURCE: dco_counter_add(&peer->rx_source_errors, packets); break;
    case DCO_DROP_RX_RATE_LIMIT: dco_counter_add(&peer->rx_rate_limited, packets); break;
    case DCO_DROP_RX_FORWARD_DENIED: dco_counter_add(&peer->rx_forward_denied, packets); break;
    default: break;
    }
}

void dco_receive_lose_later(struct dco_receive *receive, struct dco_peer *peer,
                            enum dco_drop reason, const uint8_t *packet, uint32_t size,
                            uint32_t packets)
{
    struct dco_trace *trace = dco_trace_on(receive->engine);
    struct dco_stats_loss loss = receive->stats.loss;

    dco_receive_lose(receive, peer, reason, packets);
    receive->stats.loss = loss;
    if (trace)
        dco_trace_undelivered(trace, receive, peer, packet, size, reason, packets);
}

/* --- control port --- */

void dco_receive_punt(struct dco_receive *receive, struct dco_transport *transport,
                      const struct dco_udp_train *train, int64_t peer_id, const uint8_t *data,
                      uint32_t size)
{
    if (!dco_control_put(receive->worker, transport->id, peer_id, &train->remote, &train->local,
                         data, size)) {
        dco_receive_drop(receive, DCO_DROP_CONTROL_FULL, 1);
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
        dco_worker_kick(receive->worker);
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
        error = dco_peer_table_move(&engine->peers, peer, dco_transport_slot(peer->transport->id),
                                    &endpoint->remote);
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
    uint32_t slot = dco_transport_slot(transport->id);
    struct dco_peer *owner;

    if (transport != peer->transport || transport->stream)
        return;
    dco_peer_endpoint_read(peer, &known);
    if (dco_address_equal(&known.remote, &now.remote)) {
        if (transport->udp->learn_source && !dco_address_equal(&known.local, &now.local))
            move_peer(receive, peer, &now, false);
        return;
    }
    owner = dco_peer_table_by_address(&receive->engine->peers, slot, &now.remote);
    if ((owner && owner != peer) || is_vpn_address(receive->engine, &now.remote))
        refuse_float(receive->engine, peer, &now);
    else
        move_peer(receive, peer, &now, true);
}

/* --- inner packet --- */

static bool source_allowed(struct dco_receive *receive, struct dco_peer *peer,
                           const uint8_t *packet)
{
    uint8_t check = atomic_load_explicit(&peer->source_check, memory_order_relaxed);
    bool ipv4 = packet[0] >> 4 == 4;
    const uint8_t *source = packet + (ipv4 ? 12 : 8);
    size_t size = ipv4 ? 4 : 16;
    uint8_t family = ipv4 ? AF_INET : AF_INET6;

    if (check == DCO_SOURCE_CHECK_OFF)
        return true;
    if (receive->source_family != family || memcmp(receive->source_ip, source, size)) {
        receive->source_family = family;
        memcpy(receive->source_ip, source, size);
        receive->source_owner = dco_engine_owner(receive->engine, family, source);
    }
    return receive->source_owner == peer
           || (check == DCO_SOURCE_CHECK_LOOSE && receive->source_owner);
}

static bool is_ip(const uint8_t *packet, uint32_t size)
{
    return (packet[0] >> 4 == 4 && size >= 20) || (packet[0] >> 4 == 6 && size >= 40);
}

/* Routers have told of congestion, or may have. */
static bool take_mark(struct dco_receive *receive, struct dco_peer *peer, uint8_t *packet,
                      uint8_t tos)
{
    if (atomic_load_explicit(&peer->ecn, memory_order_relaxed) == DCO_ECN_OFF
        || dco_ecn_decapsulate(packet, tos))
        return true;
    dco_receive_lose(receive, peer, DCO_DROP_RX_ECN, 1);
    return false;
}

static void receive_inner(struct dco_receive *receive, struct dco_transport *transport,
                          const struct dco_udp_train *train, struct dco_peer *peer, uint8_t *packet,
                          uint32_t size)
{
    uint32_t features;

    if (size == 0) {
        dco_receive_lose(receive, peer, DCO_DROP_RX_EMPTY, 1);
        return;
    }
    if (!is_ip(packet, size)) {
        if (size == DCO_KEEPALIVE_SIZE && !memcmp(packet, dco_wire_keepalive, size)) {
            dco_counter_add(&peer->keepalive_rx, 1);
            return;
        }
        dco_counter_add(&peer->rx_unsupported_protocol, 1);
        dco_receive_punt(receive, transport, train, peer->id, packet, size);
        return;
    }
    if (!source_allowed(receive, peer, packet)) {
        dco_receive_lose(receive, peer, DCO_DROP_RX_SOURCE, 1);
        return;
    }
    if (dco_ecn_matters(train->tos) && !take_mark(receive, peer, packet, train->tos))
        return;
    features = dco_features(peer);
    if (features && !dco_features_receive(receive, peer, features, packet, size))
        return;
    dco_deliver_add(receive, peer, packet, size);
}

/* --- data packet --- */

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
        dco_worker_kick(receive->worker);
    if (epoch.soon)
        dco_engine_key_event(receive->engine, peer, key, DCO_EVENT_KEY_SOON);
    if (!drop) {
        opened->inner = packet + DCO_WIRE_EPOCH_AAD;
        opened->size = size - DCO_WIRE_EPOCH_OVERHEAD;
        opened->newest = epoch.newest;
    }
    return drop;
}

/* Decrypts in place and checks the packet id; what fails changes nothing but a counter. */
static enum dco_drop open_packet(struct dco_receive *receive, struct dco_peer *peer,
                                 uint8_t *packet, uint32_t size, struct opened *opened)
{
    struct dco_key *key = dco_keyslots_find(&peer->keys, dco_wire_key_id(packet));
    uint32_t packet_id;

    if (!key)
        return DCO_DROP_RX_UNKNOWN_KEY;
    if (key->epochs)
        return open_epoch_packet(receive, peer, key, packet, size, opened);
    if (size < DCO_WIRE_OVERHEAD)
        return DCO_DROP_RX_RUNT;
    if (key->forgeries >= key->forgery_limit)
        return DCO_DROP_RX_KEY_SPENT;
    packet_id = dco_load32(packet + DCO_WIRE_HEADER);
    if (!dco_aead_open(&key->opening, packet, size)) {
        key->forgeries++;
        return DCO_DROP_RX_DECRYPT;
    }
    count_open(receive, peer, key, size - DCO_WIRE_OVERHEAD);
    if (!dco_pktid_accept(&key->window, packet_id, receive->now_ns / 1000000000u))
        return DCO_DROP_RX_REPLAY;
    opened->inner = packet + DCO_WIRE_OVERHEAD;
    opened->size = size - DCO_WIRE_OVERHEAD;
    opened->newest = key->window.newest == packet_id;
    return DCO_DROP_NONE;
}

/* Steering missed, or there is none: the peer's home opens it, and nobody else. */
static void hand_over(struct dco_receive *receive, const struct dco_transport *transport,
                      const struct dco_udp_train *train, unsigned home, const uint8_t *packet,
                      uint32_t size)
{
    struct dco_received head = {transport->id, train->tos, train->remote, train->local};

    if (!dco_handoff_put(&receive->engine->worker[home].to_open, receive->worker->index, &head,
                         sizeof head, packet, size)) {
        dco_receive_drop(receive, DCO_DROP_RX_HANDOFF_FULL, 1);
        return;
    }
    receive->handed |= 1u << home;
    dco_counter_add(&receive->stats.handed_to_open, 1);
}

void dco_receive_data(struct dco_receive *receive, struct dco_transport *transport,
                      const struct dco_udp_train *train, struct dco_peer *peer, uint8_t *packet,
                      uint32_t size)
{
    struct opened opened = {0};
    enum dco_drop reason;

    if (!peer) {
        dco_receive_drop(receive, DCO_DROP_RX_UNKNOWN_PEER, 1);
        return;
    }
    if (peer->home != receive->worker->index) {
        hand_over(receive, transport, train, peer->home, packet, size);
        return;
    }
    dco_counter_add(&peer->link_rx_packets, 1);
    dco_counter_add(&peer->link_rx_bytes, size);
    reason = open_packet(receive, peer, packet, size, &opened);
    if (reason) {
        dco_receive_lose(receive, peer, reason, 1);
        return;
    }
    dco_counter_set(&peer->last_received_ns, receive->now_ns);
    if (opened.newest)
        check_endpoint(receive, transport, train, peer);
    receive_inner(receive, transport, train, peer, opened.inner, opened.size);
}

/* --- batches --- */

void dco_receive_begin(struct dco_receive *receive)
{
    receive->now_ns = dco_now_ns();
    receive->impatient = false;
    receive->source_family = 0;
    receive->memo.source = NULL;
    dco_deliver_reset(receive);
}

void dco_receive_end(struct dco_receive *receive)
{
    dco_deliver_flush(receive);
    for (; receive->handed; receive->handed &= receive->handed - 1)
        dco_handoff_announce(&receive->engine->worker[__builtin_ctz(receive->handed)].to_open);
    if (receive->due_count || receive->forwarded)
        dco_forward_flush(receive);
    if (receive->signal)
        dco_bell_ring(&receive->engine->control_bell);
    receive->signal = false;
}
