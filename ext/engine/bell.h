/* A descriptor that is readable while something waits in a queue.
 *
 * Rung after putting, cleared by whoever has found the queue empty and then looks once more. */
#ifndef DCO_ENGINE_BELL_H
#define DCO_ENGINE_BELL_H

#include <stdatomic.h>
#include <stdbool.h>

struct dco_bell {
    int fd; /* eventfd */
    atomic_bool rung;
};

int dco_bell_init(struct dco_bell *bell);
void dco_bell_destroy(struct dco_bell *bell);

void dco_bell_ring(struct dco_bell *bell);
void dco_bell_clear(struct dco_bell *bell);

#endif
