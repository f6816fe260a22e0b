#include "codec/gso.h"
#include "tests/check.h"
#include "tests/packets.h"

static uint8_t buffer[70000], original[70000];
static struct dco_gso gso;

/* As the kernel hands it out: pseudo-header sum in the checksum field. */
static void leave_partial(uint8_t *packet, size_t size, size_t transport, int protocol)
{
    put16(packet + transport + (protocol == TCP ? 16 : 6),
          plain_pseudo(packet, (unsigned)protocol, size - transport));
}

static size_t make_super(const struct packet_spec *spec)
{
    size_t size = make_packet(buffer, spec);
    leave_partial(buffer, size, spec_transport(spec), spec->protocol);
    memcpy(original, buffer, size);
    return size;
}

static void check_segment(const struct packet_spec *spec, const uint8_t *segment, uint32_t size,
                          uint32_t index, uint32_t count, uint32_t offset)
{
    size_t transport = spec_transport(spec), header = spec_header(spec);
    const uint8_t *t = segment + transport;
    CHECK(!memcmp(segment + header, original + header + offset, size - header));
    CHECK(transport_valid(segment, size, transport, (unsigned)spec->protocol));
    if (spec->version == 4) {
        CHECK(get16(segment + 2) == size && ipv4_header_valid(segment));
        CHECK(get16(segment + 4) == ((spec->id + index) & 0xFFFF));
        CHECK(!memcmp(segment + 6, original + 6, 4) && !memcmp(segment + 12, original + 12, 8));
    } else {
        CHECK(get16(segment + 4) == size - 40);
        CHECK(!memcmp(segment, original, 4) && !memcmp(segment + 6, original + 6, 34));
    }
    CHECK(!memcmp(t, original + transport, 4));
    if (spec->protocol == UDP) {
        CHECK(get16(t + 4) == size - transport);
        return;
    }
    unsigned flags = spec->flags;
    if (index > 0)
        flags &= ~(unsigned)CWR;
    if (index + 1 < count)
        flags &= ~(unsigned)(FIN | PSH);
    CHECK(get32(t + 4) == spec->sequence + offset && t[13] == flags);
    CHECK(!memcmp(t + 8, original + transport + 8, 5) && get16(t + 14) == spec->window);
    CHECK(!memcmp(t + 20, original + transport + 20, spec->options));
}

static void split(const struct packet_spec *spec, unsigned segment_size)
{
    size_t size = make_super(spec);
    struct dco_vnet vnet = vnet_of(spec, segment_size);
    uint32_t count = (spec->payload + segment_size - 1) / segment_size, index = 0, offset = 0,
             length;
    uint8_t *segment;
    CHECK(dco_gso_begin(&gso, &vnet, buffer, size) == DCO_DROP_NONE);
    CHECK(dco_gso_count(&gso) == count);
    for (; dco_gso_next(&gso, &segment, &length); index++) {
        CHECK(index < count);
        check_segment(spec, segment, length, index, count, offset);
        offset += length - (uint32_t)spec_header(spec);
        memset(segment, 0xEE, length); /* as if it had been sealed in place */
    }
    CHECK(index == count && offset == spec->payload);
    CHECK(!dco_gso_next(&gso, &segment, &length));
}

static void every_kind(void)
{
    static const unsigned sizes[][2] = {{100, 1368}, {1368, 1368},   {1369, 1368}, {65000, 1368},
                                        {64000, 1},  {65000, 65000}, {3, 2}};
    for (int version = 4; version <= 6; version += 2)
        for (int protocol = TCP; protocol <= UDP; protocol += UDP - TCP)
            for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
                struct packet_spec spec = spec_of(version, protocol);
                spec.payload = sizes[i][0];
                split(&spec, sizes[i][1]);
            }
}

static void flags_and_counters(void)
{
    for (int version = 4; version <= 6; version += 2) {
        struct packet_spec spec = spec_of(version, TCP);
        spec.flags = ACK | FIN | PSH | CWR | ECE;
        spec.sequence = UINT32_MAX - 100;
        spec.id = 0xFFFE;
        spec.payload = 5000;
        for (spec.options = 0; spec.options <= 40; spec.options += 4)
            split(&spec, 1000);
    }
}

/* The first segments alone, as they would have been, without the end of the flow. */
static void limited(void)
{
    struct packet_spec spec = spec_of(4, TCP);
    spec.flags = ACK | FIN | CWR;
    spec.payload = 4500;
    for (uint32_t limit = 1; limit <= 6; limit++) {
        size_t size = make_super(&spec);
        struct dco_vnet vnet = vnet_of(&spec, 1000);
        uint32_t index = 0, length, count = limit < 5 ? limit : 5;
        uint8_t *segment;
        CHECK(dco_gso_begin(&gso, &vnet, buffer, size) == DCO_DROP_NONE);
        dco_gso_limit(&gso, limit);
        CHECK(dco_gso_count(&gso) == count);
        for (; dco_gso_next(&gso, &segment, &length); index++)
            check_segment(&spec, segment, length, index, 5, index * 1000);
        CHECK(index == count);
    }
    size_t size = make_packet(buffer, &spec);
    CHECK(dco_gso_begin(&gso, NULL, buffer, size) == DCO_DROP_NONE);
    dco_gso_limit(&gso, 1);
    CHECK(dco_gso_count(&gso) == 1 && gso.size == size);
}

static void checksums_of_unsplit_packets(void)
{
    for (int protocol = TCP; protocol <= UDP; protocol += UDP - TCP) {
        struct packet_spec spec = spec_of(6, protocol);
        size_t size = make_super(&spec);
        struct dco_vnet vnet = vnet_of(&spec, 0);
        vnet.gso_type = DCO_VNET_GSO_NONE;
        uint8_t *segment;
        uint32_t length;
        CHECK(dco_gso_begin(&gso, &vnet, buffer, size) == DCO_DROP_NONE);
        CHECK(dco_gso_count(&gso) == 1 && dco_gso_next(&gso, &segment, &length));
        CHECK(segment == buffer && length == size && transport_valid(buffer, size, 40, protocol));
        CHECK(!dco_gso_next(&gso, &segment, &length));
    }
}

/* A sum of all ones would be stored as 0, which in UDP means that there is none. */
static void udp_zero_becomes_ones(void)
{
    struct packet_spec spec = spec_of(4, UDP);
    spec.payload = 2;
    size_t size = make_packet(buffer, &spec);
    put16(buffer + 28, (get16(buffer + 28) + get16(buffer + 26)) % 0xFFFF);
    put16(buffer + 26, plain_pseudo(buffer, UDP, size - 20));
    struct dco_vnet vnet = vnet_of(&spec, 0);
    vnet.gso_type = DCO_VNET_GSO_NONE;
    CHECK(dco_gso_begin(&gso, &vnet, buffer, size) == DCO_DROP_NONE);
    CHECK(get16(buffer + 26) == 0xFFFF && transport_valid(buffer, size, 20, UDP));
}

/* Hop-by-hop and routing header; with the latter the addresses that count are not those of the
 * fixed header, and only the kernel's own sum tells. */
static void extension_headers(void)
{
    struct packet_spec spec = spec_of(6, TCP);
    spec.payload = 3000;
    uint8_t plain[4096];
    size_t size = make_packet(plain, &spec) + 16, transport = 56;
    memcpy(buffer, plain, 40);
    memset(buffer + 40, 0, 16);
    memcpy(buffer + transport, plain + 40, size - transport);
    buffer[6] = 0;
    buffer[40] = 43;
    buffer[48] = TCP;
    put16(buffer + 4, (unsigned)size - 40);
    unsigned foreign = plain_sum(plain_pseudo(buffer, TCP, size - transport), plain + 8, 16);
    put16(buffer + transport + 16, foreign);
    struct dco_vnet vnet = vnet_of(&spec, 1000);
    vnet.csum_start = (uint16_t)transport;
    CHECK(dco_gso_begin(&gso, &vnet, buffer, size) == DCO_DROP_NONE);
    uint8_t *segment;
    uint32_t length, n = 0;
    for (; dco_gso_next(&gso, &segment, &length); n++) {
        unsigned pseudo = plain_pseudo(segment, TCP, length - transport);
        pseudo = plain_sum(pseudo, plain + 8, 16);
        CHECK(plain_sum(pseudo, segment + transport, length - transport) == 0xFFFF);
        CHECK(get16(segment + 4) == length - 40 && segment[6] == 0);
    }
    CHECK(n == 3);
    buffer[40] = 44; /* a fragment is no super-packet */
    CHECK(dco_gso_begin(&gso, &vnet, buffer, size) == DCO_DROP_TX_GSO);
}

static void headers_of_any_length(void)
{
    for (size_t extension = 8; extension <= 400; extension += 8) {
        struct packet_spec spec = spec_of(6, UDP);
        size_t plain = make_packet(original, &spec), size = plain + extension;
        memset(buffer, 0, size);
        memcpy(buffer, original, 40);
        memcpy(buffer + 40 + extension, original + 40, plain - 40);
        buffer[6] = 60;
        buffer[40] = UDP;
        buffer[41] = (uint8_t)(extension / 8 - 1);
        put16(buffer + 4, (unsigned)size - 40);
        struct dco_vnet vnet = vnet_of(&spec, 50);
        vnet.csum_start = (uint16_t)(40 + extension);
        bool fits = 48 + extension <= DCO_GSO_HEADER_MAX;
        CHECK(dco_gso_begin(&gso, &vnet, buffer, size) == (fits ? DCO_DROP_NONE : DCO_DROP_TX_GSO));
    }
}

static void plain_packets(void)
{
    struct packet_spec spec = spec_of(4, TCP);
    size_t size = make_packet(buffer, &spec);
    static const struct dco_vnet zero;
    memcpy(original, buffer, size);
    CHECK(dco_gso_begin(&gso, NULL, buffer, size) == DCO_DROP_NONE);
    CHECK(dco_gso_begin(&gso, &zero, buffer, size + 7) == DCO_DROP_NONE); /* trailing bytes */
    CHECK(!memcmp(buffer, original, size));
    for (size_t cut = 0; cut < 20; cut++)
        CHECK(dco_gso_begin(&gso, NULL, buffer, cut) == DCO_DROP_TX_MALFORMED);
    for (unsigned first = 0; first < 256; first++) {
        buffer[0] = (uint8_t)first;
        bool good = (first >> 4 == 4 && (first & 15) >= 5) || first >> 4 == 6;
        CHECK(dco_gso_begin(&gso, NULL, buffer, 60)
              == (good ? DCO_DROP_NONE : DCO_DROP_TX_MALFORMED));
    }
    buffer[0] = 0x46;
    CHECK(dco_gso_begin(&gso, NULL, buffer, 23) == DCO_DROP_TX_MALFORMED);
    buffer[0] = 0x60;
    CHECK(dco_gso_begin(&gso, NULL, buffer, 39) == DCO_DROP_TX_MALFORMED);
}

static void offload_headers_that_do_not_fit(void)
{
    struct packet_spec spec = spec_of(4, TCP);
    spec.payload = 3000;
    size_t size = make_super(&spec);
#define REFUSED(change)                                                                            \
    do {                                                                                           \
        struct dco_vnet vnet = vnet_of(&spec, 1000);                                               \
        memcpy(buffer, original, size);                                                            \
        size_t length = size;                                                                      \
        change;                                                                                    \
        CHECK(dco_gso_begin(&gso, &vnet, buffer, length) == DCO_DROP_TX_GSO);                      \
    } while (0)
    REFUSED(vnet.gso_size = 0);
    REFUSED(vnet.flags = 0);
    REFUSED(vnet.csum_offset = 6);
    REFUSED(vnet.csum_start = 19);
    REFUSED(vnet.csum_start = 21);
    REFUSED(vnet.csum_start = 65535);
    for (unsigned type = 1; type < 256; type++)
        if ((type & 0x7F) != DCO_VNET_GSO_TCPV4)
            REFUSED(vnet.gso_type = (uint8_t)type);
    REFUSED(length--);
    REFUSED(length = 39; put16(buffer + 2, 39));
    REFUSED(length = 51; put16(buffer + 2, 51)); /* the options do not fit */
    REFUSED(buffer[9] = UDP);
    REFUSED(buffer[6] = 0x20);
    REFUSED(buffer[7] = 1);
    REFUSED(buffer[32] = 0x40);
    REFUSED(put16(buffer + 2, (unsigned)size + 1));
    REFUSED(vnet.gso_type = 0; vnet.csum_start = (uint16_t)(size - 17));
    REFUSED(vnet.gso_type = 0; vnet.csum_start = 19);
    REFUSED(vnet.gso_type = 0; vnet.csum_start = 65535; vnet.csum_offset = 65535);
#undef REFUSED
    struct dco_vnet vnet = vnet_of(&spec, 1000);
    vnet.hdr_len = 9999; /* only a hint */
    vnet.gso_type |= DCO_VNET_GSO_ECN;
    memcpy(buffer, original, size);
    CHECK(dco_gso_begin(&gso, &vnet, buffer, size) == DCO_DROP_NONE);
}

int main(void)
{
    RUN(every_kind);
    RUN(flags_and_counters);
    RUN(limited);
    RUN(checksums_of_unsplit_packets);
    RUN(udp_zero_becomes_ones);
    RUN(extension_headers);
    RUN(headers_of_any_length);
    RUN(plain_packets);
    RUN(offload_headers_that_do_not_fit);
    return 0;
}
