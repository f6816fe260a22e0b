/* Two engines over loopback UDP and packet sockets, no TUN and no privileges: traffic both ways
 * while another thread rolls keys of both formats, whose epochs turn meanwhile, adds and deletes
 * peers and routes, moves endpoints, reads statistics and events, and traces packets; then closed
 * under load, by two at once, while others wait for events. Built with ThreadSanitizer; a check in
 * itself. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dco.h"
#include "tests/check.h"

#define ROUNDS 300
#define PACKET 100

struct side {
    struct dco_engine *engine;
    int inner, socket; /* our end of the packet port; the UDP socket */
    uint64_t transport;
    struct dco_address address;
    struct dco_peer_ref peer;
    uint8_t ip[4];
};

static struct side server, client;
static struct side neighbour; /* another peer of the server, at the client's address */
static atomic_bool done;

static void open_side(struct side *side, enum dco_mode mode, uint32_t workers, bool single)
{
    struct dco_engine_config config = {
        .mode = mode,
        .source_check = DCO_SOURCE_CHECK_STRICT,
        .workers = workers,
        .single_thread = single,
        .max_peers = 1000,
        .offloads = DCO_OFFLOAD_ALL,
    };
    struct dco_transport_config transport = {0};
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof name;
    int port[2];

    CHECK(!socketpair(AF_UNIX, SOCK_SEQPACKET, 0, port));
    side->inner = port[0];
    side->socket = socket(AF_INET, SOCK_DGRAM, 0);
    CHECK(!bind(side->socket, (struct sockaddr *)&name, size));
    CHECK(!getsockname(side->socket, (struct sockaddr *)&name, &size));
    side->address = (struct dco_address){.family = AF_INET, .port = ntohs(name.sin_port)};
    memcpy(side->address.ip, &name.sin_addr, 4);
    CHECK(!dco_engine_create(&config, &side->engine));
    CHECK(!dco_engine_adopt_tun(side->engine, &port[1], 1));
    close(port[1]);
    CHECK(!dco_engine_start(side->engine));
    CHECK(!dco_transport_attach_udp(side->engine, side->socket, &transport, &side->transport));
}

static void install(struct side *side, enum dco_slot slot, uint8_t key_id, bool first)
{
    uint8_t a[32], b[32];
    struct dco_key_config key = {
        .key_id = key_id,
        .cipher = DCO_CIPHER_AES_GCM,
        .encrypt_key = first ? a : b,
        .decrypt_key = first ? b : a,
        .encrypt_key_size = 32,
        .decrypt_key_size = 32,
    };

    memset(a, 1 + key_id, sizeof a);
    memset(b, 101 + key_id, sizeof b);
    if (key_id % 2) { /* the epoch format; the first epoch ends with the third packet */
        key.future_epochs = 4;
        key.epoch_key_size = 32;
        key.first_packet_id = DCO_EPOCH_COUNTER_MAX - 2;
    }
    CHECK(!dco_key_install(side->engine, side->peer, slot, &key));
}

static void add_peer(struct side *side, const struct side *other, bool with_address)
{
    struct dco_peer_config peer = {
        .present = DCO_PEER_REMOTE | (with_address ? DCO_PEER_VPN_IPV4 : 0),
        .id = 7,
        .transport = side->transport,
        .remote = other->address,
    };

    memcpy(peer.vpn_ipv4, other->ip, 4);
    side->peer.id = 7;
    CHECK(!dco_peer_add(side->engine, &peer, &side->peer.generation));
}

static void make_packet(const struct side *from, const struct side *to, uint8_t *packet, uint32_t n)
{
    memset(packet, 0, PACKET);
    packet[0] = 0x45;
    packet[3] = PACKET;
    packet[9] = 253; /* for experiments: RFC 3692 */
    memcpy(packet + 12, from->ip, 4);
    memcpy(packet + 16, to->ip, 4);
    memcpy(packet + 20, &n, sizeof n);
}

struct flow {
    struct side *from, *to;
    uint32_t received;
};

static void *carry(void *argument)
{
    struct flow *flow = argument;
    uint8_t packet[PACKET];

    for (uint32_t n = 0; !atomic_load(&done); n++) {
        struct pollfd ready = {.fd = flow->to->inner, .events = POLLIN};
        make_packet(flow->from, flow->to, packet, n);
        if (flow->to == &server && n % 2)
            memcpy(packet + 16, n % 4 == 1 ? neighbour.ip : (uint8_t[]){224, 0, 0, 5}, 4);
        send(flow->from->inner, packet, sizeof packet, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (poll(&ready, 1, 1) > 0)
            while (recv(flow->to->inner, packet, sizeof packet, MSG_DONTWAIT) == PACKET)
                flow->received++;
    }
    return NULL;
}

static void roll_keys(uint8_t key_id)
{
    install(&server, DCO_SLOT_SECONDARY, key_id, true);
    install(&client, DCO_SLOT_SECONDARY, key_id, false);
    CHECK(!dco_key_swap(server.engine, server.peer));
    CHECK(!dco_key_swap(client.engine, client.peer));
}

static void churn_peers(uint32_t round)
{
    struct dco_peer_config peer = {
        .present = DCO_PEER_REMOTE | DCO_PEER_VPN_IPV4 | DCO_PEER_KEEPALIVE,
        .id = 100 + round % 50,
        .transport = server.transport,
        .remote = client.address,
        .vpn_ipv4 = {10, 9, 0, (uint8_t)(1 + round % 50)},
        .keepalive_interval_s = 1,
        .keepalive_timeout_s = 1,
    };
    struct dco_prefix route = {AF_INET, 24, {192, 168, (uint8_t)round, 0}};
    struct dco_peer_ref ref = {.id = peer.id};

    peer.remote.port = (uint16_t)(20000 + round % 50);
    CHECK(!dco_peer_add(server.engine, &peer, &ref.generation));
    CHECK(!dco_route_add(server.engine, &route, ref));
    peer.present = DCO_PEER_REMOTE;
    peer.remote.port++;
    CHECK(!dco_peer_set(server.engine, ref, &peer));
    CHECK(!dco_peer_delete(server.engine, ref));
    CHECK(dco_peer_delete(server.engine, ref) == -ENOENT);
}

static uint64_t forwarded, replicated;

static uint32_t read_everything(void)
{
    struct dco_engine_stats stats;
    struct dco_peer_info info;
    struct dco_event events[8];
    uint32_t deletions = 0;
    int count;

    CHECK(!dco_engine_stats(server.engine, &stats));
    forwarded = stats.forwarded_packets;
    replicated = stats.replicated_packets;
    CHECK(!dco_peer_query(server.engine, server.peer, &info));
    while ((count = dco_event_poll(server.engine, events, 8)))
        for (int i = 0; i < count; i++)
            deletions += events[i].kind == DCO_EVENT_PEER_DELETED;
    return deletions;
}

/* What the threads look at while they carry packets: once a round all of it is reached. */
static void change_limits(uint32_t round)
{
    struct dco_peer_config change = {
        .present = DCO_PEER_RATE_LIMIT | DCO_PEER_LIMITS,
        .tx_rate = {.bits_per_s = round % 3 * 1000000, .burst_bytes = 65535},
        .rx_rate = {.bits_per_s = round % 2 * 1000000, .burst_bytes = 65535},
        .limits = {.given = (1u << DCO_LIMITS) - 1, .inactive_bytes = 1},
    };
    int error = dco_peer_send(server.engine, server.peer, "\1message", 8);

    for (unsigned limit = 0; limit < DCO_LIMITS; limit++)
        change.limits.value[limit] = limit <= DCO_LIMIT_SESSION ? 1 : round % 4 * PACKET;
    CHECK(!error || error == -EAGAIN);
    CHECK(!dco_peer_set(server.engine, server.peer, &change));
}

static void add_neighbour(void)
{
    neighbour = server;
    memcpy(neighbour.ip, (uint8_t[]){10, 8, 0, 3}, 4);
    struct dco_peer_config peer = {
        .present = DCO_PEER_REMOTE | DCO_PEER_VPN_IPV4,
        .id = 8,
        .transport = server.transport,
        .remote = client.address,
        .vpn_ipv4 = {10, 8, 0, 3},
    };
    neighbour.peer.id = 8;
    CHECK(!dco_peer_add(server.engine, &peer, &neighbour.peer.generation));
    install(&neighbour, DCO_SLOT_PRIMARY, 0, true);
}

/* What the client sends to the neighbour, and to all, is forwarded, or not, by turns. */
static void forward_some(uint32_t round)
{
    struct dco_reserved reserved[2] = {
        {{AF_INET, 32, {10, 8, 0, 1}}, false},
        {{AF_INET, 32, {10, 8, 0, 255}}, true},
    };

    CHECK(!dco_engine_set_forwarding(server.engine, (enum dco_forwarding)(round % 3)));
    CHECK(!dco_engine_set_multicast(server.engine, round % 4 ? 1000 : 0));
    CHECK(!dco_engine_reserve(server.engine, reserved, round % 3));
    CHECK(!dco_peer_permit(server.engine, server.peer, &neighbour.peer.generation, round % 2));
}

/* A trace that is too small for what comes, begun and ended again and again. */
static void trace_some(uint32_t round)
{
    struct dco_trace_config config = {.points = DCO_TRACE_ALL, .snap = 64, .ring_size = 4096};
    struct dco_trace_record record;
    uint8_t data[64];
    uint64_t lost;
    int fd;

    if (round % 4 == 1)
        CHECK(!dco_trace_start(server.engine, &config, &fd));
    while (dco_trace_read(server.engine, &record, data, sizeof data) > 0)
        CHECK(record.size && record.kept <= sizeof data);
    CHECK(!dco_trace_lost(server.engine, &lost));
    if (round % 4 == 3)
        CHECK(!dco_trace_stop(server.engine));
}

/* Waits, reads and clears until the engine is closed, which must wake it. */
static void *listen_until_closed(void *argument)
{
    struct dco_engine *engine = argument;
    struct dco_control_packet packet;
    struct dco_event event;
    uint8_t data[2048];
    int result;

    do {
        result = dco_engine_wait(engine, -1);
        if (result >= 0)
            result = dco_control_receive(engine, &packet, data, sizeof data);
        if (result >= 0)
            result = dco_event_poll(engine, &event, 1);
    } while (result >= 0);
    CHECK(result == -EBADF);
    return NULL;
}

static void *close_engine(void *argument)
{
    dco_engine_close(argument);
    return NULL;
}

static void close_under_load(void)
{
    pthread_t listeners[3], closer;

    for (int i = 0; i < 3; i++)
        CHECK(!pthread_create(&listeners[i], NULL, listen_until_closed, server.engine));
    for (uint32_t round = 0; round < 20; round++)
        churn_peers(round);
    CHECK(!pthread_create(&closer, NULL, close_engine, server.engine));
    dco_engine_close(server.engine);
    pthread_join(closer, NULL);
    for (int i = 0; i < 3; i++)
        pthread_join(listeners[i], NULL);
    CHECK(dco_peer_delete(server.engine, server.peer) == -EBADF);
    CHECK(dco_engine_event_fd(server.engine) == -EBADF);
}

/* With several workers, and the peers' ids not divisible, everything from the packet port, which
 * the first worker reads, is handed over. */
static void run(uint32_t workers, bool single)
{
    struct flow flows[2] = {{&server, &client, 0}, {&client, &server, 0}};
    pthread_t threads[2];
    uint32_t deletions = 0;

    memcpy(server.ip, (uint8_t[]){10, 8, 0, 1}, 4);
    memcpy(client.ip, (uint8_t[]){10, 8, 0, 2}, 4);
    atomic_store(&done, false);
    open_side(&server, DCO_MODE_MULTIPEER, workers, single);
    open_side(&client, DCO_MODE_P2P, workers, single);
    add_peer(&server, &client, true);
    add_peer(&client, &server, false);
    install(&server, DCO_SLOT_PRIMARY, 0, true);
    install(&client, DCO_SLOT_PRIMARY, 0, false);
    add_neighbour();
    for (int i = 0; i < 2; i++)
        CHECK(!pthread_create(&threads[i], NULL, carry, &flows[i]));

    for (uint32_t round = 1; round <= ROUNDS; round++) {
        roll_keys((uint8_t)(1 + (round - 1) % 7));
        churn_peers(round);
        change_limits(round);
        deletions += read_everything();
        trace_some(round);
        forward_some(round);
        dco_engine_set_offloads(server.engine, round % 2 ? 0 : DCO_OFFLOAD_ALL);
        usleep(1000);
    }
    for (int i = 0; i < 1000 && deletions < ROUNDS; i++) {
        usleep(1000);
        deletions += read_everything();
    }
    CHECK(deletions == ROUNDS);
    CHECK(forwarded && replicated);
    close_under_load();
    CHECK(!dco_transport_detach(client.engine, client.transport));
    atomic_store(&done, true);
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
        CHECK(flows[i].received > 0);
    }
    dco_engine_free(server.engine);
    dco_engine_free(client.engine);
    for (int i = 0; i < 2; i++) {
        close(i ? client.inner : server.inner);
        close(i ? client.socket : server.socket);
    }
}

int main(void)
{
    run(1, false);
    run(3, false);
    run(1, true);
    return 0;
}
