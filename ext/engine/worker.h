/* A worker is two threads: TUN to UDP, which seals and keeps the timers, and UDP to TUN, which
 * opens. They never touch Python, block in epoll_wait, and share nothing per packet.
 *
 * While there is little to seal, the receive thread does that too: an echo reply, or what an
 * acknowledgement lets go, is in the TUN before the write of its cause returns, and to wake another
 * thread costs more than the packet. When a batch fills up, the TUN is handed to the transmit
 * thread, which gives it back after a moment of silence. */
#ifndef DCO_ENGINE_WORKER_H
#define DCO_ENGINE_WORKER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "engine/stats.h"
#include "sync/rcu.h"

struct dco_engine;
struct dco_transmit;
struct dco_receive;

struct dco_worker {
    pthread_t transmit_thread, receive_thread;
    bool transmit_started, receive_started;
    pthread_mutex_t sealing; /* held by whoever seals, for a batch */
    atomic_bool handed;      /* the TUN is the transmit thread's; changed under `sealing` */
    atomic_bool tun_gone;    /* and nobody listens to it any more */
    atomic_bool stopping;
    int stop_fd;  /* eventfd, in both epoll sets: readable from the stop on */
    int kick_fd;  /* eventfd: the timers have new work */
    int timer_fd; /* CLOCK_BOOTTIME, transmit thread's */
    int transmit_epoll, receive_epoll;
    struct dco_rcu_reader *transmit_reader, *receive_reader;
    struct dco_transmit *transmit;
    struct dco_receive *receive;
};

int dco_worker_init(struct dco_worker *worker, struct dco_engine *engine);
/* Threads must have stopped. */
void dco_worker_destroy(struct dco_worker *worker);

int dco_worker_start(struct dco_worker *worker, struct dco_engine *engine);
void dco_worker_stop(struct dco_worker *worker);

/* Something about the timers has changed. From any thread. */
void dco_worker_kick(struct dco_worker *worker);

/* Watches a socket for the receive thread, under the number of its transport. */
int dco_worker_watch(struct dco_worker *worker, int fd, uint32_t transport);
void dco_worker_unwatch(struct dco_worker *worker, int fd);

void dco_worker_stats(const struct dco_worker *worker, struct dco_engine_stats *sum);

#endif
