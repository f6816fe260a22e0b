/* Coalesce: received packets of one flow become one super-packet for the TUN.
 *
 * Packets stay where they were opened; an item is the list of them, and is written as one vector:
 * offload header, first packet with patched headers, then the payloads of the others. Items keep
 * the order in which their first packets came, so that a flow is never reordered. */
#ifndef DCO_CODEC_GRO_H
#define DCO_CODEC_GRO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "bounds.h"
#include "codec/gso.h"

/* What a new packet is compared with stands first, close together; the rest of the comparison
 * is with the header of the item's newest packet, which has just been opened and is hot. */
struct dco_gro_item {
    void *owner;            /* only packets of one owner merge */
    uint32_t hash;          /* flow */
    uint32_t next_sequence; /* TCP: what must follow */
    uint32_t packets;       /* how many single packets; the vector has as many payload parts */
    uint32_t total;         /* length of the super-packet */
    uint32_t bytes;         /* sum of the inner lengths of the single packets, headers included */
    int16_t older;          /* next item of the bucket, or -1 */
    uint16_t segment;       /* payload bytes of each packet but the last */
    uint8_t header;         /* bytes of IP and transport header */
    uint8_t transport;      /* offset of the transport header */
    uint8_t protocol;       /* 0: never merges */
    bool open;              /* may still grow */
    bool verified;          /* checksums of the first packet have been verified */
    bool pushed;            /* TCP PSH seen on the last packet */
    bool patched;           /* header of the first packet has been rewritten */
    uint8_t saved[8];       /* what dco_gro_finish overwrote in the header: for dco_gro_undo */
    struct dco_vnet vnet;   /* offload header, from dco_gro_finish */
    uint8_t vnet_pad[6];    /* zeroes behind it: a TUN may be set to headers of up to 16 bytes */
    uint16_t part_size[DCO_GRO_SEGMENTS]; /* lengths of the packets, headers included */
    uint8_t *part[DCO_GRO_SEGMENTS];      /* the packets, IP header first */
};

#define DCO_GRO_BUCKETS 256u /* power of two */

struct dco_gro {
    uint32_t count;
    bool tcp, udp;                   /* which protocols to coalesce */
    int16_t barrier;                 /* items before it grow no more */
    int16_t bucket[DCO_GRO_BUCKETS]; /* newest item of the flow hash, or -1 */
    struct dco_gro_item item[DCO_GRO_ITEMS];
};

/* Empties the table. `tcp` and `udp` say what may be coalesced from here on. */
void dco_gro_reset(struct dco_gro *gro, bool tcp, bool udp);

/* Takes one inner packet (IP version and header length already checked). Any bytes are safe.
 * Returns false when the table is full: write it out, reset it, and add again. */
bool dco_gro_add(struct dco_gro *gro, uint8_t *packet, uint32_t size, void *owner);

/* Completes the headers of an item and fills `iov` (at least DCO_GRO_SEGMENTS + 1), offload header
 * included when `with_vnet`. Returns the number of parts. Without it only items of one packet are
 * legal. An item of one packet is not touched and has an offload header of zeroes. */
int dco_gro_finish(struct dco_gro_item *item, bool with_vnet, struct iovec *iov);

/* Restores the first packet's header and zeroes the offload header, so that the packets can be
 * written one at a time. */
void dco_gro_undo(struct dco_gro_item *item);

#endif
