#include <string.h>

#include "codec/checksum.h"
#include "tests/check.h"
#include "tests/packets.h"

static uint8_t data[70000];

static void fill(void)
{
    uint32_t state = 1;
    for (size_t i = 0; i < sizeof data; i++) {
        state = state * 1664525 + 1013904223;
        data[i] = (uint8_t)(state >> 24);
    }
}

static unsigned codec_sum(const uint8_t *start, size_t size)
{
    uint16_t folded = dco_checksum_fold(dco_checksum_add(0, start, size));
    uint8_t stored[2];
    memcpy(stored, &folded, sizeof stored);
    return get16(stored);
}

static void every_length_and_alignment(void)
{
    for (size_t size = 0; size < 700; size++)
        for (size_t offset = 0; offset < 9; offset++)
            CHECK(codec_sum(data + offset, size) == plain_sum(0, data + offset, size));
    for (size_t size = 65500; size <= 65536; size++)
        CHECK(codec_sum(data + 1, size) == plain_sum(0, data + 1, size));
}

/* All ones is where a carry would get lost. */
static void extremes(void)
{
    static uint8_t ones[65536];
    memset(ones, 0xFF, sizeof ones);
    CHECK(codec_sum(ones, sizeof ones) == 0xFFFF);
    CHECK(codec_sum(ones, 65535) == plain_sum(0, ones, 65535));
    memset(ones, 0, sizeof ones);
    CHECK(codec_sum(ones, sizeof ones) == 0);
    CHECK(dco_checksum_fold(UINT64_MAX) == 0xFFFF);
    CHECK(dco_checksum_fold(0) == 0);
    CHECK(dco_checksum_fold(0x10000) == 1);
}

static void even_pieces_add(void)
{
    for (size_t cut = 0; cut <= 1400; cut += 2) {
        uint64_t sum = dco_checksum_add(0, data, cut);
        sum = dco_checksum_add(sum, data + cut, 1401 - cut);
        CHECK(dco_checksum_fold(sum) == dco_checksum_fold(dco_checksum_add(0, data, 1401)));
    }
}

static void pseudo_headers(void)
{
    for (int version = 4; version <= 6; version += 2) {
        struct packet_spec spec = spec_of(version, TCP);
        uint8_t packet[2048], stored[2];
        make_packet(packet, &spec);
        const uint8_t *source = packet + (version == 4 ? 12 : 8);
        size_t size = version == 4 ? 4 : 16;
        uint16_t folded =
            dco_checksum_fold(dco_checksum_pseudo(source, source + size, size, TCP, 70000));
        memcpy(stored, &folded, sizeof stored);
        CHECK(get16(stored) == plain_pseudo(packet, TCP, 70000));
    }
}

int main(void)
{
    fill();
    RUN(every_length_and_alignment);
    RUN(extremes);
    RUN(even_pieces_add);
    RUN(pseudo_headers);
    return 0;
}
