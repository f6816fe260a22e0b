/* AES-GCM on one block: what the key set-up and both widths share.
 *
 * GHASH (SP 800-38D, 6.3) calls the first bit of a block the coefficient of x^0, so in a register
 * its polynomials lie bit-reflected. Reversing the bytes of a block leaves exactly that: the
 * coefficient of x^i at bit 127-i. The carry-less product of two reflected polynomials is the
 * reflected product, one bit too low, since it has 255 coefficients and not 256 (Intel's white paper
 * on carry-less multiplication and GCM). Instead of shifting each product the hash key is multiplied
 * by x once: RFC 8452, appendix A, which calls the same hash over such blocks POLYVAL. There
 * multiplication is a * b / x^128 modulo
 *
 *     P = x^128 + x^127 + x^126 + x^121 + 1
 *
 * with bit i the coefficient of x^i, and it is Montgomery's: the lower half of the product is made
 * zero by adding multiples of P, then dropped. */
#ifndef DCO_CODEC_GCM_BLOCK_H
#define DCO_CODEC_GCM_BLOCK_H

#include <immintrin.h>

#include "codec/gcm.h"

/* Always inlined, since a register of vectors cannot be passed otherwise without flags for the whole
 * file. There is no undefined behaviour to look for in what the intrinsics do, and clang 14 takes
 * minutes to look; AddressSanitizer stays on. */
#define DCO_GCM_INLINE(features)                                                                   \
    static inline __attribute__((always_inline, target(features), no_sanitize("undefined")))
#define DCO_GCM_ONE_BLOCK DCO_GCM_INLINE("aes,pclmul,ssse3,sse4.1")

/* Each 64-bit limb of the lower half vanishes when P times that limb is added: P ends in 1, and
 * what remains of P above the limb are x^128 and these three, at x^64 and up. */
#define DCO_GCM_POLYNOMIAL INT64_C(-0x3E00000000000000) /* x^121 + x^126 + x^127, less x^64 */

DCO_GCM_ONE_BLOCK __m128i dco_block_load(const void *from)
{
    return _mm_loadu_si128(from);
}

DCO_GCM_ONE_BLOCK __m128i dco_block_reverse(__m128i block)
{
    return _mm_shuffle_epi8(block,
                            _mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
}

DCO_GCM_ONE_BLOCK __m128i dco_block_encrypt(const struct dco_gcm *gcm, __m128i block)
{
    block = _mm_xor_si128(block, dco_block_load(gcm->round_key[0]));
    for (uint32_t round = 1; round < gcm->rounds; round++)
        block = _mm_aesenc_si128(block, dco_block_load(gcm->round_key[round]));
    return _mm_aesenclast_si128(block, dco_block_load(gcm->round_key[gcm->rounds]));
}

/* A product before its reduction: low + middle * x^64 + high * x^128. */
struct dco_block_product {
    __m128i low, middle, high;
};

DCO_GCM_ONE_BLOCK struct dco_block_product dco_block_product(__m128i a, __m128i b)
{
    return (struct dco_block_product){
        .low = _mm_clmulepi64_si128(a, b, 0x00),
        .middle = _mm_xor_si128(_mm_clmulepi64_si128(a, b, 0x01), _mm_clmulepi64_si128(a, b, 0x10)),
        .high = _mm_clmulepi64_si128(a, b, 0x11),
    };
}

/* Limb 0 goes first: it is added at x^128, and its multiple of the polynomial at x^64. That leaves
 * limb 1 in the lower half of `middle`, which goes the same way, and limb 2 in the upper. */
DCO_GCM_ONE_BLOCK __m128i dco_block_reduce(struct dco_block_product product)
{
    const __m128i polynomial = _mm_cvtsi64_si128(DCO_GCM_POLYNOMIAL);
    __m128i low = product.low, middle = product.middle;

    middle = _mm_xor_si128(middle, _mm_shuffle_epi32(low, 0x4E));
    middle = _mm_xor_si128(middle, _mm_clmulepi64_si128(low, polynomial, 0x00));
    product.high = _mm_xor_si128(product.high, _mm_shuffle_epi32(middle, 0x4E));
    return _mm_xor_si128(product.high, _mm_clmulepi64_si128(middle, polynomial, 0x00));
}

DCO_GCM_ONE_BLOCK __m128i dco_block_multiply(__m128i a, __m128i b)
{
    return dco_block_reduce(dco_block_product(a, b));
}

/* The first 1 to 15 bytes of a block, then zeros; no other byte is read. By loads that may overlap
 * and not through memory: a load of what several narrower stores have just written has to wait
 * until they have left the processor, and every packet would wait for the one before it. */
DCO_GCM_ONE_BLOCK __m128i dco_block_load_part(const uint8_t *from, size_t size)
{
    uint64_t low = 0, high = 0;
    uint32_t word, end;

    if (size >= 8) {
        memcpy(&low, from, sizeof low);
        memcpy(&high, from + size - 8, sizeof high);
        high = size > 8 ? high >> (128 - 8 * size) : 0;
    } else if (size >= 4) {
        memcpy(&word, from, sizeof word);
        memcpy(&end, from + size - 4, sizeof end);
        low = word | (uint64_t)end << (8 * size - 32);
    } else {
        for (size_t i = 0; i < size; i++)
            low |= (uint64_t)from[i] << 8 * i;
    }
    return _mm_set_epi64x((long long)high, (long long)low);
}

/* The counter block before the first, byte-reversed: the counter, here 1, is its lowest word. In
 * the data channel the nonce has just been put together of these two parts. */
DCO_GCM_ONE_BLOCK __m128i dco_block_counter(const uint8_t nonce[DCO_NONCE])
{
    uint64_t id = dco_load32(nonce), tail;

    memcpy(&tail, nonce + 4, sizeof tail);
    tail = be64toh(tail);
    return _mm_set_epi64x((long long)(id << 32 | tail >> 32), (long long)(tail << 32 | 1));
}

/* The last block of the hash, byte-reversed: both lengths in bits. */
DCO_GCM_ONE_BLOCK __m128i dco_block_lengths(size_t aad_size, size_t size)
{
    return _mm_set_epi64x((long long)(aad_size * 8), (long long)(size * 8));
}

/* What each width has to offer, in gcm_vaes256.c and gcm_vaes512.c: writes `out` and the tag. */
typedef void dco_gcm_run(const struct dco_gcm *gcm, const uint8_t nonce[DCO_NONCE],
                         const uint8_t *aad, size_t aad_size, const uint8_t *in, size_t size,
                         uint8_t *out, uint8_t tag[DCO_WIRE_TAG]);
dco_gcm_run dco_gcm_vaes256_encrypt, dco_gcm_vaes256_decrypt;
dco_gcm_run dco_gcm_vaes512_encrypt, dco_gcm_vaes512_decrypt;

#endif
