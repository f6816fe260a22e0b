/* What a peer's settings ask to be done to its packets, beside the usual: one word in the peer, which
 * is 0 for most, and everything else out of the way of those. */
#ifndef DCO_ENGINE_FEATURES_H
#define DCO_ENGINE_FEATURES_H

#include "engine/receive.h"
#include "engine/transmit.h"

/* For the two paths: once a super-packet and once a packet. */
static inline uint32_t dco_features(const struct dco_peer *peer)
{
    return atomic_load_explicit(&peer->features, memory_order_relaxed);
}

/* A super-packet of transmit->gso, before it is split; from the peer's home. False: none of it goes
 * on, and that is counted. In order: rate limit, MSS clamp, what the path carries. */
bool dco_features_transmit(struct dco_transmit *transmit, struct dco_peer *peer, uint32_t features);

/* A copy of a packet for many, at the peer's home. False: it does not go, and that is counted. */
bool dco_features_copy(struct dco_transmit *transmit, struct dco_peer *peer, uint32_t size);

/* A packet of the peer that has passed all checks, before it is delivered; from the peer's home.
 * False: it does not go on to the interface, which is counted. In order: rate limit, MSS clamp,
 * forwarding. */
bool dco_features_receive(struct dco_receive *receive, struct dco_peer *peer, uint32_t features,
                          uint8_t *packet, uint32_t size);

/* Packets of the peer have been counted, in either direction: whether that reaches a limit. */
void dco_features_count(struct dco_engine *engine, struct dco_peer *peer, uint64_t now_ns);
/* Limits that were reached; none is nothing. */
void dco_features_tell(struct dco_engine *engine, struct dco_peer *peer, uint32_t limits);

/* --- settings: under the engine's lock --- */

/* 0, or why the engine cannot take what `config` has of them. */
int dco_features_check(const struct dco_peer_config *config);
void dco_features_apply(struct dco_peer *peer, const struct dco_peer_config *config);
/* What follows for the peer from settings of the device. */
void dco_features_settle(struct dco_peer *peer);
void dco_features_describe(const struct dco_peer *peer, struct dco_peer_config *config);

#endif
