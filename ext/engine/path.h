/* What the way to a peer carries: the limits that were set or learned, the MSS that follows, and what
 * is done about packets beyond them, which is what a router does (RFC 1191, RFC 2473 section 7).
 *
 * Over TCP a path has no limit: the connection makes its own segments. */
#ifndef DCO_ENGINE_PATH_H
#define DCO_ENGINE_PATH_H

#include "engine/receive.h"
#include "engine/transmit.h"

/* Lowers the MSS of a packet that passes, in either direction. True: it was lowered. */
bool dco_path_clamp(struct dco_peer *peer, uint8_t *packet, uint32_t size, uint64_t now_ns);

/* The packets of transmit->gso. False: they do not fit and were seen to otherwise: sent in fragments,
 * or answered with ICMP, dropped and counted. */
bool dco_path_transmit(struct dco_transmit *transmit, struct dco_peer *peer);

/* A router, or the kernel, says that a datagram to the peer was too big. From any thread. */
void dco_path_learn(struct dco_peer *peer, const struct dco_udp_error *error, uint64_t now_ns);

/* --- settings: under the engine's lock --- */

int dco_path_check(const struct dco_peer_config *config);
void dco_path_apply(struct dco_peer *peer, const struct dco_peer_config *config);
void dco_path_describe(const struct dco_peer *peer, uint64_t now_ns, struct dco_peer_info *info);
/* What another engine had learned. */
void dco_path_import(struct dco_peer *peer, const struct dco_peer_info *info);

#endif
