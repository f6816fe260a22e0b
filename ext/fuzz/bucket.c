/* Any order of packets and pauses: never more than burst and rate give, and never less than a whole
 * packet for which there is room. */
#include "codec/bucket.h"
#include "tests/check.h"
#include "tests/packets.h"

#define PER_BYTE UINT64_C(8000000000)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct dco_bucket bucket = {0};
    unsigned __int128 room;
    uint64_t now_ns = 1;
    if (size < 8)
        return 0;
    uint64_t bits_per_s = (uint64_t)get32(data) << (data[4] & 31);
    uint32_t burst = get16(data + 5) << (data[7] & 14);
    room = (unsigned __int128)burst * PER_BYTE;
    for (size_t i = 8; i + 6 <= size; i += 6) {
        uint64_t pause = (uint64_t)get16(data + i) << (data[i + 5] & 31);
        uint32_t packet = get16(data + i + 2) + 1u, count = data[i + 4], passed;
        now_ns += pause;
        room += (unsigned __int128)pause * bits_per_s;
        if (room > burst * PER_BYTE)
            room = burst * PER_BYTE;
        passed = dco_bucket_take(&bucket, bits_per_s, burst, now_ns, packet, count);
        CHECK(passed <= count && passed * (packet * PER_BYTE) <= room);
        room -= passed * (packet * PER_BYTE);
        CHECK(passed == count || room < packet * PER_BYTE);
    }
    return 0;
}
