/* Traces from the outside: begun, ended, read. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/trace.h"

/* --- start and stop --- */

static void trace_free(struct dco_trace *trace)
{
    if (!trace)
        return;
    for (unsigned i = 0; trace->lane && i < trace->lanes; i++) {
        dco_ring_destroy(&trace->lane[i].ring);
        free(trace->lane[i].held);
    }
    free(trace->lane);
    dco_bell_destroy(&trace->bell);
    free(trace);
}

static int trace_new(const struct dco_trace_config *config, unsigned workers,
                     struct dco_trace **out)
{
    struct dco_trace *trace = calloc(1, sizeof *trace);
    size_t bytes = 2 * workers * sizeof *trace->lane;
    int error = 0;

    if (!trace)
        return -ENOMEM;
    trace->config = *config;
    if (config->peer_count)
        memcpy(trace->peer, config->peers, config->peer_count * sizeof *config->peers);
    trace->bell.fd = -1;
    trace->lane = aligned_alloc(DCO_CACHE_LINE, bytes);
    if (!trace->lane) {
        trace_free(trace);
        return -ENOMEM;
    }
    memset(trace->lane, 0, bytes);
    for (trace->lanes = 0; trace->lanes < 2 * workers && !error; trace->lanes++) {
        struct dco_trace_lane *lane = &trace->lane[trace->lanes];
        lane->held = malloc(config->snap + 1);
        error = lane->held ? dco_ring_init(&lane->ring, config->ring_size) : -ENOMEM;
    }
    if (!error)
        error = dco_bell_init(&trace->bell);
    if (error)
        trace_free(trace);
    else
        *out = trace;
    return error;
}

static bool config_sound(const struct dco_trace_config *config)
{
    size_t record = sizeof(uint32_t) + sizeof(struct dco_trace_record) + config->snap;

    return config->points && !(config->points & ~(uint32_t)DCO_TRACE_ALL)
           && config->snap <= DCO_TRACE_SNAP_MAX && config->peer_count <= DCO_TRACE_PEERS_MAX
           && config->ring_size >= 4 * record && !(config->ring_size & (config->ring_size - 1));
}

/* Under the lock. What was before is the caller's to free, when all threads have passed. */
static struct dco_trace *replace(struct dco_engine *engine, struct dco_trace *trace)
{
    struct dco_trace *before;

    pthread_mutex_lock(&engine->control_lock);
    before = engine->tracing;
    engine->tracing = trace;
    pthread_mutex_unlock(&engine->control_lock);
    atomic_store_explicit(&engine->trace, trace, memory_order_release);
    return before;
}

int dco_trace_start(struct dco_engine *engine, const struct dco_trace_config *config, int *fd)
{
    struct dco_trace *trace = NULL;
    int error = config_sound(config) ? trace_new(config, engine->workers, &trace) : -EINVAL;

    if (!error)
        error = dco_engine_enter(engine);
    if (error) {
        trace_free(trace);
        return error;
    }
    if (dco_trace_on(engine)) {
        error = -EBUSY;
    } else {
        *fd = trace->bell.fd;
        trace = replace(engine, trace);
    }
    dco_engine_leave(engine);
    if (!error && trace)
        dco_rcu_synchronize(&engine->rcu);
    trace_free(trace);
    return error;
}

/* Under the lock. What has left already is recorded: that comes behind the sending, in the same
 * batch. */
static void let_batches_end(struct dco_engine *engine)
{
    for (unsigned i = 0; i < engine->workers; i++) {
        pthread_mutex_lock(&engine->worker[i].sealing);
        pthread_mutex_unlock(&engine->worker[i].sealing);
    }
}

int dco_trace_stop(struct dco_engine *engine)
{
    int error = dco_engine_enter(engine);

    if (error)
        return error;
    if (!dco_trace_on(engine)) {
        dco_engine_leave(engine);
        return -ENOENT;
    }
    let_batches_end(engine);
    atomic_store_explicit(&engine->trace, NULL, memory_order_release);
    dco_engine_leave(engine);
    dco_rcu_synchronize(&engine->rcu);
    pthread_mutex_lock(&engine->control_lock);
    if (engine->tracing)
        dco_bell_ring(&engine->tracing->bell);
    pthread_mutex_unlock(&engine->control_lock);
    return 0;
}

void dco_trace_close(struct dco_engine *engine)
{
    atomic_store_explicit(&engine->trace, NULL, memory_order_release);
    if (engine->tracing)
        dco_bell_ring(&engine->tracing->bell);
}

void dco_trace_destroy(struct dco_engine *engine)
{
    trace_free(engine->tracing);
    engine->tracing = NULL;
}

/* --- reading --- */

/* The lane with the oldest record; NULL: all are empty. */
static struct dco_trace_lane *oldest(struct dco_trace *trace, size_t *size)
{
    struct dco_trace_lane *found = NULL;
    struct dco_trace_record head;
    uint64_t time_ns = UINT64_MAX;

    for (unsigned i = 0; i < trace->lanes; i++) {
        size_t next = dco_ring_look(&trace->lane[i].ring, &head, sizeof head);
        if (next && head.time_ns < time_ns) {
            found = &trace->lane[i];
            time_ns = head.time_ns;
            *size = next;
        }
    }
    return found;
}

static int take(struct dco_trace *trace, struct dco_trace_record *record, void *data,
                size_t capacity)
{
    size_t size;
    struct dco_trace_lane *lane = oldest(trace, &size);

    if (!lane) {
        dco_bell_clear(&trace->bell);
        lane = oldest(trace, &size);
        if (!lane)
            return 0;
        dco_bell_ring(&trace->bell);
    }
    if (size > sizeof *record + capacity)
        return -EMSGSIZE;
    dco_ring_take(&lane->ring, record, sizeof *record, data);
    return 1;
}

/* 0 with the lock, or -EBADF. */
static int begin_reading(struct dco_engine *engine)
{
    int error = dco_engine_join(engine);

    if (!error)
        pthread_mutex_lock(&engine->control_lock);
    return error;
}

static void end_reading(struct dco_engine *engine)
{
    pthread_mutex_unlock(&engine->control_lock);
    dco_engine_part(engine);
}

int dco_trace_read(struct dco_engine *engine, struct dco_trace_record *record, void *data,
                   size_t capacity)
{
    int taken = begin_reading(engine);

    if (taken)
        return taken;
    if (engine->tracing)
        taken = take(engine->tracing, record, data, capacity);
    end_reading(engine);
    return taken;
}

int dco_trace_lost(struct dco_engine *engine, uint64_t *lost)
{
    int error = begin_reading(engine);

    if (error)
        return error;
    *lost = 0;
    for (unsigned i = 0; engine->tracing && i < engine->tracing->lanes; i++)
        *lost += dco_counter_read(&engine->tracing->lane[i].lost);
    end_reading(engine);
    return 0;
}
