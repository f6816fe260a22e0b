#include "engine/handoff.h"

#include <string.h>

int dco_handoff_init(struct dco_handoff *handoff, unsigned first, unsigned later)
{
    int error = dco_bell_init(&handoff->bell);

    handoff->first = first;
    handoff->producers = first + later;
    for (unsigned i = 0; i < first && !error; i++)
        error = dco_ring_init(&handoff->ring[i], DCO_HANDOFF_RING);
    return error;
}

int dco_handoff_extend(struct dco_handoff *handoff)
{
    int error = 0;

    for (unsigned i = handoff->first; i < handoff->producers && !error; i++)
        if (!handoff->ring[i].data)
            error = dco_ring_provide(&handoff->ring[i], DCO_FORWARD_RING);
    return error;
}

void dco_handoff_destroy(struct dco_handoff *handoff)
{
    for (unsigned i = 0; i < handoff->producers; i++)
        dco_ring_destroy(&handoff->ring[i]);
    handoff->producers = 0;
    dco_bell_destroy(&handoff->bell);
}

bool dco_handoff_put(struct dco_handoff *handoff, unsigned from, const void *head, size_t head_size,
                     const void *packet, size_t size)
{
    return dco_ring_put(&handoff->ring[from], head, head_size, packet, size);
}

bool dco_handoff_waits(struct dco_handoff *handoff, unsigned from)
{
    return dco_ring_peek(&handoff->ring[from]);
}

void dco_handoff_announce(struct dco_handoff *handoff)
{
    dco_bell_ring(&handoff->bell);
}

static size_t next_size(struct dco_handoff *handoff)
{
    for (unsigned i = 0; i < handoff->producers; i++) {
        struct dco_ring *ring = &handoff->ring[handoff->next];
        size_t size = dco_ring_peek(ring);
        if (size)
            return size;
        handoff->next = (handoff->next + 1) % handoff->producers;
    }
    return 0;
}

/* Cleared only when all rings are empty, and then looked once more: a packet that came meanwhile
 * has rung again, or is seen now. */
size_t dco_handoff_peek(struct dco_handoff *handoff)
{
    size_t size = next_size(handoff);

    if (!size) {
        dco_bell_clear(&handoff->bell);
        size = next_size(handoff);
        if (size)
            dco_bell_ring(&handoff->bell);
    }
    return size;
}

void dco_handoff_take(struct dco_handoff *handoff, void *head, size_t head_size, void *packet)
{
    dco_ring_take(&handoff->ring[handoff->next], head, head_size, packet);
    handoff->next = (handoff->next + 1) % handoff->producers;
}
