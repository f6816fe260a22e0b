/* Multicast and broadcast, where a device is told to carry them: one packet becomes a copy for every
 * peer that has a key and does not refuse it. Each worker seals for its own peers, so a packet goes
 * to each of them once. How many copies a worker makes in a second is bounded. */
#ifndef DCO_ENGINE_GROUP_H
#define DCO_ENGINE_GROUP_H

#include "engine/receive.h"
#include "engine/transmit.h"

/* Whether the device carries groups, and the packet, whose destination no peer has, is for one: a
 * multicast address, or one that was reserved as broadcast. */
bool dco_group_holds(const struct dco_engine *engine, const uint8_t *packet);

/* From a peer: to all workers. It goes to the interface as well. */
void dco_group_forward(struct dco_receive *receive, const struct dco_peer *source,
                       const uint8_t *packet, uint32_t size);

/* transmit->gso, for the peers of this worker that `source` may reach (NULL: the host, all). */
void dco_group_seal(struct dco_transmit *transmit, const struct dco_peer *source);

#endif
