#include "codec/gro.h"

#include <netinet/in.h>
#include <string.h>

#include "codec/checksum.h"
#include "codec/ip.h"

#define IPV4_PLAIN 0x45u /* version 4, no options */
#define TCP_HEADER 20u
#define TCP_CHECKSUM 16u
#define UDP_HEADER 8u
#define UDP_CHECKSUM 6u

#define TCP_PSH 0x08u
#define TCP_ACK 0x10u

/* What one packet has to do with the flows of the table. */
enum kind {
    FOREIGN, /* neither TCP nor UDP: of no flow */
    OBSCURE, /* may belong to any flow: fragment, IP options, extension headers, cut short */
    PLAIN,   /* of a known flow, but does not merge */
    FIT,     /* of a known flow, and may merge */
};

struct packet {
    uint8_t *data;
    uint32_t size;
    uint32_t hash;
    uint16_t payload;
    uint8_t transport;
    uint8_t header;
    uint8_t protocol;
    bool push;
};

static inline uint64_t load64(const uint8_t *data)
{
    uint64_t value;
    memcpy(&value, data, sizeof value);
    return value;
}

/* Equality only; byte order does not matter. */
static inline bool same(const uint8_t *a, const uint8_t *b, size_t size)
{
    return memcmp(a, b, size) == 0;
}

static uint32_t flow_hash(const struct packet *packet)
{
    const uint64_t odd = UINT64_C(0x9E3779B97F4A7C15);
    const uint8_t *address = packet->data + (packet->transport == DCO_IPV4_HEADER ? 12 : 8);
    uint64_t hash = load64(address);
    if (packet->transport != DCO_IPV4_HEADER) {
        hash = hash * odd ^ load64(address + 8);
        hash = hash * odd ^ load64(address + 16);
        hash = hash * odd ^ load64(address + 24);
    }
    uint32_t ports = dco_load32(packet->data + packet->transport);
    return (uint32_t)((hash * odd ^ ports ^ packet->protocol) * odd >> 32);
}

static enum kind classify_transport(const struct dco_gro *gro, struct packet *packet, bool exact)
{
    const uint8_t *transport = packet->data + packet->transport;
    uint32_t left = packet->size - packet->transport;
    bool tcp = packet->protocol == IPPROTO_TCP;
    if (!(tcp ? gro->tcp : gro->udp))
        return FOREIGN;
    if (left < UDP_HEADER)
        return OBSCURE;
    packet->hash = flow_hash(packet);
    if (!exact)
        return PLAIN;
    uint32_t header = UDP_HEADER;
    packet->push = false;
    if (tcp) {
        if (left < TCP_HEADER || (transport[13] & ~TCP_PSH) != TCP_ACK)
            return PLAIN;
        packet->push = (transport[13] & TCP_PSH) != 0;
        /* Data offset, and the reserved bits beside it: NS or AccECN, never merged. */
        header = (transport[12] >> 4) * 4u;
        if (header < TCP_HEADER || (transport[12] & 15u) != 0)
            return PLAIN;
    } else if (dco_load16(transport + 4) != left || dco_load16(transport + UDP_CHECKSUM) == 0) {
        return PLAIN;
    }
    if (left <= header)
        return PLAIN;
    packet->header = (uint8_t)(packet->transport + header);
    packet->payload = (uint16_t)(left - header);
    return FIT;
}

static bool is_ipv6_extension(uint8_t next)
{
    return next == IPPROTO_HOPOPTS || next == IPPROTO_ROUTING || next == IPPROTO_FRAGMENT
           || next == IPPROTO_DSTOPTS || next == IPPROTO_AH || next == IPPROTO_MH || next > 136;
}

/* `exact`: bytes behind the length that the IP header tells would end up in the middle of a
 * super-packet. */
static enum kind classify(const struct dco_gro *gro, struct packet *packet)
{
    const uint8_t *data = packet->data;
    uint32_t size = packet->size;
    if (size >= DCO_IPV4_HEADER && data[0] >> 4 == 4) {
        packet->protocol = data[9];
        packet->transport = DCO_IPV4_HEADER;
        if (packet->protocol != IPPROTO_TCP && packet->protocol != IPPROTO_UDP)
            return FOREIGN;
        /* The reserved bit beside DF says nothing about the flow, but is not ours to keep. */
        uint16_t fragment = dco_load16(data + 6);
        if (data[0] != IPV4_PLAIN || (fragment & DCO_IPV4_FRAGMENT) != 0)
            return OBSCURE;
        return classify_transport(gro, packet,
                                  dco_load16(data + 2) == size && (fragment & ~DCO_IPV4_DF) == 0);
    }
    if (size >= DCO_IPV6_HEADER && data[0] >> 4 == 6) {
        packet->protocol = data[6];
        packet->transport = DCO_IPV6_HEADER;
        if (packet->protocol != IPPROTO_TCP && packet->protocol != IPPROTO_UDP)
            return is_ipv6_extension(packet->protocol) ? OBSCURE : FOREIGN;
        return classify_transport(gro, packet, dco_load16(data + 4) + DCO_IPV6_HEADER == size);
    }
    return FOREIGN;
}

static inline bool verify_ipv4_header(const uint8_t *data)
{
    uint32_t word[DCO_IPV4_HEADER / 4];
    memcpy(word, data, sizeof word);
    uint64_t sum = (uint64_t)word[0] + word[1] + word[2] + word[3] + word[4];
    return dco_checksum_fold(sum) == 0xFFFF;
}

/* IPv4 header and transport checksum. The addresses stand right before the transport header, so
 * that one sum takes both. */
static bool verify(const uint8_t *data, uint32_t size, uint32_t transport, uint8_t protocol)
{
    uint32_t addresses = transport == DCO_IPV4_HEADER ? 12 : 8;
    if (transport == DCO_IPV4_HEADER && !verify_ipv4_header(data))
        return false;
    uint64_t sum = (uint64_t)htobe32(size - transport) + htobe16(protocol);
    return dco_checksum_fold(dco_checksum_add(sum, data + addresses, size - addresses)) == 0xFFFF;
}

static inline const uint8_t *newest_packet(const struct dco_gro_item *item)
{
    return item->part[item->packets - 1];
}

static bool same_flow(const struct dco_gro_item *item, const struct packet *packet, void *owner)
{
    if (item->hash != packet->hash || item->owner != owner || item->transport != packet->transport
        || item->protocol != packet->protocol)
        return false;
    const uint8_t *a = newest_packet(item), *b = packet->data;
    if (!same(a + packet->transport, b + packet->transport, 4))
        return false;
    return packet->transport == DCO_IPV4_HEADER ? same(a + 12, b + 12, 8) : same(a + 8, b + 8, 32);
}

/* The IP headers of neighbours: same TOS, TTL and DF, and without DF ascending ids (with it ids
 * mean nothing: RFC 6864); same traffic class, flow label and hop limit. */
static bool network_continues(const uint8_t *a, const uint8_t *b, uint32_t transport)
{
    if (transport == DCO_IPV6_HEADER)
        return same(a, b, 4) && a[7] == b[7];
    if (a[1] != b[1] || !same(a + 6, b + 6, 3))
        return false;
    return (a[6] & DCO_IPV4_DF >> 8) != 0 || (uint16_t)(dco_load16(a + 4) + 1) == dco_load16(b + 4);
}

static bool tcp_continues(const struct dco_gro_item *item, const uint8_t *a, const uint8_t *b,
                          uint32_t header)
{
    return dco_load32(b + 4) == item->next_sequence && same(a + 8, b + 8, 4) && a[12] == b[12]
           && same(a + 14, b + 14, 2) && same(a + 18, b + 18, 2)
           && same(a + TCP_HEADER, b + TCP_HEADER, header - TCP_HEADER);
}

/* Whether `packet`, of the same flow, is the very next one. A sender may have sent a bad checksum
 * on purpose: it must not be made good, so both packets are verified, the first one only now. */
static bool continues(struct dco_gro_item *item, const struct packet *packet)
{
    const uint8_t *a = newest_packet(item), *b = packet->data;
    if (packet->payload > item->segment || packet->header != item->header
        || item->total + packet->payload > DCO_IP_PACKET_MAX
        || !network_continues(a, b, item->transport))
        return false;
    uint32_t transport = item->transport;
    if (item->protocol == IPPROTO_TCP
        && !tcp_continues(item, a + transport, b + transport, item->header - transport))
        return false;
    if (!item->verified && !verify(a, item->total, transport, item->protocol))
        return false;
    item->verified = true;
    return verify(b, packet->size, transport, item->protocol);
}

static void append(struct dco_gro_item *item, const struct packet *packet)
{
    item->part[item->packets] = packet->data;
    item->part_size[item->packets] = (uint16_t)packet->size;
    item->packets++;
    item->bytes += packet->size;
    item->total += packet->payload;
    item->next_sequence += packet->payload;
    item->pushed = packet->push;
    item->open =
        packet->payload == item->segment && !packet->push && item->packets < DCO_GRO_SEGMENTS;
}

/* An item of one packet; NULL: the table is full. */
static struct dco_gro_item *item_new(struct dco_gro *gro, const struct packet *packet, void *owner)
{
    if (gro->count == DCO_GRO_ITEMS)
        return NULL;
    struct dco_gro_item *item = &gro->item[gro->count++];
    item->owner = owner;
    item->packets = 1;
    item->total = item->bytes = packet->size;
    item->protocol = 0;
    item->open = item->verified = item->pushed = item->patched = false;
    memset(item->vnet_pad, 0, sizeof item->vnet_pad);
    item->part[0] = packet->data;
    item->part_size[0] = (uint16_t)packet->size;
    return item;
}

static void item_join_flow(struct dco_gro_item *item, const struct packet *packet)
{
    item->hash = packet->hash;
    item->segment = packet->payload;
    item->header = packet->header;
    item->transport = packet->transport;
    item->protocol = packet->protocol;
    item->pushed = packet->push;
    item->open = !packet->push;
    if (packet->protocol == IPPROTO_TCP)
        item->next_sequence = dco_load32(packet->data + packet->transport + 4) + packet->payload;
}

void dco_gro_reset(struct dco_gro *gro, bool tcp, bool udp)
{
    gro->count = 0;
    gro->tcp = tcp;
    gro->udp = udp;
    gro->barrier = 0;
    memset(gro->bucket, 0xFF, sizeof gro->bucket);
}

/* Items of a bucket are linked from new to old, so the first of the flow is its newest. */
static int16_t *find(struct dco_gro *gro, const struct packet *packet, void *owner)
{
    int16_t *link = &gro->bucket[packet->hash % DCO_GRO_BUCKETS];
    while (*link >= gro->barrier && !same_flow(&gro->item[*link], packet, owner))
        link = &gro->item[*link].older;
    return *link >= gro->barrier ? link : NULL;
}

bool dco_gro_add(struct dco_gro *gro, uint8_t *data, uint32_t size, void *owner)
{
    struct packet packet = {.data = data, .size = size};
    enum kind kind = classify(gro, &packet);
    int16_t *link = kind >= PLAIN ? find(gro, &packet, owner) : NULL;
    if (link) {
        struct dco_gro_item *item = &gro->item[*link];
        if (item->open && kind == FIT && continues(item, &packet)) {
            append(item, &packet);
            return true;
        }
        /* Whatever follows in this flow comes after this packet. */
        item->open = false;
    }
    struct dco_gro_item *item = item_new(gro, &packet, owner);
    if (!item)
        return false;
    if (kind == OBSCURE)
        gro->barrier = (int16_t)gro->count;
    if (kind == FIT) {
        item_join_flow(item, &packet);
        if (link)
            *link = gro->item[*link].older;
        int16_t *bucket = &gro->bucket[packet.hash % DCO_GRO_BUCKETS];
        item->older = *bucket;
        *bucket = (int16_t)(item - gro->item);
    }
    return true;
}

/* Length fields, and the pseudo-header sum that the kernel wants in the checksum field of a
 * packet that it still has to complete. saved: IP length, IP checksum, transport checksum, then
 * TCP flags or UDP length. */
static void patch(struct dco_gro_item *item)
{
    uint8_t *data = item->part[0], *transport = data + item->transport, *saved = item->saved;
    bool tcp = item->protocol == IPPROTO_TCP, ipv4 = item->transport == DCO_IPV4_HEADER;
    uint8_t *checksum = transport + (tcp ? TCP_CHECKSUM : UDP_CHECKSUM);
    uint32_t length = item->total - item->transport;
    memcpy(saved, data + (ipv4 ? 2 : 4), 2);
    memcpy(saved + 2, data + 10, 2);
    memcpy(saved + 4, checksum, 2);
    memcpy(saved + 6, transport + (tcp ? 13 : 4), tcp ? 1 : 2);
    uint16_t sum;
    if (ipv4) {
        dco_store16(data + 2, item->total);
        memset(data + 10, 0, 2);
        dco_checksum_store(data + 10, dco_checksum_add(0, data, DCO_IPV4_HEADER));
        sum =
            dco_checksum_fold(dco_checksum_pseudo(data + 12, data + 16, 4, item->protocol, length));
    } else {
        dco_store16(data + 4, length);
        sum =
            dco_checksum_fold(dco_checksum_pseudo(data + 8, data + 24, 16, item->protocol, length));
    }
    memcpy(checksum, &sum, sizeof sum);
    if (!tcp)
        dco_store16(transport + 4, length);
    else if (item->pushed)
        transport[13] |= TCP_PSH;
    item->patched = true;
}

static void describe(struct dco_gro_item *item)
{
    bool tcp = item->protocol == IPPROTO_TCP;
    uint8_t tcp_type = item->transport == DCO_IPV4_HEADER ? DCO_VNET_GSO_TCPV4 : DCO_VNET_GSO_TCPV6;
    item->vnet = (struct dco_vnet){
        .flags = DCO_VNET_NEEDS_CSUM,
        .gso_type = tcp ? tcp_type : DCO_VNET_GSO_UDP_L4,
        .hdr_len = item->header,
        .gso_size = item->segment,
        .csum_start = item->transport,
        .csum_offset = tcp ? TCP_CHECKSUM : UDP_CHECKSUM,
    };
}

int dco_gro_finish(struct dco_gro_item *item, bool with_vnet, struct iovec *iov)
{
    struct iovec *next = iov;
    if (item->packets == 1) {
        memset(&item->vnet, 0, sizeof item->vnet);
    } else if (!item->patched) {
        patch(item);
        describe(item);
    }
    if (with_vnet)
        *next++ = (struct iovec){&item->vnet, DCO_VNET_HEADER};
    *next++ = (struct iovec){item->part[0], item->part_size[0]};
    for (uint32_t i = 1; i < item->packets; i++) {
        size_t payload = (size_t)item->part_size[i] - item->header;
        *next++ = (struct iovec){item->part[i] + item->header, payload};
    }
    return (int)(next - iov);
}

void dco_gro_undo(struct dco_gro_item *item)
{
    memset(&item->vnet, 0, sizeof item->vnet);
    if (!item->patched)
        return;
    uint8_t *data = item->part[0], *transport = data + item->transport;
    const uint8_t *saved = item->saved;
    bool tcp = item->protocol == IPPROTO_TCP, ipv4 = item->transport == DCO_IPV4_HEADER;
    memcpy(data + (ipv4 ? 2 : 4), saved, 2);
    if (ipv4)
        memcpy(data + 10, saved + 2, 2);
    memcpy(transport + (tcp ? TCP_CHECKSUM : UDP_CHECKSUM), saved + 4, 2);
    memcpy(transport + (tcp ? 13 : 4), saved + 6, tcp ? 1 : 2);
    item->patched = false;
}
