/* Sockets: attach, detach, failure, errors, and control packets out. */
#define _GNU_SOURCE
#include "engine/transport.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "codec/tcpframe.h"
#include "engine/engine.h"
#include "engine/path.h"
#include "engine/transmit.h"

/* --- the table --- */

int dco_transport_table_init(struct dco_transport_table *table)
{
    /* Untouched pages cost nothing. */
    table->slot = calloc(DCO_TRANSPORTS_MAX, sizeof *table->slot);
    table->uses = calloc(DCO_TRANSPORTS_MAX, sizeof *table->uses);
    table->spare = calloc(DCO_TRANSPORTS_MAX, sizeof *table->spare);
    return table->slot && table->uses && table->spare ? 0 : -ENOMEM;
}

void dco_transport_free(struct dco_transport *transport)
{
    if (!transport)
        return;
    while (transport->sockets) /* siblings before the socket that they belong to */
        dco_udp_detach(&transport->udp[--transport->sockets]);
    free(transport->udp);
    if (transport->stream) {
        if (transport->engine)
            dco_counter_add_shared(&transport->engine->held_lost,
                                   dco_tcp_kept(&transport->stream->tcp));
        dco_tcp_detach(&transport->stream->tcp);
        dco_tcp_queue_destroy(&transport->stream->queue);
    }
    free(transport->stream);
    if (transport->listener)
        dco_tcp_listener_detach(&transport->listener->socket);
    free(transport->listener);
    free(transport);
}

struct dco_transport *dco_transport_next(const struct dco_transport_table *table, uint32_t *slot)
{
    while (*slot < table->high) {
        struct dco_transport *transport =
            atomic_load_explicit(&table->slot[(*slot)++], memory_order_acquire);
        if (transport)
            return transport;
    }
    return NULL;
}

void dco_transport_table_destroy(struct dco_transport_table *table)
{
    struct dco_transport *transport;

    for (uint32_t slot = 0; (transport = dco_transport_next(table, &slot));)
        dco_transport_free(transport);
    free(table->slot);
    free(table->uses);
    free(table->spare);
    memset(table, 0, sizeof *table);
}

void dco_transport_keep_options(struct dco_transport *transport)
{
    for (unsigned i = 0; i < transport->sockets; i++)
        transport->udp[i].options = transport->udp[i].group = 0;
    if (transport->stream)
        transport->stream->tcp.options = 0;
    if (transport->listener)
        transport->listener->socket.changed = false;
}

void dco_transport_table_keep_options(struct dco_transport_table *table)
{
    struct dco_transport *transport;

    for (uint32_t slot = 0; (transport = dco_transport_next(table, &slot));)
        dco_transport_keep_options(transport);
}

static void forget(struct dco_transport *transport)
{
    dco_transport_keep_options(transport);
    for (unsigned i = 0; i < transport->sockets; i++)
        dco_udp_detach(&transport->udp[i]);
    if (transport->stream) { /* the memory may be in the hands of a thread that is not here */
        close(transport->stream->tcp.fd);
        transport->stream->tcp.fd = -1;
    }
    if (transport->listener)
        dco_tcp_listener_detach(&transport->listener->socket);
}

void dco_transport_table_forget(struct dco_transport_table *table)
{
    struct dco_transport *transport;

    for (uint32_t slot = 0; (transport = dco_transport_next(table, &slot));)
        forget(transport);
}

/* Sockets that carry many peers have the first slots; connections the others, the last one that
 * was given back first. */
static int reserve_slot(struct dco_transport_table *table, bool connection, uint32_t *slot)
{
    if (connection && table->spares) {
        *slot = table->spare[--table->spares];
        return 0;
    }
    *slot = 0;
    while (!connection && *slot < DCO_SOCKETS_MAX && atomic_load(&table->slot[*slot]))
        ++*slot;
    if (connection)
        *slot = table->high < DCO_SOCKETS_MAX ? DCO_SOCKETS_MAX : table->high;
    if (*slot == (connection ? DCO_TRANSPORTS_MAX : DCO_SOCKETS_MAX))
        return -EMFILE;
    if (*slot >= table->high)
        table->high = *slot + 1;
    return 0;
}

static void table_remove(struct dco_transport_table *table, struct dco_transport *transport)
{
    uint32_t slot = dco_transport_slot(transport->id);

    atomic_store_explicit(&table->slot[slot], NULL, memory_order_release);
    table->count--;
    if (slot >= DCO_SOCKETS_MAX)
        table->spare[table->spares++] = slot;
}

/* --- attach and detach --- */

static int watch(struct dco_engine *engine, struct dco_transport *transport)
{
    int error = 0;

    transport->watched = true;
    if (transport->stream)
        return dco_worker_watch(&engine->worker[transport->home], transport->stream->tcp.fd,
                                transport->id);
    if (transport->listener)
        return dco_worker_watch(&engine->worker[0], transport->listener->socket.fd, transport->id);
    for (unsigned i = 0; i < transport->sockets && !error; i++)
        error = dco_worker_watch(&engine->worker[i], transport->udp[i].fd, transport->id);
    return error;
}

void dco_transport_unwatch(struct dco_engine *engine, struct dco_transport *transport)
{
    if (!transport->watched)
        return;
    transport->watched = false;
    if (transport->stream)
        dco_worker_unwatch(&engine->worker[transport->home], transport->stream->tcp.fd);
    if (transport->listener)
        dco_worker_unwatch(&engine->worker[0], transport->listener->socket.fd);
    for (unsigned i = 0; i < transport->sockets; i++)
        dco_worker_unwatch(&engine->worker[i], transport->udp[i].fd);
}

int dco_transport_publish(struct dco_engine *engine, struct dco_transport *transport)
{
    struct dco_transport_table *table = &engine->transports;
    uint32_t slot;
    int error = reserve_slot(table, transport->stream, &slot);

    if (error)
        return error;
    transport->id = (uint64_t)table->uses[slot]++ << 32 | slot;
    transport->engine = engine;
    atomic_store_explicit(&table->slot[slot], transport, memory_order_release);
    table->count++;
    error = watch(engine, transport);
    if (error)
        dco_transport_withdraw(engine, transport);
    return error;
}

void dco_transport_withdraw(struct dco_engine *engine, struct dco_transport *transport)
{
    dco_transport_unwatch(engine, transport);
    table_remove(&engine->transports, transport);
}

/* Siblings that are there already are taken as they are. */
static int take_siblings(struct dco_transport *transport, const int *fds, unsigned count,
                         const struct dco_transport_config *config, uint32_t offloads)
{
    while (transport->sockets < count) {
        int fd = fcntl(fds[transport->sockets], F_DUPFD_CLOEXEC, 3);
        int error = fd < 0
                        ? -errno
                        : dco_udp_take(&transport->udp[transport->sockets], fd, config, offloads);
        if (error)
            return error;
        transport->sockets++;
    }
    dco_udp_join(transport->udp, count, offloads);
    return 0;
}

/* A socket for each worker where that can be had: else one, and its reader hands over. */
static int open_udp(struct dco_engine *engine, struct dco_transport *transport, const int *fds,
                    unsigned count, const struct dco_transport_config *config)
{
    uint32_t offloads = atomic_load(&engine->offloads);
    int error = dco_udp_attach(&transport->udp[0], fds[0], config, offloads);

    if (error)
        return error;
    transport->sockets = 1;
    if (count > 1)
        return take_siblings(transport, fds, count, config, offloads);
    if (engine->workers > 1)
        transport->sockets = dco_udp_siblings(transport->udp, engine->workers, config, offloads);
    return 0;
}

int dco_transport_new_udp(struct dco_engine *engine, const int *fds, unsigned count,
                          const struct dco_transport_config *config, struct dco_transport **out)
{
    struct dco_transport *transport = calloc(1, sizeof *transport);
    int error = -ENOMEM;

    if (count > engine->workers)
        error = -ERANGE;
    else if (transport)
        transport->udp = calloc(engine->workers, sizeof *transport->udp);
    if (transport && transport->udp) {
        transport->kind = DCO_TRANSPORT_UDP;
        error = open_udp(engine, transport, fds, count, config);
    }
    if (error) {
        dco_transport_free(transport);
        return error;
    }
    *out = transport;
    return 0;
}

/* Leaves the lock. Owns the transport. */
static int publish_and_leave(struct dco_engine *engine, struct dco_transport *transport,
                             uint64_t *id)
{
    int error = dco_transport_publish(engine, transport);

    if (!error)
        *id = transport->id;
    dco_engine_leave(engine);
    if (error) {
        dco_rcu_synchronize(&engine->rcu); /* a thread may have met it already */
        dco_transport_free(transport);
    }
    return error;
}

int dco_transport_attach_udp(struct dco_engine *engine, int fd,
                             const struct dco_transport_config *config, uint64_t *id)
{
    struct dco_transport *transport;
    int error = dco_engine_enter(engine);

    if (error)
        return error;
    error = dco_transport_new_udp(engine, &fd, 1, config, &transport);
    if (error) {
        dco_engine_leave(engine);
        return error;
    }
    return publish_and_leave(engine, transport, id);
}

int dco_transport_new_tcp(int fd, const struct dco_transport_config *config,
                          struct dco_transport **out)
{
    struct dco_transport *transport = calloc(1, sizeof *transport);
    struct dco_stream *stream = calloc(1, sizeof *stream);
    int error = transport && stream ? dco_tcp_attach(&stream->tcp, fd, config) : -ENOMEM;

    if (error) {
        free(stream);
        free(transport);
        return error;
    }
    transport->kind = DCO_TRANSPORT_TCP;
    transport->stream = stream;
    error = dco_tcp_queue_init(&stream->queue, DCO_TCP_PENDING_FRAME);
    if (error) {
        dco_transport_free(transport);
        return error;
    }
    *out = transport;
    return 0;
}

int dco_transport_attach_tcp(struct dco_engine *engine, int fd,
                             const struct dco_transport_config *config, uint64_t *id)
{
    struct dco_transport *transport;
    int error = dco_engine_enter(engine);

    if (error)
        return error;
    error = dco_transport_new_tcp(fd, config, &transport);
    if (error) {
        dco_engine_leave(engine);
        return error;
    }
    transport->home = engine->turn++ % engine->workers;
    return publish_and_leave(engine, transport, id);
}

int dco_transport_new_listener(int fd, const struct dco_listener_config *config,
                               struct dco_transport **out)
{
    struct dco_transport *transport = calloc(1, sizeof *transport);
    struct dco_listener *listener = calloc(1, sizeof *listener);
    int error = transport && listener ? dco_tcp_listener_attach(&listener->socket, fd) : -ENOMEM;

    if (error) {
        free(listener);
        free(transport);
        return error;
    }
    transport->kind = DCO_TRANSPORT_LISTENER;
    transport->listener = listener;
    listener->config = *config;
    *out = transport;
    return 0;
}

int dco_transport_listen_tcp(struct dco_engine *engine, int fd,
                             const struct dco_listener_config *config, uint64_t *id)
{
    struct dco_transport *transport;
    int error = dco_engine_enter(engine);

    if (error)
        return error;
    error = dco_transport_new_listener(fd, config, &transport);
    if (error) {
        dco_engine_leave(engine);
        return error;
    }
    return publish_and_leave(engine, transport, id);
}

static void wait_for_pins(struct dco_engine *engine, struct dco_transport *transport)
{
    struct timespec pause = {.tv_nsec = 100000};
    bool pinned = true;

    while (pinned) {
        pthread_mutex_lock(&engine->lock);
        pinned = transport->pins;
        pthread_mutex_unlock(&engine->lock);
        if (pinned)
            nanosleep(&pause, NULL);
    }
}

/* Connections that a listener brought and that nobody has taken go with it. Lock held. */
static void drop_trials(struct dco_engine *engine, struct dco_transport *listener)
{
    struct dco_transport *next;

    for (struct dco_transport *trial = engine->trials; trial; trial = next) {
        next = trial->stream->next;
        if (trial->stream->listener == listener)
            dco_stream_drop(&engine->worker[trial->home], trial);
    }
}

/* All threads have passed, and find it no more. */
static void end_stream(struct dco_engine *engine, struct dco_transport *transport)
{
    struct dco_worker *home = &engine->worker[transport->home];

    pthread_mutex_lock(&home->sealing);
    dco_tcp_queue_clear(&transport->stream->queue, &home->pool);
    dco_stream_await_room(home, transport, false);
    pthread_mutex_unlock(&home->sealing);
}

static int detach(struct dco_engine *engine, uint64_t id)
{
    struct dco_transport *transport;
    int error = dco_engine_enter(engine);

    if (error)
        return error;
    transport = dco_transport_find(&engine->transports, id);
    if (!transport) {
        dco_engine_leave(engine);
        return -ENOENT;
    }
    dco_engine_remove_peers_of(engine, transport, DCO_DELETED_TRANSPORT_DISCONNECT);
    if (transport->stream)
        dco_stream_acquit(engine, transport);
    if (transport->listener)
        drop_trials(engine, transport);
    dco_transport_withdraw(engine, transport);
    dco_engine_leave(engine);

    dco_rcu_synchronize(&engine->rcu);
    wait_for_pins(engine, transport);
    if (transport->stream)
        end_stream(engine, transport);
    dco_events_withdraw(&engine->events, &transport->record);
    dco_transport_free(transport);
    return 0;
}

/* On return nobody here reads the socket any more, and its options are as they were. What is
 * released on the way rings a bell, so a close has to wait. */
int dco_transport_detach(struct dco_engine *engine, uint64_t id)
{
    int error = dco_engine_join(engine);

    if (error)
        return error;
    error = detach(engine, id);
    dco_engine_part(engine);
    return error;
}

bool dco_transport_fail(struct dco_engine *engine, struct dco_transport *transport, int error,
                        enum dco_delete_reason reason)
{
    struct dco_event_record news = {
        .kind = DCO_EVENT_TRANSPORT_FAILED,
        .transport = transport->id,
        .error = error,
    };

    if (pthread_mutex_trylock(&engine->lock))
        return false;
    if (!atomic_exchange(&transport->failed, true)) {
        dco_engine_remove_peers_of(engine, transport, reason);
        if (transport->stream)
            dco_stream_acquit(engine, transport);
        dco_transport_unwatch(engine, transport);
        dco_events_post(&engine->events, &transport->record, &news);
    }
    pthread_mutex_unlock(&engine->lock);
    return true;
}

/* Under the lock. The home worker sends it: only the holder of `sealing` writes to a connection. */
static int send_stream(struct dco_engine *engine, struct dco_transport *transport, const void *data,
                       size_t size)
{
    struct dco_stream *stream = transport->stream;
    struct dco_worker *home = &engine->worker[transport->home];
    uint32_t bytes = (uint32_t)size + DCO_TCPFRAME_PREFIX;

    if (!size || size > stream->queue.frame_max || bytes > DCO_TCP_CONTROL_MAX)
        return size ? -EMSGSIZE : -EINVAL;
    if (stream->accepted && !atomic_load(&stream->heard))
        return -EAGAIN;
    if (atomic_load(&stream->control_due) + dco_counter_read(&stream->queue.control_waiting) + bytes
        > DCO_TCP_CONTROL_MAX)
        return -EAGAIN;
    atomic_fetch_add(&stream->control_due, bytes);
    if (dco_transmit_order(home, transport->id, data, size))
        return 0;
    atomic_fetch_sub(&stream->control_due, bytes);
    return -EAGAIN;
}

/* Under the lock. */
static int check_datagram(const struct dco_transport *transport, const struct dco_address *remote,
                          size_t size)
{
    if (!remote || !remote->port)
        return -EDESTADDRREQ;
    if (remote->family == AF_INET6 && transport->udp->family == AF_INET)
        return -EAFNOSUPPORT;
    return size > DCO_UDP6_PAYLOAD_MAX ? -EMSGSIZE : 0;
}

int dco_transport_send(struct dco_engine *engine, uint64_t id, const void *data, size_t size,
                       const struct dco_address *remote, const struct dco_address *local)
{
    static const struct dco_address any;
    struct dco_transport *transport;
    bool pinned = false;
    int error = dco_engine_enter(engine);

    if (error)
        return error;
    transport = dco_transport_find(&engine->transports, id);
    if (!transport)
        error = -ENOENT;
    else if (atomic_load(&transport->failed))
        error = -EPIPE;
    else if (transport->kind == DCO_TRANSPORT_LISTENER)
        error = -EOPNOTSUPP;
    else if (transport->stream)
        error = remote || local ? -EINVAL : send_stream(engine, transport, data, size);
    else {
        error = check_datagram(transport, remote, size);
        pinned = !error;
        transport->pins += pinned;
    }
    dco_engine_leave(engine);
    if (!pinned)
        return error;

    error = dco_udp_send_one(transport->udp, data, size, remote, local ? local : &any);

    pthread_mutex_lock(&engine->lock);
    transport->pins--;
    pthread_mutex_unlock(&engine->lock);
    return error;
}

static void describe_stream(const struct dco_stream *stream, struct dco_transport_info *info)
{
    info->local = stream->tcp.local;
    info->remote = stream->tcp.remote;
    info->waiting = dco_counter_read(&stream->queue.waiting) + atomic_load(&stream->control_due);
    dco_tcp_buffers(&stream->tcp, &info->send_buffer, &info->receive_buffer);
}

static void describe_listener(const struct dco_listener *listener, struct dco_transport_info *info)
{
    info->local = listener->socket.local;
    info->trials = listener->trials;
    info->accepted = dco_counter_read(&listener->accepted);
    info->refused = dco_counter_read(&listener->refused);
    info->expired = dco_counter_read(&listener->expired);
}

static void describe_udp(const struct dco_transport *transport, struct dco_transport_info *info)
{
    info->local = transport->udp->local;
    info->offloads = UINT32_MAX;
    for (unsigned i = 0; i < transport->sockets; i++) {
        info->offloads &= atomic_load(&transport->udp[i].offloads);
        info->receive_overflows += dco_counter_read(&transport->udp[i].overflows);
        info->icmp_errors += dco_counter_read(&transport->udp[i].icmp_errors);
    }
    dco_udp_buffers(transport->udp, &info->send_buffer, &info->receive_buffer);
}

static void describe(const struct dco_transport *transport, struct dco_transport_info *info)
{
    *info = (struct dco_transport_info){
        .kind = transport->kind,
        .sockets = transport->kind == DCO_TRANSPORT_UDP ? transport->sockets : 1,
        .peers = transport->peers,
        .failed = atomic_load(&transport->failed),
    };
    if (transport->stream)
        describe_stream(transport->stream, info);
    else if (transport->listener)
        describe_listener(transport->listener, info);
    else
        describe_udp(transport, info);
}

int dco_transport_query(struct dco_engine *engine, uint64_t id, struct dco_transport_info *info)
{
    struct dco_transport *transport;
    int error = dco_engine_enter(engine);

    if (error)
        return error;
    transport = dco_transport_find(&engine->transports, id);
    if (transport) {
        describe(transport, info);
    } else {
        error = -ENOENT;
    }
    dco_engine_leave(engine);
    return error;
}

void dco_transport_drain_errors(struct dco_engine *engine, struct dco_transport *transport,
                                struct dco_udp *udp)
{
    uint32_t slot = dco_transport_slot(transport->id);
    struct dco_udp_error error;

    while (dco_udp_next_error(udp, &error)) {
        struct dco_peer *peer = dco_peer_table_by_address(&engine->peers, slot, &error.remote);
        dco_counter_add_shared(&udp->icmp_errors, 1);
        if (!peer)
            continue;
        dco_counter_add_shared(&peer->link_errors, 1);
        if (error.error == EMSGSIZE && udp->df)
            dco_path_learn(peer, &error, dco_now_ns());
    }
}
