/* Carries fixed traces through two engines on one thread, so that every run takes the same steps:
 * what `measured_transmit` and `measured_receive` cost is what callgrind counts, one dump for each
 * call of `report`. Prints a line for each dump: its name, and how many packets it is about.
 *
 * No engine is started: their batches are run from here, with real system calls and their ancillary
 * data.
 *
 * With --compiler it says what built it, and no more. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine/receive.h"
#include "engine/transmit.h"
#include "tests/check.h"
#include "tests/engines.h"
#include "tests/packets.h"

/* Of 1380 bytes of TCP payload each: a packet of 1420, the MTU. */
#define SUPER_SEGMENTS 45
#define SUPER_PAYLOAD 1380

struct trace {
    const char *name;
    uint32_t size;     /* bytes of an inner packet; 0: super-packets */
    unsigned together; /* packets in a batch */
    unsigned batches;
};

static const struct trace traces[] = {
    {"64", 64, 40, 25},
    {"1400", 1400, 40, 25},
    {"1400-alone", 1400, 1, 200},
    {"super-packet", 0, 1, 25},
};

/* The hash maps take their seeds from here: with random ones the chains would differ. */
ssize_t getrandom(void *buffer, size_t size, unsigned flags)
{
    (void)flags;
    memset(buffer, 0x5A, size);
    return (ssize_t)size;
}

/* Functions that callgrind finds by their names: neither inlined nor cloned. */
#if defined __clang__
#define NAMED __attribute__((noinline))
#else
#define NAMED __attribute__((noipa))
#endif

NAMED static bool measured_transmit(struct dco_transmit *transmit)
{
    return dco_transmit_batch(transmit);
}

NAMED static bool measured_receive(struct dco_receive *receive, struct dco_transport *transport)
{
    return dco_receive_batch(receive, transport);
}

NAMED static void report(const char *direction, const struct trace *trace, unsigned packets)
{
    printf("%s-%s %u\n", direction, trace->name, packets);
}

/* --- what is carried --- */

/* A packet for the inner side, behind its offload header if it is a super-packet. */
static size_t build(const struct trace *trace, uint8_t *buffer)
{
    struct packet_spec spec = spec_of(4, trace->size ? UDP : TCP);
    struct dco_vnet vnet;

    if (trace->size) {
        spec.payload = trace->size - (unsigned)spec_header(&spec);
        return make_packet(buffer, &spec);
    }
    spec.options = 0;
    spec.payload = SUPER_SEGMENTS * SUPER_PAYLOAD;
    vnet = vnet_of(&spec, SUPER_PAYLOAD);
    memcpy(buffer, &vnet, sizeof vnet);
    return sizeof vnet + make_packet(buffer + sizeof vnet, &spec);
}

/* What was sent over loopback before has arrived when this has: the machine keeps the order of one
 * processor, which is why the program stays on one. */
static void let_arrive(void)
{
    struct sockaddr_in name;
    int fd = loopback_socket(&name, INADDR_LOOPBACK);
    char byte = 0;

    CHECK(sendto(fd, &byte, 1, 0, (struct sockaddr *)&name, sizeof name) == 1);
    CHECK(recv(fd, &byte, 1, 0) == 1);
    close(fd);
}

static void expect(const struct side *to, unsigned packets, size_t size)
{
    static uint8_t packet[DCO_TUN_READ_MAX];

    for (unsigned i = 0; i < packets; i++)
        CHECK(recv(to->inner, packet, sizeof packet, MSG_DONTWAIT) == (ssize_t)size);
    CHECK(recv(to->inner, packet, sizeof packet, MSG_DONTWAIT) < 0);
}

/* One batch, either way measured or not. */
static void carry(const struct trace *trace, struct side *from, struct side *to, bool seal,
                  bool open)
{
    static uint8_t packet[DCO_TUN_READ_MAX];
    struct dco_transmit *transmit = from->engine->worker->transmit;
    struct dco_receive *receive = to->engine->worker->receive;
    size_t size = build(trace, packet);

    for (unsigned i = 0; i < trace->together; i++)
        CHECK(send(from->inner, packet, size, 0) == (ssize_t)size);
    if (seal)
        measured_transmit(transmit);
    else
        dco_transmit_batch(transmit);
    let_arrive();
    if (open)
        measured_receive(receive, to->transport);
    else
        dco_receive_batch(receive, to->transport);
    expect(to, trace->together, size);
}

static void run(const struct trace *trace)
{
    unsigned packets = trace->batches * trace->together * (trace->size ? 1 : SUPER_SEGMENTS);
    struct side near, far;

    open_side(&near, 1, !trace->size);
    open_side(&far, 2, !trace->size);
    add_peer(&near, &far);
    add_peer(&far, &near);
    dco_rcu_online(&near.engine->rcu, near.engine->worker->transmit_reader);
    dco_rcu_online(&far.engine->rcu, far.engine->worker->receive_reader);
    for (int i = 0; i < 3; i++) /* the endpoint is learned, the widths settle */
        carry(trace, &near, &far, false, false);
    CHECK(far.engine->worker->receive->source_owner); /* the source is checked, as by default */
    for (unsigned i = 0; i < trace->batches; i++)
        carry(trace, &near, &far, true, false);
    report("transmit", trace, packets);
    for (unsigned i = 0; i < trace->batches; i++)
        carry(trace, &near, &far, false, true);
    report("receive", trace, packets);
    dco_rcu_offline(&near.engine->rcu, near.engine->worker->transmit_reader);
    dco_rcu_offline(&far.engine->rcu, far.engine->worker->receive_reader);
    close_side(&near);
    close_side(&far);
}

#if defined __clang__
#define COMPILER "clang"
#else
#define COMPILER "gcc"
#endif
#if defined __x86_64__
#define MACHINE "x86_64"
#else
#define MACHINE "another machine"
#endif

int main(int argc, char **argv)
{
    cpu_set_t here;

    if (argc == 2 && !strcmp(argv[1], "--compiler")) {
        puts(COMPILER " " __VERSION__ " for " MACHINE);
        return 0;
    }
    CPU_ZERO(&here);
    CPU_SET(sched_getcpu(), &here);
    CHECK(!sched_setaffinity(0, sizeof here, &here));
    for (size_t i = 0; i < sizeof traces / sizeof *traces; i++)
        run(&traces[i]);
    return 0;
}
