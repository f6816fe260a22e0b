/* Quiescent-state reclamation: readers without locks, writers that never wait.
 *
 * A registered thread is offline (holds no pointers) while it waits, and reports quiescence once
 * per batch. An object that was unlinked is retired; it is released when every thread that was
 * online then has passed through a quiescent state or gone offline, by whichever thread notices
 * first: so within one batch under load and at once when all are idle. */
#ifndef DCO_SYNC_RCU_H
#define DCO_SYNC_RCU_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bounds.h"

#define DCO_RCU_READERS_MAX (2u * DCO_WORKERS_MAX)

struct dco_rcu_reader {
    _Alignas(DCO_CACHE_LINE) _Atomic uint64_t seen; /* ticket at the last quiescence; 0: offline */
};

/* Embedded in what is retired. */
struct dco_rcu_node {
    struct dco_rcu_node *next;
    uint64_t ticket;
    void (*release)(struct dco_rcu_node *node);
};

struct dco_rcu {
    _Atomic uint64_t ticket;  /* grows with every retirement; starts at 1 */
    _Atomic uint64_t waiting; /* retired and not yet released */
    atomic_bool missed;       /* somebody passed while the list was locked: look again */
    pthread_mutex_t lock;     /* guards the list; readers only ever try it */
    struct dco_rcu_node *head, **tail;
    unsigned readers;
    struct dco_rcu_reader reader[DCO_RCU_READERS_MAX];
};

int dco_rcu_init(struct dco_rcu *rcu);
/* All readers are gone: releases everything. */
void dco_rcu_destroy(struct dco_rcu *rcu);

/* Before any thread runs. Starts offline. */
struct dco_rcu_reader *dco_rcu_register(struct dco_rcu *rcu);

void dco_rcu_online(struct dco_rcu *rcu, struct dco_rcu_reader *reader);
void dco_rcu_quiesce(struct dco_rcu *rcu, struct dco_rcu_reader *reader);
void dco_rcu_offline(struct dco_rcu *rcu, struct dco_rcu_reader *reader);

/* The object must be unreachable for readers that come online from now on. `release` runs on any
 * thread, possibly before this returns, in the order of retirement; it must neither retire nor take
 * a lock that the caller holds. */
void dco_rcu_retire(struct dco_rcu *rcu, struct dco_rcu_node *node,
                    void (*release)(struct dco_rcu_node *node));

/* Nothing is retired or released in between; readers go on. */
void dco_rcu_freeze(struct dco_rcu *rcu);
void dco_rcu_thaw(struct dco_rcu *rcu);

/* Waits until every thread has passed; for callers that hold no lock and are no readers. */
void dco_rcu_synchronize(struct dco_rcu *rcu);

#endif
