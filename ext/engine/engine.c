/* Lifecycle of the engine, and removal of peers, which every part needs. */
#define _GNU_SOURCE
#include "engine/engine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A library context of our own: no configuration file and no engine or provider that the program
 * has loaded gets between keys and cipher, unless the operator asks for it. */
static int open_library(struct dco_engine *engine)
{
    const char *configuration = getenv("OVPN_DCO_OPENSSL_CONF");

    engine->library = OSSL_LIB_CTX_new();
    if (!engine->library)
        return -ENOMEM;
    /* Whoever configures OpenSSL says whose code is to encrypt: then ours does not. */
    if (configuration && *configuration)
        return OSSL_LIB_CTX_load_config(engine->library, configuration) == 1 ? 0 : -EINVAL;
    /* With nothing configured the default provider loads itself. */
    engine->own_gcm = dco_aead_probe(engine->library);
    return 0;
}

static int init_parts(struct dco_engine *engine)
{
    size_t peers = engine->config.max_peers;
    int error = open_library(engine);

    if (!error)
        error = dco_rcu_init(&engine->rcu);
    if (!error)
        error = dco_peer_table_init(&engine->peers, &engine->rcu, peers);
    if (!error)
        error = dco_lpm_init(&engine->lpm, &engine->rcu, 2 * peers);
    if (!error)
        error = dco_ring_init(&engine->control, DCO_CONTROL_RING);
    if (!error)
        error = dco_bell_init(&engine->control_bell);
    if (!error)
        error = dco_events_init(&engine->events);
    if (!error)
        error = dco_worker_init(&engine->worker, engine);
    return error;
}

int dco_engine_create(const struct dco_engine_config *config, struct dco_engine **out)
{
    struct dco_engine *engine;
    int error;

    if ((config->mode != DCO_MODE_P2P && config->mode != DCO_MODE_MULTIPEER)
        || config->max_peers > DCO_PEER_ID_MAX)
        return -EINVAL;
    engine = aligned_alloc(DCO_CACHE_LINE, sizeof *engine);
    if (!engine)
        return -ENOMEM;
    memset(engine, 0, sizeof *engine);
    engine->config = *config;
    if (!engine->config.max_peers)
        engine->config.max_peers = DCO_PEERS_DEFAULT;
    engine->tun.fd = engine->events.bell.fd = engine->control_bell.fd = -1;
    engine->worker.stop_fd = engine->worker.kick_fd = engine->worker.timer_fd = -1;
    engine->worker.transmit_epoll = engine->worker.receive_epoll = -1;
    atomic_store(&engine->offloads, config->offloads);
    atomic_store(&engine->source_check, config->source_check);
    pthread_mutex_init(&engine->lock, NULL);
    pthread_mutex_init(&engine->control_lock, NULL);
    error = init_parts(engine);
    if (error) {
        dco_engine_free(engine);
        return error;
    }
    *out = engine;
    return 0;
}

int dco_engine_enter(struct dco_engine *engine)
{
    pthread_mutex_lock(&engine->lock);
    if (engine->state != DCO_ENGINE_CLOSED)
        return 0;
    pthread_mutex_unlock(&engine->lock);
    return -EBADF;
}

void dco_engine_leave(struct dco_engine *engine)
{
    pthread_mutex_unlock(&engine->lock);
}

/* One TUN per engine, opened before it starts. */
static int enter_without_tun(struct dco_engine *engine)
{
    int error = dco_engine_enter(engine);

    if (!error && engine->tun_open) {
        dco_engine_leave(engine);
        error = -EBUSY;
    }
    return error;
}

int dco_engine_open_tun(struct dco_engine *engine, const char *name, int netns_fd)
{
    int error = enter_without_tun(engine);

    if (error)
        return error;
    error = dco_tun_open(&engine->tun, name, netns_fd, engine->config.offloads);
    engine->tun_open = !error;
    dco_engine_leave(engine);
    return error;
}

int dco_engine_adopt_tun(struct dco_engine *engine, int fd)
{
    int error = enter_without_tun(engine);

    if (error)
        return error;
    error = dco_tun_adopt(&engine->tun, fd, engine->config.offloads);
    engine->tun_open = !error;
    dco_engine_leave(engine);
    return error;
}

int dco_engine_start(struct dco_engine *engine)
{
    int error = dco_engine_enter(engine);

    if (error)
        return error;
    if (engine->state == DCO_ENGINE_RUNNING)
        error = -EALREADY;
    else if (!engine->tun_open)
        error = -ENODEV;
    else
        error = dco_worker_start(&engine->worker, engine);
    if (!error)
        engine->state = DCO_ENGINE_RUNNING;
    dco_engine_leave(engine);
    return error;
}

/* --- peers --- */

struct dco_peer *dco_engine_find(struct dco_engine *engine, struct dco_peer_ref ref)
{
    struct dco_peer *peer =
        ref.id <= DCO_PEER_ID_MAX ? dco_peer_table_by_id(&engine->peers, ref.id) : NULL;

    return peer && (!ref.generation || ref.generation == peer->generation) ? peer : NULL;
}

/* All threads have passed: nobody seals, opens or counts for this peer any more. */
static void peer_release(struct dco_rcu_node *node)
{
    struct dco_peer *peer = (struct dco_peer *)((char *)node - offsetof(struct dco_peer, rcu));
    struct dco_event_record news = {
        .kind = DCO_EVENT_PEER_DELETED,
        .reason = peer->delete_reason,
    };

    for (int slot = 0; slot < 2; slot++)
        dco_key_free(atomic_exchange(&peer->keys.slot[slot], NULL));
    dco_peer_endpoint_read(peer, &news.endpoint);
    dco_events_post(&peer->engine->events, &peer->record[DCO_RECORD_DELETED], &news);
}

void dco_engine_remove_peer(struct dco_engine *engine, struct dco_peer *peer,
                            enum dco_delete_reason reason)
{
    peer->dead = true;
    peer->delete_reason = (uint8_t)reason;
    while (peer->routes) {
        struct dco_lpm_route *route = peer->routes;
        peer->routes = route->sibling;
        dco_lpm_remove(&engine->lpm, route);
    }
    if (atomic_load_explicit(&engine->only, memory_order_relaxed) == peer)
        atomic_store_explicit(&engine->only, NULL, memory_order_release);
    dco_peer_table_remove(&engine->peers, peer);
    peer->transport->peers--;
    dco_rcu_retire(&engine->rcu, &peer->rcu, peer_release);
}

void dco_engine_remove_peers_of(struct dco_engine *engine, struct dco_transport *transport,
                                enum dco_delete_reason reason)
{
    struct dco_peer *next;

    for (struct dco_peer *peer = engine->peers.first; peer; peer = next) {
        next = peer->next;
        if (!transport || peer->transport == transport)
            dco_engine_remove_peer(engine, peer, reason);
    }
}

/* --- the end --- */

static void free_transports(struct dco_engine *engine)
{
    for (int i = 0; i < DCO_TRANSPORTS_MAX; i++) {
        struct dco_transport *transport = atomic_exchange(&engine->transport[i], NULL);
        if (transport) {
            dco_udp_detach(&transport->udp);
            free(transport);
        }
    }
}

/* Calls that use a transport without the lock end soon: their sends do not block for long. */
static void wait_for_pins(struct dco_engine *engine)
{
    struct timespec pause = {.tv_nsec = 100000};
    bool pinned = true;

    while (pinned) {
        pinned = false;
        pthread_mutex_lock(&engine->lock);
        for (int i = 0; i < DCO_TRANSPORTS_MAX; i++) {
            struct dco_transport *transport = atomic_load(&engine->transport[i]);
            pinned |= transport && transport->pins;
        }
        pthread_mutex_unlock(&engine->lock);
        if (pinned)
            nanosleep(&pause, NULL);
    }
}

void dco_engine_close(struct dco_engine *engine)
{
    if (dco_engine_enter(engine))
        return;
    engine->state = DCO_ENGINE_CLOSED;
    dco_engine_leave(engine);

    dco_worker_stop(&engine->worker);
    wait_for_pins(engine);
    pthread_mutex_lock(&engine->lock);
    dco_engine_remove_peers_of(engine, NULL, DCO_DELETED_TEARDOWN);
    free_transports(engine);
    dco_tun_close(&engine->tun);
    pthread_mutex_unlock(&engine->lock);
    dco_bell_ring(&engine->events.bell); /* whoever waits finds out */
    dco_bell_ring(&engine->control_bell);
}

void dco_engine_free(struct dco_engine *engine)
{
    if (!engine)
        return;
    dco_engine_close(engine);
    dco_worker_destroy(&engine->worker);
    if (engine->rcu.tail)
        dco_rcu_destroy(&engine->rcu);
    if (engine->events.tail)
        dco_events_destroy(&engine->events);
    dco_ring_destroy(&engine->control);
    dco_bell_destroy(&engine->control_bell);
    dco_lpm_destroy(&engine->lpm);
    dco_peer_table_destroy(&engine->peers);
    OSSL_LIB_CTX_free(engine->library);
    pthread_mutex_destroy(&engine->lock);
    pthread_mutex_destroy(&engine->control_lock);
    free(engine);
}

/* In the child of a fork: the threads are the parent's, and locks may be held by threads that do
 * not exist here. So nothing is waited for: keys are cleansed and descriptors closed, and the
 * parent's sockets keep the options that it set. */
void dco_engine_forget(struct dco_engine *engine)
{
    engine->state = DCO_ENGINE_CLOSED;
    pthread_mutex_init(&engine->lock, NULL);
    pthread_mutex_init(&engine->control_lock, NULL);
    pthread_mutex_init(&engine->rcu.lock, NULL);
    pthread_mutex_init(&engine->events.lock, NULL);
    engine->worker.transmit_started = engine->worker.receive_started = false;
    engine->rcu.readers = 0;
    for (struct dco_peer *peer = engine->peers.first; peer; peer = peer->next)
        for (int slot = 0; slot < 2; slot++)
            dco_key_free(atomic_exchange(&peer->keys.slot[slot], NULL));
    for (int i = 0; i < DCO_TRANSPORTS_MAX; i++) {
        struct dco_transport *transport = atomic_load(&engine->transport[i]);
        if (transport) {
            transport->pins = 0;
            transport->udp.options = 0;
            dco_udp_detach(&transport->udp);
        }
    }
    dco_tun_close(&engine->tun);
    dco_bell_destroy(&engine->events.bell);
    dco_bell_destroy(&engine->control_bell);
    dco_worker_destroy(&engine->worker);
}

int dco_engine_event_fd(struct dco_engine *engine)
{
    return engine->events.bell.fd;
}

int dco_engine_control_fd(struct dco_engine *engine)
{
    return engine->control_bell.fd;
}

int dco_event_poll(struct dco_engine *engine, struct dco_event *events, size_t capacity)
{
    return dco_events_take(&engine->events, events, capacity);
}
