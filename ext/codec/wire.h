/* DATA_V2 with an AEAD cipher, byte for byte:
 *
 *    0        1              4           8                 24
 *    +--------+--------------+-----------+-----------------+------------
 *    | 9 | k  | peer id      | packet id | tag             | ciphertext
 *    +--------+--------------+-----------+-----------------+------------
 *
 * opcode 9 in five bits, key id k in three. The first eight bytes are authenticated; the nonce is
 * the packet id followed by the eight-byte nonce tail. All numbers are big-endian. */
#ifndef DCO_CODEC_WIRE_H
#define DCO_CODEC_WIRE_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

#define DCO_WIRE_DATA_V1 6u
#define DCO_WIRE_DATA_V2 9u

#define DCO_WIRE_HEADER 4u
#define DCO_WIRE_AAD 8u
#define DCO_WIRE_TAG 16u
#define DCO_WIRE_OVERHEAD 24u /* header, packet id, tag */
#define DCO_NONCE_TAIL 8u
#define DCO_NONCE 12u

#define DCO_KEEPALIVE_SIZE 16u
extern const uint8_t dco_wire_keepalive[DCO_KEEPALIVE_SIZE];

static inline uint32_t dco_load32(const void *data)
{
    uint32_t value;
    memcpy(&value, data, sizeof value);
    return be32toh(value);
}

static inline void dco_store32(void *data, uint32_t value)
{
    value = htobe32(value);
    memcpy(data, &value, sizeof value);
}

static inline void dco_store64(void *data, uint64_t value)
{
    value = htobe64(value);
    memcpy(data, &value, sizeof value);
}

static inline uint8_t dco_wire_opcode(const uint8_t *packet)
{
    return packet[0] >> 3;
}

static inline uint8_t dco_wire_key_id(const uint8_t *packet)
{
    return packet[0] & 7;
}

static inline uint32_t dco_wire_peer_id(const uint8_t *packet)
{
    return dco_load32(packet) & 0xFFFFFFu;
}

static inline uint32_t dco_wire_header(uint8_t key_id, uint32_t peer_id)
{
    return DCO_WIRE_DATA_V2 << 27 | (uint32_t)key_id << 24 | peer_id;
}

#endif
