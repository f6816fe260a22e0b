/* A TCP connection as a transport of one peer, and the listening sockets that bring some.
 *
 * Bytes come in on the home worker's receive thread. Everything that goes out goes out through the
 * holder of that worker's `sealing`: data as it is sealed, control packets by way of the ring from
 * the API. Before there is a peer with a key only control packets are taken: a data packet stops the
 * reading, and is the first thing that the peer gets.
 *
 * What a listener brings is on trial until a peer is bound: it must speak first, it has a deadline,
 * and there may be so many of them in all and of one source. */
#ifndef DCO_ENGINE_STREAM_H
#define DCO_ENGINE_STREAM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "io/tcp.h"
#include "io/tcp_listen.h"
#include "io/tcp_queue.h"
#include "sync/counter.h"
#include "sync/rcu.h"

struct dco_engine;
struct dco_peer;
struct dco_transport;
struct dco_worker;

struct dco_stream {
    struct dco_tcp tcp;              /* receive half: home receive thread's */
    struct dco_tcp_queue queue;      /* sealing */
    bool writing;                    /* sealing: the transmit epoll set waits for room */
    atomic_bool held;                /* a data packet waits for the peer; receive thread's, lock */
    int broken;                      /* receive thread's: errno of a stream that makes no sense */
    bool accepted;                   /* by a listener; fixed */
    atomic_bool heard;               /* a whole frame has come */
    _Atomic uint32_t control_due;    /* bytes of control packets on their way to the queue */
    _Atomic(struct dco_peer *) peer; /* lock; NULL: none */
    atomic_bool ready;               /* lock: it has had a peer with a key */

    /* on trial; all under the engine's lock */
    struct dco_transport *listener;        /* where it came from; NULL: attached by the caller */
    struct dco_transport *next, *previous; /* in engine->trials, by deadline */
    uint64_t deadline_ns;
};

struct dco_listener {
    struct dco_tcp_listener socket;
    struct dco_listener_config config;
    uint64_t paused_until; /* lock: descriptors ran out; ns, 0: no */
    uint32_t trials;       /* lock: connections that wait for a peer */
    dco_counter accepted, refused, expired;
};

/* Accepts what waits, within limits. True: there may be more at once. */
bool dco_stream_accept(struct dco_worker *worker, struct dco_transport *listener);

/* Under the lock: the connection's peer has a key. A data packet that came before it is held, and
 * comes first. */
void dco_stream_ready(struct dco_engine *engine, struct dco_transport *transport);

/* Under the lock: the connection has a peer, and is on trial no more. */
void dco_stream_acquit(struct dco_engine *engine, struct dco_transport *transport);

/* Ends the trials of this worker whose time is over; `sealing` held. When to come again, or
 * UINT64_MAX. */
uint64_t dco_stream_expire(struct dco_worker *worker, uint64_t now_ns);

/* Under the lock, for threads of the home worker, without `sealing`: ends a connection that nobody
 * else knows. */
void dco_stream_drop(struct dco_worker *worker, struct dco_transport *transport);

/* The home receive thread has met the end. One that nobody was told of needs no telling of its end.
 * False: busy, try again later. */
bool dco_stream_ended(struct dco_worker *worker, struct dco_transport *transport, int error,
                      enum dco_delete_reason reason);

/* `sealing` held: waits for room in the socket, or no longer. */
void dco_stream_await_room(struct dco_worker *worker, struct dco_transport *transport, bool wait);

#endif
