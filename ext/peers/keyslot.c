#include "peers/keyslot.h"

#include <errno.h>
#include <stdlib.h>

#include <openssl/crypto.h>

static void set_limits(struct dco_key *key)
{
    bool gcm = key->cipher == DCO_CIPHER_AES_GCM;

    key->usage_limit = gcm ? DCO_AES_GCM_USAGE_LIMIT : UINT64_MAX;
    key->usage_soon = gcm ? DCO_AES_GCM_USAGE_LIMIT / 8 * 7 : UINT64_MAX;
    key->forgery_limit = gcm ? DCO_AES_GCM_FORGERY_LIMIT : DCO_CHACHA_FORGERY_LIMIT;
}

static bool config_valid(const struct dco_key_config *config)
{
    return config->key_id <= DCO_KEY_ID_MAX && config->first_packet_id <= DCO_PKTID_MAX
           && config->encrypt_key && config->decrypt_key
           && config->encrypt_key_size == config->decrypt_key_size;
}

int dco_key_new(const struct dco_key_config *config, OSSL_LIB_CTX *library, enum dco_gcm_kind own,
                struct dco_key **out)
{
    struct dco_key *key;
    int error;

    if (!config_valid(config))
        return -EINVAL;
    key = aligned_alloc(DCO_CACHE_LINE, sizeof *key);
    if (!key)
        return -ENOMEM;
    memset(key, 0, sizeof *key);
    key->key_id = config->key_id;
    key->cipher = config->cipher;
    key->key_size = (uint8_t)config->encrypt_key_size;
    set_limits(key);
    dco_pktid_counter_init(&key->counter, config->first_packet_id);
    dco_pktid_window_init(&key->window);

    error = dco_aead_init(&key->sealing, library, config->cipher, config->encrypt_key,
                          config->encrypt_key_size, config->encrypt_nonce_tail, true, own);
    if (!error)
        error = dco_aead_init(&key->opening, library, config->cipher, config->decrypt_key,
                              config->decrypt_key_size, config->decrypt_nonce_tail, false, own);
    if (error) {
        dco_key_free(key);
        return error;
    }
    *out = key;
    return 0;
}

void dco_key_free(struct dco_key *key)
{
    if (!key)
        return;
    dco_aead_clear(&key->sealing);
    dco_aead_clear(&key->opening);
    OPENSSL_cleanse(key, sizeof *key);
    free(key);
}

void dco_key_release(struct dco_rcu_node *node)
{
    dco_key_free((struct dco_key *)((char *)node - offsetof(struct dco_key, rcu)));
}

struct dco_key *dco_keyslots_set(struct dco_keyslots *slots, enum dco_slot slot,
                                 struct dco_key *key)
{
    uint8_t index = atomic_load_explicit(&slots->primary, memory_order_relaxed) ^ (uint8_t)slot;

    return atomic_exchange_explicit(&slots->slot[index], key, memory_order_acq_rel);
}

void dco_keyslots_swap(struct dco_keyslots *slots)
{
    atomic_store_explicit(&slots->primary,
                          atomic_load_explicit(&slots->primary, memory_order_relaxed) ^ 1,
                          memory_order_release);
}
