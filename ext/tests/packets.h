/* Packets for tests: a builder, and a plain second opinion on checksums, written from the RFCs and
 * sharing nothing with the codec. */
#ifndef DCO_TESTS_PACKETS_H
#define DCO_TESTS_PACKETS_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "codec/gso.h"

enum { TCP = 6, UDP = 17 };
enum { FIN = 1, SYN = 2, RST = 4, PSH = 8, ACK = 16, URG = 32, ECE = 64, CWR = 128 };

static inline unsigned get16(const uint8_t *data)
{
    return (unsigned)data[0] << 8 | data[1];
}

static inline uint32_t get32(const uint8_t *data)
{
    return (uint32_t)get16(data) << 16 | get16(data + 2);
}

static inline void put16(uint8_t *data, unsigned value)
{
    data[0] = (uint8_t)(value >> 8);
    data[1] = (uint8_t)value;
}

static inline void put32(uint8_t *data, uint32_t value)
{
    put16(data, value >> 16);
    put16(data + 2, value & 0xFFFF);
}

/* RFC 1071 as it is written: big-endian words, end-around carry at every step. */
static inline unsigned plain_sum(unsigned sum, const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        sum += i % 2 ? data[i] : (unsigned)data[i] << 8;
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    return sum;
}

static inline unsigned plain_pseudo(const uint8_t *packet, unsigned protocol, size_t length)
{
    uint8_t tail[8] = {0};
    bool ipv4 = packet[0] >> 4 == 4;
    unsigned sum = plain_sum(0, packet + (ipv4 ? 12 : 8), ipv4 ? 8 : 32);
    put32(tail, (uint32_t)length);
    tail[7] = (uint8_t)protocol;
    return plain_sum(sum, tail, sizeof tail);
}

static inline bool ipv4_header_valid(const uint8_t *packet)
{
    return plain_sum(0, packet, (packet[0] & 15u) * 4) == 0xFFFF;
}

static inline bool transport_valid(const uint8_t *packet, size_t size, size_t transport,
                                   unsigned protocol)
{
    unsigned pseudo = plain_pseudo(packet, protocol, size - transport);
    return plain_sum(pseudo, packet + transport, size - transport) == 0xFFFF;
}

struct packet_spec {
    int version;       /* 4 or 6 */
    int protocol;      /* TCP or UDP */
    unsigned flow;     /* makes the ports */
    unsigned payload;  /* bytes */
    unsigned options;  /* TCP: bytes, a multiple of 4 */
    uint32_t sequence; /* TCP */
    uint32_t ack;
    uint8_t flags;
    uint8_t tos, ttl;
    uint16_t window, urgent, id;
    uint8_t reserved; /* TCP: four bits beside the data offset */
    bool df;
    uint32_t label; /* IPv6: 20 bits */
    uint8_t fill;   /* what the payload is made of */
};

static inline struct packet_spec spec_of(int version, int protocol)
{
    return (struct packet_spec){
        .version = version,
        .protocol = protocol,
        .flow = 1,
        .payload = 100,
        .options = protocol == TCP ? 12 : 0,
        .sequence = 1000,
        .ack = 77,
        .flags = ACK,
        .ttl = 64,
        .window = 501,
        .id = 9,
        .df = true,
        .label = 0x12345,
    };
}

static inline size_t spec_transport(const struct packet_spec *spec)
{
    return spec->version == 4 ? 20 : 40;
}

static inline size_t spec_header(const struct packet_spec *spec)
{
    return spec_transport(spec) + (spec->protocol == TCP ? 20 + spec->options : 8);
}

/* Completes lengths and checksums of what is otherwise in place. */
static inline void seal_packet(uint8_t *packet, size_t size, size_t transport, int protocol)
{
    uint8_t *field = packet + transport + (protocol == TCP ? 16 : 6);
    if (packet[0] >> 4 == 4) {
        put16(packet + 2, (unsigned)size);
        put16(packet + 10, 0);
        put16(packet + 10, ~plain_sum(0, packet, transport) & 0xFFFF);
    } else {
        put16(packet + 4, (unsigned)size - 40);
    }
    if (protocol == UDP)
        put16(packet + transport + 4, (unsigned)(size - transport));
    put16(field, 0);
    unsigned pseudo = plain_pseudo(packet, (unsigned)protocol, size - transport);
    unsigned sum = ~plain_sum(pseudo, packet + transport, size - transport) & 0xFFFF;
    put16(field, sum ? sum : 0xFFFF);
}

/* Builds a packet with good checksums; returns its size. */
static inline size_t make_packet(uint8_t *packet, const struct packet_spec *spec)
{
    size_t transport = spec_transport(spec), header = spec_header(spec);
    size_t size = header + spec->payload;
    uint8_t *t = packet + transport;
    memset(packet, 0, header);
    if (spec->version == 4) {
        packet[0] = 0x45;
        packet[1] = spec->tos;
        put16(packet + 4, spec->id);
        put16(packet + 6, spec->df ? 0x4000 : 0);
        packet[8] = spec->ttl;
        packet[9] = (uint8_t)spec->protocol;
        put32(packet + 12, 0x0A080001);
        put32(packet + 16, 0x0A080002);
    } else {
        put32(packet, UINT32_C(6) << 28 | (uint32_t)spec->tos << 20 | spec->label);
        packet[6] = (uint8_t)spec->protocol;
        packet[7] = spec->ttl;
        for (uint8_t i = 0; i < 32; i++)
            packet[8 + i] = (uint8_t)(0xFD ^ i * 11);
    }
    put16(t, 40000 + spec->flow);
    put16(t + 2, 443);
    if (spec->protocol == TCP) {
        put32(t + 4, spec->sequence);
        put32(t + 8, spec->ack);
        t[12] = (uint8_t)((20 + spec->options) / 4 << 4 | spec->reserved);
        t[13] = spec->flags;
        put16(t + 14, spec->window);
        put16(t + 18, spec->urgent);
        memset(t + 20, 1, spec->options);
    }
    for (unsigned i = 0; i < spec->payload; i++)
        packet[header + i] = (uint8_t)(i * 13 + (i >> 8) + spec->sequence + spec->id + spec->fill);
    seal_packet(packet, size, transport, spec->protocol);
    return size;
}

/* The offload header of a packet that is to be split into segments of so many bytes of payload. */
static inline struct dco_vnet vnet_of(const struct packet_spec *spec, unsigned segment)
{
    uint8_t tcp_type = spec->version == 4 ? DCO_VNET_GSO_TCPV4 : DCO_VNET_GSO_TCPV6;
    return (struct dco_vnet){
        .flags = DCO_VNET_NEEDS_CSUM,
        .gso_type = spec->protocol == TCP ? tcp_type : DCO_VNET_GSO_UDP_L4,
        .gso_size = (uint16_t)segment,
        .csum_start = (uint16_t)spec_transport(spec),
        .csum_offset = spec->protocol == TCP ? 16 : 6,
    };
}

#endif
