/* What a TCP connection could not send at once: a bounded queue for each connection, made of
 * chunks that a worker's connections share.
 *
 * What leaves first: the rest of the frame of which the kernel has a part, then control packets,
 * then data, each in its order. Once the first byte of a frame is with the kernel the frame goes
 * out whole and without anything in between; its rest is kept in a buffer of the queue's own. So a
 * connection that takes what it gets needs no chunk, however many the slow ones hold.
 *
 * Everything here belongs to the holder of the home worker's `sealing`, but for `waiting`. */
#ifndef DCO_IO_TCP_QUEUE_H
#define DCO_IO_TCP_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bounds.h"
#include "io/tcp.h"
#include "sync/counter.h"

struct dco_tcp_chunk {
    struct dco_tcp_chunk *next;
    uint32_t begin, end; /* of what is in it */
    uint8_t data[DCO_TCP_CHUNK - 2 * sizeof(uint64_t)];
};

struct dco_tcp_pool {
    struct dco_tcp_chunk *chunks;
    struct dco_tcp_chunk *free; /* used before, the last one first: its pages are there */
    uint32_t count;
    uint32_t fresh; /* the chunks from this one on were never used, and cost nothing yet */
    uint32_t left;  /* not in use */
};

/* `chunks`: DCO_TCP_POOL_CHUNKS but for tests. 0 or -ENOMEM. */
int dco_tcp_pool_init(struct dco_tcp_pool *pool, uint32_t chunks);
/* Every queue was cleared. */
void dco_tcp_pool_destroy(struct dco_tcp_pool *pool);

/* Whole frames, one behind the other. */
struct dco_tcp_list {
    struct dco_tcp_chunk *first, *last;
    uint32_t bytes, chunks;
};

struct dco_tcp_queue {
    uint8_t *rest; /* of the frame in flight, or what goes next; room for frame_max and prefix */
    uint32_t rest_begin, rest_end;
    uint32_t frame_max;
    bool closed; /* dead or cleared: nothing is taken any more */
    struct dco_tcp_list control, data;
    dco_counter waiting;         /* bytes in all; any thread reads it */
    dco_counter control_waiting; /* of them, control packets behind the rest */
};

/* For packets of up to `frame_max` bytes. 0 or -ENOMEM. */
int dco_tcp_queue_init(struct dco_tcp_queue *queue, uint32_t frame_max);
/* For larger ones, while in use. 0, or -ENOMEM and nothing changed. */
int dco_tcp_queue_reserve(struct dco_tcp_queue *queue, uint32_t frame_max);
/* Gives all chunks back, whatever is in flight: the connection sends nothing any more. */
void dco_tcp_queue_clear(struct dco_tcp_queue *queue, struct dco_tcp_pool *pool);
/* After it was cleared. */
void dco_tcp_queue_destroy(struct dco_tcp_queue *queue);

/* All that waits, to go on elsewhere: the rest of the frame in flight, control and data frames, one
 * behind the other in `bytes`, which has room for queue->waiting. */
void dco_tcp_queue_save(const struct dco_tcp_queue *queue, uint8_t *bytes);
/* Into an empty queue. 0; -EINVAL: more than a queue can hold, or no whole frames. */
int dco_tcp_queue_load(struct dco_tcp_queue *queue, struct dco_tcp_pool *pool, const uint8_t *rest,
                       uint32_t rest_size, const uint8_t *control, uint32_t control_size,
                       const uint8_t *data, uint32_t data_size);

/* What calls did, added up. Bytes are those of packets, without prefixes. */
struct dco_tcp_tally {
    uint32_t calls; /* of the system */
    uint32_t packets, dropped;
    uint64_t bytes, dropped_bytes;
};

/* All three return 0: nothing waits; -EAGAIN: something does, flush when the socket is writable;
 * -EMSGSIZE, -EPROTO or -EINVAL where the arguments are no frames for this queue: nothing was done;
 * another negative errno: the connection is dead, and the queue closed. */

/* A run of data packets, each behind its prefix. Sends from where they are, behind what waits, and
 * copies only what the socket does not take. What finds no room is dropped by whole packets from
 * the end of the run: beyond DCO_TCP_QUEUE_MAX bytes of this connection, or when it would hold
 * more of the pool than it leaves to others, so that the slow share and the pool never runs dry. */
int dco_tcp_send(struct dco_tcp *tcp, struct dco_tcp_queue *queue, struct dco_tcp_pool *pool,
                 const uint8_t *frames, uint32_t size, struct dco_tcp_tally *tally);

/* One control packet, without prefix, ahead of data that waits. Further, -ENOBUFS: the socket did
 * not take it and DCO_TCP_CONTROL_MAX bytes of others wait; it was not sent, nor counted. */
int dco_tcp_send_control(struct dco_tcp *tcp, struct dco_tcp_queue *queue,
                         struct dco_tcp_pool *pool, const uint8_t *packet, uint32_t size,
                         struct dco_tcp_tally *tally);

/* Sends what waits. */
int dco_tcp_flush(struct dco_tcp *tcp, struct dco_tcp_queue *queue, struct dco_tcp_pool *pool,
                  struct dco_tcp_tally *tally);

#endif
