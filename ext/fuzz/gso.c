/* Splits any packet with any offload header. A first byte of input says how far its lengths are
 * made to fit, since random ones hardly ever do. */
#include "codec/gso.h"
#include "tests/check.h"
#include "tests/packets.h"

enum { FIT_NETWORK = 1, FIT_OFFLOAD = 2, FIT_PROTOCOL = 4, NO_OFFLOAD = 8 };

static uint8_t *packet; /* of exactly its size, so that ASan sees a byte too many */
static uint8_t original[70000];

static void make_fit(unsigned how, struct dco_vnet *vnet, size_t size)
{
    if (size < 60)
        return;
    bool ipv4 = packet[0] & 0x80;
    unsigned transport = ipv4 ? 20 : 40, protocol = packet[0] & 0x40 ? TCP : UDP;
    if (how & FIT_NETWORK) {
        packet[0] = ipv4 ? 0x45 : 0x60;
        put16(packet + (ipv4 ? 2 : 4), (unsigned)(ipv4 ? size : size - 40));
        if (ipv4)
            put16(packet + 6, 0x4000);
    }
    if (how & FIT_PROTOCOL)
        packet[ipv4 ? 9 : 6] = (uint8_t)protocol;
    if (how & FIT_OFFLOAD) {
        vnet->flags |= 1;
        vnet->gso_type = protocol == UDP ? 5 : ipv4 ? 1 : 4;
        vnet->csum_start = (uint16_t)transport;
        vnet->csum_offset = protocol == TCP ? 16 : 6;
        if (protocol == TCP)
            packet[transport + 12] = (uint8_t)(packet[transport + 12] % 11 + 5) << 4;
    }
}

static void check_split(struct dco_gso *gso, size_t size)
{
    uint32_t count = dco_gso_count(gso), n = 0, length;
    size_t offset = 0, header = gso->header, transport = gso->transport;
    uint8_t *segment;
    for (; dco_gso_next(gso, &segment, &length); n++) {
        CHECK(segment >= packet && segment + length <= packet + size && length <= 65535);
        CHECK(length >= header && length - header <= gso->segment);
        CHECK(length - header == gso->segment || n + 1 == count);
        CHECK(!memcmp(segment + header, original + header + offset, length - header));
        offset += length - header;
        CHECK(get16(segment + (gso->ip_version == 4 ? 2 : 4))
              == (gso->ip_version == 4 ? length : length - 40));
        if (gso->ip_version == 4) {
            CHECK(ipv4_header_valid(segment));
            CHECK(get16(segment + 4) == ((get16(original + 4) + n) & 0xFFFF));
        }
        /* Behind extension headers the sum rests on what the kernel left in the field. */
        if (transport == (gso->ip_version == 4 ? (segment[0] & 15u) * 4 : 40))
            CHECK(transport_valid(segment, length, transport, gso->protocol));
        if (gso->protocol == TCP) {
            const uint8_t *t = segment + transport, *o = original + transport;
            unsigned cleared = (n > 0 ? CWR : 0) | (n + 1 < count ? FIN | PSH : 0);
            CHECK(get32(t + 4) == get32(o + 4) + (uint32_t)(offset + header - length));
            CHECK(t[13] == (o[13] & ~cleared));
        }
        memset(segment, 0xAA, length);
    }
    CHECK(n == count && header + offset == size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct dco_vnet vnet;
    struct dco_gso gso;
    uint8_t *segment;
    uint32_t length;
    if (size < 1 + sizeof vnet)
        return 0;
    unsigned how = data[0];
    memcpy(&vnet, data + 1, sizeof vnet);
    data += 1 + sizeof vnet;
    size -= 1 + sizeof vnet;
    /* Two bits repeat the input, up to a full-size super-packet. */
    size_t total = 0, repeat = size ? (size_t)1 << (how >> 6) * 4 : 1;
    for (size_t i = 0; i < repeat && total + size <= 65535; i++, total += size)
        memcpy(original + total, data, size);
    packet = malloc(total ? total : 1);
    memcpy(packet, original, total);
    make_fit(how, &vnet, total);
    memcpy(original, packet, total);

    enum dco_drop drop = dco_gso_begin(&gso, how & NO_OFFLOAD ? NULL : &vnet, packet, total);
    if (drop != DCO_DROP_NONE) {
        CHECK(drop == DCO_DROP_TX_MALFORMED || drop == DCO_DROP_TX_GSO);
        CHECK(!memcmp(packet, original, total));
    } else if (gso.protocol == 0) {
        CHECK(dco_gso_count(&gso) == 1 && dco_gso_next(&gso, &segment, &length));
        CHECK(segment == packet && length == total && !dco_gso_next(&gso, &segment, &length));
    } else {
        check_split(&gso, total);
    }
    free(packet);
    return 0;
}
