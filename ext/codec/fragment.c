#include "codec/fragment.h"

#include <string.h>

#include "codec/checksum.h"
#include "codec/ip.h"

#define OPTION_END 0u
#define OPTION_NOP 1u
#define OPTION_COPIED 0x80u /* stands in every fragment */

/* The options that later fragments keep, padded to words; bytes of the header with them. */
static uint8_t keep_options(uint8_t *later, const uint8_t *packet, uint8_t header)
{
    uint32_t used = DCO_IPV4_HEADER, length;

    memset(later, 0, 60); /* OPTION_END is padding, too */
    memcpy(later, packet, DCO_IPV4_HEADER);
    for (uint32_t at = DCO_IPV4_HEADER; at < header && packet[at] != OPTION_END; at += length) {
        length = 1;
        if (packet[at] == OPTION_NOP)
            continue;
        if (header - at < 2u || packet[at + 1] < 2 || packet[at + 1] > header - at)
            break;
        length = packet[at + 1];
        if (packet[at] & OPTION_COPIED) {
            memcpy(later + used, packet + at, length);
            used += length;
        }
    }
    used = (used + 3) & ~3u;
    later[0] = (uint8_t)(0x40 | used / 4);
    return (uint8_t)used;
}

bool dco_fragment_begin(struct dco_fragment *fragment, uint8_t *packet, size_t size, uint32_t mtu)
{
    struct dco_ip_payload payload;
    uint16_t place;

    if (size < DCO_IPV4_HEADER || packet[0] >> 4 != 4 || !dco_ip_payload(packet, size, &payload)
        || dco_load16(packet + 2) != payload.end)
        return false;
    place = dco_load16(packet + 6);
    if (place & DCO_IPV4_DF || mtu < payload.offset + 8)
        return false;
    *fragment = (struct dco_fragment){
        .packet = packet,
        .at = payload.offset,
        .end = payload.end,
        .mtu = mtu,
        .place = place & DCO_IPV4_OFFSET,
        .flags = place & (uint16_t)~DCO_IPV4_OFFSET,
        .header = (uint8_t)payload.offset,
    };
    fragment->later_header = keep_options(fragment->later, packet, fragment->header);
    return true;
}

static void put_header(uint8_t *header, uint32_t bytes, uint32_t size, uint32_t place)
{
    dco_store16(header + 2, size);
    dco_store16(header + 6, place);
    memset(header + 10, 0, 2);
    dco_checksum_store(header + 10, dco_checksum_add(0, header, bytes));
}

bool dco_fragment_next(struct dco_fragment *fragment, uint8_t **piece, uint32_t *size)
{
    uint32_t left = fragment->end - fragment->at;
    uint32_t room = fragment->mtu - fragment->header;
    uint32_t payload = left <= room ? left : room & ~7u;
    uint8_t *header;

    if (!fragment->packet)
        return false;
    header = fragment->packet + fragment->at - fragment->header;
    if (header != fragment->packet)
        memcpy(header, fragment->later, fragment->header);
    put_header(header, fragment->header, fragment->header + payload,
               fragment->flags | (payload < left ? DCO_IPV4_MF : 0) | fragment->place);
    *piece = header;
    *size = fragment->header + payload;

    fragment->at += payload;
    fragment->place += (uint16_t)(payload / 8);
    fragment->header = fragment->later_header;
    if (payload == left)
        fragment->packet = NULL;
    return true;
}
