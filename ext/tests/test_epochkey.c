#include <errno.h>

#include <openssl/provider.h>

#include "codec/epochkey.h"
#include "tests/check.h"

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

static struct dco_epochkey_chain start(uint8_t fill)
{
    struct dco_epochkey_chain chain;
    uint8_t secret[DCO_EPOCH_SECRET];

    memset(secret, fill, sizeof secret);
    dco_epochkey_chain_init(&chain, secret);
    return chain;
}

static struct dco_epochkey take(struct dco_epochkey_chain *chain, size_t which, bool seal)
{
    struct dco_epochkey key;

    CHECK(!dco_epochkey_take(&key, chain, NULL, ciphers[which].cipher, ciphers[which].key_size,
                             seal, DCO_GCM_NONE));
    return key;
}

static void equals_hex(const uint8_t *data, size_t size, const char *expected)
{
    char hex[256];

    CHECK(2 * size < sizeof hex);
    for (size_t i = 0; i < size; i++)
        snprintf(hex + 2 * i, 3, "%02x", data[i]);
    CHECK(!strcmp(hex, expected));
}

/* Made with an independent implementation: E(1) of 0x42, key id 2, peer id 7, counter 1, the
 * keepalive message. */
static void known_answers(void)
{
    static const char *const packets[] = {
        "4a00000700010000000000010bfb182b613878561afe0b2a61e45b55cfed74cc8e8cfbe0266479217317f87d",
        "4a0000070002000000000001b4d879c55d6cae82e26b5be77e9b9fef0a54bf0afc4f08021d09dbccfc9c5123",
    };
    static const char *const ivs[] = {"8de16e7bf974edc5797c8601", "84b5ea20d48ff6aa1cd6bfe8"};
    struct dco_epochkey_chain chain = start(0x42);
    uint8_t data_key[32];

    CHECK(!dco_epochkey_expand(NULL, chain.secret, "data_key", data_key, sizeof data_key));
    equals_hex(data_key, 32, "b198c4d32986ea81ae978d8b7892765fca7552d90148d5013125b1ccaff0d85c");
    for (unsigned i = 0; i < 2; i++) {
        struct dco_epochkey key = take(&chain, 2, true);
        uint8_t packet[DCO_WIRE_EPOCH_OVERHEAD + DCO_KEEPALIVE_SIZE];
        equals_hex(key.iv, sizeof key.iv, ivs[i]);
        CHECK(key.epoch == i + 1 && chain.epoch == i + 2);
        if (i == 0)
            equals_hex(chain.secret, 32,
                       "6ec26acb3ed8422162e6dc4395b055faaae30045d253a3ee16fb223419086c03");
        CHECK(dco_epochkey_seal(&key, dco_wire_header(2, 7), 1, dco_wire_keepalive,
                                DCO_KEEPALIVE_SIZE, packet));
        equals_hex(packet, sizeof packet, packets[i]);
        CHECK(dco_wire_epoch(packet) == i + 1 && dco_wire_epoch_counter(packet) == 1);
        dco_epochkey_clear(&key);
    }
}

static void labels(void)
{
    struct dco_epochkey_chain chain = start(1);
    char label[256];
    uint8_t out[64];

    memset(label, 'x', sizeof label - 1);
    label[255] = 0;
    CHECK(dco_epochkey_expand(NULL, chain.secret, label, out, sizeof out) == -EINVAL);
    label[251] = 0;
    CHECK(dco_epochkey_expand(NULL, chain.secret, label, out, sizeof out) == -EINVAL);
    label[250] = 0;
    CHECK(!dco_epochkey_expand(NULL, chain.secret, label, out, sizeof out));
    CHECK(dco_epochkey_expand(NULL, chain.secret, "data_key", out, 0) == -EINVAL);
}

static void chain_ends(void)
{
    static const uint8_t nothing[DCO_EPOCH_SECRET];
    struct dco_epochkey_chain chain = start(7);
    struct dco_epochkey key;

    chain.epoch = DCO_EPOCH_MAX - 1; /* the way there is the same step over and over */
    for (unsigned epoch = DCO_EPOCH_MAX - 1; epoch <= DCO_EPOCH_MAX; epoch++) {
        key = take(&chain, 0, true);
        CHECK(key.epoch == epoch && chain.epoch == epoch + 1);
        dco_epochkey_clear(&key);
    }
    CHECK(!memcmp(chain.secret, nothing, sizeof nothing));
    CHECK(dco_epochkey_chain_step(&chain, NULL) == -ERANGE);
    CHECK(dco_epochkey_take(&key, &chain, NULL, DCO_AEAD_AES_GCM, 16, true, DCO_GCM_NONE)
          == -ERANGE);
    CHECK(chain.epoch == DCO_EPOCH_MAX + 1);
}

static void refusals_leave_the_chain(void)
{
    struct dco_epochkey_chain chain = start(9), before = chain;
    OSSL_LIB_CTX *barren = OSSL_LIB_CTX_new();
    OSSL_PROVIDER *null = OSSL_PROVIDER_load(barren, "null");
    struct dco_epochkey key;

    CHECK(dco_epochkey_take(&key, &chain, NULL, DCO_AEAD_AES_GCM, 31, true, DCO_GCM_NONE)
          == -EINVAL);
    CHECK(dco_epochkey_take(&key, &chain, NULL, DCO_AEAD_AES_GCM, 64, true, DCO_GCM_NONE)
          == -EINVAL);
    CHECK(dco_epochkey_take(&key, &chain, NULL, DCO_AEAD_CHACHA20_POLY1305, 16, true, DCO_GCM_NONE)
          == -EINVAL);
    CHECK(dco_epochkey_take(&key, &chain, NULL, 0, 0, true, DCO_GCM_NONE) == -EINVAL);
    /* A library context without any provider knows neither KDF nor cipher. */
    CHECK(null);
    CHECK(dco_epochkey_take(&key, &chain, barren, DCO_AEAD_AES_GCM, 16, true, DCO_GCM_NONE)
          == -EOPNOTSUPP);
    CHECK(dco_epochkey_chain_step(&chain, barren) == -EOPNOTSUPP);
    CHECK(chain.epoch == before.epoch && !memcmp(chain.secret, before.secret, sizeof chain.secret));
    OSSL_PROVIDER_unload(null);
    OSSL_LIB_CTX_free(barren);
}

static void every_bit_is_authenticated(void)
{
    for (size_t i = 0; i < CIPHERS; i++) {
        struct dco_epochkey_chain one = start(3), two = start(3);
        struct dco_epochkey sealer = take(&one, i, true), opener = take(&two, i, false);
        uint8_t packet[DCO_WIRE_EPOCH_OVERHEAD + 33];
        static const uint8_t plain[33] = "thirty-three bytes of the packet";
        for (size_t bit = 0; bit <= 8 * sizeof packet; bit++) {
            CHECK(
                dco_epochkey_seal(&sealer, dco_wire_header(0, 7), 42, plain, sizeof plain, packet));
            if (bit < 8 * sizeof packet)
                packet[bit / 8] ^= (uint8_t)(1u << bit % 8);
            bool good = dco_epochkey_open(&opener, packet, sizeof packet);
            CHECK(good == (bit == 8 * sizeof packet));
        }
        CHECK(!memcmp(packet + DCO_WIRE_EPOCH_AAD, plain, sizeof plain));
        dco_epochkey_clear(&sealer);
        dco_epochkey_clear(&opener);
    }
}

/* In buffers of exactly the size that is promised, so that one byte more is found: the tag stands
 * at the end, where a miscounted length would write it behind the buffer. */
static void every_size(void)
{
    for (size_t i = 0; i < CIPHERS; i++) {
        struct dco_epochkey_chain one = start(5), two = start(5);
        struct dco_epochkey sealer = take(&one, i, true), opener = take(&two, i, false);
        for (size_t size = 0; size <= 65507; size = size < 300 ? size + 1 : size * 2 + 7) {
            uint8_t *plain = malloc(size ? size : 1);
            uint8_t *packet = malloc(DCO_WIRE_EPOCH_OVERHEAD + size), tag[DCO_WIRE_TAG];
            CHECK(plain && packet);
            memset(plain, (int)size, size);
            CHECK(dco_epochkey_seal(&sealer, 0x48000000, size + 1, plain, size, packet));
            memcpy(tag, packet + DCO_WIRE_EPOCH_AAD + size, sizeof tag);
            CHECK(dco_epochkey_open(&opener, packet, size + DCO_WIRE_EPOCH_OVERHEAD));
            CHECK(!memcmp(packet + DCO_WIRE_EPOCH_AAD, plain, size));
            CHECK(!memcmp(packet + DCO_WIRE_EPOCH_AAD + size, tag, sizeof tag));
            free(plain);
            free(packet);
        }
        dco_epochkey_clear(&sealer);
        dco_epochkey_clear(&opener);
    }
}

static void epochs_do_not_open_each_other(void)
{
    struct dco_epochkey_chain one = start(8), two = start(8);
    struct dco_epochkey sealer = take(&one, 2, true), opener = take(&two, 2, false);
    uint8_t packet[DCO_WIRE_EPOCH_OVERHEAD + 1];

    dco_epochkey_clear(&opener);
    opener = take(&two, 2, false);
    CHECK(dco_epochkey_seal(&sealer, 0x48000000, 1, (const uint8_t *)"x", 1, packet));
    CHECK(!dco_epochkey_open(&opener, packet, sizeof packet));
    dco_epochkey_clear(&sealer);
    dco_epochkey_clear(&opener);
}

int main(void)
{
    RUN(known_answers);
    RUN(labels);
    RUN(chain_ends);
    RUN(refusals_leave_the_chain);
    RUN(every_bit_is_authenticated);
    RUN(every_size);
    RUN(epochs_do_not_open_each_other);
    return 0;
}
