/* Messages to a peer inside the data channel: from the API to the peer's home, which seals them. */
#define _GNU_SOURCE
#include <errno.h>

#include "engine/engine.h"
#include "engine/transmit.h"

/* A connection must have room, beside what the interface brings, for all that was accepted. */
static int order_message(struct dco_engine *engine, struct dco_peer *peer, const void *data,
                         size_t size)
{
    struct dco_stream *stream = peer->transport->stream;
    uint32_t bytes = dco_transmit_message_bytes(size);

    if (!dco_keyslots_get(&peer->keys, DCO_SLOT_PRIMARY))
        return -ENOKEY;
    if (stream) {
        uint64_t waiting = dco_counter_read(&stream->queue.waiting);
        if (waiting + atomic_load(&peer->message_due) + bytes > DCO_TCP_QUEUE_MAX)
            return -EAGAIN;
        atomic_fetch_add(&peer->message_due, bytes);
    }
    if (dco_transmit_message(&engine->worker[peer->home], peer, data, size))
        return 0;
    if (stream)
        atomic_fetch_sub(&peer->message_due, bytes);
    return -EAGAIN;
}

int dco_peer_send(struct dco_engine *engine, struct dco_peer_ref ref, const void *data, size_t size)
{
    struct dco_peer *peer;
    int error;

    if (!size || size > DCO_MESSAGE_MAX)
        return size ? -EMSGSIZE : -EINVAL;
    error = dco_engine_enter(engine);
    if (error)
        return error;
    peer = dco_engine_find(engine, ref);
    error = peer ? order_message(engine, peer, data, size) : -ENOENT;
    dco_engine_leave(engine);
    return error;
}
