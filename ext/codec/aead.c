#include "codec/aead.h"

#include <errno.h>
#include <limits.h>

#include <openssl/core_names.h>

static const char *cipher_name(int cipher, size_t key_size)
{
    if (cipher == DCO_AEAD_AES_GCM) {
        switch (key_size) {
        case 16: return "AES-128-GCM";
        case 24: return "AES-192-GCM";
        case 32: return "AES-256-GCM";
        }
    }
    if (cipher == DCO_AEAD_CHACHA20_POLY1305 && key_size == 32)
        return "ChaCha20-Poly1305";
    return NULL;
}

int dco_aead_init(struct dco_aead *aead, OSSL_LIB_CTX *library, int cipher, const uint8_t *key,
                  size_t key_size, const uint8_t nonce_tail[DCO_NONCE_TAIL], bool seal)
{
    const char *name = cipher_name(cipher, key_size);
    EVP_CIPHER *method;
    int error = -ENOMEM;

    aead->context = NULL;
    if (!name)
        return -EINVAL;
    method = EVP_CIPHER_fetch(library, name, NULL);
    if (!method)
        return -EOPNOTSUPP;
    aead->context = EVP_CIPHER_CTX_new();
    if (aead->context && EVP_CipherInit_ex2(aead->context, method, key, NULL, seal, NULL) == 1)
        error = 0;
    EVP_CIPHER_free(method); /* the context holds its own reference */
    if (error)
        dco_aead_clear(aead);
    aead->tag[0] =
        OSSL_PARAM_construct_octet_string(OSSL_CIPHER_PARAM_AEAD_TAG, NULL, DCO_WIRE_TAG);
    aead->tag[1] = OSSL_PARAM_construct_end();
    memcpy(aead->nonce_tail, nonce_tail, DCO_NONCE_TAIL);
    return error;
}

void dco_aead_clear(struct dco_aead *aead)
{
    EVP_CIPHER_CTX_free(aead->context);
    aead->context = NULL;
    OPENSSL_cleanse(aead->nonce_tail, sizeof aead->nonce_tail);
}

bool dco_aead_encrypt(struct dco_aead *aead, const uint8_t nonce[DCO_NONCE], const uint8_t *aad,
                      size_t aad_size, const uint8_t *in, size_t size, uint8_t *out,
                      uint8_t tag[DCO_WIRE_TAG])
{
    EVP_CIPHER_CTX *context = aead->context;
    int n;

    aead->tag[0].data = tag;
    return size <= INT_MAX && aad_size <= INT_MAX
           && EVP_EncryptInit_ex2(context, NULL, NULL, nonce, NULL) == 1
           && EVP_EncryptUpdate(context, NULL, &n, aad, (int)aad_size) == 1
           && EVP_EncryptUpdate(context, out, &n, in, (int)size) == 1
           && EVP_EncryptFinal_ex(context, out + size, &n) == 1
           && EVP_CIPHER_CTX_get_params(context, aead->tag) == 1;
}

bool dco_aead_decrypt(struct dco_aead *aead, const uint8_t nonce[DCO_NONCE], const uint8_t *aad,
                      size_t aad_size, const uint8_t *in, size_t size, uint8_t *out,
                      const uint8_t tag[DCO_WIRE_TAG])
{
    EVP_CIPHER_CTX *context = aead->context;
    int n;

    aead->tag[0].data = (void *)tag;
    /* The tag is compared by OpenSSL, in constant time, in EVP_DecryptFinal_ex. */
    return size <= INT_MAX && aad_size <= INT_MAX
           && EVP_DecryptInit_ex2(context, NULL, NULL, nonce, aead->tag) == 1
           && EVP_DecryptUpdate(context, NULL, &n, aad, (int)aad_size) == 1
           && EVP_DecryptUpdate(context, out, &n, in, (int)size) == 1
           && EVP_DecryptFinal_ex(context, out + size, &n) == 1;
}

static void nonce_make(const struct dco_aead *aead, const uint8_t *packet, uint8_t nonce[DCO_NONCE])
{
    memcpy(nonce, packet + DCO_WIRE_HEADER, 4);
    memcpy(nonce + 4, aead->nonce_tail, DCO_NONCE_TAIL);
}

bool dco_aead_seal(struct dco_aead *aead, uint32_t header, uint32_t packet_id, const uint8_t *plain,
                   size_t size, uint8_t *packet)
{
    uint8_t nonce[DCO_NONCE];

    dco_store32(packet, header);
    dco_store32(packet + DCO_WIRE_HEADER, packet_id);
    nonce_make(aead, packet, nonce);
    return dco_aead_encrypt(aead, nonce, packet, DCO_WIRE_AAD, plain, size,
                            packet + DCO_WIRE_OVERHEAD, packet + DCO_WIRE_AAD);
}

bool dco_aead_open(struct dco_aead *aead, uint8_t *packet, size_t size)
{
    uint8_t *inner = packet + DCO_WIRE_OVERHEAD;
    uint8_t nonce[DCO_NONCE];

    nonce_make(aead, packet, nonce);
    return dco_aead_decrypt(aead, nonce, packet, DCO_WIRE_AAD, inner, size - DCO_WIRE_OVERHEAD,
                            inner, packet + DCO_WIRE_AAD);
}
