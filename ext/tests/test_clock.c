/* The engine's clock: a wall clock that jumps by hours changes nothing, a suspend counts.
 *
 * Clocks and timers of the C library are taken over here, which works since a program's own
 * functions come before those of a library. CLOCK_REALTIME then jumps at every look. A suspend is
 * what the kernel makes of it: CLOCK_BOOTTIME goes on, CLOCK_MONOTONIC stands still, and timers
 * of CLOCK_BOOTTIME that came due meanwhile fire at once: timerfd_create(2). */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "codec/aead.h"
#include "codec/wire.h"
#include "dco.h"
#include "tests/check.h"

#define SECOND INT64_C(1000000000)
#define HOUR (3600 * SECOND)
#define TIMERS_MAX 16
#define PATIENCE 2000 /* looks, 10 ms apart */

/* --- the clocks --- */

static _Atomic int64_t suspended_ns;
static _Atomic unsigned wall_looks;

static struct timespec later(struct timespec time, int64_t ns)
{
    int64_t sum = time.tv_nsec + ns % SECOND;

    time.tv_sec += ns / SECOND + (sum >= SECOND) - (sum < 0);
    time.tv_nsec = sum - (sum >= SECOND) * SECOND + (sum < 0) * SECOND;
    return time;
}

int clock_gettime(clockid_t clock, struct timespec *time)
{
    if (syscall(SYS_clock_gettime, clock, time))
        return -1;
    if (clock == CLOCK_BOOTTIME)
        *time = later(*time, atomic_load(&suspended_ns));
    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE || clock == CLOCK_TAI)
        *time = later(*time, atomic_fetch_add(&wall_looks, 1) % 2 ? -5 * HOUR : 7 * HOUR);
    return 0;
}

time_t time(time_t *out)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    if (out)
        *out = now.tv_sec;
    return now.tv_sec;
}

int gettimeofday(struct timeval *restrict out, void *restrict zone)
{
    struct timespec now;

    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    out->tv_sec = now.tv_sec;
    out->tv_usec = now.tv_nsec / 1000;
    return 0;
}

/* --- the timers --- */

static pthread_mutex_t timers_lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    int fd;
    struct itimerspec spec; /* by the clock of above */
} timers[TIMERS_MAX];
static unsigned timer_count;

int timerfd_create(clockid_t clock, int flags)
{
    int fd = (int)syscall(SYS_timerfd_create, clock, flags);

    CHECK(clock == CLOCK_BOOTTIME);
    CHECK(fd >= 0);
    pthread_mutex_lock(&timers_lock);
    CHECK(timer_count < TIMERS_MAX);
    timers[timer_count++].fd = fd;
    pthread_mutex_unlock(&timers_lock);
    return fd;
}

/* In the kernel's time; what is past by now is due now, zero means never. */
static void arm(int fd, struct itimerspec spec)
{
    bool never = !spec.it_value.tv_sec && !spec.it_value.tv_nsec;

    if (!never) {
        spec.it_value = later(spec.it_value, -atomic_load(&suspended_ns));
        if (spec.it_value.tv_sec < 0)
            spec.it_value = (struct timespec){.tv_nsec = 1};
    }
    CHECK(!syscall(SYS_timerfd_settime, fd, TFD_TIMER_ABSTIME, &spec, NULL));
}

int timerfd_settime(int fd, int flags, const struct itimerspec *spec, struct itimerspec *old)
{
    CHECK(flags == TFD_TIMER_ABSTIME && !old);
    pthread_mutex_lock(&timers_lock);
    for (unsigned i = 0; i < timer_count; i++)
        if (timers[i].fd == fd)
            timers[i].spec = *spec;
    arm(fd, *spec);
    pthread_mutex_unlock(&timers_lock);
    return 0;
}

static void suspend(int64_t ns)
{
    pthread_mutex_lock(&timers_lock);
    atomic_fetch_add(&suspended_ns, ns);
    for (unsigned i = 0; i < timer_count; i++)
        arm(timers[i].fd, timers[i].spec);
    pthread_mutex_unlock(&timers_lock);
}

/* --- a device, and the other end of each peer in our hands --- */

static struct dco_engine *engine;
static struct dco_address address; /* of the engine's socket */
static uint64_t transport;
static int inner;

struct far_end {
    struct dco_peer_ref ref;
    int socket;
    struct dco_aead sealing;
};

static int loopback_socket(struct dco_address *bound)
{
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof name;
    int fd = socket(AF_INET, SOCK_DGRAM, 0);

    CHECK(fd >= 0);
    CHECK(!bind(fd, (struct sockaddr *)&name, size));
    CHECK(!getsockname(fd, (struct sockaddr *)&name, &size));
    *bound = (struct dco_address){.family = AF_INET, .port = ntohs(name.sin_port)};
    memcpy(bound->ip, &name.sin_addr, 4);
    return fd;
}

static void open_engine(void)
{
    struct dco_engine_config config = {
        .mode = DCO_MODE_MULTIPEER,
        .max_peers = 100,
        .offloads = DCO_OFFLOAD_ALL,
    };
    struct dco_transport_config options = {0};
    int port[2], fd = loopback_socket(&address);

    CHECK(!socketpair(AF_UNIX, SOCK_SEQPACKET, 0, port));
    inner = port[0];
    CHECK(!dco_engine_create(&config, &engine));
    CHECK(!dco_engine_adopt_tun(engine, &port[1], 1));
    CHECK(!dco_transport_attach_udp(engine, fd, &options, &transport));
    CHECK(!dco_engine_start(engine));
    close(port[1]);
    close(fd);
}

static void close_engine(void)
{
    dco_engine_free(engine);
    close(inner);
    timer_count = 0;
}

static struct far_end add_peer(uint32_t id, uint32_t interval_s, uint32_t timeout_s)
{
    static const uint8_t key[32] = "the same in both directions", tail[8] = "nonce...";
    struct far_end far = {.ref = {.id = id}};
    struct dco_peer_config config = {
        .present = DCO_PEER_REMOTE | DCO_PEER_VPN_IPV4 | DCO_PEER_KEEPALIVE,
        .id = id,
        .transport = transport,
        .vpn_ipv4 = {10, 8, 0, (uint8_t)id},
        .keepalive_interval_s = interval_s,
        .keepalive_timeout_s = timeout_s,
    };
    struct dco_key_config install = {
        .cipher = DCO_CIPHER_AES_GCM,
        .encrypt_key = key,
        .decrypt_key = key,
        .encrypt_key_size = sizeof key,
        .decrypt_key_size = sizeof key,
    };

    far.socket = loopback_socket(&config.remote);
    memcpy(install.encrypt_nonce_tail, tail, sizeof tail);
    memcpy(install.decrypt_nonce_tail, tail, sizeof tail);
    CHECK(!dco_aead_init(&far.sealing, NULL, DCO_CIPHER_AES_GCM, key, sizeof key, tail, true,
                         DCO_GCM_NONE));
    CHECK(!dco_peer_add(engine, &config, &far.ref.generation));
    CHECK(!dco_key_install(engine, far.ref, DCO_SLOT_PRIMARY, &install));
    return far;
}

static void leave(struct far_end *far)
{
    dco_aead_clear(&far->sealing);
    close(far->socket);
}

/* A keepalive from the far end. */
static void send_id(struct far_end *far, uint32_t packet_id)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(address.port)};
    uint8_t packet[DCO_WIRE_OVERHEAD + DCO_KEEPALIVE_SIZE];

    memcpy(&to.sin_addr, address.ip, 4);
    CHECK(dco_aead_seal(&far->sealing, dco_wire_header(0, far->ref.id), packet_id,
                        dco_wire_keepalive, DCO_KEEPALIVE_SIZE, packet));
    CHECK(sendto(far->socket, packet, sizeof packet, 0, (struct sockaddr *)&to, sizeof to)
          == sizeof packet);
}

static struct dco_peer_stats stats_of(const struct far_end *far)
{
    struct dco_peer_info info;

    CHECK(!dco_peer_query(engine, far->ref, &info));
    return info.stats;
}

#define EVENTUALLY(condition)                                                                      \
    do {                                                                                           \
        int looks_ = 0;                                                                            \
        while (!(condition)) {                                                                     \
            CHECK(looks_++ < PATIENCE);                                                            \
            usleep(10000);                                                                         \
        }                                                                                          \
    } while (0)

/* The next event, which must be the end of this peer by its silence. */
static void check_expired(const struct far_end *far)
{
    struct dco_event event = {0};

    EVENTUALLY(dco_event_poll(engine, &event, 1) == 1);
    CHECK(event.kind == DCO_EVENT_PEER_DELETED);
    CHECK(event.reason == DCO_DELETED_EXPIRED);
    CHECK(event.peer.id == far->ref.id);
}

static bool quiet(void)
{
    struct dco_event event;

    return dco_event_poll(engine, &event, 1) == 0;
}

/* --- tests --- */

static void test_wall_clock_jumps(void)
{
    struct far_end far;
    unsigned looks = atomic_load(&wall_looks);
    time_t before = time(NULL), after = time(NULL);

    CHECK(before - after > 10 * 3600 || after - before > 10 * 3600);
    CHECK(atomic_load(&wall_looks) >= looks + 2);
    open_engine();
    far = add_peer(7, 1, 60);
    for (uint32_t id = 1; id <= 3; id++) {
        EVENTUALLY(stats_of(&far).keepalive_tx >= id);
        send_id(&far, id);
        EVENTUALLY(stats_of(&far).keepalive_rx == id);
    }
    CHECK(quiet());
    leave(&far);
    close_engine();
}

/* At once, and only those whose time has come. */
static void test_suspend_expires(void)
{
    struct far_end silent, patient, endless;

    open_engine();
    silent = add_peer(1, 0, 60);
    patient = add_peer(2, 0, 7200);
    endless = add_peer(3, 0, 0);
    send_id(&silent, 1);
    EVENTUALLY(stats_of(&silent).keepalive_rx == 1);
    suspend(50 * SECOND);
    send_id(&silent, 2);
    EVENTUALLY(stats_of(&silent).keepalive_rx == 2);
    CHECK(quiet());
    suspend(HOUR);
    check_expired(&silent);
    CHECK(quiet());
    suspend(2 * HOUR);
    check_expired(&patient);
    CHECK(stats_of(&endless).keepalive_rx == 0);
    leave(&silent);
    leave(&patient);
    leave(&endless);
    close_engine();
}

static void test_suspend_makes_a_ping_due(void)
{
    struct far_end far;

    open_engine();
    far = add_peer(7, 3600, 0);
    CHECK(stats_of(&far).keepalive_tx == 0);
    suspend(HOUR + SECOND);
    EVENTUALLY(stats_of(&far).keepalive_tx == 1);
    leave(&far);
    close_engine();
}

/* After a silence of 30 s an id that was left out before it is a replay; without, it is late. */
static void test_suspend_closes_the_replay_window(void)
{
    struct far_end late, silent;

    open_engine();
    late = add_peer(1, 0, 0);
    silent = add_peer(2, 0, 0);
    for (int i = 0; i < 2; i++) {
        struct far_end *far = i ? &silent : &late;
        send_id(far, 1);
        send_id(far, 5);
        EVENTUALLY(stats_of(far).keepalive_rx == 2);
    }
    send_id(&late, 3);
    EVENTUALLY(stats_of(&late).keepalive_rx == 3);
    suspend(31 * SECOND);
    send_id(&silent, 3);
    EVENTUALLY(stats_of(&silent).rx_replay_errors == 1);
    send_id(&silent, 6);
    EVENTUALLY(stats_of(&silent).keepalive_rx == 3);
    leave(&late);
    leave(&silent);
    close_engine();
}

int main(void)
{
    RUN(test_wall_clock_jumps);
    RUN(test_suspend_expires);
    RUN(test_suspend_makes_a_ping_due);
    RUN(test_suspend_closes_the_replay_window);
    return 0;
}
