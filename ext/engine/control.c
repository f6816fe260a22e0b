/* The control port: packets that are not data, on their way to Python in a bounded ring. */
#define _GNU_SOURCE
#include <errno.h>

#include "engine/engine.h"

bool dco_control_put(struct dco_worker *worker, uint64_t transport, int64_t peer_id,
                     const struct dco_address *remote, const struct dco_address *local,
                     const void *data, size_t size)
{
    struct dco_control_packet head = {
        .sequence = dco_events_sequence(&worker->engine->events),
        .transport = transport,
        .peer_id = peer_id,
        .remote = *remote,
        .local = *local,
        .size = size,
    };

    return dco_ring_put(&worker->control, &head, sizeof head, data, size);
}

/* The ring whose next packet is the oldest; NULL: all are empty. */
static struct dco_ring *oldest(struct dco_engine *engine, size_t *size)
{
    struct dco_control_packet head;
    struct dco_ring *found = NULL;
    uint64_t sequence = UINT64_MAX;

    for (unsigned i = 0; i < engine->workers; i++) {
        struct dco_ring *ring = &engine->worker[i].control;
        size_t next = dco_ring_look(ring, &head, sizeof head);
        if (next && head.sequence < sequence) {
            found = ring;
            sequence = head.sequence;
            *size = next;
        }
    }
    return found;
}

int dco_control_receive(struct dco_engine *engine, struct dco_control_packet *packet, void *data,
                        size_t capacity)
{
    struct dco_ring *ring;
    size_t size;
    int taken = dco_engine_join(engine);

    if (taken)
        return taken;
    pthread_mutex_lock(&engine->control_lock);
    ring = oldest(engine, &size);
    if (!ring) {
        dco_bell_clear(&engine->control_bell);
        ring = oldest(engine, &size);
        if (ring)
            dco_bell_ring(&engine->control_bell);
    }
    if (ring && size > sizeof *packet + capacity) {
        taken = -EMSGSIZE;
    } else if (ring) {
        dco_ring_take(ring, packet, sizeof *packet, data);
        taken = 1;
    }
    pthread_mutex_unlock(&engine->control_lock);
    dco_engine_part(engine);
    return taken;
}
