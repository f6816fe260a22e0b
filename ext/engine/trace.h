/* A trace: copies of packets with what became of them, for somebody who looks for the reason.
 *
 * While there is none the paths of packets find out once per batch, by one word of the engine. With
 * one, records go into a ring of whoever works: one for the holder of a worker's `sealing`, one for
 * its receive thread. What finds no room is counted, and nobody waits for a reader.
 *
 * A packet is copied before it is worked on, since it is opened in place, and becomes a record when
 * it is known what happened: every drop that is counted meanwhile is its own. */
#ifndef DCO_ENGINE_TRACE_H
#define DCO_ENGINE_TRACE_H

#include "engine/engine.h"
#include "engine/receive.h"
#include "engine/transmit.h"

/* Of one thread that works. */
struct dco_trace_lane {
    struct dco_ring ring;
    dco_counter lost;
    uint32_t turn;      /* grows by the share at each packet that has no id */
    uint8_t *held;      /* the packet that is being worked on, as it came: at most `snap` bytes */
    uint32_t held_size; /* bytes that it had */
    /* of a packet to be sealed, when it came */
    const struct dco_key *key; /* its peer's; NULL: it is another worker's, or nobody's */
    uint64_t next_id;          /* that the key would have given */
    uint64_t sealed;           /* packets that the key had sealed */
};

struct dco_trace {
    struct dco_trace_config config;
    struct dco_peer_ref peer[DCO_TRACE_PEERS_MAX];
    struct dco_bell bell;
    unsigned lanes; /* two for each worker: of who seals, and of its receive thread */
    struct dco_trace_lane *lane;
};

/* The trace that goes on; NULL: none. For threads that are online, until the end of the batch. */
static inline struct dco_trace *dco_trace_on(const struct dco_engine *engine)
{
    return atomic_load_explicit(&engine->trace, memory_order_acquire);
}

/* Around what is done to a packet from the interface, which is that many `packets`. `peer`: whose it
 * is, or NULL. `sealing` held. */
void dco_trace_transmit_begin(struct dco_trace *trace, struct dco_transmit *transmit,
                              const struct dco_peer *peer, const uint8_t *packet, uint32_t size);
void dco_trace_transmit_end(struct dco_trace *trace, struct dco_transmit *transmit,
                            const struct dco_peer *peer, uint32_t packets);

/* What has become of a message of datagrams; `drop`: why some failed. `sealing` held. */
void dco_trace_datagrams(struct dco_trace *trace, struct dco_transmit *transmit,
                         const struct dco_transport *transport,
                         const struct dco_udp_message *message, enum dco_drop drop);
/* Likewise of a run of frames, of which the last `lost` were not taken. */
void dco_trace_frames(struct dco_trace *trace, struct dco_transmit *transmit,
                      const struct dco_transport *transport, const struct dco_udp_message *message,
                      enum dco_drop drop, uint32_t lost);

/* A control packet that was not taken by a connection, which may be gone: NULL. `sealing` held. */
void dco_trace_control_lost(struct dco_trace *trace, struct dco_transmit *transmit,
                            const struct dco_transport *transport, const uint8_t *packet,
                            uint32_t size);

/* Around what is done to a datagram or frame. The receive thread. */
void dco_trace_receive_begin(struct dco_trace *trace, struct dco_receive *receive,
                             const uint8_t *packet, uint32_t size);
/* `peer`: whose it is, or NULL. `packet` has been opened in place, if it could be. */
void dco_trace_receive_end(struct dco_trace *trace, struct dco_receive *receive,
                           const struct dco_transport *transport, const struct dco_udp_train *train,
                           struct dco_peer *peer, const uint8_t *packet);

/* The interface did not take an inner packet, or super-packet, that was recorded as opened. */
void dco_trace_undelivered(struct dco_trace *trace, struct dco_receive *receive,
                           struct dco_peer *peer, const uint8_t *packet, uint32_t size,
                           enum dco_drop drop, uint32_t packets);

/* The engine is closed: whoever waits for records is woken. */
void dco_trace_close(struct dco_engine *engine);
/* Nobody uses the engine any more. */
void dco_trace_destroy(struct dco_engine *engine);

#endif
