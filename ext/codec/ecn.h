/* The byte of an IP header that routers act upon, TOS in IPv4 and traffic class in IPv6, on its way
 * through the tunnel: DSCP (RFC 2474) above, ECN (RFC 3168) in the two bits below. */
#ifndef DCO_CODEC_ECN_H
#define DCO_CODEC_ECN_H

#include <stdbool.h>
#include <stdint.h>

#define DCO_TOS_ECN 0x03u
#define DCO_TOS_DSCP 0xFCu

enum dco_ecn_codepoint {
    DCO_ECN_NOT_ECT = 0, /* the transport knows no ECN: congestion is told by loss */
    DCO_ECN_ECT1 = 1,
    DCO_ECN_ECT0 = 2,
    DCO_ECN_CE = 3, /* a router was congested */
};

/* Of a packet, of which it looks at the first two bytes. */
static inline uint8_t dco_tos_read(const uint8_t *packet)
{
    return packet[0] >> 4 == 4 ? packet[1] : (uint8_t)(packet[0] << 4 | packet[1] >> 4);
}

/* Whether an outer header with this TOS has something to tell the inner one: CE and ECT(1), which
 * share a bit. With the other two the table of dco_ecn_decapsulate changes and drops nothing. */
static inline bool dco_ecn_matters(uint8_t outer)
{
    return outer & 1u;
}

/* Brings what routers have marked on the outer header into the inner packet, which has a whole IP
 * header: RFC 6040, section 4.2. False: it must be dropped, since its transport would not understand
 * that there was congestion. `outer` is a whole TOS. */
bool dco_ecn_decapsulate(uint8_t *packet, uint8_t outer);

#endif
