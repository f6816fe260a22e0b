/* The sum of any bytes, in one piece and in two, against the one that RFC 1071 spells out. */
#include "codec/checksum.h"
#include "tests/check.h"
#include "tests/packets.h"

static unsigned stored(uint64_t sum)
{
    uint16_t folded = dco_checksum_fold(sum);
    uint8_t bytes[2];
    memcpy(bytes, &folded, sizeof bytes);
    return get16(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    size_t cut = (size_t)get16(data) % (size + 1) & ~(size_t)1;
    unsigned expected = plain_sum(0, data, size);
    CHECK(stored(dco_checksum_add(0, data, size)) == expected);
    CHECK(stored(dco_checksum_add(dco_checksum_add(0, data, cut), data + cut, size - cut))
          == expected);
    if (size >= 40) {
        uint8_t packet[40];
        memcpy(packet, data, sizeof packet);
        packet[0] = 0x60;
        uint64_t sum = dco_checksum_pseudo(packet + 8, packet + 24, 16, data[1], get32(data + 2));
        CHECK(stored(sum) == plain_pseudo(packet, data[1], get32(data + 2)));
        packet[0] = 0x45;
        sum = dco_checksum_pseudo(packet + 12, packet + 16, 4, data[1], get32(data + 2));
        CHECK(stored(sum) == plain_pseudo(packet, data[1], get32(data + 2)));
    }
    return 0;
}
