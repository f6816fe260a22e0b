/* Where things are in an IPv4 or IPv6 packet, for what looks at packets without changing them. */
#ifndef DCO_CODEC_IP_H
#define DCO_CODEC_IP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "codec/bytes.h"

#define DCO_IPV4_HEADER 20u
#define DCO_IPV6_HEADER 40u
#define DCO_IPV4_DF 0x4000u
#define DCO_IPV4_MF 0x2000u
#define DCO_IPV4_OFFSET 0x1FFFu /* in units of eight bytes */
#define DCO_IPV4_FRAGMENT (DCO_IPV4_MF | DCO_IPV4_OFFSET)

/* What a packet carries behind its IP header and extension headers. */
struct dco_ip_payload {
    uint32_t offset;  /* of the transport header */
    uint32_t end;     /* of the packet as its IP header gives it, or of what is there of it */
    uint8_t protocol; /* of what begins there */
    bool fragment;    /* one of several */
    bool first;       /* of them, or whole: the transport header is in it */
};

/* False: no well-formed IP header, or extension headers that lead nowhere. `size` may be less than
 * the packet has, as in what an ICMP error quotes. */
bool dco_ip_payload(const uint8_t *packet, size_t size, struct dco_ip_payload *payload);

#endif
