/* What a thread counts. One writer each; reading never stops traffic. */
#ifndef DCO_ENGINE_STATS_H
#define DCO_ENGINE_STATS_H

#include "dco.h"
#include "sync/counter.h"

/* What was dropped since whoever traces packets has looked. */
struct dco_stats_loss {
    enum dco_drop reason; /* of the last; DCO_DROP_NONE: nothing */
    uint32_t packets;
};

struct dco_thread_stats {
#define X(name) dco_counter name;
    DCO_ENGINE_COUNTERS(X)
#undef X
    dco_counter drops[DCO_DROP_COUNT];
    dco_counter tx_batches[DCO_BATCH_BUCKETS], rx_batches[DCO_BATCH_BUCKETS];
    struct dco_stats_loss loss; /* the thread's own */
};

/* Kept out of the way of packets that go on. */
__attribute__((cold)) void dco_stats_drop(struct dco_thread_stats *stats, enum dco_drop reason,
                                          uint64_t n);

static inline void dco_stats_batch(dco_counter *buckets, unsigned size)
{
    unsigned bucket = size ? 31u - (unsigned)__builtin_clz(size) : 0;

    dco_counter_add(&buckets[bucket < DCO_BATCH_BUCKETS ? bucket : DCO_BATCH_BUCKETS - 1], 1);
}

/* Adds what the thread has counted to `sum`. */
void dco_stats_collect(const struct dco_thread_stats *stats, struct dco_engine_stats *sum);

#endif
