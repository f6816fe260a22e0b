/* Keys, and the two slots of a peer that hold them.
 *
 * A key is a pair of AEAD contexts with the packet ids that belong to them. The sealing half
 * belongs to the peer's home transmit thread, the opening half to its home receive thread. A key in
 * the epoch format has epochs in place of the two contexts and of the window. */
#ifndef DCO_PEERS_KEYSLOT_H
#define DCO_PEERS_KEYSLOT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "codec/aead.h"
#include "codec/pktid.h"
#include "dco.h"
#include "peers/epochs.h"
#include "sync/counter.h"
#include "sync/rcu.h"

struct dco_key {
    struct dco_rcu_node rcu;
    uint8_t key_id;
    uint8_t key_size; /* bytes */
    atomic_bool soon_reported, exhausted_reported;
    enum dco_cipher cipher;
    struct dco_epochs *epochs; /* NULL: the classic format */
    uint64_t usage_limit;      /* blocks plus packets that may be sealed; UINT64_MAX: no limit */
    uint64_t usage_soon;       /* 7/8 of it */
    uint64_t forgery_limit;    /* failed packets after which the key opens no more */
    uint8_t material[2][32];   /* classic: to seal, to open */
    bool exported;             /* of whoever seals: another engine may have the ids that follow */

    /* transmit thread's */
    _Alignas(DCO_CACHE_LINE) struct dco_aead sealing;
    struct dco_pktid_counter counter; /* of the epoch that seals */
    dco_counter sealed;               /* packets, of all epochs */
    dco_counter usage;                /* AES-GCM: blocks plus packets, of the epoch that seals */

    /* receive thread's */
    _Alignas(DCO_CACHE_LINE) struct dco_aead opening;
    dco_counter open_usage;
    uint64_t forgeries;
    struct dco_pktid_window window;
};

/* Allocates everything the key will ever need; `own` is the code for AES-GCM, as for dco_aead_init.
 * -EINVAL, -EOPNOTSUPP, -ENOMEM. */
int dco_key_new(const struct dco_key_config *config, OSSL_LIB_CTX *library, enum dco_gcm_kind own,
                struct dco_key **key);
/* Cleanses and frees; `dco_key_release` is the same for dco_rcu_retire. */
void dco_key_free(struct dco_key *key);
void dco_key_release(struct dco_rcu_node *node);

/* Bytes that sealing adds. */
static inline uint32_t dco_key_overhead(const struct dco_key *key)
{
    return key->epochs ? DCO_WIRE_EPOCH_OVERHEAD : DCO_WIRE_OVERHEAD;
}

/* What taking a packet id has brought to light. */
enum dco_key_news {
    DCO_KEY_NO_ID = 1 << 0,  /* there is none: the packet cannot be sealed */
    DCO_KEY_SOON = 1 << 1,   /* the key should have a successor */
    DCO_KEY_SPENT = 1 << 2,  /* it will never seal again */
    DCO_KEY_TURNED = 1 << 3, /* another epoch seals */
    DCO_KEY_WAKE = 1 << 4,   /* the refiller of its epochs has to be told */
};

/* The id for one packet of `size` bytes, within the limits of the key. A key in the epoch format
 * goes to its next epoch at the limits of the present one, and when the peer did. Returns a set of
 * enum dco_key_news. */
unsigned dco_key_take_id(struct dco_key *key, uint32_t size, uint64_t *packet_id);

/* Writes the packet with the id just taken, dco_key_overhead + `size` bytes. */
static inline bool dco_key_seal(struct dco_key *key, uint32_t header, uint64_t packet_id,
                                const uint8_t *plain, uint32_t size, uint8_t *packet)
{
    if (key->epochs)
        return dco_epochkey_seal(&key->epochs->sealing->key, header, packet_id, plain, size,
                                 packet);
    return dco_aead_seal(&key->sealing, header, (uint32_t)packet_id, plain, size, packet);
}

/* With all threads at rest: everything about the key. `reserve` as in dco.h. An error of
 * dco_epochs_bases. */
int dco_key_save(struct dco_key *key, uint64_t reserve, struct dco_key_state *state);
/* A key from that; errors of dco_key_new. */
int dco_key_load(const struct dco_key_state *state, OSSL_LIB_CTX *library, enum dco_gcm_kind own,
                 struct dco_key **key);

/* The name of a slot is logical: swapping flips which of the two is primary. */
struct dco_keyslots {
    _Atomic(struct dco_key *) slot[2]; /* written under the engine's lock */
    _Atomic uint8_t primary;           /* index into slot */
};

static inline struct dco_key *dco_keyslots_get(const struct dco_keyslots *slots, enum dco_slot slot)
{
    uint8_t primary = atomic_load_explicit(&slots->primary, memory_order_acquire);

    return atomic_load_explicit(&slots->slot[primary ^ (uint8_t)slot], memory_order_acquire);
}

/* The key with this id, primary first; NULL: none. */
static inline struct dco_key *dco_keyslots_find(const struct dco_keyslots *slots, uint8_t key_id)
{
    struct dco_key *key = dco_keyslots_get(slots, DCO_SLOT_PRIMARY);

    if (key && key->key_id == key_id)
        return key;
    /* Both by index, so that a swap in between cannot hide one of them. */
    for (int i = 0; i < 2; i++) {
        key = atomic_load_explicit(&slots->slot[i], memory_order_acquire);
        if (key && key->key_id == key_id)
            return key;
    }
    return NULL;
}

/* Under the engine's lock: puts `key` (or NULL) into the slot and returns what was there. */
struct dco_key *dco_keyslots_set(struct dco_keyslots *slots, enum dco_slot slot,
                                 struct dco_key *key);
void dco_keyslots_swap(struct dco_keyslots *slots);

#endif
