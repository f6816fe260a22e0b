/* Seals what the input says and opens it again; opens it changed; opens the input itself. */
#include "codec/aead.h"
#include "tests/check.h"
#include "tests/packets.h"

enum { CONTROL = 12, LARGEST = 4096 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct {
        int cipher;
        size_t key_size;
    } ciphers[] = {
        {DCO_AEAD_AES_GCM, 16},
        {DCO_AEAD_AES_GCM, 24},
        {DCO_AEAD_AES_GCM, 32},
        {DCO_AEAD_CHACHA20_POLY1305, 32},
    };
    uint8_t key[32], packet[DCO_WIRE_OVERHEAD + LARGEST], sealed[DCO_WIRE_OVERHEAD + LARGEST];
    struct dco_aead sealer, opener;
    if (size < CONTROL || size > CONTROL + LARGEST)
        return 0;
    memset(key, data[1], sizeof key);
    const uint8_t *plain = data + CONTROL;
    size_t length = size - CONTROL, whole = DCO_WIRE_OVERHEAD + length;
    int cipher = ciphers[data[0] % 4].cipher;
    size_t key_size = ciphers[data[0] % 4].key_size;
    CHECK(!dco_aead_init(&sealer, NULL, cipher, key, key_size, data + 2, true));
    CHECK(!dco_aead_init(&opener, NULL, cipher, key, key_size, data + 2, false));

    uint32_t header = dco_wire_header(data[0] >> 5, get32(data + 4) & 0xFFFFFF);
    CHECK(dco_aead_seal(&sealer, header, get32(data + 8), plain, length, sealed));
    CHECK(get32(sealed) == header && get32(sealed + 4) == get32(data + 8));
    memcpy(packet, sealed, whole);
    CHECK(dco_aead_open(&opener, packet, whole));
    CHECK(!memcmp(packet + DCO_WIRE_OVERHEAD, plain, length));

    memcpy(packet, sealed, whole);
    packet[get16(data + 2) % whole] ^= (uint8_t)(1u << data[2] % 8);
    CHECK(!dco_aead_open(&opener, packet, whole));
    if (length > 0)
        CHECK(!dco_aead_open(&opener, memcpy(packet, sealed, whole), whole - 1));
    if (size >= DCO_WIRE_OVERHEAD)
        CHECK(!dco_aead_open(&opener, memcpy(packet, data, size), size));
    dco_aead_clear(&sealer);
    dco_aead_clear(&opener);
    return 0;
}
