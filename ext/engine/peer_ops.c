/* Peers: add, change, delete, query. What is said of arguments is said in Python, where every
 * refusal has its words; here is what must hold for the engine to be safe. */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>

#include "codec/tcpframe.h"
#include "engine/engine.h"
#include "engine/features.h"
#include "engine/path.h"

static bool is_zero(const uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (bytes[i])
            return false;
    return true;
}

/* --- VPN addresses --- */

struct vpn_change {
    struct dco_lpm_route *route[2]; /* IPv4, IPv6: what to insert, or NULL */
};

static struct dco_prefix host_prefix(uint8_t family, const uint8_t *ip)
{
    struct dco_prefix prefix = {.family = family, .length = family == AF_INET ? 32 : 128};

    memcpy(prefix.ip, ip, family == AF_INET ? 4 : 16);
    return prefix;
}

/* Checks and allocates one address; changes nothing yet. */
static int prepare_address(struct dco_engine *engine, uint8_t family, const uint8_t *ip,
                           struct dco_peer *peer, struct dco_lpm_route **route)
{
    struct dco_prefix prefix = host_prefix(family, ip);
    struct dco_lpm_route *taken;

    *route = NULL;
    if (is_zero(ip, family == AF_INET ? 4 : 16))
        return 0;
    taken = dco_lpm_exact(&engine->lpm, &prefix);
    if (taken && (taken->entry.value != peer || !taken->host))
        return -EADDRINUSE;
    if (taken)
        return 0; /* has it already */
    *route = dco_lpm_route_new(&prefix, peer, true);
    return *route ? 0 : -ENOMEM;
}

static int prepare_addresses(struct dco_engine *engine, const struct dco_peer_config *config,
                             struct dco_peer *peer, struct vpn_change *change)
{
    int error = 0;

    memset(change, 0, sizeof *change);
    if (config->present & DCO_PEER_VPN_IPV4)
        error = prepare_address(engine, AF_INET, config->vpn_ipv4, peer, &change->route[0]);
    if (!error && config->present & DCO_PEER_VPN_IPV6)
        error = prepare_address(engine, AF_INET6, config->vpn_ipv6, peer, &change->route[1]);
    if (error) {
        dco_lpm_route_free(change->route[0]);
        dco_lpm_route_free(change->route[1]);
    }
    return error;
}

static void remove_address(struct dco_engine *engine, struct dco_peer *peer, uint8_t family)
{
    struct dco_lpm_route **link = &peer->routes;

    while (*link && !((*link)->host && (*link)->prefix.family == family))
        link = &(*link)->sibling;
    if (*link) {
        struct dco_lpm_route *route = *link;
        *link = route->sibling;
        dco_lpm_remove(&engine->lpm, route);
    }
}

static void apply_address(struct dco_engine *engine, struct dco_peer *peer, uint8_t family,
                          uint8_t *known, const uint8_t *ip, struct dco_lpm_route *route)
{
    size_t size = family == AF_INET ? 4 : 16;

    if (!memcmp(known, ip, size))
        return;
    remove_address(engine, peer, family);
    memcpy(known, ip, size);
    if (route) {
        dco_lpm_insert(&engine->lpm, route);
        route->sibling = peer->routes;
        peer->routes = route;
    }
}

/* --- settings --- */

static void apply_settings(struct dco_engine *engine, struct dco_peer *peer,
                           const struct dco_peer_config *config, const struct vpn_change *change)
{
    if (config->present & DCO_PEER_VPN_IPV4)
        apply_address(engine, peer, AF_INET, peer->vpn_ipv4, config->vpn_ipv4, change->route[0]);
    if (config->present & DCO_PEER_VPN_IPV6)
        apply_address(engine, peer, AF_INET6, peer->vpn_ipv6, config->vpn_ipv6, change->route[1]);
    if (config->present & DCO_PEER_TX_ID)
        atomic_store(&peer->tx_id, config->tx_id);
    if (config->present & DCO_PEER_REMOTE) {
        struct dco_endpoint endpoint = {.remote = config->remote};
        if (config->present & DCO_PEER_LOCAL)
            endpoint.local = config->local;
        dco_peer_endpoint_write(peer, &endpoint);
        dco_peer_path_reset(peer);
    }
    if (config->present & DCO_PEER_KEEPALIVE) {
        atomic_store(&peer->keepalive_set_ns, dco_now_ns());
        atomic_store(&peer->keepalive_interval_s, config->keepalive_interval_s);
        atomic_store(&peer->keepalive_timeout_s, config->keepalive_timeout_s);
        dco_worker_kick(&engine->worker[peer->home]);
    }
    dco_features_apply(peer, config);
}

static int check_config(const struct dco_engine *engine, const struct dco_peer_config *config)
{
    if (config->id > DCO_PEER_ID_MAX || config->tx_id > DCO_PEER_ID_MAX)
        return -ERANGE;
    if (engine->config.mode == DCO_MODE_MULTIPEER && config->id == DCO_PEER_ID_UNDEFINED)
        return -EINVAL;
    if (engine->config.mode == DCO_MODE_P2P
        && config->present & (DCO_PEER_VPN_IPV4 | DCO_PEER_VPN_IPV6))
        return -EINVAL;
    if (config->present & DCO_PEER_LOCAL && !(config->present & DCO_PEER_REMOTE))
        return -EINVAL;
    return dco_features_check(config);
}

static int check_remote(const struct dco_transport *transport, const struct dco_peer_config *config)
{
    if (transport->stream) /* the connection says where its peer is */
        return config->present & (DCO_PEER_REMOTE | DCO_PEER_LOCAL) ? -EISCONN : 0;
    if (!(config->present & DCO_PEER_REMOTE))
        return 0;
    if (!config->remote.port
        || (config->remote.family != AF_INET && config->remote.family != AF_INET6))
        return -EINVAL;
    if (config->remote.family == AF_INET6 && transport->udp->family == AF_INET)
        return -EAFNOSUPPORT;
    return 0;
}

/* --- add --- */

static int check_room(struct dco_engine *engine, const struct dco_peer_config *config)
{
    bool multipeer = engine->config.mode == DCO_MODE_MULTIPEER;

    if (multipeer && dco_peer_table_by_id(&engine->peers, config->id))
        return -EEXIST;
    if (multipeer && engine->peers.count >= engine->config.max_peers)
        return -ENOSPC;
    if (dco_events_deletions(&engine->events) >= engine->config.max_peers)
        return -ENOBUFS;
    return 0;
}

/* From here on data packets of the connection are the peer's. */
static void bind_stream(struct dco_engine *engine, struct dco_peer *peer)
{
    struct dco_transport *transport = peer->transport;
    struct dco_stream *stream = transport->stream;
    struct dco_endpoint endpoint = {stream->tcp.remote, stream->tcp.local};

    dco_peer_endpoint_write(peer, &endpoint);
    dco_stream_acquit(engine, transport);
    atomic_store_explicit(&stream->peer, peer, memory_order_release);
}

/* In P2P mode a second peer takes the place of the first. */
static void insert(struct dco_engine *engine, struct dco_peer *peer,
                   const struct dco_peer_config *config, const struct vpn_change *change)
{
    struct dco_peer *before = atomic_load(&engine->only);

    if (engine->config.mode == DCO_MODE_P2P && before)
        dco_engine_remove_peer(engine, before, DCO_DELETED_TEARDOWN);
    dco_peer_table_move(&engine->peers, peer, dco_transport_slot(peer->transport->id),
                        &config->remote);
    dco_peer_table_add(&engine->peers, peer);
    peer->transport->peers++;
    apply_settings(engine, peer, config, change);
    if (peer->transport->stream)
        bind_stream(engine, peer);
    if (engine->config.mode == DCO_MODE_P2P)
        atomic_store_explicit(&engine->only, peer, memory_order_release);
}

/* Frames of any size, both ways. */
static int reserve(struct dco_engine *engine, struct dco_transport *transport)
{
    struct dco_worker *home = &engine->worker[transport->home];
    int error = dco_tcp_reserve(&transport->stream->tcp, DCO_TCPFRAME_MAX);

    if (error)
        return error;
    pthread_mutex_lock(&home->sealing);
    error = dco_tcp_queue_reserve(&transport->stream->queue, DCO_TCPFRAME_MAX);
    pthread_mutex_unlock(&home->sealing);
    return error;
}

/* Whether a peer can be reached through it, and what that takes. A connection has one peer; in P2P
 * mode it may be the one that gives way. */
static int check_transport(struct dco_engine *engine, struct dco_transport *transport,
                           const struct dco_peer_config *config)
{
    struct dco_peer *peer;
    int error;

    if (!transport || atomic_load(&transport->failed))
        return -ENOTSOCK;
    if (transport->kind == DCO_TRANSPORT_LISTENER)
        return -ENOTCONN;
    error = check_remote(transport, config);
    if (error || !transport->stream)
        return !error && !(config->present & DCO_PEER_REMOTE) ? -EINVAL : error;
    peer = atomic_load(&transport->stream->peer);
    if (peer && peer != atomic_load(&engine->only))
        return -EBUSY;
    return reserve(engine, transport);
}

static int add_locked(struct dco_engine *engine, const struct dco_peer_config *config,
                      uint64_t *generation)
{
    struct dco_transport *transport = dco_transport_find(&engine->transports, config->transport);
    struct vpn_change change;
    struct dco_peer *peer;
    int error = check_transport(engine, transport, config);

    if (!error)
        error = check_room(engine, config);
    if (!error)
        error = dco_peer_table_reserve(&engine->peers, config->id);
    if (error)
        return error;

    peer = dco_peer_new(config->id, engine->generations + 1);
    if (!peer)
        return -ENOMEM;
    error = prepare_addresses(engine, config, peer, &change);
    if (error) {
        dco_peer_free(peer);
        return error;
    }
    engine->generations++;
    peer->engine = engine;
    peer->transport = transport;
    peer->home = transport->stream ? transport->home : config->id % engine->workers;
    atomic_store(&peer->tx_id, config->id);
    insert(engine, peer, config, &change);
    *generation = peer->generation;
    return 0;
}

int dco_peer_add(struct dco_engine *engine, const struct dco_peer_config *config,
                 uint64_t *generation)
{
    int error = check_config(engine, config);

    if (!error)
        error = dco_engine_enter(engine);
    if (error)
        return error;
    error = add_locked(engine, config, generation);
    dco_engine_leave(engine);
    return error;
}

/* --- set --- */

/* In MULTIPEER mode a peer owns at least one address, also after a change. */
static bool loses_all_addresses(const struct dco_engine *engine, const struct dco_peer *peer,
                                const struct dco_peer_config *config)
{
    const uint8_t *ipv4 = config->present & DCO_PEER_VPN_IPV4 ? config->vpn_ipv4 : peer->vpn_ipv4;
    const uint8_t *ipv6 = config->present & DCO_PEER_VPN_IPV6 ? config->vpn_ipv6 : peer->vpn_ipv6;

    return engine->config.mode == DCO_MODE_MULTIPEER && is_zero(ipv4, 4) && is_zero(ipv6, 16);
}

static int set_locked(struct dco_engine *engine, struct dco_peer_ref ref,
                      const struct dco_peer_config *config)
{
    struct dco_peer *peer = dco_engine_find(engine, ref);
    struct vpn_change change;
    int error;

    if (!peer)
        return -ENOENT;
    error = check_remote(peer->transport, config);
    if (!error && loses_all_addresses(engine, peer, config))
        error = -EINVAL;
    if (!error)
        error = prepare_addresses(engine, config, peer, &change);
    if (!error && config->present & DCO_PEER_REMOTE) {
        error = dco_peer_table_move(&engine->peers, peer, dco_transport_slot(peer->transport->id),
                                    &config->remote);
        if (error) {
            dco_lpm_route_free(change.route[0]);
            dco_lpm_route_free(change.route[1]);
        }
    }
    if (!error)
        apply_settings(engine, peer, config, &change);
    return error;
}

/* A peer that has just moved can move again when all threads have seen it: wait without the lock,
 * which they may be waiting for. */
int dco_peer_set(struct dco_engine *engine, struct dco_peer_ref ref,
                 const struct dco_peer_config *config)
{
    int error = check_config(engine, config);

    while (!error) {
        error = dco_engine_enter(engine);
        if (error)
            break;
        error = set_locked(engine, ref, config);
        dco_engine_leave(engine);
        if (error != -EAGAIN)
            break;
        dco_rcu_synchronize(&engine->rcu);
        error = 0;
    }
    return error;
}

int dco_peer_delete(struct dco_engine *engine, struct dco_peer_ref ref)
{
    struct dco_peer *peer;
    int error = dco_engine_enter(engine);

    if (error)
        return error;
    peer = dco_engine_find(engine, ref);
    if (peer)
        dco_engine_remove_peer(engine, peer, DCO_DELETED_USERSPACE);
    dco_engine_leave(engine);
    return peer ? 0 : -ENOENT;
}

/* --- query --- */

static void describe(const struct dco_peer *peer, uint64_t now, struct dco_peer_info *info)
{
    struct dco_endpoint endpoint;

    memset(info, 0, sizeof *info);
    dco_peer_endpoint_read(peer, &endpoint);
    info->ref = (struct dco_peer_ref){peer->id, peer->generation};
    info->config.id = peer->id;
    info->config.tx_id = atomic_load(&peer->tx_id);
    info->config.transport = peer->transport->id;
    info->config.remote = endpoint.remote;
    info->config.local = endpoint.local;
    memcpy(info->config.vpn_ipv4, peer->vpn_ipv4, 4);
    memcpy(info->config.vpn_ipv6, peer->vpn_ipv6, 16);
    info->config.keepalive_interval_s = atomic_load(&peer->keepalive_interval_s);
    info->config.keepalive_timeout_s = atomic_load(&peer->keepalive_timeout_s);
    dco_features_describe(peer, &info->config);
    dco_limits_save(&peer->limits, &info->limits);
    /* A successor, which gets no events that wait, is to tell them itself. */
    info->limits.armed |=
        dco_events_unread_limits(&peer->engine->events, &peer->record[DCO_RECORD_LIMIT_REACHED]);
    dco_path_describe(peer, now, info);
    info->last_received_ns = dco_counter_read(&peer->last_received_ns);
    info->last_sent_ns = dco_counter_read(&peer->last_sent_ns);
    info->now_ns = now;
    info->keepalive_set_ns = atomic_load(&peer->keepalive_set_ns);
    dco_peer_stats_read(peer, &info->stats);
}

int dco_peer_query(struct dco_engine *engine, struct dco_peer_ref ref, struct dco_peer_info *info)
{
    struct dco_peer *peer;
    int error = dco_engine_enter(engine);

    if (error)
        return error;
    peer = dco_engine_find(engine, ref);
    if (peer)
        describe(peer, dco_now_ns(), info);
    dco_engine_leave(engine);
    return peer ? 0 : -ENOENT;
}

long dco_peer_list(struct dco_engine *engine, struct dco_peer_info *infos, size_t capacity)
{
    uint64_t now = dco_now_ns();
    size_t i = 0;
    long count;
    int error = dco_engine_enter(engine);

    if (error)
        return error;
    for (struct dco_peer *peer = engine->peers.first; peer && i < capacity; peer = peer->next)
        describe(peer, now, &infos[i++]);
    count = engine->peers.count;
    dco_engine_leave(engine);
    return count;
}
