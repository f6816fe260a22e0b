/* AES-GCM of our own, for x86-64 with VAES and VPCLMULQDQ: several blocks per instruction.
 *
 * OpenSSL 3.0 has code for one block per instruction only. The mode is that of NIST SP 800-38D with
 * 96-bit nonces and 128-bit tags, which is all that the data channel has. Nothing looks a secret
 * up in a table and nothing branches on one. Whoever uses it asks first, by `dco_gcm_has`, whether
 * this machine can; `dco_aead_probe` also compares with OpenSSL. */
#ifndef DCO_CODEC_GCM_H
#define DCO_CODEC_GCM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "codec/wire.h"

/* By the width of the registers, bits. */
enum dco_gcm_kind { DCO_GCM_NONE = 0, DCO_GCM_VAES256 = 256, DCO_GCM_VAES512 = 512 };

#define DCO_GCM_BLOCK 16u
#define DCO_GCM_ROUNDS_MAX 14u

/* Powers of the hash key H in descending order, so that as many consecutive blocks as a register
 * holds meet their powers in one load. Sixteen blocks are hashed together and the block of lengths
 * behind them: H^17 is the highest. Behind H^1 there are zeros for the lanes of a last register that
 * hold no block. Three entries before H^17 are unused: they put H^16 at the start of a cache line
 * where the structure is. */
#define DCO_GCM_POWERS 20u
#define DCO_GCM_PADDING 3u
/* Index of H^exponent. */
#define DCO_GCM_POWER(exponent) (DCO_GCM_POWERS - (exponent))

struct dco_gcm {
    uint8_t power[DCO_GCM_POWERS + DCO_GCM_PADDING][DCO_GCM_BLOCK];
    uint8_t round_key[DCO_GCM_ROUNDS_MAX + 1][DCO_GCM_BLOCK];
    uint32_t rounds;
    enum dco_gcm_kind kind;
};

/* Whether this processor and its operating system have what `kind` needs. Asking takes long in a
 * virtual machine, where each CPUID is a trap: ask once. */
bool dco_gcm_has(enum dco_gcm_kind kind);
/* The widest that it has. */
enum dco_gcm_kind dco_gcm_best(void);

/* Key schedule and powers, for a `kind` that is here. -EINVAL: the key has not 16, 24 or 32 bytes;
 * -EOPNOTSUPP: no such kind. */
int dco_gcm_init(struct dco_gcm *gcm, enum dco_gcm_kind kind, const uint8_t *key, size_t key_size);

/* `out` is `in`, or does not overlap it. Not a byte outside of them is read or written. Decryption
 * returns false when the tag does not verify; `out` then holds garbage. */
void dco_gcm_encrypt(const struct dco_gcm *gcm, const uint8_t nonce[DCO_NONCE], const uint8_t *aad,
                     size_t aad_size, const uint8_t *in, size_t size, uint8_t *out,
                     uint8_t tag[DCO_WIRE_TAG]);
bool dco_gcm_decrypt(const struct dco_gcm *gcm, const uint8_t nonce[DCO_NONCE], const uint8_t *aad,
                     size_t aad_size, const uint8_t *in, size_t size, uint8_t *out,
                     const uint8_t tag[DCO_WIRE_TAG]);

#endif
