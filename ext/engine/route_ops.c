/* Routes behind a peer (iroutes). */
#define _GNU_SOURCE
#include <errno.h>

#include "engine/engine.h"

static int check_prefix(const struct dco_prefix *prefix)
{
    if (prefix->family != AF_INET && prefix->family != AF_INET6)
        return -EAFNOSUPPORT;
    return prefix->length <= (prefix->family == AF_INET ? 32 : 128) ? 0 : -EINVAL;
}

static int add_route(struct dco_engine *engine, const struct dco_prefix *prefix,
                     struct dco_peer_ref ref)
{
    struct dco_peer *peer = dco_engine_find(engine, ref);
    struct dco_lpm_route *route;

    if (engine->config.mode == DCO_MODE_P2P)
        return -EINVAL;
    if (!peer)
        return -ENOENT;
    if (dco_lpm_exact(&engine->lpm, prefix))
        return -EEXIST;
    route = dco_lpm_route_new(prefix, peer, false);
    if (!route)
        return -ENOMEM;
    dco_lpm_insert(&engine->lpm, route);
    route->sibling = peer->routes;
    peer->routes = route;
    return 0;
}

int dco_route_add(struct dco_engine *engine, const struct dco_prefix *prefix,
                  struct dco_peer_ref ref)
{
    int error = check_prefix(prefix);

    if (!error)
        error = dco_engine_enter(engine);
    if (error)
        return error;
    error = add_route(engine, prefix, ref);
    dco_engine_leave(engine);
    return error;
}

/* A peer's own VPN address is no route: it goes by changing the peer. */
static int delete_route(struct dco_engine *engine, const struct dco_prefix *prefix)
{
    struct dco_lpm_route *route = dco_lpm_exact(&engine->lpm, prefix), **link;

    if (!route || route->host)
        return -ENOENT;
    link = &((struct dco_peer *)route->entry.value)->routes;
    while (*link != route)
        link = &(*link)->sibling;
    *link = route->sibling;
    dco_lpm_remove(&engine->lpm, route);
    return 0;
}

int dco_route_delete(struct dco_engine *engine, const struct dco_prefix *prefix)
{
    int error = check_prefix(prefix);

    if (!error)
        error = dco_engine_enter(engine);
    if (error)
        return error;
    error = delete_route(engine, prefix);
    dco_engine_leave(engine);
    return error;
}

int dco_route_lookup(struct dco_engine *engine, const struct dco_address *address,
                     struct dco_peer_ref *ref)
{
    struct dco_peer *peer;
    int error = dco_engine_enter(engine);

    if (error)
        return error;
    peer = dco_engine_owner(engine, address->family, address->ip);
    if (peer)
        *ref = (struct dco_peer_ref){peer->id, peer->generation};
    dco_engine_leave(engine);
    return peer ? 0 : -ENOENT;
}
