/* Under ThreadSanitizer: a connection whose halves are used by two threads while a third makes room
 * for larger frames and reads how much waits. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

#include "codec/tcpframe.h"
#include "io/tcp_queue.h"
#include "tests/loopback.h"

#define FRAMES 3000u
#define LIMIT(step) (DCO_TCP_PENDING_FRAME + (step)*200u)
#define STEPS 60u

static struct dco_tcp tcp;
static struct dco_tcp_queue queue;
static struct dco_tcp_pool pool;
static int near, far;
static _Atomic uint32_t allowed = DCO_TCP_PENDING_FRAME; /* what the other side may send by now */

static uint32_t size_of(uint32_t number, uint32_t limit)
{
    return 4 + number * 2654435761u % (limit - 3);
}

/* The other side: frames of growing size, and everything back again. */
static void *echo(void *unused)
{
    static uint8_t frame[2 + LIMIT(STEPS)], back[65536];
    (void)unused;
    for (uint32_t i = 0; i < FRAMES; i++) {
        uint32_t size = size_of(i, atomic_load(&allowed)), sent = 0;
        dco_tcpframe_put(frame, size);
        memcpy(frame + 2, &i, sizeof i);
        while (sent < 2 + size) {
            ssize_t now = send(far, frame + sent, 2 + size - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
            if (now > 0)
                sent += (uint32_t)now;
            else
                CHECK(errno == EAGAIN && wait_for(far, POLLIN | POLLOUT));
            while (recv(far, back, sizeof back, MSG_DONTWAIT) > 0)
                ;
        }
    }
    shutdown(far, SHUT_WR);
    while (wait_for(far, POLLIN) && recv(far, back, sizeof back, 0) > 0)
        ;
    return NULL;
}

static void *receive(void *unused)
{
    static uint8_t arena[100000];
    uint32_t number = 0, seen;
    ssize_t total;
    (void)unused;
    while ((total = dco_tcp_receive(&tcp, arena, sizeof arena)) != 0) {
        size_t offset = 0;
        uint8_t *frame;
        uint32_t size;
        if (total == -EAGAIN) {
            CHECK(wait_for(near, POLLIN));
            continue;
        }
        CHECK(total > 0);
        int result;
        while ((result = dco_tcpframe_next(arena, (size_t)total, &offset, dco_tcp_frame_max(&tcp),
                                           &frame, &size))
               == 1) {
            memcpy(&seen, frame, sizeof seen);
            CHECK(seen == number++);
        }
        CHECK(result == 0);
        CHECK(!dco_tcp_keep(&tcp, arena + offset, (size_t)total - offset));
    }
    CHECK(number == FRAMES);
    return NULL;
}

static void *transmit(void *unused)
{
    static uint8_t run[2 + 1000];
    struct dco_tcp_tally tally = {0};
    (void)unused;
    dco_tcpframe_put(run, 1000);
    for (uint32_t i = 0; i < FRAMES; i++) {
        int result = i % 8 ? dco_tcp_send(&tcp, &queue, &pool, run, sizeof run, &tally)
                           : dco_tcp_send_control(&tcp, &queue, &pool, run + 2, 1000, &tally);
        CHECK(result == 0 || result == -EAGAIN || result == -ENOBUFS);
    }
    while (dco_tcp_flush(&tcp, &queue, &pool, &tally) == -EAGAIN)
        CHECK(wait_for(near, POLLOUT));
    shutdown(tcp.fd, SHUT_WR);
    return NULL;
}

int main(void)
{
    pthread_t threads[3];
    uint64_t most = 0;
    alarm(120);
    connect_pair(AF_INET, 16384, &near, &far);
    CHECK(!dco_tcp_attach(&tcp, near, &plain_config));
    CHECK(!dco_tcp_pool_init(&pool, 64) && !dco_tcp_queue_init(&queue, 1000));
    CHECK(!pthread_create(&threads[0], NULL, receive, NULL));
    CHECK(!pthread_create(&threads[1], NULL, transmit, NULL));
    CHECK(!pthread_create(&threads[2], NULL, echo, NULL));
    for (uint32_t step = 1; step <= STEPS; step++) {
        struct timespec moment = {.tv_nsec = 500000};
        uint64_t waiting = dco_counter_read(&queue.waiting);
        CHECK(!dco_tcp_reserve(&tcp, LIMIT(step)));
        atomic_store(&allowed, LIMIT(step));
        most = waiting > most ? waiting : most;
        nanosleep(&moment, NULL);
    }
    for (int i = 0; i < 3; i++)
        CHECK(!pthread_join(threads[i], NULL));
    CHECK(dco_counter_read(&queue.waiting) == 0 && pool.left == pool.count);
    dco_tcp_queue_clear(&queue, &pool);
    dco_tcp_queue_destroy(&queue);
    dco_tcp_pool_destroy(&pool);
    dco_tcp_detach(&tcp);
    close(near);
    close(far);
    printf("ok tsan_tcp (%u KiB waited at most)\n", (unsigned)(most / 1024));
    return 0;
}
