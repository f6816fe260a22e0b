/* The segment size that TCP announces (RFC 9293, section 3.7.1), lowered on its way through. */
#ifndef DCO_CODEC_MSS_H
#define DCO_CODEC_MSS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What a segment is larger by than what its MSS counts: headers without options (RFC 6691). */
#define DCO_MSS_HEADERS_IPV4 40u
#define DCO_MSS_HEADERS_IPV6 60u

/* Lowers the MSS option of a SYN, so that segments of `packet_max` bytes, IP and TCP header
 * included, are the largest that its sender gets. Any bytes are a legal input: everything but a
 * whole SYN with an MSS above that is left as it is. The checksum must be complete, and follows
 * (RFC 1624); one that was wrong stays wrong. True: something was lowered. */
bool dco_mss_clamp(uint8_t *packet, size_t size, uint32_t packet_max);

/* False for what surely is no SYN over IPv4 or IPv6 without extension headers, at the cost of a few
 * instructions. `packet` has at least an IP header. */
static inline bool dco_mss_may_be_syn(const uint8_t *packet, size_t size)
{
    size_t transport = packet[0] >> 4 == 4 ? (packet[0] & 15u) * 4 : 40;
    uint8_t protocol = packet[0] >> 4 == 4 ? packet[9] : packet[6];

    if (protocol != 6) /* of IPv6 extension headers, those that may stand before a TCP header */
        return packet[0] >> 4 == 6 && (protocol == 0 || protocol == 43 || protocol == 60);
    return transport + 13 < size && packet[transport + 13] & 2;
}

#endif
