/* A bounded ring of variable-length records between one producer and one consumer. */
#ifndef DCO_SYNC_RING_H
#define DCO_SYNC_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bounds.h"

struct dco_ring {
    uint8_t *data;
    size_t size;                                       /* bytes, a power of two */
    _Alignas(DCO_CACHE_LINE) _Atomic uint64_t written; /* producer's */
    _Alignas(DCO_CACHE_LINE) _Atomic uint64_t read;    /* consumer's */
};

int dco_ring_init(struct dco_ring *ring, size_t size);
/* The same for a ring of zeroes, which a consumer may be looking at already: to it the ring is empty.
 * Whoever produces must learn of it in order. */
int dco_ring_provide(struct dco_ring *ring, size_t size);
void dco_ring_destroy(struct dco_ring *ring);

/* Appends head and body as one record, or returns false and appends nothing. */
bool dco_ring_put(struct dco_ring *ring, const void *head, size_t head_size, const void *body,
                  size_t body_size);

/* Size of the next record, or 0 when the ring is empty. */
size_t dco_ring_peek(struct dco_ring *ring);

/* The same, and copies the record's first `head_size` bytes. */
size_t dco_ring_look(struct dco_ring *ring, void *head, size_t head_size);

/* Takes the next record: its head, and the rest into `body`, which is large enough. */
void dco_ring_take(struct dco_ring *ring, void *head, size_t head_size, void *body);

#endif
