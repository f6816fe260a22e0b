/* Connections: accepted, on trial, ended. What flows on them is in transmit.c and receive.c. */
#define _GNU_SOURCE
#include "engine/stream.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine/engine.h"
#include "io/address.h"

#define ACCEPTS_AT_ONCE 16
/* How long a listener is left alone when descriptors or memory have run out. */
#define PAUSE_NS UINT64_C(200000000)
/* When the lock was taken by an API call: look again soon. */
#define RETRY_NS UINT64_C(10000000)

/* Takes the lock, or comes back at once, since the socket stays readable: whoever has the lock may
 * be waiting for this very processor. */
static bool busy(struct dco_engine *engine)
{
    bool taken = pthread_mutex_trylock(&engine->lock);

    if (taken)
        sched_yield();
    return taken;
}

/* --- trials --- */

static void begin_trial(struct dco_engine *engine, struct dco_transport *transport,
                        struct dco_transport *listener)
{
    struct dco_stream *stream = transport->stream;

    stream->listener = listener;
    stream->deadline_ns =
        dco_now_ns() + listener->listener->config.deadline_s * UINT64_C(1000000000);
    stream->previous = engine->last_trial;
    stream->next = NULL;
    *(engine->last_trial ? &engine->last_trial->stream->next : &engine->trials) = transport;
    engine->last_trial = transport;
    listener->listener->trials++;
    atomic_fetch_add(&engine->trial_count, 1);
}

void dco_stream_acquit(struct dco_engine *engine, struct dco_transport *transport)
{
    struct dco_stream *stream = transport->stream;

    if (!stream->listener)
        return;
    *(stream->previous ? &stream->previous->stream->next : &engine->trials) = stream->next;
    *(stream->next ? &stream->next->stream->previous : &engine->last_trial) = stream->previous;
    stream->listener->listener->trials--;
    stream->listener = NULL;
    atomic_fetch_sub(&engine->trial_count, 1);
}

/* In this order: whoever holds looks at `ready` once more. */
void dco_stream_ready(struct dco_engine *engine, struct dco_transport *transport)
{
    struct dco_stream *stream = transport->stream;

    if (atomic_exchange(&stream->ready, true))
        return;
    if (atomic_load(&stream->held))
        dco_worker_hold(&engine->worker[transport->home], stream->tcp.fd, transport->id, false);
}

static void release(struct dco_rcu_node *node)
{
    dco_transport_free(
        (struct dco_transport *)((char *)node - offsetof(struct dco_transport, rcu)));
}

/* Both locks held. Nothing is sent or received any more, and nothing will be told of it. */
static void end(struct dco_worker *worker, struct dco_transport *transport)
{
    struct dco_stream *stream = transport->stream;

    atomic_store(&transport->failed, true);
    dco_stream_acquit(worker->engine, transport);
    dco_tcp_queue_clear(&stream->queue, &worker->pool);
    dco_stream_await_room(worker, transport, false);
    dco_transport_withdraw(worker->engine, transport);
    dco_rcu_retire(&worker->engine->rcu, &transport->rcu, release);
}

void dco_stream_drop(struct dco_worker *worker, struct dco_transport *transport)
{
    pthread_mutex_lock(&worker->sealing);
    end(worker, transport);
    pthread_mutex_unlock(&worker->sealing);
}

bool dco_stream_ended(struct dco_worker *worker, struct dco_transport *transport, int error,
                      enum dco_delete_reason reason)
{
    struct dco_stream *stream = transport->stream;
    bool known = !stream->accepted || atomic_load(&stream->heard);

    if (known)
        return dco_transport_fail(worker->engine, transport, error, reason);
    if (busy(worker->engine))
        return false;
    if (!atomic_load(&transport->failed)) /* its deadline, or its listener, was not faster */
        dco_stream_drop(worker, transport);
    pthread_mutex_unlock(&worker->engine->lock);
    return true;
}

/* Whoever has been told of the connection by a control packet closes it; of others nobody knows. */
static void expire(struct dco_worker *worker, struct dco_transport *transport)
{
    struct dco_stream *stream = transport->stream;
    struct dco_event_record news = {
        .kind = DCO_EVENT_TRANSPORT_FAILED,
        .transport = transport->id,
        .error = ETIMEDOUT,
    };

    dco_counter_add(&stream->listener->listener->expired, 1);
    if (!atomic_load(&stream->heard)) {
        end(worker, transport);
        return;
    }
    dco_stream_acquit(worker->engine, transport);
    shutdown(stream->tcp.fd, SHUT_RDWR);
    atomic_store(&transport->failed, true);
    dco_transport_unwatch(worker->engine, transport);
    dco_events_post(&worker->engine->events, &transport->record, &news);
}

static uint64_t resume_listeners(struct dco_engine *engine, uint64_t now_ns)
{
    uint64_t next = UINT64_MAX;

    for (uint32_t slot = 0; slot < DCO_SOCKETS_MAX && slot < engine->transports.high; slot++) {
        struct dco_transport *transport = atomic_load(&engine->transports.slot[slot]);
        struct dco_listener *listener = transport ? transport->listener : NULL;
        if (!listener || !listener->paused_until || !transport->watched)
            continue;
        if (listener->paused_until > now_ns) {
            next = listener->paused_until < next ? listener->paused_until : next;
        } else {
            listener->paused_until = 0;
            dco_worker_watch(&engine->worker[0], listener->socket.fd, transport->id);
        }
    }
    if (next == UINT64_MAX)
        atomic_store(&engine->listeners_pause, false);
    return next;
}

uint64_t dco_stream_expire(struct dco_worker *worker, uint64_t now_ns)
{
    struct dco_engine *engine = worker->engine;
    bool paused = worker->index == 0 && atomic_load(&engine->listeners_pause);
    struct dco_transport *next;
    uint64_t when = UINT64_MAX;

    if (!paused && !atomic_load(&engine->trial_count))
        return when;
    if (pthread_mutex_trylock(&engine->lock))
        return now_ns + RETRY_NS;
    if (paused)
        when = resume_listeners(engine, now_ns);
    for (struct dco_transport *trial = engine->trials; trial; trial = next) {
        struct dco_stream *stream = trial->stream;
        next = stream->next;
        if (&engine->worker[trial->home] != worker)
            continue;
        if (stream->deadline_ns <= now_ns)
            expire(worker, trial);
        else if (stream->deadline_ns < when)
            when = stream->deadline_ns;
    }
    pthread_mutex_unlock(&engine->lock);
    return when;
}

/* --- accept --- */

static bool has_room(const struct dco_engine *engine, const struct dco_transport *listener,
                     const struct dco_address *remote)
{
    const struct dco_listener_config *config = &listener->listener->config;
    struct dco_prefix source = dco_address_source(remote);
    uint32_t same = 0;

    if (listener->listener->trials >= config->trials_max)
        return false;
    for (struct dco_transport *trial = engine->trials; trial; trial = trial->stream->next) {
        struct dco_prefix other = dco_address_source(&trial->stream->tcp.remote);
        same += trial->stream->listener == listener && !memcmp(&source, &other, sizeof source);
    }
    return same < config->trials_per_source_max;
}

/* Under the lock. */
static void admit(struct dco_worker *worker, struct dco_transport *listener, int fd,
                  const struct dco_address *remote)
{
    struct dco_engine *engine = worker->engine;
    struct dco_transport_config config = {0};
    struct dco_transport *transport = NULL;
    int error = has_room(engine, listener, remote) ? dco_transport_new_tcp(fd, &config, &transport)
                                                   : -ENOBUFS;

    if (!error) {
        transport->home = engine->turn++ % engine->workers;
        transport->stream->accepted = true;
        begin_trial(engine, transport, listener);
        error = dco_transport_publish(engine, transport);
        if (error)
            dco_stream_acquit(engine, transport);
    }
    if (error) {
        dco_counter_add(&listener->listener->refused, 1);
        dco_transport_free(transport);
        return;
    }
    dco_counter_add(&listener->listener->accepted, 1);
    dco_worker_kick(&engine->worker[transport->home]);
}

static bool readable(int fd)
{
    struct pollfd ready = {.fd = fd, .events = POLLIN};

    return poll(&ready, 1, 0) > 0;
}

/* Under the lock. */
static void pause_listener(struct dco_worker *worker, struct dco_listener *listener)
{
    listener->paused_until = dco_now_ns() + PAUSE_NS;
    dco_worker_unwatch(worker, listener->socket.fd);
    atomic_store(&worker->engine->listeners_pause, true);
    dco_worker_kick(worker);
}

/* Under the lock. False: nothing more to accept now. */
static bool accept_one(struct dco_worker *worker, struct dco_transport *transport, int *dead)
{
    struct dco_listener *listener = transport->listener;
    struct dco_address remote;
    int fd, error;

    if (!readable(listener->socket.fd))
        return false;
    error = dco_tcp_accept(&listener->socket, &fd, &remote);
    if (!error) {
        admit(worker, transport, fd, &remote);
        close(fd); /* the transport has a copy */
        return true;
    }
    switch (dco_tcp_accept_class(error)) {
    case DCO_TCP_ACCEPT_NEXT: return true;
    case DCO_TCP_ACCEPT_PAUSE: pause_listener(worker, listener); return false;
    case DCO_TCP_ACCEPT_DEAD: *dead = -error; return false;
    default: return false;
    }
}

/* A connection that was accepted cannot be put back: so the lock is had before. */
bool dco_stream_accept(struct dco_worker *worker, struct dco_transport *transport)
{
    struct dco_engine *engine = worker->engine;
    int accepts = 0, dead = 0;

    if (busy(engine))
        return true;
    while (accepts < ACCEPTS_AT_ONCE && accept_one(worker, transport, &dead))
        accepts++;
    pthread_mutex_unlock(&engine->lock);
    if (dead)
        dco_transport_fail(engine, transport, dead, DCO_DELETED_TRANSPORT_ERROR);
    return accepts == ACCEPTS_AT_ONCE;
}

/* --- room --- */

void dco_stream_await_room(struct dco_worker *worker, struct dco_transport *transport, bool wait)
{
    struct dco_stream *stream = transport->stream;
    struct epoll_event event = {.events = EPOLLOUT, .data.u64 = transport->id};

    if (stream->writing == wait)
        return;
    stream->writing = wait;
    epoll_ctl(worker->transmit_epoll, wait ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, stream->tcp.fd, &event);
}
