/* Numbers as they stand in packets: big-endian, at any address. */
#ifndef DCO_CODEC_BYTES_H
#define DCO_CODEC_BYTES_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

static inline uint16_t dco_load16(const void *data)
{
    uint16_t value;
    memcpy(&value, data, sizeof value);
    return be16toh(value);
}

static inline void dco_store16(void *data, uint32_t value)
{
    uint16_t low = htobe16((uint16_t)value);
    memcpy(data, &low, sizeof low);
}

static inline uint32_t dco_load32(const void *data)
{
    uint32_t value;
    memcpy(&value, data, sizeof value);
    return be32toh(value);
}

static inline void dco_store32(void *data, uint32_t value)
{
    value = htobe32(value);
    memcpy(data, &value, sizeof value);
}

static inline uint64_t dco_load64(const void *data)
{
    uint64_t value;
    memcpy(&value, data, sizeof value);
    return be64toh(value);
}

static inline void dco_store64(void *data, uint64_t value)
{
    value = htobe64(value);
    memcpy(data, &value, sizeof value);
}

#endif
