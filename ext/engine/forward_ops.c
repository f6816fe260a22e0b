/* What a device is told of packets between peers: forwarding, permits, groups, and addresses that are
 * no peer's. */
#define _GNU_SOURCE
#include <errno.h>

#include "engine/engine.h"
#include "engine/features.h"
#include "peers/permit.h"

static int set_forwarding(struct dco_engine *engine, enum dco_forwarding forwarding)
{
    int error = engine->config.mode == DCO_MODE_P2P && forwarding ? -EINVAL : 0;

    for (unsigned i = 0; i < engine->workers && forwarding && !error; i++)
        error = dco_handoff_extend(&engine->worker[i].to_seal);
    if (error)
        return error;
    atomic_store(&engine->forwarding, forwarding);
    for (struct dco_peer *peer = engine->peers.first; peer; peer = peer->next)
        dco_features_settle(peer);
    return 0;
}

int dco_engine_set_forwarding(struct dco_engine *engine, enum dco_forwarding forwarding)
{
    int error = dco_engine_enter(engine);

    if (error)
        return error;
    error = set_forwarding(engine, forwarding);
    dco_engine_leave(engine);
    return error;
}

int dco_engine_set_multicast(struct dco_engine *engine, uint32_t copies_per_s)
{
    int error = dco_engine_enter(engine);

    if (error)
        return error;
    if (copies_per_s > DCO_GROUP_COPIES_MAX)
        error = -ERANGE;
    else if (engine->config.mode == DCO_MODE_P2P && copies_per_s)
        error = -EINVAL;
    else
        atomic_store(&engine->copies_per_s, copies_per_s);
    dco_engine_leave(engine);
    return error;
}

int dco_peer_permit(struct dco_engine *engine, struct dco_peer_ref ref, const uint64_t *generations,
                    size_t count)
{
    struct dco_permit *permit = dco_permit_new(generations, count);
    struct dco_peer *peer;
    int error = permit ? dco_engine_enter(engine) : -ENOMEM;

    if (error) {
        dco_permit_free(permit);
        return error;
    }
    peer = dco_engine_find(engine, ref);
    if (peer)
        dco_permit_retire(&engine->rcu, atomic_exchange(&peer->permit, permit));
    else
        dco_permit_free(permit);
    dco_engine_leave(engine);
    return peer ? 0 : -ENOENT;
}

/* --- reserved addresses --- */

void dco_engine_drop_reserved(struct dco_engine *engine)
{
    while (engine->reserved) {
        struct dco_lpm_route *route = engine->reserved;
        engine->reserved = route->sibling;
        dco_lpm_remove(&engine->lpm, route);
    }
}

static void discard(struct dco_lpm_route *routes)
{
    while (routes) {
        struct dco_lpm_route *next = routes->sibling;
        dco_lpm_route_free(routes);
        routes = next;
    }
}

static int prepare(const struct dco_reserved *reserved, size_t count, struct dco_lpm_route **routes)
{
    *routes = NULL;
    for (size_t i = 0; i < count; i++) {
        struct dco_lpm_route *route = dco_lpm_route_new(&reserved[i].prefix, NULL, true);
        if (!route) {
            discard(*routes);
            return -ENOMEM;
        }
        route->group = reserved[i].group;
        route->sibling = *routes;
        *routes = route;
    }
    return 0;
}

/* What a peer has already stays the peer's. */
static void insert(struct dco_engine *engine, struct dco_lpm_route *routes)
{
    while (routes) {
        struct dco_lpm_route *route = routes;
        routes = route->sibling;
        if (dco_lpm_exact(&engine->lpm, &route->prefix)) {
            dco_lpm_route_free(route);
            continue;
        }
        dco_lpm_insert(&engine->lpm, route);
        route->sibling = engine->reserved;
        engine->reserved = route;
    }
}

int dco_engine_reserve(struct dco_engine *engine, const struct dco_reserved *reserved, size_t count)
{
    struct dco_lpm_route *routes;
    int error = prepare(reserved, count, &routes);

    if (!error)
        error = dco_engine_enter(engine);
    if (error) {
        discard(routes);
        return error;
    }
    dco_engine_drop_reserved(engine);
    insert(engine, routes);
    dco_engine_leave(engine);
    return 0;
}
