#include "engine/events.h"

#include <string.h>

int dco_events_init(struct dco_events *events)
{
    memset(events, 0, sizeof *events);
    events->tail = &events->head;
    pthread_mutex_init(&events->lock, NULL);
    return dco_bell_init(&events->bell);
}

void dco_events_destroy(struct dco_events *events)
{
    struct dco_event ignored;

    while (dco_events_take(events, &ignored, 1))
        ;
    dco_bell_destroy(&events->bell);
    pthread_mutex_destroy(&events->lock);
}

uint64_t dco_events_sequence(struct dco_events *events)
{
    return atomic_fetch_add_explicit(&events->sequence, 1, memory_order_relaxed) + 1;
}

void dco_events_post(struct dco_events *events, struct dco_event_record *record,
                     const struct dco_event_record *news)
{
    pthread_mutex_lock(&events->lock);
    record->kind = news->kind;
    record->key_id = news->key_id;
    record->reason = news->reason;
    record->error = news->error;
    record->limits = (record->queued ? record->limits : 0) | news->limits;
    record->transport = news->transport;
    record->endpoint = news->endpoint;
    if (!record->queued) {
        record->queued = true;
        record->sequence = dco_events_sequence(events);
        record->next = NULL;
        *events->tail = record;
        events->tail = &record->next;
        events->deletions += record->kind == DCO_EVENT_PEER_DELETED;
    }
    pthread_mutex_unlock(&events->lock);
    dco_bell_ring(&events->bell);
}

uint32_t dco_events_unread_limits(struct dco_events *events, const struct dco_event_record *record)
{
    uint32_t limits;

    pthread_mutex_lock(&events->lock);
    limits = record->queued ? record->limits : 0;
    pthread_mutex_unlock(&events->lock);
    return limits;
}

void dco_events_withdraw(struct dco_events *events, struct dco_event_record *record)
{
    struct dco_event_record **link = &events->head;

    pthread_mutex_lock(&events->lock);
    while (*link && *link != record)
        link = &(*link)->next;
    if (*link) {
        *link = record->next;
        if (!*link)
            events->tail = link;
        record->queued = false;
    }
    pthread_mutex_unlock(&events->lock);
}

static void describe(const struct dco_event_record *record, struct dco_event *out)
{
    memset(out, 0, sizeof *out);
    out->kind = record->kind;
    out->sequence = record->sequence;
    out->remote = record->endpoint.remote;
    out->local = record->endpoint.local;
    out->key_id = record->key_id;
    out->reason = record->reason;
    out->transport = record->transport;
    out->error = record->error;
    out->limits = record->limits;
    if (record->peer) {
        out->peer.id = record->peer->id;
        out->peer.generation = record->peer->generation;
        dco_peer_stats_read(record->peer, &out->stats);
    }
}

static int take(struct dco_events *events, struct dco_event *out, size_t capacity)
{
    int taken = 0;

    while ((size_t)taken < capacity) {
        struct dco_event_record *record;
        struct dco_peer *gone = NULL;

        pthread_mutex_lock(&events->lock);
        record = events->head;
        if (record) {
            events->head = record->next;
            if (!events->head)
                events->tail = &events->head;
            record->queued = false;
            describe(record, &out[taken++]);
            if (record->kind == DCO_EVENT_PEER_DELETED) {
                events->deletions--;
                gone = record->peer;
            }
        }
        pthread_mutex_unlock(&events->lock);
        if (!record)
            break;
        dco_peer_free(gone); /* the deletion is the last that is ever told of a peer */
    }
    return taken;
}

int dco_events_take(struct dco_events *events, struct dco_event *out, size_t capacity)
{
    int taken = take(events, out, capacity), late;

    if ((size_t)taken < capacity) {
        dco_bell_clear(&events->bell);
        late = take(events, out + taken, capacity - (size_t)taken);
        if (late)
            dco_bell_ring(&events->bell);
        taken += late;
    }
    return taken;
}

uint32_t dco_events_deletions(struct dco_events *events)
{
    uint32_t deletions;

    pthread_mutex_lock(&events->lock);
    deletions = events->deletions;
    pthread_mutex_unlock(&events->lock);
    return deletions;
}
