/* From opened packets to the TUN: coalesced super-packets, one write each. */
#ifndef DCO_ENGINE_DELIVER_H
#define DCO_ENGINE_DELIVER_H

#include "engine/receive.h"

/* Forgets what was coalesced, and looks up what may be. */
void dco_deliver_reset(struct dco_receive *receive);

/* Takes an inner packet, which stays where it is until the flush. */
void dco_deliver_add(struct dco_receive *receive, struct dco_peer *peer, uint8_t *packet,
                     uint32_t size);

/* Writes everything. */
void dco_deliver_flush(struct dco_receive *receive);

#endif
