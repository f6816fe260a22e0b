/* Two engines joined by TCP connections, and strangers at a listener: traffic both ways while others
 * send control packets, roll keys, bind and delete peers, hold data until there is a key, let queues
 * fill, take listeners away; then closed under load. Built with ThreadSanitizer, and once more with
 * AddressSanitizer; a check in itself. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "codec/tcpframe.h"
#include "tests/loopback.h"

#define LINES 3u    /* connections between the engines, peers 1 to LINES */
#define ROUNDS 12u  /* of peers that come and go */
#define STRANGERS 6 /* connections at a time to the listener */
#define PACKET 400
#define PATIENCE 20000 /* looks, a millisecond apart */

struct side {
    struct dco_engine *engine;
    int inner; /* our end of the packet port */
    uint8_t net;
    uint64_t transport[LINES + 1];
    struct dco_peer_ref peer[LINES + 1];
    _Atomic uint32_t received, control;
};

static struct side server = {.net = 8}, client = {.net = 9};
static struct sockaddr_in door; /* where the server's listener is, and never another */
static int door_fd;
static atomic_bool done;

static void open_side(struct side *side, uint32_t workers, bool single)
{
    struct dco_engine_config config = {
        .mode = DCO_MODE_MULTIPEER,
        .source_check = DCO_SOURCE_CHECK_STRICT,
        .workers = workers,
        .single_thread = single,
        .max_peers = 1000,
        .offloads = DCO_OFFLOAD_ALL,
    };
    int port[2];

    CHECK(!socketpair(AF_UNIX, SOCK_SEQPACKET, 0, port));
    side->inner = port[0];
    atomic_store(&side->received, 0);
    atomic_store(&side->control, 0);
    CHECK(!dco_engine_create(&config, &side->engine));
    CHECK(!dco_engine_adopt_tun(side->engine, &port[1], 1));
    close(port[1]);
    CHECK(!dco_engine_start(side->engine));
}

static int try_install(struct side *side, struct dco_peer_ref peer, uint8_t key_id,
                       enum dco_slot slot)
{
    uint8_t keys[2][32];
    struct dco_key_config key = {
        .key_id = key_id,
        .cipher = DCO_CIPHER_AES_GCM,
        .encrypt_key = keys[side == &client],
        .decrypt_key = keys[side != &client],
        .encrypt_key_size = 32,
        .decrypt_key_size = 32,
    };

    memset(keys[0], 1 + key_id, sizeof keys[0]);
    memset(keys[1], 101 + key_id, sizeof keys[1]);
    return dco_key_install(side->engine, peer, slot, &key);
}

static void install(struct side *side, struct dco_peer_ref peer, uint8_t key_id, enum dco_slot slot)
{
    CHECK(!try_install(side, peer, key_id, slot));
}

static struct dco_peer_ref add_peer(struct side *side, uint32_t id, uint64_t transport)
{
    struct dco_peer_config config = {
        .present = DCO_PEER_VPN_IPV4 | DCO_PEER_KEEPALIVE,
        .id = id,
        .transport = transport,
        .vpn_ipv4 = {10, (uint8_t)(17 - side->net), (uint8_t)(id >> 8), (uint8_t)id},
        .keepalive_interval_s = 1,
    };
    struct dco_peer_ref peer = {.id = id};

    CHECK(!dco_peer_add(side->engine, &config, &peer.generation));
    return peer;
}

static uint64_t attach(struct side *side, int fd)
{
    uint64_t transport;

    CHECK(!dco_transport_attach_tcp(side->engine, fd, &plain_config, &transport));
    close(fd);
    return transport;
}

static bool send_inner(const struct side *from, uint32_t peer)
{
    uint8_t packet[PACKET] = {0x45, 0, PACKET >> 8, PACKET & 255, 0, 0, 0, 0, 64, 253};
    uint8_t source[4] = {10, from->net, (uint8_t)(peer >> 8), (uint8_t)peer};
    uint8_t target[4] = {10, 17 - from->net, (uint8_t)(peer >> 8), (uint8_t)peer};

    memcpy(packet + 12, source, 4);
    memcpy(packet + 16, target, 4);
    return send(from->inner, packet, sizeof packet, MSG_DONTWAIT | MSG_NOSIGNAL) > 0;
}

/* --- what goes on all the time --- */

static void *carry(void *argument)
{
    struct side *side = argument;
    uint8_t packet[65536];

    for (uint32_t n = 0; !atomic_load(&done); n++) {
        struct pollfd ready = {.fd = side->inner, .events = POLLIN};
        if (!send_inner(side, 1 + n % LINES))
            usleep(500);
        if (n % 16)
            continue;
        usleep(1000);
        if (poll(&ready, 1, 1) > 0)
            while (recv(side->inner, packet, sizeof packet, MSG_DONTWAIT) == PACKET)
                atomic_fetch_add(&side->received, 1);
    }
    return NULL;
}

/* Also to connections that do not exist, or no longer. */
static void *order_control(void *argument)
{
    struct side *side = argument;
    uint8_t packet[200] = {4 << 3};

    for (uint32_t n = 0; !atomic_load(&done); n++) {
        uint64_t id = n % 5 ? side->transport[1 + n % LINES] : 256 + n % 40;
        int error = dco_transport_send(side->engine, id, packet, 20 + n % 180, NULL, NULL);
        CHECK(!error || error == -EAGAIN || error == -ENOENT || error == -EPIPE || error == -EBADF);
        if (n % 16 == 0)
            usleep(1000);
    }
    return NULL;
}

/* One who comes, says something or nothing, and goes in one way or another. */
static int visit(uint32_t n)
{
    static const uint8_t said[][12] = {
        {0},                                            /* no byte */
        {0, 9, 4 << 3},                                 /* a part of a frame */
        {0, 2, 4 << 3, 0},                              /* runt */
        {0, 4, 4 << 3, 0, 0, 0},                        /* control packet */
        {0, 4, 4 << 3, 0, 0, 0, 0, 4, 9 << 3, 0, 0, 1}, /* and a data packet */
        {0, 0},                                         /* zero length */
        {0xff, 0xff},                                   /* more than is allowed */
    };
    static const uint8_t sizes[] = {0, 3, 4, 6, 12, 2, 2};
    int fd = connect_to(&door, 0);

    send(fd, said[n % 7], sizes[n % 7], MSG_NOSIGNAL);
    if (n % 3 == 0) {
        struct linger linger = {1, 0};
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    }
    return fd;
}

static void *come_and_go(void *unused)
{
    int fds[STRANGERS];
    (void)unused;
    memset(fds, -1, sizeof fds);
    for (uint32_t n = 0; !atomic_load(&done); n++) {
        int *fd = &fds[n * 7 % STRANGERS];
        if (*fd >= 0)
            close(*fd);
        *fd = visit(n);
        usleep(1000);
    }
    for (int i = 0; i < STRANGERS; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    return NULL;
}

/* --- what one thread does meanwhile --- */

/* A connection between the engines whose client has a key, and sends, before the server knows. */
static void data_before_the_key(uint32_t round)
{
    uint32_t id = 300 + round;
    struct dco_peer_info info = {0};
    struct dco_peer_ref far_peer, near_peer;
    uint64_t far_transport, near_transport;
    int near, far;

    connect_pair(AF_INET, 0, &near, &far);
    far_transport = attach(&client, far);
    far_peer = add_peer(&client, id, far_transport);
    install(&client, far_peer, 0, DCO_SLOT_PRIMARY);
    send_inner(&client, id);
    near_transport = attach(&server, near);
    near_peer = add_peer(&server, id, near_transport);
    if (round % 2)
        usleep(1000);
    install(&server, near_peer, 0, DCO_SLOT_PRIMARY);
    for (int i = 0; i < PATIENCE && !info.stats.vpn_rx_packets; i++) {
        send_inner(&client, id); /* the packet port drops what it has no room for */
        usleep(1000);
        CHECK(!dco_peer_query(server.engine, near_peer, &info));
    }
    CHECK(info.stats.vpn_rx_packets);
    CHECK(!info.stats.rx_decrypt_errors && !info.stats.rx_unknown_key_id);
    CHECK(!dco_peer_delete(client.engine, far_peer));
    CHECK(!dco_transport_detach(client.engine, far_transport));
    if (round % 3)
        CHECK(!dco_transport_detach(server.engine, near_transport));
    else
        dco_peer_delete(server.engine, near_peer); /* may have gone with its connection */
}

/* A peer that does not read, until its queue is full. */
static void stall(uint32_t round)
{
    struct dco_transport_info info = {0};
    struct dco_peer_ref peer;
    uint64_t transport;
    int near, far;

    connect_pair(AF_INET, 4096, &near, &far);
    transport = attach(&server, near);
    peer = add_peer(&server, 500 + round, transport);
    install(&server, peer, 0, DCO_SLOT_PRIMARY);
    for (int i = 0; i < PATIENCE && info.waiting < 20 * PACKET; i++) {
        if (!send_inner(&server, 500 + round))
            usleep(1000);
        CHECK(!dco_transport_query(server.engine, transport, &info));
    }
    CHECK(info.waiting >= 20 * PACKET);
    if (round % 2)
        CHECK(!dco_peer_delete(server.engine, peer));
    if (round % 4 < 2)
        close(far);
    CHECK(!dco_transport_detach(server.engine, transport));
    if (round % 4 >= 2)
        close(far);
}

/* Binds what the listener has brought, and lets go of it. */
static void welcome_one(const struct dco_control_packet *packet)
{
    static uint32_t last = 1000;
    uint32_t id = ++last;
    struct dco_peer_config config = {
        .present = DCO_PEER_VPN_IPV4,
        .id = id,
        .transport = packet->transport,
        .vpn_ipv4 = {10, 10, (uint8_t)(id >> 8), (uint8_t)id},
    };
    struct dco_peer_ref peer = {.id = id};

    for (uint32_t i = 1; i <= LINES; i++)
        if (packet->transport == server.transport[i])
            return;
    dco_transport_send(server.engine, packet->transport, "\x28yes", 4, NULL, NULL);
    if (!dco_peer_add(server.engine, &config, &peer.generation) && id % 2) /* or gone again */
        try_install(&server, peer, 0, DCO_SLOT_PRIMARY);
    dco_transport_detach(server.engine, packet->transport);
}

static void welcome(void)
{
    struct dco_control_packet packet;
    uint8_t data[65536];

    for (int i = 0; i < 20; i++) {
        if (dco_control_receive(server.engine, &packet, data, sizeof data) != 1)
            return;
        atomic_fetch_add(&server.control, 1);
        welcome_one(&packet);
    }
}

/* Some of what has gathered, since more may come as fast: control packets at the client, events. */
static void clear_away(void)
{
    struct dco_control_packet packet;
    struct dco_engine_stats stats;
    struct dco_event events[8];
    uint8_t data[65536];
    int count;

    for (int i = 0; i < 200 && dco_control_receive(client.engine, &packet, data, sizeof data); i++)
        atomic_fetch_add(&client.control, 1);
    count = dco_event_poll(server.engine, events, 8);
    for (int i = 0; i < count; i++)
        if (events[i].kind == DCO_EVENT_TRANSPORT_FAILED)
            dco_transport_detach(server.engine, events[i].transport);
    dco_event_poll(client.engine, events, 8);
    CHECK(!dco_engine_stats(server.engine, &stats));
}

static void roll_keys(uint32_t round)
{
    uint32_t line = 1 + round % LINES;
    uint8_t key_id = (uint8_t)(1 + round / LINES % 7);

    install(&server, server.peer[line], key_id, DCO_SLOT_SECONDARY);
    install(&client, client.peer[line], key_id, DCO_SLOT_SECONDARY);
    CHECK(!dco_key_swap(server.engine, server.peer[line]));
    CHECK(!dco_key_swap(client.engine, client.peer[line]));
}

static uint64_t open_the_door(void)
{
    struct dco_listener_config config = {
        .trials_max = 100, .trials_per_source_max = 100, .deadline_s = 1};
    uint64_t listener;

    CHECK(!dco_transport_listen_tcp(server.engine, door_fd, &config, &listener));
    return listener;
}

static void churn(void)
{
    uint64_t listener = open_the_door();

    for (uint32_t round = 0; round < ROUNDS; round++) {
        roll_keys(round);
        data_before_the_key(round);
        stall(round);
        welcome();
        clear_away();
        if (round % 4 == 3) { /* whom it had brought goes with it */
            CHECK(!dco_transport_detach(server.engine, listener));
            usleep(2000);
            listener = open_the_door();
        }
        usleep(1000);
    }
}

/* --- ends --- */

static void join_lines(void)
{
    for (uint32_t i = 1; i <= LINES; i++) {
        int near, far;
        connect_pair(i % 2 ? AF_INET : AF_INET6, 0, &near, &far);
        server.transport[i] = attach(&server, near);
        client.transport[i] = attach(&client, far);
        server.peer[i] = add_peer(&server, i, server.transport[i]);
        client.peer[i] = add_peer(&client, i, client.transport[i]);
        install(&server, server.peer[i], 0, DCO_SLOT_PRIMARY);
        install(&client, client.peer[i], 0, DCO_SLOT_PRIMARY);
    }
}

static bool everything_came(void)
{
    return server.received && client.received && server.control && client.control;
}

static void run(uint32_t workers, bool single)
{
    void *(*const work[])(void *) = {carry, carry, order_control, order_control, come_and_go};
    void *const whose[] = {&server, &client, &server, &server, NULL};
    pthread_t threads[5];

    atomic_store(&done, false);
    door_fd = listen_on(AF_INET, 0, &door);
    CHECK(!listen(door_fd, 1000)); /* while nobody accepts they wait, and retry no SYN */
    open_side(&server, workers, single);
    open_side(&client, workers, single);
    join_lines();
    for (int i = 0; i < 5; i++)
        CHECK(!pthread_create(&threads[i], NULL, work[i], whose[i]));
    churn();
    for (int i = 0; i < PATIENCE && !everything_came(); i++) {
        usleep(1000);
        welcome();
        clear_away();
    }
    CHECK(everything_came());
    dco_engine_close(server.engine); /* with strangers at the door */
    CHECK(!dco_transport_detach(client.engine, client.transport[1]));
    atomic_store(&done, true);
    for (int i = 0; i < 5; i++)
        pthread_join(threads[i], NULL);
    dco_engine_free(server.engine);
    dco_engine_free(client.engine);
    close(server.inner);
    close(client.inner);
    close(door_fd);
    printf("ok %u workers%s: %u and %u packets, %u and %u control packets\n", workers,
           single ? ", single thread" : "", server.received, client.received, server.control,
           client.control);
}

/* Nobody can be told of the end while the lock is taken; what follows is no frame all the same. */
static void broken_while_locked(void)
{
    static const uint8_t broken[] = {0, 0, 0, 4, 4 << 3, 0, 0, 0};
    struct dco_control_packet packet;
    struct dco_event event;
    uint8_t data[100];
    uint64_t transport;
    int near, far, told = 0;

    open_side(&server, 1, false);
    connect_pair(AF_INET, 0, &near, &far);
    transport = attach(&server, near);
    dco_engine_freeze(server.engine);
    CHECK(send(far, broken, 2, 0) == 2);
    usleep(20000);
    CHECK(send(far, broken + 2, 6, 0) == 6);
    usleep(20000);
    dco_engine_thaw(server.engine);
    for (int i = 0; i < PATIENCE && !told; i++) {
        told = dco_event_poll(server.engine, &event, 1);
        usleep(1000);
    }
    CHECK(told == 1 && event.kind == DCO_EVENT_TRANSPORT_FAILED && event.transport == transport);
    CHECK(event.error == EPROTO);
    CHECK(!dco_control_receive(server.engine, &packet, data, sizeof data));
    close(far);
    dco_engine_free(server.engine);
    close(server.inner);
}

int main(void)
{
    RUN(broken_while_locked);
    run(1, false);
    run(3, false);
    run(1, true);
    return 0;
}
