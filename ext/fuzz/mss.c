/* Clamps anything to anything: whatever comes out differs in MSS options of a SYN only, and its
 * checksum is as right or wrong as before. The first byte says how far the packet is made to fit. */
#include <stdlib.h>

#include "codec/mss.h"
#include "tests/check.h"
#include "tests/packets.h"

enum { FIT_IPV4 = 1, FIT_IPV6 = 2, FIT_TCP = 4 };

/* Whether its checksum is right, too. */
static bool make_fit(unsigned how, uint8_t *packet, size_t size)
{
    size_t transport = how & FIT_IPV4 ? 20 : 40;
    if (!(how & (FIT_IPV4 | FIT_IPV6)) || size < transport + 20)
        return false;
    packet[0] = how & FIT_IPV4 ? 0x45 : 0x60;
    if (how & FIT_IPV4)
        put16(packet + 6, 0);
    if (!(how & FIT_TCP))
        return false;
    packet[how & FIT_IPV4 ? 9 : 6] = TCP;
    packet[transport + 12] |= 0x50;
    packet[transport + 13] |= SYN;
    seal_packet(packet, size, transport, TCP);
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 3 || size > 65000)
        return 0;
    unsigned how = data[0], limit = get16(data + 1);
    data += 3;
    size -= 3;
    uint8_t *packet = malloc(size ? size : 1), *before = malloc(size ? size : 1);
    memcpy(packet, data, size);
    bool sound = make_fit(how, packet, size);
    memcpy(before, packet, size);

    bool lowered = dco_mss_clamp(packet, size, limit);
    CHECK(lowered || !memcmp(packet, before, size));
    if (lowered) {
        bool ipv4 = packet[0] >> 4 == 4;
        size_t network = ipv4 ? (packet[0] & 15u) * 4 : 40;
        CHECK(dco_mss_may_be_syn(before, size) && limit > (ipv4 ? 40 : 60));
        CHECK(!memcmp(packet, before, network));
        CHECK(!dco_mss_clamp(packet, size, limit));
        CHECK(!sound || transport_valid(packet, size, network, TCP));
    }
    free(packet);
    free(before);
    return 0;
}
