/* Seals what the input says and opens it again; opens it changed; opens the input itself. For
 * AES-GCM with every code that this processor can run, and their results must be the same. */
#include "codec/aead.h"
#include "tests/check.h"
#include "tests/packets.h"

enum { CONTROL = 12, LARGEST = 4096, AAD_LARGEST = 40 };

static const struct {
    int cipher;
    size_t key_size;
} ciphers[] = {
    {DCO_AEAD_AES_GCM, 16},
    {DCO_AEAD_AES_GCM, 24},
    {DCO_AEAD_AES_GCM, 32},
    {DCO_AEAD_CHACHA20_POLY1305, 32},
};

struct pair {
    struct dco_aead sealer, opener;
};

static void pair_make(struct pair *pair, const uint8_t *data, enum dco_gcm_kind own)
{
    int cipher = ciphers[data[0] % 4].cipher;
    size_t key_size = ciphers[data[0] % 4].key_size;
    uint8_t key[32];

    for (size_t i = 0; i < sizeof key; i++)
        key[i] = (uint8_t)(data[1] * (i + 1));
    CHECK(!dco_aead_init(&pair->sealer, NULL, cipher, key, key_size, data + 2, true, own));
    CHECK(!dco_aead_init(&pair->opener, NULL, cipher, key, key_size, data + 2, false, own));
}

/* Whole packets; leaves the sealed one in `sealed`. */
static void packets(struct pair *pair, const uint8_t *data, size_t size, uint8_t *sealed)
{
    const uint8_t *plain = data + CONTROL;
    size_t length = size - CONTROL, whole = DCO_WIRE_OVERHEAD + length;
    uint8_t packet[DCO_WIRE_OVERHEAD + LARGEST];
    uint32_t header = dco_wire_header(data[0] >> 5, get32(data + 4) & 0xFFFFFF);

    CHECK(dco_aead_seal(&pair->sealer, header, get32(data + 8), plain, length, sealed));
    CHECK(get32(sealed) == header && get32(sealed + 4) == get32(data + 8));
    memcpy(packet, sealed, whole);
    CHECK(dco_aead_open(&pair->opener, packet, whole));
    CHECK(!memcmp(packet + DCO_WIRE_OVERHEAD, plain, length));

    memcpy(packet, sealed, whole);
    packet[get16(data + 2) % whole] ^= (uint8_t)(1u << data[2] % 8);
    CHECK(!dco_aead_open(&pair->opener, packet, whole));
    if (length > 0)
        CHECK(!dco_aead_open(&pair->opener, memcpy(packet, sealed, whole), whole - 1));
    if (size >= DCO_WIRE_OVERHEAD)
        CHECK(!dco_aead_open(&pair->opener, memcpy(packet, data, size), size));
}

/* The primitive, with additional data of any size: some of the input; leaves data and tag. */
static void primitive(struct pair *pair, const uint8_t *data, size_t size, uint8_t *sealed)
{
    size_t aad_size = data[3] % (AAD_LARGEST + 1) < size ? data[3] % (AAD_LARGEST + 1) : size;
    size_t length = size - aad_size;
    uint8_t plain[CONTROL + LARGEST];

    CHECK(dco_aead_encrypt(&pair->sealer, data, data, aad_size, data + aad_size, length, sealed,
                           sealed + length));
    CHECK(dco_aead_decrypt(&pair->opener, data, data, aad_size, sealed, length, plain,
                           sealed + length));
    CHECK(!memcmp(plain, data + aad_size, length));
}

static void run(const uint8_t *data, size_t size, enum dco_gcm_kind own, uint8_t *packet,
                uint8_t *bare)
{
    struct pair pair;

    pair_make(&pair, data, own);
    packets(&pair, data, size, packet);
    primitive(&pair, data, size, bare);
    dco_aead_clear(&pair.sealer);
    dco_aead_clear(&pair.opener);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const enum dco_gcm_kind kinds[] = {DCO_GCM_VAES256, DCO_GCM_VAES512};
    static int best = -1;
    static uint8_t packet[2][DCO_WIRE_OVERHEAD + LARGEST];
    static uint8_t bare[2][CONTROL + LARGEST + DCO_WIRE_TAG];

    if (size < CONTROL || size > CONTROL + LARGEST)
        return 0;
    memset(packet, 0, sizeof packet);
    memset(bare, 0, sizeof bare);
    run(data, size, DCO_GCM_NONE, packet[0], bare[0]);
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (best < 0)
            best = (int)dco_gcm_best();
        if (kinds[i] > (enum dco_gcm_kind)best)
            continue;
        run(data, size, kinds[i], packet[1], bare[1]);
        CHECK(!memcmp(packet[0], packet[1], sizeof packet[0]));
        CHECK(!memcmp(bare[0], bare[1], sizeof bare[0]));
    }
    return 0;
}
