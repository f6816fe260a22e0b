/* What the engine is asked: offloads, statistics, the interface. */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>

#include "engine/engine.h"
#include "engine/features.h"

int dco_engine_set_source_check(struct dco_engine *engine, enum dco_source_check check)
{
    int error = dco_engine_enter(engine);

    if (error)
        return error;
    engine->source_check = check;
    for (struct dco_peer *peer = engine->peers.first; peer; peer = peer->next)
        dco_features_settle(peer);
    dco_engine_leave(engine);
    return 0;
}

/* The offload header is part of how the TUN was opened. */
int dco_engine_set_offloads(struct dco_engine *engine, uint32_t offloads)
{
    struct dco_transport *transport;
    int error = dco_engine_enter(engine);

    if (error)
        return error;
    if (engine->tun_open && engine->tun.vnet && !(offloads & DCO_OFFLOAD_TUN_VNET))
        error = -EBUSY;
    if (!error && engine->tun_open)
        error = dco_tun_set_offloads(&engine->tun, offloads);
    for (uint32_t slot = 0; !error && (transport = dco_transport_next(&engine->transports, &slot));)
        for (unsigned i = 0; i < transport->sockets && !error; i++)
            error = dco_udp_set_offloads(&transport->udp[i], offloads);
    if (!error)
        atomic_store(&engine->offloads, offloads);
    dco_engine_leave(engine);
    return error;
}

/* Active: on the TUN, and on every socket (with none: what a socket could have); AES-GCM of our own
 * where the processor has it. */
int dco_engine_offloads(struct dco_engine *engine, uint32_t *allowed, uint32_t *active)
{
    const uint32_t group = DCO_OFFLOAD_UDP_SIBLINGS | DCO_OFFLOAD_UDP_STEERING;
    const uint32_t udp = DCO_OFFLOAD_UDP_GSO | DCO_OFFLOAD_UDP_GRO | DCO_OFFLOAD_UDP_BATCH
                         | (engine->workers > 1 ? group : 0);
    struct dco_transport *transport;
    int error = dco_engine_enter(engine);

    if (error)
        return error;
    *allowed = atomic_load(&engine->offloads);
    *active = (*allowed & udp) | (engine->tun_open ? atomic_load(&engine->tun.offloads) : 0);
    if (engine->own_gcm != DCO_GCM_NONE)
        *active |= *allowed & DCO_OFFLOAD_VAES_GCM;
    for (uint32_t slot = 0; (transport = dco_transport_next(&engine->transports, &slot));)
        for (unsigned i = 0; i < transport->sockets; i++)
            *active &= ~udp | atomic_load(&transport->udp[i].offloads);
    dco_engine_leave(engine);
    return 0;
}

int dco_engine_stats(struct dco_engine *engine, struct dco_engine_stats *stats)
{
    int error = dco_engine_enter(engine);

    if (error)
        return error;
    memset(stats, 0, sizeof *stats);
    for (unsigned i = 0; i < engine->workers; i++)
        dco_worker_stats(&engine->worker[i], stats);
    stats->drops[DCO_DROP_RX_HELD] += dco_counter_read(&engine->held_lost);
    stats->peers = engine->peers.count;
    stats->transports = engine->transports.count;
    stats->retired = atomic_load(&engine->rcu.waiting);
    dco_engine_leave(engine);
    return 0;
}

/* --- the interface --- */

/* What is asked of the interface may wait for the kernel's lock of all interfaces, so not under
 * ours. `ours`: only one that we made, or took over. The caller parts from the engine. */
static int join_tun(struct dco_engine *engine, bool ours)
{
    int error = dco_engine_join(engine);

    if (error)
        return error;
    pthread_mutex_lock(&engine->lock);
    if (ours && !(engine->tun_open && engine->tun.owned))
        error = -EINVAL;
    else if (!(engine->tun_open && engine->tun.interface))
        error = -ENODEV;
    pthread_mutex_unlock(&engine->lock);
    if (error)
        dco_engine_part(engine);
    return error;
}

static int look_at_tun(struct dco_engine *engine, struct dco_tun_info *info)
{
    int error = join_tun(engine, false);

    if (error)
        return error == -ENODEV ? 0 : error; /* no interface; or closed since */
    info->present = !dco_tun_look(&engine->tun, info->name, &info->persistent);
    dco_engine_part(engine);
    return 0;
}

int dco_engine_tun_info(struct dco_engine *engine, struct dco_tun_info *info)
{
    int error = dco_engine_enter(engine);

    if (error)
        return error;
    memset(info, 0, sizeof *info);
    if (engine->tun_open) {
        memcpy(info->name, engine->tun.name, sizeof info->name);
        info->ifindex = engine->tun.ifindex;
        info->offloads = atomic_load(&engine->tun.offloads);
        info->queues = engine->tun.queues;
        info->owned = engine->tun.owned;
        info->existed = engine->tun.existed;
        info->vnet = engine->tun.vnet;
    }
    dco_engine_leave(engine);
    return look_at_tun(engine, info);
}

int dco_engine_tun_namespace(struct dco_engine *engine)
{
    int fd = join_tun(engine, false);

    if (fd)
        return fd;
    fd = dco_tun_namespace(&engine->tun);
    dco_engine_part(engine);
    return fd;
}

int dco_engine_set_persistent(struct dco_engine *engine, bool on)
{
    int error = join_tun(engine, true);

    if (error)
        return error;
    error = dco_tun_set_persistent(&engine->tun, on);
    dco_engine_part(engine);
    return error;
}

int dco_engine_set_owner(struct dco_engine *engine, uint32_t user)
{
    int error = join_tun(engine, true);

    if (error)
        return error;
    error = dco_tun_set_owner(&engine->tun, user);
    dco_engine_part(engine);
    return error;
}
