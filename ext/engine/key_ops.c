/* Keys of a peer. */
#define _GNU_SOURCE
#include <errno.h>

#include "engine/engine.h"

static void retire(struct dco_engine *engine, struct dco_key *key)
{
    if (key)
        dco_rcu_retire(&engine->rcu, &key->rcu, dco_key_release);
}

static int check_slot(enum dco_slot slot)
{
    return slot == DCO_SLOT_PRIMARY || slot == DCO_SLOT_SECONDARY ? 0 : -EINVAL;
}

/* With one id in both slots the receiver could only guess. */
static bool other_slot_has(struct dco_peer *peer, enum dco_slot slot, uint8_t key_id)
{
    struct dco_key *other = dco_keyslots_get(&peer->keys, slot ^ 1);

    return other && other->key_id == key_id;
}

/* The code for AES-GCM as it is allowed now; a key keeps it. */
static enum dco_gcm_kind choose_gcm(struct dco_engine *engine)
{
    bool allowed = atomic_load(&engine->offloads) & DCO_OFFLOAD_VAES_GCM;

    return allowed ? engine->own_gcm : DCO_GCM_NONE;
}

/* Owns the key. */
static int install(struct dco_engine *engine, struct dco_peer_ref ref, enum dco_slot slot,
                   struct dco_key *key, bool fresh)
{
    struct dco_peer *peer;
    int error = dco_engine_enter(engine);

    if (error) {
        dco_key_free(key);
        return error;
    }
    peer = dco_engine_find(engine, ref);
    if (!peer)
        error = -ENOENT;
    else if (other_slot_has(peer, slot, key->key_id))
        error = -EINVAL;
    else {
        retire(engine, dco_keyslots_set(&peer->keys, slot, key));
        if (fresh)
            dco_limits_renew(&peer->limits, dco_peer_crossed(peer));
        if (peer->transport->stream)
            dco_stream_ready(engine, peer->transport);
    }
    dco_engine_leave(engine);
    if (error)
        dco_key_free(key);
    return error;
}

/* The contexts are made before the lock is taken: key schedules are slow. */
int dco_key_install(struct dco_engine *engine, struct dco_peer_ref ref, enum dco_slot slot,
                    const struct dco_key_config *config)
{
    struct dco_key *key;
    int error = check_slot(slot);

    if (!error)
        error = dco_key_new(config, engine->library, choose_gcm(engine), &key);
    return error ? error : install(engine, ref, slot, key, true);
}

int dco_key_import(struct dco_engine *engine, struct dco_peer_ref ref, enum dco_slot slot,
                   const struct dco_key_state *state)
{
    struct dco_key *key;
    int error = check_slot(slot);

    if (!error)
        error = dco_key_load(state, engine->library, choose_gcm(engine), &key);
    return error ? error : install(engine, ref, slot, key, false);
}

int dco_key_export(struct dco_engine *engine, struct dco_peer_ref ref, enum dco_slot slot,
                   uint64_t reserve, struct dco_key_state *state)
{
    struct dco_peer *peer;
    struct dco_key *key;
    int error = check_slot(slot);

    if (!error)
        error = dco_engine_enter(engine);
    if (error)
        return error;
    peer = dco_engine_find(engine, ref);
    key = peer ? dco_keyslots_get(&peer->keys, slot) : NULL;
    if (!key)
        error = -ENOENT;
    else
        error = engine->state == DCO_ENGINE_HALTED ? dco_key_save(key, reserve, state) : -EINVAL;
    dco_engine_leave(engine);
    return error;
}

int dco_key_swap(struct dco_engine *engine, struct dco_peer_ref ref)
{
    struct dco_peer *peer;
    int error = dco_engine_enter(engine);

    if (error)
        return error;
    peer = dco_engine_find(engine, ref);
    if (peer) {
        dco_keyslots_swap(&peer->keys);
        dco_limits_renew(&peer->limits, dco_peer_crossed(peer));
    }
    dco_engine_leave(engine);
    return peer ? 0 : -ENOENT;
}

int dco_key_delete(struct dco_engine *engine, struct dco_peer_ref ref, enum dco_slot slot)
{
    struct dco_peer *peer;
    int error = check_slot(slot);

    if (!error)
        error = dco_engine_enter(engine);
    if (error)
        return error;
    peer = dco_engine_find(engine, ref);
    if (peer)
        retire(engine, dco_keyslots_set(&peer->keys, slot, NULL));
    dco_engine_leave(engine);
    return peer ? 0 : -ENOENT;
}

int dco_key_query(struct dco_engine *engine, struct dco_peer_ref ref, enum dco_slot slot,
                  struct dco_key_info *info)
{
    struct dco_peer *peer;
    struct dco_key *key;
    int error = check_slot(slot);

    if (!error)
        error = dco_engine_enter(engine);
    if (error)
        return error;
    peer = dco_engine_find(engine, ref);
    key = peer ? dco_keyslots_get(&peer->keys, slot) : NULL;
    if (key) {
        *info = (struct dco_key_info){
            .key_id = key->key_id,
            .cipher = key->cipher,
            .key_size = key->key_size,
            .packets_sealed = dco_counter_read(&key->sealed),
            .usage = dco_counter_read(&key->usage),
            .vaes_gcm = key->epochs ? key->epochs->own && key->cipher == DCO_CIPHER_AES_GCM
                                    : key->sealing.own,
        };
        if (key->epochs) {
            info->send_epoch = atomic_load(&key->epochs->send_epoch);
            info->receive_epoch = atomic_load(&key->epochs->receive_epoch);
        }
    }
    dco_engine_leave(engine);
    return key ? 0 : -ENOENT;
}

void dco_engine_key_event(struct dco_engine *engine, struct dco_peer *peer, struct dco_key *key,
                          enum dco_event_kind kind)
{
    bool soon = kind == DCO_EVENT_KEY_SOON;
    atomic_bool *reported = soon ? &key->soon_reported : &key->exhausted_reported;
    struct dco_event_record news = {.kind = kind, .key_id = key->key_id};

    if (!atomic_load_explicit(reported, memory_order_relaxed) && !atomic_exchange(reported, true))
        dco_events_post(&engine->events,
                        &peer->record[soon ? DCO_RECORD_KEY_SOON : DCO_RECORD_KEY_EXHAUSTED],
                        &news);
}
