#include "codec/mss.h"

#include <netinet/in.h>
#include <string.h>

#include "codec/checksum.h"
#include "codec/ip.h"

#define TCP_HEADER 20u
#define TCP_FLAGS 13u
#define TCP_CHECKSUM 16u
#define TCP_SYN 0x02u
#define OPTION_END 0u
#define OPTION_NOP 1u
#define OPTION_MSS 2u
#define OPTION_MSS_SIZE 4u

/* A value at an odd place counts with its bytes exchanged. */
static void replace(uint8_t *tcp, uint32_t at, uint16_t value)
{
    uint16_t before, after;

    memcpy(&before, tcp + at, sizeof before);
    dco_store16(tcp + at, value);
    memcpy(&after, tcp + at, sizeof after);
    if (at % 2) {
        before = __builtin_bswap16(before);
        after = __builtin_bswap16(after);
    }
    dco_checksum_replace(tcp + TCP_CHECKSUM, before, after);
}

/* Every MSS option, should there be several: receivers differ in which one they take. */
static bool lower(uint8_t *tcp, uint32_t header, uint16_t mss)
{
    bool lowered = false;
    uint32_t length;

    for (uint32_t at = TCP_HEADER; at < header && tcp[at] != OPTION_END; at += length) {
        length = 1;
        if (tcp[at] == OPTION_NOP)
            continue;
        if (header - at < 2 || tcp[at + 1] < 2 || tcp[at + 1] > header - at)
            break;
        length = tcp[at + 1];
        if (tcp[at] == OPTION_MSS && length == OPTION_MSS_SIZE && dco_load16(tcp + at + 2) > mss) {
            replace(tcp, at + 2, mss);
            lowered = true;
        }
    }
    return lowered;
}

bool dco_mss_clamp(uint8_t *packet, size_t size, uint32_t packet_max)
{
    struct dco_ip_payload payload;
    uint32_t header, headers, mss;
    uint8_t *tcp;

    if (!dco_ip_payload(packet, size, &payload) || payload.protocol != IPPROTO_TCP
        || payload.fragment || payload.end - payload.offset < TCP_HEADER)
        return false;
    tcp = packet + payload.offset;
    header = (tcp[12] >> 4) * 4u;
    headers = packet[0] >> 4 == 4 ? DCO_MSS_HEADERS_IPV4 : DCO_MSS_HEADERS_IPV6;
    if (!(tcp[TCP_FLAGS] & TCP_SYN) || header < TCP_HEADER || header > payload.end - payload.offset
        || packet_max <= headers)
        return false;
    mss = packet_max - headers;
    return lower(tcp, header, (uint16_t)(mss < UINT16_MAX ? mss : UINT16_MAX));
}
