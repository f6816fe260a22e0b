/* Split: a super-packet from the TUN becomes the packets that go on the wire.
 *
 * The headers are copied out once; each segment's header is then written just before its payload,
 * over the tail of the previous segment, which the caller must have sealed by then. So every
 * segment is one contiguous run of the caller's buffer, and nothing is copied. */
#ifndef DCO_CODEC_GSO_H
#define DCO_CODEC_GSO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "drops.h"

/* struct virtio_net_hdr of linux/virtio_net.h as TUN uses it: 10 bytes, native byte order. */
#define DCO_VNET_HEADER 10u
#define DCO_VNET_NEEDS_CSUM 1u /* flags */
#define DCO_VNET_GSO_NONE 0u   /* gso_type, from here on */
#define DCO_VNET_GSO_TCPV4 1u
#define DCO_VNET_GSO_TCPV6 4u
#define DCO_VNET_GSO_UDP_L4 5u
#define DCO_VNET_GSO_ECN 0x80u
struct dco_vnet {
    uint8_t flags;
    uint8_t gso_type;
    uint16_t hdr_len;
    uint16_t gso_size;
    uint16_t csum_start;
    uint16_t csum_offset;
};

/* Largest IP plus transport header that a super-packet may have: IPv4 or IPv6 with options or
 * extension headers, and a full TCP header. */
#define DCO_GSO_HEADER_MAX 256u

struct dco_gso {
    uint8_t *packet;        /* caller's buffer, IP header first */
    uint32_t size;          /* bytes of the whole super-packet */
    uint32_t payload;       /* of it behind the headers */
    uint32_t offset;        /* payload bytes already handed out */
    uint16_t header;        /* bytes of IP and transport header together */
    uint16_t transport;     /* offset of the transport header */
    uint16_t segment;       /* payload bytes of a full segment */
    uint16_t id;            /* IPv4: identification of the next segment */
    uint32_t sequence;      /* TCP: sequence number of the next segment */
    uint32_t network_sum;   /* IPv4 header without what differs between segments */
    uint64_t transport_sum; /* pseudo-header and transport header, likewise */
    uint8_t protocol;       /* 0: a plain packet, handed out once as it is */
    uint8_t ip_version;
    uint8_t flags; /* TCP flags of the super-packet */
    bool done;
    uint8_t template[DCO_GSO_HEADER_MAX];
};

/* Takes a packet with its offload header; completes the checksum of one that needs no split.
 * Validates everything, since the lengths come from outside: returns DCO_DROP_NONE,
 * DCO_DROP_TX_MALFORMED or DCO_DROP_TX_GSO. `vnet` may be NULL: a plain packet. */
enum dco_drop dco_gso_begin(struct dco_gso *gso, const struct dco_vnet *vnet, uint8_t *packet,
                            size_t size);

/* How many segments there will be (1 for a plain packet). */
uint32_t dco_gso_count(const struct dco_gso *gso);

/* Only the first `count` of them, at least one: the rest is dropped. Before the first is taken. */
void dco_gso_limit(struct dco_gso *gso, uint32_t count);

/* The next segment, with its header and checksums complete; false at the end. The previous
 * segment's last `header` bytes are overwritten. */
bool dco_gso_next(struct dco_gso *gso, uint8_t **segment, uint32_t *size);

#endif
