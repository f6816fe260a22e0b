#include "codec/aead.h"

#include <errno.h>
#include <strings.h>

#include <openssl/core_names.h>
#include <openssl/provider.h>

const char *dco_aead_name(int cipher, size_t key_size)
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

/* Algorithm names stand in a list with colons between them, in any case. */
static bool names_include(const char *names, const char *name)
{
    size_t size = strlen(name);

    for (; names; names = strchr(names, ':')) {
        names += *names == ':';
        if (!strncasecmp(names, name, size) && (names[size] == ':' || !names[size]))
            return true;
    }
    return false;
}

static const OSSL_DISPATCH *find_table(const OSSL_PROVIDER *provider, const char *name)
{
    const OSSL_DISPATCH *table = NULL;
    int no_cache = 0;
    const OSSL_ALGORITHM *algorithms =
        OSSL_PROVIDER_query_operation(provider, OSSL_OP_CIPHER, &no_cache);

    for (const OSSL_ALGORITHM *a = algorithms; a && a->algorithm_names && !table; a++)
        if (names_include(a->algorithm_names, name))
            table = a->implementation;
    if (algorithms)
        OSSL_PROVIDER_unquery_operation(provider, OSSL_OP_CIPHER, algorithms);
    return table;
}

/* Returns the constructor, with the other functions in `aead`; NULL when one is missing. */
static OSSL_FUNC_cipher_newctx_fn *read_table(struct dco_aead *aead, const OSSL_DISPATCH *table,
                                              bool seal)
{
    int init = seal ? OSSL_FUNC_CIPHER_ENCRYPT_INIT : OSSL_FUNC_CIPHER_DECRYPT_INIT;
    OSSL_FUNC_cipher_newctx_fn *make = NULL;

    for (; table && table->function_id; table++) {
        if (table->function_id == OSSL_FUNC_CIPHER_NEWCTX)
            make = OSSL_FUNC_cipher_newctx(table);
        else if (table->function_id == OSSL_FUNC_CIPHER_FREECTX)
            aead->free = OSSL_FUNC_cipher_freectx(table);
        else if (table->function_id == init)
            aead->init = OSSL_FUNC_cipher_encrypt_init(table);
        else if (table->function_id == OSSL_FUNC_CIPHER_UPDATE)
            aead->update = OSSL_FUNC_cipher_update(table);
        else if (table->function_id == OSSL_FUNC_CIPHER_FINAL)
            aead->final = OSSL_FUNC_cipher_final(table);
        else if (table->function_id == OSSL_FUNC_CIPHER_GET_CTX_PARAMS)
            aead->get_params = OSSL_FUNC_cipher_get_ctx_params(table);
    }
    return aead->free && aead->init && aead->update && aead->final && aead->get_params ? make
                                                                                       : NULL;
}

static int make_context(struct dco_aead *aead, const char *name, const uint8_t *key,
                        size_t key_size, bool seal)
{
    const OSSL_PROVIDER *provider = EVP_CIPHER_get0_provider(aead->method);
    OSSL_FUNC_cipher_newctx_fn *make = read_table(aead, find_table(provider, name), seal);

    if (!make)
        return -EOPNOTSUPP;
    aead->context = make(OSSL_PROVIDER_get0_provider_ctx(provider));
    if (!aead->context || aead->init(aead->context, key, key_size, NULL, 0, NULL) != 1)
        return -ENOMEM;
    return 0;
}

static int init_provider(struct dco_aead *aead, OSSL_LIB_CTX *library, const char *name,
                         const uint8_t *key, size_t key_size, bool seal)
{
    int error;

    aead->method = EVP_CIPHER_fetch(library, name, NULL);
    if (!aead->method)
        return -EOPNOTSUPP;
    error = make_context(aead, name, key, key_size, seal);
    if (error)
        return error;
    aead->tag[0] =
        OSSL_PARAM_construct_octet_string(OSSL_CIPHER_PARAM_AEAD_TAG, NULL, DCO_WIRE_TAG);
    aead->tag[1] = OSSL_PARAM_construct_end();
    return 0;
}

int dco_aead_init(struct dco_aead *aead, OSSL_LIB_CTX *library, int cipher, const uint8_t *key,
                  size_t key_size, const uint8_t nonce_tail[DCO_NONCE_TAIL], bool seal,
                  enum dco_gcm_kind own)
{
    const char *name = dco_aead_name(cipher, key_size);
    int error;

    memset(aead, 0, sizeof *aead);
    if (!name)
        return -EINVAL;
    memcpy(aead->nonce_tail, nonce_tail, DCO_NONCE_TAIL);
    aead->own = cipher == DCO_AEAD_AES_GCM && own != DCO_GCM_NONE;
    if (aead->own)
        error = dco_gcm_init(&aead->gcm, own, key, key_size);
    else
        error = init_provider(aead, library, name, key, key_size, seal);
    if (error)
        dco_aead_clear(aead);
    return error;
}

void dco_aead_clear(struct dco_aead *aead)
{
    if (!aead->own && aead->context)
        aead->free(aead->context);
    if (!aead->own)
        EVP_CIPHER_free(aead->method);
    OPENSSL_cleanse(aead, sizeof *aead);
}

/* Long enough for several groups of the widest code, and a last one that is partial. */
#define PROBE_SIZE 619u

static bool probe_key(OSSL_LIB_CTX *library, enum dco_gcm_kind kind, size_t key_size)
{
    uint8_t key[32], packet[PROBE_SIZE], out[2][DCO_WIRE_OVERHEAD + PROBE_SIZE];
    struct dco_aead openssl, own;
    bool good;

    for (size_t i = 0; i < sizeof key; i++)
        key[i] = (uint8_t)(0x5A + 7 * i);
    for (size_t i = 0; i < sizeof packet; i++)
        packet[i] = (uint8_t)(i * i + i / 3);
    good = !dco_aead_init(&openssl, library, DCO_AEAD_AES_GCM, key, key_size, packet, true,
                          DCO_GCM_NONE);
    if (!good)
        return false; /* what cannot be compared is not used */
    good = !dco_aead_init(&own, library, DCO_AEAD_AES_GCM, key, key_size, packet, true, kind)
           && dco_aead_seal(&openssl, 0x48000001, 0xFFFFFFFE, packet, sizeof packet, out[0])
           && dco_aead_seal(&own, 0x48000001, 0xFFFFFFFE, packet, sizeof packet, out[1])
           && !memcmp(out[0], out[1], sizeof out[0]) && dco_aead_open(&own, out[1], sizeof out[1])
           && !memcmp(out[1] + DCO_WIRE_OVERHEAD, packet, sizeof packet);
    out[0][sizeof out[0] - 1] ^= 1;
    good = good && !dco_aead_open(&own, out[0], sizeof out[0]);
    dco_aead_clear(&openssl);
    dco_aead_clear(&own);
    return good;
}

enum dco_gcm_kind dco_aead_probe(OSSL_LIB_CTX *library)
{
    enum dco_gcm_kind kind = dco_gcm_best();

    for (size_t key_size = 16; key_size <= 32 && kind != DCO_GCM_NONE; key_size += 8)
        if (!probe_key(library, kind, key_size))
            kind = DCO_GCM_NONE;
    return kind;
}

bool dco_aead_encrypt(struct dco_aead *aead, const uint8_t nonce[DCO_NONCE], const uint8_t *aad,
                      size_t aad_size, const uint8_t *in, size_t size, uint8_t *out,
                      uint8_t tag[DCO_WIRE_TAG])
{
    void *context = aead->context;
    size_t n;

    if (aead->own) {
        dco_gcm_encrypt(&aead->gcm, nonce, aad, aad_size, in, size, out, tag);
        return true;
    }
    aead->tag[0].data = tag;
    return aead->init(context, NULL, 0, nonce, DCO_NONCE, NULL) == 1
           && aead->update(context, NULL, &n, aad_size, aad, aad_size) == 1
           && aead->update(context, out, &n, size, in, size) == 1
           && aead->final(context, out + size, &n, 0) == 1
           && aead->get_params(context, aead->tag) == 1;
}

bool dco_aead_decrypt(struct dco_aead *aead, const uint8_t nonce[DCO_NONCE], const uint8_t *aad,
                      size_t aad_size, const uint8_t *in, size_t size, uint8_t *out,
                      const uint8_t tag[DCO_WIRE_TAG])
{
    void *context = aead->context;
    size_t n;

    if (aead->own)
        return dco_gcm_decrypt(&aead->gcm, nonce, aad, aad_size, in, size, out, tag);
    aead->tag[0].data = (void *)tag;
    /* The provider compares the tag at the end, in constant time. */
    return aead->init(context, NULL, 0, nonce, DCO_NONCE, aead->tag) == 1
           && aead->update(context, NULL, &n, aad_size, aad, aad_size) == 1
           && aead->update(context, out, &n, size, in, size) == 1
           && aead->final(context, out + size, &n, 0) == 1;
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

    /* One store: these are read as one in a moment, see dco_block_load_part. */
    dco_store64(packet, (uint64_t)header << 32 | packet_id);
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
