#include "peers/peer_table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int dco_peer_table_init(struct dco_peer_table *table, struct dco_rcu *rcu, size_t peers)
{
    memset(table, 0, sizeof *table);
    table->rcu = rcu;
    return dco_map_init(&table->by_address, peers);
}

void dco_peer_table_destroy(struct dco_peer_table *table)
{
    for (int i = 0; i < DCO_PEER_PAGES; i++)
        free(atomic_load_explicit(&table->page[i], memory_order_relaxed));
    dco_map_destroy(&table->by_address);
}

int dco_peer_table_reserve(struct dco_peer_table *table, uint32_t id)
{
    uint32_t index = id >> DCO_PEER_PAGE_BITS;
    _Atomic(struct dco_peer_page *) *slot = &table->page[index];

    if (!atomic_load_explicit(slot, memory_order_relaxed)) {
        struct dco_peer_page *page = calloc(1, sizeof *page);
        if (!page)
            return -ENOMEM;
        atomic_store_explicit(slot, page, memory_order_release);
    }
    if (index >= atomic_load_explicit(&table->pages, memory_order_relaxed))
        atomic_store_explicit(&table->pages, index + 1, memory_order_release);
    return 0;
}

static void set_id(struct dco_peer_table *table, uint32_t id, struct dco_peer *peer)
{
    struct dco_peer_page *page =
        atomic_load_explicit(&table->page[id >> DCO_PEER_PAGE_BITS], memory_order_relaxed);

    atomic_store_explicit(&page->peer[id & ((1 << DCO_PEER_PAGE_BITS) - 1)], peer,
                          memory_order_release);
    atomic_fetch_add_explicit(&page->count, peer ? 1 : -1u, memory_order_release);
}

struct dco_peer *dco_peer_table_next(const struct dco_peer_table *table, uint32_t *id)
{
    uint32_t end = atomic_load_explicit(&table->pages, memory_order_acquire) << DCO_PEER_PAGE_BITS;

    while (*id < end) {
        struct dco_peer_page *page =
            atomic_load_explicit(&table->page[*id >> DCO_PEER_PAGE_BITS], memory_order_acquire);
        if (!page || !atomic_load_explicit(&page->count, memory_order_acquire)) {
            *id = ((*id >> DCO_PEER_PAGE_BITS) + 1) << DCO_PEER_PAGE_BITS;
            continue;
        }
        struct dco_peer *peer = dco_peer_table_by_id(table, *id);
        if (peer)
            return peer;
        ++*id;
    }
    return NULL;
}

void dco_peer_table_add(struct dco_peer_table *table, struct dco_peer *peer)
{
    peer->previous = table->last;
    peer->next = NULL;
    *(table->last ? &table->last->next : &table->first) = peer;
    table->last = peer;
    table->count++;
    set_id(table, peer->id, peer);
}

static void address_release(struct dco_rcu_node *node)
{
    struct dco_peer_address *address =
        (struct dco_peer_address *)((char *)node - offsetof(struct dco_peer_address, entry.rcu));

    atomic_store_explicit(&address->busy, false, memory_order_release);
}

static void address_leave(struct dco_peer_table *table, struct dco_peer *peer)
{
    struct dco_map_entry *entry;

    if (peer->address_current < 0)
        return;
    entry = &peer->address[peer->address_current].entry;
    peer->address_current = -1;
    dco_map_remove(&table->by_address, entry);
    dco_rcu_retire(table->rcu, &entry->rcu, address_release);
}

void dco_peer_table_remove(struct dco_peer_table *table, struct dco_peer *peer)
{
    *(peer->previous ? &peer->previous->next : &table->first) = peer->next;
    *(peer->next ? &peer->next->previous : &table->last) = peer->previous;
    table->count--;
    set_id(table, peer->id, NULL);
    address_leave(table, peer);
}

/* The scope id is part of a link-local address: the same bits on two links are two peers. */
static struct dco_map_key key_of(uint32_t transport, const struct dco_address *address)
{
    struct dco_map_key key;

    memcpy(key.word, address->ip, 16);
    key.word[2] = (uint64_t)address->scope << 32 | (uint64_t)address->port << 16
                  | (uint64_t)transport << 8 | address->family;
    return key;
}

struct dco_peer *dco_peer_table_by_address(const struct dco_peer_table *table, uint32_t transport,
                                           const struct dco_address *address)
{
    struct dco_map_key key = key_of(transport, address);
    struct dco_map_entry *entry = dco_map_find(&table->by_address, &key);

    return entry ? entry->value : NULL;
}

int dco_peer_table_move(struct dco_peer_table *table, struct dco_peer *peer, uint32_t transport,
                        const struct dco_address *address)
{
    int fresh = peer->address_current == 0 ? 1 : 0;
    struct dco_peer_address *slot = &peer->address[fresh];

    if (address->family == 0) {
        address_leave(table, peer);
        return 0;
    }
    if (atomic_load_explicit(&slot->busy, memory_order_acquire))
        return -EAGAIN;
    atomic_store_explicit(&slot->busy, true, memory_order_relaxed);
    slot->entry.key = key_of(transport, address);
    slot->entry.rank = peer->generation;
    slot->entry.value = peer;
    dco_map_insert(&table->by_address, &slot->entry);
    address_leave(table, peer);
    peer->address_current = fresh;
    return 0;
}
