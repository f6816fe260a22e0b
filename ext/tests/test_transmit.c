/* What the transmit path counts of packets that no kernel would hand to it. */
#define _GNU_SOURCE
#include "engine/transmit.h"

#include "tests/engines.h"
#include "tests/packets.h"

static struct dco_peer_stats stats_of(const struct side *side)
{
    struct dco_peer_info info;

    CHECK(!dco_peer_query(side->engine, (struct dco_peer_ref){.id = 7}, &info));
    return info.stats;
}

static uint64_t drops_of(const struct side *side, enum dco_drop reason)
{
    struct dco_engine_stats stats;

    CHECK(!dco_engine_stats(side->engine, &stats));
    return stats.drops[reason];
}

static void transmit(struct side *side, const struct dco_vnet *vnet, const struct packet_spec *spec)
{
    uint8_t packet[2048];
    size_t size = sizeof *vnet;

    memcpy(packet, vnet, size);
    size += make_packet(packet + size, spec);
    CHECK(send(side->inner, packet, size, 0) == (ssize_t)size);
    dco_transmit_batch(side->engine->worker->transmit);
}

static void test_offload_headers_that_do_not_fit_are_the_peer_s(void)
{
    struct packet_spec spec = spec_of(4, TCP);
    struct dco_vnet plain = {0}, wrong = {.gso_type = DCO_VNET_GSO_TCPV6, .gso_size = 10};
    struct side near, far;

    open_side(&near, 1, true);
    open_side(&far, 2, true);
    add_peer(&near, &far);
    dco_rcu_online(&near.engine->rcu, near.engine->worker->transmit_reader);
    transmit(&near, &plain, &spec);
    transmit(&near, &wrong, &spec);
    dco_rcu_offline(&near.engine->rcu, near.engine->worker->transmit_reader);
    CHECK(stats_of(&near).vpn_tx_packets == 1);
    CHECK(stats_of(&near).tx_gso_errors == 1);
    CHECK(drops_of(&near, DCO_DROP_TX_GSO) == 1);
    close_side(&near);
    close_side(&far);
}

int main(void)
{
    RUN(test_offload_headers_that_do_not_fit_are_the_peer_s);
    return 0;
}
