/* A worker is two threads: TUN to UDP, which seals and keeps the timers, and UDP to TUN, which
 * opens. They never touch Python, block in epoll_wait, and share nothing per packet. It has a TUN
 * queue and a socket of its own, and is the home of some peers: it alone seals and opens for them.
 *
 * While there is little to seal, the receive thread does that too: an echo reply, or what an
 * acknowledgement lets go, is in the TUN before the write of its cause returns, and to wake another
 * thread costs more than the packet. When a batch fills up, the TUN is handed to the transmit
 * thread, which gives it back after a moment of silence. On a single core the receive thread keeps
 * it, and the transmit thread's other work too: there is only one thread then. */
#ifndef DCO_ENGINE_WORKER_H
#define DCO_ENGINE_WORKER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "engine/handoff.h"
#include "engine/stats.h"
#include "io/tcp_queue.h"
#include "sync/rcu.h"

struct dco_engine;
struct dco_transmit;
struct dco_receive;

struct dco_worker {
    struct dco_engine *engine;
    unsigned index; /* in engine->worker */
    bool single;    /* one thread for both directions */
    pthread_t transmit_thread, receive_thread;
    bool transmit_started, receive_started;
    pthread_mutex_t sealing; /* held by whoever seals, for a batch */
    atomic_bool handed;      /* the TUN is the transmit thread's; changed under `sealing` */
    atomic_bool stopping;
    int stop_fd;  /* eventfd, in both epoll sets: readable from the stop on */
    int kick_fd;  /* eventfd: the timers have new work */
    int timer_fd; /* CLOCK_BOOTTIME, transmit thread's */
    int transmit_epoll, receive_epoll;
    struct dco_handoff to_seal; /* from TUN queues, receive threads, API; consumer: `sealing` */
    struct dco_handoff to_open; /* from other workers' sockets; consumer: receive thread */
    struct dco_ring control;    /* receive thread to API */
    struct dco_tcp_pool pool;   /* sealing: for what TCP connections do not take at once */
    struct dco_rcu_reader *transmit_reader, *receive_reader;
    struct dco_transmit *transmit;
    struct dco_receive *receive;
};

int dco_worker_init(struct dco_worker *worker, struct dco_engine *engine, unsigned index);
/* Threads must have stopped. */
void dco_worker_destroy(struct dco_worker *worker);

int dco_worker_start(struct dco_worker *worker);
/* In two steps, so that all workers of an engine stop at once. */
void dco_worker_stop(struct dco_worker *worker);
void dco_worker_join(struct dco_worker *worker);

/* After a stop, of one that could not be started in full: it can be started again. */
void dco_worker_undo_start(struct dco_worker *worker);

/* Something about the timers has changed. From any thread. */
void dco_worker_kick(struct dco_worker *worker);

/* Watches a socket for the receive thread, under the id of its transport. */
int dco_worker_watch(struct dco_worker *worker, int fd, uint64_t transport);
/* A socket that is watched is left alone from now on (`held`); or the receive thread is told at once
 * that it need not be, by EPOLLOUT, since a socket that nothing was sent to has room. */
void dco_worker_hold(struct dco_worker *worker, int fd, uint64_t transport, bool held);
/* As in the beginning. */
void dco_worker_resume(struct dco_worker *worker, int fd, uint64_t transport);
void dco_worker_unwatch(struct dco_worker *worker, int fd);

void dco_worker_stats(const struct dco_worker *worker, struct dco_engine_stats *sum);

#endif
