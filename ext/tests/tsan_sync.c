/* Readers, writers and reclamation at the same time; under ThreadSanitizer, or for a plain run a
 * check that what is read is whole and what is released is out of reach. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "peers/map.h"
#include "sync/rcu.h"
#include "sync/ring.h"
#include "sync/seqlock.h"
#include "tests/check.h"

#define ROUNDS 20000
#define READERS 2

static struct dco_rcu rcu;
static struct dco_map map;
static struct dco_seqlock seqlock;
static _Atomic uint64_t record[6];
static struct dco_ring ring;
static atomic_bool done;
static _Atomic uint64_t released;

struct item {
    struct dco_map_entry entry;
    uint64_t alive;
};

static struct dco_map_key key_of(uint64_t n)
{
    return (struct dco_map_key){{n, ~n, 1}};
}

static void item_release(struct dco_rcu_node *node)
{
    struct item *item = (struct item *)((char *)node - offsetof(struct item, entry.rcu));

    item->alive = 0;
    free(item);
    atomic_fetch_add(&released, 1);
}

static void *read_all(void *argument)
{
    struct dco_rcu_reader *reader = argument;
    uint64_t copy[6];

    while (!atomic_load(&done)) {
        dco_rcu_online(&rcu, reader);
        for (uint64_t n = 0; n < 64; n++) {
            struct dco_map_key key = key_of(n % 8);
            struct dco_map_entry *entry = dco_map_find(&map, &key);
            if (entry)
                CHECK(((struct item *)entry->value)->alive == 1);
            dco_seqlock_read(&seqlock, record, copy, 6);
            for (int i = 1; i < 6; i++)
                CHECK(copy[i] == copy[0]);
            if (n % 16 == 0)
                dco_rcu_quiesce(&rcu, reader);
        }
        dco_rcu_offline(&rcu, reader);
    }
    return NULL;
}

static void *write_record(void *argument)
{
    uint64_t words[6], n = (uint64_t)(uintptr_t)argument;

    while (!atomic_load(&done)) {
        n += 2;
        for (int i = 0; i < 6; i++)
            words[i] = n;
        dco_seqlock_write(&seqlock, record, words, 6);
        sched_yield(); /* writers are rare in life, too */
    }
    return NULL;
}

static void *fill_ring(void *argument)
{
    uint8_t body[100];
    (void)argument;

    for (uint32_t n = 0; n < ROUNDS; n++) {
        memset(body, (int)n & 0xFF, sizeof body);
        while (!dco_ring_put(&ring, &n, sizeof n, body, n % sizeof body))
            sched_yield();
    }
    return NULL;
}

static void drain_ring(void)
{
    uint8_t body[100];

    for (uint32_t n = 0; n < ROUNDS; n++) {
        uint32_t head;
        size_t size;
        while (!(size = dco_ring_peek(&ring)))
            sched_yield();
        CHECK(size == sizeof head + n % sizeof body);
        dco_ring_take(&ring, &head, sizeof head, body);
        CHECK(head == n);
        for (uint32_t i = 0; i < n % sizeof body; i++)
            CHECK(body[i] == (n & 0xFF));
    }
    CHECK(!dco_ring_peek(&ring));
}

static void churn_map(void)
{
    struct item *live[8] = {0};

    for (uint64_t n = 0; n < ROUNDS; n++) {
        struct item *item = calloc(1, sizeof *item);
        CHECK(item);
        item->alive = 1;
        item->entry.key = key_of(n % 8);
        item->entry.rank = n;
        item->entry.value = item;
        dco_map_insert(&map, &item->entry);
        if (live[n % 8]) {
            dco_map_remove(&map, &live[n % 8]->entry);
            dco_rcu_retire(&rcu, &live[n % 8]->entry.rcu, item_release);
        }
        live[n % 8] = item;
    }
    for (int i = 0; i < 8; i++) {
        dco_map_remove(&map, &live[i]->entry);
        dco_rcu_retire(&rcu, &live[i]->entry.rcu, item_release);
    }
}

int main(void)
{
    pthread_t readers[READERS], writers[2], producer;

    CHECK(!dco_rcu_init(&rcu) && !dco_map_init(&map, 16) && !dco_ring_init(&ring, 1024));
    for (int i = 0; i < READERS; i++)
        CHECK(!pthread_create(&readers[i], NULL, read_all, dco_rcu_register(&rcu)));
    for (uintptr_t i = 0; i < 2; i++)
        CHECK(!pthread_create(&writers[i], NULL, write_record, (void *)i));
    CHECK(!pthread_create(&producer, NULL, fill_ring, NULL));
    churn_map();
    drain_ring();
    dco_rcu_synchronize(&rcu);
    CHECK(atomic_load(&released) == ROUNDS);
    atomic_store(&done, true);
    for (int i = 0; i < READERS; i++)
        pthread_join(readers[i], NULL);
    for (int i = 0; i < 2; i++)
        pthread_join(writers[i], NULL);
    pthread_join(producer, NULL);
    CHECK(atomic_load(&rcu.waiting) == 0);
    dco_rcu_destroy(&rcu);
    dco_map_destroy(&map);
    dco_ring_destroy(&ring);
    return 0;
}
