/* Takes anything apart: the pieces have the payload of the packet, in order and whole. */
#include <stdlib.h>

#include "codec/fragment.h"
#include "tests/check.h"
#include "tests/packets.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct dco_fragment fragment;
    if (size < 23 || size > 65000)
        return 0;
    unsigned how = data[0], mtu = get16(data + 1);
    data += 3;
    size -= 3;
    uint8_t *packet = malloc(size), *piece;
    memcpy(packet, data, size);
    if (how & 1) {
        packet[0] = (uint8_t)(0x45 + how / 2 % 4);
        put16(packet + 2, (unsigned)size);
        packet[6] &= 0x20;
    }
    uint8_t *original = malloc(size);
    memcpy(original, packet, size);

    if (!dco_fragment_begin(&fragment, packet, size, mtu)) {
        CHECK(!memcmp(packet, original, size));
    } else {
        size_t header = (original[0] & 15u) * 4, end = get16(original + 2), done = 0;
        unsigned place = get16(original + 6) & 0x1FFF;
        uint32_t bytes;
        while (dco_fragment_next(&fragment, &piece, &bytes)) {
            size_t head = (piece[0] & 15u) * 4;
            CHECK(piece >= packet && piece + bytes <= packet + size && bytes <= mtu);
            CHECK(get16(piece + 2) == bytes && ipv4_header_valid(piece));
            CHECK((get16(piece + 6) & 0x1FFF) == ((place + done / 8) & 0x1FFF));
            CHECK(!memcmp(piece + head, original + header + done, bytes - head));
            done += bytes - head;
            CHECK(!!(piece[6] & 0x20) == (header + done < end || original[6] & 0x20));
            memset(piece, 0xAA, bytes);
        }
        CHECK(header + done == end);
    }
    free(packet);
    free(original);
    return 0;
}
