/* ICMP errors about a packet that cannot go on: RFC 792, RFC 1191, RFC 1812 section 4.3; RFC 4443
 * for IPv6.
 *
 * They come from the address that the packet was going to. Whoever sent the packet into a tunnel
 * has a route there through it, so that no filter for sources holds the error up, and none of our
 * addresses has to be known. */
#ifndef DCO_CODEC_ICMP_H
#define DCO_CODEC_ICMP_H

#include <stddef.h>
#include <stdint.h>

enum dco_icmp {
    DCO_ICMP_TOO_BIG,     /* fragmentation needed, 3/4; packet too big, 2/0 */
    DCO_ICMP_NO_ROUTE,    /* network unreachable, 3/0; no route to destination, 1/0 */
    DCO_ICMP_UNREACHABLE, /* host unreachable, 3/1; address unreachable, 1/3 */
    DCO_ICMP_PROHIBITED,  /* administratively prohibited, 3/13; 1/1 */
};

/* The largest error: the least that IPv6 carries whole. For IPv4 it is 576 bytes. */
#define DCO_ICMP_MAX 1280u

/* Writes the error about `packet`, of which it quotes as much as fits, into `out`, which has
 * DCO_ICMP_MAX bytes. `mtu` counts with TOO_BIG only: what would fit, raised to the least that may
 * be told. Bytes written, or 0: there must be no answer, since the packet is an ICMP error itself,
 * a fragment other than the first, to many, from nobody in particular, or malformed. */
uint32_t dco_icmp_error(uint8_t *out, enum dco_icmp error, uint32_t mtu, const uint8_t *packet,
                        size_t size);

#endif
