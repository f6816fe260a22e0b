/* What must hold for any batch that was put into a coalescer, whatever its packets are. */
#ifndef DCO_TESTS_GRO_MODEL_H
#define DCO_TESTS_GRO_MODEL_H

#include "codec/gro.h"
#include "tests/check.h"
#include "tests/packets.h"

#define BATCH_MAX 128
#define BATCH_PACKET 2048

struct batch {
    unsigned count;
    size_t size[BATCH_MAX];
    void *owner[BATCH_MAX];
    uint8_t packet[BATCH_MAX][BATCH_PACKET];   /* as the coalescer has them */
    uint8_t original[BATCH_MAX][BATCH_PACKET]; /* as they came */
};

static inline bool is_extension(const uint8_t *p, size_t offset)
{
    uint8_t next = p[offset];
    return offset == 6 && (next == 0 || next == 43 || next == 44 || next == 60);
}

enum ports { PORTS_KNOWN, PORTS_HIDDEN, PORTS_NONE };

/* Whether a packet has ports, and where they usually are. */
static inline enum ports ports_of(const uint8_t *p, size_t size)
{
    bool ipv4 = p[0] >> 4 == 4;
    uint8_t protocol = p[ipv4 ? 9 : 6];
    if (protocol != TCP && protocol != UDP) {
        return !ipv4 && is_extension(p, 6) ? PORTS_HIDDEN : PORTS_NONE;
    }
    if (ipv4)
        return p[0] == 0x45 && (get16(p + 6) & 0x3FFF) == 0 && size >= 28 ? PORTS_KNOWN
                                                                          : PORTS_HIDDEN;
    return size >= 48 ? PORTS_KNOWN : PORTS_HIDDEN;
}

/* Whether two packets are of one flow, or may be: such must come out in the order they came in. */
static inline bool share_flow(const struct batch *batch, unsigned i, unsigned j)
{
    const uint8_t *a = batch->original[i], *b = batch->original[j];
    size_t header = a[0] >> 4 == 4 ? 20 : 40, protocol = a[0] >> 4 == 4 ? 9 : 6;
    if (batch->owner[i] != batch->owner[j] || a[0] >> 4 != b[0] >> 4 || batch->size[i] < header
        || batch->size[j] < header)
        return false;
    if (header == 20 ? memcmp(a + 12, b + 12, 8) : memcmp(a + 8, b + 8, 32))
        return false;
    enum ports ports_a = ports_of(a, batch->size[i]), ports_b = ports_of(b, batch->size[j]);
    if (ports_a == PORTS_NONE || ports_b == PORTS_NONE)
        return false;
    if (ports_a == PORTS_KNOWN && ports_b == PORTS_KNOWN)
        return a[protocol] == b[protocol] && !memcmp(a + header, b + header, 4);
    /* An extension header of IPv6 hides the protocol too. */
    bool hidden = is_extension(a, protocol) || is_extension(b, protocol);
    return hidden || a[protocol] == b[protocol];
}

/* With DF an IPv4 id means nothing and is not kept; a TCP checksum has two forms of zero. */
static inline void check_same_packet(const uint8_t *a, const uint8_t *b, size_t size)
{
    uint8_t copy[BATCH_PACKET];
    memcpy(copy, b, size);
    if (a[0] >> 4 == 4 && (a[6] & 0x40))
        put16(copy + 4, get16(a + 4));
    size_t transport = a[0] >> 4 == 4 ? 20 : 40;
    int protocol = a[a[0] >> 4 == 4 ? 9 : 6];
    CHECK(transport_valid(b, size, transport, (unsigned)protocol));
    seal_packet(copy, size, transport, protocol);
    CHECK(!memcmp(a, copy, size));
}

/* A super-packet must fall apart into exactly the packets that it was made of. */
static inline void check_super_packet(const struct batch *batch, struct dco_gro_item *item,
                                      const struct iovec *iov, int parts, const unsigned *index)
{
    static uint8_t flat[65536];
    struct dco_gso gso;
    size_t size = 0;
    uint8_t *segment;
    uint32_t length, n = 0, bytes = 0;

    for (int i = 1; i < parts; i++) {
        CHECK(size + iov[i].iov_len <= 65535);
        memcpy(flat + size, iov[i].iov_base, iov[i].iov_len);
        size += iov[i].iov_len;
    }
    CHECK(size == item->total);
    CHECK(item->vnet.flags == 1 && item->vnet.gso_size == item->segment);
    CHECK(item->vnet.hdr_len == item->header);
    /* The kernel needs the pseudo-header sum, length included, in the checksum field. */
    int protocol = flat[flat[0] >> 4 == 4 ? 9 : 6];
    unsigned pseudo = plain_pseudo(flat, (unsigned)protocol, size - item->transport);
    CHECK(get16(flat + item->vnet.csum_start + item->vnet.csum_offset) == pseudo);
    if (flat[0] >> 4 == 4)
        CHECK(ipv4_header_valid(flat));
    if (protocol == UDP)
        CHECK(get16(flat + item->transport + 4) == size - item->transport);

    CHECK(dco_gso_begin(&gso, &item->vnet, flat, size) == DCO_DROP_NONE);
    CHECK(dco_gso_count(&gso) == item->packets);
    for (; dco_gso_next(&gso, &segment, &length); n++) {
        CHECK(n < item->packets && length == batch->size[index[n]]);
        check_same_packet(segment, batch->original[index[n]], length);
        bytes += length;
    }
    CHECK(n == item->packets && bytes == item->bytes);
}

static inline void check_item(const struct batch *batch, struct dco_gro_item *item,
                              const unsigned *index)
{
    struct iovec iov[DCO_GRO_SEGMENTS + 1];
    static const struct dco_vnet zero;
    int parts = dco_gro_finish(item, true, iov);

    CHECK(parts == (int)item->packets + 1);
    CHECK(iov[0].iov_base == &item->vnet && iov[0].iov_len == DCO_VNET_HEADER);
    if (item->packets == 1) {
        CHECK(!memcmp(&item->vnet, &zero, sizeof zero));
        CHECK(iov[1].iov_base == item->part[0] && iov[1].iov_len == batch->size[index[0]]);
        CHECK(item->bytes == batch->size[index[0]]);
        CHECK(dco_gro_finish(item, false, iov) == 1 && iov[0].iov_base == item->part[0]);
    } else {
        CHECK(parts == dco_gro_finish(item, true, iov)); /* a second attempt changes nothing */
        check_super_packet(batch, item, iov, parts, index);
    }
    dco_gro_undo(item);
    CHECK(!memcmp(&item->vnet, &zero, sizeof zero));
    for (uint32_t i = 0; i < item->packets; i++)
        CHECK(!memcmp(item->part[i], batch->original[index[i]], batch->size[index[i]]));
}

/* Every packet comes out once, flows keep their order, super-packets are made of what they say. */
static inline void check_coalesced(struct batch *batch, struct dco_gro *gro)
{
    unsigned order[BATCH_MAX], index[BATCH_MAX], position = 0;
    bool seen[BATCH_MAX] = {false};

    for (uint32_t i = 0; i < gro->count; i++) {
        struct dco_gro_item *item = &gro->item[i];
        CHECK(item->packets >= 1 && item->packets <= DCO_GRO_SEGMENTS);
        for (uint32_t k = 0; k < item->packets; k++) {
            size_t which = (size_t)(item->part[k] - batch->packet[0]) / BATCH_PACKET;
            CHECK(which < batch->count && !seen[which]);
            CHECK(item->part_size[k] == batch->size[which]);
            CHECK(item->owner == batch->owner[which]);
            seen[which] = true;
            order[which] = position++;
            index[k] = (unsigned)which;
        }
        check_item(batch, item, index);
    }
    CHECK(position == batch->count);
    for (unsigned i = 0; i < batch->count; i++)
        for (unsigned j = i + 1; j < batch->count; j++)
            CHECK(!share_flow(batch, i, j) || order[i] < order[j]);
}

static inline void batch_add(struct batch *batch, struct dco_gro *gro, size_t size, void *owner)
{
    unsigned i = batch->count++;
    batch->size[i] = size;
    batch->owner[i] = owner;
    memcpy(batch->original[i], batch->packet[i], size);
    CHECK(dco_gro_add(gro, batch->packet[i], (uint32_t)size, owner));
}

#endif
