/* Our AES-GCM against OpenSSL's, bit for bit, with pages behind and before the buffers that nothing
 * may touch. */
#define _GNU_SOURCE
#include <errno.h>
#include <sys/mman.h>

#include <openssl/evp.h>

#include "codec/gcm.h"
#include "tests/check.h"

enum { PAGE = 4096, ARENA = 17 * PAGE, LARGEST = 65535, AAD_LARGEST = 40 };

static const enum dco_gcm_kind kinds[] = {DCO_GCM_VAES256, DCO_GCM_VAES512};
static const size_t key_sizes[] = {16, 24, 32};
static uint8_t noise[ARENA + AAD_LARGEST];

/* Memory that ends where the next page faults, and begins where the one before it does. */
struct fence {
    uint8_t *start, *end;
};

static struct fence fence_make(void)
{
    uint8_t *whole = mmap(NULL, ARENA + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    CHECK(whole != MAP_FAILED && !mprotect(whole + PAGE, ARENA, PROT_READ | PROT_WRITE));
    return (struct fence){whole + PAGE, whole + PAGE + ARENA};
}

/* xorshift: repeatable, and no byte like its neighbours. */
static void make_noise(uint64_t seed)
{
    for (size_t i = 0; i < sizeof noise; i++) {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        noise[i] = (uint8_t)(seed >> 32);
    }
}

struct message {
    size_t key_size, aad_size, size;
    uint8_t key[32], nonce[DCO_NONCE];
    const uint8_t *aad, *plain;
};

static void message_make(struct message *message, size_t key_size, size_t aad_size, size_t size)
{
    *message = (struct message){.key_size = key_size, .aad_size = aad_size, .size = size};
    memcpy(message->key, noise + size % 97, sizeof message->key);
    memcpy(message->nonce, noise + 200 + size % 89, DCO_NONCE);
    message->aad = noise + 400;
    message->plain = noise + AAD_LARGEST;
}

static const EVP_CIPHER *method(size_t key_size)
{
    return key_size == 16   ? EVP_aes_128_gcm()
           : key_size == 24 ? EVP_aes_192_gcm()
                            : EVP_aes_256_gcm();
}

/* OpenSSL's ciphertext followed by its tag. */
static void reference(const struct message *message, uint8_t *out)
{
    static EVP_CIPHER_CTX *context;
    int n;

    if (!context)
        context = EVP_CIPHER_CTX_new();
    CHECK(EVP_EncryptInit_ex(context, method(message->key_size), NULL, message->key, message->nonce)
          == 1);
    CHECK(EVP_EncryptUpdate(context, NULL, &n, message->aad, (int)message->aad_size) == 1);
    CHECK(EVP_EncryptUpdate(context, out, &n, message->plain, (int)message->size) == 1);
    CHECK(EVP_EncryptFinal_ex(context, out + message->size, &n) == 1);
    CHECK(EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, DCO_WIRE_TAG, out + message->size)
          == 1);
}

/* Seals and opens with everything at the places given. */
static void compare_at(const struct dco_gcm *gcm, const struct message *message,
                       const uint8_t *expected, uint8_t *in, uint8_t *out, uint8_t *aad)
{
    const uint8_t *expected_tag = expected + message->size;
    size_t size = message->size;
    uint8_t tag[DCO_WIRE_TAG];

    memcpy(aad, message->aad, message->aad_size);
    memcpy(in, message->plain, size);
    dco_gcm_encrypt(gcm, message->nonce, aad, message->aad_size, in, size, out, tag);
    CHECK(!memcmp(out, expected, size) && !memcmp(tag, expected_tag, sizeof tag));
    CHECK(in == out || !memcmp(in, message->plain, size));

    memcpy(in, expected, size);
    CHECK(
        dco_gcm_decrypt(gcm, message->nonce, aad, message->aad_size, in, size, out, expected_tag));
    CHECK(!memcmp(out, message->plain, size));
    CHECK(in == out || !memcmp(in, expected, size));
}

/* Buffers that end at a fence, that begin at one, and unaligned ones; in place and not. */
static void compare(const struct dco_gcm *gcm, const struct message *message)
{
    static struct fence in, out, aad;
    static uint8_t expected[LARGEST + DCO_WIRE_TAG];
    size_t size = message->size, shift = size % 61;

    if (!in.start) {
        in = fence_make();
        out = fence_make();
        aad = fence_make();
    }
    reference(message, expected);
    compare_at(gcm, message, expected, in.end - size, out.end - size, aad.end - message->aad_size);
    compare_at(gcm, message, expected, in.start, out.start, aad.start);
    compare_at(gcm, message, expected, in.end - size, in.end - size, aad.start + shift);
    compare_at(gcm, message, expected, in.start + shift, in.start + shift, aad.start);
}

/* Runs `test` for each kind that is here and each size of keys. */
static void each_kind(void (*test)(enum dco_gcm_kind kind, size_t key_size))
{
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
        if (!dco_gcm_has(kinds[k]))
            continue;
        for (size_t i = 0; i < sizeof key_sizes / sizeof key_sizes[0]; i++)
            test(kinds[k], key_sizes[i]);
    }
}

static void compare_one(enum dco_gcm_kind kind, size_t key_size, size_t aad_size, size_t size)
{
    struct message message;
    struct dco_gcm gcm;

    message_make(&message, key_size, aad_size, size);
    CHECK(!dco_gcm_init(&gcm, kind, message.key, key_size));
    compare(&gcm, &message);
}

static void sizes_of(enum dco_gcm_kind kind, size_t key_size)
{
    static const size_t large[] = {1400, 1420, 2048, 4095, 4096, 8900, 8924, 9000, 65535};

    for (size_t size = 0; size <= 1100; size++)
        compare_one(kind, key_size, size % 2 ? 8 : 12, size);
    for (size_t i = 0; i < sizeof large / sizeof large[0]; i++)
        compare_one(kind, key_size, 8, large[i]);
}

static void every_size(void)
{
    each_kind(sizes_of);
}

static void aad_sizes_of(enum dco_gcm_kind kind, size_t key_size)
{
    static const size_t sizes[] = {0, 1, 15, 16, 17, 64, 100, 255, 256, 257, 1000};

    for (size_t aad_size = 0; aad_size <= AAD_LARGEST; aad_size++)
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
            compare_one(kind, key_size, aad_size, sizes[i]);
}

static void every_size_of_additional_data(void)
{
    each_kind(aad_sizes_of);
}

/* What lies around the output on its own page. */
static void surroundings_of(enum dco_gcm_kind kind, size_t key_size)
{
    static uint8_t in[1200], out[1200 + 256], tag[DCO_WIRE_TAG + 64];
    uint8_t nonce[DCO_NONCE] = {0}, mark = 0xA5;
    struct dco_gcm gcm;

    CHECK(!dco_gcm_init(&gcm, kind, noise, key_size));
    for (size_t size = 0; size <= sizeof in; size += size < 300 ? 1 : 37) {
        memset(out, mark, sizeof out);
        memset(tag, mark, sizeof tag);
        dco_gcm_encrypt(&gcm, nonce, in, 8, in, size, out + 128, tag + 32);
        for (size_t i = 0; i < sizeof out; i++)
            CHECK((i >= 128 && i < 128 + size) || out[i] == mark);
        for (size_t i = 0; i < sizeof tag; i++)
            CHECK((i >= 32 && i < 32 + DCO_WIRE_TAG) || tag[i] == mark);
    }
}

static void nothing_else_is_written(void)
{
    each_kind(surroundings_of);
}

/* Opens the message with one bit of one part changed. */
static bool opens(const struct dco_gcm *gcm, const struct message *message, const uint8_t *sealed,
                  size_t part, size_t bit)
{
    uint8_t aad[AAD_LARGEST], data[1024], tag[DCO_WIRE_TAG], nonce[DCO_NONCE];
    uint8_t *parts[] = {aad, data, tag, nonce};

    memcpy(aad, message->aad, message->aad_size);
    memcpy(data, sealed, message->size);
    memcpy(tag, sealed + message->size, sizeof tag);
    memcpy(nonce, message->nonce, sizeof nonce);
    parts[part][bit / 8] ^= (uint8_t)(1u << bit % 8);
    return dco_gcm_decrypt(gcm, nonce, aad, message->aad_size, data, message->size, data, tag);
}

static void flips_of(enum dco_gcm_kind kind, size_t key_size)
{
    static const size_t sizes[] = {0, 1, 33, 64, 256, 300, 700};

    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        uint8_t sealed[1024 + DCO_WIRE_TAG];
        struct message message;
        struct dco_gcm gcm;
        size_t bytes[] = {8, sizes[i], DCO_WIRE_TAG, DCO_NONCE};

        message_make(&message, key_size, 8, sizes[i]);
        CHECK(!dco_gcm_init(&gcm, kind, message.key, key_size));
        dco_gcm_encrypt(&gcm, message.nonce, message.aad, 8, message.plain, message.size, sealed,
                        sealed + message.size);
        for (size_t part = 0; part < 4; part++)
            for (size_t bit = 0; bit < 8 * bytes[part]; bit++)
                CHECK(!opens(&gcm, &message, sealed, part, bit));
    }
}

static void every_changed_bit_is_refused(void)
{
    each_kind(flips_of);
}

/* The lengths are authenticated: bytes may not move between additional data and data. */
static void lengths_of(enum dco_gcm_kind kind, size_t key_size)
{
    uint8_t zeros[64] = {0}, out[64], tag[DCO_WIRE_TAG], nonce[DCO_NONCE] = {0};
    struct dco_gcm gcm;

    CHECK(!dco_gcm_init(&gcm, kind, noise, key_size));
    dco_gcm_encrypt(&gcm, nonce, zeros, 8, zeros, 0, out, tag);
    for (size_t aad_size = 0; aad_size <= 16; aad_size++)
        CHECK(dco_gcm_decrypt(&gcm, nonce, zeros, aad_size, zeros, 0, out, tag) == (aad_size == 8));
    dco_gcm_encrypt(&gcm, nonce, zeros, 8, zeros, 20, out, tag);
    CHECK(!dco_gcm_decrypt(&gcm, nonce, zeros, 8, out, 19, out, tag));
}

static void lengths_are_authenticated(void)
{
    each_kind(lengths_of);
}

/* Whatever the nonce, its bytes are no part of the counter: with all ones in them a carry out of
 * the counter's low byte, in the 254th block, would show. */
static void counters_of(enum dco_gcm_kind kind, size_t key_size)
{
    static uint8_t out[LARGEST], expected[LARGEST + DCO_WIRE_TAG];
    uint8_t tag[DCO_WIRE_TAG];
    struct message message;
    struct dco_gcm gcm;

    message_make(&message, key_size, 8, LARGEST);
    memset(message.nonce, 0xFF, DCO_NONCE);
    reference(&message, expected);
    CHECK(!dco_gcm_init(&gcm, kind, message.key, key_size));
    dco_gcm_encrypt(&gcm, message.nonce, message.aad, 8, message.plain, LARGEST, out, tag);
    CHECK(!memcmp(out, expected, LARGEST) && !memcmp(tag, expected + LARGEST, sizeof tag));
}

static void counter_carries_within_its_word(void)
{
    each_kind(counters_of);
}

static void refusals(void)
{
    enum dco_gcm_kind best = dco_gcm_best();
    struct dco_gcm gcm;
    uint8_t key[64] = {0};

    CHECK(!dco_gcm_has(DCO_GCM_NONE) && !dco_gcm_has((enum dco_gcm_kind)128));
    CHECK(best == DCO_GCM_NONE || dco_gcm_has(best));
    CHECK(dco_gcm_init(&gcm, DCO_GCM_NONE, key, 16) == -EOPNOTSUPP);
    for (size_t size = 0; size <= sizeof key && best != DCO_GCM_NONE; size++) {
        bool aes = size == 16 || size == 24 || size == 32;
        CHECK(dco_gcm_init(&gcm, best, key, size) == (aes ? 0 : -EINVAL));
    }
}

int main(void)
{
    make_noise(0x9E3779B97F4A7C15);
    printf("widest here: %d bits\n", (int)dco_gcm_best());
    RUN(every_size);
    RUN(every_size_of_additional_data);
    RUN(nothing_else_is_written);
    RUN(every_changed_bit_is_refused);
    RUN(lengths_are_authenticated);
    RUN(counter_carries_within_its_word);
    RUN(refusals);
    return 0;
}
