/* Transports: the sockets that peers are reached through, and the table of them.
 *
 * A transport's id is its slot in the table, with the number of times that the slot was used before
 * in the upper half: what still carries the id of a transport that has gone finds nothing, instead
 * of its successor. The table is written under the engine's lock and read by threads that are
 * online; a transport that was removed is freed when all have passed. */
#ifndef DCO_ENGINE_TRANSPORT_H
#define DCO_ENGINE_TRANSPORT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "dco.h"
#include "engine/events.h"
#include "engine/stream.h"
#include "io/udp.h"

struct dco_engine;

struct dco_transport {
    uint64_t id;
    struct dco_engine *engine; /* from its publication on */
    enum dco_transport_kind kind;
    bool watched;   /* lock: in the receive threads' epoll sets */
    uint32_t peers; /* lock */
    uint32_t pins;  /* lock: calls that use it without the lock */
    atomic_bool failed;
    struct dco_event_record record;
    unsigned sockets; /* UDP: one, or one for each worker */
    struct dco_udp *udp;
    unsigned home; /* TCP: the worker that reads and writes it */
    struct dco_stream *stream;
    struct dco_listener *listener;
    struct dco_rcu_node rcu; /* of a connection that goes without being detached */
};

struct dco_transport_table {
    _Atomic(struct dco_transport *) *slot; /* DCO_TRANSPORTS_MAX of them */
    uint32_t *uses;                        /* lock: of each slot */
    uint32_t *spare;                       /* lock: slots of connections that have gone */
    uint32_t spares;                       /* lock */
    uint32_t high;                         /* lock: no slot from here on was ever used */
    uint32_t count;                        /* lock */
};

int dco_transport_table_init(struct dco_transport_table *table);
void dco_transport_table_destroy(struct dco_transport_table *table); /* all transports, too */
/* What was changed of the sockets, of one or of all, stays as it is when they are closed. */
void dco_transport_keep_options(struct dco_transport *transport);
void dco_transport_table_keep_options(struct dco_transport_table *table);
/* In a forked child: closes the sockets and leaves their options, which are the parent's. */
void dco_transport_table_forget(struct dco_transport_table *table);

static inline uint32_t dco_transport_slot(uint64_t id)
{
    return (uint32_t)(id & (DCO_TRANSPORTS_MAX - 1));
}

/* NULL: gone, or never there. */
static inline struct dco_transport *dco_transport_find(const struct dco_transport_table *table,
                                                       uint64_t id)
{
    struct dco_transport *transport =
        atomic_load_explicit(&table->slot[dco_transport_slot(id)], memory_order_acquire);

    return transport && transport->id == id ? transport : NULL;
}

/* The next one at or after slot `*slot`, and sets `*slot` to its successor; NULL: no more. */
struct dco_transport *dco_transport_next(const struct dco_transport_table *table, uint32_t *slot);

/* The socket that a worker uses: its own, or the only one. */
static inline struct dco_udp *dco_transport_udp(const struct dco_transport *transport,
                                                unsigned worker)
{
    return &transport->udp[worker < transport->sockets ? worker : 0];
}

/* Closes the sockets and frees it; nobody uses it any more. */
void dco_transport_free(struct dco_transport *transport);

/* Like the two that follow, under the lock, and not published yet. `count` > 1: the sockets are
 * siblings already. Errors of dco_udp_attach; -ERANGE: more of them than workers. */
int dco_transport_new_udp(struct dco_engine *engine, const int *fds, unsigned count,
                          const struct dco_transport_config *config,
                          struct dco_transport **transport);
int dco_transport_new_listener(int fd, const struct dco_listener_config *config,
                               struct dco_transport **transport);
/* A connection that is not published yet; its home is the caller's to choose. The descriptor is
 * copied. Errors of dco_tcp_attach. */
int dco_transport_new_tcp(int fd, const struct dco_transport_config *config,
                          struct dco_transport **transport);

/* Under the lock: gives it an id, makes it known and watches its sockets. */
int dco_transport_publish(struct dco_engine *engine, struct dco_transport *transport);
/* Under the lock: the reverse; threads may still be using it. */
void dco_transport_withdraw(struct dco_engine *engine, struct dco_transport *transport);
/* Under the lock: no thread is told any more when something arrives. */
void dco_transport_unwatch(struct dco_engine *engine, struct dco_transport *transport);

/* A thread has found the socket shut down or dead; its peers go for this reason. False: busy, try
 * again later. */
bool dco_transport_fail(struct dco_engine *engine, struct dco_transport *transport, int error,
                        enum dco_delete_reason reason);

/* Empties the error queue of one socket and charges each entry to the peer it is about. */
void dco_transport_drain_errors(struct dco_engine *engine, struct dco_transport *transport,
                                struct dco_udp *udp);

#endif
