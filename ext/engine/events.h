/* Events, in the order in which they happened.
 *
 * A record lives in the peer (or transport, or engine) it tells about, and is in the queue at most
 * once: news of the same kind overwrite it in place. Events are rare, so a lock is no cost. */
#ifndef DCO_ENGINE_EVENTS_H
#define DCO_ENGINE_EVENTS_H

#include <pthread.h>

#include "dco.h"
#include "engine/bell.h"
#include "peers/peer.h"

struct dco_events {
    pthread_mutex_t lock;
    struct dco_event_record *head, **tail;
    uint32_t deletions; /* deleted peers whose event has not been read */
    _Atomic uint64_t sequence;
    struct dco_bell bell;
};

int dco_events_init(struct dco_events *events);
/* Frees the deleted peers that nobody asked for. */
void dco_events_destroy(struct dco_events *events);

uint64_t dco_events_sequence(struct dco_events *events);
/* Queues the record, or refreshes it where it stands. `news` gives everything but the links. */
void dco_events_post(struct dco_events *events, struct dco_event_record *record,
                     const struct dco_event_record *news);

/* Limits that were reached and nobody has read. */
uint32_t dco_events_unread_limits(struct dco_events *events, const struct dco_event_record *record);

/* Takes the record out of the queue, if it is there: its owner is going. */
void dco_events_withdraw(struct dco_events *events, struct dco_event_record *record);

/* Takes up to `capacity` events. Reading the deletion of a peer frees it. */
int dco_events_take(struct dco_events *events, struct dco_event *out, size_t capacity);

uint32_t dco_events_deletions(struct dco_events *events);

#endif
