#define _GNU_SOURCE
#include "engine/features.h"

#include <errno.h>

#include "codec/ecn.h"
#include "engine/forward.h"
#include "engine/path.h"

/* --- rate limit --- */

/* How many of `count` packets of `size` bytes may pass. A limit that is just being switched off
 * stops nothing. */
static uint32_t pass(struct dco_bucket *bucket, const struct dco_peer_rate *rate, uint64_t now_ns,
                     uint32_t size, uint32_t count)
{
    uint64_t bits_per_s = atomic_load_explicit(&rate->bits_per_s, memory_order_relaxed);
    uint32_t burst = atomic_load_explicit(&rate->burst_bytes, memory_order_relaxed);

    return bits_per_s ? dco_bucket_take(bucket, bits_per_s, burst, now_ns, size, count) : count;
}

/* Of a super-packet its first packets go, as far as the rate allows: a flow that loses its last ones
 * slows down, one that loses 60 KB at once stands still. All have one size, but for the last. */
static bool limit_transmit(struct dco_transmit *transmit, struct dco_peer *peer)
{
    struct dco_gso *gso = &transmit->gso;
    uint32_t count = dco_gso_count(gso), passed = 0, last = gso->size;

    if (count > 1) {
        uint32_t full = gso->header + gso->segment;
        passed = pass(&peer->tx_bucket, &peer->tx_rate, transmit->now_ns, full, count - 1);
        last -= (count - 1) * gso->segment;
    }
    if (passed == count - 1)
        passed += pass(&peer->tx_bucket, &peer->tx_rate, transmit->now_ns, last, 1);
    if (passed < count) {
        dco_transmit_drop(transmit, peer, DCO_DROP_TX_RATE_LIMIT, count - passed);
        if (passed)
            dco_gso_limit(gso, passed);
    }
    return passed;
}

static bool limit_receive(struct dco_receive *receive, struct dco_peer *peer, uint32_t size)
{
    if (pass(&peer->rx_bucket, &peer->rx_rate, receive->now_ns, size, 1))
        return true;
    dco_receive_lose(receive, peer, DCO_DROP_RX_RATE_LIMIT, 1);
    return false;
}

/* --- the two paths --- */

bool dco_features_transmit(struct dco_transmit *transmit, struct dco_peer *peer, uint32_t features)
{
    const struct dco_gso *gso = &transmit->gso;

    if (features & DCO_PEER_FEATURE_TX_RATE && !limit_transmit(transmit, peer))
        return false;
    if (features & (DCO_PEER_FEATURE_MSS | DCO_PEER_FEATURE_PATH) && !gso->protocol
        && dco_path_clamp(peer, gso->packet, gso->size, transmit->now_ns))
        dco_counter_add(&transmit->stats.mss_lowered, 1);
    if (!(features & DCO_PEER_FEATURE_PATH) || dco_path_transmit(transmit, peer))
        return true;
    if (features & DCO_PEER_FEATURE_LIMITS)
        dco_features_count(transmit->engine, peer, transmit->now_ns);
    return false;
}

bool dco_features_receive(struct dco_receive *receive, struct dco_peer *peer, uint32_t features,
                          uint8_t *packet, uint32_t size)
{
    if (features & DCO_PEER_FEATURE_RX_RATE && !limit_receive(receive, peer, size))
        return false;
    if (features & (DCO_PEER_FEATURE_MSS | DCO_PEER_FEATURE_PATH)
        && dco_path_clamp(peer, packet, size, receive->now_ns))
        dco_counter_add(&receive->stats.mss_lowered, 1);
    return !(features & DCO_PEER_FEATURE_FORWARD) || dco_forward(receive, peer, packet, size);
}

bool dco_features_copy(struct dco_transmit *transmit, struct dco_peer *peer, uint32_t size)
{
    if (!(dco_features(peer) & DCO_PEER_FEATURE_TX_RATE)
        || pass(&peer->tx_bucket, &peer->tx_rate, transmit->now_ns, size, 1))
        return true;
    dco_transmit_drop(transmit, peer, DCO_DROP_TX_RATE_LIMIT, 1);
    return false;
}

/* --- limits --- */

void dco_features_tell(struct dco_engine *engine, struct dco_peer *peer, uint32_t limits)
{
    struct dco_event_record news = {
        .kind = DCO_EVENT_LIMIT_REACHED,
        .limits = (uint8_t)limits,
    };

    if (limits)
        dco_events_post(&engine->events, &peer->record[DCO_RECORD_LIMIT_REACHED], &news);
}

void dco_features_count(struct dco_engine *engine, struct dco_peer *peer, uint64_t now_ns)
{
    dco_features_tell(engine, peer,
                      dco_limits_count(&peer->limits, now_ns, dco_peer_crossed(peer)));
}

/* --- settings --- */

static bool too_large(const struct dco_rate *rate)
{
    return rate->burst_bytes > DCO_RATE_BURST_MAX;
}

int dco_features_check(const struct dco_peer_config *config)
{
    if (config->present & DCO_PEER_RATE_LIMIT
        && (too_large(&config->tx_rate) || too_large(&config->rx_rate)))
        return -ERANGE;
    if (config->present & DCO_PEER_SOURCE_CHECK && config->source_check > DCO_SOURCE_CHECK_STRICT)
        return -ERANGE;
    return dco_path_check(config);
}

static void set_rate(struct dco_peer_rate *rate, const struct dco_rate *config)
{
    atomic_store_explicit(&rate->burst_bytes, config->burst_bytes, memory_order_relaxed);
    atomic_store_explicit(&rate->bits_per_s, config->bits_per_s, memory_order_relaxed);
}

static struct dco_rate get_rate(const struct dco_peer_rate *rate)
{
    return (struct dco_rate){
        .bits_per_s = atomic_load_explicit(&rate->bits_per_s, memory_order_relaxed),
        .burst_bytes = atomic_load_explicit(&rate->burst_bytes, memory_order_relaxed),
    };
}

/* What a new peer has, too. A connection has one TOS for all that it carries. */
static void set_marking(struct dco_peer *peer, const struct dco_peer_config *config)
{
    uint8_t copied = 0;

    if (config->present & DCO_PEER_MARKING) {
        atomic_store(&peer->ecn, (uint8_t)config->marking.ecn);
        peer->dscp = config->marking.dscp;
    }
    if (!peer->transport->stream && atomic_load(&peer->ecn) == DCO_ECN_NORMAL)
        copied |= DCO_TOS_ECN;
    if (!peer->transport->stream && peer->dscp)
        copied |= DCO_TOS_DSCP;
    atomic_store(&peer->tos_copied, copied);
}

static void set_limits(struct dco_peer *peer, const struct dco_limits *limits)
{
    struct dco_limits now;
    bool counts = false;

    dco_limits_set(&peer->limits, limits, dco_now_ns(), dco_peer_crossed(peer));
    dco_limits_describe(&peer->limits, &now);
    for (unsigned limit = 0; limit < DCO_LIMITS; limit++)
        counts |= limit != DCO_LIMIT_SESSION && now.value[limit];
    dco_peer_set_feature(peer, DCO_PEER_FEATURE_LIMITS, counts);
    dco_worker_kick(&peer->engine->worker[peer->home]);
}

void dco_features_apply(struct dco_peer *peer, const struct dco_peer_config *config)
{
    if (config->present & DCO_PEER_RATE_LIMIT) {
        set_rate(&peer->tx_rate, &config->tx_rate);
        set_rate(&peer->rx_rate, &config->rx_rate);
        dco_peer_set_feature(peer, DCO_PEER_FEATURE_TX_RATE, config->tx_rate.bits_per_s);
        dco_peer_set_feature(peer, DCO_PEER_FEATURE_RX_RATE, config->rx_rate.bits_per_s);
    }
    if (config->present & DCO_PEER_LIMITS)
        set_limits(peer, &config->limits);
    if (config->present & DCO_PEER_SOURCE_CHECK)
        peer->own_source_check = config->source_check;
    set_marking(peer, config);
    dco_path_apply(peer, config);
    if (config->present & DCO_PEER_NO_GROUPS)
        atomic_store_explicit(&peer->no_groups, config->no_groups, memory_order_relaxed);
    dco_features_settle(peer);
}

void dco_features_settle(struct dco_peer *peer)
{
    const struct dco_engine *engine = peer->engine;
    enum dco_source_check check = peer->own_source_check;

    if (engine->config.mode == DCO_MODE_P2P)
        check = DCO_SOURCE_CHECK_OFF;
    else if (check == DCO_SOURCE_CHECK_INHERIT)
        check = engine->source_check;
    atomic_store_explicit(&peer->source_check, check, memory_order_relaxed);
    dco_peer_set_feature(peer, DCO_PEER_FEATURE_FORWARD,
                         atomic_load_explicit(&engine->forwarding, memory_order_relaxed));
}

void dco_features_describe(const struct dco_peer *peer, struct dco_peer_config *config)
{
    config->tx_rate = get_rate(&peer->tx_rate);
    config->rx_rate = get_rate(&peer->rx_rate);
    config->source_check = peer->own_source_check;
    config->marking = (struct dco_marking){atomic_load(&peer->ecn), peer->dscp};
    dco_limits_describe(&peer->limits, &config->limits);
    config->no_groups = atomic_load_explicit(&peer->no_groups, memory_order_relaxed);
}
