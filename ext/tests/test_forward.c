/* Packets from peer to peer: sealed where they were opened, or by the transmit thread, and in the
 * order in which they came either way. */
#define _GNU_SOURCE
#include "engine/forward.h"

#include "engine/transmit.h"
#include "tests/engines.h"
#include "tests/packets.h"

/* Packets are from 10.8.0.1 to 10.8.0.2, as packets.h makes them. */
struct mesh {
    struct side alice, bob, hub;
    uint16_t sent;
};

static void online(struct side *side)
{
    dco_rcu_online(&side->engine->rcu, side->engine->worker->transmit_reader);
    dco_rcu_online(&side->engine->rcu, side->engine->worker->receive_reader);
}

static void offline(struct side *side)
{
    dco_rcu_offline(&side->engine->rcu, side->engine->worker->receive_reader);
    dco_rcu_offline(&side->engine->rcu, side->engine->worker->transmit_reader);
}

static void open_mesh(struct mesh *mesh)
{
    struct side *sides[] = {&mesh->alice, &mesh->bob, &mesh->hub};
    struct side through_hub;

    mesh->sent = 0;
    for (uint8_t i = 0; i < 3; i++)
        open_side(sides[i], i + 1, false);
    add_peer_as(&mesh->hub, &mesh->alice, 7);
    add_peer_as(&mesh->hub, &mesh->bob, 8);
    through_hub = mesh->hub;
    through_hub.last = mesh->bob.last;
    add_peer_as(&mesh->alice, &through_hub, 7);
    through_hub.last = mesh->alice.last;
    add_peer_as(&mesh->bob, &through_hub, 8);
    CHECK(!dco_engine_set_forwarding(mesh->hub.engine, DCO_FORWARDING_ALL));
    for (int i = 0; i < 3; i++)
        online(sides[i]);
}

static void close_mesh(struct mesh *mesh)
{
    struct side *sides[] = {&mesh->alice, &mesh->bob, &mesh->hub};

    for (int i = 0; i < 3; i++) {
        offline(sides[i]);
        close_side(sides[i]);
    }
}

static void arrive_at_hub(struct mesh *mesh, unsigned packets)
{
    for (unsigned i = 0; i < packets; i++) {
        struct packet_spec spec = spec_of(4, UDP);
        uint8_t packet[2048];
        size_t size;
        spec.id = mesh->sent++;
        size = make_packet(packet, &spec);
        CHECK(send(mesh->alice.inner, packet, size, 0) == (ssize_t)size);
    }
    dco_transmit_batch(mesh->alice.engine->worker->transmit);
    dco_receive_batch(mesh->hub.engine->worker->receive, mesh->hub.transport);
}

static void bob_gets_all_in_order(struct mesh *mesh)
{
    struct dco_receive *receive = mesh->bob.engine->worker->receive;
    uint8_t packet[2048];

    while (dco_receive_batch(receive, mesh->bob.transport))
        continue;
    for (uint16_t id = 0; id < mesh->sent; id++) {
        CHECK(recv(mesh->bob.inner, packet, sizeof packet, MSG_DONTWAIT) > 20);
        CHECK(get16(packet + 4) == id);
    }
    CHECK(recv(mesh->bob.inner, packet, sizeof packet, MSG_DONTWAIT) < 0);
}

static uint64_t forwarded(const struct mesh *mesh)
{
    struct dco_engine_stats stats;

    CHECK(!dco_engine_stats(mesh->hub.engine, &stats));
    return stats.forwarded_packets;
}

static void test_at_once_where_nobody_else_seals(void)
{
    struct mesh mesh;

    open_mesh(&mesh);
    arrive_at_hub(&mesh, 3);
    CHECK(!dco_handoff_peek(&mesh.hub.engine->worker->to_seal));
    bob_gets_all_in_order(&mesh);
    CHECK(forwarded(&mesh) == 3);
    close_mesh(&mesh);
}

/* While the transmit thread is at it, and until it has taken what it was given. */
static void test_behind_what_waits(void)
{
    struct mesh mesh;
    struct dco_worker *worker;

    open_mesh(&mesh);
    worker = mesh.hub.engine->worker;
    pthread_mutex_lock(&worker->sealing);
    arrive_at_hub(&mesh, 3);
    pthread_mutex_unlock(&worker->sealing);
    arrive_at_hub(&mesh, 3);
    CHECK(dco_handoff_peek(&worker->to_seal));
    while (dco_transmit_handed(worker->transmit))
        continue;
    arrive_at_hub(&mesh, 2);
    CHECK(!dco_handoff_peek(&worker->to_seal));
    bob_gets_all_in_order(&mesh);
    CHECK(forwarded(&mesh) == 8);
    close_mesh(&mesh);
}

int main(void)
{
    RUN(test_at_once_where_nobody_else_seals);
    RUN(test_behind_what_waits);
    return 0;
}
