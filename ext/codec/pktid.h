/* Packet ids: the counter of what we send and the replay window of what we receive.
 *
 * One of each per key, and per epoch of a key in the epoch format, where ids have 48 bits. The counter belongs to the peer's home transmit thread, the window to its
 * home receive thread; neither needs a lock. */
#ifndef DCO_CODEC_PKTID_H
#define DCO_CODEC_PKTID_H

#include <stdbool.h>
#include <stdint.h>

#include "bounds.h"

#define DCO_PKTID_MAX UINT64_C(0xFFFFFFFF)

/* 64 bits wide although the wire has 32 or 48, so that it can never wrap into a repeated nonce. */
struct dco_pktid_counter {
    uint64_t next; /* from 1 to `last`; beyond it nothing is sent */
    uint64_t last; /* DCO_PKTID_MAX or DCO_EPOCH_COUNTER_MAX */
};

struct dco_pktid_window {
    uint64_t newest;   /* highest id accepted; 0: none yet */
    uint64_t floor;    /* ids at or below are refused: set after silence */
    uint32_t extent;   /* how far back the window reaches yet */
    uint64_t expiry_s; /* when silence will have lasted DCO_REPLAY_SILENCE_S */
    uint64_t seen[DCO_REPLAY_WINDOW / 64];
};

void dco_pktid_counter_init(struct dco_pktid_counter *counter, uint64_t first, uint64_t last);

/* The next id, or false when they are used up. */
static inline bool dco_pktid_next(struct dco_pktid_counter *counter, uint64_t *id)
{
    if (__builtin_expect(counter->next > counter->last, 0))
        return false;
    *id = counter->next++;
    return true;
}

void dco_pktid_window_init(struct dco_pktid_window *window);

/* Takes an authenticated id. True: fresh, and now marked as seen. */
bool dco_pktid_accept(struct dco_pktid_window *window, uint64_t id, uint64_t now_s);

#endif
