#include <stdlib.h>
#include <string.h>

#include "codec/fragment.h"
#include "tests/check.h"
#include "tests/packets.h"

static uint8_t original[70000], rebuilt[70000];
static size_t options; /* bytes */

static size_t make(unsigned payload, unsigned place)
{
    struct packet_spec spec = spec_of(4, UDP);
    spec.payload = payload;
    spec.df = false;
    size_t size = make_packet(original, &spec);
    memmove(original + 20 + options, original + 20, size - 20);
    memset(original + 20, 1, options);
    size += options;
    original[0] = (uint8_t)(0x40 | (20 + options) / 4);
    put16(original + 2, (unsigned)size);
    put16(original + 6, place);
    return size;
}

/* Takes the packet apart and puts it together as a receiver does; returns how many fragments. */
static unsigned round_trip(size_t size, uint32_t mtu)
{
    uint8_t *packet = malloc(size), *piece;
    struct dco_fragment fragment;
    size_t header = 20 + options, at = get16(original + 6) & 0x1FFF;
    unsigned count = 0, first = (unsigned)at * 8;
    bool more = true;
    uint32_t bytes;
    memcpy(packet, original, size);
    CHECK(dco_fragment_begin(&fragment, packet, size, mtu));
    at *= 8;
    for (; dco_fragment_next(&fragment, &piece, &bytes); count++) {
        size_t head = (piece[0] & 15u) * 4, payload = bytes - head;
        CHECK(more && piece >= packet && piece + bytes <= packet + size && bytes <= mtu);
        CHECK(get16(piece + 2) == bytes && ipv4_header_valid(piece));
        CHECK((get16(piece + 6) & 0x1FFF) * 8 == at);
        CHECK(!memcmp(piece + 4, original + 4, 2) && !memcmp(piece + 8, original + 8, 2)
              && !memcmp(piece + 12, original + 12, 8));
        CHECK(count || !memcmp(piece + 20, original + 20, options));
        memcpy(rebuilt + at - first, piece + head, payload);
        at += payload;
        more = get16(piece + 6) & 0x2000;
        CHECK(!more || payload % 8 == 0);
        memset(piece, 0xAA, bytes); /* sealed, and sent */
    }
    CHECK(at - first == size - header && !memcmp(rebuilt, original + header, size - header));
    CHECK(more == !!(get16(original + 6) & 0x2000));
    free(packet);
    return count;
}

static void put_together_again(void)
{
    options = 0;
    for (unsigned payload = 0; payload < 4000; payload += 37)
        for (uint32_t mtu = 68; mtu < 1500; mtu += 113)
            round_trip(make(payload, 0), mtu);
    CHECK(round_trip(make(1372, 0), 1400) == 1);
    CHECK(round_trip(make(1373, 0), 1400) == 2);
    CHECK(round_trip(make(65000, 0), 1400) == 48);
}

static void fragments_of_fragments(void)
{
    CHECK(round_trip(make(1272, 0x2000), 700) == 2);
    CHECK(round_trip(make(1272, 0x2000 | 185), 700) == 2);
    CHECK(round_trip(make(1000, 370), 700) == 2);
}

/* Those behind the first have only what RFC 791 says is copied. */
static void options_of_the_later(void)
{
    static const uint8_t mixed[] = {7, 7, 4, 0, 0, 0, 0, 1, 0x83, 3, 4, 0x88, 4, 9, 9, 0};
    uint8_t *packet = malloc(2000), *piece;
    struct dco_fragment fragment;
    uint32_t bytes;
    options = 16;
    CHECK(round_trip(make(3000, 0), 300) > 10);
    size_t size = make(1000, 0);
    memcpy(packet, original, size);
    memcpy(packet + 20, mixed, sizeof mixed);
    CHECK(dco_fragment_begin(&fragment, packet, size, 500));
    CHECK(dco_fragment_next(&fragment, &piece, &bytes) && piece[0] == 0x49 && bytes <= 500);
    CHECK(!memcmp(piece + 20, mixed, sizeof mixed));
    CHECK(dco_fragment_next(&fragment, &piece, &bytes) && piece[0] == 0x47 && bytes <= 500);
    CHECK(!memcmp(piece + 20, mixed + 8, 7) && !piece[27] && ipv4_header_valid(piece));
    free(packet);
    options = 0;
}

static void refused(void)
{
    struct dco_fragment fragment;
    size_t size = make(1000, 0x4000);
    CHECK(!dco_fragment_begin(&fragment, original, size, 500)); /* DF */
    size = make(1000, 0);
    CHECK(!dco_fragment_begin(&fragment, original, size, 27));
    CHECK(dco_fragment_begin(&fragment, original, size, 28));
    CHECK(!dco_fragment_begin(&fragment, original, size - 1, 500)); /* cut short */
    CHECK(!dco_fragment_begin(&fragment, original, 19, 500));
    original[0] = 0x65;
    CHECK(!dco_fragment_begin(&fragment, original, size, 500));
}

int main(void)
{
    RUN(put_together_again);
    RUN(fragments_of_fragments);
    RUN(options_of_the_later);
    RUN(refused);
    return 0;
}
