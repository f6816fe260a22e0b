/* What the engine is asked: offloads, statistics, the interface. */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>

#include "engine/engine.h"

int dco_engine_set_source_check(struct dco_engine *engine, bool on)
{
    atomic_store(&engine->source_check, on);
    return 0;
}

/* The offload header is part of how the TUN was opened. */
int dco_engine_set_offloads(struct dco_engine *engine, uint32_t offloads)
{
    int error = dco_engine_enter(engine);

    if (error)
        return error;
    if (engine->tun_open && engine->tun.vnet && !(offloads & DCO_OFFLOAD_TUN_VNET))
        error = -EBUSY;
    if (!error && engine->tun_open)
        error = dco_tun_set_offloads(&engine->tun, offloads);
    for (int i = 0; i < DCO_TRANSPORTS_MAX && !error; i++) {
        struct dco_transport *transport = atomic_load(&engine->transport[i]);
        if (transport)
            error = dco_udp_set_offloads(&transport->udp, offloads);
    }
    if (!error)
        atomic_store(&engine->offloads, offloads);
    dco_engine_leave(engine);
    return error;
}

/* Active: on the TUN, and on every socket (with none: what a socket could have); AES-GCM of our own
 * where the processor has it. */
int dco_engine_offloads(struct dco_engine *engine, uint32_t *allowed, uint32_t *active)
{
    const uint32_t udp = DCO_OFFLOAD_UDP_GSO | DCO_OFFLOAD_UDP_GRO | DCO_OFFLOAD_UDP_BATCH;
    int error = dco_engine_enter(engine);

    if (error)
        return error;
    *allowed = atomic_load(&engine->offloads);
    *active = (*allowed & udp) | (engine->tun_open ? atomic_load(&engine->tun.offloads) : 0);
    if (engine->own_gcm != DCO_GCM_NONE)
        *active |= *allowed & DCO_OFFLOAD_VAES_GCM;
    for (int i = 0; i < DCO_TRANSPORTS_MAX; i++) {
        struct dco_transport *transport = atomic_load(&engine->transport[i]);
        if (transport)
            *active &= ~udp | atomic_load(&transport->udp.offloads);
    }
    dco_engine_leave(engine);
    return 0;
}

int dco_engine_stats(struct dco_engine *engine, struct dco_engine_stats *stats)
{
    int error = dco_engine_enter(engine);

    if (error)
        return error;
    memset(stats, 0, sizeof *stats);
    dco_worker_stats(&engine->worker, stats);
    stats->peers = engine->peers.count;
    stats->transports = engine->transports;
    stats->retired = atomic_load(&engine->rcu.waiting);
    dco_engine_leave(engine);
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
        info->owned = engine->tun.owned;
        info->vnet = engine->tun.vnet;
    }
    dco_engine_leave(engine);
    return 0;
}
