/* DATA_V2 with an AEAD cipher, byte for byte. The classic format:
 *
 *    0        1              4           8                 24
 *    +--------+--------------+-----------+-----------------+------------
 *    | 9 | k  | peer id      | packet id | tag             | ciphertext
 *    +--------+--------------+-----------+-----------------+------------
 *
 * opcode 9 in five bits, key id k in three. The first eight bytes are authenticated; the nonce is
 * the packet id followed by the eight-byte nonce tail. All numbers are big-endian.
 *
 * The epoch format, with a key for each epoch and the tag at the end:
 *
 *    0        1              4           6             12              12 + n       28 + n
 *    +--------+--------------+-----------+-------------+---------------+------------+
 *    | 9 | k  | peer id      | epoch     | counter     | ciphertext    | tag        |
 *    +--------+--------------+-----------+-------------+---------------+------------+
 *
 * Epoch and counter are the packet id. The first twelve bytes are authenticated; the nonce is the
 * packet id followed by four zero bytes, XOR the IV of the epoch. Nothing on the wire tells the
 * formats apart: the key does. */
#ifndef DCO_CODEC_WIRE_H
#define DCO_CODEC_WIRE_H

#include <stdint.h>

#include "bounds.h"
#include "codec/bytes.h"

#define DCO_WIRE_DATA_V1 6u
#define DCO_WIRE_DATA_V2 9u

#define DCO_WIRE_HEADER 4u
#define DCO_WIRE_AAD 8u
#define DCO_WIRE_TAG 16u
#define DCO_WIRE_OVERHEAD 24u /* header, packet id, tag */
#define DCO_WIRE_EPOCH_AAD 12u
#define DCO_WIRE_EPOCH_OVERHEAD 28u /* header, packet id of eight bytes, tag */
#define DCO_NONCE_TAIL 8u
#define DCO_NONCE 12u

#define DCO_KEEPALIVE_SIZE 16u
extern const uint8_t dco_wire_keepalive[DCO_KEEPALIVE_SIZE];

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

static inline uint16_t dco_wire_epoch(const uint8_t *packet)
{
    return dco_load16(packet + 4);
}

static inline uint64_t dco_wire_epoch_counter(const uint8_t *packet)
{
    return dco_load64(packet + DCO_WIRE_HEADER) & DCO_EPOCH_COUNTER_MAX;
}

static inline uint32_t dco_wire_header(uint8_t key_id, uint32_t peer_id)
{
    return DCO_WIRE_DATA_V2 << 27 | (uint32_t)key_id << 24 | peer_id;
}

#endif
