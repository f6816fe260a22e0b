/* Sockets: attach, detach, failure, errors, and control packets out. */
#define _GNU_SOURCE
#include "engine/transport.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"

/* Path MTUs below these are forged or useless: RFC 791 and RFC 8200 promise more. */
#define PATH_MTU_MIN_IPV4 576u
#define PATH_MTU_MIN_IPV6 1280u
/* How long a learned path MTU holds: RFC 1191, section 6.3. */
#define PATH_MTU_LIFE_NS (UINT64_C(600) * 1000000000u)

/* --- the table --- */

int dco_transport_table_init(struct dco_transport_table *table)
{
    /* Untouched pages cost nothing. */
    table->slot = calloc(DCO_TRANSPORTS_MAX, sizeof *table->slot);
    table->uses = calloc(DCO_TRANSPORTS_MAX, sizeof *table->uses);
    return table->slot && table->uses ? 0 : -ENOMEM;
}

void dco_transport_free(struct dco_transport *transport)
{
    if (!transport)
        return;
    while (transport->sockets) /* siblings before the socket that they belong to */
        dco_udp_detach(&transport->udp[--transport->sockets]);
    free(transport->udp);
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
    memset(table, 0, sizeof *table);
}

void dco_transport_table_forget(struct dco_transport_table *table)
{
    struct dco_transport *transport;

    for (uint32_t slot = 0; (transport = dco_transport_next(table, &slot));)
        for (unsigned i = 0; i < transport->sockets; i++) {
            transport->udp[i].options = 0;
            dco_udp_detach(&transport->udp[i]);
        }
}

/* Gives the transport an id; nobody finds it before it is published. */
static int table_reserve(struct dco_transport_table *table, struct dco_transport *transport)
{
    for (uint32_t slot = 0; slot < DCO_SOCKETS_MAX; slot++) {
        if (atomic_load_explicit(&table->slot[slot], memory_order_relaxed))
            continue;
        transport->id = (uint64_t)table->uses[slot]++ << 32 | slot;
        if (slot >= table->high)
            table->high = slot + 1;
        return 0;
    }
    return -EMFILE;
}

static void table_put(struct dco_transport_table *table, struct dco_transport *transport)
{
    atomic_store_explicit(&table->slot[dco_transport_slot(transport->id)], transport,
                          memory_order_release);
    table->count++;
}

static void table_remove(struct dco_transport_table *table, struct dco_transport *transport)
{
    atomic_store_explicit(&table->slot[dco_transport_slot(transport->id)], NULL,
                          memory_order_release);
    table->count--;
}

/* --- attach and detach --- */

static void unwatch(struct dco_engine *engine, struct dco_transport *transport)
{
    for (unsigned i = 0; transport->watched && i < transport->sockets; i++)
        dco_worker_unwatch(&engine->worker[i], transport->udp[i].fd);
    transport->watched = false;
}

static int publish(struct dco_engine *engine, struct dco_transport *transport)
{
    int error = table_reserve(&engine->transports, transport);

    if (error)
        return error;
    table_put(&engine->transports, transport);
    transport->watched = true;
    for (unsigned i = 0; i < transport->sockets && !error; i++)
        error = dco_worker_watch(&engine->worker[i], transport->udp[i].fd, transport->id);
    if (error) {
        unwatch(engine, transport);
        table_remove(&engine->transports, transport);
    }
    return error;
}

/* A socket for each worker where that can be had: else one, and its reader hands over. */
static int open_udp(struct dco_engine *engine, struct dco_transport *transport, int fd,
                    const struct dco_transport_config *config)
{
    uint32_t offloads = atomic_load(&engine->offloads);
    int error;

    transport->kind = DCO_TRANSPORT_UDP;
    transport->udp = calloc(engine->workers, sizeof *transport->udp);
    if (!transport->udp)
        return -ENOMEM;
    error = dco_udp_attach(&transport->udp[0], fd, config, offloads);
    if (error)
        return error;
    transport->sockets = 1;
    if (engine->workers > 1)
        transport->sockets = dco_udp_siblings(transport->udp, engine->workers, config, offloads);
    return 0;
}

int dco_transport_attach_udp(struct dco_engine *engine, int fd,
                             const struct dco_transport_config *config, uint64_t *id)
{
    struct dco_transport *transport = calloc(1, sizeof *transport);
    int error;

    if (!transport)
        return -ENOMEM;
    error = dco_engine_enter(engine);
    if (!error) {
        error = open_udp(engine, transport, fd, config);
        if (!error)
            error = publish(engine, transport);
        dco_engine_leave(engine);
    }
    if (error) {
        dco_rcu_synchronize(&engine->rcu); /* a thread may have met it already */
        dco_transport_free(transport);
        return error;
    }
    *id = transport->id;
    return 0;
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

/* On return nobody here reads the socket any more, and its options are as they were. */
int dco_transport_detach(struct dco_engine *engine, uint64_t id)
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
    unwatch(engine, transport);
    table_remove(&engine->transports, transport);
    dco_engine_leave(engine);

    dco_rcu_synchronize(&engine->rcu);
    wait_for_pins(engine, transport);
    dco_events_withdraw(&engine->events, &transport->record);
    dco_transport_free(transport);
    return 0;
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

int dco_transport_send(struct dco_engine *engine, uint64_t id, const void *data, size_t size,
                       const struct dco_address *remote, const struct dco_address *local)
{
    static const struct dco_address any;
    struct dco_transport *transport;
    int error = dco_engine_enter(engine);

    if (error)
        return error;
    transport = dco_transport_find(&engine->transports, id);
    if (!transport)
        error = -ENOENT;
    else if (atomic_load(&transport->failed))
        error = -EPIPE;
    else if (!remote || !remote->port)
        error = -EDESTADDRREQ;
    else if (remote->family == AF_INET6 && transport->udp->family == AF_INET)
        error = -EAFNOSUPPORT;
    else if (size > DCO_UDP6_PAYLOAD_MAX)
        error = -EMSGSIZE;
    else
        transport->pins++;
    dco_engine_leave(engine);
    if (error)
        return error;

    error = dco_udp_send_one(transport->udp, data, size, remote, local ? local : &any);

    pthread_mutex_lock(&engine->lock);
    transport->pins--;
    pthread_mutex_unlock(&engine->lock);
    return error;
}

static void describe(const struct dco_transport *transport, struct dco_transport_info *info)
{
    *info = (struct dco_transport_info){
        .kind = transport->kind,
        .sockets = transport->sockets,
        .local = transport->udp->local,
        .offloads = UINT32_MAX,
        .peers = transport->peers,
        .failed = atomic_load(&transport->failed),
    };
    for (unsigned i = 0; i < transport->sockets; i++) {
        info->offloads &= atomic_load(&transport->udp[i].offloads);
        info->receive_overflows += dco_counter_read(&transport->udp[i].overflows);
        info->icmp_errors += dco_counter_read(&transport->udp[i].icmp_errors);
    }
    dco_udp_buffers(transport->udp, &info->send_buffer, &info->receive_buffer);
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

static void learn_path_mtu(struct dco_peer *peer, const struct dco_udp_error *error)
{
    bool ipv4 = error->remote.family == AF_INET;
    uint32_t headers = ipv4 ? 28 : 48;

    if (error->mtu < (ipv4 ? PATH_MTU_MIN_IPV4 : PATH_MTU_MIN_IPV6))
        return;
    atomic_store(&peer->path_limit_until_ns, dco_now_ns() + PATH_MTU_LIFE_NS);
    atomic_store(&peer->path_limit, error->mtu - headers);
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
            learn_path_mtu(peer, &error);
    }
}
