/* The control port: packets that are not data, on their way to Python in a bounded ring. */
#define _GNU_SOURCE
#include <errno.h>

#include "engine/engine.h"

bool dco_control_put(struct dco_engine *engine, uint32_t transport, int64_t peer_id,
                     const struct dco_address *remote, const struct dco_address *local,
                     const void *data, size_t size)
{
    struct dco_control_packet head = {
        .sequence = dco_events_sequence(&engine->events),
        .transport = transport,
        .peer_id = peer_id,
        .remote = *remote,
        .local = *local,
        .size = size,
    };

    return dco_ring_put(&engine->control, &head, sizeof head, data, size);
}

int dco_control_receive(struct dco_engine *engine, struct dco_control_packet *packet, void *data,
                        size_t capacity)
{
    size_t size;
    int taken = dco_engine_join(engine);

    if (taken)
        return taken;
    pthread_mutex_lock(&engine->control_lock);
    size = dco_ring_peek(&engine->control);
    if (!size) {
        dco_bell_clear(&engine->control_bell);
        size = dco_ring_peek(&engine->control);
        if (size)
            dco_bell_ring(&engine->control_bell);
    }
    if (size > sizeof *packet + capacity) {
        taken = -EMSGSIZE;
    } else if (size) {
        dco_ring_take(&engine->control, packet, sizeof *packet, data);
        taken = 1;
    }
    pthread_mutex_unlock(&engine->control_lock);
    dco_engine_part(engine);
    return taken;
}
