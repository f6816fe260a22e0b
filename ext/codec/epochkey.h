/* The epoch format of DATA_V2: keys that follow from one another.
 *
 * Each direction starts with one secret, E(1). E(n) gives the data key and the IV of epoch n, and
 * E(n + 1), all by HKDF-Expand-Label. Nothing leads back: whoever takes today's secret cannot open
 * what was sealed in an earlier epoch, so no secret is kept once the next one exists. */
#ifndef DCO_CODEC_EPOCHKEY_H
#define DCO_CODEC_EPOCHKEY_H

#include "codec/aead.h"

#define DCO_EPOCH_SECRET 32u

/* HKDF-Expand-Label with SHA-256 and an empty context, as in RFC 8446 section 7.1, except that the
 * label's prefix is "ovpn " there where TLS has "tls13 ". `label` comes without prefix and has at
 * most 250 bytes. -EINVAL, -EOPNOTSUPP, -ENOMEM. */
int dco_epochkey_expand(OSSL_LIB_CTX *library, const uint8_t secret[DCO_EPOCH_SECRET],
                        const char *label, uint8_t *out, size_t size);

/* The secret of the next epoch whose data key was not made yet. */
struct dco_epochkey_chain {
    uint8_t secret[DCO_EPOCH_SECRET];
    uint32_t epoch; /* from 1; DCO_EPOCH_MAX + 1: the end, and no secret */
};

/* At epoch 1. */
void dco_epochkey_chain_init(struct dco_epochkey_chain *chain,
                             const uint8_t secret[DCO_EPOCH_SECRET]);
/* Goes to the next epoch; the secret that was there is gone. -ERANGE at the end, or an error of
 * dco_epochkey_expand, and nothing has changed. */
int dco_epochkey_chain_step(struct dco_epochkey_chain *chain, OSSL_LIB_CTX *library);
void dco_epochkey_chain_clear(struct dco_epochkey_chain *chain);

/* The key of one epoch and direction. */
struct dco_epochkey {
    struct dco_aead aead;
    uint8_t iv[DCO_NONCE];
    uint16_t epoch;
};

/* Makes the key of the chain's epoch and takes the chain a step further. -ERANGE at the end of the
 * chain, or an error of dco_aead_init or dco_epochkey_expand; then the chain is as it was, and the
 * key need not be cleared. Allocates and takes microseconds: not for the data path. */
int dco_epochkey_take(struct dco_epochkey *key, struct dco_epochkey_chain *chain,
                      OSSL_LIB_CTX *library, int cipher, size_t key_size, bool seal,
                      enum dco_gcm_kind own);
void dco_epochkey_clear(struct dco_epochkey *key);

/* Writes the whole packet, DCO_WIRE_EPOCH_OVERHEAD + `size` bytes, to `packet`. `counter` is from 1
 * to DCO_EPOCH_COUNTER_MAX. */
bool dco_epochkey_seal(struct dco_epochkey *key, uint32_t header, uint64_t counter,
                       const uint8_t *plain, size_t size, uint8_t *packet);

/* Opens in place; the inner packet then lies at packet + DCO_WIRE_EPOCH_AAD. The packet is of this
 * key's epoch, and `size` at least DCO_WIRE_EPOCH_OVERHEAD. */
bool dco_epochkey_open(struct dco_epochkey *key, uint8_t *packet, size_t size);

#endif
