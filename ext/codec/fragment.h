/* An IPv4 packet to fragments, as a router does it (RFC 791, section 2.3; RFC 1812, 4.2.2.7).
 *
 * As with super-packets, each fragment's header is written just before its payload, over the tail of
 * the fragment before, which the caller must have sealed by then. */
#ifndef DCO_CODEC_FRAGMENT_H
#define DCO_CODEC_FRAGMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct dco_fragment {
    uint8_t *packet;      /* caller's buffer; NULL: done */
    uint32_t at, end;     /* payload: what is left */
    uint32_t mtu;         /* bytes that a fragment may have */
    uint16_t place;       /* offset of the next fragment in units of eight bytes */
    uint16_t flags;       /* of the packet: MF, where it is a fragment itself */
    uint8_t header;       /* bytes of the next fragment's header */
    uint8_t later_header; /* of those behind the first, which have fewer options */
    uint8_t later[60];
};

/* The packet must be whole and without DF; its checksum complete. False: it is not, or fragments of
 * `mtu` bytes would carry nothing. */
bool dco_fragment_begin(struct dco_fragment *fragment, uint8_t *packet, size_t size, uint32_t mtu);

/* The next fragment; false at the end. */
bool dco_fragment_next(struct dco_fragment *fragment, uint8_t **piece, uint32_t *size);

#endif
