#include "peers/keyslot.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

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
    uint64_t last = config->future_epochs ? DCO_EPOCH_COUNTER_MAX : DCO_PKTID_MAX;

    return config->key_id <= DCO_KEY_ID_MAX && config->first_packet_id <= last
           && config->encrypt_key && config->decrypt_key
           && config->encrypt_key_size == config->decrypt_key_size;
}

static int init_classic(struct dco_key *key, const struct dco_key_config *config,
                        OSSL_LIB_CTX *library, enum dco_gcm_kind own)
{
    int error = dco_aead_init(&key->sealing, library, config->cipher, config->encrypt_key,
                              config->encrypt_key_size, config->encrypt_nonce_tail, true, own);

    if (!error)
        error = dco_aead_init(&key->opening, library, config->cipher, config->decrypt_key,
                              config->decrypt_key_size, config->decrypt_nonce_tail, false, own);
    if (error)
        return error;
    key->key_size = (uint8_t)config->encrypt_key_size;
    memcpy(key->material[0], config->encrypt_key, key->key_size);
    memcpy(key->material[1], config->decrypt_key, key->key_size);
    dco_pktid_counter_init(&key->counter, config->first_packet_id, DCO_PKTID_MAX);
    dco_pktid_window_init(&key->window);
    return error;
}

static int init_epochs(struct dco_key *key, const struct dco_key_config *config,
                       OSSL_LIB_CTX *library, enum dco_gcm_kind own)
{
    struct dco_epochs_config epochs = {
        .cipher = config->cipher,
        .own = own,
        .key_size = config->epoch_key_size,
        .send_secret = config->encrypt_key,
        .receive_secret = config->decrypt_key,
        .send_first = config->first_epoch ? config->first_epoch : 1,
        .receive_first = config->receive_epoch ? config->receive_epoch : config->first_epoch,
        .late_secrets = config->late_secrets,
        .futures = config->future_epochs,
        .usage_limit = key->usage_limit,
        .forgery_limit = key->forgery_limit,
    };

    if (config->encrypt_key_size != DCO_EPOCH_SECRET)
        return -EINVAL;
    if (!epochs.receive_first)
        epochs.receive_first = 1;
    key->key_size = (uint8_t)config->epoch_key_size;
    dco_pktid_counter_init(&key->counter, config->first_packet_id, DCO_EPOCH_COUNTER_MAX);
    return dco_epochs_new(&epochs, library, &key->epochs);
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
    set_limits(key);
    error = config->future_epochs ? init_epochs(key, config, library, own)
                                  : init_classic(key, config, library, own);
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
    dco_epochs_free(key->epochs);
    OPENSSL_cleanse(key, sizeof *key);
    free(key);
}

void dco_key_release(struct dco_rcu_node *node)
{
    dco_key_free((struct dco_key *)((char *)node - offsetof(struct dco_key, rcu)));
}

/* Leaves an epoch whose limits are reached, or which the peer has left. */
static unsigned turn_epoch(struct dco_key *key, uint64_t cost)
{
    bool spent = dco_counter_read(&key->usage) + cost > key->usage_limit
                 || key->counter.next > key->counter.last;
    bool wake;

    if (key->exported)
        return 0; /* the epochs to come are the other engine's */
    if (!(spent ? dco_epochs_may_turn(key->epochs) : dco_epochs_behind(key->epochs))
        || !dco_epochs_turn(key->epochs, &wake))
        return 0;
    dco_pktid_counter_init(&key->counter, 1, DCO_EPOCH_COUNTER_MAX);
    dco_counter_set(&key->usage, 0);
    return wake ? DCO_KEY_TURNED | DCO_KEY_WAKE : DCO_KEY_TURNED;
}

/* With epochs the limits of one are no reason, unless there is no way to the next. */
static bool ends_soon(const struct dco_key *key, uint64_t usage, uint64_t packet_id)
{
    bool near = usage >= key->usage_soon || packet_id >= key->counter.last / 8 * 7;

    if (!key->epochs)
        return near;
    return key->epochs->sealing->key.epoch >= DCO_EPOCH_SOON
           || (near && !dco_epochs_may_turn(key->epochs));
}

unsigned dco_key_take_id(struct dco_key *key, uint32_t size, uint64_t *packet_id)
{
    uint64_t cost = (size + 15) / 16 + 1, usage;
    unsigned news = key->epochs ? turn_epoch(key, cost) : 0;

    usage = dco_counter_read(&key->usage) + cost;
    if (usage > key->usage_limit || !dco_pktid_next(&key->counter, packet_id)) {
        news |= DCO_KEY_NO_ID;
        /* Else the next epoch's key is on its way. */
        if (!key->epochs || !dco_epochs_may_turn(key->epochs))
            news |= DCO_KEY_SPENT;
        return news;
    }
    dco_counter_set(&key->usage, usage);
    dco_counter_add(&key->sealed, 1);
    return ends_soon(key, usage, *packet_id) ? news | DCO_KEY_SOON : news;
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

/* --- state --- */

static int save_epochs(const struct dco_key *key, struct dco_key_state *state)
{
    const struct dco_epochkey_chain *send, *receive;
    int error = dco_epochs_bases(key->epochs, &send, &receive);

    if (error)
        return error;
    state->future_epochs = key->epochs->futures;
    state->send_epoch = send->epoch;
    state->receive_epoch = receive->epoch;
    memcpy(state->encrypt, send->secret, DCO_EPOCH_SECRET);
    memcpy(state->decrypt, receive->secret, DCO_EPOCH_SECRET);
    state->newest_packet_id = key->epochs->current->window.newest;
    state->forgeries = key->epochs->current->forgeries;
    return 0;
}

static void save_classic(const struct dco_key *key, struct dco_key_state *state)
{
    memcpy(state->encrypt, key->material[0], sizeof state->encrypt);
    memcpy(state->decrypt, key->material[1], sizeof state->decrypt);
    memcpy(state->encrypt_nonce_tail, key->sealing.nonce_tail, DCO_NONCE_TAIL);
    memcpy(state->decrypt_nonce_tail, key->opening.nonce_tail, DCO_NONCE_TAIL);
    state->newest_packet_id = key->window.newest;
    state->forgeries = key->forgeries;
}

/* What the other one starts with is what this one does not reach. */
static void reserve_ids(struct dco_pktid_counter *counter, uint64_t reserve)
{
    uint64_t left = counter->last - (counter->next - 1);

    counter->last = counter->next - 1 + (reserve < left / 2 ? reserve : left / 2);
}

int dco_key_save(struct dco_key *key, uint64_t reserve, struct dco_key_state *state)
{
    memset(state, 0, sizeof *state);
    state->key_id = key->key_id;
    state->cipher = key->cipher;
    state->key_size = key->key_size;
    state->packets_sealed = dco_counter_read(&key->sealed);
    state->usage = dco_counter_read(&key->usage);
    state->open_usage = dco_counter_read(&key->open_usage);
    reserve_ids(&key->counter, reserve);
    key->exported = true;
    state->next_packet_id = key->counter.last + 1;
    if (key->epochs)
        return save_epochs(key, state);
    save_classic(key, state);
    return 0;
}

/* Nothing that was received before is taken: which ids those were is not part of the state. */
static void go_on(struct dco_key *key, const struct dco_key_state *state)
{
    struct dco_epoch *epoch = key->epochs ? key->epochs->current : NULL;
    struct dco_pktid_window *window = epoch ? &epoch->window : &key->window;

    key->counter.next = state->next_packet_id;
    dco_counter_set(&key->sealed, state->packets_sealed);
    dco_counter_set(&key->usage, state->usage);
    dco_counter_set(&key->open_usage, state->open_usage);
    *(epoch ? &epoch->forgeries : &key->forgeries) = state->forgeries;
    window->newest = window->floor = state->newest_packet_id;
}

int dco_key_load(const struct dco_key_state *state, OSSL_LIB_CTX *library, enum dco_gcm_kind own,
                 struct dco_key **key)
{
    size_t size = state->future_epochs ? DCO_EPOCH_SECRET : state->key_size;
    struct dco_key_config config = {
        .key_id = state->key_id,
        .cipher = state->cipher,
        .encrypt_key = state->encrypt,
        .decrypt_key = state->decrypt,
        .encrypt_key_size = size,
        .decrypt_key_size = size,
        .first_packet_id = 1,
        .future_epochs = state->future_epochs,
        .first_epoch = state->send_epoch,
        .receive_epoch = state->receive_epoch,
        .late_secrets = true,
        .epoch_key_size = state->key_size,
    };
    int error;

    memcpy(config.encrypt_nonce_tail, state->encrypt_nonce_tail, DCO_NONCE_TAIL);
    memcpy(config.decrypt_nonce_tail, state->decrypt_nonce_tail, DCO_NONCE_TAIL);
    if (size > sizeof state->encrypt || !state->next_packet_id)
        return -EINVAL;
    error = dco_key_new(&config, library, own, key);
    if (!error)
        go_on(*key, state);
    return error;
}
