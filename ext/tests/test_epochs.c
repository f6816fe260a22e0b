/* The epochs of a key: sealing turns at its limits, opening moves behind authentic packets only, and
 * a refill that is late costs packets and nothing else. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "peers/keyslot.h"
#include "tests/check.h"

#define PLAIN 20
#define PACKET (PLAIN + DCO_WIRE_EPOCH_OVERHEAD)
#define COUNTER_MAX DCO_EPOCH_COUNTER_MAX

static const uint8_t plain[PLAIN] = "twenty bytes, or so";

static struct dco_key_config config_of(enum dco_cipher cipher, bool first)
{
    static const uint8_t a[DCO_EPOCH_SECRET] = {1}, b[DCO_EPOCH_SECRET] = {2};

    return (struct dco_key_config){
        .cipher = cipher,
        .encrypt_key = first ? a : b,
        .decrypt_key = first ? b : a,
        .encrypt_key_size = DCO_EPOCH_SECRET,
        .decrypt_key_size = DCO_EPOCH_SECRET,
        .future_epochs = 4,
        .epoch_key_size = 32,
    };
}

static struct dco_key *key_new(const struct dco_key_config *config)
{
    struct dco_key *key;

    CHECK(!dco_key_new(config, NULL, DCO_GCM_NONE, &key));
    CHECK(dco_key_overhead(key) == DCO_WIRE_EPOCH_OVERHEAD);
    return key;
}

/* Two ends of one session. */
static struct dco_key *near_end, *far_end;

static void start(uint32_t futures, uint32_t first_epoch, uint64_t first_id)
{
    struct dco_key_config config = config_of(DCO_CIPHER_AES_GCM, true);

    config.future_epochs = futures;
    config.first_epoch = first_epoch;
    config.first_packet_id = first_id;
    near_end = key_new(&config);
    config = config_of(DCO_CIPHER_AES_GCM, false);
    config.future_epochs = futures;
    config.first_epoch = first_epoch;
    far_end = key_new(&config);
}

static void stop(void)
{
    dco_key_free(near_end);
    dco_key_free(far_end);
}

static void refill(void)
{
    CHECK(!dco_epochs_refill(near_end->epochs));
    CHECK(!dco_epochs_refill(far_end->epochs));
}

/* A packet of any epoch and counter, by a key of its own. */
static void forge(uint32_t epoch, uint64_t counter, uint8_t packet[PACKET])
{
    struct dco_epochkey_chain chain;
    struct dco_epochkey key;

    dco_epochkey_chain_init(&chain, config_of(DCO_CIPHER_AES_GCM, true).encrypt_key);
    while (chain.epoch < epoch)
        CHECK(!dco_epochkey_chain_step(&chain, NULL));
    chain.epoch = epoch; /* 0 has no key: the one of 1 */
    CHECK(!dco_epochkey_take(&key, &chain, NULL, DCO_CIPHER_AES_GCM, 32, true, DCO_GCM_NONE));
    CHECK(dco_epochkey_seal(&key, dco_wire_header(0, 1), counter, plain, PLAIN, packet));
    dco_epochkey_clear(&key);
}

static enum dco_drop open_at_far(uint32_t epoch, uint64_t counter)
{
    struct dco_epochs_opened opened = {0};
    uint8_t packet[PACKET];
    enum dco_drop drop;

    forge(epoch, counter, packet);
    drop = dco_epochs_open(far_end->epochs, packet, PACKET, 1, &opened);
    CHECK(drop || !memcmp(packet + DCO_WIRE_EPOCH_AAD, plain, PLAIN));
    return drop;
}

static uint32_t receive_epoch(const struct dco_key *key)
{
    return atomic_load(&key->epochs->receive_epoch);
}

static uint32_t send_epoch(const struct dco_key *key)
{
    return atomic_load(&key->epochs->send_epoch);
}

/* --- opening --- */

static void jumps(void)
{
    for (uint32_t futures = 1; futures <= DCO_EPOCH_FUTURES_MAX; futures++)
        for (uint32_t jump = 0; jump <= futures + 2; jump++) {
            start(futures, 1, 1);
            CHECK(!open_at_far(1, 1));
            enum dco_drop drop = open_at_far(1 + jump, 2);
            CHECK(drop == (jump <= futures ? DCO_DROP_NONE : DCO_DROP_RX_EPOCH_AHEAD));
            CHECK(receive_epoch(far_end) == 1 + (drop ? 0 : jump));
            refill();
            /* The one before stays for packets on their way; what lies between is gone. */
            CHECK(open_at_far(1, 3) == DCO_DROP_NONE);
            for (uint32_t epoch = 2; !drop && epoch < 1 + jump; epoch++)
                CHECK(open_at_far(epoch, 1) == DCO_DROP_RX_EPOCH_PAST);
            CHECK(open_at_far(0, 1) == DCO_DROP_RX_EPOCH_PAST);
            stop();
        }
}

static void again_and_again(void)
{
    start(3, 1, 1);
    for (uint32_t epoch = 4; epoch < 300; epoch += 3) {
        CHECK(!open_at_far(epoch, 7));
        CHECK(open_at_far(epoch, 7) == DCO_DROP_RX_REPLAY);
        CHECK(!open_at_far(epoch - 3, 8));
        CHECK(open_at_far(epoch - 3, 8) == DCO_DROP_RX_REPLAY);
        if (epoch > 6)
            CHECK(open_at_far(epoch - 6, 9) == DCO_DROP_RX_EPOCH_PAST);
        CHECK(receive_epoch(far_end) == epoch);
        refill();
    }
    stop();
}

static void forgeries_move_nothing(void)
{
    struct dco_epochs_opened opened = {0};
    uint8_t packet[PACKET];

    start(4, 1, 1);
    for (size_t bit = 8 * DCO_WIRE_HEADER; bit < 8 * PACKET; bit++) {
        forge(3, 1, packet);
        packet[bit / 8] ^= (uint8_t)(1u << bit % 8);
        enum dco_drop drop = dco_epochs_open(far_end->epochs, packet, PACKET, 1, &opened);
        CHECK(drop == DCO_DROP_RX_DECRYPT || drop == DCO_DROP_RX_EPOCH_AHEAD);
        CHECK(receive_epoch(far_end) == 1 && !opened.moved && !opened.newest);
    }
    for (uint32_t size = 0; size < PACKET; size++) {
        uint8_t *cut = malloc(size ? size : 1);
        CHECK(cut);
        forge(3, 1, packet);
        memcpy(cut, packet, size);
        enum dco_drop drop = dco_epochs_open(far_end->epochs, cut, size, 1, &opened);
        CHECK(drop == (size < DCO_WIRE_EPOCH_OVERHEAD ? DCO_DROP_RX_RUNT : DCO_DROP_RX_DECRYPT));
        free(cut);
    }
    CHECK(open_at_far(3, 0) == DCO_DROP_RX_REPLAY); /* authentic, but no packet id */
    CHECK(receive_epoch(far_end) == 1);
    CHECK(!open_at_far(3, 1));
    CHECK(receive_epoch(far_end) == 3);
    stop();
}

/* Where a peer is, only the newest packet says: a late one of the epoch before is not that, though
 * its window has seen none newer. */
static void late_packet_is_not_the_newest(void)
{
    struct dco_epochs_opened opened = {0};
    uint8_t packet[PACKET];

    start(4, 1, 1);
    forge(2, 5, packet);
    CHECK(!dco_epochs_open(far_end->epochs, packet, PACKET, 1, &opened));
    CHECK(opened.newest && opened.moved);
    forge(1, 9, packet);
    CHECK(!dco_epochs_open(far_end->epochs, packet, PACKET, 1, &opened));
    CHECK(!opened.newest && !opened.moved);
    forge(2, 4, packet);
    CHECK(!dco_epochs_open(far_end->epochs, packet, PACKET, 1, &opened));
    CHECK(!opened.newest);
    stop();
}

static void late_refill_costs_packets_only(void)
{
    start(2, 1, 1);
    CHECK(!open_at_far(2, 1));
    CHECK(!open_at_far(3, 1));
    CHECK(open_at_far(4, 1) == DCO_DROP_RX_EPOCH_AHEAD);
    CHECK(open_at_far(5, 1) == DCO_DROP_RX_EPOCH_AHEAD);
    CHECK(!open_at_far(3, 2));
    refill();
    CHECK(!open_at_far(5, 1));
    refill();
    CHECK(!open_at_far(7, 1));
    stop();
}

static void forgery_limit_of_each_epoch(void)
{
    struct dco_epochs_opened opened;
    uint8_t packet[PACKET];

    start(4, 1, 1);
    far_end->epochs->forgery_limit = 3;
    for (int i = 0; i < 5; i++) {
        forge(2, 1, packet);
        packet[PACKET - 1] ^= 1;
        enum dco_drop drop = dco_epochs_open(far_end->epochs, packet, PACKET, 1, &opened);
        CHECK(drop == (i < 3 ? DCO_DROP_RX_DECRYPT : DCO_DROP_RX_KEY_SPENT));
    }
    CHECK(open_at_far(2, 1) == DCO_DROP_RX_KEY_SPENT);
    CHECK(!open_at_far(1, 1));
    CHECK(!open_at_far(3, 1));
    stop();
}

/* --- sealing --- */

/* One packet from near to far. Returns the news; the packet must arrive when there is one. */
static unsigned send_one(struct dco_key *from, struct dco_key *to, uint64_t *id)
{
    struct dco_epochs_opened opened;
    uint8_t packet[PACKET];
    unsigned news = dco_key_take_id(from, PLAIN, id) & ~(unsigned)DCO_KEY_WAKE;

    if (news & DCO_KEY_NO_ID)
        return news;
    CHECK(dco_key_seal(from, dco_wire_header(0, 1), *id, plain, PLAIN, packet));
    CHECK(dco_wire_epoch(packet) == send_epoch(from) && dco_wire_epoch_counter(packet) == *id);
    CHECK(!dco_epochs_open(to->epochs, packet, PACKET, 1, &opened));
    return news;
}

static void turns_at_the_last_counter(void)
{
    uint64_t id;

    start(4, 1, COUNTER_MAX - 1);
    CHECK(!send_one(near_end, far_end, &id) && id == COUNTER_MAX - 1);
    CHECK(!send_one(near_end, far_end, &id) && id == COUNTER_MAX && send_epoch(near_end) == 1);
    CHECK(send_one(near_end, far_end, &id) == DCO_KEY_TURNED && id == 1);
    CHECK(send_epoch(near_end) == 2 && receive_epoch(far_end) == 2);
    CHECK(dco_counter_read(&near_end->sealed) == 3);
    /* The other end follows, with a counter that starts over. */
    CHECK(send_one(far_end, near_end, &id) == DCO_KEY_TURNED && id == 1);
    CHECK(send_epoch(far_end) == 2);
    stop();
}

static void turns_at_the_usage_limit(void)
{
    uint64_t id;

    start(4, 1, 1);
    near_end->usage_limit = 9; /* three packets of two blocks and one */
    near_end->usage_soon = 8;
    for (uint32_t epoch = 1; epoch < 50; epoch++) {
        for (int i = 0; i < 3; i++) {
            unsigned news = send_one(near_end, far_end, &id);
            CHECK(news == (i || epoch == 1 ? 0 : DCO_KEY_TURNED));
            CHECK(id == (uint64_t)i + 1 && send_epoch(near_end) == epoch);
            refill();
            send_one(far_end, near_end, &id); /* shows that it follows */
            CHECK(send_epoch(far_end) == epoch && receive_epoch(near_end) == epoch);
        }
    }
    stop();
}

/* A peer that never shows the epoch that we are in gets no further one. */
static void waits_for_the_peer(void)
{
    uint64_t id;

    start(4, 1, 1);
    near_end->usage_limit = 9;
    near_end->usage_soon = 8;
    for (int i = 0; i < 6; i++) {
        unsigned news = send_one(near_end, far_end, &id);
        CHECK(!(news & DCO_KEY_NO_ID) && !!(news & DCO_KEY_SOON) == (i == 5));
        refill();
    }
    CHECK(send_one(near_end, far_end, &id) == (DCO_KEY_NO_ID | DCO_KEY_SPENT));
    CHECK(send_epoch(near_end) == 2);
    CHECK(send_one(far_end, near_end, &id) == DCO_KEY_TURNED);
    CHECK(send_one(near_end, far_end, &id) == DCO_KEY_TURNED && send_epoch(near_end) == 3);
    stop();
}

/* Without a refill there is no next key yet: the packet is lost, the key is not spent. */
static void late_refill_of_the_sender(void)
{
    uint64_t id;

    start(4, 1, COUNTER_MAX);
    near_end->usage_limit = 3;
    CHECK(!send_one(near_end, far_end, &id));
    CHECK(send_one(near_end, far_end, &id) == DCO_KEY_TURNED);
    CHECK(send_one(far_end, near_end, &id) == DCO_KEY_TURNED);
    CHECK(send_one(near_end, far_end, &id) == DCO_KEY_NO_ID && send_epoch(near_end) == 2);
    refill();
    CHECK(send_one(near_end, far_end, &id) == DCO_KEY_TURNED && send_epoch(near_end) == 3);
    stop();
}

/* The refiller is woken once for all that was wanted since it last looked. */
static void wakes_once(void)
{
    struct dco_epochs_opened opened = {0};
    uint8_t packet[PACKET];
    uint64_t id;

    start(4, 1, 1);
    for (int round = 0; round < 3; round++) {
        for (uint32_t step = 1; step <= 4; step++) {
            forge((uint32_t)round * 4 + 1 + step, 1, packet);
            CHECK(!dco_epochs_open(far_end->epochs, packet, PACKET, 1, &opened));
            CHECK(opened.moved && opened.wake == (step == 1));
            CHECK(dco_epochs_wanting(far_end->epochs));
        }
        CHECK(dco_key_take_id(far_end, PLAIN, &id) == DCO_KEY_TURNED);
        refill();
        CHECK(!dco_epochs_wanting(far_end->epochs));
        CHECK(dco_key_take_id(far_end, PLAIN, &id) == (DCO_KEY_TURNED | DCO_KEY_WAKE));
        refill();
    }
    stop();
}

/* Behind a peer that is several epochs ahead the sender goes there by the keys it has. */
static void follows_a_jump(void)
{
    uint64_t id;

    start(4, 1, 1);
    CHECK(!open_at_far(5, 1));
    CHECK(send_one(far_end, near_end, &id) == DCO_KEY_TURNED && send_epoch(far_end) == 2);
    CHECK(!send_one(far_end, near_end, &id) && send_epoch(far_end) == 2 && id == 2);
    refill();
    CHECK(send_one(far_end, near_end, &id) == DCO_KEY_TURNED && send_epoch(far_end) == 5);
    CHECK(id == 1 && receive_epoch(near_end) == 5);
    refill();
    CHECK(!send_one(far_end, near_end, &id) && send_epoch(far_end) == 5);
    stop();
}

static void last_epoch(void)
{
    uint64_t id;

    start(4, DCO_EPOCH_MAX - 1, COUNTER_MAX);
    CHECK(send_one(near_end, far_end, &id) == DCO_KEY_SOON);
    CHECK(send_one(near_end, far_end, &id) == (DCO_KEY_TURNED | DCO_KEY_SOON));
    CHECK(send_epoch(near_end) == DCO_EPOCH_MAX && receive_epoch(far_end) == DCO_EPOCH_MAX);
    CHECK(send_one(far_end, near_end, &id) == (DCO_KEY_TURNED | DCO_KEY_SOON));
    refill();
    refill();
    near_end->counter.next = COUNTER_MAX;
    CHECK(send_one(near_end, far_end, &id) == DCO_KEY_SOON && id == COUNTER_MAX);
    for (int i = 0; i < 3; i++)
        CHECK(send_one(near_end, far_end, &id) == (DCO_KEY_NO_ID | DCO_KEY_SPENT));
    CHECK(send_epoch(near_end) == DCO_EPOCH_MAX);
    stop();
}

static void soon_from_0xf000(void)
{
    uint64_t id;

    start(4, DCO_EPOCH_SOON - 1, COUNTER_MAX);
    CHECK(!send_one(near_end, far_end, &id));
    CHECK(send_one(near_end, far_end, &id) == (DCO_KEY_TURNED | DCO_KEY_SOON));
    stop();
}

static void no_usage_limit_for_chacha(void)
{
    struct dco_key_config config = config_of(DCO_CIPHER_CHACHA20_POLY1305, true);
    struct dco_key *key = key_new(&config);
    uint64_t id;

    dco_counter_set(&key->usage, UINT64_C(1) << 60);
    CHECK(!dco_key_take_id(key, 65535, &id) && id == 1);
    dco_key_free(key);
}

static void refusals(void)
{
    static const struct {
        size_t secret, key;
        uint32_t futures, first;
        uint64_t id;
    } bad[] = {
        {31, 32, 4, 1, 1},
        {33, 32, 4, 1, 1},
        {32, 31, 4, 1, 1},
        {32, 0, 4, 1, 1},
        {32, 32, 17, 1, 1},
        {32, 32, 4, 65536, 1},
        {32, 32, 4, 1, COUNTER_MAX + 1},
    };
    struct dco_key_config config = config_of(DCO_CIPHER_AES_GCM, true);
    struct dco_key *key;

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        config.encrypt_key_size = config.decrypt_key_size = bad[i].secret;
        config.epoch_key_size = bad[i].key;
        config.future_epochs = bad[i].futures;
        config.first_epoch = bad[i].first;
        config.first_packet_id = bad[i].id;
        CHECK(dco_key_new(&config, NULL, DCO_GCM_NONE, &key) == -EINVAL);
    }
    config = config_of(DCO_CIPHER_NONE, true);
    CHECK(dco_key_new(&config, NULL, DCO_GCM_NONE, &key) == -EINVAL);
    config = config_of(DCO_CIPHER_CHACHA20_POLY1305, true);
    config.epoch_key_size = 16;
    CHECK(dco_key_new(&config, NULL, DCO_GCM_NONE, &key) == -EINVAL);
}

int main(void)
{
    RUN(jumps);
    RUN(again_and_again);
    RUN(forgeries_move_nothing);
    RUN(late_packet_is_not_the_newest);
    RUN(late_refill_costs_packets_only);
    RUN(forgery_limit_of_each_epoch);
    RUN(turns_at_the_last_counter);
    RUN(turns_at_the_usage_limit);
    RUN(waits_for_the_peer);
    RUN(late_refill_of_the_sender);
    RUN(wakes_once);
    RUN(follows_a_jump);
    RUN(last_epoch);
    RUN(soon_from_0xf000);
    RUN(no_usage_limit_for_chacha);
    RUN(refusals);
    return 0;
}
