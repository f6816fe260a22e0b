/* ICMP errors about packets from the interface, written back into it, or of those from peer to peer, sent
 * back to the peer. */
#ifndef DCO_ENGINE_ANSWER_H
#define DCO_ENGINE_ANSWER_H

#include "codec/icmp.h"
#include "engine/transmit.h"

/* About the next packet of transmit->gso, of which nothing more can be taken then. As often as
 * DCO_ICMP_PER_S and the rules of ICMP allow; `mtu` is for DCO_ICMP_TOO_BIG. */
void dco_answer(struct dco_transmit *transmit, enum dco_icmp error, uint32_t mtu);

#endif
