/* Complains about anything. What is said is a well-formed error to the sender, and is never
 * complained about itself. */
#include <stdlib.h>

#include "codec/icmp.h"
#include "tests/check.h"
#include "tests/packets.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 3)
        return 0;
    enum dco_icmp error = data[0] & 3;
    unsigned mtu = get16(data + 1);
    data += 3;
    size -= 3;
    uint8_t *packet = malloc(size ? size : 1), *out = malloc(DCO_ICMP_MAX), *again;
    memcpy(packet, data, size);

    uint32_t n = dco_icmp_error(out, error, mtu, packet, size);
    if (n) {
        bool ipv4 = packet[0] >> 4 == 4;
        size_t header = ipv4 ? 20 : 40, quoted = n - header - 8;
        CHECK(n <= (ipv4 ? 576 : 1280) && (quoted == size || n == (ipv4 ? 576 : 1280)));
        CHECK(!memcmp(out + header + 8, packet, quoted));
        if (ipv4) {
            CHECK(get16(out + 2) == n && ipv4_header_valid(out));
            CHECK(plain_sum(0, out + 20, n - 20) == 0xFFFF);
            CHECK(!memcmp(out + 16, packet + 12, 4) && !memcmp(out + 12, packet + 16, 4));
        } else {
            CHECK(get16(out + 4) == n - 40);
            CHECK(plain_sum(plain_pseudo(out, 58, n - 40), out + 40, n - 40) == 0xFFFF);
            CHECK(!memcmp(out + 24, packet + 8, 16) && !memcmp(out + 8, packet + 24, 16));
        }
        again = malloc(DCO_ICMP_MAX);
        CHECK(!dco_icmp_error(again, error, mtu, out, n));
        free(again);
    }
    free(packet);
    free(out);
    return 0;
}
