#include <errno.h>

#include "codec/aead.h"
#include "tests/check.h"

static const uint8_t tail[DCO_NONCE_TAIL] = {0xA0, 0xA1, 0xA2, 0xA3, 0xA4, 0xA5, 0xA6, 0xA7};
static enum dco_gcm_kind own; /* whose AES-GCM the tests run with */

static struct dco_aead make(int cipher, size_t key_size, bool seal)
{
    struct dco_aead aead;
    uint8_t key[32];
    for (uint8_t i = 0; i < sizeof key; i++)
        key[i] = i;
    CHECK(dco_aead_init(&aead, NULL, cipher, key, key_size, tail, seal, own) == 0);
    return aead;
}

static const struct {
    int cipher;
    size_t key_size;
} ciphers[] = {
    {DCO_AEAD_AES_GCM, 16},
    {DCO_AEAD_AES_GCM, 24},
    {DCO_AEAD_AES_GCM, 32},
    {DCO_AEAD_CHACHA20_POLY1305, 32},
};
#define CIPHERS (sizeof ciphers / sizeof ciphers[0])

/* Made with an independent implementation: ascending keys, key id 5, peer id 0x0a0b0c, packet id
 * 1, the keepalive message. */
static void known_answers(void)
{
    static const char *const answers[CIPHERS] = {
        "4d0a0b0c0000000104a00a61f0ca658070a9d54ed7c2626d691621137235f102537dd621339b07c5",
        "4d0a0b0c000000012708be6100b3b9739073b0c7d28dfae3eb62ce5be153a31166b97125e74b0664",
        "4d0a0b0c000000016c88480da5f7ef9cfc75f38f8d17f86fe671c9ca01004182ec61d9527e066908",
        "4d0a0b0c00000001d9a14b5399f941fe8e614cfd319321f199b987822cb818b430ffa112b1c9b1ed",
    };
    for (size_t i = 0; i < CIPHERS; i++) {
        struct dco_aead aead = make(ciphers[i].cipher, ciphers[i].key_size, true);
        uint8_t packet[DCO_WIRE_OVERHEAD + DCO_KEEPALIVE_SIZE];
        char hex[2 * sizeof packet + 1];
        CHECK(dco_aead_seal(&aead, dco_wire_header(5, 0x0A0B0C), 1, dco_wire_keepalive,
                            DCO_KEEPALIVE_SIZE, packet));
        for (size_t k = 0; k < sizeof packet; k++)
            snprintf(hex + 2 * k, 3, "%02x", packet[k]);
        CHECK(!strcmp(hex, answers[i]));
        CHECK(dco_wire_opcode(packet) == DCO_WIRE_DATA_V2 && dco_wire_key_id(packet) == 5);
        CHECK(dco_wire_peer_id(packet) == 0x0A0B0C);
        dco_aead_clear(&aead);
    }
}

static void every_bit_is_authenticated(void)
{
    for (size_t i = 0; i < CIPHERS; i++) {
        struct dco_aead sealer = make(ciphers[i].cipher, ciphers[i].key_size, true);
        struct dco_aead opener = make(ciphers[i].cipher, ciphers[i].key_size, false);
        uint8_t packet[DCO_WIRE_OVERHEAD + 33], plain[33] = "thirty-three bytes of the packet";
        for (size_t bit = 0; bit <= 8 * sizeof packet; bit++) {
            CHECK(dco_aead_seal(&sealer, dco_wire_header(0, 7), 42, plain, sizeof plain, packet));
            if (bit < 8 * sizeof packet)
                packet[bit / 8] ^= (uint8_t)(1u << bit % 8);
            bool good = dco_aead_open(&opener, packet, sizeof packet);
            CHECK(good == (bit == 8 * sizeof packet));
        }
        CHECK(!memcmp(packet + DCO_WIRE_OVERHEAD, plain, sizeof plain));
        dco_aead_clear(&sealer);
        dco_aead_clear(&opener);
    }
}

static void every_size(void)
{
    for (size_t i = 0; i < CIPHERS; i++) {
        struct dco_aead sealer = make(ciphers[i].cipher, ciphers[i].key_size, true);
        struct dco_aead opener = make(ciphers[i].cipher, ciphers[i].key_size, false);
        static uint8_t plain[65536], packet[65536 + DCO_WIRE_OVERHEAD];
        for (size_t size = 0; size <= 65511; size = size < 300 ? size + 1 : size * 2 + 7) {
            memset(plain, (int)size, size);
            CHECK(dco_aead_seal(&sealer, 0x48000000, (uint32_t)size, plain, size, packet));
            CHECK(dco_aead_open(&opener, packet, size + DCO_WIRE_OVERHEAD));
            CHECK(!memcmp(packet + DCO_WIRE_OVERHEAD, plain, size));
        }
        dco_aead_clear(&sealer);
        dco_aead_clear(&opener);
    }
}

static void refusals(void)
{
    struct dco_aead aead;
    uint8_t key[64] = {0};
    for (size_t size = 0; size <= sizeof key; size++) {
        bool aes = size == 16 || size == 24 || size == 32;
        int result = dco_aead_init(&aead, NULL, DCO_AEAD_AES_GCM, key, size, tail, true, own);
        CHECK(result == (aes ? 0 : -EINVAL));
        dco_aead_clear(&aead);
        result = dco_aead_init(&aead, NULL, DCO_AEAD_CHACHA20_POLY1305, key, size, tail, false,
                               DCO_GCM_NONE);
        CHECK(result == (size == 32 ? 0 : -EINVAL));
        dco_aead_clear(&aead);
    }
    CHECK(dco_aead_init(&aead, NULL, 0, key, 32, tail, true, own) == -EINVAL);
    CHECK(dco_aead_init(&aead, NULL, 3, key, 32, tail, true, own) == -EINVAL);
}

/* The choice is for AES-GCM alone, and shows. */
static void choice(void)
{
    for (size_t i = 0; i < CIPHERS; i++) {
        struct dco_aead aead = make(ciphers[i].cipher, ciphers[i].key_size, true);
        CHECK(aead.own == (ciphers[i].cipher == DCO_AEAD_AES_GCM && own != DCO_GCM_NONE));
        dco_aead_clear(&aead);
        for (size_t k = 0; k < sizeof aead; k++)
            CHECK(!((const uint8_t *)&aead)[k]);
    }
}

static void probe(void)
{
    CHECK(dco_aead_probe(NULL) == dco_gcm_best());
}

int main(void)
{
    static const enum dco_gcm_kind kinds[] = {DCO_GCM_NONE, DCO_GCM_VAES256, DCO_GCM_VAES512};

    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
        own = kinds[k];
        if (own != DCO_GCM_NONE && !dco_gcm_has(own))
            continue;
        printf("%d bits\n", (int)own);
        RUN(known_answers);
        RUN(every_bit_is_authenticated);
        RUN(every_size);
        RUN(refusals);
        RUN(choice);
    }
    RUN(probe);
    return 0;
}
