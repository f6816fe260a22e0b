#include "codec/tcpframe.h"

#include <errno.h>

int dco_tcpframe_next(uint8_t *stream, size_t size, size_t *offset, uint32_t frame_max,
                      uint8_t **frame, uint32_t *frame_size)
{
    size_t left = size - *offset;
    uint32_t length;

    if (left < DCO_TCPFRAME_PREFIX)
        return 0;
    length = dco_tcpframe_size(stream + *offset);
    if (!length)
        return -EPROTO;
    if (length > frame_max)
        return -EMSGSIZE;
    if (left - DCO_TCPFRAME_PREFIX < length)
        return 0;
    *frame = stream + *offset + DCO_TCPFRAME_PREFIX;
    *frame_size = length;
    *offset += DCO_TCPFRAME_PREFIX + length;
    return 1;
}

int dco_tcpframe_count(const uint8_t *frames, uint32_t size, uint32_t frame_max)
{
    int count = 0;

    for (uint32_t at = 0; at < size; count++) {
        uint32_t length;
        if (size - at < DCO_TCPFRAME_PREFIX)
            return -EINVAL;
        length = dco_tcpframe_size(frames + at);
        if (!length)
            return -EPROTO;
        if (length > frame_max)
            return -EMSGSIZE;
        if (size - at - DCO_TCPFRAME_PREFIX < length)
            return -EINVAL;
        at += DCO_TCPFRAME_PREFIX + length;
    }
    return count;
}

uint32_t dco_tcpframe_border(const uint8_t *frames, uint32_t size, uint32_t limit, uint32_t *count)
{
    uint32_t at = 0;

    *count = 0;
    while (at < size) {
        uint32_t frame = DCO_TCPFRAME_PREFIX + dco_tcpframe_size(frames + at);
        if (frame > limit - at)
            break;
        at += frame;
        ++*count;
    }
    return at;
}
