/* The engine's inside: what its threads and the API share.
 *
 * `lock` serialises everything that changes peers, keys, routes, transports and endpoints. API
 * calls take it; the threads only ever try it, so that no caller can hold up traffic. */
#ifndef DCO_ENGINE_ENGINE_H
#define DCO_ENGINE_ENGINE_H

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include <openssl/evp.h>

#include "dco.h"
#include "engine/events.h"
#include "engine/transport.h"
#include "engine/worker.h"
#include "io/tun.h"
#include "peers/lpm.h"
#include "peers/peer_table.h"
#include "sync/rcu.h"

struct dco_trace;

enum dco_engine_state { DCO_ENGINE_NEW, DCO_ENGINE_RUNNING, DCO_ENGINE_HALTED, DCO_ENGINE_CLOSED };

struct dco_engine {
    struct dco_engine_config config;
    OSSL_LIB_CTX *library;
    enum dco_gcm_kind own_gcm; /* what the probe found */
    pthread_mutex_t closing;   /* held for the whole of a close; taken before `lock` */
    pthread_mutex_t lock;
    enum dco_engine_state state;        /* lock */
    atomic_bool closed;                 /* the same for calls that do without the lock */
    _Atomic uint32_t calls;             /* of that kind, under way: a close waits for them */
    bool tun_open;                      /* lock */
    uint64_t generations;               /* lock */
    enum dco_source_check source_check; /* lock; what it is for a peer stands there */
    struct dco_lpm_route *reserved;     /* lock: addresses that are no peer's */
    _Atomic uint8_t forwarding;         /* enum dco_forwarding */
    _Atomic uint32_t copies_per_s;      /* of multicast and broadcast, each worker; 0: none */
    _Atomic uint32_t offloads;          /* what may be used */

    struct dco_rcu rcu;
    struct dco_tun tun;
    struct dco_peer_table peers;
    struct dco_lpm lpm;
    _Atomic(struct dco_peer *) only; /* P2P: the peer, or NULL */
    struct dco_transport_table transports;
    struct dco_transport *trials, *last_trial; /* lock: connections without a peer, by deadline */
    _Atomic uint32_t trial_count;              /* of them */
    atomic_bool listeners_pause;               /* some are not watched for a moment */
    unsigned turn;                             /* lock: the next attached connection's home */

    dco_counter
        held_lost; /* frames that waited for a key when their connection went; any thread's */

    struct dco_events events;
    struct dco_bell control_bell;
    pthread_mutex_t control_lock; /* between API readers */
    struct dco_event_record interface_gone;
    atomic_bool tun_gone; /* and nobody listens to it any more */
    struct dco_worker *worker;
    unsigned workers; /* fixed at creation */

    _Atomic(struct dco_trace *) trace; /* lock: what the threads write; NULL: no trace */
    struct dco_trace *tracing;         /* control_lock: what the API reads, also after the end */
};

static inline uint64_t dco_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_BOOTTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Takes the lock: 0, or -EBADF (and no lock) when the engine is closed. */
int dco_engine_enter(struct dco_engine *engine);
void dco_engine_leave(struct dco_engine *engine);

/* For a call that waits, or uses what only a close takes away, without the lock: 0, or -EBADF when
 * the engine is closed. Either this sees `closed`, or the close sees the call: both are
 * sequentially consistent. */
static inline int dco_engine_join(struct dco_engine *engine)
{
    atomic_fetch_add(&engine->calls, 1);
    if (!atomic_load(&engine->closed))
        return 0;
    atomic_fetch_sub(&engine->calls, 1);
    return -EBADF;
}

static inline void dco_engine_part(struct dco_engine *engine)
{
    atomic_fetch_sub(&engine->calls, 1);
}

/* Under the lock: the peer, or NULL when it is gone or of another generation. */
struct dco_peer *dco_engine_find(struct dco_engine *engine, struct dco_peer_ref ref);

/* Under the lock: unlinks the peer everywhere. Its keys are cleansed and its deletion is told as
 * soon as all threads have passed, with counters that are then final. */
void dco_engine_remove_peer(struct dco_engine *engine, struct dco_peer *peer,
                            enum dco_delete_reason reason);

/* Under the lock. */
void dco_engine_drop_reserved(struct dco_engine *engine);

/* Under the lock: all peers of a transport. */
void dco_engine_remove_peers_of(struct dco_engine *engine, struct dco_transport *transport,
                                enum dco_delete_reason reason);

/* The owner of an inner address, for threads that are online. */
static inline struct dco_peer *dco_engine_owner(struct dco_engine *engine, uint8_t family,
                                                const uint8_t *ip)
{
    return dco_lpm_lookup(&engine->lpm, family, ip);
}

/* A key should be replaced, or can seal no more; told once per key and reason. */
void dco_engine_key_event(struct dco_engine *engine, struct dco_peer *peer, struct dco_key *key,
                          enum dco_event_kind kind);

/* Hands a packet to the control port. `peer_id` < 0: not from inside a data packet. The bell is the
 * caller's to ring, once per batch. */
bool dco_control_put(struct dco_worker *worker, uint64_t transport, int64_t peer_id,
                     const struct dco_address *remote, const struct dco_address *local,
                     const void *data, size_t size);

#endif
