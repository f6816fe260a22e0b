#include "codec/icmp.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <string.h>

#include "codec/checksum.h"
#include "codec/ip.h"

#define ICMP_HEADER 8u
#define ICMPV4_ERROR_MAX 576u /* RFC 1812, section 4.3.2.3 */
#define ICMPV6_ERROR_MAX DCO_ICMP_MAX
#define TTL 64u
#define TOS_INTERNETWORK_CONTROL 0xC0u /* RFC 1812, section 4.3.2.5 */
/* A link of IPv4 has 68 bytes at least (RFC 791), one of IPv6 1280 (RFC 8200). */
#define MTU_MIN_IPV4 68u
#define MTU_MIN_IPV6 1280u

static const uint8_t type_ipv4[] = {3, 3, 3, 3}, code_ipv4[] = {4, 0, 1, 13};
static const uint8_t type_ipv6[] = {2, 1, 1, 1}, code_ipv6[] = {0, 0, 3, 1};

/* Queries and their replies; everything else may be an error (RFC 1122, section 3.2.2). */
static bool is_icmpv4_query(uint8_t type)
{
    return type == 0 || type == 8 || (type >= 13 && type <= 18);
}

/* Errors are those below 128; a redirect counts as one (RFC 4443, section 2.4 (e)). */
static bool is_icmpv6_query(uint8_t type)
{
    return type >= 128 && type != 137;
}

/* 0/8, 127/8 and what is above 224/4: no host. */
static bool is_ipv4_host(const uint8_t *ip)
{
    return ip[0] != 0 && ip[0] != 127 && ip[0] < 224;
}

/* ::/96 has the unspecified and the loopback address; ff00::/8 are groups. */
static bool is_ipv6_host(const uint8_t *ip)
{
    static const uint8_t none[12];

    return ip[0] != 0xFF && memcmp(ip, none, sizeof none);
}

static bool may_answer(const uint8_t *packet, size_t size)
{
    bool ipv4 = size && packet[0] >> 4 == 4;
    struct dco_ip_payload payload;

    if (!dco_ip_payload(packet, size, &payload) || !payload.first)
        return false;
    if (ipv4 ? !is_ipv4_host(packet + 12) || !is_ipv4_host(packet + 16)
             : !is_ipv6_host(packet + 8) || !is_ipv6_host(packet + 24))
        return false;
    if (payload.protocol != (ipv4 ? IPPROTO_ICMP : IPPROTO_ICMPV6))
        return true;
    if (payload.offset == payload.end)
        return false;
    return (ipv4 ? is_icmpv4_query : is_icmpv6_query)(packet[payload.offset]);
}

static uint32_t error_ipv4(uint8_t *out, enum dco_icmp error, uint32_t mtu, const uint8_t *packet,
                           uint32_t quoted)
{
    uint32_t size = DCO_IPV4_HEADER + ICMP_HEADER + quoted;
    uint8_t *icmp = out + DCO_IPV4_HEADER;

    memset(out, 0, DCO_IPV4_HEADER + ICMP_HEADER);
    out[0] = 0x45;
    out[1] = TOS_INTERNETWORK_CONTROL;
    dco_store16(out + 2, size);
    dco_store16(out + 6, DCO_IPV4_DF);
    out[8] = TTL;
    out[9] = IPPROTO_ICMP;
    memcpy(out + 12, packet + 16, 4);
    memcpy(out + 16, packet + 12, 4);
    dco_checksum_store(out + 10, dco_checksum_add(0, out, DCO_IPV4_HEADER));

    icmp[0] = type_ipv4[error];
    icmp[1] = code_ipv4[error];
    if (error == DCO_ICMP_TOO_BIG)
        dco_store16(icmp + 6, mtu < MTU_MIN_IPV4 ? MTU_MIN_IPV4 : mtu < 65535 ? mtu : 65535);
    memcpy(icmp + ICMP_HEADER, packet, quoted);
    dco_checksum_store(icmp + 2, dco_checksum_add(0, icmp, ICMP_HEADER + quoted));
    return size;
}

static uint32_t error_ipv6(uint8_t *out, enum dco_icmp error, uint32_t mtu, const uint8_t *packet,
                           uint32_t quoted)
{
    uint8_t *icmp = out + DCO_IPV6_HEADER;
    uint64_t pseudo;

    memset(out, 0, DCO_IPV6_HEADER + ICMP_HEADER);
    out[0] = 0x60;
    dco_store16(out + 4, ICMP_HEADER + quoted);
    out[6] = IPPROTO_ICMPV6;
    out[7] = TTL;
    memcpy(out + 8, packet + 24, 16);
    memcpy(out + 24, packet + 8, 16);

    icmp[0] = type_ipv6[error];
    icmp[1] = code_ipv6[error];
    if (error == DCO_ICMP_TOO_BIG)
        dco_store32(icmp + 4, mtu < MTU_MIN_IPV6 ? MTU_MIN_IPV6 : mtu);
    memcpy(icmp + ICMP_HEADER, packet, quoted);
    pseudo = dco_checksum_pseudo(out + 8, out + 24, 16, IPPROTO_ICMPV6, ICMP_HEADER + quoted);
    dco_checksum_store(icmp + 2, dco_checksum_add(pseudo, icmp, ICMP_HEADER + quoted));
    return DCO_IPV6_HEADER + ICMP_HEADER + quoted;
}

uint32_t dco_icmp_error(uint8_t *out, enum dco_icmp error, uint32_t mtu, const uint8_t *packet,
                        size_t size)
{
    uint32_t room;

    if (!may_answer(packet, size))
        return 0;
    if (packet[0] >> 4 == 4) {
        room = ICMPV4_ERROR_MAX - DCO_IPV4_HEADER - ICMP_HEADER;
        return error_ipv4(out, error, mtu, packet, size < room ? (uint32_t)size : room);
    }
    room = ICMPV6_ERROR_MAX - DCO_IPV6_HEADER - ICMP_HEADER;
    return error_ipv6(out, error, mtu, packet, size < room ? (uint32_t)size : room);
}
