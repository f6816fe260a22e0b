/* What is sealed, on its way out: datagrams of one size to one place become one message, frames for a
 * connection one run. `sealing` held. */
#ifndef DCO_ENGINE_OUTGOING_H
#define DCO_ENGINE_OUTGOING_H

#include "engine/transmit.h"

/* Room for one more datagram, or frame with its prefix, of `size` bytes at transmit->sealed +
 * transmit->sealed_size. Then exactly one of the two that follow. */
enum dco_drop dco_outgoing_reserve(struct dco_transmit *transmit, struct dco_peer *peer,
                                   uint32_t size);
/* It was written. */
void dco_outgoing_commit(struct dco_transmit *transmit, uint32_t size);
/* It was not. */
void dco_outgoing_cancel(struct dco_transmit *transmit);

/* What is reserved from now on may be fragmented on its way, whatever the socket says; or not. */
void dco_outgoing_loosen(struct dco_transmit *transmit, bool on);

/* Sends everything, in as few system calls as sizes and destinations allow. */
void dco_outgoing_flush(struct dco_transmit *transmit);

/* A connection has room again: what waits goes on. */
void dco_outgoing_resume(struct dco_transmit *transmit, struct dco_transport *transport);

/* A control packet that the API has ordered, for a connection that may have gone. */
void dco_outgoing_control(struct dco_transmit *transmit, uint64_t id, const uint8_t *packet,
                          uint32_t size);

#endif
