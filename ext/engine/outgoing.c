#define _GNU_SOURCE
#include "engine/outgoing.h"

#include <errno.h>
#include <string.h>

#include "codec/tcpframe.h"
#include "engine/trace.h"

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

/* Drops of the wire are no packets of those that are being sealed. */
__attribute__((cold)) static void count_drop(struct dco_transmit *transmit, struct dco_peer *peer,
                                             enum dco_drop reason, uint32_t packets)
{
    struct dco_stats_loss loss = transmit->stats.loss;

    dco_transmit_drop(transmit, peer, reason, packets);
    transmit->stats.loss = loss;
}

/* All are of one size, but for the last. */
__attribute__((cold)) static void count_failed(const struct dco_udp_message *message,
                                               uint32_t *packets, uint32_t *bytes)
{
    *packets = (uint32_t)__builtin_popcountll(message->failed_at);
    *bytes = *packets * message->segment;
    if (message->failed_at >> (message->packets - 1) & 1)
        *bytes -= (uint32_t)message->packets * message->segment - message->size;
}

static void account(struct dco_transmit *transmit, struct dco_udp_message *message)
{
    struct dco_peer *peer = message->owner;
    uint32_t failed = 0, bytes_failed = 0;

    if (message->failed_at)
        count_failed(message, &failed, &bytes_failed);
    if (failed < message->packets) {
        dco_counter_add(&peer->link_tx_packets, message->packets - failed);
        dco_counter_add(&peer->link_tx_bytes, message->size - bytes_failed);
        dco_counter_set(&peer->last_sent_ns, transmit->now_ns);
    }
    if (failed)
        count_drop(transmit, peer, drop_of_error(message->error), failed);
    if (message->single)
        atomic_store_explicit(&peer->single_above, message->segment - 1u, memory_order_relaxed);
    if (message->source_gone)
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
    bool dead = error && error != -EAGAIN;
    enum dco_drop reason = dead ? DCO_DROP_TX_NO_TRANSPORT : DCO_DROP_TX_BACKLOG;
    uint32_t lost = message->packets - tally.packets;
    struct dco_trace *trace = dco_trace_on(transmit->engine);

    if (tally.packets) {
        dco_counter_add(&peer->link_tx_packets, tally.packets);
        dco_counter_add(&peer->link_tx_bytes, tally.bytes);
        dco_counter_set(&peer->last_sent_ns, transmit->now_ns);
    }
    if (lost)
        count_drop(transmit, peer, reason, lost);
    if (trace)
        dco_trace_frames(trace, transmit, transport, message, reason, lost);
    stream_result(transmit, transport, &tally, error);
}

void dco_outgoing_resume(struct dco_transmit *transmit, struct dco_transport *transport)
{
    struct dco_stream *stream = transport->stream;
    struct dco_tcp_tally tally = {0};
    int error = dco_tcp_flush(&stream->tcp, &stream->queue, &transmit->worker->pool, &tally);

    stream_result(transmit, transport, &tally, error);
}

__attribute__((cold)) static void trace_run(struct dco_transmit *transmit, unsigned first,
                                            unsigned count)
{
    struct dco_trace *trace = dco_trace_on(transmit->engine);

    for (unsigned i = first; trace && i < first + count; i++) {
        const struct dco_udp_message *message = &transmit->message[i];
        dco_trace_datagrams(trace, transmit, transmit->transport[i], message,
                            drop_of_error(message->error));
    }
}

/* Messages of one transport, which stand together. */
static void send_datagrams(struct dco_transmit *transmit, struct dco_transport *transport,
                           unsigned first, unsigned count)
{
    struct dco_udp_message *messages = &transmit->message[first];
    struct dco_udp *udp = dco_transport_udp(transport, transmit->worker->index);
    struct dco_udp_tally tally = {0};

    dco_udp_send(udp, &transmit->outbox, messages, count, transmit->worker->stop_fd, &tally);
    dco_counter_add(&transmit->stats.udp_sends, tally.calls);
    dco_counter_add(&transmit->stats.udp_send_messages, tally.messages);
    dco_counter_add(&transmit->stats.udp_send_packets, tally.packets);
    if (tally.retries | tally.fallbacks | tally.oversize) {
        dco_counter_add(&transmit->stats.send_retries, tally.retries);
        dco_counter_add(&transmit->stats.gso_fallbacks, tally.fallbacks);
        dco_counter_add(&transmit->stats.oversize_sends, tally.oversize);
    }
    for (unsigned i = 0; i < count; i++)
        account(transmit, &messages[i]);
    if (tally.errors_queued)
        dco_transport_drain_errors(transmit->engine, transport, udp);
    if (tally.dead)
        dco_transport_fail(transmit->engine, transport, EPIPE, DCO_DELETED_TRANSPORT_DISCONNECT);
    if (dco_trace_on(transmit->engine))
        trace_run(transmit, first, count);
}

static void send_run(struct dco_transmit *transmit, unsigned first, unsigned count)
{
    struct dco_transport *transport = transmit->transport[first];

    if (!transport->stream) {
        send_datagrams(transmit, transport, first, count);
        return;
    }
    for (unsigned i = first; i < first + count; i++)
        send_frames(transmit, &transmit->message[i], transport);
}

void dco_outgoing_flush(struct dco_transmit *transmit)
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
    uint8_t mask =
        atomic_load_explicit(&peer->tos_copied, memory_order_relaxed) & transmit->tos_copied;
    struct dco_endpoint endpoint;

    dco_peer_endpoint_read(peer, &endpoint);
    if (!endpoint.remote.family)
        return DCO_DROP_TX_NO_TRANSPORT;
    if (size > datagram_max(&endpoint.remote))
        return DCO_DROP_TX_TOO_BIG;
    *message = (struct dco_udp_message){
        .data = transmit->sealed + transmit->sealed_size,
        .segment = (uint16_t)size,
        .tos = transmit->tos & mask,
        .tos_mask = mask,
        .single = size > atomic_load_explicit(&peer->single_above, memory_order_relaxed),
        .loose = transmit->loose,
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
enum dco_drop dco_outgoing_reserve(struct dco_transmit *transmit, struct dco_peer *peer,
                                   uint32_t size)
{
    bool stream = peer->transport->stream;
    enum dco_drop drop;

    if (transmit->messages && message_takes(transmit, peer, size)
        && transmit->sealed_size + size <= DCO_SEND_ARENA)
        return DCO_DROP_NONE;
    if (transmit->messages == DCO_SEND_MESSAGES || transmit->sealed_size + size > DCO_SEND_ARENA)
        dco_outgoing_flush(transmit);
    drop = stream ? run_begin(transmit, peer, size) : message_begin(transmit, peer, size);
    transmit->growing = !drop && (stream || sends_trains(transmit, peer));
    return drop;
}

void dco_outgoing_commit(struct dco_transmit *transmit, uint32_t size)
{
    struct dco_udp_message *message = &transmit->message[transmit->messages - 1];

    message->size += size;
    message->packets++;
    transmit->sealed_size += size;
    if (size < message->segment && message->segment != UINT16_MAX)
        transmit->growing = false;
}

void dco_outgoing_loosen(struct dco_transmit *transmit, bool on)
{
    transmit->growing = false;
    transmit->loose = on;
}

/* Nothing was put into the message that reserve() began. */
void dco_outgoing_cancel(struct dco_transmit *transmit)
{
    if (transmit->messages && !transmit->message[transmit->messages - 1].packets)
        transmit->messages--;
    transmit->growing = false;
}

/* --- control packets for a connection --- */

/* What is due falls last, so that it and what waits are never less than what is there. */
void dco_outgoing_control(struct dco_transmit *transmit, uint64_t id, const uint8_t *packet,
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
    if (error && error != -EAGAIN) {
        struct dco_trace *trace = dco_trace_on(transmit->engine);
        count_drop(transmit, NULL, DCO_DROP_TX_CONTROL, 1);
        if (trace)
            dco_trace_control_lost(trace, transmit, transport, packet, size);
    }
}
