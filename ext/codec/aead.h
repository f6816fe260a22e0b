/* AEAD: one context per key and direction, created with the key; by our own code (gcm.h) where the
 * caller says that it may be, else by OpenSSL.
 *
 * OpenSSL's cipher is fetched through EVP, and then called through the function table of the provider
 * that EVP found (provider-cipher(7)): the same code that EVP calls, without looking up the nonce
 * length by name and without copying parameters for each packet. Per packet only nonce, additional
 * data, data and tag change; the key schedule is kept. A context belongs to one thread at a time. */
#ifndef DCO_CODEC_AEAD_H
#define DCO_CODEC_AEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <openssl/core_dispatch.h>
#include <openssl/evp.h>

#include "codec/gcm.h"
#include "codec/wire.h"

/* Same numbers as enum dco_cipher. */
#define DCO_AEAD_AES_GCM 1
#define DCO_AEAD_CHACHA20_POLY1305 2

/* Loads from it are fastest where it begins a cache line, and right anywhere. */
struct dco_aead {
    union {
        struct dco_gcm gcm;
        struct {
            void *context; /* the provider's */
            OSSL_FUNC_cipher_encrypt_init_fn *init;
            OSSL_FUNC_cipher_update_fn *update;
            OSSL_FUNC_cipher_final_fn *final;
            OSSL_FUNC_cipher_get_ctx_params_fn *get_params;
            OSSL_FUNC_cipher_freectx_fn *free;
            EVP_CIPHER *method; /* keeps the provider */
            OSSL_PARAM tag[2];  /* where to put the tag, or where to find it */
        };
    };
    uint8_t nonce_tail[DCO_NONCE_TAIL];
    bool own; /* `gcm` it is */
};

/* -EINVAL: unknown cipher or a key of the wrong size; -EOPNOTSUPP: this OpenSSL lacks it; -ENOMEM.
 * `library` is the library context to fetch from. `own` is the code for AES-GCM, one that is here:
 * DCO_GCM_NONE for OpenSSL's, which all other ciphers have anyway. */
int dco_aead_init(struct dco_aead *aead, OSSL_LIB_CTX *library, int cipher, const uint8_t *key,
                  size_t key_size, const uint8_t nonce_tail[DCO_NONCE_TAIL], bool seal,
                  enum dco_gcm_kind own);

/* The widest code of our own that this processor has and that agrees with OpenSSL on a known answer,
 * each key size sealed and opened; DCO_GCM_NONE: none. */
enum dco_gcm_kind dco_aead_probe(OSSL_LIB_CTX *library);

/* Cleanses what is ours and frees the context, of which OpenSSL cleanses its copy of the key.
 * Harmless after a failed init. */
void dco_aead_clear(struct dco_aead *aead);

/* The name that OpenSSL has for a cipher, or NULL when there is none with such a key. */
const char *dco_aead_name(int cipher, size_t key_size);

/* The primitives: nonce and additional data of the caller's choice. `in` and `out` may be equal.
 * Decryption returns false when the tag does not verify; `out` then holds garbage. */
bool dco_aead_encrypt(struct dco_aead *aead, const uint8_t nonce[DCO_NONCE], const uint8_t *aad,
                      size_t aad_size, const uint8_t *in, size_t size, uint8_t *out,
                      uint8_t tag[DCO_WIRE_TAG]);
bool dco_aead_decrypt(struct dco_aead *aead, const uint8_t nonce[DCO_NONCE], const uint8_t *aad,
                      size_t aad_size, const uint8_t *in, size_t size, uint8_t *out,
                      const uint8_t tag[DCO_WIRE_TAG]);

/* DATA_V2: writes the whole packet, DCO_WIRE_OVERHEAD + `size` bytes, to `packet`. */
bool dco_aead_seal(struct dco_aead *aead, uint32_t header, uint32_t packet_id, const uint8_t *plain,
                   size_t size, uint8_t *packet);

/* DATA_V2: opens in place; the inner packet then lies at packet + DCO_WIRE_OVERHEAD.
 * `size` is at least DCO_WIRE_OVERHEAD. */
bool dco_aead_open(struct dco_aead *aead, uint8_t *packet, size_t size);

#endif
