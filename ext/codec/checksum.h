/* The Internet checksum (RFC 1071) over scattered bytes.
 *
 * A partial sum is 64 bits wide and not folded, so that sums of even-length pieces simply add. */
#ifndef DCO_CODEC_CHECKSUM_H
#define DCO_CODEC_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Adds `size` bytes to a partial sum. Native byte order, as stored in the packet. */
uint64_t dco_checksum_add(uint64_t sum, const void *data, size_t size);

/* Pseudo-header of TCP or UDP over IPv4 (addresses of 4 bytes) or IPv6 (16). */
uint64_t dco_checksum_pseudo(const uint8_t *source, const uint8_t *destination, size_t address_size,
                             uint8_t protocol, uint32_t length);

/* The folded sum, not complemented, in the byte order of the packet. */
static inline uint16_t dco_checksum_fold(uint64_t sum)
{
    sum = (sum & 0xFFFFFFFFu) + (sum >> 32);
    sum = (sum & 0xFFFFu) + (sum >> 16 & 0xFFFFu) + (sum >> 32);
    sum = (sum & 0xFFFFu) + (sum >> 16);
    return (uint16_t)((sum & 0xFFFFu) + (sum >> 16));
}

/* Completes a checksum field with the sum of all else. */
static inline void dco_checksum_store(uint8_t *field, uint64_t sum)
{
    uint16_t complement = (uint16_t)~dco_checksum_fold(sum);

    memcpy(field, &complement, sizeof complement);
}

/* Two bytes that it counts have changed (RFC 1624, equation 3), in the byte order of the packet: one
 * that was wrong stays wrong. */
static inline void dco_checksum_replace(uint8_t *field, uint16_t before, uint16_t after)
{
    uint16_t sum;

    memcpy(&sum, field, sizeof sum);
    dco_checksum_store(field, (uint64_t)(uint16_t)~sum + (uint16_t)~before + after);
}

#endif
