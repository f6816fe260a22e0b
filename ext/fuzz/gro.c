/* Coalesces batches: each command of the input is the next packet of one of a few flows, spoilt or
 * changed in some way, or arbitrary bytes. */
#include "codec/gro.h"
#include "tests/gro_model.h"

enum { FLOWS = 6, COMMAND = 4 };

static struct dco_gro gro;
static struct batch batch;
static int owner[2];

static void change(struct packet_spec *spec, unsigned what, unsigned by)
{
    switch (what) {
    case 1: spec->payload = by % 1500; break;
    case 2: spec->flags ^= (uint8_t)by; break;
    case 3: spec->sequence += by; break;
    case 4: spec->ack += by; break;
    case 5: spec->options = by % 11 * 4; break;
    case 6: spec->tos ^= (uint8_t)by; break;
    case 7: spec->ttl = (uint8_t)by; break;
    case 8: spec->id += (uint16_t)by; break;
    case 9: spec->df = by & 1; break;
    case 10: spec->label ^= by; break;
    case 11: spec->window += (uint16_t)by; break;
    }
}

/* `data` begins with: flow and owner, what to change, by how much, how to spoil. Returns how much
 * of it was used. */
static size_t add_packet(struct packet_spec *specs, const uint8_t *data, size_t size)
{
    uint8_t *packet = batch.packet[batch.count];
    void *whose = &owner[data[0] >> 7];
    unsigned flow = data[0] & 0x7F, spoil = data[3];
    if (flow >= 0x70) {
        size_t length = data[1] % 96, left = size - COMMAND;
        length = length < left ? length : left;
        memcpy(packet, data + COMMAND, length);
        batch_add(&batch, &gro, length, whose);
        return COMMAND + length;
    }
    struct packet_spec *spec = &specs[flow % FLOWS];
    change(spec, data[1] & 15, data[2]);
    size_t length = make_packet(packet, spec);
    if (spoil & 1)
        packet[(size_t)data[2] * 7 % length] ^= (uint8_t)(1u << (spoil >> 5));
    if (spoil & 2)
        length += 1 + data[2] % 8;
    else if (spoil & 4)
        length -= data[2] % length;
    batch_add(&batch, &gro, length, whose);
    spec->sequence += spec->payload;
    spec->id++;
    if (data[1] & 0x80)
        change(spec, data[1] & 15, (unsigned)-data[2]);
    return COMMAND;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct packet_spec specs[FLOWS];
    if (size < 1)
        return 0;
    for (unsigned i = 0; i < FLOWS; i++) {
        specs[i] = spec_of(i % 2 ? 6 : 4, i & 2 ? UDP : TCP);
        specs[i].flow = i;
    }
    batch.count = 0;
    dco_gro_reset(&gro, !(data[0] & 1), !(data[0] & 2));
    data++;
    size--;
    while (size >= COMMAND && batch.count < BATCH_MAX) {
        size_t used = add_packet(specs, data, size);
        data += used;
        size -= used;
    }
    check_coalesced(&batch, &gro);
    return 0;
}
