/* Engines whose threads never start: a test runs their batches itself, on one thread. The inner side
 * is a socket pair, the outer one UDP over loopback. Packets with an offload header go through a
 * pair, too: the engine is told that its descriptor is one that has them. */
#ifndef DCO_TESTS_ENGINES_H
#define DCO_TESTS_ENGINES_H

#include <arpa/inet.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "codec/gso.h"
#include "engine/engine.h"
#include "tests/check.h"

struct side {
    struct dco_engine *engine;
    struct dco_transport *transport;
    int inner, socket;
    struct sockaddr_in name;
    uint8_t last; /* byte of its inner address */
};

static inline int loopback_socket(struct sockaddr_in *name, in_addr_t address)
{
    socklen_t size = sizeof *name;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    *name = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr = {htonl(address)}};
    CHECK(!bind(fd, (struct sockaddr *)name, size));
    CHECK(!getsockname(fd, (struct sockaddr *)name, &size));
    return fd;
}

/* As on a TUN of a new kernel. */
static inline void give_offload_header(struct dco_tun *tun)
{
    tun->vnet = true;
    tun->vnet_size = sizeof(struct dco_vnet);
    tun->supported = DCO_OFFLOAD_TUN_VNET | DCO_OFFLOAD_TUN_TSO | DCO_OFFLOAD_TUN_TCP_GRO;
    atomic_store(&tun->offloads, tun->supported);
}

/* OpenSSL's cipher: valgrind does not know the instructions that ours is made of. */
static inline void open_side(struct side *side, uint8_t last, bool offload_header)
{
    struct dco_engine_config config = {
        .mode = DCO_MODE_MULTIPEER,
        .source_check = DCO_SOURCE_CHECK_STRICT,
        .offloads = DCO_OFFLOAD_ALL & ~DCO_OFFLOAD_VAES_GCM,
    };
    struct dco_transport_config transport = {0};
    uint64_t id;
    int port[2];

    side->last = last;
    CHECK(!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, port));
    side->inner = port[0];
    side->socket = loopback_socket(&side->name, INADDR_ANY);
    CHECK(!dco_engine_create(&config, &side->engine));
    CHECK(!dco_engine_adopt_tun(side->engine, &port[1], 1));
    close(port[1]);
    if (offload_header)
        give_offload_header(&side->engine->tun);
    CHECK(!dco_transport_attach_udp(side->engine, side->socket, &transport, &id));
    side->transport = dco_transport_find(&side->engine->transports, id);
}

static inline void close_side(struct side *side)
{
    dco_engine_free(side->engine);
    close(side->inner);
    close(side->socket);
}

static inline void add_peer_as(struct side *side, const struct side *other, uint32_t id)
{
    static const uint8_t secret[32] = {1};
    struct dco_peer_config peer = {
        .present = DCO_PEER_REMOTE | DCO_PEER_VPN_IPV4,
        .id = id,
        .transport = side->transport->id,
        .remote = {.family = AF_INET, .ip = {127, 0, 0, 1}, .port = ntohs(other->name.sin_port)},
        .vpn_ipv4 = {10, 8, 0, other->last},
    };
    struct dco_key_config key = {
        .cipher = DCO_CIPHER_AES_GCM,
        .encrypt_key = secret,
        .decrypt_key = secret,
        .encrypt_key_size = sizeof secret,
        .decrypt_key_size = sizeof secret,
    };
    struct dco_peer_ref ref = {.id = id};

    CHECK(!dco_peer_add(side->engine, &peer, &ref.generation));
    CHECK(!dco_key_install(side->engine, ref, DCO_SLOT_PRIMARY, &key));
}

static inline void add_peer(struct side *side, const struct side *other)
{
    add_peer_as(side, other, 7);
}

#endif
