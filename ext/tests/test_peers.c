#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "peers/lpm.h"
#include "peers/peer_table.h"
#include "tests/check.h"

static struct dco_rcu rcu;

static struct dco_prefix prefix4(uint8_t a, uint8_t b, uint8_t c, uint8_t d, uint8_t length)
{
    return (struct dco_prefix){AF_INET, length, {a, b, c, d}};
}

static void *owner4(const struct dco_lpm *lpm, uint8_t a, uint8_t b, uint8_t c, uint8_t d)
{
    uint8_t ip[4] = {a, b, c, d};

    return dco_lpm_lookup(lpm, AF_INET, ip);
}

static void longest_prefix_wins(void)
{
    struct dco_prefix wide = prefix4(10, 0, 0, 0, 8), narrow = prefix4(10, 1, 0, 0, 16),
                      host = prefix4(10, 1, 2, 3, 32), all = prefix4(0, 0, 0, 0, 0);
    int peers[4];
    struct dco_lpm_route *routes[4];
    struct dco_lpm lpm;

    CHECK(!dco_lpm_init(&lpm, &rcu, 64));
    routes[0] = dco_lpm_route_new(&wide, &peers[0], false);
    routes[1] = dco_lpm_route_new(&narrow, &peers[1], false);
    routes[2] = dco_lpm_route_new(&host, &peers[2], true);
    routes[3] = dco_lpm_route_new(&all, &peers[3], false);
    for (int i = 0; i < 3; i++)
        dco_lpm_insert(&lpm, routes[i]);
    CHECK(owner4(&lpm, 10, 1, 2, 3) == &peers[2]);
    CHECK(owner4(&lpm, 10, 1, 2, 4) == &peers[1]);
    CHECK(owner4(&lpm, 10, 2, 2, 4) == &peers[0]);
    CHECK(owner4(&lpm, 11, 2, 2, 4) == NULL);
    dco_lpm_insert(&lpm, routes[3]);
    CHECK(owner4(&lpm, 11, 2, 2, 4) == &peers[3]);
    CHECK(dco_lpm_exact(&lpm, &narrow) == routes[1]);
    dco_lpm_remove(&lpm, routes[1]);
    CHECK(owner4(&lpm, 10, 1, 2, 4) == &peers[0]);
    CHECK(!dco_lpm_exact(&lpm, &narrow));
    dco_lpm_remove(&lpm, routes[0]);
    dco_lpm_remove(&lpm, routes[2]);
    dco_lpm_remove(&lpm, routes[3]);
    CHECK(owner4(&lpm, 10, 1, 2, 3) == NULL);
    dco_lpm_destroy(&lpm);
}

/* IPv6 masks cross the border of the two machine words. */
static void ipv6_lengths(void)
{
    struct dco_lpm_route *routes[129];
    int peers[129];
    uint8_t ip[16];
    struct dco_lpm lpm;

    CHECK(!dco_lpm_init(&lpm, &rcu, 64));
    for (int length = 0; length <= 128; length++) {
        struct dco_prefix prefix = {.family = AF_INET6, .length = (uint8_t)length};
        for (int bit = 0; bit < length; bit++)
            prefix.ip[bit / 8] |= (uint8_t)(0x80 >> bit % 8);
        routes[length] = dco_lpm_route_new(&prefix, &peers[length], false);
        dco_lpm_insert(&lpm, routes[length]);
    }
    for (int ones = 0; ones <= 128; ones++) {
        memset(ip, 0, sizeof ip);
        for (int bit = 0; bit < ones; bit++)
            ip[bit / 8] |= (uint8_t)(0x80 >> bit % 8);
        CHECK(dco_lpm_lookup(&lpm, AF_INET6, ip) == &peers[ones]);
    }
    for (int length = 0; length <= 128; length++)
        dco_lpm_remove(&lpm, routes[length]);
    dco_lpm_destroy(&lpm);
}

static struct dco_address address4(uint8_t last, uint16_t port)
{
    return (struct dco_address){.family = AF_INET, .ip = {192, 0, 2, last}, .port = port};
}

static void newest_claim_of_an_address(void)
{
    struct dco_address shared = address4(1, 1194), other = address4(2, 1194);
    struct dco_peer_table *table = malloc(sizeof *table);
    struct dco_peer *old, *young;
    uint32_t id = 0;

    CHECK(table && !dco_peer_table_init(table, &rcu, 64));
    old = dco_peer_new(7, 1);
    young = dco_peer_new(0xFFFFFE, 2);
    CHECK(!dco_peer_table_reserve(table, old->id) && !dco_peer_table_reserve(table, young->id));
    dco_peer_table_add(table, old);
    CHECK(!dco_peer_table_move(table, old, 3, &shared));
    dco_peer_table_add(table, young);
    CHECK(!dco_peer_table_move(table, young, 3, &shared));

    CHECK(dco_peer_table_by_id(table, 7) == old);
    CHECK(dco_peer_table_by_id(table, 0xFFFFFE) == young);
    CHECK(dco_peer_table_next(table, &id) == old && id == 7);
    id++;
    CHECK(dco_peer_table_next(table, &id) == young && id == 0xFFFFFE);
    id++;
    CHECK(!dco_peer_table_next(table, &id));

    CHECK(dco_peer_table_by_address(table, 3, &shared) == young);
    CHECK(!dco_peer_table_by_address(table, 4, &shared));
    CHECK(!dco_peer_table_move(table, young, 3, &other));
    CHECK(dco_peer_table_by_address(table, 3, &shared) == old);
    CHECK(dco_peer_table_by_address(table, 3, &other) == young);
    dco_peer_table_remove(table, old);
    CHECK(!dco_peer_table_by_address(table, 3, &shared) && !dco_peer_table_by_id(table, 7));
    dco_peer_table_remove(table, young);
    CHECK(table->count == 0 && !table->first && !table->last);
    dco_peer_free(old);
    dco_peer_free(young);
    dco_peer_table_destroy(table);
    free(table);
}

/* A reader that has not passed yet may stand on the entry of the last move. */
static void moves_wait_for_readers(void)
{
    struct dco_address a = address4(1, 1), b = address4(1, 2), c = address4(1, 3);
    struct dco_rcu_reader *reader = dco_rcu_register(&rcu);
    struct dco_peer_table *table = malloc(sizeof *table);
    struct dco_peer *peer = dco_peer_new(1, 1);

    CHECK(table && !dco_peer_table_init(table, &rcu, 64) && !dco_peer_table_reserve(table, 1));
    dco_peer_table_add(table, peer);
    dco_rcu_online(&rcu, reader);
    CHECK(!dco_peer_table_move(table, peer, 0, &a));
    CHECK(!dco_peer_table_move(table, peer, 0, &b));
    CHECK(dco_peer_table_move(table, peer, 0, &c) == -11 /* EAGAIN */);
    CHECK(dco_peer_table_by_address(table, 0, &b) == peer);
    dco_rcu_quiesce(&rcu, reader);
    CHECK(!dco_peer_table_move(table, peer, 0, &c));
    dco_rcu_offline(&rcu, reader);
    dco_peer_table_remove(table, peer);
    dco_peer_free(peer);
    dco_peer_table_destroy(table);
    free(table);
}

static void keys_by_slot_and_id(void)
{
    static const uint8_t material[32];
    struct dco_key_config config = {
        .cipher = DCO_CIPHER_AES_GCM,
        .encrypt_key = material,
        .decrypt_key = material,
        .encrypt_key_size = 32,
        .decrypt_key_size = 32,
    };
    static struct dco_keyslots slots;
    struct dco_key *first, *second;

    CHECK(!dco_key_new(&config, NULL, DCO_GCM_NONE, &first));
    config.key_id = 5;
    CHECK(!dco_key_new(&config, NULL, DCO_GCM_NONE, &second));
    CHECK(!dco_keyslots_set(&slots, DCO_SLOT_PRIMARY, first));
    CHECK(!dco_keyslots_set(&slots, DCO_SLOT_SECONDARY, second));
    CHECK(dco_keyslots_find(&slots, 0) == first && dco_keyslots_find(&slots, 5) == second);
    CHECK(!dco_keyslots_find(&slots, 1));
    dco_keyslots_swap(&slots);
    CHECK(dco_keyslots_get(&slots, DCO_SLOT_PRIMARY) == second);
    CHECK(dco_keyslots_find(&slots, 0) == first && dco_keyslots_find(&slots, 5) == second);
    CHECK(dco_keyslots_set(&slots, DCO_SLOT_SECONDARY, NULL) == first);
    CHECK(!dco_keyslots_find(&slots, 0));
    dco_key_free(first);
    dco_key_free(second);

    /* Both directions with the code that was asked for. */
    for (int own = 0; own < 2 && dco_gcm_best() != DCO_GCM_NONE; own++) {
        CHECK(!dco_key_new(&config, NULL, own ? dco_gcm_best() : DCO_GCM_NONE, &first));
        CHECK(first->sealing.own == own && first->opening.own == own);
        dco_key_free(first);
    }

    config.key_id = 8;
    CHECK(dco_key_new(&config, NULL, DCO_GCM_NONE, &first) == -22 /* EINVAL */);
    config.key_id = 0;
    config.encrypt_key_size = config.decrypt_key_size = 31;
    CHECK(dco_key_new(&config, NULL, DCO_GCM_NONE, &first) == -22);
    config.cipher = DCO_CIPHER_NONE;
    CHECK(dco_key_new(&config, NULL, DCO_GCM_NONE, &first) == -22);
}

static void permits_by_generation(void)
{
    static const uint64_t generations[] = {2, 3, 7, 100, UINT64_MAX};
    struct dco_permit *some = dco_permit_new(generations, 5), *none = dco_permit_new(NULL, 0);

    CHECK(some && none);
    for (size_t i = 0; i < 5; i++)
        CHECK(dco_permit_holds(some, generations[i]) && !dco_permit_holds(none, generations[i]));
    for (uint64_t generation = 0; generation < 200; generation++)
        CHECK(dco_permit_holds(some, generation)
              == (generation == 2 || generation == 3 || generation == 7 || generation == 100));
    CHECK(!dco_permit_holds(NULL, 2));
    dco_permit_free(some);
    dco_permit_retire(&rcu, none);
    dco_permit_retire(&rcu, NULL);
}

int main(void)
{
    CHECK(!dco_rcu_init(&rcu));
    longest_prefix_wins();
    ipv6_lengths();
    newest_claim_of_an_address();
    moves_wait_for_readers();
    keys_by_slot_and_id();
    permits_by_generation();
    dco_rcu_destroy(&rcu);
    return 0;
}
