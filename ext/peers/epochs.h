/* The epochs of one key in the epoch format: which of them seal and open now, and which come next.
 *
 * To derive a key is slow and allocates, so the data path never does it: it takes keys that lie
 * ready, and throws spent ones on a heap. Whenever it did either, it wants a refill, which somebody
 * else makes: the refiller frees the heap and derives ahead, so that one key more to seal with, and
 * `futures` more to open with, lie ready again. Whoever is the first to want one wakes it. An epoch whose key is not there yet is treated as
 * one that is too far ahead.
 *
 * Who may touch what: the fields name their owner. The refiller is whoever makes the key, before
 * anybody else can see it, and later the timer of the peer's home worker; one at a time. Keys change
 * hands through the atomic pointers only, each of which one side fills when it is NULL (release) and
 * the other empties (acquire). */
#ifndef DCO_PEERS_EPOCHS_H
#define DCO_PEERS_EPOCHS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "codec/epochkey.h"
#include "codec/pktid.h"
#include "drops.h"

/* One epoch of one direction. Of whoever may use it; all but `key` is for opening only. */
struct dco_epoch {
    struct dco_epochkey key;
    struct dco_epoch *next; /* on the heap */
    uint64_t usage;         /* AES-GCM: blocks plus packets */
    uint64_t forgeries;
    struct dco_pktid_window window;
};

struct dco_epochs_config {
    int cipher;
    enum dco_gcm_kind own; /* as for dco_aead_init */
    size_t key_size;       /* bytes */
    const uint8_t *send_secret, *receive_secret;
    uint32_t send_first, receive_first; /* epochs to start in */
    bool late_secrets;                  /* the secrets are theirs, not those of epoch 1 */
    uint32_t futures;                   /* 1 to DCO_EPOCH_FUTURES_MAX */
    uint64_t usage_limit, forgery_limit;
};

struct dco_epochs {
    /* fixed at creation */
    OSSL_LIB_CTX *library;
    int cipher;
    enum dco_gcm_kind own; /* the code for AES-GCM */
    size_t key_size;
    uint32_t futures;
    uint64_t usage_limit;   /* blocks plus packets of one epoch */
    uint64_t forgery_limit; /* failed packets after which an epoch opens no more */

    /* refiller's: the next epoch of each direction to derive; and the one in use, from which another
     * could go on. What leads further back is gone. */
    struct dco_epochkey_chain send_chain, receive_chain;
    struct dco_epochkey_chain send_base, receive_base;

    /* refiller's: not again before this time. A peer that hurries through its epochs would keep it
     * busy, to the cost of all others. */
    uint64_t pause_until_ns;

    /* set by the threads, cleared by the refiller */
    atomic_bool wanting;
    _Atomic(struct dco_epoch *) heap; /* pushed by the threads, emptied by the refiller */

    /* of whoever seals */
    struct dco_epoch *sealing;
    _Atomic(struct dco_epoch *) sealing_next; /* filled by the refiller */
    _Atomic uint32_t send_epoch;              /* of `sealing`, for all to read */

    /* receive thread's */
    struct dco_epoch *current, *retiring;
    _Atomic(struct dco_epoch *)
        future[DCO_EPOCH_FUTURES_MAX]; /* epoch modulo `futures`; as above */
    _Atomic uint32_t receive_epoch;    /* of `current`: how far the peer has shown to be */
};

/* Derives everything that the first packets may need. An error of dco_epochkey_take, or -EINVAL. */
int dco_epochs_new(const struct dco_epochs_config *config, OSSL_LIB_CTX *library,
                   struct dco_epochs **epochs);
/* Holder of `sealing`: the secrets of the epochs in use. An error of dco_epochkey_expand. */
int dco_epochs_bases(struct dco_epochs *epochs, const struct dco_epochkey_chain **send,
                     const struct dco_epochkey_chain **receive);
/* Cleanses and frees; nobody else may see it any more. NULL is fine. */
void dco_epochs_free(struct dco_epochs *epochs);

/* Refiller: does what is wanted. An error: it will have to be tried again. */
int dco_epochs_refill(struct dco_epochs *epochs);
static inline bool dco_epochs_wanting(const struct dco_epochs *epochs)
{
    return atomic_load_explicit(&epochs->wanting, memory_order_relaxed);
}

/* Sealing. Whether the limits of this epoch may be left behind by going to the next: the peer must
 * have followed to this one, and it must not be the last. */
bool dco_epochs_may_turn(const struct dco_epochs *epochs);
/* Whether the peer is ahead of us. */
bool dco_epochs_behind(const struct dco_epochs *epochs);
/* Goes to the next epoch; the counters of the last one are the caller's to reset. False: its key is
 * not there yet. `*wake`: the refiller has to be told. */
bool dco_epochs_turn(struct dco_epochs *epochs, bool *wake);

/* Opening. What a packet has shown besides what is in it. */
struct dco_epochs_opened {
    bool newest; /* the highest id yet of the current epoch */
    bool moved;  /* its epoch has become the current one */
    bool wake;   /* the refiller has to be told */
    bool soon;   /* the key should have a successor */
};

/* Opens in place, checks the packet id in the window of its epoch, and goes forward when the packet
 * is authentic and of a later epoch. DCO_DROP_NONE, or the reason; then nothing but counters has
 * changed. */
enum dco_drop dco_epochs_open(struct dco_epochs *epochs, uint8_t *packet, uint32_t size,
                              uint64_t now_s, struct dco_epochs_opened *opened);

#endif
