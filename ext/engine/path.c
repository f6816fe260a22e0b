#define _GNU_SOURCE
#include "engine/path.h"

#include <errno.h>

#include "codec/fragment.h"
#include "codec/ip.h"
#include "codec/mss.h"
#include "codec/tcpframe.h"
#include "engine/answer.h"
#include "engine/outgoing.h"

#define NO_LIMIT UINT32_MAX
#define UDP_HEADER 8u
#define TCP_HEADER 20u

/* --- sizes --- */

static bool over_ipv6(const struct dco_peer *peer)
{
    struct dco_endpoint endpoint;

    dco_peer_endpoint_read(peer, &endpoint);
    return endpoint.remote.family == AF_INET6;
}

/* What stands before a datagram, or before what a connection carries. */
static uint32_t outer_headers(const struct dco_peer *peer)
{
    return (over_ipv6(peer) ? DCO_IPV6_HEADER : DCO_IPV4_HEADER)
           + (peer->transport->stream ? TCP_HEADER : UDP_HEADER);
}

/* What is around an inner packet. The two formats of keys differ. */
static uint32_t overhead(const struct dco_peer *peer)
{
    const struct dco_key *key = dco_keyslots_get(&peer->keys, DCO_SLOT_PRIMARY);

    return (key ? dco_key_overhead(key) : DCO_WIRE_OVERHEAD)
           + (peer->transport->stream ? DCO_TCPFRAME_PREFIX : 0);
}

static uint32_t less(uint32_t size, uint32_t part)
{
    return size > part ? size - part : 0;
}

static uint32_t min32(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static uint32_t learned(const struct dco_peer *peer, uint64_t now_ns)
{
    uint64_t until = atomic_load_explicit(&peer->path_learned_until_ns, memory_order_relaxed);

    return now_ns < until ? atomic_load_explicit(&peer->path_learned, memory_order_relaxed)
                          : NO_LIMIT;
}

/* Payload of the largest datagram that gets through. No link of IPv6 carries less than 1280. */
static uint32_t datagram_max(const struct dco_peer *peer, uint64_t now_ns)
{
    uint32_t set = atomic_load_explicit(&peer->path_limit, memory_order_relaxed);

    if (peer->transport->stream)
        return NO_LIMIT;
    if (!set)
        return learned(peer, now_ns);
    if (set < DCO_PATH_MTU_MIN_IPV6 && over_ipv6(peer))
        set = DCO_PATH_MTU_MIN_IPV6;
    return min32(set - outer_headers(peer), learned(peer, now_ns));
}

/* The largest inner packet that goes in one datagram. */
static uint32_t inner_max(const struct dco_peer *peer, uint64_t now_ns)
{
    uint32_t datagram = datagram_max(peer, now_ns);

    return datagram == NO_LIMIT ? NO_LIMIT : datagram - overhead(peer);
}

/* The largest packet that TCP should make. */
static uint32_t segment_max(const struct dco_peer *peer, uint64_t now_ns)
{
    uint32_t clamp = atomic_load_explicit(&peer->mss_clamp, memory_order_relaxed);
    uint32_t limit = inner_max(peer, now_ns);

    if (clamp) {
        switch (atomic_load_explicit(&peer->mss_measure, memory_order_relaxed)) {
        case DCO_MEASURE_OUTER: clamp = less(clamp, outer_headers(peer)); /* fall through */
        case DCO_MEASURE_DATAGRAM: clamp = less(clamp, overhead(peer));
        }
        limit = min32(limit, clamp);
    }
    return limit > DCO_SEGMENT_MIN ? limit : DCO_SEGMENT_MIN;
}

/* --- packets --- */

bool dco_path_clamp(struct dco_peer *peer, uint8_t *packet, uint32_t size, uint64_t now_ns)
{
    return dco_mss_may_be_syn(packet, size)
           && dco_mss_clamp(packet, size, segment_max(peer, now_ns));
}

/* Hosts of IPv6 need not send less than 1280 bytes, whatever they are told (RFC 8200, section 5), so
 * packets up to that are carried in fragments (RFC 2473, section 7.1). */
static void send_loosely(struct dco_transmit *transmit, struct dco_peer *peer)
{
    struct dco_key *key = dco_keyslots_get(&peer->keys, DCO_SLOT_PRIMARY);

    dco_outgoing_loosen(transmit, true);
    if (key)
        dco_transmit_segments(transmit, peer, key);
    else
        dco_transmit_drop(transmit, peer, DCO_DROP_TX_NO_KEY, dco_gso_count(&transmit->gso));
    dco_outgoing_loosen(transmit, false);
}

static void refuse(struct dco_transmit *transmit, struct dco_peer *peer, uint32_t limit)
{
    dco_transmit_drop(transmit, peer, DCO_DROP_TX_TOO_BIG, dco_gso_count(&transmit->gso));
    dco_answer(transmit, DCO_ICMP_TOO_BIG, limit);
}

/* A packet counts as one, in however many pieces it leaves. */
static void send_fragments(struct dco_transmit *transmit, struct dco_peer *peer, uint32_t limit)
{
    struct dco_fragment fragment;
    uint8_t *segment, *piece;
    uint32_t size, bytes;

    while (dco_gso_next(&transmit->gso, &segment, &size)) {
        bool sealed = true;
        if (!dco_fragment_begin(&fragment, segment, size, limit)) {
            dco_transmit_drop(transmit, peer, DCO_DROP_TX_MALFORMED, 1);
            continue;
        }
        while (sealed && dco_fragment_next(&fragment, &piece, &bytes))
            sealed = dco_transmit_packet(transmit, peer, piece, bytes);
        if (sealed) {
            dco_counter_add(&peer->vpn_tx_bytes, size);
            dco_counter_add(&peer->vpn_tx_packets, 1);
            dco_counter_add(&transmit->stats.packets_fragmented, size > limit);
        }
    }
}

bool dco_path_transmit(struct dco_transmit *transmit, struct dco_peer *peer)
{
    struct dco_gso *gso = &transmit->gso;
    uint32_t limit = inner_max(peer, transmit->now_ns);
    uint32_t size = gso->protocol ? min32(gso->header + gso->segment, gso->size) : gso->size;

    if (limit == NO_LIMIT) { /* what was learned is too old: the next large one is the probe */
        dco_peer_path_reset(peer);
        return true;
    }
    if (size <= limit)
        return true;
    if (gso->ip_version == 4 && !(dco_load16(gso->packet + 6) & DCO_IPV4_DF))
        send_fragments(transmit, peer, limit);
    else if (gso->ip_version == 6 && size <= DCO_PATH_MTU_MIN_IPV6)
        send_loosely(transmit, peer);
    else
        refuse(transmit, peer, limit);
    return false;
}

/* --- what is learned --- */

/* Only a shorter way is believed: that it has become longer shows when this is too old. */
void dco_path_learn(struct dco_peer *peer, const struct dco_udp_error *error, uint64_t now_ns)
{
    bool ipv4 = error->remote.family == AF_INET;
    uint32_t least = ipv4 ? DCO_PATH_MTU_MIN_IPV4 : DCO_PATH_MTU_MIN_IPV6;
    uint32_t headers = (ipv4 ? DCO_IPV4_HEADER : DCO_IPV6_HEADER) + UDP_HEADER;

    if (error->mtu < least || error->mtu - headers > learned(peer, now_ns))
        return;
    atomic_store(&peer->path_learned, error->mtu - headers);
    atomic_store(&peer->path_learned_until_ns, now_ns + DCO_PATH_MTU_LIFE_NS);
    atomic_fetch_or(&peer->features, DCO_PEER_FEATURE_PATH);
}

/* --- settings --- */

int dco_path_check(const struct dco_peer_config *config)
{
    if (config->present & DCO_PEER_MSS_CLAMP
        && (config->mss_clamp > DCO_IP_PACKET_MAX || config->mss_measure > DCO_MEASURE_INNER))
        return -ERANGE;
    if (config->present & DCO_PEER_PATH_LIMIT && config->path_limit
        && (config->path_limit < DCO_PATH_MTU_MIN_IPV4 || config->path_limit > DCO_IP_PACKET_MAX))
        return -ERANGE;
    return 0;
}

void dco_path_apply(struct dco_peer *peer, const struct dco_peer_config *config)
{
    if (config->present & DCO_PEER_MSS_CLAMP) {
        atomic_store(&peer->mss_measure, config->mss_measure);
        atomic_store(&peer->mss_clamp, config->mss_clamp);
        dco_peer_set_feature(peer, DCO_PEER_FEATURE_MSS, config->mss_clamp);
    }
    if (config->present & DCO_PEER_PATH_LIMIT) {
        atomic_store(&peer->path_limit, config->path_limit);
        dco_peer_set_feature(peer, DCO_PEER_FEATURE_PATH,
                             (config->path_limit && !peer->transport->stream)
                                 || atomic_load(&peer->path_learned) != NO_LIMIT);
    }
}

void dco_path_describe(const struct dco_peer *peer, uint64_t now_ns, struct dco_peer_info *info)
{
    uint32_t datagram = datagram_max(peer, now_ns), segment = segment_max(peer, now_ns);
    uint32_t from_icmp = learned(peer, now_ns);

    info->config.mss_clamp = atomic_load(&peer->mss_clamp);
    info->config.mss_measure = atomic_load(&peer->mss_measure);
    info->config.path_limit = atomic_load(&peer->path_limit);
    info->path_mtu = datagram == NO_LIMIT ? 0 : datagram + outer_headers(peer);
    info->mss = segment == NO_LIMIT ? 0 : segment - DCO_MSS_HEADERS_IPV4;
    info->learned = from_icmp == NO_LIMIT ? 0 : from_icmp;
    info->learned_until_ns = atomic_load(&peer->path_learned_until_ns);
}

void dco_path_import(struct dco_peer *peer, const struct dco_peer_info *info)
{
    if (!info->learned)
        return;
    atomic_store(&peer->path_learned, info->learned);
    atomic_store(&peer->path_learned_until_ns, info->learned_until_ns);
    atomic_fetch_or(&peer->features, DCO_PEER_FEATURE_PATH);
}
