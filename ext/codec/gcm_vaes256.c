/* AES-GCM two blocks at a time: VAES and VPCLMULQDQ on 256-bit registers, for processors without
 * AVX-512 (Zen 3, Alder Lake). */
#if defined(__x86_64__)

#include "codec/gcm_block.h"

#define FEATURES "aes,pclmul,vaes,vpclmulqdq,avx2"
#define INLINE DCO_GCM_INLINE(FEATURES)
#define KERNEL __attribute__((target(FEATURES)))

typedef __m256i vector;
enum { LANES = 2, VECTOR = 32 };

INLINE vector load(const void *from)
{
    return _mm256_loadu_si256(from);
}

INLINE void store(void *to, vector value)
{
    _mm256_storeu_si256(to, value);
}

/* AVX2 masks by words of four bytes, so parts go through memory of our own. */
INLINE vector load_part(const void *from, size_t size)
{
    uint8_t bytes[VECTOR] = {0};

    memcpy(bytes, from, size);
    return load(bytes);
}

INLINE void store_part(void *to, vector value, size_t size)
{
    uint8_t bytes[VECTOR];

    store(bytes, value);
    memcpy(to, bytes, size);
}

/* The 32 bytes that end `size` bytes behind the first 32 are `size` times ~0, then zero. */
INLINE vector keep_part(vector value, size_t size)
{
    static const uint8_t ones_then_zeros[2 * VECTOR] = {
        255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
        255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
    };

    return _mm256_and_si256(value, load(ones_then_zeros + VECTOR - size));
}

/* One block in each lane. */
INLINE vector repeat(__m128i block)
{
    return _mm256_broadcastsi128_si256(block);
}

/* One block in the first lane, zeros in the other. */
INLINE vector only(__m128i block)
{
    return _mm256_zextsi128_si256(block);
}

INLINE vector lane_numbers(void)
{
    return _mm256_set_epi64x(0, 1, 0, 0);
}

INLINE __m128i add_lanes(vector a)
{
    return _mm_xor_si128(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
}

INLINE vector add(vector a, vector b)
{
    return _mm256_xor_si256(a, b);
}

INLINE vector add3(vector a, vector b, vector c)
{
    return add(add(a, b), c);
}

INLINE vector count_on(vector counter, vector step)
{
    return _mm256_add_epi32(counter, step);
}

INLINE vector shuffle(vector a, vector order)
{
    return _mm256_shuffle_epi8(a, order);
}

INLINE vector swap(vector a)
{
    return _mm256_shuffle_epi32(a, 0x4E);
}

INLINE vector cipher_round(vector a, vector key)
{
    return _mm256_aesenc_epi128(a, key);
}

INLINE vector cipher_last(vector a, vector key)
{
    return _mm256_aesenclast_epi128(a, key);
}

#define multiply(a, b, limbs) _mm256_clmulepi64_epi128(a, b, limbs)

#define RUN_ENCRYPT dco_gcm_vaes256_encrypt
#define RUN_DECRYPT dco_gcm_vaes256_decrypt
#include "codec/gcm_lanes.h"

#else
typedef int dco_gcm_vaes256_is_for_x86_64;
#endif
