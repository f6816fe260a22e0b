#include "sync/rcu.h"

#include <time.h>

int dco_rcu_init(struct dco_rcu *rcu)
{
    atomic_init(&rcu->ticket, 1);
    atomic_init(&rcu->waiting, 0);
    atomic_init(&rcu->missed, false);
    rcu->head = NULL;
    rcu->tail = &rcu->head;
    rcu->readers = 0;
    return -pthread_mutex_init(&rcu->lock, NULL);
}

struct dco_rcu_reader *dco_rcu_register(struct dco_rcu *rcu)
{
    struct dco_rcu_reader *reader = NULL;

    if (rcu->readers < DCO_RCU_READERS_MAX) {
        reader = &rcu->reader[rcu->readers++];
        atomic_init(&reader->seen, 0);
    }
    return reader;
}

/* What every online reader has passed: objects retired up to here are unreachable. */
static uint64_t passed(struct dco_rcu *rcu)
{
    uint64_t lowest = UINT64_MAX;

    for (unsigned i = 0; i < rcu->readers; i++) {
        uint64_t seen = atomic_load_explicit(&rcu->reader[i].seen, memory_order_seq_cst);
        if (seen && seen < lowest)
            lowest = seen;
    }
    return lowest;
}

/* Unlinks what may be released. The list is in ticket order. Lock held. */
static struct dco_rcu_node *take_ripe(struct dco_rcu *rcu)
{
    uint64_t limit = passed(rcu);
    struct dco_rcu_node *ripe = rcu->head, **end = &rcu->head;

    while (*end && (*end)->ticket < limit)
        end = &(*end)->next;
    if (end == &rcu->head)
        return NULL;
    rcu->head = *end;
    *end = NULL;
    if (!rcu->head)
        rcu->tail = &rcu->head;
    return ripe;
}

/* Lock held. */
static void release_all(struct dco_rcu *rcu, struct dco_rcu_node *node)
{
    while (node) {
        struct dco_rcu_node *next = node->next;
        node->release(node);
        atomic_fetch_sub_explicit(&rcu->waiting, 1, memory_order_relaxed);
        node = next;
    }
}

/* Lock held; gives it back. Released under the lock, hence in the order of retirement: what is in
 * an object is gone before the object. Somebody who passed meanwhile could not take it and left word. */
static void reclaim_locked(struct dco_rcu *rcu)
{
    do {
        /* Only by who looks next: one that took the word and then found the lock taken would leave
         * nobody to look. An exchange, to see all that came before the word. */
        atomic_exchange(&rcu->missed, false);
        release_all(rcu, take_ripe(rcu));
        pthread_mutex_unlock(&rcu->lock);
    } while (atomic_load(&rcu->missed) && !pthread_mutex_trylock(&rcu->lock));
}

/* Never blocks. A holder of the lock may have looked before this thread passed: tell it to look
 * again, and try once more in case it has just left. */
static void reclaim(struct dco_rcu *rcu)
{
    if (pthread_mutex_trylock(&rcu->lock)) {
        atomic_store(&rcu->missed, true);
        if (pthread_mutex_trylock(&rcu->lock))
            return;
    }
    reclaim_locked(rcu);
}

void dco_rcu_online(struct dco_rcu *rcu, struct dco_rcu_reader *reader)
{
    atomic_store_explicit(&reader->seen, atomic_load_explicit(&rcu->ticket, memory_order_seq_cst),
                          memory_order_seq_cst);
    /* Pairs with the fence in dco_rcu_retire: either the writer sees this reader online, or the
     * reader's later loads see the object already unlinked. */
    atomic_thread_fence(memory_order_seq_cst);
}

static void leave(struct dco_rcu *rcu, struct dco_rcu_reader *reader, uint64_t seen)
{
    atomic_store_explicit(&reader->seen, seen, memory_order_seq_cst);
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&rcu->waiting, memory_order_relaxed))
        reclaim(rcu);
}

void dco_rcu_quiesce(struct dco_rcu *rcu, struct dco_rcu_reader *reader)
{
    leave(rcu, reader, atomic_load_explicit(&rcu->ticket, memory_order_seq_cst));
}

void dco_rcu_offline(struct dco_rcu *rcu, struct dco_rcu_reader *reader)
{
    leave(rcu, reader, 0);
}

void dco_rcu_retire(struct dco_rcu *rcu, struct dco_rcu_node *node,
                    void (*release)(struct dco_rcu_node *node))
{
    node->next = NULL;
    node->release = release;
    pthread_mutex_lock(&rcu->lock);
    node->ticket = atomic_fetch_add_explicit(&rcu->ticket, 1, memory_order_seq_cst);
    atomic_thread_fence(memory_order_seq_cst);
    *rcu->tail = node;
    rcu->tail = &node->next;
    atomic_fetch_add_explicit(&rcu->waiting, 1, memory_order_seq_cst);
    reclaim_locked(rcu);
}

void dco_rcu_freeze(struct dco_rcu *rcu)
{
    pthread_mutex_lock(&rcu->lock);
}

/* A reader that passed meanwhile may not pass again for long: what it could not take is taken. */
void dco_rcu_thaw(struct dco_rcu *rcu)
{
    reclaim_locked(rcu);
}

struct waiter {
    struct dco_rcu_node node;
    atomic_bool passed;
};

static void waiter_release(struct dco_rcu_node *node)
{
    atomic_store_explicit(&((struct waiter *)node)->passed, true, memory_order_release);
}

void dco_rcu_synchronize(struct dco_rcu *rcu)
{
    struct timespec pause = {.tv_nsec = 100000};
    struct waiter waiter;

    atomic_init(&waiter.passed, false);
    dco_rcu_retire(rcu, &waiter.node, waiter_release);
    while (!atomic_load_explicit(&waiter.passed, memory_order_acquire))
        nanosleep(&pause, NULL);
}

void dco_rcu_destroy(struct dco_rcu *rcu)
{
    rcu->readers = 0;
    release_all(rcu, rcu->head);
    rcu->head = NULL;
    pthread_mutex_destroy(&rcu->lock);
}
