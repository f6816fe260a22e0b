/* Inner packet to wire: TUN read, peer by longest prefix, split and seal in one pass, GSO send; or a
 * run of frames for a TCP connection. */
#ifndef DCO_ENGINE_TRANSMIT_H
#define DCO_ENGINE_TRANSMIT_H

#include "codec/bucket.h"
#include "codec/gso.h"
#include "engine/engine.h"

struct dco_forward_due;

struct dco_transmit {
    struct dco_engine *engine;
    struct dco_worker *worker;
    struct dco_thread_stats stats;
    uint64_t now_ns;
    uint8_t *arena;  /* packets as read from the TUN */
    uint8_t *sealed; /* packets for the wire, one behind the other */
    uint32_t sealed_size;
    unsigned messages;
    bool growing;  /* the last message may take another datagram of its size */
    uint16_t head; /* first two bytes of the inner packet, which hold its TOS; 0: there is none */
    uint8_t tos, tos_copied; /* this TOS, and which bits of it may be copied */
    bool loose;              /* datagrams may be fragmented on their way */
    uint32_t handed;         /* bit n: worker n was given something in this batch */
    struct dco_bucket icmp;  /* errors that may be written */
    struct dco_udp_message message[DCO_SEND_MESSAGES];
    struct dco_transport *transport[DCO_SEND_MESSAGES];
    struct dco_udp_outbox outbox;
    struct dco_gso gso;
    bool from_peer;           /* what is in hand has come from a peer, not by the interface */
    struct dco_bucket copies; /* of multicast and broadcast that may be made */
};

int dco_transmit_new(struct dco_worker *worker, struct dco_transmit **transmit);
void dco_transmit_free(struct dco_transmit *transmit);

/* One batch from the TUN to the sockets. True: there may be more at once. */
bool dco_transmit_batch(struct dco_transmit *transmit);

/* One batch of what other workers have read for peers of this one. True: there may be more. */
bool dco_transmit_handed(struct dco_transmit *transmit);

/* From the API, under the engine's lock: the worker is to send a control packet. False: no room. */
bool dco_transmit_order(struct dco_worker *worker, uint64_t transport, const void *packet,
                        size_t size);

/* Likewise, a message to a peer whose home it is. False: no room. */
bool dco_transmit_message(struct dco_worker *worker, const struct dco_peer *peer, const void *data,
                          size_t size);
/* What a message may take of the queue of a connection. */
uint32_t dco_transmit_message_bytes(size_t size);

/* Counts packets that went no further; of the peer, too, unless it is NULL. */
__attribute__((cold)) void dco_transmit_drop(struct dco_transmit *transmit, struct dco_peer *peer,
                                             enum dco_drop reason, uint64_t packets);

/* Seals what is left of transmit->gso. */
void dco_transmit_segments(struct dco_transmit *transmit, struct dco_peer *peer,
                           struct dco_key *key);

/* An IP packet of our own to whatever peer owns its destination. */
bool dco_transmit_reply(struct dco_transmit *transmit, const uint8_t *packet, uint32_t size);

/* From the receive thread of `worker`: a packet for a peer, or for the peers of worker number `home`
 * that `source` may reach. Not announced yet. False: no room. */
bool dco_transmit_forward(struct dco_worker *worker, const struct dco_peer *peer,
                          const uint8_t *packet, uint32_t size);
/* The same for peers of the worker itself, at once. `sealing` held; the thread is online. False, and
 * nothing is done: earlier ones still wait in the ring, and these go behind them. */
bool dco_transmit_due(struct dco_transmit *transmit, const struct dco_forward_due *due,
                      unsigned count);
bool dco_transmit_group(struct dco_worker *worker, unsigned home, const struct dco_peer *source,
                        const uint8_t *packet, uint32_t size);

/* Seals one payload that is no packet from the TUN (a keepalive); to be flushed. False: that could
 * not be, and is counted as one packet. */
bool dco_transmit_seal(struct dco_transmit *transmit, struct dco_peer *peer, const uint8_t *data,
                       uint32_t size);
/* The same with an IP packet (a fragment of one). */
bool dco_transmit_packet(struct dco_transmit *transmit, struct dco_peer *peer,
                         const uint8_t *packet, uint32_t size);

#endif
