/* The first four bytes of any packet, read and written again. */
#include "codec/wire.h"
#include "tests/check.h"
#include "tests/packets.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t packet[DCO_WIRE_HEADER];
    if (size < DCO_WIRE_HEADER)
        return 0;
    uint8_t opcode = dco_wire_opcode(data), key_id = dco_wire_key_id(data);
    uint32_t peer_id = dco_wire_peer_id(data);
    CHECK(opcode < 32 && key_id < 8 && peer_id <= 0xFFFFFF);
    CHECK(opcode == data[0] / 8 && key_id == data[0] % 8);
    CHECK(peer_id == (get32(data) & 0xFFFFFF));
    dco_store32(packet, dco_wire_header(key_id, peer_id));
    CHECK(dco_wire_opcode(packet) == DCO_WIRE_DATA_V2);
    CHECK(dco_wire_key_id(packet) == key_id && dco_wire_peer_id(packet) == peer_id);
    if (opcode == DCO_WIRE_DATA_V2)
        CHECK(!memcmp(packet, data, sizeof packet));
    CHECK(dco_load32(data) == get32(data));
    return 0;
}
