/* AES-GCM four blocks at a time: VAES and VPCLMULQDQ on 512-bit registers (Zen 4, Ice Lake). */
#if defined(__x86_64__)

#include "codec/gcm_block.h"

#define FEATURES "aes,pclmul,vaes,vpclmulqdq,avx512f,avx512bw,avx512vl,avx512dq"
#define INLINE DCO_GCM_INLINE(FEATURES)
#define KERNEL __attribute__((target(FEATURES)))

typedef __m512i vector;
enum { LANES = 4, VECTOR = 64 };

INLINE vector load(const void *from)
{
    return _mm512_loadu_si512(from);
}

INLINE void store(void *to, vector value)
{
    _mm512_storeu_si512(to, value);
}

/* The first `size` of the bytes, 1 to 64. */
INLINE __mmask64 first(size_t size)
{
    return ~UINT64_C(0) >> (VECTOR - size);
}

/* Masked loads and stores leave alone, and do not fault on, what the mask leaves out. */
INLINE vector load_part(const void *from, size_t size)
{
    return _mm512_maskz_loadu_epi8(first(size), from);
}

INLINE void store_part(void *to, vector value, size_t size)
{
    _mm512_mask_storeu_epi8(to, first(size), value);
}

INLINE vector keep_part(vector value, size_t size)
{
    return _mm512_maskz_mov_epi8(first(size), value);
}

/* One block in each lane. */
INLINE vector repeat(__m128i block)
{
    return _mm512_broadcast_i32x4(block);
}

/* One block in the first lane, zeros in the others. */
INLINE vector only(__m128i block)
{
    return _mm512_zextsi128_si512(block);
}

INLINE vector lane_numbers(void)
{
    return _mm512_set_epi64(0, 3, 0, 2, 0, 1, 0, 0);
}

INLINE __m128i add_lanes(vector a)
{
    __m256i half = _mm256_xor_si256(_mm512_castsi512_si256(a), _mm512_extracti64x4_epi64(a, 1));

    return _mm_xor_si128(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
}

INLINE vector add(vector a, vector b)
{
    return _mm512_xor_si512(a, b);
}

INLINE vector add3(vector a, vector b, vector c)
{
    return _mm512_ternarylogic_epi64(a, b, c, 0x96);
}

INLINE vector count_on(vector counter, vector step)
{
    return _mm512_add_epi32(counter, step);
}

INLINE vector shuffle(vector a, vector order)
{
    return _mm512_shuffle_epi8(a, order);
}

INLINE vector swap(vector a)
{
    return _mm512_shuffle_epi32(a, (_MM_PERM_ENUM)0x4E);
}

INLINE vector cipher_round(vector a, vector key)
{
    return _mm512_aesenc_epi128(a, key);
}

INLINE vector cipher_last(vector a, vector key)
{
    return _mm512_aesenclast_epi128(a, key);
}

#define multiply(a, b, limbs) _mm512_clmulepi64_epi128(a, b, limbs)

#define RUN_ENCRYPT dco_gcm_vaes512_encrypt
#define RUN_DECRYPT dco_gcm_vaes512_decrypt
#include "codec/gcm_lanes.h"

#else
typedef int dco_gcm_vaes512_is_for_x86_64;
#endif
