#define _GNU_SOURCE
#include "engine/worker.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "engine/receive.h"
#include "engine/timer.h"
#include "engine/transmit.h"

/* What epoll reports: a transport's number, or one of these. */
enum { SOURCE_TUN = 0x10000, SOURCE_STOP, SOURCE_KICK, SOURCE_TIMER };

#define EVENTS_AT_ONCE 16
/* Batches from one source before the others (and the stop) get a look. */
#define BATCHES_AT_ONCE 8
/* How long the TUN is silent before the transmit thread gives it back, ms. */
#define SILENCE_MS 2

static int watch(int epoll, int fd, uint32_t source, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.u32 = source};

    return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) ? -errno : 0;
}

static int open_descriptors(struct dco_worker *worker)
{
    worker->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    worker->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    worker->timer_fd = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
    worker->transmit_epoll = epoll_create1(EPOLL_CLOEXEC);
    worker->receive_epoll = epoll_create1(EPOLL_CLOEXEC);
    if (worker->stop_fd < 0 || worker->kick_fd < 0 || worker->timer_fd < 0
        || worker->transmit_epoll < 0 || worker->receive_epoll < 0)
        return -errno;
    return watch(worker->transmit_epoll, worker->stop_fd, SOURCE_STOP, EPOLLIN)
                   || watch(worker->receive_epoll, worker->stop_fd, SOURCE_STOP, EPOLLIN)
                   || watch(worker->transmit_epoll, worker->kick_fd, SOURCE_KICK, EPOLLIN)
                   || watch(worker->transmit_epoll, worker->timer_fd, SOURCE_TIMER, EPOLLIN)
               ? -errno
               : 0;
}

int dco_worker_init(struct dco_worker *worker, struct dco_engine *engine)
{
    int error;

    memset(worker, 0, sizeof *worker);
    worker->stop_fd = worker->kick_fd = worker->timer_fd = -1;
    worker->transmit_epoll = worker->receive_epoll = -1;
    pthread_mutex_init(&worker->sealing, NULL);
    worker->transmit_reader = dco_rcu_register(&engine->rcu);
    worker->receive_reader = dco_rcu_register(&engine->rcu);
    error = open_descriptors(worker);
    if (!error)
        error = dco_transmit_new(engine, &worker->transmit);
    if (!error)
        error = dco_receive_new(engine, &worker->receive);
    return error;
}

void dco_worker_destroy(struct dco_worker *worker)
{
    int *fds[] = {&worker->stop_fd, &worker->kick_fd, &worker->timer_fd, &worker->transmit_epoll,
                  &worker->receive_epoll};

    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++) {
        if (*fds[i] >= 0)
            close(*fds[i]);
        *fds[i] = -1;
    }
    dco_transmit_free(worker->transmit);
    dco_receive_free(worker->receive);
    worker->transmit = NULL;
    worker->receive = NULL;
}

static void ring_bell(int fd)
{
    uint64_t one = 1;

    if (write(fd, &one, sizeof one) < 0)
        return; /* the counter is full, hence readable */
}

static void quiet_bell(int fd)
{
    uint64_t count;

    if (read(fd, &count, sizeof count) < 0)
        return; /* nothing had rung, or the timer was set anew meanwhile */
}

void dco_worker_kick(struct dco_worker *worker)
{
    if (worker->kick_fd >= 0)
        ring_bell(worker->kick_fd);
}

int dco_worker_watch(struct dco_worker *worker, int fd, uint32_t transport)
{
    return watch(worker->receive_epoll, fd, transport, EPOLLIN | EPOLLRDHUP);
}

void dco_worker_unwatch(struct dco_worker *worker, int fd)
{
    epoll_ctl(worker->receive_epoll, EPOLL_CTL_DEL, fd, NULL);
}

/* --- the thread from TUN to UDP --- */

static void set_timer(struct dco_worker *worker, uint64_t when_ns)
{
    struct itimerspec spec = {
        .it_value = {.tv_sec = (time_t)(when_ns / 1000000000u),
                     .tv_nsec = (long)(when_ns % 1000000000u)},
    };

    timerfd_settime(worker->timer_fd, TFD_TIMER_ABSTIME, &spec, NULL);
}

/* A TUN whose interface is gone reports an error for ever, a packet socket whose other end has
 * closed a hang-up, to both threads: told once. */
static void stop_listening(struct dco_engine *engine, int epoll, uint32_t epoll_events)
{
    struct dco_event_record news = {
        .kind = DCO_EVENT_INTERFACE_GONE,
        .error = epoll_events & EPOLLERR ? EBADFD : EPIPE,
    };

    epoll_ctl(epoll, EPOLL_CTL_DEL, engine->tun.fd, NULL);
    if (!atomic_exchange(&engine->worker.tun_gone, true))
        dco_events_post(&engine->events, &engine->interface_gone, &news);
}

static void listen_to_tun(struct dco_engine *engine, int epoll, bool on)
{
    struct epoll_event event = {.events = on ? EPOLLIN : 0, .data.u32 = SOURCE_TUN};

    epoll_ctl(epoll, EPOLL_CTL_MOD, engine->tun.fd, &event); /* fails only when it is gone */
}

/* `sealing` held. */
static void hand_tun(struct dco_engine *engine, bool to_transmit_thread)
{
    struct dco_worker *worker = &engine->worker;

    atomic_store(&worker->handed, to_transmit_thread);
    listen_to_tun(engine, to_transmit_thread ? worker->receive_epoll : worker->transmit_epoll,
                  false);
    listen_to_tun(engine, to_transmit_thread ? worker->transmit_epoll : worker->receive_epoll,
                  true);
}

static void transmit_ready(struct dco_engine *engine, const struct epoll_event *event)
{
    struct dco_worker *worker = &engine->worker;

    switch (event->data.u32) {
    case SOURCE_TUN:
        for (int i = 0; i < BATCHES_AT_ONCE && dco_transmit_batch(worker->transmit); i++)
            dco_rcu_quiesce(&engine->rcu, worker->transmit_reader);
        if (event->events & (EPOLLERR | EPOLLHUP))
            stop_listening(engine, worker->transmit_epoll, event->events);
        break;
    case SOURCE_KICK:
        quiet_bell(worker->kick_fd);
        set_timer(worker, dco_timer_run(worker->transmit));
        break;
    case SOURCE_TIMER:
        quiet_bell(worker->timer_fd);
        set_timer(worker, dco_timer_run(worker->transmit));
        break;
    default: break;
    }
}

static void *transmit_main(void *argument)
{
    struct dco_engine *engine = argument;
    struct dco_worker *worker = &engine->worker;
    struct epoll_event events[EVENTS_AT_ONCE];

    while (!atomic_load_explicit(&worker->stopping, memory_order_relaxed)) {
        bool handed = atomic_load_explicit(&worker->handed, memory_order_relaxed);
        int ready =
            epoll_wait(worker->transmit_epoll, events, EVENTS_AT_ONCE, handed ? SILENCE_MS : -1);
        pthread_mutex_lock(&worker->sealing);
        if (!ready && handed)
            hand_tun(engine, false);
        dco_counter_add(&worker->transmit->stats.wakeups, 1);
        dco_rcu_online(&engine->rcu, worker->transmit_reader);
        for (int i = 0; i < ready; i++)
            transmit_ready(engine, &events[i]);
        dco_rcu_offline(&engine->rcu, worker->transmit_reader);
        pthread_mutex_unlock(&worker->sealing);
    }
    return NULL;
}

/* --- the thread from UDP to TUN --- */

/* The receive thread's turn at the TUN, while it is the one who has it. */
static void transmit_turn(struct dco_engine *engine)
{
    struct dco_worker *worker = &engine->worker;

    if (atomic_load_explicit(&worker->handed, memory_order_relaxed))
        return;
    pthread_mutex_lock(&worker->sealing);
    if (dco_transmit_batch(worker->transmit))
        hand_tun(engine, true);
    pthread_mutex_unlock(&worker->sealing);
}

/* One batch at a time while the TUN waits for this thread, too. No quiescence in between: the
 * transport must stay. */
static void receive_turn(struct dco_engine *engine, struct dco_transport *transport)
{
    struct dco_worker *worker = &engine->worker;

    for (int i = 0; i < BATCHES_AT_ONCE; i++) {
        bool more = dco_receive_batch(worker->receive, transport);
        transmit_turn(engine);
        if (!more)
            break;
    }
}

static void receive_ready(struct dco_engine *engine, const struct epoll_event *event)
{
    struct dco_transport *transport;

    if (event->data.u32 == SOURCE_TUN) {
        transmit_turn(engine);
        if (event->events & (EPOLLERR | EPOLLHUP))
            stop_listening(engine, engine->worker.receive_epoll, event->events);
        return;
    }
    if (event->data.u32 >= (uint32_t)DCO_TRANSPORTS_MAX)
        return;
    transport = atomic_load_explicit(&engine->transport[event->data.u32], memory_order_acquire);
    if (!transport)
        return;
    if (event->events & EPOLLERR)
        dco_transport_drain_errors(engine, transport);
    if (event->events & EPOLLIN)
        receive_turn(engine, transport);
    if (event->events & (EPOLLHUP | EPOLLRDHUP))
        dco_transport_fail(engine, transport, EPIPE);
}

static void *receive_main(void *argument)
{
    struct dco_engine *engine = argument;
    struct dco_worker *worker = &engine->worker;
    struct epoll_event events[EVENTS_AT_ONCE];

    while (!atomic_load_explicit(&worker->stopping, memory_order_relaxed)) {
        int ready = epoll_wait(worker->receive_epoll, events, EVENTS_AT_ONCE, -1);
        dco_counter_add(&worker->receive->stats.wakeups, 1);
        dco_rcu_online(&engine->rcu, worker->receive_reader);
        for (int i = 0; i < ready; i++)
            receive_ready(engine, &events[i]);
        dco_rcu_offline(&engine->rcu, worker->receive_reader);
    }
    return NULL;
}

/* --- lifecycle --- */

/* The engine's threads take no signals: those are the program's. */
static int start_thread(pthread_t *thread, const char *name, void *(*main)(void *), void *argument)
{
    sigset_t all, before;
    int error;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    error = pthread_create(thread, NULL, main, argument);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!error)
        pthread_setname_np(*thread, name);
    return -error;
}

/* Where there was no room for a thread there may be some later. */
static void undo_start(struct dco_worker *worker, struct dco_engine *engine)
{
    dco_worker_stop(worker);
    quiet_bell(worker->stop_fd);
    atomic_store(&worker->stopping, false);
    epoll_ctl(worker->transmit_epoll, EPOLL_CTL_DEL, engine->tun.fd, NULL);
    epoll_ctl(worker->receive_epoll, EPOLL_CTL_DEL, engine->tun.fd, NULL);
}

int dco_worker_start(struct dco_worker *worker, struct dco_engine *engine)
{
    int error = watch(worker->transmit_epoll, engine->tun.fd, SOURCE_TUN, 0);

    if (!error)
        error = watch(worker->receive_epoll, engine->tun.fd, SOURCE_TUN, EPOLLIN);
    if (!error)
        error = start_thread(&worker->transmit_thread, "dco-transmit", transmit_main, engine);
    worker->transmit_started = !error;
    if (!error)
        error = start_thread(&worker->receive_thread, "dco-receive", receive_main, engine);
    worker->receive_started = !error;
    if (error)
        undo_start(worker, engine);
    else
        dco_worker_kick(worker);
    return error;
}

void dco_worker_stop(struct dco_worker *worker)
{
    atomic_store(&worker->stopping, true);
    if (worker->stop_fd >= 0)
        ring_bell(worker->stop_fd);
    if (worker->transmit_started)
        pthread_join(worker->transmit_thread, NULL);
    if (worker->receive_started)
        pthread_join(worker->receive_thread, NULL);
    worker->transmit_started = worker->receive_started = false;
}

void dco_worker_stats(const struct dco_worker *worker, struct dco_engine_stats *sum)
{
    dco_stats_collect(&worker->transmit->stats, sum);
    dco_stats_collect(&worker->receive->stats, sum);
}
