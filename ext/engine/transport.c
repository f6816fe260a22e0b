/* Sockets: attach, detach, failure, errors, and control packets out. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>

#include "engine/engine.h"

/* Path MTUs below these are forged or useless: RFC 791 and RFC 8200 promise more. */
#define PATH_MTU_MIN_IPV4 576u
#define PATH_MTU_MIN_IPV6 1280u
/* How long a learned path MTU holds: RFC 1191, section 6.3. */
#define PATH_MTU_LIFE_NS (UINT64_C(600) * 1000000000u)

static int free_slot(struct dco_engine *engine)
{
    for (int i = 0; i < DCO_TRANSPORTS_MAX; i++)
        if (!atomic_load(&engine->transport[i]))
            return i;
    return -EMFILE;
}

/* Under the lock. */
static struct dco_transport *find(struct dco_engine *engine, uint32_t id)
{
    return id < (uint32_t)DCO_TRANSPORTS_MAX ? atomic_load(&engine->transport[id]) : NULL;
}

static int publish(struct dco_engine *engine, struct dco_transport *transport)
{
    int slot = free_slot(engine), error;

    if (slot < 0)
        return slot;
    transport->id = (uint32_t)slot;
    atomic_store_explicit(&engine->transport[slot], transport, memory_order_release);
    error = dco_worker_watch(&engine->worker, transport->udp.fd, transport->id);
    if (error) {
        atomic_store(&engine->transport[slot], NULL);
        return error;
    }
    transport->watched = true;
    engine->transports++;
    return 0;
}

int dco_transport_attach_udp(struct dco_engine *engine, int fd,
                             const struct dco_transport_config *config, uint32_t *id)
{
    struct dco_transport *transport = calloc(1, sizeof *transport);
    int error;

    if (!transport)
        return -ENOMEM;
    error = dco_engine_enter(engine);
    if (error) {
        free(transport);
        return error;
    }
    error = dco_udp_attach(&transport->udp, fd, config, atomic_load(&engine->offloads));
    if (!error) {
        error = publish(engine, transport);
        if (error)
            dco_udp_detach(&transport->udp);
    }
    dco_engine_leave(engine);
    if (error)
        free(transport);
    else
        *id = transport->id;
    return error;
}

static void unwatch(struct dco_engine *engine, struct dco_transport *transport)
{
    if (transport->watched)
        dco_worker_unwatch(&engine->worker, transport->udp.fd);
    transport->watched = false;
}

static int detach(struct dco_engine *engine, uint32_t id)
{
    struct timespec pause = {.tv_nsec = 100000};
    struct dco_transport *transport;
    bool pinned = true;
    int error = dco_engine_enter(engine);

    if (error)
        return error;
    transport = find(engine, id);
    if (!transport) {
        dco_engine_leave(engine);
        return -ENOENT;
    }
    dco_engine_remove_peers_of(engine, transport, DCO_DELETED_TRANSPORT_DISCONNECT);
    unwatch(engine, transport);
    atomic_store(&engine->transport[id], NULL);
    engine->transports--;
    dco_engine_leave(engine);

    dco_rcu_synchronize(&engine->rcu);
    while (pinned) {
        pthread_mutex_lock(&engine->lock);
        pinned = transport->pins;
        pthread_mutex_unlock(&engine->lock);
        if (pinned)
            nanosleep(&pause, NULL);
    }
    dco_events_withdraw(&engine->events, &transport->record);
    dco_udp_detach(&transport->udp);
    free(transport);
    return 0;
}

/* On return nobody here reads the socket any more, and its options are as they were. What is
 * released on the way rings a bell, so a close has to wait. */
int dco_transport_detach(struct dco_engine *engine, uint32_t id)
{
    int error = dco_engine_join(engine);

    if (error)
        return error;
    error = detach(engine, id);
    dco_engine_part(engine);
    return error;
}

bool dco_transport_fail(struct dco_engine *engine, struct dco_transport *transport, int error)
{
    struct dco_event_record news = {
        .kind = DCO_EVENT_TRANSPORT_FAILED,
        .transport = transport->id,
        .error = error,
    };

    if (pthread_mutex_trylock(&engine->lock))
        return false;
    if (!atomic_exchange(&transport->failed, true)) {
        dco_engine_remove_peers_of(engine, transport, DCO_DELETED_TRANSPORT_DISCONNECT);
        unwatch(engine, transport);
        dco_events_post(&engine->events, &transport->record, &news);
    }
    pthread_mutex_unlock(&engine->lock);
    return true;
}

int dco_transport_send(struct dco_engine *engine, uint32_t id, const void *data, size_t size,
                       const struct dco_address *remote, const struct dco_address *local)
{
    static const struct dco_address any;
    struct dco_transport *transport;
    int error = dco_engine_enter(engine);

    if (error)
        return error;
    transport = find(engine, id);
    if (!transport)
        error = -ENOENT;
    else if (atomic_load(&transport->failed))
        error = -EPIPE;
    else if (!remote || !remote->port)
        error = -EDESTADDRREQ;
    else if (remote->family == AF_INET6 && transport->udp.family == AF_INET)
        error = -EAFNOSUPPORT;
    else if (size > DCO_UDP6_PAYLOAD_MAX)
        error = -EMSGSIZE;
    else
        transport->pins++;
    dco_engine_leave(engine);
    if (error)
        return error;

    error = dco_udp_send_one(&transport->udp, data, size, remote, local ? local : &any);

    pthread_mutex_lock(&engine->lock);
    transport->pins--;
    pthread_mutex_unlock(&engine->lock);
    return error;
}

int dco_transport_query(struct dco_engine *engine, uint32_t id, struct dco_transport_info *info)
{
    struct dco_transport *transport;
    int error = dco_engine_enter(engine);

    if (error)
        return error;
    transport = find(engine, id);
    if (transport) {
        *info = (struct dco_transport_info){
            .local = transport->udp.local,
            .offloads = atomic_load(&transport->udp.offloads),
            .peers = transport->peers,
            .receive_overflows = dco_counter_read(&transport->udp.overflows),
            .icmp_errors = dco_counter_read(&transport->udp.icmp_errors),
            .failed = atomic_load(&transport->failed),
        };
        dco_udp_buffers(&transport->udp, &info->send_buffer, &info->receive_buffer);
    } else {
        error = -ENOENT;
    }
    dco_engine_leave(engine);
    return error;
}

static void learn_path_mtu(struct dco_peer *peer, const struct dco_udp_error *error)
{
    bool ipv4 = error->remote.family == AF_INET;
    uint32_t headers = ipv4 ? 28 : 48;

    if (error->mtu < (ipv4 ? PATH_MTU_MIN_IPV4 : PATH_MTU_MIN_IPV6))
        return;
    atomic_store(&peer->path_limit_until_ns, dco_now_ns() + PATH_MTU_LIFE_NS);
    atomic_store(&peer->path_limit, error->mtu - headers);
}

void dco_transport_drain_errors(struct dco_engine *engine, struct dco_transport *transport)
{
    struct dco_udp_error error;

    while (dco_udp_next_error(&transport->udp, &error)) {
        struct dco_peer *peer =
            dco_peer_table_by_address(&engine->peers, transport->id, &error.remote);
        dco_counter_add_shared(&transport->udp.icmp_errors, 1);
        if (!peer)
            continue;
        dco_counter_add_shared(&peer->link_errors, 1);
        if (error.error == EMSGSIZE && transport->udp.df)
            learn_path_mtu(peer, &error);
    }
}
