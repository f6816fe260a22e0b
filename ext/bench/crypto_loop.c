#define _GNU_SOURCE
#include "bench/crypto_loop.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/crypto.h>

#include "bounds.h"
#include "codec/aead.h"
#include "codec/pktid.h"

#define BATCH DCO_TUN_BATCH
#define PEER_ID 7u
#define KEY_ID 1u

struct bench {
    OSSL_LIB_CTX *library;
    EVP_CIPHER_CTX *raw; /* in the direction that is timed */
    /* Aligned as in struct dco_key. */
    _Alignas(DCO_CACHE_LINE) struct dco_aead core;   /* in the same direction */
    _Alignas(DCO_CACHE_LINE) struct dco_aead sealer; /* makes what the open loops open */
    struct dco_pktid_counter counter;
    struct dco_pktid_window window;
    uint8_t nonce_tail[DCO_NONCE_TAIL];
    uint8_t nonces[BATCH][DCO_NONCE];
    size_t size, stride;
    uint8_t *plain, *packets; /* BATCH buffers of `stride` bytes each */
    double *raw_ns, *core_ns; /* one figure per batch */
};

static uint64_t now_ns(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* The calls of OpenSSL's own manual for a kept context, and nothing else. */
static bool raw_seal(struct bench *bench)
{
    EVP_CIPHER_CTX *context = bench->raw;
    bool good = true;
    int n;

    for (size_t i = 0; i < BATCH; i++) {
        uint8_t *packet = bench->packets + i * bench->stride;
        uint8_t *data = packet + DCO_WIRE_OVERHEAD;

        good &= EVP_EncryptInit_ex(context, NULL, NULL, NULL, bench->nonces[i]) == 1;
        good &= EVP_EncryptUpdate(context, NULL, &n, packet, DCO_WIRE_AAD) == 1;
        good &=
            EVP_EncryptUpdate(context, data, &n, bench->plain + i * bench->stride, (int)bench->size)
            == 1;
        good &= EVP_EncryptFinal_ex(context, data + bench->size, &n) == 1;
        good &=
            EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, DCO_WIRE_TAG, packet + DCO_WIRE_AAD)
            == 1;
    }
    return good;
}

static bool raw_open(struct bench *bench)
{
    EVP_CIPHER_CTX *context = bench->raw;
    bool good = true;
    int n;

    for (size_t i = 0; i < BATCH; i++) {
        uint8_t *packet = bench->packets + i * bench->stride;
        uint8_t *data = packet + DCO_WIRE_OVERHEAD;

        good &= EVP_DecryptInit_ex(context, NULL, NULL, NULL, bench->nonces[i]) == 1;
        good &= EVP_DecryptUpdate(context, NULL, &n, packet, DCO_WIRE_AAD) == 1;
        good &= EVP_DecryptUpdate(context, data, &n, data, (int)bench->size) == 1;
        good &=
            EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, DCO_WIRE_TAG, packet + DCO_WIRE_AAD)
            == 1;
        good &= EVP_DecryptFinal_ex(context, data + bench->size, &n) == 1;
    }
    return good;
}

static bool core_seal_with(struct bench *bench, struct dco_aead *aead)
{
    bool good = true;

    for (size_t i = 0; i < BATCH; i++) {
        uint64_t id;

        if (!dco_pktid_next(&bench->counter, &id))
            return false;
        good &= dco_aead_seal(aead, dco_wire_header(KEY_ID, PEER_ID), (uint32_t)id,
                              bench->plain + i * bench->stride, bench->size,
                              bench->packets + i * bench->stride);
    }
    return good;
}

static bool core_seal(struct bench *bench)
{
    return core_seal_with(bench, &bench->core);
}

static bool core_open(struct bench *bench)
{
    bool good = true;

    for (size_t i = 0; i < BATCH; i++) {
        uint8_t *packet = bench->packets + i * bench->stride;
        uint32_t id = dco_load32(packet + DCO_WIRE_HEADER);

        good &= dco_wire_opcode(packet) == DCO_WIRE_DATA_V2;
        good &= dco_wire_key_id(packet) == KEY_ID && dco_wire_peer_id(packet) == PEER_ID;
        good &= dco_aead_open(&bench->core, packet, DCO_WIRE_OVERHEAD + bench->size);
        good &= dco_pktid_accept(&bench->window, id, 0);
    }
    return good;
}

/* Fills the packets with fresh sealed ones, outside the time taken: opening destroys them. */
static bool prepare(struct bench *bench)
{
    if (!core_seal_with(bench, &bench->sealer))
        return false;
    for (size_t i = 0; i < BATCH; i++) {
        memcpy(bench->nonces[i], bench->packets + i * bench->stride + DCO_WIRE_HEADER, 4);
        memcpy(bench->nonces[i] + 4, bench->nonce_tail, DCO_NONCE_TAIL);
    }
    return true;
}

static bool timed(struct bench *bench, bool (*loop)(struct bench *), double *per_packet_ns)
{
    uint64_t start;
    bool good;

    if (!prepare(bench))
        return false;
    start = now_ns();
    good = loop(bench);
    *per_packet_ns = (double)(now_ns() - start) / BATCH;
    return good;
}

static int compare_doubles(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;

    return (a > b) - (a < b);
}

static double median(double *values, uint32_t count)
{
    qsort(values, count, sizeof *values, compare_doubles);
    return (values[(count - 1) / 2] + values[count / 2]) / 2;
}

static void bench_free(struct bench *bench)
{
    EVP_CIPHER_CTX_free(bench->raw);
    dco_aead_clear(&bench->core);
    dco_aead_clear(&bench->sealer);
    OSSL_LIB_CTX_free(bench->library);
    free(bench->plain);
    free(bench->packets);
    free(bench->raw_ns);
    free(bench->core_ns);
    free(bench);
}

static int raw_init(struct bench *bench, const struct dco_crypto_loop *loop, const uint8_t *key)
{
    const char *name = dco_aead_name(loop->cipher, loop->key_size);
    EVP_CIPHER *method = name ? EVP_CIPHER_fetch(bench->library, name, NULL) : NULL;
    int error = name ? 0 : -EINVAL;

    bench->raw = EVP_CIPHER_CTX_new();
    if (!error
        && (!method || !bench->raw
            || EVP_CipherInit_ex2(bench->raw, method, key, NULL, loop->seal, NULL) != 1))
        error = -EOPNOTSUPP;
    EVP_CIPHER_free(method);
    return error;
}

static int bench_init(struct bench *bench, const struct dco_crypto_loop *loop)
{
    static const uint8_t key[32] = {0x42};
    int error;

    bench->size = loop->size;
    bench->stride = (loop->size + DCO_WIRE_OVERHEAD + 63) / 64 * 64;
    bench->library = OSSL_LIB_CTX_new();
    bench->plain = calloc(BATCH, bench->stride);
    bench->packets = calloc(BATCH, bench->stride);
    bench->raw_ns = calloc(loop->batches, sizeof *bench->raw_ns);
    bench->core_ns = calloc(loop->batches, sizeof *bench->core_ns);
    if (!bench->library || !bench->plain || !bench->packets || !bench->raw_ns || !bench->core_ns)
        return -ENOMEM;
    dco_pktid_counter_init(&bench->counter, 1, DCO_PKTID_MAX);
    dco_pktid_window_init(&bench->window);
    error = raw_init(bench, loop, key);
    if (!error)
        error = dco_aead_init(&bench->core, bench->library, loop->cipher, key, loop->key_size,
                              bench->nonce_tail, loop->seal, loop->own);
    if (!error)
        error = dco_aead_init(&bench->sealer, bench->library, loop->cipher, key, loop->key_size,
                              bench->nonce_tail, true, loop->own);
    return error;
}

int dco_crypto_loop_run(const struct dco_crypto_loop *loop, struct dco_crypto_cost *cost)
{
    bool (*raw)(struct bench *) = loop->seal ? raw_seal : raw_open;
    bool (*core)(struct bench *) = loop->seal ? core_seal : core_open;
    struct bench *bench;
    int error;

    if (!loop->batches || loop->size > DCO_IP_PACKET_MAX || loop->key_size > 32)
        return -EINVAL;
    bench = aligned_alloc(DCO_CACHE_LINE, sizeof *bench);
    if (!bench)
        return -ENOMEM;
    memset(bench, 0, sizeof *bench);
    error = bench_init(bench, loop);
    for (uint32_t i = 0; i < loop->batches && !error; i++) {
        /* Whoever goes second finds the caches warm: take turns in that too. */
        bool first = i % 2 == 0;

        if (!(first || timed(bench, core, &bench->core_ns[i]))
            || !timed(bench, raw, &bench->raw_ns[i])
            || !(!first || timed(bench, core, &bench->core_ns[i])))
            error = -EBADMSG;
    }
    if (!error) {
        cost->raw_ns = median(bench->raw_ns, loop->batches);
        cost->core_ns = median(bench->core_ns, loop->batches);
    }
    bench_free(bench);
    return error;
}
