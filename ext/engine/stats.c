#include "engine/stats.h"

void dco_stats_drop(struct dco_thread_stats *stats, enum dco_drop reason, uint64_t n)
{
    dco_counter_add(&stats->drops[reason], n);
    stats->loss.reason = reason;
    stats->loss.packets += (uint32_t)n;
}

void dco_stats_collect(const struct dco_thread_stats *stats, struct dco_engine_stats *sum)
{
#define X(name) sum->name += dco_counter_read(&stats->name);
    DCO_ENGINE_COUNTERS(X)
#undef X
    for (int i = 0; i < DCO_DROP_COUNT; i++)
        sum->drops[i] += dco_counter_read(&stats->drops[i]);
    for (int i = 0; i < DCO_BATCH_BUCKETS; i++) {
        sum->tx_batches[i] += dco_counter_read(&stats->tx_batches[i]);
        sum->rx_batches[i] += dco_counter_read(&stats->rx_batches[i]);
    }
}

const char *dco_drop_name(enum dco_drop reason)
{
#define X(id, name, text) [DCO_DROP_##id] = #name,
    static const char *const names[] = {[DCO_DROP_NONE] = "none", DCO_DROPS(X)};
#undef X
    return (unsigned)reason < DCO_DROP_COUNT ? names[reason] : NULL;
}

const char *dco_drop_text(enum dco_drop reason)
{
#define X(id, name, text) [DCO_DROP_##id] = text,
    static const char *const texts[] = {[DCO_DROP_NONE] = "not dropped", DCO_DROPS(X)};
#undef X
    return (unsigned)reason < DCO_DROP_COUNT ? texts[reason] : NULL;
}
