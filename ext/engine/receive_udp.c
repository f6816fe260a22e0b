/* Datagrams: peer by the id that they carry, or by where they come from. */
#define _GNU_SOURCE
#include <errno.h>

#include "engine/receive.h"
#include "engine/trace.h"

static struct dco_peer *find_peer(struct dco_receive *receive, struct dco_transport *transport,
                                  const struct dco_udp_train *train, uint32_t id)
{
    struct dco_engine *engine = receive->engine;
    struct dco_peer *only;

    if (engine->config.mode == DCO_MODE_MULTIPEER) {
        if (id == DCO_PEER_ID_UNDEFINED)
            return dco_peer_table_by_address(&engine->peers, dco_transport_slot(transport->id),
                                             &train->remote);
        return dco_peer_table_by_id(&engine->peers, id);
    }
    only = atomic_load_explicit(&engine->only, memory_order_acquire);
    if (only && only->id != id) {
        struct dco_endpoint endpoint;
        dco_peer_endpoint_read(only, &endpoint);
        if (id != DCO_PEER_ID_UNDEFINED || !dco_address_equal(&endpoint.remote, &train->remote))
            return NULL;
    }
    return only;
}

static void receive_by_id(struct dco_receive *receive, struct dco_transport *transport,
                          const struct dco_udp_train *train, uint8_t *packet, uint32_t size)
{
    struct dco_peer *peer = find_peer(receive, transport, train, dco_wire_peer_id(packet));

    dco_receive_data(receive, transport, train, peer, packet, size);
}

static inline void receive_datagram(struct dco_receive *receive, struct dco_transport *transport,
                                    const struct dco_udp_train *train, uint8_t *packet,
                                    uint32_t size)
{
    if (size < DCO_WIRE_HEADER) {
        dco_receive_drop(receive, DCO_DROP_RX_RUNT, 1);
        return;
    }
    switch (dco_wire_opcode(packet)) {
    case DCO_WIRE_DATA_V2: receive_by_id(receive, transport, train, packet, size); break;
    case DCO_WIRE_DATA_V1: dco_receive_drop(receive, DCO_DROP_RX_DATA_V1, 1); break;
    default: dco_receive_punt(receive, transport, train, -1, packet, size);
    }
}

/* The same under observation. */
__attribute__((cold)) static void trace_datagram(struct dco_receive *receive,
                                                 struct dco_transport *transport,
                                                 const struct dco_udp_train *train, uint8_t *packet,
                                                 uint32_t size)
{
    struct dco_trace *trace = dco_trace_on(receive->engine);
    struct dco_peer *peer = NULL;

    if (!trace) {
        receive_datagram(receive, transport, train, packet, size);
        return;
    }
    if (size >= DCO_WIRE_HEADER && dco_wire_opcode(packet) == DCO_WIRE_DATA_V2)
        peer = find_peer(receive, transport, train, dco_wire_peer_id(packet));
    dco_trace_receive_begin(trace, receive, packet, size);
    receive_datagram(receive, transport, train, packet, size);
    dco_trace_receive_end(trace, receive, transport, train, peer, packet);
}

typedef void take(struct dco_receive *receive, struct dco_transport *transport,
                  const struct dco_udp_train *train, uint8_t *packet, uint32_t size);

/* Peer, key and opcode are read per datagram: a train may mix them. Returns how many there were. */
static inline uint32_t receive_train(struct dco_receive *receive, struct dco_transport *transport,
                                     const struct dco_udp_train *train, take *take)
{
    uint32_t packets = 0, offset = 0;

    if (train->truncated) {
        dco_receive_drop(receive, DCO_DROP_RX_TRUNCATED, 1);
        return 1;
    }
    do {
        uint32_t left = train->size - offset;
        uint32_t size = left < train->segment ? left : train->segment;
        take(receive, transport, train, train->data + offset, size);
        offset += size;
        packets++;
    } while (offset < train->size);
    return packets;
}

bool dco_receive_batch(struct dco_receive *receive, struct dco_transport *transport)
{
    struct dco_udp *udp = dco_transport_udp(transport, receive->worker->index);
    unsigned width = receive->inbox.width;
    int trains = dco_udp_receive(udp, &receive->inbox);
    uint32_t packets = 0;

    if (trains <= 0) {
        if (trains < 0 && trains != -EAGAIN && trains != -EINTR)
            dco_transport_drain_errors(receive->engine, transport, udp);
        return false;
    }
    dco_receive_begin(receive);
    if (__builtin_expect(!dco_trace_on(receive->engine), 1)) {
        for (int i = 0; i < trains; i++)
            packets +=
                receive_train(receive, transport, &receive->inbox.train[i], receive_datagram);
    } else {
        for (int i = 0; i < trains; i++)
            packets += receive_train(receive, transport, &receive->inbox.train[i], trace_datagram);
    }
    dco_receive_end(receive);
    dco_counter_add(&receive->stats.udp_receives, 1);
    dco_counter_add(&receive->stats.udp_receive_messages, (unsigned)trains);
    dco_counter_add(&receive->stats.udp_receive_packets, packets);
    dco_stats_batch(receive->stats.rx_batches, packets);
    return (unsigned)trains == width;
}

/* The datagrams lie in the inbox, which is free between batches, until they are written. */
bool dco_receive_handed(struct dco_receive *receive)
{
    struct dco_handoff *handoff = &receive->worker->to_open;
    uint32_t used = 0;
    size_t record;

    dco_receive_begin(receive);
    while (used < DCO_HANDOFF_BATCH && (record = dco_handoff_peek(handoff))) {
        uint8_t *packet = receive->inbox.buffer + used;
        uint32_t size = (uint32_t)(record - sizeof(struct dco_received));
        struct dco_udp_train train = {.data = packet, .size = size, .segment = size};
        struct dco_transport *transport;
        struct dco_received head;

        dco_handoff_take(handoff, &head, sizeof head, packet);
        used += (size + 63) & ~63u;
        train.remote = head.remote;
        train.local = head.local;
        train.tos = head.tos;
        transport = dco_transport_find(&receive->engine->transports, head.transport);
        if (transport)
            trace_datagram(receive, transport, &train, packet, size);
        else
            dco_receive_drop(receive, DCO_DROP_RX_UNKNOWN_PEER, 1);
    }
    dco_receive_end(receive);
    return used >= DCO_HANDOFF_BATCH;
}
