#include "sync/ring.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A record is its length in four bytes, then the bytes; all wrap around. */
#define LENGTH sizeof(uint32_t)

int dco_ring_provide(struct dco_ring *ring, size_t size)
{
    ring->data = malloc(size);
    ring->size = size;
    return ring->data ? 0 : -ENOMEM;
}

int dco_ring_init(struct dco_ring *ring, size_t size)
{
    atomic_init(&ring->written, 0);
    atomic_init(&ring->read, 0);
    return dco_ring_provide(ring, size);
}

void dco_ring_destroy(struct dco_ring *ring)
{
    free(ring->data);
    ring->data = NULL;
}

static uint64_t copy_in(struct dco_ring *ring, uint64_t at, const void *data, size_t size)
{
    size_t offset = at & (ring->size - 1);
    size_t first = size < ring->size - offset ? size : ring->size - offset;

    if (size) {
        memcpy(ring->data + offset, data, first);
        memcpy(ring->data, (const uint8_t *)data + first, size - first);
    }
    return at + size;
}

static uint64_t copy_out(const struct dco_ring *ring, uint64_t at, void *data, size_t size)
{
    size_t offset = at & (ring->size - 1);
    size_t first = size < ring->size - offset ? size : ring->size - offset;

    if (size) {
        memcpy(data, ring->data + offset, first);
        memcpy((uint8_t *)data + first, ring->data, size - first);
    }
    return at + size;
}

bool dco_ring_put(struct dco_ring *ring, const void *head, size_t head_size, const void *body,
                  size_t body_size)
{
    uint64_t at = atomic_load_explicit(&ring->written, memory_order_relaxed);
    uint64_t used = at - atomic_load_explicit(&ring->read, memory_order_acquire);
    uint32_t length = (uint32_t)(head_size + body_size);

    if (LENGTH + length > ring->size - used)
        return false;
    at = copy_in(ring, at, &length, LENGTH);
    at = copy_in(ring, at, head, head_size);
    at = copy_in(ring, at, body, body_size);
    atomic_store_explicit(&ring->written, at, memory_order_release);
    return true;
}

size_t dco_ring_peek(struct dco_ring *ring)
{
    uint64_t at = atomic_load_explicit(&ring->read, memory_order_relaxed);
    uint32_t length;

    if (at == atomic_load_explicit(&ring->written, memory_order_acquire))
        return 0;
    copy_out(ring, at, &length, LENGTH);
    return length;
}

size_t dco_ring_look(struct dco_ring *ring, void *head, size_t head_size)
{
    size_t length = dco_ring_peek(ring);

    if (length)
        copy_out(ring, atomic_load_explicit(&ring->read, memory_order_relaxed) + LENGTH, head,
                 head_size);
    return length;
}

void dco_ring_take(struct dco_ring *ring, void *head, size_t head_size, void *body)
{
    uint64_t at = atomic_load_explicit(&ring->read, memory_order_relaxed);
    uint32_t length;

    at = copy_out(ring, at, &length, LENGTH);
    at = copy_out(ring, at, head, head_size);
    at = copy_out(ring, at, body, length - head_size);
    atomic_store_explicit(&ring->read, at, memory_order_release);
}
