/* What sealing and opening cost, beside the bare EVP calls that they are made of.
 *
 * Both loops run over the same buffers, in batches of the size that the engine uses, and take
 * turns batch by batch, so that whatever else the machine does falls on both alike. */
#ifndef DCO_BENCH_CRYPTO_LOOP_H
#define DCO_BENCH_CRYPTO_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "codec/gcm.h"

struct dco_crypto_loop {
    int cipher; /* DCO_AEAD_AES_GCM or DCO_AEAD_CHACHA20_POLY1305 */
    size_t key_size;
    size_t size;           /* inner packet, bytes */
    uint32_t batches;      /* timed batches of DCO_TUN_BATCH packets, each way of doing it */
    bool seal;             /* or open */
    enum dco_gcm_kind own; /* the core's AES-GCM; EVP beside it is always OpenSSL's */
};

struct dco_crypto_cost {
    double raw_ns;  /* EVP alone, median over the batches, per packet */
    double core_ns; /* the core: packet id, framing or its checks, EVP, replay window */
};

/* -EINVAL: cipher, key size, or no batch; -ENOMEM; -EOPNOTSUPP: this OpenSSL lacks the cipher;
 * -EBADMSG: a packet did not open, which would make every figure void. */
int dco_crypto_loop_run(const struct dco_crypto_loop *loop, struct dco_crypto_cost *cost);

#endif
