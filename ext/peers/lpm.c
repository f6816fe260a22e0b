#include "peers/lpm.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* An address as two big numbers, so that a mask is arithmetic. */
struct bits {
    uint64_t high, low;
};

static struct bits bits_of(uint8_t family, const uint8_t *ip)
{
    struct bits bits = {0, 0};

    if (family == AF_INET) {
        uint32_t word;
        memcpy(&word, ip, sizeof word);
        bits.high = (uint64_t)be32toh(word) << 32;
    } else {
        memcpy(&bits.high, ip, 8);
        memcpy(&bits.low, ip + 8, 8);
        bits.high = be64toh(bits.high);
        bits.low = be64toh(bits.low);
    }
    return bits;
}

static struct dco_map_key key_of(uint8_t family, struct bits bits, unsigned length)
{
    uint64_t high = length >= 64 ? ~UINT64_C(0) : ~(~UINT64_C(0) >> length);
    uint64_t low = length <= 64    ? 0
                   : length == 128 ? ~UINT64_C(0)
                                   : ~(~UINT64_C(0) >> (length - 64));

    return (struct dco_map_key){
        {bits.high & high, bits.low & low, (uint64_t)family << 8 | length},
    };
}

static struct dco_map_key key_of_prefix(const struct dco_prefix *prefix)
{
    return key_of(prefix->family, bits_of(prefix->family, prefix->ip), prefix->length);
}

int dco_lpm_init(struct dco_lpm *lpm, struct dco_rcu *rcu, size_t buckets)
{
    memset(lpm, 0, sizeof *lpm);
    lpm->rcu = rcu;
    return dco_map_init(&lpm->map, buckets);
}

void dco_lpm_destroy(struct dco_lpm *lpm)
{
    dco_map_destroy(&lpm->map);
}

struct dco_lpm_route *dco_lpm_route_new(const struct dco_prefix *prefix, void *owner, bool host)
{
    struct dco_lpm_route *route = calloc(1, sizeof *route);

    if (route) {
        route->prefix = *prefix;
        route->host = host;
        route->entry.key = key_of_prefix(prefix);
        route->entry.value = owner;
    }
    return route;
}

void dco_lpm_route_free(struct dco_lpm_route *route)
{
    free(route);
}

static void count_length(struct dco_lpm *lpm, const struct dco_prefix *prefix, int by)
{
    struct dco_lpm_lengths *lengths = prefix->family == AF_INET ? &lpm->ipv4 : &lpm->ipv6;
    _Atomic uint64_t *word = &lengths->word[prefix->length / 64];
    uint64_t bit = UINT64_C(1) << prefix->length % 64;
    uint64_t bits = atomic_load_explicit(word, memory_order_relaxed);

    lengths->count[prefix->length] += (uint32_t)by;
    bits = lengths->count[prefix->length] ? bits | bit : bits & ~bit;
    atomic_store_explicit(word, bits, memory_order_release);
}

void dco_lpm_insert(struct dco_lpm *lpm, struct dco_lpm_route *route)
{
    dco_map_insert(&lpm->map, &route->entry);
    count_length(lpm, &route->prefix, 1);
}

static void route_release(struct dco_rcu_node *node)
{
    free((char *)node - offsetof(struct dco_lpm_route, entry.rcu));
}

void dco_lpm_remove(struct dco_lpm *lpm, struct dco_lpm_route *route)
{
    count_length(lpm, &route->prefix, -1);
    dco_map_remove(&lpm->map, &route->entry);
    dco_rcu_retire(lpm->rcu, &route->entry.rcu, route_release);
}

struct dco_lpm_route *dco_lpm_exact(const struct dco_lpm *lpm, const struct dco_prefix *prefix)
{
    struct dco_map_key key = key_of_prefix(prefix);
    struct dco_map_entry *entry = dco_map_find(&lpm->map, &key);

    return entry ? (struct dco_lpm_route *)((char *)entry - offsetof(struct dco_lpm_route, entry))
                 : NULL;
}

void *dco_lpm_lookup(const struct dco_lpm *lpm, uint8_t family, const uint8_t *ip)
{
    const struct dco_lpm_lengths *lengths = family == AF_INET ? &lpm->ipv4 : &lpm->ipv6;
    struct bits bits = bits_of(family, ip);

    for (int i = 2; i >= 0; i--) {
        uint64_t present = atomic_load_explicit(&lengths->word[i], memory_order_acquire);

        while (present) {
            unsigned top = 63u - (unsigned)__builtin_clzll(present);
            struct dco_map_key key = key_of(family, bits, (unsigned)i * 64 + top);
            struct dco_map_entry *entry = dco_map_find(&lpm->map, &key);

            if (entry)
                return entry->value;
            present &= ~(UINT64_C(1) << top);
        }
    }
    return NULL;
}
