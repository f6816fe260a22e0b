#define _GNU_SOURCE
#include "io/tcp_queue.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "codec/tcpframe.h"

#define PREFIX DCO_TCPFRAME_PREFIX
#define CHUNK_BYTES (uint32_t)sizeof(((struct dco_tcp_chunk *)0)->data)
/* A list may begin and end in the middle of a chunk; those between are full. */
#define CHUNKS_OF(bytes) ((bytes) / CHUNK_BYTES + 2)
/* The rest, two lists, a control packet with its prefix, and a run. */
#define PARTS_MAX 64u

_Static_assert(sizeof(struct dco_tcp_chunk) == DCO_TCP_CHUNK, "chunks lie side by side");
_Static_assert(4 + CHUNKS_OF(DCO_TCP_CONTROL_MAX) + CHUNKS_OF(DCO_TCP_QUEUE_MAX) <= PARTS_MAX,
               "all that waits is one gathered write");

/* --- the pool --- */

int dco_tcp_pool_init(struct dco_tcp_pool *pool, uint32_t chunks)
{
    size_t size = (size_t)chunks * sizeof *pool->chunks;

    memset(pool, 0, sizeof *pool);
    pool->chunks = mmap(NULL, size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (pool->chunks == MAP_FAILED) {
        pool->chunks = NULL;
        return -ENOMEM;
    }
    pool->count = pool->left = chunks;
    return 0;
}

void dco_tcp_pool_destroy(struct dco_tcp_pool *pool)
{
    if (pool->chunks)
        munmap(pool->chunks, (size_t)pool->count * sizeof *pool->chunks);
    pool->chunks = NULL;
}

/* There is one: see room_for_data and room_for_control. */
static struct dco_tcp_chunk *take_chunk(struct dco_tcp_pool *pool)
{
    struct dco_tcp_chunk *chunk = pool->free;

    pool->left--;
    if (chunk)
        pool->free = chunk->next;
    else
        chunk = &pool->chunks[pool->fresh++];
    chunk->next = NULL;
    chunk->begin = chunk->end = 0;
    return chunk;
}

static void give_chunk(struct dco_tcp_pool *pool, struct dco_tcp_chunk *chunk)
{
    chunk->next = pool->free;
    pool->free = chunk;
    pool->left++;
}

/* --- lists --- */

static void append(struct dco_tcp_list *list, struct dco_tcp_pool *pool, const uint8_t *data,
                   uint32_t size)
{
    list->bytes += size;
    while (size) {
        struct dco_tcp_chunk *chunk = list->last;
        uint32_t part;
        if (!chunk || chunk->end == CHUNK_BYTES) {
            chunk = take_chunk(pool);
            if (list->last)
                list->last->next = chunk;
            else
                list->first = chunk;
            list->last = chunk;
            list->chunks++;
        }
        part = CHUNK_BYTES - chunk->end < size ? CHUNK_BYTES - chunk->end : size;
        memcpy(chunk->data + chunk->end, data, part);
        chunk->end += part;
        data += part;
        size -= part;
    }
}

/* Takes bytes off the front, to `to` unless that is NULL. */
static void take(struct dco_tcp_list *list, struct dco_tcp_pool *pool, uint8_t *to, uint32_t size)
{
    list->bytes -= size;
    while (size) {
        struct dco_tcp_chunk *chunk = list->first;
        uint32_t have = chunk->end - chunk->begin, part = have < size ? have : size;
        if (to) {
            memcpy(to, chunk->data + chunk->begin, part);
            to += part;
        }
        chunk->begin += part;
        size -= part;
        if (chunk->begin == chunk->end) {
            list->first = chunk->next;
            if (!list->first)
                list->last = NULL;
            list->chunks--;
            give_chunk(pool, chunk);
        }
    }
}

/* Of the first frame, with its prefix, whose two bytes may lie in two chunks. */
static uint32_t first_frame(const struct dco_tcp_list *list)
{
    const struct dco_tcp_chunk *chunk = list->first;
    uint8_t prefix[PREFIX];

    prefix[0] = chunk->data[chunk->begin];
    prefix[1] = chunk->begin + 1 < chunk->end ? chunk->data[chunk->begin + 1]
                                              : chunk->next->data[chunk->next->begin];
    return PREFIX + dco_tcpframe_size(prefix);
}

/* Bytes that fit into the list with so many chunks more. */
static uint32_t room(const struct dco_tcp_list *list, uint32_t limit, uint32_t chunks)
{
    uint64_t bytes = (uint64_t)chunks * CHUNK_BYTES;

    if (list->last)
        bytes += CHUNK_BYTES - list->last->end;
    return bytes < limit - list->bytes ? (uint32_t)bytes : limit - list->bytes;
}

/* A chunk is taken only while more are left than the list has: each one closes the gap by two. So
 * as the pool runs dry the slow get less of it, and the last ones stay for those that have least. */
static uint32_t room_for_data(const struct dco_tcp_queue *queue, const struct dco_tcp_pool *pool)
{
    uint32_t held = queue->data.chunks + pool->count / DCO_TCP_POOL_RESERVE_SHARE;
    uint32_t chunks = pool->left > held ? (pool->left - held + 1) / 2 : 0;

    return room(&queue->data, DCO_TCP_QUEUE_MAX, chunks);
}

static uint32_t room_for_control(const struct dco_tcp_queue *queue, const struct dco_tcp_pool *pool)
{
    return room(&queue->control, DCO_TCP_CONTROL_MAX, pool->left);
}

/* --- the queue --- */

int dco_tcp_queue_init(struct dco_tcp_queue *queue, uint32_t frame_max)
{
    memset(queue, 0, sizeof *queue);
    atomic_init(&queue->waiting, 0);
    atomic_init(&queue->control_waiting, 0);
    return dco_tcp_queue_reserve(queue, frame_max);
}

int dco_tcp_queue_reserve(struct dco_tcp_queue *queue, uint32_t frame_max)
{
    uint8_t *rest;

    if (frame_max > DCO_TCPFRAME_MAX)
        frame_max = DCO_TCPFRAME_MAX;
    if (frame_max <= queue->frame_max)
        return 0;
    rest = realloc(queue->rest, PREFIX + frame_max);
    if (!rest)
        return -ENOMEM;
    queue->rest = rest;
    queue->frame_max = frame_max;
    return 0;
}

static uint32_t count_waiting(struct dco_tcp_queue *queue)
{
    uint32_t bytes = queue->rest_end - queue->rest_begin + queue->control.bytes + queue->data.bytes;

    dco_counter_set(&queue->waiting, bytes);
    dco_counter_set(&queue->control_waiting, queue->control.bytes);
    return bytes;
}

void dco_tcp_queue_clear(struct dco_tcp_queue *queue, struct dco_tcp_pool *pool)
{
    queue->closed = true;
    queue->rest_begin = queue->rest_end = 0;
    take(&queue->control, pool, NULL, queue->control.bytes);
    take(&queue->data, pool, NULL, queue->data.bytes);
    count_waiting(queue);
}

void dco_tcp_queue_destroy(struct dco_tcp_queue *queue)
{
    free(queue->rest);
    queue->rest = NULL;
}

/* --- one write of everything --- */

struct gather {
    struct iovec part[PARTS_MAX];
    unsigned parts;
};

static void add_part(struct gather *gather, const void *data, uint32_t size)
{
    if (!size)
        return;
    gather->part[gather->parts].iov_base = (void *)data;
    gather->part[gather->parts].iov_len = size;
    gather->parts++;
}

static void add_list(struct gather *gather, const struct dco_tcp_list *list)
{
    for (const struct dco_tcp_chunk *chunk = list->first; chunk; chunk = chunk->next)
        add_part(gather, chunk->data + chunk->begin, chunk->end - chunk->begin);
}

/* Bytes that the kernel took, 0 when it has no room, or the errno of a dead connection. */
static ssize_t write_parts(struct dco_tcp *tcp, struct dco_tcp_queue *queue, struct gather *gather,
                           struct dco_tcp_tally *tally)
{
    struct msghdr message = {.msg_iov = gather->part, .msg_iovlen = gather->parts};
    ssize_t sent;

    if (!gather->parts)
        return 0;
    do {
        tally->calls++;
        sent = sendmsg(tcp->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    if (sent >= 0)
        return sent;
    if (errno == EAGAIN)
        return 0;
    queue->closed = true;
    return -errno;
}

/* The three that follow take what was sent off the front of theirs and return what is left of it
 * for the next. A frame of which a part was sent becomes the rest, which is empty by then. */

static uint32_t settle_rest(struct dco_tcp_queue *queue, uint32_t sent)
{
    uint32_t have = queue->rest_end - queue->rest_begin, part = have < sent ? have : sent;

    queue->rest_begin += part;
    return sent - part;
}

static uint32_t settle_list(struct dco_tcp_queue *queue, struct dco_tcp_list *list,
                            struct dco_tcp_pool *pool, uint32_t sent)
{
    while (sent && list->bytes) {
        uint32_t frame = first_frame(list);
        if (sent < frame) {
            take(list, pool, NULL, sent);
            queue->rest_begin = 0;
            queue->rest_end = frame - sent;
            take(list, pool, queue->rest, queue->rest_end);
            return 0;
        }
        take(list, pool, NULL, frame);
        sent -= frame;
    }
    return sent;
}

/* A frame outside the queue, prefix and packet apart. */
static uint32_t settle_frame(struct dco_tcp_queue *queue, const uint8_t *prefix,
                             const uint8_t *packet, uint32_t size, uint32_t sent)
{
    uint32_t head = sent < PREFIX ? PREFIX - sent : 0, body = head ? 0 : sent - PREFIX;

    if (sent >= PREFIX + size)
        return sent - PREFIX - size;
    memcpy(queue->rest, prefix + PREFIX - head, head);
    memcpy(queue->rest + head, packet + body, size - body);
    queue->rest_begin = 0;
    queue->rest_end = head + size - body;
    return 0;
}

static int result(struct dco_tcp_queue *queue)
{
    return count_waiting(queue) ? -EAGAIN : 0;
}

/* --- data --- */

/* Data packets behind their prefixes; of these, how many bytes and packets were sent or kept. */
struct run {
    const uint8_t *frames;
    uint32_t size, kept, packets;
};

/* `sent` bytes are with the kernel: what is begun, and of the others what fits, is kept. */
static void keep_run(struct dco_tcp_queue *queue, struct dco_tcp_pool *pool, struct run *run,
                     uint32_t sent)
{
    uint32_t at = dco_tcpframe_border(run->frames, run->size, sent, &run->packets);
    uint32_t size, packets;

    if (at < sent) {
        const uint8_t *frame = run->frames + at;
        uint32_t length = dco_tcpframe_size(frame);
        settle_frame(queue, frame, frame + PREFIX, length, sent - at);
        at += PREFIX + length;
        run->packets++;
    }
    size =
        dco_tcpframe_border(run->frames + at, run->size - at, room_for_data(queue, pool), &packets);
    append(&queue->data, pool, run->frames + at, size);
    run->kept = at + size;
    run->packets += packets;
}

static int send_run(struct dco_tcp *tcp, struct dco_tcp_queue *queue, struct dco_tcp_pool *pool,
                    struct run *run, struct dco_tcp_tally *tally)
{
    struct gather gather = {.parts = 0};
    ssize_t written;
    uint32_t sent;

    if (queue->closed)
        return -EPIPE;
    add_part(&gather, queue->rest + queue->rest_begin, queue->rest_end - queue->rest_begin);
    add_list(&gather, &queue->control);
    add_list(&gather, &queue->data);
    add_part(&gather, run->frames, run->size);
    written = write_parts(tcp, queue, &gather, tally);
    if (written < 0)
        return (int)written;
    sent = settle_rest(queue, (uint32_t)written);
    sent = settle_list(queue, &queue->control, pool, sent);
    sent = settle_list(queue, &queue->data, pool, sent);
    if (run->size)
        keep_run(queue, pool, run, sent);
    return result(queue);
}

int dco_tcp_send(struct dco_tcp *tcp, struct dco_tcp_queue *queue, struct dco_tcp_pool *pool,
                 const uint8_t *frames, uint32_t size, struct dco_tcp_tally *tally)
{
    struct run run = {.frames = frames, .size = size};
    int count = dco_tcpframe_count(frames, size, queue->frame_max), error;
    uint32_t dropped;

    if (count < 0)
        return count;
    error = send_run(tcp, queue, pool, &run, tally);
    dropped = (uint32_t)count - run.packets;
    tally->packets += run.packets;
    tally->bytes += run.kept - run.packets * PREFIX;
    tally->dropped += dropped;
    tally->dropped_bytes += size - run.kept - dropped * PREFIX;
    return error;
}

int dco_tcp_flush(struct dco_tcp *tcp, struct dco_tcp_queue *queue, struct dco_tcp_pool *pool,
                  struct dco_tcp_tally *tally)
{
    struct run none = {.size = 0};

    return send_run(tcp, queue, pool, &none, tally);
}

/* --- control --- */

/* The first one that waits needs no chunk where no frame is in flight: the room for its rest is
 * free, and first is where it belongs. */
static bool keep_control(struct dco_tcp_queue *queue, struct dco_tcp_pool *pool,
                         const uint8_t *prefix, const uint8_t *packet, uint32_t size)
{
    if (queue->rest_begin == queue->rest_end && !queue->control.bytes) {
        settle_frame(queue, prefix, packet, size, 0);
        return true;
    }
    if (PREFIX + size > room_for_control(queue, pool))
        return false;
    append(&queue->control, pool, prefix, PREFIX);
    append(&queue->control, pool, packet, size);
    return true;
}

int dco_tcp_send_control(struct dco_tcp *tcp, struct dco_tcp_queue *queue,
                         struct dco_tcp_pool *pool, const uint8_t *packet, uint32_t size,
                         struct dco_tcp_tally *tally)
{
    struct gather gather = {.parts = 0};
    uint8_t prefix[PREFIX];
    ssize_t written;
    uint32_t sent;
    int error;

    if (!size || size > queue->frame_max)
        return size ? -EMSGSIZE : -EPROTO;
    if (queue->closed)
        return -EPIPE;
    dco_tcpframe_put(prefix, size);
    add_part(&gather, queue->rest + queue->rest_begin, queue->rest_end - queue->rest_begin);
    add_list(&gather, &queue->control);
    add_part(&gather, prefix, PREFIX);
    add_part(&gather, packet, size);
    add_list(&gather, &queue->data);
    written = write_parts(tcp, queue, &gather, tally);
    if (written < 0)
        return (int)written;
    sent = settle_rest(queue, (uint32_t)written);
    sent = settle_list(queue, &queue->control, pool, sent);
    if (sent)
        sent = settle_frame(queue, prefix, packet, size, sent);
    else if (!keep_control(queue, pool, prefix, packet, size)) {
        count_waiting(queue);
        return -ENOBUFS;
    }
    settle_list(queue, &queue->data, pool, sent);
    error = result(queue);
    tally->packets++;
    tally->bytes += size;
    return error;
}

/* --- state --- */

static uint8_t *save_list(const struct dco_tcp_list *list, uint8_t *bytes)
{
    for (const struct dco_tcp_chunk *chunk = list->first; chunk; chunk = chunk->next) {
        memcpy(bytes, chunk->data + chunk->begin, chunk->end - chunk->begin);
        bytes += chunk->end - chunk->begin;
    }
    return bytes;
}

void dco_tcp_queue_save(const struct dco_tcp_queue *queue, uint8_t *bytes)
{
    uint32_t rest = queue->rest_end - queue->rest_begin;

    memcpy(bytes, queue->rest + queue->rest_begin, rest);
    bytes = save_list(&queue->control, bytes + rest);
    save_list(&queue->data, bytes);
}

int dco_tcp_queue_load(struct dco_tcp_queue *queue, struct dco_tcp_pool *pool, const uint8_t *rest,
                       uint32_t rest_size, const uint8_t *control, uint32_t control_size,
                       const uint8_t *data, uint32_t data_size)
{
    if (rest_size > PREFIX + queue->frame_max || control_size > room_for_control(queue, pool)
        || data_size > room_for_data(queue, pool)
        || (control_size && dco_tcpframe_count(control, control_size, queue->frame_max) < 0)
        || (data_size && dco_tcpframe_count(data, data_size, queue->frame_max) < 0))
        return -EINVAL;
    memcpy(queue->rest, rest, rest_size);
    queue->rest_begin = 0;
    queue->rest_end = rest_size;
    append(&queue->control, pool, control, control_size);
    append(&queue->data, pool, data, data_size);
    count_waiting(queue);
    return 0;
}
