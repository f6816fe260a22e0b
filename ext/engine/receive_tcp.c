/* Streams: frames, and the peer that the connection has. */
#define _GNU_SOURCE
#include <errno.h>
#include <sys/socket.h>

#include "codec/tcpframe.h"
#include "engine/receive.h"
#include "engine/trace.h"

/* As much as is still in the cache when it is written to the TUN. */
#define STREAM_BATCH (256u * 1024u)

/* The socket names the peer; what the packet says of it does not count. */
static bool receive_frame(struct dco_receive *receive, struct dco_transport *transport,
                          uint8_t *packet, uint32_t size)
{
    struct dco_stream *stream = transport->stream;
    struct dco_udp_train train = {.remote = stream->tcp.remote, .local = stream->tcp.local};

    atomic_store_explicit(&stream->heard, true, memory_order_release);
    if (size < DCO_WIRE_HEADER) {
        dco_receive_drop(receive, DCO_DROP_RX_RUNT, 1);
        return false;
    }
    switch (dco_wire_opcode(packet)) {
    case DCO_WIRE_DATA_V2:
        dco_receive_data(receive, transport, &train,
                         atomic_load_explicit(&stream->peer, memory_order_acquire), packet, size);
        return true;
    case DCO_WIRE_DATA_V1: dco_receive_drop(receive, DCO_DROP_RX_DATA_V1, 1); return false;
    default: dco_receive_punt(receive, transport, &train, -1, packet, size); return true;
    }
}

/* The same under observation. */
static bool trace_frame(struct dco_receive *receive, struct dco_transport *transport,
                        uint8_t *packet, uint32_t size)
{
    struct dco_trace *trace = dco_trace_on(receive->engine);
    struct dco_stream *stream = transport->stream;
    struct dco_udp_train train = {.remote = stream->tcp.remote, .local = stream->tcp.local};
    struct dco_peer *peer = NULL;
    bool sound;

    if (!trace)
        return receive_frame(receive, transport, packet, size);
    if (dco_wire_opcode(packet) == DCO_WIRE_DATA_V2)
        peer = atomic_load_explicit(&stream->peer, memory_order_acquire);
    dco_trace_receive_begin(trace, receive, packet, size);
    sound = receive_frame(receive, transport, packet, size);
    dco_trace_receive_end(trace, receive, transport, &train, peer, packet);
    return sound;
}

/* A data packet for a peer that is not there yet, or has no key yet. */
static bool too_early(const struct dco_stream *stream, const uint8_t *packet)
{
    return dco_wire_opcode(packet) == DCO_WIRE_DATA_V2 && !atomic_load(&stream->ready);
}

/* Stops reading, unless the key has come just now. In this order: dco_stream_ready sets `ready` and
 * then looks at `held`. */
static void hold(struct dco_receive *receive, struct dco_transport *transport)
{
    struct dco_stream *stream = transport->stream;

    atomic_store(&stream->held, true);
    dco_worker_hold(receive->worker, stream->tcp.fd, transport->id, true);
    if (atomic_load(&stream->ready))
        dco_worker_hold(receive->worker, stream->tcp.fd, transport->id, false);
}

/* Takes the frames in the inbox's first `size` bytes and keeps the rest. 0, or why the connection
 * must end. */
static int receive_frames(struct dco_receive *receive, struct dco_transport *transport, size_t size)
{
    struct dco_stream *stream = transport->stream;
    uint8_t *bytes = receive->inbox.buffer, *frame;
    uint32_t frame_size, frames = 0;
    size_t offset = 0, begin = 0;
    int more, error = 0;

    dco_receive_begin(receive);
    while ((more = dco_tcpframe_next(bytes, size, &offset, dco_tcp_frame_max(&stream->tcp), &frame,
                                     &frame_size))
           > 0) {
        if (too_early(stream, frame)) {
            hold(receive, transport);
            break;
        }
        begin = offset;
        frames++;
        if (!trace_frame(receive, transport, frame, frame_size)) {
            error = -EPROTO;
            break;
        }
    }
    dco_receive_end(receive);
    if (more < 0) {
        dco_receive_drop(receive, DCO_DROP_RX_STREAM, 1);
        error = more;
    }
    dco_counter_add(&receive->stats.tcp_receive_packets, frames);
    dco_stats_batch(receive->stats.rx_batches, frames);
    return error ? error : dco_tcp_keep(&stream->tcp, bytes + begin, size - begin);
}

/* Where frames begin is known no more, so nothing is read any more. While the lock cannot be had the
 * closed read half keeps the socket readable, and this is tried again. */
static bool end_broken(struct dco_receive *receive, struct dco_transport *transport)
{
    struct dco_stream *stream = transport->stream;

    if (!dco_stream_ended(receive->worker, transport, stream->broken, DCO_DELETED_TRANSPORT_ERROR))
        shutdown(stream->tcp.fd, SHUT_RD);
    return false;
}

static bool receive_bytes(struct dco_receive *receive, struct dco_transport *transport, size_t size)
{
    struct dco_stream *stream = transport->stream;

    stream->broken = -receive_frames(receive, transport, size);
    if (stream->broken)
        return end_broken(receive, transport);
    return !atomic_load(&stream->held);
}

bool dco_receive_stream(struct dco_receive *receive, struct dco_transport *transport)
{
    struct dco_stream *stream = transport->stream;
    /* Before there is a key: no more than can be kept when a data packet comes. */
    size_t room = atomic_load(&stream->ready)
                      ? STREAM_BATCH
                      : DCO_TCPFRAME_PREFIX + dco_tcp_frame_max(&stream->tcp);
    ssize_t size;

    if (stream->broken)
        return end_broken(receive, transport);
    size = dco_tcp_receive(&stream->tcp, receive->inbox.buffer, room);
    if (size > 0) {
        dco_counter_add(&receive->stats.tcp_receives, 1);
        return receive_bytes(receive, transport, (size_t)size) && (size_t)size == room;
    }
    if (size != -EAGAIN)
        dco_stream_ended(receive->worker, transport, size ? (int)-size : EPIPE,
                         DCO_DELETED_TRANSPORT_DISCONNECT);
    return false;
}

void dco_receive_release(struct dco_receive *receive, struct dco_transport *transport)
{
    struct dco_stream *stream = transport->stream;

    if (!atomic_exchange(&stream->held, false))
        return;
    dco_worker_resume(receive->worker, stream->tcp.fd, transport->id);
    receive_bytes(receive, transport, dco_tcp_resume(&stream->tcp, receive->inbox.buffer));
}
