#include "peers/map.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

int dco_map_init(struct dco_map *map, size_t buckets)
{
    size_t count = 1024;

    while (count < buckets && count < 1u << 20)
        count *= 2;
    /* calloc of this size is untouched zero pages: memory grows with use. */
    map->bucket = calloc(count, sizeof *map->bucket);
    map->mask = count - 1;
    if (!map->bucket)
        return -ENOMEM;
    if (getrandom(map->seed, sizeof map->seed, 0) != sizeof map->seed)
        return -EIO;
    return 0;
}

void dco_map_destroy(struct dco_map *map)
{
    free(map->bucket);
    map->bucket = NULL;
}

/* Multiply and fold 128-bit products with secret seeds. */
static uint64_t mix(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)a * b;

    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static _Atomic(struct dco_map_entry *) *bucket_of(const struct dco_map *map,
                                                  const struct dco_map_key *key)
{
    uint64_t hash = mix(key->word[0] ^ map->seed[0], key->word[1] ^ map->seed[1]);

    hash = mix(hash ^ key->word[2], map->seed[2] | 1);
    return &map->bucket[hash & map->mask];
}

void dco_map_insert(struct dco_map *map, struct dco_map_entry *entry)
{
    _Atomic(struct dco_map_entry *) *bucket = bucket_of(map, &entry->key);

    atomic_store_explicit(&entry->next, atomic_load_explicit(bucket, memory_order_relaxed),
                          memory_order_relaxed);
    atomic_store_explicit(bucket, entry, memory_order_release);
}

void dco_map_remove(struct dco_map *map, struct dco_map_entry *entry)
{
    _Atomic(struct dco_map_entry *) *link = bucket_of(map, &entry->key);
    struct dco_map_entry *here;

    while ((here = atomic_load_explicit(link, memory_order_relaxed)) && here != entry)
        link = &here->next;
    /* The entry keeps its own link: readers that stand on it walk on. */
    if (here)
        atomic_store_explicit(link, atomic_load_explicit(&entry->next, memory_order_relaxed),
                              memory_order_release);
}

struct dco_map_entry *dco_map_find(const struct dco_map *map, const struct dco_map_key *key)
{
    struct dco_map_entry *found = NULL;
    struct dco_map_entry *entry = atomic_load_explicit(bucket_of(map, key), memory_order_acquire);

    for (; entry; entry = atomic_load_explicit(&entry->next, memory_order_acquire)) {
        if (entry->key.word[0] == key->word[0] && entry->key.word[1] == key->word[1]
            && entry->key.word[2] == key->word[2] && (!found || entry->rank > found->rank))
            found = entry;
    }
    return found;
}
