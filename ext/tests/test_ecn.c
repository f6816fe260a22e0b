#include <string.h>

#include "codec/ecn.h"
#include "tests/check.h"
#include "tests/packets.h"

/* RFC 6040, section 4.2, as it stands there: by inner header, then outer. */
static const struct {
    uint8_t inner, outer;
    int result; /* -1: dropped */
} table[] = {
    {DCO_ECN_NOT_ECT, DCO_ECN_NOT_ECT, DCO_ECN_NOT_ECT},
    {DCO_ECN_NOT_ECT, DCO_ECN_ECT0, DCO_ECN_NOT_ECT},
    {DCO_ECN_NOT_ECT, DCO_ECN_ECT1, DCO_ECN_NOT_ECT},
    {DCO_ECN_NOT_ECT, DCO_ECN_CE, -1},
    {DCO_ECN_ECT0, DCO_ECN_NOT_ECT, DCO_ECN_ECT0},
    {DCO_ECN_ECT0, DCO_ECN_ECT0, DCO_ECN_ECT0},
    {DCO_ECN_ECT0, DCO_ECN_ECT1, DCO_ECN_ECT1},
    {DCO_ECN_ECT0, DCO_ECN_CE, DCO_ECN_CE},
    {DCO_ECN_ECT1, DCO_ECN_NOT_ECT, DCO_ECN_ECT1},
    {DCO_ECN_ECT1, DCO_ECN_ECT0, DCO_ECN_ECT1},
    {DCO_ECN_ECT1, DCO_ECN_ECT1, DCO_ECN_ECT1},
    {DCO_ECN_ECT1, DCO_ECN_CE, DCO_ECN_CE},
    {DCO_ECN_CE, DCO_ECN_NOT_ECT, DCO_ECN_CE},
    {DCO_ECN_CE, DCO_ECN_ECT0, DCO_ECN_CE},
    {DCO_ECN_CE, DCO_ECN_ECT1, DCO_ECN_CE},
    {DCO_ECN_CE, DCO_ECN_CE, DCO_ECN_CE},
};

static void make_ipv4(uint8_t *packet, uint8_t tos, unsigned seed)
{
    for (unsigned i = 0; i < 20; i++)
        packet[i] = (uint8_t)(seed >> i % 24) ^ (uint8_t)(i * 31);
    packet[0] = 0x45;
    packet[1] = tos;
    put16(packet + 10, 0);
    put16(packet + 10, ~plain_sum(0, packet, 20) & 0xFFFF);
}

static void make_ipv6(uint8_t *packet, uint8_t tos, unsigned seed)
{
    for (unsigned i = 0; i < 40; i++)
        packet[i] = (uint8_t)(seed + i * 17);
    packet[0] = (uint8_t)(0x60 | tos >> 4);
    packet[1] = (uint8_t)(tos << 4 | (seed & 15));
}

static void read_gives_what_stands_there(void)
{
    uint8_t packet[40];
    for (unsigned tos = 0; tos < 256; tos++) {
        make_ipv4(packet, (uint8_t)tos, tos * 7);
        CHECK(dco_tos_read(packet) == tos);
        make_ipv6(packet, (uint8_t)tos, tos * 7);
        CHECK(dco_tos_read(packet) == tos);
    }
}

/* Whatever DSCP stands beside it, and nothing but the two bits and the sum changes. */
static void all_of_the_table(bool ipv4)
{
    CHECK(sizeof table / sizeof *table == 16);
    for (size_t i = 0; i < 16 * 64; i++) {
        uint8_t dscp = (uint8_t)(i / 16 << 2), expected[40], packet[40];
        int result = table[i % 16].result;
        uint8_t outer = (uint8_t)(table[i % 16].outer | (~dscp & DCO_TOS_DSCP));
        void (*make)(uint8_t *, uint8_t, unsigned) = ipv4 ? make_ipv4 : make_ipv6;
        memset(packet, 0, sizeof packet);
        memset(expected, 0, sizeof expected);
        make(packet, dscp | table[i % 16].inner, (unsigned)i * 2654435761u);
        make(expected, result < 0 ? dscp : (uint8_t)(dscp | result), (unsigned)i * 2654435761u);
        CHECK(dco_ecn_decapsulate(packet, outer) == (result >= 0));
        CHECK(result < 0 || !memcmp(packet, expected, sizeof packet));
        if (!dco_ecn_matters(outer))
            CHECK(result == table[i % 16].inner);
    }
}

static void ipv4(void)
{
    all_of_the_table(true);
}

static void ipv6(void)
{
    all_of_the_table(false);
}

static void wrong_sum_stays_wrong(void)
{
    uint8_t packet[40];
    for (unsigned by = 1; by < 0xFFFF; by++) {
        make_ipv4(packet, DCO_ECN_ECT0, by);
        put16(packet + 10, get16(packet + 10) ^ by);
        bool good = plain_sum(0, packet, 20) == 0xFFFF;
        CHECK(dco_ecn_decapsulate(packet, DCO_ECN_CE));
        CHECK((plain_sum(0, packet, 20) == 0xFFFF) == good);
    }
}

int main(void)
{
    RUN(read_gives_what_stands_there);
    RUN(ipv4);
    RUN(ipv6);
    RUN(wrong_sum_stays_wrong);
    return 0;
}
