#include "codec/checksum.h"

#include <endian.h>
#include <string.h>

/* Four 64-bit lanes. The compiler maps them to whatever vector registers the target has; on
 * x86-64 with glibc the AVX2 version is picked when the library is loaded. */
typedef uint64_t lanes __attribute__((vector_size(32)));

#if defined(__x86_64__) && defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) &&              \
    !defined(__SANITIZE_THREAD__) && !defined(DCO_NO_IFUNC)
#define VECTOR_CLONES __attribute__((target_clones("avx2", "default")))
#else
#define VECTOR_CLONES
#endif

#define BLOCK 64u

static inline uint32_t load32(const uint8_t *data)
{
    uint32_t value;
    memcpy(&value, data, sizeof value);
    return value;
}

/* The sum of `blocks` times 64 bytes as 32-bit words, which all have weight 1 modulo 0xFFFF.
 * Adding whole 64-bit words overflows, but `total` is high * 2^32 + low modulo 2^64, so that the
 * low halves need no masking: three vector operations for each load. */
VECTOR_CLONES
static uint64_t add_blocks(const uint8_t *data, size_t blocks)
{
    lanes total_a = {0}, total_b = {0}, high_a = {0}, high_b = {0};
    for (size_t i = 0; i < blocks; i++) {
        lanes a, b;
        memcpy(&a, data + i * BLOCK, sizeof a);
        memcpy(&b, data + i * BLOCK + sizeof a, sizeof b);
        total_a += a;
        total_b += b;
        high_a += a >> 32;
        high_b += b >> 32;
    }
    lanes high = high_a + high_b;
    lanes sum = total_a + total_b - (high << 32) + high;
    return sum[0] + sum[1] + sum[2] + sum[3];
}

uint64_t dco_checksum_add(uint64_t sum, const void *data, size_t size)
{
    const uint8_t *bytes = data;
    if (size >= BLOCK) {
        size_t blocks = size / BLOCK;
        sum += add_blocks(bytes, blocks);
        bytes += blocks * BLOCK;
        size %= BLOCK;
    }
    for (; size >= 4; bytes += 4, size -= 4)
        sum += load32(bytes);
    if (size > 0) {
        /* Zero padding at the end, in memory order, suits either byte order. */
        uint32_t rest = 0;
        memcpy(&rest, bytes, size);
        sum += rest;
    }
    return sum;
}

uint64_t dco_checksum_pseudo(const uint8_t *source, const uint8_t *destination,
                             size_t address_size, uint8_t protocol, uint32_t length)
{
    uint64_t sum = (uint64_t)htobe32(length) + htobe16(protocol);
    for (size_t i = 0; i < address_size; i += 4)
        sum += (uint64_t)load32(source + i) + load32(destination + i);
    return sum;
}

uint16_t dco_checksum_fold(uint64_t sum)
{
    sum = (sum & 0xFFFFFFFFu) + (sum >> 32);
    sum = (sum & 0xFFFFu) + (sum >> 16 & 0xFFFFu) + (sum >> 32);
    sum = (sum & 0xFFFFu) + (sum >> 16);
    sum = (sum & 0xFFFFu) + (sum >> 16);
    return (uint16_t)sum;
}
