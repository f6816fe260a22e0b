/* What a trace tells of super-packets and of their datagrams: how many they were, what became of
 * each, and the packet ids that they took. */
#define _GNU_SOURCE
#include <errno.h>
#include <sys/syscall.h>

#include "engine/transmit.h"
#include "tests/engines.h"
#include "tests/packets.h"

#define SEGMENT 1000u               /* bytes of TCP payload */
#define INNER (20u + 20u + SEGMENT) /* of a full segment with its headers */
#define OUTER (INNER + 24u)         /* of its datagram */

/* --- a kernel that splits nothing, and does not send every datagram --- */

static bool refuses;
static uint64_t refused;   /* bit n: datagram n */
static unsigned datagrams; /* tried */

int sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags)
{
    if (!refuses)
        return (int)syscall(SYS_sendmmsg, fd, messages, count, flags);
    errno = EINVAL;
    return -1;
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    if (refuses && (message->msg_iov->iov_len > OUTER || refused >> datagrams++ & 1)) {
        errno = message->msg_iov->iov_len > OUTER ? EINVAL : EPERM;
        return -1;
    }
    return syscall(SYS_sendmsg, fd, message, flags);
}

/* --- a side that is looked at --- */

struct watched {
    struct side near, far;
    struct dco_trace_record record[16];
    unsigned records;
};

static struct dco_peer *peer_of(struct watched *w)
{
    return dco_engine_find(w->near.engine, (struct dco_peer_ref){.id = 7});
}

static struct dco_key *key_of(struct watched *w)
{
    return dco_keyslots_get(&peer_of(w)->keys, DCO_SLOT_PRIMARY);
}

static void watch(struct watched *w, uint32_t points)
{
    struct dco_trace_config config = {.points = points, .snap = 64, .ring_size = 1 << 16};
    int fd;

    memset(w, 0, sizeof *w);
    open_side(&w->near, 1, true);
    open_side(&w->far, 2, true);
    add_peer(&w->near, &w->far);
    CHECK(!dco_trace_start(w->near.engine, &config, &fd));
    dco_rcu_online(&w->near.engine->rcu, w->near.engine->worker->transmit_reader);
}

static void set_peer(struct watched *w, struct dco_peer_config config)
{
    CHECK(!dco_peer_set(w->near.engine, (struct dco_peer_ref){.id = 7}, &config));
}

static void transmit(struct watched *w, const struct dco_vnet *vnet, const uint8_t *packet,
                     size_t size)
{
    struct iovec iov[2] = {{(void *)vnet, sizeof *vnet}, {(void *)packet, size}};
    struct msghdr message = {.msg_iov = iov, .msg_iovlen = 2};
    uint8_t data[64];

    CHECK(syscall(SYS_sendmsg, w->near.inner, &message, 0) == (ssize_t)(sizeof *vnet + size));
    dco_transmit_batch(w->near.engine->worker->transmit);
    for (w->records = 0; w->records < 16; w->records++)
        if (!dco_trace_read(w->near.engine, &w->record[w->records], data, sizeof data))
            break;
}

/* `payload` bytes of TCP, to be split. */
static void transmit_super(struct watched *w, unsigned payload)
{
    static uint8_t packet[65536];
    struct packet_spec spec = spec_of(4, TCP);
    struct dco_vnet vnet = vnet_of(&spec, SEGMENT);

    spec.options = 0;
    spec.payload = payload;
    transmit(w, &vnet, packet, make_packet(packet, &spec));
}

static void end(struct watched *w)
{
    dco_rcu_offline(&w->near.engine->rcu, w->near.engine->worker->transmit_reader);
    close_side(&w->near);
    close_side(&w->far);
}

static bool is(const struct dco_trace_record *record, uint64_t packet_id, uint32_t packets,
               uint32_t lost, enum dco_drop drop)
{
    return record->format != DCO_TRACE_NO_ID && record->packet_id == packet_id
           && record->packets == packets && record->lost == lost && record->drop == drop;
}

/* --- what came from the interface --- */

static void all_segments_went(void)
{
    struct watched w;

    watch(&w, DCO_TRACE_TX_INNER);
    transmit_super(&w, 10 * SEGMENT);
    CHECK(w.records == 1 && is(w.record, 1, 10, 0, DCO_DROP_NONE));
    transmit_super(&w, 3 * SEGMENT);
    CHECK(w.records == 1 && is(w.record, 11, 3, 0, DCO_DROP_NONE));
    end(&w);
}

static void only_the_first_segments_went(void)
{
    struct watched w;

    watch(&w, DCO_TRACE_TX_INNER);
    set_peer(&w, (struct dco_peer_config){.present = DCO_PEER_RATE_LIMIT,
                                          .tx_rate = {.bits_per_s = 8, .burst_bytes = 3 * INNER}});
    transmit_super(&w, 10 * SEGMENT);
    CHECK(w.records == 1 && is(w.record, 1, 10, 7, DCO_DROP_TX_RATE_LIMIT));
    transmit_super(&w, 10 * SEGMENT);
    CHECK(w.records == 1 && w.record->format == DCO_TRACE_NO_ID);
    CHECK(w.record->packets == 10 && w.record->lost == 10);
    end(&w);
}

static void a_packet_in_fragments_is_one(void)
{
    static const struct dco_vnet plain;
    struct packet_spec spec = spec_of(4, UDP);
    uint8_t packet[2000];
    struct watched w;

    watch(&w, DCO_TRACE_TX_INNER);
    set_peer(&w, (struct dco_peer_config){.present = DCO_PEER_PATH_LIMIT, .path_limit = 600});
    spec.df = false;
    spec.payload = 1200;
    transmit(&w, &plain, packet, make_packet(packet, &spec));
    CHECK(key_of(&w)->counter.next > 3);
    CHECK(w.records == 1 && is(w.record, 1, 1, 0, DCO_DROP_NONE));
    end(&w);
}

static void what_is_malformed_is_one(void)
{
    static const struct dco_vnet plain;
    static const uint8_t packet[30] = {[0] = 0x4F, [16] = 10, [17] = 8, [19] = 2};
    struct watched w;

    watch(&w, DCO_TRACE_TX_INNER);
    transmit_super(&w, 10 * SEGMENT);
    transmit(&w, &plain, packet, sizeof packet);
    CHECK(w.records == 1 && w.record->format == DCO_TRACE_NO_ID);
    CHECK(w.record->packets == 1 && w.record->lost == 1);
    CHECK(w.record->drop == DCO_DROP_TX_MALFORMED);
    end(&w);
}

static void the_epoch_turns_before_or_amid(void)
{
    static const uint8_t secret[32] = {1};
    struct dco_key_config config = {
        .cipher = DCO_CIPHER_AES_GCM,
        .encrypt_key = secret,
        .decrypt_key = secret,
        .encrypt_key_size = sizeof secret,
        .decrypt_key_size = sizeof secret,
        .epoch_key_size = 32,
        .future_epochs = 4,
    };
    struct watched w;

    watch(&w, DCO_TRACE_TX_INNER);
    CHECK(
        !dco_key_install(w.near.engine, (struct dco_peer_ref){.id = 7}, DCO_SLOT_PRIMARY, &config));
    key_of(&w)->counter.next = key_of(&w)->counter.last - 2;
    transmit_super(&w, 10 * SEGMENT);
    CHECK(key_of(&w)->counter.next == 8);
    CHECK(w.records == 1);
    CHECK(is(w.record, UINT64_C(1) << 48 | (DCO_EPOCH_COUNTER_MAX - 2), 10, 0, DCO_DROP_NONE));
    end(&w);

    watch(&w, DCO_TRACE_TX_INNER);
    CHECK(
        !dco_key_install(w.near.engine, (struct dco_peer_ref){.id = 7}, DCO_SLOT_PRIMARY, &config));
    key_of(&w)->counter.next = key_of(&w)->counter.last + 1;
    transmit_super(&w, 10 * SEGMENT);
    CHECK(w.records == 1 && is(w.record, UINT64_C(2) << 48 | 1, 10, 0, DCO_DROP_NONE));
    end(&w);
}

/* --- what went out --- */

static void just_those_datagrams_are_lost_that_were_refused(void)
{
    struct dco_peer_info info;
    struct watched w;

    watch(&w, DCO_TRACE_TX_OUTER);
    refuses = true;
    refused = 1u << 1 | 1u << 4;
    transmit_super(&w, 4 * SEGMENT + 100);
    refuses = false;
    CHECK(datagrams == 5 && w.records == 5);
    for (unsigned i = 0; i < 5; i++) {
        bool lost = refused >> i & 1;
        CHECK(is(&w.record[i], i + 1, 1, lost, lost ? DCO_DROP_TX_SEND : DCO_DROP_NONE));
    }
    CHECK(!dco_peer_query(w.near.engine, (struct dco_peer_ref){.id = 7}, &info));
    CHECK(info.stats.link_tx_packets == 3 && info.stats.tx_dropped == 2);
    CHECK(info.stats.link_tx_bytes == 3 * OUTER);
    end(&w);
}

int main(void)
{
    RUN(all_segments_went);
    RUN(only_the_first_segments_went);
    RUN(a_packet_in_fragments_is_one);
    RUN(what_is_malformed_is_one);
    RUN(the_epoch_turns_before_or_amid);
    RUN(just_those_datagrams_are_lost_that_were_refused);
    return 0;
}
