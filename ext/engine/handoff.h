/* Batches between threads: a packet for a peer whose home is elsewhere goes there, so that packet ids,
 * replay windows and cipher contexts have one writer each.
 *
 * One ring for each thread that may put something in, so that every ring has one producer: the
 * workers by their numbers, where the one that a worker would have to itself is the API's, under the
 * engine's lock; then, of packets to seal, the receive threads of the workers. The bell is rung once
 * per batch. What finds no room is dropped by the producer, and counted. */
#ifndef DCO_ENGINE_HANDOFF_H
#define DCO_ENGINE_HANDOFF_H

#include "bounds.h"
#include "engine/bell.h"
#include "sync/ring.h"

struct dco_handoff {
    struct dco_ring ring[2 * DCO_WORKERS_MAX]; /* by producer */
    unsigned first, producers; /* those whose rings are there from the beginning, and all */
    unsigned next;             /* consumer's: whose turn it is */
    struct dco_bell bell;
};

/* For `first` producers, and as many as `later`, which come when dco_handoff_extend has been called;
 * what they do must come after it. The memory is zero. */
int dco_handoff_init(struct dco_handoff *handoff, unsigned first, unsigned later);
int dco_handoff_extend(struct dco_handoff *handoff); /* idempotent */
void dco_handoff_destroy(struct dco_handoff *handoff);

/* Producer `from`: one packet, its head and its bytes. False: no room. */
bool dco_handoff_put(struct dco_handoff *handoff, unsigned from, const void *head, size_t head_size,
                     const void *packet, size_t size);
/* Consumer: whether something of producer `from` waits. */
bool dco_handoff_waits(struct dco_handoff *handoff, unsigned from);
/* After a batch. */
void dco_handoff_announce(struct dco_handoff *handoff);

/* Consumer: the size of the next packet, head included, which stays where it is; 0: none. Producers
 * take turns. */
size_t dco_handoff_peek(struct dco_handoff *handoff);
/* Takes the packet that was peeked at. */
void dco_handoff_take(struct dco_handoff *handoff, void *head, size_t head_size, void *packet);

#endif
