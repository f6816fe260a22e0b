/* A peer: who it is, where it is, its keys, its counters and what it has to tell. */
#ifndef DCO_PEERS_PEER_H
#define DCO_PEERS_PEER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "codec/bucket.h"
#include "dco.h"
#include "peers/keyslot.h"
#include "peers/limits.h"
#include "peers/lpm.h"
#include "peers/map.h"
#include "peers/permit.h"
#include "sync/counter.h"
#include "sync/rcu.h"
#include "sync/seqlock.h"

/* Where a peer is: its address, and ours that it talks to (family 0: let the kernel choose). */
struct dco_endpoint {
    struct dco_address remote, local;
};
#define DCO_ENDPOINT_WORDS (sizeof(struct dco_endpoint) / sizeof(uint64_t))

bool dco_address_equal(const struct dco_address *a, const struct dco_address *b);

/* What a peer has to tell waits in the peer itself, one record per kind: nothing is ever lost,
 * nothing is allocated, and memory is bounded. Guarded by the event queue's lock. */
enum dco_record_kind {
    DCO_RECORD_FLOATED,
    DCO_RECORD_FLOAT_REFUSED,
    DCO_RECORD_KEY_SOON,
    DCO_RECORD_KEY_EXHAUSTED,
    DCO_RECORD_LIMIT_REACHED,
    DCO_RECORD_DELETED,
    DCO_RECORD_KINDS,
};

struct dco_event_record {
    struct dco_event_record *next;
    struct dco_peer *peer; /* NULL: the record belongs to the device */
    enum dco_event_kind kind;
    bool queued;
    uint8_t key_id;
    uint8_t reason;
    uint8_t limits; /* all that were reached since it was read */
    int error;
    uint64_t transport;
    uint64_t sequence;
    struct dco_endpoint endpoint;
};

/* An entry of the by-address map. A float needs a fresh one, since readers may still stand on the
 * old: two take turns. Writers' (engine lock), except `busy`, which reclamation clears. */
struct dco_peer_address {
    struct dco_map_entry entry; /* value: the peer */
    atomic_bool busy;           /* in the map, or not yet passed by all threads */
};

/* What is done to a peer's packets beside the usual. The two paths look at one word; whatever is set
 * there is dealt with out of line, in engine/features.c. */
enum dco_peer_feature {
    DCO_PEER_FEATURE_TX_RATE = 1 << 0,
    DCO_PEER_FEATURE_RX_RATE = 1 << 1,
    DCO_PEER_FEATURE_LIMITS = 1 << 2, /* what is counted may reach one */
    DCO_PEER_FEATURE_MSS = 1 << 3,
    DCO_PEER_FEATURE_PATH = 1 << 4, /* something is known of what the path carries */
    DCO_PEER_FEATURE_FORWARD = 1 << 5,
};

struct dco_peer_rate {
    _Atomic uint64_t bits_per_s;
    _Atomic uint32_t burst_bytes;
};

struct dco_peer {
    struct dco_rcu_node rcu;
    /* fixed at creation */
    uint32_t id;
    uint64_t generation;
    unsigned home; /* the worker that alone seals and opens for it */
    struct dco_transport *transport;
    struct dco_engine *engine;

    /* written under the engine's lock, read by the threads */
    _Atomic uint32_t tx_id;
    _Atomic uint32_t features;           /* enum dco_peer_feature; nearly always 0 */
    _Atomic uint8_t source_check;        /* enum dco_source_check in effect, never INHERIT */
    atomic_bool no_groups;               /* gets no multicast and broadcast */
    _Atomic(struct dco_permit *) permit; /* to whom it may send; NULL: nobody */
    _Atomic uint32_t keepalive_interval_s, keepalive_timeout_s;
    _Atomic uint64_t keepalive_set_ns; /* both timers run from here at the earliest */
    _Atomic uint32_t single_above;     /* larger datagrams exceed the route MTU: no GSO for them */
    _Atomic uint8_t tos_copied;        /* bits of an inner TOS that the outer header gets */
    _Atomic uint8_t ecn;               /* enum dco_ecn */
    _Atomic uint32_t mss_clamp, mss_measure;
    _Atomic uint32_t path_limit;   /* outer bytes, as set; 0: unknown */
    _Atomic uint32_t path_learned; /* payload of the largest datagram, from ICMP; UINT32_MAX */
    _Atomic uint64_t path_learned_until_ns;
    struct dco_keyslots keys;
    struct dco_seqlock endpoint_lock;
    _Atomic uint64_t endpoint[DCO_ENDPOINT_WORDS];
    struct dco_peer_rate tx_rate, rx_rate;
    struct dco_limit_meter limits;

    /* engine lock */
    enum dco_source_check own_source_check;
    uint8_t vpn_ipv4[4], vpn_ipv6[16];
    bool dscp;
    struct dco_lpm_route *routes; /* VPN addresses and iroutes */
    struct dco_peer_address address[2];
    int address_current; /* which of the two is in the map; -1: none */
    struct dco_peer *previous, *next;
    bool dead;
    uint8_t delete_reason;

    /* transmit thread's */
    _Alignas(DCO_CACHE_LINE) dco_counter last_sent_ns;
#define X(name) dco_counter name;
    DCO_PEER_TX_COUNTERS(X)
    struct dco_bucket tx_bucket;

    /* receive thread's */
    _Alignas(DCO_CACHE_LINE) dco_counter last_received_ns;
    _Atomic uint64_t float_reported_ns;
    atomic_bool float_pending; /* moved again within the second: the timer reports it */
    DCO_PEER_RX_COUNTERS(X)
#undef X
    struct dco_bucket rx_bucket;

    /* any thread's, rare */
    _Alignas(DCO_CACHE_LINE) dco_counter link_errors;
    _Atomic uint32_t message_due; /* TCP: bytes of messages on their way to the queue */
    struct dco_event_record record[DCO_RECORD_KINDS];
};

/* Allocates; the endpoint and everything else is then set by the caller. NULL: out of memory. */
struct dco_peer *dco_peer_new(uint32_t id, uint64_t generation);
void dco_peer_free(struct dco_peer *peer);

void dco_peer_endpoint_read(const struct dco_peer *peer, struct dco_endpoint *endpoint);
void dco_peer_endpoint_write(struct dco_peer *peer, const struct dco_endpoint *endpoint);
/* A new endpoint: what was learned of the old path no longer counts. */
void dco_peer_path_reset(struct dco_peer *peer);
struct dco_crossed dco_peer_crossed(const struct dco_peer *peer);

static inline void dco_peer_set_feature(struct dco_peer *peer, enum dco_peer_feature feature,
                                        bool on)
{
    if (on)
        atomic_fetch_or(&peer->features, feature);
    else
        atomic_fetch_and(&peer->features, ~(uint32_t)feature);
}

void dco_peer_stats_read(const struct dco_peer *peer, struct dco_peer_stats *stats);

#endif
