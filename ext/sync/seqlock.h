/* A small record that is read far more often than written: readers copy it and retry when a
 * writer was at work. Words are atomics, so torn reads are defined and then thrown away. */
#ifndef DCO_SYNC_SEQLOCK_H
#define DCO_SYNC_SEQLOCK_H

#include <stdatomic.h>
#include <stdint.h>

struct dco_seqlock {
    _Atomic uint32_t sequence; /* odd while a writer is at work */
};

static inline void dco_seqlock_read(const struct dco_seqlock *lock, const _Atomic uint64_t *shared,
                                    uint64_t *copy, unsigned words)
{
    uint32_t before, after;

    do {
        before = atomic_load_explicit(&lock->sequence, memory_order_acquire);
        for (unsigned i = 0; i < words; i++)
            copy[i] = atomic_load_explicit(&shared[i], memory_order_relaxed);
        atomic_thread_fence(memory_order_acquire);
        after = atomic_load_explicit(&lock->sequence, memory_order_relaxed);
    } while (before != after || before & 1);
}

/* Several writers are allowed; they take turns by making the sequence odd. */
static inline void dco_seqlock_write(struct dco_seqlock *lock, _Atomic uint64_t *shared,
                                     const uint64_t *copy, unsigned words)
{
    uint32_t sequence;

    do {
        sequence = atomic_load_explicit(&lock->sequence, memory_order_relaxed) & ~1u;
    } while (!atomic_compare_exchange_weak_explicit(&lock->sequence, &sequence, sequence + 1,
                                                    memory_order_acquire, memory_order_relaxed));
    atomic_thread_fence(memory_order_release);
    for (unsigned i = 0; i < words; i++)
        atomic_store_explicit(&shared[i], copy[i], memory_order_relaxed);
    atomic_store_explicit(&lock->sequence, sequence + 2, memory_order_release);
}

#endif
