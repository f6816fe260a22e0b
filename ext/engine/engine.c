/* Lifecycle of the engine, and removal of peers, which every part needs. */
#define _GNU_SOURCE
#include "engine/engine.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/receive.h"
#include "engine/trace.h"
#include "engine/transmit.h"

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

static int init_workers(struct dco_engine *engine)
{
    int error = 0;

    engine->worker = calloc(engine->config.workers, sizeof *engine->worker);
    if (!engine->worker)
        return -ENOMEM;
    while (engine->workers < engine->config.workers && !error) {
        unsigned index = engine->workers++;
        error = dco_worker_init(&engine->worker[index], engine, index);
    }
    return error;
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
        error = dco_transport_table_init(&engine->transports);
    if (!error)
        error = dco_bell_init(&engine->control_bell);
    if (!error)
        error = dco_events_init(&engine->events);
    if (!error)
        error = init_workers(engine);
    return error;
}

int dco_engine_create(const struct dco_engine_config *config, struct dco_engine **out)
{
    struct dco_engine *engine;
    int error;

    if ((config->mode != DCO_MODE_P2P && config->mode != DCO_MODE_MULTIPEER)
        || config->max_peers > DCO_PEER_ID_MAX || config->workers > DCO_WORKERS_MAX
        || (config->single_thread && config->workers > 1))
        return -EINVAL;
    engine = aligned_alloc(DCO_CACHE_LINE, sizeof *engine);
    if (!engine)
        return -ENOMEM;
    memset(engine, 0, sizeof *engine);
    engine->config = *config;
    if (!engine->config.max_peers)
        engine->config.max_peers = DCO_PEERS_DEFAULT;
    if (!engine->config.workers)
        engine->config.workers = 1;
    engine->events.bell.fd = engine->control_bell.fd = -1;
    atomic_store(&engine->offloads, config->offloads);
    engine->source_check = config->source_check;
    pthread_mutex_init(&engine->closing, NULL);
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

int dco_engine_open_tun(struct dco_engine *engine, const char *name, int netns_fd, bool existing)
{
    int error = enter_without_tun(engine);

    if (error)
        return error;
    error = dco_tun_open(&engine->tun, name, netns_fd, existing, engine->config.offloads,
                         engine->config.workers);
    engine->tun_open = !error;
    dco_engine_leave(engine);
    return error;
}

int dco_engine_adopt_tun(struct dco_engine *engine, const int *fds, unsigned queues)
{
    int error = queues && queues <= engine->config.workers ? enter_without_tun(engine) : -EINVAL;

    if (error)
        return error;
    error = dco_tun_adopt(&engine->tun, fds, queues, engine->config.offloads);
    engine->tun_open = !error;
    dco_engine_leave(engine);
    return error;
}

static void stop_workers(struct dco_engine *engine)
{
    for (unsigned i = 0; i < engine->workers; i++)
        dco_worker_stop(&engine->worker[i]);
    for (unsigned i = 0; i < engine->workers; i++)
        dco_worker_join(&engine->worker[i]);
}

/* What one worker has handed to another waits in no queue of the kernel, where it would outlast the
 * threads: it is sealed and opened here in their place. */
static void finish_handoffs(struct dco_engine *engine)
{
    for (unsigned i = 0; i < engine->workers; i++)
        while (dco_receive_handed(engine->worker[i].receive))
            ;
    for (unsigned i = 0; i < engine->workers; i++)
        while (dco_transmit_handed(engine->worker[i].transmit))
            ;
}

/* So that they can be started again. */
static void stop_for_a_while(struct dco_engine *engine)
{
    stop_workers(engine);
    finish_handoffs(engine);
    for (unsigned i = 0; i < engine->workers; i++)
        dco_worker_undo_start(&engine->worker[i]);
}

static int start_workers(struct dco_engine *engine)
{
    int error = 0;

    for (unsigned i = 0; i < engine->workers && !error; i++)
        error = dco_worker_start(&engine->worker[i]);
    if (error)
        stop_for_a_while(engine);
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
        error = start_workers(engine);
    if (!error)
        engine->state = DCO_ENGINE_RUNNING;
    dco_engine_leave(engine);
    return error;
}

/* The threads only ever try the lock, so that they come to their end while it is held. */
int dco_engine_halt(struct dco_engine *engine)
{
    int error = dco_engine_enter(engine);

    if (error)
        return error;
    if (engine->state == DCO_ENGINE_RUNNING) {
        stop_for_a_while(engine);
        engine->state = DCO_ENGINE_HALTED;
    } else if (engine->state != DCO_ENGINE_HALTED) {
        error = -EINVAL;
    }
    dco_engine_leave(engine);
    return error;
}

int dco_engine_tun_queue(struct dco_engine *engine, unsigned queue)
{
    int fd, error = dco_engine_enter(engine);

    if (error)
        return error;
    fd = queue < engine->tun.queues ? engine->tun.queue[queue] : -ENOENT;
    dco_engine_leave(engine);
    return fd;
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
    if (peer->transport->stream)
        atomic_store_explicit(&peer->transport->stream->peer, NULL, memory_order_release);
    dco_rcu_retire(&engine->rcu, &peer->rcu, peer_release);
}

void dco_engine_remove_peers_of(struct dco_engine *engine, struct dco_transport *transport,
                                enum dco_delete_reason reason)
{
    struct dco_peer *next;

    /* A connection has one peer, found without a walk: thousands may end together. */
    if (transport && transport->stream) {
        struct dco_peer *peer =
            atomic_load_explicit(&transport->stream->peer, memory_order_relaxed);
        if (peer)
            dco_engine_remove_peer(engine, peer, reason);
        return;
    }
    for (struct dco_peer *peer = engine->peers.first; peer; peer = next) {
        next = peer->next;
        if (!transport || peer->transport == transport)
            dco_engine_remove_peer(engine, peer, reason);
    }
}

/* --- the end --- */

/* Their records go with them. */
static void withdraw_transport_events(struct dco_engine *engine)
{
    struct dco_transport *transport;

    for (uint32_t slot = 0; (transport = dco_transport_next(&engine->transports, &slot));)
        dco_events_withdraw(&engine->events, &transport->record);
}

static bool calls_under_way(struct dco_engine *engine)
{
    bool any = atomic_load(&engine->calls);
    struct dco_transport *transport;

    pthread_mutex_lock(&engine->lock);
    for (uint32_t slot = 0; (transport = dco_transport_next(&engine->transports, &slot));)
        any |= transport->pins;
    pthread_mutex_unlock(&engine->lock);
    return any;
}

/* Calls without the lock end soon: sends do not block for long, and whoever waits is woken. More
 * than once, since a call that reads events may silence the bell a moment later. */
static void wait_for_calls(struct dco_engine *engine)
{
    struct timespec pause = {.tv_nsec = 100000};

    dco_bell_ring(&engine->events.bell);
    while (calls_under_way(engine)) {
        nanosleep(&pause, NULL);
        dco_bell_ring(&engine->events.bell);
    }
}

static void destroy_workers(struct dco_engine *engine)
{
    for (unsigned i = 0; i < engine->workers; i++)
        dco_worker_destroy(&engine->worker[i]);
}

/* Under the lock, so that a fork finds all of it or nothing done. Sockets that another engine may
 * have by now are left as they are. */
static void give_everything_back(struct dco_engine *engine, bool halted)
{
    dco_engine_remove_peers_of(engine, NULL, DCO_DELETED_TEARDOWN);
    dco_engine_drop_reserved(engine);
    withdraw_transport_events(engine);
    if (halted)
        dco_transport_table_keep_options(&engine->transports);
    dco_transport_table_destroy(&engine->transports);
    dco_tun_close(&engine->tun);
    dco_trace_close(engine);
    dco_bell_retire(&engine->events.bell);
    dco_bell_retire(&engine->control_bell);
    destroy_workers(engine);
}

void dco_engine_close(struct dco_engine *engine)
{
    bool halted;

    pthread_mutex_lock(&engine->closing); /* whoever is second returns when the first is done */
    if (!dco_engine_enter(engine)) {
        halted = engine->state == DCO_ENGINE_HALTED;
        engine->state = DCO_ENGINE_CLOSED;
        atomic_store(&engine->closed, true);
        dco_engine_leave(engine);
        stop_workers(engine);
        wait_for_calls(engine);
        pthread_mutex_lock(&engine->lock);
        give_everything_back(engine, halted);
        pthread_mutex_unlock(&engine->lock);
    }
    pthread_mutex_unlock(&engine->closing);
}

void dco_engine_free(struct dco_engine *engine)
{
    if (!engine)
        return;
    dco_engine_close(engine);
    if (engine->rcu.tail)
        dco_rcu_destroy(&engine->rcu);
    if (engine->events.tail)
        dco_events_destroy(&engine->events);
    dco_bell_destroy(&engine->control_bell);
    dco_lpm_destroy(&engine->lpm);
    dco_peer_table_destroy(&engine->peers);
    dco_trace_destroy(engine);
    free(engine->worker);
    OSSL_LIB_CTX_free(engine->library);
    pthread_mutex_destroy(&engine->closing);
    pthread_mutex_destroy(&engine->lock);
    pthread_mutex_destroy(&engine->control_lock);
    free(engine);
}

/* --- fork --- */

/* Whoever changes peers, keys or what is retired holds one of these locks: the child of a fork that
 * holds all of them has a copy in which nothing is half done. The threads only try them. */
void dco_engine_freeze(struct dco_engine *engine)
{
    pthread_mutex_lock(&engine->lock);
    dco_rcu_freeze(&engine->rcu);
    pthread_mutex_lock(&engine->events.lock);
}

void dco_engine_thaw(struct dco_engine *engine)
{
    pthread_mutex_unlock(&engine->events.lock);
    dco_rcu_thaw(&engine->rcu);
    pthread_mutex_unlock(&engine->lock);
}

/* The parent's locks, some of them held by threads that do not exist here. */
static void renew_locks(struct dco_engine *engine)
{
    pthread_mutex_init(&engine->closing, NULL);
    pthread_mutex_init(&engine->lock, NULL);
    pthread_mutex_init(&engine->control_lock, NULL);
    pthread_mutex_init(&engine->rcu.lock, NULL);
    pthread_mutex_init(&engine->events.lock, NULL);
}

/* In the child of a fork: the threads are the parent's. So nothing is waited for: keys are cleansed
 * and descriptors closed, and the parent's sockets keep the options that it set. Bells first: what
 * is released here would ring them, and they are the parent's, too. */
void dco_engine_forget(struct dco_engine *engine)
{
    engine->state = DCO_ENGINE_CLOSED;
    atomic_store(&engine->closed, true);
    atomic_store(&engine->calls, 0);
    renew_locks(engine);
    dco_bell_destroy(&engine->events.bell);
    dco_bell_destroy(&engine->control_bell);
    for (unsigned i = 0; i < engine->workers; i++)
        engine->worker[i].transmit_started = engine->worker[i].receive_started = false;
    dco_rcu_destroy(&engine->rcu);
    for (struct dco_peer *peer = engine->peers.first; peer; peer = peer->next)
        for (int slot = 0; slot < 2; slot++)
            dco_key_free(atomic_exchange(&peer->keys.slot[slot], NULL));
    dco_transport_table_forget(&engine->transports);
    dco_tun_close(&engine->tun);
    dco_trace_destroy(engine);
    destroy_workers(engine);
}

/* --- waiting --- */

static int hand_out(struct dco_engine *engine, struct dco_bell *bell)
{
    int fd = dco_engine_join(engine);

    if (fd)
        return fd;
    fd = dco_bell_hand_out(bell);
    dco_engine_part(engine);
    return fd;
}

int dco_engine_event_fd(struct dco_engine *engine)
{
    return hand_out(engine, &engine->events.bell);
}

int dco_engine_control_fd(struct dco_engine *engine)
{
    return hand_out(engine, &engine->control_bell);
}

int dco_engine_wait(struct dco_engine *engine, int timeout_ms)
{
    struct pollfd bell = {.events = POLLIN};
    int result = dco_engine_join(engine);

    if (result)
        return result;
    bell.fd = engine->events.bell.fd;
    result = poll(&bell, 1, timeout_ms);
    if (result < 0)
        result = -errno;
    dco_engine_part(engine);
    return result;
}

int dco_event_poll(struct dco_engine *engine, struct dco_event *events, size_t capacity)
{
    int taken = dco_engine_join(engine);

    if (taken)
        return taken;
    taken = dco_events_take(&engine->events, events, capacity);
    dco_engine_part(engine);
    return taken;
}
