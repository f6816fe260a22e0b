#include "codec/ip.h"

#include <netinet/in.h>

static bool ipv4_payload(const uint8_t *packet, size_t size, struct dco_ip_payload *payload)
{
    uint32_t header = (packet[0] & 15u) * 4, length = dco_load16(packet + 2);
    uint16_t place = dco_load16(packet + 6);

    if (header < DCO_IPV4_HEADER || header > size || length < header)
        return false;
    *payload = (struct dco_ip_payload){
        .offset = header,
        .end = length < size ? length : (uint32_t)size,
        .protocol = packet[9],
        .fragment = place & DCO_IPV4_FRAGMENT,
        .first = !(place & DCO_IPV4_OFFSET),
    };
    return true;
}

/* RFC 8200, section 4: each extension header tells what the next one is, and all but the fragment
 * header how long they are, in units of eight bytes beyond the first. */
static bool ipv6_payload(const uint8_t *packet, size_t size, struct dco_ip_payload *payload)
{
    uint32_t length = DCO_IPV6_HEADER + dco_load16(packet + 4);

    *payload = (struct dco_ip_payload){
        .offset = DCO_IPV6_HEADER,
        .end = length < size ? length : (uint32_t)size,
        .protocol = packet[6],
        .first = true,
    };
    while (payload->first) {
        const uint8_t *header = packet + payload->offset;
        uint32_t bytes = 8;
        switch (payload->protocol) {
        case IPPROTO_HOPOPTS:
        case IPPROTO_ROUTING:
        case IPPROTO_DSTOPTS:
        case IPPROTO_FRAGMENT: break;
        default: return true;
        }
        if (payload->end - payload->offset < bytes)
            return false;
        if (payload->protocol == IPPROTO_FRAGMENT) {
            payload->fragment = true;
            payload->first = !(dco_load16(header + 2) & ~7u);
        } else {
            bytes += header[1] * 8u;
        }
        if (payload->end - payload->offset < bytes)
            return false;
        payload->protocol = header[0];
        payload->offset += bytes;
    }
    return true;
}

bool dco_ip_payload(const uint8_t *packet, size_t size, struct dco_ip_payload *payload)
{
    if (size >= DCO_IPV4_HEADER && packet[0] >> 4 == 4)
        return ipv4_payload(packet, size, payload);
    return size >= DCO_IPV6_HEADER && packet[0] >> 4 == 6 && ipv6_payload(packet, size, payload);
}
