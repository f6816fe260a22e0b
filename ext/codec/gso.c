#include "codec/gso.h"

#include <endian.h>
#include <netinet/in.h>
#include <string.h>

#include "codec/checksum.h"
#include "codec/ip.h"

#define TCP_HEADER 20u
#define TCP_CHECKSUM 16u
#define UDP_HEADER 8u
#define UDP_CHECKSUM 6u

#define TCP_FIN 0x01u
#define TCP_PSH 0x08u
#define TCP_CWR 0x80u

/* A transport checksum of zero means "none" in UDP; all ones is the same number. TCP does not
 * care, and the kernel does so for both. */
static inline void store_transport_sum(uint8_t *field, uint64_t sum)
{
    uint16_t complement = (uint16_t)~dco_checksum_fold(sum);
    complement = complement ? complement : 0xFFFF;
    memcpy(field, &complement, sizeof complement);
}

/* Bytes of the fixed IP header with IPv4 options, or 0: no well-formed packet. */
static uint32_t network_header(const uint8_t *packet, size_t size)
{
    if (size >= DCO_IPV4_HEADER && packet[0] >> 4 == 4) {
        uint32_t header = (packet[0] & 15u) * 4;
        return header >= DCO_IPV4_HEADER && header <= size ? header : 0;
    }
    return size >= DCO_IPV6_HEADER && packet[0] >> 4 == 6 ? DCO_IPV6_HEADER : 0;
}

/* Whether the IPv6 extension headers lead from the fixed header exactly to `transport`, where
 * `protocol` begins. Only those that may stand in every segment alike. */
static bool ipv6_leads_to(const uint8_t *packet, uint32_t transport, uint8_t protocol)
{
    uint8_t next = packet[6];
    uint32_t offset = DCO_IPV6_HEADER;
    while (offset < transport) {
        if (next != IPPROTO_HOPOPTS && next != IPPROTO_ROUTING && next != IPPROTO_DSTOPTS)
            return false;
        next = packet[offset];
        offset += (packet[offset + 1] + 1u) * 8;
    }
    return offset == transport && next == protocol;
}

/* The lengths inside the packet must be those of the packet: what lies behind would otherwise
 * become payload. */
static bool network_fits(const uint8_t *packet, size_t size, uint32_t network, uint32_t transport,
                         uint8_t protocol)
{
    if (packet[0] >> 4 == 4)
        return transport == network && packet[9] == protocol && dco_load16(packet + 2) == size
               && (dco_load16(packet + 6) & DCO_IPV4_FRAGMENT) == 0;
    return dco_load16(packet + 4) + DCO_IPV6_HEADER == size
           && ipv6_leads_to(packet, transport, protocol);
}

/* Pseudo-header sum without the length. Extension headers may change the addresses that count
 * (RFC 8200, section 8.1), but the kernel has left its own sum, length included, in the field. */
static uint64_t pseudo_sum(const uint8_t *packet, uint32_t transport, uint32_t checksum,
                           uint32_t length, uint8_t protocol)
{
    if (packet[0] >> 4 == 4)
        return dco_checksum_pseudo(packet + 12, packet + 16, 4, protocol, 0);
    if (transport == DCO_IPV6_HEADER)
        return dco_checksum_pseudo(packet + 8, packet + 24, 16, protocol, 0);
    uint16_t partial;
    memcpy(&partial, packet + transport + checksum, sizeof partial);
    return (uint64_t)partial + (uint16_t)~dco_checksum_fold(htobe32(length));
}

/* Completes the checksum of a packet that needs no split, as the network card would have done. */
static enum dco_drop complete(const struct dco_vnet *vnet, uint8_t *packet, size_t size,
                              uint32_t network)
{
    uint32_t field = (uint32_t)vnet->csum_start + vnet->csum_offset;
    if (vnet->csum_start < network || field + 2 > size)
        return DCO_DROP_TX_GSO;
    uint64_t sum = dco_checksum_add(0, packet + vnet->csum_start, size - vnet->csum_start);
    store_transport_sum(packet + field, sum);
    return DCO_DROP_NONE;
}

/* hdr_len of the offload header is only a hint (it may be 0, or cover the whole first page), so
 * the headers are measured in the packet itself. */
static bool measure(struct dco_gso *gso, const struct dco_vnet *vnet, uint32_t network)
{
    const uint8_t *packet = gso->packet;
    uint8_t type = vnet->gso_type & (uint8_t)~DCO_VNET_GSO_ECN;
    bool udp = type == DCO_VNET_GSO_UDP_L4;
    if (!udp && type != (gso->ip_version == 4 ? DCO_VNET_GSO_TCPV4 : DCO_VNET_GSO_TCPV6))
        return false;
    gso->protocol = udp ? IPPROTO_UDP : IPPROTO_TCP;
    uint32_t transport = vnet->csum_start;
    if (!(vnet->flags & DCO_VNET_NEEDS_CSUM) || vnet->gso_size == 0 || transport < network
        || vnet->csum_offset != (udp ? UDP_CHECKSUM : TCP_CHECKSUM)
        || transport + (udp ? UDP_HEADER : TCP_HEADER) > gso->size
        || !network_fits(packet, gso->size, network, transport, gso->protocol))
        return false;
    uint32_t header = transport + (udp ? UDP_HEADER : (packet[transport + 12] >> 4) * 4u);
    if (header < transport + (udp ? UDP_HEADER : TCP_HEADER) || header > DCO_GSO_HEADER_MAX
        || header > gso->size)
        return false;
    gso->transport = (uint16_t)transport;
    gso->header = (uint16_t)header;
    gso->segment = vnet->gso_size;
    gso->payload = gso->size - header;
    return true;
}

/* Zeroes in the template whatever differs between segments and sums up the rest once. */
static void prepare(struct dco_gso *gso)
{
    uint8_t *template = gso->template, *transport = template + gso->transport;
    memcpy(template, gso->packet, gso->header);
    if (gso->ip_version == 4) {
        gso->id = dco_load16(template + 4);
        memset(template + 2, 0, 4);
        memset(template + 10, 0, 2);
        gso->network_sum = dco_checksum_fold(dco_checksum_add(0, template, gso->transport));
    }
    bool tcp = gso->protocol == IPPROTO_TCP;
    uint32_t checksum = tcp ? TCP_CHECKSUM : UDP_CHECKSUM;
    uint64_t sum =
        pseudo_sum(template, gso->transport, checksum, gso->size - gso->transport, gso->protocol);
    memset(transport + checksum, 0, 2);
    if (tcp) {
        gso->sequence = dco_load32(transport + 4);
        gso->flags = transport[13];
        memset(transport + 4, 0, 4);
        transport[13] = 0;
    } else {
        memset(transport + 4, 0, 2);
    }
    gso->transport_sum = dco_checksum_add(sum, transport, gso->header - gso->transport);
}

enum dco_drop dco_gso_begin(struct dco_gso *gso, const struct dco_vnet *vnet, uint8_t *packet,
                            size_t size)
{
    uint32_t network = network_header(packet, size);
    if (network == 0 || size > UINT32_MAX)
        return DCO_DROP_TX_MALFORMED;
    gso->packet = packet;
    gso->size = (uint32_t)size;
    gso->offset = 0;
    gso->protocol = 0;
    gso->done = false;
    gso->ip_version = packet[0] >> 4;
    if (!vnet || (vnet->gso_type == DCO_VNET_GSO_NONE && !(vnet->flags & DCO_VNET_NEEDS_CSUM)))
        return DCO_DROP_NONE;
    if (vnet->gso_type == DCO_VNET_GSO_NONE)
        return complete(vnet, packet, size, network);
    if (!measure(gso, vnet, network))
        return DCO_DROP_TX_GSO;
    prepare(gso);
    return DCO_DROP_NONE;
}

uint32_t dco_gso_count(const struct dco_gso *gso)
{
    if (gso->protocol == 0 || gso->payload <= gso->segment)
        return 1;
    return (gso->payload + gso->segment - 1) / gso->segment;
}

void dco_gso_limit(struct dco_gso *gso, uint32_t count)
{
    if (count >= dco_gso_count(gso))
        return;
    gso->payload = count * gso->segment;
    gso->flags &= (uint8_t)~TCP_FIN; /* it stands behind the last byte of all */
}

/* Both return what the fields that differ add to the checksum. */
static inline uint64_t put_tcp(struct dco_gso *gso, uint8_t *header, uint32_t payload, bool last)
{
    uint8_t flags = gso->flags;
    if (!last)
        flags &= (uint8_t) ~(TCP_FIN | TCP_PSH);
    if (gso->offset != 0)
        flags &= (uint8_t)~TCP_CWR;
    dco_store32(header + 4, gso->sequence);
    header[13] = flags;
    uint64_t sum = (uint64_t)htobe32(gso->sequence) + htobe16(flags);
    gso->sequence += payload;
    return sum;
}

static inline uint64_t put_udp(uint8_t *header, uint32_t payload)
{
    uint16_t length = htobe16((uint16_t)(UDP_HEADER + payload));
    memcpy(header + 4, &length, sizeof length);
    return length;
}

static inline void put_network(struct dco_gso *gso, uint8_t *header, uint32_t size)
{
    if (gso->ip_version == 4) {
        dco_store16(header + 2, size);
        dco_store16(header + 4, gso->id);
        uint64_t sum = (uint64_t)gso->network_sum + htobe16((uint16_t)size) + htobe16(gso->id);
        dco_checksum_store(header + 10, sum);
        gso->id++;
    } else {
        dco_store16(header + 4, size - DCO_IPV6_HEADER);
    }
}

bool dco_gso_next(struct dco_gso *gso, uint8_t **segment, uint32_t *size)
{
    if (gso->done)
        return false;
    if (gso->protocol == 0) {
        *segment = gso->packet;
        *size = gso->size;
        gso->done = true;
        return true;
    }
    uint32_t left = gso->payload - gso->offset;
    bool last = left <= gso->segment;
    uint32_t payload = last ? left : gso->segment;
    uint8_t *header = gso->packet + gso->offset, *transport = header + gso->transport;
    memcpy(header, gso->template, gso->header);
    *segment = header;
    *size = gso->header + payload;

    put_network(gso, header, *size);
    bool tcp = gso->protocol == IPPROTO_TCP;
    uint64_t sum = gso->transport_sum + htobe32(*size - gso->transport);
    sum += tcp ? put_tcp(gso, transport, payload, last) : put_udp(transport, payload);
    sum = dco_checksum_add(sum, header + gso->header, payload);
    store_transport_sum(transport + (tcp ? TCP_CHECKSUM : UDP_CHECKSUM), sum);

    gso->offset += payload;
    gso->done = last;
    return true;
}
