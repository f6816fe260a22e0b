/* Transports and peers out of a halted engine and into another that has not started. Keys are in
 * key_ops.c. */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>

#include "codec/tcpframe.h"
#include "engine/engine.h"
#include "engine/path.h"

/* --- transports: out --- */

static void save_options(struct dco_transport_state *state, const struct dco_option *option,
                         unsigned options)
{
    memcpy(state->option, option, options * sizeof *option);
    state->options = options;
}

/* The kernel doubles what it is asked for, and tells the double. */
static void save_udp(const struct dco_transport *transport, struct dco_transport_state *state)
{
    dco_udp_buffers(transport->udp, &state->send_buffer, &state->receive_buffer);
    state->send_buffer /= 2;
    state->receive_buffer /= 2;
    state->df = transport->udp->df;
    state->sockets = transport->sockets;
    for (unsigned i = 0; i < transport->sockets; i++)
        state->fd[i] = transport->udp[i].fd;
    save_options(state, transport->udp->option, transport->udp->options);
}

static void save_listener(const struct dco_listener *listener, struct dco_transport_state *state)
{
    const struct timeval *timeout = &listener->socket.saved_timeout;

    state->listener = listener->config;
    state->listener_timeout_us = (uint64_t)timeout->tv_sec * 1000000 + (uint64_t)timeout->tv_usec;
    state->sockets = 1;
    state->fd[0] = listener->socket.fd;
}

static bool changes(const struct dco_tcp *tcp, int name)
{
    for (unsigned i = 0; i < tcp->options; i++)
        if (tcp->option[i].level == SOL_SOCKET && tcp->option[i].name == name)
            return true;
    return false;
}

static int save_stream(const struct dco_stream *stream, struct dco_transport_state *state,
                       uint8_t *bytes, size_t capacity)
{
    const struct dco_tcp_queue *queue = &stream->queue;
    uint32_t send, receive;

    dco_tcp_buffers(&stream->tcp, &send, &receive);
    state->send_buffer = changes(&stream->tcp, SO_SNDBUF) ? send / 2 : 0;
    state->receive_buffer = changes(&stream->tcp, SO_RCVBUF) ? receive / 2 : 0;
    state->accepted = stream->accepted;
    state->heard = atomic_load(&stream->heard);
    state->held = atomic_load(&stream->held);
    state->sockets = 1;
    state->fd[0] = stream->tcp.fd;
    save_options(state, stream->tcp.option, stream->tcp.options);
    state->tail = stream->tcp.tail->size;
    state->rest = queue->rest_end - queue->rest_begin;
    state->control = queue->control.bytes;
    state->data = queue->data.bytes;
    if ((size_t)state->tail + state->rest + state->control + state->data > capacity)
        return -EMSGSIZE;
    memcpy(bytes, stream->tcp.tail->data, state->tail);
    dco_tcp_queue_save(queue, bytes + state->tail);
    return 0;
}

int dco_transport_export(struct dco_engine *engine, uint64_t id, struct dco_transport_state *state,
                         uint8_t *bytes, size_t capacity)
{
    struct dco_transport *transport;
    int error = dco_engine_enter(engine);

    if (error)
        return error;
    memset(state, 0, sizeof *state);
    transport = dco_transport_find(&engine->transports, id);
    if (!transport || atomic_load(&transport->failed))
        error = -ENOENT;
    else if (engine->state != DCO_ENGINE_HALTED)
        error = -EINVAL;
    if (!error) {
        state->kind = transport->kind;
        if (transport->stream)
            error = save_stream(transport->stream, state, bytes, capacity);
        else if (transport->listener)
            save_listener(transport->listener, state);
        else
            save_udp(transport, state);
    }
    dco_engine_leave(engine);
    return error;
}

/* --- transports: in --- */

static void load_options(const struct dco_transport_state *state, struct dco_option *option,
                         unsigned *options)
{
    memcpy(option, state->option, sizeof state->option);
    *options = state->options < DCO_OPTIONS_MAX ? state->options : DCO_OPTIONS_MAX;
}

static int load_udp(struct dco_engine *engine, const struct dco_transport_state *state,
                    const struct dco_transport_config *config, struct dco_transport **transport)
{
    int error = dco_transport_new_udp(engine, state->fd, state->sockets, config, transport);

    if (!error)
        load_options(state, (*transport)->udp->option, &(*transport)->udp->options);
    return error;
}

static int load_stream(struct dco_engine *engine, const struct dco_transport_state *state,
                       const struct dco_transport_config *config, const uint8_t *bytes,
                       struct dco_transport **transport)
{
    const uint8_t *rest = bytes + state->tail, *control = rest + state->rest;
    struct dco_stream *stream;
    int error = dco_transport_new_tcp(state->fd[0], config, transport);

    if (error)
        return error;
    stream = (*transport)->stream;
    (*transport)->home = engine->turn++ % engine->workers;
    load_options(state, stream->tcp.option, &stream->tcp.options);
    stream->accepted = state->accepted;
    atomic_store(&stream->heard, state->heard);
    atomic_store(&stream->held, state->held);
    error = dco_tcp_load(&stream->tcp, bytes, state->tail);
    if (!error)
        error = dco_tcp_queue_reserve(&stream->queue, DCO_TCPFRAME_MAX);
    if (!error)
        error = dco_tcp_queue_load(&stream->queue, &engine->worker[(*transport)->home].pool, rest,
                                   state->rest, control, state->control, control + state->control,
                                   state->data);
    if (error) {
        dco_transport_keep_options(*transport);
        dco_transport_free(*transport);
    }
    return error;
}

static int load_listener(const struct dco_transport_state *state, struct dco_transport **transport)
{
    int error = dco_transport_new_listener(state->fd[0], &state->listener, transport);

    if (!error)
        (*transport)->listener->socket.saved_timeout = (struct timeval){
            .tv_sec = (time_t)(state->listener_timeout_us / 1000000),
            .tv_usec = (suseconds_t)(state->listener_timeout_us % 1000000),
        };
    return error;
}

static int load(struct dco_engine *engine, const struct dco_transport_state *state,
                const uint8_t *bytes, struct dco_transport **transport)
{
    struct dco_transport_config config = {
        .df = state->df,
        .send_buffer = state->send_buffer,
        .receive_buffer = state->receive_buffer,
    };

    switch (state->kind) {
    case DCO_TRANSPORT_UDP: return load_udp(engine, state, &config, transport);
    case DCO_TRANSPORT_TCP: return load_stream(engine, state, &config, bytes, transport);
    case DCO_TRANSPORT_LISTENER: return load_listener(state, transport);
    }
    return -EINVAL;
}

/* What waits to be sent goes on with the first event of the transmit thread: its set is told of the
 * connection here. */
static void await_room(struct dco_engine *engine, struct dco_transport *transport)
{
    struct dco_worker *home = &engine->worker[transport->home];

    pthread_mutex_lock(&home->sealing);
    dco_stream_await_room(home, transport, true);
    pthread_mutex_unlock(&home->sealing);
}

int dco_transport_import(struct dco_engine *engine, const struct dco_transport_state *state,
                         const uint8_t *bytes, uint64_t *id)
{
    struct dco_transport *transport;
    int error = dco_engine_enter(engine);

    if (error)
        return error;
    if (engine->state != DCO_ENGINE_NEW || !state->sockets || state->sockets > DCO_WORKERS_MAX)
        error = -EINVAL;
    if (!error)
        error = load(engine, state, bytes, &transport);
    if (!error) {
        error = dco_transport_publish(engine, transport);
        if (error) {
            dco_transport_keep_options(transport);
            dco_transport_free(transport);
        } else {
            *id = transport->id;
            if (state->rest || state->control || state->data)
                await_room(engine, transport);
            if (state->held)
                dco_worker_hold(&engine->worker[transport->home], transport->stream->tcp.fd,
                                transport->id, true);
        }
    }
    dco_engine_leave(engine);
    return error;
}

/* --- peers --- */

/* Counters and times go on; the clock is the machine's. */
int dco_peer_import(struct dco_engine *engine, struct dco_peer_ref ref,
                    const struct dco_peer_info *info)
{
    struct dco_peer *peer;
    int error = dco_engine_enter(engine);

    if (error)
        return error;
    peer = dco_engine_find(engine, ref);
    if (!peer || engine->state != DCO_ENGINE_NEW) {
        error = peer ? -EINVAL : -ENOENT;
    } else {
#define X(name) dco_counter_set(&peer->name, info->stats.name);
        DCO_PEER_COUNTERS(X)
#undef X
        dco_counter_set(&peer->last_received_ns, info->last_received_ns);
        dco_counter_set(&peer->last_sent_ns, info->last_sent_ns);
        atomic_store(&peer->keepalive_set_ns, info->keepalive_set_ns);
        dco_limits_load(&peer->limits, &info->limits);
        dco_path_import(peer, info);
    }
    dco_engine_leave(engine);
    return error;
}
