#include "peers/epochs.h"

#include <errno.h>
#include <stdlib.h>

#include <openssl/crypto.h>

/* A whole number of cache lines: keys that two threads use share none. */
#define EPOCH_SIZE                                                                                 \
    ((sizeof(struct dco_epoch) + DCO_CACHE_LINE - 1) / DCO_CACHE_LINE * DCO_CACHE_LINE)

/* --- refiller --- */

static void epoch_free(struct dco_epoch *epoch)
{
    if (!epoch)
        return;
    dco_epochkey_clear(&epoch->key);
    OPENSSL_cleanse(epoch, sizeof *epoch);
    free(epoch);
}

static void empty_heap(struct dco_epochs *epochs)
{
    struct dco_epoch *epoch = atomic_exchange_explicit(&epochs->heap, NULL, memory_order_acquire);

    while (epoch) {
        struct dco_epoch *next = epoch->next;
        epoch_free(epoch);
        epoch = next;
    }
}

/* The key of the chain's epoch. */
static int derive(struct dco_epochs *epochs, struct dco_epochkey_chain *chain, bool seal,
                  struct dco_epoch **out)
{
    struct dco_epoch *epoch = aligned_alloc(DCO_CACHE_LINE, EPOCH_SIZE);
    int error;

    if (!epoch)
        return -ENOMEM;
    memset(epoch, 0, sizeof *epoch);
    error = dco_epochkey_take(&epoch->key, chain, epochs->library, epochs->cipher, epochs->key_size,
                              seal, epochs->own);
    if (error) {
        free(epoch);
        return error;
    }
    dco_pktid_window_init(&epoch->window);
    *out = epoch;
    return 0;
}

static int go_to(struct dco_epochs *epochs, struct dco_epochkey_chain *chain, uint32_t epoch)
{
    int error = 0;

    while (!error && chain->epoch < epoch)
        error = dco_epochkey_chain_step(chain, epochs->library);
    return error;
}

/* The epoch after the one that seals, or the peer's when that is further. */
static int refill_sealing(struct dco_epochs *epochs, uint32_t shown)
{
    struct dco_epoch *epoch;
    int error;

    if (atomic_load_explicit(&epochs->sealing_next, memory_order_acquire)
        || epochs->send_chain.epoch > DCO_EPOCH_MAX)
        return 0;
    error = go_to(epochs, &epochs->send_chain, shown);
    if (!error)
        error = derive(epochs, &epochs->send_chain, true, &epoch);
    if (!error)
        atomic_store_explicit(&epochs->sealing_next, epoch, memory_order_release);
    return error;
}

/* The slot is free: its last epoch is `futures` back, hence at most `shown`, and the receive thread
 * emptied the slots of all those before it published `shown`. */
static int refill_future(struct dco_epochs *epochs, uint32_t shown)
{
    uint32_t last = shown + epochs->futures;
    struct dco_epoch *epoch;
    int error = 0;

    if (last > DCO_EPOCH_MAX)
        last = DCO_EPOCH_MAX;
    while (!error && epochs->receive_chain.epoch <= last) {
        error = derive(epochs, &epochs->receive_chain, false, &epoch);
        if (!error)
            atomic_store_explicit(&epochs->future[epoch->key.epoch % epochs->futures], epoch,
                                  memory_order_release);
    }
    return error;
}

static int follow(struct dco_epochs *epochs)
{
    int error = go_to(epochs, &epochs->send_base,
                      atomic_load_explicit(&epochs->send_epoch, memory_order_relaxed));

    if (!error)
        error = go_to(epochs, &epochs->receive_base,
                      atomic_load_explicit(&epochs->receive_epoch, memory_order_acquire));
    return error;
}

int dco_epochs_bases(struct dco_epochs *epochs, const struct dco_epochkey_chain **send,
                     const struct dco_epochkey_chain **receive)
{
    *send = &epochs->send_base;
    *receive = &epochs->receive_base;
    return follow(epochs);
}

int dco_epochs_refill(struct dco_epochs *epochs)
{
    uint32_t shown;
    int error;

    if (!atomic_exchange_explicit(&epochs->wanting, false, memory_order_acq_rel))
        return 0;
    empty_heap(epochs);
    shown = atomic_load_explicit(&epochs->receive_epoch, memory_order_acquire);
    error = refill_future(epochs, shown);
    if (!error)
        error = refill_sealing(epochs, shown);
    if (!error)
        error = follow(epochs);
    if (error)
        atomic_store_explicit(&epochs->wanting, true, memory_order_release);
    return error;
}

static bool config_valid(const struct dco_epochs_config *config)
{
    return config->send_secret && config->receive_secret && config->send_first >= 1
           && config->send_first <= DCO_EPOCH_MAX && config->receive_first >= 1
           && config->receive_first <= DCO_EPOCH_MAX && config->futures >= 1
           && config->futures <= DCO_EPOCH_FUTURES_MAX;
}

static int start(struct dco_epochs *epochs, const struct dco_epochs_config *config)
{
    int error;

    dco_epochkey_chain_init(&epochs->send_chain, config->send_secret);
    dco_epochkey_chain_init(&epochs->receive_chain, config->receive_secret);
    if (config->late_secrets) {
        epochs->send_chain.epoch = config->send_first;
        epochs->receive_chain.epoch = config->receive_first;
    }
    error = go_to(epochs, &epochs->send_chain, config->send_first);
    if (!error)
        error = go_to(epochs, &epochs->receive_chain, config->receive_first);
    epochs->send_base = epochs->send_chain;
    epochs->receive_base = epochs->receive_chain;
    if (!error)
        error = derive(epochs, &epochs->send_chain, true, &epochs->sealing);
    if (!error)
        error = derive(epochs, &epochs->receive_chain, false, &epochs->current);
    if (error)
        return error;
    atomic_init(&epochs->send_epoch, config->send_first);
    atomic_init(&epochs->receive_epoch, config->receive_first);
    atomic_init(&epochs->wanting, true);
    return dco_epochs_refill(epochs);
}

int dco_epochs_new(const struct dco_epochs_config *config, OSSL_LIB_CTX *library,
                   struct dco_epochs **out)
{
    struct dco_epochs *epochs;
    int error;

    if (!config_valid(config))
        return -EINVAL;
    epochs = calloc(1, sizeof *epochs);
    if (!epochs)
        return -ENOMEM;
    epochs->library = library;
    epochs->cipher = config->cipher;
    epochs->own = config->own;
    epochs->key_size = config->key_size;
    epochs->futures = config->futures;
    epochs->usage_limit = config->usage_limit;
    epochs->forgery_limit = config->forgery_limit;
    error = start(epochs, config);
    if (error)
        dco_epochs_free(epochs);
    else
        *out = epochs;
    return error;
}

void dco_epochs_free(struct dco_epochs *epochs)
{
    if (!epochs)
        return;
    empty_heap(epochs);
    epoch_free(epochs->sealing);
    epoch_free(atomic_load_explicit(&epochs->sealing_next, memory_order_acquire));
    epoch_free(epochs->current);
    epoch_free(epochs->retiring);
    for (uint32_t i = 0; i < epochs->futures; i++)
        epoch_free(atomic_load_explicit(&epochs->future[i], memory_order_acquire));
    OPENSSL_cleanse(epochs, sizeof *epochs);
    free(epochs);
}

/* --- both threads --- */

static void throw_away(struct dco_epochs *epochs, struct dco_epoch *epoch)
{
    epoch->next = atomic_load_explicit(&epochs->heap, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&epochs->heap, &epoch->next, epoch,
                                                  memory_order_release, memory_order_relaxed))
        ;
}

/* True for the first who does. The refiller clears it before it looks, so nothing gets lost. */
static bool want(struct dco_epochs *epochs)
{
    return !atomic_exchange_explicit(&epochs->wanting, true, memory_order_acq_rel);
}

/* --- sealing --- */

bool dco_epochs_may_turn(const struct dco_epochs *epochs)
{
    uint32_t epoch = epochs->sealing->key.epoch;

    return epoch < DCO_EPOCH_MAX
           && epoch <= atomic_load_explicit(&epochs->receive_epoch, memory_order_relaxed);
}

bool dco_epochs_behind(const struct dco_epochs *epochs)
{
    return epochs->sealing->key.epoch
           < atomic_load_explicit(&epochs->receive_epoch, memory_order_relaxed);
}

bool dco_epochs_turn(struct dco_epochs *epochs, bool *wake)
{
    struct dco_epoch *next = atomic_load_explicit(&epochs->sealing_next, memory_order_acquire);

    if (!next)
        return false;
    atomic_store_explicit(&epochs->sealing_next, NULL, memory_order_release);
    throw_away(epochs, epochs->sealing);
    epochs->sealing = next;
    atomic_store_explicit(&epochs->send_epoch, next->key.epoch, memory_order_relaxed);
    *wake = want(epochs);
    return true;
}

/* --- opening --- */

static enum dco_drop find(struct dco_epochs *epochs, uint32_t number, struct dco_epoch **epoch)
{
    uint32_t current = epochs->current->key.epoch;

    if (number == current) {
        *epoch = epochs->current;
    } else if (number < current) {
        if (!epochs->retiring || epochs->retiring->key.epoch != number)
            return DCO_DROP_RX_EPOCH_PAST;
        *epoch = epochs->retiring;
    } else {
        if (number - current > epochs->futures)
            return DCO_DROP_RX_EPOCH_AHEAD;
        *epoch =
            atomic_load_explicit(&epochs->future[number % epochs->futures], memory_order_acquire);
        if (!*epoch || (*epoch)->key.epoch != number)
            return DCO_DROP_RX_EPOCH_AHEAD;
    }
    return DCO_DROP_NONE;
}

/* The chain is derived in order, so the slots of all epochs up to `to` are filled. */
static bool move_to(struct dco_epochs *epochs, struct dco_epoch *to)
{
    for (uint32_t number = epochs->current->key.epoch + 1u; number <= to->key.epoch; number++) {
        struct dco_epoch *skipped = atomic_exchange_explicit(
            &epochs->future[number % epochs->futures], NULL, memory_order_acq_rel);
        if (skipped && skipped != to)
            throw_away(epochs, skipped);
    }
    if (epochs->retiring)
        throw_away(epochs, epochs->retiring);
    epochs->retiring = epochs->current;
    epochs->current = to;
    atomic_store_explicit(&epochs->receive_epoch, to->key.epoch, memory_order_release);
    return want(epochs);
}

enum dco_drop dco_epochs_open(struct dco_epochs *epochs, uint8_t *packet, uint32_t size,
                              uint64_t now_s, struct dco_epochs_opened *opened)
{
    struct dco_epoch *epoch;
    uint64_t counter;
    enum dco_drop drop;

    if (size < DCO_WIRE_EPOCH_OVERHEAD)
        return DCO_DROP_RX_RUNT;
    drop = find(epochs, dco_wire_epoch(packet), &epoch);
    if (drop)
        return drop;
    if (epoch->forgeries >= epochs->forgery_limit)
        return DCO_DROP_RX_KEY_SPENT;
    counter = dco_wire_epoch_counter(packet);
    if (!dco_epochkey_open(&epoch->key, packet, size)) {
        epoch->forgeries++;
        return DCO_DROP_RX_DECRYPT;
    }
    epoch->usage += (size - DCO_WIRE_EPOCH_OVERHEAD + 15) / 16 + 1;
    /* It is the peer's to turn in time; one that does not needs another key. */
    opened->soon = epoch->usage > epochs->usage_limit || epoch->key.epoch >= DCO_EPOCH_SOON;
    if (!dco_pktid_accept(&epoch->window, counter, now_s))
        return DCO_DROP_RX_REPLAY;
    opened->moved = epoch->key.epoch > epochs->current->key.epoch;
    if (opened->moved)
        opened->wake = move_to(epochs, epoch);
    opened->newest = epoch == epochs->current && epoch->window.newest == counter;
    return DCO_DROP_NONE;
}
