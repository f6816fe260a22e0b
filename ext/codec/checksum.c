#include "codec/checksum.h"

#include <endian.h>
#include <string.h>

static inline uint32_t load32(const uint8_t *data)
{
    uint32_t value;
    memcpy(&value, data, sizeof value);
    return value;
}

static inline uint64_t load64(const uint8_t *data)
{
    uint64_t value;
    memcpy(&value, data, sizeof value);
    return value;
}

/* The sum as 32-bit words, which all weigh the same modulo 0xFFFF. Adding whole 64-bit words
 * overflows, but their total is high * 2^32 + low modulo 2^64, so that the low halves can be told
 * afterwards and need no mask: one load, one shift and two additions for each vector. */
#define DEFINE_ADD_BLOCKS(name, vector)                                                            \
    static uint64_t name(const uint8_t *data, size_t blocks)                                       \
    {                                                                                              \
        vector total_a = {0}, total_b = {0}, high_a = {0}, high_b = {0};                           \
        for (const uint8_t *end = data + blocks * 2 * sizeof(vector); data != end;                 \
             data += 2 * sizeof(vector)) {                                                         \
            vector a, b;                                                                           \
            memcpy(&a, data, sizeof a);                                                            \
            memcpy(&b, data + sizeof a, sizeof b);                                                 \
            total_a += a;                                                                          \
            total_b += b;                                                                          \
            high_a += a >> 32;                                                                     \
            high_b += b >> 32;                                                                     \
        }                                                                                          \
        vector high = high_a + high_b;                                                             \
        vector lanes = total_a + total_b - (high << 32) + high;                                    \
        uint64_t sum = 0;                                                                          \
        for (size_t i = 0; i < sizeof lanes / sizeof lanes[0]; i++)                                \
            sum += lanes[i];                                                                       \
        return sum;                                                                                \
    }

typedef uint64_t vector128 __attribute__((vector_size(16)));
DEFINE_ADD_BLOCKS(add_blocks, vector128)
#define BLOCK (2 * sizeof(vector128))

#ifdef __x86_64__
typedef uint64_t vector256 __attribute__((vector_size(32)));
__attribute__((target("avx2"))) DEFINE_ADD_BLOCKS(add_blocks_avx2, vector256)
#define BLOCK_AVX2 (2 * sizeof(vector256))
/* Below this the shorter loop of the 128-bit version makes up for its width. */
#define AVX2_PAYS 256u
#endif

uint64_t dco_checksum_add(uint64_t sum, const void *data, size_t size)
{
    const uint8_t *bytes = data;
#ifdef __x86_64__
    if (size >= AVX2_PAYS && __builtin_cpu_supports("avx2")) {
        sum += add_blocks_avx2(bytes, size / BLOCK_AVX2);
        bytes += size / BLOCK_AVX2 * BLOCK_AVX2;
        size %= BLOCK_AVX2;
    }
#endif
    if (size >= BLOCK) {
        sum += add_blocks(bytes, size / BLOCK);
        bytes += size / BLOCK * BLOCK;
        size %= BLOCK;
    }
    for (; size >= 8; bytes += 8, size -= 8) {
        uint64_t word = load64(bytes);
        sum += (word & 0xFFFFFFFFu) + (word >> 32);
    }
    if (size >= 4) {
        sum += load32(bytes);
        bytes += 4;
        size -= 4;
    }
    if (size > 0) {
        /* Zero padding behind the last byte in memory suits either byte order. */
        uint32_t rest = 0;
        memcpy(&rest, bytes, size);
        sum += rest;
    }
    return sum;
}

uint64_t dco_checksum_pseudo(const uint8_t *source, const uint8_t *destination, size_t address_size,
                             uint8_t protocol, uint32_t length)
{
    uint64_t sum = (uint64_t)htobe32(length) + htobe16(protocol);
    for (size_t i = 0; i < address_size; i += 4)
        sum += (uint64_t)load32(source + i) + load32(destination + i);
    return sum;
}
