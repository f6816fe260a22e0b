/* OpenVPN packets in a byte stream: each behind its length, a big-endian u16 that does not count
 * itself.
 *
 *    0        2
 *    +--------+----------------+--------+------------
 *    | size   | packet         | size   | packet ...
 *    +--------+----------------+--------+------------
 *
 * Nothing in the stream marks where a frame starts, so after a length that cannot be true there is
 * no way on: the connection ends. A length of zero is such an error, as in OpenVPN itself. One to
 * three bytes are a frame like any other here: that no packet is so short is for its reader to say. */
#ifndef DCO_CODEC_TCPFRAME_H
#define DCO_CODEC_TCPFRAME_H

#include <stddef.h>
#include <stdint.h>

#include "codec/bytes.h"

#define DCO_TCPFRAME_PREFIX 2u
#define DCO_TCPFRAME_MAX 65535u /* what the prefix can say */

/* Takes the frame at `*offset`. 1: `*frame` and `*frame_size`, and `*offset` stands behind it;
 * 0: it is not all there; -EPROTO: its length is zero; -EMSGSIZE: longer than `frame_max`, which
 * shows as soon as the prefix is there. Unless 1, nothing is written. */
int dco_tcpframe_next(uint8_t *stream, size_t size, size_t *offset, uint32_t frame_max,
                      uint8_t **frame, uint32_t *frame_size);

/* Writes the prefix of a packet of `size` bytes, 1 to DCO_TCPFRAME_MAX. */
static inline void dco_tcpframe_put(uint8_t *prefix, uint32_t size)
{
    dco_store16(prefix, size);
}

/* The packet size that a prefix gives. */
static inline uint32_t dco_tcpframe_size(const uint8_t *prefix)
{
    return dco_load16(prefix);
}

/* How many frames a run of whole frames has, or -EPROTO and -EMSGSIZE as above, -EINVAL where the
 * last one is cut short. */
int dco_tcpframe_count(const uint8_t *frames, uint32_t size, uint32_t frame_max);

/* The last border between frames that is not beyond `limit`: bytes from the start of a run of
 * whole frames. `*count` is how many frames end at or before it. */
uint32_t dco_tcpframe_border(const uint8_t *frames, uint32_t size, uint32_t limit, uint32_t *count);

#endif
