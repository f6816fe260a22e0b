/* A descriptor that is readable while something waits in a queue.
 *
 * Rung after putting, cleared by whoever has found the queue empty and then looks once more.
 *
 * A number that was handed out may be in somebody's poll or epoll set: if it were closed there the
 * waiter would sleep for ever, and could later take another file of the same number for it. So it
 * is kept, readable, until the owner's memory goes; one that nobody was given is closed at once. */
#ifndef DCO_ENGINE_BELL_H
#define DCO_ENGINE_BELL_H

#include <stdatomic.h>
#include <stdbool.h>

struct dco_bell {
    int fd; /* eventfd */
    atomic_bool rung;
    atomic_bool handed; /* to somebody outside of the engine */
};

int dco_bell_init(struct dco_bell *bell);
void dco_bell_destroy(struct dco_bell *bell);

/* The descriptor for somebody outside. */
int dco_bell_hand_out(struct dco_bell *bell);
/* Nobody in the engine uses it any more: closed, or rung for good where it was handed out. */
void dco_bell_retire(struct dco_bell *bell);

void dco_bell_ring(struct dco_bell *bell);
void dco_bell_clear(struct dco_bell *bell);

#endif
