/* The send queue against a model, over real connections whose reader stalls. Frames carry what
 * they are and their number; sizes and bytes follow from the number. */
#define _GNU_SOURCE
#include <errno.h>

#include "codec/tcpframe.h"
#include "io/tcp_queue.h"
#include "tests/loopback.h"
#include "tests/stream_model.h"

#define SMALL_BUFFER 8192
#define FRAME_MAX 20000u
#define HEADER 5u /* kind, number */
#define NUMBERS 200000u

enum { CONTROL, DATA };

struct link {
    struct dco_tcp tcp;
    struct dco_tcp_queue queue;
    int near, far;
    uint32_t sent[2]; /* numbers given out, of each kind */
    /* What is to come: numbers of accepted data packets, and for each control packet how many data
     * packets come before it. */
    uint32_t *data, *ahead;
    uint32_t accepted[2], come[2], dropped;
    struct stream_model model;
    uint8_t frame[FRAME_MAX];
};

static struct dco_tcp_pool pool;
static uint8_t run[3000000], piece[100000];
static uint32_t state;

static uint32_t next_random(uint32_t below)
{
    state = state * 1664525 + 1013904223;
    return (state >> 8) % below;
}

static void open_link(struct link *link)
{
    memset(link, 0, sizeof *link);
    connect_pair(AF_INET, SMALL_BUFFER, &link->near, &link->far);
    CHECK(!dco_tcp_attach(&link->tcp, link->near, &plain_config));
    CHECK(!dco_tcp_queue_init(&link->queue, FRAME_MAX));
    link->data = calloc(NUMBERS, sizeof *link->data);
    link->ahead = calloc(NUMBERS, sizeof *link->ahead);
    CHECK(link->data && link->ahead);
    link->model.frame_max = FRAME_MAX;
}

static void close_link(struct link *link)
{
    dco_tcp_queue_clear(&link->queue, &pool);
    CHECK(dco_counter_read(&link->queue.waiting) == 0);
    dco_tcp_queue_destroy(&link->queue);
    dco_tcp_detach(&link->tcp);
    close(link->near);
    close(link->far);
    free(link->data);
    free(link->ahead);
}

static void make_packet(uint8_t *packet, uint32_t size, uint32_t kind, uint32_t number)
{
    packet[0] = (uint8_t)kind;
    memcpy(packet + 1, &number, sizeof number);
    for (uint32_t i = HEADER; i < size; i++)
        packet[i] = (uint8_t)(number + i * 7);
}

static void check_packet(struct link *link, uint32_t size)
{
    uint32_t kind = link->frame[0], number, come;
    CHECK(size >= HEADER && kind <= DATA);
    memcpy(&number, link->frame + 1, sizeof number);
    for (uint32_t i = HEADER; i < size; i++)
        CHECK(link->frame[i] == (uint8_t)(number + i * 7));
    come = link->come[kind]++;
    CHECK(come < link->accepted[kind]);
    if (kind == DATA)
        CHECK(number == link->data[come]);
    else
        CHECK(number == come && link->ahead[come] == link->come[DATA]);
}

/* At most so many bytes of what has arrived. */
static void read_some(struct link *link, size_t most)
{
    while (most) {
        ssize_t size =
            recv(link->far, piece, most < sizeof piece ? most : sizeof piece, MSG_DONTWAIT);
        if (size <= 0)
            return;
        for (ssize_t i = 0; i < size; i++) {
            struct stream_model *model = &link->model;
            int result;
            if (model->prefix == 2)
                link->frame[model->come] = piece[i];
            result = stream_model_byte(model, piece[i]);
            CHECK(result >= 0);
            if (result)
                check_packet(link, model->length);
        }
        most -= (size_t)size;
    }
}

static uint32_t frames_in(const struct dco_tcp_list *list)
{
    static uint8_t flat[DCO_TCP_QUEUE_MAX];
    uint32_t bytes = 0, chunks = 0;
    for (const struct dco_tcp_chunk *c = list->first; c; c = c->next, chunks++) {
        CHECK(c->begin < c->end && c->end <= sizeof c->data);
        CHECK(c->next ? c->end == sizeof c->data : c == list->last);
        CHECK(bytes + c->end - c->begin <= sizeof flat);
        memcpy(flat + bytes, c->data + c->begin, c->end - c->begin);
        bytes += c->end - c->begin;
    }
    CHECK(bytes == list->bytes && chunks == list->chunks);
    int frames = dco_tcpframe_count(flat, bytes, FRAME_MAX);
    CHECK(frames >= 0);
    return (uint32_t)frames;
}

static void check_state(struct link *link, int result)
{
    struct dco_tcp_queue *queue = &link->queue;
    uint32_t rest = queue->rest_end - queue->rest_begin;
    frames_in(&queue->control);
    frames_in(&queue->data);
    CHECK(queue->data.bytes <= DCO_TCP_QUEUE_MAX && queue->control.bytes <= DCO_TCP_CONTROL_MAX);
    CHECK(dco_counter_read(&queue->waiting) == rest + queue->control.bytes + queue->data.bytes);
    CHECK(result == (dco_counter_read(&queue->waiting) ? -EAGAIN : 0));
}

/* Returns how many packets were taken. */
static uint32_t send_data(struct link *link, uint32_t packets, uint32_t size)
{
    struct dco_tcp_tally tally = {0};
    uint32_t bytes = 0;
    for (uint32_t i = 0; i < packets; i++) {
        uint32_t length = size ? size : HEADER + next_random(1500);
        dco_tcpframe_put(run + bytes, length);
        make_packet(run + bytes + 2, length, DATA, link->sent[DATA] + i);
        bytes += 2 + length;
        CHECK(bytes + FRAME_MAX + 2 < sizeof run);
    }
    int result = dco_tcp_send(&link->tcp, &link->queue, &pool, run, bytes, &tally);
    CHECK(tally.packets + tally.dropped == packets && tally.calls == 1);
    CHECK(tally.bytes + tally.dropped_bytes == bytes - 2 * packets);
    /* Dropped from the end: the first ones are what comes. */
    for (uint32_t i = 0; i < tally.packets; i++)
        link->data[link->accepted[DATA]++] = link->sent[DATA] + i;
    link->sent[DATA] += packets;
    link->dropped += tally.dropped;
    check_state(link, result);
    return tally.packets;
}

/* It comes before every data packet that waits, and behind every one that does not. */
static int send_control(struct link *link, uint32_t size)
{
    struct dco_tcp_tally tally = {0};
    uint32_t waiting = frames_in(&link->queue.data), number = link->sent[CONTROL];
    make_packet(run, size, CONTROL, number);
    int result = dco_tcp_send_control(&link->tcp, &link->queue, &pool, run, size, &tally);
    CHECK(tally.calls == 1 && tally.dropped == 0);
    if (result == -ENOBUFS) {
        CHECK(tally.packets == 0 && tally.bytes == 0);
        check_state(link, -EAGAIN);
        return result;
    }
    CHECK(tally.packets == 1 && tally.bytes == size);
    link->ahead[number] = link->accepted[DATA] - waiting;
    link->accepted[CONTROL]++;
    link->sent[CONTROL]++;
    check_state(link, result);
    return result;
}

static int flush(struct link *link)
{
    struct dco_tcp_tally tally = {0};
    int result = dco_tcp_flush(&link->tcp, &link->queue, &pool, &tally);
    CHECK(tally.packets == 0 && tally.dropped == 0);
    check_state(link, result);
    return result;
}

static void finish(struct link *link)
{
    while (flush(link) == -EAGAIN) {
        CHECK(wait_for(link->far, POLLIN));
        read_some(link, SIZE_MAX);
    }
    while (link->come[DATA] < link->accepted[DATA]
           || link->come[CONTROL] < link->accepted[CONTROL]) {
        CHECK(wait_for(link->far, POLLIN));
        read_some(link, SIZE_MAX);
    }
    CHECK(link->model.prefix == 0);
}

static void fill_socket(struct link *link)
{
    while (!dco_counter_read(&link->queue.waiting))
        send_data(link, 20, 1400);
}

static struct link one, other;

static void nothing_waits_without_need(void)
{
    CHECK(!dco_tcp_pool_init(&pool, 64));
    open_link(&one);
    for (int i = 0; i < 50; i++) {
        CHECK(send_data(&one, 3, 1000) == 3);
        CHECK(!send_control(&one, 50));
        finish(&one);
    }
    CHECK(one.dropped == 0 && pool.fresh == 0);
    close_link(&one);
    dco_tcp_pool_destroy(&pool);
}

/* The frame in flight, then control, then data. */
static void control_goes_first_at_a_border(void)
{
    CHECK(!dco_tcp_pool_init(&pool, 64));
    open_link(&one);
    fill_socket(&one);
    while (one.queue.rest_end == one.queue.rest_begin || frames_in(&one.queue.data) < 10)
        send_data(&one, 1, 1400);
    for (int i = 0; i < 3; i++)
        CHECK(send_control(&one, 100) == -EAGAIN);
    CHECK(one.ahead[2] < one.accepted[DATA]);
    send_data(&one, 5, 1400);
    finish(&one);
    CHECK(one.dropped == 0 && one.come[CONTROL] == 3);
    close_link(&one);
    CHECK(pool.left == pool.count);
    dco_tcp_pool_destroy(&pool);
}

static void bounds_hold(void)
{
    CHECK(!dco_tcp_pool_init(&pool, DCO_TCP_POOL_CHUNKS));
    open_link(&one);
    fill_socket(&one);
    while (!one.dropped)
        send_data(&one, 40, 1400);
    /* Full to less than a frame; and a small one still fits. */
    CHECK(one.queue.data.bytes > DCO_TCP_QUEUE_MAX - 1402);
    uint32_t left = DCO_TCP_QUEUE_MAX - one.queue.data.bytes, dropped = one.dropped;
    if (left >= 2 + HEADER)
        CHECK(send_data(&one, 1, left - 2) == 1 && one.queue.data.bytes == DCO_TCP_QUEUE_MAX);
    CHECK(send_data(&one, 10, 100) == 0 && one.dropped == dropped + 10);
    while (send_control(&one, 1250) == -EAGAIN)
        ;
    CHECK(one.queue.control.bytes > DCO_TCP_CONTROL_MAX - 1252);
    CHECK(send_control(&one, 1250) == -ENOBUFS);
    finish(&one);
    CHECK(pool.left == pool.count);
    CHECK(send_data(&one, 1, 100) == 1 && send_control(&one, 100) == 0);
    finish(&one);
    close_link(&one);
    dco_tcp_pool_destroy(&pool);
}

/* A run of more than the socket and the queue take, when both are empty: the frame that the socket
 * cut is whole, what fits is kept, and the rest is dropped. */
static void one_large_run(void)
{
    CHECK(!dco_tcp_pool_init(&pool, 8));
    open_link(&one);
    uint32_t taken = send_data(&one, 700, 1400);
    CHECK(taken > 4 * DCO_TCP_CHUNK / 1402 && taken < 700);
    CHECK(one.queue.data.chunks == 4 && pool.left == 4);
    finish(&one);
    close_link(&one);
    dco_tcp_pool_destroy(&pool);
}

/* Slow connections hold all that they can get: one that is read needs nothing of it. */
static void slow_ones_harm_nobody(void)
{
    CHECK(!dco_tcp_pool_init(&pool, 128));
    static struct link slow[12];
    for (int i = 0; i < 12; i++) {
        open_link(&slow[i]);
        while (!slow[i].dropped)
            send_data(&slow[i], 40, 1400);
    }
    CHECK(pool.left >= pool.count / DCO_TCP_POOL_RESERVE_SHARE);
    /* The reserve is there for control packets, of the slow and of others. */
    for (int i = 0; i < 12 && pool.left; i++)
        CHECK(send_control(&slow[i], 100) == -EAGAIN);
    while (pool.left) /* and now there is nothing at all */
        for (int i = 0; i < 12; i++)
            if (send_control(&slow[i], 1250) == -ENOBUFS && !pool.left)
                break;
    open_link(&one);
    CHECK(send_data(&one, 4, 1400) == 4 && !send_control(&one, 100));
    finish(&one);
    /* Even a frame that the socket takes a part of. */
    uint32_t before = one.accepted[DATA];
    while (one.queue.rest_begin == one.queue.rest_end)
        send_data(&one, 30, 1400);
    CHECK(one.queue.data.bytes == 0 && one.accepted[DATA] > before && one.dropped > 0);
    while (send_control(&one, 100) != -ENOBUFS)
        ;
    finish(&one);
    close_link(&one);
    for (int i = 0; i < 12; i++) {
        if (i % 2)
            finish(&slow[i]);
        close_link(&slow[i]);
    }
    CHECK(pool.left == pool.count);
    dco_tcp_pool_destroy(&pool);
}

static void dead_connections(void)
{
    struct dco_tcp_tally tally = {0};
    int result = -EAGAIN;
    CHECK(!dco_tcp_pool_init(&pool, 128));
    open_link(&one);
    fill_socket(&one);
    send_data(&one, 40, 1400);
    send_control(&one, 100);
    close(one.far); /* with bytes unread: a reset */
    one.far = -1;
    CHECK(wait_for(one.near, POLLERR));
    dco_tcpframe_put(run, 100);
    result = dco_tcp_send(&one.tcp, &one.queue, &pool, run, 102, &tally);
    CHECK(result == -ECONNRESET && tally.dropped == 1 && tally.dropped_bytes == 100);
    CHECK(one.queue.closed && pool.left < pool.count);
    tally.calls = 0;
    CHECK(dco_tcp_send(&one.tcp, &one.queue, &pool, run, 102, &tally) == -EPIPE);
    CHECK(dco_tcp_send_control(&one.tcp, &one.queue, &pool, run, 100, &tally) == -EPIPE);
    CHECK(dco_tcp_flush(&one.tcp, &one.queue, &pool, &tally) == -EPIPE);
    CHECK(tally.calls == 0 && tally.dropped == 2 && tally.packets == 0);
    close_link(&one);
    CHECK(pool.left == pool.count);
    dco_tcp_pool_destroy(&pool);
}

static void what_is_no_frame(void)
{
    struct dco_tcp_tally tally = {0};
    CHECK(!dco_tcp_pool_init(&pool, 64));
    open_link(&one);
    dco_tcpframe_put(run, FRAME_MAX + 1);
    CHECK(dco_tcp_send(&one.tcp, &one.queue, &pool, run, FRAME_MAX + 3, &tally) == -EMSGSIZE);
    CHECK(dco_tcp_send(&one.tcp, &one.queue, &pool, run, 1, &tally) == -EINVAL);
    dco_tcpframe_put(run, 0);
    CHECK(dco_tcp_send(&one.tcp, &one.queue, &pool, run, 2, &tally) == -EPROTO);
    CHECK(dco_tcp_send_control(&one.tcp, &one.queue, &pool, run, 0, &tally) == -EPROTO);
    CHECK(dco_tcp_send_control(&one.tcp, &one.queue, &pool, run, FRAME_MAX + 1, &tally)
          == -EMSGSIZE);
    CHECK(tally.calls == 0 && tally.packets == 0 && tally.dropped == 0 && !one.queue.closed);
    close_link(&one);
    dco_tcp_pool_destroy(&pool);
}

/* In the middle of a frame, and then with a larger one in flight. */
static void grows_in_flight(void)
{
    CHECK(!dco_tcp_pool_init(&pool, 256));
    open_link(&one);
    dco_tcp_queue_destroy(&one.queue);
    CHECK(!dco_tcp_queue_init(&one.queue, 1400));
    fill_socket(&one);
    while (one.queue.rest_end == one.queue.rest_begin)
        send_data(&one, 1, 1400);
    CHECK(!dco_tcp_queue_reserve(&one.queue, FRAME_MAX));
    CHECK(!dco_tcp_queue_reserve(&one.queue, 10) && one.queue.frame_max == FRAME_MAX);
    for (int i = 0; i < 10; i++)
        send_data(&one, 1, FRAME_MAX);
    finish(&one);
    CHECK(one.dropped == 0);
    close_link(&one);
    dco_tcp_pool_destroy(&pool);
}

static void random_step(struct link *link)
{
    switch (next_random(8)) {
    case 0:
    case 1: send_data(link, 1 + next_random(40), 0); break;
    case 2: send_data(link, 1 + next_random(4), HEADER + next_random(FRAME_MAX - HEADER)); break;
    case 3:
        send_control(link, HEADER + next_random(next_random(20) ? 1400 : FRAME_MAX - HEADER));
        break;
    case 4: flush(link); break;
    case 5: read_some(link, 1 + next_random(3000)); break;
    case 6: read_some(link, next_random(3) ? 20000 : SIZE_MAX); break;
    case 7:
        for (uint32_t i = next_random(30); i; i--)
            send_control(link, HEADER + next_random(100));
        break;
    }
}

/* Frames of a few bytes: the socket stops at borders and within prefixes as often as elsewhere, and
 * prefixes lie across the ends of chunks. */
static void tiny_step(struct link *link)
{
    switch (next_random(4)) {
    case 0: send_data(link, 1 + next_random(1000), HEADER + next_random(3)); break;
    case 1:
        for (uint32_t i = next_random(100); i; i--)
            send_control(link, HEADER + next_random(3));
        break;
    case 2: flush(link); break;
    case 3: read_some(link, next_random(2) ? 1 + next_random(3000) : SIZE_MAX); break;
    }
}

/* Two connections share a pool that is now ample, now short. */
static uint32_t at_random(uint32_t seed, int steps, void (*step)(struct link *link))
{
    uint32_t dropped;
    state = seed;
    CHECK(!dco_tcp_pool_init(&pool, seed % 3 ? 6 + next_random(30) : 256));
    open_link(&one);
    open_link(&other);
    for (int i = 0; i < steps; i++)
        step(next_random(2) ? &one : &other);
    CHECK(pool.left + one.queue.data.chunks + one.queue.control.chunks + other.queue.data.chunks
              + other.queue.control.chunks
          == pool.count);
    dropped = one.dropped + other.dropped;
    finish(&one);
    if (seed % 2)
        finish(&other);
    close_link(&one);
    close_link(&other);
    CHECK(pool.left == pool.count);
    dco_tcp_pool_destroy(&pool);
    return dropped;
}

static void frames_of_any_size(void)
{
    uint32_t dropped = 0;
    for (uint32_t seed = 1; seed <= 24; seed++)
        dropped += at_random(seed, 400, random_step);
    CHECK(dropped > 0);
}

static void tiny_frames(void)
{
    for (uint32_t seed = 1; seed <= 12; seed++)
        at_random(seed, 300, tiny_step);
}

int main(void)
{
    alarm(300);
    RUN(nothing_waits_without_need);
    RUN(control_goes_first_at_a_border);
    RUN(bounds_hold);
    RUN(one_large_run);
    RUN(slow_ones_harm_nobody);
    RUN(dead_connections);
    RUN(what_is_no_frame);
    RUN(grows_in_flight);
    RUN(frames_of_any_size);
    RUN(tiny_frames);
    return 0;
}
