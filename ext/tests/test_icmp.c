#include <stdlib.h>
#include <string.h>

#include "codec/icmp.h"
#include "tests/check.h"
#include "tests/packets.h"

enum { ICMP = 1, ICMPV6 = 58 };

static uint8_t packet[65536];

static size_t make(int version, unsigned payload)
{
    struct packet_spec spec = spec_of(version, UDP);
    spec.payload = payload;
    return make_packet(packet, &spec);
}

/* Builds between exact borders, so that ASan sees a byte too many. */
static uint32_t build(uint8_t *out, enum dco_icmp error, uint32_t mtu, size_t size)
{
    uint8_t *exact = malloc(DCO_ICMP_MAX), *from = malloc(size ? size : 1);
    memcpy(from, packet, size);
    uint32_t written = dco_icmp_error(exact, error, mtu, from, size);
    memcpy(out, exact, written);
    free(exact);
    free(from);
    return written;
}

static bool answered(size_t size)
{
    uint8_t out[DCO_ICMP_MAX];
    return build(out, DCO_ICMP_UNREACHABLE, 0, size);
}

/* Type and code of each error, in the order of enum dco_icmp. */
static const uint8_t ipv4[][2] = {{3, 4}, {3, 0}, {3, 1}, {3, 13}};
static const uint8_t ipv6[][2] = {{2, 0}, {1, 0}, {1, 3}, {1, 1}};

static void over_ipv4(void)
{
    uint8_t out[DCO_ICMP_MAX];
    for (unsigned error = 0; error < 4; error++) {
        size_t size = make(4, 1400);
        uint32_t n = build(out, error, 1336, size);
        CHECK(n == 576 && get16(out + 2) == 576 && out[0] == 0x45 && out[9] == ICMP);
        CHECK(ipv4_header_valid(out) && plain_sum(0, out + 20, n - 20) == 0xFFFF);
        CHECK(!memcmp(out + 12, packet + 16, 4) && !memcmp(out + 16, packet + 12, 4));
        CHECK(out[20] == ipv4[error][0] && out[21] == ipv4[error][1]);
        CHECK(get16(out + 24) == 0 && get16(out + 26) == (error ? 0 : 1336));
        CHECK(!memcmp(out + 28, packet, 548));
    }
}

static void over_ipv6(void)
{
    uint8_t out[DCO_ICMP_MAX];
    for (unsigned error = 0; error < 4; error++) {
        size_t size = make(6, 1400);
        uint32_t n = build(out, error, 1399, size);
        CHECK(n == 1280 && get16(out + 4) == 1240 && out[0] == 0x60 && out[6] == ICMPV6);
        CHECK(plain_sum(plain_pseudo(out, ICMPV6, n - 40), out + 40, n - 40) == 0xFFFF);
        CHECK(!memcmp(out + 8, packet + 24, 16) && !memcmp(out + 24, packet + 8, 16));
        CHECK(out[40] == ipv6[error][0] && out[41] == ipv6[error][1]);
        CHECK(get32(out + 44) == (error ? 0 : 1399));
        CHECK(!memcmp(out + 48, packet, 1232));
    }
}

static void short_ones_are_quoted_whole(void)
{
    uint8_t out[DCO_ICMP_MAX];
    size_t size = make(4, 10);
    CHECK(build(out, DCO_ICMP_UNREACHABLE, 0, size) == 28 + size);
    size = make(6, 11);
    CHECK(build(out, DCO_ICMP_UNREACHABLE, 0, size) == 48 + size);
}

/* Nobody may be told less than every link has. */
static void least_mtu(void)
{
    uint8_t out[DCO_ICMP_MAX];
    build(out, DCO_ICMP_TOO_BIG, 10, make(4, 1400));
    CHECK(get16(out + 26) == 68);
    build(out, DCO_ICMP_TOO_BIG, 1279, make(6, 1400));
    CHECK(get32(out + 44) == 1280);
    build(out, DCO_ICMP_TOO_BIG, 70000, make(4, 1400));
    CHECK(get16(out + 26) == 65535);
}

static void errors_are_not_answered(void)
{
    for (unsigned type = 0; type < 256; type++) {
        size_t size = make(4, 100);
        packet[9] = ICMP;
        packet[20] = (uint8_t)type;
        CHECK(answered(size) == (type == 0 || type == 8 || (type > 12 && type < 19)));
        size = make(6, 100);
        packet[6] = ICMPV6;
        packet[40] = (uint8_t)type;
        CHECK(answered(size) == (type >= 128 && type != 137));
    }
    packet[6] = 60; /* behind destination options as well */
    memcpy(packet + 40, (uint8_t[]){ICMPV6, 0, 1, 4, 0, 0, 0, 0, 1}, 9);
    CHECK(!answered(148));
    packet[48] = 128;
    CHECK(answered(148));
    make(4, 0);
    packet[9] = ICMP; /* whether it is one cannot be told */
    put16(packet + 2, 20);
    CHECK(!answered(20));
}

static void fragments(void)
{
    size_t size = make(4, 100);
    packet[6] = 0x20; /* the first */
    CHECK(answered(size));
    packet[7] = 1;
    CHECK(!answered(size));
    packet[6] = 0; /* the last */
    CHECK(!answered(size));

    size = make(6, 100);
    packet[6] = 44;
    memcpy(packet + 40, (uint8_t[]){UDP, 0, 0, 1, 0, 0, 0, 1}, 8);
    CHECK(answered(size));
    packet[43] = 8;
    CHECK(!answered(size));
}

static void addresses(void)
{
    static const uint32_t bad[] = {0,          0x00000001, 0x7F000001, 0xE0000001,
                                   0xEFFFFFFF, 0xF0000001, 0xFFFFFFFF};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        for (int side = 12; side <= 16; side += 4) {
            size_t size = make(4, 100);
            CHECK(answered(size));
            put32(packet + side, bad[i]);
            CHECK(!answered(size));
        }
    for (int side = 8; side <= 24; side += 16) {
        size_t size = make(6, 100);
        packet[side] = 0xFF; /* a group */
        CHECK(!answered(size));
        memset(packet + side, 0, 16); /* nobody, and the host itself */
        CHECK(!answered(size));
        packet[side + 15] = 1;
        CHECK(!answered(size));
        packet[side] = 0xFE, packet[side + 1] = 0x80;
        CHECK(answered(size));
    }
}

static void malformed(void)
{
    uint8_t out[DCO_ICMP_MAX];
    for (size_t size = 0; size < 20; size++) {
        make(4, 100);
        CHECK(!answered(size));
    }
    make(6, 100);
    CHECK(!answered(39));
    packet[0] = 0x50;
    CHECK(!answered(148));
    make(4, 100);
    packet[0] = 0x44; /* header shorter than it must be */
    CHECK(!build(out, DCO_ICMP_TOO_BIG, 0, 128));
    packet[0] = 0x4F; /* longer than the packet */
    CHECK(!answered(28));
}

int main(void)
{
    RUN(over_ipv4);
    RUN(over_ipv6);
    RUN(short_ones_are_quoted_whole);
    RUN(least_mtu);
    RUN(errors_are_not_answered);
    RUN(fragments);
    RUN(addresses);
    RUN(malformed);
    return 0;
}
