#define _GNU_SOURCE
#include "engine/timer.h"

#include "engine/features.h"
#include "engine/outgoing.h"

#define SECOND UINT64_C(1000000000)
/* A ping may be this early: due a moment after a whole second it would otherwise wait for the next,
 * and an interval of one second would last two. */
#define EARLY UINT64_C(100000000)
/* When the lock was taken by an API call, or epochs were refilled just now: look again soon. */
#define RETRY UINT64_C(10000000)

static uint64_t max64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static uint64_t min64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Deadlines fall on whole seconds, so that those of many peers share a wake-up. */
static uint64_t whole_second(uint64_t ns)
{
    return (ns + SECOND - 1) / SECOND * SECOND;
}

/* Returns when to look at the peer again, or UINT64_MAX. */
static uint64_t check_expiry(struct dco_transmit *transmit, struct dco_peer *peer, bool *expired)
{
    struct dco_engine *engine = transmit->engine;
    uint64_t timeout = atomic_load_explicit(&peer->keepalive_timeout_s, memory_order_relaxed);
    uint64_t since = max64(dco_counter_read(&peer->last_received_ns),
                           atomic_load_explicit(&peer->keepalive_set_ns, memory_order_relaxed));
    uint64_t deadline = since + timeout * SECOND;

    if (!timeout)
        return UINT64_MAX;
    if (transmit->now_ns < deadline)
        return whole_second(deadline);
    if (pthread_mutex_trylock(&engine->lock))
        return transmit->now_ns + RETRY;
    if (!peer->dead)
        dco_engine_remove_peer(engine, peer, DCO_DELETED_EXPIRED);
    pthread_mutex_unlock(&engine->lock);
    *expired = true;
    return UINT64_MAX;
}

/* Any packet sent postpones the next ping. */
static uint64_t check_ping(struct dco_transmit *transmit, struct dco_peer *peer)
{
    uint64_t interval = atomic_load_explicit(&peer->keepalive_interval_s, memory_order_relaxed);
    uint64_t since = max64(dco_counter_read(&peer->last_sent_ns),
                           atomic_load_explicit(&peer->keepalive_set_ns, memory_order_relaxed));

    if (!interval)
        return UINT64_MAX;
    if (transmit->now_ns + EARLY >= since + interval * SECOND) {
        if (dco_transmit_seal(transmit, peer, dco_wire_keepalive, DCO_KEEPALIVE_SIZE))
            dco_counter_add(&peer->keepalive_tx, 1);
        since = transmit->now_ns; /* one that could not be sent is not tried faster */
    }
    return whole_second(since + interval * SECOND - EARLY);
}

static uint64_t check_float(struct dco_transmit *transmit, struct dco_peer *peer)
{
    struct dco_event_record news = {.kind = DCO_EVENT_PEER_FLOATED};
    uint64_t due = atomic_load_explicit(&peer->float_reported_ns, memory_order_relaxed) + SECOND;

    if (!atomic_load_explicit(&peer->float_pending, memory_order_acquire))
        return UINT64_MAX;
    if (transmit->now_ns < due)
        return due;
    atomic_store_explicit(&peer->float_pending, false, memory_order_release);
    atomic_store_explicit(&peer->float_reported_ns, transmit->now_ns, memory_order_relaxed);
    dco_peer_endpoint_read(peer, &news.endpoint);
    dco_events_post(&transmit->engine->events, &peer->record[DCO_RECORD_FLOATED], &news);
    return UINT64_MAX;
}

/* Keys of epochs to come are derived here, off the path of packets. Also after a failure the next
 * attempt waits a moment. */
static uint64_t check_epochs(struct dco_transmit *transmit, struct dco_peer *peer)
{
    uint64_t next = UINT64_MAX;

    for (int i = 0; i < 2; i++) {
        struct dco_key *key = atomic_load_explicit(&peer->keys.slot[i], memory_order_acquire);
        struct dco_epochs *epochs = key ? key->epochs : NULL;
        if (!epochs || !dco_epochs_wanting(epochs))
            continue;
        if (transmit->now_ns >= epochs->pause_until_ns) {
            epochs->pause_until_ns = transmit->now_ns + RETRY;
            if (!dco_epochs_refill(epochs))
                continue;
        }
        next = min64(next, epochs->pause_until_ns);
    }
    return next;
}

static uint64_t check_limits(struct dco_transmit *transmit, struct dco_peer *peer)
{
    uint64_t next;

    dco_features_tell(transmit->engine, peer, dco_limits_expire(&peer->limits, transmit->now_ns));
    next = dco_limits_next(&peer->limits);
    return next == UINT64_MAX ? next : whole_second(next);
}

uint64_t dco_timer_run(struct dco_transmit *transmit)
{
    uint64_t next = UINT64_MAX;
    struct dco_peer *peer;

    transmit->now_ns = dco_now_ns();
    for (uint32_t id = 0; (peer = dco_peer_table_next(&transmit->engine->peers, &id)); id++) {
        bool expired = false;
        if (peer->home != transmit->worker->index)
            continue;
        next = min64(next, check_expiry(transmit, peer, &expired));
        if (!expired) {
            next = min64(next, check_ping(transmit, peer));
            next = min64(next, check_float(transmit, peer));
            next = min64(next, check_epochs(transmit, peer));
            next = min64(next, check_limits(transmit, peer));
        }
    }
    dco_outgoing_flush(transmit);
    next = min64(next, dco_stream_expire(transmit->worker, transmit->now_ns));
    return next == UINT64_MAX ? 0 : next;
}
