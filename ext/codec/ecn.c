#include "codec/ecn.h"

#include <string.h>

#include "codec/checksum.h"

/* The two bits of the inner header afterwards (RFC 6040, figure 4). */
enum { DROP = -1 };
static const int8_t result[4][4] = {
    /* inner: ECN of the outer header: Not-ECT, ECT(1), ECT(0), CE */
    [DCO_ECN_NOT_ECT] = {DCO_ECN_NOT_ECT, DCO_ECN_NOT_ECT, DCO_ECN_NOT_ECT, DROP},
    [DCO_ECN_ECT1] = {DCO_ECN_ECT1, DCO_ECN_ECT1, DCO_ECN_ECT1, DCO_ECN_CE},
    [DCO_ECN_ECT0] = {DCO_ECN_ECT0, DCO_ECN_ECT1, DCO_ECN_ECT0, DCO_ECN_CE},
    [DCO_ECN_CE] = {DCO_ECN_CE, DCO_ECN_CE, DCO_ECN_CE, DCO_ECN_CE},
};

static void write_ipv4(uint8_t *packet, uint8_t ecn)
{
    uint16_t before, after;

    memcpy(&before, packet, sizeof before);
    packet[1] = (uint8_t)((packet[1] & DCO_TOS_DSCP) | ecn);
    memcpy(&after, packet, sizeof after);
    dco_checksum_replace(packet + 10, before, after);
}

bool dco_ecn_decapsulate(uint8_t *packet, uint8_t outer)
{
    uint8_t inner = dco_tos_read(packet) & DCO_TOS_ECN;
    int ecn = result[inner][outer & DCO_TOS_ECN];

    if (ecn == DROP)
        return false;
    if (ecn == inner)
        return true;
    if (packet[0] >> 4 == 4)
        write_ipv4(packet, (uint8_t)ecn);
    else
        packet[1] = (uint8_t)((packet[1] & 0xCFu) | ecn << 4);
    return true;
}
