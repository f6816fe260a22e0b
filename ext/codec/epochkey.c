#include "codec/epochkey.h"

#include <errno.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/kdf.h>

static const char prefix[] = "ovpn ";
#define PREFIX (sizeof prefix - 1)
#define LABEL_MAX (255 - PREFIX)

/* HkdfLabel of RFC 8446: length (2), label behind its own length (1), context behind its (1). */
static size_t write_info(uint8_t *info, const char *label, size_t label_size, size_t size)
{
    info[0] = (uint8_t)(size >> 8);
    info[1] = (uint8_t)size;
    info[2] = (uint8_t)(PREFIX + label_size);
    memcpy(info + 3, prefix, PREFIX);
    memcpy(info + 3 + PREFIX, label, label_size);
    info[3 + PREFIX + label_size] = 0;
    return 4 + PREFIX + label_size;
}

static int derive(EVP_KDF_CTX *context, const uint8_t secret[DCO_EPOCH_SECRET], uint8_t *info,
                  size_t info_size, uint8_t *out, size_t size)
{
    int mode = EVP_KDF_HKDF_MODE_EXPAND_ONLY;
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_int(OSSL_KDF_PARAM_MODE, &mode),
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)"SHA256", 0),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)secret, DCO_EPOCH_SECRET),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, info, info_size),
        OSSL_PARAM_construct_end(),
    };

    return EVP_KDF_derive(context, out, size, params) == 1 ? 0 : -ENOMEM;
}

int dco_epochkey_expand(OSSL_LIB_CTX *library, const uint8_t secret[DCO_EPOCH_SECRET],
                        const char *label, uint8_t *out, size_t size)
{
    uint8_t info[4 + PREFIX + LABEL_MAX];
    size_t label_size = strlen(label);
    EVP_KDF_CTX *context;
    EVP_KDF *method;
    int error;

    if (label_size > LABEL_MAX || size == 0 || size > UINT16_MAX)
        return -EINVAL;
    method = EVP_KDF_fetch(library, OSSL_KDF_NAME_HKDF, NULL);
    if (!method)
        return -EOPNOTSUPP;
    context = EVP_KDF_CTX_new(method); /* keeps the method; cleansed when freed */
    EVP_KDF_free(method);
    if (!context)
        return -ENOMEM;
    error = derive(context, secret, info, write_info(info, label, label_size, size), out, size);
    EVP_KDF_CTX_free(context);
    return error;
}

void dco_epochkey_chain_init(struct dco_epochkey_chain *chain,
                             const uint8_t secret[DCO_EPOCH_SECRET])
{
    memcpy(chain->secret, secret, DCO_EPOCH_SECRET);
    chain->epoch = 1;
}

int dco_epochkey_chain_step(struct dco_epochkey_chain *chain, OSSL_LIB_CTX *library)
{
    uint8_t next[DCO_EPOCH_SECRET] = {0};
    int error = 0;

    if (chain->epoch > DCO_EPOCH_MAX)
        return -ERANGE;
    if (chain->epoch < DCO_EPOCH_MAX)
        error = dco_epochkey_expand(library, chain->secret, "datakey upd", next, sizeof next);
    if (!error) {
        memcpy(chain->secret, next, sizeof next);
        chain->epoch++;
    }
    OPENSSL_cleanse(next, sizeof next);
    return error;
}

void dco_epochkey_chain_clear(struct dco_epochkey_chain *chain)
{
    OPENSSL_cleanse(chain, sizeof *chain);
}

static int make_key(struct dco_epochkey *key, const struct dco_epochkey_chain *chain,
                    OSSL_LIB_CTX *library, int cipher, size_t key_size, bool seal,
                    enum dco_gcm_kind own)
{
    static const uint8_t no_tail[DCO_NONCE_TAIL]; /* the nonce is made here */
    uint8_t data_key[32];
    int error = dco_epochkey_expand(library, chain->secret, "data_iv", key->iv, DCO_NONCE);

    if (!error)
        error = dco_epochkey_expand(library, chain->secret, "data_key", data_key, key_size);
    if (!error)
        error = dco_aead_init(&key->aead, library, cipher, data_key, key_size, no_tail, seal, own);
    OPENSSL_cleanse(data_key, sizeof data_key);
    key->epoch = (uint16_t)chain->epoch;
    return error;
}

int dco_epochkey_take(struct dco_epochkey *key, struct dco_epochkey_chain *chain,
                      OSSL_LIB_CTX *library, int cipher, size_t key_size, bool seal,
                      enum dco_gcm_kind own)
{
    int error;

    memset(key, 0, sizeof *key);
    if (!dco_aead_name(cipher, key_size))
        return -EINVAL;
    if (chain->epoch > DCO_EPOCH_MAX)
        return -ERANGE;
    error = make_key(key, chain, library, cipher, key_size, seal, own);
    if (!error)
        error = dco_epochkey_chain_step(chain, library);
    if (error)
        dco_epochkey_clear(key);
    return error;
}

void dco_epochkey_clear(struct dco_epochkey *key)
{
    dco_aead_clear(&key->aead);
    OPENSSL_cleanse(key, sizeof *key);
}

static void nonce_make(const struct dco_epochkey *key, const uint8_t *packet,
                       uint8_t nonce[DCO_NONCE])
{
    memcpy(nonce, key->iv, DCO_NONCE);
    for (unsigned i = 0; i < 8; i++)
        nonce[i] ^= packet[DCO_WIRE_HEADER + i];
}

bool dco_epochkey_seal(struct dco_epochkey *key, uint32_t header, uint64_t counter,
                       const uint8_t *plain, size_t size, uint8_t *packet)
{
    uint8_t *out = packet + DCO_WIRE_EPOCH_AAD;
    uint8_t nonce[DCO_NONCE];

    dco_store32(packet, header);
    dco_store64(packet + DCO_WIRE_HEADER, (uint64_t)key->epoch << 48 | counter);
    nonce_make(key, packet, nonce);
    return dco_aead_encrypt(&key->aead, nonce, packet, DCO_WIRE_EPOCH_AAD, plain, size, out,
                            out + size);
}

bool dco_epochkey_open(struct dco_epochkey *key, uint8_t *packet, size_t size)
{
    uint8_t *inner = packet + DCO_WIRE_EPOCH_AAD;
    size_t inner_size = size - DCO_WIRE_EPOCH_OVERHEAD;
    uint8_t nonce[DCO_NONCE];

    nonce_make(key, packet, nonce);
    return dco_aead_decrypt(&key->aead, nonce, packet, DCO_WIRE_EPOCH_AAD, inner, inner_size, inner,
                            inner + inner_size);
}
