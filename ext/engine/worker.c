#define _GNU_SOURCE
#include "engine/worker.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "engine/engine.h"
#include "engine/outgoing.h"
#include "engine/receive.h"
#include "engine/timer.h"
#include "engine/transmit.h"

/* What epoll reports: a transport's id, or one of these, which no transport has. */
#define SOURCE(n) (UINT64_MAX - (n))
#define SOURCE_TUN SOURCE(0)
#define SOURCE_STOP SOURCE(1)
#define SOURCE_KICK SOURCE(2)
#define SOURCE_TIMER SOURCE(3)
#define SOURCE_HANDOFF SOURCE(4)
#define SOURCE_TRANSMIT SOURCE(5) /* single thread: something in the transmit thread's set */

#define EVENTS_AT_ONCE 16
/* Batches from one source before the others (and the stop) get a look. */
#define BATCHES_AT_ONCE 8
/* How long the TUN is silent before the transmit thread gives it back, ms. */
#define SILENCE_MS 2

static int watch(int epoll, int fd, uint64_t source, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.u64 = source};

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
    return 0;
}

static int watch_descriptors(struct dco_worker *worker)
{
    int transmit = worker->transmit_epoll, receive = worker->receive_epoll;
    int error = watch(transmit, worker->stop_fd, SOURCE_STOP, EPOLLIN);

    if (!error)
        error = watch(receive, worker->stop_fd, SOURCE_STOP, EPOLLIN);
    if (!error)
        error = watch(transmit, worker->kick_fd, SOURCE_KICK, EPOLLIN);
    if (!error)
        error = watch(transmit, worker->timer_fd, SOURCE_TIMER, EPOLLIN);
    if (!error)
        error = watch(transmit, worker->to_seal.bell.fd, SOURCE_HANDOFF, EPOLLIN);
    if (!error)
        error = watch(receive, worker->to_open.bell.fd, SOURCE_HANDOFF, EPOLLIN);
    if (!error && worker->single)
        error = watch(receive, transmit, SOURCE_TRANSMIT, EPOLLIN);
    return error;
}

int dco_worker_init(struct dco_worker *worker, struct dco_engine *engine, unsigned index)
{
    int error;

    memset(worker, 0, sizeof *worker);
    worker->engine = engine;
    worker->index = index;
    worker->single = engine->config.single_thread;
    worker->stop_fd = worker->kick_fd = worker->timer_fd = -1;
    worker->transmit_epoll = worker->receive_epoll = -1;
    worker->to_seal.bell.fd = worker->to_open.bell.fd = -1;
    pthread_mutex_init(&worker->sealing, NULL);
    worker->transmit_reader = dco_rcu_register(&engine->rcu);
    worker->receive_reader = dco_rcu_register(&engine->rcu);
    error = open_descriptors(worker);
    if (!error)
        error = dco_handoff_init(&worker->to_seal, engine->config.workers, engine->config.workers);
    if (!error)
        error = dco_handoff_init(&worker->to_open, engine->config.workers, 0);
    if (!error)
        error = dco_ring_init(&worker->control, DCO_CONTROL_RING);
    if (!error)
        error = dco_tcp_pool_init(&worker->pool, DCO_TCP_POOL_CHUNKS);
    if (!error)
        error = dco_transmit_new(worker, &worker->transmit);
    if (!error)
        error = dco_receive_new(worker, &worker->receive);
    if (!error)
        error = watch_descriptors(worker);
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
    dco_handoff_destroy(&worker->to_seal);
    dco_handoff_destroy(&worker->to_open);
    dco_ring_destroy(&worker->control);
    dco_tcp_pool_destroy(&worker->pool);
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

int dco_worker_watch(struct dco_worker *worker, int fd, uint64_t transport)
{
    return watch(worker->receive_epoll, fd, transport, EPOLLIN | EPOLLRDHUP);
}

static void rewatch(struct dco_worker *worker, int fd, uint64_t transport, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.u64 = transport};

    epoll_ctl(worker->receive_epoll, EPOLL_CTL_MOD, fd, &event); /* fails when it was unwatched */
}

void dco_worker_hold(struct dco_worker *worker, int fd, uint64_t transport, bool held)
{
    rewatch(worker, fd, transport, held ? 0 : EPOLLOUT);
}

void dco_worker_resume(struct dco_worker *worker, int fd, uint64_t transport)
{
    rewatch(worker, fd, transport, EPOLLIN | EPOLLRDHUP);
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

/* The queue that the worker reads; -1: it has none, of a descriptor that it did not open. */
static int tun_queue(const struct dco_worker *worker)
{
    const struct dco_tun *tun = &worker->engine->tun;

    return worker->index < tun->queues ? tun->queue[worker->index] : -1;
}

/* A TUN whose interface is gone reports an error for ever, a packet socket whose other end has
 * closed a hang-up, to all threads: told once. */
static void stop_listening(struct dco_worker *worker, int epoll, uint32_t epoll_events)
{
    struct dco_engine *engine = worker->engine;
    struct dco_event_record news = {
        .kind = DCO_EVENT_INTERFACE_GONE,
        .error = epoll_events & EPOLLERR ? EBADFD : EPIPE,
    };

    epoll_ctl(epoll, EPOLL_CTL_DEL, tun_queue(worker), NULL);
    if (!atomic_exchange(&engine->tun_gone, true))
        dco_events_post(&engine->events, &engine->interface_gone, &news);
}

static void listen_to_tun(struct dco_worker *worker, int epoll, bool on)
{
    struct epoll_event event = {.events = on ? EPOLLIN : 0, .data.u64 = SOURCE_TUN};

    epoll_ctl(epoll, EPOLL_CTL_MOD, tun_queue(worker), &event); /* fails only when it is gone */
}

/* `sealing` held. */
static void hand_tun(struct dco_worker *worker, bool to_transmit_thread)
{
    atomic_store(&worker->handed, to_transmit_thread);
    listen_to_tun(worker, to_transmit_thread ? worker->receive_epoll : worker->transmit_epoll,
                  false);
    listen_to_tun(worker, to_transmit_thread ? worker->transmit_epoll : worker->receive_epoll,
                  true);
}

/* A single thread is online as the receive thread, and in the middle of its batch. */
static void transmit_quiesce(struct dco_worker *worker)
{
    if (!worker->single)
        dco_rcu_quiesce(&worker->engine->rcu, worker->transmit_reader);
}

/* `sealing` held. A connection has room again. */
static void writable(struct dco_worker *worker, uint64_t id)
{
    struct dco_transport *transport = dco_transport_find(&worker->engine->transports, id);

    if (transport && transport->stream)
        dco_outgoing_resume(worker->transmit, transport);
}

/* `sealing` held. */
static void transmit_ready(struct dco_worker *worker, const struct epoll_event *event)
{
    struct dco_transmit *transmit = worker->transmit;

    switch (event->data.u64) {
    case SOURCE_TUN:
        for (int i = 0; i < BATCHES_AT_ONCE && dco_transmit_batch(transmit); i++)
            transmit_quiesce(worker);
        if (event->events & (EPOLLERR | EPOLLHUP))
            stop_listening(worker, worker->transmit_epoll, event->events);
        break;
    case SOURCE_HANDOFF:
        for (int i = 0; i < BATCHES_AT_ONCE && dco_transmit_handed(transmit); i++)
            transmit_quiesce(worker);
        break;
    case SOURCE_KICK:
        quiet_bell(worker->kick_fd);
        set_timer(worker, dco_timer_run(transmit));
        break;
    case SOURCE_TIMER:
        quiet_bell(worker->timer_fd);
        set_timer(worker, dco_timer_run(transmit));
        break;
    case SOURCE_STOP: break;
    default: writable(worker, event->data.u64);
    }
}

static void *transmit_main(void *argument)
{
    struct dco_worker *worker = argument;
    struct dco_rcu *rcu = &worker->engine->rcu;
    struct epoll_event events[EVENTS_AT_ONCE];

    while (!atomic_load_explicit(&worker->stopping, memory_order_relaxed)) {
        bool handed = atomic_load_explicit(&worker->handed, memory_order_relaxed);
        int ready =
            epoll_wait(worker->transmit_epoll, events, EVENTS_AT_ONCE, handed ? SILENCE_MS : -1);
        pthread_mutex_lock(&worker->sealing);
        if (!ready && handed)
            hand_tun(worker, false);
        dco_counter_add(&worker->transmit->stats.wakeups, 1);
        dco_rcu_online(rcu, worker->transmit_reader);
        for (int i = 0; i < ready; i++)
            transmit_ready(worker, &events[i]);
        dco_rcu_offline(rcu, worker->transmit_reader);
        pthread_mutex_unlock(&worker->sealing);
    }
    return NULL;
}

/* --- the thread from UDP to TUN --- */

/* The receive thread's turn at the TUN, while it is the one who has it. */
static void transmit_turn(struct dco_worker *worker)
{
    if (atomic_load_explicit(&worker->handed, memory_order_relaxed) || tun_queue(worker) < 0)
        return;
    pthread_mutex_lock(&worker->sealing);
    if (dco_transmit_batch(worker->transmit) && !worker->single)
        hand_tun(worker, true);
    pthread_mutex_unlock(&worker->sealing);
}

/* The only thread's turn at what would be the transmit thread's. */
static void single_turn(struct dco_worker *worker)
{
    struct epoll_event events[EVENTS_AT_ONCE];
    int ready = epoll_wait(worker->transmit_epoll, events, EVENTS_AT_ONCE, 0);

    pthread_mutex_lock(&worker->sealing);
    for (int i = 0; i < ready; i++)
        transmit_ready(worker, &events[i]);
    pthread_mutex_unlock(&worker->sealing);
}

/* One batch at a time while the TUN waits for this thread, too. No quiescence in between: the
 * transport must stay. */
static void receive_turn(struct dco_worker *worker, struct dco_transport *transport)
{
    for (int i = 0; i < BATCHES_AT_ONCE; i++) {
        bool more = dco_receive_batch(worker->receive, transport);
        transmit_turn(worker);
        if (!more)
            break;
    }
}

/* The end of a connection comes behind its last bytes, so it is met by reading. A connection that
 * is held is not read, and its end is seen from outside. */
static void stream_ready(struct dco_worker *worker, struct dco_transport *transport,
                         uint32_t events)
{
    if (events & EPOLLOUT)
        dco_receive_release(worker->receive, transport);
    if (atomic_load(&transport->stream->held)) {
        if (events & (EPOLLERR | EPOLLHUP))
            dco_stream_ended(worker, transport, EPIPE, DCO_DELETED_TRANSPORT_DISCONNECT);
        return;
    }
    for (int i = 0; i < BATCHES_AT_ONCE; i++) {
        bool more = dco_receive_stream(worker->receive, transport);
        transmit_turn(worker);
        if (!more)
            break;
    }
}

static void socket_ready(struct dco_worker *worker, const struct epoll_event *event)
{
    struct dco_engine *engine = worker->engine;
    struct dco_transport *transport = dco_transport_find(&engine->transports, event->data.u64);

    if (!transport || atomic_load_explicit(&transport->failed, memory_order_relaxed))
        return;
    if (transport->kind == DCO_TRANSPORT_TCP) {
        stream_ready(worker, transport, event->events);
        return;
    }
    if (transport->kind == DCO_TRANSPORT_LISTENER) {
        dco_stream_accept(worker, transport);
        return;
    }
    if (event->events & EPOLLERR)
        dco_transport_drain_errors(engine, transport, dco_transport_udp(transport, worker->index));
    if (event->events & EPOLLIN)
        receive_turn(worker, transport);
    if (event->events & (EPOLLHUP | EPOLLRDHUP))
        dco_transport_fail(engine, transport, EPIPE, DCO_DELETED_TRANSPORT_DISCONNECT);
}

static void receive_ready(struct dco_worker *worker, const struct epoll_event *event)
{
    switch (event->data.u64) {
    case SOURCE_STOP: break;
    case SOURCE_TUN:
        transmit_turn(worker);
        if (event->events & (EPOLLERR | EPOLLHUP))
            stop_listening(worker, worker->receive_epoll, event->events);
        break;
    case SOURCE_HANDOFF:
        for (int i = 0; i < BATCHES_AT_ONCE && dco_receive_handed(worker->receive); i++)
            dco_rcu_quiesce(&worker->engine->rcu, worker->receive_reader);
        break;
    case SOURCE_TRANSMIT: single_turn(worker); break;
    default: socket_ready(worker, event);
    }
}

static void *receive_main(void *argument)
{
    struct dco_worker *worker = argument;
    struct dco_rcu *rcu = &worker->engine->rcu;
    struct epoll_event events[EVENTS_AT_ONCE];

    while (!atomic_load_explicit(&worker->stopping, memory_order_relaxed)) {
        int ready = epoll_wait(worker->receive_epoll, events, EVENTS_AT_ONCE, -1);
        dco_counter_add(&worker->receive->stats.wakeups, 1);
        dco_rcu_online(rcu, worker->receive_reader);
        for (int i = 0; i < ready; i++)
            receive_ready(worker, &events[i]);
        dco_rcu_offline(rcu, worker->receive_reader);
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
void dco_worker_undo_start(struct dco_worker *worker)
{
    int fd = tun_queue(worker);

    quiet_bell(worker->stop_fd);
    atomic_store(&worker->stopping, false);
    epoll_ctl(worker->transmit_epoll, EPOLL_CTL_DEL, fd, NULL);
    epoll_ctl(worker->receive_epoll, EPOLL_CTL_DEL, fd, NULL);
}

static int watch_tun(struct dco_worker *worker)
{
    int fd = tun_queue(worker);
    int error = fd < 0 ? 0 : watch(worker->receive_epoll, fd, SOURCE_TUN, EPOLLIN);

    if (fd >= 0 && !error && !worker->single)
        error = watch(worker->transmit_epoll, fd, SOURCE_TUN, 0);
    return error;
}

int dco_worker_start(struct dco_worker *worker)
{
    int error = watch_tun(worker);

    if (!error && !worker->single)
        error = start_thread(&worker->transmit_thread, "dco-transmit", transmit_main, worker);
    if (error)
        return error;
    worker->transmit_started = !worker->single;
    error = start_thread(&worker->receive_thread, "dco-receive", receive_main, worker);
    if (error)
        return error;
    worker->receive_started = true;
    dco_worker_kick(worker);
    return 0;
}

void dco_worker_stop(struct dco_worker *worker)
{
    atomic_store(&worker->stopping, true);
    if (worker->stop_fd >= 0)
        ring_bell(worker->stop_fd);
}

void dco_worker_join(struct dco_worker *worker)
{
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
