#include <stdlib.h>
#include <string.h>

#include "codec/mss.h"
#include "tests/check.h"
#include "tests/packets.h"

static uint8_t packet[2048], before[2048];

/* A SYN with these option bytes, padded to words. */
static size_t make_syn(int version, const uint8_t *options, unsigned size)
{
    struct packet_spec spec = spec_of(version, TCP);
    spec.flags = SYN;
    spec.payload = 0;
    spec.options = (size + 3) / 4 * 4;
    size_t total = make_packet(packet, &spec), transport = spec_transport(&spec);
    memset(packet + transport + 20, 0, spec.options);
    memcpy(packet + transport + 20, options, size);
    seal_packet(packet, total, transport, TCP);
    memcpy(before, packet, total);
    return total;
}

#define SYN_WITH(version, ...)                                                                     \
    make_syn(version, (const uint8_t[]){__VA_ARGS__}, sizeof(const uint8_t[]){__VA_ARGS__})
#define MSS(value) 2, 4, (value) >> 8, (value)&255

static bool clamp(size_t size, uint32_t packet_max)
{
    uint8_t *exact = malloc(size); /* of exactly its size, so that ASan sees a byte too many */
    memcpy(exact, packet, size);
    bool lowered = dco_mss_clamp(exact, size, packet_max);
    CHECK(lowered == !!memcmp(exact, packet, size));
    memcpy(packet, exact, size);
    free(exact);
    return lowered;
}

static void is_lowered(void)
{
    for (int version = 4; version <= 6; version += 2) {
        size_t tcp = version == 4 ? 20 : 40, size = SYN_WITH(version, MSS(1460), 1, 3, 3, 7);
        CHECK(clamp(size, 1400));
        CHECK(get16(packet + tcp + 22) == 1400 - tcp - 20);
        CHECK(transport_valid(packet, size, tcp, TCP));
        memcpy(before + tcp + 22, packet + tcp + 22, 2);
        memcpy(before + tcp + 16, packet + tcp + 16, 2);
        CHECK(!memcmp(before, packet, size)); /* nothing else */
    }
}

static void is_never_raised(void)
{
    size_t size = SYN_WITH(4, MSS(1360));
    CHECK(!clamp(size, 1400) && !clamp(size, 65535) && !clamp(size, UINT32_MAX));
    CHECK(clamp(size, 1399));
}

/* At an odd place the two bytes belong to two words of the sum. */
static void any_place(void)
{
    for (unsigned mss = 1360; mss <= 65535; mss += 997) {
        for (unsigned pad = 0; pad < 7; pad++) {
            uint8_t options[11];
            memset(options, 1, sizeof options);
            memcpy(options + pad, (uint8_t[]){MSS(mss)}, 4);
            size_t size = make_syn(4, options, sizeof options);
            CHECK(clamp(size, 1390));
            CHECK(get16(packet + 40 + pad + 2) == 1350);
            CHECK(transport_valid(packet, size, 20, TCP));
        }
    }
}

static void every_occurrence(void)
{
    size_t size = SYN_WITH(4, MSS(1460), MSS(100), MSS(9000));
    CHECK(clamp(size, 1400));
    CHECK(get16(packet + 42) == 1360 && get16(packet + 46) == 100 && get16(packet + 50) == 1360);
    CHECK(transport_valid(packet, size, 20, TCP));
}

static void wrong_sums_stay_wrong(void)
{
    size_t size = SYN_WITH(4, MSS(1460));
    packet[36] ^= 0x55;
    CHECK(clamp(size, 1400) && !transport_valid(packet, size, 20, TCP));
}

static void options_that_do_not_fit(void)
{
    CHECK(!clamp(SYN_WITH(4, 0, MSS(1460)), 1400));             /* behind the end */
    CHECK(!clamp(SYN_WITH(4, 8, 0, MSS(1460)), 1400));          /* of length zero */
    CHECK(!clamp(SYN_WITH(4, 8, 1, MSS(1460)), 1400));          /* or one */
    CHECK(!clamp(SYN_WITH(4, 8, 200, MSS(1460)), 1400));        /* beyond the header */
    CHECK(!clamp(SYN_WITH(4, 2, 3, 5, 1, 2, 5, 5, 180), 1400)); /* an MSS of another length */
    CHECK(!clamp(SYN_WITH(4, 1, 1, 2, 4), 1400));               /* its value is not there */
    CHECK(!clamp(SYN_WITH(4, 1, 1, 1, 2), 1400));               /* nor its length */
    CHECK(!clamp(make_syn(4, packet, 0), 1400));                /* none at all */
}

static void what_is_no_syn(void)
{
    size_t size = SYN_WITH(4, MSS(1460));
    CHECK(dco_mss_may_be_syn(packet, size));
    packet[33] = ACK;
    CHECK(!dco_mss_may_be_syn(packet, size) && !clamp(size, 1400));
    packet[33] = SYN | ACK;
    CHECK(dco_mss_may_be_syn(packet, size) && clamp(size, 1400));

    size = SYN_WITH(4, MSS(1460));
    packet[9] = UDP;
    CHECK(!dco_mss_may_be_syn(packet, size) && !clamp(size, 1400));
    packet[9] = TCP;
    packet[7] = 1; /* a later fragment */
    CHECK(!clamp(size, 1400));
    packet[7] = 0, packet[6] = 0x20; /* the first of several */
    CHECK(!clamp(size, 1400));
    packet[6] = 0;
    CHECK(!clamp(size, 40) && !clamp(size, 0)); /* a limit without room for a byte */
    packet[32] = 4 << 4;                        /* a header shorter than TCP's */
    CHECK(!clamp(size, 1400));
}

static void cut_short(void)
{
    for (int version = 4; version <= 6; version += 2) {
        size_t size = SYN_WITH(version, MSS(1460));
        for (size_t n = 0; n < size; n++)
            CHECK(!clamp(n, 1400));
        put16(packet + (version == 4 ? 2 : 4), version == 4 ? 43 : 23); /* by its own account */
        CHECK(!clamp(size, 1400));
    }
}

static void behind_extension_headers(void)
{
    static const uint8_t chain[] = {43, 0, 1, 4, 0,   0, 0, 0, /* hop-by-hop, next: routing */
                                    60, 1, 0, 0, 0,   0, 0, 0, 0, 0, 0, 0,
                                    0,  0, 0, 0, TCP, 0, 1, 4, 0, 0, 0, 0};
    size_t size = SYN_WITH(6, MSS(1440));
    memmove(packet + 40 + sizeof chain, packet + 40, size - 40);
    memcpy(packet + 40, chain, sizeof chain);
    packet[6] = 0;
    put16(packet + 4, (unsigned)(size - 40 + sizeof chain));
    size += sizeof chain;
    CHECK(dco_mss_may_be_syn(packet, size) && clamp(size, 1400));
    CHECK(get16(packet + 40 + sizeof chain + 22) == 1340);
    packet[41] = 255; /* leads out of the packet */
    CHECK(!clamp(size, 1300));
    packet[41] = 0, packet[40] = 44; /* a fragment */
    CHECK(!clamp(size, 1300));
    packet[40] = 59; /* no next header */
    CHECK(!clamp(size, 1300));
}

int main(void)
{
    RUN(is_lowered);
    RUN(is_never_raised);
    RUN(any_place);
    RUN(every_occurrence);
    RUN(wrong_sums_stay_wrong);
    RUN(options_that_do_not_fit);
    RUN(what_is_no_syn);
    RUN(cut_short);
    RUN(behind_extension_headers);
    return 0;
}
