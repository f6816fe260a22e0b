/* From peer to peer without the host between them, where a device is told so: a packet that has passed
 * all checks of its sender goes to the transmit thread of its destination's home, as it is. Its TTL
 * stays, as between hosts on one link: it never goes back to where it came from, and whatever
 * router a peer is counts for itself.
 *
 * What is for nobody goes to the interface; what is for a peer that the sender may not reach is
 * dropped. */
#ifndef DCO_ENGINE_FORWARD_H
#define DCO_ENGINE_FORWARD_H

#include "engine/receive.h"

/* A packet of `source`, IP by its first bytes and its size. True: it is for the interface. */
bool dco_forward(struct dco_receive *receive, struct dco_peer *source, uint8_t *packet,
                 uint32_t size);

/* Whether `source` may reach `destination`. */
bool dco_forward_permitted(const struct dco_engine *engine, const struct dco_peer *source,
                           const struct dco_peer *destination);

/* The end of a batch: nothing of it waits any more. */
void dco_forward_flush(struct dco_receive *receive);

#endif
