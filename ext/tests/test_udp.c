#define _GNU_SOURCE
#include <string.h>

#include "io/udp.h"
#include "tests/loopback.h"

static void kernels_that_spoil_trains(void)
{
    static const char *const bad[] = {"7.0.0", "7.0.0-14-generic", "7.0.9", "7.1", "7.1.4-arch1"};
    static const char *const good[] = {"6.12.9", "6.17.0-41", "7.1.5", "7.1.10", "7.2.0",
                                       "8.0.0",  "17.0.0",    "5.4",   "",       "rc"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK(dco_udp_spoils_trains(bad[i]));
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        CHECK(!dco_udp_spoils_trains(good[i]));
}

static int bound(struct sockaddr_in *name)
{
    socklen_t size = sizeof *name;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0);
    memset(name, 0, sizeof *name);
    name->sin_family = AF_INET;
    name->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK(!bind(fd, (struct sockaddr *)name, sizeof *name));
    CHECK(!getsockname(fd, (struct sockaddr *)name, &size));
    return fd;
}

/* What comes of one message: the sizes of its datagrams, in order; returns how many. */
static unsigned sent(bool uneven_trains, uint32_t size, uint16_t segment, uint16_t packets,
                     unsigned *sizes, uint8_t *last)
{
    static uint8_t data[4000] = {9 << 3 | 5}; /* DATA_V2, key id 5 */
    struct sockaddr_in near, far;
    int fd = bound(&near), receiver = bound(&far);
    struct dco_udp udp;
    struct dco_udp_outbox outbox;
    struct dco_udp_tally tally = {0};
    struct dco_udp_message message = {
        .data = data,
        .size = size,
        .segment = segment,
        .packets = packets,
        .remote = {.family = AF_INET, .ip = {127, 0, 0, 1}, .port = ntohs(far.sin_port)},
    };
    unsigned count = 0;
    uint8_t received[2000];

    CHECK(!dco_udp_attach(&udp, fd, &plain_config, DCO_OFFLOAD_ALL));
    udp.uneven_trains = uneven_trains;
    dco_udp_send(&udp, &outbox, &message, 1, -1, &tally);
    CHECK(!message.error && tally.packets == packets && !tally.fallbacks);
    for (ssize_t n; (n = recv(receiver, received, sizeof received, MSG_DONTWAIT)) > 0; count++) {
        sizes[count] = (unsigned)n;
        *last = received[0];
    }
    dco_udp_detach(&udp);
    close(fd);
    close(receiver);
    return count;
}

static void trains_of_one_size_are_made_uneven(void)
{
    unsigned sizes[80];
    uint8_t last;
    CHECK(sent(true, 500, 100, 5, sizes, &last) == 6);
    CHECK(sizes[4] == 100 && sizes[5] == 1);
    CHECK(last == (6 << 3 | 5)); /* DATA_V1, the key id of the message */
    CHECK(sent(true, 64 * 50, 50, 64, sizes, &last) == 65);
    CHECK(sizes[63] == 50 && sizes[64] == 1);
}

static void others_are_left_alone(void)
{
    unsigned sizes[80];
    uint8_t last;
    CHECK(sent(true, 499, 100, 5, sizes, &last) == 5);
    CHECK(sizes[4] == 99);
    CHECK(sent(true, 100, 100, 1, sizes, &last) == 1);
    CHECK(sent(false, 500, 100, 5, sizes, &last) == 5);
    CHECK(sizes[4] == 100);
}

static void what_two_threads_loosen_stays_loose_for_both(void)
{
    static const struct dco_transport_config config = {.df = true};
    struct sockaddr_in name;
    int fd = bound(&name);
    struct dco_udp udp;
    CHECK(!dco_udp_attach(&udp, fd, &config, DCO_OFFLOAD_ALL));
    for (int round = 0; round < 2; round++) {
        CHECK(get_int(fd, IPPROTO_IP, IP_MTU_DISCOVER) == IP_PMTUDISC_PROBE);
        dco_udp_loosen(&udp, true); /* one thread */
        dco_udp_loosen(&udp, true); /* the other */
        dco_udp_loosen(&udp, false);
        CHECK(get_int(fd, IPPROTO_IP, IP_MTU_DISCOVER) == IP_PMTUDISC_OMIT);
        dco_udp_loosen(&udp, false);
    }
    CHECK(get_int(fd, IPPROTO_IP, IP_MTU_DISCOVER) == IP_PMTUDISC_PROBE);
    dco_udp_detach(&udp);
    close(fd);
}

int main(void)
{
    RUN(kernels_that_spoil_trains);
    RUN(trains_of_one_size_are_made_uneven);
    RUN(others_are_left_alone);
    RUN(what_two_threads_loosen_stays_loose_for_both);
    return 0;
}
