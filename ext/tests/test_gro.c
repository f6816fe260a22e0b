#include "codec/checksum.h"
#include "tests/gro_model.h"

static struct dco_gro gro;
static struct batch batch;
static int owner_a, owner_b;

static void start(void)
{
    batch.count = 0;
    dco_gro_reset(&gro, true, true);
}

static void add_for(const struct packet_spec *spec, void *owner)
{
    batch_add(&batch, &gro, make_packet(batch.packet[batch.count], spec), owner);
}

static void add(const struct packet_spec *spec)
{
    add_for(spec, &owner_a);
}

/* The packet that follows `spec` in its flow. */
static struct packet_spec after(struct packet_spec spec)
{
    spec.sequence += spec.payload;
    spec.id++;
    return spec;
}

/* How many packets each item holds, as digits: "31" is three packets and then one. */
static void expect(const char *items)
{
    char found[DCO_GRO_ITEMS + 1] = {0};
    for (uint32_t i = 0; i < gro.count; i++)
        found[i] = (char)('0' + gro.item[i].packets);
    if (strcmp(found, items))
        fprintf(stderr, "items %s, expected %s\n", found, items);
    CHECK(!strcmp(found, items));
    check_coalesced(&batch, &gro);
}

static void in_order_merges(void)
{
    for (int version = 4; version <= 6; version += 2) {
        for (int protocol = TCP; protocol <= UDP; protocol += UDP - TCP) {
            struct packet_spec spec = spec_of(version, protocol);
            start();
            for (int i = 0; i < 4; i++, spec = after(spec))
                add(&spec);
            expect("4");
            CHECK(gro.item[0].total == spec_header(&spec) + 400);
            CHECK(gro.item[0].bytes == 4 * (spec_header(&spec) + 100));
        }
    }
}

static void switches(void)
{
    for (int on = 0; on < 4; on++) {
        batch.count = 0;
        dco_gro_reset(&gro, on & 1, on & 2);
        struct packet_spec tcp = spec_of(4, TCP), udp = spec_of(4, UDP);
        for (int i = 0; i < 2; i++, tcp = after(tcp), udp = after(udp)) {
            add(&tcp);
            add(&udp);
        }
        static const char *const items[] = {"1111", "211", "121", "22"};
        expect(items[on]);
    }
}

/* Each is a second packet that must not join the first. */
static void differences(void)
{
    for (int version = 4; version <= 6; version += 2) {
        struct packet_spec first = spec_of(version, TCP), second = after(first);
        first.df = second.df = false;
#define REFUSED(change)                                                                            \
    do {                                                                                           \
        struct packet_spec changed = second;                                                       \
        start();                                                                                   \
        add(&first);                                                                               \
        change;                                                                                    \
        add(&changed);                                                                             \
        expect("11");                                                                              \
    } while (0)
        REFUSED(changed.sequence++);
        REFUSED(changed.sequence = first.sequence);
        REFUSED(changed.sequence = first.sequence - first.payload);
        REFUSED(changed.ack++);
        REFUSED(changed.window++);
        REFUSED(changed.urgent++);
        REFUSED(changed.options = 16);
        REFUSED(changed.ttl--);
        REFUSED(changed.tos ^= 3);
        REFUSED(changed.flow++);
        REFUSED(changed.payload++);
        REFUSED(changed.payload = 0);
        for (int flag = FIN; flag <= CWR; flag <<= 1)
            if (flag != PSH)
                REFUSED(changed.flags ^= (uint8_t)flag);
        if (version == 4) {
            REFUSED(changed.id++);
            REFUSED(changed.id = first.id);
            REFUSED(changed.df = true);
        } else {
            REFUSED(changed.label++);
        }
#undef REFUSED
        start();
        add(&first);
        add_for(&second, &owner_b);
        expect("11");
    }
}

static void wrap_around(void)
{
    struct packet_spec spec = spec_of(4, TCP);
    spec.sequence = UINT32_MAX - 149;
    spec.id = 0xFFFF;
    spec.df = false;
    start();
    for (int i = 0; i < 3; i++, spec = after(spec))
        add(&spec);
    expect("3");
}

/* One byte of a packet is changed without making its checksum good again: headers, payload, and
 * bytes that the two packets must have in common. */
static void bad_checksum_never_merges(void)
{
    for (int version = 4; version <= 6; version += 2) {
        for (int protocol = TCP; protocol <= UDP; protocol += UDP - TCP) {
            struct packet_spec spec = spec_of(version, protocol), next = after(spec);
            size_t size = spec_header(&spec) + spec.payload;
            for (size_t offset = 0; offset < 2 * size; offset++) {
                start();
                make_packet(batch.packet[0], &spec);
                make_packet(batch.packet[1], &next);
                batch.packet[offset / size][offset % size] ^= 1;
                batch_add(&batch, &gro, size, NULL);
                batch_add(&batch, &gro, size, NULL);
                /* What IPv6 does not sum up is flow label, traffic class and hop limit; those
                 * differ between the two now. */
                CHECK(gro.count == 2);
                check_coalesced(&batch, &gro);
            }
        }
    }
}

static void both_bad_alike(void)
{
    struct packet_spec spec = spec_of(4, TCP), next = after(spec);
    start();
    for (int i = 0; i < 2; i++) {
        size_t size = make_packet(batch.packet[i], i ? &next : &spec);
        batch.packet[i][8] ^= 1; /* TTL: same in both, header checksum wrong in both */
        batch_add(&batch, &gro, size, NULL);
    }
    expect("11");
}

static void short_or_pushed_closes(void)
{
    struct packet_spec spec = spec_of(4, TCP);
    start();
    add(&spec);
    spec = after(spec);
    spec.payload = 99;
    add(&spec);
    spec = after(spec);
    add(&spec);
    spec = after(spec);
    spec.flags = ACK | PSH;
    add(&spec);
    spec = after(spec);
    spec.flags = ACK;
    add(&spec);
    expect("221");
    CHECK(!(batch.original[2][33] & PSH) && gro.item[1].pushed);

    spec = spec_of(6, TCP);
    spec.flags = ACK | PSH;
    start();
    add(&spec);
    spec = after(spec);
    add(&spec);
    expect("11");
}

static void interruption_keeps_order(void)
{
    struct packet_spec spec = spec_of(4, TCP), pure_ack = spec;
    pure_ack.payload = 0;
    start();
    add(&spec);
    add(&pure_ack);
    spec = after(spec);
    add(&spec);
    spec = after(spec);
    add(&spec);
    expect("112");
}

static void flows_interleave(void)
{
    struct packet_spec spec[8];
    start();
    for (unsigned i = 0; i < 8; i++) {
        spec[i] = spec_of(i % 2 ? 6 : 4, i % 4 < 2 ? TCP : UDP);
        spec[i].flow = i / 4;
    }
    for (int round = 0; round < 9; round++)
        for (int i = 0; i < 8; i++, spec[i - 1] = after(spec[i - 1]))
            add(&spec[i]);
    expect("99999999");
}

static void limits(void)
{
    struct packet_spec spec = spec_of(4, UDP);
    spec.payload = 1;
    start();
    for (int i = 0; i < 128; i++, spec = after(spec))
        add(&spec);
    CHECK(gro.count == 2 && gro.item[0].packets == DCO_GRO_SEGMENTS);
    check_coalesced(&batch, &gro);

    spec = spec_of(6, UDP);
    spec.payload = 2000;
    start();
    for (int i = 0; i < 40; i++, spec = after(spec))
        add(&spec);
    CHECK(gro.count == 2 && gro.item[0].packets == 32); /* 48 + 32 * 2000 */
    check_coalesced(&batch, &gro);
}

static void full_table(void)
{
    struct packet_spec spec = spec_of(4, UDP);
    start();
    for (unsigned i = 0; i < DCO_GRO_ITEMS; i++) {
        spec.flow = i;
        add(&spec);
    }
    uint8_t packet[2048], copy[2048];
    spec.flow = 5000;
    size_t size = make_packet(packet, &spec);
    memcpy(copy, packet, size);
    CHECK(!dco_gro_add(&gro, packet, (uint32_t)size, &owner_a));
    CHECK(gro.count == DCO_GRO_ITEMS && !memcmp(packet, copy, size));
    spec.flow = 3;
    spec = after(spec);
    size = make_packet(packet, &spec);
    CHECK(dco_gro_add(&gro, packet, (uint32_t)size, &owner_a)); /* still merges */
    CHECK(gro.item[3].packets == 2);
}

static void trailing_bytes(void)
{
    for (int which = 0; which < 2; which++) {
        struct packet_spec spec = spec_of(4, TCP);
        start();
        for (int i = 0; i < 2; i++, spec = after(spec)) {
            size_t size = make_packet(batch.packet[i], &spec);
            batch_add(&batch, &gro, size + (i == which), NULL);
        }
        expect("11");
    }
}

/* The same, with a transport checksum that holds for the whole. */
static void lengths_that_disagree(void)
{
    for (int version = 4; version <= 6; version += 2) {
        for (int protocol = TCP; protocol <= UDP; protocol += UDP - TCP) {
            struct packet_spec spec = spec_of(version, protocol);
            start();
            for (int i = 0; i < 2; i++, spec = after(spec)) {
                uint8_t *packet = batch.packet[i];
                size_t size = make_packet(packet, &spec);
                if (version == 4) {
                    put16(packet + 2, (unsigned)size - 1);
                    put16(packet + 10, 0);
                    put16(packet + 10, ~plain_sum(0, packet, 20) & 0xFFFF);
                } else {
                    put16(packet + 4, (unsigned)size - 41);
                }
                batch_add(&batch, &gro, size, NULL);
            }
            expect("11");
        }
    }
}

static void udp_length_that_disagrees(void)
{
    struct packet_spec spec = spec_of(4, UDP);
    start();
    for (int i = 0; i < 2; i++, spec = after(spec)) {
        uint8_t *packet = batch.packet[i];
        size_t size = make_packet(packet, &spec);
        put16(packet + 24, (unsigned)size - 21);
        put16(packet + 26, 0);
        unsigned sum = plain_pseudo(packet, UDP, size - 20);
        put16(packet + 26, ~plain_sum(sum, packet + 20, size - 20) & 0xFFFF);
        CHECK(transport_valid(packet, size, 20, UDP));
        batch_add(&batch, &gro, size, NULL);
    }
    expect("11");
}

static void reserved_tcp_bits(void)
{
    struct packet_spec spec = spec_of(4, TCP);
    spec.reserved = 1; /* AccECN */
    start();
    for (int i = 0; i < 2; i++, spec = after(spec))
        add(&spec);
    expect("11");
}

/* Zero says that there is no checksum, even where the sum would happen to be zero. */
static void udp_without_checksum(void)
{
    for (int happens = 0; happens < 2; happens++) {
        struct packet_spec spec = spec_of(4, UDP);
        start();
        for (int i = 0; i < 2; i++, spec = after(spec)) {
            uint8_t *packet = batch.packet[i];
            size_t size = make_packet(packet, &spec);
            if (happens)
                put16(packet + 28, plain_sum(get16(packet + 28), packet + 26, 2));
            put16(packet + 26, 0);
            CHECK(transport_valid(packet, size, 20, UDP) == (bool)happens);
            batch_add(&batch, &gro, size, NULL);
        }
        expect("11");
    }
}

/* A fragment, IP options or an extension header between two neighbours: it may belong to them. */
static void obscure_packets_part_the_flow(void)
{
    for (int kind = 0; kind < 3; kind++) {
        struct packet_spec spec = spec_of(kind == 2 ? 6 : 4, UDP);
        start();
        add(&spec);
        uint8_t *packet = batch.packet[batch.count];
        size_t size = make_packet(packet, &spec);
        if (kind == 0)
            put16(packet + 6, 0x2000);
        else if (kind == 1)
            packet[0] = 0x46;
        else
            packet[6] = 44;
        batch_add(&batch, &gro, size, &owner_a);
        spec = after(spec);
        add(&spec);
        expect("111");
    }
}

int main(void)
{
    RUN(in_order_merges);
    RUN(switches);
    RUN(differences);
    RUN(wrap_around);
    RUN(bad_checksum_never_merges);
    RUN(both_bad_alike);
    RUN(short_or_pushed_closes);
    RUN(interruption_keeps_order);
    RUN(flows_interleave);
    RUN(limits);
    RUN(full_table);
    RUN(trailing_bytes);
    RUN(lengths_that_disagree);
    RUN(udp_length_that_disagrees);
    RUN(reserved_tcp_bits);
    RUN(udp_without_checksum);
    RUN(obscure_packets_part_the_flow);
    return 0;
}
