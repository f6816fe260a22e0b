/* Counters with one writer: readers elsewhere see whole values, the writer pays a plain add. */
#ifndef DCO_SYNC_COUNTER_H
#define DCO_SYNC_COUNTER_H

#include <stdatomic.h>
#include <stdint.h>

typedef _Atomic uint64_t dco_counter;

static inline uint64_t dco_counter_read(const dco_counter *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

static inline void dco_counter_set(dco_counter *counter, uint64_t value)
{
    atomic_store_explicit(counter, value, memory_order_relaxed);
}

static inline void dco_counter_add(dco_counter *counter, uint64_t n)
{
    dco_counter_set(counter, dco_counter_read(counter) + n);
}

/* For the few counters that several threads write. */
static inline void dco_counter_add_shared(dco_counter *counter, uint64_t n)
{
    atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

#endif
