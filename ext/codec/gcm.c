#include "codec/gcm.h"

#include <errno.h>

#if defined(__x86_64__)

#include <cpuid.h>

#include "codec/gcm_block.h"

#define KEY_SETUP __attribute__((target("aes,pclmul,ssse3,sse4.1")))

/* --- what the processor has --- */

/* Registers whose state the operating system saves, from XCR0 (Intel's manual, volume 1, 13.3). */
#define SAVES_AVX 0x06u    /* xmm, ymm */
#define SAVES_AVX512 0xE6u /* and masks, upper halves, zmm16 to zmm31 */

struct features {
    uint32_t basic_ecx;                  /* leaf 1 */
    uint32_t extended_ebx, extended_ecx; /* leaf 7 */
    uint64_t saved;
};

static struct features read_features(void)
{
    struct features features = {0};
    uint32_t eax, ebx, ecx, edx;

    if (!__get_cpuid(1, &eax, &ebx, &features.basic_ecx, &edx)
        || !__get_cpuid_count(7, 0, &eax, &features.extended_ebx, &features.extended_ecx, &edx))
        return (struct features){0};
    if (features.basic_ecx & bit_OSXSAVE) {
        __asm__("xgetbv" : "=a"(eax), "=d"(edx) : "c"(0));
        features.saved = (uint64_t)edx << 32 | eax;
    }
    (void)ecx;
    return features;
}

static bool has_all(uint64_t value, uint64_t bits)
{
    return (value & bits) == bits;
}

bool dco_gcm_has(enum dco_gcm_kind kind)
{
    const uint32_t avx512 = bit_AVX512F | bit_AVX512BW | bit_AVX512VL | bit_AVX512DQ;
    struct features features = read_features();

    if (!has_all(features.basic_ecx, bit_AES | bit_PCLMUL | bit_SSSE3 | bit_SSE4_1 | bit_AVX)
        || !has_all(features.extended_ecx, bit_VAES | bit_VPCLMULQDQ))
        return false;
    switch (kind) {
    case DCO_GCM_VAES256:
        return has_all(features.extended_ebx, bit_AVX2) && has_all(features.saved, SAVES_AVX);
    case DCO_GCM_VAES512:
        return has_all(features.extended_ebx, bit_AVX2 | avx512)
               && has_all(features.saved, SAVES_AVX512);
    default: return false;
    }
}

/* --- key set-up --- */

/* SubWord of FIPS 197, 5.2. The last round of AES without a key does ShiftRows and SubBytes; where
 * all columns are the same, ShiftRows changes nothing. */
KEY_SETUP static uint32_t substitute(uint32_t word)
{
    __m128i columns = _mm_set1_epi32((int)word);

    return (uint32_t)_mm_cvtsi128_si32(_mm_aesenclast_si128(columns, _mm_setzero_si128()));
}

/* The key schedule of FIPS 197, 5.2, for all three sizes; words are little-endian here. */
KEY_SETUP static void expand_key(struct dco_gcm *gcm, const uint8_t *key, size_t key_size)
{
    uint8_t *schedule = gcm->round_key[0];
    size_t words = key_size / 4;
    uint32_t constant = 1, word, before;

    gcm->rounds = (uint32_t)words + 6;
    memcpy(schedule, key, key_size);
    memcpy(&word, schedule + key_size - 4, 4);
    for (size_t i = words; i < 4 * (gcm->rounds + 1); i++) {
        if (i % words == 0) {
            word = substitute(word >> 8 | word << 24) ^ constant;
            constant = constant << 1 ^ (constant >> 7) * 0x11B;
        } else if (words == 8 && i % words == 4) {
            word = substitute(word);
        }
        memcpy(&before, schedule + 4 * (i - words), 4);
        word ^= before;
        memcpy(schedule + 4 * i, &word, 4);
    }
}

/* Multiplication by x modulo P of gcm_block.h, with no branch on the bit that is carried out. */
KEY_SETUP static __m128i multiply_by_x(__m128i block)
{
    uint64_t low = (uint64_t)_mm_cvtsi128_si64(block);
    uint64_t high = (uint64_t)_mm_extract_epi64(block, 1);
    uint64_t carry = 0 - (high >> 63);

    high = (high << 1 | low >> 63) ^ (carry & (uint64_t)DCO_GCM_POLYNOMIAL);
    low = low << 1 ^ (carry & 1);
    return _mm_set_epi64x((long long)high, (long long)low);
}

/* H is the encryption of zero: SP 800-38D, 7.1, step 1. */
KEY_SETUP static void raise_powers(struct dco_gcm *gcm)
{
    __m128i zero = dco_block_encrypt(gcm, _mm_setzero_si128());
    __m128i key = multiply_by_x(dco_block_reverse(zero)), power = key;

    for (size_t exponent = 1; exponent <= DCO_GCM_POWERS; exponent++) {
        _mm_storeu_si128((void *)gcm->power[DCO_GCM_POWER(exponent)], power);
        power = dco_block_multiply(power, key);
    }
}

int dco_gcm_init(struct dco_gcm *gcm, enum dco_gcm_kind kind, const uint8_t *key, size_t key_size)
{
    memset(gcm, 0, sizeof *gcm);
    if (key_size != 16 && key_size != 24 && key_size != 32)
        return -EINVAL;
    if (kind != DCO_GCM_VAES256 && kind != DCO_GCM_VAES512)
        return -EOPNOTSUPP;
    gcm->kind = kind;
    expand_key(gcm, key, key_size);
    raise_powers(gcm);
    return 0;
}

/* --- dispatch --- */

void dco_gcm_encrypt(const struct dco_gcm *gcm, const uint8_t nonce[DCO_NONCE], const uint8_t *aad,
                     size_t aad_size, const uint8_t *in, size_t size, uint8_t *out,
                     uint8_t tag[DCO_WIRE_TAG])
{
    if (gcm->kind == DCO_GCM_VAES512)
        dco_gcm_vaes512_encrypt(gcm, nonce, aad, aad_size, in, size, out, tag);
    else
        dco_gcm_vaes256_encrypt(gcm, nonce, aad, aad_size, in, size, out, tag);
}

/* All bits are compared, whichever differ. */
static bool same_tag(const uint8_t a[DCO_WIRE_TAG], const uint8_t b[DCO_WIRE_TAG])
{
    uint64_t left[2], right[2];

    memcpy(left, a, sizeof left);
    memcpy(right, b, sizeof right);
    return ((left[0] ^ right[0]) | (left[1] ^ right[1])) == 0;
}

bool dco_gcm_decrypt(const struct dco_gcm *gcm, const uint8_t nonce[DCO_NONCE], const uint8_t *aad,
                     size_t aad_size, const uint8_t *in, size_t size, uint8_t *out,
                     const uint8_t tag[DCO_WIRE_TAG])
{
    uint8_t computed[DCO_WIRE_TAG];

    if (gcm->kind == DCO_GCM_VAES512)
        dco_gcm_vaes512_decrypt(gcm, nonce, aad, aad_size, in, size, out, computed);
    else
        dco_gcm_vaes256_decrypt(gcm, nonce, aad, aad_size, in, size, out, computed);
    return same_tag(computed, tag);
}

#else /* no x86-64: OpenSSL does all of it */

bool dco_gcm_has(enum dco_gcm_kind kind)
{
    (void)kind;
    return false;
}

int dco_gcm_init(struct dco_gcm *gcm, enum dco_gcm_kind kind, const uint8_t *key, size_t key_size)
{
    (void)kind, (void)key, (void)key_size;
    memset(gcm, 0, sizeof *gcm);
    return -EOPNOTSUPP;
}

void dco_gcm_encrypt(const struct dco_gcm *gcm, const uint8_t nonce[DCO_NONCE], const uint8_t *aad,
                     size_t aad_size, const uint8_t *in, size_t size, uint8_t *out,
                     uint8_t tag[DCO_WIRE_TAG])
{
    (void)gcm, (void)nonce, (void)aad, (void)aad_size, (void)in, (void)size, (void)out, (void)tag;
}

bool dco_gcm_decrypt(const struct dco_gcm *gcm, const uint8_t nonce[DCO_NONCE], const uint8_t *aad,
                     size_t aad_size, const uint8_t *in, size_t size, uint8_t *out,
                     const uint8_t tag[DCO_WIRE_TAG])
{
    (void)gcm, (void)nonce, (void)aad, (void)aad_size, (void)in, (void)size, (void)out, (void)tag;
    return false;
}

#endif

enum dco_gcm_kind dco_gcm_best(void)
{
    return dco_gcm_has(DCO_GCM_VAES512)   ? DCO_GCM_VAES512
           : dco_gcm_has(DCO_GCM_VAES256) ? DCO_GCM_VAES256
                                          : DCO_GCM_NONE;
}
