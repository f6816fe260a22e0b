#define _GNU_SOURCE
#include "bench/generator.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>

#define BATCH 64
#define HEADER DCO_GENERATOR_PAYLOAD_MIN
/* How often a paced sender wakes: short, so that a tick's burst stays far below the queue of a
 * TUN interface (500 packets), and long enough that sleeping is worth it. */
#define TICK_NS 200000u

struct header {
    uint32_t run, pad;
    uint64_t sequence;
};
_Static_assert(sizeof(struct header) == HEADER, "numbering must fit the smallest payload");

struct batch {
    struct mmsghdr messages[BATCH];
    struct iovec parts[BATCH][2]; /* sender: header and body; receiver: first part only */
    struct header headers[BATCH];
};

static uint64_t now_ns(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static void sleep_until(uint64_t when_ns)
{
    struct timespec time = {.tv_sec = (time_t)(when_ns / 1000000000u),
                            .tv_nsec = (long)(when_ns % 1000000000u)};

    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL);
}

/* An error that says nothing about the socket, only about the queue or the path right now. */
static bool transient(int code)
{
    return code == ENOBUFS || code == EAGAIN || code == ECONNREFUSED || code == EHOSTUNREACH
           || code == ENETUNREACH || code == ENETDOWN;
}

/* Sends the first `count` messages; a refused one is counted and passed over. */
static int send_batch(const struct dco_generator *generator, struct batch *batch, unsigned count,
                      struct dco_generator_sent *sent)
{
    for (unsigned i = 0; i < count; i++) {
        batch->headers[i].run = generator->run;
        batch->headers[i].sequence = sent->packets + i;
    }
    for (unsigned done = 0; done < count;) {
        int n = sendmmsg(generator->fd, batch->messages + done, count - done, 0);

        if (n > 0) {
            done += (unsigned)n;
        } else if (errno == EINTR) {
            continue;
        } else if (transient(errno)) {
            sent->refused++;
            done++;
        } else {
            return -errno;
        }
    }
    sent->packets += count;
    return 0;
}

static int send_loop(const struct dco_generator *generator, struct batch *batch,
                     struct dco_generator_sent *sent)
{
    const uint64_t start = now_ns();
    uint64_t now = start;
    int error = 0;

    while (!error && now - start < generator->time_ns) {
        uint64_t due = BATCH;

        if (generator->rate_pps > 0) {
            uint64_t owed = (uint64_t)((double)(now - start) * 1e-9 * generator->rate_pps) + 1;

            due = owed > sent->packets ? owed - sent->packets : 0;
        }
        if (due)
            error = send_batch(generator, batch, due < BATCH ? (unsigned)due : BATCH, sent);
        if (due < BATCH)
            sleep_until(now + TICK_NS);
        now = now_ns();
    }
    sent->time_ns = now - start;
    return error;
}

int dco_generator_send(const struct dco_generator *generator, struct dco_generator_sent *sent)
{
    static const uint8_t body[DCO_GENERATOR_PAYLOAD_MAX];
    struct batch *batch;
    int error;

    memset(sent, 0, sizeof *sent);
    if (generator->size < HEADER || generator->size > DCO_GENERATOR_PAYLOAD_MAX)
        return -EINVAL;
    batch = calloc(1, sizeof *batch);
    if (!batch)
        return -ENOMEM;
    for (unsigned i = 0; i < BATCH; i++) {
        batch->parts[i][0] = (struct iovec){&batch->headers[i], HEADER};
        batch->parts[i][1] = (struct iovec){(void *)body, generator->size - HEADER};
        batch->messages[i].msg_hdr.msg_iov = batch->parts[i];
        batch->messages[i].msg_hdr.msg_iovlen = 2;
    }
    /* The default slack of 50 us would add a quarter to every tick. */
    prctl(PR_SET_TIMERSLACK, 1000);
    error = send_loop(generator, batch, sent);
    prctl(PR_SET_TIMERSLACK, 0);
    free(batch);
    return error;
}

static void count_batch(const struct dco_receiver *receiver, const struct batch *batch, int n,
                        uint64_t *next, struct dco_receiver_count *count)
{
    for (int i = 0; i < n; i++) {
        const struct header *header = &batch->headers[i];

        if (batch->messages[i].msg_len < HEADER || header->run != receiver->run) {
            count->strangers++;
            continue;
        }
        count->packets++;
        count->bytes += batch->messages[i].msg_len;
        if (header->sequence < *next)
            count->reordered++;
        else
            *next = header->sequence + 1;
    }
}

static int receive_loop(const struct dco_receiver *receiver, struct batch *batch,
                        struct dco_receiver_count *count)
{
    const uint64_t start = now_ns();
    uint64_t first = 0, last = 0, next = 0, now = start;

    while (now - start < receiver->limit_ns && (!first || now - last < receiver->quiet_ns)) {
        struct pollfd readable = {.fd = receiver->fd, .events = POLLIN};
        uint64_t before = count->packets;
        int n;

        /* MSG_TRUNC: the true length is reported although only the header is copied. */
        n = recvmmsg(receiver->fd, batch->messages, BATCH, MSG_DONTWAIT | MSG_TRUNC, NULL);
        if (n < 0 && !transient(errno) && errno != EINTR)
            return -errno;
        if (n <= 0)
            poll(&readable, 1, 10);
        now = now_ns();
        count_batch(receiver, batch, n, &next, count);
        if (count->packets != before) {
            last = now;
            first = first ? first : now;
        }
    }
    count->time_ns = last - first;
    return 0;
}

int dco_generator_receive(const struct dco_receiver *receiver, struct dco_receiver_count *count)
{
    struct batch *batch = calloc(1, sizeof *batch);
    int error;

    memset(count, 0, sizeof *count);
    if (!batch)
        return -ENOMEM;
    for (unsigned i = 0; i < BATCH; i++) {
        batch->parts[i][0] = (struct iovec){&batch->headers[i], HEADER};
        batch->messages[i].msg_hdr.msg_iov = batch->parts[i];
        batch->messages[i].msg_hdr.msg_iovlen = 1;
    }
    error = receive_loop(receiver, batch, count);
    free(batch);
    return error;
}
