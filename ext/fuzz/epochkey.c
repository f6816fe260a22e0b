/* Seals what the input says in some epoch and opens it again; opens it changed, cut and lengthened;
 * opens the input itself. Every packet lies in a buffer of exactly its size, since the tag is at the
 * end: a length or a place miscounted by one is found. */
#include "codec/epochkey.h"
#include "tests/check.h"
#include "tests/packets.h"

enum { CONTROL = 12, LARGEST = 4096 };

static struct dco_epochkey sealer, opener;

static void make_keys(const uint8_t *data)
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
    struct dco_epochkey_chain one, two;
    uint8_t secret[DCO_EPOCH_SECRET];
    int cipher = ciphers[data[0] % 4].cipher;
    size_t key_size = ciphers[data[0] % 4].key_size;

    memset(secret, data[1], sizeof secret);
    dco_epochkey_chain_init(&one, secret);
    one.epoch = get16(data + 2) ? get16(data + 2) : 1;
    for (int i = 0; i < data[0] >> 5 && one.epoch < DCO_EPOCH_MAX; i++)
        CHECK(!dco_epochkey_chain_step(&one, NULL));
    two = one;
    CHECK(!dco_epochkey_take(&sealer, &one, NULL, cipher, key_size, true, DCO_GCM_NONE));
    CHECK(!dco_epochkey_take(&opener, &two, NULL, cipher, key_size, false, DCO_GCM_NONE));
    CHECK(one.epoch == two.epoch && !memcmp(one.secret, two.secret, sizeof secret));
}

/* A copy of `size` bytes in `room`, opened. */
static bool opens(const uint8_t *packet, size_t size, size_t room, const uint8_t *plain)
{
    uint8_t *copy = malloc(room);
    bool good;

    CHECK(copy);
    memset(copy, 0, room);
    memcpy(copy, packet, size < room ? size : room);
    good = dco_epochkey_open(&opener, copy, room);
    if (good && plain)
        CHECK(!memcmp(copy + DCO_WIRE_EPOCH_AAD, plain, room - DCO_WIRE_EPOCH_OVERHEAD));
    free(copy);
    return good;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < CONTROL || size > CONTROL + LARGEST)
        return 0;
    make_keys(data);
    const uint8_t *plain = data + CONTROL;
    size_t length = size - CONTROL, whole = DCO_WIRE_EPOCH_OVERHEAD + length;
    uint32_t header = dco_wire_header(data[0] & 7, get32(data + 4) & 0xFFFFFF);
    uint64_t counter = dco_load64(data + 4) & DCO_EPOCH_COUNTER_MAX;
    uint8_t *sealed = malloc(whole);
    CHECK(sealed);
    CHECK(dco_epochkey_seal(&sealer, header, counter, plain, length, sealed));
    CHECK(get32(sealed) == header && dco_wire_epoch_counter(sealed) == counter);
    CHECK(dco_wire_epoch(sealed) == sealer.epoch);
    CHECK(opens(sealed, whole, whole, plain));
    CHECK(!opens(sealed, whole, whole + 1, NULL));
    if (length > 0)
        CHECK(!opens(sealed, whole, whole - 1, NULL));

    sealed[get16(data + 2) % whole] ^= (uint8_t)(1u << data[1] % 8);
    CHECK(!opens(sealed, whole, whole, NULL));
    if (size >= DCO_WIRE_EPOCH_OVERHEAD)
        CHECK(!opens(data, size, size, NULL));
    free(sealed);
    dco_epochkey_clear(&sealer);
    dco_epochkey_clear(&opener);
    return 0;
}
