/* Wire to inner packet: UDP receive, peer by id, open in place, checks, coalesce, TUN write. */
#ifndef DCO_ENGINE_RECEIVE_H
#define DCO_ENGINE_RECEIVE_H

#include "codec/gro.h"
#include "engine/engine.h"

/* The last destination that was looked up for a peer in this batch. */
struct dco_forward_memo {
    const struct dco_peer *source; /* NULL: none yet */
    uint8_t family;
    uint8_t ip[16];
    struct dco_peer *destination; /* NULL: nobody's */
    bool permitted;
    bool group;
};

/* A packet in the inbox, for a peer of the same worker. */
struct dco_forward_due {
    struct dco_peer *source, *destination;
    uint8_t *packet;
    uint32_t size;
};

struct dco_receive {
    struct dco_engine *engine;
    struct dco_worker *worker;
    struct dco_thread_stats stats;
    uint64_t now_ns;
    bool signal;     /* control packets were queued: tell once per batch */
    bool impatient;  /* the reader has been waited for once in this batch */
    uint32_t handed; /* bit n: worker n was given something in this batch */
    /* the last source address that was looked up in this batch, and its owner */
    uint8_t source_family;
    uint8_t source_ip[16];
    struct dco_peer *source_owner;
    struct dco_forward_memo memo;
    struct dco_forward_due due[DCO_TUN_BATCH];
    unsigned due_count;
    uint32_t forwarded;       /* bit n: worker n was given something to seal */
    uint32_t forwarded_bytes; /* since that was told */
    struct dco_udp_inbox inbox;
    struct dco_gro gro;
};

int dco_receive_new(struct dco_worker *worker, struct dco_receive **receive);
void dco_receive_free(struct dco_receive *receive);

/* One batch from a socket to the TUN. True: there may be more at once. */
bool dco_receive_batch(struct dco_receive *receive, struct dco_transport *transport);

/* One batch from a TCP connection to the TUN, likewise. */
bool dco_receive_stream(struct dco_receive *receive, struct dco_transport *transport);
/* The connection has a peer now: what was held back for it comes first. */
void dco_receive_release(struct dco_receive *receive, struct dco_transport *transport);

/* One batch of what other workers have received for peers of this one. True: there may be more. */
bool dco_receive_handed(struct dco_receive *receive);

/* --- for the files of the receive path --- */

/* What goes with a datagram from one worker to another. */
struct dco_received {
    uint64_t transport;
    uint8_t tos;
    struct dco_address remote, local;
};

static inline void dco_receive_drop(struct dco_receive *receive, enum dco_drop reason, uint64_t n)
{
    dco_stats_drop(&receive->stats, reason, n);
}

/* Packets of a peer that went no further. */
__attribute__((cold)) void dco_receive_lose(struct dco_receive *receive, struct dco_peer *peer,
                                            enum dco_drop reason, uint64_t packets);

/* Likewise `packets` that are not of the datagram at hand, or not only; the first is at `packet`. */
__attribute__((cold)) void dco_receive_lose_later(struct dco_receive *receive,
                                                  struct dco_peer *peer, enum dco_drop reason,
                                                  const uint8_t *packet, uint32_t size,
                                                  uint32_t packets);

/* Around what one system call brought: in between, packets stay where they are. */
void dco_receive_begin(struct dco_receive *receive);
void dco_receive_end(struct dco_receive *receive);

/* A data packet of a peer (NULL: there is none), from header to TUN; or to the peer's home. */
void dco_receive_data(struct dco_receive *receive, struct dco_transport *transport,
                      const struct dco_udp_train *train, struct dco_peer *peer, uint8_t *packet,
                      uint32_t size);

/* A packet for the control port. `peer_id` < 0: not from inside a data packet. */
void dco_receive_punt(struct dco_receive *receive, struct dco_transport *transport,
                      const struct dco_udp_train *train, int64_t peer_id, const uint8_t *data,
                      uint32_t size);

#endif
